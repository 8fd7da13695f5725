//! Copies of the database, and what a restored one may still do.

use std::path::Path;

use model::{ProjectId, Timestamp};
use rusqlite::{Connection, Transaction};

use crate::accounts::NO_PASSWORD;
use crate::audit::{self, By};
use crate::ledger::Recorded;
use crate::members::membership_hash;
use crate::{HAS_LEDGER, MetaError, Metastore, REVOCATIONS, Result, bump_epoch, number, set_number, sha256};

impl Metastore {
    /// Writes a copy of the database as it is now to a file that does not exist yet. Writers wait meanwhile.
    /// The copy holds no setup code.
    pub fn copy_to(&self, path: &Path) -> Result<()> {
        let text = path.to_str().ok_or_else(|| MetaError::Invalid("the name of the copy is not text".to_owned()))?;
        self.lock().execute("VACUUM INTO $1", [text])?;
        let copy = Connection::open(path)?;
        copy.execute_batch("PRAGMA secure_delete = ON; DELETE FROM setup_code; VACUUM;")?;
        Ok(())
    }

    /// Projects whose credentials wait for an owner since a backup was restored.
    pub fn suspended_projects(&self) -> Result<Vec<ProjectId>> {
        let connection = self.lock();
        let mut found = connection.prepare("SELECT id FROM projects WHERE suspended_at IS NOT NULL ORDER BY id")?;
        Ok(found.query_map([], |row| Ok(ProjectId(row.get(0)?)))?.collect::<rusqlite::Result<_>>()?)
    }

    /// Lets the credentials of a restored project work again. Only an owner may.
    pub fn confirm_credentials(&self, project: ProjectId, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        crate::members::require_owner(&change, project, by, "confirm its credentials")?;
        change.execute("UPDATE projects SET suspended_at = NULL WHERE id = $1", [project.0])?;
        audit::append(&change, by, Some(project), "credentials confirm", "")?;
        bump_epoch(&change)?;
        self.finish(change, &[])
    }

    /// Says that this database comes from a backup, before it is opened for the first time: if the ledger does not prove that nothing was
    /// revoked since, every credential waits for an owner.
    pub fn mark_restored(path: &Path) -> Result<()> {
        let connection = Connection::open(path)?;
        set_number(&connection, RESTORED, 1)
    }

    /// Compares the database with the ledger and brings both together.
    pub(crate) fn follow_ledger(&self, now: Timestamp) -> Result<()> {
        let mut connection = self.lock();
        let mut ledger = self.ledger();
        let recorded = ledger.read()?;
        let (had_ledger, own) = (number(&connection, HAS_LEDGER)? != 0, number(&connection, REVOCATIONS)?);
        let restored = number(&connection, RESTORED)? != 0;
        let is_behind = match &recorded {
            Some(recorded) => recorded.epoch > own || (recorded.epoch < own && restored),
            None => had_ledger || restored,
        };
        let change = connection.transaction()?;
        let mut cut = recorded.as_ref().and_then(|recorded| recorded.cut);
        if let Some((id, chain)) = recorded.as_ref().and_then(|recorded| recorded.audit)
            && !is_behind
            && !restored
            && !change.query_row("SELECT EXISTS (SELECT 1 FROM audit WHERE id = $1 AND chain = $2)", (id, chain), |row| row.get(0))?
        {
            cut = Some(id);
        }
        if is_behind {
            for (hash, at) in recorded.iter().flat_map(|recorded| &recorded.revoked) {
                let at = at.0;
                change.execute(
                    "UPDATE keys SET revoked_at = $1, secret_sealed = NULL WHERE secret_sha256 = $2 AND revoked_at IS NULL",
                    (at, hash),
                )?;
                change
                    .execute("UPDATE service_accounts SET revoked_at = $1 WHERE secret_sha256 = $2 AND revoked_at IS NULL", (at, hash))?;
                change.execute("UPDATE projects SET identity_sealed = NULL, identity_sha256 = NULL WHERE identity_sha256 = $1", [hash])?;
                change.execute("UPDATE bearer_tokens SET revoked_at = $1 WHERE token_sha256 = $2 AND revoked_at IS NULL", (at, hash))?;
            }
            let revoked: Vec<_> = recorded.iter().flat_map(|recorded| &recorded.revoked).copied().collect();
            end_people(&change, &revoked)?;
            change.execute("UPDATE projects SET suspended_at = $1 WHERE suspended_at IS NULL", [now.0])?;
            audit::append(&change, &By::console(now), None, "restore", "credentials wait for an owner of each project")?;
            bump_epoch(&change)?;
        }
        if is_behind || restored {
            // Who was signed in, invited or sent a code then, begins anew.
            change.execute_batch(
                "DELETE FROM sessions; DELETE FROM devices; DELETE FROM account_codes; DELETE FROM invitations; DELETE FROM transfers;",
            )?;
            crate::jobs::end_restored(&change)?;
        }
        let epoch = own.max(recorded.as_ref().map_or(0, |recorded| recorded.epoch));
        set_number(&change, REVOCATIONS, epoch)?;
        set_number(&change, HAS_LEDGER, 1)?;
        set_number(&change, RESTORED, 0)?;
        let mut revoked = recorded.map(|recorded| recorded.revoked).unwrap_or_default();
        {
            let mut found = change.prepare(
                "SELECT secret_sha256, COALESCE(revoked_at, retires_at) FROM keys WHERE revoked_at IS NOT NULL OR retires_at IS NOT NULL
                 UNION SELECT secret_sha256, revoked_at FROM service_accounts WHERE revoked_at IS NOT NULL
                 UNION SELECT token_sha256, revoked_at FROM bearer_tokens WHERE revoked_at IS NOT NULL",
            )?;
            let rows = found.query_map([], |row| Ok((row.get::<_, [u8; 32]>(0)?, Timestamp(row.get(1)?))))?;
            for row in rows {
                revoked.push(row?);
            }
        }
        revoked.sort_unstable();
        revoked.dedup();
        let audit = audit::head(&change)?;
        change.commit()?;
        ledger.rewrite(&Recorded { epoch, audit, revoked, cut }).map_err(|error| match error {
            MetaError::Io(cause) => MetaError::Invalid(format!("cannot write the ledger {}: {cause}", ledger.path().display())),
            other => other,
        })
    }
}

/// Keeps people out whom a restored database knows and the ledger knows better: passwords that were changed, recovery codes that were used,
/// memberships that were ended or lowered since.
fn end_people(change: &Transaction<'_>, revoked: &[([u8; 32], Timestamp)]) -> Result<()> {
    let backed_up_at: i64 = change.query_row("SELECT COALESCE(MAX(at), 0) FROM audit", [], |row| row.get(0))?;
    let is_dead = |hash: &[u8; 32]| revoked.iter().any(|(dead, _)| dead == hash);
    let accounts: Vec<(i64, String)> = {
        let mut found = change.prepare("SELECT id, password_hash FROM accounts")?;
        found.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?
    };
    for (id, _) in accounts.iter().filter(|(_, hash)| is_dead(&sha256(hash.as_bytes()))) {
        change.execute("UPDATE accounts SET password_hash = $1 WHERE id = $2", (NO_PASSWORD, id))?;
    }
    for (hash, at) in revoked {
        change.execute("DELETE FROM recovery_codes WHERE code_sha256 = $1", [hash])?;
        // A member may have been added again before the backup: only what ended after it counts.
        if at.0 >= backed_up_at {
            let members: Vec<(i64, i64)> = {
                let mut found = change.prepare("SELECT project_id, account_id FROM members")?;
                found.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?
            };
            for (project, account) in members.into_iter().filter(|(project, account)| membership_hash(*project, *account) == *hash) {
                change.execute("DELETE FROM members WHERE project_id = $1 AND account_id = $2", (project, account))?;
            }
        }
    }
    Ok(())
}

const RESTORED: &str = "restored";
