//! Service accounts: a user name and a secret with a role in one project.

use model::{AccountId, ProjectId, Role, Timestamp};
use rusqlite::OptionalExtension;

use crate::audit::{self, By};
use crate::members::require_admin;
use crate::projects::check_name;
use crate::secret::{check_imported, new_secret, random, unscannable_chars};
use crate::{MetaError, Metastore, Result, Secret, bump_epoch, sha256};

/// A service account as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccountRow {
    /// Its row.
    pub id: i64,
    /// The project that it belongs to.
    pub project: ProjectId,
    /// Who made it.
    pub created_by: Option<AccountId>,
    /// The name that it signs in with.
    pub username: String,
    /// What people call it.
    pub name: String,
    /// What it is in the project.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it dies by itself.
    pub expires_at: Option<Timestamp>,
    /// Since when it is dead.
    pub revoked_at: Option<Timestamp>,
}

/// What a service account is made from.
#[derive(Debug, Clone)]
pub struct NewServiceAccount<'a> {
    /// What people call it.
    pub name: &'a str,
    /// What it is in the project: never more than its maker.
    pub role: Role,
    /// A user name to keep from elsewhere; by default `<name>.<6 hex>.mp-service-account`, as the original spells it.
    pub username: Option<&'a str>,
    /// A secret to keep from elsewhere.
    pub secret: Option<&'a str>,
    /// When it dies.
    pub expires_at: Option<Timestamp>,
}

impl Metastore {
    /// Makes a service account; its secret is shown here and never again.
    pub fn create_service_account(&self, project: ProjectId, new: &NewServiceAccount<'_>, by: &By) -> Result<(String, Secret)> {
        check_name("a service account", new.name)?;
        let suffix: String = random::<3>().iter().map(|byte| format!("{byte:02x}")).collect();
        let name = new.name.trim();
        let username = new.username.map_or_else(|| format!("{}.{suffix}.mp-service-account", name.replace([' ', ':'], "-")), str::to_owned);
        check_imported("username", &username)?;
        if let Some(secret) = new.secret {
            check_imported("secret", secret)?;
        }
        let secret = new.secret.map_or_else(new_secret, |secret| Secret::new(secret.to_owned()));
        if secret.expose() == username {
            return Err(MetaError::Invalid("username and secret must differ".to_owned()));
        }
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let own = require_admin(&change, project, by, "make service accounts")?;
        if new.role > own {
            return Err(MetaError::NotOwner("make a service account with the role owner"));
        }
        let taken: bool =
            change.query_row("SELECT EXISTS (SELECT 1 FROM service_accounts WHERE username = $1)", [&username], |row| row.get(0))?;
        if taken {
            return Err(MetaError::Taken("username"));
        }
        change.execute(
            "INSERT INTO service_accounts (project_id, username, name, role, secret_sha256, created_by, created_at, expires_at,
                 secret_chars)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            (
                project.0,
                &username,
                name,
                new.role.as_str(),
                sha256(secret.expose().as_bytes()),
                by.account_id().map(|account| account.0),
                by.at.0,
                new.expires_at.map(|at| at.0),
                unscannable_chars(secret.expose()) as i64,
            ),
        )?;
        audit::append(&change, by, Some(project), "service account create", &format!("{username}: {}", new.role.as_str()))?;
        bump_epoch(&change)?;
        self.finish(change, &[])?;
        Ok((username, secret))
    }

    /// The service accounts of a project, oldest first.
    pub fn service_accounts(&self, project: ProjectId) -> Result<Vec<ServiceAccountRow>> {
        let connection = self.lock();
        let mut found = connection.prepare(
            "SELECT id, username, name, role, created_at, expires_at, revoked_at, created_by FROM service_accounts
             WHERE project_id = $1
             ORDER BY id",
        )?;
        let rows = found.query_map([project.0], |row| {
            let role: String = row.get(3)?;
            Ok(ServiceAccountRow {
                id: row.get(0)?,
                project,
                created_by: row.get::<_, Option<i64>>(7)?.map(AccountId),
                username: row.get(1)?,
                name: row.get(2)?,
                role: Role::parse(&role).unwrap_or(Role::Consumer),
                created_at: Timestamp(row.get(4)?),
                expires_at: row.get::<_, Option<i64>>(5)?.map(Timestamp),
                revoked_at: row.get::<_, Option<i64>>(6)?.map(Timestamp),
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Ends a service account at once.
    pub fn revoke_service_account(&self, project: ProjectId, username: &str, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_admin(&change, project, by, "revoke service accounts")?;
        let hash: Option<[u8; 32]> = change
            .query_row(
                "SELECT secret_sha256 FROM service_accounts WHERE project_id = $1 AND username = $2 AND revoked_at IS NULL",
                (project.0, username),
                |row| row.get(0),
            )
            .optional()?;
        let hash = hash.ok_or(MetaError::Unknown("service account"))?;
        change.execute(
            "UPDATE service_accounts SET revoked_at = $1 WHERE project_id = $2 AND username = $3",
            (by.at.0, project.0, username),
        )?;
        audit::append(&change, by, Some(project), "service account revoke", username)?;
        bump_epoch(&change)?;
        self.finish(change, &[(hash, by.at)])
    }
}
