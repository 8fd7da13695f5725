//! Segment files: immutable, written whole, made durable before the metastore names them.
//!
//! A segment of events is a Parquet file and an index beside it: which rows each event has, which properties spilled, and the filter of
//! its keys. Which of its rows are superseded by a newer duplicate stands in a file of its own, written anew when it changes.

use std::io::{BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::reader::{ChunkReader, Length};
use rustc_hash::FxHashSet;

use crate::batch::Wanted;
use crate::dedup::Filter;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::record::{self, Reader};
use crate::{paths, schema};

/// Rows that a reader decodes at a time.
const BATCH_ROWS: usize = 16 * 1024;
/// Beyond so many names the index only says that there are more.
const SPILLED_NAMES_MAX: usize = 10_000;

/// What an index file holds beside the filter.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Each event's rows, in order.
    pub events: Vec<(Arc<str>, Range<u32>)>,
    /// The properties that spilled; `None`: too many to name.
    pub spilled: Option<FxHashSet<String>>,
}

/// A live segment file. Its files vanish with the last snapshot that names them once it is retired.
pub(crate) struct SegmentFile {
    pub id: i64,
    pub level: i64,
    pub rows: u64,
    pub bytes: u64,
    pub time_min_ms: i64,
    pub time_max_ms: i64,
    pub seq_min: u64,
    pub seq_max: u64,
    pub index: Index,
    pub filter: Filter,
    pub names: Vec<String>,
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    pub retired: AtomicBool,
    pub footer: OnceLock<ArrowReaderMetadata>,
}

/// A segment file and which of its rows a newer duplicate supersedes: reports skip them, an export keeps them.
#[derive(Clone)]
pub(crate) struct Live {
    pub file: Arc<SegmentFile>,
    /// Row numbers, ascending.
    pub superseded: Arc<Vec<u32>>,
    /// Where they are written.
    pub superseded_name: Option<String>,
}

impl SegmentFile {
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(&self.names[0])
    }

    pub(crate) fn covers(&self, time_ms: i64) -> bool {
        (self.time_min_ms..=self.time_max_ms).contains(&time_ms)
    }

    /// The rows of an event.
    pub(crate) fn rows_of(&self, event: &str) -> Option<Range<u32>> {
        let at = self.index.events.binary_search_by(|(name, _)| (**name).cmp(event)).ok()?;
        Some(self.index.events[at].1.clone())
    }

    fn footer(&self, file: &Chunks) -> Result<ArrowReaderMetadata, StoreError> {
        if let Some(footer) = self.footer.get() {
            return Ok(footer.clone());
        }
        let options =
            ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Optional).with_column_index_policy(PageIndexPolicy::Skip);
        let footer = ArrowReaderMetadata::load(file, options)?;
        Ok(self.footer.get_or_init(|| footer).clone())
    }

    /// The columns of its properties.
    pub(crate) fn schema(&self) -> Result<arrow::datatypes::SchemaRef, StoreError> {
        Ok(self.footer(&Chunks::of(self))?.schema().clone())
    }
}

impl Drop for SegmentFile {
    fn drop(&mut self) {
        if self.retired.load(Ordering::Relaxed) {
            for name in &self.names {
                // What stays behind is removed when the store is opened next.
                let _ = self.disk.remove(&self.dir.join(name));
            }
        }
    }
}

/// Index and filter as the bytes of a file.
pub(crate) fn encode_index(index: &Index, filter: &Filter) -> Vec<u8> {
    let mut bytes = Vec::new();
    record::put_varint(&mut bytes, index.events.len() as u64);
    for (name, rows) in &index.events {
        record::put_text(&mut bytes, name);
        record::put_varint(&mut bytes, u64::from(rows.end - rows.start));
    }
    let spilled = index.spilled.as_ref().filter(|names| names.len() <= SPILLED_NAMES_MAX);
    record::put_varint(&mut bytes, spilled.map_or(0, |names| names.len() as u64 + 1));
    let mut names: Vec<&String> = spilled.into_iter().flatten().collect();
    names.sort_unstable();
    names.into_iter().for_each(|name| record::put_text(&mut bytes, name));
    filter.put(&mut bytes);
    let checksum = crc32fast::hash(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

/// Reads such a file; `None` where it is damaged.
pub(crate) fn decode_index(bytes: &[u8]) -> Option<(Index, Filter)> {
    let mut reader = Reader { bytes: checked(bytes)? };
    let (mut events, mut at) = (Vec::new(), 0_u32);
    for _ in 0..reader.count().ok()? {
        let name: Arc<str> = reader.string().ok()?.into();
        let end = at.checked_add(u32::try_from(reader.varint().ok()?).ok()?)?;
        events.push((name, at..end));
        at = end;
    }
    let spilled = match reader.count().ok()?.checked_sub(1) {
        Some(count) => Some((0..count).map(|_| reader.string().ok()).collect::<Option<_>>()?),
        None => None,
    };
    Some((Index { events, spilled }, Filter::of_bytes(reader.bytes)?))
}

/// Row numbers as the bytes of a file.
pub(crate) fn encode_rows(rows: &[u32]) -> Vec<u8> {
    let mut bytes: Vec<u8> = rows.iter().flat_map(|row| row.to_le_bytes()).collect();
    let checksum = crc32fast::hash(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

/// Reads such a file; `None` where it is damaged.
pub(crate) fn decode_rows(bytes: &[u8]) -> Option<Vec<u32>> {
    Some(checked(bytes)?.chunks_exact(4).filter_map(|row| Some(u32::from_le_bytes(row.try_into().ok()?))).collect())
}

/// The bytes before the checksum, where it fits them.
pub(crate) fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    (crc32fast::hash(body).to_le_bytes() == checksum).then_some(body)
}

/// A segment file as Parquet's reader wants it: bytes from anywhere.
struct Chunks {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    bytes: u64,
}

/// A reader from some offset on.
struct ChunksFrom {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    at: u64,
    end: u64,
}

impl Chunks {
    fn of(segment: &SegmentFile) -> Self {
        Self { disk: segment.disk.clone(), path: segment.path(), bytes: segment.bytes }
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<ChunksFrom>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let from = ChunksFrom { disk: self.disk.clone(), path: self.path.clone(), at: start, end: self.bytes };
        Ok(BufReader::with_capacity(8 << 10, from))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        Ok(self.disk.read_at(&self.path, start, length)?.into())
    }
}

impl Read for ChunksFrom {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min((self.end - self.at) as usize);
        let bytes = self.disk.read_at(&self.path, self.at, length)?;
        buffer[..length].copy_from_slice(&bytes);
        self.at += length as u64;
        Ok(length)
    }
}

/// Which columns a reader decodes, beyond user and time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Columns<'w> {
    /// `distinct_id` and `insert_id`.
    pub ids: bool,
    /// Receipt, authentication and place in the log.
    pub rank: bool,
    /// Properties.
    pub properties: Option<&'w Wanted>,
}

/// Reads chosen rows of a segment: batches of rows of one event, with the number of their first row in the file.
pub(crate) struct Rows {
    /// What is still to come, in the order of the file.
    pieces: std::collections::VecDeque<(Arc<str>, Range<u32>)>,
    reader: Option<ParquetRecordBatchReader>,
    batch: Option<RecordBatch>,
}

impl Rows {
    /// Opens a reader of these rows, which are ascending and apart.
    pub(crate) fn open(
        segment: &SegmentFile,
        pieces: impl IntoIterator<Item = (Arc<str>, Range<u32>)>,
        columns: Columns<'_>,
    ) -> Result<Self, StoreError> {
        let pieces: std::collections::VecDeque<_> = pieces.into_iter().filter(|(_, rows)| !rows.is_empty()).collect();
        if pieces.is_empty() {
            return Ok(Self { pieces, reader: None, batch: None });
        }
        let chunks = Chunks::of(segment);
        let footer = segment.footer(&chunks)?;
        let is_wanted = |name: &str| match name {
            schema::USER | schema::TIME => true,
            schema::DISTINCT_ID | schema::INSERT_ID => columns.ids,
            schema::RECEIVED_AT | schema::AUTHENTICATED | schema::SEQ | schema::INDEX => columns.rank,
            schema::SPILLED => match columns.properties {
                None => false,
                Some(Wanted::All) => true,
                Some(Wanted::Named(names)) => {
                    segment.index.spilled.as_ref().is_none_or(|spilled| names.iter().any(|name| spilled.contains(name)))
                }
            },
            column => match (columns.properties, schema::property_of(column)) {
                (Some(Wanted::All), Some(_)) => true,
                (Some(Wanted::Named(names)), Some((_, name))) => names.iter().any(|wanted| wanted == name),
                _ => false,
            },
        };
        let leaves = footer.schema().fields().iter().enumerate().filter(|(_, field)| is_wanted(field.name())).map(|(leaf, _)| leaf);
        let mask = ProjectionMask::leaves(footer.parquet_schema(), leaves);
        let mut builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(chunks, footer).with_projection(mask).with_batch_size(BATCH_ROWS);
        let chosen: usize = pieces.iter().map(|(_, rows)| rows.len()).sum();
        if (chosen as u64) < segment.rows {
            let ranges = pieces.iter().map(|(_, rows)| rows.start as usize..rows.end as usize);
            builder = builder.with_row_selection(RowSelection::from_consecutive_ranges(ranges, segment.rows as usize));
        }
        Ok(Self { pieces, reader: Some(builder.build()?), batch: None })
    }
}

impl Iterator for Rows {
    type Item = Result<(Arc<str>, u32, RecordBatch), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = match self.batch.take() {
            Some(batch) => batch,
            None => match self.reader.as_mut()?.next()? {
                Ok(batch) => batch,
                Err(error) => return Some(Err(error.into())),
            },
        };
        let Some((event, rows)) = self.pieces.front_mut() else {
            return Some(Err(StoreError::Io("a segment has more rows than its index".to_owned())));
        };
        let taken = batch.num_rows().min(rows.len());
        let (event, first) = (event.clone(), rows.start);
        rows.start += taken as u32;
        if rows.start == rows.end {
            self.pieces.pop_front();
        }
        if taken < batch.num_rows() {
            self.batch = Some(batch.slice(taken, batch.num_rows() - taken));
        }
        Some(Ok((event, first, batch.slice(0, taken))))
    }
}

/// Writes a file under its final name; when this returns, it survives a power cut.
pub(crate) fn write_file(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let unfinished = dir.join(paths::unfinished(name));
    let mut file = disk.create(&unfinished)?;
    file.write_all(bytes)?;
    #[cfg(not(sluice_mutant = "no_segment_sync"))]
    file.sync()?;
    drop(file);
    disk.rename(&unfinished, &dir.join(name))?;
    #[cfg(not(sluice_mutant = "no_dir_sync"))]
    disk.sync_dir(dir)?;
    Ok(())
}
