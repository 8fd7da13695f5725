//! Sessions: who signed in, from which browser, until when. Only the hash of a session's token is stored. A session ends after twelve hours
//! without use and fourteen days at the latest, and gets another token whenever its owner proves again who it is.

use model::time::DAY_MS;
use model::{AccountId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, Transaction};

use crate::accounts::{fits_password, normal};
use crate::audit::{self, Actor, By};
use crate::secret::{new_device_token, new_session_token};
use crate::{MetaError, Metastore, Result, Secret, sha256};

/// A session as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its row.
    pub id: i64,
    /// Who signed in.
    pub account: AccountId,
    /// The address it signs in with.
    pub email: String,
    /// Whether it is an operator of the instance.
    pub is_operator: bool,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    pub seen_at: Timestamp,
    /// When its owner last gave a password or a second factor.
    pub proved_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// From where it began.
    pub address: String,
    /// What the browser calls itself.
    pub user_agent: String,
}

/// What somebody shows to sign in.
#[derive(Debug)]
pub struct Visit<'a> {
    /// The address of the account.
    pub email: &'a str,
    /// Its password.
    pub password: &'a str,
    /// A code of its authenticator app, or a recovery code.
    pub code: Option<&'a str>,
    /// The token of a browser that the account signed in from before.
    pub device: Option<&'a str>,
    /// What the browser calls itself.
    pub user_agent: &'a str,
}

/// What came of it.
#[derive(Debug)]
pub enum SignIn {
    /// The account signed in.
    In(Box<SignedIn>),
    /// The password fits; a second factor is needed too.
    NeedsCode,
    /// Address, password or code do not fit. Nobody is told which.
    Refused,
}

/// An account that signed in.
#[derive(Debug)]
pub struct SignedIn {
    /// Who.
    pub account: AccountId,
    /// The session's token, for the browser alone.
    pub session: Secret,
    /// The token by which the browser is known next time.
    pub device: Secret,
}

/// How a signed-in person proves again who it is.
#[derive(Debug)]
pub enum Proof<'a> {
    /// By password; not enough where there is a second factor.
    Password(&'a str),
    /// By a code of the authenticator app, or a recovery code.
    Code(&'a str),
}

const IDLE_MS: i64 = DAY_MS / 2;
const LIFETIME_MS: i64 = 14 * DAY_MS;
const DEVICE_MS: i64 = 180 * DAY_MS;
/// A proof is fresh for so long.
const FRESH_MS: i64 = 5 * 60_000;
/// `seen_at` is written at most so often.
const SEEN_EVERY_MS: i64 = 60_000;
/// More sessions of one account end the oldest.
const SESSIONS_MAX: i64 = 100;

const NOT_PROVEN: &str = "this password or code does not fit";

impl Session {
    /// Whether its owner proved within the last five minutes who it is.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now.0 - self.proved_at.0 <= FRESH_MS
    }
}

const COLUMNS: &str = "sessions.id, sessions.account_id, accounts.email, accounts.is_operator, sessions.created_at, sessions.seen_at,
    sessions.proved_at, sessions.expires_at, sessions.address, sessions.user_agent";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        id: row.get(0)?,
        account: AccountId(row.get(1)?),
        email: row.get(2)?,
        is_operator: row.get(3)?,
        created_at: Timestamp(row.get(4)?),
        seen_at: Timestamp(row.get(5)?),
        proved_at: Timestamp(row.get(6)?),
        expires_at: Timestamp(row.get(7)?),
        address: row.get(8)?,
        user_agent: row.get(9)?,
    })
}

fn live(connection: &Connection, token: &str, now: Timestamp) -> Result<Option<Session>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM sessions JOIN accounts ON accounts.id = sessions.account_id
         WHERE sessions.token_sha256 = $1 AND sessions.expires_at > $2 AND sessions.seen_at > $3 AND accounts.disabled_at IS NULL"
    );
    Ok(connection.query_row(&sql, (sha256(token.as_bytes()), now.0, now.0 - IDLE_MS), from_row).optional()?)
}

/// Begins a session of an account.
pub(crate) fn begin(change: &Transaction<'_>, account: AccountId, user_agent: &str, by: &By) -> Result<Secret> {
    let token = new_session_token();
    change.execute("DELETE FROM sessions WHERE expires_at <= $1 OR seen_at <= $2", (by.at.0, by.at.0 - IDLE_MS))?;
    change.execute(
        "DELETE FROM sessions WHERE account_id = $1
         AND id NOT IN (SELECT id FROM sessions WHERE account_id = $1 ORDER BY id DESC LIMIT $2)",
        (account.0, SESSIONS_MAX - 1),
    )?;
    change.execute(
        "INSERT INTO sessions (account_id, token_sha256, created_at, seen_at, proved_at, expires_at, address, user_agent)
         VALUES ($1, $2, $3, $3, $3, $4, $5, $6)",
        (account.0, sha256(token.expose().as_bytes()), by.at.0, by.at.0 + LIFETIME_MS, &by.address, user_agent),
    )?;
    Ok(token)
}

/// Ends every session of an account but one.
pub(crate) fn end_all(change: &Transaction<'_>, account: AccountId, except: Option<i64>) -> Result<usize> {
    Ok(change.execute("DELETE FROM sessions WHERE account_id = $1 AND id <> $2", (account.0, except.unwrap_or(0)))?)
}

impl Metastore {
    /// Signs in. An unknown address costs as much time as a known one. A code counts once.
    pub fn sign_in(&self, visit: &Visit<'_>, by: &By) -> Result<SignIn> {
        let email = normal(visit.email);
        let found: Option<(i64, String, bool)> = self
            .lock()
            .query_row(
                "SELECT id, password_hash, totp_sealed IS NOT NULL FROM accounts WHERE email = $1 AND disabled_at IS NULL",
                [&email],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .optional()?;
        let fits = fits_password(found.as_ref().map(|(_, hash, _)| hash.as_str()), visit.password)?;
        let Some((account, hash, has_totp)) = found else {
            // As much is written and synced as for a known address, and no row: nobody fills the log with addresses.
            let mut connection = self.lock();
            let change = connection.transaction()?;
            change.execute("UPDATE instance SET value = value WHERE name = 'epoch'", [])?;
            self.finish(change, &[])?;
            return Ok(SignIn::Refused);
        };
        let account = AccountId(account);
        let by = By { actor: Actor::Account(account), ..by.clone() };
        let mut connection = self.lock();
        let change = connection.transaction()?;
        // Both may have changed while the password was hashed.
        let unchanged: bool = change.query_row(
            "SELECT EXISTS (SELECT 1 FROM accounts WHERE id = $1 AND password_hash = $2 AND disabled_at IS NULL)",
            (account.0, &hash),
            |row| row.get(0),
        )?;
        let refused = |change: Transaction<'_>, why: &str| {
            audit::append(
                &change,
                &By { actor: Actor::Visitor, ..by.clone() },
                None,
                "login failed",
                &format!("account {account}: {why}"),
            )?;
            self.finish(change, &[]).map(|()| SignIn::Refused)
        };
        if !fits || !unchanged {
            return refused(change, "password");
        }
        let mut dead = Vec::new();
        if has_totp {
            let Some(code) = visit.code.filter(|code| !code.trim().is_empty()) else {
                audit::append(&change, &by, None, "login without second factor", "")?;
                self.finish(change, &[])?;
                return Ok(SignIn::NeedsCode);
            };
            match self.take_code(&change, account, code, by.at)? {
                Some(taken) => dead = taken,
                None => return refused(change, "second factor"),
            }
        }
        let session = begin(&change, account, visit.user_agent, &by)?;
        let device = new_device_token();
        if let Some(old) = visit.device {
            change.execute("DELETE FROM devices WHERE token_sha256 = $1 AND account_id = $2", (sha256(old.as_bytes()), account.0))?;
        }
        change.execute("DELETE FROM devices WHERE seen_at < $1", [by.at.0 - DEVICE_MS])?;
        change.execute(
            "INSERT INTO devices (token_sha256, account_id, seen_at) VALUES ($1, $2, $3)",
            (sha256(device.expose().as_bytes()), account.0, by.at.0),
        )?;
        audit::append(&change, &by, None, "login", if has_totp { "password and second factor" } else { "password" })?;
        self.finish(change, &dead)?;
        Ok(SignIn::In(Box::new(SignedIn { account, session, device })))
    }

    /// Whether a browser is one that the account signed in from before.
    pub fn is_known_device(&self, email: &str, device: &str, now: Timestamp) -> Result<bool> {
        Ok(self.lock().query_row(
            "SELECT EXISTS (
                 SELECT 1 FROM devices JOIN accounts ON accounts.id = devices.account_id
                 WHERE accounts.email = $1 AND devices.token_sha256 = $2 AND devices.seen_at >= $3)",
            (normal(email), sha256(device.as_bytes()), now.0 - DEVICE_MS),
            |row| row.get(0),
        )?)
    }

    /// The live session of a token, which counts as used now.
    pub fn session(&self, token: &str, now: Timestamp) -> Result<Option<Session>> {
        let connection = self.lock();
        let session = live(&connection, token, now)?;
        if let Some(session) = session.as_ref().filter(|session| now.0 - session.seen_at.0 >= SEEN_EVERY_MS) {
            connection.execute("UPDATE sessions SET seen_at = $1 WHERE id = $2", (now.0, session.id))?;
        }
        Ok(session)
    }

    /// Whether a session is still live.
    pub fn is_live_session(&self, id: i64, now: Timestamp) -> Result<bool> {
        Ok(self.lock().query_row(
            "SELECT EXISTS (SELECT 1 FROM sessions WHERE id = $1 AND expires_at > $2 AND seen_at > $3)",
            (id, now.0, now.0 - IDLE_MS),
            |row| row.get(0),
        )?)
    }

    /// Takes a fresh proof of who the session's owner is: the second factor where there is one, else the password. The session gets
    /// another token; the old one is dead.
    pub fn prove_session(&self, token: &str, proof: &Proof<'_>, by: &By) -> Result<Secret> {
        const WHAT: &str = "prove who you are";
        let (session, hash, has_totp) = {
            let connection = self.lock();
            let session = live(&connection, token, by.at)?.ok_or(MetaError::NotSignedIn(WHAT))?;
            let (hash, has_totp): (String, bool) = connection.query_row(
                "SELECT password_hash, totp_sealed IS NOT NULL FROM accounts WHERE id = $1",
                [session.account.0],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            (session, hash, has_totp)
        };
        let by_password = match proof {
            Proof::Password(_) if has_totp => return Err(MetaError::NeedsCode),
            Proof::Password(password) => Some(fits_password(Some(&hash), password)?),
            Proof::Code(_) => None,
        };
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let mut dead = Vec::new();
        let proven = match (by_password, proof) {
            (Some(fits), _) => fits,
            (None, Proof::Code(code)) if has_totp => match self.take_code(&change, session.account, code, by.at)? {
                Some(taken) => {
                    dead = taken;
                    true
                }
                None => false,
            },
            (None, _) => false,
        };
        if !proven {
            audit::append(&change, by, None, "proof failed", "")?;
            self.finish(change, &[])?;
            return Err(MetaError::NotProven(NOT_PROVEN));
        }
        let next = new_session_token();
        let changed = change.execute(
            "UPDATE sessions SET token_sha256 = $1, proved_at = $2, seen_at = $2 WHERE token_sha256 = $3",
            (sha256(next.expose().as_bytes()), by.at.0, sha256(token.as_bytes())),
        )?;
        if changed == 0 {
            return Err(MetaError::NotSignedIn(WHAT));
        }
        audit::append(&change, by, None, "proof", if has_totp { "second factor" } else { "password" })?;
        self.finish(change, &dead)?;
        Ok(next)
    }

    /// The live sessions of an account, the newest first.
    pub fn sessions(&self, account: AccountId, now: Timestamp) -> Result<Vec<Session>> {
        let connection = self.lock();
        let mut found = connection.prepare(&format!(
            "SELECT {COLUMNS} FROM sessions JOIN accounts ON accounts.id = sessions.account_id
             WHERE sessions.account_id = $1 AND sessions.expires_at > $2 AND sessions.seen_at > $3
             ORDER BY sessions.id DESC"
        ))?;
        Ok(found.query_map((account.0, now.0, now.0 - IDLE_MS), from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// Ends a session of an account.
    pub fn end_session(&self, account: AccountId, id: i64, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        if change.execute("DELETE FROM sessions WHERE id = $1 AND account_id = $2", (id, account.0))? == 0 {
            return Err(MetaError::Unknown("session"));
        }
        audit::append(&change, by, None, "logout", &format!("session {id}"))?;
        self.finish(change, &[])
    }

    /// Ends every session of an account but one; returns how many.
    pub fn end_other_sessions(&self, account: AccountId, except: Option<i64>, by: &By) -> Result<usize> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let count = end_all(&change, account, except)?;
        audit::append(&change, by, None, "logout", &format!("{count} other sessions"))?;
        self.finish(change, &[])?;
        Ok(count)
    }
}
