//! What of a project's records was not stored as it was sent; and tokens that nobody owns.

use schemars::JsonSchema;
use serde::Deserialize;

use super::error::ApiError;
use super::{Call, Nothing};
use crate::rejections::{Rejected, Unknown, days};
use crate::views::{DONE, Done};

/// The days that are asked for.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Days {
    /// The first day, in UTC, such as `2027-01-31`; by default 29 days ago.
    from: Option<String>,
    /// The last day; by default today.
    to: Option<String>,
}

/// What was not stored as it was sent, by day and reason, with the newest samples.
pub(crate) fn list(call: &Call, asked: Days) -> Result<Rejected, ApiError> {
    // What was counted until now belongs to the answer.
    call.app.rejections.write(&call.app.metastore, call.now)?;
    let (from, to) = days(asked.from.as_deref(), asked.to.as_deref(), call.now)?;
    Ok(Rejected::of(&call.app.metastore, call.project()?, from, to)?)
}

/// Forgets every count and sample.
pub(crate) fn clear(call: &Call, _: Nothing) -> Result<Done, ApiError> {
    call.app.rejections.write(&call.app.metastore, call.now)?;
    call.app.metastore.clear_rejections(call.project()?, &call.by)?;
    Ok(DONE)
}

/// The tokens that nobody owns and records came with, the last to come first.
pub(crate) fn list_unknown_tokens(call: &Call, _: Nothing) -> Result<Vec<Unknown>, ApiError> {
    call.app.rejections.write(&call.app.metastore, call.now)?;
    Ok(Unknown::all(&call.app.metastore)?)
}

/// Forgets every unknown token.
pub(crate) fn clear_unknown_tokens(call: &Call, _: Nothing) -> Result<Done, ApiError> {
    call.app.rejections.write(&call.app.metastore, call.now)?;
    call.app.metastore.clear_unknown_tokens(&call.by)?;
    Ok(DONE)
}
