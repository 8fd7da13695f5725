//! Sealing turns the tail into segments; compaction turns many small segments into one. Both write files first, make them durable,
//! and then change what is live in one metastore transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use metastore::{NewSegment, SegmentChange, SegmentKind};
use model::ProjectId;

use crate::dedup::{Filter, Keys};
use crate::error::StoreError;
use crate::segment::{self, Row, SegmentFile, StoredProfile, Wanted};
use crate::snapshot::Snapshot;
use crate::{Store, paths, schema};

/// So many segments of one level become one of the next.
const COMPACT_SEGMENTS: usize = 8;
/// Compaction holds its rows in memory: it merges no more than these.
const COMPACT_ROWS_MAX: u64 = 2_000_000;

/// A written segment that is not live yet.
struct Written {
    kind: SegmentKind,
    file: SegmentFile,
}

impl Store {
    /// Seals everything that is acknowledged now. Blocking.
    pub fn seal_now(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.shared.sealing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (through, tails) = {
            let state = self.shared.lock();
            let tails: Vec<(ProjectId, Snapshot, Vec<Arc<Vec<Row>>>, Keys, bool)> = state
                .projects
                .iter()
                .filter(|(_, project)| !project.tail.is_empty() || !project.updates.is_empty())
                .map(|(id, project)| {
                    (*id, Snapshot::of(project), project.tail.clone(), project.repeated.clone(), !project.updates.is_empty())
                })
                .collect();
            (state.last_seq, tails)
        };
        let mut written = Vec::new();
        for (project, snapshot, tail, repeated, has_updates) in tails {
            let rows: Vec<&Row> = tail.iter().flat_map(|rows| rows.iter()).collect();
            if !rows.is_empty() {
                written.push((project, self.write_events(project, 0, rows, &repeated)?));
            }
            if has_updates {
                let touched = self.touched(project);
                let folded = snapshot.folded(&|key| touched.contains(key))?;
                written.push((project, self.write_profiles(project, 0, &folded, through)?));
            }
        }
        let change = SegmentChange {
            add: written.iter().map(|(project, written)| written.row(*project)).collect(),
            sealed_through: Some((0, through as i64)),
            ..SegmentChange::default()
        };
        let ids = self.shared.metastore.publish(&change)?;
        {
            let mut state = self.shared.lock();
            for ((project, mut written), id) in written.into_iter().zip(ids) {
                written.file.id = id;
                let live = state.projects.entry(project).or_default();
                match written.kind {
                    SegmentKind::Events => live.segments.push(Arc::new(written.file)),
                    SegmentKind::Profiles => live.profile_segments.push(Arc::new(written.file)),
                }
            }
            for project in state.projects.values_mut() {
                let before = project.tail.iter().map(|rows| rows.len()).sum::<usize>() + updates_in(project);
                project.tail.retain(|rows| rows.first().is_some_and(|row| row.seq > through));
                project.updates.retain(|record| record.0 > through);
                project.tail_keys.clear();
                project.repeated.clear();
                for rows in project.tail.clone() {
                    project.note_keys(&rows);
                }
                let after = project.tail.iter().map(|rows| rows.len()).sum::<usize>() + updates_in(project);
                self.shared.tail_rows.fetch_sub((before - after) as u64, Ordering::Relaxed);
            }
        }
        self.shared.log.forget(through)
    }

    /// Merges segments where enough of one level have come together. Blocking.
    pub fn compact_now(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.shared.sealing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let projects: Vec<ProjectId> = self.shared.lock().projects.keys().copied().collect();
        for project in projects {
            let (events, profiles, snapshot) = {
                let state = self.shared.lock();
                let Some(live) = state.projects.get(&project) else { continue };
                let mut levels: BTreeMap<i64, Vec<Arc<SegmentFile>>> = BTreeMap::new();
                live.segments.iter().for_each(|segment| levels.entry(segment.level).or_default().push(segment.clone()));
                (levels, live.profile_segments.clone(), Snapshot::of(live))
            };
            for (level, segments) in events {
                if segments.len() >= COMPACT_SEGMENTS && segments.iter().map(|segment| segment.rows).sum::<u64>() <= COMPACT_ROWS_MAX {
                    let mut rows = Vec::new();
                    let mut repeated = Keys::default();
                    for segment in &segments {
                        repeated.extend(&segment.repeated);
                        segment::read(segment, Wanted { properties: true, ids: true }, &|_, _| true, &mut |mut row| {
                            row.key = snapshot.key(&row.event);
                            rows.push(row);
                            true
                        })?;
                    }
                    let written = self.write_events(project, level + 1, rows.iter().collect(), &repeated)?;
                    self.swap(project, segments, written)?;
                }
            }
            if profiles.len() >= COMPACT_SEGMENTS {
                let sealed = snapshot.without_tail();
                let folded = sealed.folded(&|_| true)?;
                let through = profiles.iter().map(|segment| segment.seq_max).max().unwrap_or(0);
                let written = self.write_profiles(project, 1, &folded, through)?;
                self.swap(project, profiles, written)?;
            }
        }
        Ok(())
    }

    fn touched(&self, project: ProjectId) -> std::collections::HashSet<model::ProfileKey> {
        let state = self.shared.lock();
        let updates = state.projects.get(&project).into_iter().flat_map(|live| live.updates.iter());
        updates.flat_map(|record| record.1.iter()).map(|update| update.key.clone()).collect()
    }

    fn swap(&self, project: ProjectId, old: Vec<Arc<SegmentFile>>, mut written: Written) -> Result<(), StoreError> {
        let remove: Vec<i64> = old.iter().map(|segment| segment.id).collect();
        let change = SegmentChange { add: vec![written.row(project)], remove: remove.clone(), ..SegmentChange::default() };
        let ids = self.shared.metastore.publish(&change)?;
        written.file.id = ids.first().copied().unwrap_or_default();
        let mut state = self.shared.lock();
        let live = state.projects.entry(project).or_default();
        let kind = written.kind;
        let segments = match kind {
            SegmentKind::Events => &mut live.segments,
            SegmentKind::Profiles => &mut live.profile_segments,
        };
        segments.retain(|segment| !remove.contains(&segment.id));
        segments.push(Arc::new(written.file));
        segments.sort_by_key(|segment| segment.seq_max);
        drop(state);
        for segment in old {
            segment.retired.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn write_events(&self, project: ProjectId, level: i64, mut rows: Vec<&Row>, repeated: &Keys) -> Result<Written, StoreError> {
        rows.sort_by(|a, b| {
            (&a.event.name, a.user, a.event.time, a.seq, a.index).cmp(&(&b.event.name, b.user, b.event.time, b.seq, b.index))
        });
        let bytes = segment::encode(&rows)?;
        let keys: Vec<u128> = rows.iter().map(|row| row.key).collect();
        let held: Keys = keys.iter().copied().filter(|key| repeated.contains(key)).collect();
        let filter = Filter::of(keys.into_iter());
        let (seq_min, seq_max) = span(rows.iter().map(|row| row.seq));
        let (time_min_ms, time_max_ms) = span(rows.iter().map(|row| row.event.time.0));
        let name = paths::events(project.0, seq_min, seq_max, self.shared.counter.fetch_add(1, Ordering::Relaxed));
        let names = vec![name.clone(), paths::keys(&name)];
        let dir = paths::segment_dir(&self.shared.options.dir);
        let disk = &*self.shared.options.disk;
        segment::write_file(disk, &dir, &names[1], &filter.to_bytes(&held))?;
        segment::write_file(disk, &dir, &names[0], &bytes)?;
        let file = SegmentFile {
            id: 0,
            level,
            rows: rows.len() as u64,
            bytes: bytes.len() as u64,
            time_min_ms,
            time_max_ms,
            seq_min,
            seq_max,
            filter,
            repeated: held,
            names,
            disk: self.shared.options.disk.clone(),
            dir,
            retired: AtomicBool::new(false),
        };
        Ok(Written { kind: SegmentKind::Events, file })
    }

    fn write_profiles(
        &self,
        project: ProjectId,
        level: i64,
        profiles: &BTreeMap<model::ProfileKey, StoredProfile>,
        through: u64,
    ) -> Result<Written, StoreError> {
        let bytes = segment::encode_profiles(profiles.iter())?;
        let name = paths::profiles(project.0, 0, through, self.shared.counter.fetch_add(1, Ordering::Relaxed));
        let dir = paths::segment_dir(&self.shared.options.dir);
        segment::write_file(&*self.shared.options.disk, &dir, &name, &bytes)?;
        let file = SegmentFile {
            id: 0,
            level,
            rows: profiles.len() as u64,
            bytes: bytes.len() as u64,
            time_min_ms: 0,
            time_max_ms: 0,
            seq_min: 0,
            seq_max: through,
            filter: Filter::default(),
            repeated: Keys::default(),
            names: vec![name],
            disk: self.shared.options.disk.clone(),
            dir,
            retired: AtomicBool::new(false),
        };
        Ok(Written { kind: SegmentKind::Profiles, file })
    }
}

fn updates_in(project: &crate::ProjectState) -> usize {
    project.updates.iter().map(|record| record.1.len()).sum()
}

fn span<T: Ord + Copy + Default>(values: impl Iterator<Item = T> + Clone) -> (T, T) {
    (values.clone().min().unwrap_or_default(), values.max().unwrap_or_default())
}

impl Written {
    fn row(&self, project: ProjectId) -> NewSegment {
        NewSegment {
            project,
            kind: self.kind,
            level: self.file.level,
            sort_order: schema::SORT_ORDER.to_owned(),
            time_min_ms: self.file.time_min_ms,
            time_max_ms: self.file.time_max_ms,
            user_min: [0; 16],
            user_max: [255; 16],
            rows: self.file.rows as i64,
            bytes: self.file.bytes as i64,
            partition: 0,
            seq_min: self.file.seq_min as i64,
            seq_max: self.file.seq_max as i64,
            identity_seq: 0,
            columns: String::new(),
            path: self.file.names[0].clone(),
            superseded_path: self.file.names.get(1).cloned(),
            deleted_path: None,
            format_version: schema::FORMAT_VERSION,
        }
    }
}
