//! What a log stores.

use bytes::Bytes;

use super::DecodeError;
use super::conf::{encode_conf_state, read_conf_state};
use super::wire::{Reader, put_bytes, put_log_id, put_varint, varint_len};
use crate::entry::{Entry, EntryKind, HardState, SnapshotMeta};
use crate::types::{LogId, LogIndex, NodeId, Term};

/// The format of [`SnapshotMeta`].
const SNAPSHOT_META_VERSION: u8 = 1;

/// The least bytes of an entry: term, index, kind, length.
pub(super) const ENTRY_BYTES_MIN: usize = 4;

/// Appends an entry.
#[inline]
pub fn encode_entry(entry: &Entry, out: &mut Vec<u8>) {
    put_log_id(out, entry.id);
    out.push(match entry.kind {
        EntryKind::Normal => 0,
        EntryKind::ConfChangeSingle => 1,
        EntryKind::ConfChange => 2,
    });
    put_bytes(out, &entry.data);
}

/// How many bytes [`encode_entry`] writes for `entry`.
#[must_use]
pub fn entry_len(entry: &Entry) -> usize {
    let LogId { term, index } = entry.id;
    let data = entry.data.len();
    varint_len(term.value()) + varint_len(index.value()) + 1 + varint_len(data as u64) + data
}

/// Takes an entry. Its payload shares the memory of the input.
///
/// # Errors
/// [`DecodeError`].
pub fn read_entry(reader: &mut Reader) -> Result<Entry, DecodeError> {
    let id = reader.log_id()?;
    let kind = match reader.u8()? {
        0 => EntryKind::Normal,
        1 => EntryKind::ConfChangeSingle,
        2 => EntryKind::ConfChange,
        found => {
            return Err(DecodeError::Tag {
                what: "kind of entry",
                found,
            });
        }
    };
    Ok(Entry {
        id,
        kind,
        data: reader.bytes()?,
    })
}

/// The entry that is all of `input`.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_entry(input: Bytes) -> Result<Entry, DecodeError> {
    Reader::whole(input, read_entry)
}

/// Appends a hard state.
pub fn encode_hard_state(hard_state: &HardState, out: &mut Vec<u8>) {
    put_varint(out, hard_state.term.value());
    put_varint(out, hard_state.vote.unwrap_or(NodeId::ZERO).value());
    put_varint(out, hard_state.commit.value());
}

/// Takes a hard state.
///
/// # Errors
/// [`DecodeError`].
pub fn read_hard_state(reader: &mut Reader) -> Result<HardState, DecodeError> {
    let term = reader.term()?;
    let vote = Some(NodeId(reader.varint()?)).filter(|vote| *vote != NodeId::ZERO);
    Ok(HardState {
        term,
        vote,
        commit: reader.index()?,
    })
}

/// The hard state that is all of `input`.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_hard_state(input: Bytes) -> Result<HardState, DecodeError> {
    Reader::whole(input, read_hard_state)
}

/// Appends what a snapshot stands for.
pub fn encode_snapshot_meta(meta: &SnapshotMeta, out: &mut Vec<u8>) {
    out.push(SNAPSHOT_META_VERSION);
    put_log_id(out, meta.last);
    encode_conf_state(&meta.conf_state, out);
    put_bytes(out, &meta.context);
}

/// Takes what a snapshot stands for. The context shares the memory of the input.
///
/// # Errors
/// [`DecodeError`].
pub fn read_snapshot_meta(reader: &mut Reader) -> Result<SnapshotMeta, DecodeError> {
    reader.version("snapshot meta data", SNAPSHOT_META_VERSION)?;
    let last = read_position(reader)?;
    Ok(SnapshotMeta {
        last,
        conf_state: read_conf_state(reader)?,
        context: reader.bytes()?,
    })
}

/// What a snapshot stands for, in all of `input`.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_snapshot_meta(input: Bytes) -> Result<SnapshotMeta, DecodeError> {
    Reader::whole(input, read_snapshot_meta)
}

/// The identity of an entry that exists, or of what stands before the first one.
pub(super) fn read_position(reader: &mut Reader) -> Result<LogId, DecodeError> {
    let id = reader.log_id()?;
    if (id.term == Term::ZERO) == (id.index == LogIndex::ZERO) {
        Ok(id)
    } else {
        Err(DecodeError::Invalid {
            reason: "only one of term and index is zero",
        })
    }
}
