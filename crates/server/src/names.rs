//! How many new names of events and properties a project's public token may bring on a day. Beyond that an event is stored as `$overflow`
//! and a property inside the property `$overflow`. Nothing is lost, and no list or table of columns grows with what strangers make up.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use model::time::DAY_MS;
use model::value::Properties;
use model::{Event, ProjectId, Timestamp, Value};
use wire::location::{EVENT_PROPERTIES, RECEIPT_PROPERTIES};

use crate::{bots, gate};

/// The event, and the property, for what has a new name too many.
const OVERFLOW: &str = "$overflow";
/// What such an event is called by its sender.
const EVENT_NAME: &str = "$event_name";

/// Events that say who is who: under another name they would not.
const EVENTS_OF_ITS_OWN: [&str; 4] = [OVERFLOW, "$identify", "$create_alias", "$merge"];
/// Properties that say who is who, and those that the server adds.
const PROPERTIES_OF_ITS_OWN: [&str; 11] = [
    OVERFLOW,
    EVENT_NAME,
    gate::ORIGIN_OK,
    bots::IS_BOT,
    "$user_id",
    "$device_id",
    "$identified_id",
    "$anon_id",
    "$anon_distinct_id",
    "$distinct_ids",
    "alias",
];

fn is_of_its_own(name: &str) -> bool {
    PROPERTIES_OF_ITS_OWN.contains(&name) || RECEIPT_PROPERTIES.contains(&name) || EVENT_PROPERTIES.contains(&name)
}

/// New names that the token of a project may bring on a day.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    pub events: usize,
    pub properties: usize,
}

/// The names that the tokens of all projects brought, as hashes under a key that is drawn with every start.
pub(crate) struct Names {
    most: Most,
    key: ahash::RandomState,
    projects: Mutex<HashMap<ProjectId, Brought>>,
    /// Names that were put aside since the start.
    spilled: AtomicU64,
}

#[derive(Default)]
struct Brought {
    day: i64,
    events: Known,
    properties: Known,
    /// The day on which the log last told of it.
    told: Option<i64>,
}

type Hashes = HashSet<u64, ahash::RandomState>;

/// Names of one kind. There are never more than twice as many of a day as a day may bring new ones.
#[derive(Default)]
struct Known {
    today: Hashes,
    /// Those of the last day before on which any came: whoever is first after midnight does not push them out.
    before: Hashes,
    /// So many of today's are not among those.
    fresh: usize,
}

impl Known {
    /// Whether a name passes: because it is known, or because there is room for another.
    fn takes(&mut self, name: u64, most: usize) -> bool {
        if self.today.contains(&name) {
            return true;
        }
        let is_fresh = !self.before.contains(&name);
        if is_fresh && (self.fresh >= most || self.before.len() + self.fresh >= most.saturating_mul(2)) {
            return false;
        }
        self.fresh += usize::from(is_fresh);
        self.today.insert(name)
    }

    fn turn(&mut self) {
        *self = Self { before: std::mem::take(&mut self.today), ..Self::default() };
    }
}

impl Names {
    pub(crate) fn new(most: Most) -> Self {
        Self { most, key: ahash::RandomState::new(), projects: Mutex::default(), spilled: AtomicU64::new(0) }
    }

    /// Names that were put aside since the start.
    pub(crate) fn spilled(&self) -> u64 {
        self.spilled.load(Ordering::Relaxed)
    }

    /// Puts aside what is new beyond the day's number, in the events of a request that nobody proved to have sent.
    pub(crate) fn spill(&self, events: &mut HashMap<ProjectId, Vec<Event>>, now: Timestamp) {
        if events.values().flatten().all(|event| event.authenticated) {
            return;
        }
        let day = now.0.div_euclid(DAY_MS);
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        for (project, events) in events {
            let brought = projects.entry(*project).or_default();
            // A clock that goes back does not make a new day.
            if brought.day < day {
                brought.day = day;
                brought.events.turn();
                brought.properties.turn();
            }
            let public = events.iter_mut().filter(|event| !event.authenticated);
            let spilled: usize = public.map(|event| self.spill_event(brought, event)).sum();
            self.spilled.fetch_add(spilled as u64, Ordering::Relaxed);
            if spilled > 0 && brought.told != Some(brought.day) {
                brought.told = Some(brought.day);
                tracing::warn!(project.id = %project, "the public token brought more new names than a day may: the others go to `$overflow`");
            }
        }
    }

    /// Returns how many names were put aside.
    fn spill_event(&self, brought: &mut Brought, event: &mut Event) -> usize {
        let (known, most) = (&mut brought.properties, self.most);
        let mut is_over = |name: &str| !is_of_its_own(name) && !known.takes(self.key.hash_one(name), most.properties);
        let mut over = Properties::default();
        let mut spilled = event.properties.keys().filter(|name| is_over(name)).count();
        if spilled > 0 {
            (over, event.properties) = std::mem::take(&mut event.properties).into_iter().partition(|(name, _)| is_over(name));
        }
        if !brought.events.takes(self.key.hash_one(&event.name), most.events) && !EVENTS_OF_ITS_OWN.contains(&event.name.as_str()) {
            spilled += 1;
            let name = std::mem::replace(&mut event.name, OVERFLOW.to_owned());
            let sent = event.properties.insert(EVENT_NAME.to_owned(), Value::String(name));
            over.extend(sent.map(|sent| (EVENT_NAME.to_owned(), sent)));
        }
        if !over.is_empty() {
            // Where the sender has a property of that name, it stands inside.
            over.extend(event.properties.shift_remove(OVERFLOW).map(|sent| (OVERFLOW.to_owned(), sent)));
            event.properties.insert(OVERFLOW.to_owned(), Value::Object(over));
        }
        spilled
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const P: ProjectId = ProjectId(1);

    fn names(events: usize, properties: usize) -> Names {
        Names::new(Most { events, properties })
    }

    fn event(name: &str, properties: &[(&str, Value)]) -> Event {
        Event {
            name: name.to_owned(),
            distinct_id: "u".to_owned(),
            time: Timestamp(0),
            insert_id: "i".to_owned(),
            received_at: Timestamp(0),
            authenticated: false,
            linking: None,
            properties: properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        }
    }

    /// Sends an event on a day; what is stored, as `name {properties}`.
    fn stored(names: &Names, day: i64, event: Event) -> String {
        let mut all = HashMap::from([(P, vec![event])]);
        names.spill(&mut all, Timestamp(day * DAY_MS + 1));
        let Event { name, properties, .. } = all.remove(&P).unwrap().remove(0);
        let mut text = String::new();
        wire::json::write(&Value::Object(properties), &mut text);
        format!("{name} {text}")
    }

    fn sent(names: &Names, day: i64, name: &str) -> String {
        stored(names, day, event(name, &[]))
    }

    #[test]
    fn an_event_too_many_keeps_its_name_in_a_property() {
        let names = names(2, 9);
        assert_eq!([sent(&names, 0, "a"), sent(&names, 0, "b")], ["a {}", "b {}"]);
        assert_eq!(sent(&names, 0, "c"), r#"$overflow {"$event_name":"c"}"#);
        assert_eq!([sent(&names, 0, "a"), sent(&names, 0, "$identify")], ["a {}", "$identify {}"]);
        assert_eq!(names.spilled(), 1);
    }

    #[test]
    fn properties_too_many_stand_in_one_object() {
        let names = names(9, 2);
        let with = |properties: &[(&str, Value)]| stored(&names, 0, event("e", properties));
        let one = || Value::from(1);
        assert_eq!(with(&[("a", one()), ("b", one())]), r#"e {"a":1,"b":1}"#);
        assert_eq!(with(&[("c", one()), ("a", one()), ("d", one())]), r#"e {"a":1,"$overflow":{"c":1,"d":1}}"#);
        assert_eq!(with(&[("$user_id", one()), ("mp_processing_time_ms", one())]), r#"e {"$user_id":1,"mp_processing_time_ms":1}"#);
        // A flood of names hides no verdict of the server.
        assert_eq!(with(&[("$is_bot", one()), ("$origin_ok", one())]), r#"e {"$is_bot":1,"$origin_ok":1}"#);
        assert_eq!(names.spilled(), 2);
    }

    #[test]
    fn what_a_sender_calls_overflow_is_kept_too() {
        let names = names(0, 0);
        let properties = [("$overflow", Value::from(1)), ("$event_name", Value::from(2)), ("c", Value::from(3))];
        assert_eq!(
            stored(&names, 0, event("e", &properties)),
            r#"$overflow {"$event_name":"e","$overflow":{"c":3,"$event_name":2,"$overflow":1}}"#
        );
        assert_eq!(stored(&names, 0, event("$overflow", &properties[..2])), r#"$overflow {"$overflow":1,"$event_name":2}"#);
    }

    /// Otherwise whoever floods first after midnight would take the place of all that is ordinary.
    #[test]
    fn what_came_the_day_before_is_not_new() {
        let names = names(2, 9);
        assert_eq!([sent(&names, 0, "a"), sent(&names, 0, "b")], ["a {}", "b {}"]);
        assert_eq!([sent(&names, 1, "x"), sent(&names, 1, "y")], ["x {}", "y {}"]);
        assert_eq!([sent(&names, 1, "z"), sent(&names, 1, "a")], [r#"$overflow {"$event_name":"z"}"#, "a {}"]);
        assert_eq!(sent(&names, 0, "x"), "x {}", "a clock that goes back makes no new day");
        assert_eq!([sent(&names, 7, "a"), sent(&names, 7, "v")], ["a {}", "v {}"], "however long ago the last day was");
        assert_eq!(sent(&names, 9, "b"), "b {}");
    }

    #[test]
    fn what_is_proven_is_neither_changed_nor_counted() {
        let names = names(1, 1);
        for name in ["a", "b", "c"] {
            let proven = Event { authenticated: true, ..event(name, &[(name, Value::from(1))]) };
            assert_eq!(stored(&names, 0, proven), format!(r#"{name} {{"{name}":1}}"#));
        }
        assert_eq!(sent(&names, 0, "d"), "d {}");
    }

    #[test]
    fn a_project_has_names_of_its_own() {
        let names = names(1, 1);
        let mut all = HashMap::from([(P, vec![event("a", &[])]), (ProjectId(2), vec![event("b", &[]), event("c", &[])])]);
        names.spill(&mut all, Timestamp(0));
        let found = |project| all[&project].iter().map(|event| event.name.as_str()).collect::<Vec<_>>();
        assert_eq!((found(P), found(ProjectId(2))), (vec!["a"], vec!["b", "$overflow"]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// P3 of the security bar: whatever comes in however many days, so much is remembered, so many names are let in, and every name
        /// and value is stored where it was or in `$overflow`.
        #[test]
        fn p3_memory_is_bounded_and_no_name_is_lost(
            most in (0..6_usize, 0..6_usize),
            days in proptest::collection::vec(
                proptest::collection::vec((0..40_u8, proptest::collection::hash_set(0..40_u8, 0..8)), 0..40), 1..6),
        ) {
            let names = names(most.0, most.1);
            let mut known_before = [HashSet::new(), HashSet::new()];
            for (day, events) in (0_i64..).zip(&days) {
                let mut seen = [HashSet::new(), HashSet::new()];
                for (name, properties) in events {
                    let properties: Vec<(String, Value)> = properties.iter().map(|at| (format!("p{at}"), Value::from(i64::from(*at)))).collect();
                    let mut made = event(&format!("e{name}"), &[]);
                    made.properties.extend(properties.iter().cloned());
                    let mut all = HashMap::from([(P, vec![made])]);
                    names.spill(&mut all, Timestamp(day * DAY_MS));
                    let stored = &all[&P][0];
                    if stored.name == OVERFLOW {
                        prop_assert_eq!(stored.properties[EVENT_NAME].as_str(), Some(&*format!("e{name}")));
                    } else {
                        prop_assert_eq!(&stored.name, &format!("e{name}"));
                        seen[0].insert(stored.name.clone());
                    }
                    let over = stored.properties.get(OVERFLOW).and_then(Value::as_object);
                    for (name, value) in &properties {
                        let found = stored.properties.get(name);
                        seen[1].extend(found.map(|_| name.clone()));
                        prop_assert_eq!(found.or_else(|| over?.get(name)), Some(value));
                    }
                }
                let projects = names.projects.lock().unwrap();
                let Some(brought) = projects.get(&P) else { continue };
                for (at, (known, most)) in [(&brought.events, most.0), (&brought.properties, most.1)].into_iter().enumerate() {
                    prop_assert!(known.today.len() <= 2 * most && known.before.len() <= 2 * most);
                    let fresh = seen[at].difference(&known_before[at]).count();
                    prop_assert!(fresh <= most, "{} new ones of {}", fresh, most);
                }
                if !events.is_empty() {
                    known_before = seen;
                }
            }
        }
    }
}
