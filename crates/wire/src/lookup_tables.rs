//! Lookup tables as CSV (RFC 4180), and the answers about them (`contract/write.md` 1.5). A file is read whole or not at all; rows are counted
//! from the header, which is row 0.

use std::cell::Cell as Shared;
use std::io::{self, Read};
use std::rc::Rc;

use model::lookup::{Cell, LookupBuilder, LookupTable};
use model::{Number, Value};

use crate::dialect::Reply;
use crate::json;

/// The longest file, once its gzip is undone.
pub const FILE_BYTES_MAX: usize = 100 * 1024 * 1024;
/// Columns of a file.
pub const COLUMNS_MAX: usize = 1000;
/// Failures that are told.
const FAILURES_MAX: usize = 10;
/// The longest name of a column, in characters: it stands in the name of a property.
const NAME_CHARS_MAX: usize = 255;

/// A row that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRow {
    /// Its number; the header is row 0.
    pub index: u32,
    /// What is wrong with it.
    pub message: String,
}

/// Why a file is no lookup table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableError {
    /// It is longer than [`FILE_BYTES_MAX`].
    TooLarge,
    /// Its gzip is broken.
    BrokenGzip,
    /// Rows break rules: the first ones that do.
    Failed(Vec<FailedRow>),
}

/// Reads a file, packed by gzip or not.
pub fn parse(bytes: &[u8]) -> Result<LookupTable, TableError> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        read(flate2::read::MultiGzDecoder::new(bytes), FILE_BYTES_MAX)
    } else {
        read(bytes, FILE_BYTES_MAX)
    }
}

fn read(from: impl Read, bytes_max: usize) -> Result<LookupTable, TableError> {
    let offence = Rc::new(Shared::new(None));
    let checked = Checked { from, bytes_left: bytes_max, state: State::Start, row: 0, fields: 1, mark: 0, offence: offence.clone() };
    let mut rows = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(checked);
    let mut failures: Vec<FailedRow> = Vec::new();
    let (mut record, mut builder, mut width, mut number) = (csv::ByteRecord::new(), None, 0, 0);
    while failures.len() < FAILURES_MAX {
        match rows.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(_) => match offence.take() {
                Some(Offence::TooLarge) => return Err(TableError::TooLarge),
                Some(Offence::Row(failed)) => {
                    failures.push(failed);
                    break;
                }
                None => return Err(TableError::BrokenGzip),
            },
        }
        let outcome = match &mut builder {
            None => header(&record).map(|made| {
                width = record.len();
                builder = Some(made);
            }),
            Some(builder) => row(builder, &record, width, number),
        };
        if let Err(message) = outcome {
            failures.push(FailedRow { index: number, message });
            // Without a header no row can be judged.
            if builder.is_none() {
                break;
            }
        }
        number += 1;
    }
    match builder {
        None if failures.is_empty() => Err(TableError::Failed(vec![FailedRow { index: 0, message: "header row is required".to_owned() }])),
        Some(builder) if failures.is_empty() => Ok(builder.finish()),
        _ => Err(TableError::Failed(failures)),
    }
}

fn header(record: &csv::ByteRecord) -> Result<LookupBuilder, String> {
    let names = fields(record).map_err(|reason| format!("invalid header: {reason}"))?;
    if names.len() < 2 {
        return Err("invalid header: at least 2 columns are needed, the first one for the key".to_owned());
    }
    let mut seen = std::collections::HashSet::new();
    for (at, name) in names.iter().enumerate() {
        // What the key's column is called does not matter.
        if at > 0 && (name.trim().is_empty() || name.chars().any(char::is_control) || name.chars().count() > NAME_CHARS_MAX) {
            return Err(format!("invalid header: the name of column {} must be one line of 1 to {NAME_CHARS_MAX} characters", at + 1));
        }
        if !seen.insert(name) {
            return Err(format!("invalid header: column name `{name}` is not unique"));
        }
    }
    Ok(LookupBuilder::new(names[1..].iter().copied()))
}

fn row(builder: &mut LookupBuilder, record: &csv::ByteRecord, width: usize, number: u32) -> Result<(), String> {
    if record.len() != width {
        return Err("invalid row: wrong number of fields".to_owned());
    }
    let fields = fields(record).map_err(|reason| format!("invalid row: {reason}"))?;
    if fields[0].trim().is_empty() {
        return Err("primary key is required and cannot be blank".to_owned());
    }
    let pushed = builder.push(number, fields[0], fields[1..].iter().copied(), cell);
    pushed.map_err(|first| format!("invalid row: row indexes {first} and {number} have the same primary key"))
}

fn fields(record: &csv::ByteRecord) -> Result<Vec<&str>, &'static str> {
    record.iter().map(|field| std::str::from_utf8(field).map_err(|_| "text is not valid UTF-8")).collect()
}

/// The typed value of a field: a number, an RFC 3339 timestamp, a boolean, a list of strings, nothing, else a string.
pub fn cell(field: &str) -> Cell {
    if field.is_empty() {
        return Cell::Undefined;
    }
    if let Some(number) = number(field) {
        return Cell::Value(Value::Number(number));
    }
    if let Some(at) = timestamp(field) {
        return Cell::Datetime(at);
    }
    if field.eq_ignore_ascii_case("true") || field.eq_ignore_ascii_case("false") {
        return Cell::Value(Value::Bool(field.eq_ignore_ascii_case("true")));
    }
    let list =
        || json::parse(field).ok().filter(|value| matches!(value, Value::List(list) if list.iter().all(|item| item.as_str().is_some())));
    let list = if field.starts_with('[') { list() } else { None };
    Cell::Value(list.unwrap_or_else(|| Value::from(field)))
}

/// An integer or a float. Words such as `inf` and `NaN` are strings.
fn number(field: &str) -> Option<Number> {
    let is_spelled_in_digits = field.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let float = field.parse::<f64>().ok().filter(|float| is_spelled_in_digits && float.is_finite())?;
    let digits = field.strip_prefix('+').unwrap_or(field);
    let is_whole = digits.strip_prefix('-').unwrap_or(digits).bytes().all(|byte| byte.is_ascii_digit());
    Some(match digits.parse::<i64>() {
        Ok(int) => Number::Int(int),
        // An integer keeps its digits beyond the machine's.
        Err(_) if is_whole => Number::parse(digits),
        Err(_) => Number::from_f64(float),
    })
}

/// Milliseconds of `2021-08-21T05:36:01Z`; seconds and offset are needed.
fn timestamp(field: &str) -> Option<i64> {
    let shape = |at: usize, byte: u8| match at {
        4 | 7 => byte == b'-',
        10 => byte.eq_ignore_ascii_case(&b't'),
        13 | 16 => byte == b':',
        _ => byte.is_ascii_digit(),
    };
    let (date_time, rest) = field.split_at_checked(19)?;
    if !date_time.bytes().enumerate().all(|(at, byte)| shape(at, byte)) {
        return None;
    }
    let offset = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|char: char| char.is_ascii_digit()),
        None => rest,
    };
    let is_offset = match offset.as_bytes() {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', a, b, b':', c, d] => [a, b, c, d].iter().all(|digit| digit.is_ascii_digit()),
        _ => false,
    };
    is_offset.then(|| field.parse::<jiff::Timestamp>().ok())?.map(|at| at.as_millisecond())
}

/// What the bytes of a file break.
#[derive(Debug)]
enum Offence {
    TooLarge,
    Row(FailedRow),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// A field begins, and nothing of it was read.
    Start,
    Plain,
    Quoted,
    /// A quote inside a quoted field: it ends it, or is the first of two.
    Quote,
}

/// Passes bytes on while they keep to RFC 4180, which the parser behind it does not insist on, and to the limits.
struct Checked<R> {
    from: R,
    bytes_left: usize,
    state: State,
    row: u32,
    /// Fields of the row so far.
    fields: usize,
    /// Bytes of a byte order mark so far; more than 3 once there can be none.
    mark: usize,
    offence: Rc<Shared<Option<Offence>>>,
}

impl<R> Checked<R> {
    fn refuse(&self, offence: Offence) -> io::Error {
        self.offence.set(Some(offence));
        io::ErrorKind::InvalidData.into()
    }

    fn broken(&self, message: &str) -> io::Error {
        self.refuse(Offence::Row(FailedRow { index: self.row, message: format!("invalid row: {message}") }))
    }

    fn step(&mut self, byte: u8) -> io::Result<()> {
        if self.mark < 3 && byte == [0xef, 0xbb, 0xbf][self.mark] {
            self.mark += 1;
            return Ok(());
        }
        self.mark = usize::MAX;
        self.state = match (self.state, byte) {
            (State::Quoted, b'"') => State::Quote,
            (State::Quoted, _) => State::Quoted,
            (State::Start, b'"') => State::Quoted,
            (State::Quote, b'"') => State::Quoted,
            (_, b',') => {
                self.fields += 1;
                if self.fields > COLUMNS_MAX {
                    return Err(self.broken(&format!("more than {COLUMNS_MAX} fields")));
                }
                State::Start
            }
            (_, b'\n' | b'\r') => {
                // An empty line is no row.
                if self.state != State::Start || self.fields > 1 {
                    self.row += 1;
                }
                self.fields = 1;
                State::Start
            }
            (State::Plain, b'"') => return Err(self.broken("a quote inside a field that is not quoted")),
            (State::Quote, _) => return Err(self.broken("text behind a quoted field")),
            _ => State::Plain,
        };
        Ok(())
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        if read == 0 && self.state == State::Quoted {
            return Err(self.broken("a quoted field does not end"));
        }
        self.bytes_left = self.bytes_left.checked_sub(read).ok_or_else(|| self.refuse(Offence::TooLarge))?;
        for byte in &buffer[..read] {
            self.step(*byte)?;
        }
        Ok(read)
    }
}

/// The table was replaced.
pub fn replaced() -> Reply {
    Reply::json(200, "{\"code\":200,\"status\":\"OK\"}".to_owned())
}

/// The tables of a project, by id and name.
pub fn list<'t>(tables: impl Iterator<Item = (&'t str, &'t str)>) -> Reply {
    let mut body = String::from("{\"code\":200,\"status\":\"OK\",\"results\":[");
    for (at, (id, name)) in tables.enumerate() {
        body.push_str(if at > 0 { ",{\"id\":" } else { "{\"id\":" });
        json::write_string(id, &mut body);
        body.push_str(",\"name\":");
        json::write_string(name, &mut body);
        body.push('}');
    }
    body.push_str("]}");
    Reply::json(200, body)
}

/// There is no such table in the project.
pub fn not_found(id: &str) -> Reply {
    let mut body = String::from("{\"code\":404,\"error\":");
    json::write_string(&format!("Lookup table with id '{}' was not found.", crate::error::cleared(id)), &mut body);
    body.push_str(",\"status\":\"Not Found\"}");
    Reply::json(404, body)
}

/// The file is no lookup table; the one that was there stays.
pub fn invalid(error: &TableError) -> Reply {
    match error {
        TableError::TooLarge => Reply::refused(413, &format!("request exceeds max limit of {FILE_BYTES_MAX} bytes")),
        TableError::BrokenGzip => Reply::refused(400, "the gzip body is broken"),
        TableError::Failed(failures) => {
            let mut body = String::from(
                "{\"code\":400,\"error\":\"Some data points in the request failed validation.\",\"status\":\"Bad Request\",\"failed_records\":[",
            );
            for (at, failed) in failures.iter().enumerate() {
                body.push_str(&format!("{}{{\"index\":{},\"message\":", if at > 0 { "," } else { "" }, failed.index));
                json::write_string(&failed.message, &mut body);
                body.push('}');
            }
            body.push_str("]}");
            Reply::json(400, body)
        }
    }
}

#[cfg(test)]
mod tests;
