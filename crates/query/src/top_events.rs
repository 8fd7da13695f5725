//! `events/top`: today's volume beside the same part of yesterday.

use model::report::{TopEvents, TopEventsAnswer};
use model::{TimeRange, Timestamp};
use store::{ScanRequest, Snapshot, Wanted};

use crate::error::QueryError;
use crate::tally::Tallies;

pub(crate) fn top_events(snapshot: &Snapshot, report: &TopEvents) -> Result<TopEventsAnswer, QueryError> {
    let range = TimeRange::new(report.yesterday.from(), report.today.to()).unwrap_or(report.today);
    let request = ScanRequest { events: None, range, properties: Wanted::Named(Vec::new()), ids: false, dedup: true };
    let nobody = snapshot.user("");
    // Yesterday is bucket 0, today bucket 1.
    let states = snapshot.fold(
        &request,
        || Tallies::new(2, report.counting),
        |tallies, batch| {
            let place = tallies.place(batch.event());
            for (time, user) in batch.times().iter().zip(batch.users()) {
                let bucket = match Timestamp(*time) {
                    time if report.today.contains(time) => 1,
                    time if report.yesterday.contains(time) => 0,
                    _ => continue,
                };
                tallies.add(place, bucket, Some(*user).filter(|user| *user != nobody));
            }
            true
        },
    )?;
    let tallies = Tallies::merged(states).ok_or(QueryError::Interrupted)?;
    let mut events: Vec<(String, f64, f64)> = tallies
        .iter()
        .map(|(name, tally)| {
            let numbers = tally.numbers(report.counting);
            (name.clone(), numbers[1], numbers[0])
        })
        .filter(|(_, today, _)| *today > 0.0)
        .collect();
    events.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    events.truncate(report.limit);
    Ok(TopEventsAnswer { events })
}
