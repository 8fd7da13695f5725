//! Writes segments of events, batch by batch.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use rustc_hash::FxHashSet;

use crate::dedup::Key;
use crate::error::StoreError;
use crate::schema;
use crate::segment::Index;

/// Rows that are encoded at a time.
pub(crate) const CHUNK_ROWS: usize = 16 * 1024;

/// A segment that is being written.
pub(crate) struct Writer {
    parquet: ArrowWriter<Vec<u8>>,
    columns: String,
    index: Index,
    keys: Vec<Key>,
    users: Option<(u128, u128)>,
}

/// A segment that was written: the bytes of its file and what the file does not say.
pub(crate) struct Encoded {
    pub bytes: Vec<u8>,
    pub index: Index,
    pub keys: Vec<Key>,
    /// The least and the greatest.
    pub users: (u128, u128),
    /// The properties' columns with their types, one a line.
    pub columns: String,
}

impl Writer {
    pub(crate) fn new(columns: SchemaRef) -> Result<Self, StoreError> {
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_max_row_group_row_count(Some(256 * 1024));
        for name in [schema::TIME, schema::RECEIVED_AT, schema::SEQ] {
            let column = ColumnPath::from(name);
            properties =
                properties.set_column_dictionary_enabled(column.clone(), false).set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
        }
        for name in [schema::USER, schema::INSERT_ID, schema::SPILLED] {
            properties = properties.set_column_dictionary_enabled(ColumnPath::from(name), false);
        }
        let names = columns.fields().iter().map(|field| field.name().as_str()).filter(|name| schema::property_of(name).is_some());
        let names = names.collect::<Vec<_>>().join("\n");
        let parquet = ArrowWriter::try_new(Vec::new(), columns, Some(properties.build()))?;
        Ok(Self {
            parquet,
            columns: names,
            index: Index { events: Vec::new(), spilled: Some(FxHashSet::default()) },
            keys: Vec::new(),
            users: None,
        })
    }

    /// Notes a row that the next batch holds; rows come in the order of the file.
    pub(crate) fn note(&mut self, event: &str, user: u128, key: Key) {
        let at = self.keys.len() as u32;
        match self.index.events.last_mut() {
            Some((last, rows)) if **last == *event => rows.end = at + 1,
            _ => self.index.events.push((event.into(), at..at + 1)),
        }
        let (least, most) = self.users.unwrap_or((user, user));
        self.users = Some((least.min(user), most.max(user)));
        self.keys.push(key);
    }

    /// Names of properties that the rows hold outside their columns; `None`: any.
    pub(crate) fn note_spilled(&mut self, names: Option<&FxHashSet<String>>) {
        match (&mut self.index.spilled, names) {
            (Some(known), Some(names)) => known.extend(names.iter().cloned()),
            (known, _) => *known = None,
        }
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), StoreError> {
        Ok(self.parquet.write(batch)?)
    }

    pub(crate) fn finish(self) -> Result<Encoded, StoreError> {
        Ok(Encoded {
            bytes: self.parquet.into_inner()?,
            index: self.index,
            keys: self.keys,
            users: self.users.unwrap_or_default(),
            columns: self.columns,
        })
    }
}
