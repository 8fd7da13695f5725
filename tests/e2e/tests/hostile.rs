//! What strangers send to hurt: it is answered, and the server neither grows nor stops.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write;

use e2e::{TestServer, post};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The most memory that the server ever held, in MiB.
fn peak_mib(server: &TestServer) -> u64 {
    let id = std::fs::read_to_string(server.data().join("lock")).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", id.trim())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn bombs_are_refused_in_bounded_memory() {
    let server = TestServer::start();
    let event = |value: &str| format!(r#"[{{"event":"x","properties":{{"token":"test_token","a":{value}}}}}]"#);
    let many = |piece: &str, count: usize| format!("[{}1]", piece.repeat(count));
    let bombs: Vec<Vec<u8>> = vec![
        gzip(&vec![b' '; 200 << 20]),
        gzip(event(&many("[],", 3_400_000)).as_bytes()),
        gzip(many("{},", 3_400_000).as_bytes()),
        gzip(format!("{}\n", "[".repeat(60) + &"]".repeat(60)).repeat(80_000).as_bytes()),
        gzip(&gzip(&vec![b' '; 200 << 20])),
    ];
    std::thread::scope(|scope| {
        for bomb in bombs.iter().cycle().take(40) {
            scope.spawn(|| {
                let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
                let mut response = agent.post(format!("{}/track", server.base)).send(&bomb[..]).unwrap();
                assert_eq!((response.status().as_u16(), response.body_mut().read_to_string().unwrap().as_str()), (200, "0"));
            });
        }
    });
    let peak = peak_mib(&server);
    assert!(peak < 2048, "{peak} MiB at the most");
    assert_eq!(post(&format!("{}/track", server.base), &event("1"), None), (200, "1".to_owned()));
}
