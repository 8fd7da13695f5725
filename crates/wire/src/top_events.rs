//! `events/top`: today beside yesterday (`contract/read.md` 3.5).

use jiff::ToSpan;
use model::report::{Counting, TopEvents, TopEventsAnswer};
use model::{TimeRange, Timestamp};

use crate::dates::Calendar;
use crate::json;
use crate::params::Params;
use crate::segmentation::{count, counting, join, write_number};

/// Reads the parameters. Yesterday is cut where today stands now.
pub fn parse(params: &Params, calendar: &Calendar) -> Result<TopEvents, String> {
    let today = calendar.date_of(calendar.now);
    let yesterday = today.checked_sub(1.day()).map_err(|error| error.to_string())?;
    let (start, before) = (calendar.start_of(today), calendar.start_of(yesterday));
    let passed = calendar.now.0 - start.0 + 1;
    let part = |from: Timestamp, to: i64| TimeRange::new(from, Timestamp(to)).ok_or("the clock is out of range");
    Ok(TopEvents {
        today: part(start, start.0 + passed)?,
        yesterday: part(before, (before.0 + passed).min(start.0))?,
        counting: counting(params)?,
        limit: count(params, "limit", 10_000)?.unwrap_or(100),
    })
}

/// Writes the answer. The change is a ratio; an event that is new today has 1.
pub fn render(report: &TopEvents, answer: &TopEventsAnswer) -> String {
    let mut out = String::from("{\"events\": [");
    join(&mut out, answer.events.iter(), |out, (event, today, yesterday)| {
        out.push_str("{\"amount\": ");
        write_number(*today, out);
        out.push_str(", \"event\": ");
        json::write_string(event, out);
        out.push_str(", \"percent_change\": ");
        write_number(if *yesterday == 0.0 { 1.0 } else { (today - yesterday) / yesterday }, out);
        out.push('}');
    });
    let word = match report.counting {
        Counting::General => "general",
        Counting::Unique => "unique",
        Counting::Average => "average",
    };
    out.push_str(&format!("], \"type\": \"{word}\"}}"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_change_is_a_ratio_and_news_is_one() {
        let calendar = Calendar::new("UTC", Timestamp(1_700_000_000_000));
        let report = parse(&Params::parse("type=general", None), &calendar).unwrap();
        assert_eq!(report.today.to().0 - report.today.from().0, report.yesterday.to().0 - report.yesterday.from().0);
        let answer = TopEventsAnswer { events: vec![("a".to_owned(), 2.0, 4.0), ("b".to_owned(), 1.0, 0.0)] };
        assert_eq!(
            render(&report, &answer),
            r#"{"events": [{"amount": 2, "event": "a", "percent_change": -0.5}, {"amount": 1, "event": "b", "percent_change": 1}], "type": "general"}"#
        );
    }
}
