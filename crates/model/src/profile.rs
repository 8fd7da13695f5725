//! Profiles of users and groups, and the operations that change them (`contract/write.md` 1.3, 1.4).

use indexmap::IndexMap;

use crate::time::{DAY_MS, Timestamp};
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
    /// When the server took it, whatever the sender says: what is kept for a while is kept from here on.
    pub received_at: Timestamp,
    /// Leaves `$last_seen` where it is (`$ignore_time`).
    pub ignore_time: bool,
    /// Changes the profile under this very id, whoever it is linked to (`$ignore_alias`).
    pub ignore_alias: bool,
    /// The sender's id of this operation (`$mp_metadata.$mp_event_id`): a resend with the same id counts once.
    pub dedup_id: Option<String>,
    /// Whether the writer proved a credential beyond the public token. What others remove can be restored.
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
    /// Brings back what public operations removed since then and nobody set again. Only of an authenticated writer; no client can send it.
    Restore(Timestamp),
}

impl ProfileOp {
    /// The properties that it brings, where it brings any.
    pub fn properties_mut(&mut self) -> Option<&mut Properties> {
        match self {
            Self::Set(properties)
            | Self::SetOnce(properties)
            | Self::Add(properties)
            | Self::Append(properties)
            | Self::Remove(properties)
            | Self::Union(properties)
            | Self::Merge(properties) => Some(properties),
            Self::Unset(_) | Self::Delete | Self::Restore(_) => None,
        }
    }

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

/// Removed properties by name.
pub type RemovedProperties = IndexMap<String, RemovedValue, ahash::RandomState>;

/// A property that a public operation removed.
#[derive(Debug, Clone, PartialEq)]
pub struct RemovedValue {
    /// What it was.
    pub value: Value,
    /// When it was removed.
    pub at: Timestamp,
}

/// What public operations removed from a profile and can be restored. None of it is in the profile: what is set again is not missing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Removed {
    /// The properties, in the order in which they were removed.
    pub properties: RemovedProperties,
    /// When the profile was deleted, unless it was made again.
    pub deleted_at: Option<Timestamp>,
}

/// What the operations on one key fold to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Folded {
    /// The profile; `None`: deleted or never made.
    pub profile: Option<Profile>,
    /// What it lost and may get back.
    pub removed: Removed,
}

/// A profile holds at most this many properties; further ones are not added (`contract/write.md` 2.1).
pub const PROFILE_PROPERTIES_MAX: usize = 2000;
/// A list of a profile holds at most this many elements; further ones are not added. Anyone with the public token may append.
pub const PROFILE_LIST_ELEMENTS_MAX: usize = 10_000;
/// What public operations removed can be restored for so long.
pub const REMOVED_KEPT_MS: i64 = 30 * DAY_MS;
/// So many removed properties of a profile are kept. A public operation that would remove more is not carried out: what could not be
/// restored is not destroyed.
pub const REMOVED_PROPERTIES_MAX: usize = 2 * PROFILE_PROPERTIES_MAX;

impl Removed {
    /// Whether there is nothing to restore.
    pub fn is_empty(&self) -> bool {
        self.properties.is_empty() && self.deleted_at.is_none()
    }

    /// When each of it was removed.
    pub fn times(&self) -> impl Iterator<Item = Timestamp> {
        self.properties.values().map(|removed| removed.at).chain(self.deleted_at)
    }

    /// Forgets what was kept for its time.
    pub fn forget(&mut self, now: Timestamp) {
        let is_kept = |at: Timestamp| now < at.plus_ms(REMOVED_KEPT_MS);
        self.properties.retain(|_, removed| is_kept(removed.at));
        self.deleted_at = self.deleted_at.filter(|at| is_kept(*at));
    }

    fn has_room(&self, count: usize) -> bool {
        self.properties.len() + count <= REMOVED_PROPERTIES_MAX
    }

    fn keep(&mut self, name: String, value: Value, at: Timestamp) {
        self.properties.insert(name, RemovedValue { value, at });
    }
}

impl Folded {
    /// Applies one operation.
    pub fn apply(&mut self, update: &ProfileUpdate) {
        self.removed.forget(update.received_at);
        match &update.op {
            ProfileOp::Delete => self.delete(update),
            ProfileOp::Restore(since) if update.authenticated => self.restore(*since),
            ProfileOp::Restore(_) => {}
            // Taking something away does not make a profile.
            ProfileOp::Remove(_) if self.profile.is_none() => {}
            ProfileOp::Unset(names) => {
                self.unset(names, update);
                self.see(update);
            }
            op => {
                self.profile.get_or_insert_default().apply(op);
                self.see(update);
            }
        }
        if let Some(profile) = &self.profile {
            self.removed.deleted_at = None;
            self.removed.properties.retain(|name, _| !profile.properties.contains_key(name));
        }
    }

    /// Whether [`ProfileOp::Restore`] would bring anything back.
    pub fn is_restorable(&self, since: Timestamp, now: Timestamp) -> bool {
        let is_wanted = |at: Timestamp| since <= at && now < at.plus_ms(REMOVED_KEPT_MS);
        self.removed.times().any(is_wanted)
    }

    fn delete(&mut self, update: &ProfileUpdate) {
        // Who proved to be the owner means it: no copy stays.
        if update.authenticated {
            *self = Self::default();
        } else if let Some(profile) = self.profile.take_if(|profile| self.removed.has_room(profile.properties.len())) {
            let at = update.received_at;
            profile.properties.into_iter().for_each(|(name, value)| self.removed.keep(name, value, at));
            self.removed.deleted_at = Some(at);
        }
    }

    fn unset(&mut self, names: &[String], update: &ProfileUpdate) {
        for name in names {
            // What the owner unsets is not kept, not even from before.
            if update.authenticated {
                self.removed.properties.shift_remove(name);
            } else if !self.removed.has_room(1) {
                return;
            }
            let value = self.profile.as_mut().and_then(|profile| profile.properties.shift_remove(name));
            if let Some(value) = value.filter(|_| !update.authenticated) {
                self.removed.keep(name.clone(), value, update.received_at);
            }
        }
    }

    /// Everything comes back, even beyond [`PROFILE_PROPERTIES_MAX`]: others may have been added meanwhile to keep it out.
    fn restore(&mut self, since: Timestamp) {
        let removed = std::mem::take(&mut self.removed.properties).into_iter();
        let (back, kept): (RemovedProperties, RemovedProperties) = removed.partition(|(_, removed)| since <= removed.at);
        self.removed.properties = kept;
        if !back.is_empty() || self.removed.deleted_at.is_some_and(|at| since <= at) {
            let profile = self.profile.get_or_insert_default();
            profile.properties.extend(back.into_iter().map(|(name, removed)| (name, removed.value)));
        }
    }

    fn see(&mut self, update: &ProfileUpdate) {
        let Some(profile) = self.profile.as_mut().filter(|_| !update.ignore_time) else { return };
        let seen = wall_time(update.time);
        // What comes late was seen before; texts of this form are in the order of time.
        let is_newer = profile.properties.get("$last_seen").and_then(Value::as_str).is_none_or(|last| *last < *seen);
        if is_newer {
            profile.properties.insert("$last_seen".to_owned(), Value::String(seen));
        }
    }
}

impl Profile {
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
            ProfileOp::Merge(values) => values.iter().for_each(|(name, value)| self.merge(name, value)),
            // These also change what is kept: [`Folded`] sees to them.
            ProfileOp::Unset(_) | ProfileOp::Delete | ProfileOp::Restore(_) => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn folded(updates: &[ProfileUpdate]) -> Folded {
        let mut folded = Folded::default();
        updates.iter().for_each(|update| folded.apply(update));
        folded
    }

    fn update(minute: i64, op: ProfileOp) -> ProfileUpdate {
        let time = NOW.plus_ms(minute * 60_000);
        let key = ProfileKey::User("u".to_owned());
        ProfileUpdate { key, op, time, received_at: time, ignore_time: true, ignore_alias: false, dedup_id: None, authenticated: false }
    }

    fn owner(minute: i64, op: ProfileOp) -> ProfileUpdate {
        ProfileUpdate { authenticated: true, ..update(minute, op) }
    }

    fn set(minute: i64, names: &[&str]) -> ProfileUpdate {
        let properties = names.iter().map(|name| ((*name).to_owned(), Value::from(minute)));
        update(minute, ProfileOp::Set(properties.collect()))
    }

    fn unset(name: &str) -> ProfileOp {
        ProfileOp::Unset(vec![name.to_owned()])
    }

    fn restore(minute: i64, since_minute: i64) -> ProfileUpdate {
        owner(minute, ProfileOp::Restore(NOW.plus_ms(since_minute * 60_000)))
    }

    /// The properties as `name=minute of its value`, or `none`.
    fn check(updates: &[ProfileUpdate], expected: &str) {
        let found = folded(updates).profile.map_or("none".to_owned(), |profile| {
            let text = |(name, value): (&String, &Value)| format!("{name}={}", value.as_f64().unwrap_or(-1.0));
            profile.properties.iter().map(text).collect::<Vec<_>>().join(" ")
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_public_delete_can_be_restored() {
        check(&[set(0, &["a", "b"]), update(1, ProfileOp::Delete)], "none");
        check(&[set(0, &["a", "b"]), update(1, ProfileOp::Delete), restore(2, 1)], "a=0 b=0");
        check(&[set(0, &[]), update(1, ProfileOp::Delete), restore(2, 1)], "");
    }

    #[test]
    fn a_public_unset_can_be_restored() {
        check(&[set(0, &["a", "b"]), update(1, unset("a")), restore(2, 1)], "b=0 a=0");
        check(&[set(0, &["a", "b"]), update(1, unset("a")), update(2, ProfileOp::Delete), restore(3, 1)], "a=0 b=0");
    }

    #[test]
    fn what_was_removed_before_stays_removed() {
        check(&[set(0, &["a", "b"]), update(1, unset("a")), update(2, ProfileOp::Delete), restore(3, 2)], "b=0");
        check(&[set(0, &["a"]), update(1, unset("a")), update(2, ProfileOp::Delete), restore(3, 2)], "");
    }

    #[test]
    fn what_was_set_again_stays_as_it_is() {
        check(&[set(0, &["a", "b"]), update(1, ProfileOp::Delete), set(2, &["a"]), restore(3, 1)], "a=2 b=0");
        check(&[set(0, &["a"]), update(1, unset("a")), set(2, &["a"]), owner(3, unset("a")), restore(4, 0)], "");
    }

    #[test]
    fn what_the_owner_deletes_is_gone() {
        check(&[set(0, &["a"]), owner(1, ProfileOp::Delete), restore(2, 0)], "none");
        check(&[set(0, &["a"]), update(1, ProfileOp::Delete), owner(2, ProfileOp::Delete), restore(3, 0)], "none");
        check(&[set(0, &["a", "b"]), owner(1, unset("a")), restore(2, 0)], "b=0");
        check(&[set(0, &["a", "b"]), update(1, unset("a")), owner(2, unset("a")), restore(3, 0)], "b=0");
        check(&[set(0, &["a", "b"]), update(1, ProfileOp::Delete), owner(2, unset("a")), restore(3, 0)], "b=0");
    }

    #[test]
    fn restoring_again_changes_nothing() {
        let once = [set(0, &["a"]), update(1, ProfileOp::Delete), restore(2, 0)];
        assert!(!folded(&once).is_restorable(NOW, NOW));
        assert!(folded(&once[..2]).is_restorable(NOW, NOW));
        check(&[&once[..], &[restore(3, 0)]].concat(), "a=0");
        check(&[&once[..], &[set(3, &["b"]), update(4, ProfileOp::Delete), restore(5, 0)]].concat(), "a=0 b=3");
    }

    #[test]
    fn only_the_owner_restores() {
        let mut public = restore(2, 0);
        public.authenticated = false;
        check(&[set(0, &["a"]), update(1, ProfileOp::Delete), public], "none");
    }

    #[test]
    fn removed_properties_are_kept_for_30_days_by_the_servers_clock() {
        let days_30 = 30 * 24 * 60;
        let (before, mut delete) = (set(0, &["a"]), update(1, ProfileOp::Delete));
        // The sender says that it was long ago.
        delete.time = Timestamp(0);
        let deleted = [before, delete];
        let at = |minute: i64| NOW.plus_ms(minute * 60_000);
        assert!(folded(&deleted).is_restorable(NOW, at(days_30)));
        assert!(!folded(&deleted).is_restorable(NOW, at(days_30 + 1)));
        assert!(!folded(&deleted).is_restorable(at(2), at(3)));
        check(&[&deleted[..], &[restore(days_30, 0)]].concat(), "a=0");
        check(&[&deleted[..], &[restore(days_30 + 1, 0)]].concat(), "none");
        assert!(folded(&[&deleted[..], &[set(days_30 + 1, &["b"])]].concat()).removed.is_empty());
    }

    #[test]
    fn what_could_not_be_kept_is_not_removed() {
        let names: Vec<String> = (0..PROFILE_PROPERTIES_MAX * 3).map(|number| format!("p{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut updates = Vec::new();
        for (round, names) in names.chunks(PROFILE_PROPERTIES_MAX).enumerate() {
            updates.extend([set(round as i64, names), update(round as i64, ProfileOp::Delete)]);
        }
        let last = folded(&updates);
        assert_eq!(last.profile.as_ref().map(|profile| profile.properties.len()), Some(PROFILE_PROPERTIES_MAX));
        assert_eq!(last.removed.properties.len(), REMOVED_PROPERTIES_MAX);
        updates.push(update(5, unset("p5999")));
        assert_eq!(folded(&updates).profile, last.profile);
        let whole = folded(&[&updates[..], &[restore(6, 0)]].concat()).profile;
        assert_eq!(whole.map(|profile| profile.properties.len()), Some(3 * PROFILE_PROPERTIES_MAX));
        // The owner's delete needs no room.
        updates.push(owner(6, ProfileOp::Delete));
        assert_eq!(folded(&updates), Folded::default());
    }

    #[test]
    fn destructive_operations_take_away_what_others_wrote() {
        let (none, names) = (Properties::default, Vec::new);
        let destructive = [ProfileOp::Delete, ProfileOp::Unset(names()), ProfileOp::Remove(none()), ProfileOp::Merge(none())];
        assert!(destructive.iter().all(ProfileOp::is_destructive));
        let others = [ProfileOp::Set(none()), ProfileOp::SetOnce(none()), ProfileOp::Add(none()), ProfileOp::Append(none())];
        assert!(!others.iter().chain(&[ProfileOp::Union(none()), ProfileOp::Restore(NOW)]).any(ProfileOp::is_destructive));
    }
}
