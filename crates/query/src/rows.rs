//! Events as rows that expressions look into.

use std::borrow::Cow;
use std::collections::HashMap;

use model::filter::{Expr, Scope};
use model::{Event, Profile};
use store::{ProfileKind, Snapshot};

use crate::error::QueryError;
use crate::evaluate::{Memory, Operand, Program, Rows};

/// One event as the only row.
pub(crate) struct EventRow<'v> {
    pub program: &'v Program,
    pub event: &'v Event,
    pub profile: Option<&'v Profile>,
}

impl<'v> Rows<'v> for EventRow<'v> {
    fn value(&self, _row: usize, slot: usize) -> Operand<'v> {
        let (scope, name) = &self.program.slots()[slot];
        if *scope == Scope::User {
            let value = self.profile.and_then(|profile| profile.properties.get(name));
            return value.map_or(Operand::Undefined, Operand::of);
        }
        if let Some(value) = self.event.properties.get(name) {
            return Operand::of(value);
        }
        match name.as_str() {
            "$time" => Operand::Datetime(self.event.time.0),
            "time" => Operand::Number(self.event.time.seconds() as f64),
            "distinct_id" | "$distinct_id" => Operand::Text(Cow::Borrowed(&self.event.distinct_id)),
            "$insert_id" => Operand::Text(Cow::Borrowed(&self.event.insert_id)),
            "$name" | "$event_name" if *scope == Scope::Event => Operand::Text(Cow::Borrowed(&self.event.name)),
            _ => Operand::Undefined,
        }
    }

    fn code(&self, _row: usize, _slot: usize) -> Option<u32> {
        None
    }
}

/// An expression made ready for events, with the profiles it needs.
pub(crate) struct Filter {
    program: Option<Program>,
    profiles: HashMap<u128, Profile>,
}

impl Filter {
    pub(crate) fn new(expr: Option<&Expr>, snapshot: &Snapshot) -> Result<Self, QueryError> {
        let program = expr.map(Program::new);
        let mut profiles = HashMap::new();
        if program.as_ref().is_some_and(Program::reads_users) {
            for (id, profile) in snapshot.profiles(&ProfileKind::Users)? {
                profiles.insert(snapshot.user(&id), profile);
            }
        }
        Ok(Self { program, profiles })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.program.is_none()
    }

    pub(crate) fn passes(&self, event: &Event, user: u128) -> bool {
        let Some(program) = &self.program else { return true };
        program.passes(&EventRow { program, event, profile: self.profiles.get(&user) }, 0, &mut Memory::default())
    }

    /// The value of the expression; undefined where there is none.
    pub(crate) fn value<'v>(&'v self, event: &'v Event, user: u128) -> Operand<'v> {
        let Some(program) = &self.program else { return Operand::Undefined };
        program.evaluate(&EventRow { program, event, profile: self.profiles.get(&user) }, 0, &mut Memory::default())
    }
}
