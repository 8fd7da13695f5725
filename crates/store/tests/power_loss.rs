//! The store loses power at every operation that it asks of its disk, and survives in many ways each time. Afterwards every acknowledged
//! event and profile change is there exactly once, profile changes in order, and nothing is there that was not sent. What public deletes
//! took is there to be restored, and what was restored is there. Ids are linked by the events that are there, and by no others.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::{PROJECT, appended, directory, event, events, metastore, options, update};
use metastore::Metastore;
use model::value::Properties;
use model::{Event, IdentityMode, Profile, ProfileKey, ProfileOp, ProfileUpdate, Timestamp, Value};
use store::disk::SimulatedDisk;
use store::{ProfileKind, Store};

const OPERATIONS_MIN: u64 = 300;
const SURVIVALS: u64 = 20;

#[derive(Default)]
struct Sent {
    next: u32,
    events: BTreeSet<u32>,
    events_acknowledged: BTreeSet<u32>,
    updates: Vec<u32>,
    updates_acknowledged: Vec<u32>,
    /// Profiles of one property, their number.
    profiles: BTreeMap<u32, Fate>,
}

/// What is known of a profile that was made and then deleted by token.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Made,
    Deleted,
    Restored,
    /// The power went before an answer came.
    Unknown,
}

const NOW: Timestamp = Timestamp(5);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

fn profile(number: u32) -> String {
    format!("q{number}")
}

/// Every fortieth event links a device of its own to its user.
fn links(number: u32) -> bool {
    number.is_multiple_of(40)
}

fn sent(number: u32, filler_bytes: usize) -> Event {
    let mut event = event(number, filler_bytes);
    if links(number) {
        event.linking = Some(IdentityMode::Simplified);
        event.properties.insert("$device_id".to_owned(), Value::from(i64::from(number)));
    }
    event
}

fn properties(number: u32) -> Properties {
    Properties::from_iter([("number".to_owned(), Value::from(i64::from(number)))])
}

impl Sent {
    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    async fn send_events(&mut self, store: &Store, count: usize, filler_bytes: usize) {
        let numbers: Vec<u32> = (0..count).map(|_| self.number()).collect();
        self.events.extend(&numbers);
        let outcome = store.append(PROJECT, numbers.iter().map(|number| sent(*number, filler_bytes)).collect()).await;
        if outcome.is_ok() {
            self.events_acknowledged.extend(numbers);
        }
    }

    async fn send_updates(&mut self, store: &Store, count: usize) {
        let numbers: Vec<u32> = (0..count).map(|_| self.number()).collect();
        self.updates.extend(&numbers);
        if store.append_profiles(PROJECT, numbers.iter().map(|number| update(*number)).collect()).await.is_ok() {
            self.updates_acknowledged.extend(numbers);
        }
    }

    async fn send_profile(&mut self, store: &Store, ends: Fate) {
        let number = self.number();
        for (op, fate) in [(ProfileOp::Set(properties(number)), Fate::Made), (ProfileOp::Delete, Fate::Deleted)] {
            self.profiles.insert(number, Fate::Unknown);
            let update = ProfileUpdate { key: ProfileKey::User(profile(number)), op, ..update(number) };
            if store.append_profiles(PROJECT, vec![update]).await.is_err() {
                return;
            }
            self.profiles.insert(number, fate);
            if fate == ends {
                return;
            }
        }
    }

    async fn restore(&mut self, store: &Store) {
        let outcome = store.restore_profiles(PROJECT, NOW, None, NOW).await;
        let fate = if outcome.is_ok() { Fate::Restored } else { Fate::Unknown };
        self.profiles.values_mut().filter(|known| **known == Fate::Deleted).for_each(|known| *known = fate);
    }

    /// Appends of several sizes, seals, compactions and a restart. What fails, fails because the power is gone.
    fn run(&mut self, open: &dyn Fn() -> Option<Store>) {
        let runtime = runtime();
        for life in 0..2 {
            let Some(store) = open() else { return };
            runtime.block_on(async {
                for round in 0..13 {
                    self.send_events(&store, 1, 0).await;
                    self.send_events(&store, 3, 2000).await;
                    self.send_updates(&store, 2).await;
                    self.send_events(&store, 2, 5000 * (round % 3)).await;
                    self.send_profile(&store, if round == 6 { Fate::Made } else { Fate::Deleted }).await;
                    let _ = store.pack_now();
                    let _ = store.seal_now();
                    self.send_events(&store, 1, 10).await;
                    if round % 5 == 4 {
                        self.restore(&store).await;
                    }
                    if round % 4 == 3 {
                        let _ = store.compact_now();
                    }
                }
                if life == 0 {
                    // Several records in one request.
                    self.send_events(&store, 4, 400_000).await;
                }
            });
        }
    }

    fn check(&self, disk: &SimulatedDisk, metastore: &Arc<Metastore>, dir: &std::path::Path, case: &str) {
        let store = Store::open(options(dir, Arc::new(disk.clone())), metastore.clone()).unwrap_or_else(|error| panic!("{case}: {error}"));
        let snapshot = store.snapshot(PROJECT).expect("it opened");
        let found = events(&snapshot, false);
        let distinct: BTreeSet<u32> = found.iter().copied().collect();
        assert_eq!(distinct.len(), found.len(), "{case}: an event stands there twice");
        let lost: Vec<_> = self.events_acknowledged.difference(&distinct).collect();
        assert!(lost.is_empty(), "{case}: acknowledged events are lost: {lost:?}");
        assert!(distinct.is_subset(&self.events), "{case}: an event was invented");
        let linking = distinct.iter().filter(|number| links(**number)).count();
        assert_eq!(store.stats().identity_links, linking as u64, "{case}: links are those of the events");
        let list = appended(&snapshot);
        let lost: Vec<_> = self.updates_acknowledged.iter().filter(|number| !list.contains(number)).collect();
        assert!(lost.is_empty(), "{case}: acknowledged profile changes are lost: {lost:?}");
        assert!(list.windows(2).all(|pair| pair[0] < pair[1]), "{case}: profile changes are out of order or twice: {list:?}");
        assert!(list.iter().all(|number| self.updates.contains(number)), "{case}: a profile change was invented");
        let found = || -> BTreeMap<String, Profile> {
            let snapshot = store.snapshot(PROJECT).expect("it opened");
            snapshot.profiles(&ProfileKind::Users).expect("it reads").into_iter().collect()
        };
        let before = found();
        for (number, fate) in &self.profiles {
            let is_there = before.contains_key(&profile(*number));
            let is_wanted = matches!(fate, Fate::Made | Fate::Restored);
            assert!(is_there == is_wanted || *fate == Fate::Unknown, "{case}: profile {number} is {fate:?}, found: {is_there}");
        }
        runtime().block_on(store.restore_profiles(PROJECT, NOW, None, NOW)).unwrap_or_else(|error| panic!("{case}: {error}"));
        let after = found();
        for (number, fate) in &self.profiles {
            match after.get(&profile(*number)) {
                Some(profile) => assert_eq!(profile.properties, properties(*number), "{case}: profile {number} was {fate:?}"),
                None => assert_eq!(*fate, Fate::Unknown, "{case}: profile {number} does not come back"),
            }
        }
    }
}

/// Runs the script with the power cut at an operation, or never; returns how many operations there were.
fn case(cut_at: Option<u64>) -> u64 {
    let dir = directory();
    let metastore = metastore(dir.path());
    let disk = SimulatedDisk::new();
    if let Some(operation) = cut_at {
        disk.cut_at(operation);
    }
    let mut sent = Sent::default();
    sent.run(&|| Store::open(options(dir.path(), Arc::new(disk.clone())), metastore.clone()).ok());
    let operations = disk.operations();
    match cut_at {
        None => sent.check(&disk, &metastore, dir.path(), "no power cut"),
        Some(operation) => {
            assert!(disk.is_cut(), "the script is shorter than it was");
            for seed in 0..SURVIVALS {
                let survivor = disk.fork();
                survivor.crash(operation * SURVIVALS + seed);
                sent.check(&survivor, &metastore, dir.path(), &format!("operation {operation}, survival {seed}"));
            }
        }
    }
    operations
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_goes() {
    let operations = case(None);
    assert!(operations >= OPERATIONS_MIN, "the script has only {operations} operations");
    let next = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            scope.spawn(|| {
                loop {
                    let operation = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if operation >= operations {
                        return;
                    }
                    case(Some(operation));
                }
            });
        }
    });
    println!("{operations} operations, {SURVIVALS} survivals each");
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_until_the_store_is_opened_again() {
    let (dir, disk) = (directory(), SimulatedDisk::new());
    let metastore = metastore(dir.path());
    let mut sent = Sent::default();
    let store = Store::open(options(dir.path(), Arc::new(disk.clone())), metastore.clone()).expect("it opens");
    runtime().block_on(async {
        sent.send_events(&store, 3, 0).await;
        disk.fail_syncs(true);
        sent.send_events(&store, 3, 0).await;
        disk.fail_syncs(false);
        sent.send_events(&store, 3, 0).await;
    });
    assert_eq!(sent.events_acknowledged.len(), 3);
    drop(store);
    disk.crash(7);
    sent.check(&disk, &metastore, dir.path(), "failed sync");
}
