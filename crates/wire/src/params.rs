//! Parameters of a request: split on `&`, then on the first `=`; `+` is a space, `%XX` a byte (`contract/read.md` 1.2, 2.3).

use model::Value;

use crate::json;

/// Decoded names and values in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params {
    pairs: Vec<(String, String)>,
}

impl Params {
    /// Reads a query string and, behind it, a body: a JSON object or else a form, whatever its content type.
    pub fn parse(query: &str, body: Option<&[u8]>) -> Self {
        let mut params = Self { pairs: form(query.as_bytes()) };
        let Some(text) = body.and_then(|body| std::str::from_utf8(body).ok()) else { return params };
        match json::parse(text.trim()) {
            // A null is as good as nothing.
            Ok(Value::Object(object)) => {
                params.pairs.extend(object.into_iter().filter(|(_, value)| *value != Value::Null).map(|(name, value)| {
                    let text = match value {
                        Value::String(text) => text,
                        other => {
                            let mut text = String::new();
                            json::write(&other, &mut text);
                            text
                        }
                    };
                    (name, text)
                }))
            }
            Ok(_) => {}
            Err(_) => params.pairs.extend(form(text.as_bytes())),
        }
        params
    }

    /// The value of a name; the last one where there are several.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The value of a name, where it is not empty.
    pub fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// A name that was given more than once.
    pub fn repeated(&self) -> Option<&str> {
        let seen = |at: usize| self.pairs[..at].iter().any(|(name, _)| *name == self.pairs[at].0);
        (0..self.pairs.len()).find(|at| seen(*at)).map(|at| self.pairs[at].0.as_str())
    }

    /// Every pair in order.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }
}

/// Splits and decodes a form or query string. Bytes that are not UTF-8 become U+FFFD.
pub fn form(text: &[u8]) -> Vec<(String, String)> {
    let (mut pairs, lossy) = form_lossy(text);
    if lossy {
        let mended = |text: &mut String| *text = text.replace(json::BROKEN, "\u{fffd}");
        pairs.iter_mut().for_each(|(name, value)| {
            mended(name);
            mended(value);
        });
    }
    pairs
}

/// Text of bytes, with [`json::BROKEN`] where they are no UTF-8.
pub(crate) fn text_lossy(bytes: Vec<u8>, lossy: &mut bool) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| {
        *lossy = true;
        let mut text = String::new();
        for chunk in error.as_bytes().utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend((!chunk.invalid().is_empty()).then_some(json::BROKEN));
        }
        text
    })
}

/// As [`form`] with [`json::BROKEN`] where bytes are not UTF-8, and whether there were such.
pub(crate) fn form_lossy(text: &[u8]) -> (Vec<(String, String)>, bool) {
    let mut lossy = false;
    let pieces = text.split(|byte| *byte == b'&').filter(|piece| !piece.is_empty());
    let mut pair = |piece: &[u8]| {
        let (name, value) = match piece.iter().position(|byte| *byte == b'=') {
            Some(at) => (&piece[..at], &piece[at + 1..]),
            None => (piece, &b""[..]),
        };
        (decode(name, &mut lossy), decode(value, &mut lossy))
    };
    let pairs = pieces
        .map(|piece| pair(piece.strip_prefix(b"?").unwrap_or(piece)))
        .filter(|(name, value)| !(name.is_empty() && value.is_empty()))
        .collect();
    (pairs, lossy)
}

fn decode(text: &[u8], lossy: &mut bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let hex = |byte: u8| (byte as char).to_digit(16);
        match (text[at], text.get(at + 1).copied().and_then(hex), text.get(at + 2).copied().and_then(hex)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', ..) => bytes.push(b' '),
            (byte, ..) => bytes.push(byte),
        }
        at += 1;
    }
    text_lossy(bytes, lossy)
}

/// Percent-encodes a value for a query string.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
