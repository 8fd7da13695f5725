//! `engage` as a report: pages of profiles (`contract/read.md` 3.9).

use model::Value;
use model::report::{Engage, EngageAnswer, Sort};

use crate::params::Params;
use crate::segmentation::{computed_at, join, names};
use crate::{expression, json};

/// What the endpoint knows.
pub const PARAMETERS: &[&str] = &[
    "where",
    "distinct_id",
    "distinct_ids",
    "output_properties",
    "session_id",
    "page",
    "page_size",
    "include_all_users",
    "data_group_id",
    "sort_key",
    "sort_order",
    "search",
    "limit",
    "as_of_timestamp",
];

/// Parameters of the original that need what Sluice does not have yet: asked for, they are refused rather than ignored.
const ABSENT: [&str; 2] = ["behaviors", "filter_by_cohort"];

const PAGE_ROWS: usize = 1000;
const PAGE_ROWS_MAX: usize = 10_000;

/// Reads the parameters.
pub fn parse(params: &Params) -> Result<Engage, String> {
    if let Some(name) = ABSENT.iter().find(|name| params.filled(name).is_some_and(|value| value != "[]" && value != "{}")) {
        return Err(format!("{name} is not supported"));
    }
    let number = |name: &str, default: usize| match params.filled(name) {
        None => Ok(default),
        Some(text) => text.parse::<usize>().map_err(|_| format!("invalid {name} `{text}`, expected a number")),
    };
    let parsed = |name: &str| {
        let parsed = params.filled(name).map(expression::parse).transpose();
        parsed.map_err(|error| format!("Error parsing \"{name}\": {error}"))
    };
    let mut distinct_ids = params.filled("distinct_ids").map(names);
    if let Some(id) = params.filled("distinct_id") {
        // Both together mean both.
        distinct_ids = Some(match distinct_ids {
            Some(ids) if !ids.iter().any(|other| other == id) => Vec::new(),
            _ => vec![id.to_owned()],
        });
    }
    let descending = match params.filled("sort_order") {
        None | Some("ascending") => false,
        Some("descending") => true,
        Some(other) => return Err(format!("invalid sort_order `{other}`, expected ascending or descending")),
    };
    let (page, session_id) = (number("page", 0)?, params.filled("session_id").map(str::to_owned));
    if page > 0 && session_id.is_none() {
        return Err("session_id is required for pages beyond the first".to_owned());
    }
    Ok(Engage {
        filter: parsed("where")?,
        distinct_ids,
        output_properties: params.filled("output_properties").map(names).filter(|names| !names.is_empty()),
        group_key: params.filled("data_group_id").map(str::to_owned),
        session_id,
        page,
        page_size: number("page_size", number("limit", PAGE_ROWS)?)?.clamp(1, PAGE_ROWS_MAX),
        sort: parsed("sort_key")?.map(|by| Sort { by, descending }),
        search: params.filled("search").map(str::to_lowercase),
    })
}

/// Writes a page.
pub fn render(answer: &EngageAnswer) -> String {
    let mut out = String::from("{\"results\": [");
    join(&mut out, answer.rows.iter(), |out, (id, properties)| {
        out.push_str("{\"$distinct_id\": ");
        json::write_string(id, out);
        out.push_str(", \"$properties\": ");
        json::write_spaced(&Value::Object(properties.clone()), out);
        out.push('}');
    });
    out.push_str(&format!("], \"page\": {}, \"session_id\": ", answer.page));
    json::write_string(&answer.session_id, &mut out);
    out.push_str(&format!(
        ", \"page_size\": {}, \"total\": {}, \"status\": \"ok\", \"computed_at\": \"{}\"}}",
        answer.page_size,
        answer.total,
        computed_at(answer.computed_at),
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Engage, String> {
        parse(&Params::parse(query, None))
    }

    #[test]
    fn no_parameters_are_a_question_too() {
        let report = read("").unwrap();
        assert_eq!((report.page, report.page_size, report.filter), (0, 1000, None));
    }

    #[test]
    fn later_pages_need_their_session() {
        assert!(read("page=1").unwrap_err().contains("session_id"));
        assert_eq!(read("page=1&session_id=s").unwrap().session_id.as_deref(), Some("s"));
    }

    #[test]
    fn what_is_not_there_is_refused() {
        assert!(read("behaviors=[{}]").is_err() && read("behaviors=[]").is_ok() && read("sort_order=up").is_err());
    }
}
