//! Requests made of the golden cases by breaking them in every way: none is answered 5xx but the 503 that asks to come back, none makes the
//! server panic, and it holds no more memory than before. `MUTATIONS=100000` (or `make mutations`) for more, `SEED=N` for the same again.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use e2e::mutate::{self, Chance};
use e2e::{TestServer, basic, get, golden, post, setting};

/// The project of the golden cases.
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const SENDERS: usize = 8;

/// The head of an answer; empty where the connection was closed without one.
fn exchange(base: &str, request: &[u8], has_end: bool) -> String {
    let mut stream = TcpStream::connect(base.trim_start_matches("http://")).expect("the server listens");
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(request);
    let mut raw = Vec::new();
    if !has_end {
        // It may wait for more, which never comes.
        stream.set_read_timeout(Some(Duration::from_millis(100))).expect("an option");
        let _ = stream.read_to_end(&mut raw);
        let _ = stream.shutdown(Shutdown::Write);
    }
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("an option");
    let _ = stream.read_to_end(&mut raw);
    let end = raw.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(0);
    String::from_utf8_lossy(&raw[..end]).to_lowercase()
}

#[test]
fn no_broken_request_breaks_the_server() {
    let (count, seed) = (setting("MUTATIONS", 5000), setting("SEED", jiff::Timestamp::now().subsec_nanosecond() as usize));
    println!("SEED={seed}");
    // What is stored is sealed at once: it is not what grows.
    let mut server = TestServer::start_with("[store]\nseal_age_seconds = 1\n");
    server.kill();
    server.restart_quiet();
    let project = ["project", "create", "--owner", "o@example.com", "--name", "W", "--token", TOKEN, "--api-key", "write_key"];
    server.cli(&[&project[..], &["--api-secret", "write_secret", "--allow-weak"]].concat(), "");
    let golden = golden::write_requests(jiff::Timestamp::now().as_millisecond());
    assert!(golden.len() > 100, "there are cases");
    let (next, statuses) = (AtomicUsize::new(0), Mutex::new(std::collections::BTreeMap::<String, usize>::new()));
    let run = |until: usize| {
        std::thread::scope(|scope| {
            for _ in 0..SENDERS {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::SeqCst);
                        if number >= until {
                            return;
                        }
                        let mut chance = Chance((seed as u64) << 32 | number as u64);
                        let (head, body) = &golden[chance.below(golden.len())];
                        let (request, has_end) = mutate::request(&mut chance, head, body);
                        let answer = exchange(&server.base, &request, has_end);
                        let status = answer.split(' ').nth(1).unwrap_or("none").to_owned();
                        let comes_back = answer.contains("\r\nretry-after: ");
                        let shown = || String::from_utf8_lossy(&request).chars().take(2000).collect::<String>();
                        assert!(!status.starts_with('5') || (status == "503" && comes_back), "{number}: {answer}\nto {}", shown());
                        assert!(!status.starts_with('2') || !comes_back, "{number}: success with Retry-After: {answer}\nto {}", shown());
                        *statuses.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
                    }
                });
            }
        });
        next.store(until, Ordering::SeqCst);
    };
    run(count / 5);
    let before = server.rss_mib();
    run(count);
    let after = server.rss_mib();
    println!("{count} requests, answered {:?}; {before:.0} MiB after a fifth of them, {after:.0} MiB at the end", statuses.into_inner());
    // Some of it is stored, and waits for its seal.
    assert!(after < before + 150.0, "{before} MiB, then {after} MiB");
    assert_eq!(get(&format!("{}/health", server.base), None), (200, "ok".to_owned()));
    let honest = r#"[{"event":"Honest","properties":{"token":"test_token","distinct_id":"u"}}]"#;
    assert_eq!(post(&format!("{}/track", server.base), honest, None), (200, "1".to_owned()));
    let names = get(&format!("{}/api/2.0/events/names?type=general", server.base), Some(&basic("test_secret", "")));
    assert_eq!(names, (200, r#"["Honest"]"#.to_owned()), "nothing of it came into another project");
}
