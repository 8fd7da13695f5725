//! Where a record's user is: which address or which coordinates decide, and what the answer is called (`contract/write.md` 2.6).

use std::net::IpAddr;

use model::profile::{ProfileOp, ProfileUpdate};
use model::value::{Number, Properties};
use model::{Timestamp, Value};

/// A place on earth, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Location {
    /// The city's English name.
    pub city: Option<String>,
    /// The state, province or the like that it lies in.
    pub region: Option<String>,
    /// Two letters of ISO 3166-1.
    pub country_code: Option<String>,
    /// The zone's name in the IANA database.
    pub timezone: Option<String>,
}

/// What tells the place of a record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Whence {
    /// Nothing does: the sender asked for no place, or has none to name.
    Nowhere,
    /// The address that the request came from.
    Sender,
    /// An address that the record names.
    Address(IpAddr),
    /// Degrees that the record names.
    Coordinates {
        /// North of the equator, from -90 to 90.
        latitude: f64,
        /// East of Greenwich, from -180 to 180.
        longitude: f64,
    },
}

impl Whence {
    /// What tells the place of an event; `asked` is the request's `ip`, where it has one.
    pub fn of_event(record: &Value, asked: Option<bool>) -> Self {
        let properties = record.as_object().and_then(|record| record.get("properties")).and_then(Value::as_object);
        let Some(properties) = properties else { return Self::Nowhere };
        match (coordinates(properties), asked) {
            (Some(coordinates), _) => coordinates,
            (None, Some(true)) => Self::Sender,
            (None, _) => properties.get("ip").and_then(given).unwrap_or(Self::unnamed(asked)),
        }
    }

    /// What tells the place of a user whose profile changes. One SDK puts `$ip` into its operation.
    pub fn of_profile(record: &Value, asked: Option<bool>) -> Self {
        let Some(record) = record.as_object() else { return Self::Nowhere };
        let inside = || record.values().filter_map(Value::as_object).find_map(|operation| operation.get("$ip")).and_then(given);
        let named = || record.get("$ip").and_then(given).or_else(inside);
        coordinates(record).or_else(named).unwrap_or(Self::unnamed(asked))
    }

    /// Where a record names nothing, its request's sender stands for the user, unless the request says otherwise.
    fn unnamed(asked: Option<bool>) -> Self {
        if asked == Some(false) { Self::Nowhere } else { Self::Sender }
    }
}

/// What `ip` or `$ip` says: an address, or whether the sender's counts. SDKs send texts, numbers and booleans.
fn given(value: &Value) -> Option<Whence> {
    let flag = |asks: bool| Some(if asks { Whence::Sender } else { Whence::Nowhere });
    match value {
        Value::Bool(asks) => flag(*asks),
        Value::Number(Number::Int(number)) if matches!(number, 0 | 1) => flag(*number == 1),
        Value::String(text) => match text.trim() {
            "0" | "false" => flag(false),
            "1" | "true" => flag(true),
            text => text.parse().ok().map(Whence::Address),
        },
        _ => None,
    }
}

fn coordinates(properties: &Properties) -> Option<Whence> {
    let degrees = |name: &str, most: f64| {
        let degrees = match properties.get(name)? {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok()?,
            _ => return None,
        };
        (degrees.abs() <= most).then_some(degrees)
    };
    Some(Whence::Coordinates { latitude: degrees("$latitude", 90.0)?, longitude: degrees("$longitude", 180.0)? })
}

/// What an event is told of its place.
pub const EVENT_PROPERTIES: [&str; 3] = ["$city", "$region", "mp_country_code"];

impl Location {
    /// Adds the place to an event; what the event says itself stays.
    pub fn add_to_event(&self, properties: &mut Properties) {
        for (name, value) in EVENT_PROPERTIES.into_iter().zip([&self.city, &self.region, &self.country_code]) {
            if let Some(value) = value {
                properties.entry(name.to_owned()).or_insert_with(|| Value::String(value.clone()));
            }
        }
    }

    /// Adds the place to a profile whose properties a record sets; what the record says itself stays. A record that only sets what was
    /// absent moves the user all the same: the place is where the user was seen last.
    pub fn add_to_profile(&self, whence: Whence, updates: &mut Vec<ProfileUpdate>) {
        let brings = |update: &ProfileUpdate| match &update.op {
            ProfileOp::Set(properties) | ProfileOp::SetOnce(properties) => !properties.is_empty(),
            _ => false,
        };
        let Some(first) = updates.iter().position(brings) else { return };
        let source = matches!(whence, Whence::Coordinates { .. }).then(|| "reverse_geocoding".to_owned());
        let named = [
            ("$city", self.city.as_ref()),
            ("$region", self.region.as_ref()),
            ("$country_code", self.country_code.as_ref()),
            ("$timezone", self.timezone.as_ref()),
            ("$geo_source", source.as_ref()),
        ];
        let says = |name: &str| {
            updates.iter().any(|update| match &update.op {
                ProfileOp::Set(properties) | ProfileOp::SetOnce(properties) => properties.contains_key(name),
                _ => false,
            })
        };
        let place = named.into_iter().filter_map(|(name, value)| Some((name, value?))).filter(|(name, _)| !says(name));
        let place: Properties = place.map(|(name, value)| (name.to_owned(), Value::String(value.clone()))).collect();
        if place.is_empty() {
            return;
        }
        for update in &mut *updates {
            if let ProfileOp::Set(properties) = &mut update.op
                && !properties.is_empty()
            {
                properties.extend(place);
                return;
            }
        }
        let like = &updates[first];
        let dedup_id = like.dedup_id.as_ref().map(|id| format!("{id}$place"));
        updates.push(ProfileUpdate { op: ProfileOp::Set(place), dedup_id, ..like.clone() });
    }
}

/// What the server says of how it got an event; an event that brings these was exported before, and is told anew.
pub const RECEIPT_PROPERTIES: [&str; 5] =
    ["$import", "mp_processing_time_ms", "$mp_api_timestamp_ms", "$mp_api_endpoint", "$mp_event_size"];

/// How an event came.
#[derive(Debug, Clone, Copy)]
pub struct Receipt<'a> {
    /// By `/import`.
    pub import: bool,
    /// When.
    pub at: Timestamp,
    /// Under which name the server was called.
    pub host: Option<&'a str>,
    /// How long it was as JSON, in bytes.
    pub event_bytes: usize,
}

impl Receipt<'_> {
    /// Adds it to an event.
    pub fn add_to(&self, properties: &mut Properties) {
        let mut add = |name: &str, value: Value| properties.insert(name.to_owned(), value);
        if self.import {
            add("$import", Value::Bool(true));
        }
        add("mp_processing_time_ms", Value::from(self.at.0));
        add("$mp_api_timestamp_ms", Value::from(self.at.0));
        if let Some(host) = self.host {
            add("$mp_api_endpoint", Value::from(host));
        }
        add("$mp_event_size", Value::from(self.event_bytes as i64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;
    use model::profile::ProfileKey;

    const ADDRESS: Whence = Whence::Address(IpAddr::V4(std::net::Ipv4Addr::new(136, 24, 0, 114)));
    const CITY: Whence = Whence::Coordinates { latitude: 37.77, longitude: -122.42 };

    /// `asked` by no `ip`, by `ip=0` and by `ip=1`.
    #[track_caller]
    fn check_event(properties: &str, expected: [Whence; 3]) {
        let record = parse(&format!(r#"{{"event":"e","properties":{properties}}}"#)).unwrap();
        assert_eq!([None, Some(false), Some(true)].map(|asked| Whence::of_event(&record, asked)), expected, "{properties}");
    }

    #[track_caller]
    fn check_profile(record: &str, expected: [Whence; 3]) {
        let parsed = parse(record).unwrap();
        assert_eq!([None, Some(false), Some(true)].map(|asked| Whence::of_profile(&parsed, asked)), expected, "{record}");
    }

    #[test]
    fn the_request_wins_over_the_address_of_an_event() {
        use Whence::{Nowhere, Sender};
        check_event("{}", [Sender, Nowhere, Sender]);
        check_event(r#"{"ip":"136.24.0.114"}"#, [ADDRESS, ADDRESS, Sender]);
        for none in ["0", r#""0""#, "false"] {
            check_event(&format!(r#"{{"ip":{none}}}"#), [Nowhere, Nowhere, Sender]);
        }
        for unread in ["null", r#""""#, r#""unknown""#, "[]"] {
            check_event(&format!(r#"{{"ip":{unread}}}"#), [Sender, Nowhere, Sender]);
        }
        check_event(r#"{"ip":"136.24.0.114","$latitude":37.77,"$longitude":-122.42}"#, [CITY; 3]);
        check_event(r#"{"ip":"136.24.0.114","$latitude":137,"$longitude":-122.42}"#, [ADDRESS, ADDRESS, Sender]);
    }

    #[test]
    fn the_address_of_a_profile_wins_over_the_request() {
        use Whence::{Nowhere, Sender};
        check_profile(r#"{"$set":{"a":1}}"#, [Sender, Nowhere, Sender]);
        check_profile(r#"{"$ip":"136.24.0.114","$set":{"a":1}}"#, [ADDRESS; 3]);
        check_profile(r#"{"$set":{"a":1,"$ip":"136.24.0.114"}}"#, [ADDRESS; 3]);
        check_profile(r#"{"$ip":"0","$set":{"a":1,"$ip":"136.24.0.114"}}"#, [Nowhere; 3]);
        for none in ["0", r#""0""#] {
            check_profile(&format!(r#"{{"$ip":{none},"$set":{{"a":1}}}}"#), [Nowhere; 3]);
        }
        check_profile(r#"{"$ip":"0","$latitude":"37.77","$longitude":-122.42,"$set":{}}"#, [CITY; 3]);
    }

    fn update(op: ProfileOp) -> ProfileUpdate {
        let (key, time) = (ProfileKey::User("u".to_owned()), Timestamp(0));
        ProfileUpdate { key, op, time, received_at: time, ignore_time: false, dedup_id: Some("i".to_owned()), authenticated: false }
    }

    fn placed(whence: Whence, ops: Vec<ProfileOp>) -> Vec<ProfileUpdate> {
        let text = |text: &str| Some(text.to_owned());
        let location = Location { city: text("C"), region: text("R"), country_code: text("CC"), timezone: text("T") };
        let mut updates: Vec<_> = ops.into_iter().map(update).collect();
        location.add_to_profile(whence, &mut updates);
        updates
    }

    fn properties(json: &str) -> Properties {
        parse(json).unwrap().as_object().unwrap().clone()
    }

    #[test]
    fn a_place_goes_with_what_is_set() {
        let set = |json: &str| ProfileOp::Set(properties(json));
        let all = set(r#"{"a":1,"$city":"C","$region":"R","$country_code":"CC","$timezone":"T"}"#);
        assert_eq!(placed(Whence::Sender, vec![set(r#"{"a":1}"#)]), [update(all)]);
        let own = set(r#"{"$city":"Mine","$region":"R","$country_code":"CC","$timezone":"T","$geo_source":"reverse_geocoding"}"#);
        assert_eq!(placed(CITY, vec![set(r#"{"$city":"Mine"}"#)]), [update(own)]);
        for op in [set("{}"), ProfileOp::Delete, ProfileOp::Add(properties(r#"{"a":1}"#)), ProfileOp::Unset(vec!["a".to_owned()])] {
            assert_eq!(placed(Whence::Sender, vec![op.clone()]), [update(op)]);
        }
    }

    #[test]
    fn who_sets_what_was_absent_moves_too() {
        let once = ProfileOp::SetOnce(properties(r#"{"a":1,"$region":"Mine"}"#));
        let updates = placed(Whence::Sender, vec![once.clone()]);
        let place = ProfileOp::Set(properties(r#"{"$city":"C","$country_code":"CC","$timezone":"T"}"#));
        assert_eq!(updates, [update(once), ProfileUpdate { dedup_id: Some("i$place".to_owned()), ..update(place) }]);
    }
}
