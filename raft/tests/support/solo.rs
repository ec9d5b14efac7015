//! One member whose peers are the test itself.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use bytes::Bytes;
use raftwerk_raft::codec::decode_conf_change;
use raftwerk_raft::{
    ApplyAck, Body, ConfChange, ConfChangeKind, ConfChangeStep, ConfState, Config, Entries, Entry,
    EntryKind, Event, Fate, LogId, LogIndex, LogRead, Message, MessageKind, NodeId, Observer,
    Persist, RawNode, ReadState, Restart, Role, SnapshotMeta, Standing, StepError, Term,
};

use crate::support::MemLog;

/// Keeps what happened.
#[derive(Clone, Debug, Default)]
pub struct Tape(pub Vec<String>);

impl Observer for Tape {
    fn event(&mut self, event: &Event<'_>) {
        self.0.push(format!("{event:?}"));
    }
}

/// What a member is made of; change it, then start.
pub struct Setup {
    pub config: Config,
    pub restart: Restart,
    pub log: MemLog,
}

/// Member 1 of the voters 1, 2 and 3, synchronous, without limits, PreVote and CheckQuorum.
pub fn setup() -> Setup {
    let config = Config {
        pre_vote: false,
        check_quorum: false,
        synchronous: true,
        max_size_per_msg: u64::MAX,
        max_inflight_msgs: 256,
        max_inflight_bytes: 0,
        max_uncommitted_size: 0,
        max_committed_size_per_ready: u64::MAX,
        ..Config::new(NodeId(1), 7)
    };
    let restart = Restart {
        conf_state: voters(&[1, 2, 3]),
        ..Restart::default()
    };
    Setup {
        config,
        restart,
        log: MemLog::default(),
    }
}

impl Setup {
    /// Entries of these terms, from index 1 on.
    pub fn log(self, terms: &[u64]) -> Self {
        self.log.append(&entries(1, terms));
        self
    }

    pub fn hard_state(mut self, term: u64, vote: u64, commit: u64) -> Self {
        self.restart.hard_state = raftwerk_raft::HardState {
            term: Term(term),
            vote: (vote > 0).then_some(NodeId(vote)),
            commit: LogIndex(commit),
        };
        self
    }

    pub fn applied(mut self, index: u64) -> Self {
        self.restart.applied = LogIndex(index);
        self
    }

    pub fn conf(mut self, conf_state: ConfState) -> Self {
        self.restart.conf_state = conf_state;
        self
    }

    pub fn options(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    pub fn start(self) -> Solo {
        let log = self.log.clone();
        let synchronous = self.config.synchronous;
        let node =
            RawNode::with_observer(self.config, self.restart, self.log, Tape::default()).unwrap();
        let mut solo = Solo {
            synchronous,
            node,
            log,
            sent: Vec::new(),
            writes: Vec::new(),
            applies: Vec::new(),
            committed: Vec::new(),
            read_states: Vec::new(),
            fates: Vec::new(),
            reads: Vec::new(),
            snapshot_wanted: false,
            meta: Vec::new(),
        };
        solo.drain();
        solo
    }
}

pub struct Solo {
    synchronous: bool,
    pub node: RawNode<MemLog, Tape>,
    pub log: MemLog,
    /// What left since it was last taken.
    pub sent: Vec<Message>,
    /// In asynchronous mode, what is not yet written and applied.
    pub writes: Vec<Persist>,
    pub applies: Vec<(Entries, ApplyAck)>,
    pub committed: Vec<Entry>,
    pub read_states: Vec<ReadState>,
    pub fates: Vec<Fate>,
    pub reads: Vec<LogRead>,
    pub snapshot_wanted: bool,
    /// The named values that were written.
    pub meta: Vec<(Bytes, Option<Bytes>)>,
}

impl Solo {
    /// Takes everything that is to do; in synchronous mode does it, too.
    pub fn drain(&mut self) {
        while self.node.has_ready() {
            let ready = self.node.ready();
            self.sent.extend(ready.messages);
            self.read_states.extend(ready.read_states);
            self.fates.extend(ready.fates);
            self.reads.extend(ready.reads);
            self.snapshot_wanted |= ready.snapshot_wanted;
            let persist = ready.persist.unwrap_or_default();
            if let Some(meta) = &persist.snapshot {
                self.log.reset_to(meta.last);
            }
            self.log.append(&persist.entries);
            self.meta.extend(persist.meta.iter().cloned());
            match ready.apply_ack {
                Some(ack) => self.applies.push((ready.committed, ack)),
                None => self.apply_all(&ready.committed),
            }
            if self.synchronous {
                self.sent.extend(persist.messages);
                self.node.advance();
            } else {
                self.writes.push(persist);
            }
        }
    }

    fn apply_all(&mut self, entries: &[Entry]) {
        for entry in entries {
            if entry.kind != EntryKind::Normal {
                let change = decode_conf_change(entry.data.clone()).unwrap();
                self.node.apply_conf_change(&change).unwrap();
            }
            self.committed.push(entry.clone());
        }
    }

    /// In asynchronous mode: everything handed out is durable now.
    pub fn sync(&mut self) {
        while !self.writes.is_empty() {
            let persist = self.writes.remove(0);
            for message in persist.messages {
                if message.to == self.node.id() {
                    self.node.step(message).unwrap();
                } else {
                    self.sent.push(message);
                }
            }
            persist
                .ack
                .into_iter()
                .for_each(|ack| self.node.persisted(ack));
            self.drain();
        }
    }

    /// In asynchronous mode: everything handed out is applied now.
    pub fn apply(&mut self) {
        while !self.applies.is_empty() {
            let (entries, ack) = self.applies.remove(0);
            self.apply_all(&entries);
            self.node.applied(ack);
            self.drain();
        }
    }

    pub fn step(&mut self, from: u64, term: u64, body: Body) {
        self.try_step(from, term, body).unwrap();
    }

    pub fn try_step(&mut self, from: u64, term: u64, body: Body) -> Result<(), StepError> {
        self.try_step_in(0, from, term, body)
    }

    /// What belongs to a session.
    pub fn try_step_in(
        &mut self,
        session: u64,
        from: u64,
        term: u64,
        body: Body,
    ) -> Result<(), StepError> {
        let message = Message {
            from: NodeId(from),
            to: self.node.id(),
            term: Term(term),
            session,
            standing: Standing::Sound,
            body,
        };
        self.try_message(message)
    }

    fn try_message(&mut self, message: Message) -> Result<(), StepError> {
        let result = self.node.step(message);
        self.drain();
        result
    }

    /// An answer in this member's term, by somebody of this standing.
    pub fn answer(&mut self, standing: Standing, from: u64, body: Body) {
        let message = Message {
            from: NodeId(from),
            to: self.node.id(),
            term: self.node.term(),
            session: 0,
            standing,
            body,
        };
        self.try_message(message).unwrap();
    }

    pub fn tick(&mut self, count: u32) {
        for _ in 0..count {
            self.node.tick();
            self.drain();
        }
    }

    pub fn campaign(&mut self) {
        self.node.campaign();
        self.drain();
    }

    /// Wins an election with the vote of every other voter. In asynchronous mode everything is
    /// written on the way.
    pub fn lead(&mut self) {
        self.campaign();
        self.sync();
        let term = self.node.term().0;
        let conf = self.node.status().conf_state;
        for id in conf.voters.iter().chain(&conf.voters_outgoing) {
            if *id != self.node.id() {
                self.step(id.0, term, Body::VoteResponse { reject: false });
            }
        }
        self.sync();
        assert_eq!(self.node.role(), Role::Leader);
        self.sent.clear();
    }

    pub fn ack(&mut self, from: u64, index: u64) {
        let term = self.node.term().0;
        self.step(
            from,
            term,
            Body::AppendResponse {
                index: LogIndex(index),
                reject: None,
            },
        );
    }

    /// `from` refuses what follows `index`; its hint is the entry `hint_term`/`hint`.
    pub fn nack(&mut self, from: u64, index: u64, hint_term: u64, hint: u64) {
        let term = self.node.term().0;
        let hint = Some(LogId::new(Term(hint_term), LogIndex(hint)));
        self.step(
            from,
            term,
            Body::AppendResponse {
                index: LogIndex(index),
                reject: hint,
            },
        );
    }

    pub fn propose(&mut self, data: &'static str) {
        self.node
            .propose(Bytes::from_static(data.as_bytes()))
            .unwrap();
        self.drain();
    }

    /// What left since the last call.
    pub fn take(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.sent)
    }

    /// What of this kind left to `to` since the last call of `take`.
    pub fn sent_to(&self, to: u64, kind: MessageKind) -> Vec<&Body> {
        let fits = |message: &&Message| message.to == NodeId(to) && message.body.kind() == kind;
        self.sent
            .iter()
            .filter(fits)
            .map(|message| &message.body)
            .collect()
    }

    pub fn commit(&self) -> u64 {
        self.node.commit().0
    }

    /// An event whose name begins like this was seen.
    pub fn saw(&mut self, event: &str) -> bool {
        self.node
            .observer_mut()
            .0
            .iter()
            .any(|seen| seen.starts_with(event))
    }
}

pub fn voters(ids: &[u64]) -> ConfState {
    ConfState {
        voters: ids.iter().copied().map(NodeId).collect(),
        ..ConfState::default()
    }
}

pub fn joint(incoming: &[u64], outgoing: &[u64]) -> ConfState {
    ConfState {
        voters_outgoing: voters(outgoing).voters,
        ..voters(incoming)
    }
}

pub fn id(term: u64, index: u64) -> LogId {
    LogId::new(Term(term), LogIndex(index))
}

/// Entries of these terms, from `first` on.
pub fn entries(first: u64, terms: &[u64]) -> Vec<Entry> {
    let entry = |(index, term): (u64, &u64)| {
        Entry::normal(id(*term, index), Bytes::from(format!("{term}.{index}")))
    };
    (first..).zip(terms).map(entry).collect()
}

/// An append of entries of these terms behind `prev_term`/`prev`.
pub fn append(prev_term: u64, prev: u64, terms: &[u64], commit: u64) -> Body {
    let entries = entries(prev + 1, terms);
    Body::Append {
        prev: id(prev_term, prev),
        commit: LogIndex(commit),
        entries: entries.into(),
    }
}

pub fn snapshot(term: u64, index: u64, conf_state: ConfState) -> SnapshotMeta {
    SnapshotMeta {
        last: id(term, index),
        conf_state,
        ..SnapshotMeta::default()
    }
}

pub fn change(kind: ConfChangeKind, node: u64) -> ConfChange {
    let steps = vec![ConfChangeStep {
        kind,
        node: NodeId(node),
    }];
    ConfChange {
        steps,
        ..ConfChange::default()
    }
}

/// A change as an entry.
pub fn change_entry(term: u64, index: u64, change: &ConfChange) -> Entry {
    let mut data = Vec::new();
    raftwerk_raft::codec::encode_conf_change(change, &mut data);
    Entry {
        id: id(term, index),
        kind: EntryKind::ConfChange,
        data: data.into(),
    }
}
