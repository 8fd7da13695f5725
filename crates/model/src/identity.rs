//! Who is who: what an event asks to be linked, under the rules of its project (`contract/write.md` 1.6).

use std::borrow::Cow;

use crate::event::Event;
use crate::value::{Properties, Value};

/// What the id of a device begins with.
pub const DEVICE: &str = "$device:";

/// Ids in properties are cut at so many characters: one that is that long may have been another.
const ID_CHARS_MAX: usize = 255;

/// How a project finds out which ids are one user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IdentityMode {
    /// An event with `$device_id` and `$user_id` links the device to the user.
    #[default]
    Simplified,
    /// `$identify`, `$create_alias` and `$merge` link ids to clusters.
    Original,
    /// `$create_alias` alone links.
    Legacy,
}

impl IdentityMode {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Simplified => "simplified",
            Self::Original => "original",
            Self::Legacy => "legacy",
        }
    }

    /// Reads the word back.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Simplified, Self::Original, Self::Legacy].into_iter().find(|mode| mode.as_str() == text)
    }
}

/// What an event asks to be linked. Every id is non-empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim<'e> {
    /// A device, without its prefix, is a user's.
    Device {
        /// The device.
        device: Cow<'e, str>,
        /// The user.
        user: &'e str,
    },
    /// Somebody anonymous is known now.
    Identify {
        /// Who it was.
        anonymous: Cow<'e, str>,
        /// Who it is.
        identified: Cow<'e, str>,
    },
    /// A further id of somebody.
    Alias {
        /// The further id.
        alias: Cow<'e, str>,
        /// Who it stands for.
        of: &'e str,
    },
    /// Two ids, or whatever they are linked to, are one user.
    Merge {
        /// One.
        first: &'e str,
        /// The other.
        second: &'e str,
    },
}

impl Event {
    /// What the event asks to be linked, under the rules that it was taken under.
    pub fn claim(&self) -> Option<Claim<'_>> {
        match self.linking? {
            IdentityMode::Simplified => self.device(),
            IdentityMode::Legacy => self.alias(),
            IdentityMode::Original => match self.name.as_str() {
                "$identify" => {
                    let own = || Some(Cow::Borrowed(self.distinct_id.as_str())).filter(|id| !id.is_empty());
                    let identified = self.id("$identified_id").or_else(own)?;
                    let anonymous = self.id("$anon_id").or_else(|| self.id("$anon_distinct_id"))?;
                    Some(Claim::Identify { anonymous, identified })
                }
                "$create_alias" => self.alias(),
                "$merge" => match self.properties.get("$distinct_ids")? {
                    Value::List(ids) => match ids.as_slice() {
                        [Value::String(first), Value::String(second)] if is_whole(first) && is_whole(second) => {
                            Some(Claim::Merge { first, second })
                        }
                        _ => None,
                    },
                    _ => None,
                },
                _ => None,
            },
        }
    }

    fn device(&self) -> Option<Claim<'_>> {
        let user = self.distinct_id.as_str();
        if user.is_empty() || user.starts_with(DEVICE) {
            return None;
        }
        // Who a client was until now, where it was a device, is that device.
        let before = || self.id("$anon_distinct_id").filter(|id| self.name == "$identify" && id.starts_with(DEVICE));
        let device = match self.id("$device_id").or_else(before)? {
            Cow::Borrowed(id) => Cow::Borrowed(id.strip_prefix(DEVICE).unwrap_or(id)),
            owned @ Cow::Owned(_) => owned,
        };
        (!device.is_empty()).then_some(Claim::Device { device, user })
    }

    fn alias(&self) -> Option<Claim<'_>> {
        let of = self.distinct_id.as_str();
        let alias = self.id("alias").filter(|_| self.name == "$create_alias" && !of.is_empty())?;
        Some(Claim::Alias { alias, of })
    }

    fn id(&self, name: &str) -> Option<Cow<'_, str>> {
        id_of(&self.properties, name)
    }
}

fn is_whole(id: &str) -> bool {
    !id.is_empty() && (id.len() < ID_CHARS_MAX || id.chars().count() < ID_CHARS_MAX)
}

/// An id in a property, where it certainly is what was sent.
fn id_of<'p>(properties: &'p Properties, name: &str) -> Option<Cow<'p, str>> {
    match properties.get(name)? {
        Value::String(id) => is_whole(id).then_some(Cow::Borrowed(id)),
        Value::Number(number) => Some(Cow::Owned(number.text())),
        _ => None,
    }
}

/// Whether an id has the form of those that clients make up: five groups of hexadecimal digits, a device's prefix before them or not. Not
/// all clients make UUIDs of version 4, but all of them five groups.
pub fn is_made_up(id: &str) -> bool {
    let groups = id.strip_prefix(DEVICE).unwrap_or(id).split('-');
    groups.clone().count() == 5 && groups.into_iter().all(|group| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    fn check(mode: IdentityMode, name: &str, distinct_id: &str, properties: &[(&str, Value)], expected: Option<Claim<'_>>) {
        let event = Event {
            name: name.to_owned(),
            distinct_id: distinct_id.to_owned(),
            time: Timestamp(0),
            insert_id: String::new(),
            received_at: Timestamp(0),
            authenticated: false,
            linking: Some(mode),
            properties: properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        };
        assert_eq!(event.claim(), expected, "{event:?}");
        assert_eq!(Event { linking: None, ..event }.claim(), None);
    }

    #[test]
    fn an_event_with_both_ids_links_its_device() {
        let simplified = |name, id, properties: &[(&str, Value)], expected| check(IdentityMode::Simplified, name, id, properties, expected);
        let link = |device: &'static str| Some(Claim::Device { device: device.into(), user: "u" });
        simplified("E", "u", &[("$device_id", "d".into())], link("d"));
        simplified("E", "u", &[("$device_id", "$device:d".into())], link("d"));
        simplified("E", "u", &[("$device_id", 7.into())], link("7"));
        simplified("E", "u", &[], None);
        simplified("E", "u", &[("$device_id", "".into())], None);
        simplified("E", "u", &[("$device_id", DEVICE.into())], None);
        simplified("E", "", &[("$device_id", "d".into())], None);
        simplified("E", "$device:d", &[("$device_id", "d".into())], None);
        simplified("E", "$device:e", &[("$device_id", "d".into())], None);
        simplified("$identify", "u", &[("$anon_distinct_id", "$device:d".into())], link("d"));
        simplified("$identify", "u", &[("$anon_distinct_id", "v".into())], None);
        simplified("E", "u", &[("$anon_distinct_id", "$device:d".into())], None);
        simplified("$create_alias", "u", &[("alias", "v".into())], None);
        let long = "x".repeat(255);
        simplified("E", "u", &[("$device_id", long.as_str().into())], None);
    }

    #[test]
    fn verbs_link_where_their_mode_knows_them() {
        let both = Value::List(vec!["a".into(), "b".into()]);
        let identify = Claim::Identify { anonymous: "a".into(), identified: "u".into() };
        let alias = Claim::Alias { alias: "v".into(), of: "u" };
        let merge = Claim::Merge { first: "a", second: "b" };
        for (mode, identify, alias, merge) in [
            (IdentityMode::Original, Some(identify), Some(alias.clone()), Some(merge)),
            (IdentityMode::Legacy, None, Some(alias), None),
            (IdentityMode::Simplified, None, None, None),
        ] {
            check(mode, "$identify", "u", &[("$anon_id", "a".into())], identify.clone());
            check(mode, "$identify", "w", &[("$identified_id", "u".into()), ("$anon_distinct_id", "a".into())], identify);
            check(mode, "$create_alias", "u", &[("alias", "v".into())], alias);
            check(mode, "$merge", "", &[("$distinct_ids", both.clone())], merge);
            check(mode, "$merge", "", &[("$distinct_ids", Value::List(vec!["a".into()]))], None);
            check(mode, "E", "u", &[("alias", "v".into()), ("$anon_id", "a".into())], None);
        }
        check(IdentityMode::Original, "E", "u", &[("$device_id", "d".into())], None);
    }

    #[test]
    fn ids_that_clients_make_up_have_five_groups() {
        for id in ["a1b2c3d4-0000-4000-8000-000000000000", "$device:A1b2c3d4-0000-4000-8000-000000000000", "18a-0c1-26-1fa400-18b"] {
            assert!(is_made_up(id), "{id}");
        }
        for id in ["", "u1", "not-a-uuid", "a-b-c-d-", "a-b-c-d-e-f", "a-b-c-d-g", "x$device:a-b-c-d-e"] {
            assert!(!is_made_up(id), "{id}");
        }
    }
}
