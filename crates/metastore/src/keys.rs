//! API keys with their secrets. A reset is one transaction: revoke, insert, audit, epoch.

use model::network::Networks;
use model::time::DAY_MS;
use model::{AccessRight, AccountId, ProjectId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, Transaction};

use crate::audit::{self, By};
use crate::credentials::Legacy;
use crate::envelope::DataKey;
use crate::members::{require_admin, require_owner};
use crate::projects::{SignatureLifetime, check_name};
use crate::secret::{has_valid_checksum, is_weak, new_hex32, new_secret, unscannable_chars};
use crate::{MetaError, Metastore, Result, Secret, bump_epoch, sha256};

/// An API key with its secret, as shown to an owner.
#[derive(Debug, Clone)]
pub struct KeyPair {
    /// The API key.
    pub api_key: String,
    /// The API secret. Never share it or send it over email.
    pub api_secret: Secret,
}

/// What a further key is made from.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// What people call it.
    pub name: String,
    /// What it allows; never more than its maker may.
    pub rights: Vec<AccessRight>,
    /// From where; none means everywhere.
    pub networks: Networks,
    /// Whether it takes the legacy signature. `off` leaves only a hash of the secret.
    pub legacy: Legacy,
    /// When it dies.
    pub expires_at: Option<Timestamp>,
    /// The longest that a URL signed with it may live.
    pub signature_lifetime: SignatureLifetime,
    /// What its secret looks like.
    pub form: SecretForm,
}

/// What a new secret looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SecretForm {
    /// With prefix and checksum: leak scanners recognise it.
    #[default]
    Scannable,
    /// 32 hex digits, for scripts that take nothing else.
    Classic,
}

/// A key as a list shows it: everything but the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Its row.
    pub key_id: i64,
    /// The API key.
    pub api_key: String,
    /// What people call it.
    pub name: String,
    /// What it allows.
    pub rights: Vec<AccessRight>,
    /// From where; none means everywhere.
    pub networks: Networks,
    /// Whether it takes the legacy signature.
    pub legacy: Legacy,
    /// Whether its values can be guessed.
    pub is_weak: bool,
    /// Whether leak scanners can recognise the secret: it has prefix and checksum.
    pub is_scannable: bool,
    /// Whether the secret can be shown: it is stored sealed rather than as a hash alone.
    pub can_be_revealed: bool,
    /// Who made it.
    pub created_by: Option<AccountId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it dies by itself.
    pub expires_at: Option<Timestamp>,
    /// Until when it works beside the key that took its place.
    pub retires_at: Option<Timestamp>,
    /// Since when it is dead.
    pub revoked_at: Option<Timestamp>,
}

/// The longest a signed URL may live unless the key says otherwise: one official client was off by its time zone.
pub(crate) const LIFETIME_MAX_MS: i64 = 24 * 3_600_000;
/// The longest that an old pair works beside the new one.
const OVERLAP_MAX_MS: i64 = 30 * DAY_MS;

/// How far the values of a key can be guessed, in the column `weak`.
const NOT_WEAK: i64 = 0;
/// Guessable: for loopback only.
const WEAK: i64 = 1;
/// Guessable, and taken all the same by whoever made it.
const WEAK_ALLOWED: i64 = 2;

/// A key that is about to be stored.
pub(crate) struct Insert<'a> {
    pub project: ProjectId,
    pub data_key: &'a DataKey,
    /// Values to keep from elsewhere.
    pub api_key: Option<&'a str>,
    pub api_secret: Option<&'a str>,
    pub allows_weak: bool,
    pub created_by: Option<AccountId>,
    pub settings: &'a NewKey,
    pub now: Timestamp,
}

impl<'a> Insert<'a> {
    /// A key whose values are made here.
    fn made(project: ProjectId, data_key: &'a DataKey, settings: &'a NewKey, by: &By) -> Self {
        Self { project, data_key, api_key: None, api_secret: None, allows_weak: false, created_by: by.account_id(), settings, now: by.at }
    }
}

impl NewKey {
    /// What a project's first key is: every right, the legacy signature on.
    pub(crate) fn first(signature_lifetime: SignatureLifetime) -> Self {
        Self {
            name: "first key".to_owned(),
            rights: AccessRight::ALL.to_vec(),
            networks: Networks::default(),
            legacy: Legacy::On,
            expires_at: None,
            signature_lifetime,
            form: SecretForm::Scannable,
        }
    }
}

pub(crate) fn insert(change: &Transaction<'_>, new: &Insert<'_>) -> Result<KeyPair> {
    let api_key = new.api_key.map_or_else(new_hex32, str::to_owned);
    let made = || match new.settings.form {
        SecretForm::Scannable => new_secret(),
        SecretForm::Classic => Secret::new(new_hex32()),
    };
    let api_secret = new.api_secret.map_or_else(made, |secret| Secret::new(secret.to_owned()));
    let hash = sha256(api_secret.expose().as_bytes());
    let key_taken: bool = change.query_row(
        "SELECT EXISTS (SELECT 1 FROM keys WHERE api_key = $1)
             OR EXISTS (SELECT 1 FROM projects WHERE token = $1)
             OR EXISTS (SELECT 1 FROM token_aliases WHERE token = $1)",
        [&api_key],
        |row| row.get(0),
    )?;
    if key_taken {
        return Err(MetaError::Taken("API key"));
    }
    let secret_taken: bool = change.query_row("SELECT EXISTS (SELECT 1 FROM keys WHERE secret_sha256 = $1)", [hash], |row| row.get(0))?;
    if secret_taken {
        return Err(MetaError::Taken("API secret"));
    }
    // Signatures need the secret itself; without them a hash is enough.
    let sealed = match new.settings.legacy {
        Legacy::Off => None,
        Legacy::Warn | Legacy::On => Some(new.data_key.seal(new.project.0, &api_key, api_secret.expose())?),
    };
    let weak = match is_weak(&api_key) || is_weak(api_secret.expose()) {
        false => NOT_WEAK,
        true if new.allows_weak => WEAK_ALLOWED,
        true => WEAK,
    };
    let NewKey { name, rights, networks, legacy, expires_at, signature_lifetime, form: _ } = new.settings;
    change.execute(
        "INSERT INTO keys (project_id, api_key, secret_sha256, secret_sealed, name, rights, networks, legacy, weak, scannable,
             lifetime_max_ms, created_by, created_at, expires_at, legacy_since, secret_chars)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $13, $15)",
        rusqlite::params![
            new.project.0,
            &api_key,
            hash,
            sealed,
            name,
            joined(rights),
            networks.to_string(),
            legacy.as_str(),
            weak,
            has_valid_checksum(api_secret.expose()),
            signature_lifetime.max_ms(),
            new.created_by.map(|account| account.0),
            new.now.0,
            expires_at.map(|at| at.0),
            unscannable_chars(api_secret.expose()) as i64,
        ],
    )?;
    Ok(KeyPair { api_key, api_secret })
}

fn joined(rights: &[AccessRight]) -> String {
    rights.iter().map(|right| right.as_str()).collect::<Vec<_>>().join(",")
}

const COLUMNS: &str = "id, api_key, name, rights, networks, legacy, weak, scannable, secret_sealed IS NOT NULL, created_by, created_at,
    expires_at, retires_at, revoked_at";

fn from_row(row: &Row<'_>) -> rusqlite::Result<KeyRow> {
    let (rights, networks, legacy): (String, String, String) = (row.get(3)?, row.get(4)?, row.get(5)?);
    let time = |at: Option<i64>| at.map(Timestamp);
    Ok(KeyRow {
        key_id: row.get(0)?,
        api_key: row.get(1)?,
        name: row.get(2)?,
        rights: rights.split(',').filter_map(AccessRight::parse).collect(),
        networks: Networks::parse(&networks).unwrap_or_default(),
        legacy: Legacy::parse(&legacy).unwrap_or(Legacy::Off),
        is_weak: row.get::<_, i64>(6)? != NOT_WEAK,
        is_scannable: row.get(7)?,
        can_be_revealed: row.get(8)?,
        created_by: row.get::<_, Option<i64>>(9)?.map(AccountId),
        created_at: Timestamp(row.get(10)?),
        expires_at: time(row.get(11)?),
        retires_at: time(row.get(12)?),
        revoked_at: time(row.get(13)?),
    })
}

/// A live key of a project: the named one, or the oldest.
fn live_key(connection: &Connection, project: ProjectId, api_key: Option<&str>, now: Timestamp) -> Result<KeyRow> {
    let sql = format!(
        "SELECT {COLUMNS} FROM keys
         WHERE project_id = $1 AND revoked_at IS NULL AND (retires_at IS NULL OR retires_at > $2) AND ($3 IS NULL OR api_key = $3)
         ORDER BY retires_at IS NOT NULL, id LIMIT 1"
    );
    connection.query_row(&sql, (project.0, now.0, api_key), from_row).optional()?.ok_or(MetaError::Unknown("API key"))
}

/// The key that seals a project's secrets.
pub(crate) fn data_key(this: &Metastore, connection: &Connection, project: ProjectId) -> Result<DataKey> {
    let wrapped: Option<Vec<u8>> =
        connection.query_row("SELECT wrapped_data_key FROM projects WHERE id = $1", [project.0], |row| row.get(0)).optional()?;
    this.wrapping_keys()?.data_key(project.0, &wrapped.ok_or(MetaError::Unknown("project"))?)
}

fn hash_of(connection: &Connection, key_id: i64) -> Result<[u8; 32]> {
    Ok(connection.query_row("SELECT secret_sha256 FROM keys WHERE id = $1", [key_id], |row| row.get(0))?)
}

impl Metastore {
    /// A new data key in the place of one that opens no more; a new key file where there is none.
    fn new_data_key(&self, change: &Transaction<'_>, project: ProjectId) -> Result<DataKey> {
        let (data_key, wrapped) = self.made_wrapping_keys()?.new_data_key(project.0)?;
        // The old identity secret opens no more either; known users wait until somebody makes another one.
        change.execute(
            "UPDATE projects SET wrapped_data_key = $1, identity_sealed = NULL, identity_sha256 = NULL WHERE id = $2",
            (wrapped, project.0),
        )?;
        Ok(data_key)
    }

    /// Every key of a project, the dead ones too, oldest first.
    pub fn keys(&self, project: ProjectId) -> Result<Vec<KeyRow>> {
        let connection = self.lock();
        let mut found = connection.prepare(&format!("SELECT {COLUMNS} FROM keys WHERE project_id = $1 ORDER BY id"))?;
        Ok(found.query_map([project.0], from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// Makes a further key. Its rights are among those of its maker's role.
    pub fn create_key(&self, project: ProjectId, settings: &NewKey, by: &By) -> Result<KeyPair> {
        check_name("an API key", &settings.name)?;
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let role = require_admin(&change, project, by, "make API keys")?;
        if let Some(right) = settings.rights.iter().find(|right| !role.rights().contains(right)) {
            return Err(MetaError::BeyondRole(right.as_str()));
        }
        if settings.rights.is_empty() {
            return Err(MetaError::Invalid("a key needs at least one access right".to_owned()));
        }
        if settings.expires_at.is_some_and(|at| at <= by.at) {
            return Err(MetaError::Invalid("the key would have expired already".to_owned()));
        }
        let data_key = data_key(self, &change, project)?;
        let pair = insert(&change, &Insert::made(project, &data_key, settings, by))?;
        let detail = format!("key {}: {}; legacy {}", change.last_insert_rowid(), joined(&settings.rights), settings.legacy.as_str());
        audit::append(&change, by, Some(project), "key create", &detail)?;
        bump_epoch(&change)?;
        self.finish(change, &[])?;
        Ok(pair)
    }

    /// Puts a new pair beside an old one, with the same settings. The old pair works for `overlap_ms` more, at most 30 days and never
    /// beyond its own end. Without `api_key` it is the project's oldest live key.
    pub fn rotate_key(&self, project: ProjectId, api_key: Option<&str>, overlap_ms: i64, by: &By) -> Result<KeyPair> {
        if !(0..=OVERLAP_MAX_MS).contains(&overlap_ms) {
            return Err(MetaError::Invalid("an overlap lasts 30 days at most".to_owned()));
        }
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_admin(&change, project, by, "rotate API keys")?;
        let old = live_key(&change, project, api_key, by.at)?;
        if old.retires_at.is_some() {
            return Err(MetaError::Invalid("this key was rotated already; rotate the one that took its place".to_owned()));
        }
        let lifetime_max_ms: Option<i64> =
            change.query_row("SELECT lifetime_max_ms FROM keys WHERE id = $1", [old.key_id], |row| row.get(0))?;
        let settings = NewKey {
            name: old.name,
            rights: old.rights,
            networks: old.networks,
            legacy: old.legacy,
            expires_at: old.expires_at,
            signature_lifetime: SignatureLifetime::of_ms(lifetime_max_ms),
            form: SecretForm::Scannable,
        };
        let ends_at = by.at.plus_ms(overlap_ms).min(old.expires_at.unwrap_or(Timestamp(i64::MAX)));
        change.execute("UPDATE keys SET retires_at = $1 WHERE id = $2", (ends_at.0, old.key_id))?;
        let data_key = data_key(self, &change, project)?;
        let pair = insert(&change, &Insert::made(project, &data_key, &settings, by))?;
        let detail = format!("key {} -> key {}; overlap {} s", old.key_id, change.last_insert_rowid(), overlap_ms / 1000);
        audit::append(&change, by, Some(project), "key rotate", &detail)?;
        bump_epoch(&change)?;
        let dead = (hash_of(&change, old.key_id)?, ends_at);
        self.finish(change, &[dead])?;
        Ok(pair)
    }

    /// Ends a key at once; a rotated one too, whose overlap still runs ("cut now").
    pub fn revoke_key(&self, project: ProjectId, api_key: &str, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_admin(&change, project, by, "revoke API keys")?;
        let key = live_key(&change, project, Some(api_key), by.at)?;
        change.execute("UPDATE keys SET revoked_at = $1, secret_sealed = NULL WHERE id = $2", (by.at.0, key.key_id))?;
        audit::append(&change, by, Some(project), "key revoke", &format!("key {}", key.key_id))?;
        bump_epoch(&change)?;
        let dead = (hash_of(&change, key.key_id)?, by.at);
        self.finish(change, &[dead])
    }

    /// Turns the legacy signature of a key on or off. Off removes the ciphertext: only a hash of the secret stays, and to turn the
    /// signature on again takes a new pair.
    pub fn set_legacy(&self, project: ProjectId, api_key: &str, legacy: Legacy, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_admin(&change, project, by, "change API keys")?;
        let key = live_key(&change, project, Some(api_key), by.at)?;
        if legacy != Legacy::Off && !key.can_be_revealed {
            return Err(MetaError::Invalid("only a hash of this secret is stored: rotate the key to get one that can sign".to_owned()));
        }
        change.execute(
            "UPDATE keys SET legacy = $1, legacy_since = $2, secret_sealed = CASE WHEN $1 = 'off' THEN NULL ELSE secret_sealed END
             WHERE id = $3",
            (legacy.as_str(), by.at.0, key.key_id),
        )?;
        audit::append(&change, by, Some(project), "key legacy", &format!("key {}: {}", key.key_id, legacy.as_str()))?;
        bump_epoch(&change)?;
        self.finish(change, &[])
    }

    /// Clears every API key and API secret of a project and makes a new pair; the token stays. Only an owner may.
    /// When this returns, the old pairs are revoked on disk; whoever caches the credential table must reload it before answering.
    pub fn reset_credentials(&self, project: ProjectId, by: &By) -> Result<KeyPair> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_owner(&change, project, by, "reset its API key and API secret")?;
        let data_key = match data_key(self, &change, project) {
            // What the lost key file sealed is gone for good, and the reset replaces it.
            Err(MetaError::KeyFileMissing | MetaError::Sealed) => self.new_data_key(&change, project)?,
            found => found?,
        };
        let lifetime_max_ms: Option<Option<i64>> = change
            .query_row(
                "SELECT lifetime_max_ms FROM keys WHERE project_id = $1 AND revoked_at IS NULL ORDER BY id LIMIT 1",
                [project.0],
                |row| row.get(0),
            )
            .optional()?;
        let dead: Vec<([u8; 32], Timestamp)> = {
            let mut found = change.prepare("SELECT secret_sha256 FROM keys WHERE project_id = $1 AND revoked_at IS NULL")?;
            found.query_map([project.0], |row| Ok((row.get(0)?, by.at)))?.collect::<rusqlite::Result<_>>()?
        };
        // The ciphertext of a revoked secret has no use any more; its hash tells who still knocks with it.
        change.execute(
            "UPDATE keys SET revoked_at = $1, secret_sealed = NULL WHERE project_id = $2 AND revoked_at IS NULL",
            (by.at.0, project.0),
        )?;
        let lifetime = lifetime_max_ms.map_or(SignatureLifetime::Day, SignatureLifetime::of_ms);
        let pair = insert(&change, &Insert::made(project, &data_key, &NewKey::first(lifetime), by))?;
        // A reset is the owner's word on what is to live.
        change.execute("UPDATE projects SET suspended_at = NULL WHERE id = $1", [project.0])?;
        audit::append(&change, by, Some(project), "credentials reset", &format!("{} keys", dead.len()))?;
        bump_epoch(&change)?;
        self.finish(change, &dead)?;
        Ok(pair)
    }

    /// Shows a key with its secret to an admin or owner, and notes that it was shown. Without `api_key` it is the oldest live key.
    pub fn reveal_key(&self, project: ProjectId, api_key: Option<&str>, by: &By) -> Result<KeyPair> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_admin(&change, project, by, "see its API secret")?;
        let key = live_key(&change, project, api_key, by.at)?;
        let sealed: Option<Vec<u8>> = change.query_row("SELECT secret_sealed FROM keys WHERE id = $1", [key.key_id], |row| row.get(0))?;
        let sealed = sealed.ok_or_else(|| MetaError::Invalid("stored as a hash; rotate to get a new one".to_owned()))?;
        let secret = data_key(self, &change, project)?.open(project.0, &key.api_key, &sealed)?;
        audit::append(&change, by, Some(project), "key reveal", &format!("key {}", key.key_id))?;
        self.finish(change, &[])?;
        Ok(KeyPair { api_key: key.api_key, api_secret: Secret::new(secret) })
    }

    /// Projects whose live keys can be guessed and were not allowed beyond loopback.
    pub fn weak_projects(&self) -> Result<Vec<ProjectId>> {
        let connection = self.lock();
        let mut found =
            connection.prepare("SELECT DISTINCT project_id FROM keys WHERE weak = $1 AND revoked_at IS NULL ORDER BY project_id")?;
        Ok(found.query_map([WEAK], |row| Ok(ProjectId(row.get(0)?)))?.collect::<rusqlite::Result<_>>()?)
    }
}
