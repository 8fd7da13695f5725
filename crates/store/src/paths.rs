//! Where every file of the store lies below the data directory.

use std::path::{Path, PathBuf};

/// The folder of the log.
pub(crate) fn log_dir(root: &Path) -> PathBuf {
    root.join("log")
}

/// One log file, named by the first sequence number it may hold.
pub(crate) fn log_file(root: &Path, first_seq: u64) -> PathBuf {
    log_dir(root).join(format!("{first_seq:020}.log"))
}

/// The first sequence number of a log file, from its name.
pub(crate) fn log_first_seq(name: &str) -> Option<u64> {
    name.strip_suffix(".log")?.parse().ok()
}

/// The folder of the segments.
pub(crate) fn segment_dir(root: &Path) -> PathBuf {
    root.join("segments")
}

/// The file of a segment of events. The counter tells apart what covers the same sequence numbers.
pub(crate) fn events(project: i64, seq_min: u64, seq_max: u64, counter: u64) -> String {
    format!("{project}-{seq_min}-{seq_max}-{counter}.parquet")
}

/// The index of a segment of events.
pub(crate) fn index(segment: &str) -> String {
    format!("{segment}.index")
}

/// The rows of a segment that are superseded. The counter tells apart its states.
pub(crate) fn superseded(segment: &str, counter: u64) -> String {
    format!("{segment}.superseded-{counter}")
}

/// The file of a segment of profiles.
pub(crate) fn profiles(project: i64, seq_min: u64, seq_max: u64, counter: u64) -> String {
    format!("{project}-{seq_min}-{seq_max}-{counter}.profiles")
}

/// The folder of the lookup tables.
pub(crate) fn lookup_dir(root: &Path) -> PathBuf {
    root.join("lookup-tables")
}

/// The file of a lookup table's content. The number tells apart what a table had one after the other.
pub(crate) fn lookup(id: &str, number: u64) -> String {
    format!("{id}-{number}.lookup")
}

/// The number in the name of a lookup table's file.
pub(crate) fn lookup_number(name: &str) -> Option<u64> {
    name.strip_suffix(".lookup")?.rsplit('-').next()?.parse().ok()
}

/// The file of a segment of links.
pub(crate) fn links(project: i64, seq_min: u64, seq_max: u64, counter: u64) -> String {
    format!("{project}-{seq_min}-{seq_max}-{counter}.links")
}

/// The counter in the name of a file of a segment.
pub(crate) fn counter(name: &str) -> Option<u64> {
    match name.rsplit_once(".superseded-") {
        Some((_, counter)) => counter.parse().ok(),
        None => name.split('.').next()?.rsplit('-').next()?.parse().ok(),
    }
}

/// Whether a file is not whole yet.
pub(crate) fn is_unfinished(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "unfinished")
}

/// The name under which a file is written before it is whole.
pub(crate) fn unfinished(name: &str) -> String {
    format!("{name}.unfinished")
}
