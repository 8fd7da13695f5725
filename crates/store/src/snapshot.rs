//! One moment of one project: what a query reads.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arrow::array::{BooleanArray, Int64Array};
use arrow::compute::filter_record_batch;
use model::profile::{Profile, ProfileKey, ProfileUpdate};
use model::{TimeRange, Timestamp};
use rustc_hash::FxHashMap;

use crate::batch::{Batch, Wanted, fixed};
use crate::dedup::{self, Keys, Resolution};
use crate::error::StoreError;
use crate::segment::{self, Columns, Live, Row, Rows, SegmentFile, StoredProfile};
use crate::{ProjectState, schema};

/// A pinned moment of one project.
#[derive(Clone, Default)]
pub struct Snapshot {
    hash_key: [u8; 16],
    segments: Vec<Live>,
    profile_segments: Vec<Arc<SegmentFile>>,
    tail: Vec<Arc<Vec<Row>>>,
    suspects: Keys,
    updates: Vec<Arc<(u64, Vec<ProfileUpdate>)>>,
}

/// Which rows a scan yields, and what of them.
#[derive(Debug, Clone)]
pub struct ScanRequest {
    /// Only these events; `None` means all.
    pub events: Option<Vec<String>>,
    /// Only these instants.
    pub range: TimeRange,
    /// Decodes these properties.
    pub properties: Wanted,
    /// Decodes `distinct_id` and `insert_id`; without it they are empty.
    pub ids: bool,
    /// Yields one row per event that was sent several times: the newest authenticated, else the newest.
    pub dedup: bool,
}

/// Whose profiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProfileKind {
    /// Users.
    Users,
    /// Groups of one key.
    Group(String),
}

impl ScanRequest {
    fn selects(&self, event: &str, time: Timestamp) -> bool {
        self.range.contains(time) && self.events.as_ref().is_none_or(|events| events.iter().any(|wanted| wanted == event))
    }
}

/// Rows that one thread scans at a time.
const TASK_ROWS: u32 = 256 * 1024;
/// Fewer rows than these are not worth a second thread.
const ALONE_ROWS_MAX: usize = 64 * 1024;
/// Unsealed rows that stand together in a batch.
const TAIL_BATCH_ROWS: usize = 16 * 1024;

/// A part of a scan.
enum Task {
    Segment(usize, Vec<(Arc<str>, Range<u32>)>),
    Tail,
}

impl Snapshot {
    pub(crate) fn of(project: &ProjectState) -> Self {
        Self {
            hash_key: project.hash_key,
            segments: project.segments.clone(),
            profile_segments: project.profile_segments.clone(),
            tail: project.tail.clone(),
            suspects: project.suspects.clone(),
            updates: project.updates.clone(),
        }
    }

    /// The keyed hash of a user, as [`Batch::users`] has it.
    pub fn user(&self, distinct_id: &str) -> u128 {
        dedup::user(&self.hash_key, distinct_id)
    }

    pub(crate) fn key(&self, event: &str, distinct_id: &str, time_ms: i64, insert_id: &str) -> u128 {
        dedup::key(&self.hash_key, event, distinct_id, time_ms, insert_id)
    }

    /// The part of this moment that lies in the log up to a record, and what was sealed before.
    pub(crate) fn through(mut self, seq: u64) -> Self {
        self.tail.retain(|rows| rows.first().is_some_and(|row| row.seq <= seq));
        self.updates.retain(|record| record.0 <= seq);
        self
    }

    pub(crate) fn segments(&self) -> &[Live] {
        &self.segments
    }

    pub(crate) fn profile_segments(&self) -> &[Arc<SegmentFile>] {
        &self.profile_segments
    }

    /// The unsealed rows, in the order of the log.
    pub(crate) fn unsealed(&self) -> impl Iterator<Item = &Row> {
        self.tail.iter().flat_map(|rows| rows.iter())
    }

    pub(crate) fn updates(&self) -> impl Iterator<Item = &ProfileUpdate> {
        self.updates.iter().flat_map(|record| record.1.iter())
    }

    /// The unsealed rows whose keys may stand elsewhere too.
    pub(crate) fn suspects(&self) -> Vec<&Row> {
        if self.suspects.is_empty() { Vec::new() } else { self.unsealed().filter(|row| self.suspects.contains(&row.key)).collect() }
    }

    /// Calls `each` with batches of rows until it answers false. Blocking. In no promised order.
    pub fn scan(&self, request: &ScanRequest, mut each: impl FnMut(&Batch) -> bool) -> Result<(), StoreError> {
        let resolution = self.resolve(request)?;
        for task in self.tasks(request) {
            if !self.run(request, &resolution, task, &mut each)? {
                break;
            }
        }
        Ok(())
    }

    /// As [`Snapshot::scan`], on all cores: every thread folds its batches into a state of its own. Returns the states.
    pub fn fold<P: Send>(
        &self,
        request: &ScanRequest,
        start: impl Fn() -> P + Sync,
        each: impl Fn(&mut P, &Batch) -> bool + Sync,
    ) -> Result<Vec<P>, StoreError> {
        let resolution = self.resolve(request)?;
        let tasks = self.tasks(request);
        let rows = |task: &Task| match task {
            Task::Segment(_, pieces) => pieces.iter().map(|(_, rows)| rows.len()).sum(),
            Task::Tail => self.tail.iter().map(|rows| rows.len()).sum::<usize>(),
        };
        let total: usize = tasks.iter().map(rows).sum();
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = if total <= ALONE_ROWS_MAX { 1 } else { cores.min(tasks.len()).max(1) };
        let tasks: Vec<_> = tasks.into_iter().map(|task| std::sync::Mutex::new(Some(task))).collect();
        let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = || {
            let mut state = start();
            while !stopped.load(Ordering::Relaxed) {
                let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                let Some(task) = task.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() else { continue };
                let outcome =
                    self.run(request, &resolution, task, &mut |batch| each(&mut state, batch) && !stopped.load(Ordering::Relaxed));
                if !matches!(outcome, Ok(true)) {
                    stopped.store(true, Ordering::Relaxed);
                }
                outcome?;
            }
            Ok(state)
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut states = vec![work()];
            let gone = || Err(StoreError::Io("a thread of a scan panicked".to_owned()));
            states.extend(others.into_iter().map(|thread| thread.join().unwrap_or_else(|_| gone())));
            states.into_iter().collect()
        })
    }

    /// What the unsealed rows change about which rows count.
    fn resolve(&self, request: &ScanRequest) -> Result<Resolution, StoreError> {
        if !request.dedup {
            return Ok(Resolution::default());
        }
        let mut suspects = self.suspects();
        suspects.retain(|row| request.selects(&row.event.name, row.event.time));
        dedup::resolve(&self.segments, &suspects)
    }

    fn tasks(&self, request: &ScanRequest) -> Vec<Task> {
        let mut tasks = Vec::new();
        for (at, Live { file, .. }) in self.segments.iter().enumerate() {
            if file.time_max_ms < request.range.from().0 || file.time_min_ms >= request.range.to().0 {
                continue;
            }
            let mut pieces: Vec<(Arc<str>, Range<u32>)> = match &request.events {
                None => file.index.events.clone(),
                Some(events) => events.iter().filter_map(|event| Some((event.as_str().into(), file.rows_of(event)?))).collect(),
            };
            pieces.sort_by_key(|(_, rows)| rows.start);
            pieces.dedup_by_key(|(_, rows)| rows.start);
            let (mut part, mut part_rows) = (Vec::new(), 0);
            for (event, mut rows) in pieces {
                while !rows.is_empty() {
                    let end = rows.end.min(rows.start + (TASK_ROWS - part_rows));
                    part_rows += end - rows.start;
                    part.push((event.clone(), rows.start..end));
                    rows.start = end;
                    if part_rows == TASK_ROWS {
                        tasks.push(Task::Segment(at, std::mem::take(&mut part)));
                        part_rows = 0;
                    }
                }
            }
            if !part.is_empty() {
                tasks.push(Task::Segment(at, part));
            }
        }
        if !self.tail.is_empty() {
            tasks.push(Task::Tail);
        }
        tasks
    }

    /// Yields a task's rows; false when `each` wants no more.
    fn run(
        &self,
        request: &ScanRequest,
        resolution: &Resolution,
        task: Task,
        each: &mut dyn FnMut(&Batch) -> bool,
    ) -> Result<bool, StoreError> {
        let (at, pieces) = match task {
            Task::Segment(at, pieces) => (at, pieces),
            Task::Tail => return Ok(self.run_tail(request, resolution, each)),
        };
        let live = &self.segments[at];
        let all_times = request.range.from().0 <= live.file.time_min_ms && live.file.time_max_ms < request.range.to().0;
        let (known, new): (&[u32], &[u32]) =
            if request.dedup { (&live.superseded, resolution.segments.get(at).map_or(&[], Vec::as_slice)) } else { (&[], &[]) };
        let columns = Columns { ids: request.ids, rank: false, properties: Some(&request.properties) };
        for item in Rows::open(&live.file, pieces, columns)? {
            let (event, first, mut batch) = item?;
            let end = first + batch.num_rows() as u32;
            let among = |rows: &[u32]| rows.partition_point(|row| *row < first)..rows.partition_point(|row| *row < end);
            let (known, new) = (&known[among(known)], &new[among(new)]);
            if !all_times || !known.is_empty() || !new.is_empty() {
                let times: &Int64Array = fixed(&batch, schema::TIME)?;
                let mut mask: Vec<bool> = times.values().iter().map(|time| request.range.contains(Timestamp(*time))).collect();
                known.iter().chain(new).for_each(|row| mask[(row - first) as usize] = false);
                batch = filter_record_batch(&batch, &BooleanArray::from(mask))?;
            }
            if batch.num_rows() > 0 && !each(&Batch::of_segment(&event, &batch, &request.properties, request.ids)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn run_tail(&self, request: &ScanRequest, resolution: &Resolution, each: &mut dyn FnMut(&Batch) -> bool) -> bool {
        let mut by_event: FxHashMap<&str, Vec<&Row>> = FxHashMap::default();
        for row in self.unsealed().filter(|row| request.selects(&row.event.name, row.event.time)) {
            if resolution.unsealed.is_empty() || !resolution.unsealed.contains(&(row.seq, row.index)) {
                by_event.entry(&row.event.name).or_default().push(row);
            }
        }
        by_event.iter().all(|(event, rows)| {
            rows.chunks(TAIL_BATCH_ROWS).all(|rows| each(&Batch::of_tail(event, rows, &request.properties, request.ids)))
        })
    }

    /// All profiles of a kind, by id. Blocking.
    pub fn profiles(&self, kind: &ProfileKind) -> Result<Vec<(String, Profile)>, StoreError> {
        let folded = self.folded(&|key| match (kind, key) {
            (ProfileKind::Users, ProfileKey::User(_)) => true,
            (ProfileKind::Group(wanted), ProfileKey::Group { key, .. }) => wanted == key,
            _ => false,
        })?;
        let named = folded.into_iter().filter_map(|(key, stored)| {
            let (ProfileKey::User(id) | ProfileKey::Group { id, .. }) = key;
            Some((id, stored.profile?))
        });
        Ok(named.collect())
    }

    /// One profile. Blocking.
    pub fn profile(&self, key: &ProfileKey) -> Result<Option<Profile>, StoreError> {
        Ok(self.folded(&|other| other == key)?.remove(key).and_then(|stored| stored.profile))
    }

    /// Newest row of every selected profile with the unsealed operations folded in, in order.
    pub(crate) fn folded(&self, select: &dyn Fn(&ProfileKey) -> bool) -> Result<BTreeMap<ProfileKey, StoredProfile>, StoreError> {
        let mut profiles = BTreeMap::new();
        for segment in &self.profile_segments {
            let bytes = segment.disk.read(&segment.path())?;
            let decoded = segment::decode_profiles(&bytes, &mut |key, stored| {
                if select(&key) {
                    profiles.insert(key, stored);
                }
            });
            decoded.ok_or_else(|| StoreError::Corrupt {
                path: segment.path().display().to_string(),
                reason: "it does not decode".to_owned(),
            })?;
        }
        for update in self.updates().filter(|update| select(&update.key)) {
            profiles.entry(update.key.clone()).or_insert_with(StoredProfile::default).apply(update);
        }
        Ok(profiles)
    }
}

/// How many operation ids a profile remembers: mobile SDKs send whole batches of at most 50 again.
const RECENT_MAX: usize = 64;

impl StoredProfile {
    fn apply(&mut self, update: &ProfileUpdate) {
        if let Some(id) = &update.dedup_id {
            if self.recent.contains(id) {
                return;
            }
            if self.recent.len() == RECENT_MAX {
                self.recent.remove(0);
            }
            self.recent.push(id.clone());
        }
        self.profile = Profile::fold(self.profile.take(), update);
    }
}
