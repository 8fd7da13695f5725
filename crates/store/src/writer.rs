//! Writes segments of events: from rows of the tail when they are sealed, from segments when they are compacted.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanArray, BooleanBuilder, FixedSizeBinaryBuilder, Float64Builder, Int64Array, Int64Builder, RecordBatch,
    StringArray, StringDictionaryBuilder, UInt32Array, UInt64Array,
};
use arrow::datatypes::{Int32Type, SchemaRef};
use model::value::Properties;
use model::{Number, Value};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::dedup::Key;
use crate::error::StoreError;
use crate::record::{self, Spelling};
use crate::schema::{self, Kind};
use crate::segment::{Index, Row};

/// The rarest properties beyond so many columns spill.
pub(crate) const COLUMNS_MAX: usize = 500;
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

/// Encodes sorted rows.
pub(crate) fn encode(rows: &[&Row]) -> Result<Encoded, StoreError> {
    let columns = columns_of(rows);
    let places: FxHashMap<(&str, Kind), usize> = columns.iter().enumerate().map(|(at, (kind, name))| ((*name, *kind), at)).collect();
    let schema = schema::events(columns.iter().copied());
    let mut writer = Writer::new(schema.clone())?;
    let mut spilled_names = FxHashSet::default();
    for rows in rows.chunks(CHUNK_ROWS) {
        let mut users = FixedSizeBinaryBuilder::with_capacity(rows.len(), 16);
        let mut properties: Vec<Builder> = columns.iter().map(|(kind, _)| Builder::new(*kind)).collect();
        let mut spilled = BinaryBuilder::new();
        let mut bytes = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            writer.note(&row.event.name, row.user, row.key);
            users.append_value(row.user.to_be_bytes())?;
            let mut rest = Properties::new();
            for (name, value) in &row.event.properties {
                match places.get(&(name.as_str(), kind_of(value))) {
                    Some(place) => properties[*place].put(at, value, &mut bytes)?,
                    None => {
                        rest.insert(name.clone(), value.clone());
                    }
                }
            }
            if rest.is_empty() {
                spilled.append_null();
            } else {
                bytes.clear();
                record::put_properties(&mut bytes, &rest, Spelling::Fast);
                spilled.append_value(&bytes);
                spilled_names.extend(rest.into_keys());
            }
        }
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.event.name))),
            Arc::new(users.finish()),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.event.time.0))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.event.distinct_id))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.event.insert_id))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.event.received_at.0))),
            Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row.event.authenticated)))),
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.seq))),
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.index))),
            Arc::new(spilled.finish()),
        ];
        arrays.extend(properties.into_iter().map(|builder| builder.finish(rows.len())));
        writer.write(&RecordBatch::try_new(schema.clone(), arrays)?)?;
    }
    writer.note_spilled(Some(&spilled_names));
    writer.finish()
}

fn kind_of(value: &Value) -> Kind {
    match value {
        Value::String(_) => Kind::Text,
        Value::Number(Number::Int(_)) => Kind::Int,
        Value::Number(Number::Float(_)) => Kind::Float,
        Value::Bool(_) => Kind::Bool,
        _ => Kind::Other,
    }
}

/// The columns of these rows' properties, in the order in which they occur; the most frequent where there are too many.
fn columns_of<'r>(rows: &[&'r Row]) -> Vec<(Kind, &'r str)> {
    let mut counts: FxHashMap<(&str, Kind), (usize, usize)> = FxHashMap::default();
    for row in rows {
        for (name, value) in &row.event.properties {
            let order = counts.len();
            counts.entry((name, kind_of(value))).or_insert((order, 0)).1 += 1;
        }
    }
    let mut columns: Vec<((&str, Kind), (usize, usize))> = counts.into_iter().collect();
    columns.sort_unstable_by_key(|(_, (order, count))| (std::cmp::Reverse(*count), *order));
    columns.truncate(COLUMNS_MAX);
    columns.sort_unstable_by_key(|(_, (order, _))| *order);
    columns.into_iter().map(|((name, kind), _)| (kind, name)).collect()
}

/// One property's column while it is filled; rows that do not have it are null.
enum Builder {
    Text(StringDictionaryBuilder<Int32Type>, usize),
    Int(Int64Builder, usize),
    Float(Float64Builder, usize),
    Bool(BooleanBuilder, usize),
    Other(BinaryBuilder, usize),
}

impl Builder {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text(StringDictionaryBuilder::new(), 0),
            Kind::Int => Self::Int(Int64Builder::new(), 0),
            Kind::Float => Self::Float(Float64Builder::new(), 0),
            Kind::Bool => Self::Bool(BooleanBuilder::new(), 0),
            Kind::Other => Self::Other(BinaryBuilder::new(), 0),
        }
    }

    /// Fills up with nulls to a row.
    fn pad(&mut self, to: usize) {
        match self {
            Self::Text(builder, len) => {
                builder.append_nulls(to - *len);
                *len = to;
            }
            Self::Int(builder, len) => {
                builder.append_nulls(to - *len);
                *len = to;
            }
            Self::Float(builder, len) => {
                builder.append_nulls(to - *len);
                *len = to;
            }
            Self::Bool(builder, len) => {
                builder.append_nulls(to - *len);
                *len = to;
            }
            Self::Other(builder, len) => {
                builder.append_nulls(to - *len);
                *len = to;
            }
        }
    }

    fn put(&mut self, row: usize, value: &Value, bytes: &mut Vec<u8>) -> Result<(), StoreError> {
        self.pad(row);
        match (self, value) {
            (Self::Text(builder, len), Value::String(text)) => {
                builder.append(text)?;
                *len += 1;
            }
            (Self::Int(builder, len), Value::Number(Number::Int(int))) => {
                builder.append_value(*int);
                *len += 1;
            }
            (Self::Float(builder, len), Value::Number(Number::Float(float))) => {
                builder.append_value(*float);
                *len += 1;
            }
            (Self::Bool(builder, len), Value::Bool(flag)) => {
                builder.append_value(*flag);
                *len += 1;
            }
            (Self::Other(builder, len), value) => {
                bytes.clear();
                record::put_value(bytes, value, Spelling::Fast);
                builder.append_value(&*bytes);
                *len += 1;
            }
            // The column was chosen by the value's kind.
            _ => {}
        }
        Ok(())
    }

    fn finish(mut self, rows: usize) -> ArrayRef {
        self.pad(rows);
        match self {
            Self::Text(mut builder, _) => Arc::new(builder.finish()),
            Self::Int(mut builder, _) => Arc::new(builder.finish()),
            Self::Float(mut builder, _) => Arc::new(builder.finish()),
            Self::Bool(mut builder, _) => Arc::new(builder.finish()),
            Self::Other(mut builder, _) => Arc::new(builder.finish()),
        }
    }
}
