//! Packs rows into columns.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanArray, BooleanBuilder, FixedSizeBinaryBuilder, Float64Builder, Int64Array, Int64Builder, RecordBatch,
    StringArray, StringDictionaryBuilder, UInt32Array, UInt64Array,
};
use arrow::datatypes::{Int32Type, Schema};
use model::value::Properties;
use model::{Number, Value};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::error::StoreError;
use crate::record::{self, Spelling};
use crate::schema::{self, Kind};
use crate::tail::{Packed, Row};

/// The rarest properties beyond so many columns spill.
pub(crate) const COLUMNS_MAX: usize = 500;

/// Rows as columns, sorted. The event has no column: it stands in the index.
pub(crate) fn pack(rows: Vec<&Row>) -> Result<Packed, StoreError> {
    let rows = sorted(rows);
    let columns = columns_of(&rows);
    let places: FxHashMap<(&str, Kind), usize> = columns.iter().enumerate().map(|(at, (kind, name))| ((*name, *kind), at)).collect();
    let mut users = FixedSizeBinaryBuilder::with_capacity(rows.len(), 16);
    let mut properties: Vec<Builder> = columns.iter().map(|(kind, _)| Builder::new(*kind)).collect();
    let (mut spilled, mut spilled_names, mut bytes) = (BinaryBuilder::new(), FxHashSet::default(), Vec::new());
    let mut events: Vec<(Arc<str>, Range<u32>)> = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        match events.last_mut() {
            Some((last, rows)) if **last == *row.event.name => rows.end += 1,
            _ => events.push((row.event.name.as_str().into(), at as u32..at as u32 + 1)),
        }
        users.append_value(row.user.to_be_bytes())?;
        let mut rest = Properties::default();
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
    let fields =
        schema::events(columns.iter().copied()).fields().iter().filter(|field| field.name() != schema::EVENT).cloned().collect::<Vec<_>>();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
    let keys = rows.iter().map(|row| row.key).collect();
    Packed::of(batch, events, keys, spilled_names)
}

/// By event, user, time and place in the log. What is compared lies side by side: rows are all over memory.
fn sorted<'r>(rows: Vec<&'r Row>) -> Vec<&'r Row> {
    let mut names: Vec<&str> = rows.iter().map(|row| row.event.name.as_str()).collect::<FxHashSet<_>>().into_iter().collect();
    names.sort_unstable();
    let ranks: FxHashMap<&str, u32> = names.into_iter().zip(0..).collect();
    let place = |row: &&'r Row| (ranks[row.event.name.as_str()], row.user, row.event.time, row.seq, row.index);
    let mut order: Vec<_> = rows.iter().map(place).zip(0_u32..).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, at)| rows[at as usize]).collect()
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
    let mut columns: Vec<_> = counts.into_iter().collect();
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
