//! Attacks of SECURITY.md's table that have no better place: each test bears the number of its row.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read, Write};

use e2e::{Browser, TestServer, basic, get, mail_with, post};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

const NAMES: &str = "/api/2.0/events/names?type=general&project_id=1";
const EXPORT: &str = "/api/2.0/export?from_date=2020-01-01&to_date=2020-01-02&project_id=1";

fn now() -> i64 {
    i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap()
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into()
}

fn on<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [args, &["--project", "1", "--as", "o@example.com"]].concat()
}

fn run(server: &TestServer, args: &[&str]) -> Value {
    serde_json::from_str(&server.cli(args, "")).unwrap()
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// P10: old events by the token are refused, a time that lies ahead becomes the time of receipt.
#[test]
fn p10_time_is_not_the_senders_to_choose() {
    let server = TestServer::start();
    for (name, time, taken) in [("old", now() - 6 * 86_400, "0"), ("young", now() - 4 * 86_400, "1"), ("ahead", now() + 40 * 86_400, "1")] {
        let event = format!(r#"[{{"event":"{name}","properties":{{"token":"test_token","distinct_id":"u","time":{time}}}}}]"#);
        assert_eq!(post(&format!("{}/track", server.base), &event, None).1, taken, "{name}");
    }
    let today = String::from_utf8(std::process::Command::new("date").args(["-u", "+%F"]).output().unwrap().stdout).unwrap();
    let path = format!("/api/2.0/export?from_date=2020-01-01&to_date={}", today.trim());
    let body = get(&format!("{}{path}", server.base), Some(&basic("test_secret", ""))).1;
    let events: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["ahead", "young"]);
    let ahead = events.iter().find(|event| event["event"] == "ahead").unwrap()["properties"]["time"].as_i64().unwrap();
    assert!((ahead - now()).abs() < 60, "{ahead}");
}

/// P11: `redirect=` leads to the hosts of the settings and nowhere else, however the address is written.
#[test]
fn p11_a_redirect_stays_among_the_named_hosts() {
    let server = TestServer::start_with("[track]\nredirect_hosts = [\"ok.example\"]\n");
    let event = "%5B%7B%22event%22%3A%22E%22%2C%22properties%22%3A%7B%22token%22%3A%22test_token%22%7D%7D%5D";
    let go = |target: &str| {
        let target: String = target.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = agent().get(format!("{}/track?data={event}&redirect={target}", server.base)).call().unwrap();
        answer.headers().get("location").map(|value| value.to_str().unwrap().to_owned())
    };
    for target in ["https://ok.example/", "http://ok.example/a?b=c#d", "https://OK.example", "https://ok.example:8443/x"] {
        assert_eq!(go(target).as_deref(), Some(target));
    }
    let hosts = [
        "evil.test",
        "ok.example.evil.test",
        "evilok.example",
        "ok.example@evil.test",
        "evil.test#@ok.example",
        "evil.test?@ok.example",
        "evil.test\\@ok.example",
        "ok.example\\.evil.test",
        "ok.example%2eevil.test",
        "ok.example%00.evil.test",
        "ok.example\u{3002}evil.test",
        "ok.example.",
        "user@ok.example",
        "user:pass@ok.example",
        "ok.example:80@evil.test",
        "[::1]",
        "127.0.0.1",
        "0x7f000001",
        "2130706433",
        "\u{ff4f}\u{ff4b}.example",
        "ok.example\t.evil.test",
        "ok.example\r\nx: y",
        " ok.example",
        "ok\u{ad}.example",
    ];
    let forms = [
        "https://HOST/",
        "http://HOST",
        "HTTPS://HOST/a",
        "//HOST/",
        "///HOST",
        "https:HOST",
        "https:/HOST",
        "https:\\\\HOST",
        "ftp://HOST/",
    ];
    let others = [
        "javascript:alert(1)",
        "data:text/html,x",
        "/relative",
        "",
        "\u{0}https://ok.example",
        "https://",
        "https://ok.example\r\nset-cookie: a=b",
    ];
    let mut tried = 0;
    let targets = hosts.iter().flat_map(|host| forms.iter().map(move |form| form.replace("HOST", host)));
    for target in targets.chain(others.map(str::to_owned)) {
        assert_eq!(go(&target), None, "{target:?}");
        tried += 1;
    }
    assert!(tried > 200, "{tried}");
}

/// P12: however data is wrapped, all of it counts against one limit, and nothing is unwrapped for ever.
#[test]
fn p12_wrapping_hides_no_size() {
    let server = TestServer::start();
    let event = br#"[{"event":"E","properties":{"token":"test_token","distinct_id":"u"}}]"#;
    let bomb = gzip(&vec![b' '; 64 << 20]);
    let send = |body: &[u8], kind: &str| {
        let request = agent().post(format!("{}/track", server.base)).header("content-type", kind);
        let mut answer = request.send(body).unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    };
    use base64::Engine;
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let form = |bytes: &[u8]| format!("data={}", base64(bytes).replace('+', "%2B").replace('=', "%3D"));
    assert_eq!(send(event, "application/json").1, "1");
    assert_eq!(send(&gzip(event), "application/json").1, "1");
    assert_eq!(send(form(event).as_bytes(), "application/x-www-form-urlencoded").1, "1");
    assert_eq!(send(&gzip(form(event).as_bytes()), "application/x-www-form-urlencoded").1, "1");
    for (name, body) in [
        ("a bomb", bomb.clone()),
        ("a bomb of bombs", gzip(&bomb)),
        ("a bomb in a form", form(&bomb).into_bytes()),
        ("a packed form with a bomb", gzip(form(&bomb).as_bytes())),
        ("twice packed", gzip(&gzip(event))),
        ("three times in base64", base64(base64(base64(event).as_bytes()).as_bytes()).into_bytes()),
    ] {
        let (status, answer) = send(&body, "application/octet-stream");
        assert!(status < 500 && answer != "1", "{name}: {status} {answer}");
    }
}

/// T1 and T30: an export that runs ends with what opened it, whichever kind that is; the deadline is ten times what is promised.
#[test]
fn t1_t30_a_running_export_ends_with_its_credential() {
    let server = TestServer::start();
    server.cli(&["account", "create", "--email", "x@example.com", "--password-stdin"], "correct horse");
    server.cli(&on(&["member", "add", "--email", "x@example.com", "--role", "admin"]), "");
    server.cli(&["account", "create", "--email", "y@example.com", "--password-stdin"], "correct horse");
    server.cli(&on(&["member", "add", "--email", "y@example.com", "--role", "analyst"]), "");
    let lowered = Browser::signed_in(&server, "y@example.com", "correct horse").cookies()["sluice_session"].clone();
    let lower = on(&["member", "role", "--email", "y@example.com", "--role", "consumer"]);
    let padding = "x".repeat(400);
    for batch in 0..30 {
        let event = |at: usize| {
            format!(r#"{{"event":"E","properties":{{"time":1577836800,"distinct_id":"u","$insert_id":"{batch}-{at}","p":"{padding}"}}}}"#)
        };
        let body = format!("[{}]", (0..2000).map(event).collect::<Vec<_>>().join(","));
        assert_eq!(post(&format!("{}/import?strict=1", server.base), &body, Some(&basic("test_secret", ""))).0, 200);
    }
    let key = run(&server, &on(&["key", "create", "--rights", "export", "--legacy", "on"]));
    let service = run(&server, &on(&["service-account", "create", "--name", "s"]));
    let bearer = |name: &str| text(&run(&server, &["bearer-token", "create", "--as", "x@example.com", "--name", name]), "bearer_token");
    let session = Browser::signed_in(&server, "x@example.com", "correct horse").cookies()["sluice_session"].clone();
    let (api_key, secret) = (text(&key, "api_key"), text(&key, "api_secret"));
    let username = text(&service, "username");
    let second = Browser::signed_in(&server, "x@example.com", "correct horse").cookies()["sluice_session"].clone();
    let revoke = on(&["key", "revoke", "--api-key", &api_key]);
    let end_service = on(&["service-account", "revoke", "--username", &username]);
    let remove = on(&["member", "remove", "--email", "x@example.com"]);
    let plain = format!("{}{EXPORT}", server.base);
    let authorization = |value: String| Some(("authorization", value));
    /// What it is called, where it asks, what it shows, and what ends it.
    type Kind<'a> = (&'a str, String, Option<(&'a str, String)>, Option<&'a [&'a str]>);
    let kinds: Vec<Kind<'_>> = vec![
        ("signature", server.signed(EXPORT, &api_key, &secret), None, None),
        ("secret", plain.clone(), authorization(basic(&secret, "")), Some(&revoke)),
        ("service account", plain.clone(), authorization(basic(&username, &text(&service, "secret"))), Some(&end_service)),
        ("a session that is killed", plain.clone(), Some(("cookie", format!("sluice_session={second}"))), Some(&[])),
        ("a role that is lowered", plain.clone(), Some(("cookie", format!("sluice_session={lowered}"))), Some(&lower)),
        ("bearer", plain.clone(), authorization(format!("Bearer {}", bearer("a"))), None),
        ("session", plain.clone(), Some(("cookie", format!("sluice_session={session}"))), Some(&remove)),
    ];
    let mut running = Vec::new();
    for (name, url, header, end) in kinds {
        let request = header.into_iter().fold(agent().get(url), |request, (name, value)| request.header(name, value));
        let mut reader = request.call().unwrap().into_body().into_reader();
        let mut first = [0; 1000];
        reader.read_exact(&mut first).unwrap();
        assert!(first.starts_with(b"{\"event\""), "{name}: {}", String::from_utf8_lossy(&first));
        running.push((name, reader));
        let Some(end) = end else { continue };
        if end.is_empty() {
            let mut other = Browser::signed_in(&server, "x@example.com", "correct horse");
            let sessions = other.call("GET", "/sessions", None).1;
            let id = sessions.as_array().unwrap()[1]["session_id"].to_string();
            assert_eq!(other.call("DELETE", &format!("/sessions/{id}"), None).0, 200);
        } else {
            server.cli(end, "");
        }
        let began = std::time::Instant::now();
        for (name, mut reader) in running.drain(..) {
            let mut rest = String::new();
            reader.read_to_string(&mut rest).unwrap();
            assert!(rest.ends_with("export terminated early\n"), "{name} went on for {} bytes", rest.len());
        }
        assert!(began.elapsed().as_secs() < 10, "{name}: {:?}", began.elapsed());
    }
}

/// T23: people of a restored backup are let in by what holds today, not by what held then.
#[test]
fn t23_a_restored_backup_lets_nobody_in_who_was_put_out_since() {
    let mut server = TestServer::start();
    for email in ["gone@example.com", "stays@example.com"] {
        server.cli(&["account", "create", "--email", email, "--password-stdin"], "correct horse");
        server.cli(&on(&["member", "add", "--email", email, "--role", "analyst"]), "");
    }
    let mut owner = Browser::signed_in(&server, "o@example.com", "correct horse");
    let kept = owner.cookies().clone();
    let invitation = owner.call("POST", "/projects/1/invitations", Some(&json!({ "email": "late@example.com", "role": "admin" }))).1;
    let file = server.data().with_extension("backup");
    server.cli(&["backup", file.to_str().unwrap()], "");
    let change = json!({ "old_password": "correct horse", "new_password": "another fine word" });
    assert_eq!(owner.call("PUT", "/account/password", Some(&change)).0, 200);
    server.cli(&on(&["member", "remove", "--email", "gone@example.com"]), "");
    server.kill();
    assert_eq!(run(&server, &["restore", file.to_str().unwrap()])["projects_waiting"], json!([1]));
    server.restart();
    let sign_in = |email: &str, password: &str| {
        let mut browser = Browser::new(&server);
        let status = browser.call("POST", "/session", Some(&json!({ "email": email, "password": password }))).0;
        (status, browser)
    };
    assert_eq!(Browser::new(&server).with_cookies(&kept).call("GET", "/session", None).0, 401, "nobody is signed in");
    assert_eq!(sign_in("o@example.com", "correct horse").0, 401, "the old password is dead");
    let code = invitation["link"].as_str().unwrap().split('#').nth(1).unwrap();
    let accept = json!({ "code": code, "password": "a fine long word" });
    assert_eq!(Browser::new(&server).call("POST", "/invitations/accept", Some(&accept)).0, 401);
    let (status, mut gone) = sign_in("gone@example.com", "correct horse");
    assert_eq!((status, gone.call("GET", "/projects/1", None).0), (200, 404), "who was removed stays removed");
    let (status, mut stays) = sign_in("stays@example.com", "correct horse");
    assert_eq!((status, stays.call("GET", "/projects/1", None).0), (200, 403), "others wait for an owner");
    let cookie = format!("sluice_session={}", stays.cookies()["sluice_session"]);
    let reads = || agent().get(format!("{}{NAMES}", server.base)).header("cookie", &cookie).call().unwrap().status().as_u16();
    assert_eq!(reads(), 401);
    let link = run(&server, &["account", "reset-password", "--email", "o@example.com"])["link"].as_str().unwrap().to_owned();
    let reset = json!({ "code": link.split('#').nth(1).unwrap(), "password": "a third fine word" });
    assert_eq!(Browser::new(&server).call("POST", "/password-reset/confirm", Some(&reset)).0, 200);
    // A wrong password was tried a moment ago: the next try waits.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let (_, mut owner) = sign_in("o@example.com", "a third fine word");
    assert_eq!(owner.call("POST", "/projects/1/credentials/confirm", None).0, 200);
    assert_eq!((stays.call("GET", "/projects/1", None).0, reads()), (200, 200));
}

/// T26: an id is a number, and no path is made from anything else.
#[test]
fn t26_ids_are_numbers() {
    let server = TestServer::start();
    let service = run(&server, &on(&["service-account", "create", "--name", "s", "--role", "owner"]));
    let header = basic(&text(&service, "username"), &text(&service, "secret"));
    let mut owner = Browser::signed_in(&server, "o@example.com", "correct horse");
    for id in
        ["..", "../1", "..%2f1", "1/../1", "%2e%2e", "1%00", "/etc/passwd", "-1", "1e0", "01x", "9223372036854775808", "", "1;1", "one"]
    {
        let (status, body) = get(&format!("{}/api/2.0/events/names?type=general&project_id={id}", server.base), Some(&header));
        assert!([400, 403].contains(&status), "{id}: {status} {body}");
        let (status, _) = owner.call("GET", &format!("/projects/{}/keys", id.replace('/', "%2F")), None);
        assert!([404, 400].contains(&status), "{id}: {status}");
    }
}

/// T31: owners are told when events leave the project by a way that is new.
#[test]
fn t31_owners_are_told_of_an_export_from_a_new_place() {
    let server = TestServer::start();
    for _ in 0..2 {
        assert_eq!(get(&format!("{}{EXPORT}", server.base), Some(&basic("test_secret", ""))).0, 200);
    }
    let rows = run(&server, &["audit", "list", "--project", "1"]);
    let count = |action: &str| rows.as_array().unwrap().iter().filter(|row| row["action"] == action).count();
    assert_eq!((count("export"), count("export from a new place")), (2, 1));
    mail_with(&server, &["To: o@example.com", "exported from a new place"]);
}

/// T34: no answer is kept by anybody.
#[test]
fn t34_no_answer_is_stored() {
    let server = TestServer::start();
    for path in [
        "/",
        "/health",
        "/metrics",
        "/setup",
        "/track",
        "/engage",
        "/groups",
        "/import",
        "/flags",
        "/flags/definitions",
        "/settings",
        "/decide",
        "/record",
        "/api/2.0/export",
        "/api/2.0/events/names",
        "/api/2.0/nothing",
        "/api/query/engage",
        "/api/app/me",
        "/api/v1/instance",
        "/api/v1/projects",
        "/api/v1/nothing",
        "/nothing",
    ] {
        for header in [None, Some(basic("test_secret", ""))] {
            let request = header
                .into_iter()
                .fold(agent().get(format!("{}{path}", server.base)), |request, value| request.header("authorization", value));
            let answer = request.call().unwrap();
            assert_eq!(answer.headers().get("cache-control").map(|value| value.as_bytes()), Some(&b"no-store"[..]), "{path}");
        }
    }
}
