//! Every URL path.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use model::AccessRight;

use crate::app::App;
use crate::{ingest, reports, sdk, setup};
use wire::dialect::Endpoint;

/// The prefixes under which reports are read; the first is the canonical one.
const READ_PREFIXES: [&str; 2] = ["/api/2.0", "/api/query"];

/// The export's path, for messages.
pub(crate) const EXPORT: &str = "/api/2.0/export";
/// Where the first account is made.
pub(crate) const SETUP: &str = "/setup";
const HEALTH: &str = "/health";
const METRICS: &str = "/metrics";
/// Where events are sent, for messages.
pub(crate) const TRACK: &str = "/track";

/// The router of the public listener.
pub(crate) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new()
        .route(
            "/",
            any(|| async {
                format!("Sluice takes events at {TRACK} and answers reports below {}. First run: {SETUP}\n", READ_PREFIXES[0])
            }),
        )
        .route(HEALTH, any(reports::health))
        .route(METRICS, any(reports::metrics))
        .route(SETUP, any(setup::setup))
        .route("/flags", any(sdk::flags))
        .route("/flags/definitions", any(sdk::flag_definitions))
        .route("/flags/{flag}/first-time-events", any(sdk::first_time_events))
        .route("/settings", any(sdk::settings))
        .route("/decide", any(sdk::decide))
        .route("/record", any(sdk::record))
        .route(TRACK, any(|app, request| ingest::write(Endpoint::Track, app, request)))
        .route("/engage", any(|app, request| ingest::write(Endpoint::Engage, app, request)))
        .route("/groups", any(|app, request| ingest::write(Endpoint::Groups, app, request)))
        .route("/import", any(|app, request| ingest::write(Endpoint::Import, app, request)));
    for prefix in READ_PREFIXES {
        let reads = Router::new()
            .route("/export", any(reports::export))
            .route("/events", any(reports::events))
            .route("/events/top", any(reports::top_events))
            .route("/events/names", any(reports::event_names))
            .route("/events/properties", any(reports::properties))
            .route("/events/properties/top", any(reports::top_properties))
            .route("/events/properties/values", any(reports::property_values))
            .route("/segmentation", any(reports::segmentation))
            .route("/segmentation/numeric", any(reports::numeric))
            .route("/segmentation/sum", any(reports::sum))
            .route("/segmentation/average", any(reports::average))
            .route("/engage", any(reports::engage))
            .fallback(reports::unknown);
        router = router.nest(prefix, reads);
    }
    router.fallback(not_found).layer(middleware::from_fn(cors)).with_state(app)
}

async fn not_found(State(app): State<Arc<App>>, uri: Uri, request: Request) -> Response {
    ingest::drain(&app, request).await;
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "application/json")], wire::error::not_found(uri.path())).into_response()
}

/// The parameters and the right of a read endpoint.
pub(crate) fn knows(path: &str) -> (&'static [&'static str], AccessRight) {
    let name = READ_PREFIXES.iter().find_map(|prefix| path.strip_prefix(prefix)).unwrap_or_default();
    match name.trim_end_matches('/') {
        "/export" => (wire::export::PARAMETERS, AccessRight::Export),
        "/engage" => (wire::profiles::PARAMETERS, AccessRight::ProfilesRead),
        "/events" | "/events/top" | "/events/names" => (wire::segmentation::EVENTS_PARAMETERS, AccessRight::Query),
        "/events/properties" | "/events/properties/top" | "/events/properties/values" => (wire::properties::PARAMETERS, AccessRight::Query),
        _ => (wire::segmentation::PARAMETERS, AccessRight::Query),
    }
}

/// The path of an endpoint that there is, else `unknown`: what is counted and kept holds no words of a stranger.
pub(crate) fn counted(path: &str) -> &str {
    const READS: [&str; 12] = [
        "/export",
        "/engage",
        "/events",
        "/events/top",
        "/events/names",
        "/events/properties",
        "/events/properties/top",
        "/events/properties/values",
        "/segmentation",
        "/segmentation/numeric",
        "/segmentation/sum",
        "/segmentation/average",
    ];
    let is_read = READ_PREFIXES.iter().filter_map(|prefix| path.strip_prefix(prefix)).any(|name| READS.contains(&name));
    if is_read || ["/track", "/engage", "/groups", "/import"].contains(&path) { path } else { "unknown" }
}

/// Collapses doubled slashes and drops a trailing one: SDKs send both, and none follows a redirect of a POST.
pub(crate) fn normal(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if !path.contains("//") && (path.len() == 1 || !path.ends_with('/')) {
        return None;
    }
    let mut normal = String::with_capacity(path.len());
    for piece in path.split('/').filter(|piece| !piece.is_empty()) {
        normal.push('/');
        normal.push_str(piece);
    }
    if normal.is_empty() {
        normal.push('/');
    }
    if let Some(query) = uri.query() {
        normal.push('?');
        normal.push_str(query);
    }
    normal.parse().ok()
}

/// Every answer carries these headers: without them a browser reports no status, and its SDK drops the batch.
async fn cors(request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let asked = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let private = request.headers().contains_key("access-control-request-private-network");
    let preflight = request.method() == Method::OPTIONS;
    let path = request.uri().path();
    let is_read = READ_PREFIXES.iter().any(|prefix| path.starts_with(prefix));
    if ["/", HEALTH, METRICS, SETUP].contains(&path) {
        // Nothing here is for another site's page.
        return next.run(request).await;
    }
    let mut response = if preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    let headers = response.headers_mut();
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        // A browser that knows a secret by a Basic prompt must not read with it for whatever page asks.
        if !is_read {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, axum::http::HeaderValue::from_static("true"));
        }
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, axum::http::HeaderValue::from_static("Retry-After"));
        headers.append(header::VARY, axum::http::HeaderValue::from_static("Origin"));
    }
    if preflight {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, axum::http::HeaderValue::from_static("GET, POST, OPTIONS"));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, axum::http::HeaderValue::from_static("86400"));
        if let Some(asked) = asked {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
        }
        if private {
            headers.insert("access-control-allow-private-network", axum::http::HeaderValue::from_static("true"));
        }
    }
    response
}
