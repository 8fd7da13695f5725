//! A disk in memory that can lose power at any operation, for tests.
//!
//! It is harsher than any real disk: at a crash every unsynced page of 4 KiB is dropped, kept or torn, and every unsynced
//! directory entry is kept or lost, each for itself, as the seed says.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile};

const PAGE_BYTES: usize = 4096;

/// A disk in memory; its clones are the same disk.
///
/// Operations that change something or sync are counted. After [`SimulatedDisk::cut_at`]`(n)` the operation of index `n`
/// reports an error (whether it happened is decided at the crash) and so does every operation behind it, reads included,
/// until [`SimulatedDisk::crash`] brings the power back.
#[derive(Clone, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    files: HashMap<u64, Content>,
    next_file: u64,
    dirs: BTreeMap<PathBuf, Dir>,
    operations: u64,
    cut_at: Option<u64>,
    fail_syncs: bool,
    // Handles of an earlier life write nowhere.
    life: u64,
}

/// What a file holds for its reader, and what of it is on the platter.
#[derive(Default, Clone)]
struct Content {
    seen: Vec<u8>,
    synced: Vec<u8>,
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

impl Content {
    fn survive(&mut self, mood: u64, chance: &mut Chance) {
        if self.seen == self.synced {
            return;
        }
        if mood == 0 {
            self.synced = self.seen.clone();
            return;
        }
        if mood == 1 {
            self.seen = self.synced.clone();
            return;
        }
        // The length is one thing on the platter: old, new, or, while a file grows, anything between.
        let (old_len, new_len) = (self.synced.len(), self.seen.len());
        let len = match chance.below(3) {
            0 => old_len,
            1 => new_len,
            _ => old_len.min(new_len) + chance.below(old_len.abs_diff(new_len) as u64 + 1) as usize,
        };
        let mut bytes = vec![0; len];
        for start in (0..len).step_by(PAGE_BYTES) {
            let end = (start + PAGE_BYTES).min(len);
            let old = page(&self.synced, start, end);
            let new = page(&self.seen, start, end);
            let torn_at = match chance.below(4) {
                _ if old == new => end,
                0 => start,
                1 | 2 => end,
                _ => start + chance.below((end - start) as u64 + 1) as usize,
            };
            for (at, byte) in bytes[start..end].iter_mut().enumerate() {
                let source = if start + at < torn_at { new } else { old };
                // A byte that neither holds reads as zero: a hole.
                *byte = source.get(at).copied().unwrap_or(0);
            }
        }
        self.seen = bytes.clone();
        self.synced = bytes;
    }
}

fn page(bytes: &[u8], start: usize, end: usize) -> &[u8] {
    &bytes[start.min(bytes.len())..end.min(bytes.len())]
}

impl State {
    fn is_cut(&self) -> bool {
        self.cut_at.is_some_and(|cut_at| self.operations > cut_at)
    }

    /// Counts an operation; true where it is the one at which the power goes.
    fn begin(&mut self) -> io::Result<bool> {
        if self.is_cut() {
            return Err(no_power());
        }
        let is_last = self.cut_at == Some(self.operations);
        self.operations += 1;
        Ok(is_last)
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

fn finish<T>(is_last: bool, value: T) -> io::Result<T> {
    if is_last { Err(no_power()) } else { Ok(value) }
}

impl Disk for SimulatedDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.lock();
        let (dir, name) = split(path)?;
        let is_last = state.begin()?;
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
        finish(is_last, Box::new(SimulatedFile { disk: self.clone(), file, life }))
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
        let is_last = state.begin()?;
        let file = state.find(from)?;
        state.change(dir, Change::Rename { from: from_name, to: to_name, file })?;
        finish(is_last, ())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let (dir, name) = split(path)?;
        let is_last = state.begin()?;
        state.find(path)?;
        state.change(dir, Change::Remove(name))?;
        finish(is_last, ())
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
        let is_last = state.begin()?;
        if !is_last {
            for dir in dir.ancestors() {
                state.dirs.entry(dir.to_owned()).or_default();
            }
        }
        finish(is_last, ())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let is_last = state.begin()?;
        let dir = state.dir(dir)?;
        if !is_last {
            dir.synced = dir.seen.clone();
            dir.pending.clear();
        }
        finish(is_last, ())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.lock();
        state.reading()?;
        Ok(state.dirs.contains_key(path) || state.find(path).is_ok())
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
        let is_last = state.begin()?;
        state.files.get_mut(&self.file).ok_or_else(not_found)?.seen.extend_from_slice(bytes);
        finish(is_last, ())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.lock();
        if state.life != self.life {
            return Err(no_power());
        }
        let is_last = state.begin()?;
        if state.fail_syncs {
            return Err(io::Error::other("the simulated disk cannot sync"));
        }
        if !is_last {
            let content = state.files.get_mut(&self.file).ok_or_else(not_found)?;
            content.synced = content.seen.clone();
        }
        finish(is_last, ())
    }
}

/// A small generator of even chances (splitmix64), so that a seed names a survival for ever.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
