//! Lookup tables: rows by key, whose columns enrich a property (`contract/write.md` 1.5). A table never changes once it is made.

use std::collections::HashMap;

use crate::value::Value;

/// What a mapped property belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LookupSource {
    /// A property of events.
    Event,
    /// A property of the profiles of users.
    Profile,
}

impl LookupSource {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Event, Self::Profile];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Profile => "profile",
        }
    }

    /// Reads the word back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == text)
    }
}

/// The column that a property name such as `song_id.artist` names, where `song_id` is the mapped property.
pub fn column_of<'n>(property: &str, name: &'n str) -> Option<&'n str> {
    name.strip_prefix(property)?.strip_prefix('.')
}

/// A typed field of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// The field is empty.
    Undefined,
    /// An instant in milliseconds since the epoch.
    Datetime(i64),
    /// A number, a boolean, a string or a list of strings.
    Value(Value),
}

/// A column: every distinct field once, and which of them each row has.
#[derive(Debug, Clone, PartialEq)]
pub struct LookupColumn {
    /// What its header says.
    pub name: String,
    /// Its distinct fields.
    pub cells: Vec<Cell>,
    /// For each row of the table, where its field stands in `cells`.
    pub codes: Vec<u32>,
}

/// A table with its rows in the order of their keys.
#[derive(Debug, Clone, PartialEq)]
pub struct LookupTable {
    keys: Keys,
    columns: Vec<LookupColumn>,
}

/// Strings one behind the other, ascending, and where each is found.
#[derive(Debug, Clone, Default)]
struct Keys {
    text: String,
    ends: Vec<u32>,
    /// Rows by the hash of their key, [`FREE`] where there is none; a taken place leads to the next one. Twice as many as keys at least: 8 to
    /// 16 bytes a key, and a third of the time that a binary search of a hundred thousand keys takes.
    slots: Vec<u32>,
    hasher: ahash::RandomState,
}

const FREE: u32 = u32::MAX;

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.ends == other.ends
    }
}

impl Keys {
    fn push(&mut self, key: &str) {
        self.text.push_str(key);
        // A table is at most 100 MB as text.
        self.ends.push(self.text.len() as u32);
    }

    fn get(&self, at: usize) -> &str {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start as usize..self.ends[at] as usize]
    }

    /// Makes the keys be found, once all are there.
    fn index(&mut self) {
        let mut slots = vec![FREE; (self.ends.len() * 2).next_power_of_two()];
        for row in 0..self.ends.len() {
            let mut at = self.first_slot(self.get(row), slots.len());
            while slots[at] != FREE {
                at = (at + 1) % slots.len();
            }
            slots[at] = row as u32;
        }
        self.slots = slots;
    }

    fn first_slot(&self, key: &str, slots: usize) -> usize {
        self.hasher.hash_one(key) as usize & (slots - 1)
    }

    fn find(&self, key: &str) -> Option<u32> {
        let mut at = self.first_slot(key, self.slots.len());
        while self.slots[at] != FREE {
            if self.get(self.slots[at] as usize) == key {
                return Some(self.slots[at]);
            }
            at = (at + 1) % self.slots.len();
        }
        None
    }
}

/// What a table's parts have to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a lookup table whose parts do not fit each other")]
pub struct Misfit;

impl LookupTable {
    /// Puts a table together from keys in ascending order and columns.
    pub fn of_parts<'k>(keys: impl Iterator<Item = &'k str>, columns: Vec<LookupColumn>) -> Result<Self, Misfit> {
        let mut own = Keys::default();
        for key in keys {
            if own.ends.last().is_some_and(|_| own.get(own.ends.len() - 1) >= key) || own.text.len() + key.len() > u32::MAX as usize {
                return Err(Misfit);
            }
            own.push(key);
        }
        let fits = |column: &LookupColumn| {
            column.codes.len() == own.ends.len() && column.codes.iter().all(|code| (*code as usize) < column.cells.len())
        };
        if !columns.iter().all(fits) {
            return Err(Misfit);
        }
        own.index();
        Ok(Self { keys: own, columns })
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.keys.ends.len()
    }

    /// The key of a row.
    pub fn key(&self, row: u32) -> &str {
        self.keys.get(row as usize)
    }

    /// The columns behind the key, in the order of the header.
    pub fn columns(&self) -> &[LookupColumn] {
        &self.columns
    }

    /// The row of a key.
    pub fn find(&self, key: &str) -> Option<u32> {
        self.keys.find(key)
    }

    /// The field of a row in a column.
    pub fn cell(&self, row: u32, column: usize) -> &Cell {
        let column = &self.columns[column];
        &column.cells[column.codes[row as usize] as usize]
    }

    /// About how much memory it takes, bytes.
    pub fn bytes(&self) -> usize {
        fn text(value: &Value) -> usize {
            match value {
                Value::String(text) => text.len(),
                Value::List(list) => list.iter().map(|value| size_of::<Value>() + text(value)).sum(),
                _ => 0,
            }
        }
        let cell = |cell: &Cell| size_of::<Cell>() + if let Cell::Value(value) = cell { text(value) } else { 0 };
        let columns: usize = self.columns.iter().map(|column| 4 * column.codes.len() + column.cells.iter().map(cell).sum::<usize>()).sum();
        columns + self.keys.text.len() + 4 * (self.keys.ends.len() + self.keys.slots.len())
    }
}

/// Numbers of texts that were met.
type Known = HashMap<Box<str>, u32, ahash::RandomState>;

/// A table that is being read, row by row.
pub struct LookupBuilder {
    rows: Known,
    columns: Vec<(LookupColumn, Known)>,
}

impl LookupBuilder {
    /// Begins a table with these columns behind the key.
    pub fn new<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let column = |name: &str| LookupColumn { name: name.to_owned(), cells: Vec::new(), codes: Vec::new() };
        Self { rows: Known::default(), columns: names.map(|name| (column(name), Known::default())).collect() }
    }

    /// Takes a row, `number` in the file; `typed` is asked once for every distinct field of a column. Fails with the number of the row that
    /// has the same key; then nothing is taken. The caller promises one field for each column.
    pub fn push<'f>(
        &mut self,
        number: u32,
        key: &str,
        fields: impl Iterator<Item = &'f str>,
        typed: impl Fn(&str) -> Cell,
    ) -> Result<(), u32> {
        if let Some(known) = self.rows.get(key) {
            return Err(*known);
        }
        self.rows.insert(key.into(), number);
        for ((column, known), field) in self.columns.iter_mut().zip(fields) {
            let code = known.get(field).copied().unwrap_or_else(|| {
                let code = column.cells.len() as u32;
                column.cells.push(typed(field));
                known.insert(field.into(), code);
                code
            });
            column.codes.push(code);
        }
        Ok(())
    }

    /// The table. Rows have to be numbered in the order in which they were taken.
    pub fn finish(self) -> LookupTable {
        let mut order: Vec<(Box<str>, u32)> = self.rows.into_iter().collect();
        order.sort_unstable_by_key(|(_, number)| *number);
        let mut places: Vec<u32> = (0..order.len() as u32).collect();
        places.sort_unstable_by(|a, b| order[*a as usize].0.cmp(&order[*b as usize].0));
        let mut keys = Keys::default();
        places.iter().for_each(|place| keys.push(&order[*place as usize].0));
        keys.index();
        let columns = self.columns.into_iter().map(|(mut column, _)| {
            column.codes = places.iter().map(|place| column.codes[*place as usize]).collect();
            column
        });
        LookupTable { columns: columns.collect(), keys }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(field: &str) -> Cell {
        Cell::Value(Value::from(field))
    }

    #[test]
    fn a_row_is_found_by_its_key_whatever_the_order_of_the_file() {
        let mut builder = LookupBuilder::new(["a", "b"].into_iter());
        for (number, (key, a)) in [("z", "1"), ("b", "2"), ("é", "1"), ("", "3")].into_iter().enumerate() {
            builder.push(number as u32 + 1, key, [a, "same"].into_iter(), text).unwrap();
        }
        assert_eq!(builder.push(5, "b", ["9", "9"].into_iter(), text), Err(2));
        let table = builder.finish();
        assert_eq!((table.rows(), table.columns()[0].cells.len(), table.columns()[1].cells.len()), (4, 3, 1));
        for (key, a) in [("z", "1"), ("b", "2"), ("é", "1"), ("", "3")] {
            let row = table.find(key).unwrap();
            assert_eq!((table.key(row), table.cell(row, 0)), (key, &text(a)));
        }
        assert_eq!((table.find("a"), table.find("zz")), (None, None));
        let keys: Vec<String> = (0..4).map(|row| table.key(row).to_owned()).collect();
        assert_eq!(LookupTable::of_parts(keys.iter().map(String::as_str), table.columns().to_vec()), Ok(table.clone()));
        assert_eq!(LookupTable::of_parts(["b", "a"].into_iter(), Vec::new()), Err(Misfit));
        assert_eq!(LookupTable::of_parts(["a"].into_iter(), table.columns().to_vec()), Err(Misfit));
    }

    #[test]
    fn a_column_is_named_behind_its_property() {
        assert_eq!(column_of("song_id", "song_id.artist"), Some("artist"));
        assert_eq!(column_of("a", "a.b.c"), Some("b.c"));
        assert_eq!((column_of("song", "song_id.artist"), column_of("song_id", "song_id")), (None, None));
    }
}
