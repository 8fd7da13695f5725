//! Runs `tests/cases/**/*.md` against the real binary: each file has a server of its own, and its requests run in order.
//!
//! A file names its fixture in a line `Fixture: write`, `Fixture: write-original` or `write-legacy` (by how ids are linked), `Fixture: read`
//! or `Fixture: geo`. A block marked `request` holds a request line, headers, an empty
//! line and a body; the block marked `answer` behind it holds the status (and the type), headers, an empty line and the body. Words
//! behind `request`: `gzip` packs the body, `signed` signs the URL, `signed-form` signs a form, `times=N` sends it N times. `raw` sends the
//! head as it stands there, with `LENGTH` for the length of the body as it is sent; `chunked` sends the body in chunks, and `continue` once
//! the server asked for it.
//!
//! In both, `«…»` is replaced, the innermost first: `«now»`, `«now-60»` (seconds), `«now_ms»`, `«today»`, `«today-1»`, `«base64 text»`,
//! `«url text»` (percent-encoded), `«basic user:password»`, `«repeat N text»`.
//!
//! A body matches whole, unless its lines begin with a mark: `~ ` must occur, `! ` must not, `lines N` counts them, `(empty)` is nothing.
//! Without a body in the answer block, the body may be anything.

use std::path::{Path, PathBuf};

use base64::Engine;
use e2e::TestServer;
use e2e::raw::{Answer, Connection, chunked, gzip};

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

/// Settings of a server behind a proxy on this machine, with a database of addresses.
fn with_places() -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/places.mmdb");
    format!("[listen]\ntrusted_proxies = [\"127.0.0.1\"]\n[geo]\nmmdb_file = \"{file}\"\n")
}

fn fixture(name: &str) -> Fixture {
    let server = if name == "geo" { TestServer::empty_with(&with_places()) } else { TestServer::empty() };
    server.cli(&["account", "create", "--email", "o@example.com", "--password-stdin"], "correct horse");
    match name {
        "write" | "write-original" | "write-legacy" | "geo" => {
            let (key, secret) = ("write_key", "write_secret");
            project(&server, "P", WRITE_TOKEN, key, secret);
            service_account(&server, "sa", "sec", "admin");
            if let Some(mode) = name.strip_prefix("write-") {
                server.cli(&["project", "set", "--project", "1", "--identity-mode", mode], "");
            }
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
        "tables" => {
            let fixture = fixture("read");
            service_account(&fixture.server, "sa", "sec", "admin");
            let run = |args: &[&str]| fixture.server.cli(&[args, &["--project", "1"]].concat(), "");
            run(&["project", "group-key", "add", "--key", "company", "--data-group-id", "-1405123841946871899"]);
            let create = ["lookup-table", "create", "--id"];
            let plans = ["--name", "Plans", "--event-property", "plan", "--profile-property", "plan"];
            run(&[&create[..], &["c0ffee00-0000-4000-8000-000000000001"], &plans].concat());
            run(&[&create[..], &["c0ffee00-0000-4000-8000-000000000002", "--name", "Prices", "--event-property", "amount"]].concat());
            fixture
        }
        other => panic!("there is no fixture `{other}`"),
    }
}

/// One request and what must come back.
struct Case {
    title: String,
    words: Vec<String>,
    request: String,
    answer: String,
}

fn cases(text: &str) -> (String, Vec<Case>) {
    let (mut name, mut title, mut found) = (String::new(), String::new(), Vec::<Case>::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(fixture) = line.strip_prefix("Fixture: ") {
            name = fixture.trim().to_owned();
        } else if let Some(heading) = line.strip_prefix("## ") {
            title = heading.to_owned();
        } else if let Some(info) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            let mut words = info.split(' ');
            match words.next() {
                Some("request") => {
                    let words = words.map(str::to_owned).collect();
                    found.push(Case { title: title.clone(), words, request: block.join("\n"), answer: String::new() });
                }
                Some("answer") => found.last_mut().expect("an answer follows a request").answer = block.join("\n"),
                _ => {}
            }
        }
    }
    (name, found)
}

fn filled(text: &str, now_ms: i64) -> String {
    let mut text = text.to_owned();
    while let Some(end) = text.find('»') {
        let start = text[..end].rfind('«').expect("» closes something");
        let inner = &text[start + '«'.len_utf8()..end];
        let (name, rest) = inner.split_once(' ').unwrap_or((inner, ""));
        let offset =
            |prefix: &str| name.strip_prefix(prefix).and_then(|rest| if rest.is_empty() { Some(0) } else { rest.parse::<i64>().ok() });
        let value = if let Some(offset) = offset("now_ms") {
            (now_ms + offset).to_string()
        } else if let Some(offset) = offset("now") {
            (now_ms / 1000 + offset).to_string()
        } else if let Some(offset) = offset("today") {
            model::profile::wall_time(model::Timestamp(now_ms + offset * 86_400_000))[..10].to_owned()
        } else {
            match name {
                "base64" => base64::engine::general_purpose::STANDARD.encode(rest),
                "url" => wire::params::encode(rest),
                "basic" => format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(rest)),
                "repeat" => {
                    let (count, piece) = rest.split_once(' ').expect("«repeat N text»");
                    piece.repeat(count.parse().expect("a count"))
                }
                other => panic!("«{other}» is unknown"),
            }
        };
        text.replace_range(start..end + '»'.len_utf8(), &value);
    }
    text
}

fn send(fixture: &Fixture, case: &Case, now_ms: i64) -> Answer {
    let request = filled(&case.request, now_ms);
    let (head, body) = request.split_once("\n\n").unwrap_or((&request, ""));
    let mut body = body.as_bytes().to_vec();
    let has = |word: &str| case.words.iter().any(|given| given == word);
    let sign = |url: &str| wire::signature::sign_url(url, fixture.key, fixture.secret, now_ms / 1000 + 600);
    if has("signed-form") {
        let form = String::from_utf8(body).expect("a form");
        body = sign(&format!("/?{form}")).trim_start_matches("/?").as_bytes().to_vec();
    }
    if has("gzip") {
        body = gzip(&body);
    }
    let length = body.len().to_string();
    if has("chunked") {
        body = chunked(&body, 7);
    }
    let head = if has("raw") {
        format!("{}\r\n\r\n", head.replace("LENGTH", &length).lines().collect::<Vec<_>>().join("\r\n"))
    } else {
        let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let path = if has("signed") { sign(path) } else { path.to_owned() };
        let mut headers: Vec<String> = headers.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        headers.extend(has("gzip").then(|| "Content-Encoding: gzip".to_owned()));
        let is_bare = body.is_empty() && method.eq_ignore_ascii_case("get");
        headers.extend((!is_bare).then(|| format!("Content-Length: {length}")));
        headers.push("Connection: close\r\n\r\n".to_owned());
        format!("{method} {path} HTTP/1.1\r\nHost: sluice.test\r\n{}", headers.join("\r\n"))
    };
    let mut connection = Connection::open(&fixture.server.base);
    connection.send(head.as_bytes());
    if has("continue") {
        assert_eq!(connection.answer().map(|answer| answer.status), Some(100), "{head}");
    }
    connection.send(&body);
    connection.answer().unwrap_or_else(|| panic!("no answer to {head}"))
}

/// What is wrong with an answer.
fn complaints(case: &Case, now_ms: i64, got: &Answer) -> Vec<String> {
    let expected = filled(&case.answer, now_ms);
    let (head, body) = expected.split_once("\n\n").map_or((expected.as_str(), None), |(head, body)| (head, Some(body)));
    let mut wrong = Vec::new();
    let (status, text) = (got.status, got.text());
    let mut lines = head.lines();
    let (code, kind) = lines.next().map(|line| line.split_once(' ').unwrap_or((line, ""))).unwrap_or_default();
    if status.to_string() != code {
        wrong.push(format!("status {status}, not {code}"));
    }
    let header = |wanted: &str| got.header(&wanted.to_lowercase());
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

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
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
                    let (shown, body) = (path.strip_prefix(&root).unwrap_or(path).display(), got.text());
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
