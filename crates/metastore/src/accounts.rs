//! Accounts, their passwords, and the one-time setup code that makes the first of them.

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use model::{AccountId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, Transaction};
use subtle::ConstantTimeEq;

use zxcvbn::zxcvbn;

use crate::audit::{self, Actor, By};
use crate::secret::{human_code, random, read_human_code};
use crate::{MetaError, Metastore, Result, Secret, bearer_tokens, bump_epoch, sessions, sha256};

/// A person who can sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// The address it signs in with, lower case.
    pub email: String,
    /// Whether it is an operator of the instance.
    pub is_operator: bool,
    /// Whether it has a second factor.
    pub has_totp: bool,
    /// Recovery codes that are left.
    pub recovery_codes: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when it cannot sign in any more.
    pub disabled_at: Option<Timestamp>,
}

const COLUMNS: &str = "id, email, is_operator, totp_sealed IS NOT NULL,
    (SELECT COUNT(*) FROM recovery_codes WHERE account_id = accounts.id), created_at, disabled_at";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account {
        id: AccountId(row.get(0)?),
        email: row.get(1)?,
        is_operator: row.get(2)?,
        has_totp: row.get(3)?,
        recovery_codes: row.get(4)?,
        created_at: Timestamp(row.get(5)?),
        disabled_at: row.get::<_, Option<i64>>(6)?.map(Timestamp),
    })
}

/// The shortest password that is taken.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// The longest.
const PASSWORD_BYTES_MAX: usize = 1024;
/// A password that is guessed with fewer tries is refused.
const GUESSES_MIN: u64 = 10_000;
/// In the place of a hash: no password fits, until another is set.
pub(crate) const NO_PASSWORD: &str = "!";
const SETUP_CODE_CHARS: usize = 20;

impl Metastore {
    /// Makes an account. The password needs at least [`PASSWORD_CHARS_MIN`] characters; the console alone may set one that is easily guessed.
    /// The first account of an instance is its operator.
    pub fn create_account(&self, email: &str, password: &str, by: &By) -> Result<AccountId> {
        check_length(password)?;
        let hash = if by.actor == Actor::Console { argon2_hash(password)? } else { hash_password(password, email)? };
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let id = insert_account(&change, email, &hash, true, by)?;
        change.execute("DELETE FROM setup_code", [])?;
        self.finish(change, &[])?;
        Ok(id)
    }

    /// The account with this address.
    pub fn account_by_email(&self, email: &str) -> Result<Option<Account>> {
        let sql = format!("SELECT {COLUMNS} FROM accounts WHERE email = $1");
        Ok(self.lock().query_row(&sql, [normal(email)], from_row).optional()?)
    }

    /// An account.
    pub fn account(&self, id: AccountId) -> Result<Option<Account>> {
        let sql = format!("SELECT {COLUMNS} FROM accounts WHERE id = $1");
        Ok(self.lock().query_row(&sql, [id.0], from_row).optional()?)
    }

    /// Every account, by id.
    pub fn accounts(&self) -> Result<Vec<Account>> {
        let connection = self.lock();
        let mut found = connection.prepare(&format!("SELECT {COLUMNS} FROM accounts ORDER BY id"))?;
        Ok(found.query_map([], from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// Gives an account another password, for whoever knows the old one. Its other sessions end.
    pub fn change_password(&self, account: AccountId, old: &str, new: &str, session: Option<i64>, by: &By) -> Result<()> {
        let (email, hash): (String, String) =
            self.lock()
                .query_row("SELECT email, password_hash FROM accounts WHERE id = $1", [account.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if !fits_password(Some(&hash), old)? {
            let mut connection = self.lock();
            let change = connection.transaction()?;
            audit::append(&change, by, None, "password change failed", "")?;
            self.finish(change, &[])?;
            return Err(MetaError::NotProven("the old password does not fit"));
        }
        let new_hash = hash_password(new, &email)?;
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let dead = replace_password(&change, account, &new_hash, by.at)?;
        sessions::end_all(&change, account, session)?;
        audit::append(&change, by, None, "password change", "")?;
        self.finish(change, &[dead])
    }

    /// Ends an account: it cannot sign in, its sessions and bearer tokens are dead, its memberships gone. Only an operator may; a
    /// project keeps its last owner.
    pub fn disable_account(&self, account: AccountId, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        crate::members::require_operator(&change, by, "disable accounts")?;
        if by.actor == Actor::Account(account) {
            return Err(MetaError::Invalid("an operator does not disable itself".to_owned()));
        }
        let is_last_owner: bool = change.query_row(
            "SELECT EXISTS (
                 SELECT 1 FROM members AS own WHERE own.account_id = $1 AND own.role = 'owner'
                 AND NOT EXISTS (SELECT 1 FROM members WHERE project_id = own.project_id AND account_id <> $1 AND role = 'owner'))",
            [account.0],
            |row| row.get(0),
        )?;
        if is_last_owner {
            return Err(MetaError::LastOwner);
        }
        let changed = change.execute("UPDATE accounts SET disabled_at = $1, is_operator = 0 WHERE id = $2", (by.at.0, account.0))?;
        if changed == 0 {
            return Err(MetaError::Unknown("account"));
        }
        let mut dead = bearer_tokens::revoke_all(&change, account, by.at)?;
        dead.push(replace_password(&change, account, NO_PASSWORD, by.at)?);
        {
            let mut found = change.prepare("SELECT project_id FROM members WHERE account_id = $1")?;
            for project in found.query_map([account.0], |row| row.get(0))? {
                dead.push((crate::members::membership_hash(project?, account.0), by.at));
            }
        }
        sessions::end_all(&change, account, None)?;
        for table in ["devices", "account_codes", "members"] {
            change.execute(&format!("DELETE FROM {table} WHERE account_id = $1"), [account.0])?;
        }
        change.execute("DELETE FROM transfers WHERE from_account = $1 OR to_account = $1", [account.0])?;
        audit::append(&change, by, None, "account disable", &format!("account {account}"))?;
        bump_epoch(&change)?;
        self.finish(change, &dead)
    }

    /// The account, if the password is its own.
    pub fn verify_password(&self, email: &str, password: &str) -> Result<Option<AccountId>> {
        let found: Option<(i64, String)> = self
            .lock()
            .query_row("SELECT id, password_hash FROM accounts WHERE email = $1", [normal(email)], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let fits = fits_password(found.as_ref().map(|(_, hash)| hash.as_str()), password)?;
        Ok(found.filter(|_| fits).map(|(id, _)| AccountId(id)))
    }

    /// Whether anybody can sign in.
    pub fn has_accounts(&self) -> Result<bool> {
        Ok(self.lock().query_row("SELECT EXISTS (SELECT 1 FROM accounts)", [], |row| row.get(0))?)
    }

    /// A new one-time setup code in place of any older one; `None` once an account exists.
    pub fn new_setup_code(&self, now: Timestamp) -> Result<Option<Secret>> {
        if self.has_accounts()? {
            return Ok(None);
        }
        let code = human_code(SETUP_CODE_CHARS);
        let mut connection = self.lock();
        let change = connection.transaction()?;
        change.execute("DELETE FROM setup_code", [])?;
        change.execute(
            "INSERT INTO setup_code (code_sha256, created_at) VALUES ($1, $2)",
            (sha256(read_human_code(code.expose()).as_bytes()), now.0),
        )?;
        change.commit()?;
        Ok(Some(code))
    }

    /// Makes the first account, which becomes Owner of every project without one. The code is gone afterwards.
    pub fn redeem_setup_code(&self, code: &str, email: &str, password: &str, by: &By) -> Result<AccountId> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let stored: Option<Vec<u8>> = change.query_row("SELECT code_sha256 FROM setup_code", [], |row| row.get(0)).optional()?;
        let given = sha256(read_human_code(code).as_bytes());
        if !stored.is_some_and(|stored| bool::from(stored.ct_eq(&given))) {
            return Err(MetaError::Unknown("setup code"));
        }
        if change.query_row("SELECT EXISTS (SELECT 1 FROM accounts)", [], |row| row.get(0))? {
            return Err(MetaError::Unknown("setup code"));
        }
        // A password costs a lot of work: only whoever has the code may ask for it.
        let hash = hash_password(password, email)?;
        let id = insert_account(&change, email, &hash, true, by)?;
        change.execute("DELETE FROM setup_code", [])?;
        change.execute(
            "INSERT INTO members (project_id, account_id, role)
             SELECT id, $1, 'owner' FROM projects
             WHERE id NOT IN (SELECT project_id FROM members WHERE role = 'owner')",
            [id.0],
        )?;
        bump_epoch(&change)?;
        self.finish(change, &[])?;
        Ok(id)
    }

    /// Makes an account an operator of the instance, or ends that.
    pub fn set_operator(&self, account: AccountId, is_operator: bool, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        crate::members::require_operator(&change, by, "make operators")?;
        let has_other: bool =
            change.query_row("SELECT EXISTS (SELECT 1 FROM accounts WHERE id <> $1 AND is_operator)", [account.0], |row| row.get(0))?;
        if !is_operator && !has_other {
            return Err(MetaError::Invalid("this is the last operator: make another one first".to_owned()));
        }
        if change.execute("UPDATE accounts SET is_operator = $1 WHERE id = $2", (is_operator, account.0))? == 0 {
            return Err(MetaError::Unknown("account"));
        }
        audit::append(&change, by, None, "operator", &format!("account {account}: {is_operator}"))?;
        self.finish(change, &[])
    }
}

/// Whether an address has an account.
pub(crate) fn is_taken(connection: &Connection, email: &str) -> Result<bool> {
    Ok(connection.query_row("SELECT EXISTS (SELECT 1 FROM accounts WHERE email = $1)", [email], |row| row.get(0))?)
}

/// Refuses what is no address.
pub(crate) fn check_email(email: &str) -> Result<()> {
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with('.') && !part.contains("..");
    let has_parts = email.split_once('@').is_some_and(|(user, host)| is_part(user) && is_part(host));
    let is_known = |char: char| char.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(char);
    if has_parts && email.len() <= 254 && email.chars().filter(|char| !is_known(*char)).eq(['@']) {
        Ok(())
    } else {
        Err(MetaError::Invalid("an e-mail address is needed".to_owned()))
    }
}

/// Makes an account. It is verified where the console made it, or somebody who reads the address's mail.
pub(crate) fn insert_account(change: &Transaction<'_>, email: &str, hash: &str, is_verified: bool, by: &By) -> Result<AccountId> {
    let email = normal(email);
    check_email(&email)?;
    if is_taken(change, &email)? {
        return Err(MetaError::Taken("e-mail address"));
    }
    change.execute(
        "INSERT INTO accounts (email, password_hash, created_at, is_operator, verified_at)
         VALUES ($1, $2, $3, NOT EXISTS (SELECT 1 FROM accounts), $4)",
        (&email, hash, by.at.0, is_verified.then_some(by.at.0)),
    )?;
    let id = AccountId(change.last_insert_rowid());
    audit::append(change, by, None, "account create", &format!("account {id}"))?;
    Ok(id)
}

/// An address as it is stored.
pub(crate) fn normal(email: &str) -> String {
    email.trim().to_lowercase()
}

/// argon2id with 19 MiB, 2 passes, 1 lane (OWASP's password storage sheet).
fn argon2() -> Result<Argon2<'static>> {
    let params = Params::new(19 * 1024, 2, 1, None).map_err(|error| MetaError::Invalid(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Gives an account another password hash; browsers that it is known from are forgotten. The ledger has to know the old one.
pub(crate) fn replace_password(change: &Transaction<'_>, account: AccountId, hash: &str, now: Timestamp) -> Result<([u8; 32], Timestamp)> {
    let old: String = change.query_row("SELECT password_hash FROM accounts WHERE id = $1", [account.0], |row| row.get(0))?;
    change.execute("UPDATE accounts SET password_hash = $1 WHERE id = $2", (hash, account.0))?;
    change.execute("DELETE FROM devices WHERE account_id = $1", [account.0])?;
    change.execute("DELETE FROM account_codes WHERE account_id = $1", [account.0])?;
    Ok((sha256(old.as_bytes()), now))
}

/// Whether a password is the one of a stored hash; `None` is an unknown address and costs the same.
pub(crate) fn fits_password(hash: Option<&str>, password: &str) -> Result<bool> {
    if password.len() > PASSWORD_BYTES_MAX {
        return Ok(false);
    }
    let Some(hash) = hash.filter(|hash| *hash != NO_PASSWORD) else {
        argon2_hash("an unknown address")?;
        return Ok(false);
    };
    let parsed = PasswordHash::new(hash).map_err(|_| MetaError::Invalid("a stored password hash is broken".to_owned()))?;
    Ok(argon2()?.verify_password(password.as_bytes(), &parsed).is_ok())
}

/// Hashes a new password; refuses one that is short or among the first that a guesser tries. No composition rules (NIST SP 800-63B).
pub(crate) fn hash_password(password: &str, email: &str) -> Result<String> {
    check_length(password)?;
    if is_guessable(password, email) {
        return Err(MetaError::Invalid(
            "this password is among the first that a guesser tries: take some words that nobody connects".to_owned(),
        ));
    }
    argon2_hash(password)
}

/// Whether a password is among the first that a guesser tries, who knows the address.
pub fn is_guessable(password: &str, email: &str) -> bool {
    let known: Vec<&str> = email.split(['@', '.']).chain([email, "sluice"]).filter(|word| word.len() > 2).collect();
    // What lies behind the first characters makes no guess easier, and would cost time.
    let start: String = password.chars().take(64).collect();
    zxcvbn(&start, &known).guesses() < GUESSES_MIN
}

/// Refuses a password that is too short or too long.
fn check_length(password: &str) -> Result<()> {
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Err(MetaError::Invalid(format!("a password needs at least {PASSWORD_CHARS_MIN} characters")));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(MetaError::Invalid(format!("a password has at most {PASSWORD_BYTES_MAX} bytes")));
    }
    Ok(())
}

fn argon2_hash(password: &str) -> Result<String> {
    let salt = SaltString::encode_b64(&random::<16>()).map_err(|error| MetaError::Invalid(error.to_string()))?;
    let hash = argon2()?.hash_password(password.as_bytes(), &salt).map_err(|error| MetaError::Invalid(error.to_string()))?;
    Ok(hash.to_string())
}
