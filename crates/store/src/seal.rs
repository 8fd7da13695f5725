//! Sealing turns the tail into segments. It writes files first, makes them durable, and then changes what is live in one metastore
//! transaction.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use metastore::{NewSegment, SegmentChange, SegmentKind};
use model::{ProfileKey, ProjectId};

use crate::dedup::Filter;
use crate::disk::{self, Disk};
use crate::error::StoreError;
use crate::merge::{self, Source};
use crate::names::Names;
use crate::profiles;
use crate::segment::{self, Index, Live, SegmentFile};
use crate::snapshot::Snapshot;
use crate::tail::Part;
use crate::writer::Encoded;
use crate::{ProjectState, Shared, State, Store, paths, schema};

/// A written segment that is not live yet.
pub(crate) struct Written {
    pub kind: SegmentKind,
    pub live: Live,
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

/// Files that are written and that nothing names yet. Where not all of them can be written they go away again: whoever is short of room and
/// tries once more must not fill the disk with them.
pub(crate) struct Draft<'s> {
    disk: &'s dyn Disk,
    dir: PathBuf,
    names: Vec<String>,
}

impl Draft<'_> {
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.names.push(name.to_owned());
        Ok(disk::write_whole(self.disk, &self.dir, name, bytes)?)
    }

    /// From here on the metastore may name them, whatever it answers; what it does not name is removed when the store is opened next.
    pub(crate) fn keep(mut self) {
        self.names.clear();
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = self.disk.remove(&self.dir.join(name));
        }
    }
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
            let Some(through) = state.piece(self.options.seal_rows_max, self.options.seal_bytes_max(), until) else { return Ok(false) };
            state.sealing_through = through;
            let projects: Vec<(ProjectId, Snapshot)> =
                state.projects.iter().map(|(id, project)| (*id, Snapshot::of(project).through(through))).collect();
            let links: Vec<_> = state.projects.iter().map(|(id, project)| (*id, project.links_through(through))).collect();
            (through, projects, links)
        };
        let (mut written, mut superseding, mut seen) = (Vec::new(), Vec::new(), Vec::new());
        let mut draft = self.draft();
        for (project, links) in links.into_iter().filter(|(_, links)| !links.is_empty()) {
            let seqs = span(links.iter().map(|(seq, _)| (*seq, *seq)));
            written.push((project, self.write_links(&mut draft, project, 0, links.iter().map(|(_, link)| link), seqs)?));
        }
        for (project, snapshot) in projects {
            let snapshot = snapshot.packed()?;
            if self.options.counts_names {
                seen.extend(Names::behind(&snapshot, 0)?.of(project));
            }
            if snapshot.packed_parts().next().is_some() {
                let resolution = snapshot.resolve(|_, _| true)?;
                for (live, new) in snapshot.segments().iter().zip(resolution.segments).filter(|(_, new)| !new.is_empty()) {
                    let mut rows = [live.superseded.as_slice(), &new].concat();
                    rows.sort_unstable();
                    let name = paths::superseded(&live.file.names[0], self.next());
                    draft.write(&name, &segment::encode_rows(&rows))?;
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
                written.push((project, self.write_events(&mut draft, project, 0, merged.encoded, superseded, seqs, times)?));
            }
            let touched: BTreeMap<&ProfileKey, ()> = snapshot.updates().map(|update| (&update.key, ())).collect();
            if !touched.is_empty() {
                let mut writer = profiles::Writer::default();
                snapshot.read_profiles(Some(&touched), |key, stored| writer.put(key, &stored))?;
                written.push((project, self.write_profiles(&mut draft, project, 0, writer, through)?));
            }
        }
        let change = SegmentChange {
            add: written.iter().map(|(project, written)| written.row(*project)).collect(),
            superseded: superseding.iter().map(|change| (change.segment, Some(change.name.clone()))).collect(),
            sealed_through: Some((0, through as i64)),
            seen,
            ..SegmentChange::default()
        };
        draft.keep();
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
                let (before, bytes) = ((project.unsealed(), project.fresh()), project.unsealed_bytes());
                project.tail.retain(|part| part.seq_min > through);
                project.updates.retain(|record| record.seq > through);
                project.unsealed_links.retain(|(seq, _)| *seq > through);
                project.note_sealed();
                self.tail_rows.fetch_sub((before.0 - project.unsealed()) as u64, Ordering::Relaxed);
                self.tail_bytes.fetch_sub(bytes - project.unsealed_bytes(), Ordering::Relaxed);
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
    pub(crate) fn forget_file(&self, name: &str) {
        let _ = self.options.disk.remove(&paths::segment_dir(&self.options.dir).join(name));
    }

    pub(crate) fn draft(&self) -> Draft<'_> {
        Draft { disk: &*self.options.disk, dir: paths::segment_dir(&self.options.dir), names: Vec::new() }
    }

    #[expect(clippy::too_many_arguments, reason = "they are what a segment is made of")]
    pub(crate) fn write_events(
        &self,
        draft: &mut Draft<'_>,
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
        draft.write(&names[1], &segment::encode_index(&encoded.index, &filter))?;
        let superseded_name = (!superseded.is_empty()).then(|| paths::superseded(&name, self.next()));
        if let Some(name) = &superseded_name {
            draft.write(name, &segment::encode_rows(&superseded))?;
        }
        draft.write(&names[0], &encoded.bytes)?;
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

    pub(crate) fn write_profiles(
        &self,
        draft: &mut Draft<'_>,
        project: ProjectId,
        level: i64,
        profiles: profiles::Writer,
        through: u64,
    ) -> Result<Written, StoreError> {
        let rows = profiles.rows;
        let times = profiles.removed_span_ms.unwrap_or_default();
        let name = paths::profiles(project.0, 0, through, self.next());
        let bytes = profiles.finish()?;
        self.write_plain(draft, SegmentKind::Profiles, Plain { name, bytes, level, rows, times, seqs: (0, through) })
    }

    /// Writes a segment that is a single file without columns.
    pub(crate) fn write_plain(&self, draft: &mut Draft<'_>, kind: SegmentKind, plain: Plain) -> Result<Written, StoreError> {
        let Plain { name, bytes, level, rows, times: (time_min_ms, time_max_ms), seqs: (seq_min, seq_max) } = plain;
        let dir = paths::segment_dir(&self.options.dir);
        draft.write(&name, &bytes)?;
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

impl State {
    /// The last record of the oldest piece that is worth a segment. Nothing that begins behind `until` starts a piece, but a piece ends
    /// where every part that it touches ends: a part is sealed whole, with whatever of other projects lies among its records. What
    /// was packed since `until` was read may reach beyond it.
    fn piece(&self, rows_max: u64, bytes_max: u64, until: u64) -> Option<u64> {
        let parts = self.projects.values().flat_map(|project| &project.tail);
        let parts = parts.map(|part| (part.seq_min, part.seq_max, part.rows() as u64, part.bytes));
        let updates = self.projects.values().flat_map(|project| &project.updates);
        let updates = updates.map(|record| (record.seq, record.seq, record.updates.len() as u64, record.bytes));
        let mut pieces: Vec<(u64, u64, u64, u64)> = parts.chain(updates).collect();
        pieces.sort_unstable();
        let (mut rows, mut bytes, mut through) = (0, 0, None);
        for (first, last, more_rows, more_bytes) in pieces {
            let is_apart = through.is_none_or(|through| first > through);
            if is_apart && (first > until || rows >= rows_max || bytes >= bytes_max) {
                break;
            }
            rows += more_rows;
            bytes += more_bytes;
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
        self.tail.iter().map(|part| part.rows()).sum::<usize>() + self.updates.iter().map(|record| record.updates.len()).sum::<usize>()
    }

    fn unsealed_bytes(&self) -> u64 {
        self.tail.iter().map(|part| part.bytes).sum::<u64>() + self.updates.iter().map(|record| record.bytes).sum::<u64>()
    }

    /// Makes a written segment live under its id; profile segments stand in the order of the log.
    pub(crate) fn add(&mut self, written: Written, id: i64) {
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
    pub(crate) fn row(&self, project: ProjectId) -> NewSegment {
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
