//! Who is in a group: the replicated member table.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use raftwerk_raft::codec::DecodeError;
use raftwerk_raft::codec::wire::{Reader, put_bytes, put_u64, put_varint};
use raftwerk_raft::{ConfState, NodeId};

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

    fn encode_to(&self, out: &mut Vec<u8>) {
        put_varint(out, self.id.0);
        put_u128(out, self.incarnation.0);
        for urls in [&self.peer_urls, &self.client_urls] {
            put_varint(out, urls.len() as u64);
            urls.iter().for_each(|url| put_bytes(out, url.as_bytes()));
        }
        put_bytes(out, self.name.as_bytes());
    }

    fn read(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            id: input.node()?,
            incarnation: Incarnation(read_u128(input)?),
            peer_urls: input.list(1, read_text)?,
            client_urls: input.list(1, read_text)?,
            name: read_text(input)?,
        })
    }
}

pub(crate) fn put_u128(out: &mut Vec<u8>, value: u128) {
    put_u64(out, (value >> 64) as u64);
    put_u64(out, value as u64);
}

pub(crate) fn read_u128(input: &mut Reader) -> Result<u128, DecodeError> {
    let high = input.u64()?;
    Ok((u128::from(high) << 64) | u128::from(input.u64()?))
}

fn read_text(input: &mut Reader) -> Result<String, DecodeError> {
    let text = String::from_utf8(input.bytes()?.to_vec());
    text.map_err(|_| DecodeError::Invalid {
        reason: "text is not utf-8",
    })
}

/// No encoded member is shorter.
const MEMBER_BYTES_MIN: usize = 20;
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
        let mut out = vec![TABLE_VERSION];
        put_varint(&mut out, self.members.len() as u64);
        for member in self.members.values() {
            member.encode_to(&mut out);
        }
        out.into()
    }

    /// Reads what [`MemberTable::encode`] wrote; no bytes are an empty table.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Ok(Self::new());
        }
        let members = Reader::whole(bytes.clone(), |input| {
            input.version("member table", TABLE_VERSION)?;
            input.list(MEMBER_BYTES_MIN, Member::read)
        })?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> MemberTable {
        let member = Member {
            id: NodeId(1),
            incarnation: Incarnation(u128::MAX - 7),
            peer_urls: vec!["http://127.0.0.1:2380".into()],
            client_urls: vec!["http://127.0.0.1:2379".into(), "http://[::1]:2379".into()],
            name: "first".into(),
        };
        [member, Member::new(NodeId(2))].into_iter().collect()
    }

    #[test]
    fn member_table_comes_back_from_its_bytes_and_cut_bytes_are_refused() {
        let bytes = table().encode();
        assert_eq!(MemberTable::decode(&bytes), Ok(table()));
        for len in 1..bytes.len() {
            assert!(MemberTable::decode(&bytes.slice(..len)).is_err(), "{len}");
        }
        assert_eq!(MemberTable::decode(&Bytes::new()), Ok(MemberTable::new()));
    }

    #[test]
    fn member_table_keeps_its_bytes() {
        let expected = b"\x01\x02\x01\xff\xff\xff\xff\xff\xff\xff\xff\
            \xf8\xff\xff\xff\xff\xff\xff\xff\
            \x01\x15http://127.0.0.1:2380\
            \x02\x15http://127.0.0.1:2379\x11http://[::1]:2379\x05first\
            \x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(table().encode(), expected.as_slice());
    }

    #[test]
    fn update_takes_new_records_and_forgets_who_is_in_no_list() {
        let mut members = table();
        let third = Member {
            name: "third".into(),
            ..Member::new(NodeId(3))
        };
        let conf = ConfState {
            voters: vec![NodeId(1)],
            learners: vec![NodeId(3)],
            voters_outgoing: vec![NodeId(4)],
            ..ConfState::default()
        };
        members.update(&[third.clone()].into_iter().collect(), &conf);
        let ids: Vec<u64> = members.iter().map(|member| member.id.0).collect();
        assert_eq!(ids, [1, 3, 4]);
        assert_eq!(members.member(NodeId(3)), Some(&third));
    }
}
