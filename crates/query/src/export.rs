//! `export`: raw events as text, in pieces, on all cores. The channel is bounded: a slow reader slows the scan.

use std::sync::atomic::{AtomicUsize, Ordering};

use model::event::EachProperty;
use model::report::Export;
use model::{EventRef, Timestamp};
use store::{Batch, ScanRequest, Snapshot, Wanted};
use tokio::sync::mpsc;

use crate::error::QueryError;
use crate::rows::{Needs, optional};

/// A piece of text is about this long.
const PIECE_BYTES: usize = 64 * 1024;

/// Sends every event that the report asks for, written by `line`.
pub(crate) fn export(
    snapshot: &Snapshot,
    report: &Export,
    line: &(impl Fn(&EventRef<'_>, &mut String) + Sync),
    pieces: &mpsc::Sender<Result<String, QueryError>>,
) -> Result<(), QueryError> {
    let mut needs = Needs::default();
    let filter = optional(report.filter.as_ref(), snapshot, &mut needs)?;
    let request =
        ScanRequest { events: report.events.clone(), range: report.range, properties: Wanted::All, ids: true, dedup: report.dedup };
    let left = AtomicUsize::new(report.limit.unwrap_or(usize::MAX));
    let takes = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    let states = snapshot.fold(&request, String::new, |text, batch| {
        let narrow = filter.as_ref().map(|_| batch.narrowed(needs.names()));
        let mut filter = filter.as_ref().zip(narrow.as_ref()).map(|(filter, batch)| filter.bind(batch));
        for row in 0..batch.len() {
            if filter.as_mut().is_some_and(|filter| !filter.passes(row)) {
                continue;
            }
            if report.limit.is_some() && !takes() {
                return false;
            }
            line(&event(batch, row, &|each| batch.each_property(row, each)), text);
            if text.len() >= PIECE_BYTES && pieces.blocking_send(Ok(std::mem::take(text))).is_err() {
                // The reader went away.
                return false;
            }
        }
        true
    })?;
    for text in states.into_iter().filter(|text| !text.is_empty()) {
        let _ = pieces.blocking_send(Ok(text));
    }
    Ok(())
}

fn event<'b>(batch: &'b Batch, row: usize, properties: &'b EachProperty<'b>) -> EventRef<'b> {
    EventRef {
        name: batch.event(),
        distinct_id: batch.distinct_id(row),
        distinct_id_before_identity: batch.distinct_id_before_identity(row),
        time: Timestamp(batch.times()[row]),
        insert_id: batch.insert_id(row),
        properties,
    }
}
