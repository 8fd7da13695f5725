//! Lookup tables: what each is called, which properties lead to it, and which file is its content. The transaction that names a file makes
//! its content live.

use model::lookup::LookupSource;
use model::{ProjectId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, Transaction};

use crate::audit::{self, By};
use crate::members::require_admin;
use crate::projects::check_name;
use crate::secret::random;
use crate::{MetaError, Metastore, Result};

/// Tables of one project.
pub const LOOKUP_TABLES_MAX: usize = 200;
/// Rows of all tables of one project.
pub const LOOKUP_ROWS_MAX: usize = 5_000_000;
/// Over so long calls are counted.
const CALLS_MS: i64 = 24 * 3_600_000;

/// A property that leads to a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LookupProperty {
    /// Of events or of profiles.
    pub source: LookupSource,
    /// Its name.
    pub property: String,
}

/// The content of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupContent {
    /// The name of its file.
    pub path: String,
    /// Rows without the header.
    pub rows: i64,
    /// Bytes of the file.
    pub bytes: i64,
    /// The columns behind the key.
    pub columns: Vec<String>,
}

/// A lookup table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupTableRow {
    /// A UUID in lower case.
    pub id: String,
    /// Whose it is.
    pub project: ProjectId,
    /// What people call it.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it got the content that it has.
    pub replaced_at: Option<Timestamp>,
    /// What it has, once it has something.
    pub content: Option<LookupContent>,
    /// What leads to it.
    pub properties: Vec<LookupProperty>,
}

/// What a table is made from.
#[derive(Debug, Clone, Default)]
pub struct NewLookupTable {
    /// What people call it.
    pub name: String,
    /// A UUID to keep from elsewhere.
    pub id: Option<String>,
    /// What leads to it.
    pub properties: Vec<LookupProperty>,
}

/// What is to change of a table; `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct LookupTableChange {
    /// What people call it.
    pub name: Option<String>,
    /// What leads to it, all of it.
    pub properties: Option<Vec<LookupProperty>>,
}

/// Who puts a content in the place of another: somebody who may manage the project, or a credential that proved itself.
#[derive(Debug, Clone, Copy)]
pub enum ReplacedBy<'a> {
    /// An admin, or the console.
    Member(&'a By),
    /// A credential such as `key 3`, from an address.
    Credential {
        /// Its name in the audit log.
        name: &'a str,
        /// From where.
        address: &'a str,
        /// When.
        at: Timestamp,
    },
}

fn new_id() -> String {
    let mut bytes = random::<16>();
    // Version 4 of RFC 9562.
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn is_uuid(id: &str) -> bool {
    let fits = |(at, byte): (usize, u8)| if [8, 13, 18, 23].contains(&at) { byte == b'-' } else { byte.is_ascii_hexdigit() };
    id.len() == 36 && id.bytes().enumerate().all(fits)
}

fn check_properties(properties: &[LookupProperty]) -> Result<()> {
    for LookupProperty { property, .. } in properties {
        if property.is_empty() || property.len() > 255 || property.chars().any(char::is_control) {
            return Err(MetaError::Invalid("a property's name is one line of at most 255 bytes".to_owned()));
        }
        if ["distinct_id", "$distinct_id", "$insert_id", "time", "$time"].contains(&property.as_str()) {
            return Err(MetaError::Invalid(format!("`{property}` cannot lead to a lookup table: set what it says in the profile")));
        }
    }
    Ok(())
}

fn map(change: &Transaction<'_>, project: ProjectId, id: &str, properties: &[LookupProperty]) -> Result<()> {
    check_properties(properties)?;
    for LookupProperty { source, property } in properties {
        let taken: Option<String> = change
            .query_row(
                "SELECT table_id FROM lookup_properties WHERE project_id = $1 AND source = $2 AND property = $3",
                (project.0, source.as_str(), property),
                |row| row.get(0),
            )
            .optional()?;
        match taken {
            Some(other) if other != id => {
                return Err(MetaError::Invalid(format!("the property `{property}` leads to lookup table {other} already")));
            }
            Some(_) => {}
            None => {
                change.execute(
                    "INSERT INTO lookup_properties (project_id, source, property, table_id) VALUES ($1, $2, $3, $4)",
                    (project.0, source.as_str(), property, id),
                )?;
            }
        }
    }
    Ok(())
}

fn told(properties: &[LookupProperty]) -> String {
    let words: Vec<String> = properties.iter().map(|one| format!("{} property {}", one.source.as_str(), one.property)).collect();
    if words.is_empty() { "no property".to_owned() } else { words.join(", ") }
}

fn exists(connection: &Connection, project: ProjectId, id: &str) -> Result<()> {
    let sql = "SELECT EXISTS (SELECT 1 FROM lookup_tables WHERE project_id = $1 AND id = $2)";
    let found: bool = connection.query_row(sql, (project.0, id), |row| row.get(0))?;
    if found { Ok(()) } else { Err(MetaError::Unknown("lookup table")) }
}

const COLUMNS: &str = "id, project_id, name, created_at, replaced_at, path, rows, bytes, columns";

fn from_row(row: &Row<'_>) -> rusqlite::Result<LookupTableRow> {
    let content = match row.get::<_, Option<String>>(5)? {
        Some(path) => Some(LookupContent {
            path,
            rows: row.get(6)?,
            bytes: row.get(7)?,
            columns: row.get::<_, String>(8)?.lines().map(str::to_owned).collect(),
        }),
        None => None,
    };
    Ok(LookupTableRow {
        id: row.get(0)?,
        project: ProjectId(row.get(1)?),
        name: row.get(2)?,
        created_at: Timestamp(row.get(3)?),
        replaced_at: row.get::<_, Option<i64>>(4)?.map(Timestamp),
        content,
        properties: Vec::new(),
    })
}

/// The rows that a condition wants, with what leads to them.
fn read(connection: &Connection, condition: &str, project: i64) -> Result<Vec<LookupTableRow>> {
    let mut found = connection.prepare(&format!("SELECT {COLUMNS} FROM lookup_tables WHERE {condition} ORDER BY created_at, id"))?;
    let mut tables: Vec<LookupTableRow> = found.query_map([project], from_row)?.collect::<rusqlite::Result<_>>()?;
    let mut found = connection
        .prepare(&format!("SELECT table_id, source, property FROM lookup_properties WHERE {condition} ORDER BY source, property"))?;
    let rows = found.query_map([project], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)))?;
    for row in rows {
        let (id, source, property) = row?;
        let source = LookupSource::parse(&source).unwrap_or(LookupSource::Event);
        if let Some(table) = tables.iter_mut().find(|table| table.id == id) {
            table.properties.push(LookupProperty { source, property });
        }
    }
    Ok(tables)
}

impl Metastore {
    /// Makes a table without content. Admins may.
    pub fn create_lookup_table(&self, project: ProjectId, new: &NewLookupTable, by: &By) -> Result<LookupTableRow> {
        check_name("a lookup table", &new.name)?;
        let id = match &new.id {
            Some(id) if is_uuid(id) => id.to_ascii_lowercase(),
            Some(id) => return Err(MetaError::Invalid(format!("`{id}` is no UUID"))),
            None => new_id(),
        };
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_admin(&change, project, by, "make lookup tables")?;
        let count: i64 = change.query_row("SELECT COUNT(*) FROM lookup_tables WHERE project_id = $1", [project.0], |row| row.get(0))?;
        if count >= LOOKUP_TABLES_MAX as i64 {
            return Err(MetaError::Invalid(format!("a project has at most {LOOKUP_TABLES_MAX} lookup tables")));
        }
        let is_taken: bool = change.query_row("SELECT EXISTS (SELECT 1 FROM lookup_tables WHERE id = $1)", [&id], |row| row.get(0))?;
        if is_taken {
            return Err(MetaError::Taken("id of a lookup table"));
        }
        change.execute(
            "INSERT INTO lookup_tables (id, project_id, name, created_at) VALUES ($1, $2, $3, $4)",
            (&id, project.0, new.name.trim(), by.at.0),
        )?;
        map(&change, project, &id, &new.properties)?;
        audit::append(&change, by, Some(project), "lookup table create", &format!("{id}: {}", told(&new.properties)))?;
        self.finish(change, &[])?;
        drop(connection);
        self.lookup_table(project, &id)?.ok_or(MetaError::Unknown("lookup table"))
    }

    /// Changes what a table is called, and what leads to it. Admins may.
    pub fn change_lookup_table(&self, project: ProjectId, id: &str, asked: &LookupTableChange, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_admin(&change, project, by, "change lookup tables")?;
        exists(&change, project, id)?;
        let mut changed = Vec::new();
        if let Some(name) = &asked.name {
            check_name("a lookup table", name)?;
            change.execute("UPDATE lookup_tables SET name = $1 WHERE id = $2", (name.trim(), id))?;
            changed.push("name".to_owned());
        }
        if let Some(properties) = &asked.properties {
            change.execute("DELETE FROM lookup_properties WHERE table_id = $1", [id])?;
            map(&change, project, id, properties)?;
            changed.push(told(properties));
        }
        if changed.is_empty() {
            return Err(MetaError::Invalid("name at least one setting to change".to_owned()));
        }
        audit::append(&change, by, Some(project), "lookup table change", &format!("{id}: {}", changed.join("; ")))?;
        self.finish(change, &[])
    }

    /// Ends a table with its content. Admins may.
    pub fn delete_lookup_table(&self, project: ProjectId, id: &str, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_admin(&change, project, by, "delete lookup tables")?;
        exists(&change, project, id)?;
        change.execute("DELETE FROM lookup_properties WHERE table_id = $1", [id])?;
        change.execute("DELETE FROM lookup_tables WHERE id = $1", [id])?;
        audit::append(&change, by, Some(project), "lookup table delete", id)?;
        self.finish(change, &[])
    }

    /// Makes a file the content of a table: with this transaction it is live. Credentials were judged by whoever calls; members are here.
    pub fn replace_lookup_table(&self, project: ProjectId, id: &str, content: &LookupContent, by: ReplacedBy<'_>) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        if let ReplacedBy::Member(by) = by {
            require_admin(&change, project, by, "replace lookup tables")?;
        }
        exists(&change, project, id)?;
        let sql = "SELECT COALESCE(SUM(rows), 0) FROM lookup_tables WHERE project_id = $1 AND id != $2";
        let others: i64 = change.query_row(sql, (project.0, id), |row| row.get(0))?;
        if others + content.rows > LOOKUP_ROWS_MAX as i64 {
            return Err(MetaError::Invalid(format!("the lookup tables of a project have at most {LOOKUP_ROWS_MAX} rows together")));
        }
        let at = match by {
            ReplacedBy::Member(by) => by.at,
            ReplacedBy::Credential { at, .. } => at,
        };
        change.execute(
            "UPDATE lookup_tables SET replaced_at = $1, path = $2, rows = $3, bytes = $4, columns = $5 WHERE id = $6",
            (at.0, &content.path, content.rows, content.bytes, content.columns.join("\n"), id),
        )?;
        let detail = format!("{id}: {} rows", content.rows);
        match by {
            ReplacedBy::Member(by) => audit::append(&change, by, Some(project), "lookup table replace", &detail)?,
            ReplacedBy::Credential { name, address, at } => {
                audit::append_as(&change, name, address, at, project, "lookup table replace", &detail)?;
            }
        }
        self.finish(change, &[])
    }

    /// Counts a call that replaces a table. Where `calls_max` were made in the last 24 hours it is not one more, and the answer is how many
    /// milliseconds there are until one may be.
    pub fn count_lookup_call(&self, project: ProjectId, calls_max: u32, now: Timestamp) -> Result<std::result::Result<(), i64>> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        // A clock that was set back must not keep calls for ever.
        change.execute("DELETE FROM lookup_calls WHERE at <= $1 OR at > $2", (now.0 - CALLS_MS, now.0 + CALLS_MS))?;
        let sql = "SELECT COUNT(*), COALESCE(MIN(at), 0) FROM lookup_calls WHERE project_id = $1";
        let (count, oldest): (i64, i64) = change.query_row(sql, [project.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if count >= i64::from(calls_max) {
            return Ok(Err((oldest + CALLS_MS - now.0).clamp(1, CALLS_MS)));
        }
        change.execute("INSERT INTO lookup_calls (project_id, at) VALUES ($1, $2)", (project.0, now.0))?;
        change.commit()?;
        Ok(Ok(()))
    }

    /// One table.
    pub fn lookup_table(&self, project: ProjectId, id: &str) -> Result<Option<LookupTableRow>> {
        Ok(self.lookup_tables(project)?.into_iter().find(|table| table.id == id))
    }

    /// The tables of a project, in the order in which they were made.
    pub fn lookup_tables(&self, project: ProjectId) -> Result<Vec<LookupTableRow>> {
        read(&self.lock(), "project_id = $1", project.0)
    }

    /// Every table, for opening the store.
    pub fn lookup_tables_of_all_projects(&self) -> Result<Vec<LookupTableRow>> {
        read(&self.lock(), "project_id != $1", 0)
    }
}
