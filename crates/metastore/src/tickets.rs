//! Support tickets: the only way to another project token. An owner asks, an operator answers; the old token takes events for a while.

use model::time::DAY_MS;
use model::{AccountId, ProjectId, Timestamp};
use rusqlite::{OptionalExtension, Row, Transaction};

use crate::audit::{self, By};
use crate::members::{require_operator, require_owner};
use crate::secret::new_hex32;
use crate::{MetaError, Metastore, Result, bump_epoch};

/// Where a ticket stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TicketState {
    /// An operator has to answer it.
    Open,
    /// The token was reset.
    Approved,
    /// It was not.
    Declined,
}

/// A wish for another project token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Its number.
    pub id: i64,
    /// The project.
    pub project: ProjectId,
    /// The owner who asked.
    pub opened_by: AccountId,
    /// Where it stands.
    pub state: TicketState,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it was answered.
    pub decided_at: Option<Timestamp>,
    /// Who answered it.
    pub decided_by: Option<String>,
    /// What was said, oldest first: the reason comes first.
    pub messages: Vec<TicketMessage>,
}

/// Something said in a ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketMessage {
    /// Who said it.
    pub author: String,
    /// When.
    pub at: Timestamp,
    /// What.
    pub text: String,
}

/// A token that was reset and takes events until it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The old token.
    pub token: String,
    /// Until when it takes events.
    pub ends_at: Timestamp,
    /// Events that came by it since it was reset.
    pub events: i64,
    /// When the last of them came.
    pub last_at: Option<Timestamp>,
}

/// How long an old token may go on.
const ALIAS_DAYS_MAX: i64 = 90;
/// Longer words are cut.
const TEXT_CHARS_MAX: usize = 4000;

impl TicketState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Approved => "approved",
            Self::Declined => "declined",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "approved" => Self::Approved,
            "declined" => Self::Declined,
            _ => Self::Open,
        }
    }
}

fn say(change: &Transaction<'_>, ticket: i64, text: &str, by: &By) -> Result<()> {
    let text: String = text.trim().chars().take(TEXT_CHARS_MAX).collect();
    if text.is_empty() {
        return Ok(());
    }
    change
        .execute("INSERT INTO ticket_messages (ticket_id, author, at, text) VALUES ($1, $2, $3, $4)", (ticket, by.name(), by.at.0, text))?;
    Ok(())
}

fn open_ticket(change: &Transaction<'_>, ticket: i64) -> Result<ProjectId> {
    let found = change.query_row("SELECT project_id FROM tickets WHERE id = $1 AND state = 'open'", [ticket], |row| row.get(0));
    found.optional()?.map(ProjectId).ok_or(MetaError::Unknown("open ticket"))
}

fn decide(change: &Transaction<'_>, ticket: i64, state: TicketState, by: &By) -> Result<()> {
    change.execute(
        "UPDATE tickets SET state = $1, decided_at = $2, decided_by = $3 WHERE id = $4",
        (state.as_str(), by.at.0, by.name(), ticket),
    )?;
    Ok(())
}

impl Metastore {
    /// Asks for another project token. Only an owner may, and one wish of a project is open at a time.
    pub fn open_ticket(&self, project: ProjectId, reason: &str, by: &By) -> Result<i64> {
        let account =
            by.account_id().ok_or_else(|| MetaError::Invalid("an owner has to open the ticket: name one with --as".to_owned()))?;
        if reason.trim().is_empty() {
            return Err(MetaError::Invalid("say why the token has to be reset".to_owned()));
        }
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_owner(&change, project, by, "ask for another project token")?;
        let is_open = "SELECT EXISTS (SELECT 1 FROM tickets WHERE project_id = $1 AND state = 'open')";
        if change.query_row(is_open, [project.0], |row| row.get(0))? {
            return Err(MetaError::Invalid("a ticket of this project is still open".to_owned()));
        }
        change.execute(
            "INSERT INTO tickets (project_id, opened_by, state, created_at) VALUES ($1, $2, 'open', $3)",
            (project.0, account.0, by.at.0),
        )?;
        let ticket = change.last_insert_rowid();
        say(&change, ticket, reason, by)?;
        audit::append(&change, by, Some(project), "ticket open", &format!("ticket {ticket}"))?;
        self.finish(change, &[])?;
        Ok(ticket)
    }

    /// Says something in an open ticket: an owner of the project, or an operator.
    pub fn say_in_ticket(&self, ticket: i64, text: &str, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let project = open_ticket(&change, ticket)?;
        require_operator(&change, by, "talk in it").or_else(|_| require_owner(&change, project, by, "talk in its tickets"))?;
        if text.trim().is_empty() {
            return Err(MetaError::Invalid("say something".to_owned()));
        }
        say(&change, ticket, text, by)?;
        audit::append(&change, by, Some(project), "ticket message", &format!("ticket {ticket}"))?;
        self.finish(change, &[])
    }

    /// Resets the project's token: a new one is made, the old one takes events for `alias_days` more. Only an operator may.
    pub fn approve_ticket(&self, ticket: i64, alias_days: i64, text: &str, by: &By) -> Result<(ProjectId, String)> {
        if !(0..=ALIAS_DAYS_MAX).contains(&alias_days) {
            return Err(MetaError::Invalid(format!("an old token goes on for {ALIAS_DAYS_MAX} days at most")));
        }
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_operator(&change, by, "approve tickets")?;
        let project = open_ticket(&change, ticket)?;
        let old: String = change.query_row("SELECT token FROM projects WHERE id = $1", [project.0], |row| row.get(0))?;
        let token = new_hex32();
        change.execute("UPDATE projects SET token = $1 WHERE id = $2", (&token, project.0))?;
        change.execute(
            "INSERT INTO token_aliases (token, project_id, created_at, ends_at) VALUES ($1, $2, $3, $4)",
            (&old, project.0, by.at.0, by.at.0 + alias_days * DAY_MS),
        )?;
        say(&change, ticket, text, by)?;
        decide(&change, ticket, TicketState::Approved, by)?;
        let detail = format!("ticket {ticket}; the old token goes on for {alias_days} days");
        audit::append(&change, by, Some(project), "token reset", &detail)?;
        bump_epoch(&change)?;
        self.finish(change, &[])?;
        Ok((project, token))
    }

    /// Leaves the token as it is. Only an operator may.
    pub fn decline_ticket(&self, ticket: i64, text: &str, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_operator(&change, by, "decline tickets")?;
        let project = open_ticket(&change, ticket)?;
        say(&change, ticket, text, by)?;
        decide(&change, ticket, TicketState::Declined, by)?;
        audit::append(&change, by, Some(project), "ticket decline", &format!("ticket {ticket}"))?;
        self.finish(change, &[])
    }

    /// The tickets of a project, or of all for operators; newest first.
    pub fn tickets(&self, project: Option<ProjectId>) -> Result<Vec<Ticket>> {
        let connection = self.lock();
        let mut found = connection.prepare(
            "SELECT id, project_id, opened_by, state, created_at, decided_at, decided_by FROM tickets
             WHERE $1 IS NULL OR project_id = $1
             ORDER BY id DESC",
        )?;
        let ticket = |row: &Row<'_>| {
            let state: String = row.get(3)?;
            Ok(Ticket {
                id: row.get(0)?,
                project: ProjectId(row.get(1)?),
                opened_by: AccountId(row.get(2)?),
                state: TicketState::parse(&state),
                created_at: Timestamp(row.get(4)?),
                decided_at: row.get::<_, Option<i64>>(5)?.map(Timestamp),
                decided_by: row.get(6)?,
                messages: Vec::new(),
            })
        };
        let mut tickets: Vec<Ticket> = found.query_map([project.map(|project| project.0)], ticket)?.collect::<rusqlite::Result<_>>()?;
        let mut found = connection.prepare("SELECT author, at, text FROM ticket_messages WHERE ticket_id = $1 ORDER BY id")?;
        for ticket in &mut tickets {
            let message = |row: &Row<'_>| Ok(TicketMessage { author: row.get(0)?, at: Timestamp(row.get(1)?), text: row.get(2)? });
            ticket.messages = found.query_map([ticket.id], message)?.collect::<rusqlite::Result<_>>()?;
        }
        Ok(tickets)
    }

    /// The old tokens of a project, newest first.
    pub fn aliases(&self, project: ProjectId) -> Result<Vec<Alias>> {
        let connection = self.lock();
        let mut found = connection
            .prepare("SELECT token, ends_at, events, last_at FROM token_aliases WHERE project_id = $1 ORDER BY created_at DESC")?;
        let rows = found.query_map([project.0], |row| {
            Ok(Alias {
                token: row.get(0)?,
                ends_at: Timestamp(row.get(1)?),
                events: row.get(2)?,
                last_at: row.get::<_, Option<i64>>(3)?.map(Timestamp),
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
