//! The ledger: a file beside the key file, outside the data directory and every backup, that remembers what was revoked and where the
//! audit log ends. A restored backup is older than the ledger; so nothing that was revoked comes back to life, and an audit log that was
//! cut or rewritten does not fit it.
//!
//! Lines are appended and synced before a change is answered: `epoch N`, `audit ID CHAIN`, `revoked SHA256 AT_MS`, `cut ID`. A torn last line
//! belongs to a change that was not answered.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use model::Timestamp;

use crate::Result;
use crate::envelope::{hex, parse_hex32, write_file};

const HEADER: &str = "# Sluice ledger: it keeps revoked credentials dead when a backup is restored. It belongs beside the key file.";

/// What the ledger remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// How many revocations there were.
    pub epoch: i64,
    /// The last audit row and its link of the chain.
    pub audit: Option<(i64, [u8; 32])>,
    /// Hashes of credentials, and from when on each is dead.
    pub revoked: Vec<([u8; 32], Timestamp)>,
    /// A row where the audit log once ended and that was gone when the database was opened, though nothing was restored.
    pub cut: Option<i64>,
}

/// The open file.
pub(crate) struct Ledger {
    path: PathBuf,
    file: Option<File>,
}

impl Ledger {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    /// What the file remembers; `None` where there is no file.
    pub(crate) fn read(&self) -> Result<Option<Recorded>> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut recorded = Recorded::default();
        // What stands behind the last line break was torn.
        for line in text[..text.rfind('\n').map_or(0, |end| end + 1)].lines() {
            let mut words = line.split(' ');
            match (words.next(), words.next(), words.next()) {
                (Some("epoch"), Some(epoch), _) => recorded.epoch = epoch.parse().unwrap_or(0).max(recorded.epoch),
                (Some("audit"), Some(id), Some(chain)) => recorded.audit = id.parse().ok().zip(parse_hex32(chain)).or(recorded.audit),
                (Some("cut"), Some(id), _) => recorded.cut = id.parse().ok(),
                (Some("revoked"), Some(hash), Some(at)) => {
                    recorded.revoked.extend(parse_hex32(hash).zip(at.parse().ok().map(Timestamp)));
                }
                _ => {}
            }
        }
        Ok(Some(recorded))
    }

    /// Puts this in the place of what the file remembers.
    pub(crate) fn rewrite(&mut self, recorded: &Recorded) -> Result<()> {
        self.file = None;
        write_file(&self.path, &format!("{HEADER}\n{}", lines(recorded)), 0o600)
    }

    /// Adds to what the file remembers; when this returns, it survives a power cut.
    pub(crate) fn append(&mut self, recorded: &Recorded) -> Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(OpenOptions::new().append(true).open(&self.path)?),
        };
        file.write_all(lines(recorded).as_bytes())?;
        file.sync_data()?;
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn lines(recorded: &Recorded) -> String {
    let mut lines = format!("epoch {}\n", recorded.epoch);
    if let Some((id, chain)) = &recorded.audit {
        lines.push_str(&format!("audit {id} {}\n", hex(chain)));
    }
    lines.extend(recorded.cut.map(|id| format!("cut {id}\n")));
    recorded.revoked.iter().for_each(|(hash, at)| lines.push_str(&format!("revoked {} {}\n", hex(hash), at.0)));
    lines
}
