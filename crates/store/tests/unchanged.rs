//! What was appended comes back unchanged through the tail, a seal and a compaction: every type of value, numbers beyond the machine's,
//! properties that spill, and properties whose type changes.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{PROJECT, directory, event, metastore, options};
use model::value::Properties;
use model::{Event, Number, TimeRange, Value};
use proptest::collection::vec;
use proptest::prelude::*;
use store::disk::RealDisk;
use store::{ScanRequest, Snapshot, Store, Wanted};

fn value() -> impl Strategy<Value = Value> {
    let plain = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        proptest::num::f64::NORMAL.prop_map(|float| Value::Number(Number::parse(&format!("{float:?}")))),
        "-?[1-9][0-9]{0,40}".prop_map(|text| Value::Number(Number::parse(&text))),
        "[a-c]{0,3}|é😀".prop_map(Value::String),
    ];
    plain.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::List),
            vec(("[a-c]", inner), 0..3).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn sorted(properties: &Properties) -> BTreeMap<String, Value> {
    properties.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

type Found = BTreeMap<String, (String, i64, String, BTreeMap<String, Value>)>;

fn found(snapshot: &Snapshot) -> Found {
    let mut found = BTreeMap::new();
    let request = ScanRequest { events: None, range: TimeRange::ALL, properties: Wanted::All, ids: true, dedup: false };
    let scanned = snapshot.scan(&request, |batch| {
        for row in 0..batch.len() {
            let mut properties = BTreeMap::new();
            batch.each_property(row, &mut |name, value| {
                assert!(properties.insert(name.to_owned(), Value::from(value)).is_none(), "a property stands there twice");
            });
            let row = (batch.event().to_string(), batch.times()[row], batch.distinct_id(row).to_owned(), properties);
            assert!(found.insert(batch_id(batch, &row), row).is_none(), "a row stands there twice");
        }
        true
    });
    scanned.expect("it reads");
    found
}

fn batch_id(batch: &store::Batch, row: &(String, i64, String, BTreeMap<String, Value>)) -> String {
    let at = (0..batch.len()).find(|at| batch.times()[*at] == row.1).expect("times differ");
    batch.insert_id(at).to_owned()
}

fn expected(events: &[Event]) -> Found {
    let row = |event: &Event| (event.name.clone(), event.time.0, event.distinct_id.clone(), sorted(&event.properties));
    events.iter().map(|event| (event.insert_id.clone(), row(event))).collect()
}

fn check(events: Vec<Event>) {
    let dir = directory();
    let store = Store::open(options(dir.path(), Arc::new(RealDisk)), metastore(dir.path())).expect("it opens");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let expected = expected(&events);
    for part in 0..8 {
        let part = events.iter().skip(part).step_by(8).cloned().collect();
        runtime.block_on(store.append(PROJECT, part)).expect("it is stored");
        store.seal_now().expect("it seals");
    }
    assert_eq!(found(&store.snapshot(PROJECT).expect("it opened")), expected, "sealed");
    store.compact_now().expect("it compacts");
    assert_eq!(store.stats().segments, 1, "eight segments became one");
    assert_eq!(found(&store.snapshot(PROJECT).expect("it opened")), expected, "compacted");
    drop(store);
    let store = Store::open(options(dir.path(), Arc::new(RealDisk)), Arc::new(reopened(dir.path()))).expect("it opens again");
    runtime.block_on(store.append(PROJECT, vec![event(1_000_000, 3)])).expect("it is stored");
    let mut all = expected;
    all.extend(self::expected(&[event(1_000_000, 3)]));
    assert_eq!(found(&store.snapshot(PROJECT).expect("it opened")), all, "opened again, with a tail");
}

fn reopened(dir: &std::path::Path) -> metastore::Metastore {
    metastore::Metastore::open(dir, &dir.join("key"), model::Timestamp(0)).expect("it opens again")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_value_comes_back(all in vec(vec(("[a-f]", value()), 0..6), 8..40)) {
        let events = all.into_iter().enumerate().map(|(number, properties)| {
            let mut event = event(number as u32, 0);
            event.properties = properties.into_iter().collect();
            event
        });
        check(events.collect());
    }
}

#[test]
fn properties_beyond_the_columns_spill_and_come_back() {
    let events = (0..1600_u32).map(|number| {
        let mut event = event(number, 1);
        event.properties.insert(format!("rare {number}"), Value::from(i64::from(number)));
        event.properties.insert("common".to_owned(), Value::from("yes"));
        event
    });
    check(events.collect());
}
