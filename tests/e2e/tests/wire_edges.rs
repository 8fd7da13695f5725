//! The edges of the wire, straight from the socket: what the HTTP layer answers itself, pipelining, `Expect`, long request lines, and paths by
//! other names. Every answer can be read by the page that asked.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use e2e::{TestServer, get, post};

const EVENT: &str = r#"{"event":"e","properties":{"token":"test_token"}}"#;
const ORIGIN: &str = "https://a.example";

fn connect(server: &TestServer) -> TcpStream {
    let stream = TcpStream::connect(server.base.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Everything that comes back until the server closes.
fn exchange(server: &TestServer, sent: &[u8]) -> String {
    let mut stream = connect(server);
    // The server may refuse before it has read everything.
    let _ = stream.write_all(sent);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Whether a page of [`ORIGIN`] can read an answer.
#[track_caller]
fn readable(answer: &str, status: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "not {status}: {answer}");
    let head = answer.split("\r\n\r\n").next().unwrap().to_ascii_lowercase();
    for header in [
        format!("\r\naccess-control-allow-origin: {ORIGIN}"),
        "\r\naccess-control-allow-credentials: true".to_owned(),
        "\r\nvary: origin".to_owned(),
    ] {
        assert_eq!(head.matches(&header).count(), 1, "{header:?} in {answer}");
    }
}

#[test]
fn what_the_http_layer_refuses_can_be_read() {
    let server = TestServer::start();
    let rest = format!("Host: h\r\nOrigin: {ORIGIN}\r\n");
    let many: String = (0..150).map(|number| format!("x-{number}: 1\r\n")).collect();
    let cases = [
        (414, format!("GET /track?data={} HTTP/1.1\r\n{rest}\r\n", "a".repeat(66_560))),
        (431, format!("GET /track HTTP/1.1\r\n{rest}{many}\r\n")),
        (431, format!("GET /track HTTP/1.1\r\n{rest}x: {}\r\n\r\n", "a".repeat(2_000_000))),
        (400, format!("GET /track HTTP/1.1\r\n{rest}no header\r\n\r\n{}", "a".repeat(2_000_000))),
        (400, format!("GET /track?data=\"<> HTTP/1.1\r\n{rest}\r\n")),
        (400, format!("GET /track HTTP/1.1\r\n{rest}Content-Length: x\r\n\r\n")),
    ];
    for (status, sent) in &cases {
        let answer = exchange(&server, sent.as_bytes());
        readable(&answer, *status);
    }
    // Who is no page is told nothing of pages.
    let answer = exchange(&server, b"GET /track HTTP/1.1\r\nno header\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 ") && !answer.contains("access-control"), "{answer}");
    // A page's requests before it on the same connection were answered as ever.
    let good = format!("POST /track HTTP/1.1\r\n{rest}Content-Length: {}\r\n\r\n{EVENT}", EVENT.len());
    let answer = exchange(&server, format!("{good}GET /track HTTP/1.1\r\nno header\r\n\r\n").as_bytes());
    let second = answer.rfind("HTTP/1.1 ").unwrap();
    readable(&answer[..second], 200);
    readable(&answer[second..], 400);
}

#[test]
fn a_request_line_of_64_kib_is_taken() {
    let server = TestServer::start();
    let (start, end) = ("GET /track?data=", " HTTP/1.1");
    let event = r#"{"event":"e","properties":{"token":"test_token","s":"%"}}"#.replace('"', "%22").replace('{', "%7B").replace('}', "%7D");
    let event = event.replace("%22%%22", &format!("%22{}%22", "x".repeat(65_536 - start.len() - end.len() - event.len() + 1)));
    let line = format!("{start}{event}{end}");
    assert_eq!(line.len(), 65_536);
    let answer = exchange(&server, format!("{line}\r\nHost: h\r\nConnection: close\r\n\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n1"), "{answer}");
}

#[test]
fn requests_in_a_row_are_answered_in_a_row() {
    let server = TestServer::start();
    let request =
        |event: &str, more: &str| format!("POST /track/ HTTP/1.1\r\nHost: h\r\n{more}Content-Length: {}\r\n\r\n{event}", event.len());
    let sent = [request(EVENT, ""), request("[]", ""), request(EVENT, "Connection: close\r\n")].concat();
    let answers = exchange(&server, sent.as_bytes());
    let bodies: Vec<&str> = answers.split("HTTP/1.1 200 OK\r\n").skip(1).map(|answer| answer.split("\r\n\r\n").nth(1).unwrap()).collect();
    assert_eq!(bodies, ["1", "0", "1"], "{answers}");
}

#[test]
fn who_expects_100_continue_gets_it() {
    let server = TestServer::start();
    let mut stream = connect(&server);
    let head = "POST /track HTTP/1.1\r\nHost: h\r\nConnection: close\r\nExpect: 100-continue\r\n";
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n", EVENT.len()).as_bytes()).unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(std::str::from_utf8(&interim).unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(EVENT.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n1"), "{answer}");
}

/// A client that sends all before it listens hears why it is refused: on a broken connection it would send the same again.
#[test]
fn a_long_body_is_heard_out() {
    let server = TestServer::start();
    for path in ["/import?strict=1", "/track"] {
        let mut stream = connect(&server);
        let length = 40 << 20;
        write!(stream, "POST {path} HTTP/1.1\r\nHost: h\r\nOrigin: {ORIGIN}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n")
            .unwrap();
        for _ in 0..length >> 20 {
            stream.write_all(&[b' '; 1 << 20]).unwrap();
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        readable(&answer, 413);
        let body = r#"{"code":413,"error":"request exceeds max limit of 10485760 bytes","status":"Request Entity Too Large"}"#;
        assert!(answer.ends_with(body), "{answer}");
    }
}

#[test]
fn a_body_that_stops_is_answered() {
    let server = TestServer::start_with("[listen]\nbody_idle_timeout_seconds = 1\n");
    let begun = |path: &str| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nOrigin: {ORIGIN}\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n");
        exchange(&server, format!("{head}data=").as_bytes())
    };
    readable(&begun("/import?strict=1"), 408);
    let answer = begun("/track?verbose=1");
    readable(&answer, 503);
    assert!(answer.contains("retry-after: 5") && answer.ends_with(r#"{"error":"a temporary failure occurred","status":0}"#), "{answer}");
}

/// W26, W49: beyond what may come, the answer is 503 in the dialect that was asked for, with a time, and readable.
#[test]
fn w26_overload_is_503_in_every_dialect() {
    let server = TestServer::start();
    server.cli(&["project", "set", "--project", "1", "--as", "o@example.com", "--events-per-second-max", "1"], "");
    let send = |path: &str, body: &str| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nOrigin: {ORIGIN}\r\nConnection: close\r\n");
        exchange(&server, format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
    };
    let crowd = format!("[{}]", [EVENT; 200].join(","));
    readable(&send("/track", &crowd), 200);
    let profile = r#"{"$token":"test_token","$distinct_id":"u","$set":{"a":1}}"#;
    let refused = r#"{"code":503,"error":"a temporary failure occurred","status":"Service Unavailable"}"#;
    let verbose = r#"{"error":"a temporary failure occurred","status":0}"#;
    for (path, sent, expected) in [
        ("/track", EVENT, "0"),
        ("/track/?verbose=1", EVENT, verbose),
        ("/track?strict=1", EVENT, refused),
        ("/engage", profile, "0"),
        ("/engage?verbose=1", profile, verbose),
    ] {
        let answer = send(path, sent);
        readable(&answer, 503);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, expected, "{path}");
        let wait = head.split("retry-after: ").nth(1).unwrap().split("\r\n").next().unwrap();
        assert!((1..=60).contains(&wait.parse::<u64>().unwrap()), "{head}");
    }
    // W49: clients of `/import` wait for another status.
    let answer = send("/import?api_key=test_key", EVENT);
    readable(&answer, 429);
    let text = "Project exceeded rate limits. Please retry the request with exponential backoff.";
    assert!(answer.ends_with(&format!(r#"{{"code":429,"error":"{text}","status":"Too Many Requests"}}"#)), "{answer}");
    assert!(answer.contains("retry-after: "), "{answer}");
}

#[test]
fn endpoints_answer_below_prefixes_and_by_other_names() {
    let settings = "[listen]\npath_prefixes = [\"/_mp/api\", \"collect\"]\n";
    let server =
        TestServer::start_with(&format!("{settings}[routes]\ntrack = \"e\"\nengage = \"data/p\"\nflags = \"f\"\nrecord = \"r\"\n"));
    let profile = r#"{"$token":"test_token","$distinct_id":"u","$set":{"a":1}}"#;
    for path in ["/track", "/e", "/e/", "//e", "/_mp/api/track/", "/_mp/api/e", "/collect/track", "/collect//e/?ip=1"] {
        assert_eq!(post(&format!("{}{path}", server.base), EVENT, None), (200, "1".to_owned()), "{path}");
    }
    for path in ["/engage", "/data/p", "/_mp/api/data/p/", "/collect/engage"] {
        assert_eq!(post(&format!("{}{path}", server.base), profile, None), (200, "1".to_owned()), "{path}");
    }
    assert_eq!(get(&format!("{}/_mp/api/f/definitions", server.base), None).1, r#"{"flags":[]}"#);
    assert_eq!(post(&format!("{}/_mp/api/r/?seq=0", server.base), "x", None).1, r#"{"code":200,"status":"OK"}"#);
    for path in ["/ex", "/_mp/track", "/_mp/apitrack", "/data"] {
        assert_eq!(post(&format!("{}{path}", server.base), EVENT, None).0, 404, "{path}");
    }
    let preflight = format!("OPTIONS /_mp/api/e/ HTTP/1.1\r\nHost: h\r\nOrigin: {ORIGIN}\r\nConnection: close\r\n\r\n");
    readable(&exchange(&server, preflight.as_bytes()), 204);
    // Pages of this server are for no other site, whatever path they are asked by.
    let own = format!("GET /_mp/api/api/v1/session HTTP/1.1\r\nHost: h\r\nOrigin: {ORIGIN}\r\nConnection: close\r\n\r\n");
    assert!(!exchange(&server, own.as_bytes()).contains("access-control"));
}

#[test]
fn dropped_recordings_are_counted_by_project() {
    let server = TestServer::start();
    let send = |authorization: Option<&str>, query: &str, body: &str| {
        let answer = post(&format!("{}/record/?seq=0{query}", server.base), body, authorization);
        assert_eq!(answer, (200, r#"{"code":200,"status":"OK"}"#.to_owned()));
    };
    send(Some(&e2e::basic("test_token", "")), "", "12345");
    send(None, "&token=test_token", "123");
    send(Some(&e2e::basic("nobodys", "")), "", "1");
    send(None, "", "");
    let metrics = get(&format!("{}/metrics", server.base), None).1;
    for line in [
        "sluice_recordings_dropped_total{project=\"1\"} 2\n",
        "sluice_recording_bytes_dropped_total{project=\"1\"} 8\n",
        "sluice_recordings_dropped_total{project=\"unknown\"} 2\n",
        "sluice_recording_bytes_dropped_total{project=\"unknown\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
}
