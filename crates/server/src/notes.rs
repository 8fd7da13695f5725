//! What is noted of the records of one request that are not stored as they were sent. Nothing is made for a record that is; of the others a
//! few are kept to be shown, without what is secret, where they came from, and what makes them long.

use std::net::{IpAddr, SocketAddr};

use metastore::CredentialTable;
use model::value::Properties;
use model::{Event, ProjectId, Reason, Timestamp, Value};

/// Records of one project and reason that a request keeps to be shown.
const SAMPLES_MAX: usize = 3;
/// A sample has at most so many bytes.
pub(crate) const SAMPLE_BYTES_MAX: usize = 2048;

/// What happened to the records of a request.
#[derive(Default)]
pub(crate) struct Notes(Vec<Note>);

/// What happened to records of a project for one reason.
pub(crate) struct Note {
    pub project: ProjectId,
    pub reason: Reason,
    pub count: u64,
    /// Fields at fault, each with its record where that may be shown.
    pub samples: Vec<(String, Option<Value>)>,
}

impl Notes {
    /// Notes a record; it is asked for only where it is kept.
    pub(crate) fn add(&mut self, project: ProjectId, reason: Reason, field: &str, record: impl FnOnce() -> Option<Value>) {
        // There are as many as reasons and projects of a request: few.
        let at = self.0.iter().position(|note| note.reason == reason && note.project == project).unwrap_or_else(|| {
            self.0.push(Note { project, reason, count: 0, samples: Vec::new() });
            self.0.len() - 1
        });
        let note = &mut self.0[at];
        note.count += 1;
        if note.samples.len() < SAMPLES_MAX {
            note.samples.push((field.to_owned(), record()));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Note> {
        self.0.iter()
    }
}

/// An event as a record again: what a sample shows of one that was read already.
pub(crate) fn record_of(event: &Event) -> Value {
    let mut properties = Properties::default();
    properties.insert("time".to_owned(), Value::from(event.time.seconds()));
    properties.insert("distinct_id".to_owned(), Value::from(event.distinct_id.as_str()));
    properties.insert("$insert_id".to_owned(), Value::from(event.insert_id.as_str()));
    properties.extend(event.properties.iter().map(|(name, value)| (name.clone(), value.clone())));
    Value::Object(
        [("event".to_owned(), Value::from(event.name.as_str())), ("properties".to_owned(), Value::Object(properties))]
            .into_iter()
            .collect(),
    )
}

/// What of a value may be shown.
struct Shown<'a> {
    table: &'a CredentialTable,
    now: Timestamp,
    chars_max: usize,
    items_max: usize,
}

const HIDDEN: &str = "…";
/// Fields that hold an address or a token.
const HIDDEN_FIELDS: [&str; 5] = ["ip", "$ip", "token", "$token", "api_key"];

/// A record as JSON of at most [`SAMPLE_BYTES_MAX`] bytes, without secrets, tokens and addresses.
pub(crate) fn shown(table: &CredentialTable, record: &Value, now: Timestamp) -> String {
    let mut text = String::new();
    for (chars_max, items_max) in [(256, 100), (64, 30), (32, 10), (16, 3)] {
        text.clear();
        wire::json::write(&Shown { table, now, chars_max, items_max }.value(record, 0), &mut text);
        if text.len() <= SAMPLE_BYTES_MAX {
            return text;
        }
    }
    // Three of everything, five deep, is less.
    text.clear();
    wire::json::write(&Value::from(HIDDEN), &mut text);
    text
}

impl Shown<'_> {
    fn value(&self, value: &Value, depth: usize) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::List(_) | Value::Object(_) if depth > 4 => Value::from(HIDDEN),
            Value::List(items) => {
                let more = (items.len() > self.items_max).then(|| Value::from(HIDDEN));
                Value::List(items.iter().take(self.items_max).map(|item| self.value(item, depth + 1)).chain(more).collect())
            }
            Value::Object(object) => {
                let mut kept = Properties::default();
                for (name, value) in object.iter().take(self.items_max) {
                    let is_hidden = HIDDEN_FIELDS.contains(&name.as_str());
                    kept.insert(self.text(name), if is_hidden { Value::from(HIDDEN) } else { self.value(value, depth + 1) });
                }
                if object.len() > self.items_max {
                    kept.insert(HIDDEN.to_owned(), Value::from(HIDDEN));
                }
                Value::Object(kept)
            }
            other => other.clone(),
        }
    }

    fn text(&self, text: &str) -> String {
        if self.table.leaked(text, self.now).is_some() {
            return HIDDEN.to_owned();
        }
        // What is cut first might be cut out of what is hidden.
        let cleared = without_addresses(&wire::error::cleared(text));
        match cleared.char_indices().nth(self.chars_max) {
            Some((end, _)) => format!("{}{HIDDEN}", &cleared[..end]),
            None => cleared,
        }
    }
}

/// A text with `…` in the place of every address.
fn without_addresses(text: &str) -> String {
    let is_part = |char: char| char.is_ascii_hexdigit() || ".:[]".contains(char);
    if !text.contains(['.', ':']) {
        return text.to_owned();
    }
    let is_address = |word: &str| {
        let parses = |word: &str| word.parse::<IpAddr>().is_ok() || word.parse::<SocketAddr>().is_ok();
        let bare = word.trim_matches('.');
        // An address may begin with `::`, or come behind a colon.
        let has_digit = word.bytes().any(|byte| byte.is_ascii_digit());
        has_digit && [bare, bare.trim_end_matches(':'), word.trim_matches(['.', ':'])].into_iter().any(parses)
    };
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|char| !is_part(char)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        out.push_str(if is_address(word) { HIDDEN } else { word });
        let next = after.find(is_part).unwrap_or(after.len());
        out.push_str(&after[..next]);
        rest = &after[next..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(json: &str) -> String {
        shown(&CredentialTable::default(), &wire::json::parse(json).unwrap(), Timestamp(0))
    }

    #[test]
    fn a_sample_shows_no_token_no_address_and_nothing_like_a_secret() {
        let secret = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";
        let json = format!(
            r#"{{"event":"E","properties":{{"token":"t","ip":"1","a":"from 10.1.2.3:80, or 2001:db8::7.","k {secret}":["{secret}",{{"x":"::ffff:10.0.0.1"}}],"n":1.50,"v":"1.2.3"}}}}"#
        );
        assert_eq!(
            sample(&json),
            r#"{"event":"E","properties":{"token":"…","ip":"…","a":"from …, or …","k …":["…",{"x":"…"}],"n":1.50,"v":"1.2.3"}}"#
        );
    }

    #[test]
    fn a_sample_is_short_and_json_whatever_was_sent() {
        let long = "ä".repeat(5000);
        let many: String = (0..3000).map(|at| format!(r#","p{at}":"{}""#, &long[..100])).collect();
        let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        for json in [format!(r#"{{"event":"{long}","properties":{{"d":{deep}{many}}}}}"#), deep, format!("\"{long}\"")] {
            let text = sample(&json);
            assert!(text.len() <= SAMPLE_BYTES_MAX, "{}", text.len());
            wire::json::parse(&text).unwrap_or_else(|_| panic!("{text}"));
        }
    }

    #[test]
    fn a_request_keeps_few_records_and_counts_all() {
        let mut notes = Notes::default();
        for at in 0..10 {
            notes.add(ProjectId(1), Reason::TimeTooOld, "properties.time", || {
                assert!(at < 3, "no more are asked for");
                None
            });
        }
        notes.add(ProjectId(2), Reason::TimeTooOld, "properties.time", || None);
        assert_eq!(notes.iter().map(|note| (note.count, note.samples.len())).collect::<Vec<_>>(), [(10, 3), (1, 1)]);
    }
}
