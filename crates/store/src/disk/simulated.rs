//! A disk in memory that can lose power at any operation, fail at any of them, and run full, for tests.
//!
//! It is harsher than any real disk: at a crash every unsynced page of 4 KiB is dropped, kept or torn, and every unsynced
//! directory entry is kept or lost, each for itself, as the seed says. What a failed sync left unsynced no later sync makes durable, although
//! reads show it until the crash: so do operating systems.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile};

mod content;

use content::{Chance, Content};

/// A disk in memory; its clones are the same disk.
///
/// Operations that change something or sync are counted. After [`SimulatedDisk::cut_at`]`(n)` the operation of index `n`
/// reports an error (whether it happened is decided at the crash) and so does every operation behind it, reads included,
/// until [`SimulatedDisk::crash`] brings the power back.
#[derive(Clone, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

/// How an operation fails while the power is on. It reports an error in each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing of it was done.
    Refused,
    /// Half of the bytes were written or synced; what has no bytes was not done.
    Half,
    /// All of it was done.
    Done,
}

#[derive(Default)]
struct State {
    files: HashMap<u64, Content>,
    next_file: u64,
    dirs: BTreeMap<PathBuf, Dir>,
    operations: u64,
    cut_at: Option<u64>,
    faults: Option<(Range<u64>, Fault)>,
    bytes_max: Option<u64>,
    fail_syncs: bool,
    // Handles of an earlier life write nowhere.
    life: u64,
}

/// What is to become of an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    /// The power goes.
    Last,
    Fails(Fault),
}

/// The entries of a directory on the platter, and the changes since.
#[derive(Default)]
struct Dir {
    synced: BTreeMap<String, u64>,
    seen: BTreeMap<String, u64>,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Insert(String, u64),
    Remove(String),
    Rename { from: String, to: String, file: u64 },
}

impl Change {
    fn apply(&self, entries: &mut BTreeMap<String, u64>) {
        match self {
            Self::Insert(name, file) => {
                entries.insert(name.clone(), *file);
            }
            Self::Remove(name) => {
                entries.remove(name);
            }
            Self::Rename { from, to, file } => {
                if entries.get(from) == Some(file) {
                    entries.remove(from);
                }
                entries.insert(to.clone(), *file);
            }
        }
    }
}

impl SimulatedDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many operations that change something or sync were called so far.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Cuts the power at the operation of this index, counted as [`SimulatedDisk::operations`] counts.
    pub fn cut_at(&self, operation: u64) {
        self.lock().cut_at = Some(operation);
    }

    /// Whether the power is cut.
    pub fn is_cut(&self) -> bool {
        self.lock().is_cut()
    }

    /// Makes operations fail with the power on: those of these indexes, counted as [`SimulatedDisk::operations`] counts.
    pub fn fail(&self, operations: Range<u64>, fault: Fault) {
        self.lock().faults = Some((operations, fault));
    }

    /// Makes the disk so large that its files hold so many bytes, or boundless again.
    pub fn set_bytes_max(&self, bytes_max: Option<u64>) {
        self.lock().bytes_max = bytes_max;
    }

    /// How many bytes all files hold.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    /// Makes every sync of a file fail from now on, with the power on.
    pub fn fail_syncs(&self, fail: bool) {
        self.lock().fail_syncs = fail;
    }

    /// A copy of the disk as it is, unsynced state included, that shares nothing with this one.
    pub fn fork(&self) -> Self {
        let state = self.lock();
        let dirs = state.dirs.iter().map(|(path, dir)| {
            let copy = Dir { synced: dir.synced.clone(), seen: dir.seen.clone(), pending: dir.pending.clone() };
            (path.clone(), copy)
        });
        let copy = State {
            files: state.files.clone(),
            next_file: state.next_file,
            dirs: dirs.collect(),
            operations: state.operations,
            cut_at: state.cut_at,
            faults: state.faults.clone(),
            bytes_max: state.bytes_max,
            fail_syncs: state.fail_syncs,
            life: state.life,
        };
        Self { state: Arc::new(Mutex::new(copy)) }
    }

    /// Loses everything that was not synced, or keeps or tears it, as the seed says, and brings the power back.
    /// Files that were open stay unusable.
    pub fn crash(&self, seed: u64) {
        let mut state = self.lock();
        let state = &mut *state;
        let mut chance = Chance(seed);
        // One seed in eight is a plain one: everything unsynced is lost, or everything survives.
        let mood = chance.below(16);
        state.life += 1;
        state.cut_at = None;
        state.faults = None;
        state.fail_syncs = false;
        for dir in state.dirs.values_mut() {
            for change in std::mem::take(&mut dir.pending) {
                if mood == 0 || (mood != 1 && chance.below(2) == 0) {
                    change.apply(&mut dir.synced);
                }
            }
            dir.seen = dir.synced.clone();
        }
        let mut ids: Vec<u64> = state.files.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            if let Some(content) = state.files.get_mut(&id) {
                content.survive(mood, &mut chance);
            }
        }
        let live: std::collections::HashSet<u64> = state.dirs.values().flat_map(|dir| dir.synced.values().copied()).collect();
        state.files.retain(|id, _| live.contains(id));
    }

    /// Flips one bit of a file, on the platter too: what age does to disks.
    pub fn corrupt(&self, path: &Path, offset: usize) -> io::Result<()> {
        let mut state = self.lock();
        let file = state.find(path)?;
        let content = state.files.get_mut(&file).ok_or_else(not_found)?;
        for bytes in [&mut content.seen, &mut content.synced] {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= 0x10;
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a test does not make the state unreadable for its other threads.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_cut(&self) -> bool {
        self.cut_at.is_some_and(|cut_at| self.operations > cut_at)
    }

    fn bytes(&self) -> u64 {
        // What has no name any more takes no room.
        let named = self.dirs.values().flat_map(|dir| dir.seen.values());
        named.filter_map(|file| self.files.get(file)).map(|content| content.seen.len() as u64).sum()
    }

    /// Counts an operation and says what becomes of it.
    fn begin(&mut self) -> io::Result<Fate> {
        if self.is_cut() {
            return Err(no_power());
        }
        let operation = self.operations;
        self.operations += 1;
        let fault = self.faults.as_ref().filter(|(operations, _)| operations.contains(&operation)).map(|(_, fault)| *fault);
        Ok(match fault {
            _ if self.cut_at == Some(operation) => Fate::Last,
            Some(fault) => Fate::Fails(fault),
            None => Fate::Fine,
        })
    }

    fn reading(&self) -> io::Result<()> {
        if self.is_cut() { Err(no_power()) } else { Ok(()) }
    }

    fn dir(&mut self, path: &Path) -> io::Result<&mut Dir> {
        self.dirs.get_mut(path).ok_or_else(not_found)
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        let (dir, name) = split(path)?;
        self.dirs.get(dir).and_then(|dir| dir.seen.get(&name)).copied().ok_or_else(not_found)
    }

    fn change(&mut self, dir: &Path, change: Change) -> io::Result<()> {
        let dir = self.dir(dir)?;
        change.apply(&mut dir.seen);
        dir.pending.push(change);
        Ok(())
    }
}

fn split(path: &Path) -> io::Result<(&Path, String)> {
    match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
        (Some(dir), Some(name)) => Ok((dir, name.to_owned())),
        _ => Err(io::Error::from(io::ErrorKind::InvalidInput)),
    }
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

fn no_power() -> io::Error {
    io::Error::other("the simulated disk has no power")
}

fn fault() -> io::Error {
    io::Error::other("the simulated disk fails")
}

impl Fate {
    /// Whether it is done, of an operation without bytes.
    fn is_done(self) -> io::Result<()> {
        match self {
            Self::Fails(Fault::Refused | Fault::Half) => Err(fault()),
            Self::Fine | Self::Last | Self::Fails(Fault::Done) => Ok(()),
        }
    }

    /// What an operation reports that was done.
    fn report<T>(self, value: T) -> io::Result<T> {
        match self {
            Self::Fine => Ok(value),
            Self::Last => Err(no_power()),
            Self::Fails(_) => Err(fault()),
        }
    }
}

impl Disk for SimulatedDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.lock();
        let (dir, name) = split(path)?;
        let fate = state.begin()?;
        fate.is_done()?;
        let file = match state.find(path) {
            Ok(file) => file,
            Err(_) => {
                state.dir(dir)?;
                let file = state.next_file;
                state.next_file += 1;
                state.change(dir, Change::Insert(name, file))?;
                file
            }
        };
        state.files.entry(file).or_default().seen.clear();
        let life = state.life;
        fate.report(Box::new(SimulatedFile { disk: self.clone(), file, life }))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let state = self.lock();
        state.reading()?;
        let file = state.find(path)?;
        Ok(Box::new(SimulatedFile { disk: self.clone(), file, life: state.life }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.lock();
        state.reading()?;
        let file = state.find(path)?;
        state.files.get(&file).map(|content| content.seen.clone()).ok_or_else(not_found)
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let state = self.lock();
        state.reading()?;
        let file = state.find(path)?;
        let content = state.files.get(&file).ok_or_else(not_found)?;
        let start = usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let bytes = start.checked_add(len).and_then(|end| content.seen.get(start..end));
        bytes.map(<[u8]>::to_vec).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let state = self.lock();
        state.reading()?;
        let file = state.find(path)?;
        state.files.get(&file).map(|content| content.seen.len() as u64).ok_or_else(not_found)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let (dir, from_name) = split(from)?;
        let (to_dir, to_name) = split(to)?;
        if dir != to_dir {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let fate = state.begin()?;
        fate.is_done()?;
        let file = state.find(from)?;
        state.change(dir, Change::Rename { from: from_name, to: to_name, file })?;
        fate.report(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let (dir, name) = split(path)?;
        let fate = state.begin()?;
        fate.is_done()?;
        state.find(path)?;
        state.change(dir, Change::Remove(name))?;
        fate.report(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.lock();
        state.reading()?;
        let mut names: Vec<String> = state.dir(dir)?.seen.keys().cloned().collect();
        names.extend(
            state.dirs.keys().filter(|path| path.parent() == Some(dir)).filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())),
        );
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        if state.dirs.contains_key(dir) {
            return state.reading();
        }
        let fate = state.begin()?;
        fate.is_done()?;
        if fate != Fate::Last {
            for dir in dir.ancestors() {
                state.dirs.entry(dir.to_owned()).or_default();
            }
        }
        fate.report(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let fate = state.begin()?;
        fate.is_done()?;
        let dir = state.dir(dir)?;
        if fate != Fate::Last {
            dir.synced = dir.seen.clone();
            dir.pending.clear();
        }
        fate.report(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.lock();
        state.reading()?;
        Ok(state.dirs.contains_key(path) || state.find(path).is_ok())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let state = self.lock();
        state.reading()?;
        Ok(state.bytes_max.unwrap_or(u64::MAX).saturating_sub(state.bytes()))
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    file: u64,
    life: u64,
}

impl DiskFile for SimulatedFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.lock();
        if state.life != self.life {
            return Err(no_power());
        }
        let fate = state.begin()?;
        let room = usize::try_from(state.bytes_max.unwrap_or(u64::MAX).saturating_sub(state.bytes())).unwrap_or(usize::MAX);
        let done = match fate {
            Fate::Fails(Fault::Refused) => 0,
            Fate::Fails(Fault::Half) => bytes.len() / 2,
            _ => bytes.len(),
        };
        let written = &bytes[..done.min(room)];
        state.files.get_mut(&self.file).ok_or_else(not_found)?.seen.extend_from_slice(written);
        if written.len() < done {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        fate.report(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.lock();
        if state.life != self.life {
            return Err(no_power());
        }
        let mut fate = state.begin()?;
        if state.fail_syncs {
            fate = Fate::Fails(Fault::Refused);
        }
        let content = state.files.get_mut(&self.file).ok_or_else(not_found)?;
        match fate {
            Fate::Fine | Fate::Fails(Fault::Done) => content.sync(content.seen.len()),
            Fate::Fails(Fault::Half) => content.sync((content.synced.len() + content.seen.len()) / 2),
            Fate::Fails(Fault::Refused) | Fate::Last => {}
        }
        if matches!(fate, Fate::Fails(Fault::Half | Fault::Refused)) {
            content.forget();
        }
        fate.report(())
    }
}
