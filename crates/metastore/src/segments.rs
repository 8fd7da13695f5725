//! The segments table: which files are live. One transaction publishes, replaces and moves `sealed_through`.

use model::ProjectId;
use rusqlite::Row;

use crate::{Metastore, Result};

/// What a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentKind {
    /// Events.
    Events,
    /// Profiles.
    Profiles,
    /// Links of ids to users.
    Links,
}

impl SegmentKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Profiles => "profiles",
            Self::Links => "links",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Events, Self::Profiles, Self::Links].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A segment as the store describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns are described in design: storage and engine")]
pub struct NewSegment {
    pub project: ProjectId,
    pub kind: SegmentKind,
    pub level: i64,
    pub sort_order: String,
    pub time_min_ms: i64,
    pub time_max_ms: i64,
    pub user_min: [u8; 16],
    pub user_max: [u8; 16],
    pub rows: i64,
    pub bytes: i64,
    pub partition: i64,
    pub seq_min: i64,
    pub seq_max: i64,
    pub identity_seq: i64,
    pub columns: String,
    pub path: String,
    pub superseded_path: Option<String>,
    pub deleted_path: Option<String>,
    pub format_version: i64,
}

/// A live segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its row.
    pub id: i64,
    /// Everything else.
    pub row: NewSegment,
}

/// One atomic change of what is live.
#[derive(Debug, Clone, Default)]
pub struct SegmentChange {
    /// Segments that become live.
    pub add: Vec<NewSegment>,
    /// Segments that stop being live.
    pub remove: Vec<i64>,
    /// New paths of `superseded` bit sets.
    pub superseded: Vec<(i64, Option<String>)>,
    /// Partition and sequence number that everything up to is sealed.
    pub sealed_through: Option<(i64, i64)>,
}

const COLUMNS: &str = "id, project_id, kind, level, sort_order, time_min_ms, time_max_ms, user_min, user_max, rows, bytes,
    log_partition, seq_min, seq_max, identity_seq, columns, path, superseded_path, deleted_path, format_version";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Segment> {
    let kind: String = row.get(2)?;
    Ok(Segment {
        id: row.get(0)?,
        row: NewSegment {
            project: ProjectId(row.get(1)?),
            kind: SegmentKind::parse(&kind).unwrap_or(SegmentKind::Events),
            level: row.get(3)?,
            sort_order: row.get(4)?,
            time_min_ms: row.get(5)?,
            time_max_ms: row.get(6)?,
            user_min: row.get(7)?,
            user_max: row.get(8)?,
            rows: row.get(9)?,
            bytes: row.get(10)?,
            partition: row.get(11)?,
            seq_min: row.get(12)?,
            seq_max: row.get(13)?,
            identity_seq: row.get(14)?,
            columns: row.get(15)?,
            path: row.get(16)?,
            superseded_path: row.get(17)?,
            deleted_path: row.get(18)?,
            format_version: row.get(19)?,
        },
    })
}

impl Metastore {
    /// Applies a change in one transaction; returns the ids of the added segments.
    pub fn publish(&self, change: &SegmentChange) -> Result<Vec<i64>> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let mut ids = Vec::with_capacity(change.add.len());
        for new in &change.add {
            transaction.execute(
                "INSERT INTO segments (project_id, kind, level, sort_order, time_min_ms, time_max_ms, user_min, user_max, rows, bytes,
                     log_partition, seq_min, seq_max, identity_seq, columns, path, superseded_path, deleted_path, format_version)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
                rusqlite::params![
                    new.project.0,
                    new.kind.as_str(),
                    new.level,
                    new.sort_order,
                    new.time_min_ms,
                    new.time_max_ms,
                    new.user_min,
                    new.user_max,
                    new.rows,
                    new.bytes,
                    new.partition,
                    new.seq_min,
                    new.seq_max,
                    new.identity_seq,
                    new.columns,
                    new.path,
                    new.superseded_path,
                    new.deleted_path,
                    new.format_version,
                ],
            )?;
            ids.push(transaction.last_insert_rowid());
        }
        for id in &change.remove {
            transaction.execute("DELETE FROM segments WHERE id = $1", [id])?;
        }
        for (id, path) in &change.superseded {
            transaction.execute("UPDATE segments SET superseded_path = $1 WHERE id = $2", (path, id))?;
        }
        if let Some((partition, seq)) = change.sealed_through {
            transaction.execute(
                "INSERT INTO sealed_through (log_partition, seq) VALUES ($1, $2)
                 ON CONFLICT (log_partition) DO UPDATE SET seq = MAX(seq, excluded.seq)",
                (partition, seq),
            )?;
        }
        transaction.commit()?;
        Ok(ids)
    }

    /// The live segments of a project, oldest first.
    pub fn segments(&self, project: ProjectId) -> Result<Vec<Segment>> {
        let connection = self.lock();
        let mut found = connection.prepare(&format!("SELECT {COLUMNS} FROM segments WHERE project_id = $1 ORDER BY id"))?;
        Ok(found.query_map([project.0], from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// Every live segment, for opening the store.
    pub fn segments_of_all_projects(&self) -> Result<Vec<Segment>> {
        let connection = self.lock();
        let mut found = connection.prepare(&format!("SELECT {COLUMNS} FROM segments ORDER BY id"))?;
        Ok(found.query_map([], from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// The sequence number that a log partition is sealed through; 0 where nothing is.
    pub fn sealed_through(&self, partition: i64) -> Result<i64> {
        let sql = "SELECT COALESCE(MAX(seq), 0) FROM sealed_through WHERE log_partition = $1";
        Ok(self.lock().query_row(sql, [partition], |row| row.get(0))?)
    }
}
