//! What the metastore promises, as facts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use metastore::{
    AuditCheck, By, MetaError, Metastore, NewProject, NewSegment, NewServiceAccount, ProjectChange, SegmentChange, SegmentKind,
    TokenOptions, sha256,
};
use model::{AccountId, ProjectId, Role, Timestamp};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn open(dir: &Path) -> Metastore {
    Metastore::open(dir, &dir.join("key"), NOW).unwrap()
}

fn console() -> By {
    By::console(NOW)
}

fn by(account: AccountId) -> By {
    By::account(account, NOW)
}

fn project(name: &str) -> NewProject {
    NewProject { name: name.to_owned(), timezone: "UTC".to_owned(), ..NewProject::default() }
}

#[test]
fn a_reset_replaces_key_and_secret_and_keeps_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path());
    let owner = meta.create_account("o@example.com", "correct horse", &console()).unwrap();
    let (made, old) = meta.create_project(&NewProject { owner: Some(owner), ..project("p") }, &console()).unwrap();
    let before = meta.epoch().unwrap();
    let new = meta.reset_credentials(made.id, &by(owner)).unwrap();
    assert!(new.api_key != old.api_key && new.api_secret != old.api_secret);
    let table = meta.credentials().unwrap();
    assert!(table.epoch > before);
    assert_eq!(table.project_of_token(&made.token, NOW), Some(made.id));
    assert!(table.keys[&old.api_key].revoked_at.is_some() && table.keys[&old.api_key].secret.is_none());
    assert_eq!(table.secrets[&sha256(old.api_secret.expose().as_bytes())].api_key, old.api_key, "it is known by its hash");
    assert!(table.keys[&new.api_key].revoked_at.is_none());
}

#[test]
fn only_the_owner_resets() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path());
    let owner = meta.create_account("o@example.com", "correct horse", &console()).unwrap();
    let other = meta.create_account("x@example.com", "correct horse", &console()).unwrap();
    let (made, old) = meta.create_project(&NewProject { owner: Some(owner), ..project("p") }, &console()).unwrap();
    assert!(matches!(meta.reset_credentials(made.id, &by(other)), Err(MetaError::NotOwner(_))));
    assert!(meta.credentials().unwrap().keys[&old.api_key].revoked_at.is_none());
}

#[test]
fn no_plaintext_secret_is_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path());
    let owner = meta.create_account("o@example.com", "a very plain password", &console()).unwrap();
    let (made, first) = meta.create_project(&NewProject { owner: Some(owner), ..project("p") }, &console()).unwrap();
    let second = meta.reset_credentials(made.id, &by(owner)).unwrap();
    let (_, service) = meta
        .create_service_account(
            made.id,
            &NewServiceAccount { name: "sa", role: Role::Analyst, username: None, secret: None, expires_at: None },
            &console(),
        )
        .unwrap();
    let code = "a very plain password";
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for secret in [first.api_secret.expose(), second.api_secret.expose(), service.expose(), code] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
        }
    }
}

#[test]
fn reopening_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (made, pair) = open(dir.path()).create_project(&project("p"), &console()).unwrap();
    let meta = open(dir.path());
    assert_eq!(meta.project(made.id).unwrap().unwrap(), made);
    assert_eq!(meta.reveal_key(made.id, None, &console()).unwrap().api_secret, pair.api_secret);
    assert!(matches!(meta.verify_audit().unwrap(), AuditCheck::Intact { rows: 2, .. }));
}

#[test]
fn without_the_key_file_hashes_work_and_secrets_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let (made, pair) = open(dir.path()).create_project(&project("p"), &console()).unwrap();
    std::fs::remove_file(dir.path().join("key")).unwrap();
    let meta = open(dir.path());
    assert!(!meta.has_key_file());
    assert!(matches!(meta.reveal_key(made.id, None, &console()), Err(MetaError::KeyFileMissing)));
    let table = meta.credentials().unwrap();
    assert!(table.keys[&pair.api_key].secret.is_none());
    assert!(table.secrets.contains_key(&sha256(pair.api_secret.expose().as_bytes())));
}

#[test]
fn imported_values_are_kept_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path());
    let imported = NewProject {
        project_id: Some(77),
        token: Some("test_token".to_owned()),
        api_key: Some("test_key".to_owned()),
        api_secret: Some("test_secret".to_owned()),
        ..project("p")
    };
    let (made, pair) = meta.create_project(&imported, &console()).unwrap();
    assert_eq!(
        (made.id, made.token.as_str(), pair.api_key.as_str(), pair.api_secret.expose()),
        (ProjectId(77), "test_token", "test_key", "test_secret")
    );
    assert!(matches!(
        meta.create_project(&NewProject { project_id: Some(78), ..imported.clone() }, &console()),
        Err(MetaError::Taken("token"))
    ));
    let nowhere = NewProject { timezone: "Nowhere/X".to_owned(), ..project("q") };
    assert!(matches!(meta.create_project(&nowhere, &console()), Err(MetaError::Invalid(_))));
    let colon = NewProject { token: Some("a:b".to_owned()), ..project("q") };
    assert!(matches!(meta.create_project(&colon, &console()), Err(MetaError::Invalid(_))));
}

#[test]
fn a_setup_code_works_once_and_hands_over_ownerless_projects() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path());
    let (made, _) = meta.create_project(&project("demo"), &console()).unwrap();
    let code = meta.new_setup_code(NOW).unwrap().unwrap();
    assert!(meta.redeem_setup_code("WRONG-CODE", "o@example.com", "correct horse", &console()).is_err());
    let owner = meta.redeem_setup_code(code.expose(), "o@example.com", "correct horse", &console()).unwrap();
    assert!(meta.redeem_setup_code(code.expose(), "x@example.com", "correct horse", &console()).is_err());
    assert!(meta.new_setup_code(NOW).unwrap().is_none());
    assert!(meta.reset_credentials(made.id, &by(owner)).is_ok());
    assert_eq!(meta.verify_password("O@example.com", "correct horse").unwrap(), Some(owner));
    assert_eq!(meta.verify_password("o@example.com", "wrong horse").unwrap(), None);
}

#[test]
fn publishing_is_atomic() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path());
    let segment = NewSegment {
        project: ProjectId(1),
        kind: SegmentKind::Events,
        level: 0,
        sort_order: "event,user,time".to_owned(),
        time_min_ms: 1,
        time_max_ms: 2,
        user_min: [0; 16],
        user_max: [255; 16],
        rows: 3,
        bytes: 4,
        partition: 0,
        seq_min: 1,
        seq_max: 9,
        identity_seq: 0,
        columns: String::new(),
        path: "a".to_owned(),
        superseded_path: None,
        deleted_path: None,
        format_version: 1,
    };
    let ids =
        meta.publish(&SegmentChange { add: vec![segment.clone()], sealed_through: Some((0, 9)), ..SegmentChange::default() }).unwrap();
    assert_eq!(meta.sealed_through(0).unwrap(), 9);
    let swap = SegmentChange { add: vec![NewSegment { path: "b".to_owned(), ..segment }], remove: ids, ..SegmentChange::default() };
    meta.publish(&swap).unwrap();
    let live: Vec<String> = meta.segments(ProjectId(1)).unwrap().into_iter().map(|segment| segment.row.path).collect();
    assert_eq!(live, ["b"]);
}

#[test]
fn an_identity_secret_is_sealed_shown_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path());
    let owner = meta.create_account("o@example.com", "correct horse", &console()).unwrap();
    let analyst = meta.create_account("a@example.com", "correct horse", &console()).unwrap();
    let (made, _) = meta.create_project(&NewProject { owner: Some(owner), ..project("p") }, &console()).unwrap();
    meta.set_role(made.id, analyst, Role::Analyst, &by(owner)).unwrap();
    let in_table = |meta: &Metastore| {
        let table = meta.credentials().unwrap();
        table.identities.get(&made.id).map(|identity| identity.secret.as_ref().map(|secret| secret.expose().to_owned()))
    };
    assert!(in_table(&meta).is_none(), "none is made before somebody asks for it");
    let options = TokenOptions { identity_needs_signature: true, ..TokenOptions::default() };
    meta.change_project(made.id, &ProjectChange { token_options: Some(options), ..ProjectChange::default() }, &by(owner)).unwrap();
    let first = meta.identity_secret(made.id, &by(owner)).unwrap();
    assert!(first.expose().starts_with("slci_") && metastore::has_valid_checksum(first.expose()));
    assert_eq!(in_table(&meta), Some(Some(first.expose().to_owned())));
    let leaked = |text: &str| meta.credentials().unwrap().leaked(text, NOW).map(|leaked| (leaked.project, leaked.credential));
    let found = Some((Some(made.id), "identity secret".to_owned()));
    assert_eq!(leaked(&format!("see {} here", first.expose())), found);
    // Only admins and owners see it; the wrapping key may change below it.
    assert!(meta.identity_secret(made.id, &by(analyst)).is_err() && meta.rotate_identity_secret(made.id, &by(analyst)).is_err());
    meta.rotate_wrapping_key(&console()).unwrap();
    assert_eq!(meta.identity_secret(made.id, &by(owner)).unwrap(), first);
    meta.reset_credentials(made.id, &by(owner)).unwrap();
    assert_eq!(meta.identity_secret(made.id, &by(owner)).unwrap(), first, "a reset clears API keys and API secrets");
    let second = meta.rotate_identity_secret(made.id, &by(owner)).unwrap();
    assert!(second != first && leaked(first.expose()).is_none() && leaked(second.expose()) == found);
    let audit = meta.audit_rows(Some(made.id), None, 100).unwrap();
    let count = |action: &str| audit.iter().filter(|row| row.action == format!("identity secret {action}")).count();
    assert_eq!((count("create"), count("reveal")), (2, 3));
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for secret in [first.expose(), second.expose()] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
        }
    }
    // Without the key file it is known that there is one, and it signs nothing.
    drop(meta);
    std::fs::rename(dir.path().join("key"), dir.path().join("away")).unwrap();
    assert_eq!(in_table(&open(dir.path())), Some(None));
}

#[test]
fn a_restored_backup_brings_back_no_identity_secret_that_was_replaced() {
    for is_replaced in [false, true] {
        let (dir, aside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let meta = open(dir.path());
        let (made, _) = meta.create_project(&project("p"), &console()).unwrap();
        let (other, _) = meta.create_project(&project("q"), &console()).unwrap();
        let first = meta.identity_secret(made.id, &console()).unwrap();
        meta.identity_secret(other.id, &console()).unwrap();
        meta.copy_to(&aside.path().join(metastore::DATABASE)).unwrap();
        meta.rotate_identity_secret(if is_replaced { made.id } else { other.id }, &console()).unwrap();
        drop(meta);
        Metastore::mark_restored(&aside.path().join(metastore::DATABASE)).unwrap();
        let meta = Metastore::open(aside.path(), &dir.path().join("key"), NOW).unwrap();
        let in_table = |id: ProjectId| meta.credentials().unwrap().identities.get(&id).map(|identity| identity.secret.clone());
        let kept = if is_replaced { None } else { Some(None) };
        assert_eq!(in_table(made.id), kept, "it waits for an owner, if it is there at all");
        meta.confirm_credentials(made.id, &console()).unwrap();
        assert_eq!(in_table(made.id), if is_replaced { None } else { Some(Some(first)) });
    }
}

/// A database of the schema before people is brought up to date with what it holds.
#[test]
fn an_older_database_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    {
        let old = rusqlite::Connection::open(dir.path().join(metastore::DATABASE)).unwrap();
        old.execute_batch(include_str!("../src/migrations/0001-start.sql")).unwrap();
        old.execute_batch(include_str!("../src/migrations/0002-credentials.sql")).unwrap();
        old.execute_batch(
            "INSERT INTO accounts (id, email, password_hash, created_at, is_operator) VALUES (1, 'o@example.com', 'x', 7, 1);
             INSERT INTO projects (id, organization_id, name, timezone, token, hash_key, wrapped_data_key, created_at)
                 VALUES (1, 1, 'P', 'UTC', 'token', zeroblob(16), x'00', 7);
             INSERT INTO members VALUES (1, 1, 'owner');
             INSERT INTO keys (project_id, api_key, secret_sha256, rights, legacy, weak, created_at)
                 VALUES (1, 'key', zeroblob(32), 'query', 'off', 0, 7);
             PRAGMA user_version = 2;",
        )
        .unwrap();
    }
    let meta = open(dir.path());
    let project = meta.project(ProjectId(1)).unwrap().unwrap();
    assert_eq!((project.archived_at, &project.token_options), (None, &metastore::TokenOptions::default()));
    assert_eq!(meta.account(AccountId(1)).unwrap().unwrap().disabled_at, None);
    assert_eq!(meta.credentials().unwrap().keys["key"].legacy_since, Timestamp(7));
    assert_eq!(meta.role(ProjectId(1), AccountId(1)).unwrap(), Some(Role::Owner));
    assert!(meta.audit_rows_to_mail(10).unwrap().is_empty(), "nobody is told of what happened before there was mail");
    drop(meta);
    open(dir.path());
}
