//! Stores the records of a file as an authenticated import, each exactly once: how many are stored is written after each batch, and the one
//! batch that may have been under way when the server was killed is compared with what is stored before it is stored again.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::HeaderMap;
use metastore::{CredentialTable, JobPart, PartState};
use model::profile::ProfileKey;
use model::value::Properties;
use model::{Event, ProfileUpdate, TimeRange, Value, ValueRef};
use store::{ScanRequest, StoreError, Wanted};
use tokio::runtime::Handle;
use wire::archive::{self, Times};
use wire::body::{Options, PROFILE_VALUE_BYTES_MAX};
use wire::dialect::Endpoint;

use crate::app::App;
use crate::auth::Writer;
use crate::clock;
use crate::jobs::records::{Record, Records};
use crate::jobs::tally::Tally;
use crate::jobs::{Running, Stop};
use crate::judge::{Judge, Judged};
use crate::leaks::Place;

/// Records, and bytes of them, that are stored together.
const BATCH_RECORDS: usize = 5000;
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Keys of a file's events that are remembered to tell duplicates: 8 bytes each.
const KEYS_MAX: usize = 4_000_000;

/// Where the rejected records of a piece go.
pub(crate) fn rejects_file(dir: &Path, number: i64) -> PathBuf {
    dir.join(format!("{number}.rejects.jsonl"))
}

/// Takes the records of the pieces of one job.
pub(crate) struct Intake<'a> {
    pub app: &'a App,
    pub running: &'a Running,
    pub runtime: Handle,
    pub times: Times,
    /// Where the job's files lie.
    pub dir: PathBuf,
    /// Any record of the piece may be stored already: how many are is not known.
    pub doubts: bool,
}

/// Records that are stored together.
#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    updates: Vec<ProfileUpdate>,
    records: u64,
    bytes: usize,
}

/// What became of one record.
enum Taken {
    Event(Box<Event>),
    Updates(Vec<ProfileUpdate>),
    Refused(String),
}

/// The records that were not taken, with their reasons.
struct Rejects {
    path: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Rejects {
    /// A record that holds a live secret is not written down.
    fn note(&mut self, reason: &str, record: Option<&str>) -> std::io::Result<()> {
        if self.file.is_none() {
            self.file = Some(BufWriter::new(File::create(&self.path)?));
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        writeln!(file, "{}", serde_json::json!({ "reason": reason, "record": record }))
    }
}

impl Intake<'_> {
    /// Stores a piece from where it was; what became of all its records.
    pub(crate) fn store(&self, part: &mut JobPart, path: &Path) -> Result<Tally, Stop> {
        loop {
            match self.go_through(part, path) {
                // Nothing of the batch is acknowledged: it is gone through again once there is room.
                Err(Fault::Overloaded) => self.running.pause(Duration::from_secs(1))?,
                Err(Fault::Stop(stop)) => return Err(stop),
                Ok(tally) => {
                    part.tally = serde_json::to_string(&tally).map_err(|error| Stop::Failed(error.to_string()))?;
                    part.state = PartState::Done;
                    self.app.metastore.put_job_part(self.running.project, self.running.id, part)?;
                    return Ok(tally);
                }
            }
        }
    }

    fn go_through(&self, part: &mut JobPart, path: &Path) -> Result<Tally, Fault> {
        let mut records = Records::open(path)?;
        let rejects = rejects_file(&self.dir, part.number);
        let _ = std::fs::remove_file(&rejects);
        let mut rejects = Rejects { path: rejects, file: None };
        let (mut tally, mut keys) = (Tally::default(), HashSet::new());
        let (stored, mut at, mut batch) = (part.records, 0_u64, Batch::default());
        // The batch behind what is known to be stored may be stored, in part or whole.
        let mut is_unsure = true;
        let mut table = self.app.credentials();
        while let Some(record) = records.next()? {
            at += 1;
            let bytes = if let Record::Text(text) = &record { text.len() } else { 0 };
            let taken = self.take(record, part.number, at, &table, &mut tally, &mut keys, &mut rejects)?;
            if at <= stored {
                // It was judged again to count it, and is stored.
                if at.is_multiple_of(1000) {
                    self.running.check()?;
                }
                continue;
            }
            batch.records += 1;
            batch.bytes += bytes;
            match taken {
                Taken::Event(event) => batch.events.push(*event),
                Taken::Updates(updates) => batch.updates.extend(updates),
                Taken::Refused(_) => {}
            }
            if batch.records as usize >= BATCH_RECORDS || batch.bytes >= BATCH_BYTES {
                self.flush(std::mem::take(&mut batch), part, std::mem::take(&mut is_unsure))?;
                table = self.app.credentials();
            }
        }
        if batch.records > 0 {
            self.flush(batch, part, is_unsure)?;
        }
        if let Some(file) = &mut rejects.file {
            file.flush()?;
        }
        Ok(tally)
    }

    /// Stores a batch and then writes that it is.
    fn flush(&self, mut batch: Batch, part: &mut JobPart, is_unsure: bool) -> Result<(), Fault> {
        self.running.check()?;
        // Whoever sends now goes before what happened long ago: half of the room for unsealed rows is theirs.
        while self.app.store.stats().tail_rows > self.app.settings.store.tail_rows_max / 2 {
            self.running.pause(Duration::from_millis(20))?;
        }
        if is_unsure || self.doubts {
            self.drop_stored(&mut batch.events)?;
        }
        let Batch { events, updates, records, .. } = batch;
        let (project, counts) = (self.running.project, &self.app.counts);
        if !events.is_empty() {
            let count = events.len() as u64;
            self.runtime.block_on(self.app.store.append(project, events))?;
            counts.events.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
        }
        if !updates.is_empty() {
            let count = updates.len() as u64;
            self.runtime.block_on(self.app.store.append_profiles(project, updates))?;
            counts.updates.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
        }
        part.records += records;
        self.app.metastore.put_job_part(project, self.running.id, part)?;
        self.running.progress().records += records;
        Ok(())
    }

    /// Leaves out events that this job stored before.
    fn drop_stored(&self, events: &mut Vec<Event>) -> Result<(), StoreError> {
        let times = || events.iter().map(|event| event.time);
        let (Some(from), Some(to)) = (times().min(), times().max()) else { return Ok(()) };
        let names: HashSet<&str> = events.iter().map(|event| event.name.as_str()).collect();
        let request = ScanRequest {
            events: Some(names.into_iter().map(str::to_owned).collect()),
            range: TimeRange::new(from, to.plus_ms(1)).unwrap_or(TimeRange::ALL),
            properties: Wanted::Named(vec!["mp_processing_time_ms".to_owned()]),
            ids: true,
            dedup: false,
        };
        let wanted: HashSet<u64> = events.iter().map(key).collect();
        let snapshot = self.app.store.snapshot(self.running.project)?;
        let parts = snapshot.fold(&request, HashMap::<u64, usize>::new, |found, batch| {
            for row in 0..batch.len() {
                let since = |value| matches!(value, ValueRef::Int(ms) if ms >= self.running.started_at.0);
                let key = key_of(batch.event(), batch.distinct_id(row), batch.times()[row], batch.insert_id(row));
                if wanted.contains(&key) && batch.columns()[0].value(row).is_some_and(since) {
                    *found.entry(key).or_default() += 1;
                }
            }
            true
        })?;
        let mut found: HashMap<u64, usize> = HashMap::new();
        parts.into_iter().flatten().for_each(|(key, count)| *found.entry(key).or_default() += count);
        events.retain(|event| match found.get_mut(&key(event)) {
            Some(left) if *left > 0 => {
                *left -= 1;
                false
            }
            _ => true,
        });
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "what is counted and what is rejected go along with the record")]
    fn take(
        &self,
        record: Record,
        part: i64,
        at: u64,
        table: &CredentialTable,
        tally: &mut Tally,
        keys: &mut HashSet<u64>,
        rejects: &mut Rejects,
    ) -> Result<Taken, Fault> {
        let Record::Text(text) = record else {
            const TOO_LONG: &str = "longer than a record may be";
            tally.others.refuse(TOO_LONG);
            rejects.note(TOO_LONG, None)?;
            return Ok(Taken::Refused(TOO_LONG.to_owned()));
        };
        let (taken, counts) = match archive::read(&text) {
            Err(why) => (Taken::Refused(why.to_owned()), &mut tally.others),
            Ok(archive::Record::Profile(key, properties)) => {
                (self.profile(key, properties, &format!("{}-{part}-{at}", self.running.id), text.len(), table), &mut tally.profiles)
            }
            Ok(archive::Record::Event(mut event)) => {
                let kept = archive::prepare(&mut event, &self.times, || insert_id(&text));
                let day = kept.time.map(archive::day_of);
                let taken = self.event(event, &kept.distinct_id, text.len(), table);
                (taken, day.map_or(&mut tally.others, |day| tally.days.entry(day).or_default()))
            }
        };
        match &taken {
            Taken::Refused(why) => {
                counts.refuse(why);
                let is_secret = why == Place::Property.refusal() || why == Place::Token.refusal();
                rejects.note(why, (!is_secret).then_some(text.as_str()))?;
            }
            Taken::Event(event) => {
                counts.source += 1;
                counts.imported += 1;
                counts.duplicates += u64::from(keys.len() < KEYS_MAX && !keys.insert(key(event)));
            }
            Taken::Updates(_) => {
                counts.source += 1;
                counts.imported += 1;
            }
        }
        Ok(taken)
    }

    /// What the rules of an authenticated write make of a record.
    fn judged(&self, endpoint: Endpoint, record: Value, bytes: usize, table: &CredentialTable) -> Judged {
        let judge = Judge {
            app: self.app,
            table,
            endpoint,
            // Nobody sits at this machine whose place it would be.
            options: &Options { is_long: bytes > PROFILE_VALUE_BYTES_MAX, ip: Some(false), ..Options::default() },
            writer: &Writer { project: Some(self.running.project), authenticated: true, by: None },
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            origin: None,
            headers: &HeaderMap::new(),
            host: None,
            now: clock::now(),
        };
        judge.judge(vec![record])
    }

    fn event(&self, event: Value, distinct_id: &str, bytes: usize, table: &CredentialTable) -> Taken {
        let mut judged = self.judged(Endpoint::Import, event, bytes, table);
        if let Some(rejection) = judged.rejections.pop() {
            return Taken::Refused(rejection.message);
        }
        match judged.events.remove(&self.running.project).and_then(|mut events| events.pop()) {
            Some(mut event) => {
                // Whose it is was resolved by the source, from links that may lie outside what is imported.
                if !distinct_id.is_empty() {
                    distinct_id.clone_into(&mut event.distinct_id);
                }
                Taken::Event(Box::new(event))
            }
            None => Taken::Refused(IGNORED.to_owned()),
        }
    }

    fn profile(&self, key: ProfileKey, properties: Properties, id: &str, bytes: usize, table: &CredentialTable) -> Taken {
        let Some(project) = table.projects.get(&self.running.project) else { return Taken::Refused("unknown project".to_owned()) };
        let endpoint = if matches!(key, ProfileKey::User(_)) { Endpoint::Engage } else { Endpoint::Groups };
        let mut judged = self.judged(endpoint, archive::as_update(key, properties, &project.token), bytes, table);
        if let Some(rejection) = judged.rejections.pop() {
            return Taken::Refused(rejection.message);
        }
        let mut updates = judged.updates.remove(&self.running.project).unwrap_or_default();
        updates.iter_mut().for_each(|update| update.dedup_id = Some(format!("import-{id}")));
        if updates.is_empty() { Taken::Refused(IGNORED.to_owned()) } else { Taken::Updates(updates) }
    }
}

/// Why a record is left out that is taken without being stored.
const IGNORED: &str = "asks to be ignored";

/// Why a pass over a file ended early.
enum Fault {
    Overloaded,
    Stop(Stop),
}

impl From<Stop> for Fault {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::Overloaded) { Self::Overloaded } else { Self::Stop(error.into()) }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Stop(error.into())
    }
}

impl From<metastore::MetaError> for Fault {
    fn from(error: metastore::MetaError) -> Self {
        Self::Stop(error.into())
    }
}

/// The id of an event that has none: the same for the same line, so that a second import does not double it.
fn insert_id(line: &str) -> String {
    metastore::sha256(line.trim().as_bytes())[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key(event: &Event) -> u64 {
    key_of(&event.name, &event.distinct_id, event.time.0, &event.insert_id)
}

fn key_of(event: &str, distinct_id: &str, time_ms: i64, insert_id: &str) -> u64 {
    let mut bytes = Vec::with_capacity(event.len() + distinct_id.len() + insert_id.len() + 32);
    for text in [event, distinct_id, insert_id] {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes.extend(time_ms.to_le_bytes());
    let hash = metastore::sha256(&bytes);
    u64::from_le_bytes(hash[..8].try_into().expect("a hash has more than 8 bytes"))
}
