//! `export`: raw events, one JSON object a line (`contract/read.md` 3.4).

use model::EventRef;
use model::report::Export;
use model::value::ValueRef;

use crate::dates::Calendar;
use crate::json;
use crate::params::Params;
use crate::segmentation::{count, dates, filter, names};

/// What the endpoint knows.
pub const PARAMETERS: &[&str] = &["from_date", "to_date", "event", "where", "limit", "time_in_ms", "dedup"];

/// Reads the parameters.
pub fn parse(params: &Params, calendar: &Calendar) -> Result<Export, String> {
    // Days of an export are UTC's, whatever the project's zone is.
    let calendar = &Calendar { zone: jiff::tz::TimeZone::UTC, ..calendar.clone() };
    let (from, to) = dates(params)?;
    if to > calendar.date_of(calendar.now) {
        return Err("to_date cannot be later than today".to_owned());
    }
    let limit = count(params, "limit", 100_000)?;
    Ok(Export {
        range: calendar.range(from, to).ok_or("from_date must not be later than to_date")?,
        events: params.filled("event").map(names),
        filter: filter(params)?,
        limit,
        time_in_ms: flag(params, "time_in_ms")?,
        dedup: flag(params, "dedup")?,
    })
}

fn flag(params: &Params, name: &str) -> Result<bool, String> {
    match params.get(name).map(str::to_ascii_lowercase).as_deref() {
        None | Some("" | "0" | "false") => Ok(false),
        Some("1" | "true") => Ok(true),
        Some(other) => Err(format!("invalid {name} `{other}`, expected true or false")),
    }
}

/// Writes one line: `event` and `properties`, `time` first.
pub fn line(event: &EventRef<'_>, time_in_ms: bool, out: &mut String) {
    out.push_str("{\"event\":");
    json::write_string(event.name, out);
    let time = if time_in_ms { event.time.0 } else { event.time.seconds() };
    out.push_str(",\"properties\":{\"time\":");
    json::write_ref(ValueRef::Int(time), out);
    out.push_str(",\"distinct_id\":");
    json::write_string(event.distinct_id, out);
    out.push_str(",\"$insert_id\":");
    json::write_string(event.insert_id, out);
    const BEFORE: &str = "$distinct_id_before_identity";
    if let Some(id) = event.distinct_id_before_identity {
        out.push_str(",\"");
        out.push_str(BEFORE);
        out.push_str("\":");
        json::write_string(id, out);
    }
    (event.properties)(&mut |name, value| {
        if name == BEFORE {
            // What an older server stored says where the event stood there.
            return;
        }
        out.push(',');
        json::write_string(name, out);
        out.push(':');
        json::write_ref(value, out);
    });
    out.push_str("}}\n");
}
