//! Jobs as people see them: one form for the management API and for the command line.

use metastore::{Job, MetaError};
use model::ProjectId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::jobs::asked;
use crate::jobs::tally::Outcome;
use crate::views::shown;

/// How far a job is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Progress {
    /// What it does now: `fetching`, `storing`, `waiting`, `comparing`, `writing`.
    pub phase: String,
    /// Why it waits, while it does.
    pub why: String,
    /// Which piece it is at.
    pub part: String,
    /// Of the whole, in `unit`s.
    pub done: u64,
    /// The whole, in `unit`s; 0 where nobody knows it.
    pub total: u64,
    /// `days`, `files`, `profiles` or `rows`.
    pub unit: String,
    /// Records that were stored or written since the job began.
    pub records: u64,
    /// Bytes of the piece that came so far.
    pub bytes: u64,
}

/// A job.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct JobView {
    pub job: i64,
    /// `import` or `export`.
    pub kind: String,
    /// `running`, `done`, `cancelled` or `failed`.
    pub state: String,
    /// What was asked for.
    pub what: String,
    /// Who started it.
    pub actor: String,
    pub started_at: String,
    pub ended_at: Option<String>,
    /// How far it is, while it runs.
    pub progress: Option<Progress>,
    /// Why it failed; the same request again continues it.
    pub error: Option<String>,
    /// What came of an import.
    pub outcome: Option<Outcome>,
}

impl JobView {
    fn of(app: &App, job: Job) -> Self {
        let progress = app.jobs.find(job.project, job.id).map(|running| running.progress().clone());
        Self {
            job: job.id,
            state: job.state.as_str().to_owned(),
            what: asked::shown(&job.asked),
            actor: job.actor,
            started_at: shown(job.started_at),
            ended_at: job.ended_at.map(shown),
            progress: progress.filter(|_| job.ended_at.is_none()),
            error: Some(job.error).filter(|error| !error.is_empty()),
            outcome: serde_json::from_str(&job.outcome).ok(),
            kind: job.kind,
        }
    }

    /// One job.
    pub(crate) fn find(app: &App, project: ProjectId, id: i64) -> Result<Self, MetaError> {
        Ok(Self::of(app, app.metastore.job(project, id)?))
    }

    /// The jobs of a project, the newest first.
    pub(crate) fn list(app: &App, project: ProjectId) -> Result<Vec<Self>, MetaError> {
        Ok(app.metastore.jobs(project)?.into_iter().map(|job| Self::of(app, job)).collect())
    }
}
