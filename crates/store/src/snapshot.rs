//! One moment of one project: what a query reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::profile::{Profile, ProfileKey, ProfileUpdate};
use model::{Event, TimeRange};
use rustc_hash::FxHashMap;

use crate::dedup::Keys;
use crate::error::StoreError;
use crate::segment::{self, Row, SegmentFile, StoredProfile, Wanted};
use crate::{ProjectState, dedup};

/// A pinned moment of one project.
#[derive(Clone, Default)]
pub struct Snapshot {
    hash_key: [u8; 16],
    segments: Vec<Arc<SegmentFile>>,
    profile_segments: Vec<Arc<SegmentFile>>,
    tail: Vec<Arc<Vec<Row>>>,
    repeated: Keys,
    updates: Vec<Arc<(u64, Vec<ProfileUpdate>)>>,
}

/// Which rows a scan yields, and what of them.
#[derive(Debug, Clone)]
pub struct ScanRequest {
    /// Only these events; `None` means all.
    pub events: Option<Vec<String>>,
    /// Only these instants.
    pub range: TimeRange,
    /// Decodes properties; without it they are empty.
    pub properties: bool,
    /// Decodes `distinct_id`, `insert_id`, `received_at`, `authenticated`; without it they are empty.
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

impl Snapshot {
    pub(crate) fn of(project: &ProjectState) -> Self {
        Self {
            hash_key: project.hash_key,
            segments: project.segments.clone(),
            profile_segments: project.profile_segments.clone(),
            tail: project.tail.clone(),
            repeated: project.repeated.clone(),
            updates: project.updates.clone(),
        }
    }

    /// The keyed hash of a user, as [`Snapshot::scan`] passes it.
    pub fn user(&self, distinct_id: &str) -> u128 {
        dedup::user(&self.hash_key, distinct_id)
    }

    pub(crate) fn key(&self, event: &Event) -> u128 {
        dedup::key(&self.hash_key, event)
    }

    /// The sealed part of this moment.
    pub(crate) fn without_tail(mut self) -> Self {
        self.tail.clear();
        self.updates.clear();
        self
    }

    /// Calls `each` with every row and its user until it answers false. Blocking. In no promised order.
    pub fn scan(&self, request: &ScanRequest, each: &mut dyn FnMut(&Event, u128) -> bool) -> Result<(), StoreError> {
        let overlaps =
            |segment: &&Arc<SegmentFile>| segment.time_max_ms >= request.range.from().0 && segment.time_min_ms < request.range.to().0;
        let segments: Vec<&Arc<SegmentFile>> = self.segments.iter().filter(overlaps).collect();
        let mut repeated = Keys::default();
        if request.dedup {
            repeated.extend(&self.repeated);
            for segment in &segments {
                repeated.extend(&segment.repeated);
            }
        }
        let select = |name: &str, time: i64| {
            request.range.contains(model::Timestamp(time))
                && request.events.as_ref().is_none_or(|events| events.iter().any(|event| event == name))
        };
        // Rows of listed keys wait until all of them were seen.
        let mut held: FxHashMap<u128, Row> = FxHashMap::default();
        let hold = |held: &mut FxHashMap<u128, Row>, row: Row| {
            let rank = |row: &Row| (row.event.authenticated, row.seq, row.index);
            match held.entry(row.key) {
                std::collections::hash_map::Entry::Occupied(mut best) if rank(best.get()) < rank(&row) => {
                    best.insert(row);
                }
                std::collections::hash_map::Entry::Occupied(_) => {}
                std::collections::hash_map::Entry::Vacant(first) => {
                    first.insert(row);
                }
            }
        };
        let wanted = Wanted { properties: request.properties, ids: request.ids || !repeated.is_empty() };
        for segment in segments {
            let went_on = segment::read(segment, wanted, &select, &mut |mut row| {
                if !repeated.is_empty() {
                    row.key = dedup::key(&self.hash_key, &row.event);
                    if repeated.contains(&row.key) {
                        hold(&mut held, row);
                        return true;
                    }
                }
                each(&row.event, row.user)
            })?;
            if !went_on {
                return Ok(());
            }
        }
        for row in self.tail.iter().flat_map(|rows| rows.iter()) {
            if !select(&row.event.name, row.event.time.0) {
                continue;
            }
            if repeated.contains(&row.key) {
                hold(&mut held, row.clone());
            } else if !each(&row.event, row.user) {
                return Ok(());
            }
        }
        for row in held.values() {
            if !each(&row.event, row.user) {
                return Ok(());
            }
        }
        Ok(())
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
        for update in self.updates.iter().flat_map(|record| record.1.iter()).filter(|update| select(&update.key)) {
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
