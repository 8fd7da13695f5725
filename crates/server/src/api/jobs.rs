//! Imports and exports: what runs, how far it is, and its end.

use schemars::JsonSchema;
use serde::Deserialize;

use super::error::ApiError;
use super::{Call, Nothing};
use crate::jobs::asked::{Import, Pull, hosts};
use crate::jobs::import;
use crate::jobs::view::JobView;
use crate::views::{DONE, Done};

/// The newest jobs of the project.
pub(crate) fn list(call: &Call, _: Nothing) -> Result<Vec<JobView>, ApiError> {
    Ok(JobView::list(&call.app, call.project()?)?)
}

/// One job.
pub(crate) fn show(call: &Call, _: Nothing) -> Result<JobView, ApiError> {
    Ok(JobView::find(&call.app, call.project()?, call.id("job")?)?)
}

/// Ends a job; what it stored stays, and the same import again continues it.
pub(crate) fn cancel(call: &Call, _: Nothing) -> Result<Done, ApiError> {
    call.app.jobs.cancel(&call.app, call.project()?, call.id("job")?, &call.by)?;
    Ok(DONE)
}

/// Where the original keeps a project.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Region {
    Us,
    Eu,
    In,
}

/// What is imported from the original. Only the command line pulls from other addresses: this server is asked for no others by the network.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportAsked {
    region: Region,
    /// The API secret, or with `service_account` the secret of that. It is kept sealed until the import ends.
    secret: String,
    /// The user name of a service account.
    service_account: Option<String>,
    /// The project's id over there; a service account needs it.
    source_project_id: Option<i64>,
    /// The first and the last day of events; without them no events are imported.
    from_date: Option<String>,
    to_date: Option<String>,
    /// Whether profiles of users are imported.
    #[serde(default)]
    profiles: bool,
    /// The time zone of a project from before 2023, whose times are wall times of that zone.
    source_timezone: Option<String>,
}

/// Starts an import, or continues the last one of the same words.
pub(crate) fn start_import(call: &Call, asked: ImportAsked) -> Result<JobView, ApiError> {
    let from = match asked.region {
        Region::Us => "us",
        Region::Eu => "eu",
        Region::In => "in",
    };
    let (events_from, profiles_from) = hosts(from);
    let pull = Pull {
        events_from,
        profiles_from,
        service_account: asked.service_account,
        source_project_id: asked.source_project_id,
        days: asked.from_date.zip(asked.to_date),
        profiles: asked.profiles,
        groups: Vec::new(),
        source_timezone: asked.source_timezone,
        requests_per_hour_max: 60,
        requests_per_second_max: 3,
    };
    if asked.secret.is_empty() {
        return Err(ApiError::invalid("`secret` is expected"));
    }
    let job = import::start(&call.app, call.project()?, &Import::Pull(pull), Some(asked.secret), &call.by)?;
    Ok(JobView::find(&call.app, job.project, job.id)?)
}
