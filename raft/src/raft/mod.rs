//! One member of one group: its state, and what each input does to it.

mod check;
mod cold;
mod election;
mod fate;
mod fingerprint;
mod forward;
mod lease;
mod loss;
mod membership;
mod promotion;
mod read;
mod replication;
mod request;
mod session;
mod snapshot;
mod transfer;

use std::collections::{BTreeSet, VecDeque};

use crate::config::Config;
use crate::entry::{HardState, SnapshotMeta};
use crate::error::{ConfigError, Halted, StepError};
use crate::log::RaftLog;
use crate::message::{Body, Message, MessageKind, Standing};
use crate::observer::{Event, Observer};
use crate::ready::{Fate, PersistAck, ReadState, SoftState};
use crate::restart::Restart;
use crate::storage::LogReader;
use crate::tracker::{Progress, ProgressTracker};
use crate::types::{LogId, LogIndex, NodeId, Role, Term};
pub(crate) use cold::ColdReads;
use election::{Campaign, Jitter};
pub(crate) use fingerprint::Digest;
use forward::Forwards;
use lease::Lease;
pub(crate) use loss::Losses;
use promotion::Promotions;
pub(crate) use read::ReadQueue;
pub(crate) use request::SnapshotRequests;
use session::Sessions;

/// The state of one member (Raft paper, figure 2, and what the extensions add).
#[derive(Clone, Debug)]
pub(crate) struct Raft<L, O> {
    pub(crate) config: Config,
    pub(crate) observer: O,
    pub(crate) log: RaftLog<L>,
    pub(crate) tracker: ProgressTracker,
    pub(crate) term: Term,
    pub(crate) vote: Option<NodeId>,
    pub(crate) leader: Option<NodeId>,
    pub(crate) role: Role,
    pub(crate) losses: Losses,
    sessions: Sessions,
    pub(crate) requests: SnapshotRequests,
    promotions: Promotions,
    /// Boxed, since few ever send anything on.
    forwards: Option<Box<Forwards>>,
    election_elapsed: u32,
    heartbeat_elapsed: u32,
    transfer_elapsed: u32,
    /// Since any leader was heard from, or since the start; not begun anew with a term.
    contact_elapsed: u32,
    /// Since a leader's disk had something to write and wrote nothing, and where that stood.
    disk_elapsed: u32,
    disk_at: LogIndex,
    /// The drawn timeout.
    pub(crate) election_timeout: u32,
    jitter: Jitter,
    /// To whom leadership is being handed over.
    pub(crate) transferee: Option<NodeId>,
    /// A leader's first entry of its term.
    term_start: LogIndex,
    /// No configuration change is taken until this index is applied.
    pending_conf_index: LogIndex,
    /// Where the changes stand that were handed out to be applied and are not acknowledged.
    conf_changes_out: VecDeque<LogIndex>,
    /// The snapshot that the configuration was last taken from.
    conf_restored_at: LogIndex,
    /// Payload bytes proposed in this term and not yet applied.
    uncommitted_bytes: u64,
    /// The commit index moved, and the followers are to be told.
    commit_untold: bool,
    pub(crate) reads: ReadQueue,
    lease: Lease,
    pub(crate) cold: ColdReads,
    /// The newest snapshot that may be sent.
    pub(crate) snapshot: Option<SnapshotMeta>,
    pub(crate) snapshot_wanted: bool,
    /// Who needs one and got none.
    waiting_for_snapshot: BTreeSet<NodeId>,
    pub(crate) messages: Vec<Message>,
    /// What must not leave before everything so far is durable.
    pub(crate) messages_after_persist: Vec<Message>,
    pub(crate) read_states: Vec<ReadState>,
    pub(crate) fates: Vec<Fate>,
    pub(crate) halted: Option<Box<Halted>>,
    /// Messages that could not be true.
    pub(crate) invalid_messages: u64,
}

impl<L: LogReader, O: Observer> Raft<L, O> {
    pub(crate) fn new(
        config: Config,
        restart: Restart,
        log: L,
        observer: O,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let log = RaftLog::new(log, config.max_committed_size_per_ready);
        let jitter = Jitter::new(config.seed, config.id);
        let tracker = ProgressTracker::new(config.max_inflight_msgs, config.max_inflight_bytes);
        let mut raft = Self {
            observer,
            log,
            tracker,
            term: restart.hard_state.term,
            vote: restart.hard_state.vote,
            leader: None,
            role: Role::Follower,
            losses: Losses::new(&restart),
            sessions: Sessions::default(),
            requests: SnapshotRequests::default(),
            promotions: Promotions::default(),
            forwards: None,
            election_elapsed: 0,
            heartbeat_elapsed: 0,
            transfer_elapsed: 0,
            contact_elapsed: 0,
            disk_elapsed: 0,
            disk_at: LogIndex::ZERO,
            election_timeout: 0,
            jitter,
            transferee: None,
            term_start: LogIndex::MAX,
            pending_conf_index: LogIndex::ZERO,
            conf_changes_out: VecDeque::new(),
            conf_restored_at: LogIndex::ZERO,
            uncommitted_bytes: 0,
            commit_untold: false,
            reads: ReadQueue::default(),
            lease: Lease::default(),
            cold: ColdReads::default(),
            snapshot: restart
                .snapshot
                .filter(|snapshot| snapshot.last.index > LogIndex::ZERO),
            snapshot_wanted: false,
            waiting_for_snapshot: BTreeSet::new(),
            messages: Vec::new(),
            messages_after_persist: Vec::new(),
            read_states: Vec::new(),
            fates: Vec::new(),
            halted: None,
            invalid_messages: 0,
            config,
        };
        raft.restore_conf_state(&restart.conf_state)?;
        raft.log.set_faulty(&restart.health.faulty, restart.applied);
        raft.restore_indexes(restart.hard_state.commit, restart.applied)?;
        raft.become_follower(raft.known_term(), None);
        // What is damaged below what is applied is needed by nobody once a snapshot covers it.
        raft.snapshot_wanted = raft.log.is_damaged();
        let peers = raft.tracker.voter_nodes();
        raft.observer.event(&Event::Started {
            peers: &peers,
            term: raft.term,
            commit: raft.log.committed,
            applied: raft.log.applied,
            last: raft.log.last(),
        });
        Ok(raft)
    }

    /// The commit index is written lazily and may lag behind what was applied; what was applied
    /// is committed. It can be ahead of the log only if the disk lost acknowledged entries.
    fn restore_indexes(&mut self, commit: LogIndex, applied: LogIndex) -> Result<(), ConfigError> {
        let (first_applied, last) = (self.log.committed, self.log.last_index());
        if applied > last || (applied > LogIndex::ZERO && applied < first_applied) {
            return Err(ConfigError::Applied {
                applied,
                first_applied,
                commit: commit.min(last),
            });
        }
        if commit > self.promised().index {
            self.lose_tail(commit);
        }
        self.log.commit_to(commit.max(applied));
        if applied > LogIndex::ZERO {
            self.log.applied_to(applied, 0);
        }
        Ok(())
    }

    pub(crate) const fn soft_state(&self) -> SoftState {
        SoftState {
            leader: self.leader,
            role: self.role,
        }
    }

    pub(crate) const fn hard_state(&self) -> HardState {
        HardState {
            term: self.term,
            vote: self.vote,
            commit: self.log.committed,
        }
    }

    /// There is something to hand out that there rarely is.
    #[inline]
    pub(crate) const fn has_rarities(&self) -> bool {
        !self.read_states.is_empty()
            || !self.fates.is_empty()
            || self.cold.has_outbox()
            || self.snapshot_wanted
            || !self.losses.marks.is_empty()
    }

    /// Stops for good. What is already on its way out stays there; what waited to be promised is
    /// not. What others and its own users asked for is still answered, and sent on.
    pub(crate) fn halt(&mut self, cause: String) {
        if self.halted.is_some() {
            return;
        }
        self.observer.event(&Event::Halted { cause: &cause });
        if self.role == Role::Leader {
            self.become_follower(self.term, None);
        }
        self.doubt_forwards();
        self.messages.retain(|message| {
            matches!(
                message.body,
                Body::ReadIndexDropped { .. }
                    | Body::ReadIndexResponse { .. }
                    | Body::ReadIndex { .. }
                    | Body::Propose { .. }
                    | Body::ProposeResponse { .. }
            )
        });
        self.messages_after_persist.clear();
        self.halted = Some(Box::new(Halted { cause }));
    }

    /// Sends `body` in this member's term.
    #[inline(always)]
    fn send(&mut self, to: NodeId, body: Body) {
        self.send_in(self.term, to, body);
    }

    /// Answers and votes rest on what this member has written: they wait until it is durable.
    /// Always inline: the kind is known at each place, and a message is written where it is kept.
    #[inline(always)]
    fn send_in(&mut self, term: Term, to: NodeId, body: Body) {
        let kind = body.kind();
        let waits = match kind {
            MessageKind::AppendResponse
            | MessageKind::VoteResponse
            | MessageKind::PreVoteResponse
            | MessageKind::Lost => true,
            // The request names the last entry. Were that lost in a crash, a late answer could
            // elect this member with a shorter log than the voter has seen.
            MessageKind::Vote => !self.config.etcd_quirks,
            _ => false,
        };
        let (from, session) = (self.config.id, self.sessions.of(to, kind));
        let standing = self.standing_in(kind);
        let (list, room) = if waits {
            (&mut self.messages_after_persist, 1)
        } else if to != from {
            (&mut self.messages, self.tracker.progress.len())
        } else {
            return;
        };
        let message = || Message {
            from,
            to,
            term,
            session,
            standing,
            body,
        };
        // Where there is room it is made where it is kept, and not moved there.
        if list.len() < list.capacity() {
            list.push(message());
        } else {
            push_growing(list, room, message());
        }
    }

    /// Sends on what a follower's own users asked for; it carries no term.
    fn forward(&mut self, from: NodeId, to: NodeId, body: Body) {
        let from = if from == NodeId::ZERO {
            self.config.id
        } else {
            from
        };
        if to != self.config.id {
            self.messages.push(Message {
                from,
                to,
                term: Term::ZERO,
                session: 0,
                standing: Standing::Sound,
                body,
            });
        }
    }

    /// Enters `term` (or begins it anew) with nothing known of anybody.
    fn reset(&mut self, term: Term) {
        self.tell_lost_leadership();
        if self.term != term {
            self.term = term;
            self.vote = None;
        }
        self.leader = None;
        self.doubt_forwards();
        self.election_elapsed = 0;
        self.heartbeat_elapsed = 0;
        self.draw_election_timeout();
        self.abort_transfer();
        self.tracker.reset_votes();
        let last = self.log.last_index();
        let inflights = self.tracker.inflights();
        for (id, progress) in &mut self.tracker.progress {
            let is_learner = progress.is_learner;
            *progress = Progress::new(last.next(), inflights.clone());
            progress.is_learner = is_learner;
            if *id == self.config.id {
                progress.match_index = last;
            }
        }
        self.sessions.end();
        self.requests.forget_others();
        self.promotions.clear();
        self.pending_conf_index = LogIndex::ZERO;
        self.uncommitted_bytes = 0;
        self.commit_untold = false;
        self.end_lease();
        self.disk_elapsed = 0;
        self.cold.forget_peers();
        self.snapshot_wanted = false;
        self.waiting_for_snapshot.clear();
    }

    /// One unit of time has passed.
    pub(crate) fn tick(&mut self) {
        self.election_elapsed = self.election_elapsed.saturating_add(1);
        self.contact_elapsed = self.contact_elapsed.saturating_add(1);
        self.cold.retry_apply();
        self.give_up_request();
        self.tick_forwards();
        if self.role == Role::Leader {
            self.tick_leader();
        } else if self.election_elapsed >= self.election_timeout && self.promotable() {
            self.election_elapsed = 0;
            self.campaign();
        }
    }

    fn tick_leader(&mut self) {
        self.heartbeat_elapsed = self.heartbeat_elapsed.saturating_add(1);
        self.transfer_elapsed = self.transfer_elapsed.saturating_add(1);
        if self.election_elapsed >= self.config.election_ticks {
            self.election_elapsed = 0;
            if self.config.check_quorum {
                self.check_quorum();
            }
        }
        if self.role == Role::Leader {
            self.check_disk();
        }
        if self.role != Role::Leader {
            return;
        }
        if self.transferee.is_some() && self.transfer_elapsed >= self.config.election_ticks {
            self.abort_transfer();
            if !self.config.etcd_quirks {
                // The transfer may have stood in its way, and nothing else be left to apply.
                self.maybe_leave_joint();
            }
        }
        self.promote_learner();
        if self.heartbeat_elapsed >= self.config.heartbeat_ticks {
            self.heartbeat_elapsed = 0;
            self.broadcast_heartbeat();
        }
    }

    /// A leader whose disk does not write holds everybody up: the others commit without it, but
    /// who asks here waits.
    fn check_disk(&mut self) {
        let waiting = self.log.unstable.offset;
        if self.log.unstable.entries.is_empty() || waiting != self.disk_at {
            self.disk_elapsed = 0;
            self.disk_at = waiting;
            return;
        }
        self.disk_elapsed = self.disk_elapsed.saturating_add(1);
        let stalled = self.disk_elapsed >= self.config.election_ticks;
        if stalled && self.config.step_down_on_stalled_disk {
            self.observer.event(&Event::DiskStalled { waiting });
            self.become_follower(self.term, None);
        }
    }

    /// Takes a message: first its term, then what it says.
    #[inline]
    pub(crate) fn step(&mut self, message: Message) -> Result<(), StepError> {
        let kind = message.body.kind();
        if let Err(reason) = self.check_message(&message) {
            return Err(self.refuse(message.from, kind, reason));
        }
        if self.config.lease.is_some() && self.breaks_promise(&message) {
            return Ok(());
        }
        self.sessions.answer(message.session);
        if message.term != self.term && !self.meets_term(&message) {
            return Ok(());
        }
        let from = message.from;
        if self.sessions.is_over(self.term, kind, message.session) {
            self.observer.event(&Event::EarlierSession { from, kind });
            return Ok(());
        }
        let leads = self.role == Role::Leader;
        if leads && !kind.is_request() && !self.hears(&message) {
            return Ok(());
        }
        match message.body {
            Body::Append {
                prev,
                commit,
                entries,
            } => {
                if self.follows(from) {
                    self.handle_append(from, prev, commit, entries)?;
                }
            }
            Body::AppendResponse { index, reject } if leads => match reject {
                None => self.handle_append_ack(from, index),
                Some(hint) => self.handle_append_rejection(from, index, hint),
            },
            Body::Commit { index } => {
                if self.follows(from) {
                    self.handle_commit(from, index);
                }
            }
            Body::Heartbeat {
                commit,
                read_position,
            } => {
                if self.follows(from) {
                    self.handle_heartbeat(from, commit, read_position);
                }
            }
            Body::HeartbeatResponse { read_position } if leads => {
                self.handle_heartbeat_response(from, read_position);
            }
            body => self.take_rare(from, message.term, body)?,
        }
        Ok(())
    }

    /// Whether what is said in another term is for this member still, which follows to a higher.
    #[inline(never)]
    fn meets_term(&mut self, message: &Message) -> bool {
        if message.term > self.term {
            if self.ignores_vote_request(message) {
                return false;
            }
            self.enter_term_of(message);
        } else if message.term > Term::ZERO {
            self.answer_lower_term(message);
            return false;
        }
        true
    }

    /// A leader hears of a member, in the life of it that the message belongs to. Its own answers
    /// need none: they say what its disk holds, member or not.
    #[inline]
    fn hears(&mut self, message: &Message) -> bool {
        let (from, kind) = (message.from, message.body.kind());
        let Some(progress) = self.tracker.progress.get_mut(&from) else {
            self.observer.event(&Event::NoProgress { from });
            return false;
        };
        if from != self.config.id && message.session != self.sessions.current(from) {
            self.observer.event(&Event::EarlierSession { from, kind });
            return false;
        }
        // Never better again under this identity, whatever arrives late.
        progress.standing = progress.standing.max(message.standing);
        progress.recent_active |= kind.is_answer();
        true
    }

    /// What is not said all the time.
    #[inline(never)]
    fn take_rare(&mut self, from: NodeId, term: Term, body: Body) -> Result<(), StepError> {
        match (self.role, body) {
            (_, Body::Vote { last, .. }) => self.handle_vote(from, term, last, false),
            (_, Body::PreVote { last }) => self.handle_vote(from, term, last, true),
            (_, Body::Propose { mark, entries }) => self.propose_for(from, mark, entries)?,
            (_, Body::ProposeResponse { mark, result }) => self.forward_answered(mark, result),
            (_, Body::ReadIndex { context }) => self.handle_read_index(from, context),
            (_, Body::TransferLeader { to }) => self.transfer(to),
            (_, Body::Committed { last }) => self.handle_committed(from, last),
            (_, Body::ReadIndexDropped { context, reason }) => {
                self.drop_read(self.config.id, context, reason);
            }
            (_, Body::Snapshot { meta }) => {
                let follows = self.follows(from);
                if follows {
                    self.handle_snapshot(from, *meta);
                }
            }
            (Role::Leader, Body::Lost { kept }) => self.handle_lost(from, kept),
            (Role::Leader, Body::WantSnapshot { last }) => self.handle_want_snapshot(from, last),
            (Role::Follower, Body::Acked { index }) => self.check_held(from, index),
            (Role::Follower, Body::ReadIndexResponse { index, context }) => {
                self.read_states.push(ReadState { index, context });
            }
            (Role::Candidate, Body::VoteResponse { reject }) => {
                self.handle_vote_response(MessageKind::VoteResponse, from, !reject);
            }
            (Role::PreCandidate, Body::PreVoteResponse { reject }) => {
                self.handle_vote_response(MessageKind::PreVoteResponse, from, !reject);
            }
            (Role::Follower, Body::TimeoutNow) => {
                let term = self.term;
                self.observer
                    .event(&Event::TimeoutNowReceived { from, term });
                self.hup(Campaign::Transfer);
            }
            (role @ (Role::Candidate | Role::PreCandidate), Body::TimeoutNow) => {
                let term = self.term;
                self.observer
                    .event(&Event::TimeoutNowIgnored { from, term, role });
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether this member follows `from`, who sends what only the leader of this very term does.
    #[inline(always)]
    fn follows(&mut self, from: NodeId) -> bool {
        match self.role {
            Role::Leader => return false,
            Role::Follower => {
                self.election_elapsed = 0;
                self.leader = Some(from);
            }
            Role::Candidate | Role::PreCandidate => self.become_follower(self.term, Some(from)),
        }
        self.promise_lease();
        true
    }

    /// Somebody is in a higher term: follow, unless it only asks or answers about one.
    fn enter_term_of(&mut self, message: &Message) {
        let (from, kind) = (message.from, message.body.kind());
        let leader = match message.body {
            Body::PreVote { .. } | Body::PreVoteResponse { reject: false } => return,
            Body::Append { .. }
            | Body::Heartbeat { .. }
            | Body::Commit { .. }
            | Body::Snapshot { .. }
            | Body::Acked { .. } => Some(from),
            _ => None,
        };
        let (term, message_term) = (self.term, message.term);
        self.observer.event(&Event::HigherTerm {
            kind,
            from,
            term,
            message_term,
        });
        self.become_follower(message.term, leader);
    }

    /// Somebody is behind. Where it might be stuck there, it is told.
    fn answer_lower_term(&mut self, message: &Message) {
        let from = message.from;
        // Who cannot win an election itself has no other way to make its term known.
        let answers = self.config.check_quorum
            || self.config.pre_vote
            || (!self.promotable() && !self.config.etcd_quirks);
        match message.body {
            Body::Append { .. } | Body::Heartbeat { .. } if answers => {
                self.send(
                    from,
                    Body::AppendResponse {
                        index: LogIndex::ZERO,
                        reject: None,
                    },
                );
            }
            Body::Snapshot { .. } if answers && !self.config.etcd_quirks => {
                self.send(
                    from,
                    Body::AppendResponse {
                        index: LogIndex::ZERO,
                        reject: None,
                    },
                );
            }
            Body::PreVote { last } => {
                let request = self.vote_request(from, last, MessageKind::PreVote);
                self.observer.event(&Event::VoteRefused(request));
                self.send(from, Body::PreVoteResponse { reject: true });
                self.tell_commit(from, last);
            }
            _ => {
                let (kind, term, message_term) = (message.body.kind(), self.term, message.term);
                self.observer.event(&Event::LowerTerm {
                    kind,
                    from,
                    term,
                    message_term,
                });
            }
        }
    }

    /// A step is durable.
    #[inline]
    pub(crate) fn persisted(&mut self, ack: PersistAck) {
        if ack.last != LogId::ZERO {
            if ack.term == self.term {
                let held = self.log.stable_to(ack.last, &mut self.observer);
                // A leader counts its own copy once it is durable, like anybody's.
                if held && self.role == Role::Leader && !self.config.etcd_quirks {
                    self.handle_append_ack(self.config.id, ack.last.index);
                }
            } else {
                // Entries may have been overwritten by ones of a later term that are not durable.
                let (term, ack_term) = (self.term, ack.term);
                self.observer
                    .event(&Event::StalePersistAck { term, ack_term });
            }
        }
        // A snapshot stays what it is in any term.
        if let Some(index) = ack.snapshot {
            self.log.unstable.stable_snapshot_to(index);
            self.applied_to(index, 0);
        }
        self.finish_refill();
    }

    /// Entries up to `index` are applied. Says whether anything may follow from it.
    #[inline]
    pub(crate) fn applied_to(&mut self, index: LogIndex, bytes: u64) -> bool {
        let (before, paused) = (self.log.applied, self.log.applying_paused());
        self.log.applied_to(index, bytes);
        self.snapshot_wanted |= self.requests.can_be_met(before, self.log.applied);
        if !self.conf_changes_out.is_empty() {
            self.conf_changes_out.retain(|change| *change > index);
        }
        self.maybe_leave_joint();
        paused || self.snapshot_wanted || self.tracker.config.auto_leave
    }

    /// `payload` bytes of proposals are applied and count no longer.
    pub(crate) const fn release_uncommitted(&mut self, payload: u64) {
        self.uncommitted_bytes = self.uncommitted_bytes.saturating_sub(payload);
    }

    fn drop_for_no_leader(&mut self, kind: MessageKind) {
        let term = self.term;
        self.observer.event(&Event::NoLeader { kind, term });
    }
}

/// Messages are large and mostly few: what a vector takes at first would be too much. Up to one
/// for each of `members` leaves at a time, but to this member itself.
#[cold]
#[inline(never)]
fn push_growing(list: &mut Vec<Message>, members: usize, message: Message) {
    if list.capacity() == 0 {
        list.reserve_exact(members.saturating_sub(1).max(1));
    }
    list.push(message);
}
