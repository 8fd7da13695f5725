//! An import from another server: days of events in pieces that grow while they are small, then profiles. A piece is fetched whole, checked
//! to be whole, and only then stored; so it is fetched once, however often the server is restarted while it is stored.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use metastore::{JobPart, PartState};
use wire::archive::{self, Times};

use crate::jobs::asked::{self, Pull};
use crate::jobs::intake::Intake;
use crate::jobs::records::{Record, Records};
use crate::jobs::source::{Fault, Source};
use crate::jobs::{Running, Stop};

/// Days that one request asks for at most.
const DAYS_MAX: u32 = 31;
/// The next request asks for twice as many days while a piece is smaller than this, and for half as many where it is larger than that.
const SMALL_BYTES: u64 = 16 * 1024 * 1024;
const LARGE_BYTES: u64 = 256 * 1024 * 1024;

const PROFILES: &str = "profiles";

/// Where a fetched piece lies until it is stored.
pub(crate) fn fetched_file(dir: &Path, number: i64) -> PathBuf {
    dir.join(format!("{number}.fetched"))
}

fn days_name(from: Date, to: Date) -> String {
    format!("{from} to {to}")
}

fn days_of(name: &str) -> Option<(Date, Date)> {
    let (from, to) = name.split_once(" to ")?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

/// An import that pulls.
pub(crate) struct Puller<'a> {
    pub intake: Intake<'a>,
    pub source: Source<'a>,
    pub pull: &'a Pull,
    pub parts: Vec<JobPart>,
}

impl Puller<'_> {
    fn running(&self) -> &Running {
        self.intake.running
    }

    /// Pulls everything that is not there yet.
    pub(crate) fn run(&mut self) -> Result<(), Stop> {
        if let Some((from, to)) = &self.pull.days {
            let (from, to) = (asked::date(from).map_err(Stop::Failed)?, asked::date(to).map_err(Stop::Failed)?);
            self.events(from, to)?;
        }
        if self.pull.profiles {
            self.whole(PROFILES, None)?;
        }
        for (key, id) in self.pull.groups.clone() {
            self.whole(&format!("groups {key}"), Some((&key, &id)))?;
        }
        Ok(())
    }

    fn events(&mut self, from: Date, to: Date) -> Result<(), Stop> {
        let total = days_between(from, to);
        let (mut next, mut count, mut done) = (from, 1, 0);
        for at in 0.. {
            {
                let mut progress = self.running().progress();
                (progress.unit, progress.total, progress.done) = ("days".to_owned(), total, done);
            }
            // Pieces of an earlier process come first, in their order.
            let known = self.parts.iter().filter(|part| days_of(&part.name).is_some()).nth(at).cloned();
            if known.is_none() && next > to {
                break;
            }
            let (first, last) = known.as_ref().and_then(|part| days_of(&part.name)).unwrap_or_else(|| archive::days_from(next, count, to));
            let mut part = known.unwrap_or_else(|| self.new_part(days_name(first, last)));
            let bytes = self.piece(&mut part)?;
            let (first, last) = days_of(&part.name).unwrap_or((first, last));
            let days = days_between(first, last);
            done += days;
            count = match bytes {
                Some(bytes) if bytes < SMALL_BYTES => (days as u32 * 2).min(DAYS_MAX),
                Some(bytes) if bytes > LARGE_BYTES => (days as u32 / 2).max(1),
                _ => (days as u32).min(DAYS_MAX),
            };
            next = last.tomorrow().map_err(|error| Stop::Failed(error.to_string()))?;
        }
        Ok(())
    }

    /// A piece that is one, however large.
    fn whole(&mut self, name: &str, group: Option<(&str, &str)>) -> Result<(), Stop> {
        let known = self.parts.iter().find(|part| part.name == name).cloned();
        let mut part = known.unwrap_or_else(|| self.new_part(name.to_owned()));
        if part.state == PartState::Done {
            return Ok(());
        }
        let path = fetched_file(&self.intake.dir, part.number);
        if part.state == PartState::Fetching || !path.exists() {
            self.begin(&mut part)?;
            self.fetch_profiles(&path, group)?;
            self.fetched(&mut part, &path)?;
        }
        self.store(&mut part, &path, Times::default())
    }

    fn new_part(&self, name: String) -> JobPart {
        let number = self.parts.iter().map(|part| part.number).max().unwrap_or(0) + 1;
        JobPart { number, name, state: PartState::Fetching, records: 0, tally: String::new() }
    }

    fn put(&mut self, part: &JobPart) -> Result<(), Stop> {
        self.intake.app.metastore.put_job_part(self.running().project, self.running().id, part)?;
        match self.parts.iter_mut().find(|known| known.number == part.number) {
            Some(known) => *known = part.clone(),
            None => self.parts.push(part.clone()),
        }
        Ok(())
    }

    /// Fetches and stores some days, where that was not done; the bytes that were fetched.
    fn piece(&mut self, part: &mut JobPart) -> Result<Option<u64>, Stop> {
        if part.state == PartState::Done {
            return Ok(None);
        }
        let path = fetched_file(&self.intake.dir, part.number);
        if part.state == PartState::Fetching || !path.exists() {
            // Another answer may have its lines in another order: which of them are stored cannot be told by their number.
            self.intake.doubts = part.records > 0;
            part.records = 0;
            self.begin(part)?;
            self.fetch_days(part, &path)?;
            self.fetched(part, &path)?;
        }
        let bytes = path.metadata()?.len();
        let times = Times::of_zone(self.pull.source_timezone.as_deref()).map_err(Stop::Failed)?;
        self.store(part, &path, Times { days: days_of(&part.name), ..times })?;
        Ok(Some(bytes))
    }

    fn begin(&mut self, part: &mut JobPart) -> Result<(), Stop> {
        part.state = PartState::Fetching;
        std::fs::create_dir_all(&self.intake.dir)?;
        self.put(part)
    }

    /// What was fetched is durable before it is noted.
    fn fetched(&mut self, part: &mut JobPart, path: &Path) -> Result<(), Stop> {
        File::open(path)?.sync_all()?;
        File::open(&self.intake.dir)?.sync_all()?;
        part.state = PartState::Fetched;
        self.put(part)
    }

    fn store(&mut self, part: &mut JobPart, path: &Path, times: Times) -> Result<(), Stop> {
        let running = self.intake.running;
        {
            let mut progress = running.progress();
            (progress.phase, progress.part) = ("storing".to_owned(), part.name.clone());
        }
        self.intake.times = times;
        let stored = self.intake.store(part, path);
        self.put(part)?;
        stored?;
        self.intake.doubts = false;
        std::fs::remove_file(path)?;
        Ok(())
    }

    fn fetch_days(&mut self, part: &mut JobPart, path: &Path) -> Result<(), Stop> {
        let running = self.intake.running;
        let mut days = days_of(&part.name).ok_or_else(|| Stop::Failed(format!("`{}` names no days", part.name)))?;
        self.source.persist(|source, failures| {
            // What breaks off again and again may be too much for one answer.
            if failures >= 2 && days.0 < days.1 {
                days.1 = archive::days_from(days.0, (days_between(days.0, days.1) / 2).max(1) as u32, days.1).1;
            }
            {
                let mut progress = running.progress();
                (progress.phase, progress.part, progress.bytes) = ("fetching".to_owned(), days_name(days.0, days.1), 0);
            }
            let mut out = BufWriter::new(File::create(path)?);
            source.events(&days.0.to_string(), &days.1.to_string(), &mut out)?;
            out.flush()?;
            check_whole(path)
        })?;
        part.name = days_name(days.0, days.1);
        Ok(())
    }

    fn fetch_profiles(&mut self, path: &Path, group: Option<(&str, &str)>) -> Result<(), Stop> {
        let running = self.intake.running;
        let name = group.map_or_else(|| PROFILES.to_owned(), |(key, _)| format!("groups {key}"));
        let mut out = BufWriter::new(File::create(path)?);
        let (mut session, mut rows, mut page_number, mut total) = (None::<String>, 0, 0, None);
        loop {
            let page = self.source.persist(|source, _| {
                {
                    let mut progress = running.progress();
                    (progress.phase, progress.part) = ("fetching".to_owned(), name.clone());
                    (progress.unit, progress.done, progress.total) = ("profiles".to_owned(), rows, total.unwrap_or(0));
                }
                let text = source.profiles(group.map(|(_, id)| id), session.as_deref().map(|session| (session, page_number)))?;
                archive::read_page(&text, group.map(|(key, _)| key)).map_err(Fault::Broken)
            })?;
            out.write_all(page.lines.as_bytes())?;
            rows += page.rows as u64;
            total = total.or(page.total);
            page_number += 1;
            // The last page is short; where nobody says how long a full one is, an empty one ends it.
            let is_last = page.rows == 0 || page.page_size.is_some_and(|size| (page.rows as u64) < size);
            if is_last || total.is_some_and(|total| rows >= total) || page.session_id.is_empty() {
                break;
            }
            session = Some(page.session_id);
        }
        out.flush()?;
        Ok(())
    }
}

fn days_between(from: Date, to: Date) -> u64 {
    from.until(to).map_or(1, |span| u64::try_from(span.get_days()).unwrap_or(0) + 1)
}

/// Refuses an answer that broke off: the source says so in its last line, gzip has no end, or the last line is half a one.
fn check_whole(path: &Path) -> Result<(), Fault> {
    let broken = |error: std::io::Error| Fault::Broken(format!("the answer broke off: {error}"));
    let mut records = Records::open(path).map_err(broken)?;
    let mut last = None;
    while let Some(record) = records.next().map_err(broken)? {
        last = Some(record);
    }
    match last {
        Some(Record::Text(line)) if archive::is_broken_off(&line) || archive::read(&line).is_err() => {
            Err(Fault::Broken("the answer broke off".to_owned()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_off_answer_is_no_answer() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let is_whole = |text: &[u8]| {
            std::fs::write(file.path(), text).unwrap();
            check_whole(file.path()).is_ok()
        };
        let event = r#"{"event":"A","properties":{"time":1}}"#;
        assert!(is_whole(b"") && is_whole(event.as_bytes()) && is_whole(format!("not JSON\n{event}\n").as_bytes()));
        assert!(!is_whole(format!("{event}\nterminated early\n").as_bytes()));
        assert!(!is_whole(format!("{event}\n{}", &event[..20]).as_bytes()));
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(format!("{event}\n").repeat(100).as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        assert!(is_whole(&packed) && !is_whole(&packed[..packed.len() - 9]));
    }

    #[test]
    fn a_piece_names_its_days() {
        let (from, to) = ("2024-02-28".parse().unwrap(), "2024-03-01".parse().unwrap());
        assert_eq!(days_of(&days_name(from, to)), Some((from, to)));
        assert_eq!((days_between(from, to), days_between(from, from), days_of(PROFILES)), (3, 1, None));
    }
}
