//! Group keys and lookup tables in the metastore: who may, what is refused, and that the audit log tells of it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use metastore::{
    By, GROUP_KEYS_MAX, LOOKUP_ROWS_MAX, LOOKUP_TABLES_MAX, LookupContent, LookupProperty, LookupTableChange, MetaError, Metastore,
    NewGroupKey, NewLookupTable, NewProject, ReplacedBy,
};
use model::lookup::LookupSource;
use model::{ProjectId, Role, Timestamp};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const PROJECT: ProjectId = ProjectId(1);
const OTHER: ProjectId = ProjectId(2);
const HOUR_MS: i64 = 3_600_000;

fn console() -> By {
    By::console(NOW)
}

fn open(dir: &Path) -> Metastore {
    let meta = Metastore::open(dir, &dir.join("key"), NOW).unwrap();
    for name in ["P", "Q"] {
        meta.create_project(&NewProject { name: name.to_owned(), timezone: "UTC".to_owned(), ..NewProject::default() }, &console())
            .unwrap();
    }
    meta
}

fn key(key: &str) -> NewGroupKey<'_> {
    NewGroupKey { key, ..NewGroupKey::default() }
}

fn table(property: &str) -> NewLookupTable {
    let properties = vec![LookupProperty { source: LookupSource::Event, property: property.to_owned() }];
    NewLookupTable { name: "T".to_owned(), id: None, properties }
}

fn content(rows: i64) -> LookupContent {
    LookupContent { path: format!("{rows}.lookup"), rows, bytes: 1, columns: vec!["a".to_owned(), "b c".to_owned()] }
}

fn invalid<T: std::fmt::Debug>(outcome: Result<T, MetaError>) -> String {
    match outcome {
        Err(MetaError::Invalid(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_group_key_is_declared_once_and_keeps_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path());
    let made = meta.add_group_key(PROJECT, &key("company"), &console()).unwrap();
    assert!(made.data_group_id > 0 && made.name == "company");
    let kept = NewGroupKey { key: "team", name: Some("Team"), data_group_id: Some(-1_405_123_841_946_871_899) };
    meta.add_group_key(PROJECT, &kept, &console()).unwrap();
    assert!(matches!(meta.add_group_key(PROJECT, &key("company"), &console()), Err(MetaError::Taken(_))));
    let same_id = NewGroupKey { key: "other", ..kept };
    assert!(matches!(meta.add_group_key(PROJECT, &same_id, &console()), Err(MetaError::Taken(_))));
    // Another project has keys and ids of its own.
    meta.add_group_key(OTHER, &kept, &console()).unwrap();
    for name in ["", "a\nb", "distinct_id"] {
        invalid(meta.add_group_key(PROJECT, &key(name), &console()));
    }
    invalid(meta.add_group_key(PROJECT, &NewGroupKey { data_group_id: Some(0), ..key("x") }, &console()));
    let keys: Vec<String> = meta.group_keys(PROJECT).unwrap().into_iter().map(|key| key.key).collect();
    assert_eq!(keys, ["company", "team"]);
    assert!(matches!(meta.remove_group_key(OTHER, made.data_group_id, &console()), Err(MetaError::Unknown(_))));
    meta.remove_group_key(PROJECT, made.data_group_id, &console()).unwrap();
    assert_eq!(meta.group_keys(PROJECT).unwrap().len(), 1);
    let told: Vec<String> = meta.audit_rows(Some(PROJECT), None, 10).unwrap().into_iter().map(|row| row.action).collect();
    assert_eq!(told, ["group key remove", "group key add", "group key add", "project create"]);
    for number in 1..GROUP_KEYS_MAX {
        meta.add_group_key(PROJECT, &key(&format!("k{number}")), &console()).unwrap();
    }
    assert!(invalid(meta.add_group_key(PROJECT, &key("one more"), &console())).contains("at most 300"));
}

#[test]
fn only_admins_declare_and_make() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path());
    let analyst = meta.create_account("a@example.com", "correct horse", &console()).unwrap();
    meta.set_role(PROJECT, analyst, Role::Analyst, &console()).unwrap();
    let by = By::account(analyst, NOW);
    assert!(matches!(meta.add_group_key(PROJECT, &key("company"), &by), Err(MetaError::NotAdmin(_))));
    assert!(matches!(meta.create_lookup_table(PROJECT, &table("k"), &by), Err(MetaError::NotAdmin(_))));
    let made = meta.create_lookup_table(PROJECT, &table("k"), &console()).unwrap();
    assert!(matches!(meta.delete_lookup_table(PROJECT, &made.id, &by), Err(MetaError::NotAdmin(_))));
    assert!(matches!(meta.change_lookup_table(PROJECT, &made.id, &LookupTableChange::default(), &by), Err(MetaError::NotAdmin(_))));
    let replaced = meta.replace_lookup_table(PROJECT, &made.id, &content(1), ReplacedBy::Member(&by));
    assert!(matches!(replaced, Err(MetaError::NotAdmin(_))));
    meta.set_role(PROJECT, analyst, Role::Admin, &console()).unwrap();
    meta.replace_lookup_table(PROJECT, &made.id, &content(1), ReplacedBy::Member(&by)).unwrap();
    meta.delete_lookup_table(PROJECT, &made.id, &by).unwrap();
}

#[test]
fn a_property_leads_to_one_table_and_a_table_is_its_projects() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path());
    let made = meta.create_lookup_table(PROJECT, &table("song_id"), &console()).unwrap();
    assert_eq!((made.id.len(), made.content.is_none(), made.properties.len()), (36, true, 1));
    assert!(invalid(meta.create_lookup_table(PROJECT, &table("song_id"), &console())).contains("already"));
    meta.create_lookup_table(OTHER, &table("song_id"), &console()).unwrap();
    for property in ["", "distinct_id", "$distinct_id", "time", "a\nb"] {
        invalid(meta.create_lookup_table(PROJECT, &table(property), &console()));
    }
    invalid(meta.create_lookup_table(PROJECT, &NewLookupTable { name: String::new(), ..table("k") }, &console()));
    invalid(meta.create_lookup_table(PROJECT, &NewLookupTable { id: Some("7".to_owned()), ..table("k") }, &console()));
    let same = NewLookupTable { id: Some(made.id.to_uppercase()), ..table("k") };
    assert!(matches!(meta.create_lookup_table(OTHER, &same, &console()), Err(MetaError::Taken(_))));
    // Nothing of a refused table stays.
    assert_eq!(meta.lookup_tables(PROJECT).unwrap().len(), 1);
    for outcome in [
        meta.change_lookup_table(OTHER, &made.id, &LookupTableChange { name: Some("X".to_owned()), properties: None }, &console()),
        meta.delete_lookup_table(OTHER, &made.id, &console()),
        meta.replace_lookup_table(OTHER, &made.id, &content(1), ReplacedBy::Member(&console())),
    ] {
        assert!(matches!(outcome, Err(MetaError::Unknown("lookup table"))), "{outcome:?}");
    }
    let profile = LookupProperty { source: LookupSource::Profile, property: "plan".to_owned() };
    let change = LookupTableChange { name: Some(" Songs ".to_owned()), properties: Some(vec![profile.clone()]) };
    meta.change_lookup_table(PROJECT, &made.id, &change, &console()).unwrap();
    let by = ReplacedBy::Credential { name: "key 1", address: "127.0.0.1", at: NOW };
    meta.replace_lookup_table(PROJECT, &made.id, &content(3), by).unwrap();
    let found = meta.lookup_table(PROJECT, &made.id).unwrap().unwrap();
    assert_eq!((found.name.as_str(), found.properties, found.content), ("Songs", vec![profile], Some(content(3))));
    let told = meta.audit_rows(Some(PROJECT), None, 1).unwrap().remove(0);
    assert_eq!((told.action.as_str(), told.actor.as_str(), told.address.as_str()), ("lookup table replace", "key 1", "127.0.0.1"));
    // What led to it is free again.
    meta.create_lookup_table(PROJECT, &table("song_id"), &console()).unwrap();
}

#[test]
fn tables_and_rows_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path());
    let half = LOOKUP_ROWS_MAX as i64 / 2;
    let first = meta.create_lookup_table(PROJECT, &table("k0"), &console()).unwrap();
    let second = meta.create_lookup_table(PROJECT, &table("k1"), &console()).unwrap();
    let put = |id: &str, rows| meta.replace_lookup_table(PROJECT, id, &content(rows), ReplacedBy::Member(&console()));
    put(&first.id, half).unwrap();
    put(&second.id, half).unwrap();
    assert!(invalid(put(&second.id, half + 1)).contains("5000000 rows"));
    put(&first.id, half - 1).unwrap();
    put(&second.id, half + 1).unwrap();
    for number in 2..LOOKUP_TABLES_MAX {
        meta.create_lookup_table(PROJECT, &table(&format!("k{number}")), &console()).unwrap();
    }
    assert!(invalid(meta.create_lookup_table(PROJECT, &table("one more"), &console())).contains("at most 200"));
}

#[test]
fn calls_are_counted_over_a_rolling_day() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path());
    let at = |hours: i64| Timestamp(NOW.0 + hours * HOUR_MS);
    let count = |project, hours| meta.count_lookup_call(project, 3, at(hours)).unwrap();
    assert_eq!([count(PROJECT, 0), count(PROJECT, 5), count(PROJECT, 10)], [Ok(()); 3]);
    assert_eq!(count(PROJECT, 12), Err(12 * HOUR_MS), "until the first of them is a day old");
    assert_eq!(count(PROJECT, 13), Err(11 * HOUR_MS), "who is refused is not counted");
    assert_eq!(count(OTHER, 13), Ok(()));
    assert_eq!(count(PROJECT, 24), Ok(()));
    assert_eq!(count(PROJECT, 25), Err(4 * HOUR_MS));
}
