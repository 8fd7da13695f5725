//! Events as they come in.

use axum::body::Body;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Call;
use super::error::ApiError;
use crate::live::{self, Filter};

/// Which events are looked at; all that is given has to fit.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// Only events of this name.
    event: Option<String>,
    /// Only events of this user, as sent.
    distinct_id: Option<String>,
    /// Only events with this text in the name of a property or in a value, in any case.
    text: Option<String>,
}

/// The stream, from now on.
pub(crate) fn show(call: &Call, asked: Asked) -> Result<Body, ApiError> {
    let Asked { event, distinct_id, text } = asked;
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    let filter = Filter { event: filled(event), distinct_id: filled(distinct_id), text: filled(text) };
    live::stream(&call.app, call.right()?, filter)
        .map_err(|message| ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_lookers", message))
}
