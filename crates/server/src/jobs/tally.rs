//! What became of the records of an import, by the UTC day of their time, and what is stored of these days now.

use std::collections::BTreeMap;

use model::report::Buckets;
use model::{ProjectId, time::DAY_MS};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::jobs::Stop;

/// What became of the records of one day, or of the profiles.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Counts {
    /// Records that the source gave.
    pub source: u64,
    /// Records that were taken.
    pub imported: u64,
    /// Records among those that came before with the same event, user, time and `$insert_id`: they count once.
    pub duplicates: u64,
    /// Records that were not taken, by reason.
    #[serde(default)]
    pub refused: BTreeMap<String, u64>,
}

/// Reasons that are told apart.
const REASONS_MAX: usize = 50;

impl Counts {
    /// Notes a record that was not taken.
    pub(crate) fn refuse(&mut self, reason: &str) {
        self.source += 1;
        let known = self.refused.contains_key(reason) || self.refused.len() < REASONS_MAX;
        *self.refused.entry(if known { reason } else { "other reasons" }.to_owned()).or_default() += 1;
    }

    fn add(&mut self, other: &Self) {
        self.source += other.source;
        self.imported += other.imported;
        self.duplicates += other.duplicates;
        for (reason, count) in &other.refused {
            *self.refused.entry(reason.clone()).or_default() += count;
        }
    }
}

/// What became of the records of a piece.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Events by UTC day.
    pub days: BTreeMap<String, Counts>,
    /// Profiles of users and groups.
    pub profiles: Counts,
    /// Records without a time, or that are neither.
    pub others: Counts,
}

impl Tally {
    /// Takes what became of another piece.
    pub(crate) fn add(&mut self, other: &Self) {
        for (day, counts) in &other.days {
            self.days.entry(day.clone()).or_default().add(counts);
        }
        self.profiles.add(&other.profiles);
        self.others.add(&other.others);
    }

    /// Records that were not taken.
    pub(crate) fn refused(&self) -> u64 {
        let all = self.days.values().chain([&self.profiles, &self.others]);
        all.flat_map(|counts| counts.refused.values()).sum()
    }
}

/// A line of the table that an import ends with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Line {
    /// The UTC day, `profiles`, or `no time`.
    pub day: String,
    #[serde(flatten)]
    pub counts: Counts,
    /// What is stored of the day now, each event once, as reports count it.
    pub stored: Option<u64>,
    /// `stored` less what was imported once: 0 where nothing is missing and nobody else sent events of that day.
    pub difference: Option<i64>,
}

/// What came of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Outcome {
    /// A line a day.
    pub days: Vec<Line>,
    /// The folder with the records that were not taken and the reason of each, below the data directory; nothing where all were taken.
    pub rejects: Option<String>,
}

impl Outcome {
    /// Compares what became of the records with what is stored now.
    pub(crate) fn of(app: &App, project: ProjectId, tally: &Tally) -> Result<Self, Stop> {
        let mut lines = Vec::new();
        let stored = stored(app, project, tally)?;
        let line = |day: &str, counts: &Counts, stored: Option<u64>| {
            let once = counts.imported as i64 - counts.duplicates as i64;
            Line { day: day.to_owned(), counts: counts.clone(), stored, difference: stored.map(|stored| stored as i64 - once) }
        };
        for (day, counts) in &tally.days {
            lines.push(line(day, counts, Some(stored.get(day).copied().unwrap_or_default())));
        }
        if tally.others.source > 0 {
            lines.push(line("no time", &tally.others, None));
        }
        if tally.profiles.source > 0 {
            let mut profiles = 0;
            app.store.snapshot(project)?.each_profile_of_any_kind(|_, _| {
                profiles += 1;
                true
            })?;
            lines.push(line("profiles", &tally.profiles, Some(profiles)));
        }
        Ok(Self { days: lines, rejects: None })
    }
}

/// Events by UTC day, from the first to the last that a tally has.
fn stored(app: &App, project: ProjectId, tally: &Tally) -> Result<BTreeMap<String, u64>, Stop> {
    let start = |day: &String| model::time::instant(day).map(|at| at.0);
    let (Some(first), Some(last)) = (tally.days.keys().next().and_then(start), tally.days.keys().next_back().and_then(start)) else {
        return Ok(BTreeMap::new());
    };
    let starts_ms: Vec<i64> = (0..=(last - first) / DAY_MS).map(|day| first + day * DAY_MS).collect();
    let labels: Vec<String> = starts_ms.iter().map(|start| wire::archive::day_of(model::Timestamp(*start))).collect();
    let buckets = Buckets { starts_ms, end_ms: last + DAY_MS, labels };
    let counts = app.engine.counts(project, &buckets).map_err(|error| Stop::Failed(error.to_string()))?;
    Ok(buckets.labels.into_iter().zip(counts).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_apart_up_to_a_bound() {
        let mut counts = Counts::default();
        (0..100).for_each(|number| counts.refuse(&format!("reason {number}")));
        assert_eq!((counts.source, counts.refused.len(), counts.refused["other reasons"]), (100, REASONS_MAX + 1, 50));
    }

    #[test]
    fn pieces_add_up_by_day() {
        let mut day = Counts { source: 3, imported: 2, duplicates: 1, ..Counts::default() };
        day.refused.insert("not JSON".to_owned(), 1);
        let piece = Tally { days: BTreeMap::from([("2024-01-01".to_owned(), day)]), ..Tally::default() };
        let mut all = Tally::default();
        all.add(&piece);
        all.add(&piece);
        assert_eq!((all.days["2024-01-01"].source, all.days["2024-01-01"].imported, all.refused()), (6, 4, 2));
    }
}
