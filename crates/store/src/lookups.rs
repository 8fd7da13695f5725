//! Lookup tables on disk, and what the properties of a project lead to: tables, and the profiles of groups.
//!
//! A table's content is one file that never changes. It is written and synced under a name that was never used; the metastore transaction
//! that names it makes it live. A snapshot holds the contents of its moment: their files stay until no snapshot names them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use metastore::{LookupContent, LookupTableRow, MetaError, Metastore, ReplacedBy};
use model::ProjectId;
use model::lookup::{Cell, LookupColumn, LookupSource, LookupTable, column_of};

use crate::disk::Disk;
use crate::error::StoreError;
use crate::record::{self, Malformed, Reader, Spelling};
use crate::segment::{checked, write_file};
use crate::snapshot::Snapshot;
use crate::{ProjectState, Store, paths};

/// Contents that stay in memory once a query wanted them, bytes; one that is larger stays alone.
const CACHE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The version that a file begins with.
const FORMAT_VERSION: u64 = 1;

/// Why a content is not replaced.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// The file could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The metastore refuses it.
    #[error(transparent)]
    Metastore(#[from] MetaError),
}

/// Contents that were read, the last one wanted last.
#[derive(Default)]
pub(crate) struct Cache {
    held: Mutex<Vec<(String, Arc<LookupTable>)>>,
}

impl Cache {
    fn get(&self, name: &str) -> Option<Arc<LookupTable>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let at = held.iter().position(|(known, _)| known == name)?;
        let found = held.remove(at);
        held.push(found);
        held.last().map(|(_, table)| table.clone())
    }

    fn put(&self, name: &str, table: &Arc<LookupTable>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.push((name.to_owned(), table.clone()));
        while held.len() > 1 && held.iter().map(|(_, table)| table.bytes()).sum::<usize>() > CACHE_BYTES_MAX {
            held.remove(0);
        }
    }

    fn forget(&self, name: &str) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).retain(|(known, _)| known != name);
    }
}

/// A content that is live, or was when a snapshot was taken.
pub(crate) struct TableFile {
    name: String,
    columns: Vec<String>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    cache: Arc<Cache>,
    retired: AtomicBool,
    reading: Mutex<()>,
}

impl TableFile {
    fn read(&self) -> Result<Arc<LookupTable>, StoreError> {
        if let Some(table) = self.cache.get(&self.name) {
            return Ok(table);
        }
        // Whoever wants it meanwhile waits, rather than read it too.
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = self.cache.get(&self.name) {
            return Ok(table);
        }
        let bytes = self.disk.read(&self.dir.join(&self.name))?;
        let corrupt = |reason: &str| StoreError::Corrupt { path: self.name.clone(), reason: reason.to_owned() };
        let packed = checked(&bytes).ok_or_else(|| corrupt("the checksum does not fit"))?;
        let table = Arc::new(decode(&zstd::decode_all(packed)?).map_err(|error| corrupt(&error.to_string()))?);
        self.cache.put(&self.name, &table);
        Ok(table)
    }
}

impl Drop for TableFile {
    fn drop(&mut self) {
        self.cache.forget(&self.name);
        if self.retired.load(Ordering::Relaxed) {
            // What stays behind is removed when the store is opened next.
            let _ = self.disk.remove(&self.dir.join(&self.name));
        }
    }
}

fn encode(table: &LookupTable) -> Result<Vec<u8>, StoreError> {
    let mut plain = Vec::new();
    record::put_varint(&mut plain, FORMAT_VERSION);
    record::put_varint(&mut plain, table.rows() as u64);
    (0..table.rows() as u32).for_each(|row| record::put_text(&mut plain, table.key(row)));
    record::put_varint(&mut plain, table.columns().len() as u64);
    for column in table.columns() {
        record::put_text(&mut plain, &column.name);
        record::put_varint(&mut plain, column.cells.len() as u64);
        for cell in &column.cells {
            match cell {
                Cell::Undefined => plain.push(0),
                Cell::Datetime(ms) => {
                    plain.push(1);
                    record::put_int(&mut plain, *ms);
                }
                Cell::Value(value) => {
                    plain.push(2);
                    record::put_value(&mut plain, value, Spelling::Fast);
                }
            }
        }
        column.codes.iter().for_each(|code| plain.extend(code.to_le_bytes()));
    }
    let mut bytes = zstd::encode_all(plain.as_slice(), 1)?;
    let checksum = crc32fast::hash(&bytes);
    bytes.extend(checksum.to_le_bytes());
    Ok(bytes)
}

fn decode(plain: &[u8]) -> Result<LookupTable, Malformed> {
    let mut reader = Reader { bytes: plain };
    if reader.varint()? != FORMAT_VERSION {
        return Err(Malformed("a format of another release"));
    }
    let rows = reader.count()?;
    let keys = (0..rows).map(|_| reader.string()).collect::<Result<Vec<_>, _>>()?;
    let columns = (0..reader.count()?).map(|_| {
        let name = reader.string()?;
        let cell = |reader: &mut Reader<'_>| match reader.varint()? {
            0 => Ok(Cell::Undefined),
            1 => Ok(Cell::Datetime(reader.int()?)),
            2 => Ok(Cell::Value(reader.value(0)?)),
            _ => Err(Malformed("a field of an unknown kind")),
        };
        let cells = (0..reader.count()?).map(|_| cell(&mut reader)).collect::<Result<_, _>>()?;
        let codes = (0..rows).map(|_| reader.u32()).collect::<Result<_, _>>()?;
        Ok(LookupColumn { name, cells, codes })
    });
    let columns = columns.collect::<Result<_, _>>()?;
    LookupTable::of_parts(keys.iter().map(String::as_str), columns).map_err(|_| Malformed("parts that do not fit each other"))
}

/// What the properties of one project lead to.
#[derive(Default)]
pub(crate) struct Joins {
    group_keys: Vec<String>,
    files: Vec<Arc<TableFile>>,
    /// Properties, the longest first, and the file that each leads to.
    properties: Vec<(LookupSource, String, usize)>,
}

/// A column of a lookup table that a property leads to.
#[derive(Clone)]
pub struct Lookup {
    /// The property whose value is the key.
    pub property: String,
    /// The table.
    pub table: Arc<LookupTable>,
    /// Which of its columns.
    pub column: usize,
}

impl Joins {
    /// What rows of the metastore say; files that `before` has are the same files.
    fn of(rows: &[LookupTableRow], group_keys: Vec<String>, before: &Self, open: impl Fn(&LookupContent) -> TableFile) -> Self {
        let mut joins = Self { group_keys, ..Self::default() };
        for row in rows {
            let Some(content) = &row.content else { continue };
            let known = before.files.iter().find(|file| file.name == content.path);
            joins.files.push(known.cloned().unwrap_or_else(|| Arc::new(open(content))));
            let at = joins.files.len() - 1;
            joins.properties.extend(row.properties.iter().map(|one| (one.source, one.property.clone(), at)));
        }
        joins.properties.sort_by(|a, b| b.1.len().cmp(&a.1.len()).then_with(|| a.1.cmp(&b.1)));
        joins
    }
}

impl Snapshot {
    /// The group keys of the project, in the order in which they were declared.
    pub fn group_keys(&self) -> &[String] {
        &self.joins.group_keys
    }

    /// The column that a name such as `song_id.artist` names, where `song_id` leads to a table with a column `artist`. Reads the table
    /// where nobody did before. Blocking.
    pub fn lookup(&self, source: LookupSource, name: &str) -> Result<Option<Lookup>, StoreError> {
        for (_, property, at) in self.joins.properties.iter().filter(|(of, ..)| *of == source) {
            let file = &self.joins.files[*at];
            let column = column_of(property, name).and_then(|name| file.columns.iter().position(|known| known == name));
            if let Some(column) = column {
                return Ok(Some(Lookup { property: property.clone(), table: file.read()?, column }));
            }
        }
        Ok(None)
    }
}

/// The lookup tables of all projects: what opening a store makes of them. Files that no row names are removed.
pub(crate) fn open(
    metastore: &Metastore,
    disk: &Arc<dyn Disk>,
    root: &Path,
    cache: &Arc<Cache>,
    mut each: impl FnMut(ProjectId, Joins),
) -> Result<(), StoreError> {
    let dir = paths::lookup_dir(root);
    disk.create_dir_all(&dir)?;
    let rows = metastore.lookup_tables_of_all_projects()?;
    for name in disk.list(&dir)? {
        if !rows.iter().filter_map(|row| row.content.as_ref()).any(|content| content.path == name) {
            disk.remove(&dir.join(name))?;
        }
    }
    for project in metastore.projects()? {
        let rows: Vec<LookupTableRow> = rows.iter().filter(|row| row.project == project.id).cloned().collect();
        for content in rows.iter().filter_map(|row| row.content.as_ref()) {
            if !disk.exists(&dir.join(&content.path))? {
                return Err(StoreError::Corrupt { path: content.path.clone(), reason: "it is missing".to_owned() });
            }
        }
        let keys = metastore.group_keys(project.id)?.into_iter().map(|key| key.key).collect();
        each(project.id, Joins::of(&rows, keys, &Joins::default(), |content| file(content, disk, &dir, cache)));
    }
    Ok(())
}

fn file(content: &LookupContent, disk: &Arc<dyn Disk>, dir: &Path, cache: &Arc<Cache>) -> TableFile {
    TableFile {
        name: content.path.clone(),
        columns: content.columns.clone(),
        disk: disk.clone(),
        dir: dir.to_path_buf(),
        cache: cache.clone(),
        retired: AtomicBool::new(false),
        reading: Mutex::default(),
    }
}

/// The file of a content, as a name below the data directory.
pub fn lookup_file(content: &LookupContent) -> PathBuf {
    paths::lookup_dir(Path::new("")).join(&content.path)
}

/// Puts a content in the place of what a table has, in a data directory that no server holds. When this returns, it survives a power cut;
/// after an error or a crash the table has what it had, or all of the new content.
pub fn replace_lookup(
    root: &Path,
    disk: &dyn Disk,
    metastore: &Metastore,
    project: ProjectId,
    id: &str,
    table: &LookupTable,
    by: ReplacedBy<'_>,
) -> Result<(), ReplaceError> {
    let dir = paths::lookup_dir(root);
    disk.create_dir_all(&dir).map_err(StoreError::from)?;
    let bytes = encode(table)?;
    // A file that some snapshot still reads is there, so that no name comes twice.
    let names = disk.list(&dir).map_err(StoreError::from)?;
    let number = names.iter().filter_map(|name| paths::lookup_number(name)).max().map_or(0, |last| last + 1);
    let name = paths::lookup(id, number);
    write_file(disk, &dir, &name, &bytes)?;
    let content = LookupContent {
        path: name,
        rows: table.rows() as i64,
        bytes: bytes.len() as i64,
        columns: table.columns().iter().map(|column| column.name.clone()).collect(),
    };
    let outcome = metastore.replace_lookup_table(project, id, &content, by);
    if outcome.is_err() {
        let _ = disk.remove(&dir.join(&content.path));
    }
    Ok(outcome?)
}

impl Store {
    /// As [`replace_lookup`], on a store that is open: queries that begin afterwards see the new content, those that run the old one.
    pub fn replace_lookup(&self, project: ProjectId, id: &str, table: &LookupTable, by: ReplacedBy<'_>) -> Result<(), ReplaceError> {
        let _replacing = self.shared.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let options = &self.shared.options;
        replace_lookup(&options.dir, &*options.disk, &self.shared.metastore, project, id, table, by)?;
        Ok(self.follow_joins(project)?)
    }

    /// Reads again what the metastore says of a project's group keys and lookup tables; called before a change of them is answered.
    pub fn follow_joins(&self, project: ProjectId) -> Result<(), StoreError> {
        // What was read first is put in place first.
        let _following = self.shared.following.lock().unwrap_or_else(PoisonError::into_inner);
        let (options, metastore) = (&self.shared.options, &self.shared.metastore);
        let rows = metastore.lookup_tables(project)?;
        let keys = metastore.group_keys(project)?.into_iter().map(|key| key.key).collect();
        let hash_key = metastore.project_hash_key(project)?;
        let dir = paths::lookup_dir(&options.dir);
        let replaced = {
            let mut state = self.shared.lock();
            let project = state.projects.entry(project).or_insert_with(|| ProjectState { hash_key, ..ProjectState::default() });
            let new = Joins::of(&rows, keys, &project.joins, |content| file(content, &options.disk, &dir, &self.shared.lookups));
            std::mem::replace(&mut project.joins, Arc::new(new))
        };
        for file in &replaced.files {
            let is_live = rows.iter().filter_map(|row| row.content.as_ref()).any(|content| content.path == file.name);
            file.retired.fetch_or(!is_live, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use model::Value;
    use model::lookup::LookupBuilder;

    use super::*;

    fn table(rows: &[(&str, Cell)]) -> LookupTable {
        let mut builder = LookupBuilder::new(["a", "é"].into_iter());
        for (number, (key, cell)) in rows.iter().enumerate() {
            builder.push(number as u32 + 1, key, [*key, "x"].into_iter(), |_| cell.clone()).unwrap();
        }
        builder.finish()
    }

    #[test]
    fn a_table_comes_back_from_its_file() {
        let table = table(&[
            ("k", Cell::Value(Value::from("text"))),
            ("j", Cell::Undefined),
            ("", Cell::Datetime(-5)),
            ("i", Cell::Value(Value::from(1.5))),
            ("h", Cell::Value(Value::Bool(true))),
            ("g", Cell::Value(Value::List(vec![Value::from("x")]))),
        ]);
        let bytes = encode(&table).unwrap();
        let plain = zstd::decode_all(checked(&bytes).unwrap()).unwrap();
        assert_eq!(decode(&plain).unwrap(), table);
        for at in 0..plain.len() {
            assert!(decode(&plain[..at]).is_err(), "cut at {at}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(checked(&damaged).is_none(), "a bit of byte {at}");
        }
    }

    #[test]
    fn what_is_wanted_most_stays_in_memory() {
        let cache = Cache::default();
        let big = Arc::new(table(&[("k", Cell::Value(Value::String("x".repeat(50 * 1024 * 1024))))]));
        for name in ["a", "b"] {
            cache.put(name, &big);
        }
        assert!(cache.get("a").is_some());
        cache.put("c", &big);
        assert!(cache.get("b").is_none() && cache.get("a").is_some() && cache.get("c").is_some(), "`b` was not wanted for longest");
        cache.forget("a");
        assert!(cache.get("a").is_none());
    }
}
