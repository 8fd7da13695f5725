//! Backups: one file with everything of an instance but the key file. It is made while the server runs, and holds every event that was
//! acknowledged before it began.
//!
//! A tar of the log, the database, the segments and lookup tables, and at the end a list of all of them with lengths and checksums. The log is copied first
//! and the database after it, while nothing is sealed: what the database says is sealed is in the segments, what it does not know yet
//! is in the log.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use metastore::Metastore;
use store::Store;

const LIST: &str = "sluice-backup-1";

/// Reads what it passes on, and knows its length and checksum.
struct Checked<R> {
    from: R,
    sum: crc32fast::Hasher,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.sum.update(&buffer[..read]);
        Ok(read)
    }
}

/// What a backup holds.
pub(crate) struct Written {
    pub files: usize,
    pub bytes: u64,
}

/// Writes a backup of a data directory. `running` is its store, where a server runs.
pub(crate) fn write(dir: &Path, metastore: &Metastore, running: Option<&Store>, to: &Path) -> Result<Written, String> {
    let text = |error: io::Error| format!("cannot write {}: {error}", to.display());
    if to.exists() {
        return Err(format!("{} exists already", to.display()));
    }
    let mut unfinished = to.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished).map_err(text)?;
    let written = fill(dir, metastore, running, tar::Builder::new(io::BufWriter::new(file)));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    let written = written?;
    fs::rename(&unfinished, to).map_err(text)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(text)?;
    Ok(written)
}

fn fill(dir: &Path, metastore: &Metastore, running: Option<&Store>, mut tar: tar::Builder<io::BufWriter<File>>) -> Result<Written, String> {
    let text = |error: io::Error| format!("the backup failed: {error}");
    let _held = running.map(Store::hold_files);
    let (mut list, mut written) = (String::new(), Written { files: 0, bytes: 0 });
    let mut add = |tar: &mut tar::Builder<_>, name: &Path, path: &Path| -> io::Result<()> {
        let file = File::open(path)?;
        // A log file grows while it is copied: what it has now is enough.
        let len = file.metadata()?.len();
        let mut header = tar::Header::new_gnu();
        header.set_size(len);
        header.set_mode(0o600);
        let mut from = Checked { from: file.take(len), sum: crc32fast::Hasher::new() };
        tar.append_data(&mut header, name, &mut from)?;
        list.push_str(&format!("{:08x} {len} {}\n", from.sum.finalize(), name.display()));
        written.files += 1;
        written.bytes += len;
        Ok(())
    };
    let (log, segments) = store::files(dir).map_err(text)?;
    for name in log {
        add(&mut tar, &name, &dir.join(&name)).map_err(text)?;
    }
    // All that the copy may name: meanwhile no content is replaced, and the file of a table that is deleted stays.
    let tables = metastore.lookup_tables_of_all_projects().map_err(|error| error.to_string())?;
    let copy = dir.join("metastore.copy");
    let _ = fs::remove_file(&copy);
    let copied = metastore.copy_to(&copy).map_err(|error| error.to_string());
    let added = copied.and_then(|()| add(&mut tar, Path::new(metastore::DATABASE), &copy).map_err(text));
    let _ = fs::remove_file(&copy);
    added?;
    for name in segments {
        add(&mut tar, &name, &dir.join(&name)).map_err(text)?;
    }
    for name in tables.iter().filter_map(|table| table.content.as_ref()).map(store::lookup_file) {
        add(&mut tar, &name, &dir.join(&name)).map_err(text)?;
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(list.len() as u64);
    header.set_mode(0o600);
    tar.append_data(&mut header, LIST, list.as_bytes()).map_err(text)?;
    let mut file = tar.into_inner().map_err(text)?;
    file.flush().map_err(text)?;
    file.get_ref().sync_all().map_err(text)?;
    Ok(written)
}

/// Puts a backup in the place of a data directory that no server holds; what was there before is moved aside and named. Nothing of the
/// backup is live before all of it was checked.
pub(crate) fn restore(dir: &Path, from: &Path) -> Result<Option<PathBuf>, String> {
    let text = |error: io::Error| format!("cannot restore {}: {error}", from.display());
    let beside = |word: &str| {
        let mut name = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf()).into_os_string();
        name.push(word);
        PathBuf::from(name)
    };
    let fresh = beside(".restoring");
    let _ = fs::remove_dir_all(&fresh);
    fs::create_dir_all(&fresh).map_err(text)?;
    let outcome = unpack(&fresh, from).map_err(|error| format!("{} is no whole backup: {error}", from.display()));
    let outcome = outcome.and_then(|()| Metastore::mark_restored(&fresh.join(metastore::DATABASE)).map_err(|error| error.to_string()));
    if outcome.is_err() {
        let _ = fs::remove_dir_all(&fresh);
    }
    outcome?;
    let has_data = dir.join(metastore::DATABASE).exists();
    let aside = (1..).map(|number| beside(&format!(".before-restore-{number}"))).find(|path| !path.exists());
    let aside = aside.filter(|_| has_data);
    match &aside {
        Some(aside) => fs::rename(dir, aside).map_err(text)?,
        None if dir.exists() => fs::remove_dir_all(dir).map_err(text)?,
        None => {}
    }
    fs::rename(&fresh, dir).map_err(text)?;
    let folder = beside("").parent().map(Path::to_path_buf).unwrap_or_default();
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(text)?;
    Ok(aside)
}

fn unpack(to: &Path, from: &Path) -> io::Result<()> {
    let broken = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    let mut tar = tar::Archive::new(io::BufReader::new(File::open(from)?));
    let (mut found, mut list) = (std::collections::BTreeMap::new(), None);
    for entry in tar.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_path_buf();
        if name == Path::new(LIST) {
            list = Some(io::read_to_string(&mut entry)?);
            continue;
        }
        // Names are ours: one folder deep at most, and nothing that leads elsewhere.
        let is_plain = name.components().all(|part| matches!(part, std::path::Component::Normal(_))) && name.components().count() <= 2;
        if !is_plain || !entry.header().entry_type().is_file() {
            return Err(broken(format!("it holds {}", name.display())));
        }
        let path = to.join(&name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let mut checked = Checked { from: &mut entry, sum: crc32fast::Hasher::new() };
        let len = io::copy(&mut checked, &mut file)?;
        file.sync_all()?;
        found.insert(name.display().to_string(), format!("{:08x} {len}", checked.sum.finalize()));
    }
    let list = list.ok_or_else(|| broken("its end is missing".to_owned()))?;
    let listed = list.lines().map(|line| {
        let mut words = line.splitn(3, ' ');
        let sum = format!("{} {}", words.next().unwrap_or_default(), words.next().unwrap_or_default());
        (words.next().unwrap_or_default().to_owned(), sum)
    });
    let listed: std::collections::BTreeMap<String, String> = listed.collect();
    match listed.iter().find(|(name, sum)| found.get(*name) != Some(sum)) {
        Some((name, _)) => Err(broken(format!("{name} is damaged"))),
        None if listed.len() != found.len() || !found.contains_key(metastore::DATABASE) => Err(broken("files are missing".to_owned())),
        None => Ok(()),
    }
}
