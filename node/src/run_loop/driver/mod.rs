//! One group on its run loop: its core, and what waits for what.

mod inputs;
mod ready;
mod status;
mod steps;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use raftwerk_raft::{
    ConfState, GroupId, GroupWrite, HardState, LogId, LogIndex, LogReader, NodeId, RawNode, Ready,
    Role, SoftState, Ticket,
};

use super::Effect;
use super::incarnation::{Binding, OwnStore};
use super::membership::Membership;
use super::proposals::Proposals;
use super::reads::Reads;
use super::snapshots::Snapshots;
use super::submit::Step;
use crate::apply::{Actor, Job};
use crate::config::GroupConfig;
use crate::error::{ProposeError, ReadError, ReplaceError, SnapshotError, TransferError};
use crate::member::{Incarnation, MemberTable};
use crate::oneshot::{Completer, pending};
use crate::status::{GroupEvent, Health, Shared};

/// What a group is opened from.
pub(crate) struct DriverParts {
    pub(crate) group: GroupId,
    pub(crate) host: NodeId,
    pub(crate) node: RawNode<Arc<dyn LogReader>>,
    pub(crate) log: Arc<dyn LogReader>,
    pub(crate) config: GroupConfig,
    pub(crate) incarnation: Incarnation,
    /// What the marks of requests begin with.
    pub(crate) seed: u64,
    pub(crate) shared: Arc<Shared>,
    pub(crate) actor: Arc<Actor>,
    pub(crate) members: MemberTable,
    pub(crate) conf_state: ConfState,
    pub(crate) applied: LogId,
    /// How far the state machine is, where the log has lost a part of that; else zero.
    pub(crate) ahead: LogIndex,
    pub(crate) hard_state: HardState,
    /// The newest snapshot recorded in the log.
    pub(crate) snapshot: LogId,
}

struct Transfer {
    to: NodeId,
    until: u64,
    answer: Completer<(), TransferError>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Commit {
    Written,
    Moved,
    Due,
}

/// One group.
pub(crate) struct Driver {
    group: GroupId,
    host: NodeId,
    node: RawNode<Arc<dyn LogReader>>,
    log: Arc<dyn LogReader>,
    shared: Arc<Shared>,
    actor: Arc<Actor>,
    proposals: Proposals,
    reads: Reads,
    snapshots: Snapshots,
    transfer: Option<Transfer>,
    /// Who waits for this member's state to be replaced.
    replacing: Option<Completer<LogId, ReplaceError>>,
    /// Steps that wait for the disk, in the order of their tickets.
    awaiting: VecDeque<(Ticket, Step)>,
    membership: Membership,
    own_store: OwnStore,
    hard_state: HardState,
    /// Only the commit index of the hard state has moved since it was written. It is a hint, so it
    /// waits for the next write, but no longer than a tick.
    commit: Commit,
    soft_state: SoftState,
    applied: LogId,
    /// Until that is applied again the configuration of the state's moment is not known.
    ahead: LogIndex,
    now: u64,
    has_leases: bool,
    /// What the clock says; told to groups with leases alone.
    time: Option<Duration>,
    election_ticks: u64,
    installing: bool,
    /// The log was written to since its ends were last looked up.
    log_moved: bool,
    /// This member leads, or has told of peers as a leader.
    tells_peers: bool,
    /// What waited for a leader can go on.
    led_anew: bool,
    halted: Option<Arc<str>>,
    ended: bool,
}

impl Driver {
    pub(crate) fn new(parts: DriverParts) -> Self {
        let DriverParts {
            group,
            host,
            node,
            log,
            config,
            incarnation,
            seed,
            shared,
            actor,
            ..
        } = parts;
        let election_ticks = u64::from(config.raft.election_ticks);
        let limits = config.limits;
        let since = parts.applied.index;
        let membership = Membership::new(since, parts.conf_state, parts.members);
        Self {
            group,
            host,
            node,
            log,
            shared,
            actor,
            proposals: Proposals::new(group, host, limits, seed),
            reads: Reads::new(limits, election_ticks, seed),
            snapshots: Snapshots::new(config.snapshot, parts.snapshot),
            transfer: None,
            replacing: None,
            awaiting: VecDeque::new(),
            membership,
            own_store: OwnStore::new(incarnation, election_ticks),
            hard_state: parts.hard_state,
            commit: Commit::Written,
            soft_state: SoftState::default(),
            applied: parts.applied,
            ahead: parts.ahead,
            now: 0,
            has_leases: config.raft.lease.is_some(),
            time: None,
            election_ticks,
            installing: false,
            log_moved: true,
            tells_peers: false,
            led_anew: false,
            halted: None,
            ended: false,
        }
    }

    pub(crate) const fn group(&self) -> GroupId {
        self.group
    }

    pub(crate) fn actor(&self) -> Arc<Actor> {
        Arc::clone(&self.actor)
    }

    pub(crate) const fn has_leases(&self) -> bool {
        self.has_leases
    }

    /// What the clock says, before every tick and every turn.
    pub(crate) fn tell_time(&mut self, time: Option<Duration>) {
        if let (true, Some(now)) = (self.has_leases, time) {
            self.node.tell_time(now);
            self.time = time;
        }
    }

    /// True when that leaves the group something to do: idle ones cost no more than this.
    pub(crate) fn tick(&mut self, out: &mut Vec<Effect>) -> bool {
        if self.halted.is_some() {
            return false;
        }
        let waiting = self.proposals.len() + self.reads.len() > 0;
        self.now += 1;
        self.node.tick();
        self.proposals.tick(self.now, out);
        self.reads.tick(self.now);
        if let Some(transfer) = self.transfer.take_if(|transfer| transfer.until <= self.now) {
            transfer.answer.complete(Err(TransferError::TimedOut));
        }
        self.look_after_replacing();
        self.bind_own_store(out);
        self.commit_due();
        if self.tells_peers {
            let peers = self.peers();
            self.tells_peers = !peers.is_empty();
            self.shared.update(|status| status.peers = peers);
        }
        let due = self.commit == Commit::Due || self.snapshots.is_due(self.now);
        let waits = self.proposals.len() + self.reads.len() > 0;
        waiting || waits || due || self.log_moved || self.is_ready()
    }

    fn commit_due(&mut self) {
        if self.commit == Commit::Moved {
            self.commit = Commit::Due;
        }
    }

    fn bind_own_store(&mut self, out: &mut Vec<Effect>) {
        let record = self.membership.current().members.member(self.host);
        let led = self.node.leader().is_some();
        match self.own_store.check(record, led, self.now) {
            Binding::Settled => {}
            Binding::Propose(change) => {
                // What comes of it is seen in the table.
                let (answer, _) = pending();
                self.proposals.change(change, answer, self.now);
            }
            Binding::Replaced => {
                let cause = "the member table binds this id to another store: the disk was \
                             replaced; remove this member and add it again under a new id";
                self.halt(&cause.into(), out);
            }
        }
    }

    /// Everything that follows from the inputs so far: effects, and one step to write. `ready` is
    /// whatever an earlier call has left.
    pub(crate) fn collect(
        &mut self,
        ready: &mut Ready,
        out: &mut Vec<Effect>,
    ) -> Option<(GroupWrite, Step)> {
        if self.halted.is_some() {
            return None;
        }
        self.led_anew = false;
        self.proposals.flush(&mut self.node, self.now, out);
        self.reads.flush(&mut self.node, self.now, self.time);
        self.answer_reads();
        let mut write = GroupWrite {
            group: self.group,
            ..GroupWrite::default()
        };
        let mut step = Step::new(self.group);
        if self.node.has_ready() {
            self.node.ready_into(ready);
            self.take(ready, &mut write, &mut step, out);
        }
        if let Some(halted) = self.node.halted() {
            let cause = Arc::from(halted.cause.as_str());
            self.halt(&cause, out);
            return None;
        }
        self.begin_snapshot(out);
        let own = self.snapshots.has_write();
        if own {
            step.record = self.snapshots.write(&mut write);
        }
        step.needs_sync |= step.install.is_some() || step.record.is_some();
        let blank = GroupWrite {
            group: self.group,
            ..GroupWrite::default()
        };
        if self.commit == Commit::Due || (self.commit == Commit::Moved && write != blank) {
            write.hard_state = Some(self.hard_state);
            self.commit = Commit::Written;
        }
        if write == blank && step.messages.is_empty() && step.ack.is_none() {
            return None;
        }
        Some((write, step))
    }

    fn begin_snapshot(&mut self, out: &mut Vec<Effect>) {
        if self.applied.index < self.ahead {
            return;
        }
        if self.snapshots.begin(self.now) {
            out.push(Effect::Apply {
                actor: Arc::clone(&self.actor),
                job: Job::View,
            });
        } else if self.snapshots.persist() {
            // Whether it could is seen when a view is taken.
            let (done, _) = pending();
            out.push(Effect::Apply {
                actor: Arc::clone(&self.actor),
                job: Job::Persist { done },
            });
        }
    }

    /// Like `collect`, but only what makes room in the log.
    pub(crate) fn collect_cut(&mut self, out: &mut Vec<Effect>) -> Option<(GroupWrite, Step)> {
        if self.halted.is_some() || self.installing {
            return None;
        }
        self.begin_snapshot(out);
        let mut write = GroupWrite {
            group: self.group,
            ..GroupWrite::default()
        };
        let has_write = self.snapshots.has_write();
        let record = self.snapshots.write(&mut write);
        has_write.then(|| (write, Step::cut(self.group, record)))
    }

    /// A peer's snapshot is on its way into the log or the state machine.
    pub(crate) const fn is_installing(&self) -> bool {
        self.installing
    }

    /// True when another turn has something to do without another input.
    pub(crate) fn is_ready(&self) -> bool {
        let ready = self.led_anew || self.node.has_ready() || self.snapshots.has_write();
        self.halted.is_none() && ready
    }

    /// The log cannot take the step, or will never make it durable.
    pub(crate) fn storage_failed(&mut self, cause: &str, out: &mut Vec<Effect>) {
        if self.halted.is_none() {
            self.halt(&cause.into(), out);
        }
    }

    fn halt(&mut self, cause: &Arc<str>, out: &mut Vec<Effect>) {
        // The core ends too. Its last words are what becomes of what was asked of it, by peers as
        // well; nothing of them is to be written.
        self.node.storage_failed(cause.to_string());
        let (mut write, mut step) = (GroupWrite::default(), Step::new(self.group));
        let mut last = self.node.ready();
        self.take(&mut last, &mut write, &mut step, out);
        let cause = Arc::clone(cause);
        self.halted = Some(Arc::clone(&cause));
        self.awaiting.clear();
        self.proposals.end(
            &ProposeError::Halted {
                cause: Arc::clone(&cause),
            },
            out,
        );
        self.reads.end(&ReadError::Halted {
            cause: Arc::clone(&cause),
        });
        self.snapshots.end(SnapshotError::Halted {
            cause: Arc::clone(&cause),
        });
        if let Some(transfer) = self.transfer.take() {
            let cause = Arc::clone(&cause);
            transfer
                .answer
                .complete(Err(TransferError::Halted { cause }));
        }
        self.end_replacing(Err(ReplaceError::Halted {
            cause: Arc::clone(&cause),
        }));
        self.shared.update(|status| {
            status.role = Role::Follower;
            status.leader = None;
            status.health = Health::Halted {
                cause: Arc::clone(&cause),
            };
        });
        self.shared.tell(&GroupEvent::Halted { cause });
    }

    /// The host stops.
    pub(crate) fn end(&mut self, out: &mut Vec<Effect>) {
        self.proposals.end(&ProposeError::Stopped, out);
        self.reads.end(&ReadError::Stopped);
        self.snapshots.end(SnapshotError::Stopped);
        self.transfer = None;
        self.replacing = None;
        self.commit_due();
        self.ended = true;
        self.shared.end();
    }
}

/// A group that ends without having been told to (its run loop panicked) leaves nobody waiting.
impl Drop for Driver {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.end();
        }
    }
}
