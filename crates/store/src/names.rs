//! Which names occur in rows that are sealed, or will be: what the lexicon counts. The counts of sealed rows go into the transaction that
//! seals them; those of the tail are taken when somebody asks. So they are exact at any moment, and no writer waits for them.

use arrow::array::{Array, BinaryArray, Int64Array};
use metastore::{LexiconEntry, SeenName};
use model::{Event, NameKind, ProfileUpdate, ProjectId, Seen, Timestamp, Value, ValueTypes};
use rustc_hash::FxHashMap;

use crate::batch::fixed;
use crate::error::StoreError;
use crate::record::Reader;
use crate::schema::{self, Kind};
use crate::snapshot::Snapshot;
use crate::tail::{Content, Packed, Part};
use crate::{Store, tail};

/// Names with what was seen of each.
#[derive(Default)]
pub(crate) struct Names([FxHashMap<String, Seen>; 3]);

impl Names {
    /// What lies in the parts of a snapshot and its profile updates behind a record of the log.
    pub(crate) fn behind(snapshot: &Snapshot, through: u64) -> Result<Self, StoreError> {
        let mut names = Self::default();
        for part in snapshot.parts().filter(|part| part.seq_min > through) {
            names.add_part(part)?;
        }
        snapshot.updates_behind(through).for_each(|update| names.add_update(update));
        Ok(names)
    }

    /// The names as those of a project.
    pub(crate) fn of(self, project: ProjectId) -> impl Iterator<Item = SeenName> {
        let of_kind = move |(kind, names): (NameKind, FxHashMap<String, Seen>)| {
            names.into_iter().map(move |(name, seen)| SeenName { project, kind, name, seen })
        };
        NameKind::ALL.into_iter().zip(self.0).flat_map(of_kind)
    }

    fn add(&mut self, kind: NameKind, name: &str, seen: Seen) {
        let names = &mut self.0[kind as usize];
        match names.get_mut(name) {
            Some(known) => known.add(seen),
            None => drop(names.insert(name.to_owned(), seen)),
        }
    }

    fn add_part(&mut self, part: &Part) -> Result<(), StoreError> {
        match &part.content {
            Content::Fresh(rows) => rows.iter().for_each(|tail::Row { event, .. }| self.add_event(event)),
            Content::Packed(packed) => self.add_packed(packed)?,
        }
        Ok(())
    }

    fn add_event(&mut self, event: &Event) {
        let at = event.received_at;
        self.add(NameKind::Event, &event.name, Seen::new(ValueTypes::default(), at, 1));
        for (name, value) in &event.properties {
            self.add(NameKind::EventProperty, name, Seen::new(ValueTypes::of(value), at, 1));
        }
    }

    fn add_update(&mut self, update: &ProfileUpdate) {
        for (name, types) in update.op.written() {
            self.add(NameKind::ProfileProperty, name, Seen::new(types, update.received_at, 1));
        }
    }

    /// What columns say: a name costs as many steps as it has values, and no look-up for each.
    fn add_packed(&mut self, packed: &Packed) -> Result<(), StoreError> {
        let received: &Int64Array = fixed(&packed.batch, schema::RECEIVED_AT)?;
        let times = received.values();
        let seen = |types, rows: &mut dyn Iterator<Item = usize>| {
            let mut all: Option<Seen> = None;
            for row in rows {
                let one = Seen::new(types, Timestamp(times[row]), 1);
                match &mut all {
                    Some(all) => all.add(one),
                    None => all = Some(one),
                }
            }
            all
        };
        for (event, rows) in &packed.events {
            let rows = &mut (rows.start as usize..rows.end as usize);
            seen(ValueTypes::default(), rows).into_iter().for_each(|seen| self.add(NameKind::Event, event, seen));
        }
        let schema = packed.batch.schema();
        for (field, column) in schema.fields().iter().zip(packed.batch.columns()) {
            if field.name() == schema::SPILLED {
                for (row, bytes) in values_of(column)? {
                    let properties = Reader { bytes }.properties(0).map_err(malformed)?;
                    for (name, value) in &properties {
                        self.add(NameKind::EventProperty, name, Seen::new(ValueTypes::of(value), Timestamp(times[row]), 1));
                    }
                }
                continue;
            }
            let Some((kind, name)) = schema::property_of(field.name()) else { continue };
            let types = match kind {
                Kind::Text => ValueTypes::STRING,
                Kind::Int | Kind::Float => ValueTypes::NUMBER,
                Kind::Bool => ValueTypes::BOOLEAN,
                Kind::Other => {
                    for (row, bytes) in values_of(column)? {
                        let value: Value = Reader { bytes }.value(0).map_err(malformed)?;
                        self.add(NameKind::EventProperty, name, Seen::new(ValueTypes::of(&value), Timestamp(times[row]), 1));
                    }
                    continue;
                }
            };
            let found = match column.nulls() {
                Some(nulls) => seen(types, &mut nulls.valid_indices()),
                None => seen(types, &mut (0..column.len())),
            };
            found.into_iter().for_each(|seen| self.add(NameKind::EventProperty, name, seen));
        }
        Ok(())
    }
}

fn malformed(error: crate::record::Malformed) -> StoreError {
    StoreError::Io(error.to_string())
}

/// The rows that have bytes in a column, with them.
fn values_of(column: &dyn Array) -> Result<impl Iterator<Item = (usize, &[u8])>, StoreError> {
    let column = column.as_any().downcast_ref::<BinaryArray>();
    let column = column.ok_or_else(|| StoreError::Io("a column of bytes is none".to_owned()))?;
    Ok(column.iter().enumerate().filter_map(|(row, bytes)| Some((row, bytes?))))
}

impl Store {
    /// The lexicon of a project at this moment: what the metastore counted, and what is not sealed yet. Blocking.
    pub fn lexicon(&self, project: ProjectId) -> Result<Vec<LexiconEntry>, StoreError> {
        // In this order: what is sealed between the two is counted there, and left out here.
        let snapshot = self.snapshot(project)?;
        let (mut entries, through) = self.shared.metastore.lexicon(project)?;
        if !self.shared.options.counts_names {
            return Ok(entries);
        }
        let mut places: FxHashMap<(NameKind, String), usize> =
            entries.iter().enumerate().map(|(at, entry)| ((entry.kind, entry.name.clone()), at)).collect();
        let mut counts = NameKind::ALL.map(|kind| entries.iter().filter(|entry| entry.kind == kind && !entry.name.is_empty()).count());
        for SeenName { kind, name, seen, .. } in Names::behind(&snapshot, through)?.of(project) {
            let most = if kind == NameKind::Event { metastore::EVENT_NAMES_MAX } else { metastore::PROPERTY_NAMES_MAX };
            let mut place = places.get(&(kind, name.clone())).copied();
            let is_beyond = place.is_none() && counts[kind as usize] as i64 >= most;
            let name = if is_beyond { String::new() } else { name };
            place = place.or_else(|| places.get(&(kind, name.clone())).copied());
            match place {
                Some(at) => match &mut entries[at].seen {
                    Some(known) => known.add(seen),
                    none => *none = Some(seen),
                },
                None => {
                    counts[kind as usize] += usize::from(!is_beyond);
                    places.insert((kind, name.clone()), entries.len());
                    entries.push(LexiconEntry::seen(kind, name, seen));
                }
            }
        }
        Ok(entries)
    }
}
