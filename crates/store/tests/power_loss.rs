//! The store loses power at every operation that it asks of its disk, and survives in many ways each time. Afterwards every acknowledged
//! event and profile change is there exactly once, profile changes in order, and nothing is there that was not sent.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::{PROJECT, appended, directory, event, events, metastore, options, update};
use metastore::Metastore;
use store::Store;
use store::disk::SimulatedDisk;

const OPERATIONS_MIN: u64 = 300;
const SURVIVALS: u64 = 20;

#[derive(Default)]
struct Sent {
    next: u32,
    events: BTreeSet<u32>,
    events_acknowledged: BTreeSet<u32>,
    updates: Vec<u32>,
    updates_acknowledged: Vec<u32>,
}

impl Sent {
    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    async fn send_events(&mut self, store: &Store, count: usize, filler_bytes: usize) {
        let numbers: Vec<u32> = (0..count).map(|_| self.number()).collect();
        self.events.extend(&numbers);
        let outcome = store.append(PROJECT, numbers.iter().map(|number| event(*number, filler_bytes)).collect()).await;
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

    /// Appends of several sizes, seals, compactions and a restart. What fails, fails because the power is gone.
    fn run(&mut self, open: &dyn Fn() -> Option<Store>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        for life in 0..2 {
            let Some(store) = open() else { return };
            runtime.block_on(async {
                for round in 0..13 {
                    self.send_events(&store, 1, 0).await;
                    self.send_events(&store, 3, 2000).await;
                    self.send_updates(&store, 2).await;
                    self.send_events(&store, 2, 5000 * (round % 3)).await;
                    let _ = store.pack_now();
                    let _ = store.seal_now();
                    self.send_events(&store, 1, 10).await;
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
        let list = appended(&snapshot);
        let lost: Vec<_> = self.updates_acknowledged.iter().filter(|number| !list.contains(number)).collect();
        assert!(lost.is_empty(), "{case}: acknowledged profile changes are lost: {lost:?}");
        assert!(list.windows(2).all(|pair| pair[0] < pair[1]), "{case}: profile changes are out of order or twice: {list:?}");
        assert!(list.iter().all(|number| self.updates.contains(number)), "{case}: a profile change was invented");
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
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let store = Store::open(options(dir.path(), Arc::new(disk.clone())), metastore.clone()).expect("it opens");
    runtime.block_on(async {
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
