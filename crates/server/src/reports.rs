//! The read endpoints. Each takes its access as an argument: without the proof there is nothing to call it with.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use model::AccessRight;
use query::QueryError;
use wire::dates::Calendar;
use wire::{export as export_wire, segmentation as wire_segmentation};

use crate::app::App;
use crate::auth::{ReadAccess, error};
use crate::clock;

const ENGAGE_PARAMETERS: &[&str] = &["where", "page", "page_size", "session_id"];
const PAGE_SIZE: usize = 1000;

/// The parameters and the right of an endpoint, by the end of its path.
pub(crate) fn knows(path: &str) -> (&'static [&'static str], AccessRight) {
    match path.trim_end_matches('/').rsplit('/').next().unwrap_or_default() {
        "export" => (export_wire::PARAMETERS, AccessRight::Export),
        "engage" => (ENGAGE_PARAMETERS, AccessRight::ProfilesRead),
        "events" | "names" => (wire_segmentation::EVENTS_PARAMETERS, AccessRight::Query),
        _ => (wire_segmentation::PARAMETERS, AccessRight::Query),
    }
}

fn calendar(access: &ReadAccess) -> Calendar {
    Calendar::new(&access.project.timezone, clock::now())
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
    let fits =
        |name: &&str| (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.$".contains(&byte));
    match name.filter(fits) {
        Some(name) => {
            ([(header::CONTENT_TYPE, "text/javascript"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")], format!("/**/{name}({body});"))
                .into_response()
        }
        None => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
    }
}

fn series_answer(access: &ReadAccess, series: &model::report::Series, answered: &model::report::SeriesAnswer) -> Response {
    match access.params.filled("format") {
        Some("csv") => ([(header::CONTENT_TYPE, "text/csv")], wire_segmentation::render_csv(series, answered)).into_response(),
        None | Some("json") => answer(access, wire_segmentation::render(series, answered)),
        Some(other) => refused(access, &format!("invalid format `{other}`, expected json or csv")),
    }
}

/// Raw events, streamed. Mixpanel: GET /api/2.0/export.
pub async fn export(access: ReadAccess) -> Response {
    let report = match export_wire::parse(&access.params, &calendar(&access)) {
        Ok(report) => report,
        Err(text) => return refused(&access, &text),
    };
    let time_in_ms = report.time_in_ms;
    let mut batches = match access.app.engine.export(access.project.id, report) {
        Ok(batches) => batches,
        Err(cause) => return failed(&access, &cause),
    };
    let (lines, stream) = tokio::sync::mpsc::channel::<Result<String, std::convert::Infallible>>(4);
    tokio::spawn(async move {
        while let Some(batch) = batches.recv().await {
            let text = match batch {
                Ok(events) if access.is_live() => {
                    let mut text = String::new();
                    events.iter().for_each(|event| export_wire::line(event, time_in_ms, &mut text));
                    text
                }
                // The answer has begun: clients know a broken stream by its last line.
                _ => {
                    let _ = lines.send(Ok("export terminated early\n".to_owned())).await;
                    return;
                }
            };
            if lines.send(Ok(text)).await.is_err() {
                return;
            }
        }
    });
    let body = Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(stream));
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

/// Counts of several events. Mixpanel: GET /api/2.0/events.
pub async fn events(access: ReadAccess) -> Response {
    let report = match wire_segmentation::parse_events(&access.params, &calendar(&access)) {
        Ok(report) => report,
        Err(text) => return refused(&access, &text),
    };
    match access.app.engine.series(access.project.id, &report).await {
        Ok(answered) => series_answer(&access, &report, &answered),
        Err(cause) => failed(&access, &cause),
    }
}

/// Counts of one event. Mixpanel: GET /api/2.0/segmentation.
pub async fn segmentation(access: ReadAccess) -> Response {
    let report = match wire_segmentation::parse(&access.params, &calendar(&access)) {
        Ok(report) => report,
        Err(text) => return refused(&access, &text),
    };
    match access.app.engine.series(access.project.id, &report).await {
        Ok(answered) => series_answer(&access, &report, &answered),
        Err(cause) => failed(&access, &cause),
    }
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
        Ok(answered) => answer(access, wire_segmentation::render_aggregate(&report, &answered)),
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

/// User profiles by id, a page at a time. Mixpanel: GET /api/2.0/engage.
pub async fn engage(access: ReadAccess) -> Response {
    let number = |name: &str, default: usize| match access.params.filled(name) {
        None => Ok(default),
        Some(text) => text.parse::<usize>().map_err(|_| format!("invalid {name} `{text}`, expected a number")),
    };
    let parsed = wire_segmentation::filter(&access.params)
        .and_then(|filter| Ok((filter, number("page", 0)?, number("page_size", PAGE_SIZE)?.clamp(1, 10_000))));
    let (filter, page, page_size) = match parsed {
        Ok(parsed) => parsed,
        Err(text) => return refused(&access, &text),
    };
    let session = access.params.filled("session_id").map(str::to_owned);
    if page > 0 && session.is_none() {
        return refused(&access, "session_id is required for pages beyond the first");
    }
    let profiles = match access.app.engine.profiles(access.project.id, filter).await {
        Ok(profiles) => profiles,
        Err(cause) => return failed(&access, &cause),
    };
    let now = clock::now();
    let session = session.unwrap_or_else(|| {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes).expect("the operating system has randomness");
        format!("{}-{}", now.0, bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    });
    answer(&access, wire::export::profiles(&profiles, page, page_size, &session, now))
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
        ("sluice_unknown_token_records_total", unknown),
        ("sluice_tail_rows", stats.tail_rows),
        ("sluice_segments", stats.segments),
        ("sluice_segment_rows", stats.segment_rows),
        ("sluice_segment_bytes", stats.segment_bytes),
        ("sluice_seal_failed", u64::from(app.store.seal_failed())),
    ];
    let text: String = figures.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
