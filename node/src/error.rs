//! Why a request failed: one variant for each thing that a caller can do about it.

use std::sync::Arc;

use raftwerk_raft::{ConfigError, GroupId, LogId, NodeId, StateError, StorageError};

use crate::oneshot::Abandoned;
use crate::transport::TransportError;

/// Why a proposal has no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// Nobody led for as long as it was held. It was not appended: retry later.
    #[error("no leader is known; retry later")]
    NoLeader,
    /// Another change of members was under way for as long as it was held. It was not appended:
    /// retry once that one is made.
    #[error("another change of members is under way; retry later")]
    ChangePending,
    /// A bound is reached. It was not appended: retry later.
    #[error("too many proposals are in flight; retry later")]
    Busy,
    /// Another leader overwrote it: it will never be applied. Retry.
    #[error("proposal was overwritten by another leader; retry")]
    Dropped,
    /// It may or may not be or become applied: only a retry that is harmless when applied twice
    /// is safe.
    #[error("outcome of the proposal is unknown")]
    Unknown,
    /// Larger than the group's limit: no retry helps.
    #[error("proposal of {bytes} bytes exceeds the limit of {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// It makes no sense, or the change of members is not possible now. It was not appended.
    #[error("proposal refused: {reason}")]
    Refused {
        /// Why.
        reason: Arc<str>,
    },
    /// The group has halted on this host.
    #[error("group has halted: {cause}")]
    Halted {
        /// Why, and what to do.
        cause: Arc<str>,
    },
    /// The group or the host was stopped before the proposal was appended.
    #[error("the group is stopped")]
    Stopped,
}

impl Abandoned for ProposeError {
    fn abandoned() -> Self {
        Self::Unknown
    }
}

/// Why there is no read index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No leader confirmed it in time: retry.
    #[error("no leader confirmed the read in time; retry")]
    NoLeader,
    /// The state machine here did not catch up in time: retry, or read at another member.
    #[error("the state machine here is too far behind; retry later")]
    Behind,
    /// A bound is reached: retry later.
    #[error("too many reads are waiting; retry later")]
    Busy,
    /// The group has halted on this host.
    #[error("group has halted: {cause}")]
    Halted {
        /// Why, and what to do.
        cause: Arc<str>,
    },
    /// The group or the host is stopped.
    #[error("the group is stopped")]
    Stopped,
}

impl Abandoned for ReadError {
    fn abandoned() -> Self {
        Self::Stopped
    }
}

/// Why leadership was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// No leader is known: retry later.
    #[error("no leader is known; retry later")]
    NoLeader,
    /// The target did not take over in time; who leads now is in the status.
    #[error("leadership was not taken over in time")]
    TimedOut,
    /// The target cannot lead: not a voter.
    #[error("{to} cannot lead: it is not a voter")]
    NotVoter {
        /// Who.
        to: NodeId,
    },
    /// A bound is reached: retry later.
    #[error("too many requests are waiting; retry later")]
    Busy,
    /// The group has halted on this host.
    #[error("group has halted: {cause}")]
    Halted {
        /// Why, and what to do.
        cause: Arc<str>,
    },
    /// The group or the host is stopped.
    #[error("the group is stopped")]
    Stopped,
}

impl Abandoned for TransferError {
    fn abandoned() -> Self {
        Self::Stopped
    }
}

/// Why no snapshot was taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Another one of this group is being taken or installed: retry later.
    #[error("a snapshot is being taken or installed already; retry later")]
    Busy,
    /// The state machine or the disk refused.
    #[error("snapshot failed: {reason}")]
    Failed {
        /// Why.
        reason: Arc<str>,
    },
    /// The group has halted on this host.
    #[error("group has halted: {cause}")]
    Halted {
        /// Why, and what to do.
        cause: Arc<str>,
    },
    /// The group or the host is stopped.
    #[error("the group is stopped")]
    Stopped,
}

impl Abandoned for SnapshotError {
    fn abandoned() -> Self {
        Self::Stopped
    }
}

/// Why a member's state was not replaced by a snapshot of its leader's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplaceError {
    /// It leads, or nobody does: hand leadership over first, or retry once somebody leads.
    #[error("only a follower's state can be replaced")]
    NotFollower,
    /// It is the only voter.
    #[error("there is nobody to ask for a snapshot")]
    Alone,
    /// It was asked for already: wait for that.
    #[error("a snapshot was asked for already")]
    Busy,
    /// Nobody else could lead, so the state stays: retry once somebody does.
    #[error("given up, since nobody else led; retry later")]
    GivenUp,
    /// The group has halted on this host.
    #[error("group has halted: {cause}")]
    Halted {
        /// Why, and what to do.
        cause: Arc<str>,
    },
    /// The group or the host is stopped.
    #[error("the group is stopped")]
    Stopped,
}

impl Abandoned for ReplaceError {
    fn abandoned() -> Self {
        Self::Stopped
    }
}

/// Why a host does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// An option makes no sense.
    #[error("invalid option {name}: {reason}")]
    Option {
        /// Which.
        name: &'static str,
        /// Why, and what is allowed.
        reason: &'static str,
    },
    /// The log store is poisoned already.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The transport does not start.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The operating system refused a thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// Why a group is not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// It is open on this host.
    #[error("group {group} is open already")]
    AlreadyOpen {
        /// Which.
        group: GroupId,
    },
    /// An option makes no sense.
    #[error("invalid option {name}: {reason}")]
    Option {
        /// Which.
        name: &'static str,
        /// Why, and what is allowed.
        reason: &'static str,
    },
    /// There is nothing of it in the log, and it was to exist: bootstrap or join it.
    #[error("group {group} does not exist in this log")]
    NotFound {
        /// Which.
        group: GroupId,
    },
    /// The log lost its record of it, and with it how it voted.
    #[error(
        "the record of group {group} in the log is lost, and with it how this member voted: remove \
         the member from the group, destroy the group here and add the member anew"
    )]
    VoteUnknown {
        /// Which.
        group: GroupId,
    },
    /// The log store refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The log cannot be read or written.
    #[error("log of group {group}: {reason}")]
    Log {
        /// Which.
        group: GroupId,
        /// Why not.
        reason: String,
    },
    /// What is stored contradicts itself or the options.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state machine has applied what this log never held: it is another group's, or the log
    /// was replaced. Remove this member from the group and add it anew.
    #[error(
        "state machine has applied {applied}, which is not in this log (it ends at {last}): they \
         do not belong together; remove this member and add it again"
    )]
    ForeignState {
        /// The state machine's last.
        applied: LogId,
        /// The log's last.
        last: LogId,
    },
    /// The state machine is older than the log's beginning and the snapshot between them is gone.
    #[error(
        "state machine has applied {applied}, the log begins after {snapshot} and its snapshot \
         file is missing; remove this member and add it again"
    )]
    SnapshotMissing {
        /// The state machine's last.
        applied: LogId,
        /// What the snapshot covered.
        snapshot: LogId,
    },
    /// The state machine could not be restored from the snapshot.
    #[error("cannot restore the state machine: {0}")]
    Restore(#[from] StateError),
    /// A snapshot file or folder cannot be used.
    #[error("{path}: {reason}")]
    SnapshotFile {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// The host is stopped, or a queue is full.
    #[error("the host is stopped")]
    Stopped,
}
