//! The names of a project's events and properties.

use metastore::LexiconChange;
use model::NameKind;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Call;
use super::error::ApiError;
use crate::lexicon::{self, Name, Page, Search, Sort};

/// Names of a page, unless more or fewer are asked for, and at most.
const ROWS: usize = 100;
const ROWS_MAX: usize = 1000;

/// Which names are asked for.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// Stands in the name, the display name, the description or a tag, in any case.
    search: Option<String>,
    /// Only hidden ones, or only others.
    hidden: Option<bool>,
    /// Only dropped ones, or only others.
    dropped: Option<bool>,
    /// By name, or the most frequent first.
    sort: Option<Sort>,
    /// So many names are left out before the page.
    offset: Option<usize>,
    /// At most so many, by default 100 and at most 1000.
    rows_max: Option<usize>,
}

/// What a property belongs to.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Of {
    #[default]
    Event,
    Profile,
}

impl From<Of> for NameKind {
    fn from(of: Of) -> Self {
        match of {
            Of::Event => Self::EventProperty,
            Of::Profile => Self::ProfileProperty,
        }
    }
}

/// Which properties are asked for.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskedProperties {
    /// Properties of events, by default, or of profiles.
    of: Option<Of>,
    /// Stands in the name, the display name, the description or a tag, in any case.
    search: Option<String>,
    /// Only hidden ones, or only others.
    hidden: Option<bool>,
    /// Only dropped ones, or only others.
    dropped: Option<bool>,
    /// By name, or the most frequent first.
    sort: Option<Sort>,
    /// So many names are left out before the page.
    offset: Option<usize>,
    /// At most so many, by default 100 and at most 1000.
    rows_max: Option<usize>,
}

impl From<Asked> for Search {
    fn from(asked: Asked) -> Self {
        Self {
            text: asked.search,
            hidden: asked.hidden,
            dropped: asked.dropped,
            sort: asked.sort.unwrap_or_default(),
            offset: asked.offset.unwrap_or(0),
            rows_max: asked.rows_max.unwrap_or(ROWS).min(ROWS_MAX),
        }
    }
}

fn list(call: &Call, kind: NameKind, asked: Asked) -> Result<Page, ApiError> {
    let entries = call.app.store.lexicon(call.project()?).map_err(ApiError::internal)?;
    Ok(lexicon::page(entries, kind, &asked.into()))
}

/// The names of the project's events.
pub(crate) fn list_events(call: &Call, asked: Asked) -> Result<Page, ApiError> {
    list(call, NameKind::Event, asked)
}

/// The names of properties of the project's events, or of its profiles.
pub(crate) fn list_properties(call: &Call, asked: AskedProperties) -> Result<Page, ApiError> {
    let AskedProperties { of, search, hidden, dropped, sort, offset, rows_max } = asked;
    list(call, of.unwrap_or_default().into(), Asked { search, hidden, dropped, sort, offset, rows_max })
}

/// What is to change of an event; what is absent stays.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventChange {
    /// The event's name.
    name: String,
    display_name: Option<String>,
    description: Option<String>,
    tags: Option<Vec<String>>,
    /// Left out of lists for people; admins only.
    hidden: Option<bool>,
    /// Not stored any more; admins only.
    dropped: Option<bool>,
}

/// What is to change of a property; what is absent stays.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PropertyChange {
    /// A property of events, by default, or of profiles.
    of: Option<Of>,
    /// The property's name.
    name: String,
    display_name: Option<String>,
    description: Option<String>,
    tags: Option<Vec<String>>,
    /// Left out of lists for people; admins only.
    hidden: Option<bool>,
    /// Not stored any more; admins only.
    dropped: Option<bool>,
}

fn change(call: &Call, kind: NameKind, name: &str, asked: &LexiconChange) -> Result<Name, ApiError> {
    lexicon::check(kind, name, asked)?;
    let project = call.project()?;
    call.app.metastore.change_lexicon(project, kind, name, asked, &call.by)?;
    let entries = call.app.store.lexicon(project).map_err(ApiError::internal)?;
    let entry = entries.into_iter().find(|entry| entry.kind == kind && entry.name == name);
    entry.map(Name::from).ok_or_else(|| ApiError::unknown("name"))
}

/// Describes, hides or drops an event.
pub(crate) fn change_event(call: &Call, asked: EventChange) -> Result<Name, ApiError> {
    let EventChange { name, display_name, description, tags, hidden, dropped } = asked;
    change(call, NameKind::Event, &name, &LexiconChange { display_name, description, tags, hidden, dropped })
}

/// Describes, hides or drops a property.
pub(crate) fn change_property(call: &Call, asked: PropertyChange) -> Result<Name, ApiError> {
    let PropertyChange { of, name, display_name, description, tags, hidden, dropped } = asked;
    change(call, of.unwrap_or_default().into(), &name, &LexiconChange { display_name, description, tags, hidden, dropped })
}
