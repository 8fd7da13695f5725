//! `events/properties/top` and `events/properties/values`: which properties events carry, and with what values.

use std::borrow::Cow;

use model::filter::{Expr, Scope};
use model::lookup::LookupSource;
use model::report::{PropertyValues, RankedAnswer, TopProperties};
use model::{Value, ValueRef};
use rustc_hash::FxHashMap;
use store::{ScanRequest, Snapshot, Wanted};

use crate::error::QueryError;
use crate::evaluate::{Operand, value_key};
use crate::rows::{Bound, Expression, Needs, operand};

/// Beyond so many distinct words only those that were seen before are counted: memory stays bounded by the answer.
const WORDS_MAX: usize = 1_000_000;

#[derive(Default)]
struct Words {
    counts: FxHashMap<String, u64>,
}

impl Words {
    fn add(&mut self, word: &str, count: u64) {
        if let Some(sum) = self.counts.get_mut(word) {
            *sum += count;
        } else if count > 0 && self.counts.len() < WORDS_MAX {
            self.counts.insert(word.to_owned(), count);
        }
    }

    fn merged(states: Vec<Self>) -> Self {
        let mut all = Self::default();
        for (word, count) in states.into_iter().flat_map(|state| state.counts) {
            all.add(&word, count);
        }
        all
    }

    fn ranked(self, limit: usize) -> RankedAnswer {
        let mut ranked: Vec<(String, u64)> = self.counts.into_iter().collect();
        ranked.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        ranked.truncate(limit);
        RankedAnswer { ranked }
    }
}

fn request(event: Option<&String>, range: model::TimeRange, properties: Wanted) -> ScanRequest {
    ScanRequest { events: event.map(|event| vec![event.clone()]), range, properties, ids: false, dedup: true }
}

pub(crate) fn top_properties(snapshot: &Snapshot, report: &TopProperties) -> Result<RankedAnswer, QueryError> {
    let states = snapshot.fold(&request(report.event.as_ref(), report.range, Wanted::All), Words::default, |words, batch| {
        for (name, column) in batch.names().iter().zip(batch.columns()) {
            words.add(name, column.count() as u64);
        }
        for row in 0..batch.len() {
            batch.rest(row).into_iter().flat_map(|rest| rest.keys()).for_each(|name| words.add(name, 1));
        }
        true
    })?;
    Ok(Words::merged(states).ranked(report.limit))
}

/// The values of what a property leads to: a column of a lookup table.
fn joined_values(snapshot: &Snapshot, report: &PropertyValues) -> Result<RankedAnswer, QueryError> {
    let mut needs = Needs::default();
    let on = Expression::new(&Expr::Property(Scope::Properties, report.name.clone()), snapshot, &mut needs)?;
    let request = ScanRequest { ids: needs.ids, ..request(report.event.as_ref(), report.range, needs.wanted()) };
    let states = snapshot.fold(&request, Words::default, |words, batch| {
        let mut on = on.bind(batch);
        let mut by_code: Vec<(u64, usize)> = Vec::new();
        let mut add = |on: &mut Bound<'_>, row: usize, count: u64| match on.value(row) {
            Operand::Undefined | Operand::Null => {}
            Operand::List(list) => list.iter().for_each(|value| words.add(&value_key(value), count)),
            other => words.add(&on.exact(row).map_or_else(|| other.key(), Cow::Owned), count),
        };
        for row in 0..batch.len() {
            match on.code(row).map(|code| code as usize) {
                Some(code) => {
                    if by_code.len() <= code {
                        by_code.resize(code + 1, (0, row));
                    }
                    by_code[code] = (by_code[code].0 + 1, row);
                }
                None => add(&mut on, row, 1),
            }
        }
        by_code.into_iter().filter(|(count, _)| *count > 0).for_each(|(count, row)| add(&mut on, row, count));
        true
    })?;
    Ok(Words::merged(states).ranked(report.limit))
}

pub(crate) fn property_values(snapshot: &Snapshot, report: &PropertyValues) -> Result<RankedAnswer, QueryError> {
    if snapshot.lookup(LookupSource::Event, &report.name)?.is_some() {
        return joined_values(snapshot, report);
    }
    let wanted = Wanted::Named(vec![report.name.clone()]);
    let states = snapshot.fold(&request(report.event.as_ref(), report.range, wanted), Words::default, |words, batch| {
        let column = &batch.columns()[0];
        let mut by_code: Vec<(u64, usize)> = Vec::new();
        for row in 0..batch.len() {
            if let Some(code) = column.code(row).map(|code| code as usize) {
                if by_code.len() <= code {
                    by_code.resize(code + 1, (0, row));
                }
                by_code[code] = (by_code[code].0 + 1, row);
                continue;
            }
            match column.value(row) {
                None | Some(ValueRef::Other(Value::Null)) => {}
                Some(ValueRef::Other(Value::List(list))) => list.iter().for_each(|value| words.add(&value_key(value), 1)),
                Some(ValueRef::Other(value)) => words.add(&value_key(value), 1),
                Some(ValueRef::Int(int)) => words.add(&int.to_string(), 1),
                Some(other) => words.add(&operand(other).key(), 1),
            }
        }
        for (count, row) in by_code.into_iter().filter(|(count, _)| *count > 0) {
            if let Some(ValueRef::Text(text)) = column.value(row) {
                words.add(text, count);
            }
        }
        true
    })?;
    Ok(Words::merged(states).ranked(report.limit))
}
