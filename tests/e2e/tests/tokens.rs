//! What the public project token may bring, what it may not, and what happens to secrets in places that are not for secrets.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use e2e::{REPORTS, TestServer, basic, get, mail_with, post};
use serde_json::Value;

const NAMES: &str = "/api/2.0/events/names?type=general";

fn on<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [args, &["--project", "1", "--as", "o@example.com"]].concat()
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

fn now() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

fn export(server: &TestServer) -> Vec<Value> {
    export_where(server, "")
}

fn export_where(server: &TestServer, more: &str) -> Vec<Value> {
    let today = std::process::Command::new("date").args(["-u", "+%F"]).output().unwrap().stdout;
    let path = format!("/api/2.0/export?from_date=2020-01-01&to_date={}{more}", String::from_utf8(today).unwrap().trim());
    let body = get(&format!("{}{path}", server.base), Some(&basic("test_secret", ""))).1;
    body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn profiles(server: &TestServer) -> Vec<Value> {
    let (mut all, mut next) = (Vec::new(), String::new());
    for page in 0.. {
        let body = post(&format!("{}/api/2.0/engage?page={page}{next}", server.base), "", Some(&basic("test_secret", ""))).1;
        let answer: Value = serde_json::from_str(&body).unwrap();
        let rows = answer["results"].as_array().unwrap();
        all.extend(rows.iter().cloned());
        if rows.len() < 1000 {
            return all;
        }
        next = format!("&session_id={}", answer["session_id"].as_str().unwrap());
    }
    all
}

/// P1: the token opens no read route, however it is shown.
#[test]
fn p1_the_token_reads_nothing() {
    let server = TestServer::start();
    post(&format!("{}/track", server.base), r#"[{"event":"E","properties":{"token":"test_token","distinct_id":"private-user"}}]"#, None);
    for path in REPORTS {
        let mark = if path.contains('?') { '&' } else { '?' };
        for prefix in ["/api/2.0", "/api/query"] {
            let url = format!("{}{prefix}{path}", server.base);
            for (query, header) in [
                ("", Some(basic("test_token", ""))),
                ("", Some(basic("test_token", "test_token"))),
                ("", Some(basic("x", "test_token"))),
                ("project_id=1", Some("Bearer test_token".to_owned())),
                ("token=test_token", None),
                ("project_token=test_token&project_id=1", None),
                ("api_key=test_token&expire=4102444800&sig=00", None),
            ] {
                let (status, body) = get(&format!("{url}{mark}{query}"), header.as_deref());
                assert!((status == 401 || status == 400) && !body.contains("private-user"), "{path} {query}: {status} {body}");
            }
        }
    }
}

#[test]
fn p2_a_token_beyond_its_quota_is_asked_to_come_back_and_others_are_not() {
    let server = TestServer::start();
    server.cli(&["project", "create", "--owner", "o@example.com", "--name", "Q", "--token", "other_token", "--allow-weak"], "");
    server.cli(&on(&["project", "set", "--events-per-second-max", "20"]), "");
    let send = |path: &str, token: &str, count: usize, header: Option<String>| {
        let event = |at: usize| {
            format!(
                r#"{{"event":"E","properties":{{"token":"{token}","distinct_id":"u","time":{},"$insert_id":"{token}{at}{count}"}}}}"#,
                now()
            )
        };
        let body = format!("[{}]", (0..count).map(event).collect::<Vec<_>>().join(","));
        let request = agent().post(format!("{}{path}", server.base));
        let request = header.into_iter().fold(request, |request, value| request.header("authorization", value));
        let answer = request.send(body).unwrap();
        (answer.status().as_u16(), answer.headers().get("retry-after").map(|value| value.to_str().unwrap().parse::<u64>().unwrap()))
    };
    assert_eq!(send("/track", "test_token", 100, None), (200, None), "no batch is too large for ever");
    let (status, retry) = send("/track", "test_token", 1, None);
    assert!(status == 503 && (1..=60).contains(&retry.unwrap()), "{status} {retry:?}");
    let (status, retry) = send("/import", "test_token", 1, Some(basic("test_token", "")));
    assert!(status == 429 && retry.is_some(), "{status}");
    assert_eq!(send("/track", "other_token", 50, None), (200, None), "another project is not concerned");
    assert_eq!(send("/import", "test_token", 2, Some(basic("test_secret", ""))), (200, None), "a secret is no token");
    assert_eq!(export(&server).len(), 102, "what was refused was not stored, what was taken was");
    server.cli(&on(&["project", "set", "--events-per-second-max", "0", "--bytes-per-day-max", "3000"]), "");
    assert_eq!((send("/track", "test_token", 40, None).0, send("/track", "test_token", 1, None).0), (200, 503));
    // The day's bytes outlive a restart.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let mut server = server;
    server.crash_and_restart();
    let refused = post(&format!("{}/track", server.base), r#"[{"event":"E","properties":{"token":"test_token"}}]"#, None);
    assert_eq!(refused.0, 503);
}

/// P3: names that a stranger makes up cost what as many events of one name cost; none is lost, and what is ordinary goes on.
#[test]
fn p3_a_flood_of_names_costs_no_memory() {
    const FLOOD: usize = 200_000;
    const MOST: usize = 2000;
    let track = |server: &TestServer, events: &[String]| {
        assert_eq!(post(&format!("{}/track", server.base), &format!("[{}]", events.join(",")), None), (200, "1".to_owned()));
    };
    let ordinary = |server: &TestServer, first: usize| {
        let event = |at: usize| {
            format!(r#"{{"event":"Ordinary","properties":{{"token":"test_token","$insert_id":"o{at}","plan":"p{}"}}}}"#, at % 2)
        };
        track(server, &(first..first + 100).map(event).collect::<Vec<_>>());
    };
    let report = |server: &TestServer, event: &str, more: &str| -> Value {
        let day = |back: i64| model::profile::wall_time(model::Timestamp((now() as i64 - back * 86_400) * 1000))[..10].to_owned();
        let event = wire::params::encode(event);
        let path = format!("/api/2.0/segmentation?event={event}&from_date={}&to_date={}{more}", day(1), day(0));
        let (status, body) = get(&format!("{}{path}", server.base), Some(&basic("test_secret", "")));
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()["data"]["values"].take()
    };
    let total = |values: &Value| values.as_object().unwrap().values().filter_map(Value::as_u64).sum::<u64>() as usize;
    let flood = |is_flood: bool| {
        let server = TestServer::start();
        ordinary(&server, 0);
        let began = std::time::Instant::now();
        for first in (0..FLOOD).step_by(2000) {
            let event = |at: usize| {
                let name = if is_flood { at } else { 0 };
                format!(
                    r#"{{"event":"made up {name:06}","properties":{{"token":"test_token","distinct_id":"u{}","$insert_id":"{at}","a name {name:06}":"{at:06}"}}}}"#,
                    at % 1000
                )
            };
            track(&server, &(first..first + 2000).map(event).collect::<Vec<_>>());
            // What has come is packed meanwhile: otherwise the two loads would differ by how much of it waits.
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
        ordinary(&server, 100);
        let plans = report(&server, "Ordinary", &format!("&on={}", wire::params::encode(r#"properties["plan"]"#)));
        assert_eq!((total(&plans["p0"]), total(&plans["p1"])), (100, 100));
        println!("{FLOOD} events in {:.1} s, {:.0} MiB", began.elapsed().as_secs_f64(), server.rss_mib());
        server
    };
    let one = flood(false).rss_mib();
    let server = flood(true);
    let grown = server.rss_mib() - one;
    // Where a day ends meanwhile, as many come in again.
    let overflow = total(&report(&server, "$overflow", "")["$overflow"]);
    assert!((FLOOD - 2 * MOST..=FLOOD - MOST + 1).contains(&overflow), "{overflow} events");
    let last = wire::params::encode(r#"properties["$event_name"] == "made up 199999""#);
    let found = export_where(&server, &format!("&event=%5B%22%24overflow%22%5D&where={last}"));
    assert_eq!(found.len(), 1, "its name is kept");
    assert_eq!(found[0]["properties"]["$overflow"]["a name 199999"], "199999", "so is its property");
    let metrics = get(&format!("{}/metrics", server.base), None).1;
    let spilled = metrics.lines().find_map(|line| line.strip_prefix("sluice_overflow_names_total ")?.parse::<usize>().ok()).unwrap();
    assert!((2 * FLOOD - 2 * (MOST + 5000)..2 * FLOOD).contains(&spilled), "{spilled} names");
    let told = server.log().matches("more new names than a day may").count();
    assert!((1..=2).contains(&told), "told {told} times");
    // What is proven is not asked: an import brings what names it likes.
    let import = r#"[{"event":"Imported","properties":{"time":1577836800,"distinct_id":"u","$insert_id":"i"}}]"#;
    assert_eq!(post(&format!("{}/import?strict=1", server.base), import, Some(&basic("test_secret", ""))).0, 200);
    assert!(export(&server).iter().any(|line| line["event"] == "Imported"));
    assert!(grown < 64.0, "{grown:.0} MiB more than with one name");
}

/// P4: what the token deletes comes back, and a project may take deletes with a secret only.
#[test]
fn p4_public_deletes_are_undone_or_refused() {
    let server = TestServer::start();
    const PEOPLE: usize = 10_000;
    let engage = |operation: &dyn Fn(usize) -> String, header: Option<&str>| {
        for start in (0..PEOPLE).step_by(2000) {
            let records: Vec<String> = (start..start + 2000)
                .map(|user| format!(r#"{{"$token":"test_token","$distinct_id":"user-{user}",{}}}"#, operation(user)))
                .collect();
            assert_eq!(post(&format!("{}/engage", server.base), &format!("[{}]", records.join(",")), header).1, "1");
        }
    };
    engage(&|user| format!(r#""$set":{{"plan":"p{}","rank":{user}}}"#, user % 7), None);
    let mut before = profiles(&server);
    assert_eq!(before.len(), PEOPLE);
    engage(&|_| r#""$delete":"""#.to_owned(), None);
    assert_eq!(profiles(&server).len(), 0);
    assert_eq!(server.cli(&on(&["profiles", "restore"]), "").trim(), format!(r#"{{"profiles":{PEOPLE}}}"#));
    let mut after = profiles(&server);
    let by_id = |row: &Value| row["$distinct_id"].as_str().unwrap().to_owned();
    before.sort_by_key(by_id);
    after.sort_by_key(by_id);
    assert_eq!(before, after, "every property is there again");
    assert_eq!(server.cli(&on(&["profiles", "restore"]), "").trim(), r#"{"profiles":0}"#);
    // With the switch on, the token deletes nothing; a secret does, for good.
    server.cli(&on(&["project", "set", "--deletes-need-secret", "true"]), "");
    let delete = r#"[{"$token":"test_token","$distinct_id":"user-1","$delete":""}]"#;
    let url = format!("{}/engage?verbose=1", server.base);
    assert_eq!(post(&url, delete, None).1, r#"{"error":"this project takes deletes with a secret only","status":0}"#);
    assert!(post(&url, &delete.replace("\"$delete\":\"\"", "\"$unset\":[\"plan\"]"), None).1.contains("\"status\":0"));
    assert!(post(&url, &delete.replace("\"$delete\":\"\"", "\"$set\":{\"plan\":\"x\"}"), None).1.contains("\"status\":1"));
    assert_eq!(profiles(&server).len(), PEOPLE);
    assert!(post(&url, delete, Some(&basic("test_secret", ""))).1.contains("\"status\":1"));
    assert_eq!(profiles(&server).len(), PEOPLE - 1);
    assert_eq!(server.cli(&on(&["profiles", "restore"]), "").trim(), r#"{"profiles":0}"#, "what an owner deletes stays deleted");
}

/// P5: whoever guesses an event's keys replaces no event that a secret brought, in whatever order they come.
#[test]
fn p5_a_public_write_never_replaces_an_authenticated_one() {
    let server = TestServer::start();
    let send = |id: &str, value: &str, header: &str| {
        let event = format!(r#"[{{"event":"E","properties":{{"time":1577836800,"distinct_id":"u","$insert_id":"{id}","v":"{value}"}}}}]"#);
        assert_eq!(post(&format!("{}/import?strict=1", server.base), &event, Some(header)).0, 200);
    };
    let (public, secret) = (basic("test_token", ""), basic("test_secret", ""));
    send("a", "true", &secret);
    send("a", "fake", &public);
    send("b", "fake", &public);
    send("b", "true", &secret);
    let report = "/api/2.0/segmentation?event=E&from_date=2020-01-01&to_date=2020-01-02&on=properties%5B%22v%22%5D&type=general&unit=day";
    let body = get(&format!("{}{report}", server.base), Some(&secret)).1;
    assert!(body.contains("true") && !body.contains("fake"), "{body}");
}

/// P6: listed properties count only where a secret brought them.
#[test]
fn p6_listed_properties_come_from_authenticated_imports_only() {
    let server = TestServer::start();
    server.cli(&on(&["project", "set", "--authenticated-properties", "revenue, plan"]), "");
    let event = |id: &str| {
        format!(
            r#"[{{"event":"E","properties":{{"token":"test_token","time":1577836800,"distinct_id":"u","$insert_id":"{id}","revenue":9,"colour":"red"}}}}]"#
        )
    };
    for (id, header) in [("public", basic("test_token", "")), ("secret", basic("test_secret", ""))] {
        assert_eq!(post(&format!("{}/import?strict=1", server.base), &event(id), Some(&header)).0, 200);
    }
    for event in export(&server) {
        let properties = &event["properties"];
        assert_eq!(properties["colour"], "red");
        assert_eq!(properties.get("revenue").is_some(), properties["$insert_id"] == "secret");
    }
    // `/track` with a secret is as good.
    let now = now().to_string();
    post(&format!("{}/track", server.base), &event("tracked").replace("1577836800", &now), Some(&basic("test_secret", "")));
    let tracked = export(&server).into_iter().find(|event| event["properties"]["$insert_id"] == "tracked").unwrap();
    assert_eq!(tracked["properties"]["revenue"], 9);
}

/// P7: origins that are not named are flagged or refused, as the project asks.
#[test]
fn p7_other_origins_are_flagged_or_refused() {
    let server = TestServer::start();
    let send = |origin: Option<&str>, id: &str| {
        let event = format!(r#"[{{"event":"E","properties":{{"token":"test_token","distinct_id":"u","$insert_id":"{id}"}}}}]"#);
        let request =
            origin.into_iter().fold(agent().post(format!("{}/track", server.base)), |request, origin| request.header("origin", origin));
        let mut answer = request.send(event).unwrap();
        assert_eq!(answer.status(), 200);
        answer.body_mut().read_to_string().unwrap()
    };
    assert!(server.commands().run(&on(&["project", "set", "--origins", "shop.example"]), "").is_none(), "that is no origin");
    server.cli(&on(&["project", "set", "--origins", "https://shop.example,https://*.shop.example"]), "");
    let evil = "https://shop.example.evil.test";
    assert_eq!([send(Some("https://shop.example"), "good"), send(Some(evil), "evil"), send(None, "phone")], ["1", "1", "1"]);
    let flags: std::collections::BTreeMap<String, Value> = export(&server)
        .into_iter()
        .map(|event| (event["properties"]["$insert_id"].as_str().unwrap().to_owned(), event["properties"]["$origin_ok"].clone()))
        .collect();
    assert_eq!(flags, [("evil".into(), false.into()), ("good".into(), true.into()), ("phone".into(), Value::Null)].into());
    server.cli(&on(&["project", "set", "--other-origins", "refuse"]), "");
    assert_eq!(
        [send(Some("https://a.shop.example"), "c"), send(Some(evil), "d"), send(Some("null"), "e"), send(None, "f")],
        ["1", "0", "0", "1"]
    );
    let image =
        format!("{}/track?data=%5B%7B%22event%22%3A%22E%22%2C%22properties%22%3A%7B%22token%22%3A%22test_token%22%7D%7D%5D", server.base);
    for (referrer, answer) in [("https://shop.example/page?x", "1"), ("https://evil.test/https://shop.example", "0")] {
        assert_eq!(agent().get(&image).header("referer", referrer).call().unwrap().body_mut().read_to_string().unwrap(), answer);
    }
    assert_eq!(export(&server).len(), 6);
}

/// P8: where a project asks for it, the token speaks for a known user only with a signature of the project's own server.
#[test]
fn p8_a_known_user_is_signed_or_refused() {
    let mut server = TestServer::start();
    let secret_of = |server: &TestServer, more: &[&str]| {
        let shown = server.cli(&[&on(&["project", "identity-secret"])[..], more].concat(), "");
        serde_json::from_str::<Value>(&shown).unwrap()["identity_secret"].as_str().unwrap().to_owned()
    };
    let track = |server: &TestServer, name: &str, properties: Value, header: Option<&str>| {
        let mut event = serde_json::json!([{"event": name, "properties": {"token": "test_token"}}]);
        event[0]["properties"].as_object_mut().unwrap().extend(properties.as_object().unwrap().clone());
        let body = post(&format!("{}/track?verbose=1", server.base), &event.to_string(), header).1;
        serde_json::from_str::<Value>(&body).unwrap_or_else(|_| panic!("{body}"))["error"].as_str().unwrap_or("").to_owned()
    };
    let engage = |server: &TestServer, record: Value| {
        let mut profile = serde_json::json!({"$token": "test_token"});
        profile.as_object_mut().unwrap().extend(record.as_object().unwrap().clone());
        post(&format!("{}/engage", server.base), &serde_json::json!([profile]).to_string(), None).1
    };
    let signed = |secret: &str, user: &str, at: u64, more: Value| {
        let signature = wire::identity::sign(secret, user, at as i64);
        let mut properties = serde_json::json!({"$identity_signature": signature, "$identity_signed_at": at});
        properties.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        properties
    };
    let alice = || serde_json::json!({"distinct_id": "alice", "$user_id": "alice"});
    assert_eq!(track(&server, "before", alice(), None), "", "off by default");
    server.cli(&on(&["project", "set", "--identity-needs-signature", "true"]), "");
    let secret = secret_of(&server, &[]);
    assert_eq!(secret, secret_of(&server, &[]));
    let missing = "this project takes known users with `$identity_signature` and `$identity_signed_at` only";
    let wrong = "`$identity_signature` does not fit";
    let away = "`$identity_signed_at` is more than 5 minutes away";
    // Whoever is nobody in particular passes: a device, with and without its prefix as older SDKs send it, and who sends no id at all.
    let device = serde_json::json!({"distinct_id": "$device:d1", "$device_id": "d1"});
    let old_device = serde_json::json!({"distinct_id": "d2", "$device_id": "d2"});
    for anonymous in [device.clone(), old_device, serde_json::json!({"distinct_id": "alice", "$device_id": "d3"}), serde_json::json!({})] {
        assert_eq!(track(&server, "anonymous", anonymous.clone(), None), "", "{anonymous}");
    }
    let by_address = r#"[{"event":"anonymous","properties":{"token":"test_token"}}]"#;
    assert_eq!(post(&format!("{}/track?ip=1", server.base), by_address, None).1, "1", "a hash of the sender's address is no user");
    // A known user needs a signature, however the record names them.
    for known in [
        alice(),
        serde_json::json!({"distinct_id": "alice"}),
        serde_json::json!({"$user_id": "alice", "distinct_id": "$device:d1", "$device_id": "d1"}),
        serde_json::json!({"distinct_id": "alice", "$user_id": ""}),
        serde_json::json!({"distinct_id": 42}),
    ] {
        assert_eq!(track(&server, "forged", known.clone(), None), missing, "{known}");
    }
    let identify = serde_json::json!({"$identified_id": "alice", "$anon_distinct_id": "$device:d1", "distinct_id": "$device:d1"});
    assert_eq!(track(&server, "$identify", identify, None), missing);
    assert_eq!(
        post(&format!("{}/track", server.base), r#"[{"event":"forged","properties":{"token":"test_token","distinct_id":"alice"}}]"#, None),
        (200, "0".to_owned())
    );
    for (signer, at, said) in [
        (secret.as_str(), now(), ""),
        (&secret, now() - 290, ""),
        (&secret, now() + 290, ""),
        (&secret, now() - 310, away),
        (&secret, now() + 310, away),
        ("slci_another", now(), wrong),
    ] {
        let name = if said.is_empty() { "signed" } else { "forged" };
        assert_eq!(track(&server, name, signed(signer, "alice", at, alice()), None), said, "{at}");
    }
    assert_eq!(track(&server, "forged", signed(&secret, "bob", now(), alice()), None), wrong);
    let mut late = signed(&secret, "alice", now() - 400, alice());
    late["$identity_signed_at"] = now().into();
    assert_eq!(track(&server, "forged", late, None), wrong);
    // The flow of an SDK: super properties go with every event, a device's too, and with the `$identify` between both.
    assert_eq!(track(&server, "signed", signed(&secret, "alice", now(), device), None), "");
    let identify = serde_json::json!({"$user_id": "alice", "$device_id": "d1", "distinct_id": "alice", "$anon_distinct_id": "$device:d1"});
    assert_eq!(track(&server, "$identify", signed(&secret, "alice", now(), identify), None), "");
    // A secret proves more than a signature does.
    assert_eq!(track(&server, "proven", alice(), Some(&basic("test_secret", ""))), "");
    assert_eq!(track(&server, "proven", signed("wrong", "bob", 1, alice()), Some(&basic("test_secret", ""))), "");
    let import = r#"[{"event":"imported","properties":{"time":1577836800,"distinct_id":"alice","$insert_id":"a"}}]"#;
    let (status, body) = post(&format!("{}/import?strict=1", server.base), import, Some(&basic("test_token", "")));
    assert!(status == 400 && body.contains(missing), "{body}");
    assert_eq!(post(&format!("{}/import?strict=1", server.base), import, Some(&basic("test_secret", ""))).0, 200);
    let events = export(&server);
    let count = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    let counts = ["before", "anonymous", "forged", "signed", "$identify", "proven", "imported"].map(count);
    assert_eq!(counts, [1, 5, 0, 4, 1, 2, 1]);
    assert!(events.iter().all(|event| !event.to_string().contains("$identity_s")), "no signature is stored");
    // Profiles: beside `$token`, or among what is set where an SDK lets nothing in there. A group is no user.
    let set = |id: &str, properties: Value| serde_json::json!({"$distinct_id": id, "$set": properties});
    assert_eq!(engage(&server, set("alice", serde_json::json!({"a": 1}))), "0");
    assert_eq!(engage(&server, serde_json::json!({"$distinct_id": "alice", "$device_id": "d1", "$delete": ""})), "0");
    assert_eq!(engage(&server, set("$device:d1", serde_json::json!({"a": 1}))), "1");
    assert_eq!(engage(&server, set("alice", signed(&secret, "alice", now(), serde_json::json!({"a": 2})))), "1");
    assert_eq!(engage(&server, signed(&secret, "alice", now(), set("alice", serde_json::json!({"b": 3})))), "1");
    assert_eq!(engage(&server, signed(&secret, "bob", now(), set("alice", serde_json::json!({"b": 4})))), "0");
    let group = r#"[{"$token":"test_token","$group_key":"g","$group_id":"alice","$set":{"a":1}}]"#;
    assert_eq!(post(&format!("{}/groups", server.base), group, None).1, "1");
    let alices = profiles(&server).into_iter().find(|row| row["$distinct_id"] == "alice").unwrap()["$properties"].clone();
    assert_eq!((&alices["a"], &alices["b"], alices.get("$identity_signature")), (&Value::from(2), &Value::from(3), None));
    // The secret in the open is a leak like any other.
    assert_eq!(
        track(&server, "E", serde_json::json!({"distinct_id": "$device:d", "p": secret}), None),
        "an API secret stands in a property"
    );
    mail_with(&server, &["To: o@example.com", "identity secret in a property"]);
    assert!(!server.log().contains(&secret));
    // Another one ends the old one at once; the wrapping key may change below it; who manages over HTTP gets it with a fresh proof.
    let other = secret_of(&server, &["--rotate"]);
    server.cli(&["kek", "rotate"], "");
    assert_eq!(track(&server, "E", signed(&secret, "alice", now(), alice()), None), wrong);
    assert_eq!(track(&server, "E", signed(&other, "alice", now(), alice()), None), "");
    server.crash_and_restart();
    assert_eq!(track(&server, "E", signed(&other, "alice", now(), alice()), None), "");
    let mut owner = e2e::Browser::signed_in(&server, "o@example.com", "correct horse");
    let shown = owner.call("POST", "/projects/1/identity-secret/reveal", None);
    assert_eq!((shown.0, shown.1["identity_secret"].as_str()), (200, Some(other.as_str())));
    let rotated = owner.call("POST", "/projects/1/identity-secret/rotate", None).1["identity_secret"].as_str().unwrap().to_owned();
    assert_eq!(track(&server, "E", signed(&other, "alice", now(), alice()), None), wrong);
    assert_eq!(track(&server, "E", signed(&rotated, "alice", now(), alice()), None), "");
    // Without the key file nobody can tell: known users come back later, all others go on.
    server.kill();
    let key = server.data().with_extension("key");
    std::fs::rename(&key, key.with_extension("away")).unwrap();
    server.restart();
    let event = r#"[{"event":"E","properties":{"token":"test_token","distinct_id":"alice"}}]"#;
    assert_eq!(post(&format!("{}/track", server.base), event, None).0, 503);
    assert_eq!(post(&format!("{}/track", server.base), &event.replace("alice", "$device:d"), None).1, "1");
}

/// P9: what a bot sends is flagged where the project asks for it, stored, exported and left out by a filter; it is never dropped.
#[test]
fn p9_bots_are_flagged_and_kept() {
    let server = TestServer::start();
    let person = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36";
    let bot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
    let send = |id: &str, user_agent: &str, more: &str, header: Option<&str>| {
        let event = format!(
            r#"[{{"event":"E","properties":{{"token":"test_token","distinct_id":"u","time":{},"$insert_id":"{id}"{more}}}}}]"#,
            now()
        );
        let request = agent().post(format!("{}/track", server.base)).header("user-agent", user_agent);
        let request = header.into_iter().fold(request, |request, value| request.header("authorization", value));
        assert_eq!(request.send(event).unwrap().body_mut().read_to_string().unwrap(), "1");
    };
    let flags = || -> std::collections::BTreeMap<String, Value> {
        let flag = |event: Value| {
            (
                event["properties"]["$insert_id"].as_str().unwrap().to_owned(),
                event["properties"].get("$is_bot").cloned().unwrap_or_default(),
            )
        };
        export(&server).into_iter().map(flag).collect()
    };
    let ignore = r#","$ignore":true"#;
    let secret = basic("test_secret", "");
    send("off-bot", bot, "", None);
    send("off-ignored", person, ignore, None);
    assert_eq!(flags(), [("off-bot".to_owned(), Value::Null)].into(), "off by default: as the original does");
    server.cli(&on(&["project", "set", "--flag-bots", "true"]), "");
    send("person", person, "", None);
    send("bot", bot, "", None);
    send("bot-denies", bot, r#","$is_bot":false"#, None);
    send("headless", &person.replace("Chrome/", "HeadlessChrome/"), "", None);
    send("library", "python-requests/2.32.3", "", None);
    send("ignored", person, ignore, None);
    send("ignored-by-word", person, r#","$ignore":"yes""#, None);
    send("not-ignored", person, r#","$ignore":"""#, None);
    send("page-says-so", person, r#","$is_bot":true"#, None);
    send("proven", bot, "", Some(&secret));
    send("proven-ignored", person, ignore, Some(&secret));
    let flagged = ["bot", "bot-denies", "headless", "ignored", "ignored-by-word", "page-says-so"];
    let others = ["off-bot", "person", "library", "not-ignored", "proven"];
    let all = flagged.iter().map(|id| (*id, true.into())).chain(others.iter().map(|id| (*id, Value::Null)));
    assert_eq!(flags(), all.map(|(id, flag)| (id.to_owned(), flag)).collect());
    // Left out, or looked at, by a filter.
    let today = std::process::Command::new("date").args(["-u", "+%F"]).output().unwrap().stdout;
    let today = String::from_utf8(today).unwrap();
    let count = |filter: &str| {
        let path = format!("/api/2.0/export?from_date=2020-01-01&to_date={}&where={}", today.trim(), wire::params::encode(filter));
        get(&format!("{}{path}", server.base), Some(&secret)).1.lines().count()
    };
    assert_eq!(count(r#"not properties["$is_bot"]"#), others.len());
    assert_eq!(count(r#"properties["$is_bot"]"#), flagged.len());
    let day = today.trim();
    let report = format!(
        "/api/2.0/segmentation?event=E&from_date={day}&to_date={day}&type=general&unit=day&where=not%20properties%5B%22%24is_bot%22%5D"
    );
    let body = get(&format!("{}{report}", server.base), Some(&secret)).1;
    assert!(body.contains(&format!("\"{day}\": {}", others.len())), "{body}");
    server.cli(&on(&["project", "set", "--flag-bots", "false"]), "");
    send("off-again", bot, "", None);
    send("off-again-ignored", person, ignore, None);
    assert_eq!(flags().len(), flagged.len() + others.len() + 1);
}

/// P13: each event of a batch is let in by its own token, and an import is the authenticated project's.
#[test]
fn p13_each_event_goes_where_its_token_says() {
    let server = TestServer::start();
    server.cli(
        &[
            "project",
            "create",
            "--owner",
            "o@example.com",
            "--name",
            "Q",
            "--token",
            "other_token",
            "--api-secret",
            "other_secret",
            "--allow-weak",
        ],
        "",
    );
    let event = |token: &str| {
        format!(r#"{{"event":"{token}","properties":{{"token":"{token}","distinct_id":"u","time":1577836800,"$insert_id":"{token}"}}}}"#)
    };
    let batch = format!("[{},{},{}]", event("test_token"), event("other_token"), event("nobody"));
    let now = now().to_string();
    assert_eq!(post(&format!("{}/track", server.base), &batch.replace("1577836800", &now), Some(&basic("other_secret", ""))).1, "1");
    let names = |secret: &str| get(&format!("{}{NAMES}", server.base), Some(&basic(secret, ""))).1;
    assert_eq!((names("test_secret"), names("other_secret")), (r#"["test_token"]"#.to_owned(), r#"["other_token"]"#.to_owned()));
}

/// P14 and what goes beyond it: a live secret in a token's place, a property, a URL or a body is refused, not stored, and its owner told.
#[test]
fn p14_a_secret_in_the_open_is_refused_and_its_owner_told() {
    let server = TestServer::start();
    let made: Value = serde_json::from_str(&server.cli(&on(&["key", "create", "--rights", "query", "--legacy", "on"]), "")).unwrap();
    let secret = made["api_secret"].as_str().unwrap();
    let base = &server.base;
    let event = |token: &str, value: &str| {
        format!(r#"[{{"event":"E","properties":{{"token":"{token}","distinct_id":"u","deep":{{"list":["{value}"]}}}}}}]"#)
    };
    // Imported secrets bear no mark and are found all the same, if they are long enough to be nobody's word.
    let imported = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";
    server.cli(&["project", "create", "--owner", "o@example.com", "--name", "Q", "--api-secret", imported], "");
    for secret in [secret, imported] {
        let verbose = |body: &str| post(&format!("{base}/track?verbose=1"), body, None);
        assert_eq!(
            verbose(&event(secret, "x")),
            (200, r#"{"error":"an API secret stands in the place of the project token","status":0}"#.to_owned())
        );
        let property = r#"{"error":"an API secret stands in a property","status":0}"#;
        assert_eq!(verbose(&event("test_token", secret)).1, property);
        assert_eq!(verbose(&event("test_token", &format!("https://x.example/?key={secret}&a=1"))).1, property);
        let profile = format!(r#"[{{"$token":"test_token","$distinct_id":"u","$set":{{"{secret}":1}}}}]"#);
        assert_eq!(post(&format!("{base}/engage"), &profile, None).1, "0");
        assert_eq!(post(&format!("{base}/track?x={secret}"), &event("test_token", "y"), None).1, "0");
        let form = format!("data={}&note={secret}", event("test_token", "y").replace('"', "%22"));
        assert_eq!(post(&format!("{base}/track"), &form, None).1, "0");
        let (status, body) = post(&format!("{base}/import?strict=1&x={secret}"), "[]", Some(&basic("test_secret", "")));
        assert!(status == 400 && body.contains("stands in the URL") && !body.contains(secret), "{body}");
        for (url, body) in [(format!("{base}{NAMES}&token={secret}"), ""), (format!("{base}{NAMES}"), &*format!("secret={secret}"))] {
            let (status, answer) = post(&url, body, Some(&basic("test_secret", "")));
            assert!(status == 400 && answer.contains("an API secret stands in the ") && !answer.contains(secret), "{answer}");
        }
    }
    assert!(export(&server).is_empty(), "nothing of it was stored");
    mail_with(&server, &["To: o@example.com", "was seen where anybody may read it"]);
    let audit = server.cli(&["audit", "list", "--project", "1"], "");
    for place in ["a URL", "a body", "a token's place", "a property"] {
        assert!(audit.contains(&format!("key 2 in {place}")), "{place}: {audit}");
    }
    assert!(!audit.contains(secret) && !server.log().contains(secret) && !server.log().contains(imported));
    // Of a short one only the token's place is known; elsewhere it may be anybody's word.
    assert_eq!(post(&format!("{base}/track"), &event("test_secret", "x"), None).1, "0");
    assert_eq!(post(&format!("{base}/track"), &event("test_token", "test_secret"), None).1, "1");
    // A secret that is dead is a text like any other, but for the token's place.
    server.cli(&on(&["credentials", "reset"]), "");
    assert_eq!(post(&format!("{base}/track"), &event("test_token", secret), None).1, "1");
    assert_eq!(post(&format!("{base}/track"), &event(secret, "x"), None).1, "0");
}

/// A key whose legacy signature will end says so with every answer, and the audit log tells who still signs.
#[test]
fn a_legacy_signature_that_will_end_says_so() {
    let server = TestServer::start();
    let call = |path: &str| {
        let mut answer = agent().get(server.signed(path, "test_key", "test_secret")).call().unwrap();
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let said = (answer.status().as_u16(), header("deprecation"), header("sunset"), header("cache-control"));
        answer.body_mut().read_to_string().unwrap();
        said
    };
    assert_eq!(call(NAMES), (200, None, None, Some("no-store".to_owned())));
    server.cli(&on(&["key", "legacy", "--api-key", "test_key", "--legacy", "warn"]), "");
    for path in [NAMES, "/api/2.0/export?from_date=2020-01-01&to_date=2020-01-02"] {
        let (status, deprecation, sunset, _) = call(path);
        assert!(status == 200 && deprecation.unwrap().starts_with("@1") && sunset.is_none());
    }
    server.cli(&on(&["key", "rotate", "--overlap", "1d"]), "");
    assert!(call(NAMES).2.unwrap().ends_with(" GMT"), "a key that retires says when");
    server.cli(&["credentials", "callers", "--project", "1"], "");
    let audit = server.cli(&["audit", "list", "--project", "1"], "");
    assert_eq!(audit.matches("\"legacy signature\"").count(), 1, "once a day: {audit}");
}

/// T11: what a client writes into forwarding headers says nothing, unless a proxy that the settings name wrote it.
#[test]
fn t11_only_named_proxies_say_who_the_client_is() {
    let from = |server: &TestServer, secret: &str, headers: &[(&str, &str)]| {
        let request = agent().get(format!("{}{NAMES}", server.base)).header("authorization", basic(secret, ""));
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).call().unwrap().status().as_u16()
    };
    let bound = |server: &TestServer| {
        let made = server.cli(&on(&["key", "create", "--rights", "query", "--networks", "10.0.0.0/8"]), "");
        serde_json::from_str::<Value>(&made).unwrap()["api_secret"].as_str().unwrap().to_owned()
    };
    let trusting = TestServer::start_with("[listen]\ntrusted_proxies = [\"127.0.0.0/8\", \"192.0.2.1\"]\n");
    let secret = bound(&trusting);
    for (list, status) in [
        ("10.1.2.3", 200),
        ("1.2.3.4, 10.1.2.3", 200),
        ("10.1.2.3, 1.2.3.4", 403),
        ("10.1.2.3, 192.0.2.1", 200),
        ("10.1.2.3:4711", 200),
        ("1.2.3.4, 192.0.2.1, 127.0.0.9", 403),
        ("10.1.2.3, nonsense", 403),
        ("", 403),
        ("::ffff:10.1.2.3", 200),
        ("\"[::1]:80\"", 403),
    ] {
        assert_eq!(from(&trusting, &secret, &[("x-forwarded-for", list)]), status, "{list}");
    }
    trusting.cli(&on(&["project", "set", "--require-tls"]), "");
    let https = ("x-forwarded-proto", "https");
    assert_eq!(from(&trusting, "test_secret", &[https]), 200);
    assert_eq!(from(&trusting, "test_secret", &[("x-forwarded-proto", "http")]), 403);
    let strict = TestServer::start();
    let secret = bound(&strict);
    assert_eq!(from(&strict, &secret, &[("x-forwarded-for", "10.1.2.3"), ("x-real-ip", "10.1.2.3"), ("forwarded", "for=10.1.2.3")]), 403);
    strict.cli(&on(&["project", "set", "--require-tls"]), "");
    assert_eq!(from(&strict, "test_secret", &[]), 200, "this machine needs no TLS");
    assert_eq!(from(&strict, "test_secret", &[https]), 403, "a proxy that nobody named does not stand for TLS");
}
