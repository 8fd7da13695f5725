//! What a property leads to: a row of a lookup table, or the profile of a group. A key is looked up once for every distinct string of a
//! batch, under its dictionary code, however many rows and columns ask for it.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

use model::filter::Scope;
use model::lookup::{Cell, LookupSource, LookupTable};
use model::value::Properties;
use model::{Number, Profile, Timestamp, Value, ValueRef};
use rustc_hash::FxHashMap;
use store::{Column, ProfileKind, Snapshot};

use crate::error::QueryError;
use crate::evaluate::{Operand, ProfileRow, Program, Rows, value_key};

/// Groups of one key that an event is of, at most (`contract/write.md` 1.4).
const GROUPS_MAX: usize = 300;

/// The profiles of the groups of one key, by id.
type Groups = Arc<Vec<(String, Profile)>>;

/// Rows by key.
#[derive(Clone)]
pub(crate) enum Keyed {
    Lookup(Arc<LookupTable>),
    Groups(Groups),
}

/// What of a row is wanted.
#[derive(Clone)]
pub(crate) enum Field {
    Column(usize),
    Property(String),
}

/// A property, and what its value is the key of.
#[derive(Clone)]
pub(crate) struct Lead {
    pub property: String,
    pub keyed: Keyed,
    pub field: Field,
}

impl Keyed {
    fn find(&self, key: &str) -> Option<u32> {
        match self {
            Self::Lookup(table) => table.find(key),
            Self::Groups(groups) => groups.binary_search_by(|(id, _)| id.as_str().cmp(key)).ok().map(|at| at as u32),
        }
    }

    fn field(&self, row: u32, field: &Field) -> Operand<'_> {
        match (self, field) {
            (Self::Lookup(table), Field::Column(column)) => match table.cell(row, *column) {
                Cell::Undefined => Operand::Undefined,
                Cell::Datetime(ms) => Operand::Datetime(*ms),
                Cell::Value(value) => Operand::of(value),
            },
            (Self::Groups(groups), Field::Property(name)) => {
                groups[row as usize].1.properties.get(name).map_or(Operand::Undefined, Operand::of)
            }
            _ => Operand::Undefined,
        }
    }

    /// The value behind a key that is no string: a list leads to the list of what its elements lead to.
    fn of_value<'k>(&'k self, key: ValueRef<'_>, field: &Field) -> Operand<'k> {
        let ValueRef::Other(Value::List(list)) = key else {
            return key_text(key).and_then(|key| self.find(&key)).map_or(Operand::Undefined, |row| self.field(row, field));
        };
        let keys_max = if matches!(self, Self::Groups(_)) { GROUPS_MAX } else { usize::MAX };
        let mut found = Vec::new();
        for row in list.iter().take(keys_max).filter_map(|key| self.find(&key_text(key.into())?)) {
            match self.field(row, field) {
                Operand::Undefined => {}
                Operand::List(values) => found.extend(values.iter().cloned()),
                Operand::Datetime(ms) => found.push(Value::String(model::profile::wall_time(Timestamp(ms)))),
                other => found.extend(stored(&other)),
            }
        }
        if found.is_empty() { Operand::Undefined } else { Operand::List(Cow::Owned(found)) }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Lookup(a), Self::Lookup(b)) => Arc::ptr_eq(a, b),
            (Self::Groups(a), Self::Groups(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

fn stored(operand: &Operand<'_>) -> Option<Value> {
    match operand {
        Operand::Null => Some(Value::Null),
        Operand::Bool(flag) => Some(Value::Bool(*flag)),
        Operand::Number(number) => Some(Value::Number(Number::from_f64(*number))),
        Operand::Text(text) => Some(Value::String(text.to_string())),
        Operand::Borrowed(object) => Some(Value::Object((*object).clone())),
        _ => None,
    }
}

/// A key as text: keys are compared as such, so that the number 7 finds the row `7`.
fn key_text(key: ValueRef<'_>) -> Option<Cow<'_, str>> {
    match key {
        ValueRef::Text(text) => Some(Cow::Borrowed(text)),
        ValueRef::Int(int) => Some(Cow::Owned(int.to_string())),
        ValueRef::Float(float) => Some(Cow::Owned(crate::evaluate::number_text(float))),
        ValueRef::Bool(flag) => Some(Cow::Borrowed(if flag { "true" } else { "false" })),
        ValueRef::Other(value @ (Value::Number(_) | Value::String(_) | Value::Bool(_))) => Some(value_key(value)),
        ValueRef::Other(_) => None,
    }
}

/// Finds what the names of one expression lead to; profiles of groups are read once.
pub(crate) struct Leads<'s> {
    snapshot: &'s Snapshot,
    groups: FxHashMap<String, Groups>,
}

impl<'s> Leads<'s> {
    pub(crate) fn new(snapshot: &'s Snapshot) -> Self {
        Self { snapshot, groups: FxHashMap::default() }
    }

    /// What a name leads to from properties of events, or of profiles; the first lead that knows something is taken. `None`: it is a name
    /// like any other.
    pub(crate) fn of(&mut self, source: LookupSource, scope: Scope, name: &str) -> Result<Option<Vec<Lead>>, QueryError> {
        if scope != Scope::Group {
            let found = self.snapshot.lookup(source, name)?;
            return Ok(found.map(|found| {
                vec![Lead { property: found.property, keyed: Keyed::Lookup(found.table), field: Field::Column(found.column) }]
            }));
        }
        let mut leads = Vec::new();
        for key in self.snapshot.group_keys() {
            let groups = match self.groups.get(key) {
                Some(groups) => groups.clone(),
                None => {
                    let groups = Arc::new(self.snapshot.profiles(&ProfileKind::Group(key.clone()))?);
                    self.groups.entry(key.clone()).or_insert(groups).clone()
                }
            };
            leads.push(Lead { property: key.clone(), keyed: Keyed::Groups(groups), field: Field::Property(name.to_owned()) });
        }
        Ok(Some(leads))
    }
}

/// A column of events whose values are keys.
pub(crate) struct Join {
    column: usize,
    keyed: Keyed,
}

/// The columns of one expression that are keys.
#[derive(Default)]
pub(crate) struct Joins {
    joins: Vec<Join>,
}

impl Joins {
    /// Takes a lead from a column in; two leads from one column to one table are one join.
    pub(crate) fn add(&mut self, column: usize, lead: Lead) -> Target {
        let known = self.joins.iter().position(|join| join.column == column && join.keyed.is_same(&lead.keyed));
        let join = known.unwrap_or_else(|| {
            self.joins.push(Join { column, keyed: lead.keyed });
            self.joins.len() - 1
        });
        Target { join, field: lead.field }
    }

    /// What the joins remember of a batch; a new one for every batch.
    pub(crate) fn memory(&self) -> Vec<RefCell<Found>> {
        self.joins.iter().map(|_| RefCell::default()).collect()
    }

    /// The column that alone decides what some targets are.
    pub(crate) fn only_column(&self, targets: &[Target]) -> Option<usize> {
        let (first, others) = targets.split_first()?;
        let column = self.joins[first.join].column;
        others.iter().all(|target| self.joins[target.join].column == column).then_some(column)
    }

    /// What the first of some targets that has a value has in a row.
    pub(crate) fn value<'v>(&'v self, targets: &[Target], columns: &[Column], row: usize, memory: &[RefCell<Found>]) -> Operand<'v> {
        let value = |Target { join, field }: &Target| {
            let Join { column, keyed } = &self.joins[*join];
            let value = match memory[*join].borrow_mut().place(keyed, &columns[*column], row) {
                Place::Row(row) => keyed.field(row, field),
                Place::Nowhere => Operand::Undefined,
                Place::Unknown(key) => keyed.of_value(key, field),
            };
            Some(value).filter(|value| *value != Operand::Undefined)
        };
        targets.iter().find_map(value).unwrap_or(Operand::Undefined)
    }

    /// The number that [`Joins::value`] makes a double of.
    pub(crate) fn number<'v>(
        &'v self,
        targets: &[Target],
        columns: &[Column],
        row: usize,
        memory: &[RefCell<Found>],
    ) -> Option<&'v Number> {
        // Several targets are groups, whose numbers are doubles as those of users are.
        let [Target { join, field: Field::Column(at) }] = targets else { return None };
        let Join { column, keyed: keyed @ Keyed::Lookup(table) } = &self.joins[*join] else { return None };
        let Place::Row(row) = memory[*join].borrow_mut().place(keyed, &columns[*column], row) else { return None };
        match table.cell(row, *at) {
            Cell::Value(Value::Number(number)) => Some(number),
            _ => None,
        }
    }
}

/// A field of what a join finds.
pub(crate) struct Target {
    join: usize,
    field: Field,
}

/// The rows that the keys of one batch led to.
#[derive(Default)]
pub(crate) struct Found {
    /// Not looked up yet; looked up, and perhaps not there.
    by_code: Vec<Option<Option<u32>>>,
    by_int: FxHashMap<i64, Option<u32>>,
}

/// Where a key of a batch leads.
enum Place<'c> {
    Row(u32),
    Nowhere,
    /// It is of a kind that is not remembered.
    Unknown(ValueRef<'c>),
}

impl Found {
    fn place<'c>(&mut self, keyed: &Keyed, column: &'c Column, row: usize) -> Place<'c> {
        let at = match (column.code(row).map(|code| code as usize), column.value(row)) {
            (Some(code), Some(ValueRef::Text(key))) => {
                if self.by_code.len() <= code {
                    self.by_code.resize(code + 1, None);
                }
                *self.by_code[code].get_or_insert_with(|| keyed.find(key))
            }
            (_, Some(ValueRef::Int(int))) => *self.by_int.entry(int).or_insert_with(|| keyed.find(&int.to_string())),
            (_, Some(other)) => return Place::Unknown(other),
            (_, None) => None,
        };
        at.map_or(Place::Nowhere, Place::Row)
    }
}

/// What the names of an expression over profiles lead to, by slot.
pub(crate) struct ProfileLeads {
    by_slot: Vec<Option<Vec<Lead>>>,
}

impl ProfileLeads {
    /// Of users' profiles; those of groups lead nowhere.
    pub(crate) fn new(program: &Program, snapshot: &Snapshot, kind: &ProfileKind) -> Result<Self, QueryError> {
        let mut leads = Leads::new(snapshot);
        let mut of = |(scope, name): &(Scope, String)| match (kind, scope) {
            (ProfileKind::Group(_), _) | (_, Scope::Event) => Ok(None),
            (ProfileKind::Users, scope) => leads.of(LookupSource::Profile, *scope, name),
        };
        Ok(Self { by_slot: program.slots().iter().map(&mut of).collect::<Result<_, _>>()? })
    }
}

/// As [`ProfileRow`], with what its properties lead to.
pub(crate) struct JoinedProfile<'v> {
    pub row: ProfileRow<'v>,
    pub leads: &'v ProfileLeads,
}

/// What some properties lead to: the first lead that knows something is taken.
pub(crate) fn follow<'v>(leads: &'v [Lead], properties: &Properties) -> Operand<'v> {
    let value = |lead: &'v Lead| {
        let value = lead.keyed.of_value(properties.get(&lead.property)?.into(), &lead.field);
        Some(value).filter(|value| *value != Operand::Undefined)
    };
    leads.iter().find_map(value).unwrap_or(Operand::Undefined)
}

impl<'v> Rows<'v> for JoinedProfile<'v> {
    fn value(&self, row: usize, slot: usize) -> Operand<'v> {
        match &self.leads.by_slot[slot] {
            Some(leads) => follow(leads, self.row.properties),
            None => self.row.value(row, slot),
        }
    }

    fn code(&self, _row: usize, _slot: usize) -> Option<u32> {
        None
    }
}
