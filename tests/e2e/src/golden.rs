//! The golden cases of `tests/cases`, read; `tests/cases.rs` says how they are written.

use std::path::{Path, PathBuf};

use base64::Engine;

/// One request and what must come back.
pub struct Case {
    /// The heading that it stands under.
    pub title: String,
    /// What stands behind `request`.
    pub words: Vec<String>,
    /// The request, with `«…»` in it.
    pub request: String,
    /// The answer, with `«…»` in it.
    pub answer: String,
}

/// The fixture of a file, and its cases in order.
pub fn cases(text: &str) -> (String, Vec<Case>) {
    let (mut name, mut title, mut found) = (String::new(), String::new(), Vec::<Case>::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(fixture) = line.strip_prefix("Fixture: ") {
            name = fixture.trim().to_owned();
        } else if let Some(heading) = line.strip_prefix("## ") {
            title = heading.to_owned();
        } else if let Some(info) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            let mut words = info.split(' ');
            match words.next() {
                Some("request") => {
                    let words = words.map(str::to_owned).collect();
                    found.push(Case { title: title.clone(), words, request: block.join("\n"), answer: String::new() });
                }
                Some("answer") => found.last_mut().expect("an answer follows a request").answer = block.join("\n"),
                _ => {}
            }
        }
    }
    (name, found)
}

/// A text with every `«…»` replaced.
pub fn filled(text: &str, now_ms: i64) -> String {
    let mut text = text.to_owned();
    while let Some(end) = text.find('»') {
        let start = text[..end].rfind('«').expect("» closes something");
        let inner = &text[start + '«'.len_utf8()..end];
        let (name, rest) = inner.split_once(' ').unwrap_or((inner, ""));
        let offset =
            |prefix: &str| name.strip_prefix(prefix).and_then(|rest| if rest.is_empty() { Some(0) } else { rest.parse::<i64>().ok() });
        let value = if let Some(offset) = offset("now_ms") {
            (now_ms + offset).to_string()
        } else if let Some(offset) = offset("now") {
            (now_ms / 1000 + offset).to_string()
        } else if let Some(offset) = offset("today") {
            model::profile::wall_time(model::Timestamp(now_ms + offset * 86_400_000))[..10].to_owned()
        } else {
            match name {
                "base64" => base64::engine::general_purpose::STANDARD.encode(rest),
                "url" => wire::params::encode(rest),
                "basic" => format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(rest)),
                "repeat" => {
                    let (count, piece) = rest.split_once(' ').expect("«repeat N text»");
                    piece.repeat(count.parse().expect("a count"))
                }
                other => panic!("«{other}» is unknown"),
            }
        };
        text.replace_range(start..end + '»'.len_utf8(), &value);
    }
    text
}

/// Every file of cases below a folder.
pub fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// Every request of the cases of fixture `write`, as its bytes: what real clients send, to make something else of.
pub fn write_requests(now_ms: i64) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../cases"), &mut found);
    let texts = found.iter().map(|path| std::fs::read_to_string(path).expect("a case file"));
    let of_writes = texts.map(|text| cases(&text)).filter(|(fixture, _)| fixture == "write").flat_map(|(_, cases)| cases);
    let of_writes = of_writes.filter(|case| !case.words.iter().any(|word| word == "raw"));
    let split = |case: Case| {
        let request = filled(&case.request, now_ms);
        let (head, body) = request.split_once("\n\n").unwrap_or((&request, ""));
        (head.to_owned(), body.as_bytes().to_vec())
    };
    of_writes.map(split).filter(|(head, body)| head.len() + body.len() < 64 * 1024).collect()
}
