//! What the lexicon and the counts of what was not stored promise: bounds, and who may change what.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use metastore::{
    By, EVENT_NAMES_MAX, LexiconChange, MetaError, Metastore, NewProject, OTHER_TOKENS, REJECTION_DAYS_MAX, REJECTION_SAMPLES_MAX,
    RejectionCount, RejectionSample, SeenName, SegmentChange, UnknownToken,
};
use model::{NameKind, ProjectId, Reason, Role, Seen, Timestamp, ValueTypes};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const P: ProjectId = ProjectId(1);

fn open() -> (tempfile::TempDir, Metastore) {
    let dir = tempfile::tempdir().unwrap();
    let meta = Metastore::open(dir.path(), &dir.path().join("key"), NOW).unwrap();
    let new = NewProject { name: "P".to_owned(), timezone: "UTC".to_owned(), ..NewProject::default() };
    meta.create_project(&new, &By::console(NOW)).unwrap();
    (dir, meta)
}

fn seen(kind: NameKind, name: &str, count: u64) -> SeenName {
    SeenName { project: P, kind, name: name.to_owned(), seen: Seen::new(ValueTypes::STRING, NOW, count) }
}

fn seal(meta: &Metastore, names: Vec<SeenName>) {
    meta.publish(&SegmentChange { seen: names, ..SegmentChange::default() }).unwrap();
}

#[test]
fn names_beyond_the_cap_are_counted_together_and_those_known_go_on() {
    let (_dir, meta) = open();
    let most = EVENT_NAMES_MAX as usize;
    seal(&meta, (0..most + 100).map(|at| seen(NameKind::Event, &format!("e{at}"), 2)).collect());
    seal(&meta, vec![seen(NameKind::Event, "e0", 1), seen(NameKind::Event, "new", 5), seen(NameKind::EventProperty, "p", 1)]);
    let (entries, _) = meta.lexicon(P).unwrap();
    assert_eq!(entries.len(), most + 2);
    let count = |kind, name: &str| entries.iter().find(|entry| entry.kind == kind && entry.name == name).unwrap().seen.unwrap().count;
    assert_eq!(count(NameKind::Event, ""), 205);
    assert_eq!((count(NameKind::Event, "e0"), count(NameKind::EventProperty, "p")), (3, 1));
    let refused = meta.change_lexicon(P, NameKind::Event, "another", &LexiconChange::default(), &By::console(NOW));
    assert!(matches!(refused, Err(MetaError::Invalid(_))));
}

#[test]
fn analysts_describe_admins_hide_and_drop_and_others_nothing() {
    let (_dir, meta) = open();
    let account = |email: &str, role: Role| {
        let account = meta.create_account(email, "correct horse", &By::console(NOW)).unwrap();
        meta.set_role(P, account, role, &By::console(NOW)).unwrap();
        By::account(account, NOW)
    };
    let _owner = account("o@example.com", Role::Owner);
    let (admin, analyst, consumer) =
        (account("a@example.com", Role::Admin), account("b@example.com", Role::Analyst), account("c@example.com", Role::Consumer));
    let stranger = By::account(meta.create_account("x@example.com", "correct horse", &By::console(NOW)).unwrap(), NOW);
    let describe = LexiconChange { description: Some("d".to_owned()), ..LexiconChange::default() };
    let drop = LexiconChange { dropped: Some(true), ..LexiconChange::default() };
    let change = |asked: &LexiconChange, by: &By| meta.change_lexicon(P, NameKind::Event, "e", asked, by);
    for by in [&consumer, &stranger] {
        assert!(change(&describe, by).is_err() && change(&drop, by).is_err());
    }
    assert!(change(&drop, &analyst).is_err());
    let (audit, epoch) = (meta.audit_rows(Some(P), None, 100).unwrap().len(), meta.epoch().unwrap());
    assert_eq!(change(&describe, &analyst).unwrap().description, "d");
    assert_eq!((meta.audit_rows(Some(P), None, 100).unwrap().len(), meta.epoch().unwrap()), (audit, epoch), "words are not noted");
    assert!(change(&drop, &admin).unwrap().dropped);
    assert_eq!(meta.audit_rows(Some(P), None, 100).unwrap().len(), audit + 1);
    let table = meta.credentials().unwrap();
    assert!(table.epoch > epoch && table.dropped[&P].holds(NameKind::Event, "e") && !table.dropped[&P].holds(NameKind::EventProperty, "e"));
    seal(&meta, vec![seen(NameKind::Event, "e", 1)]);
    let entry = meta.lexicon(P).unwrap().0.remove(0);
    assert_eq!((entry.description.as_str(), entry.dropped, entry.seen.unwrap().count), ("d", true, 1), "counting changes no words");
    let long = LexiconChange { description: Some("x".repeat(2001)), ..LexiconChange::default() };
    let lines = LexiconChange { display_name: Some("a\nb".to_owned()), ..LexiconChange::default() };
    assert!(change(&long, &admin).is_err() && change(&lines, &admin).is_err());
}

#[test]
fn counts_add_up_samples_give_way_and_old_days_are_forgotten() {
    let (_dir, meta) = open();
    let count = |day| RejectionCount { project: P, day, reason: Reason::TimeTooOld, count: 3, last_at: Timestamp(day) };
    let sample = |at: i64| {
        let sample = RejectionSample { at: Timestamp(at), field: "f".to_owned(), record: "{}".to_owned() };
        (P, Reason::TimeTooOld, sample)
    };
    for at in 0..30 {
        meta.add_rejections(&[count(1000), count(1001)], &[sample(at)], 1001).unwrap();
    }
    let found = meta.rejections(P, 0, 5000).unwrap();
    assert_eq!(found.iter().map(|row| (row.day, row.count)).collect::<Vec<_>>(), [(1001, 90), (1000, 90)]);
    let samples = meta.rejection_samples(P).unwrap();
    assert_eq!(samples.iter().map(|(_, sample)| sample.at.0).collect::<Vec<_>>(), (20..30).rev().collect::<Vec<_>>());
    assert_eq!(samples.len(), REJECTION_SAMPLES_MAX);
    meta.add_rejections(&[], &[], 1001 + REJECTION_DAYS_MAX).unwrap();
    assert_eq!(meta.rejections(P, 0, 5000).unwrap().len(), 1);
    assert!(meta.rejections(ProjectId(2), 0, 5000).unwrap().is_empty());
    let token = |at: i64| UnknownToken { name: format!("t{at}"), first_at: Timestamp(at), last_at: Timestamp(at), count: 1 };
    meta.add_unknown_tokens(&(0..1500).map(token).collect::<Vec<_>>()).unwrap();
    let tokens = meta.unknown_tokens().unwrap();
    assert_eq!((tokens.len(), tokens[0].name.as_str(), tokens[0].count), (1001, OTHER_TOKENS, 500));
}
