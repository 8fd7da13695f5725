//! `segmentation` and `events`: counts over time (`contract/read.md` 3.5, 3.6), and what their parameters share.

use jiff::civil::Date;
use model::filter::Expr;
use model::report::{Aggregate, AggregateAnswer, Breakdown, Buckets, Counting, EventNames, RankedAnswer, Series, SeriesAnswer, Unit};
use model::{TimeRange, Timestamp, Value};

use crate::dates::{Calendar, parse_date};
use crate::params::Params;
use crate::{expression, json};

/// What `segmentation` and its relatives know.
pub const PARAMETERS: &[&str] = &["event", "from_date", "to_date", "on", "unit", "interval", "where", "limit", "type", "buckets"];
/// What `events` and `events/names` know.
pub const EVENTS_PARAMETERS: &[&str] = &["event", "type", "unit", "interval", "from_date", "to_date", "limit"];

/// A parameter that must be there.
pub fn required<'a>(params: &'a Params, name: &str) -> Result<&'a str, String> {
    params.filled(name).ok_or_else(|| format!("Missing required parameter: {name}"))
}

/// Both dates.
pub fn dates(params: &Params) -> Result<(Date, Date), String> {
    let date = |name: &str| parse_date(required(params, name)?).map_err(|error| format!("Error in {name}: {error}"));
    let (from, to) = (date("from_date")?, date("to_date")?);
    if from > to { Err("from_date must not be later than to_date".to_owned()) } else { Ok((from, to)) }
}

/// A positive number up to `max`.
pub fn count(params: &Params, name: &str, max: usize) -> Result<Option<usize>, String> {
    let Some(text) = params.filled(name) else { return Ok(None) };
    match text.parse::<usize>() {
        Ok(number) if (1..=max).contains(&number) => Ok(Some(number)),
        _ => Err(format!("invalid {name} `{text}`, expected a number from 1 to {max}")),
    }
}

/// `where`.
pub fn filter(params: &Params) -> Result<Option<Expr>, String> {
    expression_of(params, "where")
}

fn expression_of(params: &Params, name: &str) -> Result<Option<Expr>, String> {
    let parsed = params.filled(name).map(expression::parse).transpose();
    parsed.map_err(|error| format!("Error parsing \"{name}\": {error}"))
}

/// A JSON list of names, or one bare name.
pub fn names(text: &str) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    match json::parse(text) {
        Ok(Value::List(list)) => list.iter().map(crate::track::text_of).filter(|name| seen.insert(name.clone())).collect(),
        Ok(Value::String(name)) => vec![name],
        _ => vec![text.to_owned()],
    }
}

fn unit(params: &Params) -> Result<Unit, String> {
    Ok(match params.filled("unit") {
        None | Some("day") => Unit::Day,
        Some("minute") => Unit::Minute,
        Some("hour") => Unit::Hour,
        Some("week") => Unit::Week,
        Some("month") => Unit::Month,
        Some(other) => return Err(format!("invalid unit `{other}`, expected minute, hour, day, week or month")),
    })
}

/// `type`.
pub fn counting(params: &Params) -> Result<Counting, String> {
    Ok(match params.filled("type") {
        None | Some("general") => Counting::General,
        Some("unique") => Counting::Unique,
        Some("average") => Counting::Average,
        Some(other) => return Err(format!("invalid type `{other}`, expected general, unique or average")),
    })
}

fn no_hourly_uniques(counting: Counting, unit: Unit) -> Result<(), String> {
    let short = matches!(unit, Unit::Hour | Unit::Minute);
    if short && counting == Counting::Unique { Err("type=unique needs a unit of day, week or month".to_owned()) } else { Ok(()) }
}

/// An answer has at most so many numbers.
pub const ANSWER_NUMBERS_MAX: usize = 2_000_000;

const TOO_MANY: &str = "too many buckets: choose a longer unit or a shorter range";

/// Reads `segmentation`.
pub fn parse(params: &Params, calendar: &Calendar) -> Result<Series, String> {
    let event = required(params, "event")?.to_owned();
    let (from, to) = dates(params)?;
    let (unit, counting) = (unit(params)?, counting(params)?);
    no_hourly_uniques(counting, unit)?;
    let limit = count(params, "limit", 10_000)?.unwrap_or(60);
    let on = expression_of(params, "on")?;
    // Days a bucket, in the place of a unit; totals know units only.
    let days = count(params, "interval", 10_000)?.filter(|_| counting != Counting::General && params.filled("unit").is_none());
    let buckets = match days {
        Some(days) => calendar.spans(from, to, days as i64),
        None => calendar.buckets(from, to, unit),
    };
    Ok(Series {
        events: vec![event],
        buckets: buckets.ok_or(TOO_MANY)?,
        counting,
        filter: filter(params)?,
        breakdown: on.map(|on| Breakdown { on, values: None, limit, ranges_max: None }),
    })
}

/// Reads `segmentation/sum` and `segmentation/average`.
pub fn parse_aggregate(params: &Params, calendar: &Calendar, average: bool) -> Result<Aggregate, String> {
    let event = required(params, "event")?.to_owned();
    let (from, to) = dates(params)?;
    required(params, "on")?;
    Ok(Aggregate {
        event,
        buckets: calendar.buckets(from, to, unit(params)?).ok_or(TOO_MANY)?,
        on: expression_of(params, "on")?.unwrap_or(Expr::Undefined),
        filter: filter(params)?,
        average,
    })
}

/// Reads `segmentation/numeric`: one event, split into ranges of a number.
pub fn parse_numeric(params: &Params, calendar: &Calendar) -> Result<Series, String> {
    required(params, "on")?;
    let ranges_max = count(params, "buckets", 100)?.unwrap_or(12);
    let mut series = parse(params, calendar)?;
    if let Some(breakdown) = &mut series.breakdown {
        breakdown.ranges_max = Some(ranges_max);
        // Every number falls into a range, and every range is shown.
        breakdown.limit = ranges_max;
    }
    Ok(series)
}

/// Reads `events`.
pub fn parse_events(params: &Params, calendar: &Calendar) -> Result<Series, String> {
    let events = names(required(params, "event")?);
    let (counting, buckets) = counting_buckets(params, calendar)?;
    if events.len().saturating_mul(buckets.labels.len()) > ANSWER_NUMBERS_MAX {
        return Err(TOO_MANY.to_owned());
    }
    Ok(Series { events, buckets, counting, filter: None, breakdown: None })
}

/// `type`, and the buckets of `unit` with either both dates or `interval`.
pub fn counting_buckets(params: &Params, calendar: &Calendar) -> Result<(Counting, Buckets), String> {
    let (unit, counting) = (unit(params)?, counting(params)?);
    no_hourly_uniques(counting, unit)?;
    let (from, to) = if params.filled("from_date").is_some() || params.filled("to_date").is_some() {
        dates(params)?
    } else {
        let interval = count(params, "interval", 100_000)?.ok_or("Missing required parameter: interval")?;
        calendar.last(interval as i64, unit).ok_or(TOO_MANY)?
    };
    let mut buckets = calendar.buckets(from, to, unit).ok_or(TOO_MANY)?;
    if let (Unit::Hour | Unit::Minute, Some(interval), None) = (unit, count(params, "interval", 100_000)?, params.filled("from_date")) {
        keep_last(&mut buckets, calendar.now.0, interval);
    }
    Ok((counting, buckets))
}

/// Both dates, or the last 31 days.
pub fn range(params: &Params, calendar: &Calendar) -> Result<TimeRange, String> {
    let (from, to) = match params.filled("from_date").or(params.filled("to_date")) {
        Some(_) => dates(params)?,
        None => calendar.last(31, Unit::Day).ok_or(TOO_MANY)?,
    };
    calendar.range(from, to).ok_or_else(|| "from_date must not be later than to_date".to_owned())
}

/// Drops what has not begun yet and keeps the last `interval` buckets.
fn keep_last(buckets: &mut Buckets, now_ms: i64, interval: usize) {
    let begun = buckets.starts_ms.partition_point(|start| *start <= now_ms);
    if let Some(end) = buckets.starts_ms.get(begun) {
        buckets.end_ms = *end;
    }
    buckets.starts_ms.truncate(begun);
    buckets.labels.truncate(begun);
    let skip = begun.saturating_sub(interval);
    buckets.starts_ms.drain(..skip);
    buckets.labels.drain(..skip);
}

/// Reads `events/names`: by default the last 31 days.
pub fn parse_names(params: &Params, calendar: &Calendar) -> Result<EventNames, String> {
    let range = range(params, calendar)?;
    let limit = params.filled("limit").map(|text| text.parse::<usize>().map_err(|_| format!("invalid limit `{text}`"))).transpose()?;
    Ok(EventNames { range, counting: counting(params)?, limit: limit.unwrap_or(255).clamp(1, 5000) })
}

/// Writes the answer of `segmentation` and `events`.
pub fn render(series: &Series, answer: &SeriesAnswer) -> String {
    let mut out = String::from("{\"data\": {\"series\": [");
    join(&mut out, series.buckets.labels.iter(), |out, label| json::write_string(label, out));
    out.push_str("], \"values\": {");
    join(&mut out, answer.series.iter(), |out, (key, numbers)| {
        json::write_string(key, out);
        out.push_str(": {");
        join(out, series.buckets.labels.iter().zip(numbers), |out, (label, number)| {
            json::write_string(label, out);
            out.push_str(": ");
            write_number(*number, out);
        });
        out.push('}');
    });
    out.push_str(&format!("}}}}, \"legend_size\": {}}}", answer.series.len()));
    out
}

/// Writes the same as CSV: `date` and a column a key.
pub fn render_csv(series: &Series, answer: &SeriesAnswer) -> String {
    let field = |text: &str| {
        // A formula in a spreadsheet begins with one of these.
        let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<f64>().is_err();
        let text = if is_formula { format!("'{text}") } else { text.to_owned() };
        if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
    };
    let mut out = String::from("date");
    for (key, _) in &answer.series {
        out.push(',');
        out.push_str(&field(key));
    }
    out.push_str("\r\n");
    for (index, label) in series.buckets.labels.iter().enumerate() {
        out.push_str(label);
        for (_, numbers) in &answer.series {
            out.push(',');
            write_number(numbers[index], &mut out);
        }
        out.push_str("\r\n");
    }
    out
}

/// Writes the answer of `segmentation/sum` and `segmentation/average`.
pub fn render_aggregate(report: &Aggregate, answer: &AggregateAnswer, now: Timestamp) -> String {
    let mut out = format!("{{\"status\": \"ok\", \"computed_at\": \"{}\", \"results\": {{", computed_at(now));
    join(&mut out, report.buckets.labels.iter().zip(&answer.numbers), |out, (label, number)| {
        json::write_string(label, out);
        out.push_str(": ");
        write_number(number.unwrap_or(0.0), out);
    });
    out.push_str("}}");
    out
}

/// When an answer was computed: `2026-01-31T23:59:59.123000+00:00`.
pub fn computed_at(at: Timestamp) -> String {
    format!("{}.{:06}+00:00", model::profile::wall_time(at), at.0.rem_euclid(1000) * 1000)
}

/// Writes the answer of `events/names`.
pub fn render_names(answer: &RankedAnswer) -> String {
    let mut out = String::from("[");
    join(&mut out, answer.ranked.iter(), |out, (name, _)| json::write_string(name, out));
    out.push(']');
    out
}

/// Writes items with `, ` between them.
pub fn join<T>(out: &mut String, items: impl Iterator<Item = T>, mut write: impl FnMut(&mut String, T)) {
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write(out, item);
    }
}

/// Writes a number as the original does: integral ones without a point.
pub fn write_number(number: f64, out: &mut String) {
    // JSON knows no infinity.
    let number = number.clamp(f64::MIN, f64::MAX);
    if number.fract() == 0.0 && number.abs() < 1e15 {
        out.push_str(&(number as i64).to_string());
    } else {
        out.push_str(&format!("{number:?}"));
    }
}
