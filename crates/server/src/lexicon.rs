//! The lexicon as people see it and change it, and what it keeps out: names that are dropped are not stored. Counts come from the store.

use std::collections::HashMap;

use metastore::{Dropped, LexiconChange, LexiconEntry, MetaError};
use model::time::DAY_MS;
use model::{Event, NameKind, ProfileOp, ProfileUpdate, Reason};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names;
use crate::notes::{Notes, record_of};
use crate::views;

/// A name of an event or a property.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Name {
    pub name: String,
    /// What people call it; empty for the name itself.
    pub display_name: String,
    pub description: String,
    pub tags: Vec<String>,
    /// Left out of lists for people; queries find it all the same.
    pub hidden: bool,
    /// Not stored any more.
    pub dropped: bool,
    /// The types that its values had: string, number, boolean, list, object, null; none for an event.
    pub types: Vec<&'static str>,
    /// When the server first took one; null where none came yet.
    pub first_seen_at: Option<String>,
    pub last_seen_at: Option<String>,
    /// How many events, or for a property of profiles updates, were stored with it; those sent twice count twice.
    pub count: u64,
}

impl From<LexiconEntry> for Name {
    fn from(entry: LexiconEntry) -> Self {
        Self {
            types: entry.seen.map(|seen| seen.types.names()).unwrap_or_default(),
            first_seen_at: entry.seen.map(|seen| views::shown(seen.first_at)),
            last_seen_at: entry.seen.map(|seen| views::shown(seen.last_at)),
            count: entry.seen.map_or(0, |seen| seen.count),
            name: entry.name,
            display_name: entry.display_name,
            description: entry.description,
            tags: entry.tags,
            hidden: entry.hidden,
            dropped: entry.dropped,
        }
    }
}

/// A page of names.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Page {
    pub names: Vec<Name>,
    /// How many names fit what was asked for, on all pages.
    pub total: usize,
    /// What was stored under names beyond those that are told apart.
    pub count_beyond: u64,
}

/// In which order names are listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sort {
    /// By name.
    #[default]
    Name,
    /// The most frequent first.
    Count,
}

/// Which names are asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Search {
    /// In name, display name, description or a tag, in any case.
    pub text: Option<String>,
    pub hidden: Option<bool>,
    pub dropped: Option<bool>,
    pub sort: Sort,
    pub offset: usize,
    pub rows_max: usize,
}

/// A page of a project's names of a kind.
pub(crate) fn page(entries: Vec<LexiconEntry>, kind: NameKind, search: &Search) -> Page {
    let text = search.text.as_deref().unwrap_or_default().to_lowercase();
    let holds = |field: &str| field.to_lowercase().contains(&text);
    let fits = |entry: &LexiconEntry| {
        let is_found = || [&entry.name, &entry.display_name, &entry.description].into_iter().chain(&entry.tags).any(|field| holds(field));
        search.hidden.is_none_or(|hidden| hidden == entry.hidden)
            && search.dropped.is_none_or(|dropped| dropped == entry.dropped)
            && (text.is_empty() || is_found())
    };
    let (others, mut named): (Vec<_>, Vec<_>) =
        entries.into_iter().filter(|entry| entry.kind == kind).partition(|entry| entry.name.is_empty());
    named.retain(fits);
    let count = |entry: &LexiconEntry| entry.seen.map_or(0, |seen| seen.count);
    named.sort_unstable_by(|a, b| {
        let by_count = if search.sort == Sort::Count { count(b).cmp(&count(a)) } else { std::cmp::Ordering::Equal };
        by_count.then_with(|| a.name.cmp(&b.name))
    });
    Page {
        total: named.len(),
        names: named.into_iter().skip(search.offset).take(search.rows_max).map(Name::from).collect(),
        count_beyond: others.iter().map(count).sum(),
    }
}

/// Refuses to drop what says who is who, and what the server itself adds.
pub(crate) fn check(kind: NameKind, name: &str, change: &LexiconChange) -> Result<(), MetaError> {
    let is_own = match kind {
        NameKind::Event => names::EVENTS_OF_ITS_OWN.contains(&name),
        NameKind::EventProperty => names::is_of_its_own(name),
        NameKind::ProfileProperty => false,
    };
    if change.dropped == Some(true) && is_own {
        return Err(MetaError::Invalid(format!("`{name}` says who is who or is the server's own: it is not dropped")));
    }
    Ok(())
}

/// Whether an event is stored; takes out of it the properties that are not.
pub(crate) fn lets_in(dropped: &Dropped, event: &mut Event, notes: &mut Notes, project: model::ProjectId) -> bool {
    if dropped.holds(NameKind::Event, &event.name) {
        notes.add(project, Reason::DroppedByLexicon, "event", || Some(record_of(event)));
        return false;
    }
    if dropped.any(NameKind::EventProperty) {
        let mut first = None;
        event.properties.retain(|name, _| {
            let is_kept = !dropped.holds(NameKind::EventProperty, name);
            if !is_kept && first.is_none() {
                first = Some(format!("properties.{name}"));
            }
            is_kept
        });
        if let Some(field) = first {
            notes.add(project, Reason::PropertyDropped, &field, || Some(record_of(event)));
        }
    }
    true
}

/// Takes out of profile updates the properties that are not stored. What takes away goes on: dropped is no reason to keep it.
pub(crate) fn strip(dropped: &Dropped, updates: &mut [ProfileUpdate], record: &model::Value, notes: &mut Notes, project: model::ProjectId) {
    if !dropped.any(NameKind::ProfileProperty) {
        return;
    }
    let mut first = None;
    for update in updates {
        if matches!(update.op, ProfileOp::Remove(_)) {
            continue;
        }
        if let Some(properties) = update.op.properties_mut() {
            properties.retain(|name, _| {
                let is_kept = !dropped.holds(NameKind::ProfileProperty, name);
                if !is_kept && first.is_none() {
                    first = Some(name.clone());
                }
                is_kept
            });
        }
    }
    if let Some(field) = first {
        notes.add(project, Reason::PropertyDropped, &field, || Some(record.clone()));
    }
}

/// What the daily caps on new names know at a start: the names of today and of the day before.
pub(crate) fn known_names(
    metastore: &metastore::Metastore,
    now: model::Timestamp,
) -> Result<HashMap<model::ProjectId, Vec<names::KnownName>>, MetaError> {
    let today = views::day_of(now);
    let mut known: HashMap<_, Vec<_>> = HashMap::new();
    for row in metastore.names_since(model::Timestamp((today - 1) * DAY_MS))? {
        let is_event = match row.kind {
            NameKind::Event => true,
            NameKind::EventProperty => false,
            NameKind::ProfileProperty => continue,
        };
        let (first_day, last_day) = (views::day_of(row.seen.first_at), views::day_of(row.seen.last_at));
        known.entry(row.project).or_default().push(names::KnownName { name: row.name, is_event, first_day, last_day });
    }
    Ok(known)
}
