//! Everything that authentication needs, in memory: read in one transaction, followed by epoch.

use std::collections::HashMap;

use model::network::Networks;
use model::{AccessRight, AccountId, ProjectId, Role, Timestamp};

use crate::identity;
use crate::projects::{self, Project};
use crate::secret::scannable_in;
use crate::{Metastore, Result, Secret, sha256};

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

impl Legacy {
    /// The word for it on the command line and in the metastore.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::On => "on",
        }
    }

    /// Reads the word back.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Off, Self::Warn, Self::On].into_iter().find(|legacy| legacy.as_str() == text)
    }
}

/// A credential that was proved, by its name in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// By API key: signed, or by the key's secret.
    Key(String),
    /// By user name.
    ServiceAccount(String),
    /// By SHA-256.
    Bearer([u8; 32]),
    /// A person who signed in, as a member; the session is looked after elsewhere.
    Member(AccountId),
}

/// A bearer token.
#[derive(Debug, Clone)]
pub struct BearerEntry {
    /// Its row.
    pub id: i64,
    /// Whose it is.
    pub account: AccountId,
    /// When it dies.
    pub expires_at: Option<Timestamp>,
    /// Since when it is dead.
    pub revoked_at: Option<Timestamp>,
}

/// A project token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenEntry {
    /// Where its events go.
    pub project: ProjectId,
    /// Until when, if it was reset.
    pub ends_at: Option<Timestamp>,
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
    /// Since when it takes the legacy signature as it does.
    pub legacy_since: Timestamp,
    /// Its secret; `None` once revoked, with legacy off, or without the key file.
    pub secret: Option<Secret>,
    /// From where it may be used; none means everywhere.
    pub networks: Networks,
    /// Since when it is dead.
    pub revoked_at: Option<Timestamp>,
    /// Until when it works beside the key that took its place.
    pub retires_at: Option<Timestamp>,
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
    /// Token by its text; one that was reset too, until it ends.
    pub tokens: HashMap<String, TokenEntry>,
    /// Key by API key.
    pub keys: HashMap<String, KeyEntry>,
    /// Secret by its SHA-256.
    pub secrets: HashMap<[u8; 32], SecretEntry>,
    /// User name of a service account by the SHA-256 of its secret.
    pub service_secrets: HashMap<[u8; 32], String>,
    /// Identity secret by project, where it has one.
    pub identities: HashMap<ProjectId, IdentityEntry>,
    /// Project by the SHA-256 of its identity secret.
    identity_secrets: HashMap<[u8; 32], ProjectId>,
    /// Whether some project has a quota of bytes.
    pub has_byte_quotas: bool,
    /// Lengths of live secrets that have no prefix and checksum, a bit each.
    unscannable: u128,
    /// Service account by username.
    pub service_accounts: HashMap<String, ServiceAccountEntry>,
    /// Bearer token by its SHA-256.
    pub bearer_tokens: HashMap<[u8; 32], BearerEntry>,
    /// What an account is in a project.
    pub members: HashMap<(AccountId, ProjectId), Role>,
}

/// A project's identity secret.
#[derive(Debug, Clone)]
pub struct IdentityEntry {
    /// The secret; `None` without the key file, and while the project's credentials wait for an owner.
    pub secret: Option<Secret>,
}

/// A live secret that was found where it does not belong.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Leaked {
    /// The project it opens; none for a person's bearer token.
    pub project: Option<ProjectId>,
    /// Which credential, never its value.
    pub credential: String,
}

fn lives(revoked_at: Option<Timestamp>, expires_at: Option<Timestamp>, now: Timestamp) -> bool {
    revoked_at.is_none() && expires_at.is_none_or(|at| at > now)
}

impl KeyEntry {
    /// Since when the key is revoked: reset, revoked, or behind the end of its overlap.
    pub fn dead_since(&self, now: Timestamp) -> Option<Timestamp> {
        self.revoked_at.or(self.retires_at.filter(|at| *at <= now))
    }

    fn is_live(&self, now: Timestamp) -> bool {
        self.dead_since(now).is_none() && self.expires_at.is_none_or(|at| at > now)
    }
}

impl CredentialTable {
    /// The project that a token sends to.
    pub fn project_of_token(&self, token: &str, now: Timestamp) -> Option<ProjectId> {
        self.tokens.get(token).filter(|entry| entry.ends_at.is_none_or(|at| at > now)).map(|entry| entry.project)
    }

    /// The live secret or bearer token inside a text that is not for secrets.
    pub fn leaked(&self, text: &str, now: Timestamp) -> Option<Leaked> {
        if let Some(found) = scannable_in(text).find_map(|secret| self.live_secret(secret, now)) {
            return Some(found);
        }
        let may_be_one = |piece: &str| (1..=128).contains(&piece.len()) && self.unscannable & 1 << (piece.len() - 1) != 0;
        // Most texts are shorter than any of them.
        if self.unscannable == 0 || text.len() <= self.unscannable.trailing_zeros() as usize {
            return None;
        }
        // Imported ones bear no mark: only their length tells which texts are worth a look, whole or as a word of a longer one.
        let is_word = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '-';
        let words = text.split(|char| !is_word(char)).filter(|word| word.len() < text.len());
        std::iter::once(text).chain(words).filter(|piece| may_be_one(piece)).find_map(|piece| self.live_secret(piece, now))
    }

    /// The live secret or bearer token that a text is, whole.
    pub fn live_secret(&self, text: &str, now: Timestamp) -> Option<Leaked> {
        let hash = sha256(text.as_bytes());
        if let Some(key) = self.secrets.get(&hash).and_then(|secret| self.keys.get(&secret.api_key)).filter(|key| key.is_live(now)) {
            return Some(Leaked { project: Some(key.project), credential: format!("key {}", key.key_id) });
        }
        if let Some(name) = self.service_secrets.get(&hash) {
            let account = self.service_accounts.get(name).filter(|account| lives(account.revoked_at, account.expires_at, now))?;
            return Some(Leaked { project: Some(account.project), credential: format!("service account {name}") });
        }
        if let Some(project) = self.identity_secrets.get(&hash) {
            return Some(Leaked { project: Some(*project), credential: "identity secret".to_owned() });
        }
        let token = self.bearer_tokens.get(&hash).filter(|token| lives(token.revoked_at, token.expires_at, now))?;
        Some(Leaked { project: None, credential: format!("bearer token {} of account {}", token.id, token.account) })
    }

    /// Whose a live bearer token is.
    pub fn account_of_bearer(&self, sha256: &[u8; 32], now: Timestamp) -> Option<AccountId> {
        let token = self.bearer_tokens.get(sha256)?;
        lives(token.revoked_at, token.expires_at, now).then_some(token.account)
    }

    /// Whether a credential that was proved before still opens the project, for what it was let in for.
    pub fn is_live(&self, credential: &Credential, project: ProjectId, right: AccessRight, now: Timestamp) -> bool {
        let is_member_with_right =
            |account: AccountId| self.members.get(&(account, project)).is_some_and(|role| role.rights().contains(&right));
        self.projects.get(&project).is_some_and(|project| project.suspended_at.is_none())
            && match credential {
                Credential::Key(api_key) => self.keys.get(api_key).is_some_and(|key| key.is_live(now)),
                Credential::ServiceAccount(user) => {
                    self.service_accounts.get(user).is_some_and(|account| lives(account.revoked_at, account.expires_at, now))
                }
                Credential::Member(account) => is_member_with_right(*account),
                Credential::Bearer(hash) => self
                    .bearer_tokens
                    .get(hash)
                    .is_some_and(|token| lives(token.revoked_at, token.expires_at, now) && is_member_with_right(token.account)),
            }
    }
}

/// The bit of a length; none for 0.
fn length_bit(chars: i64) -> u128 {
    if (1..=128).contains(&chars) { 1 << (chars - 1) } else { 0 }
}

impl Metastore {
    /// Reads every credential in one transaction.
    pub fn credentials(&self) -> Result<CredentialTable> {
        let wrapping_keys = self.wrapping_keys().ok();
        let mut connection = self.lock();
        let read = connection.transaction()?;
        let mut table = CredentialTable::default();
        let epoch: i64 = read.query_row("SELECT value FROM instance WHERE name = 'epoch'", [], |row| row.get(0))?;
        table.epoch = epoch as u64;
        {
            let mut found = read.prepare(&format!("SELECT {} FROM projects", projects::COLUMNS))?;
            for project in found.query_map([], projects::from_row)? {
                let project = project?;
                let options = &project.token_options;
                table.has_byte_quotas |= options.bytes_per_day_max.is_some() || options.bytes_per_second_max.is_some();
                table.tokens.insert(project.token.clone(), TokenEntry { project: project.id, ends_at: None });
                table.projects.insert(project.id, project);
            }
            let mut found = read.prepare(
                "SELECT id, wrapped_data_key, identity_sealed, identity_sha256, suspended_at IS NULL FROM projects
                 WHERE identity_sealed IS NOT NULL",
            )?;
            let mut rows = found.query([])?;
            while let Some(row) = rows.next()? {
                let project = ProjectId(row.get(0)?);
                let (wrapped, sealed): (Vec<u8>, Vec<u8>) = (row.get(1)?, row.get(2)?);
                let keys = wrapping_keys.as_ref().filter(|_| row.get(4).unwrap_or(false));
                let opened = keys.map(|keys| identity::open(&keys.data_key(project.0, &wrapped)?, project, &sealed));
                table.identities.insert(project, IdentityEntry { secret: opened.and_then(Result::ok) });
                table.identity_secrets.insert(row.get(3)?, project);
            }
            let mut found = read.prepare("SELECT token, project_id, ends_at FROM token_aliases")?;
            let mut rows = found.query([])?;
            while let Some(row) = rows.next()? {
                let entry = TokenEntry { project: ProjectId(row.get(1)?), ends_at: Some(Timestamp(row.get(2)?)) };
                table.tokens.insert(row.get(0)?, entry);
            }
            let mut found = read.prepare("SELECT account_id, project_id, role FROM members")?;
            let mut rows = found.query([])?;
            while let Some(row) = rows.next()? {
                let role: String = row.get(2)?;
                if let Some(role) = Role::parse(&role) {
                    table.members.insert((AccountId(row.get(0)?), ProjectId(row.get(1)?)), role);
                }
            }
            let mut found = read.prepare("SELECT id, account_id, token_sha256, expires_at, revoked_at FROM bearer_tokens")?;
            let mut rows = found.query([])?;
            while let Some(row) = rows.next()? {
                let entry = BearerEntry {
                    id: row.get(0)?,
                    account: AccountId(row.get(1)?),
                    expires_at: row.get::<_, Option<i64>>(3)?.map(Timestamp),
                    revoked_at: row.get::<_, Option<i64>>(4)?.map(Timestamp),
                };
                table.bearer_tokens.insert(row.get(2)?, entry);
            }
            let mut found = read.prepare(
                "SELECT keys.id, keys.project_id, keys.api_key, keys.secret_sha256, keys.secret_sealed, keys.rights, keys.legacy,
                        keys.lifetime_max_ms, keys.expires_at, keys.revoked_at, projects.wrapped_data_key, keys.networks, keys.retires_at,
                        keys.legacy_since, keys.secret_chars
                 FROM keys JOIN projects ON projects.id = keys.project_id",
            )?;
            let mut rows = found.query([])?;
            while let Some(row) = rows.next()? {
                let project = ProjectId(row.get(1)?);
                let (api_key, rights, legacy): (String, String, String) = (row.get(2)?, row.get(5)?, row.get(6)?);
                let sealed: Option<Vec<u8>> = row.get(4)?;
                let wrapped: Vec<u8> = row.get(10)?;
                let legacy = Legacy::parse(&legacy).unwrap_or(Legacy::Off);
                let networks: String = row.get(11)?;
                let secret = match (&wrapping_keys, sealed, legacy) {
                    (_, None, _) | (None, ..) | (.., Legacy::Off) => None,
                    (Some(key), Some(sealed), _) => {
                        let opened = key.data_key(project.0, &wrapped).and_then(|key| key.open(project.0, &api_key, &sealed));
                        // What a lost key file sealed opens no more: its signatures cannot be checked, all else goes on.
                        opened.ok().map(Secret::new)
                    }
                };
                let revoked_at = row.get::<_, Option<i64>>(9)?.map(Timestamp);
                if revoked_at.is_none() {
                    table.unscannable |= length_bit(row.get(14)?);
                }
                table.secrets.insert(row.get(3)?, SecretEntry { api_key: api_key.clone(), project });
                let entry = KeyEntry {
                    key_id: row.get(0)?,
                    project,
                    rights: rights.split(',').filter_map(AccessRight::parse).collect(),
                    legacy,
                    legacy_since: Timestamp(row.get(13)?),
                    secret,
                    networks: Networks::parse(&networks).unwrap_or_default(),
                    revoked_at,
                    retires_at: row.get::<_, Option<i64>>(12)?.map(Timestamp),
                    expires_at: row.get::<_, Option<i64>>(8)?.map(Timestamp),
                    lifetime_max_ms: row.get(7)?,
                };
                table.keys.insert(api_key, entry);
            }
            let mut found = read
                .prepare("SELECT project_id, username, role, secret_sha256, expires_at, revoked_at, secret_chars FROM service_accounts")?;
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
                if entry.revoked_at.is_none() {
                    table.unscannable |= length_bit(row.get(6)?);
                }
                table.service_secrets.insert(entry.secret_sha256, row.get(1)?);
                table.service_accounts.insert(row.get(1)?, entry);
            }
        }
        Ok(table)
    }
}
