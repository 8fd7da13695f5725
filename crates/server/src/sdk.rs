//! What SDKs ask for besides sending: flags, settings, decisions, recordings. Answered so that they are content; nothing of a project is
//! in the answers (`contract/write.md` 1.8).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};

use model::ProjectId;
use wire::params::Params;

use crate::app::App;
use crate::auth::{self, Basic};
use crate::{clock, ingest};

fn json(body: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

/// No feature flags. The Python SDK wants a `code` too.
pub(crate) async fn flags(State(app): State<Arc<App>>, request: Request) -> Response {
    let is_python = Params::parse(request.uri().query().unwrap_or_default(), None).get("mp_lib") == Some("python");
    ingest::drain(&app, request).await;
    json(if is_python { r#"{"flags":{},"code":200}"# } else { r#"{"flags":{}}"# })
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

/// A recording, counted and dropped: anything but JSON would break the page's recorder.
pub(crate) async fn record(State(app): State<Arc<App>>, request: Request) -> Response {
    let token = match auth::basic(request.headers()) {
        Some(Basic::Secret(token)) => Some(token),
        Some(Basic::Account(..)) => None,
        None => Params::parse(request.uri().query().unwrap_or_default(), None).get("token").map(str::to_owned),
    };
    let project = token.and_then(|token| app.credentials().project_of_token(&token, clock::now()));
    let bytes = ingest::drain(&app, request).await;
    app.recordings.note(project, bytes);
    json(r#"{"code":200,"status":"OK"}"#)
}

/// What came of recordings and was dropped, by project, so that its owner sees what the pages send for nothing.
#[derive(Default)]
pub(crate) struct Recordings(Mutex<BTreeMap<Option<ProjectId>, (u64, u64)>>);

impl Recordings {
    fn note(&self, project: Option<ProjectId>, bytes: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (batches, sum) = all.entry(project).or_default();
        *batches += 1;
        *sum += bytes;
    }

    /// Lines of Prometheus text. Recordings with a token that nobody owns have no project.
    pub(crate) fn metrics(&self) -> String {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = |project: &Option<ProjectId>| project.map_or_else(|| "unknown".to_owned(), |project| project.to_string());
        let batches = all
            .iter()
            .map(|(project, (batches, _))| format!("sluice_recordings_dropped_total{{project=\"{}\"}} {batches}\n", name(project)));
        let bytes = all
            .iter()
            .map(|(project, (_, bytes))| format!("sluice_recording_bytes_dropped_total{{project=\"{}\"}} {bytes}\n", name(project)));
        batches.chain(bytes).collect()
    }
}
