//! A look at RocksDB's list of files before RocksDB reads it.
//!
//! Where a damaged record of it claims a kind that only write-ahead files have, RocksDB's reader
//! goes round for ever. Such a list is refused here; all other damage RocksDB names by itself.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use raftwerk_raft::StorageError;

/// Records do not cross these, in bytes.
const BLOCK_BYTES: usize = 32 * 1024;
/// Checksum, length, kind.
const HEADER_BYTES: usize = 7;
/// A whole record, or its first, a middle or its last part.
const KINDS: std::ops::RangeInclusive<u8> = 1..=4;

/// Refuses what RocksDB would not come back from. A database that is not there is none of that.
pub(crate) fn check(db: &Path) -> Result<(), StorageError> {
    // What cannot be read is RocksDB's to tell.
    let Ok(name) = fs::read_to_string(db.join("CURRENT")) else {
        return Ok(());
    };
    let path = db.join(name.trim_end());
    let Ok(Some(offset)) = File::open(&path).and_then(|file| strange_record(&file)) else {
        return Ok(());
    };
    Err(StorageError::Corrupt {
        path: path.display().to_string(),
        offset,
        reason: "a record of a kind that does not belong into this file".to_owned(),
    })
}

/// Where the first record stands whose kind is none of a manifest's.
fn strange_record(file: &File) -> io::Result<Option<u64>> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut base = 0;
    loop {
        let length = fill(file, &mut block, base)?;
        let block = block.get(..length).unwrap_or_default();
        if let Some(at) = strange_in(block) {
            return Ok(Some(base + at as u64));
        }
        if length < BLOCK_BYTES {
            return Ok(None);
        }
        base += BLOCK_BYTES as u64;
    }
}

/// As many bytes as there are from `at` on.
fn fill(file: &File, block: &mut [u8], at: u64) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = block.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + length as u64)? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}

fn strange_in(block: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(&[_, _, _, _, low, high, kind]) = block.get(at..at + HEADER_BYTES) {
        let length = usize::from(u16::from_le_bytes([low, high]));
        if (kind, length) == (0, 0) {
            // Space that nothing was written to yet.
            return None;
        }
        if !KINDS.contains(&kind) {
            return Some(at);
        }
        at += HEADER_BYTES + length;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records of these kinds, each of five bytes.
    fn block(kinds: &[u8]) -> Vec<u8> {
        let record = |kind: &u8| [&[9, 9, 9, 9, 5, 0, *kind][..], &[7; 5]].concat();
        kinds.iter().flat_map(record).collect()
    }

    #[test]
    fn first_record_of_another_kind_is_found_in_any_block() {
        assert_eq!(strange_in(&block(&[1, 2, 3, 4])), None);
        assert_eq!(strange_in(&block(&[1, 5, 6])), Some(12));
        assert_eq!(strange_in(&block(&[0x81])), Some(0));
        assert_eq!(strange_in(&[block(&[1]), vec![0; 40]].concat()), None);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("CURRENT"), "MANIFEST-000007\n").unwrap();
        let manifest = folder.path().join("MANIFEST-000007");
        assert!(
            check(folder.path()).is_ok(),
            "RocksDB says that it is not there"
        );
        // One record fills the first block.
        let mut bytes = vec![9; BLOCK_BYTES];
        bytes[4..7].copy_from_slice(&[0xf9, 0x7f, 1]);
        bytes.extend(block(&[1, 5]));
        fs::write(&manifest, bytes).unwrap();
        let found = check(folder.path()).unwrap_err();
        let at = BLOCK_BYTES as u64 + 12;
        assert!(matches!(found, StorageError::Corrupt { offset, .. } if offset == at));
    }
}
