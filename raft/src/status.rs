//! A look inside, for operators and tests.

use std::collections::BTreeMap;

use crate::entry::{ConfState, HardState};
use crate::tracker::Progress;
use crate::types::{LogId, LogIndex, NodeId, Role};

/// A copy of what a member knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub id: NodeId,
    /// What it does.
    pub role: Role,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// To whom leadership is being handed over.
    pub transferee: Option<NodeId>,
    /// Its term, vote and commit index, persisted or not.
    pub hard_state: HardState,
    /// The last entry whose application was acknowledged.
    pub applied: LogIndex,
    /// The first index of the log.
    pub first: LogIndex,
    /// The last entry, persisted or not.
    pub last: LogId,
    /// The last index that is known to be durable here; zero while a snapshot is being installed.
    pub durable: LogIndex,
    /// The configuration in force.
    pub conf_state: ConfState,
    /// What a leader knows of everybody's log; empty on others.
    pub progress: BTreeMap<NodeId, Progress>,
    /// Reads that wait for an answer.
    pub pending_reads: usize,
    /// Messages dropped since they could not be true.
    pub invalid_messages: u64,
    /// This member neither asks for votes nor grants any: its disk lost what they rest on.
    pub voteless: bool,
    /// This follower asked for a snapshot and has none yet.
    pub wants_snapshot: bool,
    /// What the disk lost and has not been made good, the worst first; none when all is well.
    pub loss: Option<Loss>,
}

/// What a member's disk lost. Its text tells the operator what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Loss {
    /// The record of its votes.
    #[error(
        "the record of this member's votes may be lost: it keeps its log and never votes again; \
         remove it from the group and add it anew under another identity"
    )]
    VoteUnknown,
    /// Entries at the end of the log that it had acknowledged.
    #[error(
        "acknowledged entries at the end of this member's log are lost: it is brought up to date \
         and has no vote unless unsafely told so; remove it from the group and add it anew under \
         another identity"
    )]
    TailLost,
    /// Entries within the log, not yet applied.
    #[error(
        "entries {first} to {last} are damaged on disk: the leader sends them again, nothing is \
         to be done as long as the group has one; check the disk"
    )]
    Faulty {
        /// The first of them.
        first: LogIndex,
        /// The last of them; between the two some may be sound.
        last: LogIndex,
    },
    /// Damaged entries are on their way.
    #[error(
        "damaged entries are being replaced: this member may lead again once its log is at {to}"
    )]
    Refilling {
        /// Where the log ended.
        to: LogId,
    },
    /// Entries that cannot be read now, or that are applied.
    #[error(
        "entries of this member's log cannot be read: take a snapshot here and let the log be \
         compacted; if that does not help, check the disk and restart"
    )]
    Damaged,
}
