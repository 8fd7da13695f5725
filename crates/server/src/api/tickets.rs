//! Support tickets: the only way to another project token.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::{Call, Nothing};
use crate::views::{DONE, Done, Ticket};

/// The project's tickets, the newest first.
pub(crate) fn list(call: &Call, _: Nothing) -> Result<Vec<Ticket>, ApiError> {
    call.app.callers.write(&call.app)?;
    Ok(Ticket::of(&call.app.metastore, Some(call.project()?))?)
}

/// Every ticket, for the operators who answer them.
pub(crate) fn list_all(call: &Call, _: Nothing) -> Result<Vec<Ticket>, ApiError> {
    call.app.callers.write(&call.app)?;
    Ok(Ticket::of(&call.app.metastore, None)?)
}

/// Why the token has to be reset.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TicketAsked {
    reason: String,
}

/// The number of a ticket.
#[derive(Serialize, JsonSchema)]
pub(crate) struct TicketNumber {
    pub ticket: i64,
}

/// Asks for another project token.
pub(crate) fn open(call: &Call, asked: TicketAsked) -> Result<TicketNumber, ApiError> {
    Ok(TicketNumber { ticket: call.app.metastore.open_ticket(call.project()?, &asked.reason, &call.by)? })
}

/// Something to say.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Said {
    text: String,
}

/// Says something in an open ticket of the project.
pub(crate) fn say(call: &Call, asked: Said) -> Result<Done, ApiError> {
    let (project, ticket) = (call.project()?, call.id("ticket")?);
    let is_own = call.app.metastore.tickets(Some(project))?.iter().any(|found| found.id == ticket);
    if !is_own {
        return Err(ApiError::unknown("ticket"));
    }
    call.app.metastore.say_in_ticket(ticket, &asked.text, &call.by)?;
    Ok(DONE)
}

/// Says something in an open ticket, as an operator.
pub(crate) fn answer(call: &Call, asked: Said) -> Result<Done, ApiError> {
    call.app.metastore.say_in_ticket(call.id("ticket")?, &asked.text, &call.by)?;
    Ok(DONE)
}

/// How a ticket is approved.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Approval {
    /// Days that the old token takes events on, from 0 to 90; by default 30.
    alias_days: Option<i64>,
    /// What to say.
    #[serde(default)]
    text: String,
}

/// The new token.
#[derive(Serialize, JsonSchema)]
pub(crate) struct NewToken {
    pub project_id: i64,
    pub token: String,
}

/// Resets the token; the old one takes events for a while.
pub(crate) fn approve(call: &Call, asked: Approval) -> Result<NewToken, ApiError> {
    let days = asked.alias_days.unwrap_or(30);
    let (project, token) = call.app.metastore.approve_ticket(call.id("ticket")?, days, &asked.text, &call.by)?;
    Ok(NewToken { project_id: project.0, token })
}

/// How a ticket is declined.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refusal {
    /// What to say.
    #[serde(default)]
    text: String,
}

/// Leaves the token as it is.
pub(crate) fn decline(call: &Call, asked: Refusal) -> Result<Done, ApiError> {
    call.app.metastore.decline_ticket(call.id("ticket")?, &asked.text, &call.by)?;
    Ok(DONE)
}
