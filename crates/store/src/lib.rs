//! Events and profiles on disk: log, buffer, segments, compaction, the scan.
//!
//! Exactly once: every log record has a sequence number. The metastore transaction that makes a segment live also moves
//! `sealed_through`; replay starts behind it; forgetting log files only frees space. A snapshot takes live segments and the unsealed
//! tail together under one lock, so that counts never dip or jump while sealing and compaction run.

mod apply;
pub mod archive;
mod batch;
mod dedup;
pub mod disk;
mod error;
mod link_segments;
mod links;
mod log;
mod lookups;
mod merge;
mod pack;
mod paths;
mod profiles;
mod record;
mod restore;
mod schema;
mod seal;
mod segment;
mod snapshot;
mod tail;
mod writer;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use metastore::{Metastore, SegmentKind};
use model::{Event, ProfileUpdate, ProjectId, Timestamp};

use crate::apply::Applier;
use crate::dedup::Keys;
use crate::disk::Disk;
use crate::links::{Link, LinksView, SharedLinks};
use crate::log::{Log, Payload};
use crate::lookups::{Cache, Joins};
use crate::segment::{Live, SegmentFile};
use crate::tail::Part;

pub use batch::{Batch, Column, Wanted};
pub use error::StoreError;
pub use lookups::{Lookup, ReplaceError, lookup_file, replace_lookup};
pub use restore::Restored;
pub use snapshot::{ProfileKind, ScanRequest, Snapshot};

/// How a store is opened.
#[derive(Clone)]
pub struct StoreOptions {
    /// The data directory.
    pub dir: PathBuf,
    /// The disk below it.
    pub disk: Arc<dyn Disk>,
    /// Rows of one project that are packed into columns.
    pub pack_rows_min: u64,
    /// Unsealed rows that start a seal.
    pub seal_rows_max: u64,
    /// How long rows stay unsealed.
    pub seal_age: Duration,
    /// Unsealed rows beyond which writers wait.
    pub tail_rows_max: u64,
    /// Unsealed rows that are not in columns yet beyond which writers wait.
    pub fresh_rows_max: u64,
    /// How long writers wait before they are told to come back.
    pub wait_max: Duration,
}

impl StoreOptions {
    /// The defaults on the operating system's disk.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            disk: Arc::new(disk::RealDisk),
            pack_rows_min: 8 * 1024,
            seal_rows_max: 250_000,
            seal_age: Duration::from_secs(60),
            tail_rows_max: 500_000,
            fresh_rows_max: 50_000,
            wait_max: Duration::from_secs(5),
        }
    }
}

/// Figures for `/metrics` and `sluice status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Rows and profile updates that are not sealed yet.
    pub tail_rows: u64,
    /// Live segments.
    pub segments: u64,
    /// Rows in live segments.
    pub segment_rows: u64,
    /// Bytes of live segments.
    pub segment_bytes: u64,
    /// Ids that are linked to others.
    pub identity_links: u64,
}

/// The store of one data directory. Clones share it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    options: StoreOptions,
    metastore: Arc<Metastore>,
    state: Arc<Mutex<State>>,
    log: Log,
    sealing: Mutex<()>,
    compacting: Mutex<()>,
    /// A content of a lookup table is written.
    replacing: Mutex<()>,
    /// What properties lead to is read again.
    following: Mutex<()>,
    /// Contents of lookup tables that are in memory.
    lookups: Arc<Cache>,
    counter: AtomicU64,
    tail_rows: Arc<AtomicU64>,
    fresh_rows: Arc<AtomicU64>,
    failed: AtomicBool,
    /// Compaction ends at the next chance.
    stopping: AtomicBool,
}

/// See [`Store::hold_files`].
pub struct FilesHeld<'s> {
    _joins: Vec<Arc<Joins>>,
    _replacing: MutexGuard<'s, ()>,
    _compacting: MutexGuard<'s, ()>,
    _sealing: MutexGuard<'s, ()>,
}

/// Every file that a store keeps below a data directory, as names below it: the log first, in order, then the segments. A backup copies
/// them in this order, and the metastore between log and segments.
pub fn files(dir: &std::path::Path) -> std::io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let below = |folder: PathBuf| -> std::io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        // A data directory that no server ran on yet has no events.
        if !folder.try_exists()? {
            return Ok(names);
        }
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if !paths::is_unfinished(&path) {
                names.push(path.strip_prefix(dir).map_or_else(|_| path.clone(), std::path::Path::to_path_buf));
            }
        }
        names.sort_unstable();
        Ok(names)
    };
    Ok((below(paths::log_dir(dir))?, below(paths::segment_dir(dir))?))
}

/// What is live. One lock holds all of it, so that a snapshot is one moment.
#[derive(Default)]
pub(crate) struct State {
    projects: HashMap<ProjectId, ProjectState>,
    last_seq: u64,
    /// When the server took the newest record since it was opened: the store looks at no clock.
    received_at: Timestamp,
    /// What a running seal takes, or the last one took.
    sealing_through: u64,
}

#[derive(Default)]
pub(crate) struct ProjectState {
    hash_key: [u8; 16],
    segments: Vec<Live>,
    profile_segments: Vec<Arc<SegmentFile>>,
    tail: Vec<Arc<Part>>,
    tail_keys: Keys,
    /// Keys of the tail that stand there twice or pass a segment's filter.
    suspects: Keys,
    updates: Vec<Arc<(u64, Vec<ProfileUpdate>)>>,
    joins: Arc<Joins>,
    links: SharedLinks,
    /// So many of them are visible.
    links_count: u32,
    link_segments: Vec<Arc<SegmentFile>>,
    /// Those that are in no segment yet, with the records that made them.
    unsealed_links: Vec<(u64, Link)>,
}

impl ProjectState {
    fn new(hash_key: [u8; 16]) -> Self {
        Self { hash_key, links: SharedLinks::new(hash_key), ..Self::default() }
    }

    fn visible_links(&self) -> LinksView {
        self.links.first(self.links_count)
    }

    fn push(&mut self, part: Part) {
        let Self { segments, tail_keys, suspects, .. } = self;
        part.each_key(|key, time_ms| {
            let seen = !tail_keys.insert(key);
            if seen || segments.iter().any(|live| live.file.covers(time_ms) && live.file.filter.may_hold(key)) {
                suspects.insert(key);
            }
        });
        self.tail.push(Arc::new(part));
    }

    /// Notes that the oldest part of the tail became the newest segment.
    fn note_sealed(&mut self) {
        let known = std::mem::take(&mut self.suspects);
        self.tail_keys.clear();
        let Self { segments, tail, tail_keys, suspects, .. } = self;
        for part in tail.iter() {
            part.each_key(|key, time_ms| {
                tail_keys.insert(key);
                let sealed = segments.last().is_some_and(|live| live.file.covers(time_ms) && live.file.filter.may_hold(key));
                if sealed || known.contains(&key) {
                    suspects.insert(key);
                }
            });
        }
    }
}

impl Store {
    /// Opens the store: live segments from the metastore, then what the log holds behind them. Files that nothing names are removed.
    pub fn open(options: StoreOptions, metastore: Arc<Metastore>) -> Result<Self, StoreError> {
        let dir = paths::segment_dir(&options.dir);
        options.disk.create_dir_all(&dir)?;
        let mut state = State::default();
        for project in metastore.projects()? {
            let hash_key = metastore.project_hash_key(project.id)?;
            state.projects.insert(project.id, ProjectState::new(hash_key));
        }
        let mut live = std::collections::HashSet::new();
        for segment in metastore.segments_of_all_projects()? {
            let row = segment.row;
            let mut names = vec![row.path.clone()];
            let read = |name: &str| options.disk.read(&dir.join(name));
            let corrupt = |name: &str| StoreError::Corrupt { path: name.to_owned(), reason: "the checksum does not fit".to_owned() };
            let (index, filter) = match row.kind {
                SegmentKind::Events => {
                    let name = paths::index(&row.path);
                    let decoded = segment::decode_index(&read(&name)?).ok_or_else(|| corrupt(&name))?;
                    names.push(name);
                    decoded
                }
                SegmentKind::Profiles | SegmentKind::Links => Default::default(),
            };
            let superseded = match &row.superseded_path {
                Some(name) => segment::decode_rows(&read(name)?).ok_or_else(|| corrupt(name))?,
                None => Vec::new(),
            };
            live.extend(names.iter().chain(&row.superseded_path).cloned());
            let file = Arc::new(SegmentFile {
                id: segment.id,
                level: row.level,
                rows: row.rows as u64,
                bytes: row.bytes as u64,
                time_min_ms: row.time_min_ms,
                time_max_ms: row.time_max_ms,
                seq_min: row.seq_min as u64,
                seq_max: row.seq_max as u64,
                index,
                filter,
                names,
                disk: options.disk.clone(),
                dir: dir.clone(),
                retired: AtomicBool::new(false),
                footer: OnceLock::new(),
            });
            let project = state.projects.entry(row.project).or_default();
            match row.kind {
                SegmentKind::Events => {
                    project.segments.push(Live { file, superseded: Arc::new(superseded), superseded_name: row.superseded_path });
                }
                SegmentKind::Profiles => project.profile_segments.push(file),
                SegmentKind::Links => project.link_segments.push(file),
            }
        }
        for name in options.disk.list(&dir)? {
            if !live.contains(&name) {
                options.disk.remove(&dir.join(&name))?;
            }
        }
        for project in state.projects.values_mut() {
            project.profile_segments.sort_by_key(|segment| segment.seq_max);
            project.read_links()?;
        }
        let lookups = Arc::new(Cache::default());
        lookups::open(&metastore, &options.disk, &options.dir, &lookups, |project, joins| {
            state.projects.entry(project).or_default().joins = Arc::new(joins);
        })?;
        let sealed_through = metastore.sealed_through(0)? as u64;
        state.last_seq = sealed_through;
        let state = Arc::new(Mutex::new(state));
        let tail_rows = Arc::new(AtomicU64::new(0));
        let fresh_rows = Arc::new(AtomicU64::new(0));
        let applier =
            Applier { state: state.clone(), metastore: metastore.clone(), tail_rows: tail_rows.clone(), fresh_rows: fresh_rows.clone() };
        let apply = Box::new(move |records| applier.apply(records));
        let log = Log::open(options.disk.clone(), &options.dir, sealed_through, apply)?;
        // Names of files must not come twice, and what was compacted away leaves gaps.
        let numbers = live.iter().filter_map(|name| paths::counter(name));
        let counter = AtomicU64::new(numbers.max().map_or(0, |last| last + 1));
        let (sealing, compacting) = (Mutex::new(()), Mutex::new(()));
        let shared = Shared {
            options,
            metastore,
            state,
            log,
            sealing,
            compacting,
            replacing: Mutex::new(()),
            following: Mutex::new(()),
            lookups,
            counter,
            tail_rows,
            fresh_rows,
            failed: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        };
        let store = Self { shared: Arc::new(shared) };
        if store.shared.tail_rows.load(Ordering::Relaxed) >= store.shared.options.seal_rows_max {
            // A server that is killed again and again must not collect rows without end.
            store.seal_now()?;
        }
        Ok(store)
    }

    /// Stores events. When this returns, they are on disk and visible to every later snapshot.
    pub async fn append(&self, project: ProjectId, events: Vec<Event>) -> Result<(), StoreError> {
        self.wait_for_room().await?;
        self.shared.log.append(project, Payload::Events(events)).await
    }

    /// Stores profile updates. When this returns, they are on disk and visible to every later snapshot.
    pub async fn append_profiles(&self, project: ProjectId, updates: Vec<ProfileUpdate>) -> Result<(), StoreError> {
        self.wait_for_room().await?;
        self.shared.log.append(project, Payload::Profiles(updates)).await
    }

    /// Slows writers down where packing and sealing fall behind; refuses them where that does not help.
    async fn wait_for_room(&self) -> Result<(), StoreError> {
        let has_room = || {
            let Shared { tail_rows, fresh_rows, options, .. } = &*self.shared;
            tail_rows.load(Ordering::Relaxed) < options.tail_rows_max && fresh_rows.load(Ordering::Relaxed) < options.fresh_rows_max
        };
        let since = std::time::Instant::now();
        while !has_room() {
            if since.elapsed() > self.shared.options.wait_max {
                return Err(StoreError::Overloaded);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// What is stored now: live segments and tail, taken together. The files stay while the snapshot lives.
    pub fn snapshot(&self, project: ProjectId) -> Result<Snapshot, StoreError> {
        let state = self.shared.lock();
        Ok(state.projects.get(&project).map(Snapshot::of).unwrap_or_default())
    }

    /// Keeps every file of the store in its place while the returned guard lives: nothing is sealed, compacted or forgotten, and no content
    /// of a lookup table replaced. Events are taken all the same. Blocking, until what runs is through.
    pub fn hold_files(&self) -> FilesHeld<'_> {
        fn held(lock: &Mutex<()>) -> MutexGuard<'_, ()> {
            lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
        let (_compacting, _sealing) = (held(&self.shared.compacting), held(&self.shared.sealing));
        let _replacing = held(&self.shared.replacing);
        // A lookup table may be deleted meanwhile: its file stays with who holds it.
        let _joins = self.shared.lock().projects.values().map(|project| project.joins.clone()).collect();
        FilesHeld { _joins, _replacing, _compacting, _sealing }
    }

    /// Figures for operators.
    pub fn stats(&self) -> StoreStats {
        let state = self.shared.lock();
        let mut stats = StoreStats { tail_rows: self.shared.tail_rows.load(Ordering::Relaxed), ..StoreStats::default() };
        stats.identity_links = state.projects.values().map(|project| u64::from(project.links_count)).sum();
        for segment in
            state.projects.values().flat_map(|project| project.segments.iter().map(|live| &live.file).chain(&project.profile_segments))
        {
            stats.segments += 1;
            stats.segment_rows += segment.rows;
            stats.segment_bytes += segment.bytes;
        }
        stats
    }

    /// Whether the log failed: nothing is taken until the store is opened again.
    pub fn log_failed(&self) -> bool {
        self.shared.log.has_failed()
    }

    /// Whether sealing failed last time: the server goes on, but the log grows.
    pub fn seal_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Packs, seals and compacts until `shutdown` turns true, then seals once more.
    pub async fn run(self, shutdown: tokio::sync::watch::Receiver<bool>) {
        tokio::join!(self.run_pack(shutdown.clone()), self.run_compact(shutdown.clone()), self.run_seal(shutdown));
    }

    async fn run_pack(&self, shutdown: tokio::sync::watch::Receiver<bool>) {
        while !*shutdown.borrow() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if self.shared.fresh_rows.load(Ordering::Relaxed) >= self.shared.options.pack_rows_min {
                let store = self.clone();
                if let Ok(Err(error)) = tokio::task::spawn_blocking(move || store.pack_now()).await {
                    tracing::error!(%error, "packing failed; it is tried again");
                }
            }
        }
    }

    async fn run_compact(&self, mut shutdown: tokio::sync::watch::Receiver<bool>) {
        while !*shutdown.borrow() {
            let store = self.clone();
            let mut work = tokio::task::spawn_blocking(move || store.compact_now());
            let first = tokio::select! {
                outcome = &mut work => Some(outcome),
                _ = shutdown.wait_for(|stop| *stop) => None,
            };
            let outcome = match first {
                Some(outcome) => outcome,
                None => {
                    self.shared.stopping.store(true, Ordering::Relaxed);
                    work.await
                }
            };
            if let Ok(Err(error)) = outcome
                && !matches!(error, StoreError::Stopped)
            {
                tracing::error!(%error, "compaction failed; it is tried again");
            }
            let _ = tokio::time::timeout(Duration::from_secs(1), shutdown.wait_for(|stop| *stop)).await;
        }
    }

    async fn run_seal(&self, mut shutdown: tokio::sync::watch::Receiver<bool>) {
        let mut since = tokio::time::Instant::now();
        loop {
            let stopping = tokio::select! {
                _ = tokio::time::sleep(Duration::from_millis(200)) => false,
                _ = shutdown.wait_for(|stop| *stop) => true,
            };
            let rows = self.shared.tail_rows.load(Ordering::Relaxed);
            let due = rows >= self.shared.options.seal_rows_max || (rows > 0 && since.elapsed() >= self.shared.options.seal_age);
            if due || (stopping && rows > 0) {
                since = tokio::time::Instant::now();
                let store = self.clone();
                let outcome = tokio::task::spawn_blocking(move || store.seal_now()).await;
                let failed = !matches!(outcome, Ok(Ok(())));
                self.shared.failed.store(failed, Ordering::Relaxed);
                if let Ok(Err(error)) = outcome {
                    tracing::error!(%error, "sealing failed; it is tried again");
                }
            } else if rows == 0 {
                since = tokio::time::Instant::now();
            }
            if stopping {
                return;
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // No code panics half-way through a change of the state.
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
