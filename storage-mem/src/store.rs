//! The state store: a tree whose clones are the views and the durable point.

use std::fmt;
use std::io;
use std::ops::ControlFlow;

use bytes::Bytes;
use parking_lot::Mutex;
use raftwerk_raft::{
    KeyRange, LogId, ScanOrder, ScanVisitor, SnapshotReader, SnapshotSource, StateError, StateOp,
    StateStats, StateStore, View,
};
use raftwerk_storage::checkpoint::{CheckpointReader, ViewStream};
use raftwerk_storage::tree::Tree;

/// A state store in memory. A view is a clone of the root: it costs nothing to take and to keep,
/// never waits for a writer and is never waited for. What is written while views live copies the
/// path to the key, some twenty nodes among 100,000.
#[derive(Debug, Default)]
pub struct MemStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    visible: Moment,
    durable: Moment,
    failing: Failing,
}

/// A sync that fails once has failed for good: a later success would prove nothing.
#[derive(Debug, Default)]
enum Failing {
    #[default]
    No,
    NextTime(String),
    ForGood(String),
}

impl Failing {
    fn sync(&mut self) -> Result<(), StateError> {
        *self = match std::mem::take(self) {
            Self::No => return Ok(()),
            Self::NextTime(cause) | Self::ForGood(cause) => Self::ForGood(cause),
        };
        let Self::ForGood(cause) = self else {
            return Ok(());
        };
        let source = io::Error::other(cause.clone());
        Err(StateError::Io {
            operation: "sync the state",
            source,
        })
    }
}

#[derive(Clone, Default)]
struct Moment {
    tree: Tree<Bytes>,
    applied: LogId,
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moment")
            .field("applied", &self.applied)
            .finish_non_exhaustive()
    }
}

impl MemStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What a power cut would leave: the state as of the last durable point.
    #[must_use]
    pub fn crash(&self) -> Self {
        let durable = self.inner.lock().durable.clone();
        let inner = Inner {
            visible: durable.clone(),
            durable,
            ..Inner::default()
        };
        Self {
            inner: Mutex::new(inner),
        }
    }

    /// Lets the next sync (of a persist or a restore) fail, and so every later one. Reads and
    /// writes go on.
    pub fn fail_next_sync(&self, cause: &str) {
        self.inner.lock().failing = Failing::NextTime(cause.to_owned());
    }

    fn moment(&self) -> Moment {
        self.inner.lock().visible.clone()
    }
}

impl StateStore for MemStore {
    fn write(&self, ops: &[StateOp], applied: LogId) -> Result<(), StateError> {
        let mut inner = self.inner.lock();
        let tree = &mut inner.visible.tree;
        for op in ops {
            match op {
                StateOp::Put { key, value } => {
                    tree.insert(key.clone(), value.clone());
                }
                StateOp::Delete { key } => tree.remove(key),
                StateOp::DeleteRange { start, end } => tree.remove_range(start, end),
            }
        }
        inner.visible.applied = applied;
        Ok(())
    }

    fn view(&self) -> Result<Box<dyn View>, StateError> {
        Ok(Box::new(self.moment()))
    }

    fn persist(&self) -> Result<LogId, StateError> {
        let mut inner = self.inner.lock();
        inner.failing.sync()?;
        let before = std::mem::take(&mut inner.durable);
        inner.durable = inner.visible.clone();
        let applied = inner.durable.applied;
        drop(inner);
        // Frees its nodes here and not under the lock.
        drop(before);
        Ok(applied)
    }

    fn durable_applied(&self) -> Result<LogId, StateError> {
        Ok(self.inner.lock().durable.applied)
    }

    fn checkpoint(&self) -> Result<Box<dyn SnapshotSource>, StateError> {
        Ok(Box::new(ViewStream::new(self.view()?)))
    }

    /// Keeps the old state until the stream has come to its end: a break changes nothing.
    fn restore(&self, source: &mut dyn SnapshotReader) -> Result<LogId, StateError> {
        let mut reader = CheckpointReader::new(source)?;
        let mut moment = Moment {
            tree: Tree::default(),
            applied: reader.applied(),
        };
        while let Some((key, value)) = reader.next_record()? {
            // Copies: a record must not keep its block's buffer alive.
            moment
                .tree
                .insert(Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value));
        }
        let applied = moment.applied;
        let before = {
            let mut inner = self.inner.lock();
            inner.failing.sync()?;
            inner.durable = moment.clone();
            std::mem::replace(&mut inner.visible, moment)
        };
        drop(before);
        Ok(applied)
    }

    fn stats(&self) -> Result<StateStats, StateError> {
        let bytes = self.inner.lock().visible.tree.bytes();
        Ok(StateStats {
            allocated_bytes: bytes,
            live_bytes: bytes,
        })
    }
}

impl View for Moment {
    fn applied(&self) -> LogId {
        self.applied
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        Ok(self.tree.find(key).cloned())
    }

    fn scan(
        &self,
        range: KeyRange<'_>,
        order: ScanOrder,
        visit: ScanVisitor<'_>,
    ) -> Result<(), StateError> {
        for (key, value) in self.tree.range(range, order) {
            if visit(key, value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}
