//! The lexicon counts what was stored: whatever is packed, sealed, compacted or replayed meanwhile, its counts are those of a naive model.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{PROJECT, directory, metastore, options};
use model::value::Properties;
use model::{Event, NameKind, Number, ProfileKey, ProfileOp, ProfileUpdate, Seen, Timestamp, Value, ValueTypes};
use proptest::prelude::*;
use store::Store;
use store::disk::RealDisk;

type Model = BTreeMap<(NameKind, String), Seen>;

#[derive(Debug, Clone)]
enum Step {
    Events(Vec<(u8, Properties)>),
    Updates(Vec<(u8, Properties)>),
    Pack,
    Seal,
    Compact,
    /// Ends without sealing, as a crash does, and opens again.
    Crash,
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[a-c]{0,2}".prop_map(Value::String),
        (-3_i64..3).prop_map(Value::from),
        Just(Value::from(1.5)),
        Just(Value::Number(Number::parse("1e400"))),
        any::<bool>().prop_map(Value::Bool),
        Just(Value::Null),
        Just(Value::List(vec![Value::from(1)])),
        Just(Value::Object(Properties::from_iter([("x".to_owned(), Value::Null)]))),
    ]
}

fn properties() -> impl Strategy<Value = Properties> {
    proptest::collection::vec((0..6_u8, value()), 0..5)
        .prop_map(|pairs| pairs.into_iter().map(|(name, value)| (format!("p{name}"), value)).collect())
}

fn step() -> impl Strategy<Value = Step> {
    let some = || proptest::collection::vec((0..4_u8, properties()), 1..6);
    prop_oneof![
        4 => some().prop_map(Step::Events),
        2 => some().prop_map(Step::Updates),
        1 => Just(Step::Pack),
        1 => Just(Step::Seal),
        1 => Just(Step::Compact),
        1 => Just(Step::Crash),
    ]
}

fn event(name: u8, at: i64, properties: Properties) -> Event {
    Event {
        name: format!("e{name}"),
        distinct_id: "u".to_owned(),
        time: Timestamp(1_577_836_800_000),
        // Every second one is a duplicate: it is stored, and counts.
        insert_id: (at / 2).to_string(),
        received_at: Timestamp(at),
        linking: None,
        authenticated: false,
        properties,
    }
}

fn update(op: u8, at: i64, properties: Properties) -> ProfileUpdate {
    let op = match op {
        0 => ProfileOp::Set(properties),
        1 => ProfileOp::Append(properties),
        2 => ProfileOp::Add(properties),
        _ => ProfileOp::Unset(properties.into_keys().collect()),
    };
    let (time, received_at) = (Timestamp(at), Timestamp(at));
    let key = ProfileKey::User("u".to_owned());
    ProfileUpdate { key, op, time, received_at, ignore_time: false, dedup_id: None, authenticated: true, ignore_alias: false }
}

fn note(model: &mut Model, kind: NameKind, name: &str, types: ValueTypes, at: i64) {
    let seen = Seen::new(types, Timestamp(at), 1);
    model.entry((kind, name.to_owned())).and_modify(|known| known.add(seen)).or_insert(seen);
}

fn check(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let dir = directory();
    let metastore = metastore(dir.path());
    let open = || Store::open(options(dir.path(), Arc::new(RealDisk)), metastore.clone()).expect("it opens");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut store = open();
    let (mut model, mut at) = (Model::new(), 0);
    for step in steps {
        match step {
            Step::Events(events) => {
                let mut made = Vec::new();
                for (name, properties) in events {
                    at += 1;
                    note(&mut model, NameKind::Event, &format!("e{name}"), ValueTypes::default(), at);
                    properties.iter().for_each(|(name, value)| note(&mut model, NameKind::EventProperty, name, ValueTypes::of(value), at));
                    made.push(event(name, at, properties));
                }
                runtime.block_on(store.append(PROJECT, made)).expect("it is stored");
            }
            Step::Updates(updates) => {
                let mut made = Vec::new();
                for (op, properties) in updates {
                    at += 1;
                    for (name, value) in properties.iter().filter(|_| op < 3) {
                        let types = [ValueTypes::of(value), ValueTypes::LIST, ValueTypes::NUMBER][usize::from(op)];
                        note(&mut model, NameKind::ProfileProperty, name, types, at);
                    }
                    made.push(update(op, at, properties));
                }
                runtime.block_on(store.append_profiles(PROJECT, made)).expect("it is stored");
            }
            Step::Pack => store.pack_now().expect("it packs"),
            Step::Seal => store.seal_now().expect("it seals"),
            Step::Compact => store.compact_now().expect("it compacts"),
            Step::Crash => {
                drop(store);
                store = open();
            }
        }
        let counted: Model = store
            .lexicon(PROJECT)
            .expect("it reads")
            .into_iter()
            .map(|entry| ((entry.kind, entry.name), entry.seen.expect("it was seen")))
            .collect();
        prop_assert_eq!(&counted, &model);
    }
    store.seal_now().expect("it seals");
    // What a stopped server leaves behind is all of it.
    let left = metastore.lexicon(PROJECT).expect("it reads").0;
    prop_assert_eq!(left.into_iter().map(|entry| ((entry.kind, entry.name), entry.seen.expect("it was seen"))).collect::<Model>(), model);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_lexicon_counts_what_was_stored(steps in proptest::collection::vec(step(), 1..14)) {
        check(steps)?;
    }
}

/// Columns are for the most frequent properties only; the others are counted all the same.
#[test]
fn properties_without_a_column_of_their_own_are_counted() {
    let wide = (0..700).map(|at| (format!("p{at}"), Value::from(at))).collect::<Properties>();
    check(vec![Step::Events(vec![(0, wide.clone()), (1, wide)]), Step::Pack, Step::Events(vec![(0, Properties::default())]), Step::Seal])
        .unwrap();
}

/// While seals run, a list of names neither misses nor repeats what is sealed meanwhile.
#[test]
fn a_polling_reader_sees_every_count_grow() {
    let dir = directory();
    let store = Store::open(options(dir.path(), Arc::new(RealDisk)), metastore(dir.path())).expect("it opens");
    let (sent, stored) = (std::sync::atomic::AtomicU64::new(0), std::sync::atomic::AtomicU64::new(0));
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            for number in 0..300 {
                sent.store(number + 1, order);
                runtime.block_on(store.append(PROJECT, vec![event(0, number as i64, Properties::default())])).expect("it is stored");
                stored.store(number + 1, order);
            }
            is_over.store(true, order);
        });
        scope.spawn(|| {
            while !is_over.load(order) {
                store.pack_now().expect("it packs");
                store.seal_now().expect("it seals");
            }
        });
        while !is_over.load(order) {
            let least = stored.load(order);
            let count = store.lexicon(PROJECT).expect("it reads").first().and_then(|entry| entry.seen).map_or(0, |seen| seen.count);
            let most = sent.load(order);
            assert!((least..=most).contains(&count), "{least} <= {count} <= {most}");
        }
    });
}
