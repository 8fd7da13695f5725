//! What a reader asks: one type per report, already checked (`contract/read.md` 3).
//! Days are in the project's time zone; ranges of instants are cut from them before a report is made.

use crate::filter::Expr;
use crate::time::TimeRange;

/// How to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// Events.
    General,
    /// Distinct users per bucket.
    Unique,
    /// Events per distinct user and bucket; 0 where there are none.
    Average,
}

/// The length of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Minutes.
    Minute,
    /// Hours.
    Hour,
    /// Days of the project's time zone.
    Day,
    /// Weeks, labelled by their first day.
    Week,
    /// Months, labelled by their first day.
    Month,
}

/// The buckets of a report: `label[i]` covers `start[i] .. start[i + 1]`; the last ends at `end`.
/// Buckets are ascending, adjoining, and cut in the project's time zone by the parser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buckets {
    /// First instant of each bucket, milliseconds.
    pub starts_ms: Vec<i64>,
    /// First instant behind the last bucket, milliseconds.
    pub end_ms: i64,
    /// The key of each bucket in the answer.
    pub labels: Vec<String>,
}

impl Buckets {
    /// Everything the buckets cover.
    pub fn range(&self) -> TimeRange {
        let from = self.starts_ms.first().copied().unwrap_or(self.end_ms);
        TimeRange::new(crate::Timestamp(from), crate::Timestamp(self.end_ms)).unwrap_or(TimeRange::ALL)
    }

    /// The bucket of an instant.
    pub fn index_of(&self, time_ms: i64) -> Option<usize> {
        if time_ms >= self.end_ms {
            return None;
        }
        self.starts_ms.partition_point(|start| *start <= time_ms).checked_sub(1)
    }
}

/// `export`: raw events.
#[derive(Debug, Clone, PartialEq)]
pub struct Export {
    /// Which instants.
    pub range: TimeRange,
    /// Which events; `None` means all.
    pub events: Option<Vec<String>>,
    /// Which rows; `None` means all.
    pub filter: Option<Expr>,
    /// At most this many lines.
    pub limit: Option<usize>,
    /// `time` in milliseconds rather than seconds.
    pub time_in_ms: bool,
    /// Drops duplicates as reports do (`dedup=1`).
    pub dedup: bool,
}

/// `events` and `segmentation`: counts over time, one series per event or per value of `on`.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The events, in the order in which they were asked.
    pub events: Vec<String>,
    /// The buckets.
    pub buckets: Buckets,
    /// How to count.
    pub counting: Counting,
    /// Which rows.
    pub filter: Option<Expr>,
    /// Splits one event by the values of an expression.
    pub breakdown: Option<Breakdown>,
}

/// A split by value.
#[derive(Debug, Clone, PartialEq)]
pub struct Breakdown {
    /// The expression whose values split.
    pub on: Expr,
    /// Only these values (as text), in this order; `None` means the top `limit` by total.
    pub values: Option<Vec<String>>,
    /// At most this many values.
    pub limit: usize,
    /// Rounds numbers into this many ranges at most (`segmentation/numeric`).
    pub ranges_max: Option<usize>,
}

/// `segmentation/sum` and `segmentation/average`.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// The event.
    pub event: String,
    /// The buckets.
    pub buckets: Buckets,
    /// What is summed or averaged; non-numbers count 0.0.
    pub on: Expr,
    /// Which rows.
    pub filter: Option<Expr>,
    /// Divides by the number of events.
    pub average: bool,
}

/// `events/top`: today's volume beside the same part of yesterday.
#[derive(Debug, Clone, PartialEq)]
pub struct TopEvents {
    /// From today's first instant to now.
    pub today: TimeRange,
    /// The same part of yesterday.
    pub yesterday: TimeRange,
    /// How to count.
    pub counting: Counting,
    /// At most this many events.
    pub limit: usize,
}

/// `events/names`: event names by volume.
#[derive(Debug, Clone, PartialEq)]
pub struct EventNames {
    /// Which instants.
    pub range: TimeRange,
    /// How to count.
    pub counting: Counting,
    /// At most this many names.
    pub limit: usize,
}

/// `events/properties/top`: how many events carry each property.
#[derive(Debug, Clone, PartialEq)]
pub struct TopProperties {
    /// The event; `None` means all.
    pub event: Option<String>,
    /// Which instants.
    pub range: TimeRange,
    /// At most this many properties.
    pub limit: usize,
}

/// `events/properties/values`: the values of one property, most frequent first.
#[derive(Debug, Clone, PartialEq)]
pub struct PropertyValues {
    /// The event; `None` means all.
    pub event: Option<String>,
    /// The property.
    pub name: String,
    /// Which instants.
    pub range: TimeRange,
    /// At most this many values.
    pub limit: usize,
}

/// `engage`: profiles.
#[derive(Debug, Clone, PartialEq)]
pub struct Engage {
    /// Which profiles.
    pub filter: Option<Expr>,
    /// Only these users.
    pub distinct_ids: Option<Vec<String>>,
    /// Only these properties; `None` means all.
    pub output_properties: Option<Vec<String>>,
    /// Which group type to read; `None` means users.
    pub group_key: Option<String>,
    /// The session whose snapshot is read, required beyond page 0.
    pub session_id: Option<String>,
    /// The page, from 0.
    pub page: usize,
    /// Rows a page.
    pub page_size: usize,
    /// The order, by a property's value.
    pub sort: Option<Sort>,
    /// Only profiles with a property whose text holds this, ignoring case.
    pub search: Option<String>,
}

/// An order by value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sort {
    /// What to sort by.
    pub by: Expr,
    /// Largest first.
    pub descending: bool,
}

/// Answer to [`Series`]: one row per event or value, one number per bucket.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SeriesAnswer {
    /// Key and numbers (`numbers.len()` = number of buckets); for events in the order asked, for a breakdown by total, largest first.
    pub series: Vec<(String, Vec<f64>)>,
}

/// Answer to [`Aggregate`]: one number per bucket.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AggregateAnswer {
    /// One number per bucket; `None` where no event fell into it.
    pub numbers: Vec<Option<f64>>,
}

/// Answer to [`TopEvents`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TopEventsAnswer {
    /// Event, today's amount, yesterday's amount in the same part of the day; by today's amount, largest first.
    pub events: Vec<(String, f64, f64)>,
}

/// Answer to [`EventNames`], [`TopProperties`] and [`PropertyValues`]: words by volume.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RankedAnswer {
    /// Word and volume; largest volume first, ties by word.
    pub ranked: Vec<(String, u64)>,
}

/// Answer to [`Engage`].
#[derive(Debug, Clone, PartialEq)]
pub struct EngageAnswer {
    /// `$distinct_id` (or group id) and properties.
    pub rows: Vec<(String, crate::value::Properties)>,
    /// The page that was asked.
    pub page: usize,
    /// Rows a page.
    pub page_size: usize,
    /// Rows in all pages.
    pub total: usize,
    /// Names the pinned snapshot for further pages.
    pub session_id: String,
    /// When the snapshot was taken.
    pub computed_at: crate::Timestamp,
}
