//! The thread that writes the log.
//!
//! After a failed write or sync nobody knows which of its bytes are on the disk, and a sync that succeeds later proves nothing about them: the
//! file is never written again. The committer
//!
//! 1. closes the file, and opens another that is named by the first sequence number that was not acknowledged. From then on whatever the old
//!    file holds from that number on is void (`log/files.rs`): what was refused does not come back;
//! 2. writes what was waiting to the new file, once. Where that fails too, the writers are told and nothing is acknowledged;
//! 3. tries again with the next writers, and every second while none come, until a file can be written.
//!
//! Below a mark of free space nothing is taken either, so that there is room to seal what was taken and for the metastore.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::files::{self, Unproven};
use super::{Applied, Apply, Condition, Request};
use crate::disk::{Disk, DiskFile};
use crate::error::StoreError;
use crate::paths;

/// A file is closed once it is this long.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// At most these many bytes go into one write.
const GROUP_BYTES_MAX: usize = 16 << 20;
/// How soon it is tried again where nobody writes.
const RECOVERY_PERIOD: Duration = Duration::from_secs(1);

pub(super) struct Committer {
    pub disk: Arc<dyn Disk>,
    pub root: PathBuf,
    /// What was replayed from the last file, until it is written again.
    pub unproven: Option<Unproven>,
    /// The file that is written; `None`: another one is opened first.
    pub file: Option<Box<dyn DiskFile>>,
    pub file_bytes: u64,
    pub next_seq: u64,
    pub free_bytes_min: u64,
    pub apply: Apply,
    pub queued_bytes: Arc<AtomicUsize>,
    pub condition: Condition,
}

impl Committer {
    /// Commits until every sender is gone.
    pub(super) fn run(&mut self, requests: &mpsc::Receiver<Request>) {
        loop {
            // While all is well there is nothing to do but to wait.
            let period = if self.condition.get().is_some() { RECOVERY_PERIOD } else { Duration::MAX };
            let first = match requests.recv_timeout(period) {
                Ok(first) => first,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    self.recover();
                    continue;
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            };
            let mut bytes = first.bytes;
            let mut group = vec![first];
            while bytes < GROUP_BYTES_MAX
                && let Ok(next) = requests.try_recv()
            {
                bytes += next.bytes;
                group.push(next);
            }
            self.commit(group);
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Makes the log ready for the next record where it is not.
    pub(super) fn recover(&mut self) {
        let outcome = self.check_room(0).and_then(|()| self.ready().map_err(|error| StoreError::LogFailed(error.to_string())));
        self.note(outcome.err());
    }

    fn commit(&mut self, group: Vec<Request>) {
        let mut written = Vec::new();
        let mut applied = Vec::new();
        let mut waiting = Vec::with_capacity(group.len());
        let mut seq = self.next_seq;
        for request in group {
            for (project, body, payload) in request.records {
                files::put_record(&mut written, seq, project, &body);
                applied.push(Applied { seq, project, payload });
                seq += 1;
            }
            waiting.push(request.done);
        }
        let outcome = self
            .check_room(written.len() as u64)
            .and_then(|()| self.write(&written).map_err(|error| StoreError::LogFailed(error.to_string())));
        self.note(outcome.clone().err());
        if outcome.is_ok() {
            self.next_seq = seq;
            (self.apply)(applied);
        }
        for done in waiting {
            // A writer that went away does not make its records unwritten.
            let _ = done.send(outcome.clone());
        }
    }

    fn check_room(&self, bytes: u64) -> Result<(), StoreError> {
        // Where the system does not say, the write will tell.
        let free_bytes = self.disk.free_bytes(&paths::log_dir(&self.root)).unwrap_or(u64::MAX);
        let is_low = self.free_bytes_min > 0 && free_bytes < self.free_bytes_min.saturating_add(bytes);
        if is_low { Err(StoreError::DiskFull { free_bytes, free_bytes_min: self.free_bytes_min }) } else { Ok(()) }
    }

    /// Keeps what holds, and tells the operator when it changed.
    fn note(&self, now: Option<StoreError>) {
        match (self.condition.set(now.clone()), now) {
            (None, Some(error)) => tracing::error!(%error, "nothing is taken until this is over; it is tried again"),
            (Some(_), None) => tracing::info!("the log is written again: events are taken"),
            _ => {}
        }
    }

    /// Writes and syncs; to another file where the one that is open fails.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file_bytes >= FILE_BYTES_MAX {
            self.file = None;
        }
        let was_well = self.condition.get().is_none();
        match self.try_write(bytes) {
            Err(error) if was_well => {
                tracing::warn!(%error, "a file of the log cannot be written: it goes on in another one");
                self.try_write(bytes)
            }
            outcome => outcome,
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.ready()?;
        // Whatever fails from here on, this file is not written again.
        let mut file = self.file.take().expect("it was made ready");
        file.write_all(bytes)?;
        #[cfg(not(sluice_mutant = "no_log_sync"))]
        file.sync()?;
        self.file = Some(file);
        self.file_bytes += bytes.len() as u64;
        Ok(())
    }

    fn ready(&mut self) -> io::Result<()> {
        if let Some(unproven) = &self.unproven {
            files::rewrite(&*self.disk, &self.root, unproven)?;
            self.unproven = None;
        }
        if self.file.is_none() {
            self.file = Some(files::create(&*self.disk, &self.root, self.next_seq)?);
            self.file_bytes = 0;
        }
        Ok(())
    }
}
