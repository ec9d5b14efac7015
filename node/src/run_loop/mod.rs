//! The run loop: a plain struct without clock or threads, fed with events and polled for effects.
//! What happens in one turn for all groups becomes one write batch.

mod driver;
mod incarnation;
mod membership;
mod open;
mod proposals;
mod reads;
mod snapshots;
mod stage;
mod submit;
#[cfg(test)]
mod tests;
mod thread;
mod turn;

use std::sync::Arc;

use bytes::Bytes;
use raftwerk_raft::{
    ApplyAck, ConfChange, GroupId, LogId, LogIndex, LogRead, LogReadId, LogReadResult, LogReader,
    Message, NodeId, Poisoned, SnapshotMeta, SnapshotSource, SnapshotStatus, Ticket,
};

use crate::apply::{Actor, Job};
use crate::envelope::{Applied, Envelope};
use crate::error::{ProposeError, ReadError, ReplaceError, SnapshotError, TransferError};
use crate::member::MemberTable;
use crate::oneshot::Completer;

pub(crate) use driver::Driver;
pub(crate) use open::{Opening, open};
pub(crate) use proposals::Waiter;
pub(crate) use stage::{Stage, Workers};
pub(crate) use thread::Loop;
pub(crate) use turn::Turn;

/// What comes into a turn.
pub(crate) enum Event {
    /// One unit of time.
    Tick,
    /// The log's new watermark, or the error that ended it.
    Durable(Result<Ticket, Poisoned>),
    /// From a peer.
    Message { from: NodeId, envelope: Envelope },
    /// Messages to a peer are being lost.
    Unreachable(NodeId),
    /// From a handle.
    Request(Request),
    /// From a worker.
    Report(Report),
    /// The last event: a final turn follows.
    Stop,
}

/// What a handle asks of its group.
pub(crate) struct Request {
    pub(crate) group: GroupId,
    pub(crate) ask: Ask,
}

pub(crate) enum Ask {
    Propose {
        data: Bytes,
        answer: Completer<Applied, ProposeError>,
    },
    Change {
        change: ConfChange,
        answer: Completer<Applied, ProposeError>,
    },
    Read {
        answer: Completer<LogIndex, ReadError>,
    },
    Transfer {
        to: NodeId,
        answer: Completer<(), TransferError>,
    },
    Snapshot {
        answer: Completer<LogId, SnapshotError>,
    },
    Replace {
        answer: Completer<LogId, ReplaceError>,
    },
    Campaign,
}

impl Request {
    /// About how many bytes it holds.
    pub(crate) fn weight(&self) -> usize {
        const BASE: usize = 128;
        BASE + match &self.ask {
            Ask::Propose { data, .. } => data.len(),
            Ask::Change { change, .. } => change.context.len(),
            _ => 0,
        }
    }
}

impl Ask {
    /// True when it makes the log grow.
    pub(crate) const fn is_write(&self) -> bool {
        matches!(self, Self::Propose { .. } | Self::Change { .. })
    }

    pub(crate) fn refuse_busy(self) {
        match self {
            Self::Propose { answer, .. } | Self::Change { answer, .. } => {
                answer.complete(Err(ProposeError::Busy));
            }
            Self::Read { answer } => answer.complete(Err(ReadError::Busy)),
            Self::Transfer { answer, .. } => answer.complete(Err(TransferError::Busy)),
            Self::Snapshot { answer } => answer.complete(Err(SnapshotError::Busy)),
            Self::Replace { answer } => answer.complete(Err(ReplaceError::Busy)),
            Self::Campaign => {}
        }
    }

    pub(crate) fn refuse_stopped(self) {
        match self {
            Self::Propose { answer, .. } | Self::Change { answer, .. } => {
                answer.complete(Err(ProposeError::Stopped));
            }
            Self::Read { answer } => answer.complete(Err(ReadError::Stopped)),
            Self::Transfer { answer, .. } => answer.complete(Err(TransferError::Stopped)),
            Self::Snapshot { answer } => answer.complete(Err(SnapshotError::Stopped)),
            Self::Replace { answer } => answer.complete(Err(ReplaceError::Stopped)),
            Self::Campaign => {}
        }
    }

    pub(crate) fn refuse_halted(self, cause: &Arc<str>) {
        let cause = Arc::clone(cause);
        match self {
            Self::Propose { answer, .. } | Self::Change { answer, .. } => {
                answer.complete(Err(ProposeError::Halted { cause }));
            }
            Self::Read { answer } => answer.complete(Err(ReadError::Halted { cause })),
            Self::Transfer { answer, .. } => answer.complete(Err(TransferError::Halted { cause })),
            Self::Snapshot { answer } => answer.complete(Err(SnapshotError::Halted { cause })),
            Self::Replace { answer } => answer.complete(Err(ReplaceError::Halted { cause })),
            Self::Campaign => {}
        }
    }
}

/// What the host's own workers report about a group.
pub(crate) struct Report {
    pub(crate) group: GroupId,
    pub(crate) what: Reported,
}

pub(crate) enum Reported {
    /// The group begins.
    Open(Box<Driver>),
    /// Committed entries are applied.
    Applied { last: LogId, ack: ApplyAck },
    /// The state machine cannot go on.
    Halted { cause: Arc<str> },
    /// Log entries that were not in memory.
    LogRead {
        id: LogReadId,
        result: LogReadResult,
    },
    /// A view of the state, ready to be written to a file.
    View(Result<StateView, Arc<str>>),
    /// The view is a file now.
    Built(Result<(SnapshotMeta, u64), Arc<str>>),
    /// A peer's snapshot is here and durable: this is what it says.
    Received(Message),
    /// A snapshot of a peer of what this member has already: its bytes were not taken.
    NotNeeded(Message),
    /// The state machine is a received snapshot's now.
    Restored(LogId),
    /// How sending a snapshot ended.
    Sent { to: NodeId, status: SnapshotStatus },
}

/// A moment of the state machine.
pub(crate) struct StateView {
    pub(crate) source: Box<dyn SnapshotSource>,
    /// What the state machine has durably applied.
    pub(crate) persisted: LogId,
}

/// What a turn wants done, in order.
pub(crate) enum Effect {
    /// To a peer.
    Send { to: NodeId, envelope: Envelope },
    /// Work for a state machine.
    Apply { actor: Arc<Actor>, job: Job },
    /// Entries that are not in memory.
    Read {
        group: GroupId,
        log: Arc<dyn LogReader>,
        read: LogRead,
    },
    /// A view to be written to a file.
    Build {
        group: GroupId,
        meta: SnapshotMeta,
        source: Box<dyn SnapshotSource>,
    },
    /// A snapshot for a peer.
    SendSnapshot {
        group: GroupId,
        message: Message,
        meta: SnapshotMeta,
    },
    /// Snapshot files older than this may go.
    Collect { group: GroupId, newest: LogId },
    /// The members that the transport must know.
    Members {
        group: GroupId,
        members: MemberTable,
    },
}
