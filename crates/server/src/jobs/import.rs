//! Imports: started by a command or the management API, gone on with after a restart, ended with a table of what came and what is stored.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use metastore::{By, Job, JobPart, MetaError, PartState, Secret};
use model::ProjectId;
use tokio::runtime::Handle;
use wire::archive::Times;

use crate::app::App;
use crate::jobs::asked::{self, Import, Pull};
use crate::jobs::intake::Intake;
use crate::jobs::pull::{Puller, fetched_file};
use crate::jobs::source::Source;
use crate::jobs::tally::{Outcome, Tally};
use crate::jobs::{Running, Stop};

/// The kind of these jobs.
pub(crate) const KIND: &str = "import";

/// Starts an import, or continues the last one of the same words; the job, which runs when this returns.
pub(crate) fn start(app: &Arc<App>, project: ProjectId, import: &Import, secret: Option<String>, by: &By) -> Result<Job, MetaError> {
    if let Import::Pull(pull) = import {
        pull.check().map_err(MetaError::Invalid)?;
    }
    let asked = serde_json::to_string(import).map_err(|error| MetaError::Invalid(error.to_string()))?;
    let secret = secret.map(Secret::new);
    let (job, runs) = app.metastore.start_import(project, &asked, &asked::shown(&asked), secret.as_ref(), by)?;
    if !runs {
        // One that was cancelled a moment ago is let go first.
        let mut tries = 0;
        while app.jobs.find(project, job.id).is_some() && tries < 100 {
            std::thread::sleep(std::time::Duration::from_millis(50));
            tries += 1;
        }
        go_on(app, &job);
    }
    Ok(job)
}

/// Works on an import until it ends. Files that nobody hands over any more end it: the same command again continues it.
pub(crate) fn go_on(app: &Arc<App>, job: &Job) {
    let import = match serde_json::from_str::<Import>(&job.asked) {
        Ok(import) => import,
        Err(error) => return tracing::error!(%error, job.id, "an import is not understood"),
    };
    let Some(running) = app.jobs.begin(job) else { return };
    let Import::Pull(pull) = import else { return };
    running.attach();
    let app = app.clone();
    tokio::task::spawn_blocking(move || {
        let outcome = pull_all(&app, &running, &pull).and_then(|()| finish(&app, &running));
        app.jobs.end(&app, &running, outcome);
    });
}

/// Files that were handed over whole before the server was restarted are stored; the others, if any, have to be handed over again.
pub(crate) fn store_handed_over(app: &Arc<App>, job: &Job) {
    let Ok(Import::Files(files)) = serde_json::from_str(&job.asked) else { return };
    let Some(running) = app.jobs.find(job.project, job.id) else { return };
    running.attach();
    let (app, job) = (app.clone(), job.clone());
    tokio::task::spawn_blocking(move || {
        let stored = || -> Result<String, Stop> {
            let mut parts = app.metastore.job_parts(job.project, job.id)?;
            for part in parts.iter_mut().filter(|part| part.state == PartState::Fetched) {
                store_file(&app, &running, part, false)?;
            }
            if parts.iter().filter(|part| part.state == PartState::Done).count() == files.files.len() {
                return finish(&app, &running);
            }
            Err(Stop::Failed("the server was restarted while files were handed over: run the same command again".to_owned()))
        };
        let outcome = stored();
        app.jobs.end(&app, &running, outcome);
    });
}

fn pull_all(app: &Arc<App>, running: &Running, pull: &Pull) -> Result<(), Stop> {
    let secret = app.metastore.job_secret(running.project, running.id)?;
    let secret = secret.ok_or_else(|| Stop::Failed("the credential of the source is not there: run the same command again".to_owned()))?;
    let parts = app.metastore.job_parts(running.project, running.id)?;
    let mut puller = Puller { intake: intake(app, running, Times::default()), source: Source::new(running, pull, &secret), pull, parts };
    puller.run()
}

fn intake<'a>(app: &'a Arc<App>, running: &'a Running, times: Times) -> Intake<'a> {
    Intake { app, running, runtime: Handle::current(), times, dir: app.jobs.dir(running.id), doubts: false }
}

/// Whether a file need not be handed over again.
pub(crate) fn has_file(app: &App, job: &Job, part: &JobPart) -> bool {
    // What comes by standard input may be something else now.
    let lies_there = || part.name != "-" && fetched_file(&app.jobs.dir(job.id), part.number).exists();
    part.state == PartState::Done || part.state == PartState::Fetched && lies_there()
}

/// A file that a command hands over.
pub(crate) struct HandedOver {
    part: JobPart,
    /// What takes its bytes; nothing where they are there already.
    file: Option<File>,
    /// Some of it may have been stored from a file that is gone.
    doubts: bool,
}

impl HandedOver {
    /// Begins with a file; nothing where it was stored before.
    pub(crate) fn begin(app: &App, running: &Running, number: i64, name: &str) -> Result<Option<Self>, Stop> {
        let (project, job) = (running.project, app.metastore.job(running.project, running.id)?);
        let known = app.metastore.job_parts(project, job.id)?.into_iter().find(|part| part.number == number);
        let new = JobPart { number, name: name.to_owned(), state: PartState::Fetching, records: 0, tally: String::new() };
        let mut part = known.unwrap_or(new);
        if part.state == PartState::Done {
            return Ok(None);
        }
        if has_file(app, &job, &part) {
            return Ok(Some(Self { part, file: None, doubts: false }));
        }
        let doubts = part.records > 0;
        (part.state, part.records) = (PartState::Fetching, 0);
        app.metastore.put_job_part(project, job.id, &part)?;
        let dir = app.jobs.dir(job.id);
        std::fs::create_dir_all(&dir)?;
        let file = Some(File::create(fetched_file(&dir, number))?);
        let mut progress = running.progress();
        (progress.phase, progress.part, progress.bytes) = ("fetching".to_owned(), name.to_owned(), 0);
        Ok(Some(Self { part, file, doubts }))
    }

    /// Takes bytes of it.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(bytes))
    }

    /// Stores it, once all of it is there.
    pub(crate) fn store(mut self, app: &Arc<App>, running: &Running) -> Result<(), Stop> {
        if let Some(file) = self.file.take() {
            file.sync_all()?;
            File::open(app.jobs.dir(running.id))?.sync_all()?;
            self.part.state = PartState::Fetched;
            app.metastore.put_job_part(running.project, running.id, &self.part)?;
        }
        store_file(app, running, &mut self.part, self.doubts)
    }
}

/// Stores a file that was handed over whole.
fn store_file(app: &Arc<App>, running: &Running, part: &mut JobPart, doubts: bool) -> Result<(), Stop> {
    let job = app.metastore.job(running.project, running.id)?;
    let Ok(Import::Files(files)) = serde_json::from_str::<Import>(&job.asked) else {
        return Err(Stop::Failed("this import takes no files".to_owned()));
    };
    {
        let mut progress = running.progress();
        (progress.phase, progress.part) = ("storing".to_owned(), part.name.clone());
        (progress.unit, progress.total, progress.done) = ("files".to_owned(), files.files.len() as u64, part.number as u64 - 1);
    }
    let times = Times::of_zone(files.source_timezone.as_deref()).map_err(Stop::Failed)?;
    let path = fetched_file(&app.jobs.dir(running.id), part.number);
    Intake { doubts, ..intake(app, running, times) }.store(part, &path)?;
    std::fs::remove_file(path)?;
    running.progress().done = part.number as u64;
    Ok(())
}

/// Compares what came with what is stored, and clears up.
pub(crate) fn finish(app: &Arc<App>, running: &Running) -> Result<String, Stop> {
    running.check()?;
    running.progress().phase = "comparing".to_owned();
    let mut tally = Tally::default();
    let dir = app.jobs.dir(running.id);
    for part in app.metastore.job_parts(running.project, running.id)? {
        tally.add(&serde_json::from_str(&part.tally).unwrap_or_default());
    }
    let mut outcome = Outcome::of(app, running.project, &tally)?;
    if tally.refused() > 0 {
        outcome.rejects = Some(rejects_of(&dir));
    } else {
        let _ = std::fs::remove_dir(&dir);
    }
    serde_json::to_string(&outcome).map_err(|error| Stop::Failed(error.to_string()))
}

/// The folder as whoever looks for it names it.
fn rejects_of(dir: &Path) -> String {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf()).display().to_string()
}
