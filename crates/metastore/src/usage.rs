//! How much came in by day and project: what the quota of a day counts.

use model::ProjectId;

use crate::{Metastore, Result};

impl Metastore {
    /// Writes the bytes of a day, in days since the Unix epoch; older days are forgotten.
    pub fn set_usage(&self, day: i64, bytes: &[(ProjectId, u64)]) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        change.execute("DELETE FROM usage WHERE day < $1", [day])?;
        for (project, bytes) in bytes {
            change.execute(
                "INSERT INTO usage (project_id, day, bytes) VALUES ($1, $2, $3)
                 ON CONFLICT (project_id, day) DO UPDATE SET bytes = excluded.bytes",
                (project.0, day, *bytes as i64),
            )?;
        }
        change.commit()?;
        Ok(())
    }

    /// The bytes of a day by project.
    pub fn usage(&self, day: i64) -> Result<Vec<(ProjectId, u64)>> {
        let connection = self.lock();
        let mut found = connection.prepare("SELECT project_id, bytes FROM usage WHERE day = $1")?;
        let rows = found.query_map([day], |row| Ok((ProjectId(row.get(0)?), row.get::<_, i64>(1)?.max(0) as u64)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
