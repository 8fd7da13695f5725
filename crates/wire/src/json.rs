//! JSON to values and back. Numbers keep their spelling; lone surrogates become U+FFFD instead of an error.

use std::fmt::Write;

use model::value::{Number, Properties, Value, ValueRef};

/// Nothing deeper than this is read.
pub const DEPTH_MAX: usize = 256;

/// Why a text is not JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid JSON at byte {at}: {reason}")]
pub struct JsonError {
    /// Where.
    pub at: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

/// Reads one value and nothing else.
pub fn parse(text: &str) -> Result<Value, JsonError> {
    let mut parser = Parser { text, at: 0, values: 0 };
    parser.skip_space();
    let value = parser.value(0)?;
    parser.skip_space();
    if parser.at < text.len() {
        return Err(parser.error("something follows the value"));
    }
    Ok(value)
}

/// No text has more values than this: each takes many times the bytes that it is written in.
const VALUES_MAX: usize = 1_000_000;

struct Parser<'a> {
    text: &'a str,
    at: usize,
    values: usize,
}

impl Parser<'_> {
    fn error(&self, reason: &'static str) -> JsonError {
        JsonError { at: self.at, reason }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn literal(&mut self, word: &str, value: Value) -> Result<Value, JsonError> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(value);
        }
        Err(self.error("expected a value"))
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        if depth > DEPTH_MAX {
            return Err(self.error("nested too deep"));
        }
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(self.error("too many values"));
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.string().map(Value::String),
            Some(b't') => self.literal("true", Value::Bool(true)),
            Some(b'f') => self.literal("false", Value::Bool(false)),
            Some(b'n') => self.literal("null", Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.error("expected a value")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, JsonError> {
        let mut object = Properties::default();
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(object));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.error("expected a name"));
            }
            let name = self.string()?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(self.error("expected `:`"));
            }
            self.at += 1;
            self.skip_space();
            let value = self.value(depth + 1)?;
            object.insert(name, value);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::Object(object));
                }
                _ => return Err(self.error("expected `,` or `}`")),
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, JsonError> {
        let mut list = Vec::new();
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::List(list));
        }
        loop {
            self.skip_space();
            list.push(self.value(depth + 1)?);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::List(list));
                }
                _ => return Err(self.error("expected `,` or `]`")),
            }
        }
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let start = self.at;
        let digits = |parser: &mut Self| {
            let from = parser.at;
            while matches!(parser.peek(), Some(b'0'..=b'9')) {
                parser.at += 1;
            }
            parser.at > from
        };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let zero = self.peek() == Some(b'0');
        let from = self.at;
        if !digits(self) || (zero && self.at > from + 1) {
            return Err(self.error("malformed number"));
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if !digits(self) {
                return Err(self.error("malformed number"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if !digits(self) {
                return Err(self.error("malformed number"));
            }
        }
        Ok(Value::Number(Number::parse(&self.text[start..self.at])))
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let start = self.at;
            while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..=0x1f)) {
                self.at += 1;
            }
            out.push_str(&self.text[start..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    let escape = self.peek().ok_or_else(|| self.error("unfinished string"))?;
                    self.at += 1;
                    match escape {
                        b'"' | b'\\' | b'/' => out.push(escape as char),
                        b'b' => out.push('\u{8}'),
                        b'f' => out.push('\u{c}'),
                        b'n' => out.push('\n'),
                        b'r' => out.push('\r'),
                        b't' => out.push('\t'),
                        b'u' => out.push(self.unicode()?),
                        _ => return Err(self.error("unknown escape")),
                    }
                }
                Some(_) => return Err(self.error("control character in a string")),
                None => return Err(self.error("unfinished string")),
            }
        }
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).ok_or_else(|| self.error("unfinished escape"))?;
        let mut code = 0;
        for digit in digits {
            code = code * 16 + (*digit as char).to_digit(16).ok_or_else(|| self.error("malformed escape"))?;
        }
        self.at += 4;
        Ok(code)
    }

    fn unicode(&mut self) -> Result<char, JsonError> {
        let first = self.hex4()?;
        if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with("\\u") {
            let back = self.at;
            self.at += 2;
            let second = self.hex4()?;
            if (0xdc00..0xe000).contains(&second) {
                return Ok(char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)).unwrap_or('\u{fffd}'));
            }
            self.at = back;
        }
        // The browser SDK cuts strings at 255 code units, which can split an emoji.
        Ok(char::from_u32(first).unwrap_or('\u{fffd}'))
    }
}

/// Stands where bytes were that are no UTF-8, until [`mend`] puts U+FFFD there: a sender's own U+FFFD is not broken.
pub const BROKEN: char = '\u{fdd0}';

/// The first property, name or event in a record that holds [`BROKEN`], by the name of the property.
pub fn broken_in(record: &Value) -> Option<&str> {
    fn holds(value: &Value) -> bool {
        match value {
            Value::String(text) => text.contains(BROKEN),
            Value::List(list) => list.iter().any(holds),
            Value::Object(object) => object.iter().any(|(name, value)| name.contains(BROKEN) || holds(value)),
            _ => false,
        }
    }
    let properties = record.as_object()?.get("properties").and_then(Value::as_object);
    let broken = |(name, value): (&String, &Value)| name.contains(BROKEN) || holds(value);
    properties.into_iter().flatten().find(|pair| broken(*pair)).map(|(name, _)| name.as_str()).or(holds(record).then_some("event"))
}

/// Puts U+FFFD where [`BROKEN`] stands.
pub fn mend(value: &mut Value) {
    let mended = |text: &str| text.replace(BROKEN, "\u{fffd}");
    match value {
        Value::String(text) => *text = mended(text),
        Value::List(list) => list.iter_mut().for_each(mend),
        Value::Object(object) => {
            let pairs = std::mem::take(object).into_iter().map(|(name, mut value)| {
                mend(&mut value);
                (mended(&name), value)
            });
            *object = pairs.collect();
        }
        _ => {}
    }
}

/// How many bytes [`write()`] makes of a value.
pub fn len(value: &Value) -> usize {
    let text = |text: &str| {
        let more = |byte: u8| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 1,
            0..b' ' => 5,
            _ => 0,
        };
        text.len() + 2 + text.bytes().map(more).sum::<usize>()
    };
    match value {
        Value::Null => 4,
        Value::Bool(flag) => 5 - usize::from(*flag),
        Value::Number(Number::Int(int)) => int.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1 + usize::from(*int < 0),
        Value::Number(number) => number.text().len(),
        Value::String(string) => text(string),
        Value::List(list) => 2 + list.len().saturating_sub(1) + list.iter().map(len).sum::<usize>(),
        Value::Object(object) => {
            2 + object.len().saturating_sub(1) + object.iter().map(|(name, value)| text(name) + 1 + len(value)).sum::<usize>()
        }
    }
}

/// Writes JSON without spaces.
pub fn write(value: &Value, out: &mut String) {
    write_with(value, out, ",", ":");
}

/// Writes JSON as Python does, `", "` and `": "`.
pub fn write_spaced(value: &Value, out: &mut String) {
    write_with(value, out, ", ", ": ");
}

/// Writes a value that lives in a column.
pub fn write_ref(value: ValueRef<'_>, out: &mut String) {
    // A string takes every write.
    let _ = match value {
        ValueRef::Text(text) => {
            write_string(text, out);
            Ok(())
        }
        ValueRef::Int(int) => write!(out, "{int}"),
        ValueRef::Float(float) => write!(out, "{float:?}"),
        ValueRef::Bool(flag) => write!(out, "{flag}"),
        ValueRef::Other(value) => {
            self::write(value, out);
            Ok(())
        }
    };
}

fn write_with(value: &Value, out: &mut String, comma: &str, colon: &str) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.text()),
        Value::String(text) => write_string(text, out),
        Value::List(list) => {
            out.push('[');
            for (index, value) in list.iter().enumerate() {
                if index > 0 {
                    out.push_str(comma);
                }
                write_with(value, out, comma, colon);
            }
            out.push(']');
        }
        Value::Object(object) => {
            out.push('{');
            for (index, (name, value)) in object.iter().enumerate() {
                if index > 0 {
                    out.push_str(comma);
                }
                write_string(name, out);
                out.push_str(colon);
                write_with(value, out, comma, colon);
            }
            out.push('}');
        }
    }
}

/// Writes a JSON string.
pub fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut plain_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[plain_from..at]);
        plain_from = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            control => out.push_str(&format!("\\u{control:04x}")),
        }
    }
    out.push_str(&text[plain_from..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_back() {
        for text in [r#"{"a":[1,1.50,1e5,-0,18446744073709551616,true,null],"é":"\"\\\n"}"#, "[]", r#""😀""#] {
            let mut out = String::new();
            write(&parse(text).unwrap(), &mut out);
            assert_eq!(out, text);
            assert_eq!(len(&parse(text).unwrap()), text.len());
        }
        for text in [r#"[0,-1,9,10,-9223372036854775808,9223372036854775807,0.5,[],{},[{}],{"a":1,"b":false}]"#, r#"["\u0001\t\r\n\\\""]"#]
        {
            assert_eq!(len(&parse(text).unwrap()), text.len(), "{text}");
        }
    }

    #[test]
    fn a_split_emoji_becomes_the_replacement_character() {
        assert_eq!(parse(r#""a\ud83d""#).unwrap(), Value::from("a\u{fffd}"));
        assert_eq!(parse(r#""\ud83d\ude00""#).unwrap(), Value::from("😀"));
    }

    #[test]
    fn broken_json_is_refused() {
        for text in ["", "{", "[1,]", "{\"a\" 1}", "01", "1.", "nul", "\"", "\"\\x\"", "[1] 2", &"[".repeat(1000)] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
