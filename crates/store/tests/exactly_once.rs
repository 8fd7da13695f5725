//! While pack, seal and compact run in loops, a reader that polls never sees counts dip or jump; duplicates count once, and the newest
//! authenticated row wins.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use common::{PROJECT, appended, directory, event, events, metastore, options, update};
use model::value::ValueRef;
use model::{ProjectId, TimeRange, Value};
use store::disk::RealDisk;
use store::{ScanRequest, Store, Wanted};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

#[test]
fn a_polling_reader_sees_every_acknowledged_event_once() {
    let dir = directory();
    let store = Store::open(options(dir.path(), Arc::new(RealDisk)), metastore(dir.path())).expect("it opens");
    let (sent, acknowledged, over) = (AtomicU32::new(0), AtomicU32::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            runtime().block_on(async {
                for number in 0..600 {
                    sent.store(number + 1, Ordering::SeqCst);
                    store.append(PROJECT, vec![event(number, 100)]).await.expect("it is stored");
                    store.append_profiles(PROJECT, vec![update(number)]).await.expect("it is stored");
                    acknowledged.store(number + 1, Ordering::SeqCst);
                }
            });
            over.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                store.seal_now().expect("it seals");
                store.compact_now().expect("it compacts");
            }
        });
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                store.pack_now().expect("it packs");
            }
        });
        let mut polls = 0;
        while !over.load(Ordering::SeqCst) {
            let least = acknowledged.load(Ordering::SeqCst);
            let snapshot = store.snapshot(PROJECT).expect("it opened");
            let most = sent.load(Ordering::SeqCst);
            for found in [events(&snapshot, false), events(&snapshot, true), appended(&snapshot)] {
                assert_eq!(found, (0..found.len() as u32).collect::<Vec<_>>(), "each once, without a gap");
                assert!((least..=most).contains(&(found.len() as u32)), "{least} <= {} <= {most}", found.len());
            }
            polls += 1;
        }
        assert!(polls > 3, "the reader polled");
    });
    drop(store);
}

/// What is packed while a seal begins reaches beyond the records that the seal was asked for.
#[test]
fn many_writers_of_several_projects_lose_nothing() {
    const WRITERS: u32 = 8;
    const EACH: u32 = 400;
    let (dir, running) = (directory(), AtomicU32::new(WRITERS + 1));
    let metastore = metastore(dir.path());
    let mut options = options(dir.path(), Arc::new(RealDisk));
    // A seal takes many pieces, and packing goes on between them.
    options.seal_rows_max = 20;
    let store = Store::open(options.clone(), metastore.clone()).expect("it opens");
    let project = |writer: u32| ProjectId(1 + i64::from(writer % 3));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (store, running) = (&store, &running);
            scope.spawn(move || {
                for number in 0..EACH {
                    let number = writer * EACH + number;
                    runtime().block_on(store.append(project(writer), vec![event(number, 10)])).expect("it is stored");
                }
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        scope.spawn(|| {
            for number in 0..EACH {
                runtime().block_on(store.append_profiles(PROJECT, vec![update(number)])).expect("it is stored");
            }
            running.fetch_sub(1, Ordering::SeqCst);
        });
        for work in [Store::seal_now, Store::pack_now, Store::compact_now] {
            let (store, running) = (&store, &running);
            scope.spawn(move || {
                while running.load(Ordering::SeqCst) > 0 {
                    work(store).expect("it works");
                }
            });
        }
    });
    let check = |store: &Store| {
        let mut all: Vec<u32> = (0..3).flat_map(|id| events(&store.snapshot(project(id)).expect("it opened"), false)).collect();
        all.sort_unstable();
        assert_eq!(all.len() as u32, WRITERS * EACH, "every event is there");
        assert_eq!(all, (0..WRITERS * EACH).collect::<Vec<_>>(), "each once");
        assert_eq!(appended(&store.snapshot(PROJECT).expect("it opened")), (0..EACH).collect::<Vec<_>>());
    };
    check(&store);
    drop(store);
    check(&Store::open(options, metastore).expect("it opens again"));
}

#[test]
fn a_snapshot_outlives_the_compaction_of_its_files() {
    let dir = directory();
    let store = Store::open(options(dir.path(), Arc::new(RealDisk)), metastore(dir.path())).expect("it opens");
    runtime().block_on(async {
        for number in 0..8 {
            store.append(PROJECT, vec![event(number, 0)]).await.expect("it is stored");
            store.seal_now().expect("it seals");
        }
    });
    let before = store.snapshot(PROJECT).expect("it opened");
    store.compact_now().expect("it compacts");
    assert_eq!(store.stats().segments, 1);
    assert_eq!(events(&before, false).len(), 8);
    drop(before);
    let files = std::fs::read_dir(dir.path().join("segments")).expect("the folder is there").count();
    assert_eq!(files, 2, "one segment and its keys");
}

#[test]
fn a_duplicate_counts_once_and_the_newest_authenticated_row_wins() {
    // Authenticated or not, of three rows with one key, and which of them counts.
    let cases = [([false, false, false], 2), ([true, false, false], 0), ([true, true, false], 1), ([false, true, false], 1)];
    // Sealed in between, packed in between, or neither.
    for steps in 0..27 {
        for (authenticated, winner) in cases {
            let dir = directory();
            let mut options = options(dir.path(), Arc::new(RealDisk));
            options.pack_rows_min = 1;
            let store = Store::open(options, metastore(dir.path())).expect("it opens");
            for (index, authenticated) in authenticated.into_iter().enumerate() {
                let mut row = event(1, 0);
                row.authenticated = authenticated;
                row.properties.insert("row".to_owned(), Value::from(index as i64));
                runtime().block_on(store.append(PROJECT, vec![row])).expect("it is stored");
                match steps / 3_i32.pow(index as u32) % 3 {
                    0 => {}
                    1 => store.pack_now().expect("it packs"),
                    _ => store.seal_now().expect("it seals"),
                }
            }
            let snapshot = store.snapshot(PROJECT).expect("it opened");
            assert_eq!(events(&snapshot, false).len(), 3, "an export has them all");
            let mut rows = Vec::new();
            let properties = Wanted::Named(vec!["row".to_owned()]);
            let request = ScanRequest { events: None, range: TimeRange::ALL, properties, ids: false, dedup: true };
            let scanned = snapshot.scan(&request, |batch| {
                rows.extend((0..batch.len()).map(|row| match batch.columns()[0].value(row) {
                    Some(ValueRef::Int(row)) => row,
                    _ => -1,
                }));
                true
            });
            scanned.expect("it reads");
            assert_eq!(rows, [winner], "steps {steps}, authenticated {authenticated:?}");
        }
    }
}
