//! How much memory events and profile updates take while they are held as they came, roughly: what is counted in rows alone may be a million
//! small ones or as many of a megabyte.

use model::value::Properties;
use model::{Event, ProfileOp, ProfileUpdate, Value};

/// A value, a property or a record takes so much beside its text.
const EACH_BYTES: u64 = 64;

/// The bytes of a record's events.
pub(crate) fn of_events(events: &[Event]) -> u64 {
    events.iter().map(|event| 2 * EACH_BYTES + of_properties(&event.properties)).sum()
}

/// The bytes of a record's updates.
pub(crate) fn of_updates(updates: &[ProfileUpdate]) -> u64 {
    updates.iter().map(|update| 2 * EACH_BYTES + of_op(&update.op)).sum()
}

fn of_op(op: &ProfileOp) -> u64 {
    match op {
        ProfileOp::Set(properties)
        | ProfileOp::SetOnce(properties)
        | ProfileOp::Add(properties)
        | ProfileOp::Append(properties)
        | ProfileOp::Remove(properties)
        | ProfileOp::Union(properties)
        | ProfileOp::Merge(properties) => of_properties(properties),
        ProfileOp::Unset(names) => names.iter().map(|name| EACH_BYTES + name.len() as u64).sum(),
        ProfileOp::Delete | ProfileOp::Restore(_) => 0,
    }
}

fn of_properties(properties: &Properties) -> u64 {
    properties.iter().map(|(name, value)| EACH_BYTES + name.len() as u64 + of_value(value)).sum()
}

fn of_value(value: &Value) -> u64 {
    EACH_BYTES
        + match value {
            Value::String(text) => text.len() as u64,
            Value::List(list) => list.iter().map(of_value).sum(),
            Value::Object(properties) => of_properties(properties),
            _ => 0,
        }
}
