//! The values of a log's records. Each ends with a checksum over its key and itself, so that
//! neither a changed byte nor a record in another's place is believed.

use std::collections::BTreeMap;

use bytes::Bytes;
use crc32fast::Hasher;
use raftwerk_raft::codec::wire::{Reader, put_bytes, put_log_id, put_varint};
use raftwerk_raft::codec::{
    DecodeError, decode_entry, decode_snapshot_meta, encode_entry, encode_hard_state,
    encode_snapshot_meta, read_hard_state,
};
use raftwerk_raft::{Entry, HardState, LogId, LogIndex, SnapshotMeta};

const CRC_BYTES: usize = 4;

/// What is rewritten with every commit of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) hard_state: HardState,
    /// What stands just before the first entry.
    pub(crate) base: LogId,
    /// The last index.
    pub(crate) last: LogIndex,
}

/// Appends the checksum to `value`, which is all that `key` is to hold.
pub(crate) fn seal(key: &[u8], value: &mut Vec<u8>) {
    let crc = checksum(key, value);
    value.extend_from_slice(&crc.to_le_bytes());
}

/// What `value` holds, if its checksum does.
pub(crate) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (body, crc) = value.split_last_chunk::<CRC_BYTES>()?;
    (u32::from_le_bytes(*crc) == checksum(key, body)).then_some(body)
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(key);
    hasher.update(body);
    hasher.finalize()
}

/// Decodes a record, or says in words what is wrong.
fn decode<T>(
    key: &[u8],
    value: &[u8],
    decode: impl FnOnce(Bytes) -> Result<T, DecodeError>,
) -> Result<T, String> {
    let body = unseal(key, value).ok_or("its checksum does not hold")?;
    decode(Bytes::copy_from_slice(body)).map_err(|error| error.to_string())
}

pub(crate) fn put_head(head: &Head, out: &mut Vec<u8>) {
    encode_hard_state(&head.hard_state, out);
    put_log_id(out, head.base);
    put_varint(out, head.last.0);
}

pub(crate) fn head(key: &[u8], value: &[u8]) -> Result<Head, String> {
    decode(key, value, |body| {
        Reader::whole(body, |reader| {
            Ok(Head {
                hard_state: read_hard_state(reader)?,
                base: reader.log_id()?,
                last: LogIndex(reader.varint()?),
            })
        })
    })
}

pub(crate) fn put_snapshot(meta: &SnapshotMeta, out: &mut Vec<u8>) {
    encode_snapshot_meta(meta, out);
}

pub(crate) fn snapshot(key: &[u8], value: &[u8]) -> Result<SnapshotMeta, String> {
    decode(key, value, decode_snapshot_meta)
}

pub(crate) fn put_terms(changes: &[LogId], out: &mut Vec<u8>) {
    put_varint(out, changes.len() as u64);
    for change in changes {
        put_log_id(out, *change);
    }
}

pub(crate) fn terms(key: &[u8], value: &[u8]) -> Result<Vec<LogId>, String> {
    decode(key, value, |body| {
        Reader::whole(body, |reader| reader.list(2, Reader::log_id))
    })
}

pub(crate) fn put_values(values: &BTreeMap<Bytes, Bytes>, out: &mut Vec<u8>) {
    put_varint(out, values.len() as u64);
    for (name, value) in values {
        put_bytes(out, name);
        put_bytes(out, value);
    }
}

pub(crate) fn values(key: &[u8], value: &[u8]) -> Result<BTreeMap<Bytes, Bytes>, String> {
    decode(key, value, |body| {
        Reader::whole(body, |reader| {
            let pairs = reader.list(2, |reader| Ok((reader.bytes()?, reader.bytes()?)))?;
            Ok(pairs.into_iter().collect())
        })
    })
}

pub(crate) fn put_entry(entry: &Entry, out: &mut Vec<u8>) {
    encode_entry(entry, out);
}

/// The entry at `index`, if the record is whole and of it.
pub(crate) fn entry(key: &[u8], value: &[u8], index: LogIndex) -> Option<Entry> {
    let entry = decode(key, value, decode_entry).ok()?;
    (entry.index() == index).then_some(entry)
}

#[cfg(test)]
mod tests {
    use raftwerk_raft::{GroupId, NodeId, Term};

    use super::*;
    use crate::key;

    #[test]
    fn record_in_another_place_or_with_a_changed_bit_is_refused() {
        let at = key::entry(GroupId(3), LogIndex(5));
        let stored = Entry::normal(
            LogId::new(Term(2), LogIndex(5)),
            Bytes::from_static(b"payload"),
        );
        let mut value = Vec::new();
        put_entry(&stored, &mut value);
        seal(&at, &mut value);
        assert_eq!(entry(&at, &value, LogIndex(5)), Some(stored));
        let elsewhere = key::entry(GroupId(4), LogIndex(5));
        assert_eq!(entry(&elsewhere, &value, LogIndex(5)), None);
        for bit in 0..value.len() * 8 {
            let mut changed = value.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(entry(&at, &changed, LogIndex(5)), None, "bit {bit}");
        }
        for length in 0..value.len() {
            assert_eq!(entry(&at, &value[..length], LogIndex(5)), None);
        }
    }

    #[test]
    fn records_come_back() {
        let at = key::record(GroupId(3), key::Kind::Head);
        let stored = Head {
            hard_state: HardState {
                term: Term(u64::MAX),
                vote: Some(NodeId(9)),
                commit: LogIndex(4),
            },
            base: LogId::new(Term(1), LogIndex(2)),
            last: LogIndex(u64::MAX - 1),
        };
        let mut value = Vec::new();
        put_head(&stored, &mut value);
        seal(&at, &mut value);
        assert_eq!(head(&at, &value), Ok(stored));
        let changes = vec![stored.base, LogId::new(Term(7), LogIndex(9))];
        let mut value = Vec::new();
        put_terms(&changes, &mut value);
        seal(&at, &mut value);
        assert_eq!(terms(&at, &value), Ok(changes));
        let named = BTreeMap::from([(Bytes::from_static(b"name"), Bytes::from_static(b""))]);
        let mut value = Vec::new();
        put_values(&named, &mut value);
        seal(&at, &mut value);
        assert_eq!(values(&at, &value), Ok(named));
    }
}
