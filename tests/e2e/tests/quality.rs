//! What an owner sees of the data that comes in: what was not stored as it was sent, the lexicon, live events.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use e2e::{Browser, TestServer, basic, get, post};
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse";
const OWNER: &str = "o@example.com";

fn now() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

fn track(server: &TestServer, events: &Value) -> String {
    post(&format!("{}/track", server.base), &events.to_string(), None).1
}

fn member(server: &TestServer, role: &str) -> Browser {
    let email = format!("{role}@example.com");
    server.cli(&["account", "create", "--email", &email, "--password-stdin"], PASSWORD);
    server.cli(&["member", "add", "--project", "1", "--email", &email, "--role", role], "");
    Browser::signed_in(server, &email, PASSWORD)
}

/// An event of the test's project.
fn event(name: &str, properties: Value) -> Value {
    let mut event = json!({ "event": name, "properties": { "token": "test_token", "distinct_id": "u" } });
    event["properties"].as_object_mut().unwrap().extend(properties.as_object().unwrap().clone());
    event
}

fn counts(rejections: &Value) -> BTreeMap<String, u64> {
    let rows = rejections["counts"].as_array().unwrap();
    rows.iter().map(|row| (row["reason"].as_str().unwrap().to_owned(), row["count"].as_u64().unwrap())).collect()
}

#[test]
fn whatever_is_not_stored_as_sent_is_counted_with_samples_and_survives_a_restart() {
    let mut server = TestServer::start();
    let mut owner = Browser::signed_in(&server, OWNER, PASSWORD);
    let deep = serde_json::from_str::<Value>(&format!("{}1{}", "[".repeat(20), "]".repeat(20))).unwrap();
    let many: Value = (0..300).map(|at| (format!("p{at}"), json!(at))).collect::<serde_json::Map<_, _>>().into();
    let secret_like = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";
    let sent = json!([
        event("Old", json!({ "time": 1_577_836_800 })),
        event("Old", json!({ "time": 1_577_836_800, "from": "10.20.30.40", "note": secret_like })),
        event("$identify", json!({ "distinct_id": "" })),
        { "event": "NoProperties" , "token": "test_token" },
        { "properties": { "token": "test_token" } },
        event("Kept", json!({ "time": now() + 90_000, "text": "x".repeat(300), "deep": deep })),
        event("Many", many),
        event("Robot", json!({ "$ignore": true })),
        event("mp_page_view", json!({})),
        event("Good", json!({})),
    ]);
    assert_eq!(track(&server, &sent), "1", "what clients are answered does not change");
    assert_eq!(track(&server, &json!([{ "event": "E", "properties": { "distinct_id": "u" } }])), "0");
    let import = format!("{}/import?strict=1", server.base);
    let strict = |event: Value| post(&import, &json!([event]).to_string(), Some(&basic("test_secret", ""))).0;
    assert_eq!(strict(event("S", json!({}))), 400);
    assert_eq!(strict(event("S", json!({ "time": now(), "$insert_id": "a b" }))), 400);
    assert_eq!(strict(event("S", json!({ "time": now(), "$insert_id": "a", "distinct_id": "null" }))), 400);
    assert_eq!(strict(event("S", json!({ "time": "noon", "$insert_id": "a" }))), 400);
    assert_eq!(strict(event("$identify", json!({ "time": now(), "$insert_id": "a" }))), 400);
    let engage = json!([{ "$token": "test_token", "$distinct_id": "u" }, { "$token": "test_token", "$set": { "a": 1 } }]);
    assert_eq!(post(&format!("{}/engage", server.base), &engage.to_string(), None).1, "0");
    // A live secret in a property: counted, and nothing of the record is shown.
    let key = server.cli(&["key", "create", "--project", "1", "--as", OWNER, "--name", "leaked", "--rights", "query"], "");
    let key: Value = serde_json::from_str(&key).unwrap();
    let secret = key["api_secret"].as_str().unwrap();
    assert_eq!(track(&server, &json!([event("Leak", json!({ "s": secret }))])), "0");
    let expected: BTreeMap<String, u64> = [
        ("time too old", 2),
        ("distinct_id missing", 2),
        ("properties missing", 1),
        ("event missing", 1),
        ("time clamped", 1),
        ("text cut", 1),
        ("too deep", 1),
        ("too many properties", 1),
        ("ignored", 1),
        ("mp_page_view", 1),
        ("time missing", 1),
        ("bad insert_id", 1),
        ("distinct_id disallowed", 1),
        ("time not a number", 1),
        ("identity event", 1),
        ("operation missing", 1),
        ("secret inside", 1),
    ]
    .into_iter()
    .map(|(reason, count)| (reason.to_owned(), count))
    .collect();
    let (status, listed) = owner.call("GET", "/projects/1/rejections", None);
    assert_eq!((status, counts(&listed)), (200, expected.clone()));
    let text = listed.to_string();
    for hidden in [secret, secret_like, "10.20.30.40", "127.0.0.1", "test_token"] {
        assert!(!text.contains(hidden), "{hidden}: {text}");
    }
    let old = listed["samples"].as_array().unwrap().iter().find(|sample| sample["reason"] == "time too old").unwrap();
    let record: Value = serde_json::from_str(old["record"].as_str().unwrap()).expect("a sample is JSON");
    assert_eq!((&record["event"], &old["field"]), (&json!("Old"), &json!("properties.time")));
    let leak = listed["samples"].as_array().unwrap().iter().find(|sample| sample["reason"] == "secret inside").unwrap();
    assert_eq!(leak["record"], json!(""));
    assert_eq!(counts(&owner.call("GET", "/projects/1/rejections?from=2020-01-01&to=2020-01-02", None).1), BTreeMap::new());
    // What was written outlives a crash, and the newest samples of a reason push out older ones.
    server.crash_and_restart();
    let mut owner = Browser::signed_in(&server, OWNER, PASSWORD);
    let olds: Vec<Value> = (0..50).map(|at| event(&format!("Old{at}"), json!({ "time": 1_577_836_800 }))).collect();
    for old in &olds {
        assert_eq!(track(&server, &json!([old])), "0");
        owner.call("GET", "/projects/1/rejections", None);
    }
    let listed: Value = serde_json::from_str(&server.cli(&["rejected", "list", "--project", "1"], "")).unwrap();
    assert_eq!(counts(&listed)["time too old"], 52);
    let samples: Vec<_> = listed["samples"].as_array().unwrap().iter().filter(|sample| sample["reason"] == "time too old").collect();
    assert!(samples.len() == 10 && samples[0]["record"].as_str().unwrap().contains("Old49"), "{samples:?}");
    let mut analyst = member(&server, "analyst");
    assert_eq!(analyst.call("GET", "/projects/1/rejections", None).0, 200);
    assert_eq!(analyst.call("DELETE", "/projects/1/rejections", Some(&json!({}))).0, 403);
    assert_eq!(owner.call("DELETE", "/projects/1/rejections", Some(&json!({}))).0, 200);
    assert_eq!(owner.call("GET", "/projects/1/rejections", None).1, json!({ "counts": [], "samples": [] }));
}

#[test]
fn unknown_tokens_are_listed_for_the_operator_and_no_secret_among_them() {
    let mut server = TestServer::start();
    let send = |server: &TestServer, token: &str| track(server, &json!([{ "event": "E", "properties": { "token": token } }]));
    for token in ["YOUR_TOKEN", "YOUR_TOKEN", "0123456789abcdef0123456789abcdef"] {
        assert_eq!(send(&server, token), "1");
    }
    let list = |server: &TestServer| serde_json::from_str::<Value>(&server.cli(&["unknown-tokens"], "")).unwrap();
    let named = |listed: &Value| -> BTreeMap<String, u64> {
        listed.as_array().unwrap().iter().map(|row| (row["token"].as_str().unwrap().to_owned(), row["count"].as_u64().unwrap())).collect()
    };
    let expected = BTreeMap::from([("…OKEN".to_owned(), 2), ("…cdef".to_owned(), 1)]);
    assert_eq!(named(&list(&server)), expected);
    server.crash_and_restart();
    assert_eq!(named(&list(&server)), expected);
    (0..1200).for_each(|at| assert_eq!(send(&server, &format!("made-up-{at}")), "1"));
    let mut operator = Browser::signed_in(&server, OWNER, PASSWORD);
    let listed = operator.call("GET", "/unknown-tokens", None).1;
    assert!(listed.as_array().unwrap().len() <= 1001, "{}", listed.as_array().unwrap().len());
    assert_eq!(named(&listed).values().sum::<u64>(), 1203);
    assert_eq!(operator.call("DELETE", "/unknown-tokens", Some(&json!({}))).0, 200);
    assert_eq!(operator.call("GET", "/unknown-tokens", None).1, json!([]));
}

fn names(page: &Value) -> BTreeMap<String, (u64, Vec<String>)> {
    let types = |row: &Value| row["types"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect();
    let rows = page["names"].as_array().unwrap().iter();
    rows.map(|row| (row["name"].as_str().unwrap().to_owned(), (row["count"].as_u64().unwrap(), types(row)))).collect()
}

#[test]
fn the_lexicon_is_exact_after_a_crash_and_after_a_stop() {
    let mut server = TestServer::start();
    let batch: Vec<Value> = (0..50)
        .map(|at| event(["A", "B"][at % 2], json!({ "n": at, "mixed": if at % 5 == 0 { json!("x") } else { json!([1]) } })))
        .collect();
    for _ in 0..4 {
        assert_eq!(track(&server, &json!(batch)), "1");
    }
    let set = json!([{ "$token": "test_token", "$distinct_id": "u", "$set": { "plan": "pro" }, "$add": { "visits": 1 } }]);
    assert_eq!(post(&format!("{}/engage", server.base), &set.to_string(), None).1, "1");
    let check = |browser: &mut Browser| {
        let events = names(&browser.call("GET", "/projects/1/lexicon/events", None).1);
        assert_eq!(events, BTreeMap::from([("A".to_owned(), (100, vec![])), ("B".to_owned(), (100, vec![]))]));
        let of_events = names(&browser.call("GET", "/projects/1/lexicon/properties?rows_max=1000", None).1);
        assert_eq!(of_events["n"], (200, vec!["number".to_owned()]));
        assert_eq!(of_events["mixed"], (200, vec!["string".to_owned(), "list".to_owned()]));
        let of_profiles = names(&browser.call("GET", "/projects/1/lexicon/properties?of=profile", None).1);
        assert_eq!(
            of_profiles,
            BTreeMap::from([("plan".to_owned(), (1, vec!["string".to_owned()])), ("visits".to_owned(), (1, vec!["number".to_owned()]))])
        );
    };
    let mut owner = Browser::signed_in(&server, OWNER, PASSWORD);
    check(&mut owner);
    server.crash_and_restart();
    let cookies = owner.cookies().clone();
    check(&mut Browser::new(&server).with_cookies(&cookies));
    server.stop();
    // Stopping sealed everything: the metastore alone knows all of it.
    let listed: Value = serde_json::from_str(&server.cli(&["lexicon", "list", "--project", "1"], "")).unwrap();
    assert_eq!(names(&listed)["A"].0, 100);
    server.restart();
    let mut owner = Browser::new(&server).with_cookies(&cookies);
    check(&mut owner);
    let page = owner.call("GET", "/projects/1/lexicon/properties?search=MIX&sort=count&rows_max=1", None).1;
    assert_eq!(
        (page["total"].as_u64(), page["names"][0]["name"].as_str(), page["count_beyond"].as_u64()),
        (Some(1), Some("mixed"), Some(0))
    );
    let second = owner.call("GET", "/projects/1/lexicon/events?offset=1&rows_max=1", None).1;
    assert_eq!((second["total"].as_u64(), second["names"][0]["name"].as_str()), (Some(2), Some("B")));
}

#[test]
fn analysts_describe_and_admins_drop() {
    let server = TestServer::start();
    let (mut analyst, mut owner) = (member(&server, "analyst"), Browser::signed_in(&server, OWNER, PASSWORD));
    let path = "/projects/1/lexicon/events";
    let describe =
        json!({ "name": "Buy", "description": "a purchase\nof anything", "tags": ["money", " shop "], "display_name": "Purchase" });
    let (status, described) = analyst.call("PATCH", path, Some(&describe));
    assert_eq!(
        (status, &described["tags"], &described["count"], &described["first_seen_at"]),
        (200, &json!(["money", "shop"]), &json!(0), &Value::Null)
    );
    for body in [json!({ "name": "Buy", "dropped": true }), json!({ "name": "Buy", "hidden": true })] {
        assert_eq!(analyst.call("PATCH", path, Some(&body)).0, 403);
    }
    for (path, name) in [(path, "$identify"), ("/projects/1/lexicon/properties", "$user_id")] {
        assert_eq!(owner.call("PATCH", path, Some(&json!({ "name": name, "dropped": true }))).0, 400, "{name}");
    }
    assert_eq!(owner.call("PATCH", path, Some(&json!({ "name": "Noise", "dropped": true }))).0, 200);
    let property = |of: &str, name: &str| json!({ "of": of, "name": name, "dropped": true });
    assert_eq!(owner.call("PATCH", "/projects/1/lexicon/properties", Some(&property("event", "phone"))).0, 200);
    assert_eq!(owner.call("PATCH", "/projects/1/lexicon/properties", Some(&property("profile", "phone"))).0, 200);
    server.cli(&["lexicon", "set", "--project", "1", "--as", OWNER, "--name", "Quiet", "--hidden", "true"], "");
    let sent = json!([event("Noise", json!({})), event("Buy", json!({ "phone": "1", "n": 1 })), event("Quiet", json!({}))]);
    assert_eq!(track(&server, &sent), "1");
    let import = post(
        &format!("{}/import?strict=0", server.base),
        &json!([event("Noise", json!({ "time": now() }))]).to_string(),
        Some(&basic("test_secret", "")),
    );
    assert_eq!((import.0, import.1.as_str()), (200, "1"), "a dropped event is one that was taken");
    let set = json!([{ "$token": "test_token", "$distinct_id": "u", "$set": { "phone": "1", "plan": "pro" } }]);
    assert_eq!(post(&format!("{}/engage", server.base), &set.to_string(), None).1, "1");
    let exported = get(&server.signed("/api/2.0/export?from_date=2020-01-01&to_date=2020-01-02", "test_key", "test_secret"), None);
    assert_eq!(exported.0, 200);
    let stored = get(&format!("{}/api/2.0/events/names?type=general", server.base), Some(&basic("test_secret", ""))).1;
    let mut stored: Vec<String> = serde_json::from_str(&stored).unwrap();
    stored.sort();
    assert_eq!(stored, ["Buy", "Quiet"], "hidden is for people: queries find it");
    let properties = names(&owner.call("GET", "/projects/1/lexicon/properties?rows_max=1000", None).1);
    assert_eq!((properties["phone"].0, properties["n"].0), (0, 1));
    let profiles = post(&format!("{}/api/2.0/engage", server.base), "", Some(&basic("test_secret", ""))).1;
    assert!(profiles.contains("plan") && !profiles.contains("phone"), "{profiles}");
    let rejected = counts(&owner.call("GET", "/projects/1/rejections", None).1);
    assert_eq!((rejected["dropped by lexicon"], rejected["property dropped by lexicon"]), (2, 2));
    let audit = owner.call("GET", "/projects/1/audit", None).1;
    let rows: Vec<&str> =
        audit.as_array().unwrap().iter().filter(|row| row["action"] == "lexicon").map(|row| row["detail"].as_str().unwrap()).collect();
    let profile = "profile property `phone`: dropped true";
    assert_eq!(rows, ["event `Quiet`: hidden true", profile, "event property `phone`: dropped true", "event `Noise`: dropped true"]);
    // What is taken back is stored again.
    assert_eq!(owner.call("PATCH", path, Some(&json!({ "name": "Noise", "dropped": false }))).0, 200);
    assert_eq!(track(&server, &json!([event("Noise", json!({}))])), "1");
    assert_eq!(names(&owner.call("GET", path, None).1)["Noise"].0, 1);
}

/// Reads a stream until it ended or a count fits.
fn until(stream: &mut e2e::EventStream, fits: impl Fn(&Value) -> bool) -> (Vec<(String, Value)>, Value) {
    let since = Instant::now();
    let (mut others, mut last) = (Vec::new(), Value::Null);
    for (name, data) in stream.by_ref() {
        if name != "count" {
            others.push((name, data));
        } else if fits(&data) {
            return (others, data);
        } else {
            last = data;
        }
        assert!(since.elapsed() < Duration::from_secs(30), "{last}");
    }
    panic!("the stream ended after {last}");
}

#[test]
fn live_events_are_sampled_and_their_count_is_exact() {
    let server = TestServer::start();
    let analyst = member(&server, "analyst");
    let mut consumer = member(&server, "consumer");
    assert_eq!(consumer.call("GET", "/projects/1/live", None).0, 403, "events one by one are an export");
    let (mut all, mut some) = (analyst.stream("/projects/1/live"), analyst.stream("/projects/1/live?event=Buy&text=PRO"));
    until(&mut all, |count| count["accepted"] == 0);
    until(&mut some, |count| count["accepted"] == 0);
    let batch: Vec<Value> =
        (0..100).map(|at| event(["Buy", "View"][at % 2], json!({ "plan": (["pro", "pro", "free", "free"][at % 4]) }))).collect();
    for _ in 0..30 {
        assert_eq!(track(&server, &json!(batch)), "1");
    }
    assert_eq!(track(&server, &json!([event("Old", json!({ "time": 1_577_836_800 }))])), "0");
    let (seen, count) = until(&mut all, |count| count["accepted"] == 3000 && count["rejected"] == 1);
    let shown = seen.iter().filter(|(name, _)| name == "event").count() as u64;
    assert_eq!(shown + count["sampled_out"].as_u64().unwrap() + count["missed"].as_u64().unwrap(), 3000);
    assert!(shown >= 50, "{shown}");
    let (_, first) = seen.iter().find(|(name, _)| name == "event").unwrap();
    assert_eq!((&first["event"], &first["properties"]["distinct_id"]), (&json!("Buy"), &json!("u")));
    if let Some((_, rejected)) = seen.iter().find(|(name, _)| name == "rejected") {
        assert_eq!((&rejected["reason"], &rejected["outcome"]), (&json!("time too old"), &json!("rejected")));
    }
    let (seen, count) = until(&mut some, |count| count["accepted"] == 750 && count["rejected"] == 1);
    assert!(seen.iter().all(|(name, data)| name == "event" && data["event"] == "Buy" && data["properties"]["plan"] == "pro"), "{seen:?}");
    assert_eq!(count["rejected"], 1, "they are counted whatever the filter");
}

#[test]
fn a_live_stream_ends_with_the_right_to_it() {
    let mut server = TestServer::start();
    let mut analyst = member(&server, "analyst");
    let (leaving, lowered) = (member(&server, "admin"), Browser::signed_in(&server, "analyst@example.com", PASSWORD));
    let (mut of_session, mut of_member) = (analyst.stream("/projects/1/live"), leaving.stream("/projects/1/live"));
    let mut of_lowered = lowered.stream("/projects/1/live");
    let mut owners = Browser::signed_in(&server, OWNER, PASSWORD).stream("/projects/1/live");
    for stream in [&mut of_session, &mut of_member, &mut of_lowered, &mut owners] {
        until(stream, |count| count["accepted"] == 0);
    }
    analyst.call("DELETE", "/session", Some(&json!({})));
    server.cli(&["member", "remove", "--project", "1", "--email", "admin@example.com", "--as", OWNER], "");
    let since = Instant::now();
    assert!(of_session.next().is_none() && of_member.next().is_none(), "nothing more comes");
    let role = ["member", "role", "--project", "1", "--email", "analyst@example.com", "--role", "consumer", "--as", OWNER];
    server.cli(&role, "");
    for (name, _) in of_lowered {
        assert_eq!(name, "count", "nothing came in");
    }
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    assert_eq!(track(&server, &json!([event("After", json!({}))])), "1");
    let (seen, _) = until(&mut owners, |count| count["accepted"] == 1);
    assert_eq!(seen[0].1["event"], "After", "others look on");
    let since = Instant::now();
    server.stop();
    assert!(owners.next().is_none() && since.elapsed() < Duration::from_secs(10), "no stream keeps a server from stopping");
}
