//! Bearer tokens: a person's own credential for scripts. It may what the person's role in a project may, as long as the person is there.

use model::{AccountId, Timestamp};
use rusqlite::{OptionalExtension, Transaction};

use crate::audit::{self, By};
use crate::projects::check_name;
use crate::secret::new_bearer_token;
use crate::{MetaError, Metastore, Result, Secret, bump_epoch, sha256};

/// A bearer token as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BearerTokenRow {
    /// Its row.
    pub id: i64,
    /// What people call it.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it dies by itself.
    pub expires_at: Option<Timestamp>,
    /// Since when it is dead.
    pub revoked_at: Option<Timestamp>,
}

/// Ends every bearer token of an account; what the ledger has to know.
pub(crate) fn revoke_all(change: &Transaction<'_>, account: AccountId, now: Timestamp) -> Result<Vec<([u8; 32], Timestamp)>> {
    let mut found = change.prepare(
        "UPDATE bearer_tokens SET revoked_at = $1 WHERE account_id = $2 AND revoked_at IS NULL
         RETURNING token_sha256",
    )?;
    Ok(found.query_map((now.0, account.0), |row| Ok((row.get(0)?, now)))?.collect::<rusqlite::Result<_>>()?)
}

impl Metastore {
    /// Makes a bearer token for an account; it is shown here and never again.
    pub fn create_bearer_token(&self, account: AccountId, name: &str, expires_at: Option<Timestamp>, by: &By) -> Result<Secret> {
        check_name("a bearer token", name)?;
        if expires_at.is_some_and(|at| at <= by.at) {
            return Err(MetaError::Invalid("the token would have expired already".to_owned()));
        }
        let token = new_bearer_token();
        let mut connection = self.lock();
        let change = connection.transaction()?;
        change.execute(
            "INSERT INTO bearer_tokens (account_id, name, token_sha256, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)",
            (account.0, name, sha256(token.expose().as_bytes()), by.at.0, expires_at.map(|at| at.0)),
        )?;
        audit::append(&change, by, None, "bearer token create", &format!("token {}", change.last_insert_rowid()))?;
        bump_epoch(&change)?;
        self.finish(change, &[])?;
        Ok(token)
    }

    /// The bearer tokens of an account, oldest first.
    pub fn bearer_tokens(&self, account: AccountId) -> Result<Vec<BearerTokenRow>> {
        let connection = self.lock();
        let mut found = connection
            .prepare("SELECT id, name, created_at, expires_at, revoked_at FROM bearer_tokens WHERE account_id = $1 ORDER BY id")?;
        let rows = found.query_map([account.0], |row| {
            Ok(BearerTokenRow {
                id: row.get(0)?,
                name: row.get(1)?,
                created_at: Timestamp(row.get(2)?),
                expires_at: row.get::<_, Option<i64>>(3)?.map(Timestamp),
                revoked_at: row.get::<_, Option<i64>>(4)?.map(Timestamp),
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Ends a bearer token of an account at once.
    pub fn revoke_bearer_token(&self, account: AccountId, id: i64, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let hash: Option<[u8; 32]> = change
            .query_row(
                "SELECT token_sha256 FROM bearer_tokens WHERE id = $1 AND account_id = $2 AND revoked_at IS NULL",
                (id, account.0),
                |row| row.get(0),
            )
            .optional()?;
        let hash = hash.ok_or(MetaError::Unknown("bearer token"))?;
        change.execute("UPDATE bearer_tokens SET revoked_at = $1 WHERE id = $2", (by.at.0, id))?;
        audit::append(&change, by, None, "bearer token revoke", &format!("token {id}"))?;
        bump_epoch(&change)?;
        self.finish(change, &[(hash, by.at)])
    }
}
