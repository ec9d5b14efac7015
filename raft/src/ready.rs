//! What the core hands out for the driver to do, and the receipts that the driver gives back.

use std::ops::Range;

use bytes::Bytes;

use crate::entries::Entries;
use crate::entry::{Entry, HardState, SnapshotMeta};
use crate::error::ProposeError;
use crate::message::Message;
use crate::storage::LogError;
use crate::types::{ForwardMark, LogId, LogIndex, NodeId, Role, Term};

/// What is known of the leadership; not persisted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoftState {
    /// Who leads, as far as this member knows.
    pub leader: Option<NodeId>,
    /// What this member is.
    pub role: Role,
}

/// Everything that follows from the inputs since the last `Ready`. Taking it accepts it: the same
/// work is never handed out twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// The new leadership, if it changed.
    pub soft_state: Option<SoftState>,
    /// What to write to the log, and what may only leave after that. None: nothing to write.
    pub persist: Option<Persist>,
    /// Messages that may leave at once.
    pub messages: Vec<Message>,
    /// Entries to apply, in order. Empty while a snapshot waits to be installed.
    pub committed: Entries,
    /// The receipt to give to [`crate::RawNode::applied`] when `committed` is applied. None in
    /// synchronous mode, where `advance` gives it.
    pub apply_ack: Option<ApplyAck>,
    /// Reads that are confirmed: answer each once `index` is applied.
    pub read_states: Vec<ReadState>,
    /// What became of what this member was asked, where that shows only later.
    pub fates: Vec<Fate>,
    /// Entries that are not in memory: read them off the run loop and give them to
    /// [`crate::RawNode::log_read`].
    pub reads: Vec<LogRead>,
    /// A follower needs a snapshot and none is known that reaches the log: build one, then call
    /// [`crate::RawNode::snapshot_available`].
    pub snapshot_wanted: bool,
}

impl Ready {
    /// Nothing, but for the memory that the lists have.
    #[inline]
    pub(crate) fn clear(&mut self) {
        // Every field stands here: who adds one has to decide.
        let Self {
            soft_state,
            persist,
            messages,
            committed,
            apply_ack,
            read_states,
            fates,
            reads,
            snapshot_wanted,
        } = self;
        *soft_state = None;
        if let Some(persist) = persist {
            persist.clear();
        }
        messages.clear();
        committed.clear();
        *apply_ack = None;
        read_states.clear();
        fates.clear();
        reads.clear();
        *snapshot_wanted = false;
    }
}

/// One step to persist: a single [`crate::GroupWrite`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Persist {
    /// The new hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// A peer's snapshot to install (`reset_to`); it comes before `entries`.
    pub snapshot: Option<SnapshotMeta>,
    /// Entries to append; a conflicting suffix is truncated.
    pub entries: Entries,
    /// Named values to set and remove, in the same atomic write (were it split, in its first part):
    /// they begin with `raft.` and say what the disk lost.
    pub meta: Vec<(Bytes, Option<Bytes>)>,
    /// The step itself must be made durable. False: a lazy write will do (only the commit index
    /// moved, or there is nothing to write).
    pub must_sync: bool,
    /// What may leave once this step, if `must_sync`, and *every earlier* step that had
    /// `must_sync` is durable: an answer may rest on an earlier step that still is on its way.
    /// Those addressed to this member itself are given to its own `step`, in order, before `ack`.
    pub messages: Vec<Message>,
    /// The receipt to give to [`crate::RawNode::persisted`] when this step and every earlier one
    /// is durable. None in synchronous mode, where `advance` gives it.
    pub ack: Option<PersistAck>,
}

impl Persist {
    /// Nothing, but for the memory that the lists have.
    #[inline]
    fn clear(&mut self) {
        let Self {
            hard_state,
            snapshot,
            entries,
            meta,
            must_sync,
            messages,
            ack,
        } = self;
        *hard_state = None;
        if snapshot.is_some() {
            *snapshot = None;
        }
        entries.clear();
        meta.clear();
        *must_sync = false;
        messages.clear();
        *ack = None;
    }
}

/// The receipt of a [`Persist`]. Carries the identity of what was written, so that a late one
/// cannot vouch for an entry that has been overwritten since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PersistAck {
    pub(crate) term: Term,
    pub(crate) last: LogId,
    pub(crate) snapshot: Option<LogIndex>,
}

impl PersistAck {
    /// The term in which the step was handed out.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.term
    }

    /// The last entry that it vouches for; [`LogId::ZERO`] for none.
    #[must_use]
    pub const fn last(&self) -> LogId {
        self.last
    }
}

/// The receipt of a [`Ready::committed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApplyAck {
    pub(crate) index: LogIndex,
    pub(crate) bytes: u64,
    pub(crate) payload: u64,
}

impl ApplyAck {
    /// The last entry that it stands for.
    #[must_use]
    pub const fn index(&self) -> LogIndex {
        self.index
    }
}

/// A read whose leadership is confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadState {
    /// A state that has applied this index is new enough.
    pub index: LogIndex,
    /// What the asker gave to `read_index`.
    pub context: Bytes,
}

/// What became of a read, or of proposals.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// A read of this member's own gets no answer: ask again.
    ReadDropped {
        /// What the asker gave to `read_index`.
        context: Bytes,
        /// Why.
        reason: ReadDropped,
    },
    /// This member led and does not any more, with entries of its own not committed. Each is
    /// committed if the entry that is committed at its index has its term, and lost otherwise.
    InDoubt {
        /// The first of them.
        first: LogIndex,
        /// The last, and the term of all.
        last: LogId,
    },
    /// Proposals that this member sent on to the leader ([`Proposed::Forwarded`]): told once.
    Forwarded {
        /// What names them.
        mark: ForwardMark,
        /// What became of them.
        outcome: ForwardOutcome,
    },
}

/// What became of proposals that were sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForwardOutcome {
    /// The leader has appended them, the last here. Committed if the entry that is committed at
    /// this index has this term, and lost otherwise.
    Appended(LogId),
    /// Whoever answered did not take them. Where the transport doubles messages, an earlier copy
    /// may have been taken all the same: there, read it as [`ForwardOutcome::InDoubt`].
    Dropped(ProposalDropped),
    /// Nobody knows: the leader changed, or did not answer for an election timeout. They may be in
    /// its log: proposed again, they may be there twice.
    InDoubt,
}

/// Why whoever got a proposal that was sent on did not take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ProposalDropped {
    /// It does not lead, or not for long, and knows nobody who does.
    #[error("whoever got it does not lead, or not for long; retry")]
    NoLeader,
    /// It has too much to do, or an earlier change of the configuration is not applied yet.
    #[error("the leader cannot take it now; retry later")]
    Busy,
    /// It cannot be taken as it is: a batch too large for the log, or a change of the
    /// configuration that the group cannot make.
    #[error("the leader refuses it; a retry is refused too")]
    Refused,
}

impl From<&ProposeError> for ProposalDropped {
    fn from(error: &ProposeError) -> Self {
        match error {
            ProposeError::NoLeader
            | ProposeError::Transferring
            | ProposeError::NotMember
            | ProposeError::Halted(_) => Self::NoLeader,
            ProposeError::Busy | ProposeError::ChangePending { .. } => Self::Busy,
            ProposeError::Invalid { .. } | ProposeError::ConfChange { .. } => Self::Refused,
        }
    }
}

/// Why a read gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ReadDropped {
    /// No leader is known where it came to.
    #[error("no leader is known; retry")]
    NoLeader,
    /// Too many wait at the leader.
    #[error("too many reads are waiting; retry")]
    Busy,
    /// The leader lost its leadership before a quorum had confirmed it.
    #[error("the leader lost its leadership; retry")]
    LostLeadership,
}

/// Entries that the core needs and that are not in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRead {
    /// Names the read in [`crate::RawNode::log_read`].
    pub id: LogReadId,
    /// What to read.
    pub range: Range<LogIndex>,
    /// How many payload bytes at most (at least one entry).
    pub max_bytes: u64,
}

/// Names a [`LogRead`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogReadId(pub(crate) u64);

/// What a [`LogRead`] gave.
pub type LogReadResult = Result<Vec<Entry>, LogError>;

/// How sending a snapshot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotStatus {
    /// The receiver has it whole.
    Finished,
    /// It never arrived.
    Failed,
}

/// What became of an accepted proposal's first step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proposed {
    /// Appended here, at the leader. Whether it is committed shows by what is committed at this
    /// index: another term there means it was lost.
    Appended(LogId),
    /// Sent on to the leader. What becomes of it a [`Fate::Forwarded`] of the same mark tells; of
    /// mark zero, with [`crate::Config::etcd_quirks`], nothing does.
    Forwarded {
        /// Who leads.
        to: NodeId,
        /// Names it.
        mark: ForwardMark,
    },
}
