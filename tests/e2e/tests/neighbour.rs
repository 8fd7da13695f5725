//! A project whose token floods at ten times its quota gets in at its quota, and costs another project nothing.
//! `make soak` measures how long the other one waits meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use e2e::{TestServer, agent, basic, get};

const QUOTA: u64 = 50;
const SECONDS: u64 = 5;

fn count(server: &TestServer, event: &str, secret: &str) -> u64 {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let day = |offset: i64| model::profile::wall_time(model::Timestamp(now_ms + offset))[..10].to_owned();
    let (from, to) = (day(-86_400_000), day(0));
    let url = format!("{}/api/2.0/segmentation?event={event}&from_date={from}&to_date={to}", server.base);
    let (status, body) = get(&url, Some(&basic(secret, "")));
    assert_eq!(status, 200, "{body}");
    let answer: serde_json::Value = serde_json::from_str(&body).expect("a report");
    let days = answer["data"]["values"][event].as_object().cloned().unwrap_or_default();
    days.values().filter_map(serde_json::Value::as_u64).sum()
}

#[test]
fn a_flood_at_ten_times_its_quota_costs_the_neighbour_nothing() {
    let server = TestServer::quiet();
    let noisy = ["project", "create", "--owner", "o@example.com", "--name", "Noisy", "--token", "noisy_token", "--api-key", "noisy_key"];
    server.cli(&[&noisy[..], &["--api-secret", "noisy_secret", "--allow-weak"]].concat(), "");
    server.cli(&["project", "set", "--project", "2", "--as", "o@example.com", "--events-per-second-max", &QUOTA.to_string()], "");
    let (over, began) = (AtomicBool::new(false), Instant::now());
    let (let_in, sent, honest) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let (agent, mut next) = (agent(), Instant::now());
                let body = r#"[{"event":"Flood","properties":{"token":"noisy_token","distinct_id":"f"}}]"#;
                while !over.load(Ordering::SeqCst) {
                    let mut answer = agent.post(format!("{}/track", server.base)).send(body).expect("the server answers");
                    sent.fetch_add(1, Ordering::SeqCst);
                    let asks_back = answer.headers().contains_key("retry-after");
                    match (answer.status().as_u16(), answer.body_mut().read_to_string().expect("a body").as_str()) {
                        (200, "1") => {
                            assert!(!asks_back, "no success asks to come back");
                            let_in.fetch_add(1, Ordering::SeqCst);
                        }
                        (status, _) => assert!(status == 503 && asks_back, "{status} beyond the quota"),
                    }
                    next += Duration::from_secs(1) / (10 * QUOTA as u32 / 4);
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                let agent = agent();
                while !over.load(Ordering::SeqCst) {
                    let number = honest.fetch_add(1, Ordering::SeqCst);
                    let body = format!(
                        r#"[{{"event":"Honest","properties":{{"token":"test_token","distinct_id":"u","$insert_id":"h{number}"}}}}]"#
                    );
                    let mut answer = agent.post(format!("{}/track", server.base)).send(&body).expect("the server answers");
                    let answer = (answer.status().as_u16(), answer.body_mut().read_to_string().expect("a body"));
                    assert_eq!(answer, (200, "1".to_owned()), "the neighbour is not refused");
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        }
        std::thread::sleep(Duration::from_secs(SECONDS));
        over.store(true, Ordering::SeqCst);
    });
    let most = (QUOTA as f64 * (began.elapsed().as_secs_f64() + 1.0)) as u64 + 1;
    let (let_in, sent, honest) = (let_in.into_inner(), sent.into_inner(), honest.into_inner());
    println!("{sent} sent at a quota of {QUOTA}/s, {let_in} let in; {honest} of the neighbour");
    assert!(let_in <= most && sent > let_in, "{let_in} of {sent} let in, {most} may be");
    assert_eq!(count(&server, "Flood", "noisy_secret"), let_in, "what was refused is not stored");
    assert_eq!(count(&server, "Honest", "test_secret"), honest, "the neighbour lost nothing");
}
