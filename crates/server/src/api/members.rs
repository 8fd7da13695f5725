//! Members of a project and invitations to it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::{Call, Nothing};
use crate::browser::Cookie;
use crate::clock;
use crate::views::{DONE, Done, Invitation, Member, NewInvitation, RoleName};

/// The members, owners first.
pub(crate) fn list(call: &Call, _: Nothing) -> Result<Vec<Member>, ApiError> {
    Ok(call.app.metastore.members(call.project()?)?.into_iter().map(Member::from).collect())
}

/// What a member is to be.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleAsked {
    role: RoleName,
}

/// Gives a member another role. Only owners make owners or change them; the last owner stays one.
pub(crate) fn set_role(call: &Call, asked: RoleAsked) -> Result<Done, ApiError> {
    let (project, account) = (call.project()?, model::AccountId(call.id("account")?));
    call.app.metastore.role(project, account)?.ok_or_else(|| ApiError::unknown("member"))?;
    call.app.metastore.set_role(project, account, asked.role.into(), &call.by)?;
    Ok(DONE)
}

/// Ends a membership; everybody may leave but the last owner.
pub(crate) fn remove(call: &Call, _: Nothing) -> Result<Done, ApiError> {
    call.app.metastore.remove_member(call.project()?, model::AccountId(call.id("account")?), &call.by)?;
    Ok(DONE)
}

/// The invitations that wait.
pub(crate) fn list_invitations(call: &Call, _: Nothing) -> Result<Vec<Invitation>, ApiError> {
    Ok(call.app.metastore.invitations(call.project()?, call.now)?.into_iter().map(Invitation::from).collect())
}

/// Whom to invite, as what.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InvitationAsked {
    email: String,
    role: RoleName,
}

/// Invites an address; the link is mailed, and shown here for whom the mail does not reach.
pub(crate) fn invite(call: &Call, asked: InvitationAsked) -> Result<NewInvitation, ApiError> {
    Ok(call.app.invite(call.project()?, &asked.email, asked.role.into(), &call.by)?)
}

/// Takes an invitation back.
pub(crate) fn withdraw_invitation(call: &Call, _: Nothing) -> Result<Done, ApiError> {
    call.app.metastore.withdraw_invitation(call.project()?, call.id("invitation")?, &call.by)?;
    Ok(DONE)
}

/// The code of an invitation.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InvitationCode {
    code: String,
}

/// What an invitation says to whoever has its code.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Invited {
    pub email: String,
    pub role: RoleName,
    pub project_name: String,
    /// Whether the address has an account, which signs in to accept.
    pub has_account: bool,
}

/// Shows an invitation.
pub(crate) fn show_invitation(call: &Call, asked: InvitationCode) -> Result<Invited, ApiError> {
    call.app.throttle.admit_address(call.client.limited_address(), clock::steady()).map_err(ApiError::wait)?;
    let invited = call.app.metastore.invited(&asked.code, call.now)?;
    Ok(Invited { email: invited.email, role: invited.role.into(), project_name: invited.project_name, has_account: invited.has_account })
}

/// Accepts an invitation.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Acceptance {
    code: String,
    /// For a new account; whoever has one signs in before.
    password: Option<String>,
}

/// The project that was joined.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Joined {
    pub project_id: i64,
}

/// Accepts an invitation: as the account that is signed in, or with a new account, which is signed in then.
pub(crate) fn accept_invitation(call: &Call, asked: Acceptance) -> Result<Joined, ApiError> {
    call.app.throttle.admit_address(call.client.limited_address(), clock::steady()).map_err(ApiError::wait)?;
    let project = match (&asked.password, call.by.account_id()) {
        (None, Some(account)) => call.app.metastore.accept_invitation(&asked.code, account, &call.by)?,
        (None, None) => return Err(ApiError::invalid("give `password` for a new account, or sign in first")),
        (Some(password), _) => {
            let (project, _, session) = call.app.metastore.sign_up(&asked.code, password, &call.client.user_agent(), &call.by)?;
            call.set_cookie(Cookie::Session, session.expose());
            project
        }
    };
    Ok(Joined { project_id: project.0 })
}
