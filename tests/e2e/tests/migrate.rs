//! A team moves: everything that the original has comes over once, whatever its export and our server go through meanwhile; what came is
//! compared with what is stored; and what is exported here is imported elsewhere as it was.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::{Duration, Instant};

use e2e::source::{SECRET, Source, State, Trouble};
use e2e::{Browser, TestServer, basic, get};
use serde_json::{Value, json};

const OURS: &str = "Basic dGVzdF9zZWNyZXQ6";
const DAY_SECONDS: i64 = 86_400;
/// 2024-01-01.
const START: i64 = 1_704_067_200;

fn day(number: i64) -> String {
    format!("2024-01-{:02}", number + 1)
}

/// An event of a day as the original exports it, with what its server added.
fn line(day: i64, number: i64) -> String {
    let time = (START + day * DAY_SECONDS + number % DAY_SECONDS) * 1000 + number % 1000;
    format!(
        r#"{{"event":"Event {}","properties":{{"time":{time},"distinct_id":"user {}","$insert_id":"{day}-{number}","$user_id":"somebody else","amount":{number},"mp_processing_time_ms":1,"$import":false}}}}"#,
        number % 7,
        number % 50
    )
}

fn days(count: i64, events: i64) -> BTreeMap<String, Vec<String>> {
    (0..count).map(|number| (day(number), (0..events).map(|event| line(number, event)).collect())).collect()
}

fn pull<'a>(source: &'a Source, days: &'a [String; 2]) -> Vec<&'a str> {
    let mut args =
        vec!["import", "--project", "1", "--from", &source.base, "--api-secret-stdin", "--from-date", &days[0], "--to-date", &days[1]];
    args.extend(["--requests-per-second-max", "1000"]);
    args
}

/// What a raw export of a project gives, a parsed line each.
fn exported(server: &TestServer, secret: &str) -> Vec<Value> {
    let url = format!("{}/api/2.0/export?from_date=2000-01-01&to_date=2025-12-31&time_in_ms=true", server.base);
    let (status, body) = get(&url, Some(&basic(secret, "")));
    assert_eq!(status, 200, "{body}");
    body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| event["properties"]["$insert_id"].as_str().unwrap().to_owned()).collect()
}

fn profiles(server: &TestServer, secret: &str) -> Value {
    let (status, body) = get(&format!("{}/api/2.0/engage?page_size=10000", server.base), Some(&basic(secret, "")));
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// The line of a day in what an import prints.
fn of_day<'a>(view: &'a Value, day: &str) -> &'a Value {
    view["outcome"]["days"].as_array().unwrap().iter().find(|line| line["day"] == day).unwrap_or_else(|| panic!("{day} in {view}"))
}

#[test]
fn everything_of_the_original_comes_over_through_all_its_troubles() {
    let mut held = State { days: days(3, 300), ..State::default() };
    let first = held.days.get_mut(&day(0)).unwrap();
    first.insert(10, "not JSON".to_owned());
    first.insert(20, r#"{"event":"","properties":{"time":1704067200000,"distinct_id":"u"}}"#.to_owned());
    // Twice the same, and twice one without an id.
    first.push(line(0, 7));
    let nameless = r#"{"event":"Nameless","properties":{"time":1704067201000,"distinct_id":"u"}}"#.to_owned();
    first.extend([nameless.clone(), nameless]);
    held.profiles =
        (0..2300).map(|number| (format!("user {number}"), format!(r#"{{"$last_seen":"2024-01-03T00:00:00","n":{number}}}"#))).collect();
    let troubles = [Trouble::TooMany(Some(1)), Trouble::TerminatedEarly, Trouble::CutOff, Trouble::TooMany(None), Trouble::HalfLine];
    held.troubles = troubles.into_iter().collect();
    let source = Source::start(held);
    let server = TestServer::start();
    let asked = [day(0), day(2)];
    let view: Value = serde_json::from_str(&server.cli(&pull(&source, &asked), SECRET)).unwrap();
    assert_eq!(view["state"], "done", "{view}");
    let first = of_day(&view, &day(0));
    assert_eq!((&first["source"], &first["imported"], &first["duplicates"]), (&json!(304), &json!(303), &json!(2)), "{first}");
    assert_eq!(first["refused"], json!({ "'event' is invalid: must not be missing": 1 }));
    assert_eq!((&first["stored"], &first["difference"]), (&json!(301), &json!(0)));
    for number in 1..3 {
        let line = of_day(&view, &day(number));
        assert_eq!((&line["source"], &line["stored"], &line["difference"]), (&json!(300), &json!(300), &json!(0)), "{line}");
    }
    assert_eq!(of_day(&view, "no time")["refused"], json!({ "not JSON": 1 }));
    assert_eq!((&of_day(&view, "profiles")["stored"], &of_day(&view, "profiles")["difference"]), (&json!(2300), &json!(0)));

    let events = exported(&server, "test_secret");
    let mut found = ids(&events);
    found.sort();
    found.dedup();
    assert_eq!((events.len(), found.len()), (903, 901));
    let event = events.iter().find(|event| event["properties"]["$insert_id"] == "1-5").unwrap();
    let properties = &event["properties"];
    assert_eq!((&event["event"], &properties["distinct_id"], &properties["amount"]), (&json!("Event 5"), &json!("user 5"), &json!(5)));
    assert_eq!(properties["time"], json!((START + DAY_SECONDS + 5) * 1000 + 5));
    assert!(
        properties["$import"] == true && properties["mp_processing_time_ms"].as_i64().unwrap() > 1,
        "the server's own are its own: {event}"
    );
    let all = profiles(&server, "test_secret");
    assert_eq!(all["total"], 2300);
    let row = all["results"].as_array().unwrap().iter().find(|row| row["$distinct_id"] == "user 17").unwrap();
    assert_eq!(row["$properties"], json!({ "$last_seen": "2024-01-03T00:00:00", "n": 17 }));

    // It waited as long as it was told to, and no page but the first counts for the source.
    let requests = source.state().requests.clone();
    let exports: Vec<_> = requests.iter().filter(|(_, target)| target.contains("/export")).collect();
    assert!(exports[1].0.duration_since(exports[0].0) >= Duration::from_secs(1), "{exports:?}");
    assert_eq!(exports.len(), troubles.len() + 2, "one day, then two: {exports:?}");
    assert_eq!(requests.len() - exports.len(), 3, "pages of profiles: {requests:?}");

    // What was refused lies beside its reasons; the secret lies nowhere.
    let rejects: Vec<String> = e2e::walk(view["outcome"]["rejects"].as_str().unwrap().as_ref())
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    assert!(rejects.concat().contains(r#"{"reason":"not JSON","record":"not JSON"}"#), "{rejects:?}");
    assert_eq!(rejects.concat().lines().count(), 2);
    for path in e2e::walk(&server.data()) {
        assert!(!std::fs::read(&path).unwrap().windows(SECRET.len()).any(|bytes| bytes == SECRET.as_bytes()), "{}", path.display());
    }
    assert!(!server.log().contains(SECRET));

    // The same again counts nothing twice.
    let again: Value = serde_json::from_str(&server.cli(&pull(&source, &asked), SECRET)).unwrap();
    assert_ne!(again["job"], view["job"]);
    assert_eq!((&of_day(&again, &day(0))["stored"], &of_day(&again, &day(0))["difference"]), (&json!(301), &json!(0)));
    let audit: Value = serde_json::from_str(&server.cli(&["audit", "list", "--project", "1"], "")).unwrap();
    let actions: Vec<&str> = audit.as_array().unwrap().iter().map(|row| row["action"].as_str().unwrap()).collect();
    assert!(actions.iter().filter(|action| **action == "import start").count() == 2 && actions.contains(&"import done"), "{actions:?}");
}

#[test]
fn a_wrong_secret_ends_the_import_with_what_the_source_said() {
    let source = Source::start(State { days: days(1, 1), ..State::default() });
    let server = TestServer::start();
    let asked = [day(0), day(0)];
    assert!(server.commands().run(&pull(&source, &asked), "another secret").is_none());
    let jobs: Value = serde_json::from_str(&server.cli(&["job", "list", "--project", "1"], "")).unwrap();
    assert_eq!(jobs[0]["state"], "failed");
    assert!(jobs[0]["error"].as_str().unwrap().contains("401: Unauthorized, invalid project secret"), "{jobs}");
    // The right one continues it.
    let view: Value = serde_json::from_str(&server.cli(&pull(&source, &asked), SECRET)).unwrap();
    assert_eq!((&view["job"], &view["state"]), (&jobs[0]["job"], &json!("done")));
}

#[test]
fn an_import_whose_server_is_killed_again_and_again_brings_every_event_once() {
    let source = Source::start(State { days: days(6, 6000), delay: Duration::from_millis(50), ..State::default() });
    let mut server = TestServer::start();
    let asked = [day(0), day(5)];
    let args: Vec<String> = pull(&source, &asked).into_iter().map(str::to_owned).collect();
    let commands = server.commands();
    let command = std::thread::spawn(move || commands.run(&args.iter().map(String::as_str).collect::<Vec<_>>(), SECRET));
    let mut random = jiff::Timestamp::now().subsec_nanosecond() as u64 | 1;
    println!("seed {random}");
    // It runs before the first kill.
    while !source.state().requests.iter().any(|(_, target)| target.contains("/export")) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut kills = 0;
    while !command.is_finished() && kills < 12 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis(30 + (random >> 33) % 400));
        server.kill();
        server.restart();
        kills += 1;
    }
    let view: Value = serde_json::from_str(&command.join().unwrap().expect("the command goes on with the server")).unwrap();
    assert_eq!(view["state"], "done", "{view}");
    let found = ids(&exported(&server, "test_secret"));
    let distinct: BTreeSet<&String> = found.iter().collect();
    assert_eq!((found.len(), distinct.len()), (36_000, 36_000), "after {kills} kills");
    for number in 0..6 {
        let line = of_day(&view, &day(number));
        assert_eq!((&line["imported"], &line["stored"], &line["difference"]), (&json!(6000), &json!(6000), &json!(0)), "{line}");
    }
    println!("{kills} kills");
}

#[test]
fn files_are_imported_as_they_are() {
    let server = TestServer::start();
    let dir = tempfile::tempdir().unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    (0..10).for_each(|number| writeln!(packed, "{}", line(0, number)).unwrap());
    std::fs::write(dir.path().join("a.jsonl.gz"), packed.finish().unwrap()).unwrap();
    let list = format!(r#"[{},{{"$distinct_id":"user 1","$properties":{{"plan":"pro"}}}},{{"x":1}}]"#, line(1, 0));
    std::fs::write(dir.path().join("b.json"), list).unwrap();
    std::fs::write(dir.path().join("old.jsonl"), r#"{"event":"Old","properties":{"time":40000000.5,"distinct_id":"u"}}"#).unwrap();
    let folder = dir.path().to_str().unwrap();
    let import = |args: &[&str], stdin: &str| -> Value {
        serde_json::from_str(&server.cli(&[&["import", "--project", "1"], args].concat(), stdin)).unwrap()
    };
    let view = import(&[folder], "");
    assert_eq!(of_day(&view, &day(0))["difference"], 0);
    assert_eq!((&of_day(&view, &day(1))["stored"], &of_day(&view, "1971-04-08")["stored"]), (&json!(1), &json!(1)));
    assert_eq!(of_day(&view, "no time")["refused"], json!({ "neither an event nor a profile": 1 }));
    assert_eq!(of_day(&view, "profiles")["stored"], 1);
    assert_eq!(profiles(&server, "test_secret")["results"][0]["$properties"]["plan"], "pro");
    // Wall times of Tokyo, by standard input: midnight there is 15:00 of the day before here.
    let wall = r#"{"event":"Wall","properties":{"time":1704067200,"distinct_id":"u","$insert_id":"w"}}"#;
    let view = import(&["-", "--source-timezone", "Asia/Tokyo"], wall);
    assert_eq!(of_day(&view, "2023-12-31")["stored"], 1);
    // An event without an id has the same one when it comes again.
    let again = import(&[folder], "");
    assert_eq!((&of_day(&again, "1971-04-08")["stored"], &of_day(&again, &day(0))["stored"]), (&json!(1), &json!(10)));
    assert!(server.commands().run(&["import", "--project", "1", "/nothing/here"], "").is_none());
}

/// Events without what the server owns, in order.
fn comparable(mut events: Vec<Value>) -> Vec<String> {
    let mut lines: Vec<String> = events
        .iter_mut()
        .map(|event| {
            for name in ["mp_processing_time_ms", "$mp_api_timestamp_ms", "$mp_event_size"] {
                event["properties"].as_object_mut().unwrap().remove(name);
            }
            // Properties stand in another order, with the same values.
            let sorted: BTreeMap<String, Value> = event["properties"].as_object().unwrap().clone().into_iter().collect();
            format!("{} {}", event["event"], serde_json::to_string(&sorted).unwrap())
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn what_is_exported_is_imported_elsewhere_as_it_was() {
    let server = TestServer::start();
    for (number, secret) in [(2, "second_secret"), (3, "third_secret")] {
        let name = format!("P{number}");
        server.cli(&["project", "create", "--owner", "o@example.com", "--name", &name, "--api-secret", secret, "--allow-weak"], "");
    }
    let dir = tempfile::tempdir().unwrap();
    let odd = [
        r#"{"event":"Odd","properties":{"time":1704067200123,"distinct_id":"u1","$insert_id":"o1","big":18446744073709551616,"f":1.50,"list":[1,{"a":null}],"event":"a property","none":null}}"#,
        r#"{"event":"Odd","properties":{"time":1704067200124,"distinct_id":"u1","$insert_id":"o2","list":"a text","big":7,"f":2.5,"yes":true,"é\"":"ü\n"}}"#,
        r#"{"event":"Old","properties":{"time":40000000.5,"distinct_id":"u2","$insert_id":"o3"}}"#,
        r#"{"$distinct_id":"u1","$properties":{"plan":"pro","n":3,"tags":["a","b"]}}"#,
        r#"{"$group_key":"company","$group_id":"acme","$properties":{"n":1.5}}"#,
    ];
    let lines: Vec<String> = (0..50).map(|number| line(0, number)).collect();
    server.cli(&["import", "--project", "1", "-"], &format!("{}\n{}\n", odd.join("\n"), lines.join("\n")));
    let before = comparable(all_events(&server, 1, dir.path()));
    assert_eq!(before.len(), 53);
    for (project, secret, format) in [("2", "second_secret", "jsonl.gz"), ("3", "third_secret", "parquet")] {
        let folder = dir.path().join(format);
        let output = format!("{}/", folder.display());
        let said = server.cli(
            &[
                "export",
                "--project",
                "1",
                "--from-date",
                "1970-01-01",
                "--to-date",
                "2025-12-31",
                "--format",
                format,
                "--profiles",
                "--output",
                &output,
            ],
            "",
        );
        assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["rows"], 55, "{said}: events, and profiles");
        let names: BTreeSet<String> =
            e2e::walk(&folder).iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
        assert_eq!(names, BTreeSet::from([format!("events.{format}"), format!("profiles.{format}")]), "nothing half is left");
        server.cli(&["import", "--project", project, &output], "");
        let after = comparable(all_events(&server, project.parse().unwrap(), dir.path()));
        assert_eq!(after, before, "{format}");
        let (ours, theirs) = (profiles(&server, "test_secret"), profiles(&server, secret));
        assert_eq!(ours["results"], theirs["results"], "{format}");
        let group = get(&format!("{}/api/2.0/engage?data_group_id=company", server.base), Some(&basic(secret, ""))).1;
        assert!(group.contains(r#""$distinct_id": "acme", "$properties": {"n": 1.5"#), "{group}");
    }
    // Some events only, to one file.
    let file = dir.path().join("some.jsonl");
    let output = file.to_str().unwrap();
    let days = ["--from-date", "2024-01-01", "--to-date", "2024-01-01", "--output", output];
    let some = ["export", "--project", "1", "--event", "Event 1", "--where", r#"properties["amount"] > 10"#];
    server.cli(&[&some[..], &days].concat(), "");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 5, "{text}");
    let refused =
        ["export", "--project", "1", "--where", "amount >", "--from-date", "2024-01-01", "--to-date", "2024-01-01", "--output", "-"];
    assert!(server.commands().run(&refused, "").is_none());
    let audit: Value = serde_json::from_str(&server.cli(&["audit", "list", "--project", "1"], "")).unwrap();
    let exports: Vec<&Value> = audit.as_array().unwrap().iter().filter(|row| row["action"] == "export").collect();
    assert!(exports.iter().any(|row| row["actor"] == "console" && row["detail"].as_str().unwrap().contains("as parquet")), "{exports:?}");
}

/// What `sluice export` writes of all days.
fn all_events(server: &TestServer, project: i64, dir: &std::path::Path) -> Vec<Value> {
    let file = dir.join("all.jsonl");
    let (id, output) = (project.to_string(), file.to_str().unwrap());
    server.cli(&["export", "--project", &id, "--from-date", "1970-01-01", "--to-date", "2025-12-31", "--output", output], "");
    std::fs::read_to_string(&file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_import_is_watched_and_cancelled_from_elsewhere() {
    let source = Source::start(State { days: days(3, 5), delay: Duration::from_secs(30), ..State::default() });
    let server = TestServer::start();
    let asked = [day(0), day(2)];
    let args: Vec<String> = pull(&source, &asked).into_iter().map(str::to_owned).collect();
    let commands = server.commands();
    let command = std::thread::spawn(move || commands.run(&args.iter().map(String::as_str).collect::<Vec<_>>(), SECRET));
    let mut owner = Browser::signed_in(&server, "o@example.com", "correct horse");
    let since = Instant::now();
    let job = loop {
        let (status, jobs) = owner.call("GET", "/projects/1/jobs", None);
        assert_eq!(status, 200, "{jobs}");
        if jobs[0]["progress"]["phase"] == "fetching" {
            break jobs[0].clone();
        }
        assert!(since.elapsed() < Duration::from_secs(20), "{jobs}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!((&job["state"], &job["kind"], &job["progress"]["total"]), (&json!("running"), &json!("import"), &json!(3)), "{job}");
    // One import of a project at a time; another project has nothing of it.
    let other = ["import", "--project", "1", "-"];
    assert!(server.commands().run(&other, &line(0, 1)).is_none());
    let path = format!("/projects/1/jobs/{}/cancel", job["job"]);
    assert_eq!(owner.call("POST", &path, Some(&json!({}))).0, 200);
    assert!(command.join().unwrap().is_none(), "the command says that it was cancelled");
    let (_, shown) = owner.call("GET", &format!("/projects/1/jobs/{}", job["job"]), None);
    assert_eq!((&shown["state"], shown["ended_at"].is_string()), (&json!("cancelled"), true), "{shown}");
    assert_eq!(owner.call("POST", &path, Some(&json!({}))).0, 400, "it has ended");
    // The same again continues it, at once.
    source.state().delay = Duration::ZERO;
    let view: Value = serde_json::from_str(&server.cli(&pull(&source, &asked), SECRET)).unwrap();
    assert_eq!((&view["job"], &view["state"]), (&job["job"], &json!("done")), "{view}");
    assert_eq!(get(&format!("{}/api/2.0/events/names?type=general", server.base), Some(OURS)).0, 200);
    assert_eq!(exported(&server, "test_secret").len(), 15);
}

#[test]
fn the_network_pulls_from_the_original_alone() {
    let server = TestServer::start();
    let mut owner = Browser::signed_in(&server, "o@example.com", "correct horse");
    let days = json!({ "from_date": "2024-01-02", "to_date": "2024-01-01" });
    let asked = |more: Value| {
        let mut asked = json!({ "region": "us", "secret": "test_secret" });
        let fields = asked.as_object_mut().unwrap();
        more.as_object().unwrap().iter().for_each(|(name, value)| drop(fields.insert(name.clone(), value.clone())));
        asked
    };
    let (status, said) = owner.call("POST", "/projects/1/imports", Some(&asked(days)));
    assert!(
        status == 400 && said["error"].as_str().unwrap().contains("--from-date"),
        "the secret is one that is known here, and is taken: {said}"
    );
    let (status, said) = owner.call("POST", "/projects/1/imports", Some(&asked(json!({ "region": "http://127.0.0.1" }))));
    assert_eq!(status, 400, "{said}");
    assert_eq!(owner.call("GET", "/projects/1/jobs", None).1, json!([]));
}
