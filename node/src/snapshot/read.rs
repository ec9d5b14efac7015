//! Reading a snapshot file: its state for a state machine, its bytes for a peer.

use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use raftwerk_raft::SnapshotReader;
use raftwerk_storage::vfs::VfsFile;

use super::format::{CHUNK_BYTES, Damaged, FRAME_BYTES_MAX, Frame, FrameKind, Manifest, Unframer};
use super::store::{SnapshotFile, SnapshotStore};
use crate::transport::SnapshotBytes;

pub(super) fn invalid(error: Damaged) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Walks the frames of a file, one in memory at a time.
pub(super) struct FrameWalk {
    file: Box<dyn VfsFile>,
    /// Where `buffer` begins in the file.
    offset: u64,
    buffer: Vec<u8>,
    unframer: Unframer,
}

impl FrameWalk {
    pub(super) fn new(file: Box<dyn VfsFile>) -> Self {
        Self {
            file,
            offset: 0,
            buffer: Vec::new(),
            unframer: Unframer::new(),
        }
    }

    /// The next whole frame; its bytes stand at the front of [`FrameWalk::buffer`] until
    /// [`FrameWalk::pass`]. `None` when the file ends within it.
    pub(super) fn next(&mut self) -> io::Result<Option<Frame>> {
        while !self.unframer.ended() {
            if let Some(frame) = self.unframer.next(&self.buffer).map_err(invalid)? {
                return Ok(Some(frame));
            }
            let filled = self.buffer.len();
            if filled > FRAME_BYTES_MAX {
                return Err(invalid(Damaged {
                    reason: "a frame is longer than allowed",
                }));
            }
            self.buffer.resize(filled + CHUNK_BYTES, 0);
            let rest = self.buffer.get_mut(filled..).unwrap_or_default();
            let read = self.file.read_at(self.offset + filled as u64, rest)?;
            self.buffer.truncate(filled + read);
            if read == 0 {
                break;
            }
        }
        Ok(None)
    }

    pub(super) fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// Drops the frame at the front.
    pub(super) fn pass(&mut self, len: usize) {
        self.buffer.drain(..len.min(self.buffer.len()));
        self.offset += len as u64;
    }

    /// Where the walk is: what lies before was checked.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn into_parts(self) -> (Box<dyn VfsFile>, Unframer) {
        (self.file, self.unframer)
    }
}

/// The state in a snapshot file.
pub(crate) struct FileReader {
    walk: FrameWalk,
    manifest: Manifest,
    /// What is left of the frame at the walk's front, and the frame's length.
    chunk: Option<(Range<usize>, usize)>,
    ended: bool,
}

impl FileReader {
    pub(crate) fn open(file: Box<dyn VfsFile>) -> io::Result<Self> {
        let mut walk = FrameWalk::new(file);
        match walk.next()? {
            Some(Frame {
                len,
                kind: FrameKind::Head(manifest),
            }) => {
                walk.pass(len);
                Ok(Self {
                    walk,
                    manifest,
                    chunk: None,
                    ended: false,
                })
            }
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    pub(crate) const fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

impl SnapshotReader for FileReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while !self.ended && !out.is_empty() {
            if let Some((range, len)) = self.chunk.take() {
                let state = self.walk.buffer().get(range.clone()).unwrap_or_default();
                let taken = state.len().min(out.len());
                for (to, from) in out.iter_mut().zip(state) {
                    *to = *from;
                }
                if taken < state.len() {
                    self.chunk = Some((range.start + taken..range.end, len));
                } else {
                    self.walk.pass(len);
                }
                return Ok(taken);
            }
            match self.walk.next()? {
                Some(Frame {
                    len,
                    kind: FrameKind::Chunk(range),
                }) => {
                    self.chunk = Some((range, len));
                }
                Some(Frame {
                    kind: FrameKind::End,
                    ..
                }) => self.ended = true,
                Some(Frame {
                    kind: FrameKind::Head(_),
                    ..
                })
                | None => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        Ok(0)
    }
}

/// The longest that a stream's pause keeps a host from stopping.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// The bytes of a snapshot file on their way to a peer, at a limited rate.
pub(crate) struct FileBytes {
    file: Box<dyn VfsFile>,
    /// Keeps the file from being collected.
    _kept: Arc<SnapshotFile>,
    store: Arc<SnapshotStore>,
    bytes_per_second: Option<NonZeroU64>,
    /// When the next read may begin.
    next: Option<Instant>,
}

impl FileBytes {
    pub(crate) fn new(
        file: Box<dyn VfsFile>,
        kept: Arc<SnapshotFile>,
        store: Arc<SnapshotStore>,
        bytes_per_second: Option<NonZeroU64>,
    ) -> Self {
        Self {
            file,
            _kept: kept,
            store,
            bytes_per_second,
            next: None,
        }
    }
}

impl SnapshotBytes for FileBytes {
    fn read_at(&mut self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        // In pieces: the host may stop meanwhile.
        while let Some(next) = self.next.filter(|_| !self.store.is_stopping()) {
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::sleep(left.min(SLEEP_MAX));
        }
        if self.store.is_stopping() {
            return Err(io::Error::new(
                io::ErrorKind::Interrupted,
                "the host is stopping",
            ));
        }
        let read = self.file.read_at(offset, out)?;
        if let Some(rate) = self.bytes_per_second {
            let nanos = (read as u64).saturating_mul(1_000_000_000) / rate;
            self.next = Instant::now().checked_add(Duration::from_nanos(nanos));
        }
        Ok(read)
    }
}
