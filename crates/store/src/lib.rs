//! Events and profiles on disk: log, buffer, segments, compaction, the scan.
//!
//! Exactly once: every log record has a sequence number. The metastore transaction that makes a segment live also moves
//! `sealed_through`; replay starts behind it; forgetting log files only frees space. A snapshot takes live segments and the unsealed
//! tail together under one lock, so that counts never dip or jump while sealing and compaction run.

mod apply;
pub mod archive;
mod batch;
mod compact;
mod dedup;
pub mod disk;
mod error;
mod link_segments;
mod links;
mod log;
mod lookups;
mod merge;
mod names;
mod pack;
mod paths;
mod profiles;
mod record;
mod restore;
mod run;
mod schema;
mod seal;
mod segment;
mod snapshot;
mod tail;
mod weight;
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
    /// Bytes of memory, roughly, that unsealed rows and profile updates may take as they came before writers wait; a seal starts at half of them.
    pub tail_bytes_max: u64,
    /// Unsealed rows that are not in columns yet beyond which writers wait.
    pub fresh_rows_max: u64,
    /// How long writers wait before they are told to come back.
    pub wait_max: Duration,
    /// Whether the names in sealed rows are counted for the lexicon.
    pub counts_names: bool,
    /// Bytes of the disk that are kept free: below them nothing is taken, so that what was taken can be sealed. 0: none.
    pub free_bytes_min: u64,
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
            tail_bytes_max: 512 << 20,
            fresh_rows_max: 50_000,
            wait_max: Duration::from_secs(5),
            counts_names: true,
            free_bytes_min: 1 << 30,
        }
    }
}

impl StoreOptions {
    fn seal_bytes_max(&self) -> u64 {
        self.tail_bytes_max / 2
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
    /// Bytes that are free on the disk; 0 where the system does not say.
    pub disk_free_bytes: u64,
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
    tail_bytes: Arc<AtomicU64>,
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

/// Profile updates of one record that are not sealed yet.
pub(crate) struct Updates {
    pub seq: u64,
    pub bytes: u64,
    pub updates: Vec<ProfileUpdate>,
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
    updates: Vec<Arc<Updates>>,
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
        let (tail_bytes, fresh_rows) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let applier = Applier {
            state: state.clone(),
            metastore: metastore.clone(),
            tail_rows: tail_rows.clone(),
            tail_bytes: tail_bytes.clone(),
            fresh_rows: fresh_rows.clone(),
        };
        let apply = Box::new(move |records| applier.apply(records));
        let log = Log::open(options.disk.clone(), &options.dir, options.free_bytes_min, sealed_through, apply)?;
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
            tail_bytes,
            fresh_rows,
            failed: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        };
        let store = Self { shared: Arc::new(shared) };
        if store.shared.is_due() {
            // A server that is killed again and again must not collect rows without end; one that has no room for a segment answers reads.
            store.seal_now().unwrap_or_else(|error| tracing::error!(%error, "sealing failed; it is tried again"));
        }
        Ok(store)
    }

    /// Stores events. When this returns, they are on disk and visible to every later snapshot. After an error none of them is stored, unless
    /// the power goes or the server dies before it takes anything else.
    pub async fn append(&self, project: ProjectId, events: Vec<Event>) -> Result<(), StoreError> {
        self.append_all([(project, events)]).await
    }

    /// As [`Store::append`], for several projects: all of it is stored or nothing.
    pub async fn append_all(&self, events: impl IntoIterator<Item = (ProjectId, Vec<Event>)>) -> Result<(), StoreError> {
        let payloads: Vec<_> = events.into_iter().map(|(project, events)| (project, Payload::Events(events))).collect();
        self.wait_for_room().await?;
        self.shared.log.append(payloads).await
    }

    /// Stores profile updates, as [`Store::append`] does events.
    pub async fn append_profiles(&self, project: ProjectId, updates: Vec<ProfileUpdate>) -> Result<(), StoreError> {
        self.append_all_profiles([(project, updates)]).await
    }

    /// As [`Store::append_profiles`], for several projects: all of it is stored or nothing.
    pub async fn append_all_profiles(&self, updates: impl IntoIterator<Item = (ProjectId, Vec<ProfileUpdate>)>) -> Result<(), StoreError> {
        let payloads: Vec<_> = updates.into_iter().map(|(project, updates)| (project, Payload::Profiles(updates))).collect();
        self.wait_for_room().await?;
        self.shared.log.append(payloads).await
    }

    /// Slows writers down where packing and sealing fall behind; refuses them where that does not help.
    async fn wait_for_room(&self) -> Result<(), StoreError> {
        let has_room = || {
            let Shared { tail_rows, tail_bytes, fresh_rows, options, .. } = &*self.shared;
            tail_rows.load(Ordering::Relaxed) < options.tail_rows_max
                && tail_bytes.load(Ordering::Relaxed) < options.tail_bytes_max
                && fresh_rows.load(Ordering::Relaxed) < options.fresh_rows_max
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
        let (tail_rows, disk_free_bytes) = (self.shared.tail_rows.load(Ordering::Relaxed), self.shared.free_bytes().unwrap_or_default());
        let state = self.shared.lock();
        let mut stats = StoreStats { tail_rows, disk_free_bytes, ..StoreStats::default() };
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

    /// Why nothing is taken now, if so: the disk is nearly full, or the log could not be written last and is being tried again. Reads go on.
    pub fn refusal(&self) -> Option<StoreError> {
        let free_bytes_min = self.shared.options.free_bytes_min;
        match (self.shared.free_bytes(), self.shared.log.condition()) {
            (Some(free_bytes), _) if free_bytes < free_bytes_min => Some(StoreError::DiskFull { free_bytes, free_bytes_min }),
            // There is room again.
            (Some(_), Some(StoreError::DiskFull { .. })) => None,
            (_, condition) => condition,
        }
    }

    /// Whether sealing failed last time: the server goes on, but the log grows.
    pub fn seal_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Whether so much is unsealed that it is sealed at once.
    fn is_due(&self) -> bool {
        let Self { tail_rows, tail_bytes, options, .. } = self;
        tail_rows.load(Ordering::Relaxed) >= options.seal_rows_max || tail_bytes.load(Ordering::Relaxed) >= options.seal_bytes_max()
    }

    /// Bytes that are free on the disk, where the system says.
    fn free_bytes(&self) -> Option<u64> {
        self.options.disk.free_bytes(&self.options.dir).ok()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // No code panics half-way through a change of the state.
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
