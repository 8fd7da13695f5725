//! The readers of bodies, events, profile operations and imports, on what is made of the golden cases: they do not panic, what they take keeps
//! the rules, and a request means the same however it is wrapped. `FUZZ_SECONDS=60` (or `make fuzz`) for longer, `SEED=N` for the same again.

use std::time::{Duration, Instant};

use base64::Engine;
use e2e::mutate::{self, Chance};
use e2e::{golden, setting};
use model::{Timestamp, Value};
use wire::body::{self, Limits};
use wire::dialect::{Endpoint, reply};
use wire::track::{Makes, Record, Rules};
use wire::{engage, json, track};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const LIMITS: Limits = Limits { decoded_bytes_max: 1 << 20, records_max: 50 };

struct Made;

impl Makes for Made {
    fn insert_id(&self) -> String {
        "made".to_owned()
    }

    fn sender_id(&self, _: &str) -> Option<String> {
        Some("sender".to_owned())
    }
}

/// Calls a target with bodies until its time is over; it names the seed where it fails.
fn fuzz(target: impl Fn(&str, &[u8])) {
    let seed = setting("SEED", jiff::Timestamp::now().subsec_nanosecond() as usize) as u64;
    println!("SEED={seed}");
    let golden = golden::write_requests(NOW.0);
    let (seconds, until) = (setting("FUZZ_SECONDS", 0), Instant::now());
    let is_over = |number: u64| {
        let is_late = until.elapsed() >= Duration::from_secs(seconds as u64);
        number >= 3000 && is_late
    };
    let mut chance = Chance(seed);
    let mut number = 0;
    while !is_over(number) {
        number += 1;
        let (head, body) = &golden[chance.below(golden.len())];
        let mut body = body.clone();
        let query = head.lines().next().and_then(|line| line.split_once('?')).map_or("", |(_, query)| query).to_owned();
        let mut query = query.into_bytes();
        for _ in 0..chance.below(4) {
            if chance.below(4) == 0 { mutate::bytes(&mut chance, &mut query) } else { mutate::bytes(&mut chance, &mut body) }
        }
        target(&String::from_utf8_lossy(&query), &body);
    }
    println!("{number} inputs");
}

fn records(query: &str, body: &[u8]) -> Vec<Value> {
    body::decode(query, body, LIMITS).1.unwrap_or_default()
}

fn text(value: &Value) -> String {
    let mut out = String::new();
    json::write(value, &mut out);
    out
}

fn texts(query: &str, body: &[u8]) -> Result<Vec<String>, body::BodyError> {
    body::decode(query, body, LIMITS).1.map(|records| records.iter().map(text).collect())
}

#[test]
fn bodies_mean_the_same_however_they_are_wrapped() {
    fuzz(|query, body| {
        let plain = texts(query, body);
        assert!(plain.as_ref().is_ok_and(|records| records.len() <= LIMITS.records_max) || plain.is_err());
        // What was read is JSON, and reads as itself.
        for record in plain.iter().flatten() {
            assert_eq!(json::parse(record).map(|value| text(&value)).ok().as_deref(), Some(record.as_str()));
        }
        let is_raw = body.trim_ascii_start().first().is_some_and(|byte| b"[{".contains(byte));
        if !is_raw || body.len() > LIMITS.decoded_bytes_max / 4 || std::str::from_utf8(body).is_err() {
            return;
        }
        let in_base64 = base64::engine::general_purpose::STANDARD.encode(body);
        let form = format!("ip=0&data={}", wire::params::encode(&in_base64));
        assert_eq!(texts("", form.as_bytes()), texts("", body), "base64 in a form");
        assert_eq!(texts(&form, b""), texts("", body), "base64 in a query");
    });
}

/// One answer for any outcome: JSON where JSON was asked for, with what clients look for.
fn check_reply(endpoint: Endpoint, query: &str, body: &[u8], accepted: usize, rejections: &[track::Rejection]) {
    let (options, records) = body::decode(query, body, LIMITS);
    let reply = reply(endpoint, &options, accepted, rejections, records.as_ref().err());
    let is_import = endpoint == Endpoint::Import;
    assert!(reply.status == 200 || is_import || options.strict, "{} on a client endpoint", reply.status);
    if reply.content_type == "application/json" {
        let answer: serde_json::Value = serde_json::from_slice(&reply.body).expect("it says that it is JSON");
        assert!(answer.get("status").is_some(), "{answer}");
    }
}

fn check_events(is_import: bool, query: &str, body: &[u8]) {
    for strict in [false, true] {
        let (mut accepted, mut rejections) = (0, Vec::new());
        for (index, mut record) in records(query, body).into_iter().enumerate() {
            let rules = Rules {
                import: is_import,
                strict,
                credentialed: is_import,
                authenticated: false,
                now: NOW,
                identity: model::IdentityMode::Simplified,
                keeps_ignored: false,
                host: None,
            };
            match track::event(index, &mut record, rules, &Made) {
                Record::Good { item, .. } => {
                    accepted += 1;
                    assert!(!item.name.is_empty() && !item.insert_id.is_empty());
                    assert!(item.name.chars().count() <= 255, "{} characters", item.name.chars().count());
                    assert!(is_import || item.time.0 <= NOW.0 + 3_600_000, "an event of the future: {:?}", item.time);
                    assert!(!item.properties.contains_key("token"), "a token is stored");
                }
                Record::Refused(rejection) => rejections.push(rejection),
                _ => accepted += 1,
            }
        }
        check_reply(if is_import { Endpoint::Import } else { Endpoint::Track }, query, body, accepted, &rejections);
    }
}

#[test]
fn events_keep_the_rules() {
    fuzz(|query, body| check_events(false, query, body));
}

#[test]
fn imports_keep_the_rules() {
    fuzz(|query, body| check_events(true, query, body));
}

#[test]
fn profile_operations_keep_the_rules() {
    fuzz(|query, body| {
        for groups in [false, true] {
            let (mut accepted, mut rejections) = (0, Vec::new());
            for (index, record) in records(query, body).iter().enumerate() {
                match engage::updates(index, record, engage::Rules { groups, authenticated: false, now: NOW, is_long: false }) {
                    Record::Good { item, .. } => {
                        accepted += 1;
                        let mut folded = model::profile::Folded::default();
                        item.iter().for_each(|update| folded.apply(update));
                        let is_sane =
                            folded.profile.is_none_or(|profile| profile.properties.len() <= model::profile::PROFILE_PROPERTIES_MAX);
                        assert!(is_sane, "a profile beyond its bounds");
                        assert!(item.iter().all(|update| !matches!(update.op, model::ProfileOp::Restore(_))), "a client restores");
                    }
                    Record::Refused(rejection) => rejections.push(rejection),
                    _ => accepted += 1,
                }
            }
            check_reply(if groups { Endpoint::Groups } else { Endpoint::Engage }, query, body, accepted, &rejections);
        }
    });
}
