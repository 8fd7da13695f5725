//! The columns of a segment of events. Rows are sorted by event, user, time, so that a report reads the events it names and meets each
//! user's events together and in time order.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};

/// The version that the segments table notes beside every segment.
pub(crate) const FORMAT_VERSION: i64 = 1;
/// The order of the rows, as the segments table notes it.
pub(crate) const SORT_ORDER: &str = "event,user,time";

pub(crate) const EVENT: usize = 0;
pub(crate) const USER: usize = 1;
pub(crate) const TIME: usize = 2;
pub(crate) const DISTINCT_ID: usize = 3;
pub(crate) const INSERT_ID: usize = 4;
pub(crate) const RECEIVED_AT: usize = 5;
pub(crate) const AUTHENTICATED: usize = 6;
pub(crate) const SEQ: usize = 7;
pub(crate) const INDEX: usize = 8;
pub(crate) const PROPERTIES: usize = 9;

/// The columns in order.
pub(crate) fn events() -> Arc<Schema> {
    Arc::new(Schema::new(vec![
        Field::new("event", DataType::Utf8, false),
        Field::new("user", DataType::FixedSizeBinary(16), false),
        Field::new("time", DataType::Int64, false),
        Field::new("distinct_id", DataType::Utf8, false),
        Field::new("insert_id", DataType::Utf8, false),
        Field::new("received_at", DataType::Int64, false),
        Field::new("authenticated", DataType::Boolean, false),
        Field::new("seq", DataType::UInt64, false),
        Field::new("index", DataType::UInt32, false),
        Field::new("properties", DataType::Binary, false),
    ]))
}
