//! The wall clock of a server jumps (T21 of the security bar): what ended stays ended, and no limit stalls.

use std::time::{Duration, Instant};

use e2e::{TestServer, basic, field, get, post};

const NAMES: &str = "/api/2.0/events/names?type=general";

fn in_seconds(seconds: i64) -> String {
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn status(server: &TestServer, secret: &str) -> u16 {
    get(&format!("{}{NAMES}", server.base), Some(&basic(secret, ""))).0
}

fn pair_in(printed: &str) -> (String, String) {
    let printed = serde_json::from_str(printed).expect("JSON was asked for");
    (field(&printed, "api_key"), field(&printed, "api_secret"))
}

#[test]
fn t21_no_key_outlives_its_end_when_the_clock_jumps() {
    let mut server = TestServer::start();
    server.kill();
    server.restart_with_clock();
    let create = |name: &str, seconds: i64| {
        let ends = in_seconds(seconds);
        let key = ["key", "create", "--project", "1", "--as", "o@example.com", "--name", name, "--rights", "query", "--expires-at", &ends];
        pair_in(&server.cli(&key, ""))
    };
    let ((_, hour), (week_key, week)) = (create("an hour", 3600), create("a week", 7 * 86_400));
    let rotate = ["key", "rotate", "--project", "1", "--as", "o@example.com", "--api-key", &week_key, "--overlap", "2h"];
    let (_, rotated) = pair_in(&server.cli(&rotate, ""));
    assert_eq!([&hour, &week, &rotated].map(|secret| status(&server, secret)), [200, 200, 200]);

    server.set_clock("+1d");
    assert_eq!([&hour, &week, &rotated].map(|secret| status(&server, secret)), [401, 401, 200], "a day ahead");
    server.set_clock("+0");
    assert_eq!([&hour, &week, &rotated].map(|secret| status(&server, secret)), [401, 401, 200], "back again");
    server.set_clock("-1d");
    assert_eq!([&hour, &week, &rotated].map(|secret| status(&server, secret)), [401, 401, 200], "a day late");

    // A signature's own end goes by the clock on the wall.
    let signed = server.signed(NAMES, "test_key", "test_secret");
    server.set_clock("+0");
    assert_eq!(get(&signed, None).0, 200);
    server.set_clock("+1d");
    let (refused, text) = get(&signed, None);
    assert!(refused == 400 && text.contains("Expired request"), "{refused} {text}");

    // What was called or changed while the clock was ahead is remembered over a restart.
    server.cli(&["project", "set", "--project", "1", "--as", "o@example.com", "--name", "Ahead"], "");
    server.kill();
    server.restart();
    assert_eq!([&hour, &week, &rotated].map(|secret| status(&server, secret)), [401, 401, 200], "restarted with the right clock");
}

#[test]
fn t21_limits_go_on_when_the_clock_jumps() {
    let mut server = TestServer::start();
    server.kill();
    server.restart_with_clock();
    server.cli(&["project", "set", "--project", "1", "--as", "o@example.com", "--events-per-second-max", "50"], "");
    let event = r#"[{"event":"e","properties":{"token":"test_token","distinct_id":"u"}}]"#;
    let sent = || post(&format!("{}/track", server.base), event, None).0;
    for clock in ["+0", "+1d", "-1d", "+0", "-3600", "+3600"] {
        server.set_clock(clock);
        // Used up, it is soon filled again, whatever the clock on the wall says.
        let deadline = Instant::now() + Duration::from_secs(20);
        while sent() != 503 {
            assert!(Instant::now() < deadline, "the limit holds at {clock}");
        }
        while sent() != 200 {
            assert!(Instant::now() < deadline, "the limit stalls at {clock}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
