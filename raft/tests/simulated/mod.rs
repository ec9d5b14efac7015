//! A cluster whose every message, write, read and tick happens when the dice say so. After every
//! event what Raft promises is checked.

mod dice;
mod member;
mod oracle;
mod run;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raftwerk_raft::{
    ApplyConfChangeError, Body, ConfState, Config, EntryKind, LogId, LogIndex, LogReader, Message,
    NodeId, Persist, ProposeError, Ready, Role, SnapshotMeta, StepError, Term, codec,
};

use dice::Dice;
use member::Member;
use oracle::Oracle;

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
}

pub(crate) struct Simulation {
    dice: Dice,
    driver: Driver,
    config: Config,
    members: BTreeMap<NodeId, Member>,
    network: Vec<Message>,
    /// Pairs that cannot hear each other (sender, receiver).
    cut: BTreeSet<(NodeId, NodeId)>,
    oracle: Oracle,
    /// For each read under way, what was committed when it began.
    reads: BTreeMap<u64, LogIndex>,
    proposals: u64,
    pub(crate) read_count: u64,
    pub(crate) installs: u64,
}

/// What a member knew before an event.
struct Before {
    term: Term,
    commit: LogIndex,
    role: Role,
}

impl Simulation {
    pub(crate) fn new(seed: u64, driver: Driver) -> Self {
        let mut dice = Dice::new(seed);
        let count = if dice.one_in(2) { 3 } else { 5 };
        let config = Config {
            election_ticks: 5,
            pre_vote: dice.one_in(2),
            check_quorum: dice.one_in(2),
            step_down_on_removal: dice.one_in(2),
            synchronous: driver == Driver::Sound && dice.one_in(4),
            max_size_per_msg: [30, 200, 1 << 20][dice.below(3)],
            max_inflight_msgs: 1 + dice.below(5),
            max_inflight_bytes: 0,
            max_committed_size_per_ready: [1, 100, 1 << 20][dice.below(3)],
            max_uncommitted_size: [0, 200][dice.below(2)],
            ..Config::new(NodeId(1), seed)
        };
        let mut simulation = Self {
            dice,
            driver,
            config,
            members: BTreeMap::new(),
            network: Vec::new(),
            cut: BTreeSet::new(),
            oracle: Oracle::default(),
            reads: BTreeMap::new(),
            proposals: 0,
            read_count: 0,
            installs: 0,
        };
        let voters = (1..=count).map(NodeId).collect();
        let conf_state = ConfState {
            voters,
            ..ConfState::default()
        };
        // The first members start behind a snapshot that says who they are: a later member finds
        // no entries from the very beginning and gets a snapshot too.
        let last = LogId::new(Term(1), LogIndex(1));
        simulation.oracle.begins_at(last);
        for id in 1..=count {
            let conf_state = conf_state.clone();
            let meta = SnapshotMeta {
                last,
                conf_state,
                ..SnapshotMeta::default()
            };
            simulation.add(NodeId(id), meta);
        }
        // Two more that wait to be added.
        for id in count + 1..=count + 2 {
            simulation.add(NodeId(id), SnapshotMeta::default());
        }
        simulation
    }

    fn add(&mut self, id: NodeId, meta: SnapshotMeta) {
        let mut member = Member::new(id, meta);
        member.start(&self.config);
        self.members.insert(id, member);
    }

    /// Lets `input` happen to a running member, does what follows from it, checks everything.
    fn with(
        &mut self,
        id: NodeId,
        input: impl FnOnce(&mut raftwerk_raft::RawNode<crate::support::MemLog>),
    ) {
        let Some(node) = self
            .members
            .get_mut(&id)
            .and_then(|member| member.node.as_mut())
        else {
            return;
        };
        let before = Before {
            term: node.term(),
            commit: node.commit(),
            role: node.role(),
        };
        input(node);
        self.drain(id);
        self.check(id, &before);
    }

    /// Does everything that `ready` asks for, until it asks for nothing.
    fn drain(&mut self, id: NodeId) {
        loop {
            let Some(node) = self
                .members
                .get_mut(&id)
                .and_then(|member| member.node.as_mut())
            else {
                return;
            };
            assert!(node.halted().is_none(), "{id} halted: {:?}", node.halted());
            if !node.has_ready() {
                return;
            }
            let ready = node.ready();
            assert_ne!(ready, Ready::default(), "there was nothing to do");
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

    /// The log takes a step: readable from now on.
    fn take(&mut self, id: NodeId, persist: &Persist) {
        let member = self.members.get_mut(&id).unwrap();
        let node = member.node.as_ref().unwrap();
        if let Some(meta) = &persist.snapshot {
            assert!(
                meta.last.index > member.log.first().prev(),
                "snapshot goes back"
            );
            member.log.reset_to(meta.last);
            self.installs += 1;
        }
        let last = member.log.last().index;
        if let Some(first) = persist.entries.first() {
            assert!(first.index() <= last.next(), "gap in the log");
            assert!(
                node.role() != Role::Leader || first.index() == last.next(),
                "leader append-only: {id} overwrites {}",
                first.index()
            );
        }
        member.log.append(&persist.entries);
        for entry in &persist.entries {
            let before = member.log.term(entry.index().prev()).unwrap();
            self.oracle.holds(entry, before);
        }
    }

    fn queue(&mut self, id: NodeId, mut persist: Persist) {
        match self.driver {
            Driver::AnswersEarly => {
                let messages = std::mem::take(&mut persist.messages);
                self.members.get_mut(&id).unwrap().writes.push_back(persist);
                self.release(id, messages);
            }
            Driver::AcknowledgesEarly => {
                let ack = persist.ack.take();
                self.members.get_mut(&id).unwrap().writes.push_back(persist);
                let node = self.members.get_mut(&id).unwrap().node.as_mut().unwrap();
                ack.into_iter().for_each(|ack| node.persisted(ack));
            }
            _ => self.members.get_mut(&id).unwrap().writes.push_back(persist),
        }
        if self.config.synchronous {
            self.sync(id);
        }
    }

    /// The oldest step becomes durable, and what waited for it happens.
    fn sync(&mut self, id: NodeId) {
        let keep_vote = self.driver != Driver::ForgetsVote;
        let oracle = &self.oracle;
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let Some(persist) = member.writes.pop_front() else {
            return;
        };
        member.disk.write(&persist, keep_vote);
        if let Some(meta) = &persist.snapshot {
            member.machine.applied = meta.last;
            member.machine.hash = oracle.state_at(meta.last);
            member.machine.conf = meta.conf_state.clone();
            member.disk.machine = member.machine.clone();
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
            let mut encoded = Vec::new();
            codec::encode_message(&message, &mut encoded);
            assert_eq!(codec::decode_message(encoded.into()).unwrap(), message);
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
            let Some((mut entries, ack)) = member.applies.pop_front() else {
                return;
            };
            if out_of_order && entries.len() > 1 {
                entries.swap(0, 1);
            }
            let mut results = Vec::new();
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
                        Ok(conf_state) => member.machine.conf = conf_state,
                        Err(ApplyConfChangeError::Refused { .. }) => {}
                        Err(ApplyConfChangeError::Superseded) => assert!(member.is_installing()),
                        Err(error) => panic!("{error}"),
                    }
                }
                member.machine.apply(&entry);
                results.push(member.machine.clone());
            }
            for result in results {
                self.oracle.applies(&result);
            }
            if let Some(ack) = ack {
                self.with(id, |node| node.applied(ack));
            } else if !self.config.synchronous {
                self.with(id, |_| {});
            }
        }
    }

    /// What must hold after whatever happened to `id`.
    fn check(&mut self, id: NodeId, before: &Before) {
        let member = &self.members[&id];
        let node = member.node.as_ref().unwrap();
        let (term, commit) = (node.term(), node.commit());
        assert!(term >= before.term, "{id}: term went back");
        assert!(commit >= before.commit, "{id}: commit index went back");
        assert!(
            commit <= member.log.last().index,
            "{id}: commit index beyond the log"
        );
        let leads = node.role() == Role::Leader;
        if leads && (before.role != Role::Leader || before.term != term) {
            let term_at = |index| member.log.term(index).ok();
            self.oracle.leads(id, term, member.log.first(), term_at);
        }
        self.note_commits(id);
    }

    /// Whatever `id` knows to be committed now stays committed.
    fn note_commits(&mut self, id: NodeId) {
        let member = self.members.get_mut(&id).unwrap();
        let node = member.node.as_ref().unwrap();
        let (term, commit, leads) = (node.term(), node.commit(), node.role() == Role::Leader);
        let mut news = false;
        let mut index = member.noted.max(member.log.first().prev());
        while index < commit {
            index = index.next();
            let entry = member.log.term(index).unwrap();
            news |= self.oracle.commits(index, entry, term);
        }
        member.noted = commit;
        if news && leads {
            self.check_quorum_has(id, commit);
        }
    }

    /// A leader commits only what a quorum has on its disks.
    fn check_quorum_has(&self, leader: NodeId, commit: LogIndex) {
        let member = &self.members[&leader];
        let term = member.log.term(commit).unwrap();
        let conf = member.node.as_ref().unwrap().status().conf_state;
        for half in [&conf.voters, &conf.voters_outgoing] {
            let has = |id: &&NodeId| {
                let disk = &self.members[id].disk.log;
                disk.first() > commit || disk.term(commit) == Ok(term)
            };
            let count = half.iter().filter(has).count();
            assert!(
                half.is_empty() || count > half.len() / 2,
                "{leader} committed {commit}, which {count} of {half:?} have on their disks"
            );
        }
    }

    fn propose(&mut self, id: NodeId) {
        self.proposals += 1;
        let size = self.dice.below(20);
        let data = format!("{}{}", self.proposals, "x".repeat(size));
        self.with(id, |node| match node.propose(Bytes::from(data)) {
            Ok(_) => {}
            Err(
                ProposeError::NoLeader
                | ProposeError::Transferring
                | ProposeError::NotMember
                | ProposeError::Busy,
            ) => {}
            Err(error) => panic!("{error}"),
        });
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
