//! State machines that live in memory: the log and the snapshot files are their disk.

use std::io;

use bytes::{Buf, Bytes};
use raftwerk_raft::{
    Entry, EntryKind, Halt, LogId, Response, SnapshotMeta, SnapshotReader, SnapshotSource,
    StateError, StateMachine,
};

/// A state that fits into memory and has no disk of its own. See [`InMemory`].
pub trait MemoryState: Send + 'static {
    /// Applies one proposal and answers its proposer. The same on every member.
    fn apply(&mut self, data: &[u8]) -> Response;

    /// The whole state as bytes.
    fn save(&self) -> Bytes;

    /// Becomes the state that [`MemoryState::save`] gave.
    ///
    /// # Errors
    /// What is wrong, in words, with bytes that it did not give.
    fn load(&mut self, saved: &[u8]) -> Result<(), String>;
}

/// Makes a [`StateMachine`] of a [`MemoryState`]. After a restart it begins with the newest
/// snapshot file, or with nothing, and the log brings it up.
#[derive(Debug)]
pub struct InMemory<S> {
    state: S,
    applied: LogId,
    bytes_max: usize,
}

impl<S: MemoryState> InMemory<S> {
    /// Runs `state`, whose saved form has at most 256 MiB.
    pub const fn new(state: S) -> Self {
        Self {
            state,
            applied: LogId::ZERO,
            bytes_max: 256 * 1024 * 1024,
        }
    }

    fn read(&self, source: &mut dyn SnapshotReader) -> io::Result<Vec<u8>> {
        let mut saved = Vec::new();
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let read = source.read(&mut chunk)?;
            if read == 0 {
                return Ok(saved);
            }
            saved.extend_from_slice(chunk.get(..read).unwrap_or_default());
            if saved.len() > self.bytes_max {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
    }
}

impl<S: MemoryState> StateMachine for InMemory<S> {
    fn applied(&self) -> LogId {
        self.applied
    }

    fn apply(&mut self, entries: &[Entry], out: &mut Vec<Response>) -> Result<(), Halt> {
        for entry in entries {
            // A new leader begins its term with an entry without data.
            let proposed = entry.kind == EntryKind::Normal && !entry.data.is_empty();
            out.push(if proposed {
                self.state.apply(&entry.data)
            } else {
                Response::new()
            });
            self.applied = entry.id;
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Box<dyn SnapshotSource>, StateError> {
        Ok(Box::new(Saved {
            applied: self.applied,
            bytes: self.state.save(),
        }))
    }

    fn restore(
        &mut self,
        meta: &SnapshotMeta,
        source: &mut dyn SnapshotReader,
    ) -> Result<(), StateError> {
        let read = self.read(source);
        let saved = read.map_err(|source| StateError::Io {
            operation: "read snapshot",
            source,
        })?;
        let loaded = self.state.load(&saved);
        loaded.map_err(|reason| StateError::Corrupt { reason })?;
        self.applied = meta.last;
        Ok(())
    }

    /// All of it: what is lost with the process comes back from the snapshot file and the log
    /// behind it, and the log is never cut above that file.
    fn persist(&mut self) -> Result<LogId, StateError> {
        Ok(self.applied)
    }
}

struct Saved {
    applied: LogId,
    bytes: Bytes,
}

impl SnapshotSource for Saved {
    fn applied(&self) -> LogId {
        self.applied
    }

    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = out.len().min(self.bytes.len());
        if let Some(front) = out.get_mut(..len) {
            self.bytes.copy_to_slice(front);
        }
        Ok(len)
    }
}
