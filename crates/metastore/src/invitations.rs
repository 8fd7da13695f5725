//! Invitations: how somebody becomes a member, with an account or without one yet. Whoever has the code of an invitation may accept it
//! within two weeks, once.

use model::time::DAY_MS;
use model::{AccountId, ProjectId, Role, Timestamp};
use rusqlite::{Connection, OptionalExtension, Transaction};

use crate::accounts::{check_email, hash_password, insert_account, normal};
use crate::audit::{self, Actor, By};
use crate::members::{self, require_admin, role_of};
use crate::secret::new_code;
use crate::{MetaError, Metastore, Result, Secret, bump_epoch, sessions, sha256};

/// An invitation that waits, as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Its row.
    pub id: i64,
    /// Where to.
    pub project: ProjectId,
    /// Whom.
    pub email: String,
    /// As what.
    pub role: Role,
    /// Who invited.
    pub invited_by: Option<AccountId>,
    /// When.
    pub created_at: Timestamp,
    /// Until when it waits.
    pub expires_at: Timestamp,
}

/// What the code of an invitation says to whoever has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invited {
    /// Whom.
    pub email: String,
    /// As what.
    pub role: Role,
    /// The name of the project.
    pub project_name: String,
    /// Whether the address has an account: it signs in to accept.
    pub has_account: bool,
}

/// The codes of an invitation.
#[derive(Debug)]
pub struct InvitationCodes {
    /// For whoever invites, to hand over where mail does not arrive.
    pub shown: Secret,
    /// For the mail to the invited address.
    pub mailed: Secret,
}

/// Invitations that a project has open at a time.
const OPEN_MAX: i64 = 200;
const LIFETIME_MS: i64 = 14 * DAY_MS;
const NOT_PROVEN: &str = "this invitation is unknown, used, withdrawn or too old; ask for another";

/// The invitation of a code, and whether it is the code that was mailed.
fn open(connection: &Connection, code: &str, now: Timestamp) -> Result<(Invitation, bool)> {
    let found = connection.query_row(
        "SELECT id, project_id, email, role, invited_by, created_at, expires_at, mailed_sha256 = $1 FROM invitations
         WHERE (code_sha256 = $1 OR mailed_sha256 = $1) AND expires_at > $2",
        (sha256(code.trim().as_bytes()), now.0),
        |row| Ok((from_row(row)?, row.get(7)?)),
    );
    found.optional()?.ok_or(MetaError::NotProven(NOT_PROVEN))
}

fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Invitation> {
    let role: String = row.get(3)?;
    Ok(Invitation {
        id: row.get(0)?,
        project: ProjectId(row.get(1)?),
        email: row.get(2)?,
        role: Role::parse(&role).unwrap_or(Role::Consumer),
        invited_by: row.get::<_, Option<i64>>(4)?.map(AccountId),
        created_at: Timestamp(row.get(5)?),
        expires_at: Timestamp(row.get(6)?),
    })
}

fn account_of(connection: &Connection, email: &str) -> Result<Option<AccountId>> {
    let found = connection.query_row("SELECT id FROM accounts WHERE email = $1", [email], |row| row.get(0));
    Ok(found.optional()?.map(AccountId))
}

fn is_disabled(connection: &Connection, account: AccountId) -> Result<bool> {
    Ok(connection.query_row("SELECT disabled_at IS NOT NULL FROM accounts WHERE id = $1", [account.0], |row| row.get(0))?)
}

/// Makes the account a member; never less than it is already.
fn join(change: &Transaction<'_>, invitation: &Invitation, account: AccountId, by: &By) -> Result<()> {
    // Whoever invited may have lost the right to since.
    if let Some(inviter) = invitation.invited_by {
        let role = role_of(change, invitation.project, inviter)?;
        if !role.is_some_and(|role| role >= Role::Admin && role >= invitation.role) {
            return Err(MetaError::NotProven(NOT_PROVEN));
        }
    }
    let before = role_of(change, invitation.project, account)?;
    if before.is_none_or(|before| before < invitation.role) {
        members::put(change, invitation.project, account, invitation.role)?;
    }
    change.execute("DELETE FROM invitations WHERE id = $1", [invitation.id])?;
    let detail = format!("account {account}: {}", invitation.role.as_str());
    audit::append(change, by, Some(invitation.project), "invitation accept", &detail)?;
    bump_epoch(change)
}

impl Metastore {
    /// Invites an address to a project, in the place of an older invitation. Returns two codes, shown here and never again: one to show to
    /// whoever invites, one to mail. Only the mailed one makes an account whose address is known to be its owner's.
    /// Admins may, but only owners invite owners.
    pub fn invite(&self, project: ProjectId, email: &str, role: Role, by: &By) -> Result<(Invitation, InvitationCodes)> {
        let email = normal(email);
        check_email(&email)?;
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let own = require_admin(&change, project, by, "invite")?;
        if role > own {
            return Err(MetaError::NotOwner("invite an owner"));
        }
        if let Some(account) = account_of(&change, &email)? {
            if is_disabled(&change, account)? {
                return Err(MetaError::Invalid("this account is disabled".to_owned()));
            }
            if role_of(&change, project, account)?.is_some() {
                return Err(MetaError::Invalid("this account is a member already; change its role instead".to_owned()));
            }
        }
        let codes = InvitationCodes { shown: new_code(), mailed: new_code() };
        let expires_at = by.at.plus_ms(LIFETIME_MS);
        change
            .execute("DELETE FROM invitations WHERE expires_at <= $1 OR (project_id = $2 AND email = $3)", (by.at.0, project.0, &email))?;
        let open: i64 = change.query_row("SELECT COUNT(*) FROM invitations WHERE project_id = $1", [project.0], |row| row.get(0))?;
        if open >= OPEN_MAX {
            return Err(MetaError::Invalid(format!("{OPEN_MAX} invitations of this project wait already: withdraw some")));
        }
        change.execute(
            "INSERT INTO invitations (project_id, email, role, code_sha256, mailed_sha256, invited_by, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            (
                project.0,
                &email,
                role.as_str(),
                sha256(codes.shown.expose().as_bytes()),
                sha256(codes.mailed.expose().as_bytes()),
                by.account_id().map(|account| account.0),
                by.at.0,
                expires_at.0,
            ),
        )?;
        let id = change.last_insert_rowid();
        audit::append(&change, by, Some(project), "invitation create", &format!("invitation {id}: {}", role.as_str()))?;
        self.finish(change, &[])?;
        Ok((Invitation { id, project, email, role, invited_by: by.account_id(), created_at: by.at, expires_at }, codes))
    }

    /// The invitations of a project that wait.
    pub fn invitations(&self, project: ProjectId, now: Timestamp) -> Result<Vec<Invitation>> {
        let connection = self.lock();
        let mut found = connection.prepare(
            "SELECT id, project_id, email, role, invited_by, created_at, expires_at FROM invitations
             WHERE project_id = $1 AND expires_at > $2
             ORDER BY id",
        )?;
        Ok(found.query_map((project.0, now.0), from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// Takes an invitation back.
    pub fn withdraw_invitation(&self, project: ProjectId, id: i64, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_admin(&change, project, by, "withdraw invitations")?;
        if change.execute("DELETE FROM invitations WHERE id = $1 AND project_id = $2", (id, project.0))? == 0 {
            return Err(MetaError::Unknown("invitation"));
        }
        audit::append(&change, by, Some(project), "invitation withdraw", &format!("invitation {id}"))?;
        self.finish(change, &[])
    }

    /// What a code says.
    pub fn invited(&self, code: &str, now: Timestamp) -> Result<Invited> {
        let connection = self.lock();
        let (invitation, _) = open(&connection, code, now)?;
        let project_name = connection.query_row("SELECT name FROM projects WHERE id = $1", [invitation.project.0], |row| row.get(0))?;
        let has_account = account_of(&connection, &invitation.email)?.is_some();
        Ok(Invited { email: invitation.email, role: invitation.role, project_name, has_account })
    }

    /// Accepts an invitation as an account that signed in; it must be the one that was invited.
    pub fn accept_invitation(&self, code: &str, account: AccountId, by: &By) -> Result<ProjectId> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let (invitation, _) = open(&change, code, by.at)?;
        if account_of(&change, &invitation.email)? != Some(account) {
            return Err(MetaError::NotProven("this invitation is for another address; sign in with that one"));
        }
        join(&change, &invitation, account, by)?;
        self.finish(change, &[])?;
        Ok(invitation.project)
    }

    /// Accepts an invitation with a new account for the invited address, and signs it in.
    pub fn sign_up(&self, code: &str, password: &str, user_agent: &str, by: &By) -> Result<(ProjectId, AccountId, Secret)> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let (invitation, was_mailed) = open(&change, code, by.at)?;
        if account_of(&change, &invitation.email)?.is_some() {
            return Err(MetaError::Invalid("this address has an account: sign in, then accept the invitation".to_owned()));
        }
        let hash = hash_password(password, &invitation.email)?;
        let account = insert_account(&change, &invitation.email, &hash, was_mailed, by)?;
        let by = By { actor: Actor::Account(account), ..by.clone() };
        join(&change, &invitation, account, &by)?;
        let session = sessions::begin(&change, account, user_agent, &by)?;
        audit::append(&change, &by, None, "login", "invitation")?;
        self.finish(change, &[])?;
        Ok((invitation.project, account, session))
    }
}
