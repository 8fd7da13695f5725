//! Runs `tests/cases/**/*.md` against the real binary: each file has a server of its own, and its requests run in order.
//!
//! A file names its fixture in a line `Fixture: write` or `Fixture: read`. A block marked `request` holds a request line, headers, an empty
//! line and a body; the block marked `answer` behind it holds the status (and the type), headers, an empty line and the body. Words
//! behind `request`: `gzip` packs the body, `signed` signs the URL, `signed-form` signs a form, `times=N` sends it N times.
//!
//! In both, `«…»` is replaced, the innermost first: `«now»`, `«now-60»` (seconds), `«now_ms»`, `«today»`, `«today-1»`, `«base64 text»`,
//! `«url text»` (percent-encoded), `«basic user:password»`, `«repeat N text»`.
//!
//! A body matches whole, unless its lines begin with a mark: `~ ` must occur, `! ` must not, `lines N` counts them, `(empty)` is nothing.
//! Without a body in the answer block, the body may be anything.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::TestServer;
use e2e::golden::{Case, cases, files, filled};

/// Project 1 of the fixture `write` (`contract/write.md` 5).
const WRITE_TOKEN: &str = "0123456789abcdef0123456789abcdef";
const READ_EVENTS: &str = include_str!("fixtures/events.json");
const READ_PROFILES: &str = include_str!("fixtures/profiles.json");

struct Fixture {
    server: TestServer,
    key: &'static str,
    secret: &'static str,
}

fn project(server: &TestServer, name: &str, token: &str, key: &str, secret: &str) {
    let project = ["project", "create", "--owner", "o@example.com", "--name", name, "--token", token, "--api-key", key];
    server.cli(&[&project[..], &["--api-secret", secret, "--signature-lifetime", "none", "--allow-weak"]].concat(), "");
}

fn service_account(server: &TestServer, user: &str, secret: &str, role: &str) {
    let account = ["service-account", "create", "--project", "1", "--name", "scripts", "--role", role, "--username", user];
    server.cli(&[&account[..], &["--secret-stdin"]].concat(), secret);
}

fn fixture(name: &str) -> Fixture {
    let server = TestServer::empty();
    server.cli(&["account", "create", "--email", "o@example.com", "--password-stdin"], "correct horse");
    match name {
        "write" => {
            let (key, secret) = ("write_key", "write_secret");
            project(&server, "P", WRITE_TOKEN, key, secret);
            service_account(&server, "sa", "sec", "admin");
            Fixture { server, key, secret }
        }
        "read" => {
            let (key, secret) = ("test_key", "test_secret");
            project(&server, "P", "test_token", key, secret);
            project(&server, "Q", "test_token2", "test_key2", "test_secret2");
            service_account(&server, "sa.1a2b3c.mp-service-account", "s3cr3t", "analyst");
            let basic = e2e::basic(secret, "");
            assert_eq!(e2e::post(&format!("{}/import?strict=1", server.base), READ_EVENTS, Some(&basic)).0, 200, "the fixture's events");
            assert_eq!(e2e::post(&format!("{}/engage", server.base), READ_PROFILES, None).1, "1", "the fixture's profiles");
            Fixture { server, key, secret }
        }
        other => panic!("there is no fixture `{other}`"),
    }
}

/// Status, headers and body, straight from the socket: what is sent must not be tidied up by a client.
fn exchange(base: &str, head: &str, body: &[u8]) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let mut stream = TcpStream::connect(base.strip_prefix("http://").expect("a base")).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut raw = Vec::new();
    let _ = stream.read_to_end(&mut raw);
    let split = raw.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or_else(|| panic!("no answer to {head}"));
    let text = String::from_utf8_lossy(&raw[..split]).into_owned();
    let mut lines = text.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok()).expect("a status line");
    let headers: Vec<(String, String)> =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let mut rest = &raw[split + 4..];
    if !headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked") {
        return (status, headers, rest.to_vec());
    }
    let mut whole = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).expect("a size"), 16).expect("a size");
        if size == 0 {
            break;
        }
        whole.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
    (status, headers, whole)
}

fn send(fixture: &Fixture, case: &Case, now_ms: i64) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let request = filled(&case.request, now_ms);
    let (head, body) = request.split_once("\n\n").unwrap_or((&request, ""));
    let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
    let (method, path) = line.split_once(' ').expect("a method and a path");
    let (mut path, mut body) = (path.to_owned(), body.as_bytes().to_vec());
    let mut headers = headers.to_owned();
    let has = |word: &str| case.words.iter().any(|given| given == word);
    let sign = |url: &str| wire::signature::sign_url(url, fixture.key, fixture.secret, now_ms / 1000 + 600);
    if has("signed") {
        path = sign(&path);
    }
    if has("signed-form") {
        let form = String::from_utf8(body).expect("a form");
        body = sign(&format!("/?{form}")).trim_start_matches("/?").as_bytes().to_vec();
    }
    if has("gzip") {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&body).expect("memory");
        body = packed.finish().expect("memory");
        headers.push_str("\nContent-Encoding: gzip");
    }
    let headers: String = headers.lines().filter(|line| !line.is_empty()).map(|line| format!("{line}\r\n")).collect();
    let length =
        if body.is_empty() && method.eq_ignore_ascii_case("get") { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: sluice.test\r\nConnection: close\r\n{length}{headers}\r\n");
    exchange(&fixture.server.base, &head, &body)
}

/// What is wrong with an answer.
fn complaints(case: &Case, now_ms: i64, got: &(u16, Vec<(String, String)>, Vec<u8>)) -> Vec<String> {
    let expected = filled(&case.answer, now_ms);
    let (head, body) = expected.split_once("\n\n").map_or((expected.as_str(), None), |(head, body)| (head, Some(body)));
    let mut wrong = Vec::new();
    let (status, headers, bytes) = got;
    let text = String::from_utf8_lossy(bytes);
    let mut lines = head.lines();
    let (code, kind) = lines.next().map(|line| line.split_once(' ').unwrap_or((line, ""))).unwrap_or_default();
    if status.to_string() != code {
        wrong.push(format!("status {status}, not {code}"));
    }
    let header = |wanted: &str| headers.iter().find(|(name, _)| *name == wanted.to_lowercase()).map(|(_, value)| value.as_str());
    if !kind.is_empty() && !header("content-type").is_some_and(|value| value.starts_with(kind)) {
        wrong.push(format!("type {:?}, not {kind}", header("content-type")));
    }
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap_or((line, "*"));
        let fits = match value {
            "*" => header(name).is_some(),
            "-" => header(name).is_none(),
            value => header(name) == Some(value),
        };
        if !fits {
            wrong.push(format!("header {name} is {:?}, not {value}", header(name)));
        }
    }
    let Some(body) = body else { return wrong };
    let marked = |line: &str| line.starts_with("~ ") || line.starts_with("! ") || line.starts_with("lines ") || line == "(empty)";
    if !body.lines().all(marked) {
        if text != body {
            wrong.push(format!("body is not {body}"));
        }
        return wrong;
    }
    for line in body.lines() {
        let fits = if let Some(piece) = line.strip_prefix("~ ") {
            text.contains(piece)
        } else if let Some(piece) = line.strip_prefix("! ") {
            !text.contains(piece)
        } else if let Some(count) = line.strip_prefix("lines ") {
            text.lines().count().to_string() == count
        } else {
            text.is_empty()
        };
        if !fits {
            wrong.push(format!("body does not keep `{line}`"));
        }
    }
    wrong
}

/// Every file, or those whose path contains `CASES`.
#[test]
fn every_case_holds() {
    let root = std::env::var_os("CASES_DIR").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../cases"), PathBuf::from);
    let only = std::env::var("CASES").unwrap_or_default();
    let mut found = Vec::new();
    files(&root, &mut found);
    let (mut count, mut failures) = (0, Vec::new());
    for path in found.iter().filter(|path| path.to_string_lossy().contains(&only)) {
        let text = std::fs::read_to_string(path).expect("a case file");
        let (name, cases) = cases(&text);
        let fixture = fixture(&name);
        for case in cases {
            let now_ms = jiff::Timestamp::now().as_millisecond();
            let times: usize = case.words.iter().find_map(|word| word.strip_prefix("times=")?.parse().ok()).unwrap_or(1);
            for _ in 0..times {
                let got = send(&fixture, &case, now_ms);
                count += 1;
                let wrong = complaints(&case, now_ms, &got);
                if !wrong.is_empty() {
                    let (shown, body) = (path.strip_prefix(&root).unwrap_or(path).display(), String::from_utf8_lossy(&got.2));
                    failures.push(format!(
                        "{shown}: {}\n  {}\n  got: {}",
                        case.title,
                        wrong.join("\n  "),
                        body.chars().take(600).collect::<String>()
                    ));
                }
            }
        }
    }
    println!("{count} requests answered, {} not as the cases say", failures.len());
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    assert!(count > 0, "there are cases");
}
