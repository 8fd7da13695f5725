//! What was not stored as it was sent, and tokens that nobody owns: counted in memory, written now and then. No request waits for it, and
//! what clients are answered does not change. What is not written yet when the process is killed is not counted.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use metastore::{
    CredentialTable, MetaError, Metastore, OTHER_TOKENS, REJECTION_SAMPLES_MAX, RejectionCount, RejectionSample, UnknownToken,
};
use model::time::DAY_MS;
use model::{ProjectId, Reason, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use crate::notes::{self, Notes};
use crate::views::{self, day_of, shown_day};

/// What was counted and not written yet.
#[derive(Default)]
pub(crate) struct Rejections {
    pending: Mutex<Pending>,
    unknown_total: AtomicU64,
}

#[derive(Default)]
struct Pending {
    counts: HashMap<(ProjectId, i64, Reason), (u64, Timestamp)>,
    samples: HashMap<(ProjectId, Reason), VecDeque<RejectionSample>>,
    tokens: HashMap<String, (Timestamp, Timestamp, u64)>,
}

/// Unknown tokens that are told apart between two writes.
const TOKENS_MAX: usize = 1000;

impl Rejections {
    /// Counts what a request's records met. Samples are made only where there are few of their reason since the last write.
    pub(crate) fn note(&self, notes: &Notes, table: &CredentialTable, now: Timestamp) {
        if notes.is_empty() {
            return;
        }
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        for note in notes.iter() {
            let (count, last_at) = pending.counts.entry((note.project, day_of(now), note.reason)).or_insert((0, now));
            (*count, *last_at) = (*count + note.count, now);
            let samples = pending.samples.entry((note.project, note.reason)).or_default();
            for (field, record) in note.samples.iter().take(REJECTION_SAMPLES_MAX.saturating_sub(samples.len())) {
                let record = record.as_ref().map(|record| notes::shown(table, record, now)).unwrap_or_default();
                samples.push_back(RejectionSample { at: now, field: wire::error::cleared(field), record });
            }
        }
    }

    /// Counts a record whose token nobody owns.
    pub(crate) fn note_unknown(&self, token: &str, now: Timestamp) {
        self.unknown_total.fetch_add(1, Ordering::Relaxed);
        let name = token_shown(token);
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        // A stranger must not be able to fill memory with names.
        let has_room = pending.tokens.len() < TOKENS_MAX || pending.tokens.contains_key(&name);
        let name = if has_room { name } else { OTHER_TOKENS.to_owned() };
        let (_, last_at, count) = pending.tokens.entry(name).or_insert((now, now, 0));
        (*last_at, *count) = (now, *count + 1);
    }

    /// Records of unknown tokens since the start.
    pub(crate) fn unknown_total(&self) -> u64 {
        self.unknown_total.load(Ordering::Relaxed)
    }

    /// Writes what was counted. What cannot be written is kept and tried again.
    pub(crate) fn write(&self, metastore: &Metastore, now: Timestamp) -> Result<(), MetaError> {
        let Pending { counts, samples, tokens } = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        let outcome = write_rejections(metastore, &counts, &samples, now).and_then(|()| write_tokens(metastore, &tokens));
        if outcome.is_err() {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, (count, last_at)) in counts {
                pending.counts.entry(key).or_insert((0, last_at)).0 += count;
            }
            for (name, (first_at, last_at, count)) in tokens {
                let entry = pending.tokens.entry(name).or_insert((first_at, last_at, 0));
                (entry.0, entry.2) = (first_at, entry.2 + count);
            }
        }
        outcome
    }
}

type Counts = HashMap<(ProjectId, i64, Reason), (u64, Timestamp)>;
type Samples = HashMap<(ProjectId, Reason), VecDeque<RejectionSample>>;

fn write_rejections(metastore: &Metastore, counts: &Counts, samples: &Samples, now: Timestamp) -> Result<(), MetaError> {
    if counts.is_empty() {
        return Ok(());
    }
    let row = |(&(project, day, reason), &(count, last_at))| RejectionCount { project, day, reason, count, last_at };
    let counts: Vec<_> = counts.iter().map(row).collect();
    let of = |(&(project, reason), samples): (&(ProjectId, Reason), &VecDeque<RejectionSample>)| {
        samples.iter().map(|sample| (project, reason, sample.clone())).collect::<Vec<_>>()
    };
    let samples: Vec<_> = samples.iter().flat_map(of).collect();
    metastore.add_rejections(&counts, &samples, day_of(now))
}

fn write_tokens(metastore: &Metastore, tokens: &HashMap<String, (Timestamp, Timestamp, u64)>) -> Result<(), MetaError> {
    if tokens.is_empty() {
        return Ok(());
    }
    let row = |(name, (first_at, last_at, count)): (&String, &(Timestamp, Timestamp, u64))| UnknownToken {
        name: name.clone(),
        first_at: *first_at,
        last_at: *last_at,
        count: *count,
    };
    metastore.add_unknown_tokens(&tokens.iter().map(row).collect::<Vec<_>>())
}

/// What is listed of a token that nobody owns: its last 4 characters. The rest may be a secret or a password in the wrong place.
fn token_shown(token: &str) -> String {
    let length = token.chars().count();
    let end = token.chars().skip(length.saturating_sub(4)).filter(|char| !char.is_control());
    let hidden = if length > 4 { "…" } else { "" };
    hidden.chars().chain(end).collect()
}

/// How often something happened on a day for a reason.
#[derive(Serialize, JsonSchema)]
pub(crate) struct DayCount {
    /// In UTC.
    pub day: String,
    /// Why.
    pub reason: &'static str,
    /// What became of the records: rejected, dropped or changed.
    pub outcome: &'static str,
    /// What happened, and what to change at the sender.
    pub help: &'static str,
    /// How many records.
    pub count: u64,
    pub last_seen_at: String,
}

/// A record that was not stored as it was sent.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Sample {
    pub at: String,
    pub reason: &'static str,
    /// Which of its fields was at fault.
    pub field: String,
    /// The record as JSON text, cut where it is long, with `…` in the place of tokens, addresses and what may be a secret; empty where a
    /// secret stood in it.
    pub record: String,
}

/// What of a project's records was not stored as it was sent.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Rejected {
    /// By day and reason, the newest day first.
    pub counts: Vec<DayCount>,
    /// The newest records of each reason, whatever day they are of.
    pub samples: Vec<Sample>,
}

impl Rejected {
    /// What was written of a project, of the days from one to another.
    pub(crate) fn of(metastore: &Metastore, project: ProjectId, from: i64, to: i64) -> Result<Self, MetaError> {
        let count = |row: RejectionCount| DayCount {
            day: shown_day(row.day),
            reason: row.reason.as_str(),
            outcome: row.reason.outcome().as_str(),
            help: row.reason.help(),
            count: row.count,
            last_seen_at: views::shown(row.last_at),
        };
        let sample = |(reason, sample): (Reason, RejectionSample)| Sample {
            at: views::shown(sample.at),
            reason: reason.as_str(),
            field: sample.field,
            record: sample.record,
        };
        Ok(Self {
            counts: metastore.rejections(project, from, to)?.into_iter().map(count).collect(),
            samples: metastore.rejection_samples(project)?.into_iter().map(sample).collect(),
        })
    }
}

/// The days that are asked for, in days of UTC; by default the last 30.
pub(crate) fn days(from: Option<&str>, to: Option<&str>, now: Timestamp) -> Result<(i64, i64), MetaError> {
    let day = |text: Option<&str>, default: i64| -> Result<i64, MetaError> { Ok(views::instant(text)?.map_or(default, day_of)) };
    Ok((day(from, day_of(now.plus_ms(-29 * DAY_MS)))?, day(to, day_of(now))?))
}

/// A token that nobody owns.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Unknown {
    /// The token, or `…` and its last characters where it is long or may be a secret; empty for records without one, `others` for what came
    /// beyond a thousand.
    pub token: String,
    pub first_seen_at: String,
    pub last_seen_at: String,
    /// How many records named it.
    pub count: u64,
}

impl Unknown {
    /// What was written, the last to come first.
    pub(crate) fn all(metastore: &Metastore) -> Result<Vec<Self>, MetaError> {
        let row = |row: UnknownToken| Self {
            token: row.name,
            first_seen_at: views::shown(row.first_at),
            last_seen_at: views::shown(row.last_at),
            count: row.count,
        };
        Ok(metastore.unknown_tokens()?.into_iter().map(row).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_by_its_end() {
        for (token, shown) in [
            ("YOUR_TOKEN", "…OKEN"),
            ("", ""),
            ("T", "T"),
            ("0123456789abcdef0123456789abcdef", "…cdef"),
            ("slcs_x", "…cs_x"),
            ("a\u{7}b", "ab"),
            (&"y".repeat(41), "…yyyy"),
        ] {
            assert_eq!(token_shown(token), shown);
        }
    }

    #[test]
    fn unknown_tokens_do_not_fill_memory() {
        let rejections = Rejections::default();
        (0..3000).for_each(|at| rejections.note_unknown(&format!("t{at}"), Timestamp(at)));
        let pending = rejections.pending.lock().unwrap();
        assert_eq!(pending.tokens.len(), TOKENS_MAX + 1);
        assert_eq!(pending.tokens[OTHER_TOKENS], (Timestamp(1000), Timestamp(2999), 2000));
        assert_eq!(rejections.unknown_total(), 3000);
    }
}
