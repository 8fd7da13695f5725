//! What SDKs do with connections beyond one request: PHP's socket is written to and never read, its forked curl is let go, phones send a batch
//! again after a crash. `tests/cases/sdk` has their single requests.

use std::net::Shutdown;
use std::process::{Command, Stdio};

use base64::Engine;
use e2e::raw::{Connection, gzip};
use e2e::{TestServer, basic, get, setting};

/// Events with a number each, as base64 without escapes.
fn form(numbers: std::ops::Range<usize>) -> String {
    let event = |n| format!(r#"{{"event":"E","properties":{{"token":"test_token","distinct_id":"u1","n":{n},"text":"c>?~é~>>"}}}}"#);
    let list: Vec<String> = numbers.map(event).collect();
    format!("data={}", base64::engine::general_purpose::STANDARD.encode(format!("[{}]", list.join(","))))
}

/// A request as the PHP socket consumer writes it, its header names in its own letters.
fn php(body: &str) -> Vec<u8> {
    let head = "POST /track HTTP/1.1\r\nHost: sluice.test\r\nContent-Type: application/x-www-form-urlencoded\r\nAccept: application/json";
    format!("{head}\r\nContent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The numbers that are stored, in order, by the signed export.
fn numbers(server: &TestServer, more: &str) -> Vec<usize> {
    let today = jiff::Timestamp::now().to_string()[..10].to_owned();
    let path = format!("/api/2.0/export?from_date=2015-01-01&to_date={today}{more}");
    let (status, text) = get(&server.signed(&path, "test_key", "test_secret"), None);
    assert_eq!(status, 200, "{text}");
    let number = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["properties"]["n"].as_u64();
    let mut found: Vec<usize> = text.lines().map(|line| number(line).expect("a number") as usize).collect();
    found.sort_unstable();
    found
}

/// Waits until so many events are stored: nobody answered that they are.
fn stored(server: &TestServer, count: usize) -> Vec<usize> {
    for _ in 0..300 {
        let found = numbers(server, "");
        if found.len() >= count {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{} of {count} events arrived", numbers(server, "").len());
}

#[test]
fn requests_in_a_row_on_a_socket_are_answered_in_their_order() {
    let server = TestServer::start();
    let mut connection = Connection::open(&server.base);
    let good = php(&form(0..50));
    let bad = php("data=broken");
    connection.send(&[good.clone(), bad, php(&form(50..51))].concat());
    let answers: Vec<(u16, String)> = (0..3).filter_map(|_| connection.answer()).map(|answer| (answer.status, answer.text())).collect();
    let expected = [(200, "1"), (200, "0"), (200, "1")].map(|(status, text): (u16, &str)| (status, text.to_owned()));
    assert_eq!(answers, expected);
    assert_eq!(numbers(&server, ""), (0..51).collect::<Vec<_>>());
}

#[test]
fn a_socket_that_is_never_read_loses_nothing() {
    let server = TestServer::start();
    let mut connection = Connection::open(&server.base);
    let requests = setting("PIPELINED", 200);
    for n in 0..requests {
        connection.send(&php(&form(n..n + 1)));
    }
    assert_eq!(stored(&server, requests), (0..requests).collect::<Vec<_>>());
    // A script ends with its request, and its process with it.
    for n in requests..2 * requests {
        Connection::open(&server.base).send(&php(&form(n..n + 1)));
    }
    assert_eq!(stored(&server, 2 * requests), (0..2 * requests).collect::<Vec<_>>());
}

#[test]
fn a_client_that_says_no_more_is_answered() {
    let server = TestServer::start();
    let mut connection = Connection::open(&server.base);
    connection.send(&php(&form(0..1)));
    connection.shutdown(Shutdown::Write);
    assert_eq!(connection.answer().map(|answer| answer.text()), Some("1".to_owned()));
    assert_eq!(numbers(&server, ""), [0]);
}

#[test]
fn bytes_that_come_one_by_one_are_a_request() {
    let server = TestServer::start();
    let mut connection = Connection::open(&server.base);
    for byte in php(&form(0..1)) {
        connection.send(&[byte]);
    }
    assert_eq!(connection.answer().map(|answer| answer.text()), Some("1".to_owned()));
    let body = gzip(form(1..2).as_bytes());
    let head = format!("POST /track/?ip=1 HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len());
    for piece in [head.as_bytes(), &body].concat().chunks(3) {
        connection.send(piece);
    }
    assert_eq!(connection.answer().map(|answer| answer.text()), Some("1".to_owned()));
    assert_eq!(numbers(&server, ""), [0, 1]);
}

#[test]
fn a_forked_curl_is_let_go_and_delivers() {
    let server = TestServer::start();
    // As the SDK's shell line has it: nobody waits for the process, or sees what it says.
    for n in 0..10 {
        let line = format!(
            "curl -s -X POST -H 'Content-Type: application/x-www-form-urlencoded' -d '{}' '{}/track' >/dev/null 2>&1 &",
            form(n..n + 1),
            server.base
        );
        let status = Command::new("sh").args(["-c", &line]).stdin(Stdio::null()).status().expect("sh runs");
        assert!(status.success());
    }
    assert_eq!(stored(&server, 10), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_batch_of_a_phone_that_comes_again_after_a_crash_is_one() {
    let mut server = TestServer::start();
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let event = |n: usize| {
        let properties =
            format!(r#"{{"token":"test_token","distinct_id":"$device:d","$device_id":"d","time":{},"n":{n}}}"#, now_ms + n as i64);
        format!(r#"{{"event":"E","properties":{properties},"$mp_metadata":{{"$mp_event_id":"{:x}"}},"id":{n}}}"#, 0xab00 + n)
    };
    let events = format!("[{}]", (0..50).map(event).collect::<Vec<_>>().join(","));
    let people = r#"[{"$token":"test_token","$distinct_id":"u","$add":{"coins":5},"$mp_metadata":{"$mp_event_id":"cc"},"id":1}]"#;
    let request = |path: &str, body: &str| {
        let head = format!("post {path}?ip=1 HTTP/1.1\r\nHost: sluice.test\r\nContent-Type: application/json");
        format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    for round in 0..3 {
        let mut connection = Connection::open(&server.base);
        connection.send(&request("/track/", &events));
        connection.send(&request("/engage/", people));
        if round == 1 {
            // The phone hears the answer of neither.
            server.crash_and_restart();
            continue;
        }
        let answers = [connection.answer(), connection.answer()].map(|answer| answer.map(|answer| answer.text()));
        assert_eq!(answers, [Some("1".to_owned()), Some("1".to_owned())]);
        if round == 0 {
            server.crash_and_restart();
        }
    }
    assert_eq!(numbers(&server, "&dedup=1"), (0..50).collect::<Vec<_>>());
    let today = jiff::Timestamp::now().to_string()[..10].to_owned();
    let yesterday = jiff::Timestamp::from_millisecond(now_ms - 86_400_000).expect("a time").to_string()[..10].to_owned();
    let path = format!("/api/2.0/segmentation?event=E&from_date={yesterday}&to_date={today}&type=general");
    let (_, report) = get(&server.signed(&path, "test_key", "test_secret"), None);
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let counts = report["data"]["values"]["E"].as_object().expect("days");
    assert_eq!(counts.values().filter_map(serde_json::Value::as_u64).sum::<u64>(), 50, "{report}");
    let (_, profile) = get(&format!("{}/api/2.0/engage?distinct_id=u", server.base), Some(&basic("test_secret", "")));
    assert!(profile.contains(r#""coins": 5"#), "{profile}");
}
