//! The binary form of what a log record carries. What was appended comes back unchanged: order of properties, spelling of
//! numbers and all. Reading never panics, whatever the bytes are.
//!
//! A payload is a kind byte and a sequence of items up to the end of the bytes. Integers are LEB128 varints, signed ones
//! zigzag; text is its length and its UTF-8; a value is a tag byte and its content.

use model::value::Properties;
use model::{Event, IdentityMode, Number, ProfileKey, ProfileOp, ProfileUpdate, Timestamp, Value};

use crate::log::Payload;

/// A payload is at most this long, so that every log that may stand in for ours can carry it.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

const EVENTS: u8 = 1;
/// Profile changes as they were once: without the time of receipt. Read, not written.
const PROFILES_WITHOUT_RECEIPT: u8 = 2;
const PROFILES: u8 = 3;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INT: u8 = 3;
const FLOAT: u8 = 4;
const NUMBER_TEXT: u8 = 6;
const STRING: u8 = 7;
const LIST: u8 = 8;
const OBJECT: u8 = 9;
/// Integers from 0 on are their own tag.
const SMALL_INT: u8 = 16;
/// A double by its shortest spelling, what [`Spelling::Shortest`] writes: the tag says how many bytes it has, from 1 on.
const FLOAT_TEXT: u8 = 216;

/// Values nest at most this deep. The wire refuses far less deep ones; damaged bytes must not exhaust the stack.
const DEPTH_MAX: usize = 512;

/// The bytes are not what [`encode`] writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("record content is malformed: {0}")]
pub struct Malformed(pub(crate) &'static str);

/// A single item that is longer than [`PAYLOAD_BYTES_MAX`], and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge(pub usize);

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Spelling {
    /// Doubles as their eight bytes.
    Fast,
    /// Doubles as text: then nothing is longer than it was in the JSON that was sent, and so whatever the wire lets
    /// through fits.
    Shortest,
}

/// Appends the binary form of a payload to `out`, cut into pieces of at most [`PAYLOAD_BYTES_MAX`] at items' bounds.
/// `piece` is called before each piece to open it and after each to close it; it gets the payload of the closed piece.
///
/// Returns the pieces: their payloads and where their bytes end in `out`.
pub fn encode(payload: Payload, out: &mut Vec<u8>, mut open: impl FnMut(&mut Vec<u8>)) -> Result<Vec<(Payload, usize)>, TooLarge> {
    match payload {
        Payload::Events(events) => pieces(events, EVENTS, out, &mut open, put_event, Payload::Events),
        Payload::Profiles(updates) => pieces(updates, PROFILES, out, &mut open, put_update, Payload::Profiles),
    }
}

fn pieces<T>(
    mut items: Vec<T>,
    kind: u8,
    out: &mut Vec<u8>,
    open: &mut dyn FnMut(&mut Vec<u8>),
    put: fn(&mut Vec<u8>, &T, Spelling),
    wrap: fn(Vec<T>) -> Payload,
) -> Result<Vec<(Payload, usize)>, TooLarge> {
    // Where each piece but the last ends: index of the item behind it, and offset in `out`.
    let mut cuts: Vec<(usize, usize)> = Vec::new();
    let mut scratch = Vec::new();
    open(out);
    let mut start = out.len();
    out.push(kind);
    for (index, item) in items.iter().enumerate() {
        let before = out.len();
        put(out, item, Spelling::Fast);
        if out.len() - start <= PAYLOAD_BYTES_MAX {
            continue;
        }
        scratch.clear();
        if 1 + out.len() - before > PAYLOAD_BYTES_MAX {
            put(&mut scratch, item, Spelling::Shortest);
            if 1 + scratch.len() > PAYLOAD_BYTES_MAX {
                return Err(TooLarge(scratch.len()));
            }
        } else {
            scratch.extend_from_slice(&out[before..]);
        }
        out.truncate(before);
        // An item that fits once it is spelled short may fit beside the others.
        if before - start > 1 && before - start + scratch.len() > PAYLOAD_BYTES_MAX {
            cuts.push((index, before));
            open(out);
            start = out.len();
            out.push(kind);
        }
        out.extend_from_slice(&scratch);
    }
    let mut pieces = Vec::with_capacity(cuts.len() + 1);
    let mut end = out.len();
    for (index, offset) in cuts.into_iter().rev() {
        pieces.push((wrap(items.split_off(index)), end));
        end = offset;
    }
    pieces.push((wrap(items), end));
    pieces.reverse();
    Ok(pieces)
}

/// Reads a payload back.
pub fn decode(bytes: &[u8]) -> Result<Payload, Malformed> {
    let mut reader = Reader { bytes };
    match reader.byte()? {
        EVENTS => Ok(Payload::Events(items(reader, Reader::event)?)),
        PROFILES => Ok(Payload::Profiles(items(reader, |reader| reader.update(true))?)),
        PROFILES_WITHOUT_RECEIPT => Ok(Payload::Profiles(items(reader, |reader| reader.update(false))?)),
        _ => Err(Malformed("unknown kind of payload")),
    }
}

fn items<'a, T>(mut reader: Reader<'a>, take: fn(&mut Reader<'a>) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
    let mut items = Vec::new();
    while !reader.bytes.is_empty() {
        items.push(take(&mut reader)?);
    }
    Ok(items)
}

fn put_event(out: &mut Vec<u8>, event: &Event, spelling: Spelling) {
    out.push(if event.authenticated { AUTHENTICATED } else { 0 } | linking_flags(event.linking));
    put_text(out, &event.name);
    put_text(out, &event.distinct_id);
    put_text(out, &event.insert_id);
    put_int(out, event.time.0);
    // Most events are received when they happen.
    put_int(out, event.received_at.0.wrapping_sub(event.time.0));
    put_properties(out, &event.properties, spelling);
}

/// What an event may link, in the bits above the first. Events of old logs have none of them.
fn linking_flags(linking: Option<IdentityMode>) -> u8 {
    match linking {
        None => 0,
        Some(IdentityMode::Simplified) => 2,
        Some(IdentityMode::Original) => 4,
        Some(IdentityMode::Legacy) => 6,
    }
}

const AUTHENTICATED: u8 = 1;
const IGNORE_TIME: u8 = 2;
const HAS_DEDUP_ID: u8 = 4;
const OF_GROUP: u8 = 8;
const IGNORE_ALIAS: u8 = 16;

fn put_update(out: &mut Vec<u8>, update: &ProfileUpdate, spelling: Spelling) {
    let mut flags = 0;
    flags |= if update.authenticated { AUTHENTICATED } else { 0 };
    flags |= if update.ignore_time { IGNORE_TIME } else { 0 };
    flags |= if update.ignore_alias { IGNORE_ALIAS } else { 0 };
    flags |= if update.dedup_id.is_some() { HAS_DEDUP_ID } else { 0 };
    flags |= if matches!(update.key, ProfileKey::Group { .. }) { OF_GROUP } else { 0 };
    out.push(flags);
    match &update.key {
        ProfileKey::User(id) => put_text(out, id),
        ProfileKey::Group { key, id } => {
            put_text(out, key);
            put_text(out, id);
        }
    }
    if let Some(id) = &update.dedup_id {
        put_text(out, id);
    }
    put_int(out, update.time.0);
    // Mostly the sender says nothing about the time, and both are one.
    put_int(out, update.received_at.0.wrapping_sub(update.time.0));
    let (code, properties) = match &update.op {
        ProfileOp::Set(properties) => (0, Some(properties)),
        ProfileOp::SetOnce(properties) => (1, Some(properties)),
        ProfileOp::Add(properties) => (2, Some(properties)),
        ProfileOp::Append(properties) => (3, Some(properties)),
        ProfileOp::Remove(properties) => (4, Some(properties)),
        ProfileOp::Union(properties) => (5, Some(properties)),
        ProfileOp::Merge(properties) => (6, Some(properties)),
        ProfileOp::Unset(_) => (7, None),
        ProfileOp::Delete => (8, None),
        ProfileOp::Restore(_) => (9, None),
    };
    out.push(code);
    if let Some(properties) = properties {
        put_properties(out, properties, spelling);
    }
    match &update.op {
        ProfileOp::Unset(names) => {
            put_varint(out, names.len() as u64);
            names.iter().for_each(|name| put_text(out, name));
        }
        ProfileOp::Restore(since) => put_int(out, since.0),
        _ => {}
    }
}

pub(crate) fn put_properties(out: &mut Vec<u8>, properties: &Properties, spelling: Spelling) {
    put_varint(out, properties.len() as u64);
    for (name, value) in properties {
        put_text(out, name);
        put_value(out, value, spelling);
    }
}

pub(crate) fn put_value(out: &mut Vec<u8>, value: &Value, spelling: Spelling) {
    match value {
        Value::Null => out.push(NULL),
        Value::Bool(false) => out.push(FALSE),
        Value::Bool(true) => out.push(TRUE),
        Value::Number(Number::Int(int)) if (0..i64::from(FLOAT_TEXT - SMALL_INT)).contains(int) => out.push(SMALL_INT + *int as u8),
        Value::Number(Number::Int(int)) => {
            out.push(INT);
            put_int(out, *int);
        }
        Value::Number(Number::Float(float)) if spelling == Spelling::Shortest && float.is_finite() => {
            let text = format!("{float:?}");
            out.push(FLOAT_TEXT - 1 + text.len() as u8);
            out.extend_from_slice(text.as_bytes());
        }
        Value::Number(Number::Float(float)) => {
            out.push(FLOAT);
            out.extend_from_slice(&float.to_le_bytes());
        }
        Value::Number(Number::Text(text)) => {
            out.push(NUMBER_TEXT);
            put_text(out, text);
        }
        Value::String(text) => {
            out.push(STRING);
            put_text(out, text);
        }
        Value::List(list) => {
            out.push(LIST);
            put_varint(out, list.len() as u64);
            list.iter().for_each(|value| put_value(out, value, spelling));
        }
        Value::Object(object) => {
            out.push(OBJECT);
            put_properties(out, object, spelling);
        }
    }
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn put_int(out: &mut Vec<u8>, int: i64) {
    put_varint(out, ((int << 1) ^ (int >> 63)) as u64);
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads items back, one after the other.
pub(crate) struct Reader<'a> {
    pub(crate) bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.bytes.split_first().ok_or(Malformed("it ends too early"))?;
        self.bytes = rest;
        Ok(*first)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(Malformed("it ends too early"))?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("integer beyond 64 bits"))
    }

    /// A number of things of at least one byte each, so that no more is reserved than there are bytes.
    pub(crate) fn count(&mut self) -> Result<usize, Malformed> {
        let count = self.varint()?;
        usize::try_from(count).ok().filter(|count| *count <= self.bytes.len()).ok_or(Malformed("count beyond its end"))
    }

    pub(crate) fn int(&mut self) -> Result<i64, Malformed> {
        let raw = self.varint()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        let len = self.count()?;
        std::str::from_utf8(self.take(len)?).map_err(|_| Malformed("text is not UTF-8"))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes were taken")))
    }

    pub(crate) fn u128(&mut self) -> Result<u128, Malformed> {
        Ok(u128::from_le_bytes(self.take(16)?.try_into().expect("sixteen bytes were taken")))
    }

    pub(crate) fn string(&mut self) -> Result<String, Malformed> {
        self.text().map(str::to_owned)
    }

    fn event(&mut self) -> Result<Event, Malformed> {
        let flags = self.byte()?;
        let authenticated = flags & AUTHENTICATED != 0;
        let linking = match flags & !AUTHENTICATED {
            0 => None,
            2 => Some(IdentityMode::Simplified),
            4 => Some(IdentityMode::Original),
            6 => Some(IdentityMode::Legacy),
            _ => return Err(Malformed("unknown flags of an event")),
        };
        let name = self.string()?;
        let distinct_id = self.string()?;
        let insert_id = self.string()?;
        let time = self.int()?;
        let received_at = self.int()?.wrapping_add(time);
        let properties = self.properties(0)?;
        let (time, received_at) = (Timestamp(time), Timestamp(received_at));
        Ok(Event { name, distinct_id, time, insert_id, received_at, authenticated, linking, properties })
    }

    fn update(&mut self, has_receipt: bool) -> Result<ProfileUpdate, Malformed> {
        let flags = self.byte()?;
        if flags & !(AUTHENTICATED | IGNORE_TIME | IGNORE_ALIAS | HAS_DEDUP_ID | OF_GROUP) != 0 {
            return Err(Malformed("unknown flags of a profile change"));
        }
        let key = if flags & OF_GROUP != 0 {
            ProfileKey::Group { key: self.string()?, id: self.string()? }
        } else {
            ProfileKey::User(self.string()?)
        };
        let dedup_id = if flags & HAS_DEDUP_ID != 0 { Some(self.string()?) } else { None };
        let time = Timestamp(self.int()?);
        let received_at = if has_receipt { Timestamp(self.int()?.wrapping_add(time.0)) } else { time };
        let op = match self.byte()? {
            0 => ProfileOp::Set(self.properties(0)?),
            1 => ProfileOp::SetOnce(self.properties(0)?),
            2 => ProfileOp::Add(self.properties(0)?),
            3 => ProfileOp::Append(self.properties(0)?),
            4 => ProfileOp::Remove(self.properties(0)?),
            5 => ProfileOp::Union(self.properties(0)?),
            6 => ProfileOp::Merge(self.properties(0)?),
            7 => {
                let count = self.count()?;
                ProfileOp::Unset((0..count).map(|_| self.string()).collect::<Result<_, _>>()?)
            }
            8 => ProfileOp::Delete,
            9 => ProfileOp::Restore(Timestamp(self.int()?)),
            _ => return Err(Malformed("unknown profile operation")),
        };
        let (ignore_time, ignore_alias) = (flags & IGNORE_TIME != 0, flags & IGNORE_ALIAS != 0);
        let authenticated = flags & AUTHENTICATED != 0;
        Ok(ProfileUpdate { key, op, time, received_at, ignore_time, ignore_alias, dedup_id, authenticated })
    }

    pub(crate) fn properties(&mut self, depth: usize) -> Result<Properties, Malformed> {
        let count = self.count()?;
        // A property takes at least two bytes; damaged bytes must not reserve more than they could fill.
        let mut properties = Properties::with_capacity_and_hasher(count.min(self.bytes.len() / 2 + 1).min(4096), Default::default());
        for _ in 0..count {
            let name = self.string()?;
            let value = self.value(depth)?;
            properties.insert(name, value);
        }
        Ok(properties)
    }

    pub(crate) fn value(&mut self, depth: usize) -> Result<Value, Malformed> {
        if depth > DEPTH_MAX {
            return Err(Malformed("values nest too deep"));
        }
        Ok(match self.byte()? {
            NULL => Value::Null,
            FALSE => Value::Bool(false),
            TRUE => Value::Bool(true),
            INT => Value::Number(Number::Int(self.int()?)),
            FLOAT => {
                let bytes = self.take(8)?.try_into().expect("eight bytes were taken");
                Value::Number(Number::Float(f64::from_le_bytes(bytes)))
            }
            NUMBER_TEXT => Value::Number(Number::Text(self.text()?.into())),
            STRING => Value::String(self.string()?),
            LIST => {
                let count = self.count()?;
                let mut list = Vec::with_capacity(count.min(4096));
                for _ in 0..count {
                    list.push(self.value(depth + 1)?);
                }
                Value::List(list)
            }
            OBJECT => Value::Object(self.properties(depth + 1)?),
            long if long >= FLOAT_TEXT => {
                let text =
                    std::str::from_utf8(self.take(usize::from(long - FLOAT_TEXT) + 1)?).map_err(|_| Malformed("number is not one"))?;
                Value::Number(Number::Float(text.parse().map_err(|_| Malformed("number is not one"))?))
            }
            small if small >= SMALL_INT => Value::Number(Number::Int(i64::from(small - SMALL_INT))),
            _ => return Err(Malformed("unknown kind of value")),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn written(payload: &Payload) -> Vec<u8> {
        let mut out = Vec::new();
        let pieces = encode(payload.clone(), &mut out, |_| {}).unwrap();
        assert_eq!(pieces.len(), 1);
        out
    }

    fn number() -> impl Strategy<Value = Number> {
        prop_oneof![
            any::<i64>().prop_map(Number::Int),
            (-300_i64..300).prop_map(Number::Int),
            proptest::num::f64::NORMAL.prop_map(Number::Float),
            "-?[0-9]{1,30}(\\.[0-9]{1,30})?(e[0-9]{1,3})?".prop_map(|text| Number::parse(&text)),
        ]
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            number().prop_map(Value::Number),
            "\\PC{0,40}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![vec(inner.clone(), 0..6).prop_map(Value::List), object(inner).prop_map(Value::Object)]
        })
    }

    fn object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Properties> {
        vec(("\\PC{0,12}", value), 0..6).prop_map(|pairs| pairs.into_iter().collect())
    }

    fn event() -> impl Strategy<Value = Event> {
        let linking = prop_oneof![
            Just(None),
            Just(Some(IdentityMode::Simplified)),
            Just(Some(IdentityMode::Original)),
            Just(Some(IdentityMode::Legacy)),
        ];
        (".{1,20}", ".{0,20}", ".{0,20}", any::<i64>(), any::<i64>(), any::<bool>(), linking, object(value())).prop_map(
            |(name, distinct_id, insert_id, time, received_at, authenticated, linking, properties)| Event {
                name,
                distinct_id,
                insert_id,
                time: Timestamp(time),
                received_at: Timestamp(received_at),
                authenticated,
                linking,
                properties,
            },
        )
    }

    fn update() -> impl Strategy<Value = ProfileUpdate> {
        let key =
            prop_oneof![".{0,20}".prop_map(ProfileKey::User), (".{0,20}", ".{0,20}").prop_map(|(key, id)| ProfileKey::Group { key, id }),];
        let op = prop_oneof![
            object(value()).prop_map(ProfileOp::Set),
            object(value()).prop_map(ProfileOp::SetOnce),
            object(value()).prop_map(ProfileOp::Add),
            object(value()).prop_map(ProfileOp::Append),
            object(value()).prop_map(ProfileOp::Remove),
            object(value()).prop_map(ProfileOp::Union),
            object(value()).prop_map(ProfileOp::Merge),
            vec(".{0,20}".prop_map(String::from), 0..5).prop_map(ProfileOp::Unset),
            Just(ProfileOp::Delete),
            any::<i64>().prop_map(|since| ProfileOp::Restore(Timestamp(since))),
        ];
        (key, op, any::<i64>(), any::<i64>(), any::<[bool; 2]>(), proptest::option::of(".{0,20}"), any::<bool>()).prop_map(
            |(key, op, time, received_at, [ignore_time, ignore_alias], dedup_id, authenticated)| ProfileUpdate {
                key,
                op,
                time: Timestamp(time),
                received_at: Timestamp(received_at),
                ignore_time,
                ignore_alias,
                dedup_id,
                authenticated,
            },
        )
    }

    /// `==` on maps ignores order; the debug form does not.
    fn same(a: &Payload, b: &Payload) -> bool {
        format!("{a:?}") == format!("{b:?}")
    }

    proptest! {
        #[test]
        fn events_come_back_as_they_were(events in vec(event(), 0..8)) {
            let payload = Payload::Events(events);
            prop_assert!(same(&decode(&written(&payload)).unwrap(), &payload));
        }

        #[test]
        fn profile_changes_come_back_as_they_were(updates in vec(update(), 0..8)) {
            let payload = Payload::Profiles(updates);
            prop_assert!(same(&decode(&written(&payload)).unwrap(), &payload));
        }

        #[test]
        fn the_short_spelling_reads_the_same(event in event()) {
            let mut out = vec![EVENTS];
            put_event(&mut out, &event, Spelling::Shortest);
            prop_assert!(same(&decode(&out).unwrap(), &Payload::Events(vec![event])));
        }

        #[test]
        fn any_bytes_are_read_without_panic(kind in 0_u8..5, bytes in vec(any::<u8>(), 0..400)) {
            let mut bytes = bytes;
            bytes.insert(0, kind);
            let _ = decode(&bytes);
        }

        #[test]
        fn damaged_events_are_read_without_panic(events in vec(event(), 1..4), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = written(&Payload::Events(events));
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = decode(&bytes);
            let _ = decode(&bytes[..at]);
        }
    }

    /// Bytes that were written before there was a time of receipt.
    #[test]
    fn profile_changes_of_old_logs_are_read() {
        let set = [&[2, 13, 7][..], b"company", &[2], b"g1", &[1], b"i", &[10, 0, 1, 1], b"n", &[16 + 7]].concat();
        let delete = [&[0, 1][..], b"u", &[10, 8]].concat();
        let update = |key, op, dedup_id: Option<&str>, authenticated| ProfileUpdate {
            key,
            op,
            time: Timestamp(5),
            received_at: Timestamp(5),
            ignore_time: false,
            ignore_alias: false,
            dedup_id: dedup_id.map(str::to_owned),
            authenticated,
        };
        let group = ProfileKey::Group { key: "company".to_owned(), id: "g1".to_owned() };
        let properties = Properties::from_iter([("n".to_owned(), Value::from(7))]);
        let expected = vec![
            update(group, ProfileOp::Set(properties), Some("i"), true),
            update(ProfileKey::User("u".to_owned()), ProfileOp::Delete, None, false),
        ];
        assert_eq!(decode(&[set, delete].concat()).unwrap(), Payload::Profiles(expected));
    }

    fn plain(properties: Properties) -> Event {
        let (name, distinct_id, insert_id) = ("e".to_owned(), "u".to_owned(), "i".to_owned());
        Event {
            name,
            distinct_id,
            insert_id,
            time: Timestamp(1),
            received_at: Timestamp(2),
            authenticated: true,
            linking: None,
            properties,
        }
    }

    #[test]
    fn a_big_request_becomes_several_records() {
        let events: Vec<Event> = (0..3000)
            .map(|n| plain(Properties::from_iter([("n".to_owned(), Value::from(n)), ("x".to_owned(), Value::String("y".repeat(1000)))])))
            .collect();
        let mut out = Vec::new();
        let mut opened = Vec::new();
        let pieces = encode(Payload::Events(events.clone()), &mut out, |out| {
            out.extend_from_slice(b"head");
            opened.push(out.len());
        })
        .unwrap();
        assert_eq!(pieces.len(), 3);
        assert_eq!(opened.len(), 3);
        let mut read = Vec::new();
        for (start, (payload, end)) in opened.into_iter().zip(pieces) {
            assert!(end - start <= PAYLOAD_BYTES_MAX);
            assert_eq!(decode(&out[start..end]).unwrap(), payload);
            let Payload::Events(mut events) = payload else { panic!("events went in") };
            read.append(&mut events);
        }
        assert_eq!(read, events);
    }

    #[test]
    fn an_event_of_a_megabyte_of_json_fits_whatever_is_in_it() {
        for (element, spelled_bytes) in [(Value::from(1.5), 4), (Value::from(7), 2), (Value::List(vec![]), 3), (Value::from(""), 3)] {
            let list = Value::List(vec![element; 1_000_000 / spelled_bytes]);
            let events =
                vec![plain(Properties::default()), plain(Properties::from_iter([("list".to_owned(), list)])), plain(Properties::default())];
            let mut out = Vec::new();
            let mut starts = Vec::new();
            let pieces = encode(Payload::Events(events.clone()), &mut out, |out| starts.push(out.len())).unwrap();
            let read: Vec<Event> = starts
                .into_iter()
                .zip(&pieces)
                .flat_map(|(start, (_, end))| match decode(&out[start..*end]).unwrap() {
                    Payload::Events(events) => events,
                    Payload::Profiles(_) => panic!("events went in"),
                })
                .collect();
            assert!(read == events);
        }
    }

    #[test]
    fn an_event_that_fits_no_record_is_refused() {
        let event = plain(Properties::from_iter([("text".to_owned(), Value::String("x".repeat(PAYLOAD_BYTES_MAX)))]));
        assert!(encode(Payload::Events(vec![event]), &mut Vec::new(), |_| {}).is_err());
    }
}
