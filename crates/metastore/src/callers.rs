//! Who calls with which credential: what a reset would break, and who still knocks with what was revoked. Written in batches, off the
//! path of requests.

use std::collections::HashMap;

use model::time::DAY_MS;
use model::{ProjectId, Timestamp};

use crate::{Metastore, Result};

/// One way of calling.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CallerKey {
    /// The project.
    pub project: ProjectId,
    /// Which credential: `key 3`, `service account NAME`, `bearer token 5`.
    pub credential: String,
    /// What came of it.
    pub outcome: Outcome,
    /// How it was presented: `signature`, `basic`, `bearer`.
    pub scheme: &'static str,
    /// The path.
    pub endpoint: String,
    /// The client's address.
    pub address: String,
    /// What the client calls itself, at most 200 characters.
    pub user_agent: String,
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was let in.
    Accepted,
    /// Its credential was revoked.
    Revoked,
}

/// A caller as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Which credential.
    pub credential: String,
    /// `accepted` or `revoked`.
    pub outcome: String,
    /// How it was presented.
    pub scheme: String,
    /// The path.
    pub endpoint: String,
    /// The client's address.
    pub address: String,
    /// What the client calls itself.
    pub user_agent: String,
    /// When it first called.
    pub first_at: Timestamp,
    /// When it last called.
    pub last_at: Timestamp,
    /// How often.
    pub count: i64,
}

/// Callers are forgotten after so long.
const KEPT_MS: i64 = 90 * DAY_MS;
/// Callers of one credential, outcome and scheme that are told apart.
const ROWS_MAX: i64 = 200;

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Revoked => "revoked",
        }
    }
}

impl Metastore {
    /// Adds calls that were counted meanwhile, with the time of the last one of each, and forgets those of more than 90 days ago.
    pub fn add_callers(&self, calls: &[(CallerKey, Timestamp, i64)], now: Timestamp) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        for (caller, at, count) in calls {
            let key = (caller.project.0, &caller.credential, caller.outcome.as_str(), caller.scheme);
            let (rows, is_known): (i64, bool) = change.query_row(
                "SELECT COUNT(*), COALESCE(MAX(endpoint = $5 AND address = $6 AND user_agent = $7), 0) FROM callers
                 WHERE project_id = $1 AND credential = $2 AND outcome = $3 AND scheme = $4",
                (key.0, key.1, key.2, key.3, &caller.endpoint, &caller.address, &caller.user_agent),
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            // Whoever changes its name with every call becomes one of the others, and hides nobody.
            let (address, user_agent) = match is_known || rows < ROWS_MAX {
                true => (caller.address.as_str(), caller.user_agent.as_str()),
                false => ("others", "others"),
            };
            change.execute(
                "INSERT INTO callers (project_id, credential, outcome, scheme, endpoint, address, user_agent, first_at, last_at, count)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
                 ON CONFLICT (project_id, credential, outcome, scheme, endpoint, address, user_agent)
                 DO UPDATE SET last_at = excluded.last_at, count = count + excluded.count",
                rusqlite::params![
                    caller.project.0,
                    caller.credential,
                    caller.outcome.as_str(),
                    caller.scheme,
                    caller.endpoint,
                    address,
                    user_agent,
                    at.0,
                    at.0,
                    count,
                ],
            )?;
        }
        change.execute("DELETE FROM callers WHERE last_at < $1", [now.0 - KEPT_MS])?;
        change.commit()?;
        Ok(())
    }

    /// Adds events that came by old tokens.
    pub fn add_alias_events(&self, events: &[(String, i64)], now: Timestamp) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        for (token, count) in events {
            change.execute("UPDATE token_aliases SET events = events + $1, last_at = $2 WHERE token = $3", (count, now.0, token))?;
        }
        change.commit()?;
        Ok(())
    }

    /// How each credential of a project was last let in.
    pub fn last_used(&self, project: ProjectId) -> Result<HashMap<String, Caller>> {
        let newest_first = self.callers(project)?;
        let accepted = newest_first.into_iter().rev().filter(|caller| caller.outcome == Outcome::Accepted.as_str());
        Ok(accepted.map(|caller| (caller.credential.clone(), caller)).collect())
    }

    /// The callers of a project in the last 90 days, the newest first.
    pub fn callers(&self, project: ProjectId) -> Result<Vec<Caller>> {
        let connection = self.lock();
        let mut found = connection.prepare(
            "SELECT credential, outcome, scheme, endpoint, address, user_agent, first_at, last_at, count FROM callers
             WHERE project_id = $1
             ORDER BY last_at DESC
             LIMIT 10000",
        )?;
        let rows = found.query_map([project.0], |row| {
            Ok(Caller {
                credential: row.get(0)?,
                outcome: row.get(1)?,
                scheme: row.get(2)?,
                endpoint: row.get(3)?,
                address: row.get(4)?,
                user_agent: row.get(5)?,
                first_at: Timestamp(row.get(6)?),
                last_at: Timestamp(row.get(7)?),
                count: row.get(8)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
