//! A key's record, and where things stand in the state store.
//!
//! Store key `1 revision` holds the revision, `2 key` the record of a user's key. Each value begins
//! with a format version.

use std::ops::Bound;

use bytes::{BufMut, Bytes, BytesMut};
use raftwerk_raft::StateError;

use crate::proto::mvccpb::KeyValue;

const FORMAT: u8 = 1;
const HEADER_LEN: usize = 33;
const USER: u8 = 2;

/// Where the revision stands.
pub(super) const REVISION_KEY: &[u8] = b"\x01revision";

/// What is kept of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) create_revision: i64,
    pub(super) mod_revision: i64,
    pub(super) version: i64,
    pub(super) lease: i64,
    pub(super) value: Bytes,
}

/// A [`Record`] whose value is borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordRef<'a> {
    pub(super) create_revision: i64,
    pub(super) mod_revision: i64,
    pub(super) version: i64,
    pub(super) lease: i64,
    pub(super) value: &'a [u8],
}

impl Record {
    pub(super) fn borrowed(&self) -> RecordRef<'_> {
        RecordRef {
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
            value: &self.value,
        }
    }

    /// The record with its key, as clients see it.
    pub(super) fn key_value(self, key: Bytes) -> KeyValue {
        KeyValue {
            key,
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            value: self.value,
            lease: self.lease,
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER_LEN.saturating_add(self.value.len()));
        out.put_u8(FORMAT);
        out.put_i64_le(self.create_revision);
        out.put_i64_le(self.mod_revision);
        out.put_i64_le(self.version);
        out.put_i64_le(self.lease);
        out.put_slice(&self.value);
        out.freeze()
    }

    /// Takes a stored record apart; the value shares its bytes.
    pub(super) fn decode(stored: &Bytes) -> Result<Self, StateError> {
        let RecordRef {
            create_revision,
            mod_revision,
            version,
            lease,
            ..
        } = RecordRef::decode(stored)?;
        let value = stored.slice(HEADER_LEN..);
        Ok(Self {
            create_revision,
            mod_revision,
            version,
            lease,
            value,
        })
    }
}

impl<'a> RecordRef<'a> {
    pub(super) fn decode(stored: &'a [u8]) -> Result<Self, StateError> {
        let Some((header, value)) = stored.split_first_chunk::<HEADER_LEN>() else {
            return Err(corrupt("a key's record is too short"));
        };
        let (format, numbers) = (header.first(), header.get(1..).unwrap_or_default());
        if format != Some(&FORMAT) {
            return Err(corrupt("a key's record has an unknown format version"));
        }
        let mut numbers = numbers
            .as_chunks::<8>()
            .0
            .iter()
            .map(|bytes| i64::from_le_bytes(*bytes));
        let mut next = || numbers.next().unwrap_or_default();
        let (create_revision, mod_revision, version, lease) = (next(), next(), next(), next());
        Ok(Self {
            create_revision,
            mod_revision,
            version,
            lease,
            value,
        })
    }

    pub(super) fn to_record(self) -> Record {
        Record {
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
            value: Bytes::copy_from_slice(self.value),
        }
    }
}

/// The revision as it is stored.
pub(super) fn encode_revision(revision: i64) -> Bytes {
    let mut out = BytesMut::with_capacity(9);
    out.put_u8(FORMAT);
    out.put_i64_le(revision);
    out.freeze()
}

/// The revision stored; a store without one is new and stands at 1, as the public API has it.
pub(super) fn decode_revision(stored: Option<&[u8]>) -> Result<i64, StateError> {
    let Some(stored) = stored else { return Ok(1) };
    match stored.split_first_chunk::<9>() {
        Some(([FORMAT, number @ ..], [])) => Ok(i64::from_le_bytes(*number)),
        _ => Err(corrupt("the revision's record has an unknown format")),
    }
}

/// Where the record of a user's key stands.
pub(super) fn store_key(key: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(key.len().saturating_add(1));
    out.put_u8(USER);
    out.put_slice(key);
    out.freeze()
}

/// The user's key of a store key.
pub(super) fn user_key(store_key: &[u8]) -> &[u8] {
    store_key.get(1..).unwrap_or_default()
}

/// The keys that a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// One key.
    One(Bytes),
    /// From the first to before the second; to the end of the key space without one.
    Range(Bytes, Option<Bytes>),
}

impl Span {
    /// Reads `key` and `range_end` as the public API means them.
    pub(super) fn new(key: &Bytes, range_end: &Bytes) -> Self {
        match range_end.as_ref() {
            [] => Self::One(key.clone()),
            [0] => Self::Range(key.clone(), None),
            _ => Self::Range(key.clone(), Some(range_end.clone())),
        }
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Range(start, end) => {
                start.as_ref() <= key && end.as_ref().is_none_or(|end| key < end.as_ref())
            }
        }
    }

    /// No key can lie in it.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Range(start, Some(end)) if start >= end)
    }

    /// Its bounds in the state store.
    pub(super) fn store_bounds(&self) -> (Bound<Bytes>, Bound<Bytes>) {
        match self {
            Self::One(key) => (
                Bound::Included(store_key(key)),
                Bound::Included(store_key(key)),
            ),
            Self::Range(start, end) => {
                let end = end
                    .as_ref()
                    .map_or(Bytes::from_static(&[USER + 1]), |end| store_key(end));
                (Bound::Included(store_key(start)), Bound::Excluded(end))
            }
        }
    }

    /// Its bounds among user keys.
    pub(super) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        match self {
            Self::One(key) => (Bound::Included(key), Bound::Included(key)),
            Self::Range(start, end) => (
                Bound::Included(start),
                end.as_ref()
                    .map_or(Bound::Unbounded, |end| Bound::Excluded(end.as_ref())),
            ),
        }
    }
}

pub(super) fn corrupt(reason: &str) -> StateError {
    StateError::Corrupt {
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            create_revision: 2,
            mod_revision: i64::MAX,
            version: 7,
            lease: -1,
            value: Bytes::from_static(b"value"),
        }
    }

    #[test]
    fn record_survives_its_encoding() {
        let stored = record().encode();
        assert_eq!(Record::decode(&stored).unwrap(), record());
        assert_eq!(RecordRef::decode(&stored).unwrap().to_record(), record());
    }

    #[test]
    fn keys_records_and_the_revision_keep_their_bytes() {
        let expected = b"\x01\x02\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\x7f\x07\0\0\0\0\0\0\0\
            \xff\xff\xff\xff\xff\xff\xff\xffvalue";
        assert_eq!(record().encode(), expected.as_slice());
        assert_eq!(store_key(b"key"), b"\x02key".as_slice());
        assert_eq!(REVISION_KEY, b"\x01revision");
        assert_eq!(encode_revision(258), b"\x01\x02\x01\0\0\0\0\0\0".as_slice());
    }

    #[test]
    fn damaged_record_is_an_error() {
        let stored = record().encode();
        assert!(Record::decode(&stored.slice(..HEADER_LEN - 1)).is_err());
        let mut other = stored.to_vec();
        other[0] = 9;
        assert!(Record::decode(&Bytes::from(other)).is_err());
        assert!(decode_revision(Some(b"short")).is_err());
        assert!(decode_revision(Some(b"\x0112345678longer")).is_err());
    }

    #[test]
    fn new_store_stands_at_revision_one() {
        assert_eq!(decode_revision(None).unwrap(), 1);
        assert_eq!(decode_revision(Some(&encode_revision(77))).unwrap(), 77);
    }

    #[test]
    fn range_end_of_a_zero_byte_is_the_end_of_the_key_space() {
        let all = Span::new(&Bytes::from_static(b"\0"), &Bytes::from_static(b"\0"));
        assert!(all.contains(b"\xff\xff\xff"));
        let backwards = Span::new(&Bytes::from_static(b"b"), &Bytes::from_static(b"a"));
        assert!(backwards.is_empty() && !backwards.contains(b"a"));
    }
}
