//! Why an operation was not done, for people and for programs.

use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use metastore::MetaError;
use schemars::JsonSchema;
use serde::Serialize;

/// Why an operation was not done: a status, a word for programs, a sentence for people.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after: Option<Duration>,
}

/// The body of every refusal.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ErrorBody {
    /// What to change.
    pub error: String,
    /// The same for programs.
    pub code: &'static str,
}

impl ApiError {
    /// A refusal with a status, a word and a sentence.
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message)
    }

    pub(crate) fn unknown(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown", format!("unknown {what}"))
    }

    pub(crate) fn not_signed_in() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not_signed_in", "sign in first")
    }

    pub(crate) fn not_proven(message: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not_proven", message)
    }

    pub(crate) fn needs_code() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "code_needed", "a code of the authenticator app, or a recovery code, is needed too")
    }

    pub(crate) fn wait(time: Duration) -> Self {
        let message = "too many tries; wait a moment";
        Self { retry_after: Some(time), ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_tries", message) }
    }

    pub(crate) fn busy() -> Self {
        let message = "the server is busy; try again";
        Self { retry_after: Some(Duration::from_secs(1)), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message) }
    }

    pub(crate) fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    pub(crate) fn not_fresh() -> Self {
        let message = "prove again who you are, in a session that you signed in to: by password, or by a code of the authenticator app where there is one; \
             a bearer token is not enough";
        Self::forbidden("fresh_proof_needed", message)
    }

    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "an operation failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "an unknown error occurred; the log knows more")
    }
}

impl From<MetaError> for ApiError {
    fn from(error: MetaError) -> Self {
        let (status, code) = match &error {
            MetaError::NotOwner(_) => (StatusCode::FORBIDDEN, "not_owner"),
            MetaError::NotAdmin(_) => (StatusCode::FORBIDDEN, "not_admin"),
            MetaError::NotOperator(_) => (StatusCode::FORBIDDEN, "not_operator"),
            MetaError::BeyondRole(_) => (StatusCode::FORBIDDEN, "beyond_role"),
            MetaError::NotSignedIn(_) => (StatusCode::UNAUTHORIZED, "not_signed_in"),
            MetaError::NeedsCode => (StatusCode::UNAUTHORIZED, "code_needed"),
            MetaError::NotProven(_) => (StatusCode::UNAUTHORIZED, "not_proven"),
            MetaError::LastOwner => (StatusCode::CONFLICT, "last_owner"),
            MetaError::Taken(_) => (StatusCode::CONFLICT, "taken"),
            MetaError::Unknown(_) => (StatusCode::NOT_FOUND, "unknown"),
            MetaError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid"),
            MetaError::KeyFileMissing | MetaError::Sealed => (StatusCode::SERVICE_UNAVAILABLE, "key_file_missing"),
            MetaError::KeyFile(_) | MetaError::NewerSchema(_) | MetaError::Database(_) | MetaError::Io(_) => return Self::internal(error),
        };
        Self::new(status, code, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody { error: self.message, code: self.code };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        if let Some(time) = self.retry_after {
            let seconds = time.as_millis().div_ceil(1000).max(1).to_string();
            response.headers_mut().extend(seconds.parse().ok().map(|value| (header::RETRY_AFTER, value)));
        }
        response
    }
}
