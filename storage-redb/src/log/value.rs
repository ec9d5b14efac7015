//! What stands under each key. `docs/format.md` describes every byte.

use bytes::Bytes;
use raftwerk_raft::codec::wire::{Reader, put_bytes, put_log_id, put_varint};
use raftwerk_raft::codec::{
    DecodeError, decode_entry, encode_conf_state, encode_entry, encode_hard_state, read_conf_state,
    read_hard_state,
};
use raftwerk_raft::{Entry, HardState, LogId, LogIndex, SnapshotMeta};
use raftwerk_storage::TermRuns;
use raftwerk_storage::image::GroupImage;
use redb::TableDefinition;

/// Entries by group and index.
pub(crate) const ENTRIES: TableDefinition<'static, (u64, u64), &[u8]> =
    TableDefinition::new("entries");
/// All else that is kept of a group, by group and [`kind`].
pub(crate) const RECORDS: TableDefinition<'static, (u64, u8), &[u8]> =
    TableDefinition::new("records");

/// The kinds of records.
pub(crate) mod kind {
    /// Of the store as a whole, under group 0: says nothing but its commit's number.
    pub(crate) const STORE: u8 = 0;
    /// A group's [`super::Head`]; there is one for each group.
    pub(crate) const HEAD: u8 = 1;
    /// Its newest snapshot.
    pub(crate) const SNAPSHOT: u8 = 2;
    /// Its named values.
    pub(crate) const NAMED: u8 = 3;
    /// A vote of it may have been lost. Without a head beside it, so has everything else.
    pub(crate) const DOUBT: u8 = 4;
}

/// The body of a record that says so.
pub(crate) const IN_DOUBT: &[u8] = &[1];
/// The version of what [`seal`] writes.
const VERSION: u8 = 1;
/// What stands before the body: version, checksum, number of the commit.
const FRAME_BYTES: usize = 1 + 4 + 8;

/// Why a value is not what was written.
pub(crate) type Damage = String;

/// Frames what `body` appends: nothing of it, and none of `key`, changes unnoticed.
pub(crate) fn seal(
    key: (u64, u64),
    commit: u64,
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>),
) {
    out.clear();
    out.push(VERSION);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&commit.to_le_bytes());
    body(out);
    let crc = checksum(key, out);
    if let Some(place) = out.get_mut(1..5) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
}

fn checksum(key: (u64, u64), framed: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let mut head = [0; 17];
    let (group, rest) = head.split_at_mut(8);
    group.copy_from_slice(&key.0.to_le_bytes());
    for (place, byte) in rest.iter_mut().zip(key.1.to_le_bytes()) {
        *place = byte;
    }
    head[16] = framed.first().copied().unwrap_or(0);
    hasher.update(&head);
    hasher.update(framed.get(5..).unwrap_or_default());
    hasher.finalize()
}

/// The number of the commit that wrote a value, and its body.
pub(crate) fn unseal(key: (u64, u64), framed: &[u8]) -> Result<(u64, &[u8]), Damage> {
    let (Some((head, body)), Some(crc)) = (
        framed.split_at_checked(FRAME_BYTES),
        framed.get(1..5).and_then(|bytes| bytes.first_chunk::<4>()),
    ) else {
        return Err("cut short".to_owned());
    };
    if u32::from_le_bytes(*crc) != checksum(key, framed) {
        return Err("checksum mismatch".to_owned());
    }
    match (head.first(), head.last_chunk::<8>()) {
        (Some(&VERSION), Some(commit)) => Ok((u64::from_le_bytes(*commit), body)),
        (Some(other), _) => Err(format!("of version {other}; this build reads {VERSION}")),
        (None, _) => Err("cut short".to_owned()),
    }
}

pub(crate) fn seal_entry(group: u64, entry: &Entry, commit: u64, out: &mut Vec<u8>) {
    seal((group, entry.index().0), commit, out, |out| {
        encode_entry(entry, out)
    });
}

/// The entry that stands under `key`, and the number of the commit that wrote it.
pub(crate) fn unseal_entry(key: (u64, u64), framed: &[u8]) -> Result<(u64, Entry), Damage> {
    let (commit, body) = unseal(key, framed)?;
    let entry = decode_entry(Bytes::copy_from_slice(body)).map_err(|error| error.to_string())?;
    if entry.index().0 != key.1 {
        return Err(format!("it is entry {}", entry.id));
    }
    Ok((commit, entry))
}

/// A group without its entries, snapshot and named values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) hard_state: HardState,
    /// What stands just before the first entry.
    pub(crate) base: LogId,
    /// The last entry when this was written. It may have become more since: not less, and up to
    /// here not another.
    pub(crate) last: LogIndex,
    /// Where the term changed up to there.
    pub(crate) changes: Vec<LogId>,
}

impl Head {
    pub(crate) fn of(image: &GroupImage) -> Self {
        Self {
            hard_state: image.hard_state(),
            base: image.terms().base(),
            last: image.last().index,
            changes: image.terms().changes().collect(),
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        encode_hard_state(&self.hard_state, out);
        put_log_id(out, self.base);
        put_varint(out, self.last.0);
        put_varint(out, self.changes.len() as u64);
        for change in &self.changes {
            put_log_id(out, *change);
        }
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, Damage> {
        let read = |reader: &mut Reader| {
            Ok(Self {
                hard_state: read_hard_state(reader)?,
                base: reader.log_id()?,
                last: reader.index()?,
                changes: reader.list(2, Reader::log_id)?,
            })
        };
        let head = Reader::whole(Bytes::copy_from_slice(body), read).map_err(said)?;
        let mut before = head.base;
        for change in &head.changes {
            if change.index <= before.index || change.index > head.last {
                return Err(format!("the term changes at {change}, outside of the log"));
            }
            before = *change;
        }
        if head.last < head.base.index || head.last == LogIndex::MAX {
            return Err(format!("the log ends at {}", head.last));
        }
        Ok(head)
    }

    /// The id of the entry at `index`, as far as this says it.
    pub(crate) fn id(&self, index: LogIndex) -> Option<LogId> {
        if index <= self.base.index || index > self.last {
            return None;
        }
        let runs = self.changes.partition_point(|change| change.index <= index);
        let run = runs.checked_sub(1).and_then(|run| self.changes.get(run));
        Some(LogId::new(run.unwrap_or(&self.base).term, index))
    }

    /// An empty log where this one begins.
    pub(crate) fn empty(&self) -> TermRuns {
        TermRuns::new(self.base)
    }
}

pub(crate) fn encode_snapshot(image: &GroupImage, out: &mut Vec<u8>) {
    if let Some(snapshot) = image.snapshot() {
        put_log_id(out, snapshot.last);
        encode_conf_state(&snapshot.conf_state, out);
        put_bytes(out, &snapshot.context);
    }
}

pub(crate) fn encode_doubt(image: &GroupImage, out: &mut Vec<u8>) {
    if image.health().vote_unknown {
        out.extend_from_slice(IN_DOUBT);
    }
}

pub(crate) fn decode_snapshot(body: &[u8]) -> Result<SnapshotMeta, Damage> {
    let read = |reader: &mut Reader| {
        Ok(SnapshotMeta {
            last: reader.log_id()?,
            conf_state: read_conf_state(reader)?,
            context: reader.bytes()?,
        })
    };
    Reader::whole(Bytes::copy_from_slice(body), read).map_err(said)
}

pub(crate) fn encode_named(image: &GroupImage, out: &mut Vec<u8>) {
    if image.meta().is_empty() {
        return;
    }
    put_varint(out, image.meta().len() as u64);
    for (name, value) in image.meta() {
        put_bytes(out, name);
        put_bytes(out, value);
    }
}

pub(crate) fn decode_named(body: &[u8]) -> Result<Vec<(Bytes, Bytes)>, Damage> {
    let pair = |reader: &mut Reader| Ok((reader.bytes()?, reader.bytes()?));
    let read = |reader: &mut Reader| reader.list(2, pair);
    Reader::whole(Bytes::copy_from_slice(body), read).map_err(said)
}

fn said(error: DecodeError) -> Damage {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use raftwerk_raft::{NodeId, Term};

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whoever changes one of these bytes changes the format's version.
    #[test]
    fn bytes_of_values_are_those_of_this_version() {
        let mut out = Vec::new();
        let entry = Entry::normal(
            LogId::new(Term(3), LogIndex(300)),
            Bytes::from_static(b"put"),
        );
        seal_entry(7, &entry, 9, &mut out);
        assert_eq!(hex(&out), ENTRY);
        assert_eq!(unseal_entry((7, 300), &out), Ok((9, entry)));
        let head = Head {
            hard_state: HardState {
                term: Term(4),
                vote: Some(NodeId(2)),
                commit: LogIndex(5),
            },
            base: LogId::new(Term(1), LogIndex(4)),
            last: LogIndex(6),
            changes: vec![LogId::new(Term(3), LogIndex(6))],
        };
        seal((7, 1), 9, &mut out, |out| head.encode(out));
        assert_eq!(hex(&out), HEAD);
        let (_, body) = unseal((7, 1), &out).unwrap();
        assert_eq!(Head::decode(body), Ok(head));
    }

    const ENTRY: &str = "01a41fe946090000000000000003ac020003707574";
    const HEAD: &str = "01ad80cd420900000000000000040205010406010306";

    #[test]
    fn every_flipped_bit_and_every_other_key_is_noticed() {
        let mut out = Vec::new();
        let entry = Entry::normal(LogId::new(Term(1), LogIndex(2)), Bytes::from_static(b"abc"));
        seal_entry(1, &entry, 9, &mut out);
        for bit in 0..out.len() * 8 {
            let mut bad = out.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal_entry((1, 2), &bad).is_err(), "bit {bit}");
        }
        for len in 0..out.len() {
            assert!(unseal_entry((1, 2), &out[..len]).is_err(), "cut to {len}");
        }
        assert!(unseal_entry((1, 3), &out).is_err());
        assert!(unseal_entry((2, 2), &out).is_err());
    }
}
