//! Resets and rotations under load. No request that begins after the answer to a reset succeeds with an old secret, the new pair works at
//! the first try, and another project notices nothing. A rotation fails no call before its end and lets none through after it.
//!
//! `RESETS=10000` and `ROTATIONS=1000` for more of them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::{TestServer, agent, basic, field, setting, tell};
use serde_json::{Value, json};

const NAMES: &str = "/api/2.0/events/names?type=general";
const OWNER: &str = "o@example.com";
/// The most that a reader waits between two calls that are checked, so that resets are not starved on a small machine.
const BREATH: Duration = Duration::from_millis(1);

#[derive(Clone)]
struct Pair {
    api_key: String,
    api_secret: String,
    /// When its end was asked for and when that was answered, milliseconds; the end of its overlap lies between the two, later.
    ended: Option<(i64, i64)>,
}

impl Pair {
    fn of(answer: &Value) -> Self {
        Self { api_key: field(answer, "api_key"), api_secret: field(answer, "api_secret"), ended: None }
    }
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Ways to use a pair; the first two read.
const WAYS: usize = 4;

/// Uses a pair: the status of the answer.
fn call(agent: &ureq::Agent, base: &str, pair: &Pair, way: usize) -> u16 {
    let header = basic(&pair.api_secret, "");
    let outcome = match way % WAYS {
        0 => agent.get(format!("{base}{NAMES}")).header("authorization", header).call(),
        1 => agent.get(wire::signature::sign_url(&format!("{base}{NAMES}"), &pair.api_key, &pair.api_secret, now_ms() / 1000 + 600)).call(),
        2 => agent.post(format!("{base}/import?strict=1")).header("authorization", header).send("[]"),
        _ => agent.post(format!("{base}/import?strict=1&api_key={}", pair.api_key)).send("[]"),
    };
    let mut response = outcome.expect("the server answers");
    let _ = response.body_mut().read_to_string();
    response.status().as_u16()
}

fn project(server: &TestServer, name: &str) -> Pair {
    let made = server.cli(&["project", "create", "--owner", OWNER, "--name", name], "");
    Pair::of(&serde_json::from_str(&made).unwrap())
}

struct Shared {
    base: String,
    data: PathBuf,
    over: AtomicBool,
    /// Every pair of the project, the newest last. A pair is here once the command that made it was answered.
    pairs: RwLock<Vec<Pair>>,
    /// Commands that were begun.
    begun: AtomicUsize,
    calls: AtomicU64,
}

impl Shared {
    fn new(server: &TestServer, first: Pair) -> Self {
        Self {
            base: server.base.clone(),
            data: server.data(),
            over: AtomicBool::new(false),
            pairs: RwLock::new(vec![first]),
            begun: AtomicUsize::new(0),
            calls: AtomicU64::new(0),
        }
    }

    /// Calls again and again until all is over.
    fn until_over(&self, mut once: impl FnMut(&ureq::Agent, usize)) {
        let agent = agent();
        for number in 0.. {
            if self.over.load(Ordering::SeqCst) {
                return;
            }
            once(&agent, number);
            self.calls.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(BREATH);
        }
    }
}

/// Ends what others do also where this thread fails, so that the test ends too.
struct EndsAll<'a>(&'a AtomicBool);

impl Drop for EndsAll<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn percentile(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}

fn sorted(times: &[f64]) -> Vec<f64> {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times
}

#[test]
fn a_reset_under_load_leaves_no_old_secret_alive() {
    let resets = setting("RESETS", 300);
    let server = TestServer::start();
    let shared = Shared::new(&server, Pair { api_key: "test_key".to_owned(), api_secret: "test_secret".to_owned(), ended: None });
    let other = project(&server, "Other");
    let (refused, succeeded, other_calls) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let mut times = Vec::new();
    let began = Instant::now();
    std::thread::scope(|scope| {
        let shared = &shared;
        for reader in 0..3 {
            let refused = &refused;
            // With what was reset: one before the newest, or any.
            scope.spawn(move || {
                let _ends = EndsAll(&shared.over);
                shared.until_over(|agent, number| {
                    let pairs = shared.pairs.read().unwrap();
                    let Some(dead) = pairs.len().checked_sub(1).filter(|dead| *dead > 0) else { return };
                    let which = if number % 2 == 0 { dead - 1 } else { number.wrapping_mul(7919) % dead };
                    let pair = pairs[which].clone();
                    drop(pairs);
                    let status = call(agent, &shared.base, &pair, number / 2 + reader);
                    assert_eq!(status, 401, "pair {which} of {dead} dead ones, way {}", (number / 2 + reader) % WAYS);
                    refused.fetch_add(1, Ordering::Relaxed);
                });
            });
        }
        for reader in 0..2 {
            let succeeded = &succeeded;
            // With the newest pair: it works unless a reset has begun.
            scope.spawn(move || {
                let _ends = EndsAll(&shared.over);
                shared.until_over(|agent, number| {
                    let begun = shared.begun.load(Ordering::SeqCst);
                    let pairs = shared.pairs.read().unwrap();
                    let (pair, count) = (pairs.last().unwrap().clone(), pairs.len());
                    drop(pairs);
                    let status = call(agent, &shared.base, &pair, number + reader);
                    if count == begun + 1 && shared.begun.load(Ordering::SeqCst) == begun {
                        assert_eq!(status, 200, "the newest pair, way {}", (number + reader) % WAYS);
                        succeeded.fetch_add(1, Ordering::Relaxed);
                    }
                });
            });
            let (other, other_calls) = (&other, &other_calls);
            scope.spawn(move || {
                let _ends = EndsAll(&shared.over);
                shared.until_over(|agent, number| {
                    let status = call(agent, &shared.base, other, (number + reader) % 2);
                    assert_eq!(status, 200, "another project notices");
                    other_calls.fetch_add(1, Ordering::Relaxed);
                });
            });
        }
        let _ends = EndsAll(&shared.over);
        let agent = agent();
        for number in 0..resets {
            if shared.over.load(Ordering::SeqCst) {
                return;
            }
            shared.begun.fetch_add(1, Ordering::SeqCst);
            let since = Instant::now();
            let answer = tell(&shared.data, &json!({"credentials": {"reset": {"project": 1, "account": OWNER}}})).unwrap();
            times.push(since.elapsed().as_secs_f64() * 1000.0);
            let pair = Pair::of(&answer);
            shared.pairs.write().unwrap().push(pair.clone());
            // At the first try, in whatever way.
            for way in number..number + WAYS {
                let status = call(&agent, &shared.base, &pair, way);
                assert_eq!(status, 200, "the new pair, way {}", way % WAYS);
            }
        }
    });
    let old = shared.pairs.read().unwrap().len() - 1;
    let (refused, succeeded, other_calls) = (refused.into_inner(), succeeded.into_inner(), other_calls.into_inner());
    assert!(refused > 0 && succeeded > 0 && other_calls > 0);
    println!(
        "{resets} resets in {:.1} s; {refused} calls with {old} old pairs, 0 let in; {succeeded} with the newest and {other_calls} of another project, 0 refused",
        began.elapsed().as_secs_f64()
    );
    let all = sorted(&times);
    println!(
        "a reset takes {:.2} ms (p50), {:.2} ms (p99), {:.2} ms at the most",
        percentile(&all, 0.5),
        percentile(&all, 0.99),
        all[all.len() - 1]
    );
    for (part, chunk) in times.chunks(times.len().div_ceil(10)).enumerate() {
        let chunk = sorted(chunk);
        println!(
            "  with about {:>6} dead keys: p50 {:.2} ms, p99 {:.2} ms",
            part * times.len() / 10,
            percentile(&chunk, 0.5),
            percentile(&chunk, 0.99)
        );
    }
}

#[test]
fn a_rotation_under_load_has_no_gap_and_ends() {
    const OVERLAP_MS: i64 = 2000;
    let rotations = setting("ROTATIONS", 100);
    let server = TestServer::start();
    let shared = Shared::new(&server, Pair { api_key: "test_key".to_owned(), api_secret: "test_secret".to_owned(), ended: None });
    let (overlapping, ended, latest) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        let shared = &shared;
        for reader in 0..4 {
            let (overlapping, ended, latest) = (&overlapping, &ended, &latest);
            scope.spawn(move || {
                let _ends = EndsAll(&shared.over);
                shared.until_over(|agent, number| {
                    let pairs = shared.pairs.read().unwrap();
                    // The newest, one of the last ones whose overlap runs or just ended, or any.
                    let most = pairs.len();
                    let back = [0, number % 70, number.wrapping_mul(7919)][number % 3] % most;
                    let which = most - 1 - back;
                    let pair = pairs[which].clone();
                    drop(pairs);
                    let sent = now_ms();
                    let status = call(agent, &shared.base, &pair, (number / 3 + reader) % 2);
                    // It may have been rotated meanwhile.
                    let known = shared.pairs.read().unwrap()[which].ended;
                    let answered = now_ms();
                    match known {
                        Some((_, by)) if sent > by + OVERLAP_MS && status == 200 => {
                            latest.fetch_max((sent - by - OVERLAP_MS) as u64, Ordering::Relaxed);
                            assert!(sent <= by + OVERLAP_MS + 1000, "pair {which} reads {} ms after its end", sent - by - OVERLAP_MS);
                        }
                        Some((_, by)) if sent > by + OVERLAP_MS => {
                            assert_eq!(status, 401);
                            ended.fetch_add(1, Ordering::Relaxed);
                        }
                        Some((from, _)) if answered >= from + OVERLAP_MS => {}
                        _ => {
                            assert_eq!(status, 200, "pair {which} of {most} fails before its end");
                            overlapping.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            });
        }
        let _ends = EndsAll(&shared.over);
        let rotate = json!({"key": {"rotate": {"on": {"project": 1, "account": OWNER}, "api_key": null, "overlap": "2s"}}});
        for _ in 0..rotations {
            if shared.over.load(Ordering::SeqCst) {
                return;
            }
            let from = now_ms();
            // The end is known before it is asked for: nobody takes the pair for one without an end.
            shared.pairs.write().unwrap().last_mut().unwrap().ended = Some((from, i64::MAX - 10_000));
            let answer = tell(&shared.data, &rotate).unwrap();
            let by = now_ms();
            let mut pairs = shared.pairs.write().unwrap();
            pairs.last_mut().unwrap().ended = Some((from, by));
            pairs.push(Pair::of(&answer));
            drop(pairs);
            std::thread::sleep(Duration::from_millis(40));
        }
        std::thread::sleep(Duration::from_millis(OVERLAP_MS as u64 + 1500));
    });
    let (overlapping, ended, latest) = (overlapping.into_inner(), ended.into_inner(), latest.into_inner());
    assert!(overlapping > 0 && ended > 0, "{overlapping} before the end, {ended} after it");
    let agent = agent();
    let pairs = shared.pairs.into_inner().unwrap();
    let (newest, dead) = pairs.split_last().unwrap();
    for pair in dead {
        assert_eq!((call(&agent, &shared.base, pair, 0), call(&agent, &shared.base, pair, 1)), (401, 401));
    }
    assert_eq!((call(&agent, &shared.base, newest, 0), call(&agent, &shared.base, newest, 1)), (200, 200));
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{rotations} rotations in {seconds:.1} s under {:.0} calls/s; {overlapping} calls before an end, 0 failed; {ended} after one, 0 let in later than {latest} ms",
        shared.calls.into_inner() as f64 / seconds
    );
}
