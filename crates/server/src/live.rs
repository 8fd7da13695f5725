//! Events as they come in, for whoever looks. Nobody looking costs ingest one atomic load. Each looker has a bounded buffer: a slow one is
//! skipped forward and told how many it missed, and no request waits for it. Counts are exact; what is shown is a sample.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use metastore::{Credential, CredentialTable};
use model::{AccessRight, Event, EventRef, ProjectId, Timestamp, Value, ValueRef};
use tokio::sync::{Notify, mpsc};
use wire::location::RECEIPT_PROPERTIES;

use crate::app::App;
use crate::clock;
use crate::notes::{self, Notes};

/// Whoever looks at once, at one project and at all.
const OF_PROJECT_MAX: usize = 20;
const OF_ALL_MAX: usize = 200;
/// Events that are shown to a looker in a second; the others are only counted.
const SHOWN_PER_SECOND: f64 = 50.0;
/// Lines that wait for a looker; older ones give way.
const WAITING_MAX: usize = 200;
/// How often a looker's right is asked for again, and its counts are told.
const CHECK_EVERY: Duration = Duration::from_millis(500);
/// How long a looker is left alone after it was told something.
const PAUSE: Duration = Duration::from_millis(50);
/// A stream on which nothing happens shows so often that it is alive.
const ALIVE_EVERY: Duration = Duration::from_secs(15);
/// A looker that takes nothing for so long is given up.
const STALL_MAX: Duration = Duration::from_secs(60);
/// A line is no longer than this; what is longer is only counted.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Which events somebody looks at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub event: Option<String>,
    pub distinct_id: Option<String>,
    /// Stands in the name of a property or in a value, in any case.
    pub text: Option<String>,
}

impl Filter {
    fn fits(&self, event: &Event) -> bool {
        let is = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is);
        // What receipt adds stands in every event, and nobody looks for it.
        let mut sent = event.properties.iter().filter(|(name, _)| !RECEIPT_PROPERTIES.contains(&name.as_str()));
        let mut holds = |text: &String| sent.any(|(name, value)| contains(name, text) || holds(value, text));
        is(&self.event, &event.name) && is(&self.distinct_id, &event.distinct_id) && self.text.as_ref().is_none_or(&mut holds)
    }

    /// Whether a record that was not stored as it was sent is looked at; by what can be shown of it.
    fn fits_record(&self, record: Option<&Value>) -> bool {
        let object = record.and_then(Value::as_object);
        let field = |name: &str| {
            let inside = object.and_then(|object| object.get("properties")).and_then(Value::as_object);
            object.and_then(|object| object.get(name)).or_else(|| inside.and_then(|inside| inside.get(name))).and_then(Value::as_str)
        };
        let is = |wanted: &Option<String>, is: Option<&str>| wanted.as_deref().is_none_or(|wanted| is == Some(wanted));
        is(&self.event, field("event"))
            && is(&self.distinct_id, field("distinct_id").or_else(|| field("$distinct_id")))
            && self.text.as_ref().is_none_or(|text| record.is_some_and(|record| holds(record, text)))
    }
}

fn contains(text: &str, part: &str) -> bool {
    // `part` is in lower case already.
    text.contains(part) || text.to_lowercase().contains(part)
}

fn holds(value: &Value, text: &str) -> bool {
    match value {
        Value::String(value) => contains(value, text),
        Value::Number(number) => number.text().contains(text),
        Value::Bool(flag) => text == if *flag { "true" } else { "false" },
        Value::List(items) => items.iter().any(|item| holds(item, text)),
        Value::Object(object) => object.iter().any(|(name, value)| contains(name, text) || holds(value, text)),
        Value::Null => false,
    }
}

/// Everybody who looks.
#[derive(Default)]
pub(crate) struct Live {
    looking: AtomicUsize,
    projects: Mutex<HashMap<ProjectId, Vec<Weak<Looker>>>>,
}

/// Somebody who looks.
struct Looker {
    filter: Filter,
    state: Mutex<State>,
    woken: Notify,
}

struct State {
    lines: VecDeque<Arc<str>>,
    /// Events that were accepted and fit, since the looker came.
    accepted: u64,
    /// Records of the project that were not stored as they were sent.
    rejected: u64,
    /// Of the accepted ones, those that were only counted.
    sampled_out: u64,
    /// Lines that gave way because the looker was slow.
    missed: u64,
    may_show: f64,
    at: Instant,
}

impl Looker {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether another line may be shown in this second.
    fn takes(&mut self) -> bool {
        let now = Instant::now();
        self.may_show = (self.may_show + now.duration_since(self.at).as_secs_f64() * SHOWN_PER_SECOND).min(SHOWN_PER_SECOND);
        self.at = now;
        let takes = self.may_show >= 1.0;
        self.may_show -= f64::from(u8::from(takes));
        takes
    }

    fn push(&mut self, line: Arc<str>) {
        if self.lines.len() >= WAITING_MAX {
            self.lines.pop_front();
            self.missed += 1;
        }
        self.lines.push_back(line);
    }
}

/// Events of a request that somebody looks at, until they are stored.
pub(crate) struct Offer(Vec<(Arc<Looker>, u64, Vec<Arc<str>>)>);

impl Live {
    /// Whether anybody looks at anything.
    fn is_watched(&self) -> bool {
        self.looking.load(Ordering::Relaxed) > 0
    }

    fn lookers(&self, project: ProjectId) -> Vec<Arc<Looker>> {
        let projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        projects.get(&project).into_iter().flatten().filter_map(Weak::upgrade).collect()
    }

    /// Prepares what lookers see of events that are about to be stored.
    pub(crate) fn offer(&self, project: ProjectId, events: &[Event]) -> Option<Offer> {
        if !self.is_watched() {
            return None;
        }
        let lookers = self.lookers(project);
        let mut lines: Vec<Option<Arc<str>>> = vec![None; events.len()];
        let offered = lookers.into_iter().map(|looker| {
            let (mut count, mut shown) = (0, Vec::new());
            for (at, event) in events.iter().enumerate().filter(|(_, event)| looker.filter.fits(event)) {
                count += 1;
                if looker.state().takes() {
                    let line = lines[at].get_or_insert_with(|| line_of(event).into());
                    shown.extend((line.len() <= LINE_BYTES_MAX).then(|| line.clone()));
                }
            }
            (looker, count, shown)
        });
        Some(Offer(offered.filter(|(_, count, _)| *count > 0).collect())).filter(|offer| !offer.0.is_empty())
    }

    /// Tells lookers of records that were not stored as they were sent.
    pub(crate) fn note(&self, notes: &Notes, table: &CredentialTable, now: Timestamp) {
        if notes.is_empty() || !self.is_watched() {
            return;
        }
        for note in notes.iter() {
            for looker in self.lookers(note.project) {
                let mut state = looker.state();
                state.rejected += note.count;
                for (field, record) in note.samples.iter().filter(|(_, record)| looker.filter.fits_record(record.as_ref())) {
                    if state.takes() {
                        let record = record.as_ref().map(|record| notes::shown(table, record, now)).unwrap_or_default();
                        let (reason, outcome) = (note.reason.as_str(), note.reason.outcome().as_str());
                        let data = serde_json::json!({ "reason": reason, "outcome": outcome, "field": wire::error::cleared(field), "record": record });
                        state.push(format!("event: rejected\ndata: {data}\n\n").into());
                    }
                }
                looker.woken.notify_one();
            }
        }
    }

    fn add(&self, project: ProjectId, looker: &Arc<Looker>) -> Result<(), &'static str> {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        let of_project = projects.entry(project).or_default();
        of_project.retain(|looker| looker.strong_count() > 0);
        if of_project.len() >= OF_PROJECT_MAX || self.looking.load(Ordering::Relaxed) >= OF_ALL_MAX {
            return Err("many look at live events already: close another page, and try again");
        }
        of_project.push(Arc::downgrade(looker));
        self.looking.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Offer {
    /// Shows what was stored meanwhile.
    pub(crate) fn show(self) {
        for (looker, count, lines) in self.0 {
            let mut state = looker.state();
            state.accepted += count;
            state.sampled_out += count - lines.len() as u64;
            lines.into_iter().for_each(|line| state.push(line));
            drop(state);
            looker.woken.notify_one();
        }
    }
}

/// An event as `export` has it, as a message of the stream.
fn line_of(event: &Event) -> String {
    let each = |property: &mut model::event::Property<'_>| {
        event.properties.iter().for_each(|(name, value)| property(name, ValueRef::from(value)));
    };
    let (name, distinct_id, insert_id) = (&event.name, &event.distinct_id, &event.insert_id);
    // Who somebody is may turn out later: an id is shown as it came.
    let event = EventRef { name, distinct_id, distinct_id_before_identity: None, time: event.time, insert_id, properties: &each };
    let mut text = String::from("event: event\ndata: ");
    // A line of JSON has no line break inside.
    wire::export::line(&event, false, &mut text);
    text.push('\n');
    text
}

/// What lets somebody look on.
pub(crate) struct Right {
    pub credential: Credential,
    pub session: Option<i64>,
    pub project: ProjectId,
}

impl Right {
    fn is_live(&self, app: &App) -> bool {
        let now = clock::now();
        let session_lives = |id| app.metastore.is_live_session(id, now).unwrap_or(false);
        self.session.is_none_or(session_lives) && app.credentials().is_live(&self.credential, self.project, AccessRight::Export, now)
    }
}

/// Leaves when it is dropped.
struct Place(Arc<App>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.live.looking.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The stream of a project's events from now on; ends soon after the right to it does, and when the server stops.
pub(crate) fn stream(app: &Arc<App>, right: Right, filter: Filter) -> Result<Body, &'static str> {
    let filter = Filter { text: filter.text.map(|text| text.to_lowercase()), ..filter };
    let state = State {
        lines: VecDeque::new(),
        accepted: 0,
        rejected: 0,
        sampled_out: 0,
        missed: 0,
        may_show: SHOWN_PER_SECOND,
        at: Instant::now(),
    };
    let looker = Arc::new(Looker { filter, state: Mutex::new(state), woken: Notify::new() });
    app.live.add(right.project, &looker)?;
    let place = Place(app.clone());
    // One piece waits at most: what was handed over is not stopped any more.
    let (pieces, stream) = mpsc::channel::<Result<Bytes, Infallible>>(1);
    tokio::spawn(run(place, right, looker, pieces));
    Ok(Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(stream)))
}

async fn run(place: Place, right: Right, looker: Arc<Looker>, pieces: mpsc::Sender<Result<Bytes, Infallible>>) {
    let (app, right) = (place.0.clone(), Arc::new(right));
    let mut stopping = app.stopping.clone();
    let mut teller = Teller { looker, told: None, told_at: Instant::now() };
    let (mut checked, mut sent, mut waiting) = (Instant::now(), Instant::now(), None);
    loop {
        if checked.elapsed() >= CHECK_EVERY {
            let (asked, right) = (app.clone(), right.clone());
            if !matches!(tokio::task::spawn_blocking(move || right.is_live(&asked)).await, Ok(true)) {
                return;
            }
            checked = Instant::now();
        }
        waiting = waiting.or_else(|| teller.next());
        let looker = teller.looker.clone();
        let pauses = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = pieces.closed() => return,
            permit = pieces.reserve(), if waiting.is_some() => {
                let (Ok(permit), Some(piece)) = (permit, waiting.take()) else { return };
                permit.send(Ok(piece));
                sent = Instant::now();
                true
            }
            () = looker.woken.notified(), if waiting.is_none() => false,
            () = tokio::time::sleep(CHECK_EVERY) => {
                if waiting.is_some() && sent.elapsed() > STALL_MAX {
                    return;
                }
                false
            }
        };
        if pauses {
            // What comes together is shown together.
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Writes what a looker is told next.
struct Teller {
    looker: Arc<Looker>,
    told: Option<[u64; 4]>,
    told_at: Instant,
}

impl Teller {
    /// The lines that wait and the counts as they are now; nothing where all of it was told, or a sign of life after a while.
    fn next(&mut self) -> Option<Bytes> {
        let mut state = self.looker.state();
        let counts = [state.accepted, state.rejected, state.sampled_out, state.missed];
        let mut text = String::new();
        state.lines.drain(..).for_each(|line| text.push_str(&line));
        drop(state);
        if text.is_empty() && self.told == Some(counts) {
            if self.told_at.elapsed() < ALIVE_EVERY {
                return None;
            }
            text.push_str(": alive\n\n");
        } else {
            let [accepted, rejected, sampled_out, missed] = counts;
            let data = serde_json::json!({ "accepted": accepted, "rejected": rejected, "sampled_out": sampled_out, "missed": missed });
            text.push_str(&format!("event: count\ndata: {data}\n\n"));
        }
        (self.told, self.told_at) = (Some(counts), Instant::now());
        Some(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: ProjectId = ProjectId(1);

    fn event(name: &str, properties: &str) -> Event {
        Event {
            name: name.to_owned(),
            distinct_id: "u".to_owned(),
            time: Timestamp(1_000),
            insert_id: "i".to_owned(),
            received_at: Timestamp(0),
            authenticated: false,
            linking: None,
            properties: wire::json::parse(properties).unwrap().as_object().unwrap().clone(),
        }
    }

    fn looker(filter: Filter) -> Arc<Looker> {
        let (at, lines) = (Instant::now(), VecDeque::new());
        let state = State { lines, accepted: 0, rejected: 0, sampled_out: 0, missed: 0, may_show: SHOWN_PER_SECOND, at };
        Arc::new(Looker { filter, state: Mutex::new(state), woken: Notify::new() })
    }

    #[test]
    fn a_filter_looks_at_name_user_and_properties() {
        let fits =
            |filter: Filter| filter.fits(&event("Buy", r#"{"mp_processing_time_ms":77,"Plan":"Pro","deep":[{"x":12.5}],"ok":true}"#));
        let some = |text: &str| Some(text.to_owned());
        assert!(fits(Filter { event: some("Buy"), distinct_id: some("u"), text: some("pro") }));
        assert!(!fits(Filter { event: some("buy"), ..Filter::default() }) && !fits(Filter { distinct_id: some("v"), ..Filter::default() }));
        for (text, is_there) in [
            ("plan", true),
            ("12.5", true),
            ("x", true),
            ("true", true),
            ("basic", false),
            ("12.50", false),
            ("proc", false),
            ("77", false),
        ] {
            assert_eq!(fits(Filter { text: some(text), ..Filter::default() }), is_there, "{text}");
        }
    }

    #[test]
    fn counts_are_exact_and_a_slow_looker_is_skipped_forward() {
        let live = Live::default();
        assert!(live.offer(P, &[event("e", "{}")]).is_none(), "nobody looks");
        let all = looker(Filter::default());
        let some = looker(Filter { event: Some("a".to_owned()), ..Filter::default() });
        live.add(P, &all).unwrap();
        live.add(P, &some).unwrap();
        for _ in 0..20 {
            let offer = live.offer(P, &[event("a", "{}"), event("b", "{}")]);
            assert_eq!(all.state().accepted % 2, 0, "nothing is told before it is stored");
            offer.unwrap().show();
        }
        assert!(live.offer(ProjectId(2), &[event("a", "{}")]).is_none());
        assert_eq!((all.state().accepted, some.state().accepted), (40, 20));
        let waiting = |looker: &Looker| {
            let state = looker.state();
            (state.lines.len(), state.missed)
        };
        assert_eq!(waiting(&all), (40, 0));
        for _ in 0..300 {
            all.state().push("x".into());
        }
        assert_eq!(waiting(&all), (WAITING_MAX, 140));
        let mut teller = Teller { looker: all, told: None, told_at: Instant::now() };
        let told = String::from_utf8(teller.next().unwrap().to_vec()).unwrap();
        assert!(told.ends_with("event: count\ndata: {\"accepted\":40,\"rejected\":0,\"sampled_out\":0,\"missed\":140}\n\n"), "{told}");
        assert!(teller.next().is_none());
    }

    #[test]
    fn so_many_are_shown_in_a_second_and_the_others_counted() {
        let live = Live::default();
        let looker = looker(Filter::default());
        live.add(P, &looker).unwrap();
        let events: Vec<Event> = (0..2000).map(|_| event("a", r#"{"line":"a\nb"}"#)).collect();
        live.offer(P, &events).unwrap().show();
        let state = looker.state();
        let shown = state.lines.len() as u64;
        assert!((50..200).contains(&shown) && state.accepted == 2000 && state.sampled_out == 2000 - shown, "{shown}");
        let line = "event: event\ndata: {\"event\":\"a\",\"properties\":{\"time\":1,\"distinct_id\":\"u\",\"$insert_id\":\"i\",\"line\":\"a\\nb\"}}\n\n";
        assert_eq!(&*state.lines[0], line);
    }

    #[test]
    fn only_so_many_look_at_a_project() {
        let live = Live::default();
        let lookers: Vec<_> = (0..=OF_PROJECT_MAX).map(|_| looker(Filter::default())).collect();
        let taken = lookers.iter().filter(|looker| live.add(P, looker).is_ok()).count();
        assert_eq!(taken, OF_PROJECT_MAX);
        drop(lookers);
        assert!(live.add(P, &looker(Filter::default())).is_ok(), "those that left made room");
    }
}
