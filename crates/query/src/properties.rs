//! `events/properties/top` and `events/properties/values`: which properties events carry, and with what values.

use model::Value;
use model::report::{PropertyValues, RankedAnswer, TopProperties};
use rustc_hash::FxHashMap;
use store::{ScanRequest, Snapshot};

use crate::error::QueryError;
use crate::evaluate::value_key;

/// Beyond so many distinct words only those that were seen before are counted: memory stays bounded by the answer.
const WORDS_MAX: usize = 1_000_000;

#[derive(Default)]
struct Words {
    counts: FxHashMap<String, u64>,
}

impl Words {
    fn add(&mut self, word: &str) {
        if let Some(count) = self.counts.get_mut(word) {
            *count += 1;
        } else if self.counts.len() < WORDS_MAX {
            self.counts.insert(word.to_owned(), 1);
        }
    }

    fn ranked(self, limit: usize) -> RankedAnswer {
        let mut ranked: Vec<(String, u64)> = self.counts.into_iter().collect();
        ranked.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        ranked.truncate(limit);
        RankedAnswer { ranked }
    }
}

fn request(event: Option<&String>, range: model::TimeRange) -> ScanRequest {
    ScanRequest { events: event.map(|event| vec![event.clone()]), range, properties: true, ids: false, dedup: true }
}

pub(crate) fn top_properties(snapshot: &Snapshot, report: &TopProperties) -> Result<RankedAnswer, QueryError> {
    let mut words = Words::default();
    snapshot.scan(&request(report.event.as_ref(), report.range), &mut |event, _| {
        event.properties.keys().for_each(|name| words.add(name));
        true
    })?;
    Ok(words.ranked(report.limit))
}

pub(crate) fn property_values(snapshot: &Snapshot, report: &PropertyValues) -> Result<RankedAnswer, QueryError> {
    let mut words = Words::default();
    snapshot.scan(&request(report.event.as_ref(), report.range), &mut |event, _| {
        match event.properties.get(&report.name) {
            None | Some(Value::Null) => {}
            Some(Value::List(list)) => list.iter().for_each(|value| words.add(&value_key(value))),
            Some(value) => words.add(&value_key(value)),
        }
        true
    })?;
    Ok(words.ranked(report.limit))
}
