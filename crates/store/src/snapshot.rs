//! One moment of one project: what a query reads.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arrow::array::{BooleanArray, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use model::profile::{Profile, ProfileKey, ProfileUpdate};
use model::{TimeRange, Timestamp};
use rustc_hash::FxHashMap;

use crate::batch::{Batch, Wanted, fixed};
use crate::dedup::{self, Keys, Resolution};
use crate::error::StoreError;
use crate::links::LinksView;
use crate::lookups::Joins;
use crate::profiles::{self, StoredProfile};
use crate::segment::{Columns, Live, Rows, SegmentFile};
use crate::tail::{Content, Packed, Part, Row, Suspect};
use crate::{ProjectState, schema};

/// A pinned moment of one project.
#[derive(Clone, Default)]
pub struct Snapshot {
    hash_key: [u8; 16],
    segments: Vec<Live>,
    profile_segments: Vec<Arc<SegmentFile>>,
    tail: Vec<Arc<Part>>,
    suspects: Keys,
    updates: Vec<Arc<(u64, Vec<ProfileUpdate>)>>,
    links: LinksView,
    pub(crate) joins: Arc<Joins>,
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

    /// Yields the rows of a batch that lie in the range and are not among the superseded ones.
    fn give(
        &self,
        event: &Arc<str>,
        first: u32,
        mut batch: RecordBatch,
        (time_min_ms, time_max_ms): (i64, i64),
        superseded: [&[u32]; 2],
        links: &LinksView,
        each: &mut dyn FnMut(&Batch) -> bool,
    ) -> Result<bool, StoreError> {
        let end = first + batch.num_rows() as u32;
        let superseded = superseded.map(|rows| &rows[rows.partition_point(|row| *row < first)..rows.partition_point(|row| *row < end)]);
        let every_time = self.range.from().0 <= time_min_ms && time_max_ms < self.range.to().0;
        if !every_time || superseded.iter().any(|rows| !rows.is_empty()) {
            let times: &Int64Array = fixed(&batch, schema::TIME)?;
            let mut mask: Vec<bool> = times.values().iter().map(|time| self.range.contains(Timestamp(*time))).collect();
            superseded.into_iter().flatten().for_each(|row| mask[(row - first) as usize] = false);
            batch = filter_record_batch(&batch, &BooleanArray::from(mask))?;
        }
        if batch.num_rows() == 0 {
            return Ok(true);
        }
        let mut batch = Batch::of_segment(event, &batch, &self.properties, self.ids)?;
        batch.resolve(links);
        Ok(each(&batch))
    }
}

/// Rows that one thread scans at a time.
const TASK_ROWS: u32 = 256 * 1024;
/// Fewer rows than these are not worth a second thread.
const ALONE_ROWS_MAX: usize = 64 * 1024;
/// Rows that are not in columns yet and stand together in a batch.
const FRESH_BATCH_ROWS: usize = 16 * 1024;

/// A part of a scan.
enum Task {
    Segment(usize, Vec<(Arc<str>, Range<u32>)>),
    Packed(usize),
    Fresh,
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
            links: project.visible_links(),
            joins: project.joins.clone(),
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
        self.tail.retain(|part| part.seq_max <= seq);
        self.updates.retain(|record| record.0 <= seq);
        self
    }

    /// The same rows, all of them in columns.
    pub(crate) fn packed(mut self) -> Result<Self, StoreError> {
        let (fresh, mut packed): (Vec<_>, Vec<_>) = self.tail.into_iter().partition(|part| part.fresh_rows() > 0);
        if !fresh.is_empty() {
            packed.push(Arc::new(Part::packed(&fresh)?));
        }
        self.tail = packed;
        Ok(self)
    }

    pub(crate) fn segments(&self) -> &[Live] {
        &self.segments
    }

    pub(crate) fn profile_segments(&self) -> &[Arc<SegmentFile>] {
        &self.profile_segments
    }

    /// The unsealed rows that are in columns, by part.
    pub(crate) fn packed_parts(&self) -> impl Iterator<Item = (usize, &Part, &Packed)> {
        self.tail.iter().enumerate().filter_map(|(at, part)| match &part.content {
            Content::Packed(packed) => Some((at, &**part, packed)),
            Content::Fresh(_) => None,
        })
    }

    fn fresh(&self) -> impl Iterator<Item = (usize, u32, &Row)> {
        self.tail.iter().enumerate().flat_map(|(part, content)| match &content.content {
            Content::Fresh(rows) => (0_u32..).zip(rows.as_slice()).map(|(row, event)| (part, row, event)).collect::<Vec<_>>(),
            Content::Packed(_) => Vec::new(),
        })
    }

    pub(crate) fn updates(&self) -> impl Iterator<Item = &ProfileUpdate> {
        self.updates.iter().flat_map(|record| record.1.iter())
    }

    /// What the unsealed rows that `select` wants change about which rows count.
    pub(crate) fn resolve(&self, select: impl Fn(&str, Timestamp) -> bool) -> Result<Resolution, StoreError> {
        let mut suspects: Vec<Suspect<'_>> = Vec::new();
        if !self.suspects.is_empty() {
            for (at, part) in self.tail.iter().enumerate() {
                part.suspects(at, &self.suspects, &mut suspects)?;
            }
            suspects.retain(|suspect| select(suspect.event, Timestamp(suspect.time_ms)));
        }
        dedup::resolve(&self.segments, self.tail.len(), &suspects)
    }

    /// Calls `each` with batches of rows until it answers false. Blocking. In no promised order.
    pub fn scan(&self, request: &ScanRequest, mut each: impl FnMut(&Batch) -> bool) -> Result<(), StoreError> {
        let resolution = self.resolution(request)?;
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
        let resolution = self.resolution(request)?;
        let tasks = self.tasks(request);
        let rows = |task: &Task| match task {
            Task::Segment(_, pieces) => pieces.iter().map(|(_, rows)| rows.len()).sum(),
            Task::Packed(at) => self.tail[*at].rows(),
            Task::Fresh => self.tail.iter().map(|part| part.fresh_rows()).sum::<usize>(),
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

    fn resolution(&self, request: &ScanRequest) -> Result<Resolution, StoreError> {
        if request.dedup { self.resolve(|event, time| request.selects(event, time)) } else { Ok(Resolution::default()) }
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
        tasks.extend(self.packed_parts().map(|(at, ..)| Task::Packed(at)));
        if self.tail.iter().any(|part| part.fresh_rows() > 0) {
            tasks.push(Task::Fresh);
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
        fn new(rows: &[Vec<u32>], at: usize) -> &[u32] {
            rows.get(at).map_or(&[], Vec::as_slice)
        }
        match task {
            Task::Segment(at, pieces) => {
                let Live { file, superseded, .. } = &self.segments[at];
                let known: &[u32] = if request.dedup { superseded } else { &[] };
                let columns = Columns { ids: request.ids, rank: false, properties: Some(&request.properties) };
                for item in Rows::open(file, pieces, columns)? {
                    let (event, first, batch) = item?;
                    let span_ms = (file.time_min_ms, file.time_max_ms);
                    let superseded = [known, new(&resolution.segments, at)];
                    if !request.give(&event, first, batch, span_ms, superseded, &self.links, each)? {
                        return Ok(false);
                    }
                }
            }
            Task::Packed(at) => {
                let Content::Packed(packed) = &self.tail[at].content else { return Ok(true) };
                let wanted = |event: &str| request.events.as_ref().is_none_or(|events| events.iter().any(|wanted| wanted == event));
                for (event, first, batch) in packed.pieces(wanted) {
                    let superseded = [&[], new(&resolution.parts, at)];
                    if !request.give(event, first, batch, packed.span_ms(), superseded, &self.links, each)? {
                        return Ok(false);
                    }
                }
            }
            Task::Fresh => {
                let mut by_event: FxHashMap<&str, Vec<&Row>> = FxHashMap::default();
                for (part, row, event) in self.fresh().filter(|(_, _, row)| request.selects(&row.event.name, row.event.time)) {
                    if new(&resolution.parts, part).binary_search(&row).is_err() {
                        by_event.entry(&event.event.name).or_default().push(event);
                    }
                }
                let mut batches = by_event.iter().flat_map(|(event, rows)| rows.chunks(FRESH_BATCH_ROWS).map(move |rows| (event, rows)));
                return Ok(batches.all(|(event, rows)| {
                    let mut batch = Batch::of_tail(event, rows, &request.properties, request.ids);
                    batch.resolve(&self.links);
                    each(&batch)
                }));
            }
        }
        Ok(true)
    }

    /// Calls `each` with all profiles of a kind, by id. Of ids that are one user the profile under the user's own id counts, or where there
    /// never was one the first of the others. Blocking.
    pub fn each_profile(&self, kind: &ProfileKind, mut each: impl FnMut(String, Profile)) -> Result<(), StoreError> {
        if *kind == ProfileKind::Users && self.links.shares_profiles() {
            return self.each_linked_profile(each);
        }
        self.read_profiles(None, |key, stored| {
            match (kind, key, stored.folded.profile) {
                (ProfileKind::Users, ProfileKey::User(id), Some(profile)) => each(id, profile),
                (ProfileKind::Group(wanted), ProfileKey::Group { key, id }, Some(profile)) if *wanted == key => each(id, profile),
                _ => {}
            }
            Ok(())
        })
    }

    fn each_linked_profile(&self, mut each: impl FnMut(String, Profile)) -> Result<(), StoreError> {
        let (mut own, mut others) = (BTreeMap::new(), BTreeMap::new());
        self.read_profiles(None, |key, stored| {
            if let ProfileKey::User(id) = key {
                match (self.user_of_profile(&id), stored.folded.profile) {
                    // What was deleted hides the others too.
                    (None, profile) => drop(own.insert(id, profile)),
                    (Some(owner), Some(profile)) => {
                        others.entry(owner.to_string()).or_insert(profile);
                    }
                    (Some(_), None) => {}
                }
            }
            Ok(())
        })?;
        for (owner, profile) in others {
            own.entry(owner).or_insert(Some(profile));
        }
        own.into_iter().filter_map(|(id, profile)| Some((id, profile?))).for_each(|(id, profile)| each(id, profile));
        Ok(())
    }

    /// The id that an id has its profile under, where that is another.
    pub fn user_of_profile(&self, id: &str) -> Option<Arc<str>> {
        self.links.profile_owner(id)
    }

    /// Calls `each` with all profiles, of users as [`Snapshot::each_profile`] has them and of groups of every key, until it wants no more.
    /// Blocking.
    pub fn each_profile_of_any_kind(&self, mut each: impl FnMut(ProfileKey, Profile) -> bool) -> Result<(), StoreError> {
        let is_linked = self.links.shares_profiles();
        let mut wants_more = true;
        if is_linked {
            self.each_linked_profile(|id, profile| wants_more = wants_more && each(ProfileKey::User(id), profile))?;
        }
        if !wants_more {
            return Err(StoreError::Stopped);
        }
        self.read_profiles(None, |key, stored| {
            let is_told = is_linked && matches!(key, ProfileKey::User(_));
            let Some(profile) = stored.folded.profile.filter(|_| !is_told) else { return Ok(()) };
            if each(key, profile) { Ok(()) } else { Err(StoreError::Stopped) }
        })
    }

    /// All profiles of a kind, by id. Blocking.
    pub fn profiles(&self, kind: &ProfileKind) -> Result<Vec<(String, Profile)>, StoreError> {
        let mut found = Vec::new();
        self.each_profile(kind, |id, profile| found.push((id, profile)))?;
        Ok(found)
    }

    /// One profile. Blocking.
    pub fn profile(&self, key: &ProfileKey) -> Result<Option<Profile>, StoreError> {
        let mut found = None;
        self.read_profiles(Some(&BTreeMap::from([(key, ())])), |_, stored| {
            found = stored.folded.profile;
            Ok(())
        })?;
        Ok(found)
    }

    /// Calls `each` with the newest row of every profile, or of those with these keys, the unsealed operations folded in.
    pub(crate) fn read_profiles(
        &self,
        keys: Option<&BTreeMap<&ProfileKey, ()>>,
        each: impl FnMut(ProfileKey, StoredProfile) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        profiles::read(&self.profile_segments, self.updates(), keys, each)
    }
}
