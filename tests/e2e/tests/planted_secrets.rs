//! Secrets of every kind are planted and used in every way, right and wrong. Then each is looked for, in eight encodings, in everything that
//! the server leaves behind or says: its log at its most talkative, every file of its data, a backup, every answer, every list that the
//! console prints. None is found.
//!
//! To try another place, add it to [`uses`]. Properties of events are not among them: they are the sender's own data, and are stored.
//! What is not looked at, and why, stands in [`GIVEN_BACK`].

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeSet, HashMap};
use std::io::{Read, Write};
use std::net::TcpStream;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use e2e::{TestServer, basic, field, walk};
use serde_json::Value;
use wire::params::encode;

const OWNER: &str = "o@example.com";

/// Answers that hold, by the protocol, what the request brought; they go to nobody but who sent it.
const GIVEN_BACK: [&str; 2] = [
    // CORS: the sender's own origin and header names.
    "an Origin",
    // JSONP: the name of the function. A secret of letters, digits and `_` is such a name.
    "a signed JSONP request",
];

/// Whether a text has the form by which an echoed request is cleared of secrets. An imported secret or a password may have any form; where
/// it stands in a wrong place of a URL, its sender sees it again.
fn has_the_form_of_a_secret(text: &str) -> bool {
    text.contains("slcs_") || text.split(|char: char| !char.is_ascii_alphanumeric()).any(|run| run.len() >= 30)
}

/// A secret and what it is, for the message of a failure.
struct Planted {
    what: String,
    secret: String,
    /// The API key beside it, where it has one.
    api_key: String,
}

/// Looks for many texts at a time.
struct Search {
    /// By their first four bytes.
    patterns: HashMap<[u8; 4], Vec<Pattern>>,
}

struct Pattern {
    encoding: &'static str,
    bytes: Vec<u8>,
    /// Which secret it is.
    secret: usize,
}

impl Search {
    fn new<'a>(secrets: impl Iterator<Item = &'a str>) -> Self {
        let mut patterns: HashMap<[u8; 4], Vec<Pattern>> = HashMap::new();
        for (index, secret) in secrets.enumerate() {
            for (encoding, bytes) in encodings(secret) {
                patterns.entry(bytes[..4].try_into().unwrap()).or_default().push(Pattern { encoding, bytes, secret: index });
            }
        }
        Self { patterns }
    }

    /// Encoding and secret of everything that stands in the bytes, also inside what is packed there.
    fn in_bytes(&self, bytes: &[u8]) -> BTreeSet<(&'static str, usize)> {
        let mut found = self.in_plain(bytes);
        for at in 0..bytes.len().saturating_sub(4) {
            let unpacked = match bytes[at..at + 4] {
                [0x1f, 0x8b, 0x08, _] => unpack(flate2::read::GzDecoder::new(&bytes[at..])),
                [0x28, 0xb5, 0x2f, 0xfd] => {
                    zstd::stream::read::Decoder::with_buffer(&bytes[at..]).map(|decoder| unpack(decoder.single_frame())).unwrap_or_default()
                }
                _ => continue,
            };
            found.extend(self.in_plain(&unpacked).into_iter().map(|(_, secret)| ("packed", secret)));
        }
        found
    }

    fn in_plain(&self, bytes: &[u8]) -> BTreeSet<(&'static str, usize)> {
        let mut found = BTreeSet::new();
        for (at, first) in bytes.windows(4).enumerate() {
            for pattern in self.patterns.get(first).into_iter().flatten() {
                if bytes[at..].starts_with(&pattern.bytes) {
                    found.insert((pattern.encoding, pattern.secret));
                }
            }
        }
        found
    }
}

/// What comes out before the end or the first fault.
fn unpack(mut packed: impl Read) -> Vec<u8> {
    let mut unpacked = Vec::new();
    let _ = packed.by_ref().take(64 << 20).read_to_end(&mut unpacked);
    unpacked
}

/// The ways in which a text may be written.
fn encodings(secret: &str) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = secret.as_bytes();
    let each = |write: &dyn Fn(u8) -> String| bytes.iter().map(|byte| write(*byte)).collect::<String>();
    let mut found = vec![
        ("raw", secret.to_owned()),
        ("hex", each(&|byte| format!("{byte:02x}"))),
        ("hex", each(&|byte| format!("{byte:02X}"))),
        ("URL", encode(secret)),
        ("URL", each(&|byte| format!("%{byte:02X}"))),
        ("URL", each(&|byte| format!("%{byte:02x}"))),
        ("JSON", each(&|byte| format!("\\u{byte:04x}"))),
        ("JSON", each(&|byte| format!("\\u{byte:04X}"))),
        ("bytes of Debug", format!("{bytes:?}").trim_matches(['[', ']']).to_owned()),
    ];
    // Where it does not begin at a border of base64, the digits at both ends depend on what stands beside it.
    for (name, before) in [("base64", 0), ("base64, one byte on", 1), ("base64, two bytes on", 2)] {
        let text = [&vec![0; before][..], bytes].concat();
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let digits = engine.encode(&text);
            let (from, to) = ((before * 8).div_ceil(6), text.len() * 8 / 6);
            found.push((name, digits[from..to].to_owned()));
        }
    }
    found.into_iter().map(|(name, text)| (name, text.into_bytes())).collect()
}

#[test]
fn the_search_finds_every_encoding() {
    let secret = "slcs_Zk3+/=é\"x";
    let search = Search::new(["something else", secret].into_iter());
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let hidden: [(&str, Vec<u8>); 11] = [
        ("raw", format!("a{secret}b").into()),
        ("base64", STANDARD.encode(format!("abc{secret}d")).into()),
        ("base64, one byte on", STANDARD.encode(format!("abcd{secret}")).into()),
        ("base64, two bytes on", STANDARD.encode(format!("ab{secret}cd")).into()),
        ("base64, one byte on", URL_SAFE_NO_PAD.encode(format!("~{secret}~~")).into()),
        ("hex", secret.bytes().map(|byte| format!("{byte:02x}")).collect::<String>().into()),
        ("URL", format!("?a={}&b", encode(secret)).into()),
        ("JSON", secret.bytes().map(|byte| format!("\\u{byte:04x}")).collect::<String>().into()),
        ("bytes of Debug", format!("Bytes({:?})", secret.as_bytes()).into()),
        ("packed", [b"xyz".to_vec(), gzip(secret), b"xyz".to_vec()].concat()),
        ("packed", [b"PAR1".to_vec(), zstd::encode_all(format!("aaaa{secret}").as_bytes(), 1).unwrap(), b"x".to_vec()].concat()),
    ];
    for (encoding, bytes) in hidden {
        assert!(search.in_bytes(&bytes).contains(&(encoding, 1)), "{encoding}: {:?}", search.in_bytes(&bytes));
    }
    assert!(search.in_bytes(b"slcs_Zk3 and nothing more").is_empty());
}

/// The console of the owner.
fn run(server: &TestServer, args: &[&str], stdin: &str) -> Value {
    serde_json::from_str(&server.cli(args, stdin)).unwrap()
}

/// Secrets of every kind, alive and dead.
fn plant(server: &TestServer) -> Vec<Planted> {
    let mut planted = Vec::new();
    let mut keep = |what: &str, secret: String, api_key: String| planted.push(Planted { what: what.to_owned(), secret, api_key });
    let pair = |answer: &Value| (field(answer, "api_secret"), field(answer, "api_key"));
    // Imported: as the original makes them, long, and with every character that has a meaning somewhere.
    for (number, secret) in
        ["0f1e2d3c4b5a69788796a5b4c3d2e1f0", "Qw%2B+/=&?#\"'<>\\{}[]|^`~!*();,@$._-x", &"long_Secret.".repeat(10)].iter().enumerate()
    {
        let name = format!("I{number}");
        let project = ["project", "create", "--owner", OWNER, "--name", &name, "--api-secret", secret, "--allow-weak"];
        keep("an imported API secret", (*secret).to_owned(), field(&run(server, &project, ""), "api_key"));
    }
    for number in 0..3 {
        let name = format!("P{number}");
        let (secret, key) = pair(&run(server, &["project", "create", "--owner", OWNER, "--name", &name], ""));
        keep("a first API secret", secret, key);
    }
    let on = ["--project", "1", "--as", OWNER];
    for legacy in ["on", "off", "warn"] {
        let key = ["key", "create", "--rights", "query,import,export", "--legacy", legacy];
        let (secret, key) = pair(&run(server, &[&key[..], &on].concat(), ""));
        keep(&format!("a key's secret, legacy {legacy}"), secret, key);
    }
    let (secret, key) = pair(&run(server, &[&["key", "create", "--rights", "query", "--legacy", "on"][..], &on].concat(), ""));
    run(server, &[&["key", "revoke", "--api-key", &key][..], &on].concat(), "");
    keep("a revoked API secret", secret, key);
    let (secret, key) = pair(&run(server, &[&["key", "create", "--rights", "query", "--legacy", "on"][..], &on].concat(), ""));
    run(server, &[&["key", "legacy", "--legacy", "off", "--api-key", &key][..], &on].concat(), "");
    keep("a secret whose legacy signature was turned off", secret, key);
    for project in ["2", "2", "3"] {
        let (secret, key) = pair(&run(server, &["credentials", "reset", "--project", project, "--as", OWNER], ""));
        keep("an API secret after a reset, which may be reset in its turn", secret, key);
    }
    for overlap in ["0s", "30d"] {
        let (secret, key) = pair(&run(server, &["key", "rotate", "--overlap", overlap, "--project", "4", "--as", OWNER], ""));
        keep("an API secret after a rotation, which may be rotated in its turn", secret, key);
    }
    let revealed = run(server, &["key", "reveal", "--project", "5", "--as", OWNER], "");
    keep("a revealed API secret", field(&revealed, "api_secret"), field(&revealed, "api_key"));
    for rotate in [&[][..], &["--rotate"]] {
        let shown = run(server, &[&["project", "identity-secret"][..], &on, rotate].concat(), "");
        keep("an identity secret, which may be rotated", field(&shown, "identity_secret"), String::new());
    }
    for (number, imported) in ["", "", "imported-Service/secret+1234567890=", "s3rvice{\"account\",\"json\"}"].iter().enumerate() {
        let user = format!("sa{number}");
        let make = ["service-account", "create", "--name", "s", "--role", "admin", "--username", &user];
        let stdin: &[&str] = if imported.is_empty() { &[] } else { &["--secret-stdin"] };
        let made = run(server, &[&make[..], &on, stdin].concat(), imported);
        keep("a service account's secret", field(&made, "secret"), user.clone());
        if number == 1 {
            run(server, &[&["service-account", "revoke", "--username", &user][..], &on].concat(), "");
        }
    }
    for number in 0..3 {
        let made = run(server, &["bearer-token", "create", "--as", OWNER, "--name", "t"], "");
        keep("a bearer token", field(&made, "bearer_token"), String::new());
        if number == 1 {
            run(server, &["bearer-token", "revoke", "--as", OWNER, "--id", "2"], "");
        }
    }
    for (number, password) in
        ["Tr0ub4dor&3 is a password", "pässwörd mit Ümlaut", "correct-battery-staple-0123456789abcdefghij"].iter().enumerate()
    {
        let email = format!("p{number}@example.com");
        run(server, &["account", "create", "--email", &email, "--password-stdin"], password);
        keep("a password", (*password).to_owned(), email);
    }
    for secret in
        ["stranger_0123456789abcdef0123456789abcdef", "slcs_StrangersSecretOfAnotherPlace1_ABCDEF", "AKIAIOSFODNN7EXAMPLE/wJalrXUtnFEMI"]
    {
        keep("a secret of elsewhere", secret.to_owned(), "unknown".to_owned());
    }
    planted
}

/// Requests that carry a secret, in every place that a request has: a name, and the bytes.
fn uses(planted: &Planted) -> Vec<(&'static str, Vec<u8>)> {
    let Planted { secret, api_key, .. } = planted;
    let (names, export) = ("/api/2.0/events/names?type=general", "/api/2.0/export?from_date=2020-01-01&to_date=2020-01-02");
    let url = encode(secret);
    let all: String = secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let json = serde_json::to_string(secret).unwrap();
    let escaped: String = secret.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    let packed = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let request = |method: &str, target: &str, headers: &str, body: &[u8]| {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    let get = |target: &str, headers: &str| request("GET", target, headers, b"");
    let post = |target: &str, headers: &str, body: &str| request("POST", target, headers, body.as_bytes());
    let authorized = |value: &str| format!("Authorization: {value}\r\n");
    let sign = |path: &str, key: &str| wire::signature::sign_url(path, key, secret, jiff::Timestamp::now().as_second() + 600);
    let token_event = format!(r#"[{{"event":"E","properties":{{"token":{json},"distinct_id":"u"}}}}]"#);
    let escaped_event = format!(r#"[{{"event":"E","properties":{{"token":"{escaped}","distinct_id":"u"}}}}]"#);
    let header_text: String = secret.chars().filter(char::is_ascii).collect();
    let mut uses = vec![
        ("a Basic user", get(names, &authorized(&basic(secret, "")))),
        ("a Basic user with project_id", get(&format!("{names}&project_id=1"), &authorized(&basic(secret, "")))),
        ("a Basic user of an export", get(export, &authorized(&basic(secret, "")))),
        ("a Basic user and password", get(names, &authorized(&basic(secret, secret)))),
        ("a Basic password", get(&format!("{names}&project_id=1"), &authorized(&basic(api_key, secret)))),
        ("a Basic password of a stranger", get(&format!("{names}&project_id=1"), &authorized(&basic("nobody", secret)))),
        ("a Basic user with a wrong password", get(&format!("{names}&project_id=1"), &authorized(&basic(secret, "wrong")))),
        ("Basic without a colon", get(names, &authorized(&format!("Basic {}", URL_SAFE_NO_PAD.encode(secret))))),
        ("Basic without base64", get(names, &authorized(&format!("Basic {header_text}")))),
        ("a bearer", get(&format!("{names}&project_id=1"), &authorized(&format!("Bearer {header_text}")))),
        ("another scheme", get(names, &authorized(&format!("Token {header_text}")))),
        ("a signature with its key", get(&sign(names, api_key), "")),
        ("a signature of an export", get(&sign(export, api_key), "")),
        ("a signature with another key", get(&sign(names, "test_key"), "")),
        ("a signature with a wrong parameter", get(&sign(&format!("{names}&colour=red"), api_key), "")),
        ("a signed JSONP request", get(&format!("{}&callback={url}", sign(names, api_key)), "")),
        ("an API key", get(&format!("{names}&api_key={url}&expire=4102444800&sig=0123456789abcdef0123456789abcdef"), "")),
        ("a signature's place", get(&format!("{names}&api_key={api_key}&expire=4102444800&sig={url}"), "")),
        ("an expiry's place", get(&format!("{names}&api_key={api_key}&expire={url}&sig=0123456789abcdef0123456789abcdef"), "")),
        ("a project's id", get(&format!("{names}&project_id={url}"), &authorized(&basic("test_secret", "")))),
        ("api_secret in the URL", get(&format!("{names}&api_secret={url}"), "")),
        ("api_secret in the URL, every byte escaped", get(&format!("{names}&api_secret={all}"), "")),
        ("any parameter", get(&format!("{names}&x={url}"), "")),
        (
            "a filter",
            get(
                &format!("/api/2.0/segmentation?event=E&from_date=2020-01-01&to_date=2020-01-02&where={url}"),
                &authorized(&basic("test_secret", "")),
            ),
        ),
        ("a date", get(&format!("/api/2.0/export?from_date={url}&to_date=2020-01-02"), &authorized(&basic("test_secret", "")))),
        ("a parameter's name", get(&format!("{names}&{url}=1"), "")),
        ("a path below the reports", get(&format!("/api/2.0/{url}"), "")),
        ("a path below the reports, proven", get(&format!("/api/2.0/{url}"), &authorized(&basic("test_secret", "")))),
        ("a path", get(&format!("/{url}"), "")),
        ("a path, every byte escaped", get(&format!("/{all}/x?{all}"), "")),
        (
            "a form of a report",
            post("/api/2.0/events/names", "", &format!("type=general&api_key={api_key}&api_secret={url}&token={url}&x={url}")),
        ),
        ("a JSON body of a report", post("/api/2.0/events/names", "", &format!(r#"{{"type":"general","secret":{json},"where":{json}}}"#))),
        // Who proved itself is counted with its User-Agent. A text of no secret's form cannot be told from the name of a program.
        ("a User-Agent, proven", get(names, &format!("{}User-Agent: {header_text}\r\n", authorized(&basic("test_secret", ""))))),
        (
            "a Referer and cookie",
            get(names, &format!("Referer: https://h/?s={header_text}\r\nCookie: a={header_text}\r\nX-Api-Key: {header_text}\r\n")),
        ),
        ("X-Forwarded-For", get(names, &format!("{}X-Forwarded-For: {header_text}\r\n", authorized(&basic("test_secret", ""))))),
        (
            "an Origin",
            request("OPTIONS", "/track", &format!("Origin: https://{url}.example\r\nAccess-Control-Request-Headers: {url}\r\n"), b""),
        ),
        ("a method", request("GET", &format!("http://{}@h/api/2.0/events/names", encode(&header_text)), "", b"")),
        ("the token of an event", post("/track", "", &token_event)),
        ("the token of an event, escaped", post("/track?verbose=1", "", &escaped_event)),
        ("the token of an event, packed", request("POST", "/track?verbose=1", "Content-Encoding: gzip\r\n", &packed(&token_event))),
        ("the token of an event in a form", post("/track", "", &format!("verbose=1&data={}", encode(&STANDARD.encode(&token_event))))),
        ("the token of an event in the URL", get(&format!("/track?verbose=1&data={}", encode(&STANDARD.encode(&token_event))), "")),
        (
            "the token of an event of an import",
            post(
                "/import?strict=1",
                &authorized(&basic("test_secret", "")),
                &token_event.replace("\"distinct_id\"", "\"time\":1577836800,\"$insert_id\":\"i-1\",\"distinct_id\""),
            ),
        ),
        ("the token of a profile", post("/engage?verbose=1", "", &format!(r#"[{{"$token":{json},"$distinct_id":"u","$set":{{"a":1}}}}]"#))),
        (
            "the token of a group",
            post("/groups?verbose=1", "", &format!(r#"[{{"$token":{json},"$group_key":"k","$group_id":"g","$set":{{"a":1}}}}]"#)),
        ),
        ("an API key of an import", post(&format!("/import?strict=1&api_key={url}"), "", &token_event)),
        (
            "an API key of an import in a form",
            post("/import", "", &format!("api_key={url}&verbose=1&data={}", encode(&STANDARD.encode(&token_event)))),
        ),
        ("a Basic user of an import", post("/import?strict=1", &authorized(&basic(secret, "")), "[]")),
        ("a Basic password of an import", post("/import?strict=1&project_id=1", &authorized(&basic(api_key, secret)), "[]")),
        ("a broken body", post("/track?verbose=1", "", &format!("{{\"event\": {json}"))),
        ("a redirect", get(&format!("/track?verbose=1&data=e30=&redirect=https://h/{url}"), "")),
        ("a token of the SDK's side routes", get(&format!("/decide?token={url}&distinct_id=u"), "")),
        ("a token of flags", get(&format!("/flags?token={url}&context={url}"), &authorized(&basic(secret, "")))),
        ("a token of settings", get(&format!("/settings?token={url}"), "")),
        ("a recording", post(&format!("/record?token={url}"), &authorized(&basic(secret, "")), "{}")),
        (
            "the set-up page",
            post(
                "/api/v1/setup",
                "Content-Type: application/json\r\n",
                &format!(r#"{{"code":{json},"email":"x@example.com","password":{json}}}"#),
            ),
        ),
        ("no HTTP at all", format!("{header_text}\r\n\r\n").into_bytes()),
        ("a broken header", format!("GET / HTTP/1.1\r\nAuthorization {header_text}\r\n\r\n").into_bytes()),
    ];
    // Who proved itself is counted with its User-Agent; there a text of no secret's form cannot be told from the name of a program.
    uses.retain(|(place, _)| *place != "a User-Agent, proven" || has_the_form_of_a_secret(secret));
    uses
}

/// Sends bytes and reads what comes back: headers and an unpacked body.
fn raw(server: &TestServer, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.base.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    let mut answer = Vec::new();
    if stream.write_all(bytes).is_ok() {
        let _ = stream.read_to_end(&mut answer);
    }
    answer
}

#[test]
fn no_planted_secret_is_found_anywhere() {
    let mut server = TestServer::start();
    server.log_everything();
    let planted = plant(&server);
    assert!(planted.len() >= 30, "{}", planted.len());
    let search = Search::new(planted.iter().map(|planted| planted.secret.as_str()));
    let mut leaks = BTreeSet::new();
    let mut look = |place: &str, bytes: &[u8]| {
        for (encoding, secret) in search.in_bytes(bytes) {
            leaks.insert(format!("{place}: {} as {encoding}", planted[secret].what));
        }
    };
    let event = r#"[{"event":"E","properties":{"token":"test_token","distinct_id":"u","p":1}}]"#;
    assert_eq!(e2e::post(&format!("{}/track", server.base), event, None).1, "1");
    let (mut requests, mut proven) = (0, 0);
    let mut given_back = 0;
    for (index, used) in planted.iter().enumerate() {
        for (place, bytes) in uses(used) {
            let answer = raw(&server, &bytes);
            proven += usize::from(answer.starts_with(b"HTTP/1.1 200"));
            requests += 1;
            let is_back = search.in_bytes(&answer).iter().any(|(_, secret)| *secret == index);
            if is_back && !has_the_form_of_a_secret(&used.secret) {
                given_back += 1;
            } else if !GIVEN_BACK.contains(&place) {
                look(&format!("the answer to {place}"), &answer);
            }
        }
    }
    assert!(proven > planted.len() * 3, "{proven} of {requests} requests were answered 200");
    // What the console prints for whoever has no secret: all but the commands whose answer is one.
    let project = ["--project", "1", "--as", OWNER];
    for args in [
        &["audit", "list", "--rows-max", "1000"][..],
        &["credentials", "callers", "--project", "1"],
        &[&["key", "list"][..], &project].concat(),
        &[&["member", "list"][..], &project].concat(),
        &[&["service-account", "list"][..], &project].concat(),
        &["bearer-token", "list", "--as", OWNER],
        &["ticket", "list"],
        &["project", "list"],
        &["status"],
        &["audit", "verify"],
    ] {
        look(&format!("what `{}` prints", args.join(" ")), server.cli(args, "").as_bytes());
    }
    look("the metrics", e2e::get(&format!("{}/metrics", server.base), None).1.as_bytes());
    let backup = server.data().with_extension("backup");
    server.cli(&["backup", backup.to_str().unwrap()], "");
    // The database with its log, the event log, all as they are while the server runs; then the segments.
    let files = |look: &mut dyn FnMut(&str, &[u8]), when: &str| {
        let folder = server.data().parent().unwrap().to_path_buf();
        let files = walk(&folder);
        let (mut bytes, mut names) = (0, BTreeSet::new());
        for file in &files {
            let content = std::fs::read(file).unwrap();
            let name = file.strip_prefix(&folder).unwrap().display().to_string();
            look(&format!("{name} {when}"), &content);
            bytes += content.len();
            names.insert(name);
        }
        (bytes, names)
    };
    let (_, names) = files(&mut look, "while it runs");
    assert!(names.contains("data/metastore.sqlite-wal") && names.contains("data.backup") && names.contains("log"), "{names:?}");
    let log = server.log();
    assert!(log.contains("a live secret was sent in a token's place"), "the log holds what happened: {log}");
    server.stop();
    let files = walk(server.data().parent().unwrap());
    assert!(files.iter().any(|file| file.to_string_lossy().contains("segments/")), "stopping seals: {files:?}");
    let mut searched = 0;
    for file in &files {
        let content = std::fs::read(file).unwrap();
        searched += content.len();
        look(&format!("{} after the end", file.file_name().unwrap().display()), &content);
    }
    println!(
        "{} secrets in {requests} requests ({proven} of them let in); {} KiB of files and every answer searched; {given_back} answers gave a text of no secret's form back",
        planted.len(),
        searched / 1024
    );
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.into_iter().collect::<Vec<_>>().join("\n"));
}
