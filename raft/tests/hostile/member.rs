//! An honest member, and what it must keep to whatever it is told.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use raftwerk_raft::{
    ApplyAck, ApplyConfChangeError, Body, ConfState, Config, Entries, Entry, EntryKind, HardState,
    LeaseTerms, LogHealth, LogId, LogIndex, LogRead, LogReader as _, Message, NodeId, Persist,
    Proposed, RawNode, Ready, Restart, Role, SnapshotStatus, Standing, Term, codec,
};

use super::mutator::Choices;
use super::words::Speaker;
use crate::support::MemLog;

/// More than a member may say after one input: it has a few peers and a window of a few messages
/// to each.
const MESSAGES_MAX: usize = 64;

pub(crate) struct Honest {
    node: RawNode<MemLog>,
    log: MemLog,
    synchronous: bool,
    writes: VecDeque<Persist>,
    applies: VecDeque<(Entries, Option<ApplyAck>)>,
    reads: Vec<LogRead>,
    votes: BTreeMap<Term, NodeId>,
    said: usize,
    /// The commit index before the input.
    commit: LogIndex,
    /// It waited for a snapshot before the input.
    wanted: bool,
    /// What its clock says.
    now: Duration,
    /// Names what it sent on last.
    mark: u64,
}

fn ids(from: &[u64]) -> Vec<NodeId> {
    from.iter().copied().map(NodeId).collect()
}

fn conf_state(choices: &mut Choices<'_>) -> ConfState {
    let mut conf = ConfState {
        voters: ids(&[1, 2, 3]),
        ..ConfState::default()
    };
    match choices.below(8) {
        0 => conf.learners = ids(&[4]),
        1 => conf.voters = ids(&[1]),
        2 => {
            conf.voters_outgoing = ids(&[1, 4, 5]);
            conf.auto_leave = choices.flag();
        }
        3 => conf.voters = ids(&[2, 3]),
        4 => {
            conf.voters = ids(&[2, 3]);
            conf.learners = ids(&[1]);
        }
        5 => conf.voters.clear(),
        _ => {}
    }
    conf
}

fn config(choices: &mut Choices<'_>) -> Config {
    let leases = choices.below(8) == 0;
    Config {
        election_ticks: 3,
        pre_vote: choices.flag(),
        check_quorum: leases || choices.flag(),
        lease: leases.then_some(LeaseTerms {
            election_timeout: Duration::from_millis(200),
            drift_bound: Duration::from_millis(20),
        }),
        synchronous: choices.flag(),
        step_down_on_removal: choices.flag(),
        max_size_per_msg: choices.pick(&[0, 100, u64::MAX]),
        max_inflight_msgs: 4,
        max_inflight_bytes: 0,
        max_uncommitted_size: choices.pick(&[0, 100, u64::MAX]),
        max_committed_size_per_ready: choices.pick(&[1, 100, u64::MAX]),
        ..Config::new(NodeId(1), choices.byte().into())
    }
}

impl Honest {
    /// Options, log, terms and what the disk lost are chosen by the bytes.
    pub(crate) fn new(choices: &mut Choices<'_>) -> Option<Self> {
        let config = config(choices);
        let conf_state = conf_state(choices);
        // Logs that begin far up show what happens at the end of all numbers.
        let before = LogIndex(choices.pick(&[0, 0, 0, 5, u64::MAX - 6]));
        let before = LogId::new(Term(u64::from(before.0 > 0)), before);
        let log = MemLog::default();
        log.reset_to(before);
        let count = choices.below(5) as u64;
        let entry = |n| {
            Entry::normal(
                LogId::new(Term(1 + n / 3), before.index.plus(n)),
                "x".into(),
            )
        };
        log.append(&(1..=count).map(entry).collect::<Vec<_>>());
        let term = choices.pick(&[2, 2, 2, 3, u64::MAX - 3]);
        let term = if log.last() == LogId::ZERO && choices.flag() {
            0
        } else {
            term
        };
        let mut health = LogHealth::default();
        match choices.below(16) {
            0 => health.vote_unknown = true,
            1 if count > 1 => {
                let lost = before.index.plus(count);
                log.spoil([lost]);
                health.faulty = vec![lost..lost.next()];
            }
            2 => log.cool(before.index.plus(choices.below(5) as u64)),
            _ => {}
        }
        let lost = choices.below(16);
        let restart = Restart {
            tail_lost: lost == 0,
            refill_to: (lost == 1)
                .then(|| LogId::new(Term(term), before.index.plus(choices.below(8) as u64))),
            hard_state: HardState {
                term: Term(term),
                vote: (term > 0 && choices.flag()).then_some(NodeId(2)),
                commit: before.index.plus(choices.below(3) as u64),
            },
            conf_state,
            applied: before.index,
            health,
            ..Restart::default()
        };
        let synchronous = config.synchronous;
        let mut votes = BTreeMap::new();
        votes.extend(restart.hard_state.vote.map(|vote| (Term(term), vote)));
        let node = RawNode::new(config, restart, log.clone()).ok()?;
        let mut honest = Self {
            commit: node.commit(),
            node,
            log,
            synchronous,
            writes: VecDeque::new(),
            applies: VecDeque::new(),
            reads: Vec::new(),
            votes,
            said: 0,
            wanted: false,
            now: Duration::ZERO,
            mark: 0,
        };
        honest.drain();
        honest.take_office(choices.below(4));
        Some(honest)
    }

    /// Asks for votes, and gets as many as it takes to be what is wanted.
    fn take_office(&mut self, votes: usize) {
        if votes == 0 {
            return;
        }
        self.node.campaign();
        self.finish();
        for from in ids(&[2, 4, 2, 4]).into_iter().take((votes - 1) * 2) {
            let term = self.node.term();
            let (body, term) = match self.node.role() {
                Role::PreCandidate => (Body::PreVoteResponse { reject: false }, term.next()),
                _ => (Body::VoteResponse { reject: false }, term),
            };
            let _ = self.node.step(Message {
                from,
                to: self.node.id(),
                term,
                session: 0,
                standing: Standing::Sound,
                body,
            });
            self.finish();
        }
    }

    fn finish(&mut self) {
        self.drain();
        while !self.writes.is_empty() {
            self.sync();
        }
    }

    /// One input, chosen by the bytes; then everything that it must not have broken.
    pub(crate) fn live(&mut self, choices: &mut Choices<'_>) {
        let (term, role) = (self.node.term(), self.node.role());
        let last = self.log.last().index;
        self.commit = self.node.commit();
        self.wanted = self.node.wants_snapshot();
        self.said = 0;
        match choices.below(16) {
            0 => self.node.tick(),
            1 => self.sync(),
            2 => self.apply(),
            3 => self.own_wish(choices),
            _ => {
                let message = self.hear(choices, |speaker| speaker.message());
                let _ = self.node.step(message);
            }
        }
        self.drain();
        let status = self.node.status();
        assert!(self.node.halted().is_none(), "{:?}", self.node.halted());
        assert!(status.hard_state.term >= term, "term went back");
        let commit = status.hard_state.commit;
        assert!(commit >= self.commit, "commit index went back");
        assert!(commit <= status.last.index, "commit index beyond the log");
        assert!(status.applied <= commit, "applied what is not committed");
        assert_eq!(self.log.last(), status.last, "log and member disagree");
        if role == Role::Leader && status.role == Role::Leader && status.hard_state.term == term {
            assert!(status.last.index >= last, "a leader's log shrank");
        }
        assert!(status.pending_reads <= 4096, "reads without bound");
        assert!(status.progress.len() <= 32, "members without bound");
        assert!(self.said <= MESSAGES_MAX, "{} messages", self.said);
    }

    /// What `say` makes of the choices and of what this member knows.
    fn hear<T>(&self, choices: &mut Choices<'_>, say: fn(&mut Speaker<'_, '_>) -> T) -> T {
        let status = self.node.status();
        let term_at = |index| self.log.term(index).unwrap_or_default();
        let mut speaker = Speaker {
            choices,
            status: &status,
            known_mark: self.mark,
            term_at: &term_at,
        };
        say(&mut speaker)
    }

    /// What the member's own users and driver may do.
    fn own_wish(&mut self, choices: &mut Choices<'_>) {
        let peer = NodeId(choices.pick(&[1, 2, 3, 4, 99]));
        match choices.below(13) {
            0 => {
                if let Ok(Proposed::Forwarded { mark, .. }) = self.node.propose("own".into()) {
                    self.mark = mark.value();
                }
            }
            1 => drop(self.node.read_index(Bytes::from_static(b"read"))),
            2 => self.node.campaign(),
            3 => self.node.transfer_leader(peer),
            4 => self.node.forget_leader(),
            5 => self.node.report_unreachable(peer),
            6 => self.node.report_snapshot(peer, SnapshotStatus::Failed),
            7 => self.node.report_snapshot(peer, SnapshotStatus::Finished),
            8 => drop(self.node.request_snapshot()),
            9 => {
                let meta = self.hear(choices, |speaker| speaker.snapshot());
                self.node.snapshot_available(meta);
            }
            10 => {
                self.now += Duration::from_millis(choices.byte().into());
                self.node.tell_time(self.now);
            }
            11 => {
                self.now += Duration::from_millis(choices.byte().into());
                if let Ok(index) = self.node.lease_read(self.now) {
                    assert_eq!(self.node.role(), Role::Leader);
                    assert_eq!(index, self.node.commit(), "an old state is read");
                }
            }
            _ => {
                for read in std::mem::take(&mut self.reads) {
                    let found = self.log.read(read.range, read.max_bytes);
                    self.node.log_read(read.id, found);
                }
            }
        }
    }

    fn drain(&mut self) {
        let mut empty = 0;
        while self.node.has_ready() {
            let ready = self.node.ready();
            // Once, where what is next to be applied turns out to be unreadable.
            empty += u32::from(ready == Ready::default());
            assert!(empty <= 1, "there was nothing to do");
            self.say(ready.messages);
            self.reads.extend(ready.reads);
            let persist = ready.persist.unwrap_or_default();
            self.write(&persist);
            if !ready.committed.is_empty() {
                self.applies.push_back((ready.committed, ready.apply_ack));
            }
            if self.synchronous {
                self.say(persist.messages);
                self.apply();
                self.node.advance();
            } else {
                self.writes.push_back(persist);
            }
        }
    }

    /// The log takes a step, which must not touch what is committed.
    fn write(&mut self, persist: &Persist) {
        if let Some(meta) = &persist.snapshot {
            // One that was asked for replaces what is there, and nothing of it may be missing.
            let whole = self.wanted && meta.last.index >= self.log.last().index;
            assert!(
                meta.last.index > self.commit || whole,
                "a snapshot goes back"
            );
            self.log.reset_to(meta.last);
        }
        let mut before = self.log.last();
        if let Some(first) = persist.entries.first() {
            let prev = first.index().prev();
            assert!(first.index() > self.commit, "committed entries are cut off");
            assert!(prev <= before.index, "gap in the log");
            before = LogId::new(self.log.term(prev).unwrap(), prev);
        }
        for entry in &persist.entries {
            assert_eq!(entry.index(), before.index.next(), "gap in the log");
            assert!(entry.term() >= before.term, "terms go down");
            assert!(entry.term() <= self.node.term(), "an entry of the future");
            before = entry.id;
        }
        self.log.append(&persist.entries);
    }

    fn sync(&mut self) {
        let Some(persist) = self.writes.pop_front() else {
            return;
        };
        for message in persist.messages {
            if message.to == self.node.id() {
                self.note_vote(&message);
                let _ = self.node.step(message);
            } else {
                self.say(vec![message]);
            }
        }
        persist
            .ack
            .into_iter()
            .for_each(|ack| self.node.persisted(ack));
        self.drain();
    }

    fn apply(&mut self) {
        let Some((entries, ack)) = self.applies.pop_front() else {
            return;
        };
        for entry in entries {
            if entry.kind == EntryKind::Normal {
                continue;
            }
            // What does not say what to change is void for everybody.
            if let Ok(change) = codec::decode_conf_change(entry.data) {
                let result = self.node.apply_conf_change(&change);
                assert!(!matches!(result, Err(ApplyConfChangeError::Halted(_))));
            }
        }
        ack.into_iter().for_each(|ack| self.node.applied(ack));
    }

    fn say(&mut self, messages: Vec<Message>) {
        self.said += messages.len();
        for message in &messages {
            self.note_vote(message);
        }
    }

    fn note_vote(&mut self, message: &Message) {
        if message.body == (Body::VoteResponse { reject: false }) {
            let vote = *self.votes.entry(message.term).or_insert(message.to);
            assert_eq!(vote, message.to, "voted twice in term {}", message.term);
        }
    }
}
