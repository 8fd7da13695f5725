//! Compaction turns many small segments into one, and takes off the disk what has been kept for its time: what the public removed from
//! profiles, and the tombstones of deleted ones. It writes files first, makes them durable, and then swaps them in one metastore transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use metastore::{SegmentChange, SegmentKind};
use model::profile::REMOVED_KEPT_MS;
use model::time::DAY_MS;
use model::{ProjectId, Timestamp};

use crate::error::StoreError;
use crate::merge::{self, Source};
use crate::seal::{Written, span};
use crate::segment::{Live, SegmentFile};
use crate::snapshot::Snapshot;
use crate::{Shared, Store, profiles};

/// So many segments of one level become one of the next.
pub(crate) const COMPACT_SEGMENTS: usize = 8;
/// Segments of more rows than these stay as they are.
const COMPACT_ROWS_MAX: u64 = 4_000_000;

/// What is kept of removed properties and deleted profiles leaves the disk so much after its time, when no operation that is still to come
/// could ask for it; segments are written again for it once more of it has come together.
const FORGET_AFTER_MS: i64 = DAY_MS;
const FORGET_ALONE_AFTER_MS: i64 = 2 * DAY_MS;

impl Store {
    /// Merges segments where enough of one level have come together, and those that hold what is to leave the disk. Blocking; sealing goes
    /// on meanwhile. Where there is no room for a copy of what would be merged, it stays as it is.
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
                if self.shared.has_room(segments.iter().map(|live| live.file.bytes)) {
                    self.shared.compact_events(project, &sealed, level, &segments)?;
                }
            }
            self.shared.compact_profiles_of(project, &sealed, received_at)?;
            self.shared.compact_links(project)?;
        }
        Ok(())
    }
}

impl Shared {
    /// Whether the disk has room for a copy of segments beside what is kept free.
    pub(crate) fn has_room(&self, bytes: impl Iterator<Item = u64>) -> bool {
        self.free_bytes().is_none_or(|free| free >= self.options.free_bytes_min.saturating_add(bytes.sum()))
    }

    /// Segments of profiles stand in the order of the log, and so do their levels, the highest first.
    fn compact_profiles_of(&self, project: ProjectId, sealed: &Snapshot, received_at: Timestamp) -> Result<(), StoreError> {
        let all = sealed.profile_segments();
        let mut merges: Vec<(i64, &[Arc<SegmentFile>])> = Vec::new();
        if let Some(last) = all.iter().rposition(|segment| segment.holds_forgotten(received_at)) {
            // Everything older comes along: what stands there of a deleted profile leaves the disk with its tombstone.
            let segments = &all[..=last];
            merges.push((segments.iter().map(|segment| segment.level).max().unwrap_or(0), segments));
        } else {
            let of_one_level = all.chunk_by(|a, b| a.level == b.level).filter(|segments| segments.len() >= COMPACT_SEGMENTS);
            merges.extend(of_one_level.map(|segments| (segments[0].level + 1, segments)));
        }
        for (level, segments) in merges {
            if self.has_room(segments.iter().map(|segment| segment.bytes)) {
                let is_oldest = segments[0].id == all[0].id;
                self.compact_profiles(project, level, segments.to_vec(), is_oldest, received_at)?;
            }
        }
        Ok(())
    }

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
        let mut draft = self.draft();
        let written = self.write_events(&mut draft, project, level + 1, merged.encoded, superseded, seqs, times)?;
        draft.keep();
        self.swap(project, now.iter().map(|live| live.file.clone()).collect(), written)?;
        now.iter().filter_map(|live| live.superseded_name.as_ref()).for_each(|name| self.forget_file(name));
        Ok(())
    }

    fn compact_profiles(
        &self,
        project: ProjectId,
        level: i64,
        segments: Vec<Arc<SegmentFile>>,
        is_oldest: bool,
        received_at: Timestamp,
    ) -> Result<(), StoreError> {
        let now = received_at.plus_ms(-FORGET_AFTER_MS);
        let mut writer = profiles::Writer::default();
        profiles::read(&segments, [], None, |key, mut stored| {
            stored.forget(now);
            // A tombstone hides what older segments hold of its profile: it goes once there are none.
            if is_oldest && stored.is_forgotten(now) { Ok(()) } else { writer.put(key, &stored) }
        })?;
        let through = segments.iter().map(|segment| segment.seq_max).max().unwrap_or(0);
        let mut draft = self.draft();
        let written = self.write_profiles(&mut draft, project, level, writer, through)?;
        draft.keep();
        let _sealing = self.sealing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.swap(project, segments, written)
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
}

impl SegmentFile {
    /// Whether a segment of profiles keeps what should have left the disk: its times are those of removals.
    fn holds_forgotten(&self, now: Timestamp) -> bool {
        let is_any = (self.time_min_ms, self.time_max_ms) != (0, 0);
        is_any && self.time_min_ms.saturating_add(REMOVED_KEPT_MS + FORGET_ALONE_AFTER_MS) <= now.0
    }
}
