//! One member with its disk, and what each input makes of it. Nothing here knows of the others:
//! the same input to the same member is worked out once.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use raftwerk_raft::{
    ApplyConfChangeError, Body, ConfChange, ConfChangeKind, ConfChangeStep, ConfState, Config,
    Entry, EntryKind, HardState, LogId, LogIndex, Message, NodeId, Persist, ProposeError, RawNode,
    Restart, Role, StepError, Term, codec,
};

use super::scope::Scope;
use super::shelf::{self, Shelf};

/// What a driver may do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    Sound,
    /// Does not write who got the vote: after a crash the member votes again.
    ForgetsVote,
    /// Lets answers out before what they rest on is written.
    AnswersEarly,
    /// Gives receipts for what is not written.
    AcknowledgesEarly,
}

/// What can happen to one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    /// Its election timeout fires.
    Timeout,
    /// Its user proposes an entry.
    Propose,
    /// Its user wants this member removed.
    Remove(u8),
    /// A leader's heartbeat timeout fires.
    Beat,
    /// It is told that a message to this member was lost.
    Lost(u8),
    /// The oldest write under way becomes durable.
    Sync,
    /// It loses what is not durable, and starts again.
    Crash,
}

/// A member and everything that belongs to it.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) node: RawNode<Shelf>,
    /// What is durable.
    disk: Vec<Entry>,
    hard_state: HardState,
    /// A commit index that rides with the next write.
    lazy: Option<HardState>,
    writes: VecDeque<Persist>,
    applied: Vec<LogId>,
}

/// What the others and the checks see of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) term: u8,
    pub(crate) leads: bool,
    pub(crate) commit: usize,
    /// Each entry's term and what it says.
    pub(crate) log: Vec<(u8, u64)>,
    /// The terms of what is durable.
    pub(crate) disk: Vec<u8>,
    /// The terms of what is applied.
    pub(crate) applied: Vec<u8>,
    pub(crate) conf: ConfState,
    pub(crate) has_writes: bool,
}

/// What came of an input.
pub(crate) struct Outcome {
    pub(crate) member: Member,
    pub(crate) sent: Vec<Message>,
    /// Votes that left, its own for itself included: term and candidate.
    pub(crate) votes: Vec<(u8, u8)>,
}

pub(crate) fn hash_of(value: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

pub(crate) fn small(number: u64) -> u8 {
    u8::try_from(number).expect("a small number")
}

fn terms(entries: &[Entry]) -> Vec<u8> {
    entries.iter().map(|entry| small(entry.term().0)).collect()
}

impl Member {
    /// A member whose disk holds entries of these terms.
    pub(crate) fn new(scope: &Scope, id: u8, log: &[u64], term: u64, vote: u8) -> Self {
        let entry = |(index, term): (u64, &u64)| {
            Entry::normal(LogId::new(Term(*term), LogIndex(index)), Bytes::new())
        };
        let disk: Vec<Entry> = (1..).zip(log).map(entry).collect();
        let hard_state = HardState {
            term: Term(term),
            vote: (vote > 0).then_some(NodeId(vote.into())),
            commit: LogIndex::ZERO,
        };
        Self::start(scope, NodeId(id.into()), disk, hard_state)
    }

    fn start(scope: &Scope, id: NodeId, disk: Vec<Entry>, hard_state: HardState) -> Self {
        let config = Config {
            pre_vote: scope.pre_vote,
            check_quorum: false,
            step_down_on_stalled_disk: false,
            // One entry a message.
            max_size_per_msg: 0,
            max_inflight_bytes: 0,
            ..Config::new(id, 1)
        };
        let restart = Restart {
            hard_state,
            conf_state: ConfState {
                voters: [1, 2, 3].map(NodeId).to_vec(),
                ..ConfState::default()
            },
            ..Restart::default()
        };
        Self {
            node: RawNode::new(config, restart, Shelf::new(disk.clone())).unwrap(),
            disk,
            hard_state,
            lazy: None,
            writes: VecDeque::new(),
            applied: Vec::new(),
        }
    }

    /// Tells whether two members are in one state.
    pub(crate) fn key(&self) -> u64 {
        let writes = format!("{:?}", self.writes);
        hash_of(&(
            self.node.id(),
            self.node.fingerprint(),
            self.node.log().all(),
            (&self.disk, self.hard_state, self.lazy),
            writes,
            &self.applied,
        ))
    }

    pub(crate) fn view(&self) -> View {
        let status = self.node.status();
        let seen = |entry: &Entry| (small(entry.term().0), hash_of(&(entry.kind, &entry.data)));
        View {
            term: small(status.hard_state.term.0),
            leads: status.role == Role::Leader,
            commit: usize::from(small(status.hard_state.commit.0)),
            log: self.node.log().all().iter().map(seen).collect(),
            disk: terms(&self.disk),
            applied: self.applied.iter().map(|id| small(id.term.0)).collect(),
            conf: status.conf_state,
            has_writes: !self.writes.is_empty(),
        }
    }
}

/// What an input makes of `member`, or which promise it breaks by itself. A panic breaks one too.
pub(crate) fn outcome(
    scope: &Scope,
    member: &Member,
    input: Result<Input, &Message>,
) -> Result<Outcome, String> {
    let run = || {
        let mut step = Step {
            scope,
            member: member.clone(),
            sent: Vec::new(),
            votes: Vec::new(),
        };
        step.take(input)?;
        step.drain()?;
        let (before, after) = (&member.node, &step.member.node);
        let last = after.status().last.index;
        if input != Ok(Input::Crash)
            && (after.term() < before.term() || after.commit() < before.commit())
        {
            return Err("term or commit index went back".to_owned());
        }
        if after.commit() > last || after.log().all().len() as u64 != last.0 {
            return Err("commit index or log is out of place".to_owned());
        }
        Ok(Outcome {
            member: step.member,
            sent: step.sent,
            votes: step.votes,
        })
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

struct Step<'a> {
    scope: &'a Scope,
    member: Member,
    sent: Vec<Message>,
    votes: Vec<(u8, u8)>,
}

impl Step<'_> {
    fn take(&mut self, input: Result<Input, &Message>) -> Result<(), String> {
        let id = self.member.node.id();
        match input {
            Err(message) => sound(self.member.node.step(message.clone())),
            Ok(Input::Timeout) => {
                self.member.node.campaign();
                Ok(())
            }
            Ok(Input::Beat) => {
                self.member.node.tick();
                Ok(())
            }
            Ok(Input::Propose) => {
                let data = Bytes::from(vec![small(id.0)]);
                proposed(self.member.node.propose(data).map(drop))
            }
            Ok(Input::Remove(node)) => {
                let steps = vec![ConfChangeStep {
                    kind: ConfChangeKind::Remove,
                    node: NodeId(node.into()),
                }];
                let change = ConfChange {
                    steps,
                    ..ConfChange::default()
                };
                proposed(self.member.node.propose_conf_change(change).map(drop))
            }
            Ok(Input::Lost(peer)) => {
                self.member.node.report_unreachable(NodeId(peer.into()));
                Ok(())
            }
            Ok(Input::Sync) => self.sync(),
            Ok(Input::Crash) => {
                let (disk, hard_state) = (self.member.disk.clone(), self.member.hard_state);
                self.member = Member::start(self.scope, id, disk, hard_state);
                Ok(())
            }
        }
    }

    fn drain(&mut self) -> Result<(), String> {
        while self.member.node.has_ready() {
            let ready = self.member.node.ready();
            ready.messages.into_iter().for_each(|m| self.send(m));
            if let Some(persist) = ready.persist {
                self.persist(persist)?;
            }
            for entry in &ready.committed {
                self.apply(entry)?;
            }
            if let Some(ack) = ready.apply_ack {
                self.member.node.applied(ack);
            }
        }
        match self.member.node.halted() {
            Some(halted) => Err(halted.to_string()),
            None => Ok(()),
        }
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), String> {
        let before = self.member.applied.last().map_or(0, |id| id.index.0);
        if entry.index().0 != before + 1 {
            return Err(format!("{} is applied after {before}", entry.id));
        }
        self.member.applied.push(entry.id);
        if entry.kind == EntryKind::Normal {
            return Ok(());
        }
        let change = codec::decode_conf_change(entry.data.clone()).unwrap();
        match self.member.node.apply_conf_change(&change) {
            Ok(_) | Err(ApplyConfChangeError::Refused { .. }) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn persist(&mut self, mut persist: Persist) -> Result<(), String> {
        let node = &self.member.node;
        let last = node.log().all().len() as u64;
        if let Some(first) = persist.entries.first()
            && node.role() == Role::Leader
            && first.index().0 != last + 1
        {
            return Err("leader append-only: a leader overwrites its log".to_owned());
        }
        node.log().append(&persist.entries);
        if !persist.must_sync && self.member.writes.is_empty() {
            // Everything that the answers rest on is durable.
            self.member.lazy = persist.hard_state.or(self.member.lazy);
            return self.release(persist);
        }
        match self.scope.driver {
            Driver::AnswersEarly => {
                let early = Persist {
                    messages: std::mem::take(&mut persist.messages),
                    ..Persist::default()
                };
                self.release(early)?;
            }
            Driver::AcknowledgesEarly => {
                let early = Persist {
                    ack: persist.ack.take(),
                    ..Persist::default()
                };
                self.release(early)?;
            }
            _ => {}
        }
        self.member.writes.push_back(persist);
        if self.scope.slow_disks {
            return Ok(());
        }
        self.sync()
    }

    fn sync(&mut self) -> Result<(), String> {
        let Some(mut persist) = self.member.writes.pop_front() else {
            return Ok(());
        };
        shelf::append(&mut self.member.disk, &persist.entries);
        let lazy = self.member.lazy.take();
        if let Some(state) = persist.hard_state.take().or(lazy) {
            let forgets = self.scope.driver == Driver::ForgetsVote;
            let vote = state.vote.filter(|_| !forgets);
            self.member.hard_state = HardState { vote, ..state };
        }
        self.release(persist)
    }

    /// What waited for a write happens: what a member told itself comes first.
    fn release(&mut self, persist: Persist) -> Result<(), String> {
        for message in persist.messages {
            if message.to == self.member.node.id() {
                self.note_vote(&message);
                sound(self.member.node.step(message))?;
            } else {
                self.send(message);
            }
        }
        if let Some(ack) = persist.ack {
            self.member.node.persisted(ack);
        }
        Ok(())
    }

    fn send(&mut self, message: Message) {
        self.note_vote(&message);
        self.sent.push(message);
    }

    fn note_vote(&mut self, message: &Message) {
        if message.body == (Body::VoteResponse { reject: false }) {
            self.votes
                .push((small(message.term.0), small(message.to.0)));
        }
    }
}

/// Refusals that a sound cluster gives.
fn sound(result: Result<(), StepError>) -> Result<(), String> {
    match result {
        Ok(()) | Err(StepError::PeerNotFound { .. }) => Ok(()),
        Err(StepError::Propose(error)) => proposed(Err(error)),
        Err(error) => Err(error.to_string()),
    }
}

fn proposed(result: Result<(), ProposeError>) -> Result<(), String> {
    match result {
        Err(error @ (ProposeError::Invalid { .. } | ProposeError::Halted(_))) => {
            Err(error.to_string())
        }
        _ => Ok(()),
    }
}
