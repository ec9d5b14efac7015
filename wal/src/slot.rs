//! The watermark slot: how far the log was known to be durable, in a small file of its own. With
//! it, damage to the last acknowledged frame is told from a write that a crash cut short.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use raftwerk_raft::codec::wire::{Reader, put_u32, put_u64};
use raftwerk_storage::folder::StoreUuid;
use raftwerk_storage::vfs::VfsFile;

use crate::sites::SYNC_SLOT;

/// The file's name.
pub(crate) const SLOT_FILE: &str = "WATERMARK";
/// Two records, written in turn, each in a page of its own.
const SLOT_BYTES: u64 = 4096;
const MAGIC: u32 = u32::from_le_bytes(*b"RWs1");
const RECORD_BYTES: usize = 60;

/// What one record says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Ascending; the larger one of the two counts.
    pub(crate) sequence: u64,
    /// All frames up to this one are durable.
    pub(crate) lsn: u64,
    /// The segment it is in.
    pub(crate) segment: u64,
    /// Where it ends there, in bytes.
    pub(crate) end: u64,
}

impl Slot {
    fn encode(&self, uuid: StoreUuid) -> Vec<u8> {
        let mut out = Vec::with_capacity(SLOT_BYTES as usize);
        put_u32(&mut out, MAGIC);
        out.extend_from_slice(&uuid.0);
        for value in [self.sequence, self.lsn, self.segment, self.end] {
            put_u64(&mut out, value);
        }
        put_u32(&mut out, 0);
        let crc = crc32fast::hash(&out);
        put_u32(&mut out, crc);
        debug_assert_eq!(out.len(), RECORD_BYTES);
        out.resize(SLOT_BYTES as usize, 0);
        out
    }

    fn decode(bytes: &[u8], uuid: StoreUuid) -> Option<Self> {
        let bytes = bytes.get(..RECORD_BYTES)?;
        let crc = crc32fast::hash(bytes.get(..RECORD_BYTES - 4)?);
        let mut reader = Reader::new(Bytes::copy_from_slice(bytes));
        if reader.u32().ok()? != MAGIC || reader.take(16).ok()? != uuid.0[..] {
            return None;
        }
        let mut next = || reader.u64().ok();
        let slot = Self {
            sequence: next()?,
            lsn: next()?,
            segment: next()?,
            end: next()?,
        };
        reader.u32().ok()?;
        (reader.u32().ok()? == crc).then_some(slot)
    }

    /// Makes a new file's space durable, so that a full disk never stands in the way of a record.
    pub(crate) fn reserve(file: &dyn VfsFile) -> io::Result<()> {
        let (len, whole) = (file.len()?, 2 * SLOT_BYTES);
        if len < whole {
            file.write_at(len, &vec![0; (whole - len) as usize])?;
            file.sync_data(SYNC_SLOT)?;
        }
        Ok(())
    }

    /// Writes the record over the older one and makes it durable.
    pub(crate) fn write(&self, file: &Arc<dyn VfsFile>, uuid: StoreUuid) -> io::Result<()> {
        let offset = (self.sequence % 2) * SLOT_BYTES;
        file.write_synced(offset, &self.encode(uuid), SYNC_SLOT)
    }

    /// The newer of the two records; none when neither can be read.
    pub(crate) fn read(file: &dyn VfsFile, uuid: StoreUuid) -> Option<Self> {
        let one = |number: u64| {
            let mut bytes = [0; RECORD_BYTES];
            let count = file.read_at(number * SLOT_BYTES, &mut bytes).ok()?;
            Self::decode(bytes.get(..count)?, uuid)
        };
        [one(0), one(1)]
            .into_iter()
            .flatten()
            .max_by_key(|slot| slot.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_of_another_log_or_damaged_is_none() {
        let slot = Slot {
            sequence: 3,
            lsn: 9,
            segment: 2,
            end: 8192,
        };
        let uuid = StoreUuid([1; 16]);
        let bytes = slot.encode(uuid);
        assert_eq!(Slot::decode(&bytes, uuid), Some(slot));
        assert_eq!(Slot::decode(&bytes, StoreUuid([2; 16])), None);
        for bit in 0..RECORD_BYTES * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Slot::decode(&damaged, uuid), None, "bit {bit}");
        }
    }
}
