//! Whose events are whose: whatever order events arrive in, and whatever is packed, sealed, compacted and opened again in between, rows belong
//! to the users that a plain reading of the rules gives them to. A snapshot keeps to the links of its moment.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{PROJECT, directory, metastore, options};
use metastore::Metastore;
use model::value::{Properties, ValueRef};
use model::{Event, IdentityMode, ProfileKey, ProfileOp, ProfileUpdate, TimeRange, Timestamp, Value};
use proptest::collection::vec;
use proptest::prelude::*;
use store::disk::RealDisk;
use store::{ProfileKind, ScanRequest, Snapshot, Store, Wanted};

/// What a row is found to be: its user, the id that was sent where that is another, why its link was refused.
type Row = (String, Option<String>, Option<String>);

fn found(snapshot: &Snapshot) -> BTreeMap<u32, Row> {
    let mut rows = BTreeMap::new();
    let reasons = ["$identity_failure_reason".to_owned(), "$failure_reason".to_owned()];
    let request = ScanRequest { events: None, range: TimeRange::ALL, properties: Wanted::Named(reasons.into()), ids: true, dedup: false };
    let scanned = snapshot.scan(&request, |batch| {
        for row in 0..batch.len() {
            let text = |column: usize| match batch.columns()[column].value(row) {
                Some(ValueRef::Text(text)) => Some(text.to_owned()),
                _ => None,
            };
            let user = batch.distinct_id(row).to_owned();
            assert_eq!(batch.users()[row], snapshot.user(&user), "id and hash say the same");
            let before = batch.distinct_id_before_identity(row).map(str::to_owned);
            let number = batch.insert_id(row).parse().expect("ids are numbers");
            assert!(rows.insert(number, (user, before, text(0).or(text(1)))).is_none(), "a row stands there twice");
        }
        true
    });
    scanned.expect("it reads");
    rows
}

/// The rules, as plainly as they can be said: users are lists of ids, of which the first shows.
#[derive(Default)]
struct Plain {
    users: Vec<Vec<String>>,
    were_anonymous: BTreeSet<String>,
    were_aliases: BTreeSet<String>,
    rows: Vec<(String, Option<&'static str>)>,
}

impl Plain {
    fn user(&self, id: &str) -> Vec<String> {
        self.users.iter().find(|user| user.iter().any(|other| other == id)).cloned().unwrap_or_else(|| vec![id.to_owned()])
    }

    /// The ids of `from` come behind those of `to`.
    fn join(&mut self, from: &str, to: &str) {
        let (from, to) = (self.user(from), self.user(to));
        self.users.retain(|user| *user != from && *user != to);
        self.users.push([to, from].concat());
    }

    fn take(&mut self, sent: &Sent) {
        let (own, refused) = match sent {
            Sent::Plain(_, id) => (id.clone(), None),
            Sent::Login(device, user) => {
                let device = format!("$device:{device}");
                let known = self.user(&device);
                let refused = known.len() > 1 && known != self.user(user);
                if known.len() == 1 {
                    self.join(&device, user);
                }
                (user.clone(), refused.then_some("errAnonDistinctIdAssignedAlready"))
            }
            Sent::Identify(anonymous, user) => {
                let is_made_up = anonymous.trim_start_matches("$device:").split('-').count() == 5;
                let refused = if anonymous == user {
                    Some("errSameIDs")
                } else if !is_made_up {
                    Some("errAnonDistinctIdNonGUIDForm")
                } else if self.user(anonymous) == self.user(user) {
                    None
                } else if self.were_anonymous.contains(anonymous) {
                    Some("errAnonDistinctIdAssignedAlready")
                } else {
                    self.were_anonymous.insert(anonymous.clone());
                    self.join(anonymous, user);
                    None
                };
                (user.clone(), refused)
            }
            Sent::Alias(_, alias, of) => {
                let is_new = self.user(alias) != self.user(of);
                let refused = is_new && self.were_aliases.contains(alias);
                if is_new && !refused {
                    self.were_aliases.insert(alias.clone());
                    self.join(alias, of);
                }
                (of.clone(), refused.then_some("errAliasAlreadyExists"))
            }
            Sent::Merge(first, second) => {
                if self.user(first) != self.user(second) {
                    self.join(second, first);
                }
                (String::new(), None)
            }
        };
        self.rows.push((own, refused));
    }

    fn expected(&self) -> BTreeMap<u32, Row> {
        let row = |(own, refused): &(String, Option<&str>)| {
            let user = self.user(own).remove(0);
            let before = (user != *own).then(|| own.clone());
            (user, before, refused.map(str::to_owned))
        };
        (0..).zip(self.rows.iter().map(row)).collect()
    }
}

/// What a client sends.
#[derive(Debug, Clone)]
enum Sent {
    Plain(IdentityMode, String),
    Login(String, String),
    Identify(String, String),
    Alias(IdentityMode, String, String),
    Merge(String, String),
}

impl Sent {
    fn event(&self, number: u32, time: i64) -> Event {
        let text = |text: &String| Value::String(text.clone());
        let (name, distinct_id, mode, properties) = match self {
            Self::Plain(mode, id) => ("E", id.clone(), *mode, vec![]),
            Self::Login(device, user) => ("F", user.clone(), IdentityMode::Simplified, vec![("$device_id", text(device))]),
            Self::Identify(anonymous, user) => {
                ("$identify", user.clone(), IdentityMode::Original, vec![("$anon_id", text(anonymous)), ("$identified_id", text(user))])
            }
            Self::Alias(mode, alias, of) => ("$create_alias", of.clone(), *mode, vec![("alias", text(alias))]),
            Self::Merge(first, second) => {
                ("$merge", String::new(), IdentityMode::Original, vec![("$distinct_ids", Value::List(vec![text(first), text(second)]))])
            }
        };
        Event {
            name: name.to_owned(),
            distinct_id,
            time: Timestamp(1_577_836_800_000 + time * 3_600_000),
            insert_id: number.to_string(),
            received_at: Timestamp(5),
            authenticated: false,
            linking: Some(mode),
            properties: properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Events of one request, each with the hour in which it happened.
    Send(Vec<(Sent, i64)>),
    Pack,
    Seal,
    Compact,
    Reopen,
    /// Takes a snapshot, to be read at the end.
    Keep,
}

fn device() -> impl Strategy<Value = String> {
    (0..4).prop_map(|number| format!("d-{number}-0-0-0"))
}

fn user() -> impl Strategy<Value = String> {
    (0..4).prop_map(|number| format!("u{number}"))
}

/// An id in a project whose verbs link: a user's, one that a client made up, a device's.
fn any_id() -> impl Strategy<Value = String> {
    prop_oneof![user(), (0..3).prop_map(|number| format!("a-{number}-0-0-0")), device().prop_map(|device| format!("$device:{device}"))]
}

fn simplified() -> impl Strategy<Value = Sent> {
    let plain = prop_oneof![device().prop_map(|device| format!("$device:{device}")), user()];
    prop_oneof![
        3 => plain.prop_map(|id| Sent::Plain(IdentityMode::Simplified, id)),
        2 => (device(), user()).prop_map(|(device, user)| Sent::Login(device, user)),
    ]
}

fn verbs(mode: IdentityMode) -> impl Strategy<Value = Sent> {
    let alias = (any_id(), any_id()).prop_map(move |(alias, of)| Sent::Alias(mode, alias, of));
    let others = prop_oneof![
        (any_id(), any_id()).prop_map(|(anonymous, user)| Sent::Identify(anonymous, user)),
        (any_id(), any_id()).prop_map(|(first, second)| Sent::Merge(first, second)),
    ];
    let verb = match mode {
        IdentityMode::Original => prop_oneof![1 => alias, 2 => others].boxed(),
        _ => alias.boxed(),
    };
    prop_oneof![3 => any_id().prop_map(move |id| Sent::Plain(mode, id)), 1 => verb]
}

fn steps(sent: impl Strategy<Value = Sent> + 'static) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => vec((sent, 0_i64..100), 1..5).prop_map(Step::Send),
        1 => Just(Step::Pack),
        2 => Just(Step::Seal),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
        1 => Just(Step::Keep),
    ];
    vec(step, 4..60)
}

fn all_steps() -> impl Strategy<Value = Vec<Step>> {
    prop_oneof![
        4 => steps(simplified()),
        3 => steps(verbs(IdentityMode::Original)),
        1 => steps(verbs(IdentityMode::Legacy)),
        // A project whose rules change on the way.
        1 => steps(prop_oneof![simplified(), verbs(IdentityMode::Original), verbs(IdentityMode::Legacy)]),
    ]
}

fn opened(dir: &Path, metastore: Arc<Metastore>) -> Store {
    let mut options = options(dir, Arc::new(RealDisk));
    options.seal_rows_max = 7;
    Store::open(options, metastore).expect("it opens")
}

fn check(steps: Vec<Step>) {
    let dir = directory();
    let mut store = opened(dir.path(), metastore(dir.path()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (mut plain, mut kept) = (Plain::default(), Vec::new());
    for step in steps {
        match step {
            Step::Send(all) => {
                let first = plain.rows.len() as u32;
                runtime
                    .block_on(store.append(PROJECT, (first..).zip(&all).map(|(number, (sent, time))| sent.event(number, *time)).collect()))
                    .expect("it is stored");
                all.iter().for_each(|(sent, _)| plain.take(sent));
            }
            Step::Pack => store.pack_now().expect("it packs"),
            Step::Seal => store.seal_now().expect("it seals"),
            Step::Compact => store.compact_now().expect("it compacts"),
            Step::Reopen => {
                // What a kept snapshot names would go with the old store.
                kept.drain(..).for_each(|(snapshot, expected): (Snapshot, _)| assert_eq!(found(&snapshot), expected, "then"));
                drop(store);
                let metastore = Metastore::open(dir.path(), &dir.path().join("key"), Timestamp(0)).expect("it opens again");
                store = opened(dir.path(), Arc::new(metastore));
            }
            Step::Keep => kept.push((store.snapshot(PROJECT).expect("it opened"), plain.expected())),
        }
        assert_eq!(found(&store.snapshot(PROJECT).expect("it opened")), plain.expected(), "now");
    }
    for (snapshot, expected) in kept {
        assert_eq!(found(&snapshot), expected, "then");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn rows_belong_to_the_users_that_the_rules_say(steps in all_steps()) {
        check(steps);
    }
}

/// More seals than a level holds, each with links: they are merged, and merged again.
#[test]
fn links_of_many_seals_are_merged_and_read_again() {
    let dir = directory();
    let store = opened(dir.path(), metastore(dir.path()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut plain = Plain::default();
    for number in 0..100 {
        let sent = Sent::Login(format!("d{}", number % 67), format!("u{}", number % 50));
        runtime.block_on(store.append(PROJECT, vec![sent.event(number, 0)])).expect("it is stored");
        plain.take(&sent);
        store.seal_now().expect("it seals");
        store.compact_now().expect("it compacts");
    }
    assert_eq!((found(&store.snapshot(PROJECT).expect("it opened")), store.stats().identity_links), (plain.expected(), 67));
    let files = || {
        let names = std::fs::read_dir(dir.path().join("segments")).expect("the folder is there");
        names.filter(|name| name.as_ref().expect("it has a name").path().extension().is_some_and(|end| end == "links")).count()
    };
    assert!(files() < 16, "{} files of links", files());
    drop(store);
    let metastore = Metastore::open(dir.path(), &dir.path().join("key"), Timestamp(0)).expect("it opens again");
    let store = opened(dir.path(), Arc::new(metastore));
    assert_eq!((found(&store.snapshot(PROJECT).expect("it opened")), store.stats().identity_links), (plain.expected(), 67));
}

/// Whoever sees the event that links sees the link, and nobody else does, while everything moves.
#[test]
fn a_link_is_seen_with_its_event_and_not_before() {
    const PAIRS: u32 = 300;
    let dir = directory();
    let store = opened(dir.path(), metastore(dir.path()));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            for pair in 0..PAIRS {
                let (device, user) = (format!("d{pair}"), format!("u{pair}"));
                let before = Sent::Plain(IdentityMode::Simplified, format!("$device:{device}")).event(2 * pair, 0);
                runtime.block_on(store.append(PROJECT, vec![before])).expect("it is stored");
                runtime.block_on(store.append(PROJECT, vec![Sent::Login(device, user).event(2 * pair + 1, 0)])).expect("it is stored");
            }
            over.store(true, Ordering::SeqCst);
        });
        for work in [Store::seal_now, Store::pack_now, Store::compact_now] {
            let (store, over) = (&store, &over);
            scope.spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    work(store).expect("it works");
                }
            });
        }
        while !over.load(Ordering::SeqCst) {
            let rows = found(&store.snapshot(PROJECT).expect("it opened"));
            for (number, (user, ..)) in rows.iter().filter(|(number, _)| *number % 2 == 0) {
                let pair = number / 2;
                let expected = if rows.contains_key(&(number + 1)) { format!("u{pair}") } else { format!("$device:d{pair}") };
                assert_eq!(*user, expected);
            }
        }
    });
}

#[test]
fn a_user_of_verbs_has_at_most_500_ids_and_one_of_devices_as_many_as_come() {
    let dir = directory();
    let store = opened(dir.path(), metastore(dir.path()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let alias = |number: u32| Sent::Alias(IdentityMode::Original, format!("a{number}"), "u".to_owned()).event(number, 0);
    runtime.block_on(store.append(PROJECT, (0..501).map(alias).collect())).expect("it is stored");
    let login = |number: u32| Sent::Login(format!("d{number}"), "v".to_owned()).event(number, 0);
    runtime.block_on(store.append(PROJECT, (501..1501).map(login).collect())).expect("it is stored");
    let rows = found(&store.snapshot(PROJECT).expect("it opened"));
    let refused: Vec<u32> = rows.iter().filter(|(_, (_, _, reason))| reason.is_some()).map(|(number, _)| *number).collect();
    assert_eq!(refused, [499, 500], "499 aliases and the id itself are 500");
    assert_eq!(rows[&499].2.as_deref(), Some("errManyIDs"));
    assert_eq!(store.stats().identity_links, 499 + 1000);
}

fn profiles(store: &Store) -> Vec<(String, Value)> {
    let found = store.snapshot(PROJECT).expect("it opened").profiles(&ProfileKind::Users).expect("it reads");
    found.into_iter().map(|(id, profile)| (id, profile.properties["n"].clone())).collect()
}

#[test]
fn a_user_of_verbs_has_one_profile_under_all_ids() {
    let dir = directory();
    let store = opened(dir.path(), metastore(dir.path()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let update = |id: &str, op: ProfileOp| ProfileUpdate {
        key: ProfileKey::User(id.to_owned()),
        op,
        time: Timestamp(5),
        received_at: Timestamp(5),
        ignore_time: true,
        ignore_alias: false,
        dedup_id: None,
        authenticated: true,
    };
    let add = |id: &str, number: i64| update(id, ProfileOp::Add(Properties::from_iter([("n".to_owned(), Value::from(number))])));
    let send = |update: ProfileUpdate| runtime.block_on(store.append_profiles(PROJECT, vec![update])).expect("it is stored");
    let alias = |number: u32, alias: &str, of: &str| {
        let sent = Sent::Alias(IdentityMode::Legacy, alias.to_owned(), of.to_owned());
        runtime.block_on(store.append(PROJECT, vec![sent.event(number, 0)])).expect("it is stored");
    };
    let found = |pairs: &[(&str, i64)]| pairs.iter().map(|(id, n)| ((*id).to_owned(), Value::from(*n))).collect::<Vec<_>>();
    send(add("alone", 1));
    send(add("b", 10));
    send(add("old", 5));
    alias(0, "alone", "a");
    alias(1, "old", "b");
    // One that had a profile alone keeps it; of two the user's own shows.
    assert_eq!(profiles(&store), found(&[("a", 1), ("b", 10)]));
    send(add("old", 100));
    store.seal_now().expect("it seals");
    send(add("old", 1000));
    assert_eq!(profiles(&store), found(&[("a", 1), ("b", 1110)]));
    assert_eq!(store.snapshot(PROJECT).expect("it opened").user_of_profile("old").as_deref(), Some("b"));
    send(ProfileUpdate { ignore_alias: true, ..add("old", 1) });
    assert_eq!(profiles(&store), found(&[("a", 1), ("b", 1110)]), "what goes to the very id is not the user's");
    send(update("old", ProfileOp::Delete));
    assert_eq!(profiles(&store), found(&[("a", 1)]));
    send(update("a", ProfileOp::Delete));
    assert_eq!(profiles(&store), [], "under every id");
}

/// A device keeps its profile to itself: only what its user sets is the user's.
#[test]
fn a_linked_device_brings_no_profile() {
    let dir = directory();
    let store = opened(dir.path(), metastore(dir.path()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let update = |id: &str, number: i64| ProfileUpdate {
        key: ProfileKey::User(id.to_owned()),
        op: ProfileOp::Set(Properties::from_iter([("n".to_owned(), Value::from(number))])),
        ..common::update(0)
    };
    runtime.block_on(store.append_profiles(PROJECT, vec![update("$device:d", 1)])).expect("it is stored");
    runtime.block_on(store.append(PROJECT, vec![Sent::Login("d".to_owned(), "u".to_owned()).event(0, 0)])).expect("it is stored");
    runtime.block_on(store.append_profiles(PROJECT, vec![update("$device:d", 2)])).expect("it is stored");
    assert_eq!(profiles(&store), [("$device:d".to_owned(), Value::from(2))]);
}
