//! What operations on a profile fold to equals a naive model that knows nothing of the real one (`contract/write.md` 1.3).

use std::collections::BTreeMap;

use model::profile::Folded;
use model::value::Properties;
use model::{Number, ProfileKey, ProfileOp, ProfileUpdate, Timestamp, Value};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

/// A value of the naive model.
#[derive(Debug, Clone, PartialEq)]
enum Plain {
    Number(i64),
    Text(&'static str),
    List(Vec<Plain>),
    Object(BTreeMap<&'static str, i64>),
}

type Values = BTreeMap<&'static str, Plain>;

#[derive(Debug, Clone)]
enum Op {
    Set(Values),
    SetOnce(Values),
    Add(Values),
    Append(Values),
    Remove(Values),
    Union(Values),
    Merge(Values),
    Unset(Vec<&'static str>),
    Delete,
}

/// The sentences of the contract, one by one.
fn naive(profile: &mut Option<Values>, op: &Op) {
    match op {
        Op::Delete => *profile = None,
        Op::Unset(names) => {
            if let Some(profile) = profile {
                profile.retain(|name, _| !names.contains(name));
            }
        }
        Op::Remove(values) => {
            for (name, value) in values {
                if let Some(Plain::List(list)) = profile.as_mut().and_then(|profile| profile.get_mut(name)) {
                    list.retain(|element| element != value);
                }
            }
        }
        Op::Set(values) => profile.get_or_insert_default().extend(values.clone()),
        Op::SetOnce(values) => {
            let profile = profile.get_or_insert_default();
            for (name, value) in values {
                profile.entry(name).or_insert_with(|| value.clone());
            }
        }
        Op::Add(values) => {
            let profile = profile.get_or_insert_default();
            for (name, value) in values {
                let Plain::Number(amount) = value else { continue };
                if let Plain::Number(stored) = profile.entry(name).or_insert(Plain::Number(0)) {
                    *stored += amount;
                }
            }
        }
        Op::Append(values) => {
            let profile = profile.get_or_insert_default();
            for (name, value) in values {
                if let Plain::List(list) = profile.entry(name).or_insert(Plain::List(Vec::new())) {
                    list.push(value.clone());
                }
            }
        }
        Op::Union(values) => {
            let profile = profile.get_or_insert_default();
            for (name, value) in values {
                let elements = if let Plain::List(elements) = value { elements.clone() } else { vec![value.clone()] };
                if let Plain::List(list) = profile.entry(name).or_insert(Plain::List(Vec::new())) {
                    for element in elements {
                        if !list.contains(&element) {
                            list.push(element);
                        }
                    }
                }
            }
        }
        Op::Merge(values) => {
            let profile = profile.get_or_insert_default();
            for (name, value) in values {
                let Plain::Object(incoming) = value else { continue };
                if let Plain::Object(stored) = profile.entry(name).or_insert(Plain::Object(BTreeMap::new())) {
                    stored.extend(incoming);
                }
            }
        }
    }
}

fn real(value: &Plain) -> Value {
    match value {
        Plain::Number(number) => Value::from(*number),
        Plain::Text(text) => Value::from(*text),
        Plain::List(list) => Value::List(list.iter().map(real).collect()),
        Plain::Object(object) => Value::Object(object.iter().map(|(name, number)| ((*name).to_owned(), Value::from(*number))).collect()),
    }
}

fn properties(values: &Values) -> Properties {
    values.iter().map(|(name, value)| ((*name).to_owned(), real(value))).collect()
}

fn real_op(op: &Op) -> ProfileOp {
    match op {
        Op::Set(values) => ProfileOp::Set(properties(values)),
        Op::SetOnce(values) => ProfileOp::SetOnce(properties(values)),
        Op::Add(values) => ProfileOp::Add(properties(values)),
        Op::Append(values) => ProfileOp::Append(properties(values)),
        Op::Remove(values) => ProfileOp::Remove(properties(values)),
        Op::Union(values) => ProfileOp::Union(properties(values)),
        Op::Merge(values) => ProfileOp::Merge(properties(values)),
        Op::Unset(names) => ProfileOp::Unset(names.iter().map(|name| (*name).to_owned()).collect()),
        Op::Delete => ProfileOp::Delete,
    }
}

/// Whether a stored value is one of the naive model; the order of an object's names does not count.
fn is(stored: &Value, plain: &Plain) -> bool {
    match (stored, plain) {
        (Value::Number(Number::Int(stored)), Plain::Number(number)) => stored == number,
        (Value::String(stored), Plain::Text(text)) => stored == text,
        (Value::List(stored), Plain::List(list)) => {
            stored.len() == list.len() && stored.iter().zip(list).all(|(stored, plain)| is(stored, plain))
        }
        (Value::Object(stored), Plain::Object(object)) => {
            stored.len() == object.len() && object.iter().all(|(name, number)| stored.get(*name) == Some(&Value::from(*number)))
        }
        _ => false,
    }
}

fn values() -> impl Strategy<Value = Values> {
    let scalar = || prop_oneof![(-2_i64..3).prop_map(Plain::Number), select(&["x", "y", ""][..]).prop_map(Plain::Text)];
    let object = btree_map(select(&["k", "l"][..]), -2_i64..3, 0..3).prop_map(Plain::Object);
    let value = prop_oneof![4 => scalar(), 2 => vec(scalar(), 0..4).prop_map(Plain::List), 1 => object];
    btree_map(select(&["a", "b", "c"][..]), value, 1..4)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => values().prop_map(Op::Set),
        2 => values().prop_map(Op::SetOnce),
        3 => values().prop_map(Op::Add),
        3 => values().prop_map(Op::Append),
        2 => values().prop_map(Op::Remove),
        3 => values().prop_map(Op::Union),
        2 => values().prop_map(Op::Merge),
        1 => vec(select(&["a", "b", "c"][..]), 1..3).prop_map(Op::Unset),
        1 => Just(Op::Delete),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn a_profile_is_what_a_naive_model_makes_of_its_operations(ops in vec((op(), any::<bool>()), 1..20)) {
        let (mut folded, mut expected) = (Folded::default(), None);
        for (op, authenticated) in &ops {
            folded.apply(&ProfileUpdate {
                key: ProfileKey::User("u".to_owned()),
                op: real_op(op),
                time: Timestamp(5),
                received_at: Timestamp(5),
                ignore_time: true,
                ignore_alias: false,
                dedup_id: None,
                authenticated: *authenticated,
            });
            naive(&mut expected, op);
            let stored = folded.profile.as_ref().map(|profile| &profile.properties);
            prop_assert_eq!(stored.is_some(), expected.is_some(), "after {:?}", op);
            if let (Some(stored), Some(expected)) = (stored, &expected) {
                let fits = stored.len() == expected.len()
                    && expected.iter().all(|(name, plain)| stored.get(*name).is_some_and(|stored| is(stored, plain)));
                prop_assert!(fits, "after {:?}: {:?} is not {:?}", op, stored, expected);
            }
        }
    }
}
