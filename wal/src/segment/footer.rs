//! What a sealed segment ends with: who continues it, and where each group's entries stand.

use bytes::Bytes;
use raftwerk_raft::LogIndex;
use raftwerk_raft::Term;
use raftwerk_raft::codec::DecodeError;
use raftwerk_raft::codec::wire::{Reader, put_u32, put_varint, varint_len};

use super::format::{ITEM_BYTES_MAX, SegmentId, Span, frame_bytes_max};
use crate::index::Extent;

/// At most what a group takes in a footer beside its extents, in bytes: its item, and how many
/// extents there are.
pub(crate) const FOOTER_LINE_BYTES: u64 = ITEM_BYTES_MAX as u64 + 10;
/// No segment is so long that a place in it takes more, in bytes.
const OFFSET_BYTES: usize = 5;
/// Two checksums.
const SUMS_BYTES: usize = 8;

/// What the entries of a segment take in its footer, at most: counted before it is known where
/// they will stand, and whatever part of them still counts when the segment is sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Footing {
    sections: u64,
    /// Their extents.
    bytes: u64,
}

impl Footing {
    /// A section of entries, of `bytes`.
    pub(crate) const fn of(span: &Span, bytes: u32) -> Self {
        // The first that counts, how many do, how far that is from the section's first, and how
        // many it has.
        let numbers = varint_len(span.end().0) + 3 * varint_len(span.count as u64);
        let place = OFFSET_BYTES + varint_len(bytes as u64);
        Self {
            sections: 1,
            bytes: (numbers + varint_len(span.term.0) + place + SUMS_BYTES) as u64,
        }
    }

    pub(crate) const fn bytes(self) -> u64 {
        self.bytes
    }

    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            sections: self.sections + other.sections,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// Names the segment that continues this one.
pub(crate) fn put_successor(id: SegmentId, out: &mut Vec<u8>) {
    put_varint(out, id.number);
    put_varint(out, id.life);
}

pub(crate) fn read_successor(section: Bytes) -> Result<SegmentId, DecodeError> {
    Reader::whole(section, |reader| {
        Ok(SegmentId {
            number: reader.varint()?,
            life: reader.varint()?,
        })
    })
}

/// Appends the extents of one group.
pub(crate) fn put_extents(extents: &[Extent], out: &mut Vec<u8>) {
    put_varint(out, extents.len() as u64);
    for extent in extents {
        put_varint(out, extent.first.0);
        put_varint(out, u64::from(extent.count));
        put_varint(out, extent.first.since(extent.base));
        put_varint(out, u64::from(extent.base_count));
        put_varint(out, extent.term.0);
        put_varint(out, extent.offset);
        put_varint(out, u64::from(extent.bytes));
        put_u32(out, extent.seed);
        put_u32(out, extent.crc);
    }
}

pub(crate) fn read_extents(section: Bytes, segment: u64) -> Result<Vec<Extent>, DecodeError> {
    let narrow = |value: u64| u32::try_from(value).map_err(|_| DecodeError::TooLong);
    Reader::whole(section, |reader| {
        reader.list(15, |reader| {
            let first = reader.index()?;
            let count = narrow(reader.varint()?)?;
            let base = LogIndex(first.since(LogIndex(reader.varint()?)));
            Ok(Extent {
                base,
                base_count: narrow(reader.varint()?)?,
                first,
                count,
                term: Term(reader.varint()?),
                segment,
                offset: reader.varint()?,
                bytes: narrow(reader.varint()?)?,
                seed: reader.u32()?,
                crc: reader.u32()?,
            })
        })
    })
}

/// An upper bound for the footer of a segment with these entries of at most so many groups, in
/// bytes.
pub(crate) fn footer_bytes_max(page_bytes: u32, footing: Footing, groups: u64) -> u64 {
    let lines = footing.sections.min(groups);
    let body = 20 + lines * FOOTER_LINE_BYTES + footing.bytes;
    frame_bytes_max(page_bytes, 1, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::format::Span;

    #[test]
    fn extents_come_back() {
        let span = Span {
            first: LogIndex(7),
            count: 9,
            term: Term(3),
            prev_term: Term(0),
        };
        let whole = Extent {
            seed: 5,
            crc: 6,
            ..Extent::new(&span, 4, 512, 99)
        };
        let part = whole.clip(&(LogIndex(9)..LogIndex(12))).unwrap();
        let mut out = Vec::new();
        put_extents(&[whole, part], &mut out);
        assert_eq!(read_extents(out.into(), 4), Ok(vec![whole, part]));
    }

    #[test]
    fn extent_never_takes_more_than_was_counted_for_it() {
        let numbers = [0, 1, 127, 128, 1 << 20, u64::from(u32::MAX), u64::MAX >> 1];
        for first in numbers {
            for (count, bytes) in [(1, 0), (127, 1 << 20), (128, 127), (1 << 24, u32::MAX)] {
                let span = Span {
                    first: LogIndex(first),
                    count,
                    term: Term(first),
                    prev_term: Term(0),
                };
                let most = Footing::of(&span, bytes).bytes();
                let whole = Extent {
                    seed: u32::MAX,
                    crc: u32::MAX,
                    ..Extent::new(&span, u64::MAX, u64::from(u32::MAX), bytes)
                };
                let last = span.end().prev()..span.end();
                for extent in [Some(whole), whole.clip(&last)].into_iter().flatten() {
                    let mut out = Vec::new();
                    put_extents(&[extent], &mut out);
                    let taken = out.len() as u64 - 1;
                    assert!(taken <= most, "{extent:?}: {taken} bytes of {most}");
                }
            }
        }
    }
}
