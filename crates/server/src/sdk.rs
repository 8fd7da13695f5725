//! What SDKs ask for besides sending: flags, settings, decisions, recordings. Answered so that they are content; nothing of a project is
//! in the answers (`contract/write.md` 1.8).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::ingest;

fn json(body: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

/// No feature flags. The Python SDK wants a `code`.
pub(crate) async fn flags(State(app): State<Arc<App>>, request: Request) -> Response {
    ingest::drain(&app, request).await;
    json(r#"{"flags":{},"code":200}"#)
}

/// No flags to evaluate locally.
pub(crate) async fn flag_definitions(State(app): State<Arc<App>>, request: Request) -> Response {
    ingest::drain(&app, request).await;
    json(r#"{"flags":[]}"#)
}

/// A flag's first event, noted nowhere.
pub(crate) async fn first_time_events(State(app): State<Arc<App>>, request: Request) -> Response {
    ingest::drain(&app, request).await;
    json("{}")
}

/// No recording: the SDK then sends none. A configuration without a name that it knows, it takes for a failure.
pub(crate) async fn settings(State(app): State<Arc<App>>, request: Request) -> Response {
    ingest::drain(&app, request).await;
    json(r#"{"recording":{"is_enabled":false},"sdk_config":{"config":{"record_sessions_percent":0}}}"#)
}

/// Old mobile SDKs hold back their automatic events until they got this.
pub(crate) async fn decide(State(app): State<Arc<App>>, request: Request) -> Response {
    ingest::drain(&app, request).await;
    json(r#"{"notifications":[],"surveys":[],"variants":[],"event_bindings":[],"integrations":[],"automatic_events":true,"config":{}}"#)
}

/// A recording, taken and dropped: anything but JSON would break the page's recorder.
pub(crate) async fn record(State(app): State<Arc<App>>, request: Request) -> Response {
    ingest::drain(&app, request).await;
    json(r#"{"code":200,"status":"OK"}"#)
}
