//! Segments of links: those that a seal found among the events it sealed, made live with them, and whole runs of them merged. Read once,
//! when the store is opened, in the order of the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use metastore::SegmentKind;
use model::ProjectId;

use crate::error::StoreError;
use crate::links::{Link, LinkKind, LinkedId};
use crate::record::{self, Malformed, Reader};
use crate::seal::{COMPACT_SEGMENTS, Plain, Written, span};
use crate::segment::SegmentFile;
use crate::{ProjectState, Shared, paths};

const DEVICE: u8 = 1;
const IDENTIFY: u8 = 2;
const ALIAS: u8 = 3;
const MERGE: u8 = 4;

/// Links as the bytes of a file: packed, with a checksum behind.
pub(crate) fn encode<'l>(links: impl IntoIterator<Item = &'l Link>) -> Result<Vec<u8>, StoreError> {
    let mut plain = Vec::new();
    for Link { kind, from, to } in links {
        plain.push(match kind {
            LinkKind::Device => DEVICE,
            LinkKind::Identify => IDENTIFY,
            LinkKind::Alias => ALIAS,
            LinkKind::Merge => MERGE,
        });
        match from {
            LinkedId::Key(key) => plain.extend(key.to_le_bytes()),
            LinkedId::Text(text) => record::put_text(&mut plain, text),
        }
        record::put_text(&mut plain, to);
    }
    let mut bytes = zstd::encode_all(plain.as_slice(), 1)?;
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    Ok(bytes)
}

/// Reads such a file.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Link>, Malformed> {
    let (body, checksum) = bytes.split_at_checked(bytes.len().saturating_sub(4)).ok_or(Malformed("it is too short"))?;
    if crc32fast::hash(body).to_le_bytes() != checksum {
        return Err(Malformed("the checksum does not fit"));
    }
    let plain = zstd::decode_all(body).map_err(|_| Malformed("it does not unpack"))?;
    let (mut reader, mut links) = (Reader { bytes: &plain }, Vec::new());
    while !reader.bytes.is_empty() {
        let kind = match reader.byte()? {
            DEVICE => LinkKind::Device,
            IDENTIFY => LinkKind::Identify,
            ALIAS => LinkKind::Alias,
            MERGE => LinkKind::Merge,
            _ => return Err(Malformed("unknown kind of link")),
        };
        let from = match kind {
            LinkKind::Device => LinkedId::Key(reader.u128()?),
            _ => LinkedId::Text(reader.string()?.into()),
        };
        links.push(Link { kind, from, to: reader.string()?.into() });
    }
    Ok(links)
}

fn read(segment: &SegmentFile) -> Result<Vec<Link>, StoreError> {
    let bytes = segment.disk.read(&segment.path())?;
    decode(&bytes).map_err(|error| StoreError::Corrupt { path: segment.path().display().to_string(), reason: error.to_string() })
}

impl ProjectState {
    /// Makes the links of all segments again.
    pub(crate) fn read_links(&mut self) -> Result<(), StoreError> {
        self.link_segments.sort_by_key(|segment| segment.seq_min);
        let mut links = self.links.write();
        for segment in &self.link_segments {
            read(segment)?.iter().for_each(|link| links.add(link));
        }
        self.links_count = links.count();
        Ok(())
    }

    /// The links of records up to one that are in no segment yet.
    pub(crate) fn links_through(&self, seq: u64) -> Vec<(u64, Link)> {
        self.unsealed_links.iter().take_while(|(made_by, _)| *made_by <= seq).cloned().collect()
    }
}

impl Shared {
    pub(crate) fn write_links<'l>(
        &self,
        project: ProjectId,
        level: i64,
        links: impl ExactSizeIterator<Item = &'l Link>,
        seqs: (u64, u64),
    ) -> Result<Written, StoreError> {
        let rows = links.len() as u64;
        let name = paths::links(project.0, seqs.0, seqs.1, self.next());
        self.write_plain(SegmentKind::Links, Plain { name, bytes: encode(links)?, level, rows, times: (0, 0), seqs })
    }

    /// Makes one segment of many where enough of one level have come together. Those of a level stand side by side in the log.
    pub(crate) fn compact_links(&self, project: ProjectId) -> Result<(), StoreError> {
        let mut levels: BTreeMap<i64, Vec<Arc<SegmentFile>>> = BTreeMap::new();
        if let Some(live) = self.lock().projects.get(&project) {
            live.link_segments.iter().for_each(|segment| levels.entry(segment.level).or_default().push(segment.clone()));
        }
        for (level, mut segments) in levels.into_iter().filter(|(_, segments)| segments.len() >= COMPACT_SEGMENTS) {
            segments.sort_by_key(|segment| segment.seq_min);
            let mut links = Vec::new();
            for segment in &segments {
                links.extend(read(segment)?);
            }
            let seqs = span(segments.iter().map(|segment| (segment.seq_min, segment.seq_max)));
            let written = self.write_links(project, level + 1, links.iter(), seqs)?;
            self.swap(project, segments, written)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Vec<Link> {
        vec![
            Link { kind: LinkKind::Device, from: LinkedId::Key(u128::MAX - 7), to: "é😀".into() },
            Link { kind: LinkKind::Identify, from: LinkedId::Text("a".into()), to: "b".into() },
            Link { kind: LinkKind::Alias, from: LinkedId::Text("".into()), to: "x".repeat(1000).into() },
            Link { kind: LinkKind::Merge, from: LinkedId::Text("c".into()), to: "b".into() },
        ]
    }

    #[test]
    fn links_come_back_as_they_were() {
        assert_eq!(decode(&encode(&links()).unwrap()).unwrap(), links());
        assert_eq!(decode(&encode(&[]).unwrap()).unwrap(), []);
    }

    #[test]
    fn a_damaged_file_is_noticed() {
        let bytes = encode(&links()).unwrap();
        for at in 0..bytes.len() {
            let mut bent = bytes.clone();
            bent[at] ^= 1;
            assert!(decode(&bent).is_err() && decode(&bytes[..at]).is_err(), "{at}");
        }
    }
}
