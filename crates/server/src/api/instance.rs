//! The instance as a whole: its first account, and what operators do.

use metastore::AuditCheck;
use model::{AccountId, OrganizationId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::ApiError;
use super::projects::AuditPage;
use super::{Call, Nothing};
use crate::clock;
use crate::views::{Account, AuditRow, DONE, Done};

/// What everybody may know of the instance.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Instance {
    pub version: &'static str,
    /// Whether the first account has to be made, with the code that the console printed.
    pub needs_setup: bool,
}

/// What everybody may know of the instance.
pub(crate) fn show(call: &Call, _: Nothing) -> Result<Instance, ApiError> {
    Ok(Instance { version: env!("CARGO_PKG_VERSION"), needs_setup: !call.app.metastore.has_accounts()? })
}

/// This document.
pub(crate) fn openapi(_: &Call, _: Nothing) -> Result<Value, ApiError> {
    static DOCUMENT: std::sync::OnceLock<Value> = std::sync::OnceLock::new();
    Ok(DOCUMENT.get_or_init(super::openapi::document).clone())
}

/// What makes the first account.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Setup {
    /// The code that stands on the console of `sluice serve`.
    code: String,
    email: String,
    password: String,
}

/// Makes the first account, an operator; projects without an owner belong to it. Sign in afterwards.
pub(crate) fn set_up(call: &Call, asked: Setup) -> Result<Done, ApiError> {
    call.app.throttle.admit_address(call.client.limited_address(), clock::steady()).map_err(ApiError::wait)?;
    call.app.metastore.redeem_setup_code(&asked.code, &asked.email, &asked.password, &call.by)?;
    Ok(DONE)
}

/// Every account.
pub(crate) fn list_accounts(call: &Call, _: Nothing) -> Result<Vec<Account>, ApiError> {
    Ok(call.app.metastore.accounts()?.into_iter().map(Account::from).collect())
}

/// What is to change of an account.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccountChange {
    is_operator: bool,
}

/// Makes an account an operator, or ends that.
pub(crate) fn change_account(call: &Call, asked: AccountChange) -> Result<Done, ApiError> {
    call.app.metastore.set_operator(AccountId(call.id("account")?), asked.is_operator, &call.by)?;
    Ok(DONE)
}

/// Ends an account: it cannot sign in, its sessions, bearer tokens and memberships are gone.
pub(crate) fn disable_account(call: &Call, _: Nothing) -> Result<Done, ApiError> {
    call.app.metastore.disable_account(AccountId(call.id("account")?), &call.by)?;
    Ok(DONE)
}

/// The audit log of the instance, the newest rows first.
pub(crate) fn audit(call: &Call, page: AuditPage) -> Result<Vec<AuditRow>, ApiError> {
    page.rows(call, None)
}

/// What a check of the audit log found.
#[derive(Serialize, JsonSchema)]
pub(crate) struct AuditVerdict {
    pub intact: bool,
    /// Rows, where it is intact.
    pub rows: Option<i64>,
    /// The chain at its end, to compare with later.
    pub head: Option<String>,
    /// The row that does not fit or is gone.
    pub broken_row: Option<i64>,
}

/// Walks the audit log's chain and compares its end with the ledger.
pub(crate) fn verify_audit(call: &Call, _: Nothing) -> Result<AuditVerdict, ApiError> {
    Ok(match call.app.metastore.verify_audit()? {
        AuditCheck::Intact { rows, head } => AuditVerdict { intact: true, rows: Some(rows), head: Some(head), broken_row: None },
        AuditCheck::Broken(row) | AuditCheck::Cut(row) => AuditVerdict { intact: false, rows: None, head: None, broken_row: Some(row) },
    })
}

/// The name of an organisation.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrganizationName {
    name: String,
}

/// Gives an organisation a name.
pub(crate) fn name_organization(call: &Call, asked: OrganizationName) -> Result<Done, ApiError> {
    call.app.metastore.name_organization(OrganizationId(call.id("organization")?), &asked.name, &call.by)?;
    Ok(DONE)
}

/// What the key file wraps.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Rewrapped {
    pub data_keys: usize,
}

/// Wraps every data key with a new key. The key file changes: copy it again.
pub(crate) fn rotate_wrapping_key(call: &Call, _: Nothing) -> Result<Rewrapped, ApiError> {
    Ok(Rewrapped { data_keys: call.app.metastore.rotate_wrapping_key(&call.by)? })
}
