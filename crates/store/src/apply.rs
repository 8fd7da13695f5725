//! What becomes of records once they are durable, in the order of the log: events link ids and join the tail, profile updates find the
//! profile that they change. A replay does the same again: nothing but the records and the links before them decides.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metastore::Metastore;
use model::{Event, ProfileKey, ProfileOp, ProfileUpdate, ProjectId, Timestamp, Value};

use crate::links::{Failure, Link, LinkKind, SharedLinks, Verdict};
use crate::log::{Applied, Payload};
use crate::tail::Part;
use crate::{ProjectState, State, lock};

/// Applies records to the state of a store.
pub(crate) struct Applier {
    pub state: Arc<Mutex<State>>,
    pub metastore: Arc<Metastore>,
    pub tail_rows: Arc<AtomicU64>,
    pub fresh_rows: Arc<AtomicU64>,
}

/// A record that is ready to become visible.
struct Ready {
    seq: u64,
    project: ProjectId,
    received_at: Option<Timestamp>,
    content: Content,
    links: Vec<(u64, Link)>,
    links_count: u32,
}

enum Content {
    Events(Part),
    Profiles(Vec<ProfileUpdate>),
}

impl Applier {
    pub(crate) fn apply(&self, records: Vec<Applied>) {
        // Hashing and linking need no lock of the state: a link shows once its record does.
        let mut known: HashMap<ProjectId, ([u8; 16], SharedLinks)> = HashMap::new();
        let mut prepared = Vec::with_capacity(records.len());
        for Applied { seq, project, payload } in records {
            let (hash_key, links) = match known.entry(project) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(self.project(project)),
            };
            let mut made = Vec::new();
            let (received_at, content) = match payload {
                Payload::Events(mut events) => {
                    let received_at = events.last().map(|event| event.received_at);
                    made = link(links, seq, &mut events);
                    (received_at, Content::Events(Part::fresh(hash_key, seq, events)))
                }
                Payload::Profiles(updates) => {
                    let received_at = updates.last().map(|update| update.received_at);
                    (received_at, Content::Profiles(owned(links, updates)))
                }
            };
            let links_count = links.read().count();
            prepared.push(Ready { seq, project, received_at, content, links: made, links_count });
        }
        let mut state = lock(&self.state);
        for Ready { seq, project, received_at, content, links, links_count } in prepared {
            state.last_seq = seq;
            state.received_at = received_at.unwrap_or(state.received_at);
            let project = state.projects.entry(project).or_default();
            project.links_count = links_count;
            project.unsealed_links.extend(links);
            match content {
                Content::Events(part) => {
                    self.tail_rows.fetch_add(part.rows() as u64, Ordering::Relaxed);
                    self.fresh_rows.fetch_add(part.rows() as u64, Ordering::Relaxed);
                    project.push(part);
                }
                Content::Profiles(updates) => {
                    self.tail_rows.fetch_add(updates.len() as u64, Ordering::Relaxed);
                    project.updates.push(Arc::new((seq, updates)));
                }
            }
        }
    }

    fn project(&self, project: ProjectId) -> ([u8; 16], SharedLinks) {
        let of = |live: &ProjectState| (live.hash_key, live.links.clone());
        if let Some(live) = lock(&self.state).projects.get(&project) {
            return of(live);
        }
        // A project's key is made with the project, before any event can name it.
        let hash_key = self.metastore.project_hash_key(project).unwrap_or_default();
        of(lock(&self.state).projects.entry(project).or_insert_with(|| ProjectState::new(hash_key)))
    }
}

/// Makes the links that events ask for, and notes in an event why its own is not made.
fn link(links: &SharedLinks, seq: u64, events: &mut [Event]) -> Vec<(u64, Link)> {
    let mut made = Vec::new();
    for event in events {
        let Some(claim) = event.claim() else { continue };
        // Mostly an event says what is known, and readers are not kept waiting for it.
        let verdict = links.read().judge(&claim);
        match verdict {
            Verdict::Known => {}
            Verdict::New(link) => {
                links.write().add(&link);
                made.push((seq, link));
            }
            Verdict::Refused(failure) => note(event, failure),
        }
    }
    made
}

fn note(event: &mut Event, failure: Failure) {
    let mut put = |name: &str, text: &str| drop(event.properties.insert(name.to_owned(), Value::from(text)));
    if failure.kind == LinkKind::Device {
        return put("$identity_failure_reason", failure.reason);
    }
    put("$failure_reason", failure.reason);
    put("$failure_description", &failure.description);
}

/// Profile updates under the keys of the profiles that they change. What its owner deletes for good is deleted under every id.
fn owned(links: &SharedLinks, updates: Vec<ProfileUpdate>) -> Vec<ProfileUpdate> {
    let links = links.read();
    if !links.shares_profiles() {
        return updates;
    }
    let mut owned = Vec::with_capacity(updates.len());
    for mut update in updates {
        if let ProfileKey::User(id) = &update.key
            && !update.ignore_alias
        {
            if update.authenticated && matches!(update.op, ProfileOp::Delete) {
                let ids = links.profile_ids(id);
                let others = ids.into_iter().filter(|other| other != id);
                owned.extend(others.map(|other| ProfileUpdate { key: ProfileKey::User(other.to_owned()), ..update.clone() }));
            } else if let Some(owner) = links.profile_owner(id, links.count()) {
                update.key = ProfileKey::User(owner.to_owned());
            }
        }
        owned.push(update);
    }
    owned
}
