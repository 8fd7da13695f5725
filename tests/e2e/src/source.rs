//! A server that plays the original's export and profiles: packed with gzip, slow, over its limits, breaking off in the middle.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

/// What goes wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// 429, perhaps with seconds to wait.
    TooMany(Option<u64>),
    /// 500.
    Failing,
    /// 200, whose last line says that it broke off.
    TerminatedEarly,
    /// 200, and the connection ends before the answer does.
    CutOff,
    /// 200, and the last line ends in its middle.
    HalfLine,
}

/// What the source holds and what happened.
#[derive(Default)]
pub struct State {
    /// Lines of the raw export by day, as the source gives them.
    pub days: BTreeMap<String, Vec<String>>,
    /// Profiles: id, and properties as JSON.
    pub profiles: Vec<(String, String)>,
    /// What goes wrong with the next requests for events.
    pub troubles: VecDeque<Trouble>,
    /// How long an answer to a request for events takes to begin.
    pub delay: Duration,
    /// When each request came, and what for.
    pub requests: Vec<(Instant, String)>,
}

/// A running source.
pub struct Source {
    /// `http://127.0.0.1:PORT`
    pub base: String,
    state: Arc<Mutex<State>>,
}

/// The secret that it answers to.
pub const SECRET: &str = "secret-of-the-source-0123456789";
const PAGE_ROWS: usize = 1000;

impl Source {
    /// Starts a source that holds this.
    pub fn start(state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { base, state }
    }

    /// What it holds, to look at or to change.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_exact(&mut byte).is_err() {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}="))).map(str::to_owned);
    let expected = format!("authorization: {}", crate::basic(SECRET, "")).to_lowercase();
    let may = head.lines().any(|line| line.to_lowercase() == expected);
    state.lock().unwrap_or_else(PoisonError::into_inner).requests.push((Instant::now(), target.clone()));
    if !may {
        return plain(&mut stream, "401 Unauthorized", "", r#"{"request": "x", "error": "Unauthorized, invalid project secret."}"#);
    }
    match path {
        "/api/2.0/export" => events(&mut stream, state, &parameter("from_date"), &parameter("to_date")),
        "/api/2.0/engage" => profiles(&mut stream, state, parameter("page"), parameter("session_id")),
        _ => plain(&mut stream, "404 Not Found", "", "{}"),
    }
}

fn plain(stream: &mut TcpStream, status: &str, headers: &str, body: &str) {
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}connection: close\r\n\r\n{body}", body.len());
    let _ = stream.write_all(text.as_bytes());
}

fn events(stream: &mut TcpStream, state: &Mutex<State>, from: &Option<String>, to: &Option<String>) {
    let (Some(from), Some(to)) = (from, to) else { return plain(stream, "400 Bad Request", "", r#"{"error":"dates, please"}"#) };
    let (mut text, trouble, delay) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<String> = state.days.range(from.clone()..=to.clone()).flat_map(|(_, lines)| lines.clone()).collect();
        (lines.iter().map(|line| format!("{line}\n")).collect::<String>(), state.troubles.pop_front(), state.delay)
    };
    std::thread::sleep(delay);
    match trouble {
        Some(Trouble::TooMany(wait)) => {
            let headers = wait.map(|seconds| format!("retry-after: {seconds}\r\n")).unwrap_or_default();
            return plain(
                stream,
                "429 Too Many Requests",
                &headers,
                r#"{"error": "too many export requests in progress for this project"}"#,
            );
        }
        Some(Trouble::Failing) => return plain(stream, "500 Internal Server Error", "", r#"{"error": "An unknown error occurred."}"#),
        Some(Trouble::TerminatedEarly) => {
            let half = text.lines().take(text.lines().count() / 2).map(|line| format!("{line}\n")).collect::<String>();
            text = half + "terminated early\n";
        }
        Some(Trouble::HalfLine) => text.truncate(text.len().saturating_sub(9)),
        Some(Trouble::CutOff) | None => {}
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(text.as_bytes()).expect("memory takes it");
    let packed = packed.finish().expect("memory takes it");
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        packed.len()
    );
    let _ = stream.write_all(head.as_bytes());
    let end = if trouble == Some(Trouble::CutOff) { packed.len() / 2 } else { packed.len() };
    let _ = stream.write_all(&packed[..end]);
}

fn profiles(stream: &mut TcpStream, state: &Mutex<State>, page: Option<String>, session: Option<String>) {
    let page: usize = page.and_then(|page| page.parse().ok()).unwrap_or(0);
    if page > 0 && session.as_deref() != Some("1700000000000-00") {
        return plain(stream, "400 Bad Request", "", r#"{"error": "session_id is required"}"#);
    }
    let state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let rows = state.profiles.iter().skip(page * PAGE_ROWS).take(PAGE_ROWS);
    let rows: Vec<String> = rows.map(|(id, properties)| format!(r#"{{"$distinct_id": "{id}", "$properties": {properties}}}"#)).collect();
    let body = format!(
        r#"{{"results": [{}], "page": {page}, "session_id": "1700000000000-00", "page_size": {PAGE_ROWS}, "total": {}, "status": "ok"}}"#,
        rows.join(", "),
        state.profiles.len()
    );
    plain(stream, "200 OK", "content-type: application/json\r\n", &body);
}
