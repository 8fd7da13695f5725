//! `export`: raw events as text, in pieces, on all cores. The channel is bounded: a slow reader slows the scan.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use model::event::EachProperty;
use model::report::Export;
use model::{EventRef, Timestamp};
use store::archive::{Found, Rows, WriteJson, Writer};
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

/// Writes every event that the report asks for to a Parquet file: a scan finds the columns, another one writes the rows. `goes_on` hears
/// of rows as they are written, and says whether to.
pub(crate) fn export_parquet<W: Write + Send>(
    snapshot: &Snapshot,
    report: &Export,
    out: W,
    json: WriteJson,
    goes_on: &(impl Fn(u64) -> bool + Sync),
) -> Result<W, QueryError> {
    let mut needs = Needs::default();
    let filter = optional(report.filter.as_ref(), snapshot, &mut needs)?;
    let request =
        ScanRequest { events: report.events.clone(), range: report.range, properties: Wanted::All, ids: true, dedup: report.dedup };
    let passing = |batch: &Batch| -> Vec<usize> {
        let Some(filter) = &filter else { return (0..batch.len()).collect() };
        let narrow = batch.narrowed(needs.names());
        let mut bound = filter.bind(&narrow);
        (0..batch.len()).filter(|row| bound.passes(*row)).collect()
    };
    let mut found = Found::default();
    let parts = snapshot.fold(&request, Found::default, |found, batch| {
        found.note_batch(batch, &passing(batch));
        goes_on(0)
    })?;
    parts.into_iter().for_each(|part| found.merge(part));
    if !goes_on(0) {
        return Err(QueryError::Interrupted);
    }
    let writer = Mutex::new(Some(Writer::new(out, Rows::Events, &found, json)?));
    let outcomes = snapshot.fold(
        &request,
        || Ok(()),
        |outcome: &mut Result<(), QueryError>, batch| {
            let rows = passing(batch);
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            let written = writer.as_mut().map_or(Err(QueryError::Interrupted), |writer| Ok(writer.write_batch(batch, &rows)?));
            *outcome = match written {
                Ok(()) if goes_on(rows.len() as u64) => Ok(()),
                Ok(()) => Err(QueryError::Interrupted),
                Err(error) => Err(error),
            };
            if outcome.is_err() {
                *writer = None;
            }
            outcome.is_ok()
        },
    )?;
    outcomes.into_iter().collect::<Result<(), _>>()?;
    let writer = writer.into_inner().unwrap_or_else(PoisonError::into_inner).ok_or(QueryError::Interrupted)?;
    Ok(writer.finish()?)
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
