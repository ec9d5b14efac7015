//! The bytes of a snapshot file, which are also what travels to a peer.
//!
//! ```text
//! head    magic (8) | length u32 | crc u32 | manifest
//! chunk   length u32, not zero | crc u32 | that many bytes of state
//! ...
//! end     0 u32 | crc u32 | bytes of state u64 | chunks u64
//! ```
//! Numbers are little-endian. Each crc (crc32) covers its frame's length and contents, and is
//! seeded with the build's uuid and the frame's number: a frame of another build, or one in
//! another place, does not pass.

use std::ops::Range;

use bytes::Bytes;
use raftwerk_raft::codec::wire::{Reader, put_u32, put_u64};
use raftwerk_raft::codec::{DecodeError, encode_snapshot_meta, read_snapshot_meta};
use raftwerk_raft::{GroupId, SnapshotMeta};

use crate::member::{put_u128, read_u128};

const MAGIC: &[u8; 8] = b"RWSNAP\x00\x01";
/// Bytes of state per chunk.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;
const MANIFEST_BYTES_MAX: usize = 1024 * 1024;
const FRAME_HEAD_BYTES: usize = 8;
const END_BYTES: usize = 16;
/// No frame is longer than this.
pub(crate) const FRAME_BYTES_MAX: usize = MAGIC.len() + FRAME_HEAD_BYTES + MANIFEST_BYTES_MAX;

/// What a snapshot file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) group: GroupId,
    /// Names this build.
    pub(crate) snapshot: u128,
    pub(crate) meta: SnapshotMeta,
}

impl Manifest {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_u64(&mut out, self.group.0);
        put_u128(&mut out, self.snapshot);
        encode_snapshot_meta(&self.meta, &mut out);
        out
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        Reader::whole(bytes, |input| {
            Ok(Self {
                group: GroupId(input.u64()?),
                snapshot: read_u128(input)?,
                meta: read_snapshot_meta(input)?,
            })
        })
    }
}

fn crc(snapshot: u128, number: u64, len: u32, contents: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&snapshot.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(&len.to_le_bytes());
    hasher.update(contents);
    hasher.finalize()
}

fn frame(out: &mut Vec<u8>, snapshot: u128, number: u64, len: usize, contents: &[u8]) {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    put_u32(out, len);
    put_u32(out, crc(snapshot, number, len, contents));
    out.extend_from_slice(contents);
}

/// Makes the frames of one file, in order.
#[derive(Debug)]
pub(crate) struct Framer {
    snapshot: u128,
    chunks: u64,
    state_bytes: u64,
}

impl Framer {
    /// Appends the head to `out`. None: the manifest is too long for any reader.
    pub(crate) fn head(manifest: &Manifest, out: &mut Vec<u8>) -> Option<Self> {
        let contents = manifest.encode();
        if contents.len() > MANIFEST_BYTES_MAX {
            return None;
        }
        out.extend_from_slice(MAGIC);
        // The reader does not know the uuid before it has read the manifest: seed zero.
        frame(out, 0, 0, contents.len(), &contents);
        Some(Self {
            snapshot: manifest.snapshot,
            chunks: 0,
            state_bytes: 0,
        })
    }

    /// Appends one chunk to `out`: at most [`CHUNK_BYTES`], and not empty.
    pub(crate) fn chunk(&mut self, state: &[u8], out: &mut Vec<u8>) {
        self.chunks += 1;
        self.state_bytes += state.len() as u64;
        frame(out, self.snapshot, self.chunks, state.len(), state);
    }

    /// Appends the end to `out`.
    pub(crate) fn end(self, out: &mut Vec<u8>) {
        let mut contents = Vec::new();
        put_u64(&mut contents, self.state_bytes);
        put_u64(&mut contents, self.chunks);
        frame(out, self.snapshot, self.chunks + 1, 0, &contents);
    }
}

/// A whole frame at the front of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// How many bytes of the buffer it takes.
    pub(crate) len: usize,
    pub(crate) kind: FrameKind,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Head(Manifest),
    /// Where in the buffer the state is.
    Chunk(Range<usize>),
    End,
}

/// Why bytes are no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("snapshot is damaged: {reason}")]
pub(crate) struct Damaged {
    pub(crate) reason: &'static str,
}

const fn damaged<T>(reason: &'static str) -> Result<T, Damaged> {
    Err(Damaged { reason })
}

enum Stage {
    Head,
    Chunks,
    Ended,
}

/// Reads frames in order and checks each.
pub(crate) struct Unframer {
    stage: Stage,
    snapshot: u128,
    chunks: u64,
    state_bytes: u64,
}

impl Unframer {
    pub(crate) const fn new() -> Self {
        Self {
            stage: Stage::Head,
            snapshot: 0,
            chunks: 0,
            state_bytes: 0,
        }
    }

    /// True after the end.
    pub(crate) const fn ended(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    /// The frame at the front of `buffer`; `None` when it is not whole yet.
    pub(crate) fn next(&mut self, buffer: &[u8]) -> Result<Option<Frame>, Damaged> {
        let (start, number) = match self.stage {
            Stage::Head => (MAGIC.len(), 0),
            Stage::Chunks => (0, self.chunks + 1),
            Stage::Ended => return damaged("bytes behind the end"),
        };
        if start > 0
            && buffer
                .iter()
                .zip(MAGIC)
                .any(|(found, expected)| found != expected)
        {
            return damaged("not a snapshot of this version");
        }
        let head = start + FRAME_HEAD_BYTES;
        let (Some(len), Some(sum)) = (number_at(buffer, start), number_at(buffer, start + 4))
        else {
            return Ok(None);
        };
        let is_head = matches!(self.stage, Stage::Head);
        let max = if is_head {
            MANIFEST_BYTES_MAX
        } else {
            CHUNK_BYTES
        };
        let declared = usize::try_from(len).unwrap_or(usize::MAX);
        if declared > max {
            return damaged("a frame is longer than allowed");
        }
        let contents = if declared == 0 && !is_head {
            END_BYTES
        } else {
            declared
        };
        let Some(bytes) = buffer.get(head..head + contents) else {
            return Ok(None);
        };
        if crc(self.snapshot, number, len, bytes) != sum {
            return damaged("a checksum does not fit");
        }
        let kind = if is_head {
            self.take_head(bytes)?
        } else if declared == 0 {
            self.take_end(bytes)?
        } else {
            self.chunks += 1;
            self.state_bytes += declared as u64;
            FrameKind::Chunk(head..head + contents)
        };
        Ok(Some(Frame {
            len: head + contents,
            kind,
        }))
    }

    fn take_head(&mut self, bytes: &[u8]) -> Result<FrameKind, Damaged> {
        let Ok(manifest) = Manifest::decode(Bytes::copy_from_slice(bytes)) else {
            return damaged("the manifest cannot be read");
        };
        self.snapshot = manifest.snapshot;
        self.stage = Stage::Chunks;
        Ok(FrameKind::Head(manifest))
    }

    fn take_end(&mut self, bytes: &[u8]) -> Result<FrameKind, Damaged> {
        let mut input = Reader::new(Bytes::copy_from_slice(bytes));
        if input.u64() != Ok(self.state_bytes) || input.u64() != Ok(self.chunks) {
            return damaged("bytes are missing");
        }
        self.stage = Stage::Ended;
        Ok(FrameKind::End)
    }
}

fn number_at(buffer: &[u8], at: usize) -> Option<u32> {
    let bytes = buffer.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftwerk_raft::{LogId, LogIndex, Term};

    #[test]
    fn snapshot_files_keep_their_bytes() {
        let manifest = Manifest {
            group: GroupId(7),
            snapshot: 1 << 77,
            meta: SnapshotMeta {
                last: LogId::new(Term(4), LogIndex(8)),
                ..SnapshotMeta::default()
            },
        };
        let mut file = Vec::new();
        let mut framer = Framer::head(&manifest, &mut file).unwrap();
        framer.chunk(b"state", &mut file);
        framer.end(&mut file);
        let expected = b"RWSNAP\0\x01!\0\0\0.\x83\x80F\x07\0\0\0\0\0\0\0\0 \0\0\0\0\0\0\
            \0\0\0\0\0\0\0\0\x01\x04\x08\0\0\0\0\0\0\
            \x05\0\0\0\x1do*,state\0\0\0\08\xc9H\xa9\x05\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0";
        assert_eq!(Bytes::from(file), expected.as_slice());
    }
}
