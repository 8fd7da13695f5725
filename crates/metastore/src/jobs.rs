//! Long work of a project: imports and exports. A job outlives the process that does it: its pieces say how far it is, and the credential of
//! its source is sealed under the project's data key until it ends. What was asked for, and what came of it, is text of the server's.

use model::{ProjectId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Transaction};

use crate::audit::{self, By};
use crate::keys::data_key;
use crate::members::{require_admin, require_project};
use crate::{MetaError, Metastore, Result, Secret};

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// Somebody works on it, or will when the server runs again.
    Running,
    /// All of it is done.
    Done,
    /// Somebody ended it before.
    Cancelled,
    /// It could not go on; the same request again continues it.
    Failed,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its number, unique in the instance.
    pub id: i64,
    /// Its project.
    pub project: ProjectId,
    /// `import` or `export`.
    pub kind: String,
    /// How it stands.
    pub state: JobState,
    /// Who started it, as the audit log says it.
    pub actor: String,
    /// What was asked for.
    pub asked: String,
    /// What came of it, once it ended.
    pub outcome: String,
    /// Why it failed.
    pub error: String,
    /// When it was started first.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// How a piece of a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartState {
    /// It is being fetched: what there is of it is worth nothing yet.
    Fetching,
    /// All of it lies beside the database.
    Fetched,
    /// All of it is stored.
    Done,
}

/// A piece of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPart {
    /// Its place among the pieces.
    pub number: i64,
    /// What it is.
    pub name: String,
    /// How it stands.
    pub state: PartState,
    /// Records of it, from its beginning, that are stored or refused for good.
    pub records: u64,
    /// What became of its records, once it is done.
    pub tally: String,
}

impl JobState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    fn parse(word: &str) -> Self {
        [Self::Running, Self::Done, Self::Cancelled].into_iter().find(|state| state.as_str() == word).unwrap_or(Self::Failed)
    }
}

impl PartState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Fetching => "fetching",
            Self::Fetched => "fetched",
            Self::Done => "done",
        }
    }

    fn parse(word: &str) -> Self {
        [Self::Fetched, Self::Done].into_iter().find(|state| state.as_str() == word).unwrap_or(Self::Fetching)
    }
}

const COLUMNS: &str = "id, project_id, kind, state, actor, asked, outcome, error, started_at, ended_at";

fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Job> {
    Ok(Job {
        id: row.get(0)?,
        project: ProjectId(row.get(1)?),
        kind: row.get(2)?,
        state: JobState::parse(&row.get::<_, String>(3)?),
        actor: row.get(4)?,
        asked: row.get(5)?,
        outcome: row.get(6)?,
        error: row.get(7)?,
        started_at: Timestamp(row.get(8)?),
        ended_at: row.get::<_, Option<i64>>(9)?.map(Timestamp),
    })
}

fn find(connection: &Connection, project: ProjectId, id: i64) -> Result<Job> {
    let found = connection
        .query_row(&format!("SELECT {COLUMNS} FROM jobs WHERE project_id = $1 AND id = $2"), (project.0, id), from_row)
        .optional()?;
    found.ok_or(MetaError::Unknown("job"))
}

fn bound_to(project: ProjectId, id: i64) -> String {
    format!("projects/{project}/jobs/{id}/1")
}

/// Jobs of a project that are listed.
const LISTED_MAX: i64 = 200;
/// Jobs of a project that are kept; older ones that ended are forgotten.
const KEPT_MAX: i64 = 1000;

impl Metastore {
    /// Starts an import: admins may, and one of a project runs at a time. Where the last one of the same words failed or was cancelled, it is
    /// that one that goes on. The flag says whether it runs already.
    pub fn start_import(&self, project: ProjectId, asked: &str, detail: &str, secret: Option<&Secret>, by: &By) -> Result<(Job, bool)> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_admin(&change, project, by, "import")?;
        let last = change
            .query_row(
                &format!(
                    "SELECT {COLUMNS} FROM jobs
                     WHERE project_id = $1 AND kind = 'import' AND (state = 'running' OR asked = $2)
                     ORDER BY state = 'running' DESC, id DESC LIMIT 1"
                ),
                (project.0, asked),
                from_row,
            )
            .optional()?;
        let id = match last {
            Some(job) if job.state == JobState::Running && job.asked == asked => return Ok((job, true)),
            Some(job) if job.state == JobState::Running => {
                return Err(MetaError::Invalid(format!("import {} of this project runs: wait for it, or cancel it", job.id)));
            }
            Some(job) if job.state != JobState::Done => {
                change.execute("UPDATE jobs SET state = 'running', error = '', outcome = '', ended_at = NULL WHERE id = $1", [job.id])?;
                audit::append(&change, by, Some(project), "import continue", &format!("job {}", job.id))?;
                job.id
            }
            _ => {
                let id = insert(&change, project, "import", asked, by)?;
                audit::append(&change, by, Some(project), "import start", &format!("job {id}: {detail}"))?;
                id
            }
        };
        if let Some(secret) = secret {
            let sealed = data_key(self, &change, project)?.seal_bound(&bound_to(project, id), secret.expose().as_bytes())?;
            change.execute("UPDATE jobs SET secret_sealed = $1 WHERE id = $2", (sealed, id))?;
        }
        let job = find(&change, project, id)?;
        self.finish(change, &[])?;
        Ok((job, false))
    }

    /// Notes an export that begins; the audit log has a row of its own for it.
    pub fn start_export(&self, project: ProjectId, asked: &str, by: &By) -> Result<Job> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_project(&change, project)?;
        let id = insert(&change, project, "export", asked, by)?;
        let job = find(&change, project, id)?;
        change.commit()?;
        Ok(job)
    }

    /// Ends a running job and forgets its secret. False where it ended before.
    pub fn end_job(&self, project: ProjectId, id: i64, state: JobState, outcome: &str, error: &str, by: &By) -> Result<bool> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let job = find(&change, project, id)?;
        if job.state != JobState::Running {
            return Ok(false);
        }
        change.execute(
            "UPDATE jobs SET state = $1, outcome = $2, error = $3, ended_at = $4, secret_sealed = NULL WHERE id = $5",
            (state.as_str(), outcome, error, by.at.0, id),
        )?;
        let detail = if error.is_empty() { format!("job {id}") } else { format!("job {id}: {error}") };
        audit::append(&change, by, Some(project), &format!("{} {}", job.kind, state.as_str()), &detail)?;
        self.finish(change, &[])?;
        Ok(true)
    }

    /// One job.
    pub fn job(&self, project: ProjectId, id: i64) -> Result<Job> {
        find(&self.lock(), project, id)
    }

    /// The newest jobs of a project, the newest first.
    pub fn jobs(&self, project: ProjectId) -> Result<Vec<Job>> {
        let connection = self.lock();
        let mut found = connection.prepare(&format!("SELECT {COLUMNS} FROM jobs WHERE project_id = $1 ORDER BY id DESC LIMIT $2"))?;
        Ok(found.query_map((project.0, LISTED_MAX), from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// The jobs that ran when the server ended, of all projects.
    pub fn running_jobs_of_all_projects(&self) -> Result<Vec<Job>> {
        let connection = self.lock();
        let mut found = connection.prepare(&format!("SELECT {COLUMNS} FROM jobs WHERE state = 'running' ORDER BY id"))?;
        Ok(found.query_map([], from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// The credential of a running job's source.
    pub fn job_secret(&self, project: ProjectId, id: i64) -> Result<Option<Secret>> {
        let connection = self.lock();
        let sealed: Option<Vec<u8>> = connection
            .query_row("SELECT secret_sealed FROM jobs WHERE project_id = $1 AND id = $2", (project.0, id), |row| row.get(0))
            .optional()?
            .flatten();
        let Some(sealed) = sealed else { return Ok(None) };
        let secret = data_key(self, &connection, project)?.open_bound(&bound_to(project, id), &sealed)?;
        Ok(Some(Secret::new(String::from_utf8(secret).map_err(|_| MetaError::Sealed)?)))
    }

    /// The pieces of a job, in order.
    pub fn job_parts(&self, project: ProjectId, id: i64) -> Result<Vec<JobPart>> {
        let connection = self.lock();
        find(&connection, project, id)?;
        let mut found =
            connection.prepare("SELECT number, name, state, records, tally FROM job_parts WHERE job_id = $1 ORDER BY number")?;
        let rows = found.query_map([id], |row| {
            Ok(JobPart {
                number: row.get(0)?,
                name: row.get(1)?,
                state: PartState::parse(&row.get::<_, String>(2)?),
                records: row.get::<_, i64>(3)?.max(0) as u64,
                tally: row.get(4)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Writes how a piece of a job stands. When this returns, it survives a power cut.
    pub fn put_job_part(&self, project: ProjectId, id: i64, part: &JobPart) -> Result<()> {
        let connection = self.lock();
        find(&connection, project, id)?;
        connection.execute(
            "INSERT INTO job_parts (job_id, number, name, state, records, tally) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (job_id, number) DO UPDATE
             SET name = excluded.name, state = excluded.state, records = excluded.records, tally = excluded.tally",
            (id, part.number, &part.name, part.state.as_str(), part.records as i64, &part.tally),
        )?;
        Ok(())
    }
}

/// A restored database may know of more than was restored with it: what ran then is not simply gone on with.
pub(crate) fn end_restored(change: &Transaction<'_>) -> Result<()> {
    change.execute("DELETE FROM job_parts WHERE job_id IN (SELECT id FROM jobs WHERE state <> 'done')", [])?;
    change.execute(
        "UPDATE jobs SET state = 'failed', secret_sealed = NULL, error = 'a backup was restored: start it again' WHERE state = 'running'",
        [],
    )?;
    Ok(())
}

fn insert(change: &Transaction<'_>, project: ProjectId, kind: &str, asked: &str, by: &By) -> Result<i64> {
    change.execute(
        "INSERT INTO jobs (project_id, kind, state, actor, asked, started_at) VALUES ($1, $2, 'running', $3, $4, $5)",
        (project.0, kind, by.name(), asked, by.at.0),
    )?;
    let id = change.last_insert_rowid();
    let old = "SELECT id FROM jobs WHERE project_id = $1 AND state <> 'running' AND id NOT IN
        (SELECT id FROM jobs WHERE project_id = $1 ORDER BY id DESC LIMIT $2)";
    change.execute(&format!("DELETE FROM job_parts WHERE job_id IN ({old})"), (project.0, KEPT_MAX))?;
    change.execute(&format!("DELETE FROM jobs WHERE id IN ({old})"), (project.0, KEPT_MAX))?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use model::AccountId;

    use super::*;
    use crate::NewProject;

    fn store() -> (tempfile::TempDir, Metastore, ProjectId) {
        let dir = tempfile::tempdir().unwrap();
        let store = Metastore::open(dir.path(), &dir.path().join("key"), Timestamp(1_000)).unwrap();
        let by = By::console(Timestamp(1_000));
        let owner = store.create_account("o@example.com", "correct horse battery", &by).unwrap();
        let new = NewProject { name: "P".to_owned(), timezone: "UTC".to_owned(), owner: Some(owner), ..NewProject::default() };
        let (project, _) = store.create_project(&new, &By::account(owner, Timestamp(1_000))).unwrap();
        (dir, store, project.id)
    }

    #[test]
    fn the_secret_of_a_source_is_sealed_and_gone_with_the_end() {
        let (dir, store, project) = store();
        let (secret, by) = (Secret::new("the source's secret".to_owned()), By::console(Timestamp(2_000)));
        let (job, runs) = store.start_import(project, "asked", "", Some(&secret), &by).unwrap();
        assert!(!runs && store.start_import(project, "asked", "", None, &by).unwrap().1, "the same again runs already");
        assert!(store.start_import(project, "another", "", None, &by).is_err(), "one import of a project runs at a time");
        assert_eq!(store.job_secret(project, job.id).unwrap().unwrap().expose(), secret.expose());
        let holds = |name: &str| {
            let bytes = std::fs::read(dir.path().join(name)).unwrap_or_default();
            bytes.windows(secret.expose().len()).any(|bytes| bytes == secret.expose().as_bytes())
        };
        assert!(!holds(crate::DATABASE) && !holds("metastore.sqlite-wal"));
        assert!(store.end_job(project, job.id, JobState::Failed, "", "why", &by).unwrap());
        assert!(store.job_secret(project, job.id).unwrap().is_none());
        assert!(!store.end_job(project, job.id, JobState::Done, "", "", &by).unwrap(), "what ended does not end again");
    }

    #[test]
    fn what_failed_is_continued_and_what_is_done_begins_anew() {
        let (_dir, store, project) = store();
        let by = By::console(Timestamp(2_000));
        let job = store.start_import(project, "asked", "", None, &by).unwrap().0;
        let part = JobPart { number: 1, name: "a".to_owned(), state: PartState::Fetched, records: 7, tally: String::new() };
        store.put_job_part(project, job.id, &part).unwrap();
        store.end_job(project, job.id, JobState::Cancelled, "", "", &by).unwrap();
        let again = store.start_import(project, "asked", "", None, &by).unwrap().0;
        assert_eq!((again.id, again.state, store.job_parts(project, job.id).unwrap()), (job.id, JobState::Running, vec![part]));
        store.end_job(project, job.id, JobState::Done, "outcome", "", &by).unwrap();
        assert_ne!(store.start_import(project, "asked", "", None, &by).unwrap().0.id, job.id);
        assert!(matches!(store.job(ProjectId(999), job.id), Err(MetaError::Unknown("job"))), "another project has nothing of it");
        let stranger = By::account(AccountId(999), Timestamp(2_000));
        assert!(matches!(store.start_import(project, "asked", "", None, &stranger), Err(MetaError::NotAdmin(_))));
    }
}
