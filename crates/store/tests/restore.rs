//! What public operations removed from profiles comes back with one call, exactly, whatever was sealed, compacted or opened again in
//! between; what the owner removed does not.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{PROJECT, directory, event, metastore, options};
use model::time::DAY_MS;
use model::value::Properties;
use model::{Event, Number, Profile, ProfileKey, ProfileOp, ProfileUpdate, Timestamp, Value};
use proptest::collection::vec;
use proptest::prelude::*;
use store::disk::RealDisk;
use store::{ProfileKind, Restored, Store, StoreError};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

fn append(store: &Store, updates: Vec<ProfileUpdate>) {
    runtime().block_on(store.append_profiles(PROJECT, updates)).expect("it is stored");
}

fn restore(store: &Store, since: Timestamp, now: Timestamp) -> u64 {
    runtime().block_on(store.restore_profiles(PROJECT, since, None, now)).expect("it restores").profiles
}

fn user(number: usize) -> ProfileKey {
    ProfileKey::User(format!("u{number}"))
}

fn public(key: ProfileKey, op: ProfileOp, at: Timestamp) -> ProfileUpdate {
    ProfileUpdate { key, op, time: at, received_at: at, ignore_time: true, ignore_alias: false, dedup_id: None, authenticated: false }
}

fn owner(key: ProfileKey, op: ProfileOp, at: Timestamp) -> ProfileUpdate {
    ProfileUpdate { authenticated: true, ..public(key, op, at) }
}

fn number(number: usize) -> ProfileOp {
    ProfileOp::Set(Properties::from_iter([("n".to_owned(), Value::from(number as i64))]))
}

fn users(store: &Store) -> Vec<(String, Profile)> {
    store.snapshot(PROJECT).expect("it opened").profiles(&ProfileKind::Users).expect("it reads")
}

/// Every value of a profile as it is spelled, and their order.
fn spelled(store: &Store) -> Vec<String> {
    users(store).iter().map(|profile| format!("{profile:?}")).collect()
}

#[test]
fn ten_thousand_profiles_deleted_by_token_come_back_as_they_were() {
    const PROFILES: usize = 10_000;
    let (dir, mut options) = (directory(), options(Path::new(""), Arc::new(RealDisk)));
    options.dir = dir.path().to_path_buf();
    // Nobody seals in this test: a restore that is more than may wait sees to it.
    (options.tail_rows_max, options.wait_max) = (1500, Duration::from_millis(5));
    let metastore = metastore(dir.path());
    let open = || Store::open(options.clone(), metastore.clone()).expect("it opens");
    let store = open();
    let profile = |number: usize| {
        let object = Properties::from_iter([("city".to_owned(), Value::from("Köln")), ("zip".to_owned(), Value::Null)]);
        let mut properties = Properties::from_iter([
            ("name".to_owned(), Value::String(format!("User {number}"))),
            ("big".to_owned(), Value::Number(Number::parse("123456789012345678901234567890"))),
            ("ratio".to_owned(), Value::from(number as f64 / 7.0)),
            ("tags".to_owned(), Value::List((0..number % 9).map(|tag| Value::from(tag as i64)).collect())),
            ("address".to_owned(), Value::Object(object)),
        ]);
        (0..number % 20).for_each(|extra| drop(properties.insert(format!("extra {extra}"), Value::Bool(extra % 2 == 0))));
        ProfileUpdate { ignore_time: false, ..public(user(number), ProfileOp::Set(properties), NOW) }
    };
    let in_chunks = |store: &Store, update: &dyn Fn(usize) -> ProfileUpdate| {
        for first in (0..PROFILES).step_by(1000) {
            append(store, (first..first + 1000).map(update).collect());
            store.seal_now().expect("it seals");
        }
    };
    in_chunks(&store, &profile);
    let before = spelled(&store);
    assert_eq!(before.len(), PROFILES);
    store.compact_now().expect("it compacts");
    in_chunks(&store, &|number| public(user(number), ProfileOp::Delete, NOW.plus_ms(1)));
    assert_eq!(users(&store).len(), 0);
    store.compact_now().expect("it compacts");
    drop(store);
    let store = open();
    assert_eq!(restore(&store, NOW.plus_ms(2), NOW.plus_ms(DAY_MS)), 0, "nothing was removed since");
    assert_eq!(restore(&store, NOW, NOW.plus_ms(DAY_MS)), PROFILES as u64);
    assert_eq!(restore(&store, NOW, NOW.plus_ms(DAY_MS)), 0, "nothing is left to restore");
    assert!(spelled(&store) == before, "every property is as it was");
    drop(store);
    let store = open();
    assert!(spelled(&store) == before, "opened again");
    store.seal_now().expect("it seals");
    store.compact_now().expect("it compacts");
    assert!(spelled(&store) == before, "sealed and compacted");
    assert_eq!(restore(&store, NOW, NOW.plus_ms(DAY_MS)), 0, "nothing is left to restore");
}

#[test]
fn some_profiles_can_be_restored_alone() {
    let dir = directory();
    let store = Store::open(options(dir.path(), Arc::new(RealDisk)), metastore(dir.path())).expect("it opens");
    append(&store, (0..10).map(|id| public(user(id), number(id), NOW)).collect());
    append(&store, (0..10).map(|id| public(user(id), ProfileOp::Delete, NOW)).collect());
    store.seal_now().expect("it seals");
    let only = Some(vec![user(3), user(7), user(99)]);
    let restored = runtime().block_on(store.restore_profiles(PROJECT, NOW, only, NOW)).expect("it restores");
    assert_eq!(restored, Restored { profiles: 2 });
    assert_eq!(users(&store).into_iter().map(|(id, _)| id).collect::<Vec<_>>(), ["u3", "u7"]);
}

#[test]
fn what_was_kept_for_its_time_leaves_the_disk() {
    let dir = directory();
    let store = Store::open(options(dir.path(), Arc::new(RealDisk)), metastore(dir.path())).expect("it opens");
    // Random enough that it cannot be packed.
    let mut draw = 1_u64;
    let mut noise = || {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Value::String(format!("{draw:016x}").repeat(2))
    };
    let text = |value| ProfileOp::Set(Properties::from_iter([("text".to_owned(), value)]));
    append(&store, (0..1000).map(|id| public(user(id), text(noise()), NOW)).collect());
    append(&store, (0..1000).map(|id| public(user(id), ProfileOp::Delete, NOW)).collect());
    store.seal_now().expect("it seals");
    let full = store.stats().segment_bytes;
    // The store takes the time from what it receives.
    let bytes_after = |days: i64| {
        let event = Event { received_at: NOW.plus_ms(days * DAY_MS), ..event(1, 0) };
        runtime().block_on(store.append(PROJECT, vec![event])).expect("it is stored");
        store.compact_now().expect("it compacts");
        store.stats().segment_bytes
    };
    assert_eq!(bytes_after(31), full);
    let left = bytes_after(33);
    assert!(left < full / 2, "{left} of {full} bytes are left");
    assert_eq!(restore(&store, NOW, NOW.plus_ms(DAY_MS)), 0);
}

#[test]
fn what_is_written_while_a_restore_runs_stays() {
    const PROFILES: usize = 6000;
    let dir = directory();
    let store = Store::open(options(dir.path(), Arc::new(RealDisk)), metastore(dir.path())).expect("it opens");
    append(&store, (0..PROFILES).map(|id| public(user(id), number(id), NOW)).collect());
    append(&store, (0..PROFILES).map(|id| public(user(id), ProfileOp::Delete, NOW)).collect());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for id in (0..PROFILES).rev().step_by(100) {
                append(&store, vec![owner(user(id), ProfileOp::Delete, NOW), public(user(id - 1), number(0), NOW)]);
            }
        });
        scope.spawn(|| (0..5).for_each(|_| store.seal_now().expect("it seals")));
        restore(&store, NOW, NOW);
    });
    for (id, profile) in users(&store) {
        let id: usize = id[1..].parse().expect("ids are numbers");
        let expected = if id % 100 == 98 { 0 } else { id as i64 };
        assert_ne!(id % 100, 99, "the owner deleted u{id}");
        assert_eq!(profile.properties.get("n"), Some(&Value::from(expected)), "u{id}");
    }
    assert_eq!(users(&store).len(), PROFILES - PROFILES / 100);
}

#[test]
fn a_failed_log_restores_nothing_and_says_so() {
    let (dir, disk) = (directory(), store::disk::SimulatedDisk::new());
    let store = Store::open(options(dir.path(), Arc::new(disk.clone())), metastore(dir.path())).expect("it opens");
    append(&store, vec![public(user(1), number(1), NOW), public(user(1), ProfileOp::Delete, NOW)]);
    disk.fail_syncs(true);
    let outcome = runtime().block_on(store.restore_profiles(PROJECT, NOW, None, NOW));
    assert!(matches!(outcome, Err(StoreError::LogFailed(_))), "{outcome:?}");
    assert_eq!(users(&store).len(), 0);
}

/// One thing that happened to a property.
#[derive(Clone)]
enum Happened {
    Written,
    RemovedByOwner,
    RemovedByToken(Value, Timestamp),
}

/// A profile with all of its past: slow, and plain to see that it is right.
#[derive(Default)]
struct Naive {
    now: Option<BTreeMap<String, Value>>,
    past: BTreeMap<String, Vec<Happened>>,
    deleted_by_token: Option<Timestamp>,
}

impl Naive {
    fn note(&mut self, name: &str, happened: Happened) {
        self.past.entry(name.to_owned()).or_default().push(happened);
    }

    fn write(&mut self, name: &str, value: Value) {
        self.now.get_or_insert_default().insert(name.to_owned(), value);
        self.note(name, Happened::Written);
    }

    fn apply(&mut self, update: &ProfileUpdate) {
        let at = update.received_at;
        match &update.op {
            ProfileOp::Set(values) => values.iter().for_each(|(name, value)| self.write(name, value.clone())),
            ProfileOp::Append(values) => {
                for (name, value) in values {
                    let written = match self.now.as_ref().and_then(|now| now.get(name)) {
                        Some(Value::List(list)) => Value::List([&list[..], std::slice::from_ref(value)].concat()),
                        Some(other) => other.clone(),
                        None => Value::List(vec![value.clone()]),
                    };
                    self.write(name, written);
                }
            }
            ProfileOp::Unset(names) => {
                for name in names {
                    let value = self.now.as_mut().and_then(|now| now.remove(name));
                    match (value, update.authenticated) {
                        (_, true) => self.note(name, Happened::RemovedByOwner),
                        (Some(value), false) => self.note(name, Happened::RemovedByToken(value, at)),
                        (None, false) => {}
                    }
                }
            }
            ProfileOp::Delete if update.authenticated => *self = Self::default(),
            ProfileOp::Delete => {
                if let Some(now) = self.now.take() {
                    now.into_iter().for_each(|(name, value)| self.note(&name, Happened::RemovedByToken(value, at)));
                    self.deleted_by_token = Some(at);
                }
            }
            other => panic!("the test does not send {other:?}"),
        }
    }

    fn restore(&mut self, since: Timestamp, now: Timestamp) -> bool {
        let comes_back = |at: Timestamp| at >= since && now.0 - at.0 < 30 * DAY_MS;
        let last = self.past.iter().filter_map(|(name, past)| Some((name.clone(), past.last()?.clone())));
        let back: Vec<(String, Value)> = last
            .filter_map(|(name, last)| match last {
                Happened::RemovedByToken(value, at) if comes_back(at) => Some((name, value)),
                _ => None,
            })
            .collect();
        let is_made_again = self.now.is_none() && self.deleted_by_token.is_some_and(comes_back);
        if is_made_again {
            self.now = Some(BTreeMap::new());
        }
        let is_changed = is_made_again || !back.is_empty();
        back.into_iter().for_each(|(name, value)| self.write(&name, value));
        is_changed
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<(usize, ProfileOp, bool)>),
    Seal,
    Compact,
    Reopen,
    Restore { back_ms: i64 },
    Wait { ms: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    let name = || (0..4_usize).prop_map(|name| format!("p{name}"));
    let values = move || vec((name(), any::<u16>()), 0..3);
    let properties =
        |values: Vec<(String, u16)>| values.into_iter().map(|(name, value)| (name, Value::from(i64::from(value)))).collect::<Properties>();
    let op = prop_oneof![
        4 => values().prop_map(move |values| ProfileOp::Set(properties(values))),
        2 => values().prop_map(move |values| ProfileOp::Append(properties(values))),
        3 => vec(name(), 1..4).prop_map(ProfileOp::Unset),
        2 => Just(ProfileOp::Delete),
    ];
    prop_oneof![
        8 => vec((0..6_usize, op, prop::bool::weighted(0.2)), 1..8).prop_map(Step::Append),
        4 => Just(Step::Seal),
        2 => Just(Step::Compact),
        1 => Just(Step::Reopen),
        2 => (0..40 * DAY_MS).prop_map(|back_ms| Step::Restore { back_ms }),
        3 => prop_oneof![Just(1), 0..20 * DAY_MS].prop_map(|ms| Step::Wait { ms }),
    ]
}

fn key(number: usize) -> ProfileKey {
    if number == 0 { ProfileKey::Group { key: "company".to_owned(), id: "g".to_owned() } } else { user(number) }
}

fn check(steps: Vec<Step>) {
    let dir = directory();
    let options = options(dir.path(), Arc::new(RealDisk));
    let metastore = metastore(dir.path());
    let mut store = Some(Store::open(options.clone(), metastore.clone()).expect("it opens"));
    let mut expected: BTreeMap<usize, Naive> = BTreeMap::new();
    let mut now = NOW;
    for (at, step) in steps.into_iter().enumerate() {
        let open = store.as_ref().expect("it is open");
        match step {
            Step::Append(updates) => {
                let update = |(number, op, is_owner)| ProfileUpdate { authenticated: is_owner, ..public(key(number), op, now) };
                for (number, op, is_owner) in &updates {
                    expected.entry(*number).or_default().apply(&update((*number, op.clone(), *is_owner)));
                    // An operation without properties makes a profile all the same.
                    if let ProfileOp::Set(_) | ProfileOp::Append(_) = op {
                        expected.entry(*number).or_default().now.get_or_insert_default();
                    }
                }
                append(open, updates.into_iter().map(update).collect());
            }
            Step::Seal => open.seal_now().expect("it seals"),
            Step::Compact => open.compact_now().expect("it compacts"),
            Step::Reopen => {
                drop(store.take());
                store = Some(Store::open(options.clone(), metastore.clone()).expect("it opens again"));
            }
            Step::Restore { back_ms } => {
                let since = now.plus_ms(-back_ms);
                let count = expected.values_mut().map(|naive| naive.restore(since, now)).filter(|is_changed| *is_changed).count();
                assert_eq!(restore(open, since, now), count as u64, "step {at}: as many profiles are restored");
                assert_eq!(restore(open, since, now), 0, "step {at}: restoring again changes nothing");
            }
            Step::Wait { ms } => now = now.plus_ms(ms),
        }
        let snapshot = store.as_ref().expect("it is open").snapshot(PROJECT).expect("it opened");
        for (number, naive) in &expected {
            let found = snapshot.profile(&key(*number)).expect("it reads");
            let found: Option<BTreeMap<String, Value>> = found.map(|profile| profile.properties.into_iter().collect());
            assert_eq!(found, naive.now, "step {at}: {:?}", key(*number));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_restore_is_what_the_whole_past_says(steps in vec(step(), 1..60)) {
        check(steps);
    }
}
