//! Which ids are one user. Links are derived from the events themselves, in the order of the log: the first of several that contradict each
//! other holds, whenever their events happened. So a replay makes the same links again, and no link stands without its event.
//!
//! Ids form trees, an id's parent being whom it was linked to; the root is the id that reports and exports show. Nothing is ever unlinked,
//! and every link has a number: a snapshot looks only at those that were there when it was taken, so that nothing is copied for it.

use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashTable;
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

const NONE: u32 = u32::MAX;

/// An id that takes part in a link. There may be very many: what it knows is packed.
struct Node {
    key: [u64; 2],
    /// Whom it is linked to; `NONE`: nobody.
    parent: u32,
    /// The number of that link; while there is none, how many ids are linked to it, it among them.
    since_or_size: u32,
    /// The next id of the same user, in a ring.
    next: u32,
    /// The number of its text; all ones for a device, whose text nobody asks for. The uppermost bits are flags.
    name_and_flags: u32,
}

/// Its profile is its user's: a device that is linked keeps its own.
const SHARES_PROFILE: u32 = 1 << 31;
const WAS_ANONYMOUS: u32 = 1 << 30;
const WAS_ALIAS: u32 = 1 << 29;
const NAME: u32 = WAS_ALIAS - 1;

impl Node {
    fn new(key: u128, at: u32) -> Self {
        Self { key: [key as u64, (key >> 64) as u64], parent: NONE, since_or_size: 1, next: at, name_and_flags: NAME }
    }

    fn key(&self) -> u128 {
        u128::from(self.key[0]) | u128::from(self.key[1]) << 64
    }

    fn has(&self, flag: u32) -> bool {
        self.name_and_flags & flag != 0
    }

    /// Whom it is linked to by the first `count` links.
    fn parent(&self, count: u32) -> Option<u32> {
        (self.parent != NONE && self.since_or_size < count).then_some(self.parent)
    }
}

/// Texts, one behind the other in pieces of memory.
#[derive(Default)]
struct Names {
    text: String,
    ends: Vec<u64>,
}

impl Names {
    fn get(&self, number: u32) -> Option<&str> {
        let end = *self.ends.get(number as usize)?;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before as usize]);
        self.text.get(start as usize..end as usize)
    }

    fn push(&mut self, text: &str) -> u32 {
        self.text.push_str(text);
        self.ends.push(self.text.len() as u64);
        self.ends.len() as u32 - 1
    }
}

/// The links of one project.
#[derive(Default)]
pub(crate) struct Links {
    hash_key: [u8; 16],
    /// Nodes by the first half of their keys, which are hashes already.
    places: HashTable<u32>,
    nodes: Vec<Node>,
    names: Names,
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
        self.places.find(key as u64, |at| self.nodes[*at as usize].key() == key).copied()
    }

    /// The root of an id among the first `count` links.
    fn root(&self, mut at: u32, count: u32) -> u32 {
        while let Some(parent) = self.nodes[at as usize].parent(count) {
            at = parent;
        }
        at
    }

    fn size(&self, at: Option<u32>) -> u32 {
        at.map_or(1, |at| self.nodes[self.root(at, self.count) as usize].since_or_size)
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
            (LinkKind::Identify, Some(node)) if node.has(WAS_ANONYMOUS) => {
                return refused("errAnonDistinctIdAssignedAlready", format!("$anon_distinct_id already identified: {from}"));
            }
            (LinkKind::Alias, Some(node)) if node.has(WAS_ALIAS) => {
                return refused("errAliasAlreadyExists", "alias already exists with the id".to_owned());
            }
            _ => {}
        }
        let size = self.size(from_at).saturating_add(self.size(to_at));
        if size > CLUSTER_IDS_MAX {
            let text = format!("too many distinctIDs mapped together, Cluster size: {size} Max limit: {CLUSTER_IDS_MAX}");
            return refused("errManyIDs", text);
        }
        Verdict::New(Link { kind, from: LinkedId::Text(from.into()), to: to.into() })
    }

    fn judge_device(&self, device: &str, user: &str) -> Verdict {
        let (from, to) = (self.device_key(device), self.key(user));
        let from_at = self.find(from);
        // Most events say what is known of a user whose id shows: one look-up tells.
        let is_known = |at| self.nodes[self.root(at, self.count) as usize].key() == to;
        if from_at.is_some_and(is_known) || self.are_one(from_at, self.find(to)) {
            return Verdict::Known;
        }
        // A device that others are linked to is taken as well.
        if self.size(from_at) > 1 {
            let description = String::new();
            return Verdict::Refused(Failure { kind: LinkKind::Device, reason: "errAnonDistinctIdAssignedAlready", description });
        }
        Verdict::New(Link { kind: LinkKind::Device, from: LinkedId::Key(from), to: user.into() })
    }

    fn are_one(&self, a: Option<u32>, b: Option<u32>) -> bool {
        a.zip(b).is_some_and(|(a, b)| self.root(a, self.count) == self.root(b, self.count))
    }

    fn name(&self, at: u32) -> Option<&str> {
        self.names.get(self.nodes[at as usize].name_and_flags & NAME)
    }

    /// Makes a link that was found to be new, or is made again.
    pub(crate) fn add(&mut self, link: &Link) {
        let from = match &link.from {
            LinkedId::Key(key) => self.node(*key, None),
            LinkedId::Text(text) => self.node(self.key(text), Some(text)),
        };
        let to = self.node(self.key(&link.to), Some(&link.to));
        let node = &mut self.nodes[from as usize];
        node.name_and_flags |= match link.kind {
            LinkKind::Identify => WAS_ANONYMOUS,
            LinkKind::Alias => WAS_ALIAS,
            LinkKind::Device | LinkKind::Merge => 0,
        };
        let (lower, upper) = (self.root(from, self.count) as usize, self.root(to, self.count) as usize);
        if lower == upper {
            return;
        }
        self.nodes[upper].since_or_size = self.nodes[upper].since_or_size.saturating_add(self.nodes[lower].since_or_size);
        let (ring_a, ring_b) = (self.nodes[lower].next, self.nodes[upper].next);
        self.nodes[upper].next = ring_a;
        let node = &mut self.nodes[lower];
        (node.parent, node.since_or_size, node.next) = (upper as u32, self.count, ring_b);
        if link.kind != LinkKind::Device {
            node.name_and_flags |= SHARES_PROFILE;
            self.shares_profiles = true;
        }
        self.count += 1;
    }

    /// The node of an id, made where there is none, with its text once that is known.
    fn node(&mut self, key: u128, text: Option<&str>) -> u32 {
        let at = self.find(key).unwrap_or_else(|| {
            let at = self.nodes.len() as u32;
            self.nodes.push(Node::new(key, at));
            let Self { places, nodes, .. } = self;
            places.insert_unique(key as u64, at, |at| nodes[*at as usize].key[0]);
            at
        });
        let node = &mut self.nodes[at as usize];
        if let Some(text) = text.filter(|_| node.name_and_flags & NAME == NAME) {
            node.name_and_flags = node.name_and_flags & !NAME | self.names.push(text);
        }
        at
    }

    /// Whether any id has its profile with another.
    pub(crate) fn shares_profiles(&self) -> bool {
        self.shares_profiles
    }

    /// Whose profile an id's is; `None`: its own.
    pub(crate) fn profile_owner(&self, id: &str, count: u32) -> Option<&str> {
        let at = self.find(self.key(id))?;
        let owner = self.profile_root(at, count);
        if owner == at { None } else { self.name(owner) }
    }

    fn profile_root(&self, mut at: u32, count: u32) -> u32 {
        while let Some(parent) = self.nodes[at as usize].parent(count).filter(|_| self.nodes[at as usize].has(SHARES_PROFILE)) {
            at = parent;
        }
        at
    }

    /// All ids that have their profile with `id` now, itself among them.
    pub(crate) fn profile_ids(&self, id: &str) -> Vec<&str> {
        let Some(start) = self.find(self.key(id)) else { return Vec::new() };
        let owner = self.profile_root(start, self.count);
        let (mut ids, mut at) = (Vec::new(), start);
        loop {
            ids.extend(self.name(at).filter(|_| self.profile_root(at, self.count) == owner));
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
            if let Some((_, root)) = root.filter(|(at, root)| at != root) {
                users[start..end].fill(links.nodes[root as usize].key());
                if names {
                    moved.push((start..end, links.name(root).unwrap_or_default().into()));
                }
            }
            start = end;
        }
        moved
    }

    /// See [`Links::profile_owner`].
    pub(crate) fn profile_owner(&self, id: &str) -> Option<Arc<str>> {
        if self.is_empty() { None } else { self.links.read().profile_owner(id, self.count).map(Arc::from) }
    }

    pub(crate) fn shares_profiles(&self) -> bool {
        !self.is_empty() && self.links.read().shares_profiles()
    }
}
