//! `make bench`: what the server takes, holds and answers, beside a bare server on the same stack in the same run.
//!
//! The bare server reads a body, discards it and answers `1`; it shows what HTTP alone costs on this machine with the load beside it.
//! `BENCH_SECONDS` (5) per row, `BENCH_EVENTS` (10,000,000) stored events, `BENCH_CONNECTIONS` (64), `BENCH_RESETS` (200),
//! `BENCH_REFUSALS` (10,000) and `BENCH_SIGN_INS` (100) timed refusals of a kind.

mod credentials;
mod features;
mod oracles;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::routing::any;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const SECRET: &str = "fedcba9876543210fedcba9876543210";
const OWNER: &str = "b@example.com";
const USERS: u64 = 500_000;
const DAYS: u64 = 30;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if std::env::args().nth(1).as_deref() == Some("--bare") {
        return runtime.block_on(bare());
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let bare = Process::start(Command::new(std::env::current_exe().expect("a path")).arg("--bare"));
    let mut server = serve(&data);
    let api_key = create_project(&data);
    let idle = server.rss_mib();

    println!("ingest, {} connections, acknowledged after fsync", setting("BENCH_CONNECTIONS", 64));
    println!("{:>16} {:>12} {:>12} {:>8} {:>9} {:>9}", "events/request", "events/s", "bare", "ratio", "p50 ms", "p99 ms");
    let mut most = 0.0_f64;
    for per_request in [1, 50, 2000] {
        let seconds = Duration::from_secs(setting("BENCH_SECONDS", 5));
        let beside = runtime.block_on(load(bare.port, per_request, Stop::After(seconds), "/track"));
        let own = runtime.block_on(load(server.port, per_request, Stop::After(seconds), "/track"));
        most = most.max(server.rss_mib());
        println!(
            "{per_request:>16} {:>12.0} {:>12.0} {:>8.2} {:>9.2} {:>9.2}",
            own.events_per_second(),
            beside.events_per_second(),
            own.events_per_second() / beside.events_per_second(),
            own.percentile(0.5),
            own.percentile(0.99)
        );
    }
    println!("\nmemory: {idle:.0} MiB idle, {most:.0} MiB under that load");
    oracles::measure(&server, &data, &api_key);
    credentials::measure(&runtime, &server, &data, &api_key);
    drop(server);
    std::fs::remove_dir_all(&data).expect("it is removed");
    let _ = std::fs::remove_file(dir.path().join("data.key"));
    features::measure(&runtime, dir.path());

    let events = setting("BENCH_EVENTS", 10_000_000);
    server = serve(&data);
    create_project(&data);
    let loaded = runtime.block_on(load(server.port, 2000, Stop::Events(events), "/import?strict=1"));
    println!("\n{events} events of {USERS} users over {DAYS} days by /import: {:.0} events/s", loaded.events_per_second());
    // Stopping seals what is left.
    most = server.rss_mib();
    server.stop();
    let bytes = size(&data.join("segments"));
    println!("on disk: {:.1} bytes per event; {most:.0} MiB at the end of the load", bytes as f64 / events as f64);
    let since = Instant::now();
    server = serve(&data);
    println!("start with {events} events: {:.2} s until it listens, {:.0} MiB", since.elapsed().as_secs_f64(), server.rss_mib());
    println!("\n{:<52} {:>9} {:>9}", "reports on it (median of 5)", "first s", "warm s");
    for (name, path) in reports() {
        let (first, warm) = server.time(&path);
        println!("{name:<52} {first:>9.3} {warm:>9.3}");
    }
    println!("memory after the reports: {:.0} MiB", server.rss_mib());
}

/// What is asked of the stored events.
fn reports() -> Vec<(&'static str, String)> {
    let day = |back: u64| model::profile::wall_time(model::Timestamp((now_seconds() - back * 86_400) as i64 * 1000))[..10].to_owned();
    let (from, to, week) = (day(DAYS), day(0), day(7));
    let country = wire::params::encode(r#"properties["country"]"#);
    let filter = wire::params::encode(r#"properties["plan"] == "pro" and properties["amount"] > 50"#);
    vec![
        ("one event by day and country", format!("/api/2.0/segmentation?event=Purchase&from_date={from}&to_date={to}&on={country}")),
        ("one event by day with a filter", format!("/api/2.0/segmentation?event=Purchase&from_date={from}&to_date={to}&where={filter}")),
        ("one event, uniques by day", format!("/api/2.0/segmentation?event=Purchase&type=unique&from_date={from}&to_date={to}")),
        (
            "five events, uniques by day",
            format!(
                "/api/2.0/events?event={}&type=unique&unit=day&from_date={from}&to_date={to}",
                wire::params::encode(r#"["Page View","Search","Add to Cart","Purchase","Sign Up"]"#)
            ),
        ),
        ("all event names by volume", format!("/api/2.0/events/names?type=general&from_date={from}&to_date={to}")),
        (
            "sum of a number by day",
            format!(
                "/api/2.0/segmentation/sum?event=Purchase&from_date={from}&to_date={to}&on={}",
                wire::params::encode(r#"properties["amount"]"#)
            ),
        ),
        ("export of one event, seven days", format!("/api/2.0/export?from_date={week}&to_date={to}&event=%5B%22Purchase%22%5D")),
    ]
}

async fn bare() {
    let answer = |_: Bytes| async { "1" };
    let router = Router::new().route("/track", any(answer)).layer(axum::extract::DefaultBodyLimit::disable());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("listening on http://{}", listener.local_addr().expect("an address"));
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let service = hyper_util::service::TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            hyper::server::conn::http1::Builder::new().serve_connection(hyper_util::rt::TokioIo::new(stream), service).await
        });
    }
}

struct Process {
    child: Child,
    port: u16,
}

impl Process {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it was piped")).lines();
        let base = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
            .expect("it listens");
        std::thread::spawn(move || lines.for_each(drop));
        let port = base.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        Self { child, port }
    }

    fn rss_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        kib.unwrap_or(0.0) / 1024.0
    }

    /// Asks it to end, and waits.
    fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }

    /// Seconds of the first answer and the median of five more.
    fn time(&self, path: &str) -> (f64, f64) {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let once = || {
            let since = Instant::now();
            let (status, body) = e2e::get(&url, Some(&e2e::basic(SECRET, "")));
            assert_eq!(status, 200, "{body}");
            since.elapsed().as_secs_f64()
        };
        let first = once();
        let mut warm: Vec<f64> = (0..5).map(|_| once()).collect();
        warm.sort_by(f64::total_cmp);
        (first, warm[2])
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(data: &std::path::Path) -> Process {
    serve_with(&e2e::binary(), data)
}

fn serve_with(binary: &std::path::Path, data: &std::path::Path) -> Process {
    Process::start(Command::new(binary).args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data))
}

/// Returns the API key.
fn create_project(data: &std::path::Path) -> String {
    let commands = e2e::Commands::new(data.to_path_buf());
    commands.run(&["account", "create", "--email", OWNER, "--password-stdin"], "correct horse").expect("an account");
    let project = ["project", "create", "--owner", OWNER, "--name", "Bench", "--token", TOKEN, "--api-secret", SECRET];
    let made = commands.run(&project, "").expect("a project");
    e2e::field(&serde_json::from_str(&made).expect("JSON was asked for"), "api_key")
}

fn size(dir: &std::path::Path) -> u64 {
    std::fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| entry.metadata().ok()).map(|entry| entry.len()).sum()
}

#[derive(Clone, Copy)]
enum Stop {
    After(Duration),
    Events(u64),
    /// When the task is dropped.
    Never,
}

struct Loaded {
    events: u64,
    took: Duration,
    /// Milliseconds, ascending.
    latencies: Vec<f64>,
}

impl Loaded {
    fn events_per_second(&self) -> f64 {
        self.events as f64 / self.took.as_secs_f64()
    }

    fn percentile(&self, part: f64) -> f64 {
        self.latencies.get((self.latencies.len() as f64 * part) as usize).copied().unwrap_or_default()
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn now_seconds() -> u64 {
    jiff::Timestamp::now().as_second() as u64
}

/// A random number of a number.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The events from `first` on, as a JSON list.
fn body(first: u64, count: u64, history: bool) -> String {
    const EVENTS: [&str; 8] = ["Page View", "Page View", "Page View", "Search", "Search", "Add to Cart", "Purchase", "Sign Up"];
    const COUNTRIES: [&str; 10] = ["US", "DE", "FR", "GB", "IN", "BR", "JP", "ES", "NL", "PL"];
    let now = now_seconds();
    let mut text = String::with_capacity(count as usize * 330);
    text.push('[');
    for number in first..first + count {
        let random = mixed(number);
        let time = if history { now - random % (DAYS * 86_400) } else { now };
        if number > first {
            text.push(',');
        }
        text.push_str(&format!(
            r#"{{"event":"{}","properties":{{"token":"{TOKEN}","time":{time},"distinct_id":"user-{:06}","$insert_id":"{number:012}","country":"{}","plan":"{}","$os":"{}","$browser":"Chrome","amount":{}.5,"items":{},"page":"/p/{}"}}}}"#,
            EVENTS[(random >> 8) as usize % 8],
            mixed(random) % USERS,
            COUNTRIES[(random >> 16) as usize % 10],
            ["free", "pro"][(random >> 24) as usize % 2],
            ["Linux", "Mac OS X", "Windows", "Android"][(random >> 28) as usize % 4],
            (random >> 32) % 100,
            (random >> 40) % 9,
            (random >> 44) % 300,
        ));
    }
    text.push(']');
    text
}

/// Sends events from many connections.
async fn load(port: u16, per_request: u64, stop: Stop, path: &'static str) -> Loaded {
    let next = Arc::new(AtomicU64::new(mixed(now_seconds()) % 1_000_000 * 100_000));
    let first = next.load(Ordering::Relaxed);
    let authorization = e2e::basic(SECRET, "");
    let request = move || {
        let number = next.fetch_add(per_request, Ordering::Relaxed);
        if matches!(stop, Stop::Events(most) if number - first >= most) {
            return None;
        }
        let body = body(number, per_request, matches!(stop, Stop::Events(_)));
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nAuthorization: {authorization}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        Some((head + &body, per_request))
    };
    ask(port, stop, "HTTP/1.1 200 ", request).await
}

/// Sends from many connections, one request after the other on each. `request` makes a request and says how many events it carries.
async fn ask(
    port: u16,
    stop: Stop,
    expected: &'static str,
    request: impl Fn() -> Option<(String, u64)> + Clone + Send + 'static,
) -> Loaded {
    let over = Arc::new(AtomicBool::new(false));
    let since = Instant::now();
    // Dropped, it ends them all.
    let mut connections: JoinSet<_> = (0..setting("BENCH_CONNECTIONS", 64))
        .map(|_| {
            let (request, over) = (request.clone(), over.clone());
            async move {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
                stream.set_nodelay(true).expect("an option");
                let (mut latencies, mut events, mut answer) = (Vec::new(), 0, vec![0; 4096]);
                while !over.load(Ordering::Relaxed) {
                    let Some((bytes, carried)) = request() else { break };
                    let sent = Instant::now();
                    stream.write_all(bytes.as_bytes()).await.expect("it takes it");
                    let read = stream.read(&mut answer).await.expect("it answers");
                    assert!(answer[..read].starts_with(expected.as_bytes()), "{}", String::from_utf8_lossy(&answer[..read]));
                    latencies.push(sent.elapsed().as_secs_f64() * 1000.0);
                    events += carried;
                }
                (latencies, events)
            }
        })
        .collect();
    if let Stop::After(duration) = stop {
        tokio::time::sleep(duration).await;
        over.store(true, Ordering::Relaxed);
    }
    let (mut latencies, mut events) = (Vec::new(), 0);
    while let Some(connection) = connections.join_next().await {
        let (more, sent) = connection.expect("a connection");
        latencies.extend(more);
        events += sent;
    }
    latencies.sort_by(f64::total_cmp);
    Loaded { events, took: since.elapsed(), latencies }
}
