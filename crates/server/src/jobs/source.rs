//! The server that an import pulls from: its limits are kept before they are hit, its refusals understood, and an answer that broke off is
//! never taken for a whole one (`contract/read.md` 3.2, 3.4, 3.9).

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use base64::Engine;
use metastore::Secret;

use crate::jobs::asked::Pull;
use crate::jobs::{Running, Stop};
use crate::routes;

/// An answer that pauses so long is given up.
const IDLE_MAX: Duration = Duration::from_secs(600);
/// No answer takes longer than this.
const ANSWER_MAX: Duration = Duration::from_secs(6 * 3600);
/// The first wait after a failure; each further one is twice as long.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// Failures in a row after which an import ends; being told to wait is none.
const FAILURES_MAX: u32 = 8;
const WAITS_MAX: u32 = 200;
/// What is shown of a refusal.
const SHOWN_CHARS_MAX: usize = 300;

/// Why an answer is not there.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The source asks to wait, perhaps so long.
    Wait(Option<Duration>),
    /// It broke off, or could not be reached: another try may help.
    Broken(String),
    /// Another try would be answered the same.
    Refused(String),
    Stop(Stop),
}

impl From<Stop> for Fault {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Stop(error.into())
    }
}

/// What arrives of an answer.
enum Piece {
    Data(Vec<u8>),
    End,
    Fault(Fault),
}

/// Keeps a number of requests in a time.
struct Pace {
    max: usize,
    time: Duration,
    sent: VecDeque<Instant>,
}

impl Pace {
    fn new(max: u32, time: Duration) -> Self {
        Self { max: max as usize, time, sent: VecDeque::new() }
    }

    /// How long the next request has to wait.
    fn wait(&mut self, now: Instant) -> Duration {
        while self.sent.front().is_some_and(|at| now.duration_since(*at) >= self.time) {
            self.sent.pop_front();
        }
        if self.sent.len() < self.max {
            return Duration::ZERO;
        }
        self.sent.front().map_or(Duration::ZERO, |at| self.time.saturating_sub(now.duration_since(*at)))
    }
}

/// A server that is pulled from.
pub(crate) struct Source<'a> {
    running: &'a Running,
    agent: ureq::Agent,
    authorization: Secret,
    project_id: Option<i64>,
    events_from: String,
    profiles_from: String,
    hour: Pace,
    second: Pace,
}

impl<'a> Source<'a> {
    pub(crate) fn new(running: &'a Running, pull: &Pull, secret: &Secret) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_global(Some(ANSWER_MAX))
            // A credential goes to the address that was named, and nowhere that it leads to.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")));
        let user = pull.service_account.as_deref();
        let pair = user.map_or_else(|| format!("{}:", secret.expose()), |user| format!("{user}:{}", secret.expose()));
        Self {
            running,
            agent: config.build().into(),
            authorization: Secret::new(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))),
            project_id: pull.source_project_id,
            events_from: pull.events_from.clone(),
            profiles_from: pull.profiles_from.clone(),
            hour: Pace::new(pull.requests_per_hour_max, Duration::from_secs(3600)),
            second: Pace::new(pull.requests_per_second_max, Duration::from_secs(1)),
        }
    }

    /// Fetches raw events of some days, as the source sends them.
    pub(crate) fn events(&mut self, from: &str, to: &str, out: &mut impl Write) -> Result<(), Fault> {
        let url = format!("{}{}?from_date={from}&to_date={to}&time_in_ms=true", self.events_from, routes::EXPORT);
        self.get(&url, true, out)
    }

    /// Fetches a page of profiles; pages beyond the first are free.
    pub(crate) fn profiles(&mut self, group: Option<&str>, session: Option<(&str, u64)>) -> Result<String, Fault> {
        let mut url = format!("{}{}?page_size=1000", self.profiles_from, routes::PROFILES);
        if let Some(group) = group {
            url += &format!("&data_group_id={}", wire::params::encode(group));
        }
        if let Some((session, page)) = session {
            url += &format!("&session_id={}&page={page}", wire::params::encode(session));
        }
        let mut out = Vec::new();
        self.get(&url, session.is_none(), &mut out)?;
        if out.starts_with(&[0x1f, 0x8b]) {
            let mut text = Vec::new();
            let unpacked = flate2::read::MultiGzDecoder::new(out.as_slice()).read_to_end(&mut text);
            unpacked.map_err(|error| Fault::Broken(format!("a page broke off: {error}")))?;
            out = text;
        }
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    fn get(&mut self, url: &str, counts: bool, out: &mut impl Write) -> Result<(), Fault> {
        self.wait_for_turn(counts)?;
        let mut url = url.to_owned();
        if let Some(id) = self.project_id {
            url += &format!("&project_id={id}");
        }
        let request = self.agent.get(&url).header("accept-encoding", "gzip").header("authorization", self.authorization.expose());
        let (pieces, arriving) = sync_channel(4);
        // An answer may be long in coming; whoever cancels meanwhile does not wait for it.
        std::thread::spawn(move || {
            let fault = match request.call() {
                Ok(response) => receive(response, &pieces),
                Err(error) => Some(Fault::Broken(error.to_string())),
            };
            let _ = pieces.send(fault.map_or(Piece::End, Piece::Fault));
        });
        self.take(&arriving, out)
    }

    fn take(&self, arriving: &Receiver<Piece>, out: &mut impl Write) -> Result<(), Fault> {
        let mut heard = Instant::now();
        loop {
            match arriving.recv_timeout(Duration::from_millis(100)) {
                Ok(Piece::Data(bytes)) => {
                    heard = Instant::now();
                    self.running.progress().bytes += bytes.len() as u64;
                    out.write_all(&bytes)?;
                }
                Ok(Piece::End) => return Ok(()),
                Ok(Piece::Fault(fault)) => return Err(fault),
                Err(RecvTimeoutError::Disconnected) => return Err(Fault::Broken("the answer was lost".to_owned())),
                Err(RecvTimeoutError::Timeout) if heard.elapsed() > IDLE_MAX => {
                    return Err(Fault::Broken("the source sends nothing".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.running.check()?;
        }
    }

    fn wait_for_turn(&mut self, counts: bool) -> Result<(), Stop> {
        loop {
            let now = Instant::now();
            let wait = self.second.wait(now).max(if counts { self.hour.wait(now) } else { Duration::ZERO });
            if wait.is_zero() {
                self.second.sent.push_back(now);
                self.hour.sent.extend(counts.then_some(now));
                return Ok(());
            }
            let phase = {
                let mut progress = self.running.progress();
                progress.why = "for its turn: the source takes so many requests only".to_owned();
                std::mem::replace(&mut progress.phase, "waiting".to_owned())
            };
            self.running.pause(wait)?;
            let mut progress = self.running.progress();
            progress.why.clear();
            progress.phase = phase;
        }
    }

    /// Tries again until something comes, as long and as often as the source asks for. `attempt` hears how often it failed before.
    pub(crate) fn persist<T>(&mut self, mut attempt: impl FnMut(&mut Self, u32) -> Result<T, Fault>) -> Result<T, Stop> {
        let (mut failures, mut waits) = (0, 0);
        loop {
            let (wait, why) = match attempt(self, failures) {
                Ok(done) => return Ok(done),
                Err(Fault::Stop(stop)) => return Err(stop),
                Err(Fault::Refused(why)) => return Err(Stop::Failed(why)),
                Err(Fault::Wait(_)) if waits >= WAITS_MAX => return Err(Stop::Failed("the source asked to wait too often".to_owned())),
                Err(Fault::Wait(asked)) => {
                    waits += 1;
                    (asked.unwrap_or(Duration::ZERO).max(backoff(waits)), "the source asks to wait".to_owned())
                }
                Err(Fault::Broken(why)) if failures + 1 >= FAILURES_MAX => {
                    return Err(Stop::Failed(format!("the source failed {FAILURES_MAX} times: {why}")));
                }
                Err(Fault::Broken(why)) => {
                    failures += 1;
                    (backoff(failures), why)
                }
            };
            tracing::info!(job.id = self.running.id, "an import waits {} ms for its source: {why}", wait.as_millis());
            {
                let mut progress = self.running.progress();
                (progress.phase, progress.why) = ("waiting".to_owned(), why);
            }
            self.running.pause(wait)?;
            self.running.progress().why.clear();
        }
    }
}

fn backoff(tries: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(BACKOFF_MAX)
}

/// Hands an answer over as it arrives; the fault that it is, if it is one.
fn receive(mut response: ureq::http::Response<ureq::Body>, pieces: &std::sync::mpsc::SyncSender<Piece>) -> Option<Fault> {
    let status = response.status().as_u16();
    if status != 200 {
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let asked = header("retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        let text = response.body_mut().with_config().limit(64 * 1024).read_to_string().unwrap_or_default();
        return Some(fault(status, asked, &text));
    }
    let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
    loop {
        let mut bytes = vec![0; 64 * 1024];
        match body.read(&mut bytes) {
            Ok(0) => return None,
            Ok(read) => {
                bytes.truncate(read);
                if pieces.send(Piece::Data(bytes)).is_err() {
                    return None;
                }
            }
            Err(error) => return Some(Fault::Broken(format!("the answer broke off: {error}"))),
        }
    }
}

fn fault(status: u16, asked: Option<Duration>, text: &str) -> Fault {
    let said = serde_json::from_str::<serde_json::Value>(text).ok().and_then(|body| body["error"].as_str().map(str::to_owned));
    // The echo of a request is not ours to show.
    let said: String = said.unwrap_or_else(|| text.to_owned()).chars().filter(|char| !char.is_control()).take(SHOWN_CHARS_MAX).collect();
    match status {
        429 | 503 => Fault::Wait(asked),
        408 | 500.. => Fault::Broken(format!("it answered {status}: {said}")),
        _ => Fault::Refused(format!("the source answered {status}: {said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_lets_so_many_through_in_a_time() {
        let mut pace = Pace::new(2, Duration::from_secs(1));
        let start = Instant::now();
        for _ in 0..2 {
            assert_eq!(pace.wait(start), Duration::ZERO);
            pace.sent.push_back(start);
        }
        assert_eq!(pace.wait(start + Duration::from_millis(400)), Duration::from_millis(600));
        assert_eq!(pace.wait(start + Duration::from_secs(1)), Duration::ZERO);
    }

    #[test]
    fn waits_grow_up_to_a_bound() {
        assert_eq!([1, 2, 3].map(backoff).map(|wait| wait.as_millis()), [500, 1000, 2000]);
        assert_eq!(backoff(100), BACKOFF_MAX);
    }

    #[test]
    fn a_refusal_is_told_from_what_another_try_may_mend() {
        assert!(matches!(fault(429, Some(Duration::from_secs(7)), ""), Fault::Wait(Some(wait)) if wait.as_secs() == 7));
        assert!(matches!(fault(500, None, "x"), Fault::Broken(_)));
        let Fault::Refused(why) = fault(401, None, r#"{"error":"Invalid credentials"}"#) else { panic!("it is refused") };
        assert_eq!(why, "the source answered 401: Invalid credentials");
    }
}
