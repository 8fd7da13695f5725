//! Long work that can be watched and cancelled, also from elsewhere: imports and exports. A job is a row of the metastore with its pieces,
//! so that one that a restart interrupted goes on by itself, and what runs now is known here by its figures.

pub(crate) mod asked;
pub(crate) mod client;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod intake;
pub(crate) mod pull;
pub(crate) mod records;
pub(crate) mod socket;
pub(crate) mod source;
pub(crate) mod tally;
pub(crate) mod view;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metastore::{By, Job, JobState, MetaError};
use model::{ProjectId, Timestamp};

use crate::app::App;
use crate::clock;
use crate::jobs::view::Progress;

/// Why a job does not go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Somebody cancelled it.
    Cancelled,
    /// The server stops: it goes on when the server runs again.
    Server,
    /// It cannot go on.
    Failed(String),
}

impl From<MetaError> for Stop {
    fn from(error: MetaError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<store::StoreError> for Stop {
    fn from(error: store::StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// A job at work.
pub(crate) struct Running {
    pub id: i64,
    pub project: ProjectId,
    pub started_at: Timestamp,
    actor: String,
    /// Somebody works on it now.
    attached: AtomicBool,
    cancelled: AtomicBool,
    stopping: Arc<AtomicBool>,
    progress: Mutex<Progress>,
}

impl Running {
    /// Ends the work where somebody asked for it.
    pub(crate) fn check(&self) -> Result<(), Stop> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Stop::Cancelled);
        }
        if self.stopping.load(Ordering::Relaxed) { Err(Stop::Server) } else { Ok(()) }
    }

    /// Takes the work; false where somebody has it.
    pub(crate) fn attach(&self) -> bool {
        !self.attached.swap(true, Ordering::Relaxed)
    }

    /// Why the work ends, once it does.
    pub(crate) async fn stopped(&self) -> Stop {
        loop {
            if let Err(stop) = self.check() {
                return stop;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits, unless somebody ends the work meanwhile.
    pub(crate) fn pause(&self, time: Duration) -> Result<(), Stop> {
        let until = std::time::Instant::now() + time;
        while let Some(left) = until.checked_duration_since(std::time::Instant::now()).filter(|left| !left.is_zero()) {
            self.check()?;
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
        self.check()
    }

    /// The figures, to change them.
    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The jobs that run now, and where their files lie.
pub(crate) struct Jobs {
    dir: PathBuf,
    running: Mutex<HashMap<i64, Arc<Running>>>,
    stopping: Arc<AtomicBool>,
}

impl Jobs {
    /// `dir` is the data directory.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.join("jobs"), running: Mutex::default(), stopping: Arc::default() }
    }

    /// Where the files of a job lie.
    pub(crate) fn dir(&self, id: i64) -> PathBuf {
        self.dir.join(id.to_string())
    }

    fn running(&self) -> MutexGuard<'_, HashMap<i64, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a job is at work; `None` where it is already.
    pub(crate) fn begin(&self, job: &Job) -> Option<Arc<Running>> {
        let mut running = self.running();
        if running.contains_key(&job.id) {
            return None;
        }
        let made = Running {
            id: job.id,
            project: job.project,
            started_at: job.started_at,
            actor: job.actor.clone(),
            attached: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            stopping: self.stopping.clone(),
            progress: Mutex::default(),
        };
        let made = Arc::new(made);
        running.insert(job.id, made.clone());
        Some(made)
    }

    /// A job at work.
    pub(crate) fn find(&self, project: ProjectId, id: i64) -> Option<Arc<Running>> {
        self.running().get(&id).filter(|running| running.project == project).cloned()
    }

    /// Writes how a job ended, and that nobody works on it any more. One that the server's end interrupted goes on later.
    pub(crate) fn end(&self, app: &App, running: &Running, outcome: Result<String, Stop>) {
        let by = By::console(clock::now());
        let (state, text, error) = match outcome {
            Ok(text) => (JobState::Done, text, String::new()),
            Err(Stop::Failed(error)) => (JobState::Failed, String::new(), error),
            // Whoever cancelled it wrote so.
            Err(Stop::Cancelled) => (JobState::Cancelled, String::new(), String::new()),
            Err(Stop::Server) => {
                self.running().remove(&running.id);
                return;
            }
        };
        tracing::info!(project.id = %running.project, job.id = running.id, job.actor = running.actor, "job {}", state.as_str());
        if let Err(error) = app.metastore.end_job(running.project, running.id, state, &text, &error, &by) {
            tracing::error!(%error, job.id = running.id, "the end of a job was not written");
        }
        self.running().remove(&running.id);
    }

    /// Ends a job before it is done; what it stored stays.
    pub(crate) fn cancel(&self, app: &App, project: ProjectId, id: i64, by: &By) -> Result<(), MetaError> {
        let was_running = app.metastore.end_job(project, id, JobState::Cancelled, "", "", by)?;
        if let Some(running) = self.find(project, id) {
            running.cancelled.store(true, Ordering::Relaxed);
            if !running.attached.load(Ordering::Relaxed) {
                self.running().remove(&id);
            }
        } else if !was_running {
            return Err(MetaError::Invalid("this job has ended".to_owned()));
        }
        Ok(())
    }

    /// Lets every job come to an end, to go on when the server runs again.
    pub(crate) async fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        while self.running().values().any(|running| running.attached.load(Ordering::Relaxed)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Goes on with what the last process was at.
    pub(crate) fn resume(app: &Arc<App>) -> Result<(), MetaError> {
        for job in app.metastore.running_jobs_of_all_projects()? {
            if job.kind == import::KIND {
                import::go_on(app, &job);
                import::store_handed_over(app, &job);
                continue;
            }
            let error = "the server was restarted: start it again";
            app.metastore.end_job(job.project, job.id, JobState::Failed, "", error, &By::console(clock::now()))?;
        }
        Ok(())
    }
}
