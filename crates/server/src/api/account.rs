//! A person's own account: password, address, second factor, bearer tokens, offered projects.

use metastore::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::{Call, Nothing};
use crate::app::App;
use crate::clock;
use crate::mail::Message;
use crate::routes;
use crate::views::{self, BearerToken, DONE, Done, NewBearerToken, Transfer};

/// Another password.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordChange {
    old_password: String,
    new_password: String,
}

/// Changes the password; the account's other sessions end.
pub(crate) fn change_password(call: &Call, asked: PasswordChange) -> Result<Done, ApiError> {
    let account = call.account()?;
    let who = format!("password of account {account}");
    let attempt = call.app.throttle.admit(&who, true, call.client.limited_address(), clock::steady()).map_err(ApiError::wait)?;
    let session = call.session().map(|session| session.id);
    call.app.metastore.change_password(account, &asked.old_password, &asked.new_password, session, &call.by)?;
    attempt.succeeded();
    Ok(DONE)
}

/// An address.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Email {
    email: String,
}

/// A one-time code.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Code {
    code: String,
}

/// Sends a code to another address, which confirms that it is the account's.
pub(crate) fn change_email(call: &Call, asked: Email) -> Result<Done, ApiError> {
    let code = call.app.metastore.begin_email_change(call.account()?, &asked.email, &call.by)?;
    let link = call.app.link(routes::CONFIRM_EMAIL, &code);
    call.app.mailer.send(Message {
        to: asked.email.trim().to_lowercase(),
        subject: "Confirm your e-mail address".to_owned(),
        text: format!("Somebody who signed in to Sluice wants to sign in with this address from now on. To confirm it, open\n\n{link}\n\nwithin an hour, or type the code behind `#`. If it was not you, do nothing."),
    });
    Ok(DONE)
}

/// Gives the account the address that the code went to.
pub(crate) fn confirm_email(call: &Call, asked: Code) -> Result<Done, ApiError> {
    let before = call.app.metastore.finish_email_change(call.account()?, &asked.code, &call.by)?;
    call.app.mailer.send(Message {
        to: before,
        subject: "Your e-mail address was changed".to_owned(),
        text: "Your account of Sluice has another address from now on. If it was not you, ask an operator for help.".to_owned(),
    });
    Ok(DONE)
}

/// Sends a link to set another password. The answer is the same whether the address has an account or not.
pub(crate) fn request_password_reset(call: &Call, asked: Email) -> Result<Done, ApiError> {
    call.app.throttle.admit_address(call.client.limited_address(), clock::steady()).map_err(ApiError::wait)?;
    let (app, by) = (call.app.clone(), call.by.clone());
    // Behind the answer: how long it takes tells who has an account.
    tokio::runtime::Handle::current().spawn_blocking(move || match app.metastore.begin_password_reset(&asked.email, &by) {
        Ok(Some((to, code))) => send_reset(&app, to, &code),
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "a password reset could not begin"),
    });
    Ok(DONE)
}

fn send_reset(app: &App, to: String, code: &Secret) {
    let link = app.link(routes::RESET_PASSWORD, code);
    app.mailer.send(Message {
        to,
        subject: "Set another password".to_owned(),
        text: format!("Somebody asked to set another password for your account of Sluice. To do so, open\n\n{link}\n\nwithin an hour. If it was not you, do nothing: your password stays as it is."),
    });
}

/// Another password, for whoever has the code.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordReset {
    code: String,
    password: String,
}

/// Sets another password; every session of the account ends, its second factor stays.
pub(crate) fn confirm_password_reset(call: &Call, asked: PasswordReset) -> Result<Done, ApiError> {
    call.app.throttle.admit_address(call.client.limited_address(), clock::steady()).map_err(ApiError::wait)?;
    let account = call.app.metastore.finish_password_reset(&asked.code, &asked.password, &call.by)?;
    if let Some(account) = call.app.metastore.account(account)? {
        call.app.throttle.forgive(&account.email);
    }
    Ok(DONE)
}

/// A second factor that waits for its first code.
#[derive(Serialize, JsonSchema)]
pub(crate) struct NewTotp {
    /// To type into an authenticator app, base32.
    pub secret: String,
    /// The same as `otpauth://` URL, for a QR code.
    pub url: String,
}

/// Recovery codes, shown only this once. Each signs in once, where the authenticator app is lost.
#[derive(Serialize, JsonSchema)]
pub(crate) struct RecoveryCodes {
    pub recovery_codes: Vec<String>,
}

impl From<Vec<Secret>> for RecoveryCodes {
    fn from(codes: Vec<Secret>) -> Self {
        Self { recovery_codes: codes.iter().map(|code| code.expose().to_owned()).collect() }
    }
}

/// Makes a second factor, which counts once a code of it was confirmed.
pub(crate) fn begin_totp(call: &Call, _: Nothing) -> Result<NewTotp, ApiError> {
    let new = call.app.metastore.begin_totp(call.account()?, &call.by)?;
    Ok(NewTotp { secret: new.secret.expose().to_owned(), url: new.url.expose().to_owned() })
}

/// Turns the second factor on; returns its recovery codes.
pub(crate) fn confirm_totp(call: &Call, asked: Code) -> Result<RecoveryCodes, ApiError> {
    let session = call.session().map(|session| session.id);
    Ok(call.app.metastore.confirm_totp(call.account()?, &asked.code, session, &call.by)?.into())
}

/// Turns the second factor off.
pub(crate) fn end_totp(call: &Call, _: Nothing) -> Result<Done, ApiError> {
    call.app.metastore.end_totp(call.account()?, &call.by)?;
    Ok(DONE)
}

/// Makes other recovery codes in the place of the old ones.
pub(crate) fn renew_recovery_codes(call: &Call, _: Nothing) -> Result<RecoveryCodes, ApiError> {
    Ok(call.app.metastore.renew_recovery_codes(call.account()?, &call.by)?.into())
}

/// What a bearer token is made from.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BearerTokenAsked {
    /// What you call it.
    name: String,
    /// A date, an instant such as `2027-01-31T12:00:00Z`, or seconds since the epoch.
    expires_at: Option<String>,
}

/// Makes a token for scripts that may what the account may.
pub(crate) fn create_bearer_token(call: &Call, asked: BearerTokenAsked) -> Result<NewBearerToken, ApiError> {
    let expires_at = views::instant(asked.expires_at.as_deref())?;
    let token = call.app.metastore.create_bearer_token(call.account()?, &asked.name, expires_at, &call.by)?;
    Ok(NewBearerToken { bearer_token: token.expose().to_owned() })
}

/// The account's bearer tokens.
pub(crate) fn list_bearer_tokens(call: &Call, _: Nothing) -> Result<Vec<BearerToken>, ApiError> {
    Ok(call.app.metastore.bearer_tokens(call.account()?)?.into_iter().map(BearerToken::from).collect())
}

/// Ends a bearer token at once.
pub(crate) fn revoke_bearer_token(call: &Call, _: Nothing) -> Result<Done, ApiError> {
    call.app.metastore.revoke_bearer_token(call.account()?, call.id("token")?, &call.by)?;
    Ok(DONE)
}

/// The projects that are offered to the account.
pub(crate) fn list_transfers(call: &Call, _: Nothing) -> Result<Vec<Transfer>, ApiError> {
    let offers = call.app.metastore.transfers_to(call.account()?, call.now)?;
    Ok(offers.into_iter().map(|offer| Transfer::of(&call.app.metastore, offer)).collect::<Result<_, _>>()?)
}

/// Takes an offered project: the account becomes its owner.
pub(crate) fn accept_transfer(call: &Call, _: Nothing) -> Result<Done, ApiError> {
    call.app.metastore.accept_transfer(call.project()?, &call.by)?;
    Ok(DONE)
}

/// Declines an offered project.
pub(crate) fn decline_transfer(call: &Call, _: Nothing) -> Result<Done, ApiError> {
    let (project, account) = (call.project()?, call.account()?);
    let offer = call.app.metastore.transfer(project, call.now)?.filter(|offer| offer.to == account);
    offer.ok_or_else(|| ApiError::unknown("transfer"))?;
    call.app.metastore.end_transfer(project, &call.by)?;
    Ok(DONE)
}
