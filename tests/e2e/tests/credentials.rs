//! Credentials on the real binary: what each opens, how each ends, and that a restored backup revives none.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use e2e::{TestServer, basic, get, post};
use serde_json::Value;

const NAMES: &str = "/api/2.0/events/names?type=general";
const EXPORT: &str = "/api/2.0/export?from_date=2020-01-01&to_date=2020-01-02";
const OWNER: [&str; 2] = ["--as", "o@example.com"];

fn run(server: &TestServer, args: &[&str]) -> Value {
    serde_json::from_str(&server.cli(args, "")).unwrap()
}

fn on<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [args, &["--project", "1"], &OWNER].concat()
}

fn account(server: &TestServer, email: &str) {
    server.cli(&["account", "create", "--email", email, "--password-stdin"], "correct horse");
}

fn reads(server: &TestServer, path: &str, secret: &str) -> u16 {
    get(&format!("{}{path}", server.base), Some(&basic(secret, ""))).0
}

fn field(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
}

#[test]
fn a_key_opens_what_its_rights_say_and_nothing_else() {
    let server = TestServer::start();
    let key = run(&server, &on(&["key", "create", "--rights", "query", "--legacy", "on"]));
    let (api_key, secret) = (field(&key, "api_key"), field(&key, "api_secret"));
    assert_eq!((reads(&server, NAMES, &secret), reads(&server, EXPORT, &secret)), (200, 403));
    assert_eq!(get(&server.signed(NAMES, &api_key, &secret), None).0, 200);
    assert_eq!(get(&server.signed(EXPORT, &api_key, &secret), None).0, 403);
    assert_eq!(post(&format!("{}/import", server.base), "[]", Some(&basic(&secret, ""))).0, 403, "it has no right to import");
    // With the legacy signature off only a hash is stored: nothing can be signed, and nothing revealed.
    run(&server, &on(&["key", "legacy", "--api-key", &api_key, "--legacy", "off"]));
    let refused = get(&server.signed(NAMES, &api_key, &secret), None);
    assert!(refused.0 == 400 && refused.1.contains("Invalid API signature"), "{refused:?}");
    assert_eq!(reads(&server, NAMES, &secret), 200);
    assert!(server.commands().run(&on(&["key", "reveal", "--api-key", &api_key]), "").is_none());
    run(&server, &on(&["key", "revoke", "--api-key", &api_key]));
    let (status, body) = get(&format!("{}{NAMES}", server.base), Some(&basic(&secret, "")));
    assert!(status == 401 && body.contains("credential revoked on "), "{body}");
    assert_eq!(reads(&server, NAMES, "test_secret"), 200, "the first key lives on");
    assert_eq!(reads(&server, EXPORT, "test_secret"), 200);
    let newest = &run(&server, &["audit", "list", "--project", "1", "--rows-max", "1"])[0];
    assert_eq!(
        (&newest["action"], &newest["actor"], &newest["detail"]),
        (&"export".into(), &"key 1".into(), &"2020-01-01 to 2020-01-02".into())
    );
}

#[test]
fn a_key_is_bound_to_networks_and_ends_by_itself() {
    let server = TestServer::start_with("[listen]\ntrusted_proxies = [\"127.0.0.1\"]\n");
    let secret = |args: &[&str]| field(&run(&server, &on(&[&["key", "create", "--rights", "query"], args].concat())), "api_secret");
    let from = |secret: &str, forwarded: &str| {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let request = agent.get(format!("{}{NAMES}", server.base)).header("authorization", basic(secret, ""));
        request.header("x-forwarded-for", forwarded).call().unwrap().status().as_u16()
    };
    let bound = secret(&["--networks", "10.0.0.0/8,2001:db8::/32"]);
    assert_eq!(reads(&server, NAMES, &bound), 403);
    assert_eq!((from(&bound, "10.1.2.3"), from(&bound, "1.2.3.4, 2001:db8::7"), from(&bound, "10.1.2.3, 11.0.0.1")), (200, 200, 403));
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let short = secret(&["--expires-at", &(now + 2).to_string()]);
    assert_eq!(reads(&server, NAMES, &short), 200);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(reads(&server, NAMES, &short), 401);
}

#[test]
fn a_rotation_has_no_gap_and_ends_when_it_should() {
    let server = TestServer::start();
    let new = run(&server, &on(&["key", "rotate", "--overlap", "2s"]));
    let (api_key, secret) = (field(&new, "api_key"), field(&new, "api_secret"));
    assert_eq!((reads(&server, NAMES, "test_secret"), reads(&server, NAMES, &secret)), (200, 200), "both live");
    assert_eq!(get(&server.signed(NAMES, "test_key", "test_secret"), None).0, 200);
    assert!(server.commands().run(&on(&["key", "rotate", "--api-key", "test_key"]), "").is_none(), "it was rotated already");
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!((reads(&server, NAMES, "test_secret"), reads(&server, NAMES, &secret)), (401, 200));
    assert_eq!(get(&server.signed(NAMES, "test_key", "test_secret"), None).0, 401);
    // Cut now.
    let newest = field(&run(&server, &on(&["key", "rotate", "--overlap", "30d"])), "api_secret");
    run(&server, &on(&["key", "revoke", "--api-key", &api_key]));
    assert_eq!((reads(&server, NAMES, &secret), reads(&server, NAMES, &newest)), (401, 200));
    assert!(server.commands().run(&on(&["key", "rotate", "--overlap", "31d"]), "").is_none());
    let callers = run(&server, &["credentials", "callers", "--project", "1"]);
    let callers = callers.as_array().unwrap();
    assert!(
        callers.iter().any(|caller| caller["outcome"] == "revoked" && caller["scheme"] == "signature" && caller["credential"] == "key 1")
    );
    assert!(callers.iter().any(|caller| caller["outcome"] == "accepted" && caller["endpoint"] == "/api/2.0/events/names"));
}

#[test]
fn roles_decide_who_may_what() {
    let server = TestServer::start();
    for email in ["admin@example.com", "analyst@example.com", "consumer@example.com", "stranger@example.com"] {
        account(&server, email);
    }
    for role in ["admin", "analyst", "consumer"] {
        run(&server, &on(&["member", "add", "--email", &format!("{role}@example.com"), "--role", role]));
    }
    let may = |who: &str, args: &[&str]| {
        server.commands().run(&[args, &["--project", "1", "--as", &format!("{who}@example.com")]].concat(), "").is_some()
    };
    let create = ["key", "create", "--rights", "query"];
    let (delete, member) =
        (["key", "create", "--rights", "data-deletion"], ["member", "role", "--email", "consumer@example.com", "--role", "analyst"]);
    let (reset, reveal) = (["credentials", "reset"], ["key", "reveal"]);
    let owner = ["member", "role", "--email", "admin@example.com", "--role", "owner"];
    let ticket = ["ticket", "open", "--reason", "it leaked"];
    //                       create delete member reset reveal owner ticket
    let expected = [
        ("stranger", [false, false, false, false, false, false, false]),
        ("consumer", [false, false, false, false, false, false, false]),
        ("analyst", [false, false, false, false, false, false, false]),
        ("admin", [true, false, true, false, true, false, false]),
        ("o", [true, true, true, true, true, true, true]),
    ];
    for (who, allowed) in expected {
        let found = [
            may(who, &create),
            may(who, &delete),
            may(who, &member),
            may(who, &reset),
            may(who, &reveal),
            may(who, &owner),
            may(who, &ticket),
        ];
        assert_eq!(found, allowed, "{who}");
    }
}

#[test]
fn a_project_changes_hands_in_two_steps_and_is_never_without_an_owner() {
    let server = TestServer::start();
    account(&server, "b@example.com");
    let as_b = |args: &[&str]| server.commands().run(&[args, &["--project", "1", "--as", "b@example.com"]].concat(), "").is_some();
    assert!(server.commands().run(&on(&["member", "remove", "--email", "o@example.com"]), "").is_none(), "the last owner stays");
    assert!(server.commands().run(&on(&["member", "role", "--email", "o@example.com", "--role", "admin"]), "").is_none());
    assert!(!as_b(&["transfer", "accept"]), "nothing was offered");
    run(&server, &on(&["transfer", "offer", "--to", "b@example.com"]));
    assert!(!as_b(&["credentials", "reset"]), "an offer changes nothing");
    assert!(as_b(&["transfer", "accept"]) && as_b(&["credentials", "reset"]));
    assert!(server.commands().run(&on(&["credentials", "reset"]), "").is_none(), "who offered it is an admin now");
}

#[test]
fn a_persons_token_goes_with_the_person() {
    let server = TestServer::start();
    account(&server, "a@example.com");
    run(&server, &on(&["member", "add", "--email", "a@example.com", "--role", "analyst"]));
    let token = field(&run(&server, &["bearer-token", "create", "--as", "a@example.com", "--name", "scripts"]), "bearer_token");
    let reads = |path: &str| get(&format!("{}{path}", server.base), Some(&format!("Bearer {token}"))).0;
    assert_eq!((reads(&format!("{NAMES}&project_id=1")), reads(NAMES), reads(&format!("{NAMES}&project_id=2"))), (200, 400, 403));
    run(&server, &on(&["member", "role", "--email", "a@example.com", "--role", "consumer"]));
    assert_eq!((reads(&format!("{NAMES}&project_id=1")), reads(&format!("{EXPORT}&project_id=1"))), (200, 403));
    run(&server, &on(&["member", "remove", "--email", "a@example.com"]));
    assert_eq!(reads(&format!("{NAMES}&project_id=1")), 403);
    run(&server, &["bearer-token", "revoke", "--as", "a@example.com", "--id", "1"]);
    assert_eq!(reads(&format!("{NAMES}&project_id=1")), 401);
}

#[test]
fn a_token_is_reset_by_a_ticket_and_the_old_one_goes_on_for_a_while() {
    let server = TestServer::start();
    account(&server, "b@example.com");
    let send =
        |token: &str| post(&format!("{}/track", server.base), &format!(r#"[{{"event":"E","properties":{{"token":"{token}"}}}}]"#), None).1;
    let ticket = run(&server, &on(&["ticket", "open", "--reason", "it stands in a competitor's app"]))["ticket"].to_string();
    assert!(server.commands().run(&["ticket", "approve", "--ticket", &ticket, "--as", "b@example.com"], "").is_none(), "operators answer");
    run(&server, &["ticket", "say", "--ticket", &ticket, "--as", "o@example.com", "--text", "soon, please"]);
    let token = field(&run(&server, &["ticket", "approve", "--ticket", &ticket, "--as", "o@example.com", "--alias-days", "30"]), "token");
    assert_eq!((send(&token).as_str(), send("test_token").as_str()), ("1", "1"));
    let events =
        || get(&format!("{}/api/2.0/events?event=E&type=general&unit=day&interval=1", server.base), Some(&basic("test_secret", ""))).1;
    assert!(events().contains(": 2}"), "both arrive: {}", events());
    let tickets = run(&server, &["ticket", "list", "--project", "1"]);
    assert_eq!((&tickets[0]["state"], &tickets[0]["old_tokens"][0]["events"]), (&Value::from("approved"), &Value::from(1)));
    assert_eq!(tickets[0]["messages"].as_array().unwrap().len(), 2);
    // Another reset, whose old token ends at once.
    let ticket = run(&server, &on(&["ticket", "open", "--reason", "again"]))["ticket"].to_string();
    let newest = field(&run(&server, &["ticket", "approve", "--ticket", &ticket, "--alias-days", "0"]), "token");
    assert_eq!(send(&token), "1", "what nobody owns is answered like any other");
    assert!(events().contains(": 2}"), "and not stored: {}", events());
    assert_eq!(send(&newest), "1");
    assert!(events().contains(": 3}"));
}

#[test]
fn every_edit_of_the_audit_log_is_found() {
    let mut server = TestServer::start();
    for _ in 0..3 {
        run(&server, &on(&["credentials", "reset"]));
    }
    let verify = |server: &TestServer| server.commands().run(&["audit", "verify"], "").is_some();
    assert!(verify(&server));
    let actions = run(&server, &["audit", "list", "--project", "1"]);
    assert_eq!(
        actions.as_array().unwrap().iter().filter(|row| row["action"] == "credentials reset" && row["actor"] == "account 1").count(),
        3
    );
    server.kill();
    let database = server.data().join("metastore.sqlite");
    let whole = || {
        // The log of the database goes into it when it is opened and closed.
        server.commands().run(&["audit", "list"], "").unwrap();
        std::fs::read(&database).unwrap()
    };
    let before = whole();
    let put = |bytes: &[u8]| {
        for end in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", database.display()));
        }
        std::fs::write(&database, bytes).unwrap();
    };
    let mut tried = 0;
    for word in ["credentials reset", "account 1", "project create"] {
        let places: Vec<usize> = (0..before.len() - word.len()).filter(|at| before[*at..].starts_with(word.as_bytes())).collect();
        for at in places {
            let mut bent = before.clone();
            bent[at] ^= 1;
            put(&bent);
            assert!(!verify(&server), "`{word}` was changed at {at}");
            tried += 1;
        }
    }
    assert!(tried >= 5, "only {tried} edits were tried");
    put(&before);
    assert!(verify(&server));
}

#[test]
fn the_wrapping_key_changes_while_the_server_runs() {
    let mut server = TestServer::start();
    let key_file = server.data().with_extension("key");
    let before = std::fs::read(&key_file).unwrap();
    assert_eq!(run(&server, &["kek", "rotate"])["data_keys"], 1);
    assert_ne!(std::fs::read(&key_file).unwrap(), before);
    for _ in 0..2 {
        assert_eq!(get(&server.signed(NAMES, "test_key", "test_secret"), None).0, 200);
        server.crash_and_restart();
    }
    // Without the key file signatures wait, and a reset gives a new one.
    server.kill();
    std::fs::rename(&key_file, key_file.with_extension("lost")).unwrap();
    server.restart();
    assert_eq!(get(&server.signed(NAMES, "test_key", "test_secret"), None).0, 503);
    assert_eq!(reads(&server, NAMES, "test_secret"), 200, "a hash is enough");
    let new = run(&server, &on(&["credentials", "reset"]));
    assert_eq!(get(&server.signed(NAMES, &field(&new, "api_key"), &field(&new, "api_secret")), None).0, 200);
}

#[test]
fn a_restored_backup_revives_nothing_and_loses_nothing() {
    let mut server = TestServer::start();
    let import = |server: &TestServer, secret: &str, id: &str| {
        let event = format!(r#"[{{"event":"E","properties":{{"time":1577836800,"distinct_id":"u","$insert_id":"{id}"}}}}]"#);
        assert_eq!(post(&format!("{}/import?strict=1", server.base), &event, Some(&basic(secret, ""))).0, 200);
    };
    import(&server, "test_secret", "before");
    let extra = field(&run(&server, &on(&["key", "create", "--rights", "query", "--legacy", "on"])), "api_secret");
    let file = server.data().with_extension("backup");
    let path = file.to_str().unwrap();
    assert!(run(&server, &["backup", path])["files"].as_i64().unwrap() >= 2);
    let bytes = std::fs::read(&file).unwrap();
    for secret in ["test_secret", &extra] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "a backup holds no secret");
    }
    import(&server, "test_secret", "after");
    // Restored with nothing revoked since: all goes on.
    server.kill();
    assert_eq!(run(&server, &["restore", path])["projects_waiting"], serde_json::json!([]));
    server.restart();
    let export = |server: &TestServer, secret: &str| get(&format!("{}{EXPORT}", server.base), Some(&basic(secret, ""))).1;
    assert!(export(&server, "test_secret").contains("before") && !export(&server, "test_secret").contains("after"));
    // Restored after a reset: what was revoked stays dead, and the rest waits for an owner.
    let new = field(&run(&server, &on(&["credentials", "reset"])), "api_secret");
    server.kill();
    assert_eq!(run(&server, &["restore", path])["projects_waiting"], serde_json::json!([1]));
    server.restart();
    assert_eq!((reads(&server, NAMES, "test_secret"), reads(&server, NAMES, &extra), reads(&server, NAMES, &new)), (401, 401, 401));
    assert_eq!(get(&server.signed(NAMES, "test_key", "test_secret"), None).0, 401);
    assert_eq!(
        post(&format!("{}/track", server.base), r#"[{"event":"E","properties":{"token":"test_token"}}]"#, None).1,
        "1",
        "tokens take events"
    );
    run(&server, &on(&["credentials", "confirm"]));
    assert_eq!(reads(&server, NAMES, "test_secret"), 401, "what was reset stays dead");
    let newest = field(&run(&server, &on(&["credentials", "reset"])), "api_secret");
    assert!(export(&server, &newest).contains("before"));
    // A damaged backup changes nothing.
    let mut bent = bytes.clone();
    let middle = bent.len() / 2;
    bent[middle] ^= 1;
    std::fs::write(&file, bent).unwrap();
    server.kill();
    assert!(server.commands().run(&["restore", path], "").is_none());
    server.restart();
    assert_eq!(reads(&server, NAMES, &newest), 200);
}

/// R33 of the read contract, and the original's way to manage service accounts.
#[test]
fn service_accounts_manage_service_accounts_as_the_original_has_it() {
    let server = TestServer::start();
    let admin = run(&server, &on(&["service-account", "create", "--name", "admin", "--role", "admin"]));
    let admin = basic(&field(&admin, "username"), &field(&admin, "secret"));
    let url = |path: &str| format!("{}/api/app{path}", server.base);
    let (status, body) = get(&url("/me"), Some(&admin));
    let me: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &me["results"]["projects"]["1"]["name"]), (200, &Value::from("P")));
    let permissions = me["results"]["projects"]["1"]["permissions"].to_string();
    assert!(permissions.contains("view_base_reports") && !permissions.contains("reset_api_key"), "{permissions}");
    let make = |body: &str| post(&url("/organizations/1/service-accounts"), body, Some(&admin));
    let (status, body) = make(r#"{"username":"etl","role":"consumer","projects":[{"id":1,"role":"analyst"}]}"#);
    let made: Value = serde_json::from_str(&body).unwrap();
    let made = &made["results"];
    let username = field(made, "username");
    assert!(status == 201 && username.starts_with("etl.") && username.ends_with(".mp-service-account"), "{body}");
    let etl = basic(&username, &field(made, "token"));
    assert_eq!(get(&format!("{}{NAMES}&project_id=1", server.base), Some(&etl)).0, 200);
    assert_eq!(make(r#"{"username":"king","projects":[{"id":1,"role":"owner"}]}"#).0, 403, "never more than its maker");
    assert_eq!(make(r#"{"username":"x","projects":[{"id":2}]}"#).0, 403);
    assert_eq!(make("nonsense").1, r#"{"status":"error","error":"Invalid JSON body"}"#);
    let list = get(&url("/projects/1/service-accounts"), Some(&admin)).1;
    assert!(list.contains(&username) && !list.contains(&field(made, "token")), "{list}");
    let one = url(&format!("/organizations/1/service-accounts/{}", made["id"]));
    assert_eq!(get(&one, Some(&admin)).0, 200);
    assert_eq!(get(&one, Some(&etl)).0, 403);
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    assert_eq!(agent.delete(&one).header("authorization", &admin).call().unwrap().status(), 200);
    assert_eq!(get(&format!("{}{NAMES}&project_id=1", server.base), Some(&etl)).0, 401, "it is dead at once");
    let audit = server.cli(&["audit", "list", "--project", "1"], "");
    assert!(audit.contains("\"actor\":\"service account admin."), "{audit}");
}

/// A secret as old scripts know it, and what a list tells of how a key was last used.
#[test]
fn a_classic_secret_is_32_hex_digits_and_called_not_scannable() {
    let server = TestServer::start();
    let made = run(&server, &on(&["key", "create", "--rights", "query", "--legacy", "on", "--classic"]));
    let secret = field(&made, "api_secret");
    assert!(secret.len() == 32 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()), "{secret}");
    assert_eq!(get(&server.signed(NAMES, &field(&made, "api_key"), &secret), None).0, 200);
    run(&server, &["credentials", "callers", "--project", "1"]);
    let keys = run(&server, &on(&["key", "list"]));
    let key = keys.as_array().unwrap().iter().find(|key| key["api_key"] == made["api_key"]).unwrap();
    assert_eq!((&key["scannable"], &key["weak"]), (&Value::Bool(false), &Value::Bool(false)));
    let used = &key["last_used"];
    assert_eq!(
        (&used["scheme"], &used["endpoint"], &used["address"]),
        (&"signature".into(), &"/api/2.0/events/names".into(), &"127.0.0.1".into())
    );
    let again = run(&server, &on(&["key", "rotate", "--api-key", &field(&made, "api_key")]));
    assert!(field(&again, "api_secret").starts_with("slcs_"), "what takes its place can be scanned for");
}
