//! Checkpoints as bytes, and sources that give them back whole, damaged or broken off.

use std::io;

use raftwerk_raft::{SnapshotReader, SnapshotSource, StateStore};

/// A checkpoint's bytes, read in pieces of odd sizes.
pub(super) fn bytes_of(mut source: Box<dyn SnapshotSource>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut piece = vec![0; 1013];
    loop {
        let count = source.read(&mut piece).expect("a checkpoint reads");
        if count == 0 {
            return out;
        }
        out.extend(&piece[..count]);
    }
}

pub(super) fn checkpoint(store: &dyn StateStore) -> Vec<u8> {
    bytes_of(store.checkpoint().expect("checkpoint"))
}

/// Gives bytes in pieces of at most `piece`; then ends, or breaks.
pub(super) struct Source<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) piece: usize,
    pub(super) breaks: bool,
}

impl<'a> Source<'a> {
    pub(super) fn whole(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            piece: 777,
            breaks: false,
        }
    }
}

impl SnapshotReader for Source<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() && self.breaks {
            return Err(io::Error::from(io::ErrorKind::ConnectionReset));
        }
        let count = out.len().min(self.piece).min(self.bytes.len());
        let (front, rest) = self.bytes.split_at(count);
        out[..count].copy_from_slice(front);
        self.bytes = rest;
        Ok(count)
    }
}
