//! Duplicates: one event sent twice counts once (`contract/write.md` 2.4).
//!
//! The key is (event, id, time, insert_id), hashed to 128 bits under the project's key. Each segment keeps a filter of its keys and the
//! list of keys that are known to repeat or may. An arriving event whose key stands in the tail, or passes the filter of a segment that
//! covers its time, joins that list. A scan holds back the rows of listed keys and yields the winner of each at its end: the
//! newest authenticated row, else the newest public one. Nothing is rewritten, and an export can still yield every row.

use model::Event;
use rustc_hash::FxHashSet;
use sha2::{Digest, Sha256};

/// The key of an event.
pub(crate) type Key = u128;

/// A set of keys.
pub(crate) type Keys = FxHashSet<Key>;

/// Hashes text under a project's key.
pub(crate) fn hash(project_key: &[u8; 16], parts: &[&[u8]]) -> u128 {
    let mut sha = Sha256::new_with_prefix(project_key);
    for part in parts {
        sha.update((part.len() as u64).to_le_bytes());
        sha.update(part);
    }
    let digest = sha.finalize();
    u128::from_be_bytes(digest[..16].try_into().expect("a digest has 32 bytes"))
}

/// The key of an event.
pub(crate) fn key(project_key: &[u8; 16], event: &Event) -> Key {
    hash(project_key, &[event.name.as_bytes(), event.distinct_id.as_bytes(), &event.time.0.to_le_bytes(), event.insert_id.as_bytes()])
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

    /// Filter and repeated keys as the bytes of a file.
    pub(crate) fn to_bytes(&self, repeated: &Keys) -> Vec<u8> {
        let mut bytes = (self.words.len() as u64).to_le_bytes().to_vec();
        self.words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        repeated.iter().for_each(|key| bytes.extend(key.to_le_bytes()));
        let checksum = crc32fast::hash(&bytes);
        bytes.extend(checksum.to_le_bytes());
        bytes
    }

    /// Reads such a file back; `None` where it is damaged.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<(Self, Keys)> {
        let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if crc32fast::hash(body).to_le_bytes() != checksum {
            return None;
        }
        let (count, rest) = body.split_at_checked(8)?;
        let count = u64::from_le_bytes(count.try_into().ok()?) as usize;
        let (words, keys) = rest.split_at_checked(count.checked_mul(8)?)?;
        let words = words.chunks_exact(8).filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?))).collect();
        let keys = keys.chunks_exact(16).filter_map(|key| Some(u128::from_le_bytes(key.try_into().ok()?))).collect();
        Some((Self { words }, keys))
    }
}
