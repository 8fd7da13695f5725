//! Projects and their settings.

use metastore::{ProjectChange, WeekStart};
use model::Role;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::{Call, Nothing};
use crate::views::{
    self, AuditRow, Caller, DONE, Done, IdentitySecret, Key, KeyPair, NewProject, Project, RoleName, TokenOptions, Transfer,
};

/// A project with what the account is there and whom to ask.
#[derive(Serialize, JsonSchema)]
pub(crate) struct OwnProject {
    #[serde(flatten)]
    pub project: Project,
    /// What the account is in it.
    pub role: RoleName,
    /// The addresses of its owners: whom to ask.
    pub owners: Vec<String>,
    /// Its live API keys without their secrets; admins and owners can reveal those.
    pub keys: Vec<Key>,
}

fn own(call: &Call, project: metastore::Project, role: Role) -> Result<OwnProject, ApiError> {
    let metastore = &call.app.metastore;
    let members = metastore.members(project.id)?;
    let owners = members.into_iter().filter(|member| member.role == Role::Owner).map(|member| member.email).collect();
    let keys = Key::of(metastore, project.id, role >= Role::Admin)?.into_iter().filter(|key| key.revoked_at.is_none()).collect();
    let organizations = metastore.organizations()?;
    Ok(OwnProject { role: role.into(), owners, keys, project: Project::of(project, &organizations) })
}

/// Every project of the account, with token, API keys and role in each.
pub(crate) fn list(call: &Call, _: Nothing) -> Result<Vec<OwnProject>, ApiError> {
    let mut projects = Vec::new();
    for (id, role) in call.app.metastore.memberships(call.account()?)? {
        if let Some(project) = call.app.metastore.project(id)? {
            projects.push(own(call, project, role)?);
        }
    }
    Ok(projects)
}

/// One project.
pub(crate) fn show(call: &Call, _: Nothing) -> Result<OwnProject, ApiError> {
    let project = call.app.metastore.project(call.project()?)?.ok_or_else(|| ApiError::unknown("project"))?;
    own(call, project, call.role())
}

/// What a project is made from.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProjectAsked {
    name: String,
    /// IANA name; by default UTC.
    timezone: Option<String>,
}

/// Makes a project with token, API key and API secret; the account becomes its owner.
pub(crate) fn create(call: &Call, asked: ProjectAsked) -> Result<NewProject, ApiError> {
    let new = metastore::NewProject {
        name: asked.name,
        timezone: asked.timezone.unwrap_or_else(|| "UTC".to_owned()),
        owner: Some(call.account()?),
        ..metastore::NewProject::default()
    };
    let (project, pair) = call.app.metastore.create_project(&new, &call.by)?;
    let KeyPair { api_key, api_secret } = pair.into();
    Ok(NewProject { project_id: project.id.0, token: project.token, api_key, api_secret })
}

/// What is to change; what is absent stays as it is.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    name: Option<String>,
    /// IANA name.
    timezone: Option<String>,
    /// monday or sunday.
    week_start: Option<String>,
    /// simplified, original or legacy: how the project finds out which ids are one user, from the next event on.
    identity_mode: Option<String>,
}

/// Changes a project's settings.
pub(crate) fn change(call: &Call, asked: Settings) -> Result<Done, ApiError> {
    let week_start = |word: String| {
        WeekStart::parse(&word).ok_or_else(|| ApiError::invalid(format!("a week starts on monday or sunday, not on `{word}`")))
    };
    let change = ProjectChange {
        name: asked.name,
        timezone: asked.timezone,
        week_start: asked.week_start.map(week_start).transpose()?,
        identity_mode: asked.identity_mode.as_deref().map(views::identity_mode).transpose()?,
        ..ProjectChange::default()
    };
    call.app.metastore.change_project(call.project()?, &change, &call.by)?;
    Ok(DONE)
}

/// Puts these options in the place of all that the project's token has: what is absent is unlimited and off.
pub(crate) fn set_token_options(call: &Call, asked: TokenOptions) -> Result<Done, ApiError> {
    let change = ProjectChange { token_options: Some(asked.try_into()?), ..ProjectChange::default() };
    call.app.metastore.change_project(call.project()?, &change, &call.by)?;
    Ok(DONE)
}

/// Whether secrets are refused over plain HTTP.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsRequirement {
    require_tls: bool,
}

/// Refuses secrets over plain HTTP, or takes them again.
pub(crate) fn require_tls(call: &Call, asked: TlsRequirement) -> Result<Done, ApiError> {
    let change = ProjectChange { requires_tls: Some(asked.require_tls), ..ProjectChange::default() };
    call.app.metastore.change_project(call.project()?, &change, &call.by)?;
    Ok(DONE)
}

/// Shows the identity secret, which is made where there is none; the audit log notes it.
pub(crate) fn reveal_identity_secret(call: &Call, _: Nothing) -> Result<IdentitySecret, ApiError> {
    let secret = call.app.metastore.identity_secret(call.project()?, &call.by)?;
    Ok(secret.into())
}

/// Puts another identity secret in the place of the old one, which ends at once.
pub(crate) fn rotate_identity_secret(call: &Call, _: Nothing) -> Result<IdentitySecret, ApiError> {
    let secret = call.app.metastore.rotate_identity_secret(call.project()?, &call.by)?;
    Ok(secret.into())
}

/// The project's name, typed by whoever means it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    /// The project's name, to the letter.
    project_name: String,
}

impl Named {
    /// Refuses another name than the project's.
    pub(crate) fn check(&self, call: &Call) -> Result<(), ApiError> {
        let project = call.app.metastore.project(call.project()?)?.ok_or_else(|| ApiError::unknown("project"))?;
        if self.project_name.trim() == project.name {
            return Ok(());
        }
        Err(ApiError::invalid("`project_name` is not the name of this project: type it to the letter"))
    }
}

/// Archives a project: it takes no events until it is brought back.
pub(crate) fn archive(call: &Call, asked: Named) -> Result<Done, ApiError> {
    asked.check(call)?;
    call.app.metastore.archive_project(call.project()?, true, &call.by)?;
    Ok(DONE)
}

/// Brings an archived project back.
pub(crate) fn unarchive(call: &Call, _: Nothing) -> Result<Done, ApiError> {
    call.app.metastore.archive_project(call.project()?, false, &call.by)?;
    Ok(DONE)
}

/// From when on, and for whom.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Restoring {
    /// A date, an instant such as `2027-01-31T12:00:00Z`, or seconds since the epoch; by default all that is kept.
    since: Option<String>,
    /// Only these users; by default all profiles.
    #[serde(default)]
    distinct_ids: Vec<String>,
}

/// How many profiles got something back.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Restored {
    pub profiles: u64,
}

/// Brings back what the public token deleted or unset in the last 30 days; what was set again stays.
pub(crate) fn restore_profiles(call: &Call, asked: Restoring) -> Result<Restored, ApiError> {
    let since = crate::views::instant(asked.since.as_deref())?.unwrap_or(model::Timestamp(0));
    Ok(Restored { profiles: call.app.restore_profiles(call.project()?, since, &asked.distinct_ids, &call.by)? })
}

/// Who called with what in the last 90 days: what a reset would break, and who still knocks with what was revoked.
pub(crate) fn callers(call: &Call, _: Nothing) -> Result<Vec<Caller>, ApiError> {
    // What was counted until now belongs to the answer.
    call.app.callers.write(&call.app)?;
    Ok(Caller::of(&call.app.metastore, call.project()?)?)
}

/// A page of the audit log.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditPage {
    /// Only rows before this one.
    pub before: Option<i64>,
    /// At most so many, by default 100 and at most 1000.
    pub rows_max: Option<usize>,
}

impl AuditPage {
    pub(crate) fn rows(&self, call: &Call, project: Option<model::ProjectId>) -> Result<Vec<AuditRow>, ApiError> {
        let rows = call.app.metastore.audit_rows(project, self.before, self.rows_max.unwrap_or(100).min(1000))?;
        Ok(rows.into_iter().map(AuditRow::from).collect())
    }
}

/// The project's audit log, the newest rows first.
pub(crate) fn audit(call: &Call, page: AuditPage) -> Result<Vec<AuditRow>, ApiError> {
    page.rows(call, Some(call.project()?))
}

/// To whom a project is offered.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Offer {
    /// The address of the account that is to own it.
    email: String,
}

/// Offers the project to an account; the offer stands for a week.
pub(crate) fn offer_transfer(call: &Call, asked: Offer) -> Result<Transfer, ApiError> {
    let to = call.app.metastore.account_by_email(&asked.email)?.ok_or_else(|| ApiError::unknown("account"))?;
    let offer = call.app.metastore.offer_transfer(call.project()?, to.id, &call.by)?;
    Ok(Transfer::of(&call.app.metastore, offer)?)
}

/// The offer of the project that stands, if one does.
pub(crate) fn show_transfer(call: &Call, _: Nothing) -> Result<Option<Transfer>, ApiError> {
    let offer = call.app.metastore.transfer(call.project()?, call.now)?;
    Ok(offer.map(|offer| Transfer::of(&call.app.metastore, offer)).transpose()?)
}

/// Takes the offer back.
pub(crate) fn end_transfer(call: &Call, _: Nothing) -> Result<Done, ApiError> {
    call.app.metastore.end_transfer(call.project()?, &call.by)?;
    Ok(DONE)
}
