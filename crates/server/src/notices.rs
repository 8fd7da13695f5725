//! What people are told by mail of what happened: each row of the audit log that concerns somebody is a mail, sent after the change, or
//! after the next start. What a mail server does not take now is tried again for hours, as long as the server runs. The audit log holds no secret, so no mail does.

use std::sync::Arc;
use std::time::Duration;

use metastore::{AuditRow, MetaError, Metastore};
use model::{AccountId, ProjectId, Role};
use tokio::sync::watch;

use crate::app::App;
use crate::mail::{Message, Undelivered};
use crate::views;

/// Who is told of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// Admins and owners of the project.
    Admins,
    Owners,
    Operators,
    /// The account that acted.
    Actor,
    /// The account that the detail names first.
    Named,
}

/// The actions that somebody is told of: to whom, the subject, and what it means.
const NOTICES: &[(&str, &[To], &str, &str)] = &[
    (
        "credentials reset",
        &[To::Admins],
        "API key and API secret were reset",
        "Import and export operations that use the old ones are refused from now on. The project token is the same as before.",
    ),
    ("credentials confirm", &[To::Admins], "Credentials of a restored project work again", ""),
    ("key create", &[To::Admins], "An API key was made", ""),
    ("key rotate", &[To::Admins], "An API key was rotated", "The old pair works until its overlap ends. Move what uses it to the new one."),
    ("key revoke", &[To::Admins], "An API key was revoked", "What still uses it is refused from now on."),
    ("key legacy", &[To::Admins], "The legacy signature of an API key was switched", ""),
    (
        "identity secret create",
        &[To::Admins],
        "An identity secret was made",
        "It signs which user a client may speak for. What was signed with an earlier one is refused from now on.",
    ),
    (
        "secret leaked",
        &[To::Admins, To::Named],
        "An API secret was seen where anybody may read it",
        "Somebody sent a live secret in a place that is not for secrets: it stands in that program or page, and in logs on the way. Rotate the key or reset the credentials.",
    ),
    (
        "export from a new place",
        &[To::Owners],
        "Events were exported from a new place",
        "A credential took events out of the project from an address that it did not export from before. If nobody knows of it, revoke it.",
    ),
    ("service account create", &[To::Admins], "A service account was made", ""),
    ("service account revoke", &[To::Admins], "A service account was revoked", ""),
    ("member role", &[To::Named], "Your role in a project changed", ""),
    ("member remove", &[To::Named], "Your membership of a project ended", ""),
    ("invitation accept", &[To::Admins], "An invitation was accepted", ""),
    (
        "transfer offer",
        &[To::Named, To::Owners],
        "A project is offered to a new owner",
        "The offer stands for a week. Nothing changes until it is accepted.",
    ),
    ("transfer accept", &[To::Named, To::Owners], "A project has a new owner", ""),
    ("transfer end", &[To::Owners], "The offer of a project ended", ""),
    ("project archive", &[To::Admins], "A project was archived", "It takes no events until it is brought back."),
    ("ticket open", &[To::Operators, To::Owners], "Somebody asks for another project token", "An operator answers the ticket."),
    ("ticket message", &[To::Operators, To::Owners], "Something was said in a ticket", ""),
    ("token reset", &[To::Owners], "The project token was reset", "Move your programs and pages to the new one before the old one ends."),
    ("ticket decline", &[To::Owners], "The project token stays as it is", "The operator says why in the ticket."),
    ("password change", &[To::Actor], "Your password was changed", "If it was not you, ask for a password reset now."),
    ("password reset", &[To::Actor], "Your password was changed", "If it was not you, ask for a password reset now."),
    ("email change", &[To::Actor], "Your e-mail address was changed", ""),
    ("second factor on", &[To::Actor], "Your second factor is on", ""),
    ("second factor off", &[To::Named], "Your second factor is off", "If it was not you, change your password now."),
    ("recovery codes renew", &[To::Actor], "Your recovery codes were renewed", ""),
    ("operator", &[To::Named], "Your rights as operator changed", ""),
    ("wrapping key rotate", &[To::Operators], "The key file changed", "Copies of it have to be made again."),
];

const ROWS_MAX: usize = 1000;
const EVERY: Duration = Duration::from_secs(2);
const AFTER_FAILURE: Duration = Duration::from_secs(30);

/// The account that acted; a service account is none, whatever its name.
fn acting(actor: &str) -> Option<AccountId> {
    actor.strip_prefix("account ")?.parse().ok().map(AccountId)
}

/// The account that a row's detail is about: it begins with it, or with a bearer token of it.
fn named(detail: &str) -> Option<AccountId> {
    let of_token = || detail.strip_prefix("bearer token ")?.split_once(" of account ").map(|(_, rest)| rest);
    let rest = detail.strip_prefix("account ").or_else(of_token)?;
    let end = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
    let is_whole = !rest[end..].starts_with(['.', '-', '_']);
    rest[..end].parse().ok().filter(|_| is_whole).map(AccountId)
}

fn email_of(metastore: &Metastore, account: AccountId) -> Result<Option<String>, MetaError> {
    Ok(metastore.account(account)?.filter(|account| account.disabled_at.is_none()).map(|account| account.email))
}

fn recipients(metastore: &Metastore, row: &AuditRow, to: To) -> Result<Vec<String>, MetaError> {
    let members = |project: Option<ProjectId>, least: Role| -> Result<Vec<String>, MetaError> {
        let members = project.map(|project| metastore.members(project)).transpose()?.unwrap_or_default();
        Ok(members.into_iter().filter(|member| member.role >= least).map(|member| member.email).collect())
    };
    Ok(match to {
        To::Admins => members(row.project, Role::Admin)?,
        To::Owners => members(row.project, Role::Owner)?,
        To::Operators => metastore.accounts()?.into_iter().filter(|account| account.is_operator).map(|account| account.email).collect(),
        To::Actor => acting(&row.actor).map(|account| email_of(metastore, account)).transpose()?.flatten().into_iter().collect(),
        To::Named => named(&row.detail).map(|account| email_of(metastore, account)).transpose()?.flatten().into_iter().collect(),
    })
}

/// The mails that tell of a row.
fn mails(metastore: &Metastore, row: &AuditRow) -> Result<Vec<Message>, MetaError> {
    let Some((_, to, subject, meaning)) = NOTICES.iter().find(|(action, ..)| *action == row.action) else { return Ok(Vec::new()) };
    let project = row.project.map(|project| metastore.project(project)).transpose()?.flatten();
    let actor = match acting(&row.actor) {
        Some(account) => metastore.account(account)?.map_or_else(|| row.actor.clone(), |account| account.email),
        None => row.actor.clone(),
    };
    let mut text = format!("{subject}.\n");
    if let Some(project) = &project {
        text += &format!("\nProject: {} ({})", project.name, project.id);
    }
    text += &format!("\nBy: {actor}");
    if !row.address.is_empty() {
        text += &format!(", from {}", row.address);
    }
    text += &format!("\nAt: {}", views::shown(row.at));
    if !row.detail.is_empty() {
        text += &format!("\nDetail: {}", row.detail);
    }
    if !meaning.is_empty() {
        text += &format!("\n\n{meaning}");
    }
    let subject = project.map_or_else(|| (*subject).to_owned(), |project| format!("{}: {subject}", project.name));
    let mut everybody = Vec::new();
    for to in *to {
        everybody.extend(recipients(metastore, row, *to)?);
    }
    everybody.sort_unstable();
    everybody.dedup();
    Ok(everybody.into_iter().map(|to| Message { to, subject: subject.clone(), text: text.clone() }).collect())
}

/// Tells of what happened until `shutdown` turns true.
pub(crate) async fn run(app: Arc<App>, mut shutdown: watch::Receiver<bool>) {
    let mut pause = EVERY;
    loop {
        if tokio::time::timeout(pause, shutdown.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
        pause = match tell(&app).await {
            Ok(()) => EVERY,
            Err(error) => {
                tracing::warn!(error, "mail waits");
                AFTER_FAILURE
            }
        };
    }
}

async fn tell(app: &Arc<App>) -> Result<(), String> {
    let reading = app.clone();
    let rows = tokio::task::spawn_blocking(move || -> Result<Vec<(i64, Vec<Message>)>, MetaError> {
        let rows = reading.metastore.audit_rows_to_mail(ROWS_MAX)?;
        let last = rows.last().map(|row| row.id);
        let concerns = |row: &AuditRow| Some(row.id) == last || NOTICES.iter().any(|(action, ..)| *action == row.action);
        rows.into_iter().filter(concerns).map(|row| Ok((row.id, mails(&reading.metastore, &row)?))).collect()
    });
    let rows = rows.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    for (id, messages) in rows {
        // One mailbox that takes nothing, or a server that is away, keeps nobody else from being told: its mails are tried again beside.
        for message in messages {
            match app.mailer.deliver(&message).await {
                Ok(()) => {}
                Err(Undelivered::Never(error)) => tracing::warn!(error, "a mail was not delivered"),
                Err(Undelivered::Later(error)) => {
                    tracing::warn!(error, "a mail waits");
                    app.mailer.send(message);
                }
            }
        }
        let writing = app.clone();
        let written = tokio::task::spawn_blocking(move || writing.metastore.mailed_through(id)).await;
        written.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_accounts_are_accounts() {
        assert_eq!(acting("account 7"), Some(AccountId(7)));
        assert_eq!(acting("service account 3.058784.mp-service-account"), None);
        assert_eq!(named("account 7: none -> owner"), Some(AccountId(7)));
        assert_eq!(named("account 7 -> account 8"), Some(AccountId(7)));
        assert_eq!(named("bearer token 3 of account 7 in a URL"), Some(AccountId(7)));
        assert_eq!(named("service account 3.058784.mp-service-account in a URL"), None);
        assert_eq!(named("3.058784.mp-service-account: admin"), None);
    }

    #[test]
    fn every_notice_has_a_name_of_its_own() {
        let mut actions: Vec<&str> = NOTICES.iter().map(|(action, ..)| *action).collect();
        actions.sort_unstable();
        let count = actions.len();
        actions.dedup();
        assert_eq!(actions.len(), count);
    }
}
