//! Segments of profiles: whole rows, sorted by key, in compressed blocks with an index of first keys. A read merges the segments, of which
//! the newest that has a key wins, and folds in the operations that are not sealed yet; it holds one block of each segment.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use model::Timestamp;
use model::profile::{Folded, Profile, ProfileKey, ProfileUpdate, REMOVED_KEPT_MS, Removed, RemovedValue};

use crate::dedup;
use crate::error::StoreError;
use crate::record::{self, Malformed, Reader, Spelling};
use crate::segment::SegmentFile;

/// A block is closed once its rows have so many bytes.
const BLOCK_BYTES: usize = 64 * 1024;
/// How many operation ids a profile remembers: clients send whole requests again, of at most 2000 operations.
const RECENT_MAX: usize = 2000;

/// A profile at rest: what it folded to and the last operations it has seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct StoredProfile {
    pub folded: Folded,
    pub recent: Vec<String>,
    /// Since when there is no profile, where there is none: such a row is a tombstone.
    pub gone_at: Option<Timestamp>,
}

impl StoredProfile {
    fn apply(&mut self, update: &ProfileUpdate) {
        if let Some(id) = &update.dedup_id {
            let id = short(id);
            if let Some(at) = self.recent.iter().position(|known| *known == id) {
                // What comes again is as good as new: the rest of its request is about to come again too.
                self.recent[at..].rotate_left(1);
                return;
            }
            if self.recent.len() == RECENT_MAX {
                self.recent.remove(0);
            }
            self.recent.push(id);
        }
        self.folded.apply(update);
        self.gone_at = if self.folded.profile.is_some() { None } else { self.gone_at.or(Some(update.received_at)) };
    }

    /// Forgets what was kept for its time.
    pub(crate) fn forget(&mut self, now: Timestamp) {
        self.folded.removed.forget(now);
        // Rows of earlier versions do not say; a store that has received nothing yet does not know what time it is.
        if self.folded.profile.is_none() && self.gone_at.is_none() && now.0 > 0 {
            self.gone_at = Some(now);
        }
    }

    /// Whether nothing is left but a tombstone that was kept for its time.
    pub(crate) fn is_forgotten(&self, now: Timestamp) -> bool {
        let is_nothing = self.folded.profile.is_none() && self.folded.removed.is_empty();
        is_nothing && self.gone_at.is_some_and(|at| at.plus_ms(REMOVED_KEPT_MS) <= now)
    }
}

/// A hash of an operation's id: it is kept in its place, and is shorter than most.
fn short(id: &str) -> String {
    format!("{:016x}", dedup::hash(&[0; 16], &[id.as_bytes()]) as u64)
}

/// What a row has beside its key and the operations it has seen.
const HAS_PROFILE: u64 = 1;
const HAS_REMOVED: u64 = 2;
const HAS_GONE_AT: u64 = 4;

/// Writes rows in the order of their keys.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    block: Vec<u8>,
    first: Option<ProfileKey>,
    index: Vec<u8>,
    blocks: u64,
    pub rows: u64,
    /// When the first and the last of what the rows keep was removed, tombstones included.
    pub removed_span_ms: Option<(i64, i64)>,
}

impl Writer {
    pub(crate) fn put(&mut self, key: ProfileKey, stored: &StoredProfile) -> Result<(), StoreError> {
        put_key(&mut self.block, &key);
        record::put_varint(&mut self.block, stored.recent.len() as u64);
        stored.recent.iter().for_each(|id| record::put_text(&mut self.block, id));
        let Folded { profile, removed } = &stored.folded;
        let flag = |is_set: bool, flag: u64| if is_set { flag } else { 0 };
        let has = flag(profile.is_some(), HAS_PROFILE) | flag(!removed.is_empty(), HAS_REMOVED);
        record::put_varint(&mut self.block, has | flag(stored.gone_at.is_some(), HAS_GONE_AT));
        if let Some(profile) = profile {
            record::put_properties(&mut self.block, &profile.properties, Spelling::Fast);
        }
        if !removed.is_empty() {
            put_removed(&mut self.block, removed);
        }
        if let Some(Timestamp(at)) = stored.gone_at {
            record::put_int(&mut self.block, at);
        }
        for Timestamp(at) in removed.times().chain(stored.gone_at) {
            let (first, last) = self.removed_span_ms.unwrap_or((at, at));
            self.removed_span_ms = Some((first.min(at), last.max(at)));
        }
        self.first.get_or_insert(key);
        self.rows += 1;
        if self.block.len() >= BLOCK_BYTES { self.close_block() } else { Ok(()) }
    }

    fn close_block(&mut self) -> Result<(), StoreError> {
        let Some(first) = self.first.take() else { return Ok(()) };
        let packed = zstd::encode_all(self.block.as_slice(), 1)?;
        self.block.clear();
        put_key(&mut self.index, &first);
        record::put_varint(&mut self.index, self.bytes.len() as u64);
        record::put_varint(&mut self.index, packed.len() as u64);
        self.index.extend(crc32fast::hash(&packed).to_le_bytes());
        self.bytes.extend(packed);
        self.blocks += 1;
        Ok(())
    }

    /// Blocks, index, checksum of the index, length of the index.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, StoreError> {
        self.close_block()?;
        let mut index = Vec::new();
        record::put_varint(&mut index, self.blocks);
        index.extend(&self.index);
        self.bytes.extend(&index);
        self.bytes.extend(crc32fast::hash(&index).to_le_bytes());
        self.bytes.extend((index.len() as u64).to_le_bytes());
        Ok(self.bytes)
    }
}

fn put_key(out: &mut Vec<u8>, key: &ProfileKey) {
    match key {
        ProfileKey::User(id) => {
            record::put_varint(out, 0);
            record::put_text(out, id);
        }
        ProfileKey::Group { key, id } => {
            record::put_varint(out, 1);
            record::put_text(out, key);
            record::put_text(out, id);
        }
    }
}

fn key(reader: &mut Reader<'_>) -> Result<ProfileKey, Malformed> {
    Ok(match reader.varint()? {
        0 => ProfileKey::User(reader.string()?),
        _ => ProfileKey::Group { key: reader.string()?, id: reader.string()? },
    })
}

fn put_removed(out: &mut Vec<u8>, removed: &Removed) {
    record::put_varint(out, u64::from(removed.deleted_at.is_some()));
    let mut last = removed.deleted_at.unwrap_or_default().0;
    record::put_int(out, last);
    record::put_varint(out, removed.properties.len() as u64);
    for (name, RemovedValue { value, at }) in &removed.properties {
        record::put_text(out, name);
        // Most of it was removed at once.
        record::put_int(out, at.0.wrapping_sub(last));
        record::put_value(out, value, Spelling::Fast);
        last = at.0;
    }
}

fn removed(reader: &mut Reader<'_>) -> Result<Removed, Malformed> {
    let is_deleted = reader.varint()? == 1;
    let mut last = reader.int()?;
    let mut removed = Removed { deleted_at: is_deleted.then_some(Timestamp(last)), ..Removed::default() };
    for _ in 0..reader.count()? {
        let name = reader.string()?;
        last = last.wrapping_add(reader.int()?);
        removed.properties.insert(name, RemovedValue { value: reader.value(0)?, at: Timestamp(last) });
    }
    Ok(removed)
}

/// Where a block lies, and the first key in it.
struct Block {
    first: ProfileKey,
    offset: u64,
    len: usize,
    checksum: u32,
}

/// The rows of one segment, a block at a time.
struct Stream<'s> {
    segment: &'s SegmentFile,
    blocks: VecDeque<Block>,
    rows: VecDeque<(ProfileKey, StoredProfile)>,
}

fn corrupt(segment: &SegmentFile, reason: &str) -> StoreError {
    StoreError::Corrupt { path: segment.path().display().to_string(), reason: reason.to_owned() }
}

impl<'s> Stream<'s> {
    /// Opens the blocks that may hold one of `keys`, or all of them.
    fn open(segment: &'s SegmentFile, keys: Option<&BTreeMap<&ProfileKey, ()>>) -> Result<Self, StoreError> {
        let read = |offset: u64, len: usize| segment.disk.read_at(&segment.path(), offset, len);
        let footer_at = segment.bytes.checked_sub(12).ok_or_else(|| corrupt(segment, "it is too short"))?;
        let footer = read(footer_at, 12)?;
        let (checksum, len) = footer.split_at(4);
        let len = u64::from_le_bytes(len.try_into().expect("eight bytes are left"));
        let index_at = footer_at.checked_sub(len).ok_or_else(|| corrupt(segment, "its index is longer than it is"))?;
        let index = read(index_at, len as usize)?;
        if crc32fast::hash(&index).to_le_bytes() != checksum {
            return Err(corrupt(segment, "the checksum of its index does not fit"));
        }
        let blocks = blocks(&index).map_err(|error| corrupt(segment, &error.to_string()))?;
        let may_hold = |at: usize| {
            let Some(keys) = keys else { return true };
            let within = keys.range::<&ProfileKey, _>(&blocks[at].first..);
            let next = blocks.get(at + 1).map(|next| &next.first);
            within.map(|(key, ())| *key).next().is_some_and(|key| next.is_none_or(|next| key < next))
        };
        let chosen: Vec<bool> = (0..blocks.len()).map(may_hold).collect();
        let blocks = blocks.into_iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(block, _)| block).collect();
        Ok(Self { segment, blocks, rows: VecDeque::new() })
    }

    /// The next row, still there to be taken.
    fn peek(&mut self) -> Result<Option<&ProfileKey>, StoreError> {
        while self.rows.is_empty() {
            let Some(block) = self.blocks.pop_front() else { return Ok(None) };
            let packed = self.segment.disk.read_at(&self.segment.path(), block.offset, block.len)?;
            if crc32fast::hash(&packed) != block.checksum {
                return Err(corrupt(self.segment, "the checksum of a block does not fit"));
            }
            let plain = zstd::decode_all(packed.as_slice())?;
            self.rows = rows(&plain).map_err(|error| corrupt(self.segment, &error.to_string()))?;
        }
        Ok(self.rows.front().map(|(key, _)| key))
    }
}

fn blocks(index: &[u8]) -> Result<Vec<Block>, Malformed> {
    let mut reader = Reader { bytes: index };
    let block = |reader: &mut Reader<'_>| {
        let (first, offset, len) = (key(reader)?, reader.varint()?, reader.varint()? as usize);
        Ok(Block { first, offset, len, checksum: reader.u32()? })
    };
    (0..reader.count()?).map(|_| block(&mut reader)).collect()
}

fn rows(plain: &[u8]) -> Result<VecDeque<(ProfileKey, StoredProfile)>, Malformed> {
    let mut reader = Reader { bytes: plain };
    let mut rows = VecDeque::new();
    while !reader.bytes.is_empty() {
        let key = key(&mut reader)?;
        let recent = (0..reader.count()?).map(|_| reader.string()).collect::<Result<Vec<_>, _>>()?;
        let has = reader.varint()?;
        if has & !(HAS_PROFILE | HAS_REMOVED | HAS_GONE_AT) != 0 {
            return Err(Malformed("unknown flags of a profile"));
        }
        let profile = if has & HAS_PROFILE != 0 { Some(Profile { properties: reader.properties(0)? }) } else { None };
        let removed = if has & HAS_REMOVED != 0 { removed(&mut reader)? } else { Removed::default() };
        let gone_at = if has & HAS_GONE_AT != 0 { Some(Timestamp(reader.int()?)) } else { None };
        rows.push_back((key, StoredProfile { folded: Folded { profile, removed }, recent, gone_at }));
    }
    Ok(rows)
}

/// Calls `each` with every profile that is among `keys`, or every one there is, in the order of keys: of segments that have it the last
/// counts, and updates are folded in.
pub(crate) fn read<'u>(
    segments: &[Arc<SegmentFile>],
    updates: impl IntoIterator<Item = &'u ProfileUpdate>,
    keys: Option<&BTreeMap<&ProfileKey, ()>>,
    mut each: impl FnMut(ProfileKey, StoredProfile) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let is_wanted = |key: &ProfileKey| keys.is_none_or(|keys| keys.contains_key(key));
    let mut open: BTreeMap<&ProfileKey, Vec<&ProfileUpdate>> = BTreeMap::new();
    for update in updates.into_iter().filter(|update| is_wanted(&update.key)) {
        open.entry(&update.key).or_default().push(update);
    }
    let mut streams = segments.iter().map(|segment| Stream::open(segment, keys)).collect::<Result<Vec<_>, _>>()?;
    loop {
        let mut least = open.first_key_value().map(|(key, _)| (*key).clone());
        for stream in &mut streams {
            if let Some(key) = stream.peek()?
                && least.as_ref().is_none_or(|least| key < least)
            {
                least = Some(key.clone());
            }
        }
        let Some(key) = least else { return Ok(()) };
        let mut stored = StoredProfile::default();
        for stream in &mut streams {
            if stream.peek()? == Some(&key)
                && let Some((_, newer)) = stream.rows.pop_front()
            {
                stored = newer;
            }
        }
        open.remove(&key).into_iter().flatten().for_each(|update| stored.apply(update));
        if is_wanted(&key) {
            each(key, stored)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use model::Value;

    use super::*;

    /// Bytes that were written before anything was kept: a profile with `n` = 7, and a deleted one that has seen an operation.
    #[test]
    fn rows_of_old_segments_are_read() {
        let bytes = [&[0, 1][..], b"u", &[0, 1, 1, 1], b"n", &[16 + 7, 0, 1], b"v", &[1, 2], b"id", &[0]].concat();
        let profile = Profile { properties: [("n".to_owned(), Value::from(7))].into_iter().collect() };
        let row = |id: &str, profile, recent| {
            let folded = Folded { profile, removed: Removed::default() };
            (ProfileKey::User(id.to_owned()), StoredProfile { folded, recent, gone_at: None })
        };
        assert_eq!(rows(&bytes).unwrap(), [row("u", Some(profile), Vec::new()), row("v", None, vec!["id".to_owned()])]);
    }
}
