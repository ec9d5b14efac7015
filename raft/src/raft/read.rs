//! Linearizable reads that write nothing to the log (thesis, section 6.4).

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use bytes::Bytes;

use super::Raft;
use crate::config::ReadOnly;
use crate::error::ReadIndexError;
use crate::message::{Body, MessageKind};
use crate::observer::Observer;
use crate::ready::{ReadDropped, ReadState};
use crate::storage::LogReader;
use crate::tracker::{NodeMap, Progress};
use crate::types::{LogIndex, NodeId, Role};

/// Reads that a leader holds at once.
const READS_MAX: usize = 4096;

/// A read that waits for a quorum to confirm the leader.
#[derive(Clone, Debug)]
struct PendingRead {
    position: u64,
    index: LogIndex,
    from: NodeId,
    context: Bytes,
}

/// A leader's reads. Each has a position that only grows: who answers a heartbeat that carries a
/// position confirms every read up to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadQueue {
    last_position: u64,
    acks: BTreeMap<NodeId, u64>,
    pending: VecDeque<PendingRead>,
    /// Reads that wait for the first commit of the leader's term.
    waiting: VecDeque<(NodeId, Bytes)>,
    /// Reads wait for a round of heartbeats that is not yet sent.
    round_due: bool,
}

impl ReadQueue {
    /// Forgets all, and gives back who waits.
    pub(super) fn end(&mut self) -> Vec<(NodeId, Bytes)> {
        let Self {
            pending, waiting, ..
        } = mem::take(self);
        let pending = pending.into_iter().map(|read| (read.from, read.context));
        pending.chain(waiting).collect()
    }

    /// Who is removed confirms nothing any more, nor when it comes back.
    pub(super) fn retain_members(&mut self, members: &NodeMap<Progress>) {
        self.acks.retain(|id, _| members.contains_key(id));
    }

    fn is_full(&self) -> bool {
        self.len() >= READS_MAX
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len().saturating_add(self.waiting.len())
    }

    /// A new position, behind all so far.
    pub(super) const fn next_position(&mut self) -> u64 {
        self.last_position = self.last_position.saturating_add(1);
        self.last_position
    }

    /// Behind all so far.
    pub(super) const fn newest_position(&self) -> u64 {
        self.last_position
    }

    /// A round is sent: it carries every position so far.
    pub(super) const fn begin_round(&mut self) {
        self.round_due = false;
    }

    /// What a heartbeat carries: zero when no read waits for it.
    pub(super) fn last_position(&self) -> u64 {
        self.pending.back().map_or(0, |read| read.position)
    }
}

impl<L: LogReader, O: Observer> Raft<L, O> {
    /// A read of this member's own users.
    pub(crate) fn read_index(&mut self, context: Bytes) -> Result<(), ReadIndexError> {
        match (self.role, self.leader) {
            (Role::Leader, _) if self.reads.is_full() => return Err(ReadIndexError::Busy),
            (Role::Leader, _) | (Role::Follower, Some(_)) => {}
            _ => {
                self.drop_for_no_leader(MessageKind::ReadIndex);
                return Err(ReadIndexError::NoLeader);
            }
        }
        self.handle_read_index(self.config.id, context);
        Ok(())
    }

    /// Somebody's read.
    pub(super) fn handle_read_index(&mut self, from: NodeId, context: Bytes) {
        match (self.role, self.leader) {
            (Role::Leader, _) if self.reads.is_full() => {
                self.drop_read(from, context, ReadDropped::Busy);
            }
            (Role::Leader, _) if self.committed_in_term() => self.start_read(from, context),
            // What earlier leaders committed is not known before that.
            (Role::Leader, _) => self.reads.waiting.push_back((from, context)),
            (Role::Follower, Some(leader)) => {
                self.forward(from, leader, Body::ReadIndex { context });
            }
            _ => {
                self.drop_for_no_leader(MessageKind::ReadIndex);
                self.drop_read(from, context, ReadDropped::NoLeader);
            }
        }
    }

    /// The entry that this leader's term began with is committed. Its term alone does not tell: a
    /// bootstrap snapshot may be of the same.
    pub(super) fn committed_in_term(&self) -> bool {
        self.log.committed >= self.term_start
    }

    fn start_read(&mut self, from: NodeId, context: Bytes) {
        let index = self.log.committed;
        // While leadership is handed over the lease no longer keeps others from being elected.
        let leased = self.config.read_only == ReadOnly::Lease && self.transferee.is_none();
        // etcd asks in every joint configuration, also where there is nobody to answer.
        let alone =
            self.decides_alone() && (!self.config.etcd_quirks || self.tracker.is_singleton());
        if alone || leased {
            self.answer_read(from, index, context);
            return;
        }
        let position = self.reads.next_position();
        self.reads.pending.push_back(PendingRead {
            position,
            index,
            from,
            context,
        });
        if self.config.etcd_quirks {
            self.broadcast_heartbeat();
        } else {
            // Not before the next `Ready`: one round confirms all that have come until then.
            self.reads.round_due = true;
        }
    }

    /// Reads wait for a round that is not yet sent.
    #[inline]
    pub(crate) fn owes_read_round(&self) -> bool {
        self.reads.round_due && !self.reads.pending.is_empty()
    }

    /// Sends the round that reads wait for, unless one has left since or nobody waits any more.
    #[inline]
    pub(crate) fn begin_read_round(&mut self) {
        if mem::take(&mut self.reads.round_due) && !self.reads.pending.is_empty() {
            self.broadcast_heartbeat();
        }
    }

    fn answer_read(&mut self, from: NodeId, index: LogIndex, context: Bytes) {
        if from == self.config.id || from == NodeId::ZERO {
            self.read_states.push(ReadState { index, context });
        } else {
            self.send(from, Body::ReadIndexResponse { index, context });
        }
    }

    /// `from` still took this member for the leader when it answered this position.
    pub(super) fn confirm_reads(&mut self, from: NodeId, position: u64) {
        if position == 0 || position > self.reads.last_position {
            return;
        }
        let acked = self.reads.acks.entry(from).or_default();
        *acked = position.max(*acked);
        self.answer_confirmed_reads();
    }

    /// Answers the reads that a quorum has confirmed. Called as well when the quorum changed.
    pub(super) fn answer_confirmed_reads(&mut self) {
        let (reads, members) = (&self.reads, &self.tracker.progress);
        let counts = |id: NodeId| members.get(&id).is_some_and(Progress::counts);
        let acked = |id: NodeId| {
            let own = (id == self.config.id).then_some(reads.last_position);
            let told = || reads.acks.get(&id).copied().filter(|_| counts(id));
            own.or_else(told).map(LogIndex)
        };
        let confirmed = self.tracker.config.voters.committed_index(acked).value();
        self.renew_lease(confirmed);
        while let Some(read) = self.reads.pending.pop_front() {
            if read.position > confirmed {
                self.reads.pending.push_front(read);
                break;
            }
            self.answer_read(read.from, read.index, read.context);
        }
    }

    /// The commit index moved: if that was the first of this term, reads can begin.
    #[inline]
    pub(super) fn release_waiting_reads(&mut self) {
        if self.reads.waiting.is_empty() || !self.committed_in_term() {
            return;
        }
        for (from, context) in mem::take(&mut self.reads.waiting) {
            self.start_read(from, context);
        }
    }
}
