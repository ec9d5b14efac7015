//! The log as a member keeps it - what is stored, what is on its way to the disk, a snapshot
//! before both - against a plain list: whatever leaders send, in whatever order disk and state
//! machine keep up.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "support/solo.rs"]
mod solo;
mod support;

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use raftwerk_raft::{
    ApplyAck, Body, Entries, Entry, LogId, LogIndex, LogReader as _, Message, NodeId, Persist,
    RawNode, Role, Standing, Term,
};

use solo::{id, setup, snapshot, voters};
use support::MemLog;

/// What happens next.
#[derive(Clone, Debug)]
enum Op {
    /// Another leader: it keeps a part of the last one's log and adds so many entries of its own.
    Lead { keep: Index, fresh: usize },
    /// The leader appends.
    Grow { fresh: usize },
    /// The leader sends a part of its log, and what is committed.
    Send {
        from: Index,
        count: usize,
        commit: Index,
    },
    /// The leader sends a snapshot of what is committed.
    Snapshot { at: Index },
    /// So many steps become durable.
    Sync { count: usize },
    /// What was handed out is applied.
    Apply,
    /// The store drops what is applied.
    Compact { to: Index },
}

fn any_op() -> impl Strategy<Value = Op> {
    let at = any::<Index>;
    prop_oneof![
        2 => (at(), 0..4_usize).prop_map(|(keep, fresh)| Op::Lead { keep, fresh }),
        2 => (1..4_usize).prop_map(|fresh| Op::Grow { fresh }),
        8 => (at(), 0..6_usize, at())
            .prop_map(|(from, count, commit)| Op::Send { from, count, commit }),
        1 => at().prop_map(|at| Op::Snapshot { at }),
        5 => (1..4_usize).prop_map(|count| Op::Sync { count }),
        2 => Just(Op::Apply),
        1 => at().prop_map(|to| Op::Compact { to }),
    ]
}

/// A list with what stands before it.
#[derive(Clone, Debug, Default)]
struct Model {
    base: LogId,
    entries: Vec<Entry>,
    commit: u64,
}

impl Model {
    fn last(&self) -> LogId {
        self.entries.last().map_or(self.base, |entry| entry.id)
    }

    fn at(&self, index: u64) -> Option<LogId> {
        if index == self.base.index.0 {
            return Some(self.base);
        }
        let at = usize::try_from(index.checked_sub(self.base.index.0 + 1)?).unwrap();
        self.entries.get(at).map(|entry| entry.id)
    }

    fn has(&self, id: LogId) -> bool {
        self.at(id.index.0) == Some(id)
    }

    /// Figure 2's AppendEntries.
    fn append(&mut self, prev: LogId, entries: &[Entry], commit: u64) {
        if prev.index.0 < self.commit || !self.has(prev) {
            return;
        }
        for entry in entries {
            if !self.has(entry.id) {
                let keep = entry.index().0 - self.base.index.0 - 1;
                self.entries.truncate(usize::try_from(keep).unwrap());
                self.entries.push(entry.clone());
            }
        }
        let last = prev.index.0 + entries.len() as u64;
        self.commit = self.commit.max(commit.min(last));
    }

    fn install(&mut self, last: LogId) {
        if last.index.0 > self.commit {
            if !self.has(last) {
                self.base = last;
                self.entries.clear();
            }
            self.commit = last.index.0;
        }
    }

    fn compact(&mut self, to: u64) {
        let base = self.at(to).unwrap();
        let count = usize::try_from(to - self.base.index.0).unwrap();
        self.entries.drain(..count);
        self.base = base;
    }
}

/// A member, its leaders' log, and the model.
struct World {
    node: RawNode<MemLog>,
    log: MemLog,
    /// What a crash would leave.
    disk: MemLog,
    /// Steps are readable only once they are durable.
    late: bool,
    writes: VecDeque<Persist>,
    applies: VecDeque<ApplyAck>,
    handed_out: u64,
    term: u64,
    leader: Vec<Entry>,
    /// Up to here no leader's log changes any more.
    settled: u64,
    count: u64,
    model: Model,
}

impl World {
    fn new(late: bool, max_size_per_msg: u64) -> Self {
        let setup = setup().options(|config| {
            config.synchronous = false;
            config.max_size_per_msg = max_size_per_msg;
        });
        let log = setup.log;
        Self {
            node: RawNode::new(setup.config, setup.restart, log.clone()).unwrap(),
            disk: log.fork(),
            log,
            late,
            writes: VecDeque::new(),
            applies: VecDeque::new(),
            handed_out: 0,
            term: 1,
            leader: Vec::new(),
            settled: 0,
            count: 0,
            model: Model::default(),
        }
    }

    fn grow(&mut self, fresh: usize) {
        for _ in 0..fresh {
            self.count += 1;
            let size = usize::try_from(self.count * 7 % 40).unwrap();
            let data = Bytes::from(format!("{}{}", self.count, "-".repeat(size)));
            let index = self.leader.len() as u64 + 1;
            self.leader.push(Entry::normal(id(self.term, index), data));
        }
    }

    fn id_at(&self, index: usize) -> LogId {
        index
            .checked_sub(1)
            .map_or(LogId::ZERO, |at| self.leader[at].id)
    }

    fn step(&mut self, body: Body) {
        self.node.step(self.message(body)).unwrap();
        self.drain();
    }

    fn message(&self, body: Body) -> Message {
        Message {
            from: NodeId(2 + self.term % 2),
            to: NodeId(1),
            term: Term(self.term),
            session: 0,
            standing: Standing::Sound,
            body,
        }
    }

    fn drain(&mut self) {
        while self.node.has_ready() {
            let ready = self.node.ready();
            for entry in &ready.committed {
                self.handed_out += 1;
                let index = usize::try_from(self.handed_out).unwrap();
                assert_eq!(*entry, self.leader[index - 1], "in order, as it was sent");
            }
            let durable = self.node.status().durable;
            assert!(ready.committed.is_empty() || LogIndex(self.handed_out) <= durable);
            self.applies.extend(ready.apply_ack);
            if let Some(persist) = ready.persist {
                if !self.late {
                    write(&self.log, &persist);
                }
                self.writes.push_back(persist);
            }
        }
    }

    fn sync(&mut self) {
        let Some(persist) = self.writes.pop_front() else {
            return;
        };
        if self.late {
            write(&self.log, &persist);
        }
        write(&self.disk, &persist);
        if let Some(meta) = &persist.snapshot {
            self.handed_out = self.handed_out.max(meta.last.index.0);
        }
        for message in &persist.messages {
            if let Body::AppendResponse {
                index,
                reject: None,
            } = message.body
            {
                self.is_on_disk(message.term, index);
            }
        }
        if let Some(ack) = persist.ack {
            self.node.persisted(ack);
        }
        self.drain();
    }

    /// What is acknowledged to the leader in office is on the disk as it sent it.
    fn is_on_disk(&self, term: Term, index: LogIndex) {
        if term == Term(self.term) && index >= self.disk.first() {
            let sent = self.id_at(usize::try_from(index.0).unwrap());
            assert_eq!(self.disk.term(index), Ok(sent.term));
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Lead { keep, fresh } => {
                let settled = usize::try_from(self.settled).unwrap();
                let keep = settled + keep.index(self.leader.len() - settled + 1);
                self.leader.truncate(keep);
                self.term += 1;
                self.grow(*fresh);
            }
            Op::Grow { fresh } => self.grow(*fresh),
            Op::Send {
                from,
                count,
                commit,
            } => {
                let from = from.index(self.leader.len() + 1);
                let end = (from + count).min(self.leader.len());
                let commit = commit.index(self.leader.len() + 1) as u64;
                self.settled = self.settled.max(commit);
                let (prev, entries) = (self.id_at(from), self.leader[from..end].to_vec());
                self.model.append(prev, &entries, commit);
                let commit = LogIndex(commit);
                self.step(Body::Append {
                    prev,
                    commit,
                    entries: entries.into(),
                });
            }
            Op::Snapshot { at } if self.settled > 0 => {
                let at = 1 + at.index(usize::try_from(self.settled).unwrap());
                let last = self.id_at(at);
                self.model.install(last);
                let meta = snapshot(last.term.0, last.index.0, voters(&[1, 2, 3]));
                self.step(Body::Snapshot { meta: meta.into() });
            }
            Op::Snapshot { .. } => {}
            Op::Sync { count } => (0..*count).for_each(|_| self.sync()),
            Op::Apply => {
                if let Some(ack) = self.applies.pop_front() {
                    self.node.applied(ack);
                    self.drain();
                }
            }
            Op::Compact { to } => self.compact(*to),
        }
    }

    fn compact(&mut self, to: Index) {
        let status = self.node.status();
        let installing = self.writes.iter().any(|write| write.snapshot.is_some());
        let (base, applied) = (self.model.base.index.0, status.applied.0);
        if installing || applied <= base {
            return;
        }
        let to = base + 1 + to.index(usize::try_from(applied - base).unwrap()) as u64;
        self.log.compact(LogIndex(to));
        self.disk.compact(LogIndex(to));
        self.model.compact(to);
    }

    fn check(&self) {
        let (status, model) = (self.node.status(), &self.model);
        assert_eq!(status.first, model.base.index.next());
        assert_eq!(status.last, model.last());
        assert_eq!(status.hard_state.commit, LogIndex(model.commit));
        assert!(status.applied.0 <= model.commit);
        // What counts as durable is on the disk, and no other entry in its place.
        let durable = status.durable.0;
        for index in self.disk.first().0..=durable {
            let held = model.at(index).map(|id| id.term);
            assert_eq!(self.disk.term(LogIndex(index)).ok(), held);
        }
        // Entry by entry: the leader's question whether one fits is answered as by the list.
        for index in model.commit..=model.last().index.0 + 1 {
            for term in 0..=self.term {
                let prev = id(term, index);
                if (term == 0) == (index == 0) && index < 1 << 32 {
                    assert_eq!(self.accepts(prev), model.has(prev), "{prev}");
                }
            }
        }
    }

    /// Asks a copy whether it holds `prev`.
    fn accepts(&self, prev: LogId) -> bool {
        let mut copy = self.node.clone();
        let body = Body::Append {
            prev,
            commit: LogIndex::ZERO,
            entries: Entries::new(),
        };
        copy.step(self.message(body)).unwrap();
        let answers = copy.ready().persist.unwrap().messages;
        let Body::AppendResponse { reject, .. } = &answers[0].body else {
            panic!("{answers:?}")
        };
        reject.is_none()
    }

    /// Makes it the leader and asks for what it holds behind each of its entries: every message
    /// begins there and has as much as the limit lets it.
    fn read_all(mut self, max: u64) {
        if self.writes.iter().any(|write| write.snapshot.is_some()) {
            (0..self.writes.len()).for_each(|_| self.sync());
        }
        self.node.campaign();
        let term = self.node.term();
        // Two of three: it need not have written anything.
        for from in [2, 3] {
            let vote = Body::VoteResponse { reject: false };
            let message = Message {
                from: NodeId(from),
                term,
                ..self.message(vote)
            };
            self.node.step(message).unwrap();
        }
        assert_eq!(self.node.role(), Role::Leader);
        let (base, held) = (self.model.base.index.0, self.model.entries.len());
        for skip in 0..held {
            let mut copy = self.node.clone();
            copy.ready();
            let prev = LogIndex(base + skip as u64);
            let refused = Body::AppendResponse {
                index: LogIndex(base + held as u64),
                reject: self.model.at(prev.0),
            };
            let message = Message {
                from: NodeId(2),
                term,
                ..self.message(refused)
            };
            copy.step(message).unwrap();
            let sent = copy.ready().messages;
            let appended = sent.iter().find_map(|message| match &message.body {
                Body::Append { prev, entries, .. } => Some((*prev, entries)),
                _ => None,
            });
            let (sent_prev, entries) = appended.unwrap_or_else(|| panic!("{sent:?}"));
            assert_eq!(Some(sent_prev), self.model.at(prev.0));
            let rest = &self.model.entries[skip..];
            let fits = naive_limit(rest, max);
            // The entry that its term begins with stands behind everything, and is empty.
            let own = entries.len() == rest.len() + 1 && fits == rest.len();
            assert!(own || entries.len() == fits, "{} not {fits}", entries.len());
            assert_eq!(entries[..fits], rest[..fits]);
        }
    }
}

/// How many entries fit: each counts 16 bytes beside its payload, and one always fits.
fn naive_limit(entries: &[Entry], max: u64) -> usize {
    let fits = |count: &usize| {
        let bytes = entries[..*count].iter().map(|e| e.data.len() as u64 + 16);
        bytes.sum::<u64>() <= max
    };
    (1..=entries.len()).rev().find(fits).unwrap_or(1)
}

fn write(log: &MemLog, persist: &Persist) {
    if let Some(meta) = &persist.snapshot {
        log.reset_to(meta.last);
    }
    log.append(&persist.entries);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_log_is_what_a_list_would_be(
        late in any::<bool>(),
        max in prop_oneof![Just(1_u64), 20..200_u64, Just(u64::MAX)],
        ops in prop::collection::vec(any_op(), 1..60),
    ) {
        let mut world = World::new(late, max);
        for op in &ops {
            world.run(op);
            world.check();
        }
        world.read_all(max);
    }
}
