//! What of records was not stored as it was sent, counted by project, day and reason with the newest samples; and tokens that nobody owns.
//! Written in batches, off the path of requests. Bounded: the reasons are a fixed list, days and samples are forgotten.

use model::{ProjectId, Reason, Timestamp};

use crate::{Metastore, Result, members, members::require_admin};
use crate::{audit, audit::By};

/// Counts are forgotten after so many days.
pub const REJECTION_DAYS_MAX: i64 = 90;
/// Samples of one project and reason that are kept; the newest stay.
pub const REJECTION_SAMPLES_MAX: usize = 10;
/// Unknown tokens that are told apart; what comes beyond is counted as one of the others.
const UNKNOWN_TOKENS_MAX: i64 = 1000;
/// The name of those others.
pub const OTHER_TOKENS: &str = "others";

/// A record that was not stored as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectionSample {
    /// When it came.
    pub at: Timestamp,
    /// Which of its fields was at fault.
    pub field: String,
    /// The record as JSON, without what is secret, and cut where it is long.
    pub record: String,
}

/// How often something happened on a day for a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectionCount {
    /// The project.
    pub project: ProjectId,
    /// The day, in days of UTC since the Unix epoch.
    pub day: i64,
    /// Why.
    pub reason: Reason,
    /// How many records.
    pub count: u64,
    /// When it last happened.
    pub last_at: Timestamp,
}

/// A token that nobody owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownToken {
    /// What is shown of it: the token, or its last characters where it may be a secret.
    pub name: String,
    /// When it first came.
    pub first_at: Timestamp,
    /// When it last came.
    pub last_at: Timestamp,
    /// How many records named it.
    pub count: u64,
}

impl Metastore {
    /// Adds counts and samples, and forgets what is older than [`REJECTION_DAYS_MAX`] days before `today`.
    pub fn add_rejections(&self, counts: &[RejectionCount], samples: &[(ProjectId, Reason, RejectionSample)], today: i64) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        for row in counts {
            change.execute(
                "INSERT INTO rejections (project_id, day, reason, count, last_at) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (project_id, day, reason)
                 DO UPDATE SET count = count + excluded.count, last_at = MAX(last_at, excluded.last_at)",
                (row.project.0, row.day, row.reason.as_str(), row.count as i64, row.last_at.0),
            )?;
        }
        for (project, reason, sample) in samples {
            change.execute(
                "INSERT INTO rejection_samples (project_id, reason, at, field, record) VALUES ($1, $2, $3, $4, $5)",
                (project.0, reason.as_str(), sample.at.0, &sample.field, &sample.record),
            )?;
            change.execute(
                "DELETE FROM rejection_samples WHERE project_id = $1 AND reason = $2 AND id <=
                     (SELECT id FROM rejection_samples WHERE project_id = $1 AND reason = $2 ORDER BY id DESC LIMIT 1 OFFSET $3)",
                (project.0, reason.as_str(), REJECTION_SAMPLES_MAX as i64),
            )?;
        }
        change.execute("DELETE FROM rejections WHERE day < $1", [today - REJECTION_DAYS_MAX])?;
        change.commit()?;
        Ok(())
    }

    /// The counts of a project from one day to another, both included, the newest day first.
    pub fn rejections(&self, project: ProjectId, from: i64, to: i64) -> Result<Vec<RejectionCount>> {
        let connection = self.lock();
        let mut found = connection.prepare(
            "SELECT day, reason, count, last_at FROM rejections WHERE project_id = $1 AND day BETWEEN $2 AND $3
             ORDER BY day DESC, count DESC, reason",
        )?;
        let mut rows = found.query((project.0, from, to))?;
        let mut counts = Vec::new();
        while let Some(row) = rows.next()? {
            let reason: String = row.get(1)?;
            // A reason of a newer release is not known here.
            if let Some(reason) = Reason::parse(&reason) {
                let (count, last_at) = (row.get::<_, i64>(2)? as u64, Timestamp(row.get(3)?));
                counts.push(RejectionCount { project, day: row.get(0)?, reason, count, last_at });
            }
        }
        Ok(counts)
    }

    /// The samples of a project, by reason the newest first.
    pub fn rejection_samples(&self, project: ProjectId) -> Result<Vec<(Reason, RejectionSample)>> {
        let connection = self.lock();
        let mut found =
            connection.prepare("SELECT reason, at, field, record FROM rejection_samples WHERE project_id = $1 ORDER BY reason, id DESC")?;
        let mut rows = found.query([project.0])?;
        let mut samples = Vec::new();
        while let Some(row) = rows.next()? {
            let reason: String = row.get(0)?;
            let sample = RejectionSample { at: Timestamp(row.get(1)?), field: row.get(2)?, record: row.get(3)? };
            samples.extend(Reason::parse(&reason).map(|reason| (reason, sample)));
        }
        Ok(samples)
    }

    /// Forgets every count and sample of a project. Admins may.
    pub fn clear_rejections(&self, project: ProjectId, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_admin(&change, project, by, "clear what was not stored")?;
        change.execute("DELETE FROM rejections WHERE project_id = $1", [project.0])?;
        change.execute("DELETE FROM rejection_samples WHERE project_id = $1", [project.0])?;
        audit::append(&change, by, Some(project), "rejections clear", "")?;
        self.finish(change, &[])
    }

    /// Adds records of tokens that nobody owns.
    pub fn add_unknown_tokens(&self, tokens: &[UnknownToken]) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let add = "UPDATE unknown_tokens SET count = count + $1, last_at = MAX(last_at, $2) WHERE name = $3";
        let insert = "INSERT INTO unknown_tokens (name, first_at, last_at, count) VALUES ($1, $2, $3, $4)";
        for token in tokens {
            if change.execute(add, (token.count as i64, token.last_at.0, &token.name))? > 0 {
                continue;
            }
            let known: i64 = change.query_row("SELECT COUNT(*) FROM unknown_tokens", [], |row| row.get(0))?;
            let name = if known < UNKNOWN_TOKENS_MAX { token.name.as_str() } else { OTHER_TOKENS };
            if change.execute(add, (token.count as i64, token.last_at.0, name))? == 0 {
                change.execute(insert, (name, token.first_at.0, token.last_at.0, token.count as i64))?;
            }
        }
        change.commit()?;
        Ok(())
    }

    /// The tokens that nobody owns, the last to come first.
    pub fn unknown_tokens(&self) -> Result<Vec<UnknownToken>> {
        let connection = self.lock();
        let mut found = connection.prepare("SELECT name, first_at, last_at, count FROM unknown_tokens ORDER BY last_at DESC, name")?;
        let rows = found.query_map([], |row| {
            Ok(UnknownToken {
                name: row.get(0)?,
                first_at: Timestamp(row.get(1)?),
                last_at: Timestamp(row.get(2)?),
                count: row.get::<_, i64>(3)? as u64,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Forgets every unknown token. Operators may.
    pub fn clear_unknown_tokens(&self, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        members::require_operator(&change, by, "clear unknown tokens")?;
        change.execute("DELETE FROM unknown_tokens", [])?;
        audit::append(&change, by, None, "unknown tokens clear", "")?;
        self.finish(change, &[])
    }
}
