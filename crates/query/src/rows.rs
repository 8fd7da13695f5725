//! Batches of events as rows that expressions look into.

use std::borrow::Cow;

use model::filter::{Expr, Scope};
use model::{Profile, Value, ValueRef};
use rustc_hash::FxHashMap;
use store::{Batch, ProfileKind, Snapshot, Wanted};

use crate::error::QueryError;
use crate::evaluate::{Memory, Operand, Program, Rows, value_key};

/// What a scan must decode for the expressions of one report.
#[derive(Default)]
pub(crate) struct Needs {
    names: Vec<String>,
    pub ids: bool,
}

impl Needs {
    /// Asks for a property; returns which of the batch's columns it will be.
    pub(crate) fn property(&mut self, name: &str) -> usize {
        self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        })
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    pub(crate) fn wanted(&self) -> Wanted {
        Wanted::Named(self.names.clone())
    }
}

/// Where a name is looked up.
enum Source {
    /// In a column, and where that has nothing in what every event has.
    Event(usize, Own),
    /// In the profile of the event's user.
    Profile(String),
}

/// What every event has beside its properties.
#[derive(Clone, Copy, PartialEq)]
enum Own {
    Nothing,
    Time,
    Seconds,
    DistinctId,
    InsertId,
    Name,
}

/// An expression made ready for batches, with the profiles that it needs.
pub(crate) struct Expression {
    program: Program,
    sources: Vec<Source>,
    profiles: FxHashMap<u128, Profile>,
}

impl Expression {
    /// Makes an expression ready and says what it needs of a batch.
    pub(crate) fn new(expr: &Expr, snapshot: &Snapshot, needs: &mut Needs) -> Result<Self, QueryError> {
        let program = Program::new(expr);
        let mut sources = Vec::new();
        for (scope, name) in program.slots() {
            if *scope == Scope::User {
                sources.push(Source::Profile(name.clone()));
                continue;
            }
            let own = match name.as_str() {
                "$time" => Own::Time,
                "time" => Own::Seconds,
                "distinct_id" | "$distinct_id" => Own::DistinctId,
                "$insert_id" => Own::InsertId,
                "$name" | "$event_name" if *scope == Scope::Event => Own::Name,
                _ => Own::Nothing,
            };
            needs.ids |= matches!(own, Own::DistinctId | Own::InsertId);
            sources.push(Source::Event(needs.property(name), own));
        }
        let mut profiles = FxHashMap::default();
        if program.reads_users() {
            for (id, profile) in snapshot.profiles(&ProfileKind::Users)? {
                profiles.insert(snapshot.user(&id), profile);
            }
        }
        Ok(Self { program, sources, profiles })
    }

    /// The expression over one batch.
    pub(crate) fn bind<'v>(&'v self, batch: &'v Batch) -> Bound<'v> {
        Bound { program: &self.program, rows: BatchRows { expression: self, batch }, memory: Memory::default() }
    }
}

/// As [`Expression::new`], where there may be none.
pub(crate) fn optional(expr: Option<&Expr>, snapshot: &Snapshot, needs: &mut Needs) -> Result<Option<Expression>, QueryError> {
    expr.map(|expr| Expression::new(expr, snapshot, needs)).transpose()
}

/// An expression over one batch, and what it remembers of it.
pub(crate) struct Bound<'v> {
    program: &'v Program,
    rows: BatchRows<'v>,
    memory: Memory<'v>,
}

impl<'v> Bound<'v> {
    pub(crate) fn passes(&mut self, row: usize) -> bool {
        self.program.passes(&self.rows, row, &mut self.memory)
    }

    pub(crate) fn value(&mut self, row: usize) -> Operand<'v> {
        self.program.evaluate(&self.rows, row, &mut self.memory)
    }

    /// The number in a row as it was sent, where the expression is nothing but a property that holds one: doubles would lose digits.
    pub(crate) fn exact(&self, row: usize) -> Option<String> {
        let Source::Event(column, _) = &self.rows.expression.sources[self.program.plain_slot()?] else { return None };
        match self.rows.batch.columns()[*column].value(row)? {
            ValueRef::Int(int) => Some(int.to_string()),
            ValueRef::Other(value @ Value::Number(_)) => Some(value_key(value).into_owned()),
            _ => None,
        }
    }

    /// Equal codes mean equal values within the batch.
    pub(crate) fn code(&self, row: usize) -> Option<u32> {
        self.rows.code(row, self.program.only_slot()?)
    }
}

struct BatchRows<'v> {
    expression: &'v Expression,
    batch: &'v Batch,
}

/// A stored value as it takes part in expressions.
pub(crate) fn operand(value: ValueRef<'_>) -> Operand<'_> {
    match value {
        ValueRef::Text(text) => Operand::Text(Cow::Borrowed(text)),
        ValueRef::Int(int) => Operand::Number(int as f64),
        ValueRef::Float(float) => Operand::Number(float),
        ValueRef::Bool(flag) => Operand::Bool(flag),
        ValueRef::Other(value) => Operand::of(value),
    }
}

impl<'v> Rows<'v> for BatchRows<'v> {
    fn value(&self, row: usize, slot: usize) -> Operand<'v> {
        match &self.expression.sources[slot] {
            Source::Event(column, own) => match (self.batch.columns()[*column].value(row), own) {
                (Some(value), _) => operand(value),
                (None, Own::Nothing) => Operand::Undefined,
                (None, Own::Time) => Operand::Datetime(self.batch.times()[row]),
                (None, Own::Seconds) => Operand::Number(self.batch.times()[row].div_euclid(1000) as f64),
                (None, Own::DistinctId) => Operand::Text(Cow::Borrowed(self.batch.distinct_id(row))),
                (None, Own::InsertId) => Operand::Text(Cow::Borrowed(self.batch.insert_id(row))),
                (None, Own::Name) => Operand::Text(Cow::Borrowed(self.batch.event())),
            },
            Source::Profile(name) => {
                let profile = self.expression.profiles.get(&self.batch.users()[row]);
                profile.and_then(|profile| profile.properties.get(name)).map_or(Operand::Undefined, Operand::of)
            }
        }
    }

    fn code(&self, row: usize, slot: usize) -> Option<u32> {
        match &self.expression.sources[slot] {
            Source::Event(column, _) => self.batch.columns()[*column].code(row),
            Source::Profile(_) => None,
        }
    }
}
