//! `events`, `segmentation` and their relatives: counts, distinct users, sums and averages by bucket.

use std::sync::atomic::{AtomicBool, Ordering};

use model::report::{Aggregate, AggregateAnswer, Breakdown, Buckets, Counting, EventNames, RankedAnswer, Series, SeriesAnswer};
use rustc_hash::{FxHashMap, FxHashSet};
use store::{Batch, ScanRequest, Snapshot, Wanted};

use crate::error::QueryError;
use crate::evaluate::{Operand, value_key};
use crate::rows::{Bound, Expression, Needs, optional};
use crate::tally::{BucketOf, Tallies};

pub(crate) fn series(snapshot: &Snapshot, report: &Series) -> Result<SeriesAnswer, QueryError> {
    let mut needs = Needs::default();
    let filter = optional(report.filter.as_ref(), snapshot, &mut needs)?;
    let on = optional(report.breakdown.as_ref().map(|breakdown| &breakdown.on), snapshot, &mut needs)?;
    let request = ScanRequest {
        events: Some(report.events.clone()),
        range: report.buckets.range(),
        properties: needs.wanted(),
        ids: needs.ids,
        dedup: true,
    };
    let leaf = Leaf { report, filter, on, nobody: snapshot.user("") };
    let ranges = match report.breakdown.as_ref().and_then(|breakdown| breakdown.ranges_max) {
        Some(ranges_max) => Some(leaf.ranges(snapshot, &request, ranges_max)?),
        None => None,
    };
    let only = report.breakdown.as_ref().and_then(|breakdown| Some(breakdown.values.as_ref()?.iter().map(String::as_str).collect()));
    let keys = Keys { ranges, only };
    let is_full = AtomicBool::new(false);
    let states = snapshot.fold(
        &request,
        || Tallies::new(report.buckets.labels.len(), report.counting),
        |tallies, batch| {
            leaf.count(&keys, tallies, batch);
            let fits = tallies.words_held() <= WORDS_MAX;
            is_full.fetch_or(!fits, Ordering::Relaxed);
            fits
        },
    )?;
    if is_full.into_inner() {
        return match &report.breakdown {
            Some(breakdown) if breakdown.values.is_none() && breakdown.ranges_max.is_none() => in_two_passes(snapshot, report, breakdown),
            _ => Err(too_many()),
        };
    }
    let tallies = Tallies::merged(states).ok_or(QueryError::Interrupted)?;
    let keys = match &report.breakdown {
        Some(breakdown) => top(&tallies, breakdown),
        None => report.events.clone(),
    };
    let row = |key: String| (tallies.numbers(&key, report.counting), key);
    Ok(SeriesAnswer { series: keys.into_iter().map(row).map(|(numbers, key)| (key, numbers)).collect() })
}

/// Words of memory that one thread counts in, at most.
const WORDS_MAX: usize = 32 << 20;

fn too_many() -> QueryError {
    QueryError::BadRequest("too many values and buckets: choose a longer unit, a shorter range or a lower limit".to_owned())
}

/// Where all values with all their buckets do not fit: first which values are the most frequent, then the buckets of those.
fn in_two_passes(snapshot: &Snapshot, report: &Series, breakdown: &Breakdown) -> Result<SeriesAnswer, QueryError> {
    let range = report.buckets.range();
    let whole = Buckets { starts_ms: vec![range.from().0], end_ms: range.to().0, labels: vec![String::new()] };
    if report.buckets.labels.len() == 1 {
        return Err(too_many());
    }
    let totals = series(snapshot, &Series { buckets: whole, counting: Counting::General, ..report.clone() })?;
    let values: Vec<String> = totals.series.into_iter().map(|(value, _)| value).collect();
    series(snapshot, &Series { breakdown: Some(Breakdown { values: Some(values), ..breakdown.clone() }), ..report.clone() })
}

/// The values that a breakdown shows: those that were asked, or the most frequent.
fn top(tallies: &Tallies, breakdown: &Breakdown) -> Vec<String> {
    if let Some(values) = &breakdown.values {
        return values.clone();
    }
    let mut keys: Vec<(u64, &String)> = tallies.iter().map(|(key, tally)| (tally.total(), key)).collect();
    keys.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    keys.truncate(breakdown.limit);
    keys.into_iter().map(|(_, key)| key.clone()).collect()
}

/// The report over one batch.
struct Leaf<'r> {
    report: &'r Series,
    filter: Option<Expression>,
    on: Option<Expression>,
    /// The user whose id is empty: uniques leave it out.
    nobody: u128,
}

/// How values become keys.
struct Keys<'r> {
    ranges: Option<Ranges>,
    only: Option<FxHashSet<&'r str>>,
}

impl Leaf<'_> {
    /// Calls `each` with the rows of a batch that count, and their buckets.
    fn rows(&self, batch: &Batch, mut each: impl FnMut(usize, usize)) {
        let mut filter = self.filter.as_ref().map(|filter| filter.bind(batch));
        let mut bucket_of = BucketOf::new(&self.report.buckets);
        for (row, time) in batch.times().iter().enumerate() {
            if let Some(bucket) = bucket_of.find(*time)
                && filter.as_mut().is_none_or(|filter| filter.passes(row))
            {
                each(row, bucket);
            }
        }
    }

    fn count(&self, keys: &Keys<'_>, tallies: &mut Tallies, batch: &Batch) {
        let somebody = |row: usize| Some(batch.users()[row]).filter(|user| *user != self.nobody);
        let Some(on) = &self.on else {
            let place = tallies.place(batch.event());
            return self.rows(batch, |row, bucket| tallies.add(place, bucket, somebody(row)));
        };
        let mut on = on.bind(batch);
        let mut places = Places { keys, by_code: Vec::new(), by_range: FxHashMap::default(), undefined: None };
        self.rows(batch, |row, bucket| {
            places.find(&mut on, row, tallies, &mut |tallies, place| tallies.add(place, bucket, somebody(row)));
        });
    }

    fn ranges(&self, snapshot: &Snapshot, request: &ScanRequest, ranges_max: usize) -> Result<Ranges, QueryError> {
        let states = snapshot.fold(
            request,
            || (f64::INFINITY, f64::NEG_INFINITY),
            |(least, most), batch| {
                let Some(mut on) = self.on.as_ref().map(|on| on.bind(batch)) else { return false };
                self.rows(batch, |row, _| {
                    if let Some(number) = on.value(row).as_number().filter(|number| number.is_finite()) {
                        (*least, *most) = (least.min(number), most.max(number));
                    }
                });
                true
            },
        )?;
        let (least, most) =
            states.into_iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), (a, b)| (least.min(a), most.max(b)));
        Ok(Ranges::of(least, most, ranges_max))
    }
}

/// The tallies of one batch's values, remembered by dictionary code.
struct Places<'k> {
    keys: &'k Keys<'k>,
    /// Not met yet; met, and perhaps not asked for.
    by_code: Vec<Option<Option<usize>>>,
    by_range: FxHashMap<i64, Option<usize>>,
    undefined: Option<Option<usize>>,
}

impl Places<'_> {
    fn of_key(&self, key: &str, tallies: &mut Tallies) -> Option<usize> {
        self.keys.only.as_ref().is_none_or(|only| only.contains(key)).then(|| tallies.place(key))
    }

    /// Calls `add` with the tally of a row's value; a list counts once per element.
    fn find(&mut self, on: &mut Bound<'_>, row: usize, tallies: &mut Tallies, add: &mut dyn FnMut(&mut Tallies, usize)) {
        if let Some(ranges) = &self.keys.ranges {
            let Some(number) = on.value(row).as_number().filter(|number| number.is_finite()) else { return };
            let range = ranges.index(number);
            let place = match self.by_range.get(&range) {
                Some(place) => *place,
                None => {
                    let place = self.of_key(&ranges.label(range), tallies);
                    self.by_range.insert(range, place);
                    place
                }
            };
            return place.into_iter().for_each(|place| add(tallies, place));
        }
        let code = on.code(row).map(|code| code as usize);
        if let Some(Some(place)) = code.and_then(|code| self.by_code.get(code)) {
            return place.iter().for_each(|place| add(tallies, *place));
        }
        let place = match on.value(row) {
            Operand::List(list) => {
                list.iter()
                    .filter_map(|value| self.of_key(&value_key(value), tallies))
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|place| add(tallies, place));
                return;
            }
            Operand::Undefined => match self.undefined {
                Some(place) => place,
                None => *self.undefined.insert(self.of_key("undefined", tallies)),
            },
            other => match on.exact(row) {
                Some(text) => self.of_key(&text, tallies),
                None => self.of_key(&other.key(), tallies),
            },
        };
        if let Some(code) = code {
            if self.by_code.len() <= code {
                self.by_code.resize(code + 1, None);
            }
            self.by_code[code] = Some(place);
        }
        place.into_iter().for_each(|place| add(tallies, place));
    }
}

/// Equal ranges of numbers with round bounds, half open except the last.
struct Ranges {
    width: f64,
    last: i64,
}

impl Ranges {
    /// The narrowest ranges of 1, 2 or 5 times a power of ten of which at most `ranges_max` cover what lies between two numbers.
    fn of(least: f64, most: f64, ranges_max: usize) -> Self {
        let mut width = 1.0;
        for step in [2.0, 2.5, 2.0].iter().cycle() {
            let (first, last) = ((least / width).floor(), Self::last(least, most, width));
            // Bounds are whole numbers of widths, and doubles know the whole numbers up to 2^53.
            let is_exact = first.abs().max(last.abs()) < 9_007_199_254_740_992.0;
            if least > most || (is_exact && last - first < ranges_max as f64) {
                break;
            }
            width *= step;
        }
        Self { width, last: Self::last(least, most, width) as i64 }
    }

    /// The range of the greatest number: where it stands on a bound, the range below it, unless that has nothing else.
    fn last(least: f64, most: f64, width: f64) -> f64 {
        let last = (most / width).floor();
        if last * width == most && least < most { last - 1.0 } else { last }
    }

    fn index(&self, number: f64) -> i64 {
        ((number / self.width).floor() as i64).min(self.last)
    }

    /// `2,000 - 2,100`
    fn label(&self, index: i64) -> String {
        let low = index as f64 * self.width;
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
    let mut needs = Needs::default();
    let filter = optional(report.filter.as_ref(), snapshot, &mut needs)?;
    let on = Expression::new(&report.on, snapshot, &mut needs)?;
    let request = ScanRequest {
        events: Some(vec![report.event.clone()]),
        range: report.buckets.range(),
        properties: needs.wanted(),
        ids: needs.ids,
        dedup: true,
    };
    let buckets = report.buckets.labels.len();
    let states = snapshot.fold(
        &request,
        || vec![(0.0, 0_u64); buckets],
        |sums, batch| {
            let (mut filter, mut on) = (filter.as_ref().map(|filter| filter.bind(batch)), on.bind(batch));
            let mut bucket_of = BucketOf::new(&report.buckets);
            for (row, time) in batch.times().iter().enumerate() {
                if let Some(bucket) = bucket_of.find(*time)
                    && filter.as_mut().is_none_or(|filter| filter.passes(row))
                {
                    let (sum, count) = &mut sums[bucket];
                    *sum += on.value(row).as_number().unwrap_or(0.0);
                    *count += 1;
                }
            }
            true
        },
    )?;
    let merged = states.into_iter().reduce(|mut all, state| {
        all.iter_mut().zip(state).for_each(|((sum, count), (more, further))| (*sum, *count) = (*sum + more, *count + further));
        all
    });
    let number = |(sum, count): (f64, u64)| (count > 0).then_some(if report.average { sum / count as f64 } else { sum });
    Ok(AggregateAnswer { numbers: merged.unwrap_or_default().into_iter().map(number).collect() })
}

pub(crate) fn event_names(snapshot: &Snapshot, report: &EventNames) -> Result<RankedAnswer, QueryError> {
    let request = ScanRequest { events: None, range: report.range, properties: Wanted::Named(Vec::new()), ids: false, dedup: true };
    let nobody = snapshot.user("");
    let states = snapshot.fold(
        &request,
        || Tallies::new(1, report.counting),
        |tallies, batch| {
            let place = tallies.place(batch.event());
            batch.users().iter().for_each(|user| tallies.add(place, 0, Some(*user).filter(|user| *user != nobody)));
            true
        },
    )?;
    let tallies = Tallies::merged(states).ok_or(QueryError::Interrupted)?;
    let unique = report.counting == Counting::Unique;
    let volume = |tally: &crate::tally::Tally| if unique { tally.numbers(Counting::Unique)[0] as u64 } else { tally.total() };
    let mut ranked: Vec<(String, u64)> = tallies.iter().map(|(name, tally)| (name.clone(), volume(tally))).collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    ranked.truncate(report.limit);
    Ok(RankedAnswer { ranked })
}
