//! The bytes of a simulated file: what its reader sees, what is on the platter, and what of the difference survives a crash.

use std::ops::Range;

const PAGE_BYTES: usize = 4096;

/// What a file holds for its reader, and what of it is on the platter.
#[derive(Default, Clone)]
pub(super) struct Content {
    pub seen: Vec<u8>,
    pub synced: Vec<u8>,
    /// What a failed sync left behind: the system takes it for synced.
    forgotten: Vec<Range<usize>>,
}

impl Content {
    /// Makes everything durable up to a length, but for what was forgotten.
    pub(super) fn sync(&mut self, end: usize) {
        let end = end.min(self.seen.len());
        let mut bytes = self.seen[..end].to_vec();
        if end < self.seen.len() {
            bytes.extend_from_slice(self.synced.get(end..).unwrap_or_default());
        }
        for at in self.forgotten.iter().cloned().flatten().filter(|at| *at < end) {
            bytes[at] = self.synced.get(at).copied().unwrap_or(0);
        }
        self.synced = bytes;
    }

    /// What is not durable now will never be.
    pub(super) fn forget(&mut self) {
        let same = self.seen.iter().zip(&self.synced).take_while(|(seen, synced)| seen == synced).count();
        self.forgotten.push(same..self.seen.len());
    }

    pub(super) fn survive(&mut self, mood: u64, chance: &mut Chance) {
        if !self.forgotten.is_empty() {
            // What stands in memory only is gone whatever the mood.
            let durable = self.synced.clone();
            self.sync(self.seen.len());
            self.seen = std::mem::replace(&mut self.synced, durable);
            self.forgotten.clear();
        }
        if self.seen == self.synced {
            return;
        }
        if mood == 0 {
            self.synced = self.seen.clone();
            return;
        }
        if mood == 1 {
            self.seen = self.synced.clone();
            return;
        }
        // The length is one thing on the platter: old, new, or, while a file grows, anything between.
        let (old_len, new_len) = (self.synced.len(), self.seen.len());
        let len = match chance.below(3) {
            0 => old_len,
            1 => new_len,
            _ => old_len.min(new_len) + chance.below(old_len.abs_diff(new_len) as u64 + 1) as usize,
        };
        let mut bytes = vec![0; len];
        for start in (0..len).step_by(PAGE_BYTES) {
            let end = (start + PAGE_BYTES).min(len);
            let old = page(&self.synced, start, end);
            let new = page(&self.seen, start, end);
            let torn_at = match chance.below(4) {
                _ if old == new => end,
                0 => start,
                1 | 2 => end,
                _ => start + chance.below((end - start) as u64 + 1) as usize,
            };
            for (at, byte) in bytes[start..end].iter_mut().enumerate() {
                let source = if start + at < torn_at { new } else { old };
                // A byte that neither holds reads as zero: a hole.
                *byte = source.get(at).copied().unwrap_or(0);
            }
        }
        self.seen = bytes.clone();
        self.synced = bytes;
    }
}

fn page(bytes: &[u8], start: usize, end: usize) -> &[u8] {
    &bytes[start.min(bytes.len())..end.min(bytes.len())]
}

/// A small generator of even chances (splitmix64), so that a seed names a survival for ever.
pub(super) struct Chance(pub u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
