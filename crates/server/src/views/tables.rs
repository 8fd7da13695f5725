//! Group keys and lookup tables as people see them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{shown, shown_if};

/// A property that names the groups of an event.
#[derive(Serialize, JsonSchema)]
pub(crate) struct GroupKey {
    /// What `data_group_id` of a query asks for its groups by: digits, as text, since it may have more than a double holds.
    pub data_group_id: String,
    /// The property, exactly as events bring it.
    pub key: String,
    pub name: String,
    pub created_at: String,
}

impl From<metastore::GroupKey> for GroupKey {
    fn from(key: metastore::GroupKey) -> Self {
        Self { data_group_id: key.data_group_id.to_string(), key: key.key, name: key.name, created_at: shown(key.created_at) }
    }
}

/// Properties of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LookupSource {
    Event,
    Profile,
}

impl From<model::lookup::LookupSource> for LookupSource {
    fn from(source: model::lookup::LookupSource) -> Self {
        match source {
            model::lookup::LookupSource::Event => Self::Event,
            model::lookup::LookupSource::Profile => Self::Profile,
        }
    }
}

/// A property whose value is the key of a table's row.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LookupProperty {
    /// Of events, or of profiles of users.
    pub source: LookupSource,
    pub property: String,
}

impl From<LookupProperty> for metastore::LookupProperty {
    fn from(mapped: LookupProperty) -> Self {
        let source = match mapped.source {
            LookupSource::Event => model::lookup::LookupSource::Event,
            LookupSource::Profile => model::lookup::LookupSource::Profile,
        };
        Self { source, property: mapped.property }
    }
}

/// A lookup table. In expressions its column `artist` is `properties["song_id.artist"]`, where `song_id` leads to it.
#[derive(Serialize, JsonSchema)]
pub(crate) struct LookupTable {
    /// What `PUT /lookup-tables/{id}` replaces.
    pub id: String,
    pub name: String,
    /// What leads to it; a property leads to one table at most.
    pub properties: Vec<LookupProperty>,
    /// The columns behind the key.
    pub columns: Vec<String>,
    pub rows: i64,
    pub created_at: String,
    /// When it got the content that it has.
    pub replaced_at: Option<String>,
}

impl From<metastore::LookupTableRow> for LookupTable {
    fn from(table: metastore::LookupTableRow) -> Self {
        let property = |one: metastore::LookupProperty| LookupProperty { source: one.source.into(), property: one.property };
        let (columns, rows) = table.content.map(|content| (content.columns, content.rows)).unwrap_or_default();
        Self {
            id: table.id,
            name: table.name,
            properties: table.properties.into_iter().map(property).collect(),
            columns,
            rows,
            created_at: shown(table.created_at),
            replaced_at: shown_if(table.replaced_at),
        }
    }
}
