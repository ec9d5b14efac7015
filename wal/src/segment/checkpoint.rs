//! What a segment's first frame says: what it continues, and how it finds each group.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use raftwerk_raft::codec::wire::{Reader, put_bytes, put_flag, put_log_id, put_varint};
use raftwerk_raft::codec::{DecodeError, encode_hard_state, read_hard_state};
use raftwerk_raft::{GroupId, GroupState, LogHealth, LogIndex, SnapshotMeta};
use raftwerk_storage::TermRuns;
use raftwerk_storage::image::GroupImage;

use crate::index::Parts;
use crate::record::{own, put_snapshot, read_snapshot};
use crate::segment::format::check_count;

/// The end of what a segment continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Predecessor {
    /// Which segment.
    pub(crate) segment: u64,
    /// Where its part of the log ends, in bytes.
    pub(crate) end: u64,
    /// The last frame's place in the log.
    pub(crate) lsn: u64,
}

/// A group that was destroyed while an older segment may still hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tombstone {
    /// Which of its lives ended.
    pub(crate) generation: u64,
    /// The newest segment that may hold that life.
    pub(crate) until: u64,
}

/// What concerns all groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogRecord {
    pub(crate) predecessor: Option<Predecessor>,
    /// The generation that the next new group gets.
    pub(crate) next_generation: u64,
    /// A batch of unknown groups was lost: a group not known here may have voted.
    pub(crate) strangers_unknown: bool,
    pub(crate) tombstones: BTreeMap<GroupId, Tombstone>,
}

impl LogRecord {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_flag(out, self.predecessor.is_some());
        let Predecessor { segment, end, lsn } = self.predecessor.unwrap_or(Predecessor {
            segment: 0,
            end: 0,
            lsn: 0,
        });
        for value in [segment, end, lsn, self.next_generation] {
            put_varint(out, value);
        }
        put_flag(out, self.strangers_unknown);
        put_varint(out, self.tombstones.len() as u64);
        for (group, Tombstone { generation, until }) in &self.tombstones {
            for value in [group.0, *generation, *until] {
                put_varint(out, value);
            }
        }
    }

    pub(crate) fn read(section: Bytes) -> Result<Self, DecodeError> {
        Reader::whole(section, |reader| {
            let present = reader.flag()?;
            let predecessor = Predecessor {
                segment: reader.varint()?,
                end: reader.varint()?,
                lsn: reader.varint()?,
            };
            let next_generation = reader.varint()?;
            check_count(next_generation)?;
            let strangers_unknown = reader.flag()?;
            let tombstones = reader.list(3, |reader| {
                let group = GroupId(reader.varint()?);
                let generation = reader.varint()?;
                check_count(generation)?;
                Ok((
                    group,
                    Tombstone {
                        generation,
                        until: reader.varint()?,
                    },
                ))
            })?;
            Ok(Self {
                predecessor: present.then_some(predecessor),
                next_generation,
                strangers_unknown,
                tombstones: tombstones.into_iter().collect(),
            })
        })
    }

    /// At most how long [`LogRecord::put`] makes it, in bytes.
    pub(crate) fn bytes_max(&self) -> u64 {
        64 + (self.tombstones.len() * TOMBSTONE_BYTES) as u64
    }
}

/// At most what a tombstone takes, in bytes.
pub(crate) const TOMBSTONE_BYTES: usize = 30;

/// A group as a segment finds it.
#[derive(Debug)]
pub(crate) struct GroupCheckpoint {
    pub(crate) image: GroupImage,
    pub(crate) generation: u64,
    /// Which segment holds which entries.
    pub(crate) ranges: Vec<(u64, Range<LogIndex>)>,
}

pub(crate) fn put_group(image: &GroupImage, generation: u64, parts: &Parts, out: &mut Vec<u8>) {
    put_varint(out, generation);
    encode_hard_state(&image.hard_state(), out);
    put_flag(out, image.snapshot().is_some());
    if let Some(meta) = image.snapshot() {
        put_snapshot(meta, out);
    }
    let terms = image.terms();
    put_log_id(out, terms.base());
    put_varint(out, terms.last().index.0);
    put_varint(out, terms.changes().count() as u64);
    for change in terms.changes() {
        put_log_id(out, change);
    }
    put_varint(out, parts.len() as u64);
    for part in parts.iter() {
        put_varint(out, part.segment);
        put_range(out, &part.range());
    }
    put_varint(out, image.meta().len() as u64);
    for (name, value) in image.meta() {
        put_bytes(out, name);
        put_bytes(out, value);
    }
    put_flag(out, image.health().vote_unknown);
    put_varint(out, image.health().faulty.len() as u64);
    for range in &image.health().faulty {
        put_range(out, range);
    }
}

fn put_range(out: &mut Vec<u8>, range: &Range<LogIndex>) {
    put_varint(out, range.start.0);
    put_varint(out, range.end.0);
}

fn read_range(reader: &mut Reader) -> Result<Range<LogIndex>, DecodeError> {
    let start = reader.index()?;
    Ok(start..reader.index()?)
}

/// At most how long [`put_group`] makes it, in bytes.
pub(crate) fn group_bytes_max(image: &GroupImage, ranges: usize) -> u64 {
    let snapshot = image.snapshot().map_or(0, snapshot_bytes_max);
    let meta: usize = image
        .meta()
        .iter()
        .map(|(name, value)| 10 + name.len() + value.len())
        .sum();
    let changes = image.terms().changes().count();
    let lists = changes * 20 + (ranges + 1) * 30 + image.health().faulty.len() * 20;
    (160 + snapshot + meta + lists) as u64
}

/// At most how long a snapshot's record is, in bytes.
pub(crate) fn snapshot_bytes_max(meta: &SnapshotMeta) -> usize {
    let conf = &meta.conf_state;
    let nodes = conf.voters.len()
        + conf.learners.len()
        + conf.voters_outgoing.len()
        + conf.learners_next.len();
    64 + 10 * nodes + meta.context.len()
}

pub(crate) fn read_group(section: Bytes) -> Result<GroupCheckpoint, DecodeError> {
    Reader::whole(section, |reader| {
        let generation = reader.varint()?;
        let hard_state = read_hard_state(reader)?;
        let mut snapshot = None;
        if reader.flag()? {
            snapshot = Some(read_snapshot(reader)?);
        }
        let base = reader.log_id()?;
        let last = reader.index()?;
        let changes = reader.list(2, Reader::log_id)?;
        let ranges = reader.list(3, |reader| {
            let segment = reader.varint()?;
            Ok((segment, read_range(reader)?))
        })?;
        let meta = reader.list(2, |reader| {
            Ok((own(&reader.bytes()?), own(&reader.bytes()?)))
        })?;
        let vote_unknown = reader.flag()?;
        let faulty = reader.list(2, read_range)?;
        let terms = TermRuns::from_changes(base, last, &changes);
        let state = GroupState {
            hard_state,
            snapshot,
            first: terms.first(),
            last: terms.last(),
            meta,
            health: LogHealth {
                faulty,
                vote_unknown,
            },
        };
        let image = GroupImage::from_parts(state, terms).map_err(|_| DecodeError::Invalid {
            reason: "group contradicts itself",
        })?;
        Ok(GroupCheckpoint {
            image,
            generation,
            ranges,
        })
    })
}
