//! The contracts of what entries are applied to: the state machine itself, and an ordered
//! key-value engine to build one on.

use std::io;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use crate::entry::{Entry, SnapshotMeta};
use crate::types::LogId;

/// What applying one entry answers to its proposer.
pub type Response = Bytes;

/// The deterministic state machine of one group. Every replica applies the same entries in the
/// same order; the runtime calls it from one worker at a time, never from the run loop.
pub trait StateMachine: Send + 'static {
    /// The last entry whose effect is durable here. The log replays what comes after it.
    fn applied(&self) -> LogId;

    /// Applies `entries` (normal and configuration entries alike, contiguous) and pushes one
    /// response per entry.
    ///
    /// # Errors
    /// [`Halt`] when the state can no longer be trusted: the group stops on this member.
    fn apply(&mut self, entries: &[Entry], out: &mut Vec<Response>) -> Result<(), Halt>;

    /// A consistent view of the state as of the last applied entry, to be streamed elsewhere
    /// while `apply` goes on.
    ///
    /// # Errors
    /// [`StateError`] when no view can be had; building is tried again later.
    fn snapshot(&self) -> Result<Box<dyn SnapshotSource>, StateError>;

    /// Replaces the state by a snapshot's.
    ///
    /// # Errors
    /// [`StateError`] when the stream breaks or cannot be stored; the old state may be gone then
    /// and the call is repeated with the same snapshot.
    fn restore(
        &mut self,
        meta: &SnapshotMeta,
        source: &mut dyn SnapshotReader,
    ) -> Result<(), StateError>;

    /// Makes everything applied so far durable and says up to where: what compaction may rely on.
    ///
    /// # Errors
    /// [`StateError`] when it is not durable.
    fn persist(&mut self) -> Result<LogId, StateError>;
}

/// A state being streamed out.
pub trait SnapshotSource: Send {
    /// The last entry whose effect the view holds, read from inside the view.
    fn applied(&self) -> LogId;

    /// Fills the front of `out`; zero at the end.
    ///
    /// # Errors
    /// Whatever the engine underneath says.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize>;
}

/// A state being streamed in.
pub trait SnapshotReader: Send {
    /// Fills the front of `out`; zero at the end.
    ///
    /// # Errors
    /// Whatever the source says; a break is an error and never an early end.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize>;
}

/// The state machine cannot go on; the group stops on this member, with this text for the operator.
#[derive(Debug, thiserror::Error)]
#[error("state machine halted: {cause}")]
pub struct Halt {
    /// What happened, and what to do.
    pub cause: String,
}

/// Why a state could not be read, written or moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The operating system or the engine refused.
    #[error("{operation}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// What is stored or streamed in is damaged.
    #[error("state is damaged: {reason}")]
    Corrupt {
        /// What is wrong.
        reason: String,
    },
    /// Opening the store failed.
    #[error(transparent)]
    Open(#[from] crate::storage::StorageError),
}

/// One change of a [`StateStore`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateOp {
    /// Sets a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its value.
        value: Bytes,
    },
    /// Removes a key; an absent one is no error.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Removes every key of `[start, end)`.
    DeleteRange {
        /// The first key.
        start: Bytes,
        /// One behind the last.
        end: Bytes,
    },
}

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScanOrder {
    /// From the smallest key up.
    #[default]
    Ascending,
    /// From the largest key down.
    Descending,
}

/// The bounds of a scan.
pub type KeyRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Called with each key and value; says whether to go on.
pub type ScanVisitor<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// An ordered key-value engine for state machines. Writes are atomic with the applied `LogId`,
/// visible at once and durable by [`StateStore::persist`]: the log is the redo.
pub trait StateStore: Send + Sync + 'static {
    /// Applies `ops` in order and records `applied`, all or nothing.
    ///
    /// # Errors
    /// [`StateError`]; nothing is known then of what an unclean end will leave of this batch,
    /// except that it is all or nothing.
    fn write(&self, ops: &[StateOp], applied: LogId) -> Result<(), StateError>;

    /// A consistent view of everything written so far.
    ///
    /// # Errors
    /// [`StateError`] when the engine refuses.
    fn view(&self) -> Result<Box<dyn View>, StateError>;

    /// Makes everything written durable and returns the applied `LogId` that now is.
    ///
    /// # Errors
    /// [`StateError`] when it is not durable.
    fn persist(&self) -> Result<LogId, StateError>;

    /// The applied `LogId` as of the last durable point.
    ///
    /// # Errors
    /// [`StateError`] when the engine refuses.
    fn durable_applied(&self) -> Result<LogId, StateError>;

    /// Streams a consistent view out, in the format that every backend restores.
    ///
    /// # Errors
    /// [`StateError`] when the engine refuses.
    fn checkpoint(&self) -> Result<Box<dyn SnapshotSource>, StateError>;

    /// Replaces everything by a stream that [`StateStore::checkpoint`] of any backend made.
    /// Durable on return. A break leaves the store marked as incomplete, and it is restored again.
    ///
    /// # Errors
    /// [`StateError`] when the stream is damaged or cannot be stored.
    fn restore(&self, source: &mut dyn SnapshotReader) -> Result<LogId, StateError>;

    /// Sizes, for the operator.
    ///
    /// # Errors
    /// [`StateError`] when the engine refuses.
    fn stats(&self) -> Result<StateStats, StateError>;
}

/// One moment of a [`StateStore`]; later writes do not show in it.
pub trait View: Send {
    /// The applied `LogId` of this moment.
    fn applied(&self) -> LogId;

    /// The value of `key`.
    ///
    /// # Errors
    /// [`StateError`] when the engine refuses.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError>;

    /// Visits the keys of `range` in `order` until the visitor breaks.
    ///
    /// # Errors
    /// [`StateError`] when the engine refuses.
    fn scan(
        &self,
        range: KeyRange<'_>,
        order: ScanOrder,
        visit: ScanVisitor<'_>,
    ) -> Result<(), StateError>;
}

/// How large a [`StateStore`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateStats {
    /// Bytes that the store takes on disk (or in memory).
    pub allocated_bytes: u64,
    /// Bytes of it in use.
    pub live_bytes: u64,
}
