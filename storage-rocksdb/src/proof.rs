//! How far the log was known to be durable, kept apart from it.
//!
//! RocksDB recovers up to the first place in its write-ahead log that makes no sense, and cannot
//! tell an end that was cut by a crash from damage to what it had synced. So the sequence number
//! of each synced commit is noted here, after the sync and without one of its own: a process that
//! is killed leaves the newest note, a machine that loses power one of some seconds ago. Whoever
//! opens a log that ends before it knows that something acknowledged is gone.

use std::io::ErrorKind;

use parking_lot::Mutex;
use raftwerk_raft::StorageError;
use raftwerk_storage::folder::{Folder, io_error};
use raftwerk_storage::vfs::{OpenMode, VfsFile};

const FILE: &str = "SYNCED";
const MAGIC: &[u8; 8] = b"RWKSYNC1";
const NOTE_BYTES: usize = 20;
/// Two places written in turn, a page apart: one of them is always whole.
const PLACES: [u64; 2] = [0, 4096];

/// The file of the notes.
#[derive(Debug)]
pub(crate) struct Proof {
    file: Box<dyn VfsFile>,
    turn: Mutex<usize>,
    found: u64,
}

impl Proof {
    /// Opens or makes it; the folder's own sync makes its name durable.
    pub(crate) fn open(folder: &Folder) -> Result<Self, StorageError> {
        let path = folder.path().join(FILE);
        let vfs = folder.vfs();
        let file = match vfs.open(&path, OpenMode::Write) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                vfs.open(&path, OpenMode::CreateNew)
            }
            other => other,
        };
        let file = file.map_err(io_error("open", &path))?;
        let mut found = 0;
        for place in PLACES {
            let mut note = [0; NOTE_BYTES];
            file.read_at(place, &mut note)
                .map_err(io_error("read", &path))?;
            found = found.max(decode(&note).unwrap_or(0));
        }
        Ok(Self {
            file,
            turn: Mutex::new(0),
            found,
        })
    }

    /// Up to where the log was durable when this was opened, by its sequence number.
    pub(crate) fn found(&self) -> u64 {
        self.found
    }

    /// Notes that everything up to `sequence` is durable.
    ///
    /// # Errors
    /// In words, why that could not be written.
    pub(crate) fn note(&self, sequence: u64) -> Result<(), String> {
        let place = {
            let mut turn = self.turn.lock();
            *turn ^= 1;
            PLACES.get(*turn).copied().unwrap_or_default()
        };
        self.file
            .write_at(place, &encode(sequence))
            .map_err(|error| format!("{FILE}: {error}"))
    }
}

fn encode(sequence: u64) -> [u8; NOTE_BYTES] {
    let mut note = [0; NOTE_BYTES];
    note[..8].copy_from_slice(MAGIC);
    note[8..16].copy_from_slice(&sequence.to_le_bytes());
    let crc = crc32fast::hash(&note[..16]);
    note[16..].copy_from_slice(&crc.to_le_bytes());
    note
}

fn decode(note: &[u8; NOTE_BYTES]) -> Option<u64> {
    let (sequence, _) = note.get(8..)?.split_first_chunk::<8>()?;
    let sequence = u64::from_le_bytes(*sequence);
    (encode(sequence) == *note).then_some(sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_note_is_no_note() {
        let note = encode(77);
        assert_eq!(decode(&note), Some(77));
        for bit in 0..NOTE_BYTES * 8 {
            let mut changed = note;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&changed), None, "bit {bit}");
        }
        assert_eq!(decode(&[0; NOTE_BYTES]), None);
    }
}
