//! Accounts, their passwords, and the one-time setup code that makes the first of them.

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use model::{AccountId, Timestamp};
use rusqlite::{OptionalExtension, Transaction};
use subtle::ConstantTimeEq;

use crate::audit::{self, By};
use crate::secret::random;
use crate::{MetaError, Metastore, Result, Secret, bump_epoch, sha256};

/// A person who can sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// The address it signs in with, lower case.
    pub email: String,
}

/// The shortest password that is taken.
pub const PASSWORD_CHARS_MIN: usize = 8;

impl Metastore {
    /// Makes an account. The password needs at least [`PASSWORD_CHARS_MIN`] characters.
    /// The first account of an instance is its operator.
    pub fn create_account(&self, email: &str, password: &str, by: &By) -> Result<AccountId> {
        let hash = hash_password(password)?;
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let id = insert_account(&change, email, &hash, by)?;
        self.finish(change, &[])?;
        Ok(id)
    }

    /// The account with this address.
    pub fn account_by_email(&self, email: &str) -> Result<Option<Account>> {
        let found = self.lock().query_row("SELECT id, email FROM accounts WHERE email = $1", [normal(email)], |row| {
            Ok(Account { id: AccountId(row.get(0)?), email: row.get(1)? })
        });
        Ok(found.optional()?)
    }

    /// The account, if the password is its own.
    pub fn verify_password(&self, email: &str, password: &str) -> Result<Option<AccountId>> {
        let found: Option<(i64, String)> = self
            .lock()
            .query_row("SELECT id, password_hash FROM accounts WHERE email = $1", [normal(email)], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((id, hash)) = found else {
            // The same work as for a known address, so that timing names nobody.
            let _ = hash_password("an unknown address");
            return Ok(None);
        };
        let parsed = PasswordHash::new(&hash).map_err(|_| MetaError::Invalid("a stored password hash is broken".to_owned()))?;
        Ok(argon2()?.verify_password(password.as_bytes(), &parsed).is_ok().then_some(AccountId(id)))
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
        const DIGITS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
        let code: String = random::<20>()
            .iter()
            .enumerate()
            .flat_map(|(at, byte)| (at > 0 && at % 5 == 0).then_some('-').into_iter().chain([DIGITS[*byte as usize % 32] as char]))
            .collect();
        let mut connection = self.lock();
        let change = connection.transaction()?;
        change.execute("DELETE FROM setup_code", [])?;
        change.execute("INSERT INTO setup_code (code_sha256, created_at) VALUES ($1, $2)", (sha256(code.as_bytes()), now.0))?;
        change.commit()?;
        Ok(Some(Secret::new(code)))
    }

    /// Makes the first account, which becomes Owner of every project without one. The code is gone afterwards.
    pub fn redeem_setup_code(&self, code: &str, email: &str, password: &str, by: &By) -> Result<AccountId> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let stored: Option<Vec<u8>> = change.query_row("SELECT code_sha256 FROM setup_code", [], |row| row.get(0)).optional()?;
        let given = sha256(code.trim().to_ascii_uppercase().as_bytes());
        if !stored.is_some_and(|stored| bool::from(stored.ct_eq(&given))) {
            return Err(MetaError::Unknown("setup code"));
        }
        // A password costs a lot of work: only whoever has the code may ask for it.
        let hash = hash_password(password)?;
        let id = insert_account(&change, email, &hash, by)?;
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
        if change.execute("UPDATE accounts SET is_operator = $1 WHERE id = $2", (is_operator, account.0))? == 0 {
            return Err(MetaError::Unknown("account"));
        }
        audit::append(&change, by, None, "operator", &format!("account {account}: {is_operator}"))?;
        self.finish(change, &[])
    }
}

fn insert_account(change: &Transaction<'_>, email: &str, hash: &str, by: &By) -> Result<AccountId> {
    let email = normal(email);
    if !email.contains('@') || email.len() > 254 || email.chars().any(char::is_whitespace) {
        return Err(MetaError::Invalid("an e-mail address is needed".to_owned()));
    }
    let taken: bool = change.query_row("SELECT EXISTS (SELECT 1 FROM accounts WHERE email = $1)", [&email], |row| row.get(0))?;
    if taken {
        return Err(MetaError::Taken("e-mail address"));
    }
    change.execute(
        "INSERT INTO accounts (email, password_hash, created_at, is_operator)
         VALUES ($1, $2, $3, NOT EXISTS (SELECT 1 FROM accounts))",
        (&email, hash, by.at.0),
    )?;
    let id = AccountId(change.last_insert_rowid());
    audit::append(change, by, None, "account create", &format!("account {id}"))?;
    Ok(id)
}

fn normal(email: &str) -> String {
    email.trim().to_lowercase()
}

/// argon2id with 19 MiB, 2 passes, 1 lane (OWASP's password storage sheet).
fn argon2() -> Result<Argon2<'static>> {
    let params = Params::new(19 * 1024, 2, 1, None).map_err(|error| MetaError::Invalid(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash_password(password: &str) -> Result<String> {
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Err(MetaError::Invalid(format!("a password needs at least {PASSWORD_CHARS_MIN} characters")));
    }
    let salt = SaltString::encode_b64(&random::<16>()).map_err(|error| MetaError::Invalid(error.to_string()))?;
    let hash = argon2()?.hash_password(password.as_bytes(), &salt).map_err(|error| MetaError::Invalid(error.to_string()))?;
    Ok(hash.to_string())
}
