//! API keys, service accounts, and the reset of a project's credentials.

use metastore::{NewKey, SecretForm, SignatureLifetime};
use model::{AccessRight, Networks};
use schemars::JsonSchema;
use serde::Deserialize;

use super::error::ApiError;
use super::projects::Named;
use super::{Call, Nothing};
use crate::views::{self, DONE, Done, Key, KeyPair, LegacySwitch, NewServiceAccount, Reset, RoleName, ServiceAccount};

/// The project's API keys, the dead ones too. Only admins and owners see the keys themselves; nobody sees a secret here.
pub(crate) fn list(call: &Call, _: Nothing) -> Result<Vec<Key>, ApiError> {
    Ok(Key::of(&call.app.metastore, call.project()?, call.role() >= model::Role::Admin)?)
}

/// What a key is made from.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyAsked {
    /// What you call it.
    name: String,
    /// Of export, query, import, profiles-read, profiles-write, annotations, schema, data-deletion; never more than your role has.
    rights: Vec<String>,
    /// A date, an instant such as `2027-01-31T12:00:00Z`, or seconds since the epoch.
    expires_at: Option<String>,
    /// CIDR networks that it may be used from; none for everywhere.
    #[serde(default)]
    networks: Vec<String>,
    /// Whether it takes the legacy MD5 signature; by default off, which stores only a hash of the secret.
    legacy: Option<LegacySwitch>,
    /// The longest that a signed URL may live: hours, or `none`; by default 24.
    signature_lifetime: Option<String>,
}

/// Makes a further key.
pub(crate) fn create(call: &Call, asked: KeyAsked) -> Result<KeyPair, ApiError> {
    let right = |word: &String| {
        AccessRight::parse(word).ok_or_else(|| {
            ApiError::invalid(format!(
                "unknown access right `{word}`: it is one of {}",
                AccessRight::ALL.map(AccessRight::as_str).join(", ")
            ))
        })
    };
    let lifetime = |text: &str| {
        SignatureLifetime::parse(text).ok_or_else(|| ApiError::invalid("a signature lifetime is a number of hours, or `none`"))
    };
    let new = NewKey {
        name: asked.name,
        rights: asked.rights.iter().map(right).collect::<Result<_, _>>()?,
        networks: Networks::parse(&asked.networks.join(",")).map_err(|piece| {
            ApiError::invalid(format!("`{piece}` is no network: write it as 10.0.0.0/8 or 2001:db8::/32, or as an address"))
        })?,
        legacy: asked.legacy.unwrap_or(LegacySwitch::Off).into(),
        expires_at: views::instant(asked.expires_at.as_deref())?,
        form: SecretForm::Scannable,
        signature_lifetime: asked.signature_lifetime.as_deref().map_or(Ok(SignatureLifetime::Day), lifetime)?,
    };
    let pair = call.app.metastore.create_key(call.project()?, &new, &call.by)?;
    Ok(pair.into())
}

/// How a key is rotated.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rotation {
    /// How long the old pair works on: `7d`, `12h`, `30m`; at most 30 days. By default 7 days.
    overlap: Option<String>,
}

/// Puts a new pair beside the old one, which works on for a while.
pub(crate) fn rotate(call: &Call, asked: Rotation) -> Result<KeyPair, ApiError> {
    let overlap = asked.overlap.as_deref().unwrap_or("7d");
    let unknown = || ApiError::invalid(format!("`{overlap}` is no length of time, such as 7d, 12h or 30m"));
    let overlap_ms = model::time::length_ms(overlap).ok_or_else(unknown)?;
    let pair = call.app.metastore.rotate_key(call.project()?, Some(call.text("key")), overlap_ms, &call.by)?;
    Ok(pair.into())
}

/// Ends a key at once, also one whose overlap still runs.
pub(crate) fn revoke(call: &Call, _: Nothing) -> Result<Done, ApiError> {
    call.app.metastore.revoke_key(call.project()?, call.text("key"), &call.by)?;
    Ok(DONE)
}

/// Whether a key takes the legacy signature.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeySettings {
    legacy: LegacySwitch,
}

/// Turns a key's legacy signature off, to warn, or on. Off leaves only a hash of the secret.
pub(crate) fn change(call: &Call, asked: KeySettings) -> Result<Done, ApiError> {
    call.app.metastore.set_legacy(call.project()?, call.text("key"), asked.legacy.into(), &call.by)?;
    Ok(DONE)
}

/// Shows a key with its secret; the audit log notes it. Never share this API secret or send it over email.
pub(crate) fn reveal(call: &Call, _: Nothing) -> Result<KeyPair, ApiError> {
    Ok(call.app.metastore.reveal_key(call.project()?, Some(call.text("key")), &call.by)?.into())
}

/// Clears every API key and API secret of the project at once, never the token; dependent import and export operations break.
pub(crate) fn reset(call: &Call, asked: Named) -> Result<Reset, ApiError> {
    asked.check(call)?;
    let project = call.project()?;
    call.app.callers.write(&call.app)?;
    Ok(Reset::make(&call.app.metastore, project, &call.by)?)
}

/// Lets the credentials of a restored project work again.
pub(crate) fn confirm(call: &Call, _: Nothing) -> Result<Done, ApiError> {
    call.app.metastore.confirm_credentials(call.project()?, &call.by)?;
    Ok(DONE)
}

/// The project's service accounts.
pub(crate) fn list_service_accounts(call: &Call, _: Nothing) -> Result<Vec<ServiceAccount>, ApiError> {
    Ok(ServiceAccount::of(&call.app.metastore, call.project()?)?)
}

/// What a service account is made from.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceAccountAsked {
    /// What you call it.
    name: String,
    /// Never more than your own.
    role: RoleName,
    /// A date, an instant such as `2027-01-31T12:00:00Z`, or seconds since the epoch.
    expires_at: Option<String>,
}

/// Makes a service account; its secret is shown only this once.
pub(crate) fn create_service_account(call: &Call, asked: ServiceAccountAsked) -> Result<NewServiceAccount, ApiError> {
    let new = metastore::NewServiceAccount {
        name: &asked.name,
        role: asked.role.into(),
        username: None,
        secret: None,
        expires_at: views::instant(asked.expires_at.as_deref())?,
    };
    let (username, secret) = call.app.metastore.create_service_account(call.project()?, &new, &call.by)?;
    Ok(NewServiceAccount { username, secret: secret.expose().to_owned() })
}

/// Ends a service account at once.
pub(crate) fn revoke_service_account(call: &Call, _: Nothing) -> Result<Done, ApiError> {
    call.app.metastore.revoke_service_account(call.project()?, call.text("username"), &call.by)?;
    Ok(DONE)
}
