//! Bodies of `/track`, `/engage`, `/groups` and `/import`, in every form that a client sends (`contract/write.md` 0).
//! Content-Type is a hint that is never needed; sizes are checked before and after gzip.

use std::io::Read;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use model::Value;

use crate::json;
use crate::params::{form, form_lossy, text_lossy};

/// How much a request may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes after gzip was undone.
    pub decoded_bytes_max: usize,
    /// Records in one request.
    pub records_max: usize,
}

/// Why nothing of a request can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyError {
    /// More bytes, once decoded, than allowed.
    TooLarge(usize),
    /// More records than allowed.
    TooMany(usize),
    /// gzip, base64 or JSON is broken, or there is no data.
    Malformed(String),
}

/// What may stand in the query string or in a form body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// JSON answer with status and error.
    pub verbose: bool,
    /// Validate every record and answer with what failed.
    pub strict: bool,
    /// Answer with a transparent pixel.
    pub img: bool,
    /// Answer by a call of this function.
    pub callback: Option<String>,
    /// Go there afterwards, where the settings allow it.
    pub redirect: Option<String>,
    /// Legacy credential of `/import`.
    pub api_key: Option<String>,
    /// Project of a service account.
    pub project_id: Option<String>,
    /// Whether the sender's address says where the user is, where the request tells; if it does, it also stands for the user where a
    /// record names nobody.
    pub ip: Option<bool>,
    /// A browser's page sent it, as its `Origin` says: whoever receives the request sets it.
    pub from_page: bool,
    /// Some of the text was not UTF-8.
    pub lossy: bool,
    /// The data is long enough that one of its records may be longer than a record may be.
    pub is_long: bool,
}

/// No record, as JSON, is longer than this (`contract/write.md` 2.1).
pub const RECORD_BYTES_MAX: usize = 1_000_000;
/// No property of a profile, as JSON, is longer than this (`contract/write.md` 2.1).
pub const PROFILE_VALUE_BYTES_MAX: usize = 256 * 1024;

/// Reads options and records. Options are there even when the data is broken.
pub fn decode(query: &str, body: &[u8], limits: Limits) -> (Options, Result<Vec<Value>, BodyError>) {
    match unpack(body, limits) {
        Ok(body) => decode_plain(query, body, limits),
        Err(error) => (options(&form(query.as_bytes())), Err(error)),
    }
}

/// As [`decode`], of a body whose gzip was undone by [`unpack`].
pub fn decode_plain(query: &str, body: Vec<u8>, limits: Limits) -> (Options, Result<Vec<Value>, BodyError>) {
    let (mut pairs, mut lossy) = form_lossy(query.as_bytes());
    let text = text_lossy(body, &mut lossy);
    let text = trimmed(&text);
    let is_long = text.len() + query.len() > PROFILE_VALUE_BYTES_MAX;
    let records = if text.starts_with(['{', '[']) {
        raw(text, limits)
    } else {
        let (fields, broken) = form_lossy(text.as_bytes());
        pairs.extend(fields);
        lossy |= broken;
        match pairs.iter().find(|(name, data)| name == "data" && !data.is_empty()) {
            Some((_, data)) => unescape(data, &mut lossy).and_then(|text| raw(&text, limits)),
            None => Err(BodyError::Malformed("data, missing or empty".to_owned())),
        }
    };
    let records = records
        .and_then(|records| if records.len() > limits.records_max { Err(BodyError::TooMany(limits.records_max)) } else { Ok(records) });
    (Options { lossy, is_long, ..options(&pairs) }, records)
}

fn options(pairs: &[(String, String)]) -> Options {
    let get = |name: &str| pairs.iter().find(|(given, value)| given == name && !value.is_empty()).map(|(_, value)| value.clone());
    let truthy = |name: &str| get(name).is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"));
    Options {
        verbose: truthy("verbose"),
        strict: truthy("strict"),
        img: truthy("img"),
        callback: get("callback").filter(|name| is_callback(name)),
        redirect: get("redirect"),
        api_key: get("api_key"),
        project_id: get("project_id"),
        ip: get("ip").map(|_| truthy("ip")),
        from_page: false,
        lossy: false,
        is_long: false,
    }
}

/// Names of functions, members and indexes, and the literal that the browser SDK sends for none.
fn is_callback(name: &str) -> bool {
    name == "(function(){})" || (name.len() <= 128 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.$[]".contains(&byte)))
}

/// Undoes gzip. The magic number tells, not the header: a proxy may have undone it already, and one SDK sends none.
pub fn unpack(body: &[u8], limits: Limits) -> Result<Vec<u8>, BodyError> {
    let too_large = BodyError::TooLarge(limits.decoded_bytes_max);
    if body.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        let mut reader = flate2::read::MultiGzDecoder::new(body).take(limits.decoded_bytes_max as u64 + 1);
        reader.read_to_end(&mut plain).map_err(|_| BodyError::Malformed("the gzip body is broken".to_owned()))?;
        return if plain.len() > limits.decoded_bytes_max { Err(too_large) } else { Ok(plain) };
    }
    if body.len() > limits.decoded_bytes_max { Err(too_large) } else { Ok(body.to_vec()) }
}

/// `data` as JSON, or as base64 in any spelling.
fn unescape(data: &str, lossy: &mut bool) -> Result<String, BodyError> {
    let data = trimmed(data);
    if data.starts_with(['{', '[']) || data.is_empty() {
        return Ok(data.to_owned());
    }
    let bytes = base64_bytes(data).ok_or_else(|| BodyError::Malformed("data is neither JSON nor base64".to_owned()))?;
    let is_halved = bytes.contains(&0xed) && std::str::from_utf8(&bytes).is_err();
    Ok(text_lossy(if is_halved { joined(&bytes) } else { bytes }, lossy))
}

/// Joins the halves of characters beyond U+FFFF: the browser SDK's base64 has either of them as three bytes of its own (CESU-8). A half
/// alone, as it is left where the SDK cuts a text, becomes one byte that is no UTF-8.
fn joined(bytes: &[u8]) -> Vec<u8> {
    let half = |at: usize| match bytes.get(at..at + 3) {
        Some([0xed, second @ 0xa0..=0xbf, third @ 0x80..=0xbf]) => Some(0xd000 | (u32::from(second & 0x3f) << 6) | u32::from(third & 0x3f)),
        _ => None,
    };
    let mut whole = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (half(at), half(at + 3)) {
            (Some(high @ 0xd800..=0xdbff), Some(low @ 0xdc00..=0xdfff)) => {
                let joined = char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).unwrap_or(char::REPLACEMENT_CHARACTER);
                whole.extend_from_slice(joined.encode_utf8(&mut [0; 4]).as_bytes());
                at += 6;
            }
            (Some(_), _) => {
                whole.push(0xff);
                at += 3;
            }
            (None, _) => {
                whole.push(bytes[at]);
                at += 1;
            }
        }
    }
    whole
}

/// Without white space and byte order marks around it.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|char: char| char.is_whitespace() || char == '\u{feff}')
}

/// Decodes base64 in any spelling: both alphabets, padded or not, `+` come as space, broken into lines.
pub fn base64_text(text: &str) -> Option<String> {
    let bytes = base64_bytes(text)?;
    Some(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

fn base64_bytes(text: &str) -> Option<Vec<u8>> {
    const ANY: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
    );
    let letters = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n' | b'\t' | b'=')).map(|byte| match byte {
        b' ' | b'-' => b'+',
        b'_' => b'/',
        other => other,
    });
    ANY.decode(letters.collect::<Vec<u8>>()).ok()
}

/// A list, one object, or one object a line.
fn raw(text: &str, limits: Limits) -> Result<Vec<Value>, BodyError> {
    let text = trimmed(text);
    if text.is_empty() {
        return Err(BodyError::Malformed("data, missing or empty".to_owned()));
    }
    match json::parse(text) {
        Ok(Value::List(list)) => Ok(list),
        Ok(object) => Ok(vec![object]),
        Err(error) => {
            let lines: Result<Vec<Value>, _> =
                text.lines().map(str::trim).filter(|line| !line.is_empty()).take(limits.records_max + 1).map(json::parse).collect();
            match lines {
                Ok(lines) if lines.len() > 1 => Ok(lines),
                _ => Err(BodyError::Malformed(error.to_string())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const LIMITS: Limits = Limits { decoded_bytes_max: 10_000, records_max: 3 };

    fn records(query: &str, body: &[u8]) -> Vec<String> {
        let (_, records) = decode(query, body, LIMITS);
        let text = |value: &Value| {
            let mut out = String::new();
            json::write(value, &mut out);
            out
        };
        records.unwrap().iter().map(text).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_spelling_of_a_body_is_read() {
        let event = r#"{"p":"c>?~é~>>"}"#;
        let standard = base64::engine::general_purpose::STANDARD.encode(event);
        let url_safe = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(event);
        let bodies: Vec<Vec<u8>> = vec![
            event.into(),
            format!("[{event}]").into(),
            format!("\u{feff} {event}\n").into(),
            format!("data={standard}").into(),
            format!("verbose=1&data={}&ip=0", crate::params::encode(&standard)).into(),
            format!("data={url_safe}").into(),
            format!("data={}", crate::params::encode(event)).into(),
            format!("data={}", crate::params::encode(&format!("{}\r\n{}", &standard[..8], &standard[8..]))).into(),
            gzip(event.as_bytes()),
            gzip(format!("data={standard}").as_bytes()),
        ];
        for body in bodies {
            assert_eq!(records("", &body), [event], "{}", String::from_utf8_lossy(&body));
        }
        assert_eq!(records(&format!("ip=0&data={url_safe}"), b""), [event]);
        assert_eq!(records("", b"{\"a\":1}\n{\"a\":2}\n\n"), [r#"{"a":1}"#, r#"{"a":2}"#]);
    }

    #[test]
    fn halved_characters_are_joined() {
        for (sent, read) in [
            (&b"a\xed\xa0\xbc\xed\xbe\x88b"[..], "a\u{1f388}b"),
            (b"\xed\x9f\xbf\xee\x80\x80", "\u{d7ff}\u{e000}"),
            (b"a\xed\xa0\xbc", "a\u{fffd}"),
            (b"\xed\xbe\x88\xed\xa0\xbc", "\u{fffd}\u{fffd}"),
            (b"\xed\xa0", "\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(String::from_utf8_lossy(&joined(sent)), read, "{sent:x?}");
        }
        for character in ['\u{10000}', '\u{1f388}', '\u{10ffff}'] {
            let halves = character.encode_utf16(&mut [0; 2]).to_vec();
            let bytes: Vec<u8> = halves
                .iter()
                .flat_map(|half| [0xe0 | (half >> 12) as u8, 0x80 | (half >> 6 & 0x3f) as u8, 0x80 | (half & 0x3f) as u8])
                .collect();
            assert_eq!(joined(&bytes), character.to_string().into_bytes());
        }
    }

    #[test]
    fn limits_hold_before_and_after_gzip() {
        assert_eq!(decode("", &gzip(&[b' '; 100_000]), LIMITS).1, Err(BodyError::TooLarge(10_000)));
        assert_eq!(decode("", b"[1,2,3,4]", LIMITS).1, Err(BodyError::TooMany(3)));
        assert!(matches!(decode("", &[0x1f, 0x8b, 1, 2], LIMITS).1, Err(BodyError::Malformed(_))));
    }

    #[test]
    fn options_stand_in_query_or_body() {
        assert!(decode("", b"data=x&verbose=1", LIMITS).0.verbose);
        assert!(decode("verbose=2", b"", LIMITS).0.verbose);
        assert!(!decode("verbose=0", b"", LIMITS).0.verbose);
        assert!(decode("verbose=", b"data=x&verbose=1", LIMITS).0.verbose, "an empty one says nothing");
        assert_eq!(records("data=", b"data={\"a\":1}"), [r#"{"a":1}"#]);
        assert_eq!(["", "ip=", "ip=0", "ip=1"].map(|query| decode(query, b"", LIMITS).0.ip), [None, None, Some(false), Some(true)]);
    }
}
