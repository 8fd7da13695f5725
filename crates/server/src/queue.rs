//! The queue of each project's reports: so many run, more wait, and who waits too long is told to come back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::ProjectId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One queue per project.
pub(crate) struct Queues {
    concurrent_max: usize,
    wait_max: Duration,
    queues: Mutex<HashMap<ProjectId, Arc<Semaphore>>>,
}

/// Requests of one project that may wait at one time.
const WAITING_MAX: usize = 200;

impl Queues {
    pub(crate) fn new(concurrent_max: usize, wait_max: Duration) -> Self {
        Self { concurrent_max: concurrent_max.max(1), wait_max, queues: Mutex::default() }
    }

    /// A place to run; the text of the refusal where there is none in time (`contract/read.md` 3.2).
    pub(crate) async fn place(&self, project: ProjectId) -> Result<Place, String> {
        let (running, waiting) = {
            let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
            let queue = queues.entry(project).or_insert_with(|| Arc::new(Semaphore::new(self.concurrent_max))).clone();
            let holders = Arc::strong_count(&queue);
            (queue, holders)
        };
        let refused = || {
            let max = self.concurrent_max;
            format!(
                "Query rate limit exceeded for project_id: {project}. This request exceeded the concurrency limit ({}/{max} queries running concurrently).",
                max + 1
            )
        };
        // The map and every request hold the queue once each.
        if waiting > WAITING_MAX + self.concurrent_max {
            return Err(refused());
        }
        match tokio::time::timeout(self.wait_max, running.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Place { _permit: permit }),
            _ => Err(refused()),
        }
    }

    /// The headers of such a refusal.
    pub(crate) fn headers(&self) -> [(&'static str, String); 3] {
        let max = self.concurrent_max;
        [
            ("RateLimit-Policy", format!("\"project-concurrency\";q={max};qu=\"concurrent-requests\"")),
            ("RateLimit", "\"project-concurrency\";r=0;t=10".to_owned()),
            ("Retry-After", "10".to_owned()),
        ]
    }
}

/// Held while a report runs.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn more_than_the_limit_wait_and_then_are_refused() {
        let queues = Queues::new(1, Duration::from_millis(20));
        let held = queues.place(ProjectId(1)).await.ok();
        assert!(held.is_some());
        assert!(
            queues.place(ProjectId(1)).await.err().is_some_and(|text| text.starts_with("Query rate limit exceeded for project_id: 1."))
        );
        assert!(queues.place(ProjectId(2)).await.is_ok(), "projects do not wait for each other");
        drop(held);
        assert!(queues.place(ProjectId(1)).await.is_ok());
    }
}
