//! Segment files: immutable, written whole, made durable before the metastore names them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{
    Array, BinaryArray, BinaryBuilder, BooleanArray, FixedSizeBinaryArray, FixedSizeBinaryBuilder, Int64Array, RecordBatch, StringArray,
    UInt32Array, UInt64Array,
};
use bytes::Bytes;
use model::profile::{Profile, ProfileKey};
use model::{Event, Timestamp};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use crate::dedup::{Filter, Key, Keys};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::record::{self, Reader, Spelling};
use crate::{paths, schema};

/// One stored row: an event, where it stands in the log, and what is derived from it.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub event: Event,
    pub user: u128,
    pub key: Key,
    pub seq: u64,
    pub index: u32,
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
    pub filter: Filter,
    pub repeated: Keys,
    pub names: Vec<String>,
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    pub retired: AtomicBool,
}

impl SegmentFile {
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(&self.names[0])
    }

    pub(crate) fn covers(&self, time: Timestamp) -> bool {
        (self.time_min_ms..=self.time_max_ms).contains(&time.0)
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

/// Encodes sorted rows as Parquet.
pub(crate) fn encode(rows: &[&Row]) -> Result<Vec<u8>, StoreError> {
    let column = |index: usize| ColumnPath::from(schema::events().field(index).name().clone());
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(128 * 1024));
    for index in [schema::TIME, schema::RECEIVED_AT, schema::SEQ] {
        properties = properties
            .set_column_dictionary_enabled(column(index), false)
            .set_column_encoding(column(index), Encoding::DELTA_BINARY_PACKED);
    }
    for index in [schema::USER, schema::INSERT_ID] {
        properties = properties.set_column_dictionary_enabled(column(index), false);
    }
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema::events(), Some(properties.build()))?;
    let mut encoded = Vec::new();
    for rows in rows.chunks(16 * 1024) {
        let mut users = FixedSizeBinaryBuilder::with_capacity(rows.len(), 16);
        let mut blobs = BinaryBuilder::new();
        for row in rows {
            users.append_value(row.user.to_be_bytes())?;
            encoded.clear();
            record::put_properties(&mut encoded, &row.event.properties, Spelling::Fast);
            blobs.append_value(&encoded);
        }
        let batch = RecordBatch::try_new(
            schema::events(),
            vec![
                Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.event.name))),
                Arc::new(users.finish()),
                Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.event.time.0))),
                Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.event.distinct_id))),
                Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.event.insert_id))),
                Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.event.received_at.0))),
                Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row.event.authenticated)))),
                Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.seq))),
                Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.index))),
                Arc::new(blobs.finish()),
            ],
        )?;
        writer.write(&batch)?;
    }
    writer.close()?;
    Ok(bytes)
}

/// What a reader needs of each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Decodes the properties.
    pub properties: bool,
    /// Decodes ids, receipt, authentication and place in the log.
    pub ids: bool,
}

/// Yields the rows of a segment that `select` wants, by event and time. Columns that are not wanted are left empty.
pub(crate) fn read(
    segment: &SegmentFile,
    wanted: Wanted,
    select: &dyn Fn(&str, i64) -> bool,
    each: &mut dyn FnMut(Row) -> bool,
) -> Result<bool, StoreError> {
    let corrupt = |reason: &str| StoreError::Corrupt { path: segment.path().display().to_string(), reason: reason.to_owned() };
    let bytes = Bytes::from(segment.disk.read(&segment.path())?);
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let mut columns = vec![schema::EVENT, schema::USER, schema::TIME];
    if wanted.ids {
        columns.extend([schema::DISTINCT_ID, schema::INSERT_ID, schema::RECEIVED_AT, schema::AUTHENTICATED, schema::SEQ, schema::INDEX]);
    }
    if wanted.properties {
        columns.push(schema::PROPERTIES);
    }
    let mask = ProjectionMask::leaves(builder.parquet_schema(), columns.iter().copied());
    for batch in builder.with_projection(mask).with_batch_size(8192).build()? {
        let batch = batch?;
        let names = schema::events();
        let column = |index: usize| batch.column_by_name(names.field(index).name());
        let text = |index: usize| column(index).and_then(|column| column.as_any().downcast_ref::<StringArray>());
        let ints = |index: usize| column(index).and_then(|column| column.as_any().downcast_ref::<Int64Array>());
        let (Some(events), Some(times)) = (text(schema::EVENT), ints(schema::TIME)) else { return Err(corrupt("a column is missing")) };
        let users = column(schema::USER).and_then(|column| column.as_any().downcast_ref::<FixedSizeBinaryArray>());
        let users = users.ok_or_else(|| corrupt("a column is missing"))?;
        let (distinct_ids, insert_ids, received) = (text(schema::DISTINCT_ID), text(schema::INSERT_ID), ints(schema::RECEIVED_AT));
        let authenticated = column(schema::AUTHENTICATED).and_then(|column| column.as_any().downcast_ref::<BooleanArray>());
        let seqs = column(schema::SEQ).and_then(|column| column.as_any().downcast_ref::<UInt64Array>());
        let indexes = column(schema::INDEX).and_then(|column| column.as_any().downcast_ref::<UInt32Array>());
        let blobs = column(schema::PROPERTIES).and_then(|column| column.as_any().downcast_ref::<BinaryArray>());
        for row in 0..batch.num_rows() {
            if !select(events.value(row), times.value(row)) {
                continue;
            }
            let properties = match blobs {
                Some(blobs) => Reader { bytes: blobs.value(row) }.properties(0).map_err(|error| corrupt(&error.to_string()))?,
                None => Default::default(),
            };
            let event = Event {
                name: events.value(row).to_owned(),
                distinct_id: distinct_ids.map(|column| column.value(row).to_owned()).unwrap_or_default(),
                time: Timestamp(times.value(row)),
                insert_id: insert_ids.map(|column| column.value(row).to_owned()).unwrap_or_default(),
                received_at: Timestamp(received.map_or(0, |column| column.value(row))),
                authenticated: authenticated.is_some_and(|column| column.value(row)),
                properties,
            };
            let user = u128::from_be_bytes(users.value(row).try_into().map_err(|_| corrupt("a user hash has 16 bytes"))?);
            let (seq, index) = (seqs.map_or(0, |column| column.value(row)), indexes.map_or(0, |column| column.value(row)));
            if !each(Row { event, user, key: 0, seq, index }) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// A profile at rest: what it folded to (`None`: deleted) and the last operations it has seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct StoredProfile {
    pub profile: Option<Profile>,
    pub recent: Vec<String>,
}

/// Encodes profiles: a checksum, then compressed records.
pub(crate) fn encode_profiles<'a>(profiles: impl Iterator<Item = (&'a ProfileKey, &'a StoredProfile)>) -> Result<Vec<u8>, StoreError> {
    let mut plain = Vec::new();
    for (key, stored) in profiles {
        match key {
            ProfileKey::User(id) => {
                record::put_varint(&mut plain, 0);
                record::put_text(&mut plain, id);
            }
            ProfileKey::Group { key, id } => {
                record::put_varint(&mut plain, 1);
                record::put_text(&mut plain, key);
                record::put_text(&mut plain, id);
            }
        }
        record::put_varint(&mut plain, stored.recent.len() as u64);
        stored.recent.iter().for_each(|id| record::put_text(&mut plain, id));
        record::put_varint(&mut plain, u64::from(stored.profile.is_some()));
        if let Some(profile) = &stored.profile {
            record::put_properties(&mut plain, &profile.properties, Spelling::Fast);
        }
    }
    let packed = zstd::encode_all(plain.as_slice(), 1)?;
    Ok([crc32fast::hash(&packed).to_le_bytes().as_slice(), &packed].concat())
}

/// Reads such a file; `None` where it is damaged.
pub(crate) fn decode_profiles(bytes: &[u8], each: &mut dyn FnMut(ProfileKey, StoredProfile)) -> Option<()> {
    let (checksum, packed) = bytes.split_at_checked(4)?;
    if crc32fast::hash(packed).to_le_bytes() != checksum {
        return None;
    }
    let plain = zstd::decode_all(packed).ok()?;
    let mut reader = Reader { bytes: &plain };
    while !reader.bytes.is_empty() {
        let key = match reader.varint().ok()? {
            0 => ProfileKey::User(reader.string().ok()?),
            1 => ProfileKey::Group { key: reader.string().ok()?, id: reader.string().ok()? },
            _ => return None,
        };
        let recent = (0..reader.count().ok()?).map(|_| reader.string().ok()).collect::<Option<Vec<_>>>()?;
        let profile = match reader.varint().ok()? {
            1 => Some(Profile { properties: reader.properties(0).ok()? }),
            _ => None,
        };
        each(key, StoredProfile { profile, recent });
    }
    Some(())
}
