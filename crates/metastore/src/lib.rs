//! Everything Sluice knows about itself: accounts, projects, credentials, audit, the segments table.
//! Every change is one SQLite transaction, synced before the call returns. No plaintext secret enters the database.

mod account_codes;
mod accounts;
mod audit;
mod backup;
mod bearer_tokens;
mod callers;
mod credentials;
mod envelope;
mod error;
mod group_keys;
mod identity;
mod invitations;
mod jobs;
mod keys;
mod ledger;
mod lookup_tables;
mod members;
mod projects;
mod second_factor;
mod secret;
mod segments;
mod service_accounts;
mod sessions;
mod tickets;
mod usage;
mod wrapping_key;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use model::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction};

use crate::envelope::WrappingKeys;
use crate::ledger::{Ledger, Recorded};

pub use accounts::{Account, PASSWORD_CHARS_MIN, is_guessable};
pub use audit::{Actor, AuditCheck, AuditRow, By};
pub use bearer_tokens::BearerTokenRow;
pub use callers::{Caller, CallerKey, Outcome};
pub use credentials::{
    BearerEntry, Credential, CredentialTable, IdentityEntry, KeyEntry, Leaked, Legacy, SecretEntry, ServiceAccountEntry, TokenEntry,
};
pub use error::MetaError;
pub use group_keys::{GROUP_KEYS_MAX, GroupKey, NewGroupKey};
pub use invitations::{Invitation, InvitationCodes, Invited};
pub use jobs::{Job, JobPart, JobState, PartState};
pub use keys::{KeyPair, KeyRow, NewKey, SecretForm};
pub use lookup_tables::{
    LOOKUP_ROWS_MAX, LOOKUP_TABLES_MAX, LookupContent, LookupProperty, LookupTableChange, LookupTableRow, NewLookupTable, ReplacedBy,
};
pub use members::{Member, Transfer};
pub use projects::{NewProject, Project, ProjectChange, SignatureLifetime, TokenOptions, WeekStart};
pub use second_factor::NewTotp;
pub use secret::{Secret, has_valid_checksum, is_weak, sha256};
pub use segments::{NewSegment, Segment, SegmentChange, SegmentKind};
pub use service_accounts::{NewServiceAccount, ServiceAccountRow};
pub use sessions::{Proof, Session, SignIn, SignedIn, Visit};
pub use tickets::{Alias, Ticket, TicketMessage, TicketState};

/// What every call of this crate returns.
pub type Result<T> = std::result::Result<T, MetaError>;

const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001-start.sql"),
    include_str!("migrations/0002-credentials.sql"),
    include_str!("migrations/0003-people.sql"),
    include_str!("migrations/0004-identity.sql"),
    include_str!("migrations/0005-groups.sql"),
    include_str!("migrations/0008-jobs.sql"),
    include_str!("migrations/0009-limits.sql"),
];

/// The database below a data directory.
pub const DATABASE: &str = "metastore.sqlite";

/// The metastore of one data directory.
pub struct Metastore {
    connection: Mutex<Connection>,
    wrapping_keys: RwLock<Option<WrappingKeys>>,
    key_file: PathBuf,
    ledger: Mutex<Ledger>,
}

/// Where the ledger of a key file lies.
pub fn ledger_file(key_file: &Path) -> PathBuf {
    let mut name = key_file.as_os_str().to_owned();
    name.push(".ledger");
    name.into()
}

impl Metastore {
    /// Opens or makes the database of `dir`. A key file is made on the first run only; where it is gone later, hashed
    /// credentials work and everything that needs a plaintext secret answers [`MetaError::KeyFileMissing`].
    ///
    /// Where the ledger beside the key file is ahead of the database, a backup was restored: what is known to be revoked is revoked
    /// again, and every other credential waits until an owner confirms it ([`Metastore::suspended_projects`]).
    pub fn open(dir: &Path, key_file: &Path, now: Timestamp) -> Result<Self> {
        let mut connection = Connection::open(dir.join(DATABASE))?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000;",
        )?;
        connection.set_prepared_statement_cache_capacity(64);
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
        let projects: i64 = connection.query_row("SELECT COUNT(*) FROM projects", [], |row| row.get(0))?;
        let wrapping_keys = RwLock::new(WrappingKeys::load(key_file, projects == 0)?);
        let ledger = Mutex::new(Ledger::new(ledger_file(key_file)));
        let this = Self { connection: Mutex::new(connection), wrapping_keys, key_file: key_file.to_path_buf(), ledger };
        this.follow_ledger(now)?;
        this.finish_wrapping_key_rotation()?;
        Ok(this)
    }

    /// Whether the key file was there: without it signatures cannot be checked.
    pub fn has_key_file(&self) -> bool {
        self.wrapping_keys.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// A number that grows with every change of a credential, role or token.
    pub fn epoch(&self) -> Result<u64> {
        Ok(number(&self.lock(), EPOCH)? as u64)
    }

    /// The newest time that anything was noted at: of changes, and of calls with credentials.
    pub fn newest_time(&self) -> Result<Timestamp> {
        let newest =
            "SELECT MAX(COALESCE((SELECT at FROM audit ORDER BY id DESC LIMIT 1), 0), COALESCE((SELECT MAX(last_at) FROM callers), 0))";
        Ok(Timestamp(self.lock().query_row(newest, [], |row| row.get(0))?))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a transaction rolled it back; the connection is as good as before.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wrapping_keys(&self) -> Result<WrappingKeys> {
        self.wrapping_keys.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(MetaError::KeyFileMissing)
    }

    /// The wrapping keys, with a new key file where the old one was lost.
    fn made_wrapping_keys(&self) -> Result<WrappingKeys> {
        let mut keys = self.wrapping_keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.is_none() {
            *keys = WrappingKeys::load(&self.key_file, true)?;
        }
        keys.clone().ok_or(MetaError::KeyFileMissing)
    }

    /// Commits a change and tells the ledger of it: what it revoked (hashes, and from when on), and where the audit log ends now.
    /// When this returns, both survive a power cut. The caller still holds the connection, so that the ledger hears changes in order.
    fn finish(&self, change: Transaction<'_>, revoked: &[([u8; 32], Timestamp)]) -> Result<()> {
        if !revoked.is_empty() {
            change.execute("UPDATE instance SET value = value + 1 WHERE name = $1", [REVOCATIONS])?;
        }
        let recorded =
            Recorded { epoch: number(&change, REVOCATIONS)?, audit: audit::head(&change)?, revoked: revoked.to_vec(), cut: None };
        change.commit()?;
        self.ledger().append(&recorded)
    }
}

const EPOCH: &str = "epoch";
const REVOCATIONS: &str = "revocations";
const MAILED_THROUGH: &str = "mailed_through";
const HAS_LEDGER: &str = "has_ledger";

/// A number of the instance; 0 where it was never set.
fn number(connection: &Connection, name: &str) -> Result<i64> {
    let found = connection.query_row("SELECT value FROM instance WHERE name = $1", [name], |row| row.get(0)).optional()?;
    Ok(found.unwrap_or(0))
}

fn set_number(connection: &Connection, name: &str, value: i64) -> Result<()> {
    connection.execute(
        "INSERT INTO instance (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )?;
    Ok(())
}

/// Bumps the epoch inside the transaction that changes a credential.
fn bump_epoch(change: &Transaction<'_>) -> Result<()> {
    change.execute("UPDATE instance SET value = value + 1 WHERE name = $1", [EPOCH])?;
    Ok(())
}
