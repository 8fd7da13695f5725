//! Profiles of users and groups, and the operations that change them (`contract/write.md` 1.3, 1.4).

use crate::time::Timestamp;
use crate::value::{Properties, Value};

/// Whose profile it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProfileKey {
    /// A user, by `$distinct_id`.
    User(String),
    /// A group, by `$group_key` and `$group_id`.
    Group {
        /// The property that names the kind of group.
        key: String,
        /// The group's id.
        id: String,
    },
}

/// One change to one profile, kept as an operation in log and buffer.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileUpdate {
    /// Whose profile changes.
    pub key: ProfileKey,
    /// What changes.
    pub op: ProfileOp,
    /// The sender's time of the change, or the time of receipt: what `$last_seen` becomes.
    pub time: Timestamp,
    /// When the server took it, whatever the sender says.
    pub received_at: Timestamp,
    /// Leaves `$last_seen` where it is (`$ignore_time`).
    pub ignore_time: bool,
    /// The sender's id of this operation (`$mp_metadata.$mp_event_id`): a resend with the same id counts once.
    pub dedup_id: Option<String>,
    /// Whether the writer proved a credential beyond the public token.
    pub authenticated: bool,
}

/// A profile operation with its argument.
#[derive(Debug, Clone, PartialEq)]
pub enum ProfileOp {
    /// Overwrites properties.
    Set(Properties),
    /// Writes only properties that are absent.
    SetOnce(Properties),
    /// Adds to numbers; an absent property counts as 0, a stored non-number is left alone.
    Add(Properties),
    /// Pushes one element to a list; an absent property becomes a list.
    Append(Properties),
    /// Removes all equal elements from lists.
    Remove(Properties),
    /// Adds the elements that a list does not hold yet, keeping its order.
    Union(Properties),
    /// Removes properties.
    Unset(Vec<String>),
    /// Removes the profile.
    Delete,
    /// Merges into object properties, shallowly.
    Merge(Properties),
}

impl ProfileOp {
    /// Whether it is there to take away what others wrote: `$delete`, `$unset`, `$remove` and the undocumented `$merge`. A project may ask
    /// for a secret before these. `$set` overwrites too, but no client could do without it.
    pub fn is_destructive(&self) -> bool {
        matches!(self, Self::Delete | Self::Unset(_) | Self::Remove(_) | Self::Merge(_))
    }
}

/// A folded profile. Its properties include `$last_seen` once something moved it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Profile {
    /// The properties, in the order in which they first appeared.
    pub properties: Properties,
}

/// A profile holds at most this many properties; further ones are not added (`contract/write.md` 2.1).
pub const PROFILE_PROPERTIES_MAX: usize = 2000;
/// A list of a profile holds at most this many elements; further ones are not added. Anyone with the public token may append.
pub const PROFILE_LIST_ELEMENTS_MAX: usize = 10_000;

impl Profile {
    /// Applies one operation to what was there before (`None`: no profile); `None` afterwards means deleted or never made.
    pub fn fold(before: Option<Profile>, update: &ProfileUpdate) -> Option<Profile> {
        if matches!(update.op, ProfileOp::Delete) {
            return None;
        }
        let mut profile = match (before, &update.op) {
            (Some(profile), _) => profile,
            // Taking something away does not make a profile.
            (None, ProfileOp::Unset(_) | ProfileOp::Remove(_)) => return None,
            (None, _) => Profile::default(),
        };
        profile.apply(&update.op);
        if !update.ignore_time {
            let seen = crate::profile::wall_time(update.time);
            // What comes late was seen before; texts of this form are in the order of time.
            let is_newer = profile.properties.get("$last_seen").and_then(Value::as_str).is_none_or(|last| *last < *seen);
            if is_newer {
                profile.properties.insert("$last_seen".to_owned(), Value::String(seen));
            }
        }
        Some(profile)
    }

    fn apply(&mut self, op: &ProfileOp) {
        match op {
            ProfileOp::Set(values) => values.iter().for_each(|(name, value)| self.put(name, value.clone())),
            ProfileOp::SetOnce(values) => {
                for (name, value) in values {
                    if !self.properties.contains_key(name) {
                        self.put(name, value.clone());
                    }
                }
            }
            ProfileOp::Add(values) => values.iter().for_each(|(name, value)| self.add(name, value)),
            ProfileOp::Append(values) => {
                for (name, value) in values {
                    match self.properties.get_mut(name) {
                        Some(Value::List(list)) if list.len() < PROFILE_LIST_ELEMENTS_MAX => list.push(value.clone()),
                        Some(_) => {}
                        None => self.put(name, Value::List(vec![value.clone()])),
                    }
                }
            }
            ProfileOp::Remove(values) => {
                for (name, value) in values {
                    if let Some(Value::List(list)) = self.properties.get_mut(name) {
                        list.retain(|element| !element.same(value));
                    }
                }
            }
            ProfileOp::Union(values) => values.iter().for_each(|(name, value)| self.union(name, value)),
            ProfileOp::Unset(names) => names.iter().for_each(|name| {
                self.properties.shift_remove(name);
            }),
            ProfileOp::Merge(values) => values.iter().for_each(|(name, value)| self.merge(name, value)),
            ProfileOp::Delete => {}
        }
    }

    fn put(&mut self, name: &str, value: Value) {
        if self.properties.len() < PROFILE_PROPERTIES_MAX || self.properties.contains_key(name) {
            self.properties.insert(name.to_owned(), value);
        }
    }

    fn add(&mut self, name: &str, value: &Value) {
        let Value::Number(amount) = value else { return };
        match self.properties.get(name) {
            None => self.put(name, Value::Number(amount.clone())),
            Some(Value::Number(stored)) => {
                // A sum beyond all numbers leaves what is there.
                if let Some(sum) = stored.plus(amount) {
                    self.put(name, Value::Number(sum));
                }
            }
            Some(_) => {}
        }
    }

    fn union(&mut self, name: &str, value: &Value) {
        let wrapped;
        let elements = match value {
            Value::List(list) => list,
            // Some SDKs send a bare scalar (`contract/write.md` 1.3).
            scalar => {
                wrapped = vec![scalar.clone()];
                &wrapped
            }
        };
        match self.properties.get_mut(name) {
            Some(Value::List(list)) => {
                for element in elements {
                    if list.len() < PROFILE_LIST_ELEMENTS_MAX && !list.iter().any(|known| known.same(element)) {
                        list.push(element.clone());
                    }
                }
            }
            Some(_) => {}
            None => {
                let mut list: Vec<Value> = Vec::with_capacity(elements.len());
                for element in elements {
                    if list.len() < PROFILE_LIST_ELEMENTS_MAX && !list.iter().any(|known| known.same(element)) {
                        list.push(element.clone());
                    }
                }
                self.put(name, Value::List(list));
            }
        }
    }

    fn merge(&mut self, name: &str, value: &Value) {
        let Value::Object(incoming) = value else { return };
        match self.properties.get_mut(name) {
            Some(Value::Object(object)) => {
                for (key, value) in incoming {
                    object.insert(key.clone(), value.clone());
                }
            }
            Some(_) => {}
            None => self.put(name, value.clone()),
        }
    }
}

/// `YYYY-MM-DDTHH:MM:SS` in UTC, the form of profile dates (`contract/read.md` 3.9).
pub fn wall_time(at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(instant) => instant.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S").to_string(),
        Err(_) => "1970-01-01T00:00:00".to_owned(),
    }
}
