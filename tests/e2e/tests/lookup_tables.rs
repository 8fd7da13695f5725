//! Lookup tables and group keys on the real binary: what was put in place survives crashes and comes back from a backup, from the command
//! line, the management API and scripts alike.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write;

use e2e::{Browser, TestServer, basic, field};
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse";
/// Project 1's secret.
const SECRET: &str = "test_secret";

/// PUTs a content: status, `Retry-After` and answer.
fn put(server: &TestServer, id: &str, secret: &str, body: &[u8]) -> (u16, Option<String>, Value) {
    let request = ureq::http::Request::builder().method("PUT").uri(format!("{}/lookup-tables/{id}", server.base));
    let request = request.header("authorization", basic(secret, "")).header("content-type", "text/csv");
    let mut response = e2e::agent().run(request.body(body).unwrap()).unwrap();
    let wait = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), wait, serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn run(server: &TestServer, args: &[&str]) -> Value {
    serde_json::from_str(&server.cli(args, "")).unwrap()
}

/// Sends an event `E` for each of some values of `song`.
fn send(server: &TestServer, songs: &[Value]) {
    let events = songs.iter().enumerate().map(|(at, song)| {
        json!({ "event": "E", "properties": { "time": 1577836800, "distinct_id": "u", "$insert_id": format!("e{at}"), "song": song } })
    });
    let body = Value::Array(events.collect()).to_string();
    assert_eq!(e2e::post(&format!("{}/import?strict=1", server.base), &body, Some(&basic(SECRET, ""))).0, 200);
}

/// How many events each value of an expression has.
fn counts(server: &TestServer, on: &str) -> Value {
    let on = wire::params::encode(on);
    let path = format!("/api/2.0/segmentation?event=E&unit=day&from_date=2020-01-01&to_date=2020-01-01&on={on}");
    let (status, text) = e2e::get(&format!("{}{path}", server.base), Some(&basic(SECRET, "")));
    assert_eq!(status, 200, "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    let values = answer["data"]["values"].as_object().unwrap();
    Value::Object(values.iter().map(|(key, days)| (key.clone(), days["2020-01-01"].clone())).collect())
}

const ON: &str = r#"properties["song.artist"]"#;

#[test]
fn a_content_survives_crash_restart_backup_and_restore() {
    let mut server = TestServer::start();
    send(&server, &[json!("s1"), json!("s2"), json!("s2"), json!(7)]);
    let made = run(&server, &["lookup-table", "create", "--project", "1", "--name", "Songs", "--event-property", "song"]);
    let id = field(&made, "id");
    let folder = tempfile::tempdir().unwrap();
    let file = |text: &str| {
        let path = folder.path().join("songs.csv");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let replace = |server: &TestServer, text: &str| run(server, &["lookup-table", "replace", "--project", "1", "--id", &id, &file(text)]);
    assert_eq!(counts(&server, ON), json!({ "undefined": 4 }), "a table without content");
    assert_eq!(replace(&server, "id,artist\ns1,Drake\ns2,Gipsy Kings\n7,Daft Punk\n"), json!({ "rows": 3 }));
    let first = json!({ "Drake": 1, "Gipsy Kings": 2, "Daft Punk": 1 });
    assert_eq!(counts(&server, ON), first);
    server.crash_and_restart();
    assert_eq!(counts(&server, ON), first);
    let backup = server.data().with_extension("backup");
    assert!(run(&server, &["backup", backup.to_str().unwrap()])["files"].as_i64().unwrap() >= 3);
    assert_eq!(put(&server, &id, SECRET, b"id,artist\ns1,Somebody\n"), (200, None, json!({ "code": 200, "status": "OK" })));
    let second = json!({ "Somebody": 1, "undefined": 3 });
    assert_eq!(counts(&server, ON), second);
    server.crash_and_restart();
    assert_eq!(counts(&server, ON), second);
    let files = || e2e::walk(&server.data().join("lookup-tables")).len();
    assert_eq!(files(), 1, "what a table had before is gone");
    // In place, where no server runs.
    server.stop();
    assert_eq!(replace(&server, "id,artist\ns1,In place\n"), json!({ "rows": 1 }));
    assert!(server.commands().run(&["lookup-table", "replace", "--project", "1", "--id", &id, &file("id\ns1\n")], "").is_none());
    let listed = run(&server, &["lookup-table", "list", "--project", "1"]);
    assert_eq!((&listed[0]["rows"], &listed[0]["columns"]), (&json!(1), &json!(["artist"])));
    server.restart();
    assert_eq!(counts(&server, ON), json!({ "In place": 1, "undefined": 3 }));
    assert_eq!(e2e::walk(&server.data().join("lookup-tables")).len(), 1);
    server.stop();
    run(&server, &["restore", backup.to_str().unwrap()]);
    server.restart();
    assert_eq!(counts(&server, ON), first);
    run(&server, &["lookup-table", "delete", "--project", "1", "--id", &id]);
    assert_eq!(counts(&server, ON), json!({ "undefined": 4 }));
    assert!(e2e::walk(&server.data().join("lookup-tables")).is_empty());
    let told = run(&server, &["audit", "list", "--project", "1"]).to_string();
    for action in ["lookup table create", "lookup table replace", "lookup table delete"] {
        assert!(told.contains(action), "{told}");
    }
    assert_eq!(run(&server, &["audit", "verify"])["intact"], true);
}

#[test]
fn a_project_replaces_so_often_a_day() {
    let mut server = TestServer::start_with("[lookup_tables]\ncalls_per_day_max = 2\n");
    let other = ["--token", "other_token", "--api-key", "other_key", "--api-secret", "other_secret", "--allow-weak"];
    server.cli(&[&["project", "create", "--owner", "o@example.com", "--name", "Q"][..], &other].concat(), "");
    let table = |project: &str| field(&run(&server, &["lookup-table", "create", "--project", project, "--name", "T"]), "id");
    let (own, others) = (table("1"), table("2"));
    assert_eq!(put(&server, &own, SECRET, b"id,a\n1,x\n").0, 200);
    // One that fails is a call too; one for a table that there is not is none.
    assert_eq!(put(&server, &own, SECRET, b"id\n").0, 400);
    assert_eq!(put(&server, &others, SECRET, b"id,a\n1,x\n").0, 404);
    let refused = json!({
        "code": 429,
        "error": "Project exceeded rate limits. Please retry the request with exponential backoff.",
        "status": "Too Many Requests",
    });
    for _ in 0..2 {
        let (status, wait, answer) = put(&server, &own, SECRET, b"id,a\n1,x\n");
        assert_eq!((status, answer), (429, refused.clone()));
        let wait: u64 = wait.unwrap().parse().unwrap();
        assert!((86_000..=86_401).contains(&wait), "{wait}");
        server.crash_and_restart();
    }
    assert_eq!(put(&server, &others, "other_secret", b"id,a\n1,x\n").0, 200);
}

#[test]
fn a_large_content_is_taken_and_one_too_large_is_not() {
    let server = TestServer::start();
    send(&server, &[json!("k199999"), json!("k0"), json!("k200000")]);
    let id = field(&run(&server, &["lookup-table", "create", "--project", "1", "--name", "T", "--event-property", "song"]), "id");
    let mut file = String::from("id,artist,number\n");
    (0..200_000).for_each(|row| file.push_str(&format!("k{row},artist {},{row}\n", row % 1000)));
    assert_eq!(put(&server, &id, SECRET, &gzip(file.as_bytes())).0, 200);
    assert_eq!(counts(&server, ON), json!({ "artist 999": 1, "artist 0": 1, "undefined": 1 }));
    assert_eq!(counts(&server, r#"properties["song.number"]"#), json!({ "199999": 1, "0": 1, "undefined": 1 }));
    let bomb = [b"id,artist\nk,".as_slice(), &vec![b'x'; 100 * 1024 * 1024]].concat();
    let (status, _, answer) = put(&server, &id, SECRET, &gzip(&bomb));
    assert_eq!((status, &answer["error"]), (413, &json!("request exceeds max limit of 104857600 bytes")));
    assert_eq!(put(&server, &id, SECRET, &gzip(file.as_bytes())[..1000]).0, 400);
    assert_eq!(counts(&server, ON), json!({ "artist 999": 1, "artist 0": 1, "undefined": 1 }), "what was there stays");
}

#[test]
fn the_management_api_makes_changes_and_ends() {
    let server = TestServer::start();
    send(&server, &[json!("s1"), json!("s2")]);
    let mut owner = Browser::signed_in(&server, "o@example.com", PASSWORD);
    let mut call = |method: &str, path: &str, body: Value| {
        let (status, answer) = owner.call(method, &format!("/projects/1{path}"), (method != "GET").then_some(&body));
        (status, answer)
    };
    let songs = json!([{ "source": "event", "property": "song" }]);
    let (status, made) = call("POST", "/lookup-tables", json!({ "name": "Songs", "properties": songs }));
    assert_eq!((status, &made["name"], &made["properties"], &made["rows"]), (200, &json!("Songs"), &songs, &json!(0)), "{made}");
    let id = field(&made, "id");
    assert_eq!(put(&server, &id, SECRET, b"id,artist\ns1,Drake\n").0, 200);
    let (_, listed) = call("GET", "/lookup-tables", Value::Null);
    assert_eq!((&listed[0]["columns"], &listed[0]["rows"]), (&json!(["artist"]), &json!(1)));
    assert_eq!(call("POST", "/lookup-tables", json!({ "name": "Twice", "properties": songs })).0, 400);
    assert_eq!(counts(&server, ON), json!({ "Drake": 1, "undefined": 1 }));
    let path = format!("/lookup-tables/{id}");
    assert_eq!(call("PATCH", &path, json!({ "name": "Tracks", "properties": [{ "source": "profile", "property": "song" }] })).0, 200);
    assert_eq!(counts(&server, ON), json!({ "undefined": 2 }), "no property of events leads to it");
    assert_eq!(call("PATCH", &path, json!({ "properties": songs })).0, 200);
    assert_eq!(counts(&server, ON), json!({ "Drake": 1, "undefined": 1 }));
    assert_eq!(call("DELETE", &path, json!({})).0, 200);
    assert_eq!(call("DELETE", &path, json!({})).0, 404);
    assert_eq!(put(&server, &id, SECRET, b"id,artist\ns1,Drake\n").0, 404);
    assert_eq!(counts(&server, ON), json!({ "undefined": 2 }));

    let (status, made) = call("POST", "/group-keys", json!({ "key": "song", "name": "Song" }));
    assert_eq!(status, 200, "{made}");
    let group = field(&made, "data_group_id");
    assert_eq!(call("POST", "/group-keys", json!({ "key": "song" })).0, 409);
    assert_eq!(call("GET", "/group-keys", Value::Null).1[0]["data_group_id"], json!(group));
    let record = r#"[{"$token":"test_token","$group_key":"song","$group_id":"s1","$set":{"artist":"Drake"}}]"#;
    assert_eq!(e2e::post(&format!("{}/groups", server.base), record, None).1, "1");
    let (_, read) = e2e::get(&format!("{}/api/2.0/engage?data_group_id={group}", server.base), Some(&basic(SECRET, "")));
    assert!(read.contains(r#""$distinct_id": "s1""#), "{read}");
    const OF_GROUP: &str = r#"group_properties["artist"]"#;
    assert_eq!(counts(&server, OF_GROUP), json!({ "Drake": 1, "undefined": 1 }));
    assert_eq!(call("DELETE", &format!("/group-keys/{group}"), json!({})).0, 200);
    assert_eq!(counts(&server, OF_GROUP), json!({ "undefined": 2 }));
    let (_, told) = call("GET", "/audit", Value::Null);
    for action in ["group key add", "group key remove", "lookup table change"] {
        assert!(told.to_string().contains(action), "{told}");
    }
}
