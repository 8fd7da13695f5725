//! Columns of lookup tables and properties of groups in reports: what a report counts is what a naive join of every event counts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use metastore::{By, LookupProperty, Metastore, NewGroupKey, NewLookupTable, NewProject, ReplacedBy};
use model::filter::{BinaryOp, Expr, Function, Scope};
use model::lookup::{Cell, LookupBuilder, LookupSource, LookupTable};
use model::report::{Aggregate, Breakdown, Buckets, Counting, Engage, PropertyValues, Series, Sort};
use model::value::Properties;
use model::{Event, ProfileKey, ProfileOp, ProfileUpdate, ProjectId, TimeRange, Timestamp, Value};
use proptest::prelude::*;
use query::Engine;
use store::{Store, StoreOptions};

const PROJECT: ProjectId = ProjectId(1);
const TABLE: &str = "00000000-0000-4000-8000-000000000001";

fn property(name: &str) -> Expr {
    Expr::Property(Scope::Properties, name.to_owned())
}

fn binary(op: BinaryOp, a: Expr, b: Expr) -> Expr {
    Expr::Binary(op, Box::new(a), Box::new(b))
}

fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

struct World {
    _dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    metastore: Arc<Metastore>,
    store: Store,
    engine: Engine,
}

impl World {
    fn new() -> Self {
        let dir = directory();
        let metastore = Arc::new(Metastore::open(dir.path(), &dir.path().join("key"), Timestamp(0)).unwrap());
        let new = NewProject { name: "P".to_owned(), timezone: "UTC".to_owned(), ..NewProject::default() };
        metastore.create_project(&new, &By::console(Timestamp(0))).unwrap();
        let source = |source, property: &str| LookupProperty { source, property: property.to_owned() };
        let table = NewLookupTable {
            name: "T".to_owned(),
            id: Some(TABLE.to_owned()),
            properties: vec![source(LookupSource::Event, "k"), source(LookupSource::Profile, "k")],
        };
        metastore.create_lookup_table(PROJECT, &table, &By::console(Timestamp(0))).unwrap();
        let store = Store::open(StoreOptions::new(dir.path().to_path_buf()), metastore.clone()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let engine = Engine::new(store.clone());
        Self { _dir: dir, runtime, metastore, store, engine }
    }

    fn put(&self, table: &LookupTable) {
        self.store.replace_lookup(PROJECT, TABLE, table, ReplacedBy::Member(&By::console(Timestamp(0)))).unwrap();
    }

    fn send(&self, events: Vec<Event>) {
        self.runtime.block_on(self.store.append(PROJECT, events)).unwrap();
    }

    fn buckets() -> Buckets {
        Buckets { starts_ms: vec![0], end_ms: 1_000_000, labels: vec![String::new()] }
    }

    fn series(&self, filter: Option<Expr>, on: Option<Expr>) -> BTreeMap<String, u64> {
        let report = Series {
            events: vec!["E".to_owned()],
            buckets: Self::buckets(),
            counting: Counting::General,
            filter,
            breakdown: on.map(|on| Breakdown { on, values: None, limit: 10_000, ranges_max: None }),
        };
        let answer = self.runtime.block_on(self.engine.series(PROJECT, &report)).unwrap();
        answer.series.into_iter().map(|(key, numbers)| (key, numbers[0] as u64)).collect()
    }

    fn count(&self, filter: Expr) -> u64 {
        self.series(Some(filter), None)["E"]
    }

    fn sum(&self, on: Expr) -> f64 {
        let report = Aggregate { event: "E".to_owned(), buckets: Self::buckets(), on, filter: None, average: false };
        self.runtime.block_on(self.engine.aggregate(PROJECT, &report)).unwrap().numbers[0].unwrap_or(0.0)
    }
}

fn event(number: usize, properties: Properties) -> Event {
    Event {
        name: "E".to_owned(),
        distinct_id: format!("u{}", number % 3),
        time: Timestamp(number as i64),
        insert_id: number.to_string(),
        received_at: Timestamp(5),
        authenticated: false,
        linking: None,
        properties,
    }
}

/// What a naive join has for one column of one event.
#[derive(Debug, Clone, PartialEq)]
enum Joined {
    Nothing,
    One(Cell),
    Many(Vec<Value>),
}

fn text(key: &Value) -> Option<String> {
    match key {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.as_f64().to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

type Rows = BTreeMap<String, [Cell; 3]>;

fn joined(rows: &Rows, key: Option<&Value>, column: usize) -> Joined {
    let one = |key: &Value| rows.get(&text(key)?).map(|cells| cells[column].clone()).filter(|cell| *cell != Cell::Undefined);
    match key {
        None => Joined::Nothing,
        Some(Value::List(keys)) => {
            let mut all = Vec::new();
            for cell in keys.iter().filter_map(one) {
                match cell {
                    Cell::Undefined => {}
                    Cell::Datetime(ms) => all.push(Value::String(model::profile::wall_time(Timestamp(ms)))),
                    Cell::Value(Value::List(values)) => all.extend(values),
                    Cell::Value(value) => all.push(value),
                }
            }
            if all.is_empty() { Joined::Nothing } else { Joined::Many(all) }
        }
        Some(key) => one(key).map_or(Joined::Nothing, Joined::One),
    }
}

fn spelled(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_f64().to_string(),
        Value::Bool(flag) => flag.to_string(),
        other => panic!("{other:?}"),
    }
}

fn spellings(joined: &Joined) -> Vec<String> {
    match joined {
        Joined::Nothing => vec!["undefined".to_owned()],
        Joined::One(Cell::Undefined) => unreachable!("it was filtered out"),
        Joined::One(Cell::Datetime(ms)) => vec![model::profile::wall_time(Timestamp(*ms))],
        Joined::One(Cell::Value(Value::List(list))) | Joined::Many(list) => list.iter().map(spelled).collect(),
        Joined::One(Cell::Value(value)) => vec![spelled(value)],
    }
}

fn cell() -> impl Strategy<Value = Cell> {
    prop_oneof![
        2 => Just(Cell::Undefined),
        4 => "[xyz]".prop_map(|text| Cell::Value(Value::from(text.as_str()))),
        3 => (-3..9_i64).prop_map(|int| Cell::Value(Value::from(int))),
        1 => Just(Cell::Value(Value::from(2.5))),
        1 => any::<bool>().prop_map(|flag| Cell::Value(Value::Bool(flag))),
        1 => (0..3_i64).prop_map(|day| Cell::Datetime(day * 86_400_000)),
        1 => proptest::collection::vec("[xyz]", 0..3).prop_map(|list| {
            Cell::Value(Value::List(list.iter().map(|text| Value::from(text.as_str())).collect()))
        }),
    ]
}

const KEYS: [&str; 8] = ["a", "b", "c", "1", "2.5", "true", "é", "7"];

fn rows() -> impl Strategy<Value = Rows> {
    proptest::collection::btree_map(proptest::sample::select(&KEYS[..]).prop_map(str::to_owned), [cell(), cell(), cell()], 0..8)
}

fn key() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        6 => proptest::sample::select(vec!["a", "b", "c", "é", "absent", "1"]).prop_map(Value::from),
        2 => proptest::sample::select(vec![1_i64, 7, 8]).prop_map(Value::from),
        1 => Just(Value::from(2.5)),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => Just(Value::Null),
    ];
    let list = proptest::collection::vec(scalar.clone(), 0..4).prop_map(Value::List);
    prop_oneof![8 => scalar, 2 => list]
}

fn table(rows: &Rows) -> LookupTable {
    let mut builder = LookupBuilder::new(["a", "b", "n"].into_iter());
    let spelled: BTreeMap<String, Cell> = rows.values().flatten().map(|cell| (format!("{cell:?}"), cell.clone())).collect();
    for (number, (key, cells)) in rows.iter().enumerate() {
        let fields: Vec<String> = cells.iter().map(|cell| format!("{cell:?}")).collect();
        builder.push(number as u32 + 1, key, fields.iter().map(String::as_str), |field| spelled[field].clone()).unwrap();
    }
    builder.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_report_over_lookup_columns_counts_what_a_naive_join_counts(
        rows in rows(),
        keys in proptest::collection::vec(proptest::option::weighted(0.9, key()), 1..60),
        sealed in any::<bool>(),
    ) {
        let world = World::new();
        world.put(&table(&rows));
        let events: Vec<Event> = keys
            .iter()
            .enumerate()
            .map(|(at, key)| event(at, key.iter().map(|key| ("k".to_owned(), key.clone())).collect()))
            .collect();
        let (first, second) = events.split_at(events.len() / 2);
        world.send(first.to_vec());
        if sealed {
            world.store.seal_now().unwrap();
        }
        if !second.is_empty() {
            world.send(second.to_vec());
        }
        let columns = |at: usize| keys.iter().map(|key| joined(&rows, key.as_ref(), at)).collect::<Vec<_>>();
        let (a, b, n) = (columns(0), columns(1), columns(2));
        // A breakdown.
        let mut expected = BTreeMap::new();
        for spelling in a.iter().flat_map(spellings) {
            *expected.entry(spelling).or_insert(0_u64) += 1;
        }
        prop_assert_eq!(world.series(None, Some(property("k.a"))), expected.clone());
        // The values, of which what is undefined is none.
        expected.remove("undefined");
        let report = PropertyValues { event: Some("E".to_owned()), name: "k.a".to_owned(), range: TimeRange::ALL, limit: 1000 };
        let values = world.runtime.block_on(world.engine.property_values(PROJECT, &report)).unwrap();
        prop_assert_eq!(values.ranked.into_iter().collect::<BTreeMap<_, _>>(), expected);
        // A filter over one column, of which every distinct key is looked up once.
        let x = || Expr::Literal(Value::from("x"));
        let is_x = |joined: &&Joined| **joined == Joined::One(Cell::Value(Value::from("x")));
        prop_assert_eq!(world.count(binary(BinaryOp::Equal, property("k.a"), x())), a.iter().filter(is_x).count() as u64);
        prop_assert_eq!(
            world.count(binary(BinaryOp::NotEqual, property("k.a"), x())),
            a.iter().filter(|joined| !is_x(joined)).count() as u64
        );
        // One over two columns of one key.
        let defined = |name: &str| Expr::Call(Function::Defined, vec![property(name)]);
        let both = Expr::And(Box::new(binary(BinaryOp::Equal, property("k.a"), property("k.b"))), Box::new(defined("k.a")));
        let same = a.iter().zip(&b).filter(|(a, b)| **a != Joined::Nothing && matches_both(a, b)).count() as u64;
        prop_assert_eq!(world.count(both), same);
        // A sum, to which only numbers add.
        let number = |joined: &Joined| match joined {
            Joined::One(Cell::Value(value)) => value.as_f64().unwrap_or(0.0),
            _ => 0.0,
        };
        prop_assert!((world.sum(property("k.n")) - n.iter().map(number).sum::<f64>()).abs() < 1e-9);
    }
}

/// Whether both columns are equal as expressions have it.
fn matches_both(a: &Joined, b: &Joined) -> bool {
    fn values(joined: &Joined) -> Option<Value> {
        match joined {
            Joined::Many(list) => Some(Value::List(list.clone())),
            Joined::One(Cell::Value(value)) => Some(value.clone()),
            _ => None,
        }
    }
    match (a, b) {
        (Joined::One(Cell::Datetime(a)), Joined::One(Cell::Datetime(b))) => a == b,
        // A text is an instant where it reads as one; none here does.
        _ => values(a).zip(values(b)).is_some_and(|(a, b)| a.same(&b)),
    }
}

fn text_table(column: &str, rows: &[(&str, &str)]) -> LookupTable {
    let mut builder = LookupBuilder::new([column].into_iter());
    for (number, (key, field)) in rows.iter().enumerate() {
        builder.push(number as u32 + 1, key, [*field].into_iter(), |field| Cell::Value(Value::from(field))).unwrap();
    }
    builder.finish()
}

fn with(pairs: &[(&str, Value)]) -> Properties {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// Whoever asks while contents are replaced gets one of them whole, in `where` and `on` alike.
#[test]
fn a_query_sees_one_content_whole() {
    let world = World::new();
    let content = |word: &str| text_table("a", &[("1", word), ("2", word), ("3", word)]);
    world.put(&content("old"));
    world.send((0..30).map(|at| event(at, with(&[("k", Value::from(at as i64 % 3 + 1))]))).collect());
    let stop = std::sync::atomic::AtomicBool::new(false);
    let stopped = || stop.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..60 {
                world.put(&content(if round % 2 == 0 { "new" } else { "old" }));
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !stopped() {
            let defined = Expr::Call(Function::Defined, vec![property("k.a")]);
            let filter = Expr::And(
                Box::new(defined),
                Box::new(binary(
                    BinaryOp::In,
                    property("k.a"),
                    Expr::List(vec![Expr::Literal(Value::from("old")), Expr::Literal(Value::from("new"))]),
                )),
            );
            let counted = world.series(Some(filter), Some(property("k.a")));
            assert!(counted.len() == 1 && counted.values().all(|count| *count == 30), "{counted:?}");
        }
    });
    assert_eq!(world.metastore.lookup_tables(PROJECT).unwrap()[0].content.as_ref().unwrap().rows, 3);
}

#[test]
fn what_a_table_had_goes_once_nobody_reads_it() {
    let world = World::new();
    let files = || std::fs::read_dir(world._dir.path().join("lookup-tables")).unwrap().count();
    world.put(&text_table("a", &[("1", "old")]));
    let pinned = world.store.snapshot(PROJECT).unwrap();
    world.put(&text_table("a", &[("1", "new")]));
    assert_eq!(files(), 2);
    let read = |snapshot: &store::Snapshot| {
        let found = snapshot.lookup(LookupSource::Event, "k.a").unwrap().unwrap();
        found.table.cell(found.table.find("1").unwrap(), found.column).clone()
    };
    assert_eq!(read(&pinned), Cell::Value(Value::from("old")));
    drop(pinned);
    assert_eq!(files(), 1);
    assert_eq!(read(&world.store.snapshot(PROJECT).unwrap()), Cell::Value(Value::from("new")));
    world.metastore.delete_lookup_table(PROJECT, TABLE, &By::console(Timestamp(0))).unwrap();
    world.store.follow_joins(PROJECT).unwrap();
    assert_eq!(files(), 0);
    assert!(world.store.snapshot(PROJECT).unwrap().lookup(LookupSource::Event, "k.a").unwrap().is_none());
}

fn set(key: ProfileKey, properties: Properties) -> ProfileUpdate {
    let op = ProfileOp::Set(properties);
    ProfileUpdate {
        key,
        op,
        time: Timestamp(5),
        received_at: Timestamp(5),
        ignore_time: true,
        ignore_alias: false,
        dedup_id: None,
        authenticated: false,
    }
}

#[test]
fn profiles_lead_to_tables_and_groups() {
    let world = World::new();
    world.put(&text_table("a", &[("1", "one"), ("2", "two")]));
    let by = By::console(Timestamp(0));
    for key in ["company", "team"] {
        world.metastore.add_group_key(PROJECT, &NewGroupKey { key, ..NewGroupKey::default() }, &by).unwrap();
    }
    world.store.follow_joins(PROJECT).unwrap();
    let user = |id: &str| ProfileKey::User(id.to_owned());
    let group = |key: &str, id: &str| ProfileKey::Group { key: key.to_owned(), id: id.to_owned() };
    let updates = vec![
        set(user("u0"), with(&[("k", Value::from(2)), ("company", Value::from("acme"))])),
        set(user("u1"), with(&[("k", Value::from("1")), ("company", Value::List(vec![Value::from("42"), Value::from("acme")]))])),
        set(group("company", "acme"), with(&[("plan", Value::from("pro")), ("seats", Value::from(5))])),
        set(group("company", "42"), with(&[("plan", Value::from("free"))])),
        set(group("team", "red"), with(&[("plan", Value::from("team")), ("lead", Value::from("ann"))])),
    ];
    world.runtime.block_on(world.store.append_profiles(PROJECT, updates)).unwrap();
    let events = [
        with(&[("company", Value::from("acme"))]),
        with(&[("company", Value::from(42))]),
        with(&[("company", Value::List(vec![Value::from("acme"), Value::from(42), Value::from("nobody")]))]),
        with(&[("team", Value::from("red"))]),
        with(&[("company", Value::from("acme")), ("team", Value::from("red"))]),
        with(&[]),
    ];
    world.send(events.into_iter().enumerate().map(|(at, properties)| event(at, properties)).collect());
    let of_group = |name: &str| Expr::Property(Scope::Group, name.to_owned());
    let counted = |pairs: &[(&str, u64)]| pairs.iter().map(|(key, count)| ((*key).to_owned(), *count)).collect::<BTreeMap<_, _>>();
    // The key that was declared first goes first; an event of several groups counts for each.
    assert_eq!(world.series(None, Some(of_group("plan"))), counted(&[("pro", 3), ("free", 2), ("team", 1), ("undefined", 1)]));
    assert_eq!(world.series(None, Some(of_group("lead"))), counted(&[("ann", 2), ("undefined", 4)]));
    assert_eq!(world.count(binary(BinaryOp::Equal, of_group("plan"), Expr::Literal(Value::from("pro")))), 2);
    assert_eq!(world.count(binary(BinaryOp::In, Expr::Literal(Value::from("pro")), of_group("plan"))), 3);
    assert_eq!(world.sum(of_group("seats")), 10.0);
    // The profile of the event's user leads further: u0 has three of the events, u1 two, u2 one and no profile.
    assert_eq!(
        world.series(None, Some(Expr::Property(Scope::User, "k.a".to_owned()))),
        counted(&[("two", 2), ("one", 2), ("undefined", 2)])
    );
    let engage = |filter: Option<Expr>, sort: Option<Expr>, group_key: Option<&str>| {
        let report = Engage {
            filter,
            distinct_ids: None,
            output_properties: None,
            group_key: group_key.map(str::to_owned),
            session_id: None,
            page: 0,
            page_size: 10,
            sort: sort.map(|by| Sort { by, descending: false }),
            search: None,
        };
        let answer = world.runtime.block_on(world.engine.profiles(PROJECT, &report, "s".to_owned(), Timestamp(9))).unwrap();
        answer.rows.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    let is = |expr: Expr, text: &str| Some(binary(BinaryOp::Equal, expr, Expr::Literal(Value::from(text))));
    assert_eq!(engage(is(property("k.a"), "two"), None, None), ["u0"]);
    assert_eq!(engage(None, Some(property("k.a")), None), ["u1", "u0"]);
    assert_eq!(engage(is(of_group("plan"), "pro"), None, None), ["u0"]);
    assert_eq!(engage(is(property("plan"), "pro"), None, Some("company")), ["acme"]);
    assert_eq!(engage(is(of_group("plan"), "pro"), None, Some("company")), ["acme"]);
}
