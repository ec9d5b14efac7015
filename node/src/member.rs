//! Who is in a group: the replicated member table.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use raftwerk_raft::{ConfState, NodeId};

use crate::wire::{DecodeError, Reader, Writer};

/// The uuid of the store that a member keeps its log in, bound to its id at first contact. A known
/// id with another one is a wiped disk, not a first start. Zero: not bound yet.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u128);

impl Incarnation {
    /// Not bound to a store yet.
    pub const UNBOUND: Self = Self(0);

    /// True until a store's uuid is bound.
    #[must_use]
    pub const fn is_unbound(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incarnation({self})")
    }
}

/// One member as the table records it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its id, never used twice.
    pub id: NodeId,
    /// The store it keeps its log in.
    pub incarnation: Incarnation,
    /// Where peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// A name for people.
    pub name: String,
}

impl Member {
    /// A member of which only the id is known.
    #[must_use]
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            ..Self::default()
        }
    }

    pub(crate) fn encode_to(&self, out: &mut Writer) {
        out.u64(self.id.0);
        out.u128(self.incarnation.0);
        out.count(self.peer_urls.len());
        for url in &self.peer_urls {
            out.bytes(url.as_bytes());
        }
        out.count(self.client_urls.len());
        for url in &self.client_urls {
            out.bytes(url.as_bytes());
        }
        out.bytes(self.name.as_bytes());
    }

    pub(crate) fn decode_from(input: &mut Reader) -> Result<Self, DecodeError> {
        let id = NodeId(input.u64()?);
        let incarnation = Incarnation(input.u128()?);
        let peer_urls = input.list(URLS_MAX, Reader::string)?;
        let client_urls = input.list(URLS_MAX, Reader::string)?;
        let name = input.string()?;
        Ok(Self {
            id,
            incarnation,
            peer_urls,
            client_urls,
            name,
        })
    }
}

/// Addresses of one kind that a member may have.
const URLS_MAX: usize = 64;
/// Members that a table may hold.
const MEMBERS_MAX: usize = 4096;
/// The first byte of an encoded table.
const TABLE_VERSION: u8 = 1;

/// The member table: travels in [`raftwerk_raft::ConfChange::context`] (the records of the members
/// that the change adds or updates) and in [`raftwerk_raft::SnapshotMeta::context`] (all of them).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberTable {
    members: BTreeMap<NodeId, Member>,
}

impl MemberTable {
    /// An empty table.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            members: BTreeMap::new(),
        }
    }

    /// The record of `id`.
    #[must_use]
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// All records, in order of id.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Sets a member's record.
    pub fn insert(&mut self, member: Member) {
        self.members.insert(member.id, member);
    }

    /// Takes over the records of `changed` and then forgets whoever has no place in `conf`; those
    /// of `conf` without a record get an empty one.
    pub fn update(&mut self, changed: &Self, conf: &ConfState) {
        for member in changed.iter() {
            self.insert(member.clone());
        }
        let lists = [
            &conf.voters,
            &conf.learners,
            &conf.voters_outgoing,
            &conf.learners_next,
        ];
        self.members
            .retain(|id, _| lists.iter().any(|list| list.contains(id)));
        for id in lists.into_iter().flatten() {
            self.members.entry(*id).or_insert_with(|| Member::new(*id));
        }
    }

    /// Its bytes, versioned.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        out.u8(TABLE_VERSION);
        out.count(self.members.len());
        for member in self.members.values() {
            member.encode_to(&mut out);
        }
        out.finish()
    }

    /// Reads what [`MemberTable::encode`] wrote; no bytes are an empty table.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Ok(Self::new());
        }
        let mut input = Reader::new(bytes.clone());
        input.version(TABLE_VERSION)?;
        let members = input.list(MEMBERS_MAX, Member::decode_from)?;
        input.end()?;
        Ok(members.into_iter().collect())
    }
}

impl FromIterator<Member> for MemberTable {
    fn from_iter<I: IntoIterator<Item = Member>>(members: I) -> Self {
        let mut table = Self::new();
        members.into_iter().for_each(|member| table.insert(member));
        table
    }
}
