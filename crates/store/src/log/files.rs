//! The files of the log. Each is named by the first sequence number that it may hold.
//!
//! A record: length, CRC32 of the rest, sequence number, project, kind, payload. What a file holds from the number on that the next file is
//! named by is void: the log went on there without it. A torn record ends what counts of a file; anywhere but before the first number of the
//! next file it is corruption.

use std::io;
use std::path::Path;

use model::ProjectId;

use super::{Applied, Apply};
use crate::disk::{self, Disk, DiskFile};
use crate::error::StoreError;
use crate::{paths, record};

/// Records of the last file that are not sealed, as they stand there. They were read, which does not prove that they are on the disk: a server
/// that was killed did not sync them all, and a sync that failed may have left them in memory only. Nothing may follow them before they are.
pub(super) struct Unproven {
    first_seq: u64,
    records: Vec<u8>,
}

/// What [`replay`] found.
pub(super) struct Replayed {
    /// The last record; 0: none.
    pub last: u64,
    pub unproven: Option<Unproven>,
}

pub(super) fn put_record(out: &mut Vec<u8>, seq: u64, project: ProjectId, body: &[u8]) {
    let start = out.len();
    out.extend([0; 8]);
    out.extend(seq.to_le_bytes());
    out.extend(project.0.to_le_bytes());
    out.extend(body);
    let len = (out.len() - start - 8) as u32;
    let checksum = crc32fast::hash(&out[start + 8..]);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
}

/// Makes an empty file for the records from `first_seq` on.
pub(super) fn create(disk: &dyn Disk, root: &Path, first_seq: u64) -> io::Result<Box<dyn DiskFile>> {
    let path = paths::log_file(root, first_seq);
    // A file of this name holds nothing that was acknowledged. It may have failed: it is not written again, not even from its start.
    if disk.exists(&path)? {
        disk.remove(&path)?;
    }
    let mut file = disk.create(&path)?;
    file.sync()?;
    #[cfg(not(sluice_mutant = "no_dir_sync"))]
    disk.sync_dir(&paths::log_dir(root))?;
    Ok(file)
}

/// Puts records into a file of their own, in the place of the one that they were read from; when this returns, they are on the disk.
pub(super) fn rewrite(disk: &dyn Disk, root: &Path, unproven: &Unproven) -> io::Result<()> {
    disk::write_whole(disk, &paths::log_dir(root), &paths::log_name(unproven.first_seq), &unproven.records)
}

/// The first numbers of all files, ascending.
pub(super) fn list(disk: &dyn Disk, root: &Path) -> io::Result<Vec<u64>> {
    let mut found: Vec<u64> = disk.list(&paths::log_dir(root))?.iter().filter_map(|name| paths::log_first_seq(name)).collect();
    found.sort_unstable();
    Ok(found)
}

/// Applies every record behind `sealed_through`, a file at a time.
pub(super) fn replay(disk: &dyn Disk, root: &Path, sealed_through: u64, apply: &Apply) -> Result<Replayed, StoreError> {
    let files = list(disk, root)?;
    let (mut last, mut unproven) = (0, None);
    for (index, first_seq) in files.iter().enumerate() {
        let path = paths::log_file(root, *first_seq);
        let corrupt = |reason: String| StoreError::Corrupt { path: path.display().to_string(), reason };
        let next = files.get(index + 1).copied();
        let bytes = disk.read(&path)?;
        let (mut records, mut kept) = (Vec::new(), Vec::new());
        let (mut rest, mut is_torn) = (bytes.as_slice(), false);
        while !rest.is_empty() {
            let Some((seq, project, body, after)) = take_record(rest) else {
                is_torn = true;
                break;
            };
            if next.is_some_and(|next| seq >= next) {
                break;
            }
            if seq <= last {
                return Err(corrupt(format!("record {seq} follows {last}")));
            }
            last = seq;
            if seq > sealed_through {
                let payload = record::decode(body).map_err(|error| corrupt(format!("record {seq}: {error}")))?;
                records.push(Applied { seq, project, payload });
                if next.is_none() {
                    kept.extend_from_slice(&rest[..rest.len() - after.len()]);
                }
            }
            rest = after;
        }
        // A torn record is where the power went or where the disk failed. A later file then starts behind it, with the next sequence number.
        if is_torn && next.is_some_and(|next| next != last + 1 && next != *first_seq) {
            return Err(corrupt(format!("a broken record behind {last}")));
        }
        if !kept.is_empty() {
            unproven = Some(Unproven { first_seq: *first_seq, records: kept });
        }
        #[cfg(sluice_mutant = "replay_skips_last")]
        if next.is_none_or(|_| files.get(index + 2).is_none()) {
            records.pop();
        }
        apply(records);
    }
    Ok(Replayed { last, unproven })
}

fn take_record(bytes: &[u8]) -> Option<(u64, ProjectId, &[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(8)?;
    let len = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
    let checksum = u32::from_le_bytes(head[4..].try_into().ok()?);
    if len < 17 {
        return None;
    }
    let (record, after) = rest.split_at_checked(len)?;
    if crc32fast::hash(record) != checksum {
        return None;
    }
    let seq = u64::from_le_bytes(record[..8].try_into().ok()?);
    let project = i64::from_le_bytes(record[8..16].try_into().ok()?);
    Some((seq, ProjectId(project), &record[16..], after))
}
