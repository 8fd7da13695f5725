//! What moves between servers: the lines of a raw export, pages of `engage`, and the lines that `sluice export` writes, which a raw export's
//! reader understands too (`contract/read.md` 3.4, 3.9).

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, ToSpan};
use model::profile::ProfileKey;
use model::value::{Number, Properties};
use model::{EventRef, Timestamp, Value};

use crate::track::{text_of, time_of};
use crate::{export, json};

/// What a record is, told by its shape.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// An event, as a raw export has it.
    Event(Value),
    /// A profile of a user or a group.
    Profile(ProfileKey, Properties),
}

/// Reads one record of a file or an answer; the text says why it is none.
pub fn read(text: &str) -> Result<Record, &'static str> {
    let Ok(value) = json::parse(text) else { return Err("not JSON") };
    let Value::Object(mut object) = value else { return Err("neither an event nor a profile") };
    if object.get("event").is_some() && matches!(object.get("properties"), Some(Value::Object(_))) {
        return Ok(Record::Event(Value::Object(object)));
    }
    let properties = match object.swap_remove("$properties").or_else(|| object.swap_remove("$set")) {
        Some(Value::Object(properties)) => properties,
        _ => return Err("neither an event nor a profile"),
    };
    let text = |name: &str| object.get(name).map(text_of).filter(|text| !text.is_empty());
    match (text("$group_key").zip(text("$group_id")), text("$distinct_id")) {
        (Some((key, id)), _) => Ok(Record::Profile(ProfileKey::Group { key, id }, properties)),
        (None, Some(id)) => Ok(Record::Profile(ProfileKey::User(id), properties)),
        (None, None) => Err("neither an event nor a profile"),
    }
}

/// Whether a line is what a raw export ends with when it broke off after its status had gone out.
pub fn is_broken_off(line: &str) -> bool {
    let line = line.trim().to_ascii_lowercase();
    line.len() < 200 && !line.starts_with('{') && line.contains("terminated early")
}

/// How the times of a source are read.
#[derive(Debug, Clone, Default)]
pub struct Times {
    /// Projects of the original from before 2023 give the wall time of their zone as if it were UTC.
    pub zone: Option<TimeZone>,
    /// The days that were asked for, where they were: they tell milliseconds from seconds before 1973.
    pub days: Option<(Date, Date)>,
}

impl Times {
    /// The times of a source whose project writes the wall time of this zone; the text says that there is no such zone.
    pub fn of_zone(zone: Option<&str>) -> Result<Self, String> {
        let zone = zone.map(|name| TimeZone::get(name).map_err(|_| format!("unknown time zone `{name}`"))).transpose()?;
        Ok(Self { zone, days: None })
    }

    /// When an event happened; `None` where its time is no number.
    pub fn instant(&self, sent: &Value) -> Option<Timestamp> {
        let given = match (sent, &self.days) {
            (Value::Number(Number::Int(ms)), Some((from, to))) if ms.abs() < 100_000_000_000 && is_in_days(*ms, *from, *to) => {
                Timestamp(*ms)
            }
            _ => time_of(sent)?,
        };
        Some(match &self.zone {
            None => given,
            Some(zone) => {
                let wall = jiff::Timestamp::from_millisecond(given.0).ok()?.to_zoned(TimeZone::UTC).datetime();
                // A wall time that came twice is the first one; one that never came is as far behind the gap as it was inside.
                Timestamp(zone.to_ambiguous_timestamp(wall).compatible().ok()?.as_millisecond())
            }
        })
    }
}

fn is_in_days(ms: i64, from: Date, to: Date) -> bool {
    // Wall times of other zones lie up to a day beside.
    let around = SignedDuration::from_hours(48);
    let start = from.to_zoned(TimeZone::UTC).and_then(|start| start.checked_sub(around));
    let end = to.to_zoned(TimeZone::UTC).and_then(|end| end.checked_add(around + SignedDuration::from_hours(24)));
    match (start, end, jiff::Timestamp::from_millisecond(ms)) {
        (Ok(start), Ok(end), Ok(at)) => start.timestamp() <= at && at < end.timestamp(),
        _ => false,
    }
}

/// What an export says of an event and what stays as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Its user, resolved by the source; empty where it has none.
    pub distinct_id: String,
    /// When it happened, where its time is one.
    pub time: Option<Timestamp>,
}

/// Puts an event of an export in the form of `/import`: its time becomes milliseconds of UTC that nobody takes for seconds, and an event
/// without `$insert_id` gets the one that `id` makes, the same for the same line.
pub fn prepare(event: &mut Value, times: &Times, id: impl FnOnce() -> String) -> Kept {
    let mut kept = Kept { distinct_id: String::new(), time: None };
    let Value::Object(event) = event else { return kept };
    let Some(Value::Object(properties)) = event.get_mut("properties") else { return kept };
    kept.distinct_id = properties.get("distinct_id").map(text_of).unwrap_or_default();
    kept.time = properties.get("time").and_then(|time| times.instant(time));
    if let (Some(at), Some(time)) = (kept.time, properties.get_mut("time")) {
        *time = exact(at);
    }
    if properties.get("$insert_id").map(text_of).is_none_or(|id| id.is_empty()) {
        properties.insert("$insert_id".to_owned(), Value::String(id()));
    }
    kept
}

/// A time that is read back to the millisecond: before March 1973 milliseconds would be taken for seconds.
fn exact(at: Timestamp) -> Value {
    if at.0.abs() >= 100_000_000_000 {
        return Value::from(at.0);
    }
    Value::Number(Number::parse(&format!("{}.{:03}", at.0.div_euclid(1000), at.0.rem_euclid(1000))))
}

/// The UTC day of an instant, `YYYY-MM-DD`.
pub fn day_of(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map(|at| at.to_zoned(TimeZone::UTC).date().to_string()).unwrap_or_default()
}

/// The days from one date on, `count` of them and none behind `to`: first and last.
pub fn days_from(from: Date, count: u32, to: Date) -> (Date, Date) {
    let last = from.checked_add(i64::from(count.max(1) - 1).days()).unwrap_or(to);
    (from, last.min(to))
}

/// Writes an event as `sluice export` does: a raw export's line whose time is exact to the millisecond.
pub fn write_event(event: &EventRef<'_>, out: &mut String) {
    if event.time.0.abs() >= 100_000_000_000 {
        return export::line(event, true, out);
    }
    let mut line = String::new();
    export::line(event, true, &mut line);
    let mut time = String::new();
    json::write(&exact(event.time), &mut time);
    // The time comes behind the name: only its own is written so.
    let sent = format!(",\"properties\":{{\"time\":{}", event.time.0);
    out.push_str(&line.replacen(&sent, &format!(",\"properties\":{{\"time\":{time}"), 1));
}

/// Writes a profile as `sluice export` does: a row of `engage`, or of a group with its key.
pub fn write_profile(key: &ProfileKey, properties: &Properties, out: &mut String) {
    match key {
        ProfileKey::User(id) => {
            out.push_str("{\"$distinct_id\":");
            json::write_string(id, out);
        }
        ProfileKey::Group { key, id } => {
            out.push_str("{\"$group_key\":");
            json::write_string(key, out);
            out.push_str(",\"$group_id\":");
            json::write_string(id, out);
        }
    }
    out.push_str(",\"$properties\":{");
    for (index, (name, value)) in properties.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        json::write_string(name, out);
        out.push(':');
        json::write(value, out);
    }
    out.push_str("}}\n");
}

/// A page of `engage`.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The profiles, each written as `sluice export` writes one.
    pub lines: String,
    /// How many.
    pub rows: usize,
    /// How many the source says that there are, where it does.
    pub total: Option<u64>,
    /// How many a full page has, where the source says it.
    pub page_size: Option<u64>,
    /// What further pages are asked with.
    pub session_id: String,
}

/// Reads a page of `engage`; of groups where `group_key` names their key. The text says why it is none.
pub fn read_page(text: &str, group_key: Option<&str>) -> Result<Page, String> {
    let value = json::parse(text).map_err(|error| format!("a page of profiles is not JSON: {error}"))?;
    let Some(object) = value.as_object() else { return Err("a page of profiles is no object".to_owned()) };
    let Some(Value::List(results)) = object.get("results") else { return Err("a page of profiles has no `results`".to_owned()) };
    let number = |name: &str| match object.get(name) {
        Some(Value::Number(Number::Int(number))) => u64::try_from(*number).ok(),
        _ => None,
    };
    let mut lines = String::new();
    let empty = Properties::default();
    for row in results {
        let row = row.as_object().ok_or("a profile is no object")?;
        let id = row.get("$distinct_id").or_else(|| row.get("$group_id")).map(text_of).unwrap_or_default();
        let key = match group_key {
            Some(key) => ProfileKey::Group { key: key.to_owned(), id },
            None => ProfileKey::User(id),
        };
        write_profile(&key, row.get("$properties").and_then(Value::as_object).unwrap_or(&empty), &mut lines);
    }
    Ok(Page {
        lines,
        rows: results.len(),
        total: number("total"),
        page_size: number("page_size"),
        session_id: object.get("session_id").map(text_of).unwrap_or_default(),
    })
}

/// A profile as the record of `/engage` or `/groups` that sets it: what it has beside stays, and when it was last seen is its own.
pub fn as_update(key: ProfileKey, properties: Properties, token: &str) -> Value {
    let mut record = Properties::default();
    let mut put = |name: &str, value: Value| record.insert(name.to_owned(), value);
    put("$token", Value::from(token));
    match key {
        ProfileKey::User(id) => {
            put("$distinct_id", Value::String(id));
        }
        ProfileKey::Group { key, id } => {
            put("$group_key", Value::String(key));
            put("$group_id", Value::String(id));
        }
    }
    put("$ignore_time", Value::Bool(true));
    put("$set", Value::Object(properties));
    Value::Object(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(properties: &str) -> Value {
        json::parse(&format!(r#"{{"event":"A","properties":{properties}}}"#)).unwrap()
    }

    fn prepared(properties: &str, times: &Times) -> (Kept, String) {
        let mut event = event(properties);
        let kept = prepare(&mut event, times, || "made".to_owned());
        let mut out = String::new();
        json::write(&event.as_object().unwrap()["properties"], &mut out);
        (kept, out)
    }

    fn date(text: &str) -> Date {
        text.parse().unwrap()
    }

    #[test]
    fn a_record_is_known_by_its_shape() {
        assert!(matches!(read(r#"{"event":"A","properties":{}}"#), Ok(Record::Event(_))));
        assert!(matches!(read(r#"{"$distinct_id":"u","$properties":{"a":1}}"#), Ok(Record::Profile(ProfileKey::User(id), _)) if id == "u"));
        let group = read(r#"{"$group_key":"company","$group_id":7,"$properties":{}}"#);
        assert!(matches!(group, Ok(Record::Profile(ProfileKey::Group { key, id }, _)) if key == "company" && id == "7"));
        for (text, why) in [("{", "not JSON"), ("[1]", "neither"), (r#"{"event":"A"}"#, "neither"), (r#"{"$properties":{}}"#, "neither")] {
            assert!(read(text).unwrap_err().starts_with(why), "{text}");
        }
    }

    #[test]
    fn a_broken_off_export_is_known_by_its_last_line() {
        assert!(is_broken_off("terminated early\n") && is_broken_off("export terminated early"));
        assert!(!is_broken_off(r#"{"event":"terminated early","properties":{}}"#) && !is_broken_off(""));
    }

    #[test]
    fn wall_times_of_older_projects_become_utc() {
        let berlin = Times::of_zone(Some("Europe/Berlin")).unwrap();
        // 2020-07-01 12:00 in Berlin is 10:00 of UTC; in January it is 11:00.
        assert_eq!(prepared(r#"{"time":1593604800,"$insert_id":"i"}"#, &berlin).1, r#"{"time":1593597600000,"$insert_id":"i"}"#);
        assert_eq!(berlin.instant(&Value::from(1_577_880_000)), Some(Timestamp(1_577_876_400_000)));
        // 02:30 came twice on 2020-10-25 and never on 2020-03-29.
        assert_eq!(berlin.instant(&Value::from(1_603_593_000)), Some(Timestamp(1_603_585_800_000)));
        assert_eq!(berlin.instant(&Value::from(1_585_449_000)), Some(Timestamp(1_585_445_400_000)));
        assert!(Times::of_zone(Some("Mars/Base")).is_err());
    }

    #[test]
    fn years_before_1973_are_read_as_what_they_are() {
        let asked = Times { zone: None, days: Some((date("1972-01-01"), date("1972-01-01"))) };
        let new_year = 63_072_000_000;
        assert_eq!(asked.instant(&Value::from(new_year + 5)), Some(Timestamp(new_year + 5)), "milliseconds of the day that was asked for");
        assert_eq!(asked.instant(&Value::from(new_year / 1000)), Some(Timestamp(new_year)), "seconds of it");
        let (kept, text) = prepared(r#"{"time":63072000.005,"$insert_id":"i"}"#, &Times::default());
        assert_eq!((kept.time, text.as_str()), (Some(Timestamp(new_year + 5)), r#"{"time":63072000.005,"$insert_id":"i"}"#));
    }

    #[test]
    fn what_has_no_id_gets_one_and_what_has_one_keeps_it() {
        assert!(prepared(r#"{"time":1577836800,"distinct_id":7}"#, &Times::default()).1.ends_with(r#""$insert_id":"made"}"#));
        let (kept, text) = prepared(r#"{"time":"soon","$insert_id":"i","distinct_id":7}"#, &Times::default());
        assert_eq!(
            (kept, text.as_str()),
            (Kept { distinct_id: "7".to_owned(), time: None }, r#"{"time":"soon","$insert_id":"i","distinct_id":7}"#)
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        for ms in [1_577_836_800_123, 31_536_000_001, 63_072_000_000] {
            let mut out = String::new();
            let each = |_: &mut model::event::Property<'_>| {};
            let sent = EventRef {
                name: "A",
                distinct_id: "u",
                distinct_id_before_identity: None,
                time: Timestamp(ms),
                insert_id: "i",
                properties: &each,
            };
            write_event(&sent, &mut out);
            let Ok(Record::Event(Value::Object(event))) = read(&out) else { panic!("{out}") };
            let time = &event["properties"].as_object().unwrap()["time"];
            assert_eq!(Times::default().instant(time), Some(Timestamp(ms)), "{out}");
        }
    }

    #[test]
    fn pages_of_profiles_are_lines() {
        let page = r#"{"results": [{"$distinct_id": "4", "$properties": {"$email": "e"}}, {"$distinct_id": 5}], "page": 0, "session_id": "s",
            "page_size": 1000, "total": 2, "status": "ok"}"#;
        let page = read_page(page, None).unwrap();
        assert_eq!(
            page.lines,
            "{\"$distinct_id\":\"4\",\"$properties\":{\"$email\":\"e\"}}\n{\"$distinct_id\":\"5\",\"$properties\":{}}\n"
        );
        assert_eq!((page.rows, page.total, page.page_size, page.session_id.as_str()), (2, Some(2), Some(1000), "s"));
        assert!(read_page(r#"{"error":"x"}"#, None).is_err());
    }

    #[test]
    fn days_are_asked_for_in_pieces() {
        assert_eq!(days_from(date("2024-02-28"), 3, date("2024-12-31")), (date("2024-02-28"), date("2024-03-01")));
        assert_eq!(days_from(date("2024-12-30"), 30, date("2024-12-31")), (date("2024-12-30"), date("2024-12-31")));
    }
}
