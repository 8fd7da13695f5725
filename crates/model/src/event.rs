//! One event: something a user did at a time, with properties.

use crate::identity::IdentityMode;
use crate::time::Timestamp;
use crate::value::{Properties, ValueRef};

/// An event that passed every rule and may be stored.
///
/// `token`, `ip`, `time`, `distinct_id` and `$insert_id` are taken out of the properties that were sent;
/// `properties` holds all the others in the order in which they were sent, the server's own added.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The event's name, never empty, at most 255 characters.
    pub name: String,
    /// The user's id as sent; empty where there was none.
    pub distinct_id: String,
    /// When it happened.
    pub time: Timestamp,
    /// The client's id of this event, or one the server made.
    pub insert_id: String,
    /// When the server received it.
    pub received_at: Timestamp,
    /// Whether the writer proved a credential beyond the public token (design: "Public or authenticated write").
    pub authenticated: bool,
    /// The rules under which it may link ids; `None`: it links none.
    pub linking: Option<IdentityMode>,
    /// All other properties.
    pub properties: Properties,
}

/// What a reader does with a property: its name and its value.
pub type Property<'f> = dyn FnMut(&str, ValueRef<'_>) + 'f;
/// Calls its argument with every property.
pub type EachProperty<'a> = dyn Fn(&mut Property<'_>) + 'a;

/// A stored event as a reader meets it: borrowed from the columns in which it stands.
pub struct EventRef<'a> {
    /// The event's name.
    pub name: &'a str,
    /// The user's id, whatever id was sent; empty where there was none.
    pub distinct_id: &'a str,
    /// The id that was sent, where the user has another one.
    pub distinct_id_before_identity: Option<&'a str>,
    /// When it happened.
    pub time: Timestamp,
    /// The client's id of this event, or one the server made.
    pub insert_id: &'a str,
    /// Calls its argument with every other property.
    pub properties: &'a EachProperty<'a>,
}
