//! What members say to each other: one body per RPC, the set of etcd's raft.

use bytes::Bytes;

use crate::entries::Entries;
use crate::entry::SnapshotMeta;
use crate::ready::{ProposalDropped, ReadDropped};
use crate::types::{ForwardMark, LogId, LogIndex, NodeId, Term};

/// A message between two members of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The sender's term; zero in what carries none ([`Body::Propose`],
    /// [`Body::ProposeResponse`], [`Body::ReadIndex`], [`Body::ReadIndexDropped`],
    /// [`Body::Committed`]).
    pub term: Term,
    /// How often the follower that replicates with its leader here was removed in this term: who
    /// is added again begins anew, and what belongs to its earlier life counts no more. Zero for
    /// all others and in all that is not replication.
    pub session: u64,
    /// What a follower's answer to its leader counts for; [`Standing::Sound`] in all else.
    pub standing: Standing,
    /// What it says.
    pub body: Body,
}

/// What a follower's answers to its leader count for, the most first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// It votes, and what it answers counts.
    #[default]
    Sound,
    /// It never votes ([`crate::Loss::TailLost`]). What it answers counts all the same: it knows
    /// its term, and no election is won with its vote.
    Voteless,
    /// It does not know in which terms it took part ([`crate::Loss::VoteUnknown`]): a leader that
    /// it answers may be one that it has helped to replace. What it answers counts for nobody.
    Uncounted,
}

/// What a [`Message`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// RequestVote (Raft paper, figure 2).
    Vote {
        /// The candidate's last entry.
        last: LogId,
        /// Sent on behalf of a leader that hands over: not subject to leader stickiness.
        transfer: bool,
    },
    /// The answer to [`Body::Vote`].
    VoteResponse {
        /// Refused.
        reject: bool,
    },
    /// Could I win an election in this (the next) term? (thesis, section 9.6)
    PreVote {
        /// The candidate's last entry.
        last: LogId,
    },
    /// The answer to [`Body::PreVote`].
    PreVoteResponse {
        /// Refused.
        reject: bool,
    },
    /// AppendEntries (Raft paper, figure 2).
    Append {
        /// The entry just before `entries`.
        prev: LogId,
        /// The leader's commit index.
        commit: LogIndex,
        /// The entries, contiguous from `prev.index + 1`. Shared between messages.
        entries: Entries,
    },
    /// The answer to [`Body::Append`] and [`Body::Snapshot`].
    AppendResponse {
        /// The last index that now matches, or the `prev.index` that did not.
        index: LogIndex,
        /// Set when refused: the largest entry that may still match.
        reject: Option<LogId>,
    },
    /// Keeps the leader in office and tells the commit index.
    Heartbeat {
        /// What the receiver may commit: never beyond what it is known to hold.
        commit: LogIndex,
        /// The reads that this round confirms; zero for none.
        read_position: u64,
    },
    /// Tells a follower that is known to hold all that was sent how far it may commit. Has no
    /// answer: it would say nothing new. A heartbeat says it again.
    Commit {
        /// What the receiver may commit: never beyond what it is known to hold.
        index: LogIndex,
    },
    /// The answer to [`Body::Heartbeat`].
    HeartbeatResponse {
        /// The heartbeat's own.
        read_position: u64,
    },
    /// InstallSnapshot: the meta data; the state itself travels beside it.
    Snapshot {
        /// What the snapshot covers. Boxed: few messages are one, and the others are small.
        meta: Box<SnapshotMeta>,
    },
    /// Start an election at once: the leader hands over (thesis, section 3.10).
    TimeoutNow,
    /// Proposals of a follower for its leader; ids are zero until the leader gives them.
    Propose {
        /// What the answer to `from` is to name; zero when it wants none.
        mark: ForwardMark,
        /// The proposals.
        entries: Entries,
    },
    /// The answer to [`Body::Propose`], from whoever appended the proposals or dropped them.
    ProposeResponse {
        /// The proposer's mark.
        mark: ForwardMark,
        /// Where the last of them stands, or why none does.
        result: Result<LogId, ProposalDropped>,
    },
    /// A follower asks its leader for a read index (thesis, section 6.4).
    ReadIndex {
        /// The asker's own mark, given back unchanged.
        context: Bytes,
    },
    /// The answer to [`Body::ReadIndex`].
    ReadIndexResponse {
        /// A state that has applied this index is new enough.
        index: LogIndex,
        /// The asker's mark.
        context: Bytes,
    },
    /// The answer to [`Body::ReadIndex`] when there will be none.
    ReadIndexDropped {
        /// The asker's mark.
        context: Bytes,
        /// Why.
        reason: ReadDropped,
    },
    /// A follower asks its leader to hand over to `to`.
    TransferLeader {
        /// Who should lead.
        to: NodeId,
    },
    /// Who refuses a vote tells the candidate what it knows to be committed. The candidate may
    /// have it without knowing, and with it a configuration in which it needs no such vote.
    Committed {
        /// The last committed entry.
        last: LogId,
    },
    /// A leader to a follower that refuses what it has acknowledged: up to here it did.
    Acked {
        /// The highest index that was acknowledged to this leader.
        index: LogIndex,
    },
    /// A follower's disk lost what it had: send again from behind here.
    Lost {
        /// The last entry before what is lost; term zero where it is not known.
        kept: LogId,
    },
    /// A follower wants a snapshot that reaches the end of its log, to replace its state.
    WantSnapshot {
        /// Where its log ends.
        last: LogId,
    },
}

/// Which kind of [`Body`] a message has. In the same order: then nothing has to be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the body of the same name")]
pub enum MessageKind {
    Vote,
    VoteResponse,
    PreVote,
    PreVoteResponse,
    Append,
    AppendResponse,
    Heartbeat,
    Commit,
    HeartbeatResponse,
    Snapshot,
    TimeoutNow,
    Propose,
    ProposeResponse,
    ReadIndex,
    ReadIndexResponse,
    ReadIndexDropped,
    TransferLeader,
    Committed,
    Acked,
    Lost,
    WantSnapshot,
}

impl MessageKind {
    /// Somebody asks for a vote or on behalf of a user, or tells what became of that: taken
    /// whatever this member knows of the sender.
    pub(crate) const fn is_request(self) -> bool {
        matches!(
            self,
            Self::Vote
                | Self::PreVote
                | Self::Propose
                | Self::ProposeResponse
                | Self::ReadIndex
                | Self::ReadIndexDropped
                | Self::TransferLeader
                | Self::Committed
        )
    }

    /// Only members send these.
    pub(crate) const fn is_response(self) -> bool {
        self.is_answer()
            || matches!(
                self,
                Self::VoteResponse
                    | Self::PreVoteResponse
                    | Self::ProposeResponse
                    | Self::ReadIndexResponse
                    | Self::ReadIndexDropped
            )
    }

    /// It carries no term.
    pub(crate) const fn is_termless(self) -> bool {
        matches!(
            self,
            Self::Propose
                | Self::ProposeResponse
                | Self::ReadIndex
                | Self::ReadIndexDropped
                | Self::Committed
        )
    }

    /// A follower's answer to its leader: it belongs to a session and carries a standing.
    #[must_use]
    pub const fn is_answer(self) -> bool {
        matches!(
            self,
            Self::AppendResponse | Self::HeartbeatResponse | Self::Lost | Self::WantSnapshot
        )
    }
}

impl Body {
    /// Which kind it is.
    #[must_use]
    #[inline]
    pub const fn kind(&self) -> MessageKind {
        match self {
            Self::Vote { .. } => MessageKind::Vote,
            Self::VoteResponse { .. } => MessageKind::VoteResponse,
            Self::PreVote { .. } => MessageKind::PreVote,
            Self::PreVoteResponse { .. } => MessageKind::PreVoteResponse,
            Self::Append { .. } => MessageKind::Append,
            Self::AppendResponse { .. } => MessageKind::AppendResponse,
            Self::Heartbeat { .. } => MessageKind::Heartbeat,
            Self::HeartbeatResponse { .. } => MessageKind::HeartbeatResponse,
            Self::Snapshot { .. } => MessageKind::Snapshot,
            Self::TimeoutNow => MessageKind::TimeoutNow,
            Self::Propose { .. } => MessageKind::Propose,
            Self::ProposeResponse { .. } => MessageKind::ProposeResponse,
            Self::ReadIndex { .. } => MessageKind::ReadIndex,
            Self::ReadIndexResponse { .. } => MessageKind::ReadIndexResponse,
            Self::TransferLeader { .. } => MessageKind::TransferLeader,
            Self::Committed { .. } => MessageKind::Committed,
            Self::Acked { .. } => MessageKind::Acked,
            Self::Lost { .. } => MessageKind::Lost,
            Self::WantSnapshot { .. } => MessageKind::WantSnapshot,
            Self::ReadIndexDropped { .. } => MessageKind::ReadIndexDropped,
            Self::Commit { .. } => MessageKind::Commit,
        }
    }
}
