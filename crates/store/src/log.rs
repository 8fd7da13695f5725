//! The event log. When [`Log::append`] returns, the records are on disk and were applied, in order.
//! Replay after a crash yields every acknowledged record, in order, and nothing that was never written.
//!
//! 1. A writer encodes its records and queues them; the queue is bounded in bytes.
//! 2. The committer (`log/committer.rs`) takes whatever waits, gives sequence numbers, writes all of it with one write and one sync.
//! 3. It applies the records to the buffer in order and only then wakes the writers.
//!
//! What happens when the disk does not do as it is told stands in `log/committer.rs`, what the files hold in `log/files.rs`.

mod committer;
mod files;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use model::{Event, ProfileUpdate, ProjectId};
use tokio::sync::oneshot;

use crate::disk::Disk;
use crate::error::StoreError;
use crate::{paths, record};

use committer::Committer;

/// What a record holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// Events.
    Events(Vec<Event>),
    /// Profile updates.
    Profiles(Vec<ProfileUpdate>),
}

/// A durable record.
pub(crate) struct Applied {
    pub seq: u64,
    pub project: ProjectId,
    pub payload: Payload,
}

type Apply = Box<dyn Fn(Vec<Applied>) + Send + Sync>;

/// More bytes than these do not wait: the writer is told at once.
const QUEUE_BYTES_MAX: usize = 256 << 20;

/// One writer's records, of one project or of several: all of them are taken, or none.
struct Request {
    records: Vec<(ProjectId, Vec<u8>, Payload)>,
    bytes: usize,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// Why nothing is taken at the moment, if so.
#[derive(Clone, Default)]
struct Condition(Arc<Mutex<Option<StoreError>>>);

impl Condition {
    fn get(&self) -> Option<StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets what holds from now on; returns what held before.
    fn set(&self, now: Option<StoreError>) -> Option<StoreError> {
        std::mem::replace(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), now)
    }
}

/// The log of one data directory.
pub(crate) struct Log {
    queue: Option<mpsc::Sender<Request>>,
    queued_bytes: Arc<AtomicUsize>,
    condition: Condition,
    committer: Option<JoinHandle<()>>,
    disk: Arc<dyn Disk>,
    root: PathBuf,
}

impl Log {
    /// Replays what lies behind `sealed_through` into `apply` and opens a new file for what comes. Where that file cannot be made, nothing is
    /// taken until it can.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        root: &Path,
        free_bytes_min: u64,
        sealed_through: u64,
        apply: Apply,
    ) -> Result<Self, StoreError> {
        disk.create_dir_all(&paths::log_dir(root))?;
        let replayed = files::replay(&*disk, root, sealed_through, &apply)?;
        let (queue, requests) = mpsc::channel();
        let (queued_bytes, condition) = (Arc::new(AtomicUsize::new(0)), Condition::default());
        let next_seq = replayed.last.max(sealed_through) + 1;
        let mut committer = Committer {
            disk: disk.clone(),
            root: root.to_path_buf(),
            unproven: replayed.unproven,
            file: None,
            file_bytes: 0,
            next_seq,
            free_bytes_min,
            apply,
            queued_bytes: queued_bytes.clone(),
            condition: condition.clone(),
        };
        committer.recover();
        let committer = std::thread::Builder::new().name("log".to_owned()).spawn(move || committer.run(&requests))?;
        Ok(Self { queue: Some(queue), queued_bytes, condition, committer: Some(committer), disk, root: root.to_path_buf() })
    }

    /// Writes, syncs and applies payloads, all or none; big ones become several records, acknowledged after all of them.
    pub(crate) async fn append(&self, payloads: Vec<(ProjectId, Payload)>) -> Result<(), StoreError> {
        let mut records = Vec::with_capacity(payloads.len());
        for (project, payload) in payloads {
            records.extend(split(payload)?.into_iter().map(|(bytes, payload)| (project, bytes, payload)));
        }
        let bytes = records.iter().map(|(_, bytes, _)| bytes.len()).sum();
        if self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUE_BYTES_MAX {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(StoreError::Overloaded);
        }
        let (done, finished) = oneshot::channel();
        let gone = || StoreError::LogFailed("it is closed".to_owned());
        self.queue.as_ref().ok_or_else(gone)?.send(Request { records, bytes, done }).map_err(|_| gone())?;
        #[cfg(sluice_mutant = "ack_before_write")]
        return Ok(drop(finished));
        #[cfg(not(sluice_mutant = "ack_before_write"))]
        finished.await.map_err(|_| gone())?
    }

    /// Why nothing was taken last, if so.
    pub(crate) fn condition(&self) -> Option<StoreError> {
        self.condition.get()
    }

    /// Removes files whose records are all sealed. Forgetting frees space and nothing else.
    pub(crate) fn forget(&self, sealed_through: u64) -> Result<(), StoreError> {
        let files = files::list(&*self.disk, &self.root)?;
        for pair in files.windows(2) {
            if pair[1] <= sealed_through + 1 {
                self.disk.remove(&paths::log_file(&self.root, pair[0]))?;
            }
        }
        Ok(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(committer) = self.committer.take() {
            let _ = committer.join();
        }
    }
}

fn split(payload: Payload) -> Result<Vec<(Vec<u8>, Payload)>, StoreError> {
    let mut bytes = Vec::new();
    let pieces = record::encode(payload, &mut bytes, |_| {})
        .map_err(|record::TooLarge(len)| StoreError::TooLarge { bytes: len, bytes_max: record::PAYLOAD_BYTES_MAX })?;
    let mut start = 0;
    let cut = |(payload, end): (Payload, usize)| (bytes[std::mem::replace(&mut start, end)..end].to_vec(), payload);
    Ok(pieces.into_iter().map(cut).collect())
}
