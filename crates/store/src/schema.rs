//! The columns of a segment of events. Rows are sorted by event, user, time, so that a report reads the events it names and meets each
//! user's events together and in time order. Behind the fixed columns stands one column per property and type, made when it occurs.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use model::ValueRef;

/// The version that the segments table notes beside every segment of events.
pub(crate) const EVENTS_FORMAT_VERSION: i64 = 2;
/// The version that it notes beside every segment of profiles. Since 3 a row has what was removed from it; rows of 2 have nothing of it.
pub(crate) const PROFILES_FORMAT_VERSION: i64 = 3;
/// The version that it notes beside every segment of links.
pub(crate) const LINKS_FORMAT_VERSION: i64 = 4;
/// The order of the rows, as the segments table notes it.
pub(crate) const SORT_ORDER: &str = "event,user,time";

pub(crate) const EVENT: &str = "event";
pub(crate) const USER: &str = "user";
pub(crate) const TIME: &str = "time";
pub(crate) const DISTINCT_ID: &str = "distinct_id";
pub(crate) const INSERT_ID: &str = "insert_id";
pub(crate) const RECEIVED_AT: &str = "received_at";
pub(crate) const AUTHENTICATED: &str = "authenticated";
pub(crate) const SEQ: &str = "seq";
pub(crate) const INDEX: &str = "index";
/// The properties of a row that have no column of their own.
pub(crate) const SPILLED: &str = "spilled";

/// The type of a property's column. A property with values of several types has several columns; a row stands in one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Text,
    Int,
    Float,
    Bool,
    /// Lists, objects, nulls, and numbers beyond the machine's.
    Other,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Text, Self::Int, Self::Float, Self::Bool, Self::Other];

    /// The kind of a value.
    pub(crate) fn of(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Text(_) => Self::Text,
            ValueRef::Int(_) => Self::Int,
            ValueRef::Float(_) => Self::Float,
            ValueRef::Bool(_) => Self::Bool,
            ValueRef::Other(_) => Self::Other,
        }
    }

    /// Its word in exported files.
    pub(crate) fn word(self) -> &'static str {
        self.prefix().trim_end_matches('.')
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Text => "text.",
            Self::Int => "int.",
            Self::Float => "float.",
            Self::Bool => "bool.",
            Self::Other => "other.",
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Text => words(),
            Self::Int => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Bool => DataType::Boolean,
            Self::Other => DataType::Binary,
        }
    }
}

fn words() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// The name of a property's column.
pub(crate) fn property(kind: Kind, name: &str) -> String {
    format!("{}{name}", kind.prefix())
}

/// The property of a column; `None` for the fixed ones.
pub(crate) fn property_of(column: &str) -> Option<(Kind, &str)> {
    Kind::ALL.into_iter().find_map(|kind| Some((kind, column.strip_prefix(kind.prefix())?)))
}

/// The fixed columns, then those of the properties in their order.
pub(crate) fn events<'p>(properties: impl IntoIterator<Item = (Kind, &'p str)>) -> SchemaRef {
    let mut fields = vec![
        Field::new(EVENT, DataType::Utf8, false),
        Field::new(USER, DataType::FixedSizeBinary(16), false),
        Field::new(TIME, DataType::Int64, false),
        Field::new(DISTINCT_ID, DataType::Utf8, false),
        Field::new(INSERT_ID, DataType::Utf8, false),
        Field::new(RECEIVED_AT, DataType::Int64, false),
        Field::new(AUTHENTICATED, DataType::Boolean, false),
        Field::new(SEQ, DataType::UInt64, false),
        Field::new(INDEX, DataType::UInt32, false),
        Field::new(SPILLED, DataType::Binary, true),
    ];
    fields.extend(properties.into_iter().map(|(kind, name)| Field::new(property(kind, name), kind.data_type(), true)));
    Arc::new(Schema::new(fields))
}

/// The columns of an exported file beside the properties, under the names that they have on the wire.
pub(crate) const EXPORTED_EVENTS: [&str; 4] = [EVENT, TIME, DISTINCT_ID, "$insert_id"];
/// The columns of exported profiles: of users the id, of groups key and id.
pub(crate) const EXPORTED_PROFILES: [&str; 3] = ["$distinct_id", "$group_key", "$group_id"];
/// Where a field of an exported file says which property it is, and of which type: its name may be longer, so that no two are the same.
pub(crate) const EXPORTED_PROPERTY: &str = "sluice.property";
pub(crate) const EXPORTED_KIND: &str = "sluice.kind";
