//! `events`, `segmentation` and their relatives: counts, distinct users, sums and averages by bucket.

use model::report::{Aggregate, AggregateAnswer, Counting, EventNames, RankedAnswer, Series, SeriesAnswer};
use rustc_hash::{FxHashMap, FxHashSet};
use store::{ScanRequest, Snapshot};

use crate::error::QueryError;
use crate::evaluate::{Operand, value_key};
use crate::rows::Filter;

/// What one key counted so far.
struct Tally {
    counts: Vec<u64>,
    users: Vec<FxHashSet<u128>>,
}

impl Tally {
    fn new(buckets: usize, with_users: bool) -> Self {
        Self { counts: vec![0; buckets], users: if with_users { vec![FxHashSet::default(); buckets] } else { Vec::new() } }
    }

    fn add(&mut self, bucket: usize, user: Option<u128>) {
        self.counts[bucket] += 1;
        if let (Some(users), Some(user)) = (self.users.get_mut(bucket), user) {
            users.insert(user);
        }
    }

    fn numbers(&self, counting: Counting) -> Vec<f64> {
        let counts = self.counts.iter().map(|count| *count as f64);
        match counting {
            Counting::General => counts.collect(),
            Counting::Unique => self.users.iter().map(|users| users.len() as f64).collect(),
            Counting::Average => {
                counts.zip(&self.users).map(|(count, users)| if users.is_empty() { 0.0 } else { count / users.len() as f64 }).collect()
            }
        }
    }
}

pub(crate) fn series(snapshot: &Snapshot, report: &Series) -> Result<SeriesAnswer, QueryError> {
    let filter = Filter::new(report.filter.as_ref(), snapshot)?;
    let on = Filter::new(report.breakdown.as_ref().map(|breakdown| &breakdown.on), snapshot)?;
    let with_users = report.counting != Counting::General;
    let buckets = report.buckets.labels.len();
    let request = ScanRequest {
        events: Some(report.events.clone()),
        range: report.buckets.range(),
        properties: !filter.is_empty() || !on.is_empty(),
        // An empty id is nobody: uniques leave it out, and expressions may ask for ids.
        ids: with_users || !filter.is_empty() || !on.is_empty(),
        dedup: true,
    };
    let mut tallies: FxHashMap<String, Tally> = FxHashMap::default();
    snapshot.scan(&request, &mut |event, user| {
        let Some(bucket) = report.buckets.index_of(event.time.0) else { return true };
        if !filter.passes(event, user) {
            return true;
        }
        let somebody = (!event.distinct_id.is_empty()).then_some(user);
        let mut count = |key: &str| {
            if !tallies.contains_key(key) {
                tallies.insert(key.to_owned(), Tally::new(buckets, with_users));
            }
            if let Some(tally) = tallies.get_mut(key) {
                tally.add(bucket, somebody);
            }
        };
        if report.breakdown.is_none() {
            count(&event.name);
        } else {
            match on.value(event, user) {
                // A list counts once per element.
                Operand::List(list) => list.iter().for_each(|value| count(&value_key(value))),
                other => count(&other.key()),
            }
        }
        true
    })?;
    let mut answer = SeriesAnswer::default();
    if let Some(breakdown) = &report.breakdown {
        let mut keys: Vec<(u64, String)> = tallies.iter().map(|(key, tally)| (tally.counts.iter().sum(), key.clone())).collect();
        keys.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        keys.truncate(breakdown.limit);
        for (_, key) in keys {
            let numbers = tallies[&key].numbers(report.counting);
            answer.series.push((key, numbers));
        }
    } else {
        for event in &report.events {
            let numbers = tallies.get(event).map_or_else(|| vec![0.0; buckets], |tally| tally.numbers(report.counting));
            answer.series.push((event.clone(), numbers));
        }
    }
    Ok(answer)
}

pub(crate) fn aggregate(snapshot: &Snapshot, report: &Aggregate) -> Result<AggregateAnswer, QueryError> {
    let filter = Filter::new(report.filter.as_ref(), snapshot)?;
    let on = Filter::new(Some(&report.on), snapshot)?;
    let request =
        ScanRequest { events: Some(vec![report.event.clone()]), range: report.buckets.range(), properties: true, ids: true, dedup: true };
    let mut sums: Vec<Option<(f64, u64)>> = vec![None; report.buckets.labels.len()];
    snapshot.scan(&request, &mut |event, user| {
        if let Some(bucket) = report.buckets.index_of(event.time.0).filter(|_| filter.passes(event, user)) {
            let (sum, count) = sums[bucket].get_or_insert((0.0, 0));
            *sum += on.value(event, user).as_number().unwrap_or(0.0);
            *count += 1;
        }
        true
    })?;
    let number = |(sum, count): (f64, u64)| if report.average { sum / count as f64 } else { sum };
    Ok(AggregateAnswer { numbers: sums.into_iter().map(|sum| sum.map(number)).collect() })
}

pub(crate) fn event_names(snapshot: &Snapshot, report: &EventNames) -> Result<RankedAnswer, QueryError> {
    let unique = report.counting == Counting::Unique;
    let request = ScanRequest { events: None, range: report.range, properties: false, ids: unique, dedup: true };
    let mut tallies: FxHashMap<String, Tally> = FxHashMap::default();
    snapshot.scan(&request, &mut |event, user| {
        if !tallies.contains_key(&event.name) {
            tallies.insert(event.name.clone(), Tally::new(1, unique));
        }
        if let Some(tally) = tallies.get_mut(&event.name) {
            tally.add(0, (!event.distinct_id.is_empty()).then_some(user));
        }
        true
    })?;
    let volume = |tally: &Tally| if unique { tally.users[0].len() as u64 } else { tally.counts[0] };
    let mut ranked: Vec<(String, u64)> = tallies.iter().map(|(name, tally)| (name.clone(), volume(tally))).collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    ranked.truncate(report.limit);
    Ok(RankedAnswer { ranked })
}
