//! What a sealed segment ends with: who continues it, and where each group's entries stand.

use bytes::Bytes;
use raftwerk_raft::LogIndex;
use raftwerk_raft::Term;
use raftwerk_raft::codec::DecodeError;
use raftwerk_raft::codec::wire::{Reader, put_u32, put_varint};

use super::format::{ITEM_BYTES_MAX, SegmentId, frame_bytes_max};
use crate::index::Extent;

/// At most how long an extent is, in bytes.
const EXTENT_BYTES_MAX: u64 = 70;

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

/// An upper bound for the footer of a segment with so many sections of entries, in bytes.
pub(crate) const fn footer_bytes_max(page_bytes: u32, sections: u64) -> u64 {
    let items = 1 + sections;
    frame_bytes_max(
        page_bytes,
        items,
        20 + sections * (EXTENT_BYTES_MAX + ITEM_BYTES_MAX as u64),
    )
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
        assert!(out.len() as u64 <= 2 * EXTENT_BYTES_MAX);
        assert_eq!(read_extents(out.into(), 4), Ok(vec![whole, part]));
    }
}
