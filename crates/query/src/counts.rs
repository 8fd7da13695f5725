//! How many events stand in each bucket, whatever they are: what an import is checked against.

use model::report::Buckets;
use store::{ScanRequest, Snapshot, Wanted};

use crate::error::QueryError;

/// Events by bucket, each one that was sent several times counted once.
pub(crate) fn counts(snapshot: &Snapshot, buckets: &Buckets) -> Result<Vec<u64>, QueryError> {
    let request = ScanRequest { events: None, range: buckets.range(), properties: Wanted::Named(Vec::new()), ids: false, dedup: true };
    let empty = || vec![0; buckets.starts_ms.len()];
    let parts = snapshot.fold(&request, empty, |counts: &mut Vec<u64>, batch| {
        for time in batch.times() {
            if let Some(at) = buckets.index_of(*time) {
                counts[at] += 1;
            }
        }
        true
    })?;
    let mut sum = empty();
    parts.iter().for_each(|part| sum.iter_mut().zip(part).for_each(|(sum, count)| *sum += count));
    Ok(sum)
}
