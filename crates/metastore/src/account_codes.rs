//! Codes that are sent by mail: to set another password, to confirm another address. Each counts once, within an hour.

use model::{AccountId, Timestamp};
use rusqlite::{OptionalExtension, Transaction};

use crate::accounts::{check_email, hash_password, is_taken, normal, replace_password};
use crate::audit::{self, Actor, By};
use crate::secret::new_code;
use crate::{MetaError, Metastore, Result, Secret, bearer_tokens, bump_epoch, second_factor, sessions, sha256};

const LIFETIME_MS: i64 = 3_600_000;
/// More codes that wait are not made: nobody floods a mailbox.
const WAITING_MAX: i64 = 3;

const PASSWORD: &str = "password";
const EMAIL: &str = "email";

const NOT_PROVEN: &str = "this code is unknown, used or too old; ask for another";

fn new(change: &Transaction<'_>, account: AccountId, purpose: &str, email: &str, now: Timestamp) -> Result<Option<Secret>> {
    change.execute("DELETE FROM account_codes WHERE expires_at <= $1", [now.0])?;
    let waiting: i64 =
        change.query_row("SELECT COUNT(*) FROM account_codes WHERE account_id = $1 AND purpose = $2", (account.0, purpose), |row| {
            row.get(0)
        })?;
    if waiting >= WAITING_MAX {
        return Ok(None);
    }
    let code = new_code();
    change.execute(
        "INSERT INTO account_codes (code_sha256, account_id, purpose, email, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)",
        (sha256(code.expose().as_bytes()), account.0, purpose, email, now.0, now.0 + LIFETIME_MS),
    )?;
    Ok(Some(code))
}

/// Takes a code, and every other one of its account and purpose with it.
fn take(change: &Transaction<'_>, purpose: &str, code: &str, now: Timestamp) -> Result<(AccountId, String)> {
    let found = change.query_row(
        "SELECT account_id, email FROM account_codes WHERE code_sha256 = $1 AND purpose = $2 AND expires_at > $3",
        (sha256(code.trim().as_bytes()), purpose, now.0),
        |row| Ok((AccountId(row.get(0)?), row.get(1)?)),
    );
    let (account, email): (AccountId, String) = found.optional()?.ok_or(MetaError::NotProven(NOT_PROVEN))?;
    change.execute("DELETE FROM account_codes WHERE account_id = $1 AND purpose = $2", (account.0, purpose))?;
    Ok((account, email))
}

impl Metastore {
    /// A code to set another password with, and the address to send it to; `None` where the address is unknown or was asked for too often.
    pub fn begin_password_reset(&self, email: &str, by: &By) -> Result<Option<(String, Secret)>> {
        let email = normal(email);
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let account: Option<i64> =
            change.query_row("SELECT id FROM accounts WHERE email = $1 AND disabled_at IS NULL", [&email], |row| row.get(0)).optional()?;
        let Some(account) = account.map(AccountId) else { return Ok(None) };
        let Some(code) = new(&change, account, PASSWORD, &email, by.at)? else { return Ok(None) };
        audit::append(&change, by, None, "password reset begin", &format!("account {account}"))?;
        self.finish(change, &[])?;
        Ok(Some((email, code)))
    }

    /// Sets another password. Every session of the account ends; its second factor stays.
    pub fn finish_password_reset(&self, code: &str, password: &str, by: &By) -> Result<AccountId> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let (account, email) = take(&change, PASSWORD, code, by.at)?;
        // Only whoever has a code may ask for the work of hashing. A password that is refused leaves the code as it was.
        let hash = hash_password(password, &email)?;
        let mut dead = vec![replace_password(&change, account, &hash, by.at)?];
        sessions::end_all(&change, account, None)?;
        // Whoever reads the mail of the address owns the account. Somebody else may have made it before, and left ways in.
        dead.extend(bearer_tokens::revoke_all(&change, account, by.at)?);
        let verified_at: Option<i64> = change.query_row("SELECT verified_at FROM accounts WHERE id = $1", [account.0], |row| row.get(0))?;
        if verified_at.is_none() {
            dead.extend(second_factor::end(&change, account, by.at)?);
            change.execute("UPDATE accounts SET verified_at = $1 WHERE id = $2", (by.at.0, account.0))?;
        }
        let by = By { actor: Actor::Account(account), ..by.clone() };
        audit::append(&change, &by, None, "password reset", "")?;
        bump_epoch(&change)?;
        self.finish(change, &dead)?;
        Ok(account)
    }

    /// A code to confirm another address of an account with, for that address.
    pub fn begin_email_change(&self, account: AccountId, email: &str, by: &By) -> Result<Secret> {
        let email = normal(email);
        check_email(&email)?;
        let mut connection = self.lock();
        let change = connection.transaction()?;
        if is_taken(&change, &email)? {
            return Err(MetaError::Taken("e-mail address"));
        }
        let code = new(&change, account, EMAIL, &email, by.at)?;
        let code = code.ok_or_else(|| MetaError::Invalid("codes were sent already; look for them, or wait an hour".to_owned()))?;
        audit::append(&change, by, None, "email change begin", "")?;
        self.finish(change, &[])?;
        Ok(code)
    }

    /// Gives the account the address that its code went to; returns the old one.
    pub fn finish_email_change(&self, account: AccountId, code: &str, by: &By) -> Result<String> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let (owner, email) = take(&change, EMAIL, code, by.at)?;
        if owner != account {
            return Err(MetaError::NotProven(NOT_PROVEN));
        }
        if is_taken(&change, &email)? {
            return Err(MetaError::Taken("e-mail address"));
        }
        let before: String = change.query_row("SELECT email FROM accounts WHERE id = $1", [account.0], |row| row.get(0))?;
        change.execute("UPDATE accounts SET email = $1, verified_at = $2 WHERE id = $3", (email, by.at.0, account.0))?;
        change.execute("DELETE FROM account_codes WHERE account_id = $1", [account.0])?;
        audit::append(&change, by, None, "email change", &format!("account {account}"))?;
        self.finish(change, &[])?;
        Ok(before)
    }
}
