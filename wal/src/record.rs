//! What the sections of a batch hold: entries, and everything else of a group's step.

use std::ops::Range;

use bytes::Bytes;
use raftwerk_raft::codec::wire::{Reader, put_bytes, put_flag, put_log_id, put_varint};
use raftwerk_raft::codec::{
    DecodeError, encode_conf_state, encode_hard_state, read_conf_state, read_entry, read_hard_state,
};
use raftwerk_raft::{Entry, GroupId, GroupWrite, LogIndex, SnapshotMeta};

use crate::segment::format::Span;

/// The group is forgotten whole.
pub(crate) const DESTROY: u8 = 1;
/// The group begins; its generation follows.
pub(crate) const CREATE: u8 = 2;
/// [`GroupWrite::reset_to`] follows.
pub(crate) const RESET: u8 = 4;
/// [`GroupWrite::snapshot`] follows.
pub(crate) const SNAPSHOT: u8 = 8;
/// [`GroupWrite::hard_state`] follows.
pub(crate) const HARD_STATE: u8 = 16;
/// [`GroupWrite::compact_to`] follows.
pub(crate) const COMPACT: u8 = 32;
/// [`GroupWrite::meta`] follows.
pub(crate) const META: u8 = 64;

/// What stands before a step's entries.
pub(crate) const BEFORE: u8 = DESTROY | CREATE | RESET | SNAPSHOT;

/// Which parts `write` has; `create` says that it begins its group.
pub(crate) fn parts(write: &GroupWrite, create: bool) -> u8 {
    let mut bits = 0;
    let mut set = |bit, condition| bits |= if condition { bit } else { 0 };
    set(DESTROY, write.destroy);
    set(CREATE, create);
    set(RESET, write.reset_to.is_some());
    set(SNAPSHOT, write.snapshot.is_some());
    set(HARD_STATE, write.hard_state.is_some());
    set(COMPACT, write.compact_to.is_some());
    set(META, !write.meta.is_empty());
    bits
}

/// Appends those parts of `write` that `bits` names.
pub(crate) fn put_state(write: &GroupWrite, bits: u8, generation: u64, out: &mut Vec<u8>) {
    if bits & CREATE != 0 {
        put_varint(out, generation);
    }
    if let Some(meta) = write.reset_to.as_ref().filter(|_| bits & RESET != 0) {
        put_snapshot(meta, out);
    }
    if let Some(meta) = write.snapshot.as_ref().filter(|_| bits & SNAPSHOT != 0) {
        put_snapshot(meta, out);
    }
    if let Some(state) = write.hard_state.as_ref().filter(|_| bits & HARD_STATE != 0) {
        encode_hard_state(state, out);
    }
    if let Some(to) = write.compact_to.filter(|_| bits & COMPACT != 0) {
        put_varint(out, to.0);
    }
    if bits & META != 0 {
        put_varint(out, write.meta.len() as u64);
        for (name, value) in &write.meta {
            put_bytes(out, name);
            put_flag(out, value.is_some());
            put_bytes(out, value.as_deref().unwrap_or_default());
        }
    }
}

/// A section of state: the write, and the generation if the group begins with it.
pub(crate) fn read_state(
    group: GroupId,
    bits: u8,
    section: Bytes,
) -> Result<(GroupWrite, Option<u64>), DecodeError> {
    let mut reader = Reader::new(section);
    let mut write = GroupWrite {
        group,
        destroy: bits & DESTROY != 0,
        ..GroupWrite::default()
    };
    let mut generation = None;
    if bits & CREATE != 0 {
        generation = Some(reader.varint()?);
    }
    if bits & RESET != 0 {
        write.reset_to = Some(read_snapshot(&mut reader)?);
    }
    if bits & SNAPSHOT != 0 {
        write.snapshot = Some(read_snapshot(&mut reader)?);
    }
    if bits & HARD_STATE != 0 {
        write.hard_state = Some(read_hard_state(&mut reader)?);
    }
    if bits & COMPACT != 0 {
        write.compact_to = Some(LogIndex(reader.varint()?));
    }
    if bits & META != 0 {
        write.meta = reader.list(3, |reader| {
            let name = own(&reader.bytes()?);
            let present = reader.flag()?;
            let value = own(&reader.bytes()?);
            Ok((name, present.then_some(value)))
        })?;
    }
    reader.end()?;
    Ok((write, generation))
}

/// A copy that does not keep the whole buffer alive.
pub(crate) fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// Appends what a snapshot stands for. Any position is taken: what is valid, the image decides.
pub(crate) fn put_snapshot(meta: &SnapshotMeta, out: &mut Vec<u8>) {
    put_log_id(out, meta.last);
    encode_conf_state(&meta.conf_state, out);
    put_bytes(out, &meta.context);
}

/// What [`put_snapshot`] wrote.
pub(crate) fn read_snapshot(reader: &mut Reader) -> Result<SnapshotMeta, DecodeError> {
    let last = reader.log_id()?;
    let conf_state = read_conf_state(reader)?;
    Ok(SnapshotMeta {
        last,
        conf_state,
        context: own(&reader.bytes()?),
    })
}

/// Whether a snapshot's record can be read back: the codec refuses what no configuration may be.
pub(crate) fn is_encodable(meta: &SnapshotMeta) -> bool {
    let mut bytes = Vec::new();
    put_snapshot(meta, &mut bytes);
    Reader::whole(bytes.into(), read_snapshot).is_ok()
}

/// When the payload of an entry is copied out of the section that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copies {
    /// Always: the section is not the reader's to keep.
    All,
    /// When it is less than half of the section: a small payload must not keep a large buffer
    /// alive.
    Small,
    /// Never.
    None,
}

/// Of the entries of a section, which must be those that its directory names, the ones in `wanted`
/// up to the first that makes more than `max_bytes` of payload.
pub(crate) fn read_entries(
    section: Bytes,
    span: &Span,
    wanted: &Range<LogIndex>,
    max_bytes: u64,
    copies: Copies,
) -> Result<Vec<Entry>, DecodeError> {
    let whole = section.len();
    let mut reader = Reader::new(section);
    let most = usize::try_from(wanted.end.since(wanted.start)).unwrap_or(usize::MAX);
    let mut out = Vec::with_capacity(most.min(span.count as usize).min(whole / 4));
    let mut bytes = 0;
    for index in (0..span.count).map(|number| span.first.plus(u64::from(number))) {
        if index >= wanted.end || bytes > max_bytes {
            return Ok(out);
        }
        let mut entry = read_entry(&mut reader)?;
        if entry.index() != index || entry.term() != span.term {
            return Err(DecodeError::Invalid {
                reason: "entry is not the one its place names",
            });
        }
        if index < wanted.start {
            continue;
        }
        bytes += entry.data.len() as u64;
        if copies == Copies::All || (copies == Copies::Small && entry.data.len() < whole / 2) {
            entry.data = own(&entry.data);
        }
        out.push(entry);
    }
    reader.end()?;
    Ok(out)
}
