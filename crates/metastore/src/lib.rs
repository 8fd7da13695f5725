//! Everything Sluice knows about itself: accounts, projects, credentials, audit, the segments table.
//! Every change is one SQLite transaction, synced before the call returns. No plaintext secret enters the database.

mod accounts;
mod audit;
mod credentials;
mod envelope;
mod error;
mod keys;
mod projects;
mod secret;
mod segments;

use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use rusqlite::Connection;

pub use accounts::Account;
pub use credentials::{CredentialTable, KeyEntry, Legacy, SecretEntry, ServiceAccountEntry};
pub use error::MetaError;
pub use keys::KeyPair;
pub use projects::{NewProject, Project, SignatureLifetime};
pub use secret::{Secret, has_valid_checksum, is_weak, sha256};
pub use segments::{NewSegment, Segment, SegmentChange, SegmentKind};

/// What every call of this crate returns.
pub type Result<T> = std::result::Result<T, MetaError>;

const MIGRATIONS: &[&str] = &[include_str!("migrations/0001-start.sql")];

/// The metastore of one data directory.
pub struct Metastore {
    connection: Mutex<Connection>,
    wrapping_key: Option<envelope::WrappingKey>,
}

impl Metastore {
    /// Opens or makes `dir/metastore.sqlite`. A key file is made beside it on the first run only; where it is gone later, hashed
    /// credentials work and everything that needs a plaintext secret answers [`MetaError::KeyFileMissing`].
    pub fn open(dir: &Path, key_file: &Path) -> Result<Self> {
        let mut connection = Connection::open(dir.join("metastore.sqlite"))?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000;",
        )?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let known = MIGRATIONS.len() as i64;
        if version > known {
            return Err(MetaError::NewerSchema(version));
        }
        for (index, migration) in MIGRATIONS.iter().enumerate().skip(version as usize) {
            let change = connection.transaction()?;
            change.execute_batch(migration)?;
            change.pragma_update(None, "user_version", index as i64 + 1)?;
            change.commit()?;
        }
        let wrapped: i64 = connection.query_row("SELECT COUNT(*) FROM projects", [], |row| row.get(0))?;
        let wrapping_key = envelope::WrappingKey::load(key_file, wrapped == 0)?;
        Ok(Self { connection: Mutex::new(connection), wrapping_key })
    }

    /// Whether the key file was there: without it signatures cannot be checked.
    pub fn has_key_file(&self) -> bool {
        self.wrapping_key.is_some()
    }

    /// A number that grows with every change of a credential, role or token.
    pub fn epoch(&self) -> Result<u64> {
        let epoch: i64 = self.lock().query_row("SELECT value FROM instance WHERE name = 'epoch'", [], |row| row.get(0))?;
        Ok(epoch as u64)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a transaction rolled it back; the connection is as good as before.
        self.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn wrapping_key(&self) -> Result<&envelope::WrappingKey> {
        self.wrapping_key.as_ref().ok_or(MetaError::KeyFileMissing)
    }
}

/// Bumps the epoch inside the transaction that changes a credential.
fn bump_epoch(change: &rusqlite::Transaction<'_>) -> Result<()> {
    change.execute("UPDATE instance SET value = value + 1 WHERE name = 'epoch'", [])?;
    Ok(())
}
