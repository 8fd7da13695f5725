//! The audit log: a row in the same transaction as the change it tells of, chained by hash to the row before.

use model::{ProjectId, Timestamp};
use rusqlite::{OptionalExtension, Transaction};

use crate::{Metastore, Result, sha256};

/// One row to write.
pub(crate) struct Entry<'a> {
    pub project: Option<ProjectId>,
    pub at: Timestamp,
    pub actor: &'a str,
    pub action: &'a str,
    /// Never a secret.
    pub detail: &'a str,
}

/// Writes a row; the change it tells of must not be committed without it.
pub(crate) fn append(change: &Transaction<'_>, entry: &Entry<'_>) -> Result<()> {
    let before: Option<Vec<u8>> = change.query_row("SELECT chain FROM audit ORDER BY id DESC LIMIT 1", [], |row| row.get(0)).optional()?;
    let project = entry.project.map(|project| project.0);
    let chain = link(&before.unwrap_or_default(), project, entry.at.0, entry.actor, entry.action, entry.detail);
    change.execute(
        "INSERT INTO audit (project_id, at, actor, action, detail, chain) VALUES ($1, $2, $3, $4, $5, $6)",
        (project, entry.at.0, entry.actor, entry.action, entry.detail, chain),
    )?;
    Ok(())
}

fn link(before: &[u8], project: Option<i64>, at: i64, actor: &str, action: &str, detail: &str) -> [u8; 32] {
    let mut bytes = before.to_vec();
    for field in [&project.map_or_else(String::new, |id| id.to_string()), &at.to_string(), actor, action, detail] {
        bytes.extend((field.len() as u64).to_le_bytes());
        bytes.extend(field.as_bytes());
    }
    sha256(&bytes)
}

impl Metastore {
    /// Walks the chain; the id of the first row that does not fit, or `None` where all do.
    pub fn audit_first_broken(&self) -> Result<Option<i64>> {
        let connection = self.lock();
        let mut rows = connection.prepare("SELECT id, project_id, at, actor, action, detail, chain FROM audit ORDER BY id")?;
        let mut rows = rows.query([])?;
        let mut before = Vec::new();
        while let Some(row) = rows.next()? {
            let (actor, action, detail): (String, String, String) = (row.get(3)?, row.get(4)?, row.get(5)?);
            let chain: Vec<u8> = row.get(6)?;
            if link(&before, row.get(1)?, row.get(2)?, &actor, &action, &detail) != chain.as_slice() {
                return Ok(Some(row.get(0)?));
            }
            before = chain;
        }
        Ok(None)
    }
}
