//! Profiles through seals and compactions are what their operations fold to, one by one.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{PROJECT, directory, metastore, options};
use model::profile::Folded;
use model::value::Properties;
use model::{Profile, ProfileKey, ProfileOp, ProfileUpdate, Timestamp, Value};
use store::disk::RealDisk;
use store::{ProfileKind, Store};

fn update(number: u32, draw: u32) -> ProfileUpdate {
    let key = match draw % 5 {
        0 => ProfileKey::Group { key: "company".to_owned(), id: format!("g{}", draw / 5 % 40) },
        _ => ProfileKey::User(format!("u{}", draw / 5 % 2000)),
    };
    let properties = |value: Value| Properties::from_iter([(format!("p{}", draw % 7), value)]);
    let op = match draw / 7 % 10 {
        0 => ProfileOp::Delete,
        1 => ProfileOp::Unset(vec![format!("p{}", draw % 7)]),
        2 => ProfileOp::Add(properties(Value::from(i64::from(number)))),
        3 => ProfileOp::Append(properties(Value::from(i64::from(number)))),
        _ => ProfileOp::Set(properties(Value::String(format!("{number} {}", "x".repeat(draw as usize % 300))))),
    };
    // Some operations come twice.
    let dedup_id = draw.is_multiple_of(3).then(|| (number / 2).to_string());
    let (time, ignore_time) = (Timestamp(i64::from(number)), draw.is_multiple_of(2));
    ProfileUpdate { key, op, time, received_at: time, ignore_time, ignore_alias: false, dedup_id, authenticated: false }
}

#[test]
fn profiles_are_what_their_operations_fold_to() {
    let dir = directory();
    let store = Store::open(options(dir.path(), Arc::new(RealDisk)), metastore(dir.path())).expect("it opens");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut expected: BTreeMap<ProfileKey, (Folded, Vec<String>)> = BTreeMap::new();
    let (mut number, mut draw) = (0, 1_u32);
    for round in 0..80 {
        let updates: Vec<ProfileUpdate> = (0..150)
            .map(|_| {
                number += 1;
                draw = draw.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                update(number, draw >> 4)
            })
            .collect();
        for update in &updates {
            let (folded, seen) = expected.entry(update.key.clone()).or_default();
            if let Some(id) = &update.dedup_id {
                if seen.contains(id) {
                    continue;
                }
                seen.push(id.clone());
            }
            folded.apply(update);
        }
        runtime.block_on(store.append_profiles(PROJECT, updates)).expect("it is stored");
        if round % 4 != 3 {
            store.seal_now().expect("it seals");
            store.compact_now().expect("it compacts");
        }
        if round % 10 != 9 {
            continue;
        }
        let snapshot = store.snapshot(PROJECT).expect("it opened");
        let is_user = |key: &&ProfileKey| matches!(key, ProfileKey::User(_));
        for (kind, of_users) in [(ProfileKind::Users, true), (ProfileKind::Group("company".to_owned()), false)] {
            let wanted: Vec<(String, Profile)> = expected
                .iter()
                .filter(|(key, _)| is_user(key) == of_users)
                .filter_map(|(key, (folded, _))| {
                    let (ProfileKey::User(id) | ProfileKey::Group { id, .. }) = key;
                    Some((id.clone(), folded.profile.clone()?))
                })
                .collect();
            assert!(wanted.len() > 10, "there are some");
            assert!(snapshot.profiles(&kind).expect("it reads") == wanted, "round {round}: the profiles of {kind:?} differ");
        }
        for (key, (folded, _)) in expected.iter().step_by(97) {
            assert_eq!(snapshot.profile(key).expect("it reads"), folded.profile, "round {round}: {key:?}");
        }
        assert_eq!(snapshot.profile(&ProfileKey::User("nobody".to_owned())).expect("it reads"), None);
    }
    assert!(store.stats().segments < 20, "segments were merged");
}

#[test]
fn a_whole_request_that_comes_again_changes_nothing() {
    let dir = directory();
    let store = Store::open(options(dir.path(), Arc::new(RealDisk)), metastore(dir.path())).expect("it opens");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let adds = |from: u32, to: u32| -> Vec<ProfileUpdate> {
        let add = |number: u32| ProfileUpdate {
            op: ProfileOp::Add(Properties::from_iter([("n".to_owned(), Value::from(1))])),
            dedup_id: Some(format!("e{number}")),
            ..common::update(number)
        };
        (from..to).map(add).collect()
    };
    for updates in [adds(0, 1500), adds(1500, 1600), adds(0, 1500), adds(0, 1500)] {
        runtime.block_on(store.append_profiles(PROJECT, updates)).expect("it is stored");
        store.seal_now().expect("it seals");
    }
    let profile = store.snapshot(PROJECT).expect("it opened").profile(&ProfileKey::User("p".to_owned())).expect("it reads");
    assert_eq!(profile.and_then(|profile| profile.properties.get("n").cloned()), Some(Value::from(1600)));
}
