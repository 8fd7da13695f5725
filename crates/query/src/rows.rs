//! Batches of events as rows that expressions look into.

use std::borrow::Cow;
use std::cell::RefCell;

use model::filter::{Expr, Scope};
use model::lookup::LookupSource;
use model::{Profile, Value, ValueRef};
use rustc_hash::FxHashMap;
use store::{Batch, ProfileKind, Snapshot, Wanted};

use crate::error::QueryError;
use crate::evaluate::{Memory, Operand, Program, Rows, exact_text, value_key};
use crate::joins::{self, Found, Joins, Lead, Leads, Target};

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
    /// In what columns lead to.
    Joined(Vec<Target>),
    /// In what the profile of the event's user leads to.
    ProfileJoined(Vec<Lead>),
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
    joins: Joins,
    profiles: FxHashMap<u128, Profile>,
}

impl Expression {
    /// Makes an expression ready and says what it needs of a batch.
    pub(crate) fn new(expr: &Expr, snapshot: &Snapshot, needs: &mut Needs) -> Result<Self, QueryError> {
        let program = Program::new(expr);
        let (mut sources, mut joins, mut leads) = (Vec::new(), Joins::default(), Leads::new(snapshot));
        for (scope, name) in program.slots() {
            if *scope == Scope::User {
                let led = leads.of(LookupSource::Profile, *scope, name)?;
                sources.push(led.map_or_else(|| Source::Profile(name.clone()), Source::ProfileJoined));
                continue;
            }
            if let Some(leads) = leads.of(LookupSource::Event, *scope, name)? {
                let targets = leads.into_iter().map(|lead| joins.add(needs.property(&lead.property), lead));
                sources.push(Source::Joined(targets.collect()));
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
        Ok(Self { program, sources, joins, profiles })
    }

    /// The expression over one batch.
    pub(crate) fn bind<'v>(&'v self, batch: &'v Batch) -> Bound<'v> {
        Bound { program: &self.program, rows: BatchRows { expression: self, batch, found: self.joins.memory() }, memory: Memory::default() }
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
        let slot = self.program.plain_slot()?;
        let Source::Event(column, _) = &self.rows.expression.sources[slot] else { return self.rows.exact_joined(row, slot) };
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
    found: Vec<RefCell<Found>>,
}

impl BatchRows<'_> {
    /// The number that a row leads to with the digits that a double would lose.
    fn exact_joined(&self, row: usize, slot: usize) -> Option<String> {
        let Source::Joined(targets) = &self.expression.sources[slot] else { return None };
        exact_text(self.expression.joins.number(targets, self.batch.columns(), row, &self.found)?)
    }
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
            Source::Joined(targets) => self.expression.joins.value(targets, self.batch.columns(), row, &self.found),
            Source::ProfileJoined(leads) => {
                let profile = self.expression.profiles.get(&self.batch.users()[row]);
                profile.map_or(Operand::Undefined, |profile| joins::follow(leads, &profile.properties))
            }
        }
    }

    fn code(&self, row: usize, slot: usize) -> Option<u32> {
        match &self.expression.sources[slot] {
            Source::Event(column, _) => self.batch.columns()[*column].code(row),
            Source::Joined(targets) => self.batch.columns()[self.expression.joins.only_column(targets)?].code(row),
            Source::Profile(_) | Source::ProfileJoined(_) => None,
        }
    }
}
