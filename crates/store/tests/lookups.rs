//! Contents of lookup tables where the power goes: a table has what was acknowledged last, whole, whenever it went.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{PROJECT, directory, metastore, options};
use metastore::{By, LookupProperty, Metastore, NewLookupTable, ReplacedBy};
use model::lookup::{Cell, LookupBuilder, LookupSource, LookupTable};
use model::{Timestamp, Value};
use store::Store;
use store::disk::SimulatedDisk;

const TABLE: &str = "00000000-0000-4000-8000-000000000001";
const SURVIVALS: u64 = 20;

fn content(number: i64) -> LookupTable {
    let mut builder = LookupBuilder::new(["number"].into_iter());
    for row in 1..50 {
        let typed = |_: &str| Cell::Value(Value::from(number));
        builder.push(row, &format!("{number} {row}"), [""].into_iter(), typed).expect("keys differ");
    }
    builder.finish()
}

/// The number of the content that the table has.
fn found(store: &Store) -> Option<i64> {
    let snapshot = store.snapshot(PROJECT).expect("it opened");
    let found = snapshot.lookup(LookupSource::Event, "k.number").expect("a live content reads")?;
    let Cell::Value(value) = found.table.cell(0, found.column) else { panic!("it is a number") };
    let number = value.as_f64().expect("it is a number") as i64;
    assert_eq!(*found.table, content(number), "it is whole");
    Some(number)
}

/// Replaces over two lives; returns the last content that was acknowledged.
fn run(disk: &SimulatedDisk, metastore: &Arc<Metastore>, dir: &Path) -> Option<i64> {
    let by = By::console(Timestamp(0));
    let mut acknowledged = None;
    for life in 0..2 {
        let Ok(store) = Store::open(options(dir, Arc::new(disk.clone())), metastore.clone()) else { break };
        for round in 0..4 {
            let number = life * 4 + round;
            if store.replace_lookup(PROJECT, TABLE, &content(number), ReplacedBy::Member(&by)).is_ok() {
                acknowledged = Some(number);
                // The power may have gone with the file of what was there before.
                assert!(disk.is_cut() || found(&store) == acknowledged, "what is acknowledged is there");
            }
        }
    }
    acknowledged
}

fn case(cut_at: Option<u64>) -> u64 {
    let dir = directory();
    let metastore = metastore(dir.path());
    let properties = vec![LookupProperty { source: LookupSource::Event, property: "k".to_owned() }];
    let new = NewLookupTable { name: "T".to_owned(), id: Some(TABLE.to_owned()), properties };
    metastore.create_lookup_table(PROJECT, &new, &By::console(Timestamp(0))).expect("a table is made");
    let disk = SimulatedDisk::new();
    if let Some(operation) = cut_at {
        disk.cut_at(operation);
    }
    let acknowledged = run(&disk, &metastore, dir.path());
    let operations = disk.operations();
    assert_eq!(disk.is_cut(), cut_at.is_some(), "the script is as long as it was");
    for seed in 0..SURVIVALS {
        let survivor = disk.fork();
        survivor.crash(cut_at.unwrap_or(operations) * SURVIVALS + seed);
        let store = Store::open(options(dir.path(), Arc::new(survivor)), metastore.clone());
        let store = store.unwrap_or_else(|error| panic!("operation {cut_at:?}, survival {seed}: {error}"));
        assert_eq!(found(&store), acknowledged, "operation {cut_at:?}, survival {seed}");
    }
    operations
}

#[test]
fn a_table_has_what_was_acknowledged_last_wherever_the_power_goes() {
    let operations = case(None);
    assert!(operations > 40, "the script has only {operations} operations");
    (0..operations).for_each(|operation| {
        case(Some(operation));
    });
}

#[test]
fn a_damaged_file_is_told_and_answers_nothing() {
    let (dir, disk) = (directory(), SimulatedDisk::new());
    let metastore = metastore(dir.path());
    let properties = vec![LookupProperty { source: LookupSource::Event, property: "k".to_owned() }];
    let new = NewLookupTable { name: "T".to_owned(), id: Some(TABLE.to_owned()), properties };
    metastore.create_lookup_table(PROJECT, &new, &By::console(Timestamp(0))).expect("a table is made");
    run(&disk, &metastore, dir.path());
    let name = metastore.lookup_tables(PROJECT).expect("it reads").remove(0).content.expect("it has one");
    disk.corrupt(&dir.path().join(store::lookup_file(&name)), 20).expect("it is there");
    let store = Store::open(options(dir.path(), Arc::new(disk.clone())), metastore.clone()).expect("events are none the worse");
    let snapshot = store.snapshot(PROJECT).expect("it opened");
    let error = snapshot.lookup(LookupSource::Event, "k.number").err().expect("it is damaged");
    assert!(error.to_string().contains("checksum"), "{error}");
}
