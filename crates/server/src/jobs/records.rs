//! The records of a file, one after the other: lines of JSON, a JSON list, or rows of Parquet, each packed with gzip or not. What a file is
//! is told by its first bytes. Memory holds one record.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use store::archive::{Cell, Reader, Row};
use wire::json;

/// Longer records are passed over: nothing takes one.
const RECORD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A record as it came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// Its text; what is no UTF-8 in it is U+FFFD.
    Text(String),
    /// It is longer than any record may be.
    TooLong,
}

/// The records of a file.
pub(crate) enum Records {
    Lines(Box<dyn BufRead + Send>),
    /// The elements of a list; `true` before the first one.
    List(Box<dyn BufRead + Send>, bool),
    Rows(Box<Reader>, VecDeque<String>),
}

impl Records {
    /// Opens a file.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut magic = [0; 4];
        let read = file.read(&mut magic)?;
        file.rewind()?;
        if read == 4 && &magic == b"PAR1" {
            let reader = Reader::open(file).map_err(io::Error::other)?;
            return Ok(Self::Rows(Box::new(reader), VecDeque::new()));
        }
        let file = BufReader::with_capacity(256 * 1024, file);
        let is_packed = read >= 2 && magic.starts_with(&[0x1f, 0x8b]);
        let mut text: Box<dyn BufRead + Send> =
            if is_packed { Box::new(BufReader::with_capacity(256 * 1024, MultiGzDecoder::new(file))) } else { Box::new(file) };
        if text.fill_buf()?.starts_with(&[0xef, 0xbb, 0xbf]) {
            text.consume(3);
        }
        skip_space(&mut text)?;
        if text.fill_buf()?.first() == Some(&b'[') {
            text.consume(1);
            return Ok(Self::List(text, true));
        }
        Ok(Self::Lines(text))
    }

    /// The next record; `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Record>> {
        match self {
            Self::Lines(text) => loop {
                match line(text)? {
                    Some(Record::Text(line)) if line.trim().is_empty() => {}
                    other => return Ok(other),
                }
            },
            Self::List(text, is_first) => element(text, std::mem::take(is_first)),
            Self::Rows(reader, waiting) => {
                while waiting.is_empty() {
                    let is_more = reader.next(|row| waiting.push_back(as_line(&row))).map_err(io::Error::other)?;
                    if !is_more {
                        return Ok(None);
                    }
                }
                Ok(waiting.pop_front().map(Record::Text))
            }
        }
    }
}

fn skip_space(text: &mut dyn BufRead) -> io::Result<()> {
    loop {
        let buffer = text.fill_buf()?;
        let spaces = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if spaces == 0 {
            return Ok(());
        }
        text.consume(spaces);
    }
}

/// Takes bytes up to and with a newline; what is too long is read to its end and dropped.
fn line(text: &mut dyn BufRead) -> io::Result<Option<Record>> {
    let (mut bytes, mut any) = (Vec::new(), false);
    loop {
        let buffer = text.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        any = true;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(buffer.len(), |end| end + 1);
        if bytes.len() <= RECORD_BYTES_MAX {
            bytes.extend_from_slice(&buffer[..taken]);
        }
        text.consume(taken);
        if end.is_some() {
            break;
        }
    }
    Ok(any.then(|| whole(bytes)))
}

fn whole(bytes: Vec<u8>) -> Record {
    if bytes.len() > RECORD_BYTES_MAX {
        return Record::TooLong;
    }
    let text = String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    Record::Text(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// Takes the next element of a list: up to the comma or bracket that belongs to the list itself.
fn element(text: &mut dyn BufRead, is_first: bool) -> io::Result<Option<Record>> {
    skip_space(text)?;
    if is_first && text.fill_buf()?.first() == Some(&b']') {
        text.consume(1);
        return Ok(None);
    }
    let (mut bytes, mut depth, mut in_string, mut escaped) = (Vec::new(), 0_u32, false, false);
    loop {
        let buffer = text.fill_buf()?;
        if buffer.is_empty() {
            // A list that was cut off ends with what it has; half a record is refused as no JSON.
            return Ok((!bytes.is_empty()).then(|| whole(bytes)));
        }
        let mut end = None;
        for (at, byte) in buffer.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                _ if in_string => {}
                b'{' | b'[' => depth += 1,
                b',' | b']' if depth == 0 => {
                    end = Some((at, *byte));
                    break;
                }
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        let taken = end.map_or(buffer.len(), |(at, _)| at);
        if bytes.len() <= RECORD_BYTES_MAX {
            bytes.extend_from_slice(&buffer[..taken]);
        }
        text.consume(taken + usize::from(end.is_some()));
        if let Some((_, byte)) = end {
            if byte == b']' {
                // Whatever stands behind the list is none of it.
                io::copy(text, &mut io::sink())?;
            }
            let is_empty = bytes.trim_ascii().is_empty();
            return Ok((!is_empty).then(|| whole(bytes)));
        }
    }
}

/// A row as the line that stands for it.
fn as_line(row: &Row<'_>) -> String {
    let mut out = String::new();
    let (cells, end) = match row {
        Row::Event { name, time, distinct_id, insert_id, cells } => {
            let each = |_: &mut model::event::Property<'_>| {};
            let event = model::EventRef { name, distinct_id, distinct_id_before_identity: None, time: *time, insert_id, properties: &each };
            wire::archive::write_event(&event, &mut out);
            (cells, "}}\n")
        }
        Row::Profile { key, cells } => {
            wire::archive::write_profile(key, &model::value::Properties::default(), &mut out);
            (cells, "}}\n")
        }
    };
    out.truncate(out.len() - end.len());
    for (name, cell) in cells {
        let comma = if out.ends_with('{') { "" } else { "," };
        match cell {
            Cell::Members(object) => {
                let members = object.trim().trim_start_matches('{').trim_end();
                let members = members.strip_suffix('}').unwrap_or(members);
                if !members.is_empty() {
                    out.push_str(comma);
                    out.push_str(members);
                }
                continue;
            }
            Cell::Plain(value) => {
                out.push_str(comma);
                json::write_string(name, &mut out);
                out.push(':');
                json::write_ref(*value, &mut out);
            }
            Cell::Json(text) => {
                out.push_str(comma);
                json::write_string(name, &mut out);
                out.push(':');
                out.push_str(text);
            }
        }
    }
    out.push_str("}}");
    out
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(bytes: &[u8]) -> Vec<Record> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let mut records = Records::open(file.path()).unwrap();
        std::iter::from_fn(|| records.next().unwrap()).collect()
    }

    fn texts(bytes: &[u8]) -> Vec<String> {
        let text = |record| if let Record::Text(text) = record { text } else { "too long".to_owned() };
        read(bytes).into_iter().map(text).collect()
    }

    #[test]
    fn lines_lists_and_their_packed_forms_hold_the_same_records() {
        let expected = [r#"{"a":"x,]}\""}"#, r#"{"b":[1,{"c":2}]}"#];
        let lines = format!("\u{feff}{}\r\n\n{}", expected[0], expected[1]);
        let list = format!(" [ {} ,\n{}]\n", expected[0], expected[1]);
        for text in [lines, list] {
            let found: Vec<String> = texts(text.as_bytes()).iter().map(|text| text.trim().to_owned()).collect();
            assert_eq!(found, expected);
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(text.as_bytes()).unwrap();
            let found: Vec<String> = texts(&packed.finish().unwrap()).iter().map(|text| text.trim().to_owned()).collect();
            assert_eq!(found, expected);
        }
        assert!(texts(b"[]").is_empty() && texts(b"").is_empty() && texts(b"\n\n").is_empty());
        assert_eq!(texts(b"[{\"a\":1},{\"b\""), [r#"{"a":1}"#, r#"{"b""#]);
    }

    #[test]
    fn a_record_without_end_is_not_held() {
        let mut text = vec![b'x'; RECORD_BYTES_MAX + 2];
        text.extend(b"\n{\"a\":1}\n");
        assert_eq!(read(&text), [Record::TooLong, Record::Text(r#"{"a":1}"#.to_owned())]);
    }
}
