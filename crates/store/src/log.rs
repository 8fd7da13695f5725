//! The event log. When [`Log::append`] returns, the records are on disk and were applied, in order.
//! Replay after a crash yields every acknowledged record, in order, and nothing that was never written.
//!
//! 1. A writer encodes its records and queues them; the queue is bounded in bytes.
//! 2. The committer takes whatever waits, gives sequence numbers, writes all of it with one write and one sync.
//! 3. It applies the records to the buffer in order and only then wakes the writers.
//!
//! A record: length, CRC32 of the rest, sequence number, project, kind, payload. A torn record ends the last file; anywhere else it is
//! corruption. After a failed sync nobody knows what is on disk: the log takes nothing more until it is opened again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use model::{Event, ProfileUpdate, ProjectId};
use tokio::sync::oneshot;

use crate::disk::{Disk, DiskFile};
use crate::error::StoreError;
use crate::paths;
use crate::record;

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

/// A file is closed once it is this long.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// More bytes than these do not wait: the writer is told at once.
const QUEUE_BYTES_MAX: usize = 256 << 20;
/// At most these many bytes go into one write.
const GROUP_BYTES_MAX: usize = 16 << 20;

struct Request {
    project: ProjectId,
    records: Vec<(Vec<u8>, Payload)>,
    bytes: usize,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// The log of one data directory.
pub(crate) struct Log {
    queue: Option<mpsc::Sender<Request>>,
    queued_bytes: Arc<AtomicUsize>,
    has_failed: Arc<AtomicBool>,
    committer: Option<JoinHandle<()>>,
    disk: Arc<dyn Disk>,
    root: PathBuf,
}

impl Log {
    /// Replays what lies behind `sealed_through` into `apply` and opens a new file for what comes.
    pub(crate) fn open(disk: Arc<dyn Disk>, root: &Path, sealed_through: u64, apply: Apply) -> Result<Self, StoreError> {
        let dir = paths::log_dir(root);
        disk.create_dir_all(&dir)?;
        let last = replay(&*disk, root, sealed_through, &apply)?.max(sealed_through);
        let file = new_file(&*disk, root, last + 1)?;
        let (queue, requests) = mpsc::channel();
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let has_failed = Arc::new(AtomicBool::new(false));
        let mut committer = Committer {
            disk: disk.clone(),
            root: root.to_path_buf(),
            file,
            file_bytes: 0,
            next_seq: last + 1,
            apply,
            queued_bytes: queued_bytes.clone(),
            failed: None,
            has_failed: has_failed.clone(),
        };
        let committer = std::thread::Builder::new().name("log".to_owned()).spawn(move || committer.run(&requests))?;
        Ok(Self { queue: Some(queue), queued_bytes, has_failed, committer: Some(committer), disk, root: root.to_path_buf() })
    }

    /// Writes, syncs and applies a payload; big ones become several records, acknowledged after all of them.
    pub(crate) async fn append(&self, project: ProjectId, payload: Payload) -> Result<(), StoreError> {
        let records = split(payload)?;
        let bytes = records.iter().map(|(bytes, _)| bytes.len()).sum();
        if self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUE_BYTES_MAX {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(StoreError::Overloaded);
        }
        let (done, finished) = oneshot::channel();
        let gone = || StoreError::LogFailed("it is closed".to_owned());
        self.queue.as_ref().ok_or_else(gone)?.send(Request { project, records, bytes, done }).map_err(|_| gone())?;
        #[cfg(sluice_mutant = "ack_before_write")]
        return Ok(drop(finished));
        #[cfg(not(sluice_mutant = "ack_before_write"))]
        finished.await.map_err(|_| gone())?
    }

    /// Whether a write or a sync failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Removes files whose records are all sealed. Forgetting frees space and nothing else.
    pub(crate) fn forget(&self, sealed_through: u64) -> Result<(), StoreError> {
        let files = files(&*self.disk, &self.root)?;
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

struct Committer {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    file: Box<dyn DiskFile>,
    file_bytes: u64,
    next_seq: u64,
    apply: Apply,
    queued_bytes: Arc<AtomicUsize>,
    failed: Option<String>,
    has_failed: Arc<AtomicBool>,
}

impl Committer {
    fn run(&mut self, requests: &mpsc::Receiver<Request>) {
        while let Ok(first) = requests.recv() {
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

    fn commit(&mut self, group: Vec<Request>) {
        let mut written = Vec::new();
        let mut applied = Vec::new();
        let mut waiting = Vec::with_capacity(group.len());
        for request in group {
            for (body, payload) in request.records {
                put_record(&mut written, self.next_seq, request.project, &body);
                applied.push(Applied { seq: self.next_seq, project: request.project, payload });
                self.next_seq += 1;
            }
            waiting.push(request.done);
        }
        let outcome = match self.failed.clone() {
            Some(reason) => Err(StoreError::LogFailed(reason)),
            None => self.write(&written).map_err(|error| {
                tracing::error!(%error, "the log cannot be written: nothing is taken until the server is restarted");
                self.has_failed.store(true, Ordering::Relaxed);
                self.failed = Some(error.to_string());
                StoreError::LogFailed(error.to_string())
            }),
        };
        if outcome.is_ok() {
            (self.apply)(applied);
        }
        for done in waiting {
            // A writer that went away does not make its records unwritten.
            let _ = done.send(outcome.clone());
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        #[cfg(not(sluice_mutant = "no_log_sync"))]
        self.file.sync()?;
        self.file_bytes += bytes.len() as u64;
        if self.file_bytes >= FILE_BYTES_MAX {
            self.file = new_file(&*self.disk, &self.root, self.next_seq)?;
            self.file_bytes = 0;
        }
        Ok(())
    }
}

fn put_record(out: &mut Vec<u8>, seq: u64, project: ProjectId, body: &[u8]) {
    let start = out.len();
    out.extend([0; 8]);
    out.extend(seq.to_le_bytes());
    out.extend(project.0.to_le_bytes());
    out.extend(body);
    let len = (out.len() - start - 8) as u32;
    let checksum = crc32fast::hash(&out[start + 8..]);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
}

fn new_file(disk: &dyn Disk, root: &Path, first_seq: u64) -> std::io::Result<Box<dyn DiskFile>> {
    // A file of this name can only be one whose every record was torn: nothing in it was acknowledged.
    let mut file = disk.create(&paths::log_file(root, first_seq))?;
    file.sync()?;
    #[cfg(not(sluice_mutant = "no_dir_sync"))]
    disk.sync_dir(&paths::log_dir(root))?;
    Ok(file)
}

fn files(disk: &dyn Disk, root: &Path) -> std::io::Result<Vec<u64>> {
    let mut found: Vec<u64> = disk.list(&paths::log_dir(root))?.iter().filter_map(|name| paths::log_first_seq(name)).collect();
    found.sort_unstable();
    Ok(found)
}

fn replay(disk: &dyn Disk, root: &Path, sealed_through: u64, apply: &Apply) -> Result<u64, StoreError> {
    let files = files(disk, root)?;
    let mut last = 0;
    for (index, first_seq) in files.iter().enumerate() {
        let path = paths::log_file(root, *first_seq);
        let bytes = disk.read(&path)?;
        let mut records = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let Some((seq, project, body, after)) = take_record(rest) else { break };
            if seq <= last {
                return Err(StoreError::Corrupt { path: path.display().to_string(), reason: format!("record {seq} follows {last}") });
            }
            last = seq;
            rest = after;
            if seq > sealed_through {
                let payload = record::decode(body)
                    .map_err(|error| StoreError::Corrupt { path: path.display().to_string(), reason: format!("record {seq}: {error}") })?;
                records.push(Applied { seq, project, payload });
            }
        }
        // A torn record is where the power went. A later file then starts behind it, with the next sequence number.
        let next = files.get(index + 1);
        if !rest.is_empty() && next.is_some_and(|next| *next != last + 1 && *next != *first_seq) {
            return Err(StoreError::Corrupt { path: path.display().to_string(), reason: format!("a broken record behind {last}") });
        }
        #[cfg(sluice_mutant = "replay_skips_last")]
        if next.is_none_or(|_| files.get(index + 2).is_none()) {
            records.pop();
        }
        apply(records);
    }
    Ok(last)
}

fn take_record(bytes: &[u8]) -> Option<(u64, ProjectId, &[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(8)?;
    let len = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
    let checksum = u32::from_le_bytes(head[4..].try_into().ok()?);
    if len < 17 {
        return None;
    }
    let (record, after) = rest.split_at_checked(len)?;
    if crc32fast::hash(record) != checksum {
        return None;
    }
    let seq = u64::from_le_bytes(record[..8].try_into().ok()?);
    let project = i64::from_le_bytes(record[8..16].try_into().ok()?);
    Some((seq, ProjectId(project), &record[16..], after))
}
