//! The read endpoints. Each takes its access as an argument: without the proof there is nothing to call it with.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use metastore::WeekStart;
use query::QueryError;
use wire::dates::Calendar;
use wire::{export as export_wire, segmentation as wire_segmentation};

use crate::app::App;
use crate::auth::{ReadAccess, error};
use crate::clock;
use crate::compress::{self, Gzip};

/// A reader that takes nothing for so long is given up.
const STALL_MAX: Duration = Duration::from_secs(300);

fn calendar(access: &ReadAccess) -> Calendar {
    let calendar = Calendar::new(&access.project.timezone, clock::now());
    match access.project.week_start {
        WeekStart::Monday => calendar,
        WeekStart::Sunday => calendar.with_sunday_weeks(),
    }
}

fn refused(access: &ReadAccess, text: &str) -> Response {
    error(400, &access.request, text)
}

fn failed(access: &ReadAccess, cause: &QueryError) -> Response {
    match cause {
        QueryError::BadRequest(text) => refused(access, text),
        QueryError::UnknownSession => refused(access, &cause.to_string()),
        _ => {
            tracing::error!(%cause, project.id = %access.project.id, "a report failed");
            error(500, &access.request, "An unknown error occurred.")
        }
    }
}

/// JSON, or for a signed request with `callback` a call of that function.
fn answer(access: &ReadAccess, body: String) -> Response {
    let name = access.params.get("callback").filter(|_| access.params.get("sig").is_some());
    let fits = |name: &&str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_.$".contains(&byte);
        (1..=64).contains(&name.len()) && name.bytes().all(known)
    };
    match name {
        Some(name) if !fits(&name) => refused(access, "invalid callback, expected a name of letters, digits, `_`, `.` and `$`"),
        Some(name) => {
            let mut response = packed(access, "text/javascript", format!("/**/{name}({body});"));
            response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            response
        }
        None => packed(access, "application/json", body),
    }
}

/// An answer that is whole, as gzip where that is asked for and pays.
fn packed(access: &ReadAccess, content_type: &'static str, body: String) -> Response {
    // A reset is effective with its answer, for what runs too.
    if !access.is_live() {
        return access.ended();
    }
    let mut response = if !access.gzip || body.len() <= compress::PLAIN_BYTES_MAX {
        ([(header::CONTENT_TYPE, content_type)], body).into_response()
    } else {
        let mut gzip = Gzip::new();
        let mut bytes = gzip.push(body.as_bytes());
        bytes.extend(gzip.finish());
        let headers = [(header::CONTENT_TYPE, content_type), (header::CONTENT_ENCODING, "gzip"), (header::VARY, "Accept-Encoding")];
        (headers, bytes).into_response()
    };
    access.tell(response.headers_mut());
    response
}

fn series_answer(access: &ReadAccess, series: &model::report::Series, answered: &model::report::SeriesAnswer) -> Response {
    match access.params.filled("format") {
        Some("csv") => packed(access, "text/csv", wire_segmentation::render_csv(series, answered)),
        None | Some("json") => answer(access, wire_segmentation::render(series, answered)),
        Some(other) => refused(access, &format!("invalid format `{other}`, expected json or csv")),
    }
}

/// The text of an export as it is made; ends with the line that clients know a broken stream by, if it breaks.
struct ExportText {
    pieces: tokio::sync::mpsc::Receiver<Result<String, QueryError>>,
    access: ReadAccess,
    ended: bool,
}

impl ExportText {
    /// The next lines; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        if self.ended {
            return None;
        }
        match self.pieces.recv().await? {
            // A reset ends what is running.
            Ok(text) if self.access.is_live() => Some(text),
            outcome => {
                if let Err(cause) = outcome {
                    tracing::error!(%cause, project.id = %self.access.project.id, "an export broke");
                }
                self.ended = true;
                Some("export terminated early\n".to_owned())
            }
        }
    }
}

/// Notes in the audit log that events leave the project. A log that cannot be written keeps nobody from the data that is theirs.
async fn note_export(access: &ReadAccess, report: &model::report::Export) {
    let (app, project) = (access.app.clone(), access.project.id);
    let (actor, address) = (access.actor.clone(), access.address.to_string());
    let day = |at: model::Timestamp| model::profile::wall_time(at)[..10].to_owned();
    let detail = format!("{} to {}", day(report.range.from()), day(report.range.to().plus_ms(-1)));
    let noted = tokio::task::spawn_blocking(move || app.metastore.note_export(&actor, &address, clock::now(), project, &detail));
    if let Ok(Err(error)) = noted.await {
        tracing::warn!(%error, "an export was not noted in the audit log");
    }
}

/// Raw events, streamed. Mixpanel: GET /api/2.0/export.
pub async fn export(access: ReadAccess) -> Response {
    let report = match export_wire::parse(&access.params, &calendar(&access)) {
        Ok(report) => report,
        Err(text) => return refused(&access, &text),
    };
    note_export(&access, &report).await;
    let time_in_ms = report.time_in_ms;
    let line = move |event: &model::EventRef<'_>, out: &mut String| export_wire::line(event, time_in_ms, out);
    let pieces = match access.app.engine.export(access.project.id, report, line) {
        Ok(pieces) => pieces,
        Err(cause) => return failed(&access, &cause),
    };
    let asked_gzip = access.gzip;
    let mut said = HeaderMap::new();
    access.tell(&mut said);
    let mut text = ExportText { pieces, access, ended: false };
    // A short answer is never compressed: it is known before the headers go out.
    let mut head = String::new();
    while head.len() <= compress::PLAIN_BYTES_MAX {
        match text.next().await {
            Some(lines) => head.push_str(&lines),
            None => return (said, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], head).into_response(),
        }
    }
    // One piece waits at most: what was handed over is not stopped by a reset any more.
    let (pieces, stream) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::convert::Infallible>>(1);
    tokio::spawn(async move {
        let mut gzip = asked_gzip.then(Gzip::new);
        let mut next = Some(head);
        while let Some(lines) = next {
            let piece = match &mut gzip {
                Some(gzip) => gzip.push(lines.as_bytes()),
                None => lines.into_bytes(),
            };
            if !piece.is_empty() && pieces.send_timeout(Ok(piece), STALL_MAX).await.is_err() {
                return;
            }
            next = text.next().await;
        }
        if let Some(gzip) = gzip {
            let _ = pieces.send_timeout(Ok(gzip.finish()), STALL_MAX).await;
        }
    });
    let body = Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(stream));
    let mut response = (said, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response();
    if asked_gzip {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    response
}

/// Counts of several events. Mixpanel: GET /api/2.0/events.
pub async fn events(access: ReadAccess) -> Response {
    series(&access, wire_segmentation::parse_events(&access.params, &calendar(&access))).await
}

/// Counts of one event. Mixpanel: GET /api/2.0/segmentation.
pub async fn segmentation(access: ReadAccess) -> Response {
    series(&access, wire_segmentation::parse(&access.params, &calendar(&access))).await
}

/// Counts of one event by ranges of a number. Mixpanel: GET /api/2.0/segmentation/numeric.
pub async fn numeric(access: ReadAccess) -> Response {
    series(&access, wire_segmentation::parse_numeric(&access.params, &calendar(&access))).await
}

/// Counts of one event by a property. Mixpanel: GET /api/2.0/events/properties.
pub async fn properties(access: ReadAccess) -> Response {
    series(&access, wire::properties::parse(&access.params, &calendar(&access))).await
}

async fn series(access: &ReadAccess, parsed: Result<model::report::Series, String>) -> Response {
    let report = match parsed {
        Ok(report) => report,
        Err(text) => return refused(access, &text),
    };
    match access.app.engine.series(access.project.id, &report).await {
        Ok(answered) => series_answer(access, &report, &answered),
        Err(cause) => failed(access, &cause),
    }
}

/// Today beside yesterday. Mixpanel: GET /api/2.0/events/top.
pub async fn top_events(access: ReadAccess) -> Response {
    let report = match wire::top_events::parse(&access.params, &calendar(&access)) {
        Ok(report) => report,
        Err(text) => return refused(&access, &text),
    };
    match access.app.engine.top_events(access.project.id, &report).await {
        Ok(answered) => answer(&access, wire::top_events::render(&report, &answered)),
        Err(cause) => failed(&access, &cause),
    }
}

/// Properties by how many events carry them. Mixpanel: GET /api/2.0/events/properties/top.
pub async fn top_properties(access: ReadAccess) -> Response {
    let report = match wire::properties::parse_top(&access.params, &calendar(&access)) {
        Ok(report) => report,
        Err(text) => return refused(&access, &text),
    };
    match access.app.engine.top_properties(access.project.id, &report).await {
        Ok(answered) => answer(&access, wire::properties::render_top(&answered)),
        Err(cause) => failed(&access, &cause),
    }
}

/// Values of a property by volume. Mixpanel: GET /api/2.0/events/properties/values.
pub async fn property_values(access: ReadAccess) -> Response {
    let report = match wire::properties::parse_values(&access.params, &calendar(&access)) {
        Ok(report) => report,
        Err(text) => return refused(&access, &text),
    };
    match access.app.engine.property_values(access.project.id, &report).await {
        Ok(answered) => answer(&access, wire_segmentation::render_names(&answered)),
        Err(cause) => failed(&access, &cause),
    }
}

/// An endpoint that there is not, for whoever may read at all.
pub async fn unknown(access: ReadAccess) -> Response {
    refused(&access, "Invalid API endpoint")
}

/// Sums. Mixpanel: GET /api/2.0/segmentation/sum.
pub async fn sum(access: ReadAccess) -> Response {
    aggregate(&access, false).await
}

/// Averages. Mixpanel: GET /api/2.0/segmentation/average.
pub async fn average(access: ReadAccess) -> Response {
    aggregate(&access, true).await
}

async fn aggregate(access: &ReadAccess, average: bool) -> Response {
    let report = match wire_segmentation::parse_aggregate(&access.params, &calendar(access), average) {
        Ok(report) => report,
        Err(text) => return refused(access, &text),
    };
    match access.app.engine.aggregate(access.project.id, &report).await {
        Ok(answered) => answer(access, wire_segmentation::render_aggregate(&report, &answered, clock::now())),
        Err(cause) => failed(access, &cause),
    }
}

/// Event names by volume. Mixpanel: GET /api/2.0/events/names.
pub async fn event_names(access: ReadAccess) -> Response {
    let report = match wire_segmentation::parse_names(&access.params, &calendar(&access)) {
        Ok(report) => report,
        Err(text) => return refused(&access, &text),
    };
    match access.app.engine.event_names(access.project.id, &report).await {
        Ok(answered) => answer(&access, wire_segmentation::render_names(&answered)),
        Err(cause) => failed(&access, &cause),
    }
}

/// The group key of a `data_group_id`; a key that was not declared is its own.
async fn group_key(access: &ReadAccess, asked: String) -> String {
    let (app, project) = (access.app.clone(), access.project.id);
    let known = tokio::task::spawn_blocking(move || app.metastore.group_keys(project)).await;
    let known = known.ok().and_then(Result::ok).unwrap_or_default();
    known.into_iter().find(|key| key.data_group_id.to_string() == asked).map_or(asked, |key| key.key)
}

/// User profiles, a page at a time. Mixpanel: GET /api/2.0/engage.
pub async fn engage(access: ReadAccess) -> Response {
    let mut report = match wire::profiles::parse(&access.params) {
        Ok(report) => report,
        Err(text) => return refused(&access, &text),
    };
    if let Some(asked) = report.group_key.take() {
        report.group_key = Some(group_key(&access, asked).await);
    }
    let now = clock::now();
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    let session = format!("{}-{}", now.0, bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    match access.app.engine.profiles(access.project.id, &report, session, now).await {
        Ok(answered) => answer(&access, wire::profiles::render(&answered)),
        Err(cause) => failed(&access, &cause),
    }
}

/// Whether events are taken.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Response {
    if app.store.log_failed() {
        return (axum::http::StatusCode::SERVICE_UNAVAILABLE, "the log cannot be written: see the server's log, and restart it\n")
            .into_response();
    }
    "ok".into_response()
}

/// Prometheus text.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let stats = app.store.stats();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let unknown: u64 = app.counts.unknown_tokens.lock().unwrap_or_else(std::sync::PoisonError::into_inner).values().sum();
    let figures = [
        ("sluice_write_requests_total", count(&app.counts.requests)),
        ("sluice_events_accepted_total", count(&app.counts.events)),
        ("sluice_profile_updates_accepted_total", count(&app.counts.updates)),
        ("sluice_records_rejected_total", count(&app.counts.rejected)),
        ("sluice_leaked_secret_records_total", count(&app.counts.leaked_secrets)),
        ("sluice_unknown_token_records_total", unknown),
        ("sluice_overflow_names_total", app.names.spilled()),
        ("sluice_tail_rows", stats.tail_rows),
        ("sluice_segments", stats.segments),
        ("sluice_segment_rows", stats.segment_rows),
        ("sluice_segment_bytes", stats.segment_bytes),
        ("sluice_identity_links", stats.identity_links),
        ("sluice_seal_failed", u64::from(app.store.seal_failed())),
        ("sluice_log_failed", u64::from(app.store.log_failed())),
    ];
    let mut text: String = figures.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
    text.push_str(&app.recordings.metrics());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
