//! What the file holds beside entries, as the writer knows it: only what changes is written.

use std::collections::BTreeMap;

use raftwerk_raft::{GroupId, LogIndex};
use raftwerk_storage::image::GroupImage;
use raftwerk_storage::queue::GroupCommit;

use super::value::{Head, encode_doubt, encode_named, encode_snapshot, kind};

/// The records of all groups.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// The number of the last commit.
    pub(crate) commit: u64,
    /// The body of each record but the store's, by group and kind.
    pub(crate) records: BTreeMap<(u64, u8), Vec<u8>>,
    /// Up to where each group's head knows the log.
    pub(crate) known: BTreeMap<u64, LogIndex>,
}

/// What is to be done to the records of a group: their new bodies, or none where one goes.
pub(crate) type RecordChanges = Vec<((u64, u8), Option<Vec<u8>>)>;

impl Ledger {
    /// What `change` makes of its group's records. The head stays as it is as long as the
    /// entries speak for themselves: then an append writes one table alone.
    pub(crate) fn changes(&mut self, change: &GroupCommit) -> RecordChanges {
        let group = change.group.0;
        let Some(image) = &change.image else {
            self.known.remove(&group);
            let records = self.records.range((group, 0)..=(group, u8::MAX));
            let gone: Vec<_> = records.map(|(key, _)| (*key, None)).collect();
            return self.note(gone);
        };
        let known = self.known.get(&group).copied();
        let overwrites = |known| {
            change
                .put
                .first()
                .is_some_and(|first| first.index() <= known)
        };
        let stale = known.is_none_or(|known| known > image.last().index || overwrites(known));
        let mut changes = Vec::new();
        if stale || change.put.is_empty() || self.head_moved(group, image) {
            changes.push(self.head(change.group, image));
        }
        type Encode = fn(&GroupImage, &mut Vec<u8>);
        let others: [(u8, Encode); 3] = [
            (kind::SNAPSHOT, encode_snapshot),
            (kind::NAMED, encode_named),
            (kind::DOUBT, encode_doubt),
        ];
        for (kind, encode) in others {
            let mut body = Vec::new();
            encode(image, &mut body);
            let stored = self.records.get(&(group, kind));
            if stored.map_or(&[][..], Vec::as_slice) != body {
                changes.push(((group, kind), Some(body).filter(|body| !body.is_empty())));
            }
        }
        self.note(changes)
    }

    /// The head of a group, as far as it does not know all of the log.
    pub(crate) fn head_behind(&mut self, group: GroupId, image: &GroupImage) -> RecordChanges {
        if self.known.get(&group.0) == Some(&image.last().index) {
            return Vec::new();
        }
        let head = self.head(group, image);
        self.note(vec![head])
    }

    fn head(&mut self, group: GroupId, image: &GroupImage) -> ((u64, u8), Option<Vec<u8>>) {
        let mut body = Vec::new();
        Head::of(image).encode(&mut body);
        self.known.insert(group.0, image.last().index);
        ((group.0, kind::HEAD), Some(body))
    }

    fn head_moved(&self, group: u64, image: &GroupImage) -> bool {
        let stored = self.records.get(&(group, kind::HEAD));
        let stored = stored.and_then(|body| Head::decode(body).ok());
        stored.is_none_or(|head| {
            head.hard_state != image.hard_state() || head.base != image.terms().base()
        })
    }

    fn note(&mut self, changes: RecordChanges) -> RecordChanges {
        for (key, body) in &changes {
            match body {
                Some(body) => self.records.insert(*key, body.clone()),
                None => self.records.remove(key),
            };
        }
        changes
    }

    /// All records, each with a checksum over its body: what a closed log must still have.
    pub(crate) fn roster(&self) -> Roster {
        let crc = |body: &Vec<u8>| crc32fast::hash(body);
        Roster(
            self.records
                .iter()
                .map(|(k, body)| (*k, crc(body)))
                .collect(),
        )
    }
}

/// Which records there are, and of what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roster(pub(crate) BTreeMap<(u64, u8), u32>);

const ROSTER_RECORD_BYTES: usize = 8 + 1 + 4;

impl Roster {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len() * ROSTER_RECORD_BYTES);
        for ((group, kind), crc) in &self.0 {
            out.extend_from_slice(&group.to_le_bytes());
            out.push(*kind);
            out.extend_from_slice(&crc.to_le_bytes());
        }
        out
    }

    /// What [`Roster::encode`] wrote, whose checksum was compared.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (records, []) = bytes.as_chunks::<ROSTER_RECORD_BYTES>() else {
            return None;
        };
        let read = |record: &[u8; ROSTER_RECORD_BYTES]| {
            let (group, rest) = record.split_first_chunk::<8>()?;
            let (kind, crc) = rest.split_first()?;
            let crc = crc.first_chunk::<4>()?;
            let key = (u64::from_le_bytes(*group), *kind);
            Some((key, u32::from_le_bytes(*crc)))
        };
        records.iter().map(read).collect::<Option<_>>().map(Self)
    }
}
