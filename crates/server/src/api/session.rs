//! Signing in and out, proving again, and the sessions of an account.

use metastore::{Proof, SignIn, Visit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::{Call, Nothing};
use crate::browser::Cookie;
use crate::clock;
use crate::views::{Account, DONE, Done, shown};

/// Who is signed in.
#[derive(Serialize, JsonSchema)]
pub(crate) struct SignedIn {
    pub account: Account,
    /// Whether the last proof is less than five minutes old.
    pub is_fresh: bool,
    /// When the session ends at the latest.
    pub expires_at: Option<String>,
}

/// What signs in.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    email: String,
    password: String,
    /// A code of the authenticator app, or a recovery code, where the account has a second factor.
    code: Option<String>,
}

/// Signs in: the session comes as a cookie for the browser alone.
pub(crate) fn sign_in(call: &Call, asked: Credentials) -> Result<SignedIn, ApiError> {
    let device = call.device_token.as_deref();
    let is_known = device.map(|device| call.app.metastore.is_known_device(&asked.email, device, call.now)).transpose()?;
    let address = call.client.limited_address();
    let attempt = call.app.throttle.admit(&asked.email, is_known.unwrap_or(false), address, clock::steady()).map_err(ApiError::wait)?;
    let visit = Visit {
        email: &asked.email,
        password: &asked.password,
        code: asked.code.as_deref(),
        device: device.filter(|_| is_known == Some(true)),
        user_agent: &call.client.user_agent(),
    };
    match call.app.metastore.sign_in(&visit, &call.by)? {
        SignIn::Refused => Err(ApiError::not_proven("e-mail address, password or code do not fit")),
        SignIn::NeedsCode => {
            attempt.undecided();
            Err(ApiError::needs_code())
        }
        SignIn::In(signed_in) => {
            attempt.succeeded();
            call.set_cookie(Cookie::Session, signed_in.session.expose());
            call.set_cookie(Cookie::Device, signed_in.device.expose());
            let account = call.app.metastore.account(signed_in.account)?.ok_or_else(ApiError::not_signed_in)?;
            Ok(SignedIn { account: account.into(), is_fresh: true, expires_at: None })
        }
    }
}

/// Who is signed in.
pub(crate) fn show(call: &Call, _: Nothing) -> Result<SignedIn, ApiError> {
    let account = call.app.metastore.account(call.account()?)?.ok_or_else(ApiError::not_signed_in)?;
    let session = call.session();
    Ok(SignedIn {
        account: account.into(),
        is_fresh: session.is_some_and(|session| session.is_fresh(call.now)),
        expires_at: session.map(|session| shown(session.expires_at)),
    })
}

/// Signs out.
pub(crate) fn sign_out(call: &Call, _: Nothing) -> Result<Done, ApiError> {
    if let Some(session) = call.session() {
        call.app.metastore.end_session(session.account, session.id, &call.by)?;
    }
    call.drop_cookie(Cookie::Session);
    Ok(DONE)
}

/// A fresh proof of who is there.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FreshProof {
    /// Enough where the account has no second factor.
    password: Option<String>,
    /// A code of the authenticator app, or a recovery code.
    code: Option<String>,
}

/// Takes a fresh proof, which holds for five minutes.
pub(crate) fn prove(call: &Call, asked: FreshProof) -> Result<Done, ApiError> {
    let proof = match (&asked.code, &asked.password) {
        (Some(code), _) => Proof::Code(code),
        (None, Some(password)) => Proof::Password(password),
        (None, None) => return Err(ApiError::invalid("give `password`, or `code` where there is a second factor")),
    };
    let token = call.session_token.as_deref().filter(|_| call.session().is_some()).ok_or_else(ApiError::not_signed_in)?;
    // Whoever has the cookie is in already: these tries are told apart from those at the door.
    let who = format!("proof of account {}", call.account()?);
    let attempt = call.app.throttle.admit(&who, true, call.client.limited_address(), clock::steady()).map_err(ApiError::wait)?;
    let next = call.app.metastore.prove_session(token, &proof, &call.by)?;
    attempt.succeeded();
    call.set_cookie(Cookie::Session, next.expose());
    Ok(DONE)
}

/// A session of the account.
#[derive(Serialize, JsonSchema)]
pub(crate) struct SessionRow {
    pub session_id: i64,
    /// Whether it is the one that asks.
    pub is_current: bool,
    pub created_at: String,
    pub seen_at: String,
    pub expires_at: String,
    pub address: String,
    pub user_agent: String,
}

/// The live sessions of the account, the newest first.
pub(crate) fn list(call: &Call, _: Nothing) -> Result<Vec<SessionRow>, ApiError> {
    let current = call.session().map(|session| session.id);
    let row = |session: metastore::Session| SessionRow {
        session_id: session.id,
        is_current: current == Some(session.id),
        created_at: shown(session.created_at),
        seen_at: shown(session.seen_at),
        expires_at: shown(session.expires_at),
        address: session.address,
        user_agent: session.user_agent,
    };
    Ok(call.app.metastore.sessions(call.account()?, call.now)?.into_iter().map(row).collect())
}

/// Ends a session of the account.
pub(crate) fn end(call: &Call, _: Nothing) -> Result<Done, ApiError> {
    call.app.metastore.end_session(call.account()?, call.id("session")?, &call.by)?;
    Ok(DONE)
}

/// Ends every session of the account but the one that asks.
pub(crate) fn end_others(call: &Call, _: Nothing) -> Result<Done, ApiError> {
    call.app.metastore.end_other_sessions(call.account()?, call.session().map(|session| session.id), &call.by)?;
    Ok(DONE)
}
