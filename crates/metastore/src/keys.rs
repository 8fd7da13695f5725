//! API keys with their secrets, and service accounts. A reset is one transaction: revoke, insert, audit, epoch.

use model::{AccessRight, AccountId, ProjectId, Role, Timestamp};
use rusqlite::{OptionalExtension, Transaction};

use crate::audit::{self, Entry};
use crate::envelope::DataKey;
use crate::secret::{check_imported, is_weak, new_hex32, new_secret, random};
use crate::{MetaError, Metastore, Result, Secret, bump_epoch, sha256};

/// An API key with its secret, as shown to an owner.
#[derive(Debug, Clone)]
pub struct KeyPair {
    /// The API key.
    pub api_key: String,
    /// The API secret. Never share it or send it over email.
    pub api_secret: Secret,
}

/// The longest a signed URL may live unless the key says otherwise: one official client was off by its time zone.
pub(crate) const LIFETIME_MAX_MS: i64 = 24 * 3_600_000;

/// How far the values of a key can be guessed, in the column `weak`.
const NOT_WEAK: i64 = 0;
/// Guessable: for loopback only.
const WEAK: i64 = 1;
/// Guessable, and taken all the same by whoever made it.
const WEAK_ALLOWED: i64 = 2;

#[expect(clippy::too_many_arguments, reason = "the columns of one row")]
pub(crate) fn insert_first(
    change: &Transaction<'_>,
    data_key: &DataKey,
    project: i64,
    api_key: Option<&str>,
    api_secret: Option<&str>,
    lifetime_max_ms: Option<i64>,
    allows_weak: bool,
    now: Timestamp,
) -> Result<KeyPair> {
    let api_key = api_key.map_or_else(new_hex32, str::to_owned);
    let api_secret = api_secret.map_or_else(new_secret, |secret| Secret::new(secret.to_owned()));
    let hash = sha256(api_secret.expose().as_bytes());
    let key_taken: bool = change.query_row(
        "SELECT EXISTS (SELECT 1 FROM keys WHERE api_key = $1) OR EXISTS (SELECT 1 FROM projects WHERE token = $1)",
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
    let rights: Vec<&str> = AccessRight::ALL.iter().map(|right| right.as_str()).collect();
    let sealed = data_key.seal(project, &api_key, api_secret.expose())?;
    let weak = match is_weak(&api_key) || is_weak(api_secret.expose()) {
        false => NOT_WEAK,
        true if allows_weak => WEAK_ALLOWED,
        true => WEAK,
    };
    change.execute(
        "INSERT INTO keys (project_id, api_key, secret_sha256, secret_sealed, rights, legacy, weak, lifetime_max_ms, created_at)
         VALUES ($1, $2, $3, $4, $5, 'on', $6, $7, $8)",
        (project, &api_key, hash, sealed, rights.join(","), weak, lifetime_max_ms, now.0),
    )?;
    Ok(KeyPair { api_key, api_secret })
}

impl Metastore {
    /// Clears API key and API secret of a project and makes a new pair; the token stays. Only an owner may.
    /// When this returns, the old pair is revoked on disk; whoever caches the credential table must reload it before answering.
    pub fn reset_credentials(&self, project: ProjectId, as_account: AccountId, now: Timestamp) -> Result<KeyPair> {
        let wrapping_key = self.wrapping_key()?;
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let wrapped: Option<Vec<u8>> =
            change.query_row("SELECT wrapped_data_key FROM projects WHERE id = $1", [project.0], |row| row.get(0)).optional()?;
        let wrapped = wrapped.ok_or(MetaError::Unknown("project"))?;
        let role: Option<String> = change
            .query_row("SELECT role FROM members WHERE project_id = $1 AND account_id = $2", (project.0, as_account.0), |row| row.get(0))
            .optional()?;
        if role.as_deref().and_then(Role::parse) != Some(Role::Owner) {
            return Err(MetaError::NotOwner);
        }
        let lifetime_max_ms: Option<Option<i64>> = change
            .query_row(
                "SELECT lifetime_max_ms FROM keys WHERE project_id = $1 AND revoked_at IS NULL ORDER BY created_at LIMIT 1",
                [project.0],
                |row| row.get(0),
            )
            .optional()?;
        // The ciphertext of a revoked secret has no use any more; its hash tells who still knocks with it.
        change.execute(
            "UPDATE keys SET revoked_at = $1, secret_sealed = NULL WHERE project_id = $2 AND revoked_at IS NULL",
            (now.0, project.0),
        )?;
        let data_key = wrapping_key.data_key(project.0, &wrapped)?;
        let pair = insert_first(&change, &data_key, project.0, None, None, lifetime_max_ms.unwrap_or(Some(LIFETIME_MAX_MS)), false, now)?;
        let actor = format!("account {as_account}");
        audit::append(&change, &Entry { project: Some(project), at: now, actor: &actor, action: "credentials reset", detail: "" })?;
        bump_epoch(&change)?;
        change.commit()?;
        Ok(pair)
    }

    /// Projects whose live keys can be guessed and were not allowed beyond loopback.
    pub fn weak_projects(&self) -> Result<Vec<ProjectId>> {
        let connection = self.lock();
        let mut found =
            connection.prepare("SELECT DISTINCT project_id FROM keys WHERE weak = $1 AND revoked_at IS NULL ORDER BY project_id")?;
        Ok(found.query_map([WEAK], |row| Ok(ProjectId(row.get(0)?)))?.collect::<rusqlite::Result<_>>()?)
    }

    /// The project's oldest live key with its secret; `None` where none can be shown.
    pub fn reveal_first_key(&self, project: ProjectId) -> Result<Option<KeyPair>> {
        let wrapping_key = self.wrapping_key()?;
        let connection = self.lock();
        let found: Option<(String, Vec<u8>, Vec<u8>)> = connection
            .query_row(
                "SELECT keys.api_key, keys.secret_sealed, projects.wrapped_data_key
                 FROM keys JOIN projects ON projects.id = keys.project_id
                 WHERE keys.project_id = $1 AND keys.revoked_at IS NULL AND keys.secret_sealed IS NOT NULL
                 ORDER BY keys.id LIMIT 1",
                [project.0],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .optional()?;
        let Some((api_key, sealed, wrapped)) = found else { return Ok(None) };
        let secret = wrapping_key.data_key(project.0, &wrapped)?.open(project.0, &api_key, &sealed)?;
        Ok(Some(KeyPair { api_key, api_secret: Secret::new(secret) }))
    }

    /// Makes a service account; its secret is shown here and never again. Without `username` it becomes
    /// `<name>.<6 hex>.mp-service-account`, as the original spells it.
    pub fn create_service_account(
        &self,
        project: ProjectId,
        name: &str,
        role: Role,
        username: Option<&str>,
        secret: Option<&str>,
        now: Timestamp,
    ) -> Result<(String, Secret)> {
        let suffix: String = random::<3>().iter().map(|byte| format!("{byte:02x}")).collect();
        let username =
            username.map_or_else(|| format!("{}.{suffix}.mp-service-account", name.trim().replace([' ', ':'], "-")), str::to_owned);
        check_imported("username", &username)?;
        if let Some(secret) = secret {
            check_imported("secret", secret)?;
        }
        let secret = secret.map_or_else(new_secret, |secret| Secret::new(secret.to_owned()));
        if secret.expose() == username {
            return Err(MetaError::Invalid("username and secret must differ".to_owned()));
        }
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let known: bool = change.query_row("SELECT EXISTS (SELECT 1 FROM projects WHERE id = $1)", [project.0], |row| row.get(0))?;
        if !known {
            return Err(MetaError::Unknown("project"));
        }
        let taken: bool =
            change.query_row("SELECT EXISTS (SELECT 1 FROM service_accounts WHERE username = $1)", [&username], |row| row.get(0))?;
        if taken {
            return Err(MetaError::Taken("username"));
        }
        change.execute(
            "INSERT INTO service_accounts (project_id, username, name, role, secret_sha256, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
            (project.0, &username, name, role.as_str(), sha256(secret.expose().as_bytes()), now.0),
        )?;
        audit::append(
            &change,
            &Entry { project: Some(project), at: now, actor: "console", action: "service account create", detail: &username },
        )?;
        bump_epoch(&change)?;
        change.commit()?;
        Ok((username, secret))
    }
}
