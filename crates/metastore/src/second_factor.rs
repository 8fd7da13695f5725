//! The second factor: codes of an authenticator app (RFC 6238), and recovery codes for when it is lost. A code of either kind counts once.

use model::{AccountId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Transaction};
use totp_rs::{Builder, Totp};

use crate::audit::{self, By};
use crate::envelope::{ACCOUNTS, DataKey};
use crate::secret::{human_code, random, read_human_code};
use crate::{MetaError, Metastore, Result, Secret, sha256};

/// A second factor that waits for its first code.
#[derive(Debug)]
pub struct NewTotp {
    /// To type into an authenticator app, base32.
    pub secret: Secret,
    /// The same as `otpauth://` URL, for a QR code.
    pub url: Secret,
}

/// Hashes of what counts no more, and since when.
pub(crate) type Dead = Vec<([u8; 32], Timestamp)>;

const RECOVERY_CODES: usize = 10;
/// 120 bits: guessing is hopeless, and a plain hash is enough.
const RECOVERY_CODE_CHARS: usize = 24;

fn totp(secret: Vec<u8>, email: &str) -> Result<Totp> {
    // A colon parts issuer and account in the URL.
    let account = email.replace(':', "");
    let built = Builder::new().with_secret(secret).with_account_name(account).with_issuer(Some("Sluice")).build();
    built.map_err(|error| MetaError::Invalid(error.to_string()))
}

fn bound_to(account: AccountId) -> String {
    format!("accounts/{account}/totp/1")
}

fn account_data_key(this: &Metastore, connection: &Connection) -> Result<DataKey> {
    let keys = this.wrapping_keys()?;
    let wrapped: Option<Vec<u8>> = connection.query_row("SELECT wrapped FROM account_data_key", [], |row| row.get(0)).optional()?;
    match wrapped {
        Some(wrapped) => keys.data_key(ACCOUNTS, &wrapped),
        None => {
            let (key, wrapped) = keys.new_data_key(ACCOUNTS)?;
            connection.execute("INSERT INTO account_data_key (wrapped) VALUES ($1)", [wrapped])?;
            Ok(key)
        }
    }
}

/// Ends the recovery codes of an account.
fn end_recovery_codes(change: &Transaction<'_>, account: AccountId, now: Timestamp) -> Result<Dead> {
    let mut found = change.prepare("DELETE FROM recovery_codes WHERE account_id = $1 RETURNING code_sha256")?;
    Ok(found.query_map([account.0], |row| Ok((row.get(0)?, now)))?.collect::<rusqlite::Result<_>>()?)
}

fn new_recovery_codes(change: &Transaction<'_>, account: AccountId) -> Result<Vec<Secret>> {
    let codes: Vec<Secret> = (0..RECOVERY_CODES).map(|_| human_code(RECOVERY_CODE_CHARS)).collect();
    for code in &codes {
        let hash = sha256(read_human_code(code.expose()).as_bytes());
        change.execute("INSERT INTO recovery_codes (code_sha256, account_id) VALUES ($1, $2)", (hash, account.0))?;
    }
    Ok(codes)
}

/// Ends the second factor of an account; what the ledger has to know.
pub(crate) fn end(change: &Transaction<'_>, account: AccountId, now: Timestamp) -> Result<Dead> {
    change.execute("UPDATE accounts SET totp_sealed = NULL, totp_pending = NULL WHERE id = $1", [account.0])?;
    end_recovery_codes(change, account, now)
}

impl Metastore {
    /// Takes a code of the account's authenticator app or one of its recovery codes, so that it counts this once. `None` where it is none;
    /// else what the ledger has to know of it.
    pub(crate) fn take_code(&self, change: &Transaction<'_>, account: AccountId, code: &str, now: Timestamp) -> Result<Option<Dead>> {
        let recovery = sha256(read_human_code(code).as_bytes());
        if change.execute("DELETE FROM recovery_codes WHERE code_sha256 = $1 AND account_id = $2", (recovery, account.0))? > 0 {
            return Ok(Some(vec![(recovery, now)]));
        }
        let (sealed, last): (Option<Vec<u8>>, i64) =
            change.query_row("SELECT totp_sealed, totp_step FROM accounts WHERE id = $1", [account.0], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let Some(sealed) = sealed else { return Ok(None) };
        let secret = account_data_key(self, change)?.open_bound(&bound_to(account), &sealed)?;
        let step = totp(secret, "account")?.check(code.trim(), now.seconds().max(0) as u64).map(|step| step as i64);
        let Some(step) = step.filter(|step| *step > last) else { return Ok(None) };
        change.execute("UPDATE accounts SET totp_step = $1 WHERE id = $2", (step, account.0))?;
        Ok(Some(Vec::new()))
    }

    /// Makes a second factor, which counts once [`Metastore::confirm_totp`] saw a code of it.
    pub fn begin_totp(&self, account: AccountId, by: &By) -> Result<NewTotp> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let email: String = change.query_row("SELECT email FROM accounts WHERE id = $1", [account.0], |row| row.get(0))?;
        let bytes = random::<20>();
        let totp = totp(bytes.to_vec(), &email)?;
        let sealed = account_data_key(self, &change)?.seal_bound(&bound_to(account), &bytes)?;
        change.execute("UPDATE accounts SET totp_pending = $1 WHERE id = $2", (sealed, account.0))?;
        audit::append(&change, by, None, "second factor begin", "")?;
        self.finish(change, &[])?;
        let url = totp.to_url().map_err(|error| MetaError::Invalid(error.to_string()))?;
        Ok(NewTotp { secret: Secret::new(totp.secret().to_base32()), url: Secret::new(url) })
    }

    /// Turns the second factor on; returns its recovery codes, shown here and never again. Other sessions of the account end.
    pub fn confirm_totp(&self, account: AccountId, code: &str, session: Option<i64>, by: &By) -> Result<Vec<Secret>> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let pending: Option<Vec<u8>> =
            change.query_row("SELECT totp_pending FROM accounts WHERE id = $1", [account.0], |row| row.get(0))?;
        let pending = pending.ok_or_else(|| MetaError::Invalid("no second factor was begun".to_owned()))?;
        let secret = account_data_key(self, &change)?.open_bound(&bound_to(account), &pending)?;
        let step = totp(secret, "account")?.check(code.trim(), by.at.seconds().max(0) as u64);
        let Some(step) = step else { return Err(MetaError::NotProven("this code does not fit; is the clock of the phone right?")) };
        change.execute(
            "UPDATE accounts SET totp_sealed = totp_pending, totp_pending = NULL, totp_step = $1 WHERE id = $2",
            (step as i64, account.0),
        )?;
        let dead = end_recovery_codes(&change, account, by.at)?;
        let codes = new_recovery_codes(&change, account)?;
        crate::sessions::end_all(&change, account, session)?;
        audit::append(&change, by, None, "second factor on", "")?;
        self.finish(change, &dead)?;
        Ok(codes)
    }

    /// Turns the second factor off.
    pub fn end_totp(&self, account: AccountId, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let dead = end(&change, account, by.at)?;
        audit::append(&change, by, None, "second factor off", &format!("account {account}"))?;
        self.finish(change, &dead)
    }

    /// Other recovery codes in the place of the old ones; shown here and never again.
    pub fn renew_recovery_codes(&self, account: AccountId, by: &By) -> Result<Vec<Secret>> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let has_totp: bool =
            change.query_row("SELECT totp_sealed IS NOT NULL FROM accounts WHERE id = $1", [account.0], |row| row.get(0))?;
        if !has_totp {
            return Err(MetaError::Invalid("recovery codes belong to a second factor, which is off".to_owned()));
        }
        let dead = end_recovery_codes(&change, account, by.at)?;
        let codes = new_recovery_codes(&change, account)?;
        audit::append(&change, by, None, "recovery codes renew", "")?;
        self.finish(change, &dead)?;
        Ok(codes)
    }
}
