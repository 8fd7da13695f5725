//! Everything that authentication needs, in memory: read in one transaction, followed by epoch.

use std::collections::HashMap;

use model::{AccessRight, ProjectId, Role, Timestamp};

use crate::projects::{self, Project};
use crate::{Metastore, Result, Secret};

/// Whether a key takes the legacy MD5 signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Legacy {
    /// Refused.
    Off,
    /// Taken, and counted.
    Warn,
    /// Taken.
    On,
}

/// An API key.
#[derive(Debug, Clone)]
pub struct KeyEntry {
    /// Its row.
    pub key_id: i64,
    /// The project it belongs to.
    pub project: ProjectId,
    /// What it allows.
    pub rights: Vec<AccessRight>,
    /// Whether it takes the legacy signature.
    pub legacy: Legacy,
    /// Its secret; `None` once revoked, with legacy off, or without the key file.
    pub secret: Option<Secret>,
    /// Since when it is dead.
    pub revoked_at: Option<Timestamp>,
    /// When it dies.
    pub expires_at: Option<Timestamp>,
    /// How far ahead `expire` may lie, milliseconds; `None` means any time.
    pub lifetime_max_ms: Option<i64>,
}

/// An API secret, known by its hash.
#[derive(Debug, Clone)]
pub struct SecretEntry {
    /// The key it belongs to.
    pub api_key: String,
    /// The project it belongs to.
    pub project: ProjectId,
    /// Since when it is dead.
    pub revoked_at: Option<Timestamp>,
}

/// A service account.
#[derive(Debug, Clone)]
pub struct ServiceAccountEntry {
    /// The project it belongs to.
    pub project: ProjectId,
    /// What it is there.
    pub role: Role,
    /// SHA-256 of its secret.
    pub secret_sha256: [u8; 32],
    /// When it dies.
    pub expires_at: Option<Timestamp>,
    /// Since when it is dead.
    pub revoked_at: Option<Timestamp>,
}

/// Every credential at one epoch.
#[derive(Debug, Clone, Default)]
pub struct CredentialTable {
    /// The epoch it was read at.
    pub epoch: u64,
    /// Every project.
    pub projects: HashMap<ProjectId, Project>,
    /// Project by token.
    pub tokens: HashMap<String, ProjectId>,
    /// Key by API key.
    pub keys: HashMap<String, KeyEntry>,
    /// Secret by its SHA-256.
    pub secrets: HashMap<[u8; 32], SecretEntry>,
    /// Service account by username.
    pub service_accounts: HashMap<String, ServiceAccountEntry>,
}

impl Metastore {
    /// Reads every credential in one transaction.
    pub fn credentials(&self) -> Result<CredentialTable> {
        let mut connection = self.lock();
        let read = connection.transaction()?;
        let mut table = CredentialTable::default();
        let epoch: i64 = read.query_row("SELECT value FROM instance WHERE name = 'epoch'", [], |row| row.get(0))?;
        table.epoch = epoch as u64;
        {
            let mut found = read.prepare("SELECT id, organization_id, name, timezone, token, created_at, hash_key FROM projects")?;
            for project in found.query_map([], projects::from_row)? {
                let project = project?;
                table.tokens.insert(project.token.clone(), project.id);
                table.projects.insert(project.id, project);
            }
            let mut found = read.prepare(
                "SELECT keys.id, keys.project_id, keys.api_key, keys.secret_sha256, keys.secret_sealed, keys.rights, keys.legacy,
                        keys.lifetime_max_ms, keys.expires_at, keys.revoked_at, projects.wrapped_data_key
                 FROM keys JOIN projects ON projects.id = keys.project_id",
            )?;
            let mut rows = found.query([])?;
            while let Some(row) = rows.next()? {
                let project = ProjectId(row.get(1)?);
                let (api_key, rights, legacy): (String, String, String) = (row.get(2)?, row.get(5)?, row.get(6)?);
                let sealed: Option<Vec<u8>> = row.get(4)?;
                let wrapped: Vec<u8> = row.get(10)?;
                let legacy = match legacy.as_str() {
                    "on" => Legacy::On,
                    "warn" => Legacy::Warn,
                    _ => Legacy::Off,
                };
                let secret = match (&self.wrapping_key, sealed, legacy) {
                    (_, None, _) | (None, ..) | (.., Legacy::Off) => None,
                    (Some(key), Some(sealed), _) => {
                        Some(Secret::new(key.data_key(project.0, &wrapped)?.open(project.0, &api_key, &sealed)?))
                    }
                };
                let revoked_at = row.get::<_, Option<i64>>(9)?.map(Timestamp);
                table.secrets.insert(row.get(3)?, SecretEntry { api_key: api_key.clone(), project, revoked_at });
                let entry = KeyEntry {
                    key_id: row.get(0)?,
                    project,
                    rights: rights.split(',').filter_map(AccessRight::parse).collect(),
                    legacy,
                    secret,
                    revoked_at,
                    expires_at: row.get::<_, Option<i64>>(8)?.map(Timestamp),
                    lifetime_max_ms: row.get(7)?,
                };
                table.keys.insert(api_key, entry);
            }
            let mut found =
                read.prepare("SELECT project_id, username, role, secret_sha256, expires_at, revoked_at FROM service_accounts")?;
            let mut rows = found.query([])?;
            while let Some(row) = rows.next()? {
                let role: String = row.get(2)?;
                let entry = ServiceAccountEntry {
                    project: ProjectId(row.get(0)?),
                    role: Role::parse(&role).unwrap_or(Role::Consumer),
                    secret_sha256: row.get(3)?,
                    expires_at: row.get::<_, Option<i64>>(4)?.map(Timestamp),
                    revoked_at: row.get::<_, Option<i64>>(5)?.map(Timestamp),
                };
                table.service_accounts.insert(row.get(1)?, entry);
            }
        }
        Ok(table)
    }
}
