//! One file per report: a snapshot's rows are scanned, filtered and counted. Blocking work runs off the runtime's threads.

mod error;
pub mod evaluate;
mod rows;
mod series;

use std::sync::Arc;

use model::report::{Aggregate, AggregateAnswer, EventNames, Export, RankedAnswer, Series, SeriesAnswer};
use model::{Event, Profile, ProjectId};
use store::{ProfileKind, ScanRequest, Store};
use tokio::sync::mpsc;

pub use error::QueryError;

use crate::evaluate::{Memory, ProfileRow, Program};
use crate::rows::Filter;

/// Answers reports over a store.
#[derive(Clone)]
pub struct Engine {
    store: Store,
}

impl Engine {
    /// Makes an engine over a store.
    pub fn new(store: Store) -> Self {
        Self { store }
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

    /// Raw events in batches. The channel is bounded: a slow reader slows the scan.
    pub fn export(&self, project: ProjectId, report: Export) -> Result<mpsc::Receiver<Result<Vec<Event>, QueryError>>, QueryError> {
        let snapshot = self.store.snapshot(project)?;
        let (batches, receiver) = mpsc::channel(4);
        tokio::task::spawn_blocking(move || {
            let filter = Filter::new(report.filter.as_ref(), &snapshot);
            let filter = match filter {
                Ok(filter) => filter,
                Err(error) => return drop(batches.blocking_send(Err(error))),
            };
            let request = ScanRequest { events: report.events, range: report.range, properties: true, ids: true, dedup: report.dedup };
            let (mut left, mut batch) = (report.limit.unwrap_or(usize::MAX), Vec::new());
            let outcome = snapshot.scan(&request, &mut |event, user| {
                if !filter.passes(event, user) {
                    return true;
                }
                batch.push(event.clone());
                left -= 1;
                let full = batch.len() == 1024;
                !(full && batches.blocking_send(Ok(std::mem::take(&mut batch))).is_err()) && left > 0
            });
            if !batch.is_empty() {
                // The reader went away: nobody is left to tell.
                let _ = batches.blocking_send(Ok(batch));
            }
            if let Err(error) = outcome {
                let _ = batches.blocking_send(Err(error.into()));
            }
        });
        Ok(receiver)
    }

    /// All user profiles that pass a filter, by id.
    pub async fn profiles(&self, project: ProjectId, filter: Option<model::Expr>) -> Result<Vec<(String, Profile)>, QueryError> {
        let snapshot = self.store.snapshot(project)?;
        blocking(move || {
            let mut profiles = snapshot.profiles(&ProfileKind::Users)?;
            if let Some(filter) = filter {
                let program = Arc::new(Program::new(&filter));
                profiles.retain(|(id, profile)| {
                    program.passes(&ProfileRow { program: &program, id, properties: &profile.properties }, 0, &mut Memory::default())
                });
            }
            Ok(profiles)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, QueryError> + Send + 'static) -> Result<T, QueryError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| QueryError::Interrupted)?
}
