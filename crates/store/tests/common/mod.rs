//! What the store's tests share: a metastore with one project, events with numbers, and what a snapshot holds of them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use metastore::{By, Metastore, NewProject};
use model::value::Properties;
use model::{Event, ProfileKey, ProfileOp, ProfileUpdate, ProjectId, TimeRange, Timestamp, Value};
use store::disk::Disk;
use store::{ProfileKind, ScanRequest, Snapshot, StoreOptions, Wanted};

/// The project of every test.
pub const PROJECT: ProjectId = ProjectId(1);

/// A directory that costs no disk where the machine has one.
pub fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a temporary directory")
}

/// A metastore with one project.
pub fn metastore(dir: &Path) -> Arc<Metastore> {
    let metastore = Metastore::open(dir, &dir.join("key"), Timestamp(0)).expect("a fresh directory opens");
    let new = NewProject { name: "P".to_owned(), timezone: "UTC".to_owned(), ..NewProject::default() };
    let (project, _) = metastore.create_project(&new, &By::console(Timestamp(0))).expect("a project is made");
    assert_eq!(project.id, PROJECT);
    Arc::new(metastore)
}

/// A store's options on a disk of the test's.
pub fn options(dir: &Path, disk: Arc<dyn Disk>) -> StoreOptions {
    let mut options = StoreOptions::new(dir.to_path_buf());
    options.disk = disk;
    options.pack_rows_min = 3;
    options.seal_age = Duration::from_secs(3600);
    options
}

/// An event that bears a number as its `$insert_id`.
#[allow(dead_code, reason = "not every test file uses events")]
pub fn event(number: u32, filler_bytes: usize) -> Event {
    Event {
        name: ["a", "b", "c"][number as usize % 3].to_owned(),
        distinct_id: format!("u{}", number % 7),
        time: Timestamp(1_577_836_800_000 + i64::from(number) * 1000),
        insert_id: number.to_string(),
        received_at: Timestamp(5),
        authenticated: false,
        linking: None,
        properties: Properties::from_iter([("filler".to_owned(), Value::String("x".repeat(filler_bytes)))]),
    }
}

/// An operation that appends its number to a list of user `p`.
#[allow(dead_code, reason = "not every test file uses profiles")]
pub fn update(number: u32) -> ProfileUpdate {
    ProfileUpdate {
        key: ProfileKey::User("p".to_owned()),
        op: ProfileOp::Append(Properties::from_iter([("list".to_owned(), Value::from(i64::from(number)))])),
        time: Timestamp(5),
        received_at: Timestamp(5),
        ignore_time: true,
        ignore_alias: false,
        dedup_id: None,
        authenticated: false,
    }
}

/// The numbers of all events, sorted.
#[allow(dead_code, reason = "not every test file counts")]
pub fn events(snapshot: &Snapshot, dedup: bool) -> Vec<u32> {
    let mut found = Vec::new();
    let request = ScanRequest { events: None, range: TimeRange::ALL, properties: Wanted::Named(Vec::new()), ids: true, dedup };
    snapshot
        .scan(&request, |batch| {
            found.extend((0..batch.len()).map(|row| batch.insert_id(row).parse::<u32>().expect("ids are numbers")));
            true
        })
        .expect("every live segment reads");
    found.sort_unstable();
    found
}

/// The numbers that were appended to user `p`, in order.
#[allow(dead_code, reason = "not every test file uses profiles")]
pub fn appended(snapshot: &Snapshot) -> Vec<u32> {
    let profiles = snapshot.profiles(&ProfileKind::Users).expect("every live segment reads");
    let list = profiles.iter().find(|(id, _)| id == "p").and_then(|(_, profile)| profile.properties.get("list").cloned());
    match list {
        Some(Value::List(list)) => list.iter().filter_map(|value| Some(value.as_f64()? as u32)).collect(),
        _ => Vec::new(),
    }
}
