//! Who belongs to a project, as what; and a project that changes hands in two steps.

use model::time::DAY_MS;
use model::{AccountId, ProjectId, Role, Timestamp};
use rusqlite::{Connection, OptionalExtension, Transaction};

use crate::audit::{self, Actor, By};
use crate::{MetaError, Metastore, Result, bump_epoch, sha256};

/// A member of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub account: AccountId,
    /// The address that the account signs in with.
    pub email: String,
    /// As what.
    pub role: Role,
}

/// A project that was offered to a new owner and not taken yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The project.
    pub project: ProjectId,
    /// The owner who offers it.
    pub from: AccountId,
    /// Who may accept it.
    pub to: AccountId,
    /// Until when.
    pub expires_at: Timestamp,
}

/// How long an offer stands.
const TRANSFER_MS: i64 = 7 * DAY_MS;

/// The role of an account in a project.
pub(crate) fn role_of(connection: &Connection, project: ProjectId, account: AccountId) -> Result<Option<Role>> {
    let found: Option<String> = connection
        .query_row("SELECT role FROM members WHERE project_id = $1 AND account_id = $2", (project.0, account.0), |row| row.get(0))
        .optional()?;
    Ok(found.as_deref().and_then(Role::parse))
}

/// Refuses whoever is not an owner of the project; the console may.
pub(crate) fn require_owner(change: &Transaction<'_>, project: ProjectId, by: &By, what: &'static str) -> Result<()> {
    require_project(change, project)?;
    match by.actor {
        Actor::Console => Ok(()),
        Actor::Account(account) if role_of(change, project, account)? == Some(Role::Owner) => Ok(()),
        Actor::Account(_) | Actor::ServiceAccount { .. } | Actor::Visitor => Err(MetaError::NotOwner(what)),
    }
}

/// Refuses whoever is neither admin nor owner of the project; the console may. Returns the role, the console's being an owner's.
pub(crate) fn require_admin(change: &Transaction<'_>, project: ProjectId, by: &By, what: &'static str) -> Result<Role> {
    require_project(change, project)?;
    let role = match &by.actor {
        Actor::Console => Some(Role::Owner),
        Actor::Account(account) => role_of(change, project, *account)?,
        Actor::ServiceAccount { project: own, role, .. } => Some(*role).filter(|_| *own == project),
        Actor::Visitor => None,
    };
    role.filter(|role| *role >= Role::Admin).ok_or(MetaError::NotAdmin(what))
}

/// Refuses whoever is no operator of the instance; the console may.
pub(crate) fn require_operator(change: &Transaction<'_>, by: &By, what: &'static str) -> Result<()> {
    let account = match by.actor {
        Actor::Console => return Ok(()),
        Actor::Account(account) => account,
        Actor::ServiceAccount { .. } | Actor::Visitor => return Err(MetaError::NotOperator(what)),
    };
    let found = change.query_row("SELECT is_operator FROM accounts WHERE id = $1", [account.0], |row| row.get(0)).optional()?;
    if found.unwrap_or(false) { Ok(()) } else { Err(MetaError::NotOperator(what)) }
}

pub(crate) fn require_project(change: &Transaction<'_>, project: ProjectId) -> Result<()> {
    let known: bool = change.query_row("SELECT EXISTS (SELECT 1 FROM projects WHERE id = $1)", [project.0], |row| row.get(0))?;
    if known { Ok(()) } else { Err(MetaError::Unknown("project")) }
}

/// How the ledger names a membership that ended or was lowered.
pub(crate) fn membership_hash(project: i64, account: i64) -> [u8; 32] {
    sha256(format!("membership {project} {account}").as_bytes())
}

fn has_other_owner(change: &Transaction<'_>, project: ProjectId, account: AccountId) -> Result<bool> {
    Ok(change.query_row(
        "SELECT EXISTS (SELECT 1 FROM members WHERE project_id = $1 AND account_id <> $2 AND role = 'owner')",
        (project.0, account.0),
        |row| row.get(0),
    )?)
}

pub(crate) fn put(change: &Transaction<'_>, project: ProjectId, account: AccountId, role: Role) -> Result<()> {
    change.execute(
        "INSERT INTO members (project_id, account_id, role) VALUES ($1, $2, $3)
         ON CONFLICT (project_id, account_id) DO UPDATE SET role = excluded.role",
        (project.0, account.0, role.as_str()),
    )?;
    Ok(())
}

impl Metastore {
    /// The members of a project, owners first.
    pub fn members(&self, project: ProjectId) -> Result<Vec<Member>> {
        let connection = self.lock();
        let mut found = connection.prepare(
            "SELECT accounts.id, accounts.email, members.role
             FROM members JOIN accounts ON accounts.id = members.account_id
             WHERE members.project_id = $1
             ORDER BY accounts.email",
        )?;
        let rows = found.query_map([project.0], |row| {
            let role: String = row.get(2)?;
            Ok(Member { account: AccountId(row.get(0)?), email: row.get(1)?, role: Role::parse(&role).unwrap_or(Role::Consumer) })
        })?;
        let mut members: Vec<Member> = rows.collect::<rusqlite::Result<_>>()?;
        members.sort_by_key(|member| std::cmp::Reverse(member.role));
        Ok(members)
    }

    /// What an account is in each of its projects.
    pub fn memberships(&self, account: AccountId) -> Result<Vec<(ProjectId, Role)>> {
        let connection = self.lock();
        let mut found = connection.prepare("SELECT project_id, role FROM members WHERE account_id = $1 ORDER BY project_id")?;
        let rows = found.query_map([account.0], |row| {
            let role: String = row.get(1)?;
            Ok((ProjectId(row.get(0)?), Role::parse(&role).unwrap_or(Role::Consumer)))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// What an account is in a project.
    pub fn role(&self, project: ProjectId, account: AccountId) -> Result<Option<Role>> {
        role_of(&self.lock(), project, account)
    }

    /// Makes an account a member, or gives a member another role. Admins may, but only owners make owners or change them.
    /// The last owner stays one.
    pub fn set_role(&self, project: ProjectId, account: AccountId, role: Role, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let own = require_admin(&change, project, by, "change roles")?;
        let before = role_of(&change, project, account)?;
        if own != Role::Owner && (role == Role::Owner || before == Some(Role::Owner)) {
            return Err(MetaError::NotOwner("make owners or change them"));
        }
        if before == Some(Role::Owner) && role != Role::Owner && !has_other_owner(&change, project, account)? {
            return Err(MetaError::LastOwner);
        }
        put(&change, project, account, role)?;
        let detail = format!("account {account}: {} -> {}", before.map_or("none", Role::as_str), role.as_str());
        audit::append(&change, by, Some(project), "member role", &detail)?;
        bump_epoch(&change)?;
        let is_lowered = before.is_some_and(|before| before > role);
        let dead = is_lowered.then(|| (membership_hash(project.0, account.0), by.at));
        self.finish(change, dead.as_slice())
    }

    /// Ends a membership. Admins may remove everybody but owners, owners everybody but the last owner, and everybody may leave.
    pub fn remove_member(&self, project: ProjectId, account: AccountId, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let before = role_of(&change, project, account)?.ok_or(MetaError::Unknown("member"))?;
        if by.actor != Actor::Account(account) {
            let own = require_admin(&change, project, by, "remove members")?;
            if before == Role::Owner && own != Role::Owner {
                return Err(MetaError::NotOwner("remove an owner"));
            }
        }
        if before == Role::Owner && !has_other_owner(&change, project, account)? {
            return Err(MetaError::LastOwner);
        }
        change.execute("DELETE FROM members WHERE project_id = $1 AND account_id = $2", (project.0, account.0))?;
        change.execute("DELETE FROM transfers WHERE project_id = $1 AND (from_account = $2 OR to_account = $2)", (project.0, account.0))?;
        audit::append(&change, by, Some(project), "member remove", &format!("account {account}: {}", before.as_str()))?;
        bump_epoch(&change)?;
        self.finish(change, &[(membership_hash(project.0, account.0), by.at)])
    }

    /// Offers a project to an account, in the place of an older offer. It stands for a week; nothing changes until it is accepted.
    pub fn offer_transfer(&self, project: ProjectId, to: AccountId, by: &By) -> Result<Transfer> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_owner(&change, project, by, "transfer it")?;
        let from = by.account_id().ok_or_else(|| MetaError::Invalid("an owner has to offer the project: name one with --as".to_owned()))?;
        if from == to {
            return Err(MetaError::Invalid("the project is yours already".to_owned()));
        }
        let transfer = Transfer { project, from, to, expires_at: by.at.plus_ms(TRANSFER_MS) };
        change.execute("DELETE FROM transfers WHERE project_id = $1", [project.0])?;
        change.execute(
            "INSERT INTO transfers (project_id, from_account, to_account, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)",
            (project.0, from.0, to.0, by.at.0, transfer.expires_at.0),
        )?;
        audit::append(&change, by, Some(project), "transfer offer", &format!("account {to}"))?;
        self.finish(change, &[])?;
        Ok(transfer)
    }

    /// The offer of a project that is open.
    pub fn transfer(&self, project: ProjectId, now: Timestamp) -> Result<Option<Transfer>> {
        open_transfer(&self.lock(), project, now)
    }

    /// The projects that are offered to an account.
    pub fn transfers_to(&self, account: AccountId, now: Timestamp) -> Result<Vec<Transfer>> {
        let connection = self.lock();
        let mut found = connection.prepare(
            "SELECT project_id, from_account, to_account, expires_at FROM transfers
             WHERE to_account = $1 AND expires_at > $2
             ORDER BY project_id",
        )?;
        let rows = found.query_map((account.0, now.0), |row| {
            Ok(Transfer {
                project: ProjectId(row.get(0)?),
                from: AccountId(row.get(1)?),
                to: AccountId(row.get(2)?),
                expires_at: Timestamp(row.get(3)?),
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Takes an offered project: whoever was offered it becomes owner, whoever offered it an admin.
    pub fn accept_transfer(&self, project: ProjectId, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let offer = open_transfer(&change, project, by.at)?.filter(|offer| by.actor == Actor::Account(offer.to));
        let offer = offer.ok_or(MetaError::Unknown("transfer"))?;
        // Whoever offered it may have lost it since.
        if role_of(&change, project, offer.from)? != Some(Role::Owner) {
            return Err(MetaError::Unknown("transfer"));
        }
        put(&change, project, offer.to, Role::Owner)?;
        put(&change, project, offer.from, Role::Admin)?;
        change.execute("DELETE FROM transfers WHERE project_id = $1", [project.0])?;
        audit::append(&change, by, Some(project), "transfer accept", &format!("account {} -> account {}", offer.from, offer.to))?;
        bump_epoch(&change)?;
        self.finish(change, &[(membership_hash(project.0, offer.from.0), by.at)])
    }

    /// Takes an offer back, or declines it.
    pub fn end_transfer(&self, project: ProjectId, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let offer = open_transfer(&change, project, by.at)?.ok_or(MetaError::Unknown("transfer"))?;
        if by.actor != Actor::Account(offer.to) {
            require_owner(&change, project, by, "take the offer back")?;
        }
        change.execute("DELETE FROM transfers WHERE project_id = $1", [project.0])?;
        audit::append(&change, by, Some(project), "transfer end", "")?;
        self.finish(change, &[])
    }
}

fn open_transfer(connection: &Connection, project: ProjectId, now: Timestamp) -> Result<Option<Transfer>> {
    let found = connection.query_row(
        "SELECT from_account, to_account, expires_at FROM transfers WHERE project_id = $1 AND expires_at > $2",
        (project.0, now.0),
        |row| Ok(Transfer { project, from: AccountId(row.get(0)?), to: AccountId(row.get(1)?), expires_at: Timestamp(row.get(2)?) }),
    );
    Ok(found.optional()?)
}
