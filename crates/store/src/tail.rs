//! Events that are not sealed yet. They arrive as records of the log and are packed into columns soon, which takes a tenth of the memory
//! and is what reports read fastest. Sealing merges the packed parts into a segment.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use model::Event;
use rustc_hash::FxHashSet;

use crate::batch::{self, fixed};
use crate::dedup::{self, Key, Keys};
use crate::error::StoreError;
use crate::{pack, schema};

/// One event that is not packed yet: where it stands in the log, and what is derived from it.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub event: Event,
    pub user: u128,
    pub key: Key,
    pub seq: u64,
    pub index: u32,
}

/// A piece of the tail: one record of the log, or several in columns.
pub(crate) struct Part {
    pub seq_min: u64,
    pub seq_max: u64,
    /// What its events took as they came (`weight.rs`), also once they are packed.
    pub bytes: u64,
    pub content: Content,
}

pub(crate) enum Content {
    Fresh(Vec<Row>),
    Packed(Packed),
}

/// Rows in columns, sorted as in a segment.
pub(crate) struct Packed {
    pub batch: RecordBatch,
    /// Each event's rows, in order.
    pub events: Vec<(Arc<str>, Range<u32>)>,
    pub keys: Vec<Key>,
    pub users: Vec<u128>,
    /// The properties that have no column.
    pub spilled: FxHashSet<String>,
}

/// A row that may be a duplicate, and where it stands.
pub(crate) struct Suspect<'t> {
    pub event: &'t str,
    pub user: u128,
    pub time_ms: i64,
    pub insert_id: &'t str,
    pub key: Key,
    pub rank: dedup::Rank,
    pub part: usize,
    pub row: u32,
}

impl Part {
    /// The events of a record.
    pub(crate) fn fresh(hash_key: &[u8; 16], seq: u64, bytes: u64, events: Vec<Event>) -> Self {
        let row = |(index, event): (usize, Event)| {
            let key = dedup::key(hash_key, &event.name, &event.distinct_id, event.time.0, &event.insert_id);
            let user = dedup::user(hash_key, &event.distinct_id);
            Row { event, user, key, seq, index: index as u32 }
        };
        Self { seq_min: seq, seq_max: seq, bytes, content: Content::Fresh(events.into_iter().enumerate().map(row).collect()) }
    }

    /// Several parts as one, in columns.
    pub(crate) fn packed(parts: &[Arc<Self>]) -> Result<Self, StoreError> {
        let rows = parts.iter().flat_map(|part| match &part.content {
            Content::Fresh(rows) => rows.as_slice(),
            Content::Packed(_) => &[],
        });
        let packed = pack::pack(rows.collect())?;
        let (first, last) = (parts.first().map_or(0, |part| part.seq_min), parts.last().map_or(0, |part| part.seq_max));
        Ok(Self { seq_min: first, seq_max: last, bytes: parts.iter().map(|part| part.bytes).sum(), content: Content::Packed(packed) })
    }

    pub(crate) fn rows(&self) -> usize {
        match &self.content {
            Content::Fresh(rows) => rows.len(),
            Content::Packed(packed) => packed.keys.len(),
        }
    }

    /// Rows that are not in columns yet.
    pub(crate) fn fresh_rows(&self) -> usize {
        if let Content::Fresh(rows) = &self.content { rows.len() } else { 0 }
    }

    /// Calls `each` with every row's key and time.
    pub(crate) fn each_key(&self, mut each: impl FnMut(Key, i64)) {
        match &self.content {
            Content::Fresh(rows) => rows.iter().for_each(|row| each(row.key, row.event.time.0)),
            Content::Packed(packed) => {
                let times = packed.times();
                packed.keys.iter().enumerate().for_each(|(row, key)| each(*key, times.map_or(0, |times| times.value(row))));
            }
        }
    }

    /// The rows with these keys, of a part that is the `part`-th of its tail.
    pub(crate) fn suspects<'t>(&'t self, part: usize, keys: &Keys, into: &mut Vec<Suspect<'t>>) -> Result<(), StoreError> {
        match &self.content {
            Content::Fresh(rows) => into.extend((0_u32..).zip(rows).filter(|(_, row)| keys.contains(&row.key)).map(|(at, row)| Suspect {
                event: &row.event.name,
                user: row.user,
                time_ms: row.event.time.0,
                insert_id: &row.event.insert_id,
                key: row.key,
                rank: (row.event.authenticated, row.seq, row.index),
                part,
                row: at,
            })),
            Content::Packed(packed) => {
                let batch = &packed.batch;
                let times: &Int64Array = fixed(batch, schema::TIME)?;
                let insert_ids: &StringArray = fixed(batch, schema::INSERT_ID)?;
                let authenticated: &BooleanArray = fixed(batch, schema::AUTHENTICATED)?;
                let (seqs, indexes): (&UInt64Array, &UInt32Array) = (fixed(batch, schema::SEQ)?, fixed(batch, schema::INDEX)?);
                for (at, key) in packed.keys.iter().enumerate().filter(|(_, key)| keys.contains(key)) {
                    into.push(Suspect {
                        event: packed.event_of(at as u32),
                        user: packed.users[at],
                        time_ms: times.value(at),
                        insert_id: insert_ids.value(at),
                        key: *key,
                        rank: (authenticated.value(at), seqs.value(at), indexes.value(at)),
                        part,
                        row: at as u32,
                    });
                }
            }
        }
        Ok(())
    }
}

impl Packed {
    fn times(&self) -> Option<&Int64Array> {
        fixed(&self.batch, schema::TIME).ok()
    }

    fn event_of(&self, row: u32) -> &str {
        let at = self.events.partition_point(|(_, rows)| rows.end <= row);
        self.events.get(at).map_or("", |(event, _)| event)
    }

    /// The rows of each event that `wanted` names.
    pub(crate) fn pieces(&self, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = (&Arc<str>, u32, RecordBatch)> {
        let chosen = self.events.iter().filter(move |(event, _)| wanted(event));
        chosen.map(|(event, rows)| (event, rows.start, self.batch.slice(rows.start as usize, rows.len())))
    }

    /// First and last time.
    pub(crate) fn span_ms(&self) -> (i64, i64) {
        let times = self.times().map(|times| times.values().as_ref()).unwrap_or_default();
        (times.iter().min().copied().unwrap_or_default(), times.iter().max().copied().unwrap_or_default())
    }

    pub(crate) fn of(
        batch: RecordBatch,
        events: Vec<(Arc<str>, Range<u32>)>,
        keys: Vec<Key>,
        spilled: FxHashSet<String>,
    ) -> Result<Self, StoreError> {
        let users = batch::users(&batch)?;
        debug_assert_eq!(batch.num_rows(), keys.len(), "a key for every row");
        debug_assert_eq!(batch.column(0).len(), keys.len(), "every column has every row");
        Ok(Self { batch, events, keys, users, spilled })
    }
}
