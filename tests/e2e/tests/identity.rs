//! Somebody looks around, signs in, and what was done before is theirs: in counts and in exports, whatever the server goes through.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use e2e::{Browser, TestServer, get, post};

const TOKEN: &str = "test_token";
const SECRET: &str = "Basic dGVzdF9zZWNyZXQ6";

fn track(server: &TestServer, name: &str, ids: &str) {
    let body = format!(r#"[{{"event":"{name}","properties":{{"token":"{TOKEN}",{ids}}}}}]"#);
    assert_eq!(post(&format!("{}/track", server.base), &body, None), (200, "1".to_owned()), "{body}");
}

fn uniques(server: &TestServer, name: &str) -> u64 {
    let now = jiff::Timestamp::now();
    let day = |at: jiff::Timestamp| at.strftime("%Y-%m-%d").to_string();
    let days = (day(now - jiff::SignedDuration::from_hours(24)), day(now));
    let url = format!("{}/api/2.0/segmentation?event={name}&type=unique&unit=month&from_date={}&to_date={}", server.base, days.0, days.1);
    let body: serde_json::Value = serde_json::from_str(&get(&url, Some(SECRET)).1).unwrap();
    // The test may begin in one month and end in another.
    body["data"]["values"][name].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).max().unwrap()
}

/// `distinct_id` and the id that was sent, of every event, sorted.
fn exported(server: &TestServer, name: &str) -> Vec<(String, Option<String>)> {
    let now = jiff::Timestamp::now();
    let day = |at: jiff::Timestamp| at.strftime("%Y-%m-%d").to_string();
    let days = (day(now - jiff::SignedDuration::from_hours(24)), day(now));
    let url = format!("{}/api/2.0/export?event={name}&from_date={}&to_date={}", server.base, days.0, days.1);
    let ids = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| line["properties"][name].as_str().map(str::to_owned);
        (text("distinct_id").unwrap(), text("$distinct_id_before_identity"))
    };
    let mut found: Vec<_> = get(&url, Some(SECRET)).1.lines().map(ids).collect();
    found.sort();
    found
}

fn own(id: &str) -> (String, Option<String>) {
    (id.to_owned(), None)
}

fn moved(id: &str, before: &str) -> (String, Option<String>) {
    (id.to_owned(), Some(before.to_owned()))
}

#[test]
fn what_was_done_before_signing_in_is_the_users() {
    let mut server = TestServer::start();
    for device in ["phone", "laptop"] {
        for _ in 0..3 {
            track(&server, "View", &format!(r#""distinct_id":"$device:{device}","$device_id":"{device}""#));
        }
    }
    let strangers = [vec![own("$device:laptop"); 3], vec![own("$device:phone"); 3]].concat();
    assert_eq!((uniques(&server, "View"), exported(&server, "View")), (2, strangers));

    track(&server, "Login", r#""distinct_id":"ann","$device_id":"phone","$user_id":"ann""#);
    let one_known = [vec![own("$device:laptop"); 3], vec![moved("ann", "$device:phone"); 3]].concat();
    assert_eq!((uniques(&server, "View"), exported(&server, "View")), (2, one_known.clone()));
    // The log alone has the link now; then a segment has it.
    server.crash_and_restart();
    assert_eq!((uniques(&server, "View"), exported(&server, "View")), (2, one_known.clone()), "after kill -9");
    server.stop();
    server.restart();
    assert_eq!((uniques(&server, "View"), exported(&server, "View")), (2, one_known), "after a restart");

    // Nobody takes the device away, and the other device is the same user's from its first event on.
    track(&server, "Login", r#""distinct_id":"eve","$device_id":"phone","$user_id":"eve""#);
    track(&server, "Login", r#""distinct_id":"ann","$device_id":"laptop","$user_id":"ann""#);
    track(&server, "View", r#""distinct_id":"$device:phone","$device_id":"phone""#);
    let known = [vec![moved("ann", "$device:laptop"); 3], vec![moved("ann", "$device:phone"); 4]].concat();
    assert_eq!((uniques(&server, "View"), exported(&server, "View")), (1, known.clone()));
    assert_eq!(uniques(&server, "Login"), 2);
    server.crash_and_restart();
    server.stop();
    server.restart();
    server.crash_and_restart();
    assert_eq!((uniques(&server, "View"), exported(&server, "View")), (1, known), "after all of it");
    assert_eq!(exported(&server, "Login"), [own("ann"), own("ann"), own("eve")]);
}

#[test]
fn a_backup_has_the_links() {
    let mut server = TestServer::start();
    track(&server, "View", r#""$device_id":"d1""#);
    track(&server, "Login", r#""$device_id":"d1","$user_id":"ann""#);
    // One link is in a segment by then, one in the log.
    server.stop();
    server.restart();
    track(&server, "Login", r#""$device_id":"d0","$user_id":"zoe""#);
    track(&server, "View", r#""$device_id":"d0""#);
    let file = server.data().with_extension("backup");
    server.cli(&["backup", file.to_str().unwrap()], "");
    track(&server, "Login", r#""$device_id":"d2","$user_id":"ann""#);
    track(&server, "View", r#""$device_id":"d2""#);
    assert_eq!(exported(&server, "View"), [moved("ann", "$device:d1"), moved("ann", "$device:d2"), moved("zoe", "$device:d0")]);
    server.kill();
    server.cli(&["restore", file.to_str().unwrap()], "");
    server.restart();
    assert_eq!(exported(&server, "View"), [moved("ann", "$device:d1"), moved("zoe", "$device:d0")]);
    track(&server, "View", r#""$device_id":"d2""#);
    assert_eq!(exported(&server, "View"), [own("$device:d2"), moved("ann", "$device:d1"), moved("zoe", "$device:d0")]);
}

#[test]
fn an_admin_chooses_how_ids_are_linked() {
    let server = TestServer::start();
    let mut page = Browser::signed_in(&server, "o@example.com", "correct horse");
    let mode = |page: &mut Browser| page.call("GET", "/projects/1", None).1["identity_mode"].as_str().unwrap().to_owned();
    assert_eq!(mode(&mut page), "simplified");
    let asked = serde_json::json!({"identity_mode": "original"});
    assert_eq!(page.call("PATCH", "/projects/1", Some(&asked)).0, 200);
    assert_eq!(mode(&mut page), "original");
    let unknown = serde_json::json!({"identity_mode": "both"});
    assert_eq!(page.call("PATCH", "/projects/1", Some(&unknown)).0, 400);
    // What came before was linked by the rules of then.
    let before = r#""distinct_id":"u","$device_id":"d","$user_id":"u""#;
    track(&server, "Login", before);
    track(&server, "View", r#""distinct_id":"$device:d","$device_id":"d""#);
    assert_eq!(exported(&server, "View"), [own("$device:d")]);
    server.cli(&["project", "set", "--project", "1", "--identity-mode", "simplified"], "");
    assert_eq!(exported(&server, "View"), [own("$device:d")]);
    track(&server, "Login", before);
    assert_eq!(exported(&server, "View"), [moved("u", "$device:d")]);
}

/// P4 and P8 of the security bar: what joins users is refused to the token alone where the project asks for more.
#[test]
fn the_token_alone_joins_no_known_users_where_a_project_minds() {
    let server = TestServer::start();
    let set = |options: &[&str]| drop(server.cli(&[&["project", "set", "--project", "1"], options].concat(), ""));
    set(&["--identity-mode", "original"]);
    const VICTIM: &str = "a1a1a1a1-0000-4000-8000-000000000001";
    track(&server, "View", &format!(r#""distinct_id":"{VICTIM}""#));
    let send = |path: &str, name: &str, properties: &str, authorization: Option<&str>| {
        let body = format!(r#"[{{"event":"{name}","properties":{{"token":"{TOKEN}",{properties}}}}}]"#);
        post(&format!("{}{path}", server.base), &body, authorization).1
    };
    let merge = format!(r#""$distinct_ids":["mallory","{VICTIM}"]"#);
    let token = e2e::basic(TOKEN, "");
    assert_eq!(send("/track", "$merge", &merge, None), "1", "stored like any event, and not merged");
    set(&["--deletes-need-secret", "true"]);
    assert_eq!(send("/import", "$merge", &merge, Some(&token)), "0");
    set(&["--identity-needs-signature", "true"]);
    let secret =
        e2e::field(&serde_json::from_str(&server.cli(&["project", "identity-secret", "--project", "1"], "")).unwrap(), "identity_secret");
    let now = jiff::Timestamp::now().as_second();
    let proof = format!(r#""$identity_signed_at":{now},"$identity_signature":"{}""#, wire::identity::sign(&secret, "mallory", now));
    let identify = |anonymous: &str| format!(r#""distinct_id":"mallory","$anon_distinct_id":"{anonymous}",{proof}"#);
    assert_eq!(send("/track", "$identify", &identify(VICTIM), None), "0", "it may be a user's id");
    assert_eq!(send("/track", "$create_alias", &format!(r#""distinct_id":"mallory","alias":"{VICTIM}",{proof}"#), None), "0");
    assert_eq!(exported(&server, "View"), [own(VICTIM)]);
    // A device is nobody's yet, and a secret may join whom it likes.
    assert_eq!(send("/track", "$identify", &identify("$device:b2b2b2b2-0000-4000-8000-000000000002"), None), "1");
    assert_eq!(send("/import", "$merge", &merge, Some(SECRET)), "1");
    assert_eq!(exported(&server, "View"), [moved("mallory", VICTIM)]);
}
