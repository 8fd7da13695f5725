//! Every URL path.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use crate::app::App;
use crate::{ingest, reports};
use wire::dialect::Endpoint;

/// The prefixes under which reports are read; the first is the canonical one.
const READ_PREFIXES: [&str; 2] = ["/api/2.0", "/api/query"];

/// The export's path, for messages.
pub(crate) const EXPORT: &str = "/api/2.0/export";
/// Where events are sent, for messages.
pub(crate) const TRACK: &str = "/track";

/// The router of the public listener.
pub(crate) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new()
        .route("/health", any(|| async { "ok" }))
        .route("/metrics", any(reports::metrics))
        .route(TRACK, any(|app, request| ingest::write(Endpoint::Track, app, request)))
        .route("/engage", any(|app, request| ingest::write(Endpoint::Engage, app, request)))
        .route("/groups", any(|app, request| ingest::write(Endpoint::Groups, app, request)))
        .route("/import", any(|app, request| ingest::write(Endpoint::Import, app, request)));
    for prefix in READ_PREFIXES {
        let reads = Router::new()
            .route("/export", any(reports::export))
            .route("/events", any(reports::events))
            .route("/events/names", any(reports::event_names))
            .route("/segmentation", any(reports::segmentation))
            .route("/segmentation/sum", any(reports::sum))
            .route("/segmentation/average", any(reports::average))
            .route("/engage", any(reports::engage));
        router = router.nest(prefix, reads);
    }
    router.layer(middleware::from_fn(cors)).with_state(app)
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
    let mut response = if preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    let headers = response.headers_mut();
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, axum::http::HeaderValue::from_static("true"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, axum::http::HeaderValue::from_static("Retry-After"));
        headers.insert(header::VARY, axum::http::HeaderValue::from_static("Origin"));
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
