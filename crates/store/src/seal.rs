//! Sealing turns the tail into segments; compaction turns many small segments into one. Both write files first, make them durable,
//! and then change what is live in one metastore transaction.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use metastore::{NewSegment, SegmentChange, SegmentKind};
use model::profile::REMOVED_KEPT_MS;
use model::time::DAY_MS;
use model::{ProfileKey, ProjectId, Timestamp};

use crate::dedup::Filter;
use crate::error::StoreError;
use crate::merge::{self, Source};
use crate::profiles;
use crate::segment::{self, Index, Live, SegmentFile};
use crate::snapshot::Snapshot;
use crate::tail::Part;
use crate::writer::Encoded;
use crate::{ProjectState, Shared, State, Store, paths, schema};

/// So many segments of one level become one of the next.
pub(crate) const COMPACT_SEGMENTS: usize = 8;
/// Segments of more rows than these stay as they are.
const COMPACT_ROWS_MAX: u64 = 4_000_000;

/// What is kept of removed properties leaves the disk so much after its time, when no operation that is still to come could ask for it; a
/// segment is written again for it once more of it has come together.
const FORGET_AFTER_MS: i64 = DAY_MS;
const FORGET_ALONE_AFTER_MS: i64 = 2 * DAY_MS;

/// A written segment that is not live yet.
pub(crate) struct Written {
    kind: SegmentKind,
    live: Live,
    columns: String,
    users: (u128, u128),
}

/// A segment that is a single file.
pub(crate) struct Plain {
    pub name: String,
    pub bytes: Vec<u8>,
    pub level: i64,
    pub rows: u64,
    pub times: (i64, i64),
    pub seqs: (u64, u64),
}

/// Rows of a live segment that are superseded from now on, and the file that says so.
struct Superseding {
    project: ProjectId,
    segment: i64,
    name: String,
    rows: Vec<u32>,
}

impl Store {
    /// Seals everything that is acknowledged now. Blocking.
    pub fn seal_now(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.shared.sealing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let until = self.shared.lock().last_seq;
        // In bounded pieces: a server that is killed again and again still gets on.
        while self.shared.seal_piece(until)? {}
        Ok(())
    }

    /// Merges segments where enough of one level have come together. Blocking; sealing goes on meanwhile.
    pub fn compact_now(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.shared.compacting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (projects, received_at): (Vec<ProjectId>, Timestamp) = {
            let state = self.shared.lock();
            (state.projects.keys().copied().collect(), state.received_at)
        };
        for project in projects {
            let Some(snapshot) = self.shared.lock().projects.get(&project).map(Snapshot::of) else { continue };
            // An operation that is not sealed yet may still ask for what is kept.
            let received_at = snapshot.updates().map(|update| update.received_at).fold(received_at, Timestamp::min);
            let sealed = snapshot.through(0);
            let mut levels: BTreeMap<i64, Vec<Live>> = BTreeMap::new();
            for live in sealed.segments().iter().filter(|live| live.file.rows <= COMPACT_ROWS_MAX) {
                levels.entry(live.file.level).or_default().push(live.clone());
            }
            for (level, mut segments) in levels.into_iter().filter(|(_, segments)| segments.len() >= COMPACT_SEGMENTS) {
                segments.truncate(2 * COMPACT_SEGMENTS);
                self.shared.compact_events(project, &sealed, level, &segments)?;
            }
            let mut levels: BTreeMap<i64, Vec<Arc<SegmentFile>>> = BTreeMap::new();
            sealed.profile_segments().iter().for_each(|segment| levels.entry(segment.level).or_default().push(segment.clone()));
            for (level, segments) in levels {
                if segments.len() >= COMPACT_SEGMENTS {
                    self.shared.compact_profiles(project, level + 1, segments, received_at)?;
                    continue;
                }
                for segment in segments.into_iter().filter(|segment| segment.holds_forgotten(received_at)) {
                    self.shared.compact_profiles(project, level, vec![segment], received_at)?;
                }
            }
            self.shared.compact_links(project)?;
        }
        Ok(())
    }
}

/// A part holds no more rows than these and a record's.
const PACK_ROWS_MAX: usize = 64 * 1024;

impl Store {
    /// Packs rows of the tail into columns where enough have come together. Blocking.
    pub fn pack_now(&self) -> Result<(), StoreError> {
        let projects: Vec<ProjectId> = self.shared.lock().projects.keys().copied().collect();
        for project in projects {
            while self.shared.pack(project)? {}
        }
        Ok(())
    }
}

impl Shared {
    fn compact_events(&self, project: ProjectId, sealed: &Snapshot, level: i64, segments: &[Live]) -> Result<(), StoreError> {
        let sources = segments.iter().map(Source::segment).collect::<Result<_, _>>()?;
        let merged = merge::merge(sealed, sources, &self.stopping)?;
        let seqs = span(segments.iter().map(|live| (live.file.seq_min, live.file.seq_max)));
        let times = span(segments.iter().map(|live| (live.file.time_min_ms, live.file.time_max_ms)));
        // A seal may have superseded rows meanwhile; from here on none does.
        let _sealing = self.sealing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now: Vec<Live> = {
            let state = self.lock();
            let live = state.projects.get(&project).map(|project| project.segments.as_slice()).unwrap_or_default();
            segments.iter().filter_map(|old| live.iter().find(|live| live.file.id == old.file.id)).cloned().collect()
        };
        let superseded = merged.rows(now.iter().map(|live| live.superseded.as_slice()));
        let written = self.write_events(project, level + 1, merged.encoded, superseded, seqs, times)?;
        self.swap(project, now.iter().map(|live| live.file.clone()).collect(), written)?;
        now.iter().filter_map(|live| live.superseded_name.as_ref()).for_each(|name| self.forget_file(name));
        Ok(())
    }

    fn compact_profiles(
        &self,
        project: ProjectId,
        level: i64,
        segments: Vec<Arc<SegmentFile>>,
        received_at: Timestamp,
    ) -> Result<(), StoreError> {
        let mut writer = profiles::Writer::default();
        profiles::read(&segments, [], None, |key, mut stored| {
            stored.folded.removed.forget(received_at.plus_ms(-FORGET_AFTER_MS));
            writer.put(key, &stored)
        })?;
        let through = segments.iter().map(|segment| segment.seq_max).max().unwrap_or(0);
        let written = self.write_profiles(project, level, writer, through)?;
        let _sealing = self.sealing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.swap(project, segments, written)
    }

    /// Packs the oldest fresh records of a project; false where there are too few.
    fn pack(&self, project: ProjectId) -> Result<bool, StoreError> {
        let fresh: Vec<Arc<Part>> = {
            let state = self.lock();
            let Some(live) = state.projects.get(&project) else { return Ok(false) };
            let fresh = live.tail.iter().filter(|part| part.fresh_rows() > 0 && part.seq_min > state.sealing_through);
            let mut rows = 0;
            let fits = |part: &&Arc<Part>| {
                rows += part.rows();
                rows - part.rows() < PACK_ROWS_MAX
            };
            fresh.take_while(fits).cloned().collect()
        };
        let rows: usize = fresh.iter().map(|part| part.rows()).sum();
        if (rows as u64) < self.options.pack_rows_min.max(1) {
            return Ok(false);
        }
        let packed = Arc::new(Part::packed(&fresh)?);
        let mut state = self.lock();
        // A seal that has begun meanwhile takes the records as they were.
        if packed.seq_min <= state.sealing_through {
            return Ok(false);
        }
        let Some(live) = state.projects.get_mut(&project) else { return Ok(false) };
        let Some(at) = live.tail.iter().position(|part| Arc::ptr_eq(part, &fresh[0])) else { return Ok(false) };
        let replaced: Vec<_> = live.tail.splice(at..at + fresh.len(), [packed]).collect();
        drop(state);
        self.fresh_rows.fetch_sub(rows as u64, Ordering::Relaxed);
        // Rows are many small pieces of memory: they are given back outside the lock.
        drop(replaced);
        Ok(true)
    }

    /// Seals what is oldest, up to a record; false where nothing is left.
    fn seal_piece(&self, until: u64) -> Result<bool, StoreError> {
        let (through, projects, links) = {
            let mut state = self.lock();
            let Some(through) = state.piece(self.options.seal_rows_max, until) else { return Ok(false) };
            state.sealing_through = through;
            let projects: Vec<(ProjectId, Snapshot)> =
                state.projects.iter().map(|(id, project)| (*id, Snapshot::of(project).through(through))).collect();
            let links: Vec<_> = state.projects.iter().map(|(id, project)| (*id, project.links_through(through))).collect();
            (through, projects, links)
        };
        let (mut written, mut superseding) = (Vec::new(), Vec::new());
        for (project, links) in links.into_iter().filter(|(_, links)| !links.is_empty()) {
            let seqs = span(links.iter().map(|(seq, _)| (*seq, *seq)));
            written.push((project, self.write_links(project, 0, links.iter().map(|(_, link)| link), seqs)?));
        }
        for (project, snapshot) in projects {
            let snapshot = snapshot.packed()?;
            if snapshot.packed_parts().next().is_some() {
                let resolution = snapshot.resolve(|_, _| true)?;
                for (live, new) in snapshot.segments().iter().zip(resolution.segments).filter(|(_, new)| !new.is_empty()) {
                    let mut rows = [live.superseded.as_slice(), &new].concat();
                    rows.sort_unstable();
                    let name = paths::superseded(&live.file.names[0], self.next());
                    segment::write_file(&*self.options.disk, &live.file.dir, &name, &segment::encode_rows(&rows))?;
                    superseding.push(Superseding { project, segment: live.file.id, name, rows });
                }
                let merged = merge::merge(
                    &snapshot,
                    snapshot.packed_parts().map(|(.., packed)| Source::packed(packed)).collect(),
                    &AtomicBool::new(false),
                )?;
                let superseded = merged.rows(snapshot.packed_parts().map(|(at, ..)| resolution.parts[at].as_slice()));
                let seqs = span(snapshot.packed_parts().map(|(_, part, _)| (part.seq_min, part.seq_max)));
                let times = span(snapshot.packed_parts().map(|(_, _, packed)| packed.span_ms()));
                written.push((project, self.write_events(project, 0, merged.encoded, superseded, seqs, times)?));
            }
            let touched: BTreeMap<&ProfileKey, ()> = snapshot.updates().map(|update| (&update.key, ())).collect();
            if !touched.is_empty() {
                let mut writer = profiles::Writer::default();
                snapshot.read_profiles(Some(&touched), |key, stored| writer.put(key, &stored))?;
                written.push((project, self.write_profiles(project, 0, writer, through)?));
            }
        }
        let change = SegmentChange {
            add: written.iter().map(|(project, written)| written.row(*project)).collect(),
            superseded: superseding.iter().map(|change| (change.segment, Some(change.name.clone()))).collect(),
            sealed_through: Some((0, through as i64)),
            ..SegmentChange::default()
        };
        let ids = self.metastore.publish(&change)?;
        let mut outdated = Vec::new();
        {
            let mut state = self.lock();
            for ((project, written), id) in written.into_iter().zip(ids) {
                state.projects.entry(project).or_default().add(written, id);
            }
            for change in superseding {
                let live =
                    state.projects.entry(change.project).or_default().segments.iter_mut().find(|live| live.file.id == change.segment);
                if let Some(live) = live {
                    outdated.extend(live.superseded_name.replace(change.name));
                    live.superseded = Arc::new(change.rows);
                }
            }
            for project in state.projects.values_mut() {
                let before = (project.unsealed(), project.fresh());
                project.tail.retain(|part| part.seq_min > through);
                project.updates.retain(|record| record.0 > through);
                project.unsealed_links.retain(|(seq, _)| *seq > through);
                project.note_sealed();
                self.tail_rows.fetch_sub((before.0 - project.unsealed()) as u64, Ordering::Relaxed);
                self.fresh_rows.fetch_sub((before.1 - project.fresh()) as u64, Ordering::Relaxed);
            }
        }
        outdated.iter().for_each(|name| self.forget_file(name));
        self.log.forget(through)?;
        Ok(true)
    }

    pub(crate) fn next(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    /// Removes a file that nothing names any more; what stays behind is removed when the store is opened next.
    fn forget_file(&self, name: &str) {
        let _ = self.options.disk.remove(&paths::segment_dir(&self.options.dir).join(name));
    }

    pub(crate) fn swap(&self, project: ProjectId, old: Vec<Arc<SegmentFile>>, written: Written) -> Result<(), StoreError> {
        let remove: Vec<i64> = old.iter().map(|segment| segment.id).collect();
        let change = SegmentChange { add: vec![written.row(project)], remove: remove.clone(), ..SegmentChange::default() };
        let id = self.metastore.publish(&change)?.first().copied().unwrap_or_default();
        {
            let mut state = self.lock();
            let live = state.projects.entry(project).or_default();
            match written.kind {
                SegmentKind::Events => live.segments.retain(|segment| !remove.contains(&segment.file.id)),
                SegmentKind::Profiles => live.profile_segments.retain(|segment| !remove.contains(&segment.id)),
                SegmentKind::Links => live.link_segments.retain(|segment| !remove.contains(&segment.id)),
            }
            live.add(written, id);
        }
        for segment in old {
            segment.retired.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn write_events(
        &self,
        project: ProjectId,
        level: i64,
        encoded: Encoded,
        superseded: Vec<u32>,
        (seq_min, seq_max): (u64, u64),
        (time_min_ms, time_max_ms): (i64, i64),
    ) -> Result<Written, StoreError> {
        let filter = Filter::of(encoded.keys.iter().copied());
        let name = paths::events(project.0, seq_min, seq_max, self.next());
        let names = vec![name.clone(), paths::index(&name)];
        let dir = paths::segment_dir(&self.options.dir);
        let disk = &*self.options.disk;
        segment::write_file(disk, &dir, &names[1], &segment::encode_index(&encoded.index, &filter))?;
        let superseded_name = (!superseded.is_empty()).then(|| paths::superseded(&name, self.next()));
        if let Some(name) = &superseded_name {
            segment::write_file(disk, &dir, name, &segment::encode_rows(&superseded))?;
        }
        segment::write_file(disk, &dir, &names[0], &encoded.bytes)?;
        let file = SegmentFile {
            id: 0,
            level,
            rows: encoded.keys.len() as u64,
            bytes: encoded.bytes.len() as u64,
            time_min_ms,
            time_max_ms,
            seq_min,
            seq_max,
            index: encoded.index,
            filter,
            names,
            disk: self.options.disk.clone(),
            dir,
            retired: AtomicBool::new(false),
            footer: OnceLock::new(),
        };
        let live = Live { file: Arc::new(file), superseded: Arc::new(superseded), superseded_name };
        Ok(Written { kind: SegmentKind::Events, live, columns: encoded.columns, users: encoded.users })
    }

    fn write_profiles(&self, project: ProjectId, level: i64, profiles: profiles::Writer, through: u64) -> Result<Written, StoreError> {
        let rows = profiles.rows;
        let times = profiles.removed_span_ms.unwrap_or_default();
        let name = paths::profiles(project.0, 0, through, self.next());
        let bytes = profiles.finish()?;
        self.write_plain(SegmentKind::Profiles, Plain { name, bytes, level, rows, times, seqs: (0, through) })
    }

    /// Writes a segment that is a single file without columns.
    pub(crate) fn write_plain(&self, kind: SegmentKind, plain: Plain) -> Result<Written, StoreError> {
        let Plain { name, bytes, level, rows, times: (time_min_ms, time_max_ms), seqs: (seq_min, seq_max) } = plain;
        let dir = paths::segment_dir(&self.options.dir);
        segment::write_file(&*self.options.disk, &dir, &name, &bytes)?;
        let file = SegmentFile {
            id: 0,
            level,
            rows,
            bytes: bytes.len() as u64,
            time_min_ms,
            time_max_ms,
            seq_min,
            seq_max,
            index: Index::default(),
            filter: Filter::default(),
            names: vec![name],
            disk: self.options.disk.clone(),
            dir,
            retired: AtomicBool::new(false),
            footer: OnceLock::new(),
        };
        let live = Live { file: Arc::new(file), superseded: Arc::default(), superseded_name: None };
        Ok(Written { kind, live, columns: String::new(), users: (0, u128::MAX) })
    }
}

impl SegmentFile {
    /// Whether a segment of profiles keeps what should have left the disk: its times are those of removals.
    fn holds_forgotten(&self, now: Timestamp) -> bool {
        let is_any = (self.time_min_ms, self.time_max_ms) != (0, 0);
        is_any && self.time_min_ms.saturating_add(REMOVED_KEPT_MS + FORGET_ALONE_AFTER_MS) <= now.0
    }
}

impl State {
    /// The last record of the oldest piece that is worth a segment. Nothing that begins behind `until` starts a piece, but a piece ends
    /// where every part that it touches ends: a part is sealed whole, with whatever of other projects lies among its records. What
    /// was packed since `until` was read may reach beyond it.
    fn piece(&self, rows_max: u64, until: u64) -> Option<u64> {
        let parts = self.projects.values().flat_map(|project| &project.tail).map(|part| (part.seq_min, part.seq_max, part.rows() as u64));
        let updates = self.projects.values().flat_map(|project| &project.updates).map(|record| (record.0, record.0, record.1.len() as u64));
        let mut pieces: Vec<(u64, u64, u64)> = parts.chain(updates).collect();
        pieces.sort_unstable();
        let (mut rows, mut through) = (0, None);
        for (first, last, count) in pieces {
            let is_apart = through.is_none_or(|through| first > through);
            if is_apart && (first > until || rows >= rows_max) {
                break;
            }
            rows += count;
            through = through.max(Some(last));
        }
        through
    }
}

impl ProjectState {
    fn fresh(&self) -> usize {
        self.tail.iter().map(|part| part.fresh_rows()).sum()
    }

    fn unsealed(&self) -> usize {
        self.tail.iter().map(|part| part.rows()).sum::<usize>() + self.updates.iter().map(|record| record.1.len()).sum::<usize>()
    }

    /// Makes a written segment live under its id; profile segments stand in the order of the log.
    fn add(&mut self, written: Written, id: i64) {
        let Written { kind, mut live, .. } = written;
        Arc::get_mut(&mut live.file).expect("nobody else has a segment that is not live yet").id = id;
        match kind {
            SegmentKind::Events => self.segments.push(live),
            SegmentKind::Profiles => {
                self.profile_segments.push(live.file);
                self.profile_segments.sort_by_key(|segment| segment.seq_max);
            }
            SegmentKind::Links => self.link_segments.push(live.file),
        }
    }
}

/// The least and the greatest of some pairs of them.
pub(crate) fn span<T: Ord + Copy + Default>(pairs: impl Iterator<Item = (T, T)>) -> (T, T) {
    pairs.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or_default()
}

impl Written {
    fn row(&self, project: ProjectId) -> NewSegment {
        let file = &self.live.file;
        NewSegment {
            project,
            kind: self.kind,
            level: file.level,
            sort_order: schema::SORT_ORDER.to_owned(),
            time_min_ms: file.time_min_ms,
            time_max_ms: file.time_max_ms,
            user_min: self.users.0.to_be_bytes(),
            user_max: self.users.1.to_be_bytes(),
            rows: file.rows as i64,
            bytes: file.bytes as i64,
            partition: 0,
            seq_min: file.seq_min as i64,
            seq_max: file.seq_max as i64,
            identity_seq: 0,
            columns: self.columns.clone(),
            path: file.names[0].clone(),
            superseded_path: self.live.superseded_name.clone(),
            deleted_path: None,
            format_version: match self.kind {
                SegmentKind::Events => schema::EVENTS_FORMAT_VERSION,
                SegmentKind::Profiles => schema::PROFILES_FORMAT_VERSION,
                SegmentKind::Links => schema::LINKS_FORMAT_VERSION,
            },
        }
    }
}
