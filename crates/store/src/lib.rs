//! Events and profiles on disk: log, buffer, Parquet segments, compaction, the sorted scan.

pub mod disk;
pub mod log;
