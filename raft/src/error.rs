//! Why an input was not taken. None of these changes the core's state.

use crate::observer::ConfChangeRefusal;
use crate::storage::LogError;
use crate::types::{LogIndex, NodeId};

/// Why a member cannot be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// An option makes no sense.
    #[error("invalid option {name}: {reason}")]
    Option {
        /// Which.
        name: &'static str,
        /// Why, and what is allowed.
        reason: &'static str,
    },
    /// The stored configuration contradicts itself.
    #[error("stored configuration is invalid: {reason}")]
    ConfState {
        /// How.
        reason: String,
    },
    /// The applied index given is not one that this log can have applied.
    #[error("applied index {applied} is outside of the log's range {first_applied} to {commit}")]
    Applied {
        /// What was given.
        applied: LogIndex,
        /// The least possible: what the log's beginning stands for.
        first_applied: LogIndex,
        /// The most: what is committed.
        commit: LogIndex,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Why a proposal was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// No leader is known: retry later.
    #[error("no leader is known; retry")]
    NoLeader,
    /// Leadership is being handed over: retry later.
    #[error("leadership is being transferred; retry")]
    Transferring,
    /// This member is no longer part of the group.
    #[error("this member is not in the group's configuration")]
    NotMember,
    /// The leader holds as many uncommitted bytes as it may: retry later.
    #[error("too many uncommitted bytes; retry")]
    Busy,
    /// An empty batch, or a change that cannot be encoded.
    #[error("invalid proposal: {reason}")]
    Invalid {
        /// What is wrong.
        reason: &'static str,
    },
    /// An earlier configuration change may not be applied yet: retry once it is.
    #[error("a configuration change up to {index} is not applied yet (applied is {applied})")]
    ChangePending {
        /// Where the earlier one stands at most.
        index: LogIndex,
        /// What is applied.
        applied: LogIndex,
    },
    /// A configuration change that the group cannot make.
    #[error("configuration change refused: {reason}")]
    ConfChange {
        /// Why.
        reason: ConfChangeRefusal,
    },
    /// The group has halted on this member.
    #[error(transparent)]
    Halted(#[from] Halted),
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// A response of somebody who is no member.
    #[error("{from} is not a member")]
    PeerNotFound {
        /// Who sent it.
        from: NodeId,
    },
    /// The message cannot be true: dropped and counted.
    #[error("message makes no sense: {reason}")]
    Invalid {
        /// What is wrong.
        reason: &'static str,
    },
    /// The proposals it carried were dropped.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The group has halted on this member.
    #[error(transparent)]
    Halted(#[from] Halted),
}

/// Why a read index cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadIndexError {
    /// No leader is known: retry later.
    #[error("no leader is known; retry")]
    NoLeader,
    /// Too many reads wait for the term's first commit: retry later.
    #[error("too many reads are waiting; retry")]
    Busy,
    /// The group has halted on this member.
    #[error(transparent)]
    Halted(#[from] Halted),
}

/// Why no snapshot is asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestSnapshotError {
    /// A leader or candidate has nobody to ask: hand over first, or retry once somebody leads.
    #[error("only a follower can ask for a snapshot")]
    NotFollower,
    /// This member is the only voter.
    #[error("there is nobody to ask for a snapshot")]
    Alone,
    /// The group has halted on this member.
    #[error(transparent)]
    Halted(#[from] Halted),
}

/// Why a read cannot be answered by the leader's lease: ask with `read_index` instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseReadError {
    /// The option is off.
    #[error("leases are off")]
    Off,
    /// Only the leader has a lease.
    #[error("not the leader")]
    NotLeader {
        /// Who leads, as far as this member knows.
        leader: Option<NodeId>,
    },
    /// The leader has committed nothing in its term yet.
    #[error("the leader's term has just begun; retry")]
    NotReady,
    /// No quorum has answered lately, or leadership was offered to somebody else in this term.
    #[error("the lease is not in force")]
    Expired,
    /// The group has halted on this member.
    #[error(transparent)]
    Halted(#[from] Halted),
}

/// Why a committed configuration change had no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyConfChangeError {
    /// It does not fit the configuration in force; every member refuses it alike.
    #[error("configuration change has no effect: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// A snapshot that is being installed is newer and has brought its own configuration: make no
    /// snapshot of this state before that is done.
    #[error("a newer snapshot's configuration is in force")]
    Superseded,
    /// The group has halted on this member.
    #[error(transparent)]
    Halted(#[from] Halted),
}

/// The group has stopped on this member for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("group has halted: {cause}")]
pub struct Halted {
    /// What happened, and the operator's next step.
    pub cause: String,
}
