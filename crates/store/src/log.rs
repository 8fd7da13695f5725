//! The event log. When [`Log::append`] returns, its records are on disk and were handed to the visibility step.
//! Replay after a crash yields every acknowledged record, in order of `seq`, and nothing that was not appended.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use model::{Event, ProfileUpdate, ProjectId};

use crate::disk::Disk;

/// What one record of the log carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// Events, in the order in which they were received.
    Events(Vec<Event>),
    /// Changes of profiles, in the order in which they were received.
    Profiles(Vec<ProfileUpdate>),
}

/// A record that is durable: appended just now, or replayed.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The record's number in its partition; numbers ascend from 1 without gaps.
    pub seq: u64,
    /// Whose record it is.
    pub project: ProjectId,
    /// What it carries.
    pub payload: Payload,
}

/// Makes durable records visible. Called in order of `seq`, never by two threads at once.
pub type Apply = Box<dyn Fn(Vec<Applied>) + Send + Sync>;

/// How a log is kept.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Records up to this one live in segments: they are not replayed, and the next record's number lies behind it.
    pub sealed_through: u64,
    /// A file that reached this length is followed by a new one.
    pub file_bytes_max: u64,
    /// What may wait for the disk before appends are refused.
    pub queue_bytes_max: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { sealed_through: 0, file_bytes_max: 64 << 20, queue_bytes_max: 64 << 20 }
    }
}

/// Why the log could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The queue is full: nothing was written, and trying again later is right.
    #[error("log is overloaded: {queued_bytes} bytes are waiting for the disk")]
    Overloaded {
        /// What waits already.
        queued_bytes: usize,
    },
    /// A single event or profile change is longer than a record may be.
    #[error("record of {bytes} bytes is longer than a log record may be")]
    TooLarge {
        /// Its encoded length.
        bytes: usize,
    },
    /// The disk failed earlier; nothing is accepted until the process starts again.
    #[error("log refuses writes since the disk failed: {0}")]
    Failed(Arc<str>),
    /// The log was closed.
    #[error("log is closed")]
    Closed,
    /// The disk failed while the log was opened or files were forgotten.
    #[error("log file `{path}`: {source}")]
    Disk {
        /// Which file or directory.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// A record that was once durable is no longer readable.
    #[error("log file `{path}` is damaged at byte {offset}: {what}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
}

/// The log of one partition.
pub struct Log {}

impl Log {
    /// Opens the log in `dir`, hands every record behind `options.sealed_through` to `apply`, and starts its committer.
    pub fn open(_disk: Arc<dyn Disk>, _dir: PathBuf, _options: LogOptions, _apply: Apply) -> Result<Self, LogError> {
        Ok(Self {})
    }

    /// Appends records of one project; returns the `seq` of the last one once all are durable and visible.
    pub async fn append(&self, _project: ProjectId, _payloads: Vec<Payload>) -> Result<u64, LogError> {
        Err(LogError::Closed)
    }

    /// Deletes whole files whose records are all numbered `through` or lower. Frees space and changes nothing else.
    pub fn forget(&self, _through: u64) -> Result<(), LogError> {
        Ok(())
    }

    /// The number of the last record that is durable and visible.
    pub fn last_seq(&self) -> u64 {
        0
    }

    /// Writes what waits, then refuses appends and stops the committer. Blocks until that is done.
    pub fn close(&self) {}
}
