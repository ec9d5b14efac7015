//! The first page of a segment: whose it is, which one, and how large.

use bytes::Bytes;
use raftwerk_raft::codec::DecodeError;
use raftwerk_raft::codec::wire::{Reader, put_u32, put_u64};
use raftwerk_storage::folder::StoreUuid;

use super::format::{PAGE_BYTES_MAX, PAGE_BYTES_MIN, SegmentId};

/// What a segment begins with.
pub(crate) const MAGIC: [u8; 8] = *b"RWERKWAL";
/// The version of everything that `docs/format.md` describes.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// How much of the first page means something.
pub(crate) const HEADER_BYTES: usize = 64;

/// The first page, written and synced by the preparer when the file's name is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) uuid: StoreUuid,
    pub(crate) id: SegmentId,
    /// Frames begin at multiples of this, in bytes.
    pub(crate) page_bytes: u32,
    /// Behind this page stood zeros when the header was written.
    pub(crate) zeroed: bool,
    /// The file's length in bytes.
    pub(crate) capacity: u64,
}

impl SegmentHeader {
    /// The page.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.page_bytes as usize);
        out.extend_from_slice(&MAGIC);
        put_u32(&mut out, FORMAT_VERSION);
        put_u32(&mut out, self.page_bytes);
        out.extend_from_slice(&self.uuid.0);
        put_u64(&mut out, self.id.number);
        put_u64(&mut out, self.id.life);
        put_u64(&mut out, self.capacity);
        put_u32(&mut out, u32::from(self.zeroed));
        let crc = crc32fast::hash(&out);
        put_u32(&mut out, crc);
        debug_assert_eq!(out.len(), HEADER_BYTES);
        out.resize(self.page_bytes as usize, 0);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let page = bytes.get(..HEADER_BYTES).ok_or(DecodeError::Truncated)?;
        let covered = page.get(..HEADER_BYTES - 4).ok_or(DecodeError::Truncated)?;
        let mut reader = Reader::new(Bytes::copy_from_slice(page));
        if reader.take(MAGIC.len())? != MAGIC[..] || reader.u32()? != FORMAT_VERSION {
            return Err(DecodeError::Invalid {
                reason: "not a segment of this version",
            });
        }
        let page_bytes = reader.u32()?;
        let mut uuid = StoreUuid([0; 16]);
        uuid.0.copy_from_slice(&reader.take(16)?);
        let id = SegmentId {
            number: reader.u64()?,
            life: reader.u64()?,
        };
        let capacity = reader.u64()?;
        let zeroed = reader.u32()? == 1;
        let sound = (PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&page_bytes)
            && page_bytes.is_power_of_two()
            && reader.u32()? == crc32fast::hash(covered);
        if !sound {
            return Err(DecodeError::Invalid {
                reason: "checksum of a segment's header",
            });
        }
        Ok(Self {
            uuid,
            id,
            page_bytes,
            zeroed,
            capacity,
        })
    }
}

/// What segment `number` is called.
pub(crate) fn file_name(number: u64) -> String {
    format!("segment-{number:016x}.wal")
}

/// Which segment a file name belongs to.
pub(crate) fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("segment-")?.strip_suffix(".wal")?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    // The largest has no successor: it is none of this log's.
    (file_name(number) == name && number < u64::MAX).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_without_a_successor_is_not_a_segments() {
        assert_eq!(parse_file_name("segment-ffffffffffffffff.wal"), None);
        let name = "segment-fffffffffffffffe.wal";
        assert_eq!(parse_file_name(name), Some(u64::MAX - 1));
    }

    #[test]
    fn header_comes_back_and_any_flipped_bit_is_noticed() {
        let header = SegmentHeader {
            uuid: StoreUuid([7; 16]),
            id: SegmentId {
                number: 9,
                life: 0x1234_5678_9abc,
            },
            page_bytes: 512,
            zeroed: true,
            capacity: 65_536,
        };
        let page = header.encode();
        assert_eq!(page.len(), 512);
        assert_eq!(SegmentHeader::decode(&page), Ok(header));
        for bit in 0..HEADER_BYTES * 8 {
            let mut damaged = page.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn only_exact_names_are_segments() {
        assert_eq!(parse_file_name(&file_name(0x2a)), Some(0x2a));
        for other in [
            "segment-2a.wal",
            "segment-000000000000002A.wal",
            "spare-1.tmp",
            "LOCK",
        ] {
            assert_eq!(parse_file_name(other), None, "{other}");
        }
    }
}
