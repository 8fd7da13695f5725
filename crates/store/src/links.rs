//! Which ids are one user. Links are derived from the events themselves, in the order of the log: the first of several that contradict each
//! other holds, whenever their events happened. So a replay makes the same links again, and no link stands without its event.
//!
//! Ids form trees, an id's parent being whom it was linked to; the root is the id that reports and exports show. Nothing is ever unlinked,
//! and every link has a number: a snapshot looks only at those that were there when it was taken, so that nothing is copied for it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use model::identity::{Claim, DEVICE, is_made_up};

use crate::dedup;

/// Ids that verbs may link to one user.
const CLUSTER_IDS_MAX: u32 = 500;

/// A link that was made, with all that makes it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub kind: LinkKind,
    pub from: LinkedId,
    /// Whose id shows from now on, unless that one is linked itself.
    pub to: Arc<str>,
}

/// What made a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkKind {
    Device,
    Identify,
    Alias,
    Merge,
}

/// The id that is linked to another. Nobody asks for the text of a device's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkedId {
    Key(u128),
    Text(Arc<str>),
}

/// Why a link is not made, in the words of the original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub kind: LinkKind,
    pub reason: &'static str,
    pub description: String,
}

/// What becomes of a claim.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It says what is known.
    Known,
    /// It says something new.
    New(Link),
    /// It contradicts what is known, or asks for too much.
    Refused(Failure),
}

/// A hash under the project's key: as good as any other hash already.
#[derive(PartialEq, Eq, Clone, Copy)]
struct Id([u64; 2]);

impl Id {
    fn of(user: u128) -> Self {
        Self([user as u64, (user >> 64) as u64])
    }
}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

const NONE: u32 = u32::MAX;

/// An id that takes part in a link.
struct Node {
    /// Whom it is linked to; `NONE`: nobody.
    parent: u32,
    /// The number of that link.
    since: u32,
    /// The ids that are linked to it, it among them, while nobody is its parent.
    size: u32,
    /// Its text; `NONE` for a device.
    name: u32,
    /// The next id of the same user, in a ring.
    next: u32,
    /// Whether its user's profile is its own: a device that was linked keeps its own.
    shares_profile: bool,
    was_anonymous: bool,
    was_alias: bool,
}

/// The links of one project.
#[derive(Default)]
pub(crate) struct Links {
    hash_key: [u8; 16],
    places: HashMap<Id, u32, BuildHasherDefault<AsItIs>>,
    nodes: Vec<Node>,
    /// Ids that can show, with their keys.
    names: Vec<(u128, Arc<str>)>,
    count: u32,
    shares_profiles: bool,
}

/// The links of one project, shared by what adds to them and by snapshots.
#[derive(Clone, Default)]
pub(crate) struct SharedLinks(Arc<RwLock<Links>>);

impl SharedLinks {
    pub(crate) fn new(hash_key: [u8; 16]) -> Self {
        Self(Arc::new(RwLock::new(Links { hash_key, ..Links::default() })))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Links> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Links> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first `count` links.
    pub(crate) fn first(&self, count: u32) -> LinksView {
        LinksView { links: self.clone(), count }
    }
}

impl Links {
    /// How many links there are: the number of the next.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    fn key(&self, id: &str) -> u128 {
        dedup::user(&self.hash_key, id)
    }

    fn device_key(&self, device: &str) -> u128 {
        self.key(&[DEVICE, device].concat())
    }

    fn find(&self, key: u128) -> Option<u32> {
        self.places.get(&Id::of(key)).copied()
    }

    /// The root of an id among the first `count` links.
    fn root(&self, mut at: u32, count: u32) -> u32 {
        loop {
            let node = &self.nodes[at as usize];
            if node.parent == NONE || node.since >= count {
                return at;
            }
            at = node.parent;
        }
    }

    fn size(&self, at: Option<u32>) -> u32 {
        at.map_or(1, |at| self.nodes[self.root(at, self.count) as usize].size)
    }

    /// What would become of a claim.
    pub(crate) fn judge(&self, claim: &Claim<'_>) -> Verdict {
        let (kind, from, to): (_, &str, &str) = match claim {
            Claim::Device { device, user } => return self.judge_device(device, user),
            Claim::Identify { anonymous, identified } => (LinkKind::Identify, anonymous, identified),
            Claim::Alias { alias, of } => (LinkKind::Alias, alias, of),
            Claim::Merge { first, second } => (LinkKind::Merge, second, first),
        };
        let refused = |reason, description| Verdict::Refused(Failure { kind, reason, description });
        if from == to {
            return match kind {
                LinkKind::Identify => refused("errSameIDs", format!("Identified and anon ID are same in the identify request {from}")),
                _ => Verdict::Known,
            };
        }
        if kind == LinkKind::Identify && !is_made_up(from) {
            return refused("errAnonDistinctIdNonGUIDForm", format!("$anon_distinct_id didn't match expected GUID pattern: {from}"));
        }
        let (from_at, to_at) = (self.find(self.key(from)), self.find(self.key(to)));
        if self.are_one(from_at, to_at) {
            return Verdict::Known;
        }
        match (kind, from_at.map(|at| &self.nodes[at as usize])) {
            (LinkKind::Identify, Some(node)) if node.was_anonymous => {
                return refused("errAnonDistinctIdAssignedAlready", format!("$anon_distinct_id already identified: {from}"));
            }
            (LinkKind::Alias, Some(node)) if node.was_alias => {
                return refused("errAliasAlreadyExists", "alias already exists with the id".to_owned());
            }
            _ => {}
        }
        let size = self.size(from_at).saturating_add(self.size(to_at));
        if size > CLUSTER_IDS_MAX {
            let text = format!("too many distinctIDs mapped together, Cluster size: {size} Max limit: {CLUSTER_IDS_MAX}");
            return refused("errManyIDs", text);
        }
        Verdict::New(Link { kind, from: LinkedId::Text(from.into()), to: self.name(to_at).unwrap_or_else(|| to.into()) })
    }

    fn judge_device(&self, device: &str, user: &str) -> Verdict {
        let from = self.device_key(device);
        let (from_at, to_at) = (self.find(from), self.find(self.key(user)));
        if self.are_one(from_at, to_at) {
            return Verdict::Known;
        }
        // A device that others are linked to is taken as well.
        if self.size(from_at) > 1 {
            let description = String::new();
            return Verdict::Refused(Failure { kind: LinkKind::Device, reason: "errAnonDistinctIdAssignedAlready", description });
        }
        Verdict::New(Link { kind: LinkKind::Device, from: LinkedId::Key(from), to: self.name(to_at).unwrap_or_else(|| user.into()) })
    }

    fn are_one(&self, a: Option<u32>, b: Option<u32>) -> bool {
        a.zip(b).is_some_and(|(a, b)| self.root(a, self.count) == self.root(b, self.count))
    }

    fn name(&self, at: Option<u32>) -> Option<Arc<str>> {
        let name = self.nodes[at? as usize].name;
        self.names.get(name as usize).map(|(_, name)| name.clone())
    }

    /// Makes a link that was found to be new, or is made again.
    pub(crate) fn add(&mut self, link: &Link) {
        let from = match &link.from {
            LinkedId::Key(key) => self.node(*key, None),
            LinkedId::Text(text) => self.node(self.key(text), Some(text)),
        };
        let to = self.node(self.key(&link.to), Some(&link.to));
        let shares_profile = link.kind != LinkKind::Device;
        let node = &mut self.nodes[from as usize];
        node.was_anonymous |= link.kind == LinkKind::Identify;
        node.was_alias |= link.kind == LinkKind::Alias;
        let (lower, upper) = (self.root(from, self.count), self.root(to, self.count));
        if lower == upper {
            return;
        }
        let size = self.nodes[lower as usize].size;
        self.nodes[upper as usize].size += size;
        let (ring_a, ring_b) = (self.nodes[lower as usize].next, self.nodes[upper as usize].next);
        self.nodes[upper as usize].next = ring_a;
        let node = &mut self.nodes[lower as usize];
        (node.parent, node.since, node.shares_profile, node.next) = (upper, self.count, shares_profile, ring_b);
        self.shares_profiles |= shares_profile;
        self.count += 1;
    }

    fn node(&mut self, key: u128, text: Option<&Arc<str>>) -> u32 {
        let next = self.nodes.len() as u32;
        let at = *self.places.entry(Id::of(key)).or_insert(next);
        if at == next {
            self.nodes.push(Node {
                parent: NONE,
                since: NONE,
                size: 1,
                name: NONE,
                next: at,
                shares_profile: false,
                was_anonymous: false,
                was_alias: false,
            });
        }
        let node = &mut self.nodes[at as usize];
        if let Some(text) = text.filter(|_| node.name == NONE) {
            node.name = self.names.len() as u32;
            self.names.push((key, text.clone()));
        }
        at
    }

    /// Whether any id has its profile with another.
    pub(crate) fn shares_profiles(&self) -> bool {
        self.shares_profiles
    }

    /// Whose profile an id's is; `None`: its own.
    pub(crate) fn profile_owner(&self, id: &str, count: u32) -> Option<Arc<str>> {
        let at = self.find(self.key(id))?;
        let owner = self.profile_root(at, count);
        if owner == at { None } else { self.name(Some(owner)) }
    }

    fn profile_root(&self, mut at: u32, count: u32) -> u32 {
        loop {
            let node = &self.nodes[at as usize];
            if node.parent == NONE || node.since >= count || !node.shares_profile {
                return at;
            }
            at = node.parent;
        }
    }

    /// All ids that have their profile with `id` now, itself among them.
    pub(crate) fn profile_ids(&self, id: &str) -> Vec<Arc<str>> {
        let Some(start) = self.find(self.key(id)) else { return Vec::new() };
        let owner = self.profile_root(start, self.count);
        let (mut ids, mut at) = (Vec::new(), start);
        loop {
            ids.extend(self.name(Some(at)).filter(|_| self.profile_root(at, self.count) == owner));
            at = self.nodes[at as usize].next;
            if at == start {
                return ids;
            }
        }
    }
}

/// The links that were there at some moment.
#[derive(Clone, Default)]
pub(crate) struct LinksView {
    links: SharedLinks,
    count: u32,
}

/// Rows that belong to another id than their own, and which.
pub(crate) type Moved = Vec<(Range<usize>, Arc<str>)>;

impl LinksView {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Puts in every user's place whom it is linked to. Returns which rows that changed, where `names` asks for it. One look-up for each run
    /// of equal users.
    pub(crate) fn resolve(&self, users: &mut [u128], names: bool) -> Moved {
        let mut moved = Moved::new();
        if self.is_empty() {
            return moved;
        }
        let links = self.links.read();
        let mut start = 0;
        while let Some(user) = users.get(start).copied() {
            let end = start + users[start..].iter().take_while(|other| **other == user).count();
            let root = links.find(user).map(|at| (at, links.root(at, self.count)));
            if let Some((_, root)) = root.filter(|(at, root)| at != root)
                && let Some((key, name)) = links.names.get(links.nodes[root as usize].name as usize)
            {
                users[start..end].fill(*key);
                if names {
                    moved.push((start..end, name.clone()));
                }
            }
            start = end;
        }
        moved
    }

    /// See [`Links::profile_owner`].
    pub(crate) fn profile_owner(&self, id: &str) -> Option<Arc<str>> {
        if self.is_empty() { None } else { self.links.read().profile_owner(id, self.count) }
    }

    pub(crate) fn shares_profiles(&self) -> bool {
        !self.is_empty() && self.links.read().shares_profiles()
    }
}
