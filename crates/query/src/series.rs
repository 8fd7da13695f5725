//! `events`, `segmentation` and their relatives: counts, distinct users, sums and averages by bucket.

use model::report::{Aggregate, AggregateAnswer, Counting, EventNames, RankedAnswer, Series, SeriesAnswer};
use rustc_hash::{FxHashMap, FxHashSet};
use store::{ScanRequest, Snapshot};

use crate::error::QueryError;
use crate::evaluate::{Operand, value_key};
use crate::rows::Filter;

/// What one key counted so far.
pub(crate) struct Tally {
    counts: Vec<u64>,
    users: Vec<FxHashSet<u128>>,
}

impl Tally {
    fn new(buckets: usize, with_users: bool) -> Self {
        Self { counts: vec![0; buckets], users: if with_users { vec![FxHashSet::default(); buckets] } else { Vec::new() } }
    }

    /// The tally of a key, made where there is none.
    pub(crate) fn of<'t>(tallies: &'t mut FxHashMap<String, Tally>, key: &str, buckets: usize, with_users: bool) -> &'t mut Self {
        if !tallies.contains_key(key) {
            tallies.insert(key.to_owned(), Self::new(buckets, with_users));
        }
        tallies.get_mut(key).expect("it stands there now")
    }

    pub(crate) fn add(&mut self, bucket: usize, user: Option<u128>) {
        self.counts[bucket] += 1;
        if let (Some(users), Some(user)) = (self.users.get_mut(bucket), user) {
            users.insert(user);
        }
    }

    pub(crate) fn numbers(&self, counting: Counting) -> Vec<f64> {
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
    let ranges = match report.breakdown.as_ref().and_then(|breakdown| breakdown.ranges_max) {
        Some(ranges_max) => Some(Ranges::of(snapshot, &request, report, &filter, &on, ranges_max)?),
        None => None,
    };
    let only: Option<FxHashSet<&String>> =
        report.breakdown.as_ref().and_then(|breakdown| Some(breakdown.values.as_ref()?.iter().collect()));
    let mut tallies: FxHashMap<String, Tally> = FxHashMap::default();
    snapshot.scan(&request, &mut |event, user| {
        let Some(bucket) = report.buckets.index_of(event.time.0) else { return true };
        if !filter.passes(event, user) {
            return true;
        }
        let somebody = (!event.distinct_id.is_empty()).then_some(user);
        let mut count = |key: &str| {
            if only.as_ref().is_none_or(|only| only.contains(&key.to_owned())) {
                Tally::of(&mut tallies, key, buckets, with_users).add(bucket, somebody);
            }
        };
        if report.breakdown.is_none() {
            count(&event.name);
        } else if let Some(ranges) = &ranges {
            if let Some(number) = on.value(event, user).as_number() {
                count(&ranges.label(number));
            }
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
    let zeros = || vec![0.0; buckets];
    if let Some(breakdown) = &report.breakdown {
        let keys = match &breakdown.values {
            Some(values) => values.clone(),
            None => {
                let mut keys: Vec<(u64, String)> = tallies.iter().map(|(key, tally)| (tally.counts.iter().sum(), key.clone())).collect();
                keys.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
                keys.truncate(breakdown.limit);
                keys.into_iter().map(|(_, key)| key).collect()
            }
        };
        for key in keys {
            let numbers = tallies.get(&key).map_or_else(zeros, |tally| tally.numbers(report.counting));
            answer.series.push((key, numbers));
        }
    } else {
        for event in &report.events {
            let numbers = tallies.get(event).map_or_else(zeros, |tally| tally.numbers(report.counting));
            answer.series.push((event.clone(), numbers));
        }
    }
    Ok(answer)
}

/// Equal ranges of numbers with round bounds, half open.
struct Ranges {
    width: f64,
}

impl Ranges {
    /// The narrowest ranges of 1, 2 or 5 times a power of ten that cover what the report counts with at most `ranges_max` of them.
    fn of(
        snapshot: &Snapshot,
        request: &ScanRequest,
        report: &Series,
        filter: &Filter,
        on: &Filter,
        ranges_max: usize,
    ) -> Result<Self, QueryError> {
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        snapshot.scan(request, &mut |event, user| {
            if report.buckets.index_of(event.time.0).is_some() && filter.passes(event, user) {
                if let Some(number) = on.value(event, user).as_number() {
                    (least, most) = (least.min(number), most.max(number));
                }
            }
            true
        })?;
        let mut ranges = Self { width: 1.0 };
        let steps = [2.0, 2.5, 2.0];
        for step in steps.iter().cycle() {
            if least > most || (most / ranges.width).floor() - (least / ranges.width).floor() < ranges_max as f64 {
                break;
            }
            ranges.width *= step;
        }
        Ok(ranges)
    }

    /// `2,000 - 2,100`
    fn label(&self, number: f64) -> String {
        let low = (number / self.width).floor() * self.width;
        format!("{} - {}", grouped(low), grouped(low + self.width))
    }
}

/// An integral number with commas between thousands.
fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if number < 0.0 { format!("-{out}") } else { out }
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
        Tally::of(&mut tallies, &event.name, 1, unique).add(0, (!event.distinct_id.is_empty()).then_some(user));
        true
    })?;
    let volume = |tally: &Tally| if unique { tally.users[0].len() as u64 } else { tally.counts[0] };
    let mut ranked: Vec<(String, u64)> = tallies.iter().map(|(name, tally)| (name.clone(), volume(tally))).collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    ranked.truncate(report.limit);
    Ok(RankedAnswer { ranked })
}
