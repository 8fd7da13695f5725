//! The server is killed while beacons, mobile apps and profile operations come in; then everything is sent again, twice, as clients do that got
//! no answer. Each event is there once, and each operation was done once.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use e2e::{TestServer, basic, get};

const SECRET: &str = "test_secret";

/// One request, ready to be sent any number of times.
#[derive(Clone)]
struct Sent {
    path: &'static str,
    kind: &'static str,
    body: Vec<u8>,
    events: Vec<String>,
}

fn gzip(plain: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

/// What a page sends as it goes away: a string, so that the browser calls it text.
fn beacon(cycle: usize, number: usize, now: i64) -> Sent {
    let ids: Vec<String> = (0..3).map(|index| format!("b{cycle}-{number}-{index}")).collect();
    let event = |id: &String| {
        format!(r#"{{"event":"Left","properties":{{"token":"test_token","distinct_id":"page","time":{now},"$insert_id":"{id}"}}}}"#)
    };
    let list = format!("[{}]", ids.iter().map(event).collect::<Vec<_>>().join(","));
    let data = wire::params::encode(&base64::engine::general_purpose::STANDARD.encode(list));
    Sent { path: "/track/?verbose=1&ip=1&_=1", kind: "text/plain;charset=UTF-8", body: format!("data={data}").into_bytes(), events: ids }
}

/// What an app sends: no `$insert_id`, but an id beside the properties.
fn mobile(cycle: usize, number: usize, now: i64) -> Sent {
    let ids: Vec<String> = (0..4).map(|index| format!("{cycle:08x}{number:04x}{index:04x}")).collect();
    let event = |id: &String| {
        format!(
            r#"{{"id":7,"event":"Tapped","properties":{{"token":"test_token","distinct_id":"app","time":{now}}},"$mp_metadata":{{"$mp_event_id":"{id}"}}}}"#
        )
    };
    let list = format!("[{}]", ids.iter().map(event).collect::<Vec<_>>().join(","));
    Sent { path: "/track/?ip=1", kind: "application/json", body: gzip(&list), events: ids }
}

/// Operations that count what they are done: a resend must not be counted.
fn operations(cycle: usize, number: usize, _: i64) -> Sent {
    let update = |op: &str, id: &str| {
        format!(r#"{{"$token":"test_token","$distinct_id":"p{cycle}",{op},"$mp_metadata":{{"$mp_event_id":"{id}-{cycle}-{number}"}}}}"#)
    };
    let list = [update(r#""$add":{"n":1}"#, "a"), update(&format!(r#""$append":{{"list":{number}}}"#), "l")];
    Sent { path: "/engage", kind: "application/json", body: format!("[{}]", list.join(",")).into_bytes(), events: Vec::new() }
}

/// Whether the server said that it has it.
fn send(agent: &ureq::Agent, base: &str, sent: &Sent) -> bool {
    let outcome = agent.post(format!("{base}{}", sent.path)).header("content-type", sent.kind).send(&sent.body[..]);
    let Ok(mut answer) = outcome else { return false };
    let body = answer.body_mut().read_to_string().unwrap_or_default();
    body == "1" || body == r#"{"error":null,"status":1}"#
}

fn counted(server: &TestServer, event: &str) -> u64 {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let day = |offset: i64| model::profile::wall_time(model::Timestamp(now_ms + offset))[..10].to_owned();
    let (from, to) = (day(-86_400_000), day(0));
    let url = format!("{}/api/2.0/segmentation?event={event}&from_date={from}&to_date={to}", server.base);
    let answer: serde_json::Value = serde_json::from_str(&get(&url, Some(&basic(SECRET, ""))).1).expect("a report");
    let days = answer["data"]["values"][event].as_object().cloned().unwrap_or_default();
    days.values().filter_map(serde_json::Value::as_u64).sum()
}

fn profile(server: &TestServer, cycle: usize) -> (u64, Vec<u64>) {
    let url = format!("{}/api/2.0/engage?distinct_id=p{cycle}", server.base);
    let answer: serde_json::Value = serde_json::from_str(&get(&url, Some(&basic(SECRET, ""))).1).expect("an answer");
    let properties = &answer["results"][0]["$properties"];
    let list = properties["list"].as_array().cloned().unwrap_or_default();
    (properties["n"].as_u64().unwrap_or_default(), list.iter().filter_map(serde_json::Value::as_u64).collect())
}

#[test]
fn what_is_sent_again_after_a_kill_counts_once() {
    let mut server = TestServer::start_with("[store]\nseal_rows_max = 200\n");
    let (mut beacons, mut taps) = (BTreeSet::new(), BTreeSet::new());
    for cycle in 0..6 {
        let (over, all) = (AtomicBool::new(false), Mutex::new(Vec::<Sent>::new()));
        let now = jiff::Timestamp::now().as_second();
        std::thread::scope(|scope| {
            for make in [beacon, mobile, operations] {
                let (over, all, base) = (&over, &all, server.base.clone());
                scope.spawn(move || {
                    let agent = e2e::agent();
                    for number in 0.. {
                        let sent = make(cycle, number, now);
                        all.lock().expect("nobody panics").push(sent.clone());
                        if over.load(Ordering::SeqCst) || !send(&agent, &base, &sent) {
                            return;
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(60 + 47 * cycle as u64));
            server.kill();
            over.store(true, Ordering::SeqCst);
        });
        server.restart();
        let (all, agent) = (all.into_inner().expect("nobody panics"), e2e::agent());
        for round in 0..2 {
            for sent in &all {
                assert!(send(&agent, &server.base, sent), "cycle {cycle}, round {round}: a resend is taken");
            }
        }
        for sent in &all {
            let known = if sent.kind.starts_with("text") { &mut beacons } else { &mut taps };
            known.extend(sent.events.iter().cloned());
        }
        assert_eq!(counted(&server, "Left"), beacons.len() as u64, "cycle {cycle}: beacons");
        assert_eq!(counted(&server, "Tapped"), taps.len() as u64, "cycle {cycle}: events of apps");
        let operations = all.iter().filter(|sent| sent.path == "/engage").count() as u64;
        let (added, mut appended) = profile(&server, cycle);
        appended.sort_unstable();
        assert_eq!(added, operations, "cycle {cycle}: each $add once");
        assert_eq!(appended, (0..operations).collect::<Vec<_>>(), "cycle {cycle}: each $append once");
    }
    println!("{} events of beacons and {} of apps, each sent two or three times, count once", beacons.len(), taps.len());
}
