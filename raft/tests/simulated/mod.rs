//! A cluster whose every message, write, read and tick happens when the dice say so. After every
//! event what Raft promises is checked.
#![allow(dead_code, reason = "each test uses a part of it")]

mod dice;
mod digest;
mod member;
pub(crate) mod oracle;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use raftwerk_raft::{
    ApplyConfChangeError, Body, ConfState, Config, EntryKind, Fate, ForwardMark, ForwardOutcome,
    LeaseTerms, LogId, LogIndex, LogReader, Message, NodeId, Persist, ProposeError, Proposed,
    RawNode, Ready, SnapshotMeta, StepError, Term, codec,
};

use crate::support::MemLog;
use dice::Dice;
use digest::Digest;
pub(crate) use member::Loss;
use member::Member;
use oracle::{Oracle, View};

/// What a driver may do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    Sound,
    /// Lets answers out before what they rest on is written.
    AnswersEarly,
    /// Does not write who got the vote.
    ForgetsVote,
    /// Gives receipts for what is not written.
    AcknowledgesEarly,
    /// Applies what it is given out of order.
    AppliesOutOfOrder,
    /// Tells the time of the last tick when it is asked for a read.
    ReadsOldClock,
}

const TICK_MS: u64 = 100;
const ELECTION_TICKS: u32 = 5;

pub(crate) struct Simulation {
    dice: Dice,
    driver: Driver,
    config: Config,
    members: BTreeMap<NodeId, Member>,
    network: Vec<Message>,
    /// Pairs that cannot hear each other (sender, receiver).
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Who stands still while the others' time goes on.
    frozen: BTreeSet<NodeId>,
    now_ms: u64,
    oracle: Oracle,
    digest: Digest,
    /// For each read under way, what was committed when it began.
    reads: BTreeMap<u64, LogIndex>,
    proposals: u64,
    /// What members sent on and have not been told of, by its last entry.
    forwarded: BTreeMap<(NodeId, ForwardMark), Bytes>,
    /// Messages of any age that somebody has kept, to send them again.
    kept: Option<Vec<Message>>,
    pub(crate) replay_count: u64,
    /// What the disks may lose, and how many members have lost something so far.
    losses: &'static [Loss],
    pub(crate) loss_count: u64,
    pub(crate) read_count: u64,
    pub(crate) lease_read_count: u64,
    /// Reads and proposals that were told to be dropped or in doubt.
    pub(crate) fate_count: u64,
    pub(crate) installs: u64,
    /// Configurations that were in force, joint ones among them.
    pub(crate) changes: u64,
    pub(crate) joint_changes: u64,
}

impl Simulation {
    pub(crate) fn new(seed: u64, driver: Driver) -> Self {
        let mut dice = Dice::new(seed);
        let count = [1, 2, 3, 3, 4, 5, 5, 6, 7, 7][dice.below(10)];
        let voters = 1 + dice.below(usize::try_from(count).unwrap()) as u64;
        let learners = if dice.one_in(3) { voters + 1 } else { voters }.min(count);
        let config = Self::draw_config(&mut dice, seed, driver);
        let mut simulation = Self {
            dice,
            driver,
            config,
            members: BTreeMap::new(),
            network: Vec::new(),
            cut: BTreeSet::new(),
            frozen: BTreeSet::new(),
            now_ms: 0,
            oracle: Oracle::default(),
            digest: Digest::default(),
            reads: BTreeMap::new(),
            proposals: 0,
            forwarded: BTreeMap::new(),
            kept: None,
            replay_count: 0,
            losses: &[],
            loss_count: 0,
            read_count: 0,
            lease_read_count: 0,
            fate_count: 0,
            installs: 0,
            changes: 0,
            joint_changes: 0,
        };
        let conf_state = ConfState {
            voters: (1..=voters).map(NodeId).collect(),
            learners: (voters + 1..=learners).map(NodeId).collect(),
            ..ConfState::default()
        };
        // The first members start behind a snapshot that says who they are: a later member finds
        // no entries from the very beginning and gets a snapshot too.
        let last = LogId::new(Term(1), LogIndex(1));
        simulation.oracle.begins_at(last);
        for id in 1..=count {
            // The others wait to be added.
            let meta = if id > learners {
                SnapshotMeta::default()
            } else {
                let conf_state = conf_state.clone();
                SnapshotMeta {
                    last,
                    conf_state,
                    ..SnapshotMeta::default()
                }
            };
            let mut member = Member::new(NodeId(id), meta);
            member.start(&simulation.config);
            simulation.members.insert(NodeId(id), member);
        }
        simulation
    }

    /// With disks that lose such things in a crash: in less than half of the members, so that the
    /// others may go on.
    pub(crate) fn with_losses(seed: u64, losses: &'static [Loss]) -> Self {
        Self {
            losses,
            ..Self::new(seed, Driver::Sound)
        }
    }

    /// With somebody who sends again what was said at any time, also in another's name who is no
    /// member.
    pub(crate) fn with_replays(seed: u64) -> Self {
        Self {
            kept: Some(Vec::new()),
            ..Self::new(seed, Driver::Sound)
        }
    }

    fn draw_config(dice: &mut Dice, seed: u64, driver: Driver) -> Config {
        let leased = dice.one_in(4) || driver == Driver::ReadsOldClock;
        let lease = leased.then_some(LeaseTerms {
            election_timeout: Duration::from_millis(u64::from(ELECTION_TICKS - 1) * TICK_MS),
            drift_bound: Duration::from_millis(TICK_MS / 2),
        });
        let max_size_per_msg = [30, 200, 1 << 20][dice.below(3)];
        Config {
            election_ticks: ELECTION_TICKS,
            pre_vote: dice.one_in(2),
            check_quorum: dice.one_in(2) || leased,
            lease,
            step_down_on_removal: dice.one_in(2),
            promote_learners: dice.one_in(3),
            step_down_on_stalled_disk: dice.one_in(2),
            synchronous: driver == Driver::Sound && dice.one_in(4),
            max_size_per_msg,
            max_inflight_msgs: 1 + dice.below(5),
            max_inflight_bytes: [0, max_size_per_msg][dice.below(2)],
            max_committed_size_per_ready: [1, 100, 1 << 20][dice.below(3)],
            max_uncommitted_size: [0, 200][dice.below(2)],
            ..Config::new(NodeId(1), seed)
        }
    }

    /// Stands for everything that any member ever put out.
    pub(crate) const fn history(&self) -> u64 {
        self.digest.value()
    }

    fn node(&mut self, id: NodeId) -> Option<&mut RawNode<MemLog>> {
        self.members.get_mut(&id)?.node.as_mut()
    }

    /// Lets `input` happen to a running member, does what follows from it, checks everything.
    fn with(&mut self, id: NodeId, input: impl FnOnce(&mut RawNode<MemLog>)) {
        let Some(node) = self.node(id) else { return };
        input(node);
        self.drain(id);
        self.check(id);
    }

    /// Does everything that `ready` asks for, until it asks for nothing.
    fn drain(&mut self, id: NodeId) {
        while let Some(node) = self.node(id) {
            assert!(node.halted().is_none(), "{id} halted: {:?}", node.halted());
            if !node.has_ready() {
                return;
            }
            let ready = node.ready();
            assert_ne!(ready, Ready::default(), "there was nothing to do");
            self.digest.number(id.0);
            self.digest.ready(&ready);
            self.handle(id, ready);
        }
    }

    fn handle(&mut self, id: NodeId, ready: Ready) {
        let member = self.members.get_mut(&id).unwrap();
        member.reads.extend(ready.reads);
        member.snapshot_wanted |= ready.snapshot_wanted;
        if !ready.committed.is_empty() {
            member.applies.push_back((ready.committed, ready.apply_ack));
        }
        for state in ready.read_states {
            let key = u64::from_be_bytes(state.context[..].try_into().unwrap());
            // Perhaps not for the first time: messages are duplicated.
            let least = self.reads[&key];
            assert!(
                state.index >= least,
                "stale read: {} after {least}",
                state.index
            );
            self.read_count += 1;
        }
        for fate in ready.fates {
            self.note_fate(id, &fate);
        }
        self.send(ready.messages);
        if let Some(persist) = ready.persist {
            self.take(id, &persist);
            self.queue(id, persist);
        }
        if self.config.synchronous {
            self.note_commits(id);
            self.apply(id, usize::MAX);
            let member = self.members.get_mut(&id).unwrap();
            member.node.as_mut().unwrap().advance();
        }
    }

    /// What is told of the fate of something is true.
    fn note_fate(&mut self, id: NodeId, fate: &Fate) {
        match fate {
            Fate::ReadDropped { context, .. } => {
                let key = u64::from_be_bytes(context[..].try_into().unwrap());
                assert!(
                    self.reads.contains_key(&key),
                    "a read that nobody asked for"
                );
                self.fate_count += 1;
            }
            Fate::InDoubt { first, last } => {
                let led = self.oracle.leader(last.term) == Some(id);
                assert!(
                    led && *first <= last.index,
                    "{id} doubts what is not its own"
                );
                self.fate_count += 1;
            }
            Fate::Forwarded { mark, outcome } => {
                let data = self.forwarded.remove(&(id, *mark));
                let data = data.expect("told of what was not sent on, or twice");
                if let ForwardOutcome::Appended(last) = outcome {
                    self.oracle.holds_data(*last, &data);
                }
                self.fate_count += 1;
            }
            _ => {}
        }
    }

    /// The log takes a step: readable from now on.
    fn take(&mut self, id: NodeId, persist: &Persist) {
        let member = self.members.get_mut(&id).unwrap();
        if let Some(meta) = &persist.snapshot {
            // One that was asked for may end where the log begins.
            assert!(
                meta.last.index >= member.log.first().prev(),
                "snapshot goes back"
            );
            member.log.reset_to(meta.last);
            self.installs += 1;
        }
        let last = member.log.last().index;
        if let Some(first) = persist.entries.first() {
            assert!(first.index() <= last.next(), "gap in the log");
        }
        member.log.append(&persist.entries);
        for entry in &persist.entries {
            let before = member.log.term(entry.index().prev()).unwrap();
            self.oracle.holds(entry, before);
        }
    }

    fn queue(&mut self, id: NodeId, mut persist: Persist) {
        let member = self.members.get_mut(&id).unwrap();
        match self.driver {
            Driver::AnswersEarly => {
                let messages = std::mem::take(&mut persist.messages);
                member.writes.push_back(persist);
                self.release(id, messages);
            }
            Driver::AcknowledgesEarly => {
                let ack = persist.ack.take();
                member.writes.push_back(persist);
                let node = member.node.as_mut().unwrap();
                ack.into_iter().for_each(|ack| node.persisted(ack));
            }
            _ => member.writes.push_back(persist),
        }
        if self.config.synchronous {
            self.sync(id);
        }
    }

    /// The oldest step becomes durable; none if there was none.
    fn write(&mut self, id: NodeId) -> Option<Persist> {
        let keep_vote = self.driver != Driver::ForgetsVote;
        let oracle = &self.oracle;
        let member = self.members.get_mut(&id)?;
        let persist = member.writes.pop_front()?;
        let state_at = |last| oracle.state_at(last);
        member.disk.write(&persist, keep_vote, state_at);
        Some(persist)
    }

    /// The oldest step becomes durable, and what waited for it happens.
    fn sync(&mut self, id: NodeId) {
        let Some(persist) = self.write(id) else {
            return;
        };
        if persist.snapshot.is_some() {
            let member = self.members.get_mut(&id).unwrap();
            member.machine = member.disk.machine.clone();
        }
        self.release(id, persist.messages);
        if let Some(ack) = persist.ack {
            self.with(id, |node| node.persisted(ack));
        }
    }

    /// Sends what waited for a write; what a member told itself comes first.
    fn release(&mut self, id: NodeId, messages: Vec<Message>) {
        let (own, others): (Vec<_>, Vec<_>) = messages.into_iter().partition(|m| m.to == id);
        for message in &own {
            self.note_vote(message);
        }
        for message in own {
            // A member that was removed does not know itself.
            self.with(id, |node| sound(node.step(message)));
        }
        self.send(others);
    }

    fn send(&mut self, messages: Vec<Message>) {
        for message in messages {
            self.note_vote(&message);
            self.keep(&message);
            self.network.push(message);
        }
    }

    fn note_vote(&mut self, message: &Message) {
        if message.body == (Body::VoteResponse { reject: false }) {
            self.oracle.votes(message.from, message.term, message.to);
        }
    }

    /// Applies up to `count` batches of what was handed out.
    fn apply(&mut self, id: NodeId, count: usize) {
        for _ in 0..count {
            let out_of_order = self.driver == Driver::AppliesOutOfOrder;
            let member = self.members.get_mut(&id).unwrap();
            let Some((entries, ack)) = member.applies.pop_front() else {
                return;
            };
            let mut entries = entries.to_vec();
            if out_of_order && entries.len() > 1 {
                entries.swap(0, 1);
            }
            for entry in entries {
                // A snapshot has overtaken it.
                if entry.index() <= member.machine.applied.index {
                    continue;
                }
                assert!(
                    out_of_order || entry.index() == member.machine.applied.index.next(),
                    "{id} applies {} after {}",
                    entry.id,
                    member.machine.applied
                );
                if entry.kind != EntryKind::Normal {
                    let change = codec::decode_conf_change(entry.data.clone()).unwrap();
                    match member.node.as_mut().unwrap().apply_conf_change(&change) {
                        Ok(conf_state) => {
                            self.changes += 1;
                            self.joint_changes += u64::from(!conf_state.voters_outgoing.is_empty());
                            member.machine.conf = conf_state;
                        }
                        Err(ApplyConfChangeError::Refused { .. }) => {}
                        Err(ApplyConfChangeError::Superseded) => assert!(member.is_installing()),
                        Err(error) => panic!("{error}"),
                    }
                }
                member.machine.apply(&entry);
                self.oracle.applies(&member.machine);
            }
            if let Some(ack) = ack {
                self.with(id, |node| node.applied(ack));
            } else if !self.config.synchronous {
                self.with(id, |_| {});
            }
        }
    }

    /// What must hold after whatever happened to `id`.
    fn check(&mut self, id: NodeId) {
        let member = &self.members[&id];
        let status = member.node.as_ref().unwrap().status();
        let view = View {
            role: status.role,
            term: status.hard_state.term,
            vote: status.hard_state.vote,
            commit: status.hard_state.commit,
            applied: status.applied,
            first: member.log.first(),
            last: member.log.last(),
        };
        assert_eq!(status.last, view.last, "{id}: not all was handed out");
        self.oracle
            .moves(id, view, |index| member.log.term(index).ok());
        self.note_commits(id);
    }

    /// Whatever `id` knows to be committed now stays committed, and is on a quorum's disks.
    fn note_commits(&mut self, id: NodeId) {
        let member = self.members.get_mut(&id).unwrap();
        let node = member.node.as_ref().unwrap();
        let (term, commit) = (node.term(), node.commit());
        let mut news = false;
        let mut index = member.noted.max(member.log.first().prev());
        while index < commit {
            index = index.next();
            let entry = member.log.term(index).unwrap();
            news |= self.oracle.commits(index, entry, term);
        }
        member.noted = commit;
        if news {
            let entry = member.log.term(commit).unwrap();
            let conf = node.status().conf_state;
            Oracle::is_durable(&conf, commit, |id| {
                self.members[&id].disk.vouches_for(commit, entry)
            });
        }
    }

    fn propose(&mut self, id: NodeId) {
        let count = 1 + self.dice.below(3);
        let batch = (0..count).map(|_| {
            self.proposals += 1;
            let size = self.dice.below(20);
            Bytes::from(format!("{}{}", self.proposals, "x".repeat(size)))
        });
        let batch: Vec<Bytes> = batch.collect();
        let last = batch.last().cloned().unwrap_or_default();
        self.propose_with(id, last, |node| match node.propose_batch(batch) {
            Ok(proposed) => Some(proposed),
            Err(
                ProposeError::NoLeader
                | ProposeError::Transferring
                | ProposeError::NotMember
                | ProposeError::Busy,
            ) => None,
            Err(error) => panic!("{error}"),
        });
    }

    /// Proposes something whose last entry says `last`.
    fn propose_with(
        &mut self,
        id: NodeId,
        last: Bytes,
        propose: impl FnOnce(&mut RawNode<MemLog>) -> Option<Proposed>,
    ) {
        let mut proposed = None;
        self.with(id, |node| proposed = propose(node));
        if let Some(Proposed::Forwarded { mark, .. }) = proposed {
            self.forwarded.insert((id, mark), last);
        }
    }
}

/// Refusals that a sound cluster gives.
fn sound(result: Result<(), StepError>) {
    match result {
        Ok(()) | Err(StepError::PeerNotFound { .. }) => {}
        Err(StepError::Propose(error)) => {
            assert!(!matches!(error, ProposeError::Invalid { .. }), "{error}");
        }
        Err(error) => panic!("{error}"),
    }
}
