//! Counts and distinct users by key and bucket: what the threads of a report fold into, and how their states become one.

use model::report::{Buckets, Counting};
use rustc_hash::FxHashMap;

/// Counts of several keys.
pub(crate) struct Tallies {
    buckets: usize,
    with_users: bool,
    places: FxHashMap<String, usize>,
    tallies: Vec<Tally>,
}

/// What one key counted.
pub(crate) struct Tally {
    counts: Vec<u64>,
    users: Users,
}

/// Which users stand in which buckets: a row of bits per user.
#[derive(Default)]
struct Users {
    places: FxHashMap<u128, u32>,
    bits: Vec<u64>,
    /// The rows of one user mostly come together.
    last: Option<(u128, usize)>,
}

impl Users {
    /// Where a user's bits begin.
    fn place(&mut self, user: u128, words: usize) -> usize {
        if let Some((last, place)) = self.last
            && last == user
        {
            return place;
        }
        let next = self.places.len() as u32;
        let place = *self.places.entry(user).or_insert(next) as usize * words;
        if place == self.bits.len() {
            self.bits.resize(place + words, 0);
        }
        self.last = Some((user, place));
        place
    }
}

impl Tallies {
    pub(crate) fn new(buckets: usize, counting: Counting) -> Self {
        Self { buckets, with_users: counting != Counting::General, places: FxHashMap::default(), tallies: Vec::new() }
    }

    fn words(&self) -> usize {
        self.buckets.div_ceil(64)
    }

    /// How much memory the counts take, in words of 8 bytes.
    pub(crate) fn words_held(&self) -> usize {
        self.tallies.len() * (self.buckets + 16) + self.tallies.iter().map(|tally| tally.users.bits.len()).sum::<usize>()
    }

    /// The place of a key's tally, made where there is none.
    pub(crate) fn place(&mut self, key: &str) -> usize {
        if let Some(place) = self.places.get(key) {
            return *place;
        }
        self.tallies.push(Tally { counts: vec![0; self.buckets], users: Users::default() });
        self.places.insert(key.to_owned(), self.tallies.len() - 1);
        self.tallies.len() - 1
    }

    /// Counts a row; `user` is `None` where nobody did it.
    pub(crate) fn add(&mut self, place: usize, bucket: usize, user: Option<u128>) {
        let words = self.words();
        let tally = &mut self.tallies[place];
        tally.counts[bucket] += 1;
        if let Some(user) = user.filter(|_| self.with_users) {
            let at = tally.users.place(user, words);
            tally.users.bits[at + bucket / 64] |= 1 << (bucket % 64);
        }
    }

    /// All states as one.
    pub(crate) fn merged(states: Vec<Self>) -> Option<Self> {
        let mut states = states.into_iter();
        let mut all = states.next()?;
        let words = all.words();
        for state in states {
            for (key, place) in state.places {
                let into = all.place(&key);
                let (tally, from) = (&mut all.tallies[into], &state.tallies[place]);
                tally.counts.iter_mut().zip(&from.counts).for_each(|(sum, count)| *sum += count);
                for (user, place) in &from.users.places {
                    let (to, from_at) = (tally.users.place(*user, words), *place as usize * words);
                    for word in 0..words {
                        tally.users.bits[to + word] |= from.users.bits[from_at + word];
                    }
                }
            }
        }
        Some(all)
    }

    /// Every key and its tally.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Tally)> {
        self.places.iter().map(|(key, place)| (key, &self.tallies[*place]))
    }

    /// A key's numbers by bucket; zeros where it was never met.
    pub(crate) fn numbers(&self, key: &str, counting: Counting) -> Vec<f64> {
        match self.places.get(key) {
            Some(place) => self.tallies[*place].numbers(counting),
            None => vec![0.0; self.buckets],
        }
    }
}

impl Tally {
    /// Events in all buckets.
    pub(crate) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Numbers by bucket.
    pub(crate) fn numbers(&self, counting: Counting) -> Vec<f64> {
        let counts = self.counts.iter().map(|count| *count as f64);
        match counting {
            Counting::General => counts.collect(),
            Counting::Unique => self.distinct().into_iter().map(|users| users as f64).collect(),
            Counting::Average => {
                counts.zip(self.distinct()).map(|(count, users)| if users == 0 { 0.0 } else { count / users as f64 }).collect()
            }
        }
    }

    /// Distinct users by bucket.
    fn distinct(&self) -> Vec<u64> {
        let words = self.counts.len().div_ceil(64);
        let mut distinct = vec![0; self.counts.len()];
        for user in self.users.bits.chunks_exact(words.max(1)) {
            for (word, bits) in user.iter().enumerate() {
                let mut bits = *bits;
                while bits != 0 {
                    distinct[word * 64 + bits.trailing_zeros() as usize] += 1;
                    bits &= bits - 1;
                }
            }
        }
        distinct
    }
}

/// Finds buckets of instants; most rows fall into the bucket of the row before.
pub(crate) struct BucketOf<'b> {
    buckets: &'b Buckets,
    from: i64,
    to: i64,
    index: usize,
}

impl<'b> BucketOf<'b> {
    pub(crate) fn new(buckets: &'b Buckets) -> Self {
        Self { buckets, from: 0, to: 0, index: 0 }
    }

    pub(crate) fn find(&mut self, time_ms: i64) -> Option<usize> {
        if !(self.from..self.to).contains(&time_ms) {
            self.index = self.buckets.index_of(time_ms)?;
            self.from = self.buckets.starts_ms[self.index];
            self.to = self.buckets.starts_ms.get(self.index + 1).copied().unwrap_or(self.buckets.end_ms);
        }
        Some(self.index)
    }
}
