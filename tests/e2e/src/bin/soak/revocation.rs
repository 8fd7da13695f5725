//! How soon what was revoked ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::{TestServer, agent, basic, field, setting, tell};
use serde_json::{Value, json};

use crate::{OWNER, day, percentile, sorted, taken};

/// More bytes than the sockets hold: so many that come behind a revocation were sent behind it.
const BUFFERED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Exports whose key is revoked while they run. Returns how many went on.
pub(crate) fn exports(server: &TestServer) -> u64 {
    let rounds = setting("SOAK_EXPORTS", 20);
    println!(
        "\n{:<52} {:>8} {:>8} {:>7} {:>9}",
        "running exports, from a revocation's answer to the end", "p50 ms", "max ms", "ended", "went on"
    );
    let mut all = 0;
    for (name, pause) in
        [("  read as fast as it comes", Duration::ZERO), ("  read at 16 MB/s: what the sockets hold included", Duration::from_millis(4))]
    {
        let (mut ms, mut went_on) = (Vec::new(), 0);
        for _ in 0..rounds {
            match export(server, pause) {
                Ended::Cut(after) => ms.push(after),
                Ended::WentOn => went_on += 1,
                Ended::Before => {}
            }
        }
        let ms = sorted(ms);
        println!("{name:<52} {:>8.1} {:>8.1} {:>7} {went_on:>9}", percentile(&ms, 0.5), ms.last().copied().unwrap_or_default(), ms.len());
        all += went_on;
    }
    all
}

enum Ended {
    /// So many milliseconds after the revocation was answered.
    Cut(f64),
    /// By itself, long after.
    WentOn,
    /// Everything had been sent when the answer came.
    Before,
}

/// Runs an export with a key of its own and revokes it once some of it came.
fn export(server: &TestServer, pause: Duration) -> Ended {
    let on = ["--project", "1", "--as", OWNER];
    let made = server.cli(&[&["key", "create", "--rights", "export"][..], &on].concat(), "");
    let made: Value = serde_json::from_str(&made).expect("JSON was asked for");
    let mut stream = TcpStream::connect(server.base.trim_start_matches("http://")).expect("it listens");
    let path = format!("/api/2.0/export?from_date={}&to_date={}", day(8), day(0));
    let authorization = basic(&field(&made, "api_secret"), "");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: soak\r\nAuthorization: {authorization}\r\nConnection: close\r\n\r\n")
        .expect("it takes it");
    let mut piece = vec![0; 64 * 1024];
    let mut last = Vec::new();
    let mut next = |stream: &mut TcpStream| {
        std::thread::sleep(pause);
        let read = stream.read(&mut piece).unwrap_or_default();
        last.extend_from_slice(&piece[..read]);
        last.drain(..last.len().saturating_sub(200));
        (read, String::from_utf8_lossy(&last).contains("export terminated early"))
    };
    for _ in 0..16 {
        next(&mut stream);
    }
    let revoke = json!({"key": {"revoke": {"on": {"project": 1, "account": OWNER}, "api_key": field(&made, "api_key")}}});
    tell(&server.data(), &revoke).expect("a revocation is answered");
    let (answered, mut bytes) = (Instant::now(), 0);
    loop {
        let (read, is_cut) = next(&mut stream);
        bytes += read;
        match (read, is_cut) {
            (_, true) => return Ended::Cut(answered.elapsed().as_secs_f64() * 1000.0),
            (0, false) => return if bytes > BUFFERED_BYTES_MAX { Ended::WentOn } else { Ended::Before },
            _ => {}
        }
    }
}

/// A pair's secret and what became of it.
struct Used {
    secret: String,
    /// When its reset was answered.
    dead: Option<Instant>,
    /// When the last request that succeeded began, and when its answer was read.
    last: Option<(Instant, Instant)>,
}

/// Resets while readers go on with whatever secret they have. Returns how many secrets let a request in that began behind that answer.
pub(crate) fn resets(server: &TestServer) -> u64 {
    let resets = setting("SOAK_RESETS", 200);
    let (data, command) = (server.data(), json!({"credentials": {"reset": {"project": 2, "account": OWNER}}}));
    let reset = || field(&tell(&data, &command).expect("a reset is answered"), "api_secret");
    let used = |secret| Used { secret, dead: None, last: None };
    let all = RwLock::new(vec![used(reset())]);
    let over = AtomicBool::new(false);
    let url = format!("{}/api/2.0/events/names?type=general", server.base);
    let held = || all.write().expect("no reader panics");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let agent = agent();
                while !over.load(Ordering::SeqCst) {
                    let (which, header) = {
                        let all = held();
                        (all.len() - 1, basic(&all[all.len() - 1].secret, ""))
                    };
                    // The same one until it is refused.
                    loop {
                        let began = Instant::now();
                        let status = taken(agent.get(&url).header("authorization", &header).call()).0;
                        let read = Instant::now();
                        if status != 200 || over.load(Ordering::SeqCst) {
                            break;
                        }
                        let used = &mut held()[which];
                        used.last = used.last.max(Some((began, read)));
                    }
                }
            });
        }
        for _ in 0..resets {
            std::thread::sleep(Duration::from_millis(20));
            let secret = reset();
            let dead = Instant::now();
            let mut all = held();
            all.last_mut().expect("there is one").dead = Some(dead);
            all.push(used(secret));
        }
        over.store(true, Ordering::SeqCst);
    });
    // Negative: before the answer.
    let since = |at: Instant, dead: Instant| match at.checked_duration_since(dead) {
        Some(after) => after.as_secs_f64() * 1000.0,
        None => -(dead - at).as_secs_f64() * 1000.0,
    };
    let all = all.into_inner().expect("no reader panics");
    let lasts: Vec<_> = all.iter().filter_map(|used| Some((used.dead?, used.last?))).collect();
    let began = sorted(lasts.iter().map(|(dead, last)| since(last.0, *dead)).collect());
    let read = sorted(lasts.iter().map(|(dead, last)| since(last.1, *dead)).collect());
    println!("\n{:<52} {:>8} {:>8} {:>7}", "from a reset's answer to the last success before it", "p50 ms", "max ms", "resets");
    for (name, ms) in [("  to when that request began", began), ("  to when its answer was read", read)] {
        println!("{name:<52} {:>8.2} {:>8.2} {:>7}", percentile(&ms, 0.5), ms.last().copied().unwrap_or_default(), ms.len());
    }
    lasts.iter().filter(|(dead, last)| last.0 > *dead).count() as u64
}
