//! Instants and ranges of instants, in milliseconds since the Unix epoch, UTC.

/// An instant in milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(pub i64);

/// One second in milliseconds.
pub const SECOND_MS: i64 = 1_000;
/// One hour in milliseconds.
pub const HOUR_MS: i64 = 3_600 * SECOND_MS;
/// One day in milliseconds.
pub const DAY_MS: i64 = 24 * HOUR_MS;

/// Whether there is a time zone of this IANA name.
pub fn is_zone(name: &str) -> bool {
    jiff::tz::TimeZone::get(name).is_ok()
}

/// Reads `2027-01-31`, `2027-01-31T12:00:00Z` or seconds since the epoch.
pub fn instant(text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Some(Timestamp(seconds.checked_mul(SECOND_MS)?));
    }
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Some(Timestamp(instant.as_millisecond()));
    }
    let date: jiff::civil::Date = text.parse().ok()?;
    Some(Timestamp(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond()))
}

/// Reads a length of time, such as `7d`, `12h`, `30m` or `45s`, in milliseconds.
pub fn length_ms(text: &str) -> Option<i64> {
    let unit = match text.chars().next_back()? {
        'd' => DAY_MS,
        'h' => HOUR_MS,
        'm' => 60 * SECOND_MS,
        's' => SECOND_MS,
        _ => return None,
    };
    let number: i64 = text[..text.len() - 1].parse().ok()?;
    number.checked_mul(unit).filter(|ms| *ms >= 0)
}

/// An instant as HTTP writes it (RFC 9110 5.6.7).
pub fn http_date(at: Timestamp) -> String {
    let instant = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    instant.to_zoned(jiff::tz::TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

impl Timestamp {
    /// The instant in whole seconds, rounded towards the past.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(SECOND_MS)
    }

    /// The instant `ms` later; saturates at the ends of time.
    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// A half-open range of instants: `from` belongs to it, `to` does not. Never `from > to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeRange {
    from: Timestamp,
    to: Timestamp,
}

impl TimeRange {
    /// Everything there is.
    pub const ALL: Self = Self { from: Timestamp(i64::MIN), to: Timestamp(i64::MAX) };

    /// The range from `from` up to, not including, `to`; `None` where `from` lies behind `to`.
    pub fn new(from: Timestamp, to: Timestamp) -> Option<Self> {
        (from <= to).then_some(Self { from, to })
    }

    /// The first instant of the range.
    pub fn from(self) -> Timestamp {
        self.from
    }

    /// The first instant behind the range.
    pub fn to(self) -> Timestamp {
        self.to
    }

    /// Whether `at` lies in the range.
    pub fn contains(self, at: Timestamp) -> bool {
        self.from <= at && at < self.to
    }
}
