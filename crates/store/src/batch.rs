//! What a scan yields: rows of one event, as columns.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray,
};
use arrow::datatypes::Int32Type;
use model::Value;
use model::value::{Properties, ValueRef};
use rustc_hash::FxHashMap;

use crate::error::StoreError;
use crate::links::{LinksView, Moved};
use crate::record::Reader;
use crate::schema::{self, Kind};
use crate::tail::Row;

/// Which properties a scan decodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// These, in this order.
    Named(Vec<String>),
    /// Whatever the rows have.
    All,
}

/// Rows of one event. Every row has a user and a time; ids and properties stand there where they were asked for.
pub struct Batch {
    event: Arc<str>,
    users: Vec<u128>,
    times: Vec<i64>,
    ids: Option<[StringArray; 2]>,
    /// The rows that belong to another id than was sent, where ids were asked for.
    moved: Moved,
    names: Arc<[String]>,
    columns: Vec<Column>,
    /// Further properties of each row; empty where no row has any.
    rest: Vec<Option<Properties>>,
}

/// The values of one property: a row stands in at most one of the typed arrays.
#[derive(Clone, Default)]
pub struct Column {
    text: Option<(Int32Array, StringArray)>,
    ints: Option<Int64Array>,
    floats: Option<Float64Array>,
    bools: Option<BooleanArray>,
    others: Vec<Option<Value>>,
}

impl Column {
    /// The value in a row; `None` where the row does not have the property.
    pub fn value(&self, row: usize) -> Option<ValueRef<'_>> {
        if let Some((codes, words)) = &self.text
            && codes.is_valid(row)
        {
            return Some(ValueRef::Text(words.value(codes.value(row) as usize)));
        }
        if let Some(ints) = self.ints.as_ref().filter(|ints| ints.is_valid(row)) {
            return Some(ValueRef::Int(ints.value(row)));
        }
        if let Some(floats) = self.floats.as_ref().filter(|floats| floats.is_valid(row)) {
            return Some(ValueRef::Float(floats.value(row)));
        }
        if let Some(bools) = self.bools.as_ref().filter(|bools| bools.is_valid(row)) {
            return Some(ValueRef::Bool(bools.value(row)));
        }
        self.others.get(row).and_then(Option::as_ref).map(ValueRef::from)
    }

    /// The dictionary code of the string in a row, where it is one: equal codes mean equal strings within a batch.
    pub fn code(&self, row: usize) -> Option<u32> {
        let (codes, _) = self.text.as_ref()?;
        codes.is_valid(row).then(|| codes.value(row) as u32)
    }

    /// How many rows have a value.
    pub fn count(&self) -> usize {
        let valid = |array: Option<&dyn Array>| array.map_or(0, |array| array.len() - array.null_count());
        valid(self.text.as_ref().map(|(codes, _)| codes as &dyn Array))
            + valid(self.ints.as_ref().map(|ints| ints as &dyn Array))
            + valid(self.floats.as_ref().map(|floats| floats as &dyn Array))
            + valid(self.bools.as_ref().map(|bools| bools as &dyn Array))
            + self.others.iter().flatten().count()
    }

    fn put(&mut self, kind: Kind, array: &ArrayRef) -> Result<(), StoreError> {
        let any = array.as_any();
        match kind {
            Kind::Text => {
                let words: &DictionaryArray<Int32Type> = any.downcast_ref().ok_or_else(odd)?;
                let values = words.values().as_any().downcast_ref::<StringArray>().ok_or_else(odd)?;
                self.text = Some((words.keys().clone(), values.clone()));
            }
            Kind::Int => self.ints = Some(any.downcast_ref::<Int64Array>().ok_or_else(odd)?.clone()),
            Kind::Float => self.floats = Some(any.downcast_ref::<Float64Array>().ok_or_else(odd)?.clone()),
            Kind::Bool => self.bools = Some(any.downcast_ref::<BooleanArray>().ok_or_else(odd)?.clone()),
            Kind::Other => {
                let bytes = any.downcast_ref::<BinaryArray>().ok_or_else(odd)?;
                self.others.resize_with(bytes.len(), || None);
                for (row, bytes) in bytes.iter().enumerate().filter_map(|(row, bytes)| Some((row, bytes?))) {
                    self.others[row] = Some(Reader { bytes }.value(0).map_err(|error| StoreError::Io(error.to_string()))?);
                }
            }
        }
        Ok(())
    }
}

fn odd() -> StoreError {
    StoreError::Io("a segment's column has not the type that it should have".to_owned())
}

/// A fixed column of a segment.
pub(crate) fn fixed<'b, A: 'static>(batch: &'b RecordBatch, name: &str) -> Result<&'b A, StoreError> {
    batch.column_by_name(name).and_then(|column| column.as_any().downcast_ref::<A>()).ok_or_else(odd)
}

/// The keyed hashes of the users.
pub(crate) fn users(batch: &RecordBatch) -> Result<Vec<u128>, StoreError> {
    let column: &FixedSizeBinaryArray = fixed(batch, schema::USER)?;
    Ok(column.iter().map(|user| u128::from_be_bytes(user.and_then(|user| user.try_into().ok()).unwrap_or_default())).collect())
}

impl Batch {
    /// Rows of a segment.
    pub(crate) fn of_segment(event: &Arc<str>, batch: &RecordBatch, wanted: &Wanted, ids: bool) -> Result<Self, StoreError> {
        let times: &Int64Array = fixed(batch, schema::TIME)?;
        let ids = match ids {
            true => {
                Some([fixed::<StringArray>(batch, schema::DISTINCT_ID)?.clone(), fixed::<StringArray>(batch, schema::INSERT_ID)?.clone()])
            }
            false => None,
        };
        let spilled = match batch.column_by_name(schema::SPILLED) {
            Some(column) if column.null_count() < column.len() => Some(fixed::<BinaryArray>(batch, schema::SPILLED)?),
            _ => None,
        };
        let rest = |bytes: &[u8]| Reader { bytes }.properties(0).map_err(|error| StoreError::Io(error.to_string()));
        let mut made = Self {
            event: event.clone(),
            users: users(batch)?,
            times: times.values().to_vec(),
            ids,
            moved: Moved::new(),
            names: Arc::default(),
            columns: Vec::new(),
            rest: Vec::new(),
        };
        match wanted {
            Wanted::Named(names) => {
                made.names = names.as_slice().into();
                for name in names {
                    let mut column = Column::default();
                    for kind in Kind::ALL {
                        if let Some(array) = batch.column_by_name(&schema::property(kind, name)) {
                            column.put(kind, array)?;
                        }
                    }
                    made.columns.push(column);
                }
                for (row, bytes) in spilled.into_iter().flat_map(|spilled| spilled.iter().enumerate()) {
                    let Some(bytes) = bytes else { continue };
                    let mut found = rest(bytes)?;
                    for (name, column) in names.iter().zip(&mut made.columns) {
                        if let Some(value) = found.swap_remove(name) {
                            column.others.resize_with(batch.num_rows(), || None);
                            column.others[row] = Some(value);
                        }
                    }
                }
            }
            Wanted::All => {
                made.put_all(batch)?;
                if let Some(spilled) = spilled {
                    made.rest = spilled.iter().map(|bytes| bytes.map(rest).transpose()).collect::<Result<_, _>>()?;
                }
            }
        }
        Ok(made)
    }

    /// Takes every property's columns.
    fn put_all(&mut self, batch: &RecordBatch) -> Result<(), StoreError> {
        let (mut names, mut places) = (Vec::<String>::new(), FxHashMap::default());
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            let Some((kind, name)) = schema::property_of(field.name()) else { continue };
            let place = *places.entry(name).or_insert_with(|| {
                names.push(name.to_owned());
                self.columns.push(Column::default());
                names.len() - 1
            });
            self.columns[place].put(kind, array)?;
        }
        self.names = names.into();
        Ok(())
    }

    /// Properties alone: columns of a batch without the fixed ones.
    pub(crate) fn of_columns(event: &Arc<str>, batch: &RecordBatch) -> Result<Self, StoreError> {
        let mut made = Self {
            event: event.clone(),
            users: Vec::new(),
            times: Vec::new(),
            ids: None,
            moved: Moved::new(),
            names: Arc::default(),
            columns: Vec::new(),
            rest: Vec::new(),
        };
        made.put_all(batch)?;
        Ok(made)
    }

    /// Rows that are not sealed yet, all of one event.
    pub(crate) fn of_tail(event: &str, rows: &[&Row], wanted: &Wanted, ids: bool) -> Self {
        let text = |id: fn(&Row) -> &String| StringArray::from_iter_values(rows.iter().map(|row| id(row)));
        let mut made = Self {
            event: event.into(),
            users: rows.iter().map(|row| row.user).collect(),
            times: rows.iter().map(|row| row.event.time.0).collect(),
            ids: ids.then(|| [text(|row| &row.event.distinct_id), text(|row| &row.event.insert_id)]),
            moved: Moved::new(),
            names: Arc::default(),
            columns: Vec::new(),
            rest: Vec::new(),
        };
        match wanted {
            Wanted::Named(names) => {
                made.names = names.as_slice().into();
                made.columns = names.iter().map(|name| Column::of_tail(rows, name)).collect();
            }
            Wanted::All => made.rest = rows.iter().map(|row| Some(row.event.properties.clone())).collect(),
        }
        made
    }

    /// The same rows with some of their properties, for expressions that ask for them by place.
    pub fn narrowed(&self, names: &[String]) -> Self {
        let column = |name: &String| {
            let place = self.names.iter().position(|known| known == name);
            let mut column = place.map(|place| self.columns[place].clone()).unwrap_or_default();
            for (row, value) in self.rest.iter().enumerate().filter_map(|(row, rest)| Some((row, rest.as_ref()?.get(name)?))) {
                column.others.resize_with(self.len(), || None);
                column.others[row] = Some(value.clone());
            }
            column
        };
        Self {
            event: self.event.clone(),
            users: self.users.clone(),
            times: self.times.clone(),
            ids: self.ids.clone(),
            moved: self.moved.clone(),
            names: names.into(),
            columns: names.iter().map(column).collect(),
            rest: Vec::new(),
        }
    }

    /// The event of every row.
    pub fn event(&self) -> &Arc<str> {
        &self.event
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// The keyed hash of each row's user, after identity. Within a segment the rows of one id that was sent stand together, in time order; a
    /// user with several ids has several such runs.
    pub fn users(&self) -> &[u128] {
        &self.users
    }

    /// When each row happened, milliseconds.
    pub fn times(&self) -> &[i64] {
        &self.times
    }

    /// The `distinct_id` of the user, after identity; empty where it was not asked for.
    pub fn distinct_id(&self, row: usize) -> &str {
        self.moved_to(row).unwrap_or_else(|| self.sent_id(row))
    }

    /// The `distinct_id` that was sent, where the user has another; `None` where ids were not asked for.
    pub fn distinct_id_before_identity(&self, row: usize) -> Option<&str> {
        self.moved_to(row).map(|_| self.sent_id(row))
    }

    fn sent_id(&self, row: usize) -> &str {
        self.ids.as_ref().map_or("", |[ids, _]| ids.value(row))
    }

    fn moved_to(&self, row: usize) -> Option<&str> {
        let at = self.moved.partition_point(|(rows, _)| rows.end <= row);
        self.moved.get(at).filter(|(rows, _)| rows.contains(&row)).map(|(_, id)| &**id)
    }

    /// Gives the rows to the users that their ids are linked to.
    pub(crate) fn resolve(&mut self, links: &LinksView) {
        self.moved = links.resolve(&mut self.users, self.ids.is_some());
    }

    /// The `insert_id`; empty where it was not asked for.
    pub fn insert_id(&self, row: usize) -> &str {
        self.ids.as_ref().map_or("", |[_, ids]| ids.value(row))
    }

    /// The columns: those that were asked for in their order, or whatever there is.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The properties of the columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What a row has beyond the columns.
    pub fn rest(&self, row: usize) -> Option<&Properties> {
        self.rest.get(row).and_then(Option::as_ref)
    }

    /// Calls `each` with every property of a row.
    pub fn each_property(&self, row: usize, each: &mut dyn FnMut(&str, ValueRef<'_>)) {
        for (name, column) in self.names.iter().zip(&self.columns) {
            if let Some(value) = column.value(row) {
                each(name, value);
            }
        }
        for (name, value) in self.rest(row).into_iter().flatten() {
            each(name, value.into());
        }
    }
}

impl Column {
    fn of_tail(rows: &[&Row], name: &str) -> Self {
        let mut column = Self::default();
        let (mut codes, mut words, mut known) = (vec![None; rows.len()], Vec::<&str>::new(), FxHashMap::<&str, i32>::default());
        for (at, row) in rows.iter().enumerate() {
            match row.event.properties.get(name) {
                None => {}
                Some(Value::String(text)) => {
                    let code = *known.entry(text).or_insert_with(|| {
                        words.push(text);
                        words.len() as i32 - 1
                    });
                    codes[at] = Some(code);
                }
                Some(other) => {
                    column.others.resize_with(rows.len(), || None);
                    column.others[at] = Some(other.clone());
                }
            }
        }
        if !words.is_empty() {
            column.text = Some((Int32Array::from(codes), StringArray::from(words)));
        }
        column
    }
}
