//! Compaction merges segments of events into one without holding their rows in memory.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array, new_null_array};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::SchemaRef;
use rustc_hash::FxHashSet;

use crate::batch::{self, Wanted, fixed};
use crate::error::StoreError;
use crate::schema::{self, Kind};
use crate::segment::{Columns, Live, Rows};
use crate::snapshot::Snapshot;
use crate::writer::{CHUNK_ROWS, Encoded, Writer};

/// One segment's rows, a batch at a time.
struct Cursor {
    rows: Rows,
    superseded: Arc<Vec<u32>>,
    event: Arc<str>,
    /// The number of the batch's first row in its file.
    first: u32,
    /// Which of the merge's batches it is.
    batch: usize,
    users: Vec<u128>,
    times: Int64Array,
    seqs: UInt64Array,
    indexes: UInt32Array,
    at: usize,
}

/// The merged segment, and which of its rows are superseded.
pub(crate) fn merge(snapshot: &Snapshot, segments: &[Live]) -> Result<(Encoded, Vec<u32>), StoreError> {
    let schema = union(segments)?;
    let mut writer = Writer::new(schema.clone())?;
    segments.iter().for_each(|live| writer.note_spilled(live.file.index.spilled.as_ref()));
    let mut batches: Vec<RecordBatch> = Vec::new();
    let mut cursors = Vec::new();
    for live in segments {
        let columns = Columns { ids: true, rank: true, properties: Some(&Wanted::All) };
        let rows = Rows::open(&live.file, live.file.index.events.clone(), columns)?;
        cursors.extend(Cursor::open(rows, live.superseded.clone(), &schema, &mut batches)?);
    }
    let (mut picked, mut superseded, mut written) = (Vec::with_capacity(CHUNK_ROWS), Vec::new(), 0_u32);
    while let Some(least) = (0..cursors.len()).min_by(|a, b| cursors[*a].order(&cursors[*b])) {
        let cursor = &mut cursors[least];
        let (batch, at) = (&batches[cursor.batch], cursor.at);
        let ids: [&StringArray; 2] = [fixed(batch, schema::DISTINCT_ID)?, fixed(batch, schema::INSERT_ID)?];
        let key = snapshot.key(&cursor.event, ids[0].value(at), cursor.times.value(at), ids[1].value(at));
        writer.note(&cursor.event, cursor.users[at], key);
        if cursor.superseded.binary_search(&(cursor.first + at as u32)).is_ok() {
            superseded.push(written);
        }
        written += 1;
        picked.push((cursor.batch, at));
        cursor.at += 1;
        let ended = cursor.at == cursor.users.len() && !cursor.next(&schema, &mut batches)?;
        if picked.len() == CHUNK_ROWS {
            flush(&mut writer, &mut picked, &mut batches, &mut cursors)?;
        }
        if ended {
            cursors.swap_remove(least);
        }
    }
    flush(&mut writer, &mut picked, &mut batches, &mut cursors)?;
    Ok((writer.finish()?, superseded))
}

/// Writes the picked rows and lets go of the batches that no cursor stands in.
fn flush(
    writer: &mut Writer,
    picked: &mut Vec<(usize, usize)>,
    batches: &mut Vec<RecordBatch>,
    cursors: &mut [Cursor],
) -> Result<(), StoreError> {
    if !picked.is_empty() {
        writer.write(&interleave_record_batch(&batches.iter().collect::<Vec<_>>(), picked)?)?;
        picked.clear();
    }
    let mut kept = Vec::with_capacity(cursors.len());
    for cursor in cursors {
        kept.push(batches[cursor.batch].clone());
        cursor.batch = kept.len() - 1;
    }
    *batches = kept;
    Ok(())
}

/// All columns of the segments.
fn union(segments: &[Live]) -> Result<SchemaRef, StoreError> {
    let (mut seen, mut columns): (FxHashSet<(Kind, String)>, Vec<(Kind, String)>) = Default::default();
    for live in segments {
        for field in live.file.schema()?.fields() {
            if let Some((kind, name)) = schema::property_of(field.name())
                && seen.insert((kind, name.to_owned()))
            {
                columns.push((kind, name.to_owned()));
            }
        }
    }
    Ok(schema::events(columns.iter().map(|(kind, name)| (*kind, name.as_str()))))
}

impl Cursor {
    fn open(rows: Rows, superseded: Arc<Vec<u32>>, schema: &SchemaRef, batches: &mut Vec<RecordBatch>) -> Result<Option<Self>, StoreError> {
        let (times, seqs, indexes) = (Int64Array::from(vec![0; 0]), UInt64Array::from(vec![0; 0]), UInt32Array::from(vec![0; 0]));
        let mut cursor = Self { rows, superseded, event: "".into(), first: 0, batch: 0, users: Vec::new(), times, seqs, indexes, at: 0 };
        Ok(cursor.next(schema, batches)?.then_some(cursor))
    }

    /// Goes on to the next batch; false at the end.
    fn next(&mut self, schema: &SchemaRef, batches: &mut Vec<RecordBatch>) -> Result<bool, StoreError> {
        let Some(item) = self.rows.next() else { return Ok(false) };
        let (event, first, batch) = item?;
        let event_column: arrow::array::ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&*event, batch.num_rows())));
        let column = |field: &Arc<arrow::datatypes::Field>| match batch.column_by_name(field.name()) {
            Some(column) => column.clone(),
            None if field.name() == schema::EVENT => event_column.clone(),
            None => new_null_array(field.data_type(), batch.num_rows()),
        };
        let columns = schema.fields().iter().map(column).collect();
        self.users = batch::users(&batch)?;
        self.times = fixed::<Int64Array>(&batch, schema::TIME)?.clone();
        self.seqs = fixed::<UInt64Array>(&batch, schema::SEQ)?.clone();
        self.indexes = fixed::<UInt32Array>(&batch, schema::INDEX)?.clone();
        (self.event, self.first, self.at, self.batch) = (event, first, 0, batches.len());
        batches.push(RecordBatch::try_new(schema.clone(), columns)?);
        Ok(true)
    }

    fn order(&self, other: &Self) -> Ordering {
        let rest = |cursor: &Self| {
            (cursor.users[cursor.at], cursor.times.value(cursor.at), cursor.seqs.value(cursor.at), cursor.indexes.value(cursor.at))
        };
        self.event.cmp(&other.event).then_with(|| rest(self).cmp(&rest(other)))
    }
}
