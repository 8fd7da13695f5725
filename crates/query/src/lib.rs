//! One file per report: a snapshot's rows are scanned, filtered and counted. Blocking work runs off the runtime's threads.

mod counts;
mod error;
pub mod evaluate;
mod export;
mod joins;
mod profiles;
mod properties;
mod rows;
mod series;
mod tally;
mod top_events;

use std::sync::Arc;

use model::report::{
    Aggregate, AggregateAnswer, Buckets, Engage, EngageAnswer, EventNames, Export, PropertyValues, RankedAnswer, Series, SeriesAnswer,
    TopEvents, TopEventsAnswer, TopProperties,
};
use model::{EventRef, ProjectId, Timestamp};
use store::Store;
use tokio::sync::mpsc;

pub use error::QueryError;

use crate::profiles::Sessions;

/// Answers reports over a store.
#[derive(Clone)]
pub struct Engine {
    store: Store,
    sessions: Arc<Sessions>,
}

impl Engine {
    /// Makes an engine over a store.
    pub fn new(store: Store) -> Self {
        Self { store, sessions: Arc::default() }
    }

    /// Counts over time.
    pub async fn series(&self, project: ProjectId, report: &Series) -> Result<SeriesAnswer, QueryError> {
        let (snapshot, report) = (self.store.snapshot(project)?, report.clone());
        blocking(move || series::series(&snapshot, &report)).await
    }

    /// Sums or averages over time.
    pub async fn aggregate(&self, project: ProjectId, report: &Aggregate) -> Result<AggregateAnswer, QueryError> {
        let (snapshot, report) = (self.store.snapshot(project)?, report.clone());
        blocking(move || series::aggregate(&snapshot, &report)).await
    }

    /// Event names by volume.
    pub async fn event_names(&self, project: ProjectId, report: &EventNames) -> Result<RankedAnswer, QueryError> {
        let (snapshot, report) = (self.store.snapshot(project)?, report.clone());
        blocking(move || series::event_names(&snapshot, &report)).await
    }

    /// Raw events as text in pieces of whole lines, each written by `line`. The channel is bounded: a slow reader slows the scan.
    pub fn export(
        &self,
        project: ProjectId,
        report: Export,
        line: impl Fn(&EventRef<'_>, &mut String) + Send + Sync + 'static,
    ) -> Result<mpsc::Receiver<Result<String, QueryError>>, QueryError> {
        let snapshot = self.store.snapshot(project)?;
        let (pieces, receiver) = mpsc::channel(4);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = export::export(&snapshot, &report, &line, &pieces) {
                // The reader may be gone: then nobody is left to tell.
                let _ = pieces.blocking_send(Err(error));
            }
        });
        Ok(receiver)
    }

    /// Raw events as a Parquet file. `goes_on` hears of rows as they are written, and says whether to. Blocking.
    pub fn export_parquet<W: std::io::Write + Send>(
        &self,
        project: ProjectId,
        report: &Export,
        out: W,
        json: store::archive::WriteJson,
        goes_on: impl Fn(u64) -> bool + Sync,
    ) -> Result<W, QueryError> {
        export::export_parquet(&self.store.snapshot(project)?, report, out, json, &goes_on)
    }

    /// How many events stand in each bucket, each that was sent several times counted once. Blocking.
    pub fn counts(&self, project: ProjectId, buckets: &Buckets) -> Result<Vec<u64>, QueryError> {
        counts::counts(&self.store.snapshot(project)?, buckets)
    }

    /// Today's events beside yesterday's.
    pub async fn top_events(&self, project: ProjectId, report: &TopEvents) -> Result<TopEventsAnswer, QueryError> {
        let (snapshot, report) = (self.store.snapshot(project)?, report.clone());
        blocking(move || top_events::top_events(&snapshot, &report)).await
    }

    /// Properties by how many events carry them.
    pub async fn top_properties(&self, project: ProjectId, report: &TopProperties) -> Result<RankedAnswer, QueryError> {
        let (snapshot, report) = (self.store.snapshot(project)?, report.clone());
        blocking(move || properties::top_properties(&snapshot, &report)).await
    }

    /// Values of a property by volume.
    pub async fn property_values(&self, project: ProjectId, report: &PropertyValues) -> Result<RankedAnswer, QueryError> {
        let (snapshot, report) = (self.store.snapshot(project)?, report.clone());
        blocking(move || properties::property_values(&snapshot, &report)).await
    }

    /// A page of profiles. A page beyond the first needs the session that the first one named; `new_session` names one where it is needed.
    pub async fn profiles(
        &self,
        project: ProjectId,
        report: &Engage,
        new_session: String,
        now: Timestamp,
    ) -> Result<EngageAnswer, QueryError> {
        if let Some(id) = &report.session_id {
            match self.sessions.get(project, id, now) {
                Some((rows, computed_at)) => return Ok(profiles::page(&rows, report, id.clone(), computed_at)),
                None if report.page > 0 => return Err(QueryError::UnknownSession),
                None => {}
            }
        }
        let (snapshot, asked) = (self.store.snapshot(project)?, report.clone());
        let rows = blocking(move || profiles::rows(&snapshot, &asked)).await?;
        self.sessions.put(project, &new_session, rows.clone(), now);
        Ok(profiles::page(&rows, report, new_session, now))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, QueryError> + Send + 'static) -> Result<T, QueryError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| QueryError::Interrupted)?
}
