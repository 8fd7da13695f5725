//! Duplicates: one event sent twice counts once (`contract/write.md` 2.4).
//!
//! The key is (event, id, time, insert_id), hashed to 128 bits under the project's key. Of several rows of one key the newest
//! authenticated one counts, else the newest public one; the others are superseded: reports skip them, an export yields them.
//!
//! An arriving row whose key stands in the tail, or passes the filter of a segment that covers its time, is a suspect. [`resolve`] finds
//! what the suspects supersede, or are superseded by: at seal once and for all, before that in every scan.

use arrow::array::{BooleanArray, Int64Array, StringArray, UInt32Array, UInt64Array};
use std::hash::Hasher;

use rustc_hash::{FxHashMap, FxHashSet};
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::batch::{self, fixed};
use crate::error::StoreError;
use crate::schema;
use crate::segment::{Columns, Live, Rows};
use crate::tail::Suspect;

/// The key of an event.
pub(crate) type Key = u128;

/// A set of keys.
pub(crate) type Keys = FxHashSet<Key>;

/// Hashes text under a project's key.
pub(crate) fn hash(project_key: &[u8; 16], parts: &[&[u8]]) -> u128 {
    let mut hasher = SipHasher24::new_with_key(project_key);
    for part in parts {
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part);
    }
    hasher.finish128().as_u128()
}

/// The key of an event.
pub(crate) fn key(project_key: &[u8; 16], event: &str, distinct_id: &str, time_ms: i64, insert_id: &str) -> Key {
    hash(project_key, &[event.as_bytes(), distinct_id.as_bytes(), &time_ms.to_le_bytes(), insert_id.as_bytes()])
}

/// The keyed hash of a user.
pub(crate) fn user(project_key: &[u8; 16], distinct_id: &str) -> u128 {
    hash(project_key, &[distinct_id.as_bytes()])
}

/// A Bloom filter of 16 bits a key and 8 probes: about 6 false answers in 10,000.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    words: Vec<u64>,
}

impl Filter {
    pub(crate) fn of(keys: impl ExactSizeIterator<Item = Key>) -> Self {
        let mut filter = Self { words: vec![0; (keys.len() / 4).max(1)] };
        for key in keys {
            for (word, bit) in filter.probes(key) {
                filter.words[word] |= bit;
            }
        }
        filter
    }

    pub(crate) fn may_hold(&self, key: Key) -> bool {
        !self.words.is_empty() && self.probes(key).all(|(word, bit)| self.words[word] & bit != 0)
    }

    fn probes(&self, key: Key) -> impl Iterator<Item = (usize, u64)> + use<> {
        let bits = self.words.len() as u64 * 64;
        let (a, b) = (key as u64, (key >> 64) as u64 | 1);
        (0..8u64).map(move |probe| {
            let bit = a.wrapping_add(probe.wrapping_mul(b)) % bits;
            ((bit / 64) as usize, 1 << (bit % 64))
        })
    }

    /// Appends the filter to the bytes of a file.
    pub(crate) fn put(&self, bytes: &mut Vec<u8>) {
        self.words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
    }

    /// Reads it back from all that is left of a file.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let words = bytes.chunks_exact(8);
        words
            .remainder()
            .is_empty()
            .then(|| Self { words: words.filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?))).collect() })
    }
}

/// Which rows do not count.
#[derive(Debug, Default)]
pub(crate) struct Resolution {
    /// By segment: further rows that are superseded, ascending.
    pub segments: Vec<Vec<u32>>,
    /// By part of the tail: rows that are superseded, ascending.
    pub parts: Vec<Vec<u32>>,
}

#[derive(Clone, Copy)]
enum Place {
    Part(usize, u32),
    Segment(usize, u32),
}

/// Authenticated rows before public ones, newer before older.
pub(crate) type Rank = (bool, u64, u32);

/// Decides between suspects and the rows of the segments that have their keys.
pub(crate) fn resolve(segments: &[Live], parts: usize, suspects: &[Suspect<'_>]) -> Result<Resolution, StoreError> {
    let mut resolution = Resolution { segments: vec![Vec::new(); segments.len()], parts: vec![Vec::new(); parts] };
    if suspects.is_empty() {
        return Ok(resolution);
    }
    let mut groups: FxHashMap<Key, Vec<(Rank, Place)>> = FxHashMap::default();
    let mut by_event: FxHashMap<&str, Vec<&Suspect<'_>>> = FxHashMap::default();
    for suspect in suspects {
        groups.entry(suspect.key).or_default().push((suspect.rank, Place::Part(suspect.part, suspect.row)));
        by_event.entry(suspect.event).or_default().push(suspect);
    }
    for (at, live) in segments.iter().enumerate() {
        for (event, suspects) in &by_event {
            for (row, key, rank) in found(live, event, suspects)? {
                groups.entry(key).or_default().push((rank, Place::Segment(at, row)));
            }
        }
    }
    for group in groups.into_values() {
        let best = group.iter().map(|(rank, _)| *rank).max();
        for (_, place) in group.iter().filter(|(rank, _)| Some(*rank) != best) {
            match *place {
                Place::Part(part, row) => resolution.parts[part].push(row),
                Place::Segment(at, row) => resolution.segments[at].push(row),
            }
        }
    }
    resolution.segments.iter_mut().chain(&mut resolution.parts).for_each(|rows| rows.sort_unstable());
    Ok(resolution)
}

/// The rows of a segment that have the key of a suspect of one event and are not superseded yet.
fn found(live: &Live, event: &str, suspects: &[&Suspect<'_>]) -> Result<Vec<(u32, Key, Rank)>, StoreError> {
    let file = &live.file;
    let Some(rows) = file.rows_of(event) else { return Ok(Vec::new()) };
    let mut sought: FxHashMap<(u128, i64), Vec<&Suspect<'_>>> = FxHashMap::default();
    for suspect in suspects.iter().filter(|suspect| file.covers(suspect.time_ms) && file.filter.may_hold(suspect.key)) {
        sought.entry((suspect.user, suspect.time_ms)).or_default().push(suspect);
    }
    if sought.is_empty() {
        return Ok(Vec::new());
    }
    let name: std::sync::Arc<str> = event.into();
    // First user and time of every row, then the ids of the few that fit.
    let mut hits = Vec::new();
    for item in Rows::open(file, [(name.clone(), rows)], Columns::default())? {
        let (_, first, batch) = item?;
        let times: &Int64Array = fixed(&batch, schema::TIME)?;
        for (at, user) in batch::users(&batch)?.into_iter().enumerate() {
            let row = first + at as u32;
            if sought.contains_key(&(user, times.value(at))) && live.superseded.binary_search(&row).is_err() {
                hits.push((name.clone(), row..row + 1));
            }
        }
    }
    let mut matches = Vec::new();
    for item in Rows::open(file, hits, Columns { ids: true, rank: true, properties: None })? {
        let (_, first, batch) = item?;
        let (times, insert_ids): (&Int64Array, &StringArray) = (fixed(&batch, schema::TIME)?, fixed(&batch, schema::INSERT_ID)?);
        let authenticated: &BooleanArray = fixed(&batch, schema::AUTHENTICATED)?;
        let (seqs, indexes): (&UInt64Array, &UInt32Array) = (fixed(&batch, schema::SEQ)?, fixed(&batch, schema::INDEX)?);
        for (at, user) in batch::users(&batch)?.into_iter().enumerate() {
            let same = sought.get(&(user, times.value(at))).into_iter().flatten().find(|suspect| suspect.insert_id == insert_ids.value(at));
            if let Some(suspect) = same {
                matches.push((first + at as u32, suspect.key, (authenticated.value(at), seqs.value(at), indexes.value(at))));
            }
        }
    }
    Ok(matches)
}
