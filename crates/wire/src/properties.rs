//! `events/properties`, `events/properties/top` and `events/properties/values` (`contract/read.md` 3.5).

use model::filter::{Expr, Scope};
use model::report::{Breakdown, PropertyValues, RankedAnswer, Series, TopProperties};

use crate::dates::Calendar;
use crate::json;
use crate::params::Params;
use crate::segmentation::{counting_buckets, filter, join, names, range, required};

/// What the endpoints know.
pub const PARAMETERS: &[&str] = &["event", "name", "values", "type", "unit", "interval", "from_date", "to_date", "limit", "where"];

fn limit(params: &Params, default: usize) -> Result<usize, String> {
    let given = params.filled("limit").map(|text| text.parse::<usize>().map_err(|_| format!("invalid limit `{text}`"))).transpose()?;
    Ok(given.unwrap_or(default).clamp(1, 10_000))
}

/// Reads `events/properties`: one event, split by the values of one property.
pub fn parse(params: &Params, calendar: &Calendar) -> Result<Series, String> {
    let (event, name) = (required(params, "event")?.to_owned(), required(params, "name")?.to_owned());
    let (counting, buckets) = counting_buckets(params, calendar)?;
    Ok(Series {
        events: vec![one(&event)],
        buckets,
        counting,
        filter: filter(params)?,
        breakdown: Some(Breakdown {
            on: Expr::Property(Scope::Properties, name),
            values: params.filled("values").map(names).filter(|values| !values.is_empty()),
            limit: limit(params, 255)?,
            ranges_max: None,
        }),
    })
}

/// Some clients send one event as a list of one.
fn one(event: &str) -> String {
    let mut names = names(event);
    if names.len() == 1 { names.remove(0) } else { event.to_owned() }
}

/// Reads `events/properties/top`: by default over the last 31 days.
pub fn parse_top(params: &Params, calendar: &Calendar) -> Result<TopProperties, String> {
    Ok(TopProperties { event: params.filled("event").map(one), range: range(params, calendar)?, limit: limit(params, 10)? })
}

/// Reads `events/properties/values`: by default over the last 31 days.
pub fn parse_values(params: &Params, calendar: &Calendar) -> Result<PropertyValues, String> {
    Ok(PropertyValues {
        name: required(params, "name")?.to_owned(),
        event: params.filled("event").map(one),
        range: range(params, calendar)?,
        limit: limit(params, 255)?,
    })
}

/// Writes the answer of `events/properties/top`.
pub fn render_top(answer: &RankedAnswer) -> String {
    let mut out = String::from("{");
    join(&mut out, answer.ranked.iter(), |out, (name, count)| {
        json::write_string(name, out);
        out.push_str(&format!(": {{\"count\": {count}}}"));
    });
    out.push('}');
    out
}
