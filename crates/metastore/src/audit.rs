//! The audit log: a row in the same transaction as the change it tells of, chained by hash to the row before. The ledger beside the key
//! file knows how the chain ends, so that rows can be neither changed, nor put in another order, nor cut off unseen.

use model::{AccountId, ProjectId, Role, Timestamp};
use rusqlite::{Connection, OptionalExtension, Transaction};

use crate::envelope::hex;
use crate::{Metastore, Result, sha256};

/// Who does something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// Whoever sits at the machine: may everything.
    Console,
    /// A person who signed in: may what the role says.
    Account(AccountId),
    /// A service account that proved itself: may what its role in its one project says, and nothing that is an owner's own.
    ServiceAccount {
        /// The name that it signs in with.
        username: String,
        /// Its project.
        project: ProjectId,
        /// What it is there.
        role: Role,
    },
    /// Anybody: may nothing but show a code or a password.
    Visitor,
}

/// Who does something, from where, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// Who.
    pub actor: Actor,
    /// The address that it came from; empty for the console.
    pub address: String,
    /// When.
    pub at: Timestamp,
}

impl By {
    /// The machine's console.
    pub fn console(at: Timestamp) -> Self {
        Self { actor: Actor::Console, address: String::new(), at }
    }

    /// An account, by way of the console.
    pub fn account(account: AccountId, at: Timestamp) -> Self {
        Self { actor: Actor::Account(account), address: String::new(), at }
    }

    /// The account that acts, where it is one.
    pub fn account_id(&self) -> Option<AccountId> {
        match self.actor {
            Actor::Account(account) => Some(account),
            Actor::Console | Actor::ServiceAccount { .. } | Actor::Visitor => None,
        }
    }

    /// `account 7`, `console` or `visitor`.
    pub(crate) fn name(&self) -> String {
        match &self.actor {
            Actor::Console => "console".to_owned(),
            Actor::Account(account) => format!("account {account}"),
            Actor::ServiceAccount { username, .. } => format!("service account {username}"),
            Actor::Visitor => "visitor".to_owned(),
        }
    }
}

/// A row of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Its place.
    pub id: i64,
    /// The project it concerns.
    pub project: Option<ProjectId>,
    /// When.
    pub at: Timestamp,
    /// Who: `account 7`, `console`, `key 3`.
    pub actor: String,
    /// From where; empty for the console.
    pub address: String,
    /// What, such as `credentials reset`.
    pub action: String,
    /// To what. Never a secret.
    pub detail: String,
}

/// What a check of the audit log found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditCheck {
    /// Every row fits the one before, and the end fits the ledger.
    Intact {
        /// How many rows.
        rows: i64,
        /// The chain at its end, in hex: note it elsewhere to compare with later.
        head: String,
    },
    /// The first row that does not fit.
    Broken(i64),
    /// The row where the ledger says that the log once ended is missing or another.
    Cut(i64),
}

/// Writes a row; the change it tells of must not be committed without it.
pub(crate) fn append(change: &Transaction<'_>, by: &By, project: Option<ProjectId>, action: &str, detail: &str) -> Result<()> {
    let row = Row { project: project.map(|project| project.0), at: by.at.0, actor: &by.name(), address: &by.address, action, detail };
    append_row(change, &row)
}

/// As [`append`], of what a credential such as `key 3` does.
pub(crate) fn append_as(
    change: &Transaction<'_>,
    actor: &str,
    address: &str,
    at: Timestamp,
    project: ProjectId,
    action: &str,
    detail: &str,
) -> Result<()> {
    append_row(change, &Row { project: Some(project.0), at: at.0, actor, address, action, detail })
}

struct Row<'a> {
    project: Option<i64>,
    at: i64,
    actor: &'a str,
    address: &'a str,
    action: &'a str,
    detail: &'a str,
}

fn append_row(change: &Transaction<'_>, row: &Row<'_>) -> Result<()> {
    let chain = link(&head(change)?.map(|(_, chain)| chain.to_vec()).unwrap_or_default(), row);
    change.execute(
        "INSERT INTO audit (project_id, at, actor, address, action, detail, chain) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        (row.project, row.at, row.actor, row.address, row.action, row.detail, chain),
    )?;
    Ok(())
}

/// The last row and its link.
pub(crate) fn head(connection: &Connection) -> Result<Option<(i64, [u8; 32])>> {
    let found = connection.query_row("SELECT id, chain FROM audit ORDER BY id DESC LIMIT 1", [], |row| Ok((row.get(0)?, row.get(1)?)));
    Ok(found.optional()?)
}

const COLUMNS: &str = "id, project_id, at, actor, address, action, detail";

fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<AuditRow> {
    Ok(AuditRow {
        id: row.get(0)?,
        project: row.get::<_, Option<i64>>(1)?.map(ProjectId),
        at: Timestamp(row.get(2)?),
        actor: row.get(3)?,
        address: row.get(4)?,
        action: row.get(5)?,
        detail: row.get(6)?,
    })
}

fn link(before: &[u8], row: &Row<'_>) -> [u8; 32] {
    let mut bytes = before.to_vec();
    let (project, at) = (row.project.map_or_else(String::new, |id| id.to_string()), row.at.to_string());
    let mut fields = vec![project.as_str(), &at, row.actor, row.action, row.detail];
    // Rows of the first release have no address.
    fields.extend((!row.address.is_empty()).then_some(row.address));
    for field in fields {
        bytes.extend((field.len() as u64).to_le_bytes());
        bytes.extend(field.as_bytes());
    }
    sha256(&bytes)
}

impl Metastore {
    /// Writes a row about what a credential did, such as `key 3`, from where.
    pub fn note_of(&self, actor: &str, address: &str, at: Timestamp, project: Option<ProjectId>, action: &str, detail: &str) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        append_row(&change, &Row { project: project.map(|project| project.0), at: at.0, actor, address, action, detail })?;
        self.finish(change, &[])
    }

    /// Walks the chain to its end and compares it with the ledger.
    pub fn verify_audit(&self) -> Result<AuditCheck> {
        let connection = self.lock();
        let mut found = connection.prepare("SELECT id, project_id, at, actor, address, action, detail, chain FROM audit ORDER BY id")?;
        let mut found = found.query([])?;
        let recorded = self.ledger().read()?.unwrap_or_default();
        let (cut, recorded) = (recorded.cut, recorded.audit);
        let (mut before, mut count, mut fits_ledger) = (Vec::<u8>::new(), 0, recorded.is_none());
        while let Some(row) = found.next()? {
            let (actor, address, action, detail): (String, String, String, String) = (row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?);
            let (id, chain): (i64, Vec<u8>) = (row.get(0)?, row.get(7)?);
            let row = Row { project: row.get(1)?, at: row.get(2)?, actor: &actor, address: &address, action: &action, detail: &detail };
            // Rows are numbered without a gap: none is ever removed.
            count += 1;
            if link(&before, &row) != chain.as_slice() || id != count {
                return Ok(AuditCheck::Broken(id));
            }
            fits_ledger |= recorded.is_some_and(|(at, end)| at == id && end == chain.as_slice());
            before = chain;
        }
        match (cut, recorded) {
            (Some(id), _) => Ok(AuditCheck::Cut(id)),
            (None, Some((id, _))) if !fits_ledger => Ok(AuditCheck::Cut(id)),
            _ => Ok(AuditCheck::Intact { rows: count, head: hex(&before) }),
        }
    }

    /// Notes that events leave a project, before they do; and that it is by a credential from an address that did not export before.
    pub fn note_export(&self, actor: &str, address: &str, at: Timestamp, project: ProjectId, detail: &str) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        let is_known: bool = change.query_row(
            "SELECT EXISTS (SELECT 1 FROM exporters WHERE project_id = $1 AND credential = $2 AND address = $3)",
            (project.0, actor, address),
            |row| row.get(0),
        )?;
        let row = |action| Row { project: Some(project.0), at: at.0, actor, address, action, detail };
        if !is_known {
            change.execute("INSERT INTO exporters (project_id, credential, address) VALUES ($1, $2, $3)", (project.0, actor, address))?;
            append_row(&change, &row("export from a new place"))?;
        }
        append_row(&change, &row("export"))?;
        self.finish(change, &[])
    }

    /// Up to `rows_max` rows behind the last one that was told by mail, oldest first.
    pub fn audit_rows_to_mail(&self, rows_max: usize) -> Result<Vec<AuditRow>> {
        let connection = self.lock();
        let through = crate::number(&connection, crate::MAILED_THROUGH)?;
        let mut found = connection.prepare(&format!("SELECT {COLUMNS} FROM audit WHERE id > $1 ORDER BY id LIMIT $2"))?;
        Ok(found.query_map((through, rows_max as i64), from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// Rows up to this one were told by mail.
    pub fn mailed_through(&self, row: i64) -> Result<()> {
        crate::set_number(&self.lock(), crate::MAILED_THROUGH, row)
    }

    /// The newest rows, of one project or of all; those before row `before` where it is given.
    pub fn audit_rows(&self, project: Option<ProjectId>, before: Option<i64>, rows_max: usize) -> Result<Vec<AuditRow>> {
        let connection = self.lock();
        let mut found = connection.prepare(&format!(
            "SELECT {COLUMNS} FROM audit
             WHERE ($1 IS NULL OR project_id = $1) AND ($2 IS NULL OR id < $2)
             ORDER BY id DESC LIMIT $3",
        ))?;
        let rows = found.query_map((project.map(|project| project.0), before, rows_max as i64), from_row)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::types::Value;

    use super::*;
    use crate::secret::random;

    /// A log of some rows of every form, and its ledger.
    fn log() -> (tempfile::TempDir, Metastore) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        let store = Metastore::open(&dir.path().join("data"), &dir.path().join("data.key"), Timestamp(1_000)).unwrap();
        for number in 0..24 {
            let by = By {
                actor: if number % 3 > 0 { Actor::Account(AccountId(number)) } else { Actor::Console },
                address: if number % 2 == 0 { String::new() } else { format!("192.0.2.{number}") },
                at: Timestamp(1_000 + number),
            };
            let mut connection = store.lock();
            let change = connection.transaction().unwrap();
            let project = (number % 4 > 0).then_some(ProjectId(number));
            append(&change, &by, project, "credentials reset", &format!("{number} keys")).unwrap();
            store.finish(change, &[]).unwrap();
        }
        (dir, store)
    }

    fn is_intact(store: &Metastore) -> bool {
        matches!(store.verify_audit(), Ok(AuditCheck::Intact { .. }))
    }

    /// Whether a change behind the log's back is found; it is taken back then.
    fn is_found(store: &Metastore, sql: &str, values: impl rusqlite::Params) -> bool {
        store.lock().execute_batch("SAVEPOINT edit").unwrap();
        let changed = store.lock().execute(sql, values);
        let found = !is_intact(store);
        store.lock().execute_batch("ROLLBACK TO edit; RELEASE edit").unwrap();
        assert!(changed.is_ok_and(|rows| rows > 0), "`{sql}` changes nothing");
        found
    }

    /// T25 of the security bar.
    #[test]
    fn ten_thousand_flipped_bits_are_found() {
        let (_dir, store) = log();
        assert!(is_intact(&store));
        let columns = ["id", "project_id", "at", "actor", "address", "action", "detail", "chain"];
        for _ in 0..10_000 {
            let [row, column, at, bit, ..] = random::<8>();
            let (row, column) = (i64::from(row) % 24 + 1, columns[usize::from(column) % columns.len()]);
            let before: Value =
                store.lock().query_row(&format!("SELECT {column} FROM audit WHERE id = $1"), [row], |found| found.get(0)).unwrap();
            let flip = |mut bytes: Vec<u8>| {
                match bytes.len() {
                    0 => bytes.push(bit),
                    len => bytes[usize::from(at) % len] ^= 1 << (bit % 8),
                }
                bytes
            };
            // A text may stop to be one: as a whole, it is another then.
            let (after, cast) = match before {
                Value::Integer(number) => (Value::Integer(number ^ 1 << (bit % 63)), "$1"),
                Value::Text(text) => (Value::Blob(flip(text.into_bytes())), "CAST($1 AS TEXT)"),
                Value::Blob(bytes) => (Value::Blob(flip(bytes)), "$1"),
                _ => (Value::Integer(i64::from(bit)), "$1"),
            };
            // A number that another row has cannot be given again.
            if column == "id" && matches!(after, Value::Integer(id) if (1..=24).contains(&id)) {
                continue;
            }
            let sql = format!("UPDATE audit SET {column} = {cast} WHERE id = $2");
            assert!(is_found(&store, &sql, (&after, row)), "{column} of row {row} became {after:?}");
        }
        assert!(is_intact(&store));
    }

    #[test]
    fn a_log_that_lost_or_moved_rows_is_found_out() {
        let (_dir, store) = log();
        for row in 1..=24 {
            assert!(is_found(&store, "DELETE FROM audit WHERE id = $1", [row]), "row {row} is deleted");
            assert!(is_found(&store, "DELETE FROM audit WHERE id >= $1", [row]), "everything from row {row} on is cut off");
            assert!(is_found(&store, "DELETE FROM audit WHERE id < $1 OR id = $1", [row]), "everything up to row {row} is cut off");
            let moved = "UPDATE audit SET id = id + 100 WHERE id = $1";
            assert!(is_found(&store, moved, [row]), "row {row} goes to the end");
        }
        for row in 1..24 {
            // Two neighbours change places, with or without their links of the chain.
            for columns in ["project_id, at, actor, address, action, detail", "project_id, at, actor, address, action, detail, chain"] {
                let other = format!("(SELECT {columns} FROM audit AS other WHERE other.id = 2 * $1 + 1 - audit.id)");
                assert!(is_found(&store, &format!("UPDATE audit SET ({columns}) = {other} WHERE id IN ($1, $1 + 1)"), [row]), "row {row}");
            }
            // A text moves from one column into the next.
            let moved = "UPDATE audit SET action = action || substr(detail, 1, 1), detail = substr(detail, 2) WHERE id = $1";
            assert!(is_found(&store, moved, [row]), "row {row}");
            // A row comes twice, the later ones one place on.
            let doubled = "INSERT INTO audit (project_id, at, actor, address, action, detail, chain)
                SELECT project_id, at, actor, address, action, detail, chain FROM audit WHERE id = $1";
            assert!(is_found(&store, doubled, [row]), "row {row}");
        }
        // A rewritten end whose chain is right does not fit the ledger.
        let sql = "UPDATE audit SET detail = 'nothing', chain = $1 WHERE id = 24";
        let forged = {
            let connection = store.lock();
            let before: Vec<u8> = connection.query_row("SELECT chain FROM audit WHERE id = 23", [], |row| row.get(0)).unwrap();
            let (project, at, actor, address): (Option<i64>, i64, String, String) = connection
                .query_row("SELECT project_id, at, actor, address FROM audit WHERE id = 24", [], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })
                .unwrap();
            link(&before, &Row { project, at, actor: &actor, address: &address, action: "credentials reset", detail: "nothing" })
        };
        assert!(is_found(&store, sql, [forged]));
        assert!(is_intact(&store));
    }
}
