//! `events/top`: today's volume beside the same part of yesterday.

use model::TimeRange;
use model::report::{Counting, TopEvents, TopEventsAnswer};
use rustc_hash::FxHashMap;
use store::{ScanRequest, Snapshot};

use crate::error::QueryError;
use crate::series::Tally;

pub(crate) fn top_events(snapshot: &Snapshot, report: &TopEvents) -> Result<TopEventsAnswer, QueryError> {
    let with_users = report.counting != Counting::General;
    // Yesterday is bucket 0, today bucket 1.
    let mut tallies: FxHashMap<String, Tally> = FxHashMap::default();
    let range = TimeRange::new(report.yesterday.from(), report.today.to()).unwrap_or(report.today);
    let request = ScanRequest { events: None, range, properties: false, ids: with_users, dedup: true };
    snapshot.scan(&request, &mut |event, user| {
        let bucket = if report.today.contains(event.time) {
            1
        } else if report.yesterday.contains(event.time) {
            0
        } else {
            return true;
        };
        let user = (!event.distinct_id.is_empty()).then_some(user);
        Tally::of(&mut tallies, &event.name, 2, with_users).add(bucket, user);
        true
    })?;
    let mut events: Vec<(String, f64, f64)> = tallies
        .into_iter()
        .map(|(name, tally)| {
            let numbers = tally.numbers(report.counting);
            (name, numbers[1], numbers[0])
        })
        .filter(|(_, today, _)| *today > 0.0)
        .collect();
    events.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    events.truncate(report.limit);
    Ok(TopEventsAnswer { events })
}
