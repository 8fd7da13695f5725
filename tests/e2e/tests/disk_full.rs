//! A real file system runs full: writers are asked to come back, reads go on, nothing acknowledged is lost, nothing refused comes back, and the
//! server goes on by itself once there is room. Mounting a small one needs root: elsewhere these tests say that they were skipped, and
//! `crates/store/tests/faults.rs` shows the same on a simulated disk.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use e2e::mutate::Chance;
use e2e::{TestServer, agent, basic, get};

const DAY: &str = "2020-01-01";

fn on_small_disk(mib: u32, free_bytes_min: u64) -> Option<TestServer> {
    let server = TestServer::start_on_small_disk(mib, &format!("[store]\nfree_bytes_min = {free_bytes_min}\n"));
    if server.is_none() {
        eprintln!("SKIPPED: this machine lets nobody mount a small disk");
    }
    server
}

/// What came back: status, body, and whether and when to come back.
struct Answer {
    status: u16,
    body: String,
    retry_after: Option<String>,
}

/// Properties that cannot be packed much: the log packs what it can, and longer texts are cut.
fn filler(seed: u64) -> String {
    let mut chance = Chance(seed);
    let mut text = || (0..15).map(|_| format!("{:016x}", chance.draw())).collect::<String>();
    let properties: Vec<String> = (0..200).map(|at| format!(r#""p{at}":"{}""#, text())).collect();
    properties.join(",")
}

/// Sends an event with a number and some weight.
fn send(server: &TestServer, path: &str, number: u64) -> Answer {
    let filler = filler(number);
    let event = format!(
        r#"[{{"event":"Fill","properties":{{"token":"test_token","time":1577836800,"distinct_id":"u","$insert_id":"n{number}",{filler}}}}}]"#
    );
    let request = agent().post(format!("{}{path}", server.base)).header("authorization", basic("test_secret", ""));
    let mut response = request.send(&event).expect("the server answers");
    let retry_after = response.headers().get("retry-after").map(|value| value.to_str().expect("a number").to_owned());
    let status = response.status().as_u16();
    Answer { status, body: response.body_mut().read_to_string().expect("a body"), retry_after }
}

fn health(server: &TestServer) -> (u16, String) {
    get(&format!("{}/health", server.base), None)
}

/// Every stored event, in the order of the export.
fn stored(server: &TestServer) -> Vec<String> {
    let url = format!("{}/api/2.0/export?from_date={DAY}&to_date={DAY}", server.base);
    let (status, body) = get(&url, Some(&basic("test_secret", "")));
    assert_eq!(status, 200, "reads go on");
    let id = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("every line is JSON");
        line["properties"]["$insert_id"].as_str().expect("every event has an id").to_owned()
    };
    body.lines().map(id).collect()
}

/// Sends until the server asks to come back; what it took, and that answer.
fn fill(server: &TestServer, from: u64, taken: &mut BTreeSet<String>) -> Answer {
    for number in from..from + 2000 {
        let answer = send(server, "/import?strict=1", number);
        if answer.status != 200 {
            return answer;
        }
        assert_eq!(answer.retry_after, None, "no success asks to come back");
        taken.insert(format!("n{number}"));
    }
    panic!("the disk never runs full");
}

fn wait_until_it_takes(server: &TestServer) {
    let since = Instant::now();
    while health(server).0 != 200 {
        assert!(since.elapsed() < Duration::from_secs(60), "it does not recover: {:?}", health(server));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn check(server: &TestServer, taken: &BTreeSet<String>) {
    let found = stored(server);
    let distinct: BTreeSet<String> = found.iter().cloned().collect();
    assert_eq!(found.len(), distinct.len(), "an event is there twice");
    assert_eq!(&distinct, taken, "what was acknowledged is there, and what was refused is not");
}

#[test]
fn below_the_mark_writers_are_asked_to_come_back_and_reads_go_on() {
    let Some(mut server) = on_small_disk(64, 16 << 20) else { return };
    let ballast = server.data().join("ballast");
    let mut taken = BTreeSet::new();
    for number in 0..5 {
        assert_eq!(send(&server, "/import?strict=1", number).status, 200);
        taken.insert(format!("n{number}"));
    }
    // Somebody else takes the room: what the server frees by sealing does not bring it back above its mark.
    std::fs::write(&ballast, vec![0; 50 << 20]).expect("there is room");
    let refused = fill(&server, 100, &mut taken);
    assert_eq!((refused.status, refused.retry_after.as_deref()), (429, Some("5")), "{}", refused.body);
    assert!(refused.body.contains(r#""code":429"#), "{}", refused.body);
    let fresh = format!(r#"[{{"event":"Now","properties":{{"token":"test_token",{}}}}}]"#, filler(7));
    let page = "https://page.example";
    let on_track = agent().post(format!("{}/track", server.base)).header("origin", page).send(&fresh).expect("the server answers");
    let header = |name: &str| on_track.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    assert_eq!((on_track.status().as_u16(), header("retry-after").as_deref()), (503, Some("5")));
    assert_eq!(header("access-control-allow-origin").as_deref(), Some(page), "a browser is told too");
    let (status, why) = health(&server);
    assert!(status == 503 && why.contains("the disk is nearly full"), "{status} {why}");
    check(&server, &taken);
    std::fs::remove_file(&ballast).expect("it is there");
    wait_until_it_takes(&server);
    assert_eq!(send(&server, "/import?strict=1", 6000).status, 200);
    taken.insert("n6000".to_owned());
    check(&server, &taken);
    server.crash_and_restart();
    check(&server, &taken);
}

#[test]
fn a_small_disk_takes_events_with_the_settings_as_they_come() {
    let Some(server) = TestServer::start_on_small_disk(128, "") else { return };
    assert_eq!(send(&server, "/import?strict=1", 1).status, 200);
    assert_eq!(health(&server), (200, "ok".to_owned()));
}

#[test]
fn a_full_disk_loses_nothing_and_needs_no_restart() {
    let Some(mut server) = on_small_disk(16, 0) else { return };
    let ballast = server.data().join("ballast");
    let mut taken = BTreeSet::new();
    for round in 0..2 {
        let from = round * 10_000;
        for number in from..from + 5 {
            assert_eq!(send(&server, "/import?strict=1", number).status, 200);
            taken.insert(format!("n{number}"));
        }
        // Somebody else fills the disk to its last byte but one event's.
        let full = std::process::Command::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", ballast.display())).output();
        assert!(full.is_ok_and(|output| !output.status.success()), "the disk is full");
        let refused = fill(&server, from + 100, &mut taken);
        assert_eq!((refused.status, refused.retry_after.as_deref()), (503, Some("5")), "{}", refused.body);
        let (status, why) = health(&server);
        assert!(status == 503 && why.contains("the log cannot be written"), "{status} {why}");
        check(&server, &taken);
        std::fs::remove_file(&ballast).expect("it is there");
        wait_until_it_takes(&server);
        assert_eq!(send(&server, "/import?strict=1", from + 5000).status, 200);
        taken.insert(format!("n{}", from + 5000));
        check(&server, &taken);
    }
    assert_eq!(send(&server, "/import?strict=1", 50_000).status, 200);
    taken.insert("n50000".to_owned());
    check(&server, &taken);
    server.crash_and_restart();
    check(&server, &taken);
}
