//! Sealing turns the tail into segments; compaction turns many small segments into one. Both write files first, make them durable,
//! and then change what is live in one metastore transaction.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use metastore::{NewSegment, SegmentChange, SegmentKind};
use model::{ProfileKey, ProjectId};
use rustc_hash::FxHashSet;

use crate::dedup::{self, Filter};
use crate::error::StoreError;
use crate::segment::{self, Index, Live, Row, SegmentFile, StoredProfile};
use crate::snapshot::Snapshot;
use crate::writer::{self, Encoded};
use crate::{ProjectState, Shared, State, Store, compact, paths, schema};

/// So many segments of one level become one of the next.
const COMPACT_SEGMENTS: usize = 8;
/// Segments of more rows than these stay as they are.
const COMPACT_ROWS_MAX: u64 = 4_000_000;

/// A written segment that is not live yet.
struct Written {
    kind: SegmentKind,
    live: Live,
    columns: String,
    users: (u128, u128),
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

    /// Merges segments where enough of one level have come together. Blocking.
    pub fn compact_now(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.shared.sealing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let projects: Vec<ProjectId> = self.shared.lock().projects.keys().copied().collect();
        for project in projects {
            let Some(snapshot) = self.shared.lock().projects.get(&project).map(Snapshot::of) else { continue };
            let sealed = snapshot.through(0);
            let mut levels: BTreeMap<i64, Vec<Live>> = BTreeMap::new();
            for live in sealed.segments().iter().filter(|live| live.file.rows <= COMPACT_ROWS_MAX) {
                levels.entry(live.file.level).or_default().push(live.clone());
            }
            for (level, segments) in levels.into_iter().filter(|(_, segments)| segments.len() >= COMPACT_SEGMENTS) {
                let (encoded, superseded) = compact::merge(&sealed, &segments)?;
                let of = |least: fn(&SegmentFile) -> i64| segments.iter().map(move |live| least(&live.file));
                let (seq_min, seq_max) = (of(|file| file.seq_min as i64).min(), of(|file| file.seq_max as i64).max());
                let (time_min, time_max) = (of(|file| file.time_min_ms).min(), of(|file| file.time_max_ms).max());
                let seqs = (seq_min.unwrap_or(0) as u64, seq_max.unwrap_or(0) as u64);
                let times = (time_min.unwrap_or(0), time_max.unwrap_or(0));
                let written = self.shared.write_events(project, level + 1, encoded, superseded, seqs, times)?;
                self.shared.swap(project, segments.iter().map(|live| live.file.clone()).collect(), written)?;
                segments.iter().filter_map(|live| live.superseded_name.as_ref()).for_each(|name| self.shared.forget_file(name));
            }
            let profiles = sealed.profile_segments();
            if profiles.len() >= COMPACT_SEGMENTS {
                let folded = sealed.folded(&|_| true)?;
                let through = profiles.iter().map(|segment| segment.seq_max).max().unwrap_or(0);
                let written = self.shared.write_profiles(project, 1, &folded, through)?;
                self.shared.swap(project, profiles.to_vec(), written)?;
            }
        }
        Ok(())
    }
}

impl Shared {
    /// Seals what is oldest, up to a record; false where nothing is left.
    fn seal_piece(&self, until: u64) -> Result<bool, StoreError> {
        let (through, projects) = {
            let state = self.lock();
            let Some(through) = state.piece(self.options.seal_rows_max, until) else { return Ok(false) };
            let projects: Vec<(ProjectId, Snapshot)> =
                state.projects.iter().map(|(id, project)| (*id, Snapshot::of(project).through(through))).collect();
            (through, projects)
        };
        let (mut written, mut superseding) = (Vec::new(), Vec::new());
        for (project, snapshot) in projects {
            let mut rows: Vec<&Row> = snapshot.unsealed().collect();
            if !rows.is_empty() {
                let resolution = dedup::resolve(snapshot.segments(), &snapshot.suspects())?;
                for (live, new) in snapshot.segments().iter().zip(resolution.segments).filter(|(_, new)| !new.is_empty()) {
                    let mut rows = [live.superseded.as_slice(), &new].concat();
                    rows.sort_unstable();
                    let name = paths::superseded(&live.file.names[0], self.next());
                    segment::write_file(&*self.options.disk, &live.file.dir, &name, &segment::encode_rows(&rows))?;
                    superseding.push(Superseding { project, segment: live.file.id, name, rows });
                }
                rows.sort_by(|a, b| {
                    (&a.event.name, a.user, a.event.time, a.seq, a.index).cmp(&(&b.event.name, b.user, b.event.time, b.seq, b.index))
                });
                let is_superseded = |row: &&Row| resolution.unsealed.contains(&(row.seq, row.index));
                let superseded = (0_u32..).zip(&rows).filter(|(_, row)| is_superseded(row)).map(|(at, _)| at).collect();
                let seqs = span(rows.iter().map(|row| row.seq));
                let times = span(rows.iter().map(|row| row.event.time.0));
                written.push((project, self.write_events(project, 0, writer::encode(&rows)?, superseded, seqs, times)?));
            }
            let touched: FxHashSet<&ProfileKey> = snapshot.updates().map(|update| &update.key).collect();
            if !touched.is_empty() {
                let folded = snapshot.folded(&|key| touched.contains(key))?;
                written.push((project, self.write_profiles(project, 0, &folded, through)?));
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
                let before = project.unsealed();
                project.tail.retain(|rows| rows.first().is_some_and(|row| row.seq > through));
                project.updates.retain(|record| record.0 > through);
                project.tail_keys.clear();
                project.suspects.clear();
                for rows in project.tail.clone() {
                    project.note_keys(&rows);
                }
                self.tail_rows.fetch_sub((before - project.unsealed()) as u64, Ordering::Relaxed);
            }
        }
        outdated.iter().for_each(|name| self.forget_file(name));
        self.log.forget(through)?;
        Ok(true)
    }

    fn next(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    /// Removes a file that nothing names any more; what stays behind is removed when the store is opened next.
    fn forget_file(&self, name: &str) {
        let _ = self.options.disk.remove(&paths::segment_dir(&self.options.dir).join(name));
    }

    fn swap(&self, project: ProjectId, old: Vec<Arc<SegmentFile>>, written: Written) -> Result<(), StoreError> {
        let remove: Vec<i64> = old.iter().map(|segment| segment.id).collect();
        let change = SegmentChange { add: vec![written.row(project)], remove: remove.clone(), ..SegmentChange::default() };
        let id = self.metastore.publish(&change)?.first().copied().unwrap_or_default();
        {
            let mut state = self.lock();
            let live = state.projects.entry(project).or_default();
            match written.kind {
                SegmentKind::Events => live.segments.retain(|segment| !remove.contains(&segment.file.id)),
                SegmentKind::Profiles => live.profile_segments.retain(|segment| !remove.contains(&segment.id)),
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

    fn write_profiles(
        &self,
        project: ProjectId,
        level: i64,
        profiles: &BTreeMap<ProfileKey, StoredProfile>,
        through: u64,
    ) -> Result<Written, StoreError> {
        let bytes = segment::encode_profiles(profiles.iter())?;
        let name = paths::profiles(project.0, 0, through, self.next());
        let dir = paths::segment_dir(&self.options.dir);
        segment::write_file(&*self.options.disk, &dir, &name, &bytes)?;
        let file = SegmentFile {
            id: 0,
            level,
            rows: profiles.len() as u64,
            bytes: bytes.len() as u64,
            time_min_ms: 0,
            time_max_ms: 0,
            seq_min: 0,
            seq_max: through,
            index: Index::default(),
            filter: Filter::default(),
            names: vec![name],
            disk: self.options.disk.clone(),
            dir,
            retired: AtomicBool::new(false),
            footer: OnceLock::new(),
        };
        let live = Live { file: Arc::new(file), superseded: Arc::default(), superseded_name: None };
        Ok(Written { kind: SegmentKind::Profiles, live, columns: String::new(), users: (0, u128::MAX) })
    }
}

impl State {
    /// The last record of the oldest piece that is worth a segment, no later than `until`.
    fn piece(&self, rows_max: u64, until: u64) -> Option<u64> {
        let events =
            self.projects.values().flat_map(|project| &project.tail).filter_map(|rows| Some((rows.first()?.seq, rows.len() as u64)));
        let updates = self.projects.values().flat_map(|project| &project.updates).map(|record| (record.0, record.1.len() as u64));
        let mut records: Vec<(u64, u64)> = events.chain(updates).filter(|(seq, _)| *seq <= until).collect();
        records.sort_unstable();
        let mut rows = 0;
        let piece = records.iter().take_while(|(_, count)| {
            let fits = rows < rows_max;
            rows += count;
            fits
        });
        piece.last().map(|(seq, _)| *seq)
    }
}

impl ProjectState {
    fn unsealed(&self) -> usize {
        self.tail.iter().map(|rows| rows.len()).sum::<usize>() + self.updates.iter().map(|record| record.1.len()).sum::<usize>()
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
        }
    }
}

fn span<T: Ord + Copy + Default>(values: impl Iterator<Item = T> + Clone) -> (T, T) {
    (values.clone().min().unwrap_or_default(), values.max().unwrap_or_default())
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
            format_version: schema::FORMAT_VERSION,
        }
    }
}
