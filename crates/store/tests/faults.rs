//! The disk refuses operations, does half of them, or does them and says otherwise, each operation in turn, while the power is on; then the
//! power goes too. What was acknowledged is there, what was refused is not, and the store goes on by itself once the disk does. A disk that
//! runs full is told before it is, and nothing is lost where it is full all the same.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{PROJECT, appended, directory, event, events, metastore, options, update};
use metastore::Metastore;
use store::disk::{Disk, Fault, SimulatedDisk};
use store::{Store, StoreError, StoreOptions};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

/// What was sent, by what was answered.
#[derive(Default, Clone)]
struct Sent {
    next: u32,
    acknowledged: BTreeSet<u32>,
    updates_acknowledged: Vec<u32>,
    refused: BTreeSet<u32>,
    /// What was refused before something else was acknowledged: it must never come back.
    void: BTreeSet<u32>,
}

impl Sent {
    fn numbers(&mut self, count: usize) -> Vec<u32> {
        let from = self.next + 1;
        self.next += count as u32;
        (from..=self.next).collect()
    }

    fn note(&mut self, numbers: &[u32], outcome: &Result<(), StoreError>) -> bool {
        if outcome.is_ok() {
            self.void.extend(&self.refused);
        } else {
            self.refused.extend(numbers);
        }
        outcome.is_ok()
    }

    async fn events(&mut self, store: &Store, count: usize, filler_bytes: usize) -> Result<(), StoreError> {
        let numbers = self.numbers(count);
        let outcome = store.append(PROJECT, numbers.iter().map(|number| event(*number, filler_bytes)).collect()).await;
        if self.note(&numbers, &outcome) {
            self.acknowledged.extend(numbers);
        }
        outcome
    }

    async fn updates(&mut self, store: &Store, count: usize) -> Result<(), StoreError> {
        let numbers = self.numbers(count);
        let outcome = store.append_profiles(PROJECT, numbers.iter().map(|number| update(*number)).collect()).await;
        if self.note(&numbers, &outcome) {
            self.updates_acknowledged.extend(numbers);
        }
        outcome
    }

    /// While the store is open it shows what it acknowledged and nothing else, whatever the disk does.
    fn check_live(&self, store: &Store, case: &str) {
        let snapshot = store.snapshot(PROJECT).expect("it opened");
        assert_eq!(events(&snapshot, false), self.acknowledged.iter().copied().collect::<Vec<_>>(), "{case}: events of the open store");
        assert_eq!(appended(&snapshot), self.updates_acknowledged, "{case}: profile changes of the open store");
    }

    /// Takes over what a store shows that was opened again: of what was refused last something may be there.
    fn check_opened(&mut self, store: &Store, case: &str) {
        let snapshot = store.snapshot(PROJECT).expect("it opened");
        let (found, list) = (events(&snapshot, false), appended(&snapshot));
        let all: Vec<u32> = found.iter().chain(&list).copied().collect();
        let distinct: BTreeSet<u32> = all.iter().copied().collect();
        assert_eq!(distinct.len(), all.len(), "{case}: something stands there twice");
        let lost: Vec<_> = self.acknowledged.iter().chain(&self.updates_acknowledged).filter(|number| !distinct.contains(number)).collect();
        assert!(lost.is_empty(), "{case}: acknowledged events are lost: {lost:?}");
        let back: Vec<_> = self.void.intersection(&distinct).collect();
        assert!(back.is_empty(), "{case}: what was refused came back: {back:?}");
        assert!(distinct.iter().all(|number| *number <= self.next), "{case}: something was invented");
        assert!(list.windows(2).all(|pair| pair[0] < pair[1]), "{case}: profile changes are out of order: {list:?}");
        (self.acknowledged, self.updates_acknowledged) = (found.into_iter().collect(), list);
        self.refused.retain(|number| !distinct.contains(number));
    }

    /// Appends, packs, seals and compacts; what fails, fails because the disk does.
    fn run(&mut self, store: &Store, rounds: u32, case: &str) {
        runtime().block_on(async {
            for round in 0..rounds {
                let _ = self.events(store, 1, 0).await;
                let _ = self.updates(store, 2).await;
                let _ = self.events(store, 3, 3000 * (round as usize % 3)).await;
                let _ = store.pack_now();
                if round % 2 == 1 {
                    let _ = store.seal_now();
                }
                if round % 4 == 3 {
                    let _ = store.compact_now();
                }
                self.check_live(store, case);
            }
        });
    }
}

struct House {
    dir: tempfile::TempDir,
    disk: SimulatedDisk,
    metastore: Arc<Metastore>,
}

impl House {
    fn new() -> Self {
        let dir = directory();
        let metastore = metastore(dir.path());
        Self { dir, disk: SimulatedDisk::new(), metastore }
    }

    fn open_on(&self, disk: &SimulatedDisk) -> Result<Store, StoreError> {
        Store::open(options(self.dir.path(), Arc::new(disk.clone())), self.metastore.clone())
    }

    fn free_bytes(&self) -> u64 {
        self.disk.free_bytes(self.dir.path()).expect("it says")
    }

    fn open(&self, change: impl FnOnce(&mut StoreOptions)) -> Store {
        let mut options = options(self.dir.path(), Arc::new(self.disk.clone()));
        change(&mut options);
        Store::open(options, self.metastore.clone()).expect("it opens")
    }
}

/// Makes `length` operations fail from the `first` one on; returns how many operations there were.
fn case(first: u64, length: u64, fault: Fault) -> u64 {
    let name = format!("operations {first} to {}, {fault:?}", first + length - 1);
    let house = House::new();
    let mut sent = Sent::default();
    house.disk.fail(first..first + length, fault);
    // A store that cannot make its directories does not open; the operator starts it again.
    let store = house.open_on(&house.disk).or_else(|_| house.open_on(&house.disk));
    let Ok(store) = store else { return house.disk.operations() };
    sent.run(&store, 9, &name);
    let operations = house.disk.operations();
    if operations >= first + length {
        // The faults are over: it goes on by itself.
        let outcome = runtime().block_on(sent.events(&store, 1, 0));
        assert!(outcome.is_ok(), "{name}: the store does not recover: {outcome:?}");
        assert!(store.refusal().is_none(), "{name}: it says that it refuses: {:?}", store.refusal());
        store.seal_now().unwrap_or_else(|error| panic!("{name}: {error}"));
        sent.check_live(&store, &name);
    }
    // The server is killed; what it left in memory is read as if it were on the disk. Then it is killed once more, the power going too.
    drop(store);
    for seed in 0..3 {
        let (survivor, mut sent) = (house.disk.fork(), sent.clone());
        survivor.fail(0..0, fault);
        let name = format!("{name}, survival {seed}");
        if seed > 0 {
            survivor.crash(first.wrapping_mul(3) + seed);
        }
        // The segments of one survivor are not those of another; what is not sealed is each one's own.
        let store = house.open_on(&survivor).unwrap_or_else(|error| panic!("{name}: {error}"));
        sent.check_opened(&store, &name);
        runtime().block_on(async {
            for filler_bytes in [0, 5000] {
                let outcome = sent.events(&store, 2, filler_bytes).await;
                assert!(survivor.is_cut() || outcome.is_ok(), "{name}: {outcome:?}");
            }
        });
        drop(store);
        survivor.crash(first.wrapping_mul(7) + seed);
        let store = house.open_on(&survivor).unwrap_or_else(|error| panic!("{name}, the power gone: {error}"));
        sent.check_opened(&store, &format!("{name}, the power gone"));
    }
    operations
}

#[test]
fn whatever_the_disk_fails_at_nothing_acknowledged_is_lost_and_nothing_refused_comes_back() {
    let operations = case(u64::MAX / 2, 1, Fault::Refused);
    assert!(operations >= 100, "the script has only {operations} operations");
    let cases: Vec<(u64, u64, Fault)> = (0..operations)
        .flat_map(|first| [Fault::Refused, Fault::Half, Fault::Done].map(|fault| [1, 2, 7].map(|length| (first, length, fault))))
        .flatten()
        .collect();
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            scope.spawn(|| {
                while let Some((first, length, fault)) = cases.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    case(*first, *length, *fault);
                }
            });
        }
    });
    println!("{operations} operations, {} cases", cases.len());
}

#[test]
fn below_the_mark_of_free_space_writes_are_refused_and_reads_go_on() {
    let house = House::new();
    let mut sent = Sent::default();
    let store = house.open(|options| options.free_bytes_min = 1_000_000);
    runtime().block_on(async {
        house.disk.set_bytes_max(Some(house.disk.bytes() + 1_000_000 + 50_000));
        sent.events(&store, 1, 10_000).await.expect("there is room");
        let mut refused = None;
        for _ in 0..10 {
            refused = sent.events(&store, 1, 10_000).await.err().or(refused);
        }
        assert!(matches!(refused, Some(StoreError::DiskFull { free_bytes_min: 1_000_000, .. })), "{refused:?}");
        assert!(house.free_bytes() >= 1_000_000, "what is kept free is free");
        sent.check_live(&store, "nearly full");
        // What was taken is sealed all the same, into the space that is kept free.
        store.seal_now().expect("it seals");
        sent.check_live(&store, "sealed");
        house.disk.set_bytes_max(Some(house.disk.bytes() + 500_000));
        assert!(matches!(store.refusal(), Some(StoreError::DiskFull { free_bytes: 500_000, .. })), "{:?}", store.refusal());
        house.disk.set_bytes_max(None);
        assert!(store.refusal().is_none(), "there is room again: {:?}", store.refusal());
        sent.events(&store, 1, 10_000).await.expect("there is room again");
    });
    drop(store);
    house.disk.crash(3);
    sent.check_opened(&house.open(|_| ()), "opened again");
}

#[test]
fn a_full_disk_loses_nothing_and_the_store_goes_on_when_there_is_room() {
    let house = House::new();
    let mut sent = Sent::default();
    // No mark: the disk is filled to its last byte.
    let store = house.open(|options| options.free_bytes_min = 0);
    runtime().block_on(async {
        for full in 0..3 {
            house.disk.set_bytes_max(Some(house.disk.bytes() + 30_000));
            let mut refused = None;
            for _ in 0..12 {
                refused = sent.events(&store, 1, 7000).await.err().or(refused);
            }
            assert!(matches!(refused, Some(StoreError::LogFailed(_))), "{refused:?}");
            assert!(store.seal_now().is_err(), "there is no room for a segment");
            assert!(house.free_bytes() < 7500, "what was written in vain is still there");
            sent.check_live(&store, "full");
            house.disk.set_bytes_max(None);
            sent.events(&store, 1, 7000).await.expect("there is room again");
            assert!(store.refusal().is_none());
            if full == 1 {
                store.seal_now().expect("it seals");
            }
        }
    });
    drop(store);
    house.disk.crash(5);
    sent.check_opened(&house.open(|_| ()), "opened again");
}

/// Without any writer: who looks at the store's health before sending to it must see it mend.
#[test]
fn the_log_recovers_while_nobody_writes() {
    let house = House::new();
    let mut sent = Sent::default();
    let store = house.open(|_| ());
    runtime().block_on(async {
        house.disk.fail_syncs(true);
        sent.events(&store, 1, 0).await.expect_err("no sync works");
        assert!(matches!(store.refusal(), Some(StoreError::LogFailed(_))));
        house.disk.fail_syncs(false);
        while store.refusal().is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        sent.events(&store, 1, 0).await.expect("it recovered");
    });
    sent.check_live(&store, "recovered");
}

/// A seal that finds no room again and again leaves nothing behind.
#[test]
fn seals_that_fail_do_not_fill_the_disk() {
    let house = House::new();
    let mut sent = Sent::default();
    let store = house.open(|options| options.free_bytes_min = 0);
    runtime().block_on(async {
        sent.events(&store, 40, 2000).await.expect("it is stored");
        let before = house.disk.bytes();
        for room in [10, 200, 400, 600, 800, 1000] {
            house.disk.set_bytes_max(Some(before + room));
            let _ = store.seal_now().expect_err("there is no room");
            assert_eq!(house.disk.bytes(), before, "{room} bytes of room");
        }
        house.disk.set_bytes_max(None);
        store.seal_now().expect("it seals");
    });
    sent.check_live(&store, "sealed");
}

#[test]
fn several_projects_are_stored_together_or_not_at_all() {
    let house = House::new();
    let new = metastore::NewProject { name: "Q".to_owned(), timezone: "UTC".to_owned(), ..metastore::NewProject::default() };
    let (other, _) = house.metastore.create_project(&new, &metastore::By::console(model::Timestamp(0))).expect("a project is made");
    let store = house.open(|options| options.free_bytes_min = 0);
    let both = |first| [(PROJECT, vec![event(first, 5000)]), (other.id, vec![event(first + 1, 5000)])];
    runtime().block_on(async {
        store.append_all(both(1)).await.expect("it is stored");
        house.disk.set_bytes_max(Some(house.disk.bytes() + 7000));
        store.append_all(both(3)).await.expect_err("there is room for one of them");
        house.disk.set_bytes_max(None);
        store.append_all(both(5)).await.expect("there is room");
    });
    let found = |store: &Store, project| events(&store.snapshot(project).expect("it opened"), false);
    assert_eq!((found(&store, PROJECT), found(&store, other.id)), (vec![1, 5], vec![2, 6]));
    drop(store);
    house.disk.crash(1);
    let store = house.open(|_| ());
    assert_eq!((found(&store, PROJECT), found(&store, other.id)), (vec![1, 5], vec![2, 6]));
}
