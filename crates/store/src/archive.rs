//! Events and profiles as Parquet for other programs: a typed column per property under the property's own name, times as timestamps, lists
//! and objects as JSON. And back: the rows of such a file, or of any other that has these columns.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Float64Builder, Int64Builder, RecordBatch, StringArray, StringBuilder,
    TimestampMillisecondArray,
};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use model::profile::ProfileKey;
use model::value::Properties;
use model::{Timestamp, Value, ValueRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use rustc_hash::FxHashMap;

use crate::batch::Batch;
use crate::error::StoreError;
use crate::schema::{self, EXPORTED_EVENTS, EXPORTED_KIND, EXPORTED_PROFILES, EXPORTED_PROPERTY, Kind};

/// Writes a value as JSON: the store knows none.
pub type WriteJson = fn(ValueRef<'_>, &mut String);

/// A file has at most so many columns of properties; what the rarest names have stands in one column as JSON.
const COLUMNS_MAX: usize = 1000;
/// Rows that are encoded at a time.
const CHUNK_ROWS: usize = 16 * 1024;
/// Bytes of encoded rows that are held before they are written.
const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Whose rows a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Events.
    Events,
    /// Profiles of users and groups.
    Profiles,
}

/// Which properties rows have, and of which types: found before a file is written, since its columns stand before its rows.
#[derive(Debug, Clone, Default)]
pub struct Found {
    counts: FxHashMap<String, [u64; 5]>,
}

impl Found {
    /// Notes the properties of some rows of a batch.
    pub fn note_batch(&mut self, batch: &Batch, rows: &[usize]) {
        for (name, column) in batch.names().iter().zip(batch.columns()) {
            let kinds = rows.iter().filter_map(|row| column.value(*row)).map(Kind::of);
            let mut counts = [0; 5];
            kinds.for_each(|kind| counts[kind as usize] += 1);
            self.add(name, counts);
        }
        rows.iter().filter_map(|row| batch.rest(*row)).for_each(|rest| self.note(rest));
    }

    /// Notes properties.
    pub fn note(&mut self, properties: &Properties) {
        for (name, value) in properties {
            let mut counts = [0; 5];
            counts[Kind::of(value.into()) as usize] = 1;
            self.add(name, counts);
        }
    }

    /// Takes what another scan found.
    pub fn merge(&mut self, other: Self) {
        other.counts.iter().for_each(|(name, counts)| self.add(name, *counts));
    }

    fn add(&mut self, name: &str, counts: [u64; 5]) {
        if counts == [0; 5] {
            return;
        }
        match self.counts.get_mut(name) {
            Some(known) => known.iter_mut().zip(counts).for_each(|(known, count)| *known += count),
            None => {
                self.counts.insert(name.to_owned(), counts);
            }
        }
    }

    /// The columns, and whether some properties have none.
    fn columns(&self) -> (Vec<(String, Kind)>, bool) {
        let each = self.counts.iter().flat_map(|(name, counts)| Kind::ALL.map(|kind| (name, kind, counts[kind as usize])));
        let mut columns: Vec<_> = each.filter(|(.., count)| *count > 0).collect();
        columns.sort_unstable_by_key(|(name, kind, count)| (std::cmp::Reverse(*count), *name, *kind));
        let has_rest = columns.len() > COLUMNS_MAX;
        columns.truncate(COLUMNS_MAX);
        columns.sort_unstable_by_key(|(name, kind, _)| (*name, *kind));
        (columns.into_iter().map(|(name, kind, _)| (name.clone(), kind)).collect(), has_rest)
    }
}

/// A file that is being written.
pub struct Writer<W: Write + Send> {
    parquet: ArrowWriter<W>,
    schema: SchemaRef,
    rows: Rows,
    columns: Vec<(String, Kind)>,
    has_rest: bool,
    json: WriteJson,
    held: Vec<RecordBatch>,
    held_rows: usize,
}

impl<W: Write + Send> Writer<W> {
    /// Begins a file whose rows have these properties.
    pub fn new(out: W, rows: Rows, found: &Found, json: WriteJson) -> Result<Self, StoreError> {
        let (columns, has_rest) = found.columns();
        let fixed = match rows {
            Rows::Events => {
                EXPORTED_EVENTS.map(|name| Field::new(name, if name == schema::TIME { instants() } else { DataType::Utf8 }, false)).to_vec()
            }
            Rows::Profiles => EXPORTED_PROFILES.map(|name| Field::new(name, DataType::Utf8, true)).to_vec(),
        };
        let schema = Arc::new(Schema::new(with_properties(fixed, &columns, has_rest)));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_max_row_group_row_count(Some(128 * 1024))
            .build();
        let parquet = ArrowWriter::try_new(out, schema.clone(), Some(properties))?;
        Ok(Self { parquet, schema, rows, columns, has_rest, json, held: Vec::new(), held_rows: 0 })
    }

    /// Writes some rows of a batch of events.
    pub fn write_batch(&mut self, batch: &Batch, rows: &[usize]) -> Result<(), StoreError> {
        debug_assert_eq!(self.rows, Rows::Events);
        let text = |of: &dyn Fn(usize) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(|row| of(*row)))) };
        let times = TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| batch.times()[*row])).with_timezone("UTC");
        let mut arrays: Vec<ArrayRef> = vec![
            text(&|_| batch.event().to_string()),
            Arc::new(times),
            text(&|row| batch.distinct_id(row).to_owned()),
            text(&|row| batch.insert_id(row).to_owned()),
        ];
        let places: FxHashMap<&str, usize> = batch.names().iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
        let has_more = rows.iter().any(|row| batch.rest(*row).is_some());
        for (name, kind) in &self.columns {
            let column = places.get(name.as_str()).map(|at| &batch.columns()[*at]);
            let value = |at: usize| {
                let in_column = column.and_then(|column| column.value(rows[at]));
                in_column.or_else(|| batch.rest(rows[at])?.get(name).map(ValueRef::from))
            };
            arrays.push(match column.is_some() || has_more {
                true => array(*kind, rows.len(), value, self.json),
                false => arrow::array::new_null_array(&data_type(*kind), rows.len()),
            });
        }
        if self.has_rest {
            arrays.push(self.rest(rows.len(), |at, each| batch.each_property(rows[at], each)));
        }
        self.hold(arrays)
    }

    /// Writes profiles.
    pub fn write_profiles(&mut self, profiles: &[(ProfileKey, Properties)]) -> Result<(), StoreError> {
        debug_assert_eq!(self.rows, Rows::Profiles);
        let text =
            |of: fn(&ProfileKey) -> Option<&str>| -> ArrayRef { Arc::new(StringArray::from_iter(profiles.iter().map(|(key, _)| of(key)))) };
        let mut arrays = vec![
            text(|key| if let ProfileKey::User(id) = key { Some(id.as_str()) } else { None }),
            text(|key| if let ProfileKey::Group { key, .. } = key { Some(key.as_str()) } else { None }),
            text(|key| if let ProfileKey::Group { id, .. } = key { Some(id.as_str()) } else { None }),
        ];
        for (name, kind) in &self.columns {
            arrays.push(array(*kind, profiles.len(), |at| profiles[at].1.get(name).map(ValueRef::from), self.json));
        }
        if self.has_rest {
            arrays.push(self.rest(profiles.len(), |at, each| profiles[at].1.iter().for_each(|(name, value)| each(name, value.into()))));
        }
        self.hold(arrays)
    }

    /// What has no column of its own, as JSON.
    fn rest(&self, rows: usize, each_property: impl Fn(usize, &mut dyn FnMut(&str, ValueRef<'_>))) -> ArrayRef {
        let mut out = StringBuilder::new();
        for at in 0..rows {
            let mut rest = Properties::default();
            each_property(at, &mut |name, value| {
                if self.columns.binary_search_by(|(known, kind)| (known.as_str(), *kind).cmp(&(name, Kind::of(value)))).is_err() {
                    rest.insert(name.to_owned(), value.into());
                }
            });
            if rest.is_empty() {
                out.append_null();
                continue;
            }
            let mut text = String::new();
            (self.json)(ValueRef::Other(&Value::Object(rest)), &mut text);
            out.append_value(text);
        }
        Arc::new(out.finish())
    }

    fn hold(&mut self, arrays: Vec<ArrayRef>) -> Result<(), StoreError> {
        let batch = RecordBatch::try_new(self.schema.clone(), arrays)?;
        self.held_rows += batch.num_rows();
        self.held.push(batch);
        if self.held_rows >= CHUNK_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let chunk = concat_batches(&self.schema, &self.held)?;
        self.held.clear();
        self.held_rows = 0;
        self.parquet.write(&chunk)?;
        if self.parquet.in_progress_size() > HELD_BYTES_MAX {
            self.parquet.flush()?;
        }
        Ok(())
    }

    /// Ends the file.
    pub fn finish(mut self) -> Result<W, StoreError> {
        self.flush()?;
        Ok(self.parquet.into_inner()?)
    }
}

fn instants() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Text | Kind::Other => DataType::Utf8,
        Kind::Int => DataType::Int64,
        Kind::Float => DataType::Float64,
        Kind::Bool => DataType::Boolean,
    }
}

/// The fixed columns and those of the properties. A property of one type has its own name, one of several says the type behind it.
fn with_properties(mut fields: Vec<Field>, columns: &[(String, Kind)], has_rest: bool) -> Vec<Field> {
    let mut taken: BTreeSet<String> = fields.iter().map(|field| field.name().clone()).collect();
    let mut add = |name: &str, kind: Kind, is_alone: bool, marks: [(&str, &str); 2]| {
        let mut shown = if is_alone { name.to_owned() } else { format!("{name}:{}", kind.word()) };
        while !taken.insert(shown.clone()) {
            shown.push('_');
        }
        let marks = marks.map(|(name, value)| (name.to_owned(), value.to_owned()));
        fields.push(Field::new(shown, data_type(kind), true).with_metadata(HashMap::from(marks)));
    };
    for (name, kind) in columns {
        let is_alone = columns.iter().filter(|(other, _)| other == name).count() == 1;
        add(name, *kind, is_alone, [(EXPORTED_PROPERTY, name), (EXPORTED_KIND, kind.word())]);
    }
    if has_rest {
        add("properties", Kind::Other, true, [(EXPORTED_PROPERTY, ""), (EXPORTED_KIND, REST)]);
    }
    fields
}

/// The kind of the column of what has none.
const REST: &str = "rest";

fn array<'v>(kind: Kind, rows: usize, value: impl Fn(usize) -> Option<ValueRef<'v>>, json: WriteJson) -> ArrayRef {
    let of_kind = |at| value(at).filter(|value| Kind::of(*value) == kind);
    macro_rules! built {
        ($builder:ty, $variant:path) => {{
            let mut out = <$builder>::new();
            (0..rows).for_each(|at| match of_kind(at) {
                Some($variant(value)) => out.append_value(value),
                _ => out.append_null(),
            });
            Arc::new(out.finish())
        }};
    }
    match kind {
        Kind::Text => built!(StringBuilder, ValueRef::Text),
        Kind::Int => built!(Int64Builder, ValueRef::Int),
        Kind::Float => built!(Float64Builder, ValueRef::Float),
        Kind::Bool => built!(BooleanBuilder, ValueRef::Bool),
        Kind::Other => {
            let mut out = StringBuilder::new();
            (0..rows).for_each(|at| match of_kind(at) {
                Some(value) => {
                    let mut text = String::new();
                    json(value, &mut text);
                    out.append_value(text);
                }
                None => out.append_null(),
            });
            Arc::new(out.finish())
        }
    }
}

/// A value of a file's row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// A value of a type of its own.
    Plain(ValueRef<'a>),
    /// JSON of a value.
    Json(&'a str),
    /// JSON of an object whose members stand beside the other values.
    Members(&'a str),
}

/// A row of a file.
pub enum Row<'a> {
    /// An event.
    Event {
        /// Its name.
        name: &'a str,
        /// When it happened.
        time: Timestamp,
        /// Whose it is.
        distinct_id: &'a str,
        /// Its id; empty where it has none.
        insert_id: &'a str,
        /// Its other properties.
        cells: Vec<(&'a str, Cell<'a>)>,
    },
    /// A profile.
    Profile {
        /// Whose.
        key: ProfileKey,
        /// Its properties.
        cells: Vec<(&'a str, Cell<'a>)>,
    },
}

/// Reads a Parquet file of events or profiles, a batch at a time.
pub struct Reader {
    batches: ParquetRecordBatchReader,
    /// Which property each column is, and as what its values stand; nothing for the fixed ones.
    properties: Vec<Option<(String, String)>>,
}

impl Reader {
    /// Opens a file; the error says what it lacks.
    pub fn open(file: File) -> Result<Self, StoreError> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file)?.with_batch_size(4096);
        let schema = builder.schema().clone();
        let has = |name: &str| schema.column_with_name(name).is_some();
        let fixed: &[&str] = if has(schema::EVENT) && has(schema::TIME) {
            &EXPORTED_EVENTS
        } else if EXPORTED_PROFILES.iter().any(|name| has(name)) {
            &EXPORTED_PROFILES
        } else {
            return Err(StoreError::Io("the file has neither the columns of events nor those of profiles".to_owned()));
        };
        let properties = schema.fields().iter().map(|field| {
            let marked = field.metadata().get(EXPORTED_PROPERTY).zip(field.metadata().get(EXPORTED_KIND));
            match marked {
                Some((name, kind)) => Some((name.clone(), kind.clone())),
                None if fixed.contains(&field.name().as_str()) => None,
                None => Some((field.name().clone(), String::new())),
            }
        });
        Ok(Self { properties: properties.collect(), batches: builder.build()? })
    }

    /// Calls `each` with the rows of the next batch; false at the end.
    pub fn next(&mut self, mut each: impl FnMut(Row<'_>)) -> Result<bool, StoreError> {
        let Some(batch) = self.batches.next().transpose()? else { return Ok(false) };
        let fixed = |name: &str, wanted: &DataType| {
            batch.column_by_name(name).map(|column| cast(column, wanted)).transpose().map_err(StoreError::from)
        };
        let [event, time, distinct_id, insert_id] = EXPORTED_EVENTS;
        let (event, times) = (fixed(event, &DataType::Utf8)?, fixed(time, &DataType::Timestamp(TimeUnit::Millisecond, None))?);
        let (distinct_id, insert_id) = (fixed(distinct_id, &DataType::Utf8)?, fixed(insert_id, &DataType::Utf8)?);
        let [user, group_key, group_id] = EXPORTED_PROFILES.map(|name| fixed(name, &DataType::Utf8));
        let (user, group_key, group_id) = (user?, group_key?, group_id?);
        let mut columns = Vec::new();
        for (property, column) in self.properties.iter().zip(batch.columns()) {
            let Some((name, kind)) = property else { continue };
            // Other programs have more types of numbers and texts than we do.
            let wanted = match column.data_type() {
                known if known.is_integer() => DataType::Int64,
                known if known.is_floating() => DataType::Float64,
                DataType::Boolean => DataType::Boolean,
                _ => DataType::Utf8,
            };
            columns.push((name.as_str(), kind.as_str(), cast(column, &wanted)?));
        }
        let text = |column: &Option<ArrayRef>, row: usize| -> Option<String> {
            let column = column.as_ref()?.as_string::<i32>();
            column.is_valid(row).then(|| column.value(row).to_owned())
        };
        for row in 0..batch.num_rows() {
            let mut cells = Vec::new();
            for (name, kind, column) in &columns {
                if column.is_null(row) {
                    continue;
                }
                let cell = match (column.data_type(), *kind) {
                    (DataType::Int64, _) => Cell::Plain(ValueRef::Int(column.as_primitive::<Int64Type>().value(row))),
                    (DataType::Float64, _) => Cell::Plain(ValueRef::Float(column.as_primitive::<Float64Type>().value(row))),
                    (DataType::Boolean, _) => Cell::Plain(ValueRef::Bool(column.as_boolean().value(row))),
                    (_, REST) => Cell::Members(column.as_string::<i32>().value(row)),
                    (_, kind) if kind == Kind::Other.word() => Cell::Json(column.as_string::<i32>().value(row)),
                    _ => Cell::Plain(ValueRef::Text(column.as_string::<i32>().value(row))),
                };
                cells.push((*name, cell));
            }
            if event.is_some() {
                let (name, distinct_id) = (text(&event, row).unwrap_or_default(), text(&distinct_id, row).unwrap_or_default());
                let insert_id = text(&insert_id, row).unwrap_or_default();
                let time = times.as_ref().map_or(0, |times| times.as_primitive::<TimestampMillisecondType>().value(row));
                each(Row::Event { name: &name, time: Timestamp(time), distinct_id: &distinct_id, insert_id: &insert_id, cells });
                continue;
            }
            let group = text(&group_key, row).zip(text(&group_id, row));
            let key = group.map(|(key, id)| ProfileKey::Group { key, id });
            let key = key.unwrap_or_else(|| ProfileKey::User(text(&user, row).unwrap_or_default()));
            each(Row::Profile { key, cells });
        }
        Ok(true)
    }
}
