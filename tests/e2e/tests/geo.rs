//! The operator's database of addresses: with one, without one, with a broken one; and no address is ever stored.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use e2e::{TestServer, basic, get, post, walk};

const PLACES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/places.mmdb");

fn server(file: &str) -> TestServer {
    TestServer::start_with(&format!("[listen]\ntrusted_proxies = [\"127.0.0.1\"]\n[geo]\nmmdb_file = \"{file}\"\n"))
}

fn today() -> String {
    let printed = std::process::Command::new("date").args(["-u", "+%F"]).output().unwrap().stdout;
    String::from_utf8(printed).unwrap().trim().to_owned()
}

/// What an event of an address is told: the line of its export.
fn line(server: &TestServer, name: &str) -> String {
    let event = format!(r#"[{{"event":"{name}","properties":{{"token":"test_token","distinct_id":"u","ip":"136.24.0.114"}}}}]"#);
    assert_eq!(post(&format!("{}/track?ip=0", server.base), &event, None), (200, "1".to_owned()));
    let names = format!("%5B%22{name}%22%5D");
    let path = format!("/api/2.0/export?from_date=2020-01-01&to_date={}&event={names}", today());
    get(&format!("{}{path}", server.base), Some(&basic("test_secret", ""))).1
}

/// Waits for the log to say something.
fn said(server: &TestServer, words: &str) {
    for _ in 0..100 {
        if server.log().contains(words) {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("never said: {words}\n{}", server.log());
}

#[test]
fn without_a_database_events_are_taken_as_before() {
    let server = TestServer::start();
    assert!(!line(&server, "e").contains("$city"));
}

#[test]
fn a_database_that_is_broken_is_told_loudly_and_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.mmdb");
    let whole = std::fs::read(PLACES).unwrap();
    std::fs::write(&broken, &whole[..whole.len() / 2]).unwrap();
    for file in [broken.to_str().unwrap(), folder.path().join("none.mmdb").to_str().unwrap()] {
        let server = server(file);
        assert!(server.log().contains("ERROR") && server.log().contains("geo.mmdb_file cannot be used"), "{}", server.log());
        assert!(!line(&server, "e").contains("$city"));
    }
}

#[test]
fn a_database_that_changes_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (file, next) = (folder.path().join("places.mmdb"), folder.path().join("next"));
    let replace = |bytes: &[u8]| {
        std::fs::write(&next, bytes).unwrap();
        std::fs::rename(&next, &file).unwrap();
    };
    let server = server(file.to_str().unwrap());
    assert!(!line(&server, "before").contains("$city"));
    let whole = std::fs::read(PLACES).unwrap();
    replace(&whole);
    said(&server, "the database of addresses was read");
    assert!(line(&server, "after").contains("San Francisco"));
    // A broken one takes nothing away.
    replace(&whole[..100]);
    said(&server, "the old one stays");
    assert!(line(&server, "broken").contains("San Francisco"));
}

const ADDRESSES: [&str; 3] = ["203.0.113.77", "136.24.0.114", "2001:db8::4d4d"];

/// No file of the data directory holds an address.
fn clean(server: &TestServer, when: &str) {
    let files = walk(&server.data());
    assert!(files.len() > 3);
    for file in files {
        // A socket cannot be read.
        let Ok(stored) = std::fs::read(&file) else { continue };
        let is_there = |text: &str| stored.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!ADDRESSES.iter().any(|text| is_there(text)), "{when}: {}", file.display());
    }
}

/// Nothing in the data directory holds the address of a sender, or one that an event or a profile names; neither does an answer.
#[test]
fn no_address_is_stored() {
    let mut server = server(PLACES);
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let send = |path: &str, body: &str| {
        let request = agent.post(format!("{}{path}", server.base)).header("x-forwarded-for", "203.0.113.77");
        let mut response = request.header("x-real-ip", "203.0.113.77").send(body).unwrap();
        assert_eq!(response.body_mut().read_to_string().unwrap(), "1", "{path} {body}");
    };
    for query in ["", "?ip=0", "?ip=1"] {
        for ip in [r#""ip":"136.24.0.114","#, r#""ip":"2001:db8::4d4d","#, ""] {
            send(&format!("/track{query}"), &format!(r#"{{"event":"e","properties":{{{ip}"token":"test_token"}}}}"#));
            let named = ip.replace("ip", "$ip");
            let profile = |beside: &str, inside: &str| {
                format!(r#"{{{beside}"$token":"test_token","$distinct_id":"u","$set":{{{inside}"a":1}},"$set_once":{{{inside}"b":1}}}}"#)
            };
            send(&format!("/engage{query}"), &profile(&named, ""));
            send(&format!("/engage{query}"), &profile("", &named));
        }
    }
    let export = line(&server, "last");
    assert!(export.contains("San Francisco"), "{export}");
    clean(&server, "in the log");
    server.stop();
    clean(&server, "sealed");
    // Columns are compressed: what they hold is read back.
    server.restart();
    let again = line(&server, "again");
    assert!(again.contains("San Francisco") && !again.contains("136.24.0.114"), "{again}");
    let everything =
        get(&format!("{}/api/2.0/export?from_date=2020-01-01&to_date={}", server.base, today()), Some(&basic("test_secret", ""))).1;
    let profiles = get(&format!("{}/api/2.0/engage", server.base), Some(&basic("test_secret", ""))).1;
    for address in ADDRESSES {
        assert!(!everything.contains(address) && !profiles.contains(address), "{address}");
    }
    assert_eq!((everything.lines().count(), profiles.contains("Europe/Berlin")), (11, true), "{everything}{profiles}");
}
