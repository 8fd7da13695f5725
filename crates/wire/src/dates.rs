//! Dates, ranges and buckets, cut in a project's time zone.

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, ToSpan};
use model::report::{Buckets, Unit};
use model::{TimeRange, Timestamp};

/// More buckets than these are not worth counting.
pub const BUCKETS_MAX: usize = 100_000;

/// A project's days.
#[derive(Debug, Clone)]
pub struct Calendar {
    /// Its time zone.
    pub zone: TimeZone,
    /// The instant of the request.
    pub now: Timestamp,
    /// The day that its weeks begin on.
    pub week_start: Weekday,
}

/// Reads `YYYY-MM-DD`, unpadded too.
pub fn parse_date(text: &str) -> Result<Date, String> {
    let mut parts = text.trim().split('-');
    let mut next = || parts.next().and_then(|part| part.parse::<i16>().ok());
    let (Some(year), Some(month), Some(day), None) = (next(), next(), next(), parts.next()) else {
        return Err("invalid date, expected YYYY-MM-DD".to_owned());
    };
    if !(2000..=2200).contains(&year) {
        return Err("invalid date, bad year".to_owned());
    }
    Date::new(year, month as i8, day as i8).ok().filter(|_| month <= 12 && day <= 31).ok_or_else(|| "invalid date".to_owned())
}

impl Calendar {
    /// A calendar of the zone with this IANA name; an unknown name is UTC.
    pub fn new(zone: &str, now: Timestamp) -> Self {
        Self { zone: TimeZone::get(zone).unwrap_or(TimeZone::UTC), now, week_start: Weekday::Monday }
    }

    /// The same with weeks that begin on Sunday.
    pub fn with_sunday_weeks(self) -> Self {
        Self { week_start: Weekday::Sunday, ..self }
    }

    /// The date of an instant.
    pub fn date_of(&self, at: Timestamp) -> Date {
        jiff::Timestamp::from_millisecond(at.0).map(|instant| instant.to_zoned(self.zone.clone()).date()).unwrap_or_default()
    }

    /// The first instant of a date.
    pub fn start_of(&self, date: Date) -> Timestamp {
        let zoned = date.to_zoned(self.zone.clone());
        Timestamp(zoned.map(|zoned| zoned.timestamp().as_millisecond()).unwrap_or(0))
    }

    /// Both dates and all between.
    pub fn range(&self, from: Date, to: Date) -> Option<TimeRange> {
        TimeRange::new(self.start_of(from), self.start_of(to.checked_add(1.day()).ok()?)).filter(|_| from <= to)
    }

    /// The buckets that cover two dates, both included. Weeks and months bear the name of their first day.
    pub fn buckets(&self, from: Date, to: Date, unit: Unit) -> Option<Buckets> {
        let range = self.range(from, to)?;
        let mut buckets = Buckets { starts_ms: Vec::new(), end_ms: range.to().0, labels: Vec::new() };
        match unit {
            Unit::Minute | Unit::Hour => {
                let step = SignedDuration::from_mins(if unit == Unit::Hour { 60 } else { 1 });
                let mut at = jiff::Timestamp::from_millisecond(range.from().0).ok()?;
                while at.as_millisecond() < buckets.end_ms {
                    if buckets.starts_ms.len() == BUCKETS_MAX {
                        return None;
                    }
                    // Where clocks go back, an hour comes twice: one name is one bucket, and the second joins the first.
                    let wall = at.to_zoned(self.zone.clone());
                    let label = wall.strftime(if unit == Unit::Hour { "%Y-%m-%d %H:00:00" } else { "%Y-%m-%d %H:%M:00" }).to_string();
                    let is_again = buckets.labels.last().is_some_and(|last| label <= *last);
                    if !(is_again && unit == Unit::Hour) {
                        buckets.starts_ms.push(at.as_millisecond());
                        // A minute that comes again bears its offset too.
                        let is_known = |known: &String| *known == label;
                        let again = is_again || (unit == Unit::Minute && buckets.labels.iter().rev().take(120).any(is_known));
                        buckets.labels.push(if again { format!("{label}{}", wall.strftime("%:z")) } else { label });
                    }
                    // Some clocks move by half an hour: hours begin where the clock says so.
                    let past = if unit == Unit::Hour { i64::from(wall.minute()) * 60 } else { 0 };
                    at = at.checked_add(step - SignedDuration::from_secs(past)).ok()?;
                }
            }
            Unit::Day | Unit::Week | Unit::Month => {
                let mut date = from;
                while date <= to {
                    if buckets.starts_ms.len() == BUCKETS_MAX {
                        return None;
                    }
                    let first = match unit {
                        Unit::Week => {
                            let back = date.weekday().since(self.week_start);
                            date.checked_sub(i64::from(back).days()).ok()?
                        }
                        Unit::Month => date.first_of_month(),
                        _ => date,
                    };
                    buckets.starts_ms.push(self.start_of(date).0);
                    buckets.labels.push(first.to_string());
                    date = match unit {
                        Unit::Week => first.checked_add(7.days()).ok()?,
                        Unit::Month => first.checked_add(1.month()).ok()?,
                        _ => date.checked_add(1.day()).ok()?,
                    };
                }
            }
        }
        Some(buckets)
    }

    /// The buckets of so many days each that cover two dates, both included, counted from the first; the last may be shorter.
    pub fn spans(&self, from: Date, to: Date, days: i64) -> Option<Buckets> {
        let mut buckets = self.buckets(from, to, Unit::Day)?;
        let days = usize::try_from(days).ok()?.max(1);
        buckets.starts_ms = buckets.starts_ms.into_iter().step_by(days).collect();
        buckets.labels = buckets.labels.into_iter().step_by(days).collect();
        Some(buckets)
    }

    /// The dates of the last `interval` units, the current one included.
    pub fn last(&self, interval: i64, unit: Unit) -> Option<(Date, Date)> {
        let today = self.date_of(self.now);
        let back = interval.clamp(1, 100_000) - 1;
        let from = match unit {
            Unit::Minute => self.date_of(self.now.plus_ms(-back * 60_000)),
            Unit::Hour => self.date_of(self.now.plus_ms(-back * 3_600_000)),
            Unit::Day => today.checked_sub(back.days()).ok()?,
            Unit::Week => today.checked_sub((back * 7 + i64::from(today.weekday().since(self.week_start))).days()).ok()?,
            Unit::Month => today.first_of_month().checked_sub(back.months()).ok()?,
        };
        (from.year() >= 2000).then_some((from, today))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_follow_the_clocks_of_the_zone() {
        let berlin = Calendar::new("Europe/Berlin", Timestamp(0));
        let (from, to) = (parse_date("2024-3-30").unwrap(), parse_date("2024-04-01").unwrap());
        let buckets = berlin.buckets(from, to, Unit::Day).unwrap();
        assert_eq!(buckets.labels, ["2024-03-30", "2024-03-31", "2024-04-01"]);
        assert_eq!(buckets.starts_ms[2] - buckets.starts_ms[1], 23 * 3_600_000);
        assert_eq!(berlin.buckets(from, to, Unit::Month).unwrap().labels, ["2024-03-01", "2024-04-01"]);
        assert_eq!(berlin.buckets(from, to, Unit::Week).unwrap().labels, ["2024-03-25", "2024-04-01"]);
    }

    #[test]
    fn an_hour_that_comes_twice_is_one_bucket() {
        let hours = |zone: &str, day: &str| {
            let date = parse_date(day).unwrap();
            Calendar::new(zone, Timestamp(0)).buckets(date, date, Unit::Hour).unwrap()
        };
        let autumn = hours("Europe/Berlin", "2024-10-27");
        assert_eq!(
            (autumn.labels.len(), autumn.labels[2].as_str(), autumn.labels[3].as_str()),
            (24, "2024-10-27 02:00:00", "2024-10-27 03:00:00")
        );
        assert_eq!(autumn.starts_ms[3] - autumn.starts_ms[2], 2 * 3_600_000);
        assert_eq!(hours("Europe/Berlin", "2024-03-31").labels.len(), 23);
        for day in ["2024-04-07", "2024-10-06"] {
            let half = hours("Australia/Lord_Howe", day);
            assert_eq!(half.labels.len(), 24, "{day}");
            assert!(
                half.labels.windows(2).all(|pair| pair[0] < pair[1]) && half.starts_ms.windows(2).all(|pair| pair[0] < pair[1]),
                "{half:?}"
            );
        }
    }

    #[test]
    fn bad_dates_are_named() {
        assert_eq!(parse_date("1999-12-31").unwrap_err(), "invalid date, bad year");
        assert!(parse_date("2020-13-01").is_err() && parse_date("x").is_err() && parse_date("2020-02-30").is_err());
    }
}
