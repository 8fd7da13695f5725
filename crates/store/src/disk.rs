//! The disk under log, segments and directories: the few operations that Sluice needs, with what each of them promises
//! after a power cut. [`RealDisk`] is the operating system's; [`SimulatedDisk`] can lose power at any operation.

mod real;
mod simulated;

use std::io;
use std::path::Path;

pub use real::RealDisk;
pub use simulated::{Fault, SimulatedDisk};

use crate::paths;

/// Files and directories.
///
/// Nothing survives a power cut before it was synced: bytes by [`DiskFile::sync`] of their file, and the entry of a file
/// (its creation, its new name, its removal) by [`Disk::sync_dir`] of its directory. Unsynced bytes and entries may
/// survive in part and in any order.
pub trait Disk: Send + Sync {
    /// Creates an empty file, or empties the one that is there.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file to write behind its end.
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Reads a whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Reads exactly `len` bytes from `offset`; an error where the file ends before.
    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>>;
    /// The length of a file.
    fn len(&self, path: &Path) -> io::Result<u64>;
    /// Gives a file a new name, replacing a file of that name. Both names lie in one directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names of the files and directories in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates a directory and its missing parents. When it returns, they survive a power cut.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes the entries of a directory durable: what was created, renamed or removed in it.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Whether there is a file or directory of this name.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// How many bytes can still be written below a directory, by whoever runs the server.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// A file that is being written.
pub trait DiskFile: Send {
    /// Writes all bytes behind those that were written before; after an error some of them may stand there.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes everything written so far durable. After an error nothing may be assumed about any unsynced byte, and
    /// syncing again proves nothing.
    fn sync(&mut self) -> io::Result<()>;
}

/// Writes a file so that it is there whole or not at all, whatever happens meanwhile, and replaces the one of that name.
pub(crate) fn write_whole(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let unfinished = dir.join(paths::unfinished(name));
    let write = || {
        let mut file = disk.create(&unfinished)?;
        file.write_all(bytes)?;
        #[cfg(not(sluice_mutant = "no_segment_sync"))]
        file.sync()?;
        Ok(())
    };
    write().inspect_err(|_: &io::Error| {
        // It would hold bytes that somebody may be short of.
        let _ = disk.remove(&unfinished);
    })?;
    disk.rename(&unfinished, &dir.join(name))?;
    #[cfg(not(sluice_mutant = "no_dir_sync"))]
    disk.sync_dir(dir)?;
    Ok(())
}
