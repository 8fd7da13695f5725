//! What proofs cost: signatures on one thread, requests with and without a credential in one run, resets under load.

use std::time::{Duration, Instant};

use model::Timestamp;
use wire::params::Params;
use wire::signature::{self, Names};

use crate::{Process, SECRET, Stop, ask, create_project, load, median, now_seconds, serve_with, setting};

/// Prints every table of this file. The resets come last: the project has another secret then.
pub(crate) fn measure(runtime: &tokio::runtime::Runtime, server: &Process, data: &std::path::Path, api_key: &str) {
    signatures();
    requests(runtime, server, api_key);
    check(runtime);
    resets(runtime, server, data);
}

/// Checks of signatures per second, from the decoded parameters on, on one thread.
fn signatures() {
    println!("\n{:<52} {:>12}", "signatures checked, one thread", "checks/s");
    let filter = wire::params::encode(r#"properties["plan"] == "pro" and properties["amount"] > 50"#);
    for (name, query, names) in [
        ("a short request (events/top)", "type=general".to_owned(), wire::segmentation::EVENTS_PARAMETERS),
        (
            "a long request (segmentation with a filter)",
            format!(
                "event=Purchase&from_date=2026-01-01&to_date=2026-01-31&unit=day&type=unique&on=properties%5B%22country%22%5D&where={filter}"
            ),
            wire::segmentation::PARAMETERS,
        ),
    ] {
        let url = signature::sign_url(&format!("?{query}"), "key", SECRET, now_seconds() as i64 + 600);
        let params = Params::parse(&url, None);
        let now = Timestamp(now_seconds() as i64 * 1000);
        let names = Names::new(names);
        let (since, mut checks) = (Instant::now(), 0_u32);
        while since.elapsed() < Duration::from_secs(setting("BENCH_SECONDS", 5)) {
            for _ in 0..100 {
                signature::check(std::hint::black_box(&params), &names, SECRET, now, Some(86_400_000)).expect("it is right");
            }
            checks += 100;
        }
        println!("{name:<52} {:>12.0}", f64::from(checks) / since.elapsed().as_secs_f64());
    }
}

/// Requests that do nothing, with a proof and without one: the same handler, client, body and run, one after the other.
fn requests(runtime: &tokio::runtime::Runtime, server: &Process, api_key: &str) {
    let post = |path: &str, header: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n{header}Content-Length: 2\r\n\r\n[]")
    };
    let get = |path: &str, header: &str| format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{header}\r\n");
    let basic = format!("Authorization: {}\r\n", e2e::basic(SECRET, ""));
    let read = "/api/2.0/nothing?type=general&limit=5";
    let signed = signature::sign_url(read, api_key, SECRET, now_seconds() as i64 + 3600);
    // `/track` is `/import` without the proof. A read that there is not is answered 400 behind the proof, and 401 without one.
    let pairs = [
        [
            ("/track, empty list: no credential", post("/track", ""), "HTTP/1.1 200 "),
            ("/import, empty list: API secret", post("/import", &basic), "HTTP/1.1 200 "),
        ],
        [
            ("a read that does nothing: no credential", get(read, ""), "HTTP/1.1 401 "),
            ("a read that does nothing: API secret", get(read, &basic), "HTTP/1.1 400 "),
        ],
        [
            // The same text to read and to refuse, but for the check.
            ("the same read, `sig` under a name that says nothing", get(&signed.replace("sig=", "xig="), ""), "HTTP/1.1 401 "),
            ("a read that does nothing: signature", get(&signed, ""), "HTTP/1.1 400 "),
        ],
    ];
    println!("\n{:<52} {:>12} {:>8} {:>9} {:>9}", "requests that do nothing", "requests/s", "ratio", "p50 ms", "p99 ms");
    for pair in pairs {
        let mut without = None;
        for (name, request, expected) in pair {
            let stop = Stop::After(Duration::from_secs(setting("BENCH_SECONDS", 5)));
            let asked = runtime.block_on(ask(server.port, stop, expected, move || Some((request.clone(), 1))));
            let per_second = asked.events_per_second();
            let ratio = per_second / *without.get_or_insert(per_second);
            println!("{name:<52} {per_second:>12.0} {ratio:>8.2} {:>9.2} {:>9.2}", asked.percentile(0.5), asked.percentile(0.99));
        }
    }
}

/// Requests that do nothing at this server and at one that checks no signature, in turns: what the check costs of a request.
fn check(runtime: &tokio::runtime::Runtime) {
    let Ok(unchecked) = std::env::var("SLUICE_UNCHECKED_BIN") else {
        println!("\nno server without the check of signatures (SLUICE_UNCHECKED_BIN): its cost is not measured");
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    // Both begin empty: a server that still seals what came before would be the slower one.
    let start = |binary: &std::path::Path, name: &str| {
        let data = dir.path().join(name);
        (serve_with(binary, &data), create_project(&data))
    };
    let (server, api_key) = start(&e2e::binary(), "checked");
    let (other, other_key) = start(std::path::Path::new(&unchecked), "unchecked");
    let filter = wire::params::encode(r#"properties["plan"] == "pro" and properties["amount"] > 50"#);
    println!("\n{:<52} {:>12} {:>12} {:>8}", "signed requests that do nothing, in turns", "requests/s", "no check", "ratio");
    for (name, query) in [
        ("short", "type=general&limit=5".to_owned()),
        (
            "long, with a filter",
            format!(
                "event=Purchase&from_date=2026-01-01&to_date=2026-01-31&unit=day&type=unique&on=properties%5B%22country%22%5D&where={filter}"
            ),
        ),
    ] {
        // The one refuses a forged signature, the other does not look at it.
        let is_refused = |port: u16, key: &str| {
            let path = format!("/api/2.0/nothing?{query}&api_key={key}&expire={}&sig={}", now_seconds() + 3600, "0".repeat(32));
            e2e::get(&format!("http://127.0.0.1:{port}{path}"), None).1.contains("Invalid API signature")
        };
        assert!(is_refused(server.port, &api_key) && !is_refused(other.port, &other_key));
        let request = |key: &str| {
            let url = signature::sign_url(&format!("/api/2.0/nothing?{query}"), key, SECRET, now_seconds() as i64 + 3600);
            format!("GET {url} HTTP/1.1\r\nHost: bench\r\n\r\n")
        };
        let measured = |port, key: &str, seconds: f64| {
            let request = request(key);
            let stop = Stop::After(Duration::from_secs_f64(seconds));
            runtime.block_on(ask(port, stop, "HTTP/1.1 400 ", move || Some((request.clone(), 1)))).events_per_second()
        };
        let mut rounds: Vec<(f64, f64)> = Vec::new();
        for round in 0..=2 * setting("BENCH_SECONDS", 5) {
            let pair = (measured(server.port, &api_key, 0.5), measured(other.port, &other_key, 0.5));
            // The first one warms up.
            rounds.extend((round > 0).then_some(pair));
        }
        let own = median(rounds.iter().map(|(own, _)| *own).collect());
        let without = median(rounds.iter().map(|(_, without)| *without).collect());
        let ratio = median(rounds.iter().map(|(own, without)| own / without).collect());
        println!("{name:<52} {own:>12.0} {without:>12.0} {ratio:>8.2}");
    }
}

/// Resets while events come in, from the command to its answer.
fn resets(runtime: &tokio::runtime::Runtime, server: &Process, data: &std::path::Path) {
    let resets = setting("BENCH_RESETS", 200);
    let command = serde_json::json!({"credentials": {"reset": {"project": 1, "account": crate::OWNER}}});
    let once = || {
        let since = Instant::now();
        e2e::tell(data, &command).expect("a reset is answered");
        since.elapsed().as_secs_f64() * 1000.0
    };
    let row = |name: &str, mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied().unwrap_or_default();
        println!("{name:<52} {:>9.2} {:>9.2}", at(0.5), at(0.99));
    };
    println!("\n{:<52} {:>9} {:>9}", format!("resets of a project's credentials, {resets} each"), "p50 ms", "p99 ms");
    row("of an idle server", (0..resets).map(|_| once()).collect());
    let busy = runtime.spawn(load(server.port, 50, Stop::Never, "/track"));
    row("while events come in, 50 in a request", (0..resets).map(|_| once()).collect());
    busy.abort();
}
