//! Group keys and lookup tables from the command line: the same whether a server runs or not.

use std::path::Path;

use metastore::{By, LookupProperty, LookupTableChange, MetaError, Metastore, NewGroupKey, NewLookupTable, ReplacedBy};
use model::ProjectId;
use model::lookup::LookupSource;
use serde_json::{Value, json};
use store::Store;
use store::disk::RealDisk;
use wire::lookup_tables::{self as tables, TableError};

use crate::app::App;
use crate::commands::{Command, GroupKey, LookupTable, Mapping, Project};
use crate::views::{self, DONE, shown_as};

impl Mapping {
    fn properties(&self) -> Vec<LookupProperty> {
        let of = |source, names: &[String]| {
            names.iter().map(|property| LookupProperty { source, property: property.clone() }).collect::<Vec<_>>()
        };
        [of(LookupSource::Event, &self.event_properties), of(LookupSource::Profile, &self.profile_properties)].concat()
    }
}

/// Runs a command about group keys.
pub(crate) fn group_keys(metastore: &Metastore, command: &GroupKey, project: ProjectId, by: &By) -> Result<Value, MetaError> {
    match command {
        GroupKey::Add { key, name, data_group_id, .. } => {
            let new = NewGroupKey { key, name: name.as_deref(), data_group_id: *data_group_id };
            shown_as(views::GroupKey::from(metastore.add_group_key(project, &new, by)?))
        }
        GroupKey::List { .. } => shown_as(metastore.group_keys(project)?.into_iter().map(views::GroupKey::from).collect::<Vec<_>>()),
        GroupKey::Remove { key, .. } => {
            let known = metastore.group_keys(project)?.into_iter().find(|known| known.key == *key);
            metastore.remove_group_key(project, known.ok_or(MetaError::Unknown("group key"))?.data_group_id, by)?;
            shown_as(DONE)
        }
    }
}

/// Runs a command about lookup tables that needs no file.
pub(crate) fn lookup_tables(metastore: &Metastore, command: &LookupTable, project: ProjectId, by: &By) -> Result<Value, MetaError> {
    match command {
        LookupTable::Create { name, id, mapping, .. } => {
            let new = NewLookupTable { name: name.clone(), id: id.clone(), properties: mapping.properties() };
            shown_as(views::LookupTable::from(metastore.create_lookup_table(project, &new, by)?))
        }
        LookupTable::List { .. } => {
            shown_as(metastore.lookup_tables(project)?.into_iter().map(views::LookupTable::from).collect::<Vec<_>>())
        }
        LookupTable::Set { id, name, mapping, no_properties, .. } => {
            let properties = Some(mapping.properties()).filter(|properties| *no_properties || !properties.is_empty());
            metastore.change_lookup_table(project, id, &LookupTableChange { name: name.clone(), properties }, by)?;
            shown_as(DONE)
        }
        LookupTable::Delete { id, .. } => {
            metastore.delete_lookup_table(project, id, by)?;
            shown_as(DONE)
        }
        LookupTable::Replace { .. } => Err(MetaError::Invalid("a table's content needs the data directory".to_owned())),
    }
}

/// Puts a file's content in the place of what a table has: on the store of the running server, or in place.
pub(crate) fn replace(
    (dir, metastore, running): (&Path, &Metastore, Option<&Store>),
    (project, by): (ProjectId, &By),
    id: &str,
    file: &Path,
) -> Result<Value, String> {
    let text = |error: std::io::Error| format!("cannot read {}: {error}", file.display());
    let len = std::fs::metadata(file).map_err(text)?.len();
    if len > tables::FILE_BYTES_MAX as u64 {
        return Err(format!("{} has more than {} bytes", file.display(), tables::FILE_BYTES_MAX));
    }
    let table = tables::parse(&std::fs::read(file).map_err(text)?).map_err(|error| match error {
        TableError::TooLarge => format!("{} has more than {} bytes", file.display(), tables::FILE_BYTES_MAX),
        TableError::BrokenGzip => format!("the gzip of {} is broken", file.display()),
        TableError::Failed(rows) => {
            let rows: Vec<String> = rows.iter().map(|row| format!("row {}: {}", row.index, row.message)).collect();
            format!("{} is no lookup table: {}", file.display(), rows.join("; "))
        }
    })?;
    let by = ReplacedBy::Member(by);
    let outcome = match running {
        Some(store) => store.replace_lookup(project, id, &table, by),
        None => store::replace_lookup(dir, &RealDisk, metastore, project, id, &table, by),
    };
    outcome.map_err(|error| error.to_string())?;
    Ok(json!({ "rows": table.rows() }))
}

/// Lets the running server see what a command changed.
pub(crate) fn follow(app: &App, command: &Command) -> Result<(), MetaError> {
    let project = match command {
        Command::Project(Project::GroupKey(command)) => command.on().project,
        Command::LookupTable(command) => command.on().project,
        _ => return Ok(()),
    };
    app.store.follow_joins(ProjectId(project)).map_err(|error| MetaError::Invalid(error.to_string()))
}
