//! The lexicon: every name of events and properties with what was seen under it and what people say of it. Counts change in the transaction
//! that seals the rows they count ([`crate::SegmentChange`]), so they are exact whenever the server is killed; descriptions change here.

use std::collections::{HashMap, HashSet};

use model::{NameKind, ProjectId, Role, Seen, Timestamp, ValueTypes};
use rusqlite::{Connection, OptionalExtension, Row, Transaction};

use crate::audit::{self, Actor, By};
use crate::members::{require_admin, require_project, role_of};
use crate::{MetaError, Metastore, Result, bump_epoch};

/// Names of events of one project; what is seen beyond is counted under the entry without a name.
pub const EVENT_NAMES_MAX: i64 = 10_000;
/// Names of properties of one kind and project.
pub const PROPERTY_NAMES_MAX: i64 = 20_000;
/// Names of one project that may be dropped.
const DROPPED_MAX: i64 = 1000;
const TEXT_CHARS_MAX: usize = 2000;
const TAGS_MAX: usize = 20;

/// A name with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LexiconEntry {
    /// What it names.
    pub kind: NameKind,
    /// The name; empty for all names beyond the cap together.
    pub name: String,
    /// What was seen; nothing where somebody wrote of it first.
    pub seen: Option<Seen>,
    /// What people call it; empty for the name itself.
    pub display_name: String,
    /// What it means.
    pub description: String,
    /// Words to group names by.
    pub tags: Vec<String>,
    /// Left out of lists for people.
    pub hidden: bool,
    /// Not stored any more.
    pub dropped: bool,
}

impl LexiconEntry {
    /// A name of which nobody wrote anything.
    pub fn seen(kind: NameKind, name: String, seen: Seen) -> Self {
        Self { seen: Some(seen), ..Self::new(kind, name) }
    }

    fn new(kind: NameKind, name: String) -> Self {
        let (display_name, description, tags) = Default::default();
        Self { kind, name, seen: None, display_name, description, tags, hidden: false, dropped: false }
    }
}

/// What is to change of an entry; what is `None` stays.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "as in `LexiconEntry`")]
pub struct LexiconChange {
    pub display_name: Option<String>,
    pub description: Option<String>,
    pub tags: Option<Vec<String>>,
    pub hidden: Option<bool>,
    pub dropped: Option<bool>,
}

/// Names of a project that are not stored.
#[derive(Debug, Clone, Default)]
pub struct Dropped(HashMap<NameKind, HashSet<String>>);

impl Dropped {
    /// Whether a name is one of them.
    pub fn holds(&self, kind: NameKind, name: &str) -> bool {
        self.0.get(&kind).is_some_and(|names| names.contains(name))
    }

    /// Whether any name of a kind is one of them.
    pub fn any(&self, kind: NameKind) -> bool {
        self.0.contains_key(&kind)
    }
}

/// What was seen of a name in the rows that are sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenName {
    /// The project.
    pub project: ProjectId,
    /// What it names.
    pub kind: NameKind,
    /// The name.
    pub name: String,
    /// What was seen.
    pub seen: Seen,
}

fn names_max(kind: NameKind) -> i64 {
    if kind == NameKind::Event { EVENT_NAMES_MAX } else { PROPERTY_NAMES_MAX }
}

fn names_of(connection: &Connection, project: ProjectId, kind: NameKind) -> Result<i64> {
    let sql = "SELECT COUNT(*) FROM lexicon WHERE project_id = $1 AND kind = $2 AND name <> ''";
    Ok(connection.query_row(sql, (project.0, kind.as_str()), |row| row.get(0))?)
}

/// Adds what was seen, in the transaction that seals it.
pub(crate) fn add(change: &Transaction<'_>, names: &[SeenName]) -> Result<()> {
    let mut known: HashMap<(ProjectId, NameKind), i64> = HashMap::new();
    // Parameters count in the order in which they first stand.
    let mut update = change.prepare_cached(
        "UPDATE lexicon SET types = types | $1, first_at = MIN(COALESCE(first_at, $2), $2), last_at = MAX(COALESCE(last_at, $3), $3),
             count = count + $4 WHERE project_id = $5 AND kind = $6 AND name = $7",
    )?;
    let mut insert = change.prepare_cached(
        "INSERT INTO lexicon (types, first_at, last_at, count, project_id, kind, name) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )?;
    for SeenName { project, kind, name, seen } in names {
        let (types, first_at, last_at, count) = (seen.types.bits(), seen.first_at.0, seen.last_at.0, seen.count as i64);
        let row = |name| (types, first_at, last_at, count, project.0, kind.as_str(), name);
        if update.execute(row(name.as_str()))? > 0 {
            continue;
        }
        let names = match known.entry((*project, *kind)) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(names_of(change, *project, *kind)?),
        };
        if *names < names_max(*kind) {
            insert.execute(row(name.as_str()))?;
            *names += 1;
        } else if update.execute(row(""))? == 0 {
            insert.execute(row(""))?;
        }
    }
    Ok(())
}

const COLUMNS: &str = "kind, name, types, first_at, last_at, count, display_name, description, tags, hidden, dropped";

fn from_row(row: &Row<'_>) -> rusqlite::Result<LexiconEntry> {
    let (kind, first_at, last_at): (String, Option<i64>, Option<i64>) = (row.get(0)?, row.get(3)?, row.get(4)?);
    let types = ValueTypes::from_bits(row.get::<_, i64>(2)? as u8);
    let count = row.get::<_, i64>(5)? as u64;
    let seen = |(first_at, last_at)| Seen { types, first_at: Timestamp(first_at), last_at: Timestamp(last_at), count };
    let tags: String = row.get(8)?;
    Ok(LexiconEntry {
        kind: NameKind::parse(&kind).unwrap_or(NameKind::Event),
        name: row.get(1)?,
        seen: first_at.zip(last_at).map(seen),
        display_name: row.get(6)?,
        description: row.get(7)?,
        tags: tags.split('\n').filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
        hidden: row.get(9)?,
        dropped: row.get(10)?,
    })
}

/// The dropped names of every project that has some.
pub(crate) fn dropped(connection: &Connection) -> Result<HashMap<ProjectId, Dropped>> {
    let mut all: HashMap<ProjectId, Dropped> = HashMap::new();
    let mut found = connection.prepare("SELECT project_id, kind, name FROM lexicon WHERE dropped = 1")?;
    let mut rows = found.query([])?;
    while let Some(row) = rows.next()? {
        let kind: String = row.get(1)?;
        let Some(kind) = NameKind::parse(&kind) else { continue };
        all.entry(ProjectId(row.get(0)?)).or_default().0.entry(kind).or_default().insert(row.get(2)?);
    }
    Ok(all)
}

fn check_text(what: &str, text: &str, is_line: bool) -> Result<()> {
    let is_odd = |char: char| char.is_control() && (is_line || char != '\n');
    if text.chars().count() > TEXT_CHARS_MAX || text.chars().any(is_odd) {
        let shape = if is_line { "one line of" } else { "" };
        return Err(MetaError::Invalid(format!("a {what} is {shape} at most {TEXT_CHARS_MAX} characters")));
    }
    Ok(())
}

impl Metastore {
    /// The entries of a project by kind and name, and through which record of the log its rows were counted.
    pub fn lexicon(&self, project: ProjectId) -> Result<(Vec<LexiconEntry>, u64)> {
        let mut connection = self.lock();
        let read = connection.transaction()?;
        let mut found = read.prepare(&format!("SELECT {COLUMNS} FROM lexicon WHERE project_id = $1 ORDER BY kind, name"))?;
        let entries = found.query_map([project.0], from_row)?.collect::<rusqlite::Result<_>>()?;
        let sql = "SELECT COALESCE(MAX(seq), 0) FROM sealed_through WHERE log_partition = 0";
        let through: i64 = read.query_row(sql, [], |row| row.get(0))?;
        Ok((entries, through as u64))
    }

    /// The names that any project had since a time, with when each was first and last seen: what the daily caps on new names know.
    pub fn names_since(&self, since: Timestamp) -> Result<Vec<SeenName>> {
        let connection = self.lock();
        let mut found = connection.prepare(&format!("SELECT {COLUMNS}, project_id FROM lexicon WHERE last_at >= $1 AND name <> ''"))?;
        let rows = found.query_map([since.0], |row| Ok((from_row(row)?, ProjectId(row.get(11)?))))?;
        let mut names = Vec::new();
        for row in rows {
            let (LexiconEntry { kind, name, seen, .. }, project) = row?;
            names.extend(seen.map(|seen| SeenName { project, kind, name, seen }));
        }
        Ok(names)
    }

    /// Changes what people say of a name, also of one that was not seen yet. Analysts describe; admins hide and drop.
    pub fn change_lexicon(&self, project: ProjectId, kind: NameKind, name: &str, asked: &LexiconChange, by: &By) -> Result<LexiconEntry> {
        if name.is_empty() || name.chars().count() > 255 {
            return Err(MetaError::Invalid("a name has 1 to 255 characters".to_owned()));
        }
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let asks_admin = asked.hidden.is_some() || asked.dropped.is_some();
        match by.actor {
            _ if asks_admin => drop(require_admin(&change, project, by, "hide or drop names")?),
            Actor::Account(account) if role_of(&change, project, account)?.is_none_or(|role| role < Role::Analyst) => {
                return Err(MetaError::NotAdmin("describe names, and analysts"));
            }
            _ => require_project(&change, project)?,
        }
        let sql = format!("SELECT {COLUMNS} FROM lexicon WHERE project_id = $1 AND kind = $2 AND name = $3");
        let found = change.query_row(&sql, (project.0, kind.as_str(), name), from_row).optional()?;
        if found.is_none() && names_of(&change, project, kind)? >= names_max(kind) {
            return Err(MetaError::Invalid(format!("the lexicon holds {} names of this kind and takes no more", names_max(kind))));
        }
        let mut entry = found.unwrap_or_else(|| LexiconEntry::new(kind, name.to_owned()));
        let mut noted = Vec::new();
        let mut switch = |what: &str, now: Option<bool>, is: &mut bool| {
            if let Some(now) = now.filter(|now| now != is) {
                *is = now;
                noted.push(format!("{what} {now}"));
            }
        };
        switch("hidden", asked.hidden, &mut entry.hidden);
        switch("dropped", asked.dropped, &mut entry.dropped);
        if let Some(text) = &asked.display_name {
            check_text("display name", text, true)?;
            entry.display_name = text.trim().to_owned();
        }
        if let Some(text) = &asked.description {
            check_text("description", text, false)?;
            entry.description = text.trim().to_owned();
        }
        if let Some(tags) = &asked.tags {
            entry.tags = tags.iter().map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect();
            entry.tags.dedup();
            if entry.tags.len() > TAGS_MAX || entry.tags.iter().any(|tag| tag.chars().count() > 64 || tag.chars().any(char::is_control)) {
                return Err(MetaError::Invalid(format!("at most {TAGS_MAX} tags, each one line of at most 64 characters")));
            }
        }
        change.execute(
            "INSERT INTO lexicon (project_id, kind, name, display_name, description, tags, hidden, dropped)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (project_id, kind, name) DO UPDATE SET display_name = excluded.display_name,
                 description = excluded.description, tags = excluded.tags, hidden = excluded.hidden, dropped = excluded.dropped",
            rusqlite::params![
                project.0,
                kind.as_str(),
                name,
                entry.display_name,
                entry.description,
                entry.tags.join("\n"),
                entry.hidden,
                entry.dropped
            ],
        )?;
        if entry.dropped {
            let sql = "SELECT COUNT(*) FROM lexicon WHERE project_id = $1 AND dropped = 1";
            let dropped: i64 = change.query_row(sql, [project.0], |row| row.get(0))?;
            if dropped > DROPPED_MAX {
                return Err(MetaError::Invalid(format!("at most {DROPPED_MAX} names of a project are dropped")));
            }
        }
        if !noted.is_empty() {
            audit::append(&change, by, Some(project), "lexicon", &format!("{} `{name}`: {}", kind.as_str(), noted.join(", ")))?;
            bump_epoch(&change)?;
        }
        self.finish(change, &[])?;
        Ok(entry)
    }
}
