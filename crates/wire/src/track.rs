//! Records of `/track` and `/import` to events (`contract/write.md` 1.1, 1.2, 2).

pub(crate) use model::identity::DEVICE;
use model::value::{Number, Properties};
use model::{Changes, Event, IdentityMode, Reason, Timestamp, Value};

use crate::body::RECORD_BYTES_MAX;
use crate::json;
use crate::location::{RECEIPT_PROPERTIES, Receipt};

/// Why a record was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Which record of the request.
    pub index: usize,
    /// Its `$insert_id`, where it had one.
    pub insert_id: String,
    /// Which field.
    pub field: String,
    /// What is wrong, as strict answers say it.
    pub message: String,
    /// What is wrong, as verbose answers say it.
    pub verbose: &'static str,
    /// What is wrong, as it is counted.
    pub reason: Reason,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Record<T> {
    /// It is good and belongs to the project with this token.
    Good {
        /// The record's own token, empty where a credential names the project.
        token: String,
        /// What to store.
        item: T,
        /// What is stored otherwise than it was sent.
        changes: Changes,
    },
    /// It is dropped, and the client is told it was taken (`contract/write.md` 2.3).
    Dropped(Reason),
    /// It is refused.
    Refused(Rejection),
}

/// How the records of a request are judged.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// `/import` rather than `/track`.
    pub import: bool,
    /// Full validation.
    pub strict: bool,
    /// A credential names the project: no token is needed.
    pub credentialed: bool,
    /// Beyond the public token.
    pub authenticated: bool,
    /// The time of receipt.
    pub now: Timestamp,
    /// How the record's project finds out who is who.
    pub identity: IdentityMode,
    /// Records with `$ignore` are read rather than dropped.
    pub keeps_ignored: bool,
    /// The name under which the server was called.
    pub host: Option<&'a str>,
}

const TEXT_CHARS_MAX: usize = 255;
const PROPERTIES_MAX: usize = 255;
const NESTING_MAX: usize = 10;
/// How far a client's clock may be ahead.
const AHEAD_MAX_MS: i64 = 3_600_000;
/// What an event has elsewhere, or nowhere: an address is never stored.
const TAKEN_OUT: [&str; 7] =
    ["token", "time", "distinct_id", "$insert_id", "ip", "$distinct_id_before_identity", "$identity_failure_reason"];
const TRACK_AGE_MAX_MS: i64 = 5 * 24 * 3_600_000;
const BAD_IDS: &[&str] = &[
    "00000000-0000-0000-0000-000000000000",
    "anon",
    "anonymous",
    "nil",
    "none",
    "null",
    "n/a",
    "na",
    "undefined",
    "unknown",
    "<nil>",
    "0",
    "-1",
    "true",
    "false",
    "[]",
    "{}",
];

/// Whether a record is one of the verbs that a project with simplified identity does not take by strict `/import`.
pub fn is_identity_verb(record: &Value) -> bool {
    let Value::Object(record) = record else { return false };
    matches!(record.get("event").and_then(Value::as_str), Some("$identify" | "$create_alias" | "$merge"))
}

/// Whether properties ask for their event to be ignored.
pub fn is_ignored(properties: &Properties) -> bool {
    match properties.get("$ignore") {
        Some(Value::Bool(asks)) => *asks,
        Some(Value::String(text)) => !text.is_empty(),
        _ => false,
    }
}

/// What the server makes for events that do not bring it.
pub trait Makes {
    /// A new id.
    fn insert_id(&self) -> String;
    /// What stands for the sender of an event of a project, named by its token, that names nobody; where the request asked for it.
    fn sender_id(&self, token: &str) -> Option<String>;
}

/// Refuses a record that holds bytes that are no UTF-8 in a property, or else in the event's name.
pub fn not_utf8(index: usize, record: &Value, property: &str) -> Rejection {
    let properties = record.as_object().and_then(|record| record.get("properties")).and_then(Value::as_object);
    let insert_id = properties.and_then(|properties| properties.get("$insert_id")).map(text_of).unwrap_or_default();
    let field = if property == "event" { property.to_owned() } else { format!("properties.{property}") };
    let mended = |text: &str| text.replace(json::BROKEN, "\u{fffd}");
    let message = format!("{} is invalid: string should be valid utf8", mended(&field));
    let (insert_id, field) = (mended(&insert_id), mended(&field));
    Rejection { index, insert_id, field, message, verbose: "string should be valid utf8", reason: Reason::NotUtf8 }
}

/// Reads one record. The properties of a good one are taken out of it; any other stays as it was sent.
pub fn event(index: usize, record: &mut Value, rules: Rules<'_>, makes: &dyn Makes) -> Record<Event> {
    let mut insert_id = String::new();
    let refuse = |reason: Reason, insert_id: &str, field: &str, message: &str, verbose: &'static str| {
        let message = format!("'{field}' is invalid: {message}");
        Record::Refused(Rejection { index, insert_id: insert_id.to_owned(), field: field.to_owned(), message, verbose, reason })
    };
    const NO_DATA: &str = "data, missing or empty";
    let event_bytes = json::len(record);
    let is_too_long = event_bytes > RECORD_BYTES_MAX;
    let Value::Object(record) = record else {
        return refuse(Reason::NotAnObject, "", "event", "must not be missing", NO_DATA);
    };
    let sent = record.get("properties").and_then(Value::as_object);
    if let Some(id) = sent.and_then(|sent| sent.get("$insert_id")) {
        insert_id = text_of(id);
    }
    let mut changes = Changes::default();
    let name = match record.get("event") {
        Some(Value::String(name)) if !name.is_empty() => cut(name.clone(), || changes.note(Reason::NameCut, || "event".to_owned())),
        _ => return refuse(Reason::EventMissing, &insert_id, "event", "must not be missing", NO_DATA),
    };
    let Some(sent) = sent else {
        return refuse(Reason::PropertiesMissing, &insert_id, "properties", "must not be missing", NO_DATA);
    };
    if is_too_long {
        const TOO_LONG: &str = "event, longer than 1000000 bytes";
        return refuse(Reason::RecordTooLong, &insert_id, "event", "must not be longer than 1000000 bytes", TOO_LONG);
    }
    let token = sent.get("token").map(text_of).unwrap_or_default();
    if token.is_empty() && !rules.credentialed {
        return refuse(Reason::TokenMissing, &insert_id, "properties.token", "must not be missing", "token, missing or empty");
    }
    if is_ignored(sent) && !rules.keeps_ignored {
        return Record::Dropped(Reason::Ignored);
    }
    if name == "mp_page_view" {
        return Record::Dropped(Reason::PageView);
    }
    // On `/track` a strict request is judged by what its events bring: they need neither a time nor an id of their own.
    let (strict, complete) = (rules.strict, rules.strict && rules.import);
    let now = rules.now;
    let time = match sent.get("time") {
        None | Some(Value::Null) if complete && name != "$merge" => {
            return refuse(Reason::TimeMissing, &insert_id, "properties.time", "must not be missing", NO_DATA);
        }
        None | Some(Value::Null) => now,
        Some(value) => match time_of(value) {
            Some(time) => time,
            None if strict => {
                let message = "must be specified as seconds since epoch";
                return refuse(Reason::TimeUnreadable, &insert_id, "properties.time", message, NO_DATA);
            }
            None => {
                changes.note(Reason::TimeReplaced, || "properties.time".to_owned());
                now
            }
        },
    };
    if complete && time.0 > now.0 + AHEAD_MAX_MS {
        return refuse(Reason::TimeAhead, &insert_id, "properties.time", "must not be in the future", NO_DATA);
    }
    if rules.import && time.0 < 365 * 86_400_000 {
        const TOO_OLD: &str = "'properties.time' is invalid: must not be before 1971-01-01";
        return refuse(Reason::TimeTooOld, &insert_id, "properties.time", "must not be before 1971-01-01", TOO_OLD);
    }
    if !rules.import && time.0 < now.0 - TRACK_AGE_MAX_MS {
        const TOO_OLD: &str = "'properties.time' is invalid: must be within the last 5 days";
        return refuse(Reason::TimeTooOld, &insert_id, "properties.time", "must be within the last 5 days", TOO_OLD);
    }
    // A time in the future becomes the time of receipt: the protocol says so, and phones lie about clocks. One that is only a little
    // ahead stays: a browser with a fast clock sends its events again, and only the same time tells that they are the same.
    let is_ahead = time.0 > now.0 + AHEAD_MAX_MS;
    if is_ahead {
        changes.note(Reason::TimeClamped, || "properties.time".to_owned());
    }
    let time = if is_ahead { now } else { time };

    let is_simplified = rules.identity == IdentityMode::Simplified;
    let filled = |name: &str, is_asked: bool| sent.get(name).filter(|_| is_asked).map(text_of).filter(|id| !id.is_empty());
    let (user_id, device_id) = (filled("$user_id", is_simplified), filled("$device_id", is_simplified));
    // The form of `$identify` that some SDKs send names the user only here.
    let identified = filled("$identified_id", name == "$identify");
    let given = sent.get("distinct_id").filter(|id| !matches!(id, Value::Null)).map(text_of);
    if name == "$identify" && given.as_deref() == Some("") {
        return refuse(
            Reason::DistinctIdMissing,
            &insert_id,
            "properties.distinct_id",
            "must not be missing",
            "distinct_id, missing or empty",
        );
    }
    if strict {
        let names_somebody = user_id.is_some() || device_id.is_some() || identified.is_some();
        match &given {
            None if complete && !names_somebody && name != "$merge" => {
                return refuse(Reason::DistinctIdMissing, &insert_id, "properties.distinct_id", "must not be missing", NO_DATA);
            }
            Some(id) if BAD_IDS.contains(&id.trim().to_lowercase().as_str()) => {
                return refuse(
                    Reason::DistinctIdDisallowed,
                    &insert_id,
                    "properties.distinct_id",
                    "must not be one of the disallowed values",
                    NO_DATA,
                );
            }
            _ => {}
        }
        if complete && insert_id.is_empty() && name != "$merge" {
            return refuse(Reason::InsertIdMissing, &insert_id, "$insert_id", "must not be missing", NO_DATA);
        }
        if insert_id.len() > 36 {
            return refuse(Reason::InsertIdInvalid, &insert_id, "$insert_id", "must not be longer than 36 bytes", NO_DATA);
        }
        if !insert_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return refuse(
                Reason::InsertIdInvalid,
                &insert_id,
                "$insert_id",
                "must only contain alphanumeric or hyphen '-' characters",
                NO_DATA,
            );
        }
        if BAD_IDS.contains(&insert_id.to_lowercase().as_str()) {
            return refuse(Reason::InsertIdInvalid, &insert_id, "$insert_id", "must not be one of the disallowed values", NO_DATA);
        }
    }
    // Simplified identity: what the SDK knows about user and device wins over the id that it sent; an id alone says which it is.
    let mut known = None;
    if is_simplified && user_id.is_none() && device_id.is_none() {
        known = given.as_deref().filter(|id| !id.is_empty()).map(|id| match id.strip_prefix(DEVICE) {
            Some(device) => ("$device_id", device.to_owned()),
            None => ("$user_id", id.to_owned()),
        });
    }
    let device = || device_id.map(|id| format!("{DEVICE}{}", id.strip_prefix(DEVICE).unwrap_or(&id)));
    let is_nobody = given.is_none();
    let mut distinct_id = user_id.or_else(device).or(given).or(identified).unwrap_or_default();
    if let Some(sender) = Some(()).filter(|()| is_nobody && distinct_id.is_empty()).and_then(|()| makes.sender_id(&token)) {
        distinct_id = sender;
    }
    if insert_id.is_empty() {
        // The mobile SDKs send no `$insert_id` but an id of the event in their metadata.
        let metadata = match record.get("$mp_metadata") {
            Some(Value::Object(metadata)) => metadata.get("$mp_event_id").map(text_of),
            _ => None,
        };
        insert_id = metadata.filter(|id| !id.is_empty()).unwrap_or_else(|| makes.insert_id());
    }
    let Some(Value::Object(sent)) = record.swap_remove("properties") else {
        return refuse(Reason::PropertiesMissing, &insert_id, "properties", "must not be missing", NO_DATA);
    };
    let mut properties = Properties::with_capacity_and_hasher(sent.len().min(PROPERTIES_MAX) + 8, Default::default());
    for (name, value) in sent {
        if TAKEN_OUT.contains(&name.as_str()) || RECEIPT_PROPERTIES.contains(&name.as_str()) {
            continue;
        }
        if properties.len() >= PROPERTIES_MAX {
            changes.note(Reason::PropertiesCut, || field_of(&name));
            continue;
        }
        let value = bounded(value, 1, &mut |reason| changes.note(reason, || field_of(&name)));
        let name = cut(name, || changes.note(Reason::NameCut, || "properties".to_owned()));
        properties.insert(name, value);
    }
    if let Some((name, id)) = known {
        properties.entry(name.to_owned()).or_insert_with(|| Value::String(id));
    }
    Receipt { import: rules.import, at: now, host: rules.host, event_bytes }.add_to(&mut properties);
    // Whatever joins any two users needs more than a public endpoint.
    let may_link = name != "$merge" || rules.import;
    let mut event = Event {
        name,
        // Ids are never cut: two of them that differ stay two.
        distinct_id,
        time,
        insert_id,
        received_at: now,
        authenticated: rules.authenticated,
        linking: may_link.then_some(rules.identity),
        properties,
    };
    if event.claim().is_none() {
        event.linking = None;
    }
    Record::Good { token, item: event, changes }
}

/// An id as text: SDKs send numbers and objects too, and two spellings of one id must stay one.
pub(crate) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => {
            let mut out = String::new();
            json::write(other, &mut out);
            out
        }
    }
}

/// Seconds or milliseconds, integral or not; numbers in strings count too.
pub(crate) fn time_of(value: &Value) -> Option<Timestamp> {
    let number = match value {
        Value::Number(Number::Int(int)) if int.abs() >= 100_000_000_000 => return Some(Timestamp(*int)),
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    let ms = if number.abs() >= 1e11 { number } else { number * 1000.0 };
    (ms.is_finite() && ms.abs() < 9e15).then(|| Timestamp(ms.round() as i64))
}

/// A property's name as a field of its record.
fn field_of(name: &str) -> String {
    format!("properties.{}", cut(name.to_owned(), || {}))
}

/// At most 255 characters of a text; says so where it had more.
fn cut(mut text: String, was_cut: impl FnOnce()) -> String {
    // A character has at least one byte.
    if text.len() > TEXT_CHARS_MAX
        && let Some((end, _)) = text.char_indices().nth(TEXT_CHARS_MAX)
    {
        text.truncate(end);
        was_cut();
    }
    text
}

/// A value within the limits; says what they changed.
fn bounded(value: Value, depth: usize, changed: &mut dyn FnMut(Reason)) -> Value {
    match value {
        Value::String(text) => Value::String(cut(text, || changed(Reason::TextCut))),
        Value::List(_) | Value::Object(_) if depth >= NESTING_MAX => {
            changed(Reason::TooDeep);
            Value::String(cut(text_of(&value), || {}))
        }
        Value::List(list) => {
            if list.len() > PROPERTIES_MAX {
                changed(Reason::ElementsCut);
            }
            // A list of its own: what was cut off must not stay in memory.
            let mut kept = Vec::with_capacity(list.len().min(PROPERTIES_MAX));
            kept.extend(list.into_iter().take(PROPERTIES_MAX).map(|value| bounded(value, depth + 1, changed)));
            Value::List(kept)
        }
        Value::Object(object) => {
            if object.len() > PROPERTIES_MAX {
                changed(Reason::ElementsCut);
            }
            let mut kept = Properties::with_capacity_and_hasher(object.len().min(PROPERTIES_MAX), Default::default());
            for (name, value) in object.into_iter().take(PROPERTIES_MAX) {
                let name = cut(name, || changed(Reason::NameCut));
                kept.insert(name, bounded(value, depth + 1, changed));
            }
            Value::Object(kept)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Makes for Nothing {
        fn insert_id(&self) -> String {
            "made".to_owned()
        }

        fn sender_id(&self, _: &str) -> Option<String> {
            None
        }
    }

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn rules(import: bool, strict: bool) -> Rules<'static> {
        let identity = IdentityMode::Simplified;
        Rules { import, strict, credentialed: false, authenticated: false, now: NOW, identity, keeps_ignored: false, host: None }
    }

    /// What is noted of a record: its rejection, or what was dropped or changed.
    fn noted(rules: Rules, record: &str) -> Vec<(Reason, String)> {
        let mut record = json::parse(record).unwrap();
        let before = record.clone();
        let outcome = event(0, &mut record, rules, &Nothing);
        match outcome {
            Record::Good { changes, .. } => changes.iter().map(|(reason, field)| (reason, field.to_owned())).collect(),
            Record::Dropped(reason) => vec![(reason, String::new())],
            Record::Refused(rejection) => {
                assert_eq!(record, before, "a refused record stays as it was sent");
                vec![(rejection.reason, rejection.field)]
            }
        }
    }

    fn one(rules: Rules, properties: &str) -> String {
        let noted = noted(rules, &format!(r#"{{"event":"E","properties":{{"token":"t","distinct_id":"u",{properties}}}}}"#));
        noted.iter().map(|(reason, field)| format!("{} {field}", reason.as_str())).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn every_change_is_noted_with_its_field() {
        let (long, track) = ("x".repeat(256), rules(false, false));
        assert_eq!(one(track, r#""a":"b""#), "");
        assert_eq!(one(track, &format!(r#""a":"{}""#, &long[1..])), "", "255 characters are all kept");
        assert_eq!(one(track, &format!(r#""a":["{long}","{long}"],"b":"{long}""#)), "text cut properties.a");
        assert_eq!(one(track, &format!(r#""{long}":1"#)), "name cut properties");
        assert_eq!(one(track, &format!(r#""a":{{"{long}":1}}"#)), "name cut properties.a");
        assert_eq!(one(track, &format!(r#""a":{}1{}"#, "[".repeat(10), "]".repeat(10))), "too deep properties.a");
        assert_eq!(one(track, &format!(r#""a":{}1{}"#, "[".repeat(9), "]".repeat(9))), "");
        assert_eq!(one(track, &format!(r#""a":[{}1]"#, "1,".repeat(255))), "too many elements properties.a");
        let many: Vec<String> = (0..256).map(|at| format!(r#""p{at}":1"#)).collect();
        assert_eq!(one(track, &many.join(",")), "too many properties properties.p255");
        assert_eq!(one(track, &many[1..].join(",")), "");
        assert_eq!(one(track, r#""time":1800000000"#), "time clamped properties.time");
        assert_eq!(one(track, r#""time":"noon""#), "time replaced properties.time");
        assert_eq!(noted(track, &format!(r#"{{"event":"{long}","properties":{{"token":"t"}}}}"#)), [(Reason::NameCut, "event".to_owned())]);
    }

    #[test]
    fn what_is_refused_or_dropped_says_why() {
        let (track, strict) = (rules(false, false), rules(true, true));
        for (record, reason) in [
            ("1", Reason::NotAnObject),
            ("{}", Reason::EventMissing),
            (r#"{"event":"E","properties":1}"#, Reason::PropertiesMissing),
            (r#"{"event":"E","properties":{}}"#, Reason::TokenMissing),
            (r#"{"event":"mp_page_view","properties":{"token":"t"}}"#, Reason::PageView),
            (r#"{"event":"E","properties":{"token":"t","$ignore":true}}"#, Reason::Ignored),
        ] {
            assert_eq!(noted(track, record)[0].0, reason, "{record}");
        }
        assert_eq!(one(track, r#""time":1577836800"#), "time too old properties.time");
        assert_eq!(one(strict, r#""time":0,"$insert_id":"a""#), "time too old properties.time");
        assert_eq!(one(strict, r#""$insert_id":"a""#), "time missing properties.time");
        assert_eq!(one(strict, r#""time":1800000000,"$insert_id":"a""#), "time in the future properties.time");
        assert_eq!(one(strict, r#""time":"noon","$insert_id":"a""#), "time not a number properties.time");
        assert_eq!(one(strict, r#""time":1600000000"#), "insert_id missing $insert_id");
        assert_eq!(one(strict, r#""time":1600000000,"$insert_id":"a b""#), "bad insert_id $insert_id");
    }
}
