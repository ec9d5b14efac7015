//! The public face of the core.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::config::Config;
use crate::entries::Entries;
use crate::entry::{ConfChange, ConfState, Entry, HardState, SnapshotMeta};
use crate::error::{
    ApplyConfChangeError, ConfigError, Halted, LeaseReadError, ProposeError, ReadIndexError,
    RequestSnapshotError, StepError,
};
use crate::message::{Message, MessageKind};
use crate::observer::{NoObserver, Observer};
use crate::raft::{Digest, Raft};
use crate::ready::{
    ApplyAck, LogReadId, LogReadResult, Persist, PersistAck, Proposed, Ready, SnapshotStatus,
    SoftState,
};
use crate::restart::Restart;
use crate::status::{Loss, Status};
use crate::storage::LogReader;
use crate::types::{LogId, LogIndex, NodeId, Role, Term};

/// What `advance` does for a driver of the synchronous mode.
#[derive(Clone, Debug, Default)]
struct Advance {
    messages: Vec<Message>,
    persist: Option<PersistAck>,
    apply: Option<ApplyAck>,
}

/// Nothing was there to do when it was last looked, and nothing has come in since. Only a note for
/// who asks again; who shares the node sees the same.
#[derive(Debug, Default)]
struct Quiet(AtomicBool);

impl Clone for Quiet {
    fn clone(&self) -> Self {
        Self(AtomicBool::new(self.get()))
    }
}

impl Quiet {
    #[inline]
    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    #[inline]
    fn end(&mut self) {
        *self.0.get_mut() = false;
    }
}

/// Nothing is moved where there is nothing, as nearly always. `out` is empty.
#[inline]
const fn hand_out<T>(out: &mut Vec<T>, list: &mut Vec<T>) {
    if !list.is_empty() {
        mem::swap(out, list);
    }
}

/// One member of one Raft group, doing no I/O. The crate's documentation has the loop around it.
#[derive(Clone, Debug)]
pub struct RawNode<L: LogReader, O: Observer = NoObserver> {
    raft: Raft<L, O>,
    /// What the last `Ready` said.
    soft_state: SoftState,
    hard_state: HardState,
    /// In synchronous mode, a `Ready` is out.
    advance: Option<Advance>,
    quiet: Quiet,
}

impl<L: LogReader> RawNode<L> {
    /// A member as `restart` says, reading its log through `log`.
    ///
    /// # Errors
    /// [`ConfigError`] when the options or what is stored contradict themselves.
    pub fn new(config: Config, restart: Restart, log: L) -> Result<Self, ConfigError> {
        Self::with_observer(config, restart, log, NoObserver)
    }
}

impl<L: LogReader, O: Observer> RawNode<L, O> {
    /// Like [`RawNode::new`], and tells `observer` what happens.
    ///
    /// # Errors
    /// [`ConfigError`] when the options or what is stored contradict themselves.
    pub fn with_observer(
        config: Config,
        restart: Restart,
        log: L,
        observer: O,
    ) -> Result<Self, ConfigError> {
        let raft = Raft::new(config, restart, log, observer)?;
        let (soft_state, hard_state) = (raft.soft_state(), raft.hard_state());
        Ok(Self {
            raft,
            soft_state,
            hard_state,
            advance: None,
            quiet: Quiet::default(),
        })
    }

    /// One unit of time has passed.
    pub fn tick(&mut self) {
        if self.takes_input() {
            self.raft.tick();
        }
    }

    /// Takes a peer's message, or one of this member's own from [`Persist::messages`].
    ///
    /// # Errors
    /// [`StepError`] when the message was not taken.
    #[inline]
    pub fn step(&mut self, message: Message) -> Result<(), StepError> {
        self.check()?;
        let from = message.from;
        let response = message.body.kind().is_response();
        if response && !self.raft.tracker.progress.contains_key(&from) {
            // Who has just been added does not know yet that its leader is a member.
            let of_leader = self.raft.leader == Some(from);
            if !of_leader || message.body.kind() != MessageKind::ProposeResponse {
                return Err(StepError::PeerNotFound { from });
            }
        }
        self.raft.step(message)
    }

    /// Proposes one normal entry.
    ///
    /// # Errors
    /// [`ProposeError`] when it was not taken.
    pub fn propose(&mut self, data: Bytes) -> Result<Proposed, ProposeError> {
        self.check()?;
        let entry = Entry::normal(LogId::ZERO, data);
        self.raft.propose_own(entry.into())
    }

    /// Proposes several normal entries that stand in the log one after the other: payloads, or
    /// [`Entries`] made of them. Their ids are the leader's to give.
    ///
    /// # Errors
    /// [`ProposeError`] when none of them was taken.
    #[inline]
    pub fn propose_batch(&mut self, batch: impl Into<Entries>) -> Result<Proposed, ProposeError> {
        self.check()?;
        let entries = batch.into();
        if entries.may_change_conf() {
            return Err(ProposeError::Invalid {
                reason: "a change of the configuration is proposed by propose_conf_change",
            });
        }
        self.raft.propose_own(entries)
    }

    /// Proposes a change of the configuration.
    ///
    /// # Errors
    /// [`ProposeError`] when it was not taken.
    pub fn propose_conf_change(&mut self, change: ConfChange) -> Result<Proposed, ProposeError> {
        self.check()?;
        self.raft.propose_conf_change(&change)
    }

    /// Switches to the configuration that a committed change makes; called once for each such
    /// entry of [`Ready::committed`], in order, before it is acknowledged as applied.
    ///
    /// # Errors
    /// [`ApplyConfChangeError`] when the change has no effect: the configuration stays.
    pub fn apply_conf_change(
        &mut self,
        change: &ConfChange,
    ) -> Result<ConfState, ApplyConfChangeError> {
        self.check()?;
        self.raft.apply_conf_change(change)
    }

    /// Asks for an index at which a read of the state is linearizable; the answer is a
    /// [`crate::ReadState`] with the same `context`, or a [`crate::Fate`] that says why there is
    /// none. Either gets lost where a message does: ask again after a while.
    ///
    /// # Errors
    /// [`ReadIndexError`] when there will be no answer.
    pub fn read_index(&mut self, context: Bytes) -> Result<(), ReadIndexError> {
        self.check()?;
        self.raft.read_index(context)
    }

    /// What the driver's clock says: one that never goes back and that goes on while the machine
    /// is suspended, from any beginning. With [`Config::lease`], told before every input that may
    /// make a leader send heartbeats (ticks and reads); a time told late only shortens the lease.
    pub fn tell_time(&mut self, now: Duration) {
        self.raft.tell_time(now);
    }

    /// An index at which a read of the state is linearizable at the time `now`, on the clock of
    /// [`RawNode::tell_time`]: a state that has applied it answers, and nobody is asked. Holds as
    /// long as no member's clock drifts further than [`Config::lease`] says.
    ///
    /// # Errors
    /// [`LeaseReadError`] when this member has no lease: [`RawNode::read_index`] works without.
    pub fn lease_read(&mut self, now: Duration) -> Result<LogIndex, LeaseReadError> {
        self.check()?;
        self.raft.lease_read(now)
    }

    /// Starts an election now.
    pub fn campaign(&mut self) {
        if self.takes_input() {
            self.raft.campaign();
        }
    }

    /// Hands leadership to `to`; given up after one election timeout.
    pub fn transfer_leader(&mut self, to: NodeId) {
        if self.takes_input() {
            self.raft.transfer(to);
        }
    }

    /// Forgets who leads, so that this follower may vote before its timeout.
    pub fn forget_leader(&mut self) {
        if self.takes_input() {
            self.raft.forget_leader();
        }
    }

    /// A [`Persist`] and all before it are durable (asynchronous mode).
    pub fn persisted(&mut self, ack: PersistAck) {
        if self.takes_input() {
            self.raft.persisted(ack);
        }
    }

    /// Entries of [`Ready::committed`] are applied (asynchronous mode).
    pub fn applied(&mut self, ack: ApplyAck) {
        if self.runs() {
            let may_follow = self.raft.applied_to(ack.index, ack.bytes);
            self.raft.release_uncommitted(ack.payload);
            // Nearly always there is nothing to look for then.
            if may_follow {
                self.quiet.end();
            }
        }
    }

    /// The last `Ready` is persisted, sent and applied (synchronous mode).
    pub fn advance(&mut self) {
        let Some(advance) = self.advance.take() else {
            return;
        };
        self.quiet.end();
        for message in advance.messages {
            if self.takes_input() {
                // Its own answers fit by construction; what has become stale since is ignored.
                let _ = self.raft.step(message);
            }
        }
        if let Some(ack) = advance.persist {
            self.persisted(ack);
        }
        if let Some(ack) = advance.apply {
            self.applied(ack);
        }
    }

    /// The answer to one of [`Ready::reads`].
    pub fn log_read(&mut self, id: LogReadId, result: LogReadResult) {
        if self.takes_input() {
            self.raft.log_read(id, result);
        }
    }

    /// The newest snapshot that may be sent to others: of what is committed, and newer than the
    /// last one given.
    pub fn snapshot_available(&mut self, meta: SnapshotMeta) {
        if self.takes_input() {
            self.raft.snapshot_available(meta);
        }
    }

    /// Asks the leader, this one or the next, for a snapshot that replaces this follower's state
    /// though its log is sound. It comes like any other, in [`Persist::snapshot`], and reaches at
    /// least as far as the log does now; until then nothing is appended here, and this member
    /// starts no election. The leader goes on once [`RawNode::report_snapshot`] tells it that the
    /// snapshot has arrived. Not remembered across a restart, and given up where this member may be
    /// the only one that can lead: when a candidate with a shorter log asks for its vote, and when
    /// no leader was heard from for four times [`Config::election_ticks`].
    ///
    /// # Errors
    /// [`RequestSnapshotError`] when there is nobody to ask.
    pub fn request_snapshot(&mut self) -> Result<(), RequestSnapshotError> {
        self.check()?;
        self.raft.request_snapshot()
    }

    /// The last message to `peer` may be lost.
    pub fn report_unreachable(&mut self, peer: NodeId) {
        if self.takes_input() {
            self.raft.report_unreachable(peer);
        }
    }

    /// How sending a snapshot to `peer` ended.
    pub fn report_snapshot(&mut self, peer: NodeId, status: SnapshotStatus) {
        if self.takes_input() {
            self.raft.report_snapshot(peer, status);
        }
    }

    /// The store failed: a leader steps down and the group halts on this member. One last `Ready`
    /// tells what becomes of what was asked: the new leadership, answers, fates, and nothing to
    /// write or to apply. In synchronous mode it is there without [`RawNode::advance`].
    pub fn storage_failed(&mut self, cause: String) {
        self.quiet.end();
        self.raft.halt(cause);
    }

    /// Sets the election timeout until the next one is drawn: for tests, and for who wants to
    /// prefer a member.
    pub fn set_election_timeout(&mut self, ticks: u32) {
        // With leases no leader may be deposed earlier.
        let least = match self.raft.config.lease {
            Some(_) => self.raft.config.election_ticks,
            None => 0,
        };
        self.raft.election_timeout = ticks.max(least);
    }

    /// There is something to do.
    #[must_use]
    #[inline]
    pub fn has_ready(&self) -> bool {
        if self.quiet.get() {
            debug_assert!(!self.has_work(), "an input was not noticed");
            return false;
        }
        self.finds_work()
    }

    #[inline(never)]
    fn finds_work(&self) -> bool {
        let found = self.has_work();
        if !found {
            self.quiet.note();
        }
        found
    }

    #[inline]
    fn has_work(&self) -> bool {
        let raft = &self.raft;
        if !self.runs() {
            return self.has_last_words();
        }
        if self.advance.is_some() {
            return false;
        }
        // What is usual comes first.
        !raft.messages.is_empty()
            || !raft.messages_after_persist.is_empty()
            || raft.hard_state() != self.hard_state
            || raft.soft_state() != self.soft_state
            || raft.log.unstable.next_snapshot().is_some()
            || raft.log.unstable.has_next_entries()
            || raft.has_committed()
            || raft.owes_read_round()
            || raft.has_rarities()
    }

    /// Of a member that has halted.
    #[cold]
    fn has_last_words(&self) -> bool {
        let raft = &self.raft;
        !raft.messages.is_empty()
            || !raft.read_states.is_empty()
            || !raft.fates.is_empty()
            || raft.soft_state() != self.soft_state
    }

    /// Everything there is to do since the last call; taking it accepts it. In synchronous mode
    /// there is nothing before [`RawNode::advance`] was called for the last one.
    #[inline]
    pub fn ready(&mut self) -> Ready {
        let mut ready = Ready::default();
        self.ready_into(&mut ready);
        ready
    }

    /// As [`RawNode::ready`], in the place of an earlier one, whose emptied lists are filled again:
    /// a driver that keeps one `Ready` for all of its groups allocates none.
    #[inline]
    pub fn ready_into(&mut self, ready: &mut Ready) {
        ready.clear();
        if !self.runs() {
            return self.say_last_words(ready);
        }
        if self.advance.is_some() {
            ready.persist = None;
            return;
        }
        self.raft.begin_read_round();
        self.raft.tell_committed();
        let apply = self.raft.take_committed(&mut ready.committed);
        if !self.runs() {
            return self.say_last_words(ready);
        }
        let soft_state = self.raft.soft_state();
        if soft_state != self.soft_state {
            ready.soft_state = Some(soft_state);
            self.soft_state = soft_state;
        }
        hand_out(&mut ready.messages, &mut self.raft.messages);
        if self.raft.has_rarities() {
            self.hand_out_rarities(ready);
        }
        let persist = ready.persist.get_or_insert_default();
        let ack = self.take_persist(persist);
        if self.raft.config.synchronous {
            let own = |message: &mut Message| message.to == self.raft.config.id;
            let messages = persist.messages.extract_if(.., own).collect();
            self.advance = Some(Advance {
                messages,
                persist: ack,
                apply,
            });
        } else {
            persist.ack = ack;
            ready.apply_ack = apply;
        }
        let writes = persist.hard_state.is_some()
            || persist.snapshot.is_some()
            || !persist.entries.is_empty()
            || !persist.meta.is_empty()
            || !persist.messages.is_empty();
        if !writes {
            ready.persist = None;
        }
        self.quiet.note();
    }

    /// What there rarely is.
    #[cold]
    fn hand_out_rarities(&mut self, ready: &mut Ready) {
        let raft = &mut self.raft;
        hand_out(&mut ready.read_states, &mut raft.read_states);
        hand_out(&mut ready.fates, &mut raft.fates);
        raft.cold.take_outbox(&mut ready.reads);
        ready.snapshot_wanted = mem::take(&mut raft.snapshot_wanted);
        let marks = &mut raft.losses.marks;
        if !marks.is_empty() {
            ready.persist.get_or_insert_default().meta = mem::take(marks);
        }
    }

    /// What a member that has halted tells.
    #[cold]
    fn say_last_words(&mut self, ready: &mut Ready) {
        let soft_state = self.raft.soft_state();
        if soft_state != self.soft_state {
            ready.soft_state = Some(soft_state);
            self.soft_state = soft_state;
        }
        hand_out(&mut ready.messages, &mut self.raft.messages);
        hand_out(&mut ready.read_states, &mut self.raft.read_states);
        hand_out(&mut ready.fates, &mut self.raft.fates);
        ready.persist = None;
    }

    /// What is to be written, what waits for that, and the receipt. `persist` is as good as new but
    /// for the memory that its lists have.
    #[inline]
    fn take_persist(&mut self, persist: &mut Persist) -> Option<PersistAck> {
        let raft = &mut self.raft;
        // Nearly never there, and large: nothing of it is moved about then.
        let mut snapshot = None;
        if let Some(meta) = raft.log.unstable.next_snapshot() {
            persist.snapshot = Some(meta.clone());
            snapshot = Some(meta.last.index);
        }
        let news = raft.log.unstable.accept(&mut persist.entries);
        hand_out(&mut persist.messages, &mut raft.messages_after_persist);
        let mut must_sync = news || !persist.meta.is_empty() || snapshot.is_some();
        let (hard_state, before) = (raft.hard_state(), &mut self.hard_state);
        if hard_state != *before {
            must_sync |= (hard_state.term, hard_state.vote) != (before.term, before.vote);
            *before = hard_state;
            persist.hard_state = Some(hard_state);
        }
        // As long as entries wait to be durable every receipt names the last of them, also when
        // they went out with an earlier step: a receipt that came after its term had ended did
        // not count.
        let waiting = !raft.log.unstable.entries.is_empty();
        let ack = (waiting || snapshot.is_some()).then(|| PersistAck {
            term: raft.term,
            last: if waiting {
                raft.log.last()
            } else {
                LogId::ZERO
            },
            snapshot,
        });
        persist.must_sync = must_sync;
        ack
    }

    /// A copy of what this member knows.
    #[must_use]
    pub fn status(&self) -> Status {
        let raft = &self.raft;
        let leads = raft.role == Role::Leader;
        Status {
            id: raft.config.id,
            role: raft.role,
            leader: raft.leader,
            transferee: raft.transferee,
            hard_state: raft.hard_state(),
            applied: raft.log.applied,
            first: raft.log.first_index(),
            last: raft.log.last(),
            durable: raft.log.durable(),
            conf_state: raft.tracker.conf_state(),
            progress: if leads {
                let progress = raft.tracker.progress.iter();
                progress.map(|(id, of)| (*id, of.clone())).collect()
            } else {
                Default::default()
            },
            pending_reads: raft.reads.len(),
            invalid_messages: raft.invalid_messages,
            voteless: raft.voteless(),
            wants_snapshot: raft.requests.wanted,
            loss: raft.loss(),
        }
    }

    /// A digest of what this member is going to do: of two that were started with the same options
    /// and read equal logs, those with equal digests answer every input alike. How many ticks they
    /// have waited and which timeouts they have drawn is left out, and so is what the store holds.
    /// For simulators that must tell whether they have been somewhere before; not stable between
    /// versions.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut digest = Digest::default();
        self.raft.digest(&mut digest);
        digest.add(&(self.soft_state, self.hard_state, &self.advance));
        digest.finish()
    }

    /// Why the group has halted on this member, if it has.
    #[must_use]
    pub fn halted(&self) -> Option<&Halted> {
        self.raft.halted.as_deref()
    }

    /// This member.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.raft.config.id
    }

    /// Its term.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.raft.term
    }

    /// What it does.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.raft.role
    }

    /// Who leads, as far as it knows.
    #[must_use]
    pub const fn leader(&self) -> Option<NodeId> {
        self.raft.leader
    }

    /// How far it knows the log to be committed.
    #[must_use]
    pub const fn commit(&self) -> LogIndex {
        self.raft.log.committed
    }

    /// What its disk lost and has not been made good: see [`Status::loss`].
    #[must_use]
    pub fn loss(&self) -> Option<Loss> {
        self.raft.loss()
    }

    /// Whether it neither asks for votes nor grants any.
    #[must_use]
    pub const fn voteless(&self) -> bool {
        self.raft.voteless()
    }

    /// Whether this follower asked for a snapshot, and waits for it still.
    #[must_use]
    pub const fn wants_snapshot(&self) -> bool {
        self.raft.requests.wanted
    }

    /// Its log, as far as it is in the store.
    #[must_use]
    pub const fn log(&self) -> &L {
        &self.raft.log.stable
    }

    /// The same, for a driver that writes to it there: what a [`Persist`] says, and compaction.
    /// Where its log ends the core knows by itself, and what other members may have been promised
    /// is never taken out of it.
    pub const fn log_mut(&mut self) -> &mut L {
        &mut self.raft.log.stable
    }

    /// Its observer.
    pub const fn observer_mut(&mut self) -> &mut O {
        &mut self.raft.observer
    }

    const fn runs(&self) -> bool {
        self.raft.halted.is_none()
    }

    /// Whether an input has any effect; it may leave something to do.
    #[inline]
    fn takes_input(&mut self) -> bool {
        self.quiet.end();
        self.runs()
    }

    #[inline]
    fn check(&mut self) -> Result<(), Halted> {
        self.quiet.end();
        match &self.raft.halted {
            None => Ok(()),
            Some(halted) => Err(Halted::clone(halted)),
        }
    }
}
