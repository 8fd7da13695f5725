//! `make soak`: what honest clients notice while others attack, on loopback, in one run.
//!
//! Honest clients send single events, ask a report and ask a signed read, at a steady pace, beside each load, and beside nobody before and
//! after it: a ratio compares with both, so that what else the machine does counts little. The loads run on the machine of the server, so a
//! ratio says what both cost together. Nothing is asserted about time. The exit is not 0 where something of the honest was not stored or not
//! answered, an old secret succeeded, or an export went on. `SOAK_SECONDS` (30) per load, `SOAK_NEIGHBOUR_SECONDS` (180) for the neighbour that
//! floods, `SOAK_EVENTS` (200,000) stored before, `SOAK_RESETS` (200), `SOAK_EXPORTS` (20), `SOAK_ONLY` for the rows whose name holds it.

mod loads;
mod revocation;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use e2e::{TestServer, agent, basic, setting};

/// The project of the honest is the first; this one is attacked, and attacks.
const OTHER_TOKEN: &str = "89abcdef0123456789abcdef01234567";
const OWNER: &str = "o@example.com";
const SECRET: &str = "test_secret";
/// Events a second that the other project's token may bring.
const QUOTA: usize = 100;

fn main() -> std::process::ExitCode {
    let mut server = TestServer::quiet();
    server.cli(&["project", "create", "--owner", OWNER, "--name", "Other", "--token", OTHER_TOKEN], "");
    server.cli(&["project", "set", "--project", "2", "--as", OWNER, "--events-per-second-max", &QUOTA.to_string()], "");
    fill(&server);
    // What was filled in is sealed: no row pays for it.
    server.stop();
    server.restart_quiet();

    let seconds = Duration::from_secs(setting("SOAK_SECONDS", 30) as u64);
    println!("honest clients beside a load of {} s, and beside nobody before and after it", seconds.as_secs());
    println!(
        "{:<44} {:>8} {:>8} {:>8} {:>8} {:>6} {:>6} {:>7} {:>5}",
        "milliseconds", "idle p50", "idle p99", "p50", "p99", "p50 ×", "p99 ×", "asked", "lost"
    );
    let mut before = honest(&server, 0, seconds / 2);
    let mut lost: u64 = before.iter().map(|asked| asked.lost).sum();
    let only = std::env::var("SOAK_ONLY").unwrap_or_default();
    for (round, (name, load)) in loads::ALL.iter().enumerate().filter(|(_, (name, _))| name.contains(&only)) {
        // What a quota promises is promised for long.
        let seconds = if *name == loads::NEIGHBOUR { Duration::from_secs(setting("SOAK_NEIGHBOUR_SECONDS", 180) as u64) } else { seconds };
        let over = AtomicBool::new(false);
        let (loaded, note) = std::thread::scope(|scope| {
            let load = scope.spawn(|| load(&server, &over));
            // The load is there before anything is measured.
            std::thread::sleep(Duration::from_millis(500));
            let loaded = honest(&server, 2 * round + 1, seconds);
            over.store(true, Ordering::SeqCst);
            (loaded, load.join().expect("a load ends"))
        });
        let after = honest(&server, 2 * round + 2, seconds / 2);
        println!("{name}, {} s{note}", seconds.as_secs());
        for ((loaded, before), after) in loaded.iter().zip(&before).zip(&after) {
            let idle = sorted([&before.ms[..], &after.ms].concat());
            let of = |part: f64| (percentile(&idle, part), percentile(&loaded.ms, part));
            let ((idle_p50, p50), (idle_p99, p99)) = (of(0.5), of(0.99));
            println!(
                "  {:<42} {idle_p50:>8.2} {idle_p99:>8.2} {p50:>8.2} {p99:>8.2} {:>6.2} {:>6.2} {:>7} {:>5}",
                loaded.name,
                p50 / idle_p50,
                p99 / idle_p99,
                loaded.ms.len(),
                loaded.lost
            );
            lost += loaded.lost + after.lost;
            if *name == loads::NEIGHBOUR {
                let verdict = if p99 <= 2.0 * idle_p99 { "at most double" } else { "MORE THAN DOUBLE" };
                println!("    p99 beside the neighbour: {verdict}");
            }
        }
        before = after;
    }
    let went_on = revocation::exports(&server);
    let late = revocation::resets(&server);
    println!("\nof the honest, not stored or not answered: {lost}; old secrets that succeeded: {late}; exports that went on: {went_on}");
    if lost + late + went_on == 0 { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

/// What one kind of honest client met.
#[derive(Clone)]
struct Asked {
    name: &'static str,
    /// Milliseconds until each answer, ascending.
    ms: Vec<f64>,
    /// Events that are not stored, questions that were not answered.
    lost: u64,
}

fn percentile(sorted: &[f64], part: f64) -> f64 {
    sorted.get((sorted.len() as f64 * part) as usize).copied().unwrap_or_default()
}

fn sorted(mut ms: Vec<f64>) -> Vec<f64> {
    ms.sort_by(f64::total_cmp);
    ms
}

fn now_seconds() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn day(back: i64) -> String {
    model::profile::wall_time(model::Timestamp((now_seconds() - back * 86_400) * 1000))[..10].to_owned()
}

/// Calls `once` so often until all is over. Where it falls behind it makes good.
fn every(pause: Duration, over: &AtomicBool, mut once: impl FnMut()) {
    let mut next = Instant::now();
    while !over.load(Ordering::SeqCst) {
        once();
        next += pause;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// Status and body of an answer; 0 where there is none.
fn taken(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, String) {
    let Ok(mut answer) = answer else { return (0, String::new()) };
    (answer.status().as_u16(), answer.body_mut().with_config().limit(u64::MAX).read_to_string().unwrap_or_default())
}

/// Events and profiles for the reports to read.
fn fill(server: &TestServer) {
    let events = setting("SOAK_EVENTS", 200_000);
    let padding = "x".repeat(150);
    for first in (0..events).step_by(2000) {
        let event = |at: usize| {
            let (time, plan) = (now_seconds() - (at as i64 * 7919) % (7 * 86_400), ["free", "pro"][at % 2]);
            format!(
                r#"{{"event":"Filled","properties":{{"time":{time},"distinct_id":"user-{}","$insert_id":"f{at}","plan":"{plan}","page":"{padding}"}}}}"#,
                at % 10_000
            )
        };
        let body = format!("[{}]", (first..(first + 2000).min(events)).map(event).collect::<Vec<_>>().join(","));
        let answer = e2e::post(&format!("{}/import?strict=1", server.base), &body, Some(&basic(SECRET, "")));
        assert_eq!(answer.0, 200, "{}", answer.1);
    }
    let profile = |at: usize| format!(r#"{{"$token":"test_token","$distinct_id":"user-{at}","$set":{{"plan":"pro","rank":{at}}}}}"#);
    let body = format!("[{}]", (0..100).map(profile).collect::<Vec<_>>().join(","));
    assert_eq!(e2e::post(&format!("{}/engage", server.base), &body, None).1, "1");
}

/// Lets every kind of honest client work for a while.
fn honest(server: &TestServer, phase: usize, duration: Duration) -> Vec<Asked> {
    let over = AtomicBool::new(false);
    let (base, sent) = (&server.base, AtomicU64::new(0));
    let report = format!("{base}/api/2.0/segmentation?event=Filled&from_date={}&to_date={}&on=properties%5B%22plan%22%5D", day(6), day(0));
    let authorization = basic(SECRET, "");
    let client = |pause: u64, once: &(dyn Fn(&ureq::Agent) -> bool + Sync)| {
        let (agent, mut ms, mut failed) = (agent(), Vec::new(), 0);
        every(Duration::from_millis(pause), &over, || {
            let since = Instant::now();
            let is_taken = once(&agent);
            ms.push(since.elapsed().as_secs_f64() * 1000.0);
            failed += u64::from(!is_taken);
        });
        (ms, failed)
    };
    let send = |agent: &ureq::Agent| {
        let number = sent.fetch_add(1, Ordering::SeqCst);
        let body = format!(
            r#"[{{"event":"Honest {phase}","properties":{{"token":"test_token","distinct_id":"user-{}","$insert_id":"h{number}"}}}}]"#,
            number % 1000
        );
        taken(agent.post(format!("{base}/track")).send(body)).1 == "1"
    };
    let ask = |agent: &ureq::Agent| taken(agent.get(&report).header("authorization", &authorization).call()).0 == 200;
    let read = |agent: &ureq::Agent| {
        let url = wire::signature::sign_url(&format!("{base}/api/2.0/engage"), "test_key", SECRET, now_seconds() + 600);
        taken(agent.get(url).call()).0 == 200
    };
    let (events, reports, reads) = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..3).map(|_| scope.spawn(|| client(5, &send))).collect();
        let (asker, reader) = (scope.spawn(|| client(50, &ask)), scope.spawn(|| client(20, &read)));
        std::thread::sleep(duration);
        over.store(true, Ordering::SeqCst);
        let events: Vec<f64> = senders.into_iter().flat_map(|sender| sender.join().expect("a client ends").0).collect();
        (events, asker.join().expect("a client ends"), reader.join().expect("a client ends"))
    });
    vec![
        Asked { name: "a single event", ms: sorted(events), lost: sent.into_inner() - stored(server, phase) },
        Asked { name: "a report", ms: sorted(reports.0), lost: reports.1 },
        Asked { name: "a signed read", ms: sorted(reads.0), lost: reads.1 },
    ]
}

/// Events of the honest that are there.
fn stored(server: &TestServer, phase: usize) -> u64 {
    let url = format!("{}/api/2.0/segmentation?event=Honest%20{phase}&from_date={}&to_date={}", server.base, day(1), day(0));
    let (status, body) = e2e::get(&url, Some(&basic(SECRET, "")));
    assert_eq!(status, 200, "{body}");
    let answer: serde_json::Value = serde_json::from_str(&body).expect("a report is JSON");
    let days = answer["data"]["values"].as_object().into_iter().flat_map(|events| events.values());
    days.flat_map(|days| days.as_object().into_iter().flat_map(|days| days.values())).filter_map(serde_json::Value::as_u64).sum()
}
