//! Group keys: the properties that name the groups of an event, each with the id that queries know it by.

use model::ProjectId;
use rusqlite::OptionalExtension;

use crate::audit::{self, By};
use crate::members::require_admin;
use crate::projects::check_name;
use crate::secret::random;
use crate::{MetaError, Metastore, Result};

/// Group keys of one project: an event is of 300 groups at most, and names them by its keys.
pub const GROUP_KEYS_MAX: usize = 300;

/// A declared group key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupKey {
    /// What a query asks for its groups by.
    pub data_group_id: i64,
    /// The property, exactly as events bring it and as `$group_key` of `/groups` names it.
    pub key: String,
    /// What people call it.
    pub name: String,
    /// Since when it is one, milliseconds.
    pub created_at: model::Timestamp,
}

/// What a group key is made from.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewGroupKey<'a> {
    /// The property.
    pub key: &'a str,
    /// What people call it; by default what the property is called.
    pub name: Option<&'a str>,
    /// An id to keep from elsewhere.
    pub data_group_id: Option<i64>,
}

impl Metastore {
    /// Declares a group key. Admins may.
    pub fn add_group_key(&self, project: ProjectId, new: &NewGroupKey<'_>, by: &By) -> Result<GroupKey> {
        let name = new.name.unwrap_or(new.key).trim();
        check_name("a group key", name)?;
        if new.key.is_empty() || new.key.len() > 255 || new.key.chars().any(char::is_control) {
            return Err(MetaError::Invalid("a group key is the name of a property: one line of at most 255 bytes".to_owned()));
        }
        if ["distinct_id", "$distinct_id", "$user_id", "$device_id", "token", "time"].contains(&new.key) {
            return Err(MetaError::Invalid(format!("`{}` is no group key: it is the same for every project", new.key)));
        }
        if new.data_group_id == Some(0) {
            return Err(MetaError::Invalid("the id of a group key is any number but 0".to_owned()));
        }
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_admin(&change, project, by, "declare group keys")?;
        let count: i64 = change.query_row("SELECT COUNT(*) FROM group_keys WHERE project_id = $1", [project.0], |row| row.get(0))?;
        if count >= GROUP_KEYS_MAX as i64 {
            return Err(MetaError::Invalid(format!("a project has at most {GROUP_KEYS_MAX} group keys")));
        }
        // The sign bit is cleared and the least bit set: a positive number that is never 0.
        let data_group_id = new.data_group_id.unwrap_or_else(|| i64::from_be_bytes(random::<8>()) & i64::MAX | 1);
        let taken: Option<String> = change
            .query_row(
                "SELECT key FROM group_keys WHERE project_id = $1 AND (key = $2 OR data_group_id = $3)",
                (project.0, new.key, data_group_id),
                |row| row.get(0),
            )
            .optional()?;
        match taken {
            Some(taken) if taken == new.key => return Err(MetaError::Taken("group key")),
            Some(_) => return Err(MetaError::Taken("id of a group key")),
            None => {}
        }
        change.execute(
            "INSERT INTO group_keys (project_id, data_group_id, key, name, created_at) VALUES ($1, $2, $3, $4, $5)",
            (project.0, data_group_id, new.key, name, by.at.0),
        )?;
        audit::append(&change, by, Some(project), "group key add", &format!("{} ({data_group_id})", new.key))?;
        self.finish(change, &[])?;
        Ok(GroupKey { data_group_id, key: new.key.to_owned(), name: name.to_owned(), created_at: by.at })
    }

    /// Ends a group key; profiles of its groups and properties of events stay. Admins may.
    pub fn remove_group_key(&self, project: ProjectId, data_group_id: i64, by: &By) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction()?;
        require_admin(&change, project, by, "remove group keys")?;
        let sql = "DELETE FROM group_keys WHERE project_id = $1 AND data_group_id = $2 RETURNING key";
        let key: Option<String> = change.query_row(sql, (project.0, data_group_id), |row| row.get(0)).optional()?;
        let key = key.ok_or(MetaError::Unknown("group key"))?;
        audit::append(&change, by, Some(project), "group key remove", &format!("{key} ({data_group_id})"))?;
        self.finish(change, &[])
    }

    /// The group keys of a project, in the order in which they were declared.
    pub fn group_keys(&self, project: ProjectId) -> Result<Vec<GroupKey>> {
        let connection = self.lock();
        let mut found = connection.prepare(
            "SELECT data_group_id, key, name, created_at FROM group_keys
             WHERE project_id = $1
             ORDER BY created_at, key",
        )?;
        let row = |row: &rusqlite::Row<'_>| {
            Ok(GroupKey { data_group_id: row.get(0)?, key: row.get(1)?, name: row.get(2)?, created_at: model::Timestamp(row.get(3)?) })
        };
        Ok(found.query_map([project.0], row)?.collect::<rusqlite::Result<_>>()?)
    }
}
