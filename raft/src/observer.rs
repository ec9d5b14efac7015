//! What happens inside the core, told as typed events.

use crate::confchange::ConfChangeError;
use crate::entry::{ConfChange, ConfState};
use crate::error::ProposeError;
use crate::message::MessageKind;
use crate::ready::{ForwardOutcome, ReadDropped};
use crate::tracker::{Config, Progress};
use crate::types::{ForwardMark, LogId, LogIndex, NodeId, Role, Term};

/// A request for a vote (or a pre-vote) and what it met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteRequest {
    /// [`MessageKind::Vote`] or [`MessageKind::PreVote`].
    pub kind: MessageKind,
    /// The candidate.
    pub from: NodeId,
    /// The candidate's last entry.
    pub candidate_last: LogId,
    /// This member's last entry.
    pub own_last: LogId,
    /// Who had this member's vote before.
    pub vote: Option<NodeId>,
    /// This member's term.
    pub term: Term,
}

/// Why a leader did not take a configuration change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfChangeRefusal {
    /// An earlier one may not be applied yet.
    #[error("a change up to {index} may not be applied yet (applied is {applied})")]
    Pending {
        /// Where the earlier one stands at most.
        index: LogIndex,
        /// What is applied.
        applied: LogIndex,
    },
    /// The configuration is joint: only leaving it is possible.
    #[error("the configuration is joint: leave it first")]
    Joint,
    /// There is no joint configuration to leave.
    #[error("the configuration is not joint: there is nothing to leave")]
    NotJoint,
    /// The configuration in force cannot be changed so.
    #[error(transparent)]
    Impossible(ConfChangeError),
}

/// Something that happened inside the core. Meant for logs, metrics and tests; never for control.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The member started.
    Started {
        /// The voters of both halves.
        peers: &'a [NodeId],
        /// Its term.
        term: Term,
        /// What is committed.
        commit: LogIndex,
        /// What is applied.
        applied: LogIndex,
        /// Its last entry.
        last: LogId,
    },
    /// Another configuration is in force.
    ConfSwitched {
        /// Which.
        config: &'a Config,
    },
    /// The role was taken (again).
    RoleChanged {
        /// Which.
        role: Role,
        /// In which term.
        term: Term,
    },
    /// An election starts.
    ElectionStarted {
        /// The term before it.
        term: Term,
    },
    /// A vote was asked for.
    VoteRequested {
        /// [`MessageKind::Vote`] or [`MessageKind::PreVote`].
        kind: MessageKind,
        /// From whom.
        to: NodeId,
        /// This member's last entry.
        last: LogId,
        /// This member's term.
        term: Term,
    },
    /// A vote came.
    VoteReceived {
        /// [`MessageKind::VoteResponse`] or [`MessageKind::PreVoteResponse`].
        kind: MessageKind,
        /// From whom.
        from: NodeId,
        /// Granted or refused.
        granted: bool,
        /// This member's term.
        term: Term,
    },
    /// The votes so far.
    VotesCounted {
        /// [`MessageKind::VoteResponse`] or [`MessageKind::PreVoteResponse`].
        kind: MessageKind,
        /// How many granted.
        granted: usize,
        /// How many refused.
        rejected: usize,
    },
    /// A message of a higher term ends this one.
    HigherTerm {
        /// What came.
        kind: MessageKind,
        /// From whom.
        from: NodeId,
        /// This member's term before.
        term: Term,
        /// The message's.
        message_term: Term,
    },
    /// A message of a lower term was ignored.
    LowerTerm {
        /// What came.
        kind: MessageKind,
        /// From whom.
        from: NodeId,
        /// This member's term.
        term: Term,
        /// The message's.
        message_term: Term,
    },
    /// A vote was granted.
    VoteCast(VoteRequest),
    /// A vote was refused.
    VoteRefused(VoteRequest),
    /// A request was ignored: a leader was heard from lately.
    VoteIgnored {
        /// The request.
        request: VoteRequest,
        /// How long the leader still counts as alive.
        remaining_ticks: u32,
    },
    /// A receipt of an earlier term vouches for no entry any more.
    StalePersistAck {
        /// This member's term.
        term: Term,
        /// The receipt's.
        ack_term: Term,
    },
    /// A receipt is for an entry that is no longer waiting.
    PersistAckMissing {
        /// Its index.
        index: LogIndex,
    },
    /// A receipt is for an entry that has been overwritten.
    PersistAckMismatched {
        /// What was persisted.
        acked: LogId,
        /// The term of what stands there now.
        held: Term,
    },
    /// A receipt is for the entry that a waiting snapshot ends with.
    PersistAckInSnapshot {
        /// Its index.
        index: LogIndex,
    },
    /// A snapshot replaces the log.
    SnapshotRestoreStarted {
        /// What was committed.
        committed: LogIndex,
        /// What was applied.
        applied: LogIndex,
        /// What was handed out to be applied.
        applying: LogIndex,
        /// Where the tail that is not durable began.
        offset: LogIndex,
        /// Up to where that was being persisted (exclusive).
        offset_in_progress: LogIndex,
        /// How many entries it had.
        unstable: usize,
        /// What the snapshot covers.
        snapshot: LogId,
    },
    /// A snapshot has replaced the log.
    SnapshotRestored {
        /// What is committed.
        commit: LogIndex,
        /// The last entry.
        last: LogId,
        /// What the snapshot covers.
        snapshot: LogId,
    },
    /// The log already had what a snapshot covers: only the commit index moved.
    SnapshotFastForwarded {
        /// What was committed before.
        commit: LogIndex,
        /// The last entry.
        last: LogId,
        /// What the snapshot covers.
        snapshot: LogId,
    },
    /// A snapshot did not replace the log.
    SnapshotIgnored {
        /// What is committed.
        commit: LogIndex,
        /// What the snapshot covers.
        snapshot: LogId,
    },
    /// A snapshot of a configuration that this member has no part in.
    SnapshotForeign {
        /// Its configuration.
        conf_state: &'a ConfState,
    },
    /// This follower forgot its leader.
    LeaderForgotten {
        /// Who led.
        leader: NodeId,
        /// In which term.
        term: Term,
    },
    /// Forgetting the leader is not possible with lease reads.
    ForgetLeaderRefused,
    /// The tail that is not durable was replaced whole.
    UnstableReplaced {
        /// From where on.
        from: LogIndex,
    },
    /// The tail that is not durable was cut.
    UnstableTruncated {
        /// From where on.
        from: LogIndex,
    },
    /// The leader's entry differs from ours: ours goes, with all behind it.
    LogConflict {
        /// Where.
        index: LogIndex,
        /// The term of ours.
        existing: Term,
        /// The term of the leader's.
        conflicting: Term,
    },
    /// The leader proposes to leave the joint configuration.
    LeavingJoint {
        /// What is in force.
        config: &'a Config,
    },
    /// The leader cannot propose that now; it will try again.
    NotLeavingJoint {
        /// What is in force.
        config: &'a Config,
        /// Why.
        reason: &'a str,
    },
    /// A configuration change was not taken.
    ConfChangeRefused {
        /// The change.
        change: &'a ConfChange,
        /// What is in force.
        config: &'a Config,
        /// Why.
        reason: ConfChangeRefusal,
    },
    /// A committed configuration change has no effect.
    ConfChangeVoid {
        /// Why.
        reason: &'a str,
    },
    /// A message was dropped since no leader is known.
    NoLeader {
        /// What was dropped.
        kind: MessageKind,
        /// This member's term.
        term: Term,
    },
    /// Proposals are in this leader's log.
    ProposalAppended {
        /// Whose.
        from: NodeId,
        /// How many.
        count: usize,
        /// The last of them; they stand one behind the other.
        last: LogId,
    },
    /// Proposals were sent on to the leader.
    ProposalForwarded {
        /// Whose.
        from: NodeId,
        /// How many.
        count: usize,
        /// Who leads.
        to: NodeId,
    },
    /// What became of proposals that were sent on.
    ForwardTold {
        /// What names them.
        mark: ForwardMark,
        /// What became of them, as far as it is known here.
        outcome: ForwardOutcome,
    },
    /// Proposals were not taken.
    ProposalDropped {
        /// Whose.
        from: NodeId,
        /// How many.
        count: usize,
        /// Why.
        reason: &'a ProposeError,
    },
    /// Leadership is lost with these entries not committed: others decide on them.
    ProposalsInDoubt {
        /// The first of them.
        first: LogIndex,
        /// The last, and the term of all.
        last: LogId,
    },
    /// A read gets no answer.
    ReadDropped {
        /// Whose.
        from: NodeId,
        /// Why.
        reason: ReadDropped,
    },
    /// A learner is caught up: its change to a voter is proposed.
    LearnerPromoted {
        /// Who.
        id: NodeId,
    },
    /// A follower wants its state replaced.
    SnapshotRequested {
        /// Who.
        from: NodeId,
        /// Up to where the snapshot has to go at least.
        least: LogIndex,
    },
    /// A proposal was dropped since leadership is being handed over.
    ProposalInTransfer {
        /// To whom.
        to: NodeId,
        /// In which term.
        term: Term,
    },
    /// A proposal was dropped since too much is uncommitted.
    UncommittedFull,
    /// A hand-over of leadership began.
    TransferStarted {
        /// To whom.
        to: NodeId,
        /// In which term.
        term: Term,
    },
    /// The same hand-over is already running.
    TransferRunning {
        /// To whom.
        to: NodeId,
        /// In which term.
        term: Term,
    },
    /// A hand-over was given up for another.
    TransferReplaced {
        /// To whom it would have been.
        to: NodeId,
        /// In which term.
        term: Term,
    },
    /// A hand-over to a learner was refused.
    TransferToLearner,
    /// A hand-over to the leader itself was refused.
    TransferToSelf,
    /// The heir was told to start an election.
    TimeoutNowSent {
        /// Who.
        to: NodeId,
        /// It had to catch up first.
        after_catching_up: bool,
    },
    /// This member was told to start an election.
    TimeoutNowReceived {
        /// By whom.
        from: NodeId,
        /// In which term.
        term: Term,
    },
    /// This member was told so when it was no follower.
    TimeoutNowIgnored {
        /// By whom.
        from: NodeId,
        /// In which term.
        term: Term,
        /// What it is.
        role: Role,
    },
    /// No election: this member may not lead.
    Unpromotable,
    /// No election: a committed configuration change is not applied yet.
    CampaignBlocked {
        /// In which term.
        term: Term,
    },
    /// No election: this member leads.
    CampaignByLeader,
    /// A voter's refusal told that more is committed than this member knew.
    CommitLearned {
        /// By whom.
        from: NodeId,
        /// Up to where.
        commit: LogIndex,
    },
    /// A leader has not heard from a quorum for an election timeout.
    QuorumLost,
    /// A message of somebody who is no member.
    NoProgress {
        /// Who.
        from: NodeId,
    },
    /// An answer that a member gave before it was removed and added again was ignored.
    EarlierSession {
        /// Who.
        from: NodeId,
        /// What came.
        kind: MessageKind,
    },
    /// This member refused entries: its log differs before them.
    AppendRejected {
        /// The leader.
        from: NodeId,
        /// The entry before those refused.
        prev: LogId,
        /// The term of ours at that index; zero when there is none.
        own_term: Term,
    },
    /// A follower refused entries.
    RejectReceived {
        /// Who.
        from: NodeId,
        /// The index before those refused.
        index: LogIndex,
        /// What may match.
        hint: LogId,
    },
    /// The leader goes back in a follower's log.
    ProgressDecreased {
        /// Whose.
        of: NodeId,
        /// What is known of it now.
        progress: &'a Progress,
    },
    /// A snapshot is sent.
    SnapshotSent {
        /// To whom.
        to: NodeId,
        /// The first index of the leader's log.
        first: LogIndex,
        /// What is committed.
        commit: LogIndex,
        /// What the snapshot covers.
        snapshot: LogId,
        /// What was known of the follower before.
        progress: &'a Progress,
    },
    /// Nothing more is sent until the snapshot is acknowledged.
    ReplicationPaused {
        /// To whom.
        to: NodeId,
        /// What is known of it now.
        progress: &'a Progress,
    },
    /// A snapshot was acknowledged.
    SnapshotAcknowledged {
        /// By whom.
        from: NodeId,
        /// What was known of it before.
        progress: &'a Progress,
    },
    /// Sending a snapshot ended.
    SnapshotReported {
        /// To whom.
        to: NodeId,
        /// Whether it arrived.
        finished: bool,
        /// What is known of the follower now.
        progress: &'a Progress,
    },
    /// No snapshot for a follower of whom nothing was heard lately.
    SnapshotToInactive {
        /// Who.
        to: NodeId,
    },
    /// A follower needs a snapshot and none is there.
    SnapshotUnavailable {
        /// Who.
        to: NodeId,
    },
    /// A message could not be sent.
    PeerUnreachable {
        /// To whom.
        peer: NodeId,
        /// What is known of it now.
        progress: &'a Progress,
    },
    /// The leader knows more to be committed here than this log holds: acknowledged entries are
    /// gone. This member no longer votes.
    TailLost {
        /// What is committed.
        commit: LogIndex,
        /// The last entry.
        last: LogId,
    },
    /// A request for a vote was ignored: a leader counts on this member's promise.
    VoteInLease {
        /// The candidate.
        from: NodeId,
    },
    /// An election was not started, for the same reason.
    CampaignInLease,
    /// This leader's disk has written nothing for an election timeout: it steps down.
    DiskStalled {
        /// The first entry that waits.
        waiting: LogIndex,
    },
    /// What the disk damaged is cut off: the leader sends it again.
    RefillStarted {
        /// From where on.
        first: LogIndex,
        /// Where the log ended; until it is there again this member does not lead.
        to: LogId,
    },
    /// The log is as good as it was.
    RefillFinished {
        /// The last entry.
        last: LogId,
    },
    /// Leadership was to be handed over to a member that has no vote.
    TransferToVoteless {
        /// To whom.
        to: NodeId,
    },
    /// A follower's disk lost what it had acknowledged.
    FollowerLost {
        /// Whose.
        from: NodeId,
        /// What is known of it now.
        progress: &'a Progress,
    },
    /// A message that cannot be true was dropped.
    InvalidMessage {
        /// Who sent it.
        from: NodeId,
        /// What it claimed to be.
        kind: MessageKind,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The group has halted on this member.
    Halted {
        /// What happened, and the operator's next step.
        cause: &'a str,
    },
}

/// Is told every [`Event`] at the moment it happens, inside the call that caused it.
pub trait Observer {
    /// Called with each event.
    fn event(&mut self, event: &Event<'_>);
}

/// Observes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    #[inline]
    fn event(&mut self, _event: &Event<'_>) {}
}
