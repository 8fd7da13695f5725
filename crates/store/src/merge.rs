//! Merges sorted rows into one segment without holding them all in memory: packed parts of the tail when they are sealed, segments when
//! they are compacted.

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryBuilder, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array, new_null_array,
};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Field, SchemaRef};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::batch::{self, Batch, Wanted, fixed};
use crate::dedup::Key;
use crate::error::StoreError;
use crate::pack::COLUMNS_MAX;
use crate::record::{self, Spelling};
use crate::schema::{self, Kind};
use crate::segment::{Columns, Live, Rows};
use crate::snapshot::Snapshot;
use crate::tail::Packed;
use crate::writer::{CHUNK_ROWS, Encoded, Writer};

/// Batches that are picked from at a time: with very many events a batch is a few rows, and all of them are looked at for every column.
const BATCHES_MAX: usize = 128;

/// Batches of rows of one event each, with the number of their first row.
type Batches<'a> = Box<dyn Iterator<Item = Result<(Arc<str>, u32, RecordBatch), StoreError>> + 'a>;

/// Sorted rows that take part in a merge.
pub(crate) struct Source<'a> {
    batches: Batches<'a>,
    schema: SchemaRef,
    /// The properties outside the columns; `None`: any.
    spilled: Option<&'a FxHashSet<String>>,
    rows: usize,
    /// Every row's key, where it is known.
    keys: Option<&'a [Key]>,
}

impl<'a> Source<'a> {
    pub(crate) fn segment(live: &'a Live) -> Result<Self, StoreError> {
        let columns = Columns { ids: true, rank: true, properties: Some(&Wanted::All) };
        let rows = Rows::open(&live.file, live.file.index.events.clone(), columns)?;
        let (schema, spilled) = (live.file.schema()?, live.file.index.spilled.as_ref());
        Ok(Self { batches: Box::new(rows), schema, spilled, rows: live.file.rows as usize, keys: None })
    }

    pub(crate) fn packed(packed: &'a Packed) -> Self {
        let batches = packed.pieces(|_| true).map(|(event, first, batch)| Ok((event.clone(), first, batch)));
        let schema = packed.batch.schema();
        Self { batches: Box::new(batches), schema, spilled: Some(&packed.spilled), rows: packed.keys.len(), keys: Some(&packed.keys) }
    }
}

/// One source's rows, a batch at a time.
struct Cursor<'a> {
    batches: Batches<'a>,
    /// Which source it reads.
    source: usize,
    keys: Option<&'a [Key]>,
    event: Arc<str>,
    /// The number of the batch's first row in its source.
    first: usize,
    /// Which of the merge's batches it is.
    batch: usize,
    users: Vec<u128>,
    times: Int64Array,
    seqs: UInt64Array,
    indexes: UInt32Array,
    at: usize,
}

/// A merged segment, and where each source's rows stand in it.
pub(crate) struct Merged {
    pub encoded: Encoded,
    rows: Vec<Vec<u32>>,
}

impl Merged {
    /// Rows of the sources as rows of the merged segment, ascending.
    pub(crate) fn rows<'r>(&self, of_sources: impl IntoIterator<Item = &'r [u32]>) -> Vec<u32> {
        let merged = self.rows.iter().zip(of_sources).flat_map(|(merged, rows)| rows.iter().map(|row| merged[*row as usize]));
        let mut merged: Vec<u32> = merged.collect();
        merged.sort_unstable();
        merged
    }
}

/// Merges sources.
/// Stops between chunks once `stop` turns true.
pub(crate) fn merge(snapshot: &Snapshot, sources: Vec<Source<'_>>, stop: &AtomicBool) -> Result<Merged, StoreError> {
    let (schema, demoted) = union(&sources);
    let mut writer = Writer::new(schema.clone())?;
    sources.iter().for_each(|source| writer.note_spilled(source.spilled));
    writer.note_spilled(Some(&demoted));
    let mut batches: Vec<RecordBatch> = Vec::new();
    let mut rows: Vec<Vec<u32>> = sources.iter().map(|source| Vec::with_capacity(source.rows)).collect();
    let mut cursors = Vec::new();
    for (at, source) in sources.into_iter().enumerate() {
        cursors.extend(Cursor::open(at, source, &schema, &mut batches)?);
    }
    let (mut picked, mut written) = (Vec::with_capacity(CHUNK_ROWS), 0_u32);
    // The cursors by their rows, least last: mostly the same one goes on.
    let mut order: Vec<usize> = (0..cursors.len()).collect();
    order.sort_by(|a, b| cursors[*b].order(&cursors[*a]));
    while let Some(least) = order.pop() {
        let cursor = &mut cursors[least];
        let at = cursor.at;
        writer.note(&cursor.event, cursor.users[at], cursor.key(snapshot, &batches)?);
        rows[cursor.source].push(written);
        written += 1;
        picked.push((cursor.batch, at));
        cursor.at += 1;
        let goes_on = cursor.at < cursor.users.len() || cursor.next(&schema, &mut batches)?;
        if picked.len() == CHUNK_ROWS || batches.len() >= BATCHES_MAX + cursors.len() {
            if stop.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(StoreError::Stopped);
            }
            flush(&mut writer, &mut picked, &mut batches, &mut cursors)?;
        }
        if goes_on {
            let moved = &cursors[least];
            let place = order.iter().rev().take_while(|other| cursors[**other].order(moved).is_lt()).count();
            order.insert(order.len() - place, least);
        }
    }
    flush(&mut writer, &mut picked, &mut batches, &mut cursors)?;
    Ok(Merged { encoded: writer.finish()?, rows })
}

/// Writes the picked rows and lets go of the batches that no cursor stands in.
fn flush(
    writer: &mut Writer,
    picked: &mut Vec<(usize, usize)>,
    batches: &mut Vec<RecordBatch>,
    cursors: &mut [Cursor<'_>],
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

/// The columns of all sources, and the properties that lose theirs because there are too many.
fn union(sources: &[Source<'_>]) -> (SchemaRef, FxHashSet<String>) {
    let mut counts: FxHashMap<(Kind, &str), (usize, usize)> = FxHashMap::default();
    for field in sources.iter().flat_map(|source| source.schema.fields()) {
        if let Some(column) = schema::property_of(field.name()) {
            let order = counts.len();
            counts.entry(column).or_insert((order, 0)).1 += 1;
        }
    }
    let mut columns: Vec<_> = counts.into_iter().collect();
    columns.sort_unstable_by_key(|(_, (order, sources))| (std::cmp::Reverse(*sources), *order));
    let demoted = columns.split_off(columns.len().min(COLUMNS_MAX));
    columns.sort_unstable_by_key(|(_, (order, _))| *order);
    let demoted = demoted.into_iter().map(|((_, name), _)| name.to_owned()).collect();
    (schema::events(columns.into_iter().map(|(column, _)| column)), demoted)
}

impl<'a> Cursor<'a> {
    fn open(at: usize, source: Source<'a>, schema: &SchemaRef, batches: &mut Vec<RecordBatch>) -> Result<Option<Self>, StoreError> {
        let (times, seqs, indexes) = (Int64Array::from(vec![0; 0]), UInt64Array::from(vec![0; 0]), UInt32Array::from(vec![0; 0]));
        let mut cursor = Self {
            batches: source.batches,
            source: at,
            keys: source.keys,
            event: "".into(),
            first: 0,
            batch: 0,
            users: Vec::new(),
            times,
            seqs,
            indexes,
            at: 0,
        };
        Ok(cursor.next(schema, batches)?.then_some(cursor))
    }

    /// Goes on to the next batch; false at the end.
    fn next(&mut self, schema: &SchemaRef, batches: &mut Vec<RecordBatch>) -> Result<bool, StoreError> {
        let Some(item) = self.batches.next() else { return Ok(false) };
        let (event, first, batch) = item?;
        let names: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&*event, batch.num_rows())));
        let spilled = spilled(&event, &batch, schema)?;
        let column = |field: &Arc<Field>| match (field.name().as_str(), &spilled) {
            (schema::EVENT, _) => names.clone(),
            (schema::SPILLED, Some(spilled)) => spilled.clone(),
            (name, _) => batch.column_by_name(name).cloned().unwrap_or_else(|| new_null_array(field.data_type(), batch.num_rows())),
        };
        let columns = schema.fields().iter().map(column).collect();
        self.users = batch::users(&batch)?;
        self.times = fixed::<Int64Array>(&batch, schema::TIME)?.clone();
        self.seqs = fixed::<UInt64Array>(&batch, schema::SEQ)?.clone();
        self.indexes = fixed::<UInt32Array>(&batch, schema::INDEX)?.clone();
        (self.event, self.first, self.at, self.batch) = (event, first as usize, 0, batches.len());
        batches.push(RecordBatch::try_new(schema.clone(), columns)?);
        Ok(true)
    }

    /// The key of the row.
    fn key(&self, snapshot: &Snapshot, batches: &[RecordBatch]) -> Result<Key, StoreError> {
        if let Some(keys) = self.keys {
            return Ok(keys[self.first + self.at]);
        }
        let (batch, at) = (&batches[self.batch], self.at);
        let ids: [&StringArray; 2] = [fixed(batch, schema::DISTINCT_ID)?, fixed(batch, schema::INSERT_ID)?];
        Ok(snapshot.key(&self.event, ids[0].value(at), self.times.value(at), ids[1].value(at)))
    }

    fn order(&self, other: &Self) -> Ordering {
        let place = |cursor: &Self| {
            let at = cursor.at;
            (cursor.users[at], cursor.times.value(at), cursor.seqs.value(at), cursor.indexes.value(at))
        };
        self.event.cmp(&other.event).then_with(|| place(self).cmp(&place(other)))
    }
}

/// What rows hold outside the merged columns, where a column of theirs is not among them.
fn spilled(event: &Arc<str>, batch: &RecordBatch, merged: &SchemaRef) -> Result<Option<ArrayRef>, StoreError> {
    let is_demoted = |field: &&Arc<Field>| schema::property_of(field.name()).is_some() && merged.index_of(field.name()).is_err();
    let demoted: Vec<String> = batch.schema_ref().fields().iter().filter(is_demoted).map(|field| field.name().clone()).collect();
    if demoted.is_empty() {
        return Ok(None);
    }
    let narrow = batch.project(&demoted.iter().filter_map(|name| batch.schema_ref().index_of(name).ok()).collect::<Vec<_>>())?;
    let values = Batch::of_columns(event, &narrow)?;
    let known: Option<&BinaryArray> = fixed(batch, schema::SPILLED).ok();
    let (mut builder, mut bytes) = (BinaryBuilder::new(), Vec::new());
    for row in 0..batch.num_rows() {
        let mut rest = match known.filter(|known| known.is_valid(row)) {
            Some(known) => record::Reader { bytes: known.value(row) }.properties(0).map_err(|error| StoreError::Io(error.to_string()))?,
            None => model::value::Properties::default(),
        };
        values.each_property(row, &mut |name, value| drop(rest.insert(name.to_owned(), value.into())));
        if rest.is_empty() {
            builder.append_null();
        } else {
            bytes.clear();
            record::put_properties(&mut bytes, &rest, Spelling::Fast);
            builder.append_value(&bytes);
        }
    }
    Ok(Some(Arc::new(builder.finish())))
}
