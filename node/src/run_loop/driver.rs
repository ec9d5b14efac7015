//! One group on its run loop: its core, and what waits for what.

use std::collections::VecDeque;
use std::sync::Arc;

use raftwerk_raft::codec::decode_conf_change;
use raftwerk_raft::tracker::ProgressState;
use raftwerk_raft::{
    Body, ConfState, Entry, EntryKind, GroupId, GroupWrite, HardState, LogId, LogReader, Message,
    NodeId, Persist, RawNode, Ready, Role, SnapshotMeta, SnapshotStatus, SoftState, Ticket,
};

use super::incarnation::{Binding, OwnStore};
use super::membership::{Conf, Membership, is_member};
use super::proposals::Proposals;
use super::reads::Reads;
use super::snapshots::Snapshots;
use super::submit::Step;
use super::{Ask, Effect, Reported};
use crate::apply::{Actor, Job};
use crate::config::GroupConfig;
use crate::envelope::{Envelope, EnvelopeBody, ForwardError};
use crate::error::{ProposeError, ReadError, SnapshotError, TransferError};
use crate::member::{Incarnation, MemberTable};
use crate::oneshot::{Completer, pending};
use crate::status::{GroupEvent, Health, PeerStatus, Shared};

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
    now: u64,
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
            awaiting: VecDeque::new(),
            membership,
            own_store: OwnStore::new(incarnation, election_ticks),
            hard_state: parts.hard_state,
            commit: Commit::Written,
            soft_state: SoftState::default(),
            applied: parts.applied,
            now: 0,
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

    /// How far the others are, if this member leads.
    fn peers(&self) -> Vec<PeerStatus> {
        if self.node.role() != Role::Leader {
            return Vec::new();
        }
        let progress = self.node.status().progress.into_iter();
        let others = progress.filter(|(id, _)| *id != self.host);
        others
            .map(|(id, progress)| PeerStatus {
                id,
                matched: progress.match_index,
                learner: progress.is_learner,
                active: progress.recent_active,
                snapshot: (progress.state == ProgressState::Snapshot)
                    .then_some(progress.pending_snapshot),
            })
            .collect()
    }

    /// `full`: the log has no room for more entries.
    pub(crate) fn message(
        &mut self,
        from: NodeId,
        body: EnvelopeBody,
        full: bool,
        out: &mut Vec<Effect>,
    ) {
        if self.halted.is_some() {
            return self.refuse(from, &body, ForwardError::NotLeader { leader: None }, out);
        }
        if full && matches!(body, EnvelopeBody::Forward { .. }) {
            return self.refuse(from, &body, ForwardError::Busy, out);
        }
        match body {
            // The state itself comes on a stream of its own; the sink hands the message in.
            EnvelopeBody::Raft(Message {
                body: Body::Snapshot { .. },
                ..
            }) => {}
            EnvelopeBody::Raft(message) if message.from == from && message.to == self.host => {
                self.step(message);
            }
            EnvelopeBody::Raft(_) => {}
            EnvelopeBody::Forward {
                request,
                kind,
                data,
            } => {
                self.proposals
                    .remote(from, request, (kind, data), self.now, out);
            }
            EnvelopeBody::Forwarded { request, result } => {
                self.proposals.forward_answered(from, request, result, out);
            }
        }
    }

    /// Whoever forwards here learns at once that it was not appended.
    fn refuse(
        &self,
        from: NodeId,
        body: &EnvelopeBody,
        error: ForwardError,
        out: &mut Vec<Effect>,
    ) {
        if let EnvelopeBody::Forward { request, .. } = body {
            let body = EnvelopeBody::Forwarded {
                request: *request,
                result: Err(error),
            };
            let envelope = Envelope {
                group: self.group,
                body,
            };
            out.push(Effect::Send { to: from, envelope });
        }
    }

    fn step(&mut self, message: Message) {
        // What the core does not take it has counted; messages may be lost in any case.
        let _ = self.node.step(message);
    }

    pub(crate) fn unreachable(&mut self, peer: NodeId, out: &mut Vec<Effect>) {
        if self.halted.is_none() {
            self.node.report_unreachable(peer);
            self.proposals.unreachable(peer, out);
        }
    }

    pub(crate) fn ask(&mut self, ask: Ask) {
        if let Some(cause) = &self.halted {
            return ask.refuse_halted(cause);
        }
        match ask {
            Ask::Propose { data, answer } => self.proposals.normal(data, answer, self.now),
            Ask::Change { change, answer } => self.proposals.change(change, answer, self.now),
            Ask::Read { answer } => self.reads.ask(answer, self.now),
            Ask::Transfer { to, answer } => self.transfer(to, answer),
            Ask::Snapshot { answer } => self.snapshots.ask(answer),
            Ask::Campaign => self.node.campaign(),
        }
    }

    fn transfer(&mut self, to: NodeId, answer: Completer<(), TransferError>) {
        let is_voter = self.membership.current().conf_state.voters.contains(&to);
        if !is_voter {
            return answer.complete(Err(TransferError::NotVoter { to }));
        }
        match self.node.leader() {
            None => answer.complete(Err(TransferError::NoLeader)),
            Some(leader) if leader == to => answer.complete(Ok(())),
            Some(_) if self.transfer.is_some() => answer.complete(Err(TransferError::Busy)),
            Some(_) => {
                self.node.transfer_leader(to);
                let until = self.now.saturating_add(2 * self.election_ticks);
                self.transfer = Some(Transfer { to, until, answer });
            }
        }
    }

    pub(crate) fn report(&mut self, what: Reported, out: &mut Vec<Effect>) {
        if self.halted.is_some() {
            return;
        }
        match what {
            Reported::Open(_) => {}
            Reported::Applied { last, ack } => {
                self.node.applied(ack);
                self.applied_to(last);
            }
            Reported::Halted { cause } => self.halt(&cause, out),
            Reported::LogRead { id, result } => self.node.log_read(id, result),
            Reported::View(Ok(view)) => {
                let last = view.source.applied();
                if self.snapshots.viewed(last, view.persisted) {
                    let meta = self.membership.meta_at(last);
                    out.push(Effect::Build {
                        group: self.group,
                        meta,
                        source: view.source,
                    });
                }
            }
            Reported::View(Err(reason)) | Reported::Built(Err(reason)) => {
                self.snapshots.failed(&reason, self.now);
            }
            Reported::Built(Ok(meta)) => self.snapshots.built(meta),
            Reported::Received(message) => self.step(message),
            Reported::Restored(last) => {
                // A newer one may be on its way, whose record is not durable yet: until it is, a
                // restart finds this one.
                self.installing = last != self.snapshots.newest();
                self.applied_to(last);
                self.shared.tell(&GroupEvent::SnapshotInstalled { last });
                out.push(Effect::Collect {
                    group: self.group,
                    newest: last,
                });
            }
            Reported::Sent { to, status } => self.node.report_snapshot(to, status),
        }
    }

    fn applied_to(&mut self, last: LogId) {
        self.applied = last;
        self.membership.applied_to(last.index);
        self.answer_reads();
    }

    /// A state machine that is being replaced is not to be read.
    fn answer_reads(&mut self) {
        if !self.installing {
            self.reads.applied(self.applied.index);
        }
    }

    /// Everything that follows from the inputs so far: effects, and one step to write.
    pub(crate) fn collect(&mut self, out: &mut Vec<Effect>) -> Option<(GroupWrite, Step)> {
        if self.halted.is_some() {
            return None;
        }
        self.led_anew = false;
        self.proposals.flush(&mut self.node, self.now, out);
        self.reads.flush(&mut self.node, self.now);
        let mut write = GroupWrite {
            group: self.group,
            ..GroupWrite::default()
        };
        let mut step = Step::new(self.group);
        if self.node.has_ready() {
            let ready = self.node.ready();
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
        if self.snapshots.begin(self.now) {
            out.push(Effect::Apply {
                actor: Arc::clone(&self.actor),
                job: Job::View,
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

    /// Tells the handles whether the log has room.
    pub(crate) fn log_full(&self, full: bool) {
        self.shared.update(|status| status.log_full = full);
    }

    fn take(
        &mut self,
        ready: Ready,
        write: &mut GroupWrite,
        step: &mut Step,
        out: &mut Vec<Effect>,
    ) {
        if let Some(soft_state) = ready.soft_state {
            self.soft_state_changed(soft_state);
        }
        for message in ready.messages {
            self.send(message, out);
        }
        for state in &ready.read_states {
            self.reads.state(state);
        }
        if let (Some(ack), false) = (ready.apply_ack, ready.committed.is_empty()) {
            self.commit(ready.committed, ack, out);
        }
        self.answer_reads();
        for read in ready.reads {
            out.push(Effect::Read {
                group: self.group,
                log: Arc::clone(&self.log),
                read,
            });
        }
        if ready.snapshot_wanted {
            self.snapshots.want();
        }
        if let Some(persist) = ready.persist {
            self.persist(persist, write, step);
        }
    }

    fn persist(&mut self, persist: Persist, write: &mut GroupWrite, step: &mut Step) {
        let Persist {
            hard_state,
            snapshot,
            entries,
            must_sync,
            messages,
            ack,
        } = persist;
        if let Some(hard_state) = hard_state {
            if hard_state.term != self.hard_state.term {
                self.tell_leadership(hard_state);
            }
            self.hard_state = hard_state;
        }
        if let Some(meta) = &snapshot {
            // The record and the commit index that covers it become durable together.
            self.hard_state.commit = self.hard_state.commit.max(meta.last.index);
            self.install(meta);
        }
        if snapshot.is_some() || (hard_state.is_some() && must_sync) {
            write.hard_state = Some(self.hard_state);
            self.commit = Commit::Written;
        } else if hard_state.is_some() && self.commit == Commit::Written {
            self.commit = Commit::Moved;
        }
        write.reset_to = snapshot.clone();
        write.append = entries;
        step.needs_sync = must_sync;
        step.messages = messages;
        step.ack = ack;
        step.install = snapshot;
    }

    fn install(&mut self, meta: &SnapshotMeta) {
        self.installing = true;
        self.snapshots.installing(meta.last);
        self.membership.install(meta);
    }

    fn soft_state_changed(&mut self, soft_state: SoftState) {
        let before = std::mem::replace(&mut self.soft_state, soft_state);
        if before.leader != soft_state.leader {
            self.proposals.leader_changed(self.now, self.election_ticks);
            self.reads.leader_changed();
            self.led_anew = soft_state.leader.is_some();
        }
        let SoftState { leader, role } = soft_state;
        self.tells_peers |= role == Role::Leader;
        self.shared.update(|status| {
            status.leader = leader;
            status.role = role;
            status.term = self.node.term();
        });
        self.tell_leadership(HardState {
            term: self.node.term(),
            ..self.hard_state
        });
        let arrived = |transfer: &mut Transfer| leader == Some(transfer.to);
        if let Some(transfer) = self.transfer.take_if(arrived) {
            transfer.answer.complete(Ok(()));
        }
    }

    fn tell_leadership(&self, hard_state: HardState) {
        let SoftState { leader, role } = self.soft_state;
        self.shared.tell(&GroupEvent::Leadership {
            leader,
            role,
            term: hard_state.term,
        });
    }

    fn send(&mut self, message: Message, out: &mut Vec<Effect>) {
        let to = message.to;
        if let Body::Snapshot { meta } = &message.body {
            if !is_member(&meta.conf_state, to) {
                // Older than its receiver's membership, which would refuse it: take a newer one.
                self.snapshots.want();
                return self.node.report_snapshot(to, SnapshotStatus::Failed);
            }
            let meta = meta.clone();
            return out.push(Effect::SendSnapshot {
                group: self.group,
                message,
                meta,
            });
        }
        let envelope = Envelope {
            group: self.group,
            body: EnvelopeBody::Raft(message),
        };
        out.push(Effect::Send { to, envelope });
    }

    fn commit(&mut self, entries: Vec<Entry>, ack: raftwerk_raft::ApplyAck, out: &mut Vec<Effect>) {
        let mut changes = entries
            .iter()
            .filter(|entry| entry.kind != EntryKind::Normal)
            .peekable();
        if changes.peek().is_some() {
            changes.for_each(|entry| self.reconfigure(entry));
            self.publish(out);
        }
        let bytes = entries.iter().map(|entry| entry.data.len() as u64).sum();
        self.snapshots.applying(entries.len() as u64, bytes);
        let waiters = self.proposals.committed(&entries, out);
        let job = Job::Apply {
            entries,
            waiters,
            ack,
        };
        out.push(Effect::Apply {
            actor: Arc::clone(&self.actor),
            job,
        });
    }

    /// Every member comes to the same verdict on a change that cannot be read or made: it has no
    /// effect.
    fn reconfigure(&mut self, entry: &Entry) {
        let Ok(change) = decode_conf_change(entry.data.clone()) else {
            return;
        };
        let Ok(conf_state) = self.node.apply_conf_change(&change) else {
            return;
        };
        self.membership.change(entry.index(), &change, conf_state);
    }

    /// Tells the handles and the transport of the configuration in force.
    fn publish(&self, out: &mut Vec<Effect>) {
        let Conf {
            conf_state,
            members,
            ..
        } = self.membership.current();
        self.shared.update(|status| {
            status.conf_state = conf_state.clone();
            status.members = members.clone();
        });
        self.shared.tell(&GroupEvent::Membership {
            conf_state: conf_state.clone(),
        });
        out.push(Effect::Members {
            group: self.group,
            members: members.clone(),
        });
    }

    /// The group begins. One without members has not heard of them yet, and keeps its contacts.
    pub(crate) fn begin(&self, out: &mut Vec<Effect>) {
        if !self.membership.current().members.is_empty() {
            self.publish(out);
        }
    }

    /// The step was taken by the log under `ticket`. Done at once where it needs no sync and
    /// nothing before it waits for one: what follows from steps keeps their order.
    pub(crate) fn submitted(&mut self, ticket: Ticket, step: Step, out: &mut Vec<Effect>) -> bool {
        self.log_moved = true;
        if step.needs_sync || !self.awaiting.is_empty() {
            self.awaiting.push_back((ticket, step));
            return true;
        }
        self.release(step, out);
        false
    }

    /// Everything up to `ticket` is durable.
    pub(crate) fn durable(&mut self, ticket: Ticket, out: &mut Vec<Effect>) {
        // A step behind the last durable one that needs no sync of its own waits no longer.
        while let Some((at, step)) = self.awaiting.pop_front() {
            if at > ticket && step.needs_sync {
                self.awaiting.push_front((at, step));
                break;
            }
            self.release(step, out);
        }
    }

    fn release(&mut self, step: Step, out: &mut Vec<Effect>) {
        if self.halted.is_some() {
            return;
        }
        for message in step.messages {
            if message.to == self.host {
                self.step(message);
            } else {
                self.send(message, out);
            }
        }
        if let Some(ack) = step.ack {
            self.node.persisted(ack);
        }
        if let Some(meta) = step.install {
            self.publish(out);
            self.node.snapshot_available(meta.clone());
            let job = Job::Restore { meta };
            out.push(Effect::Apply {
                actor: Arc::clone(&self.actor),
                job,
            });
        }
        if let Some(meta) = step.record {
            self.snapshots.recorded(&meta);
            let last = meta.last;
            self.node.snapshot_available(meta);
            self.shared.tell(&GroupEvent::SnapshotTaken { last });
            out.push(Effect::Collect {
                group: self.group,
                newest: last,
            });
        }
    }

    /// True when another turn has something to do without another input.
    pub(crate) fn is_ready(&self) -> bool {
        let ready = self.led_anew || self.node.has_ready() || self.snapshots.has_write();
        self.halted.is_none() && ready
    }

    /// The log cannot take the step, or will never make it durable.
    pub(crate) fn storage_failed(&mut self, cause: &str, out: &mut Vec<Effect>) {
        if self.halted.is_some() {
            return;
        }
        self.node.storage_failed(cause.to_owned());
        self.halt(&cause.into(), out);
    }

    fn halt(&mut self, cause: &Arc<str>, out: &mut Vec<Effect>) {
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
        self.commit_due();
        self.ended = true;
        self.shared.end();
    }

    /// Writes down how the group is, for its handles.
    pub(crate) fn refresh(&mut self) {
        // Asking costs the log's lock.
        let ends = std::mem::take(&mut self.log_moved).then(|| (self.log.first(), self.log.last()));
        let snapshot = self.snapshots.newest();
        self.shared.update(|status| {
            status.group = self.group;
            status.node = self.host;
            status.term = self.node.term();
            status.commit = self.hard_state.commit;
            status.applied = self.applied;
            if let Some((first, last)) = ends {
                (status.first, status.last) = (first, last);
            }
            status.snapshot = (snapshot != LogId::ZERO).then_some(snapshot);
            status.pending = self.proposals.len() + self.reads.len();
            if self.halted.is_none() && !self.ended {
                status.role = self.node.role();
                status.leader = self.node.leader();
                status.health = if self.installing {
                    Health::Installing
                } else {
                    Health::Running
                };
            }
        });
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
