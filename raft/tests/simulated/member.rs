//! One member with its disk, which forgets in a crash what was not synced.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use raftwerk_raft::{
    ApplyAck, Config, Entries, GroupState, HardState, LogHealth, LogId, LogIndex, LogRead,
    LogReader, NodeId, Persist, RawNode, Restart, SnapshotMeta, Term,
};

use super::dice::Dice;
use super::oracle::Machine;
use crate::support::MemLog;

/// What survives a crash.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) log: MemLog,
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: SnapshotMeta,
    pub(crate) machine: Machine,
    pub(crate) health: LogHealth,
    /// The named values.
    meta: BTreeMap<Bytes, Bytes>,
    /// What the log held when the disk lost something.
    before_losses: Vec<MemLog>,
}

/// What a disk may lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The hard state.
    Vote,
    /// Entries at the end, committed ones among them, as the member knows.
    Tail,
    /// An entry that is not applied.
    Entry,
}

pub(crate) struct Member {
    pub(crate) id: NodeId,
    /// None while it is down.
    pub(crate) node: Option<RawNode<MemLog>>,
    /// The log with what was taken and is not yet on the disk.
    pub(crate) log: MemLog,
    pub(crate) disk: Disk,
    /// Steps on their way to the disk.
    pub(crate) writes: VecDeque<Persist>,
    pub(crate) applies: VecDeque<(Entries, Option<ApplyAck>)>,
    pub(crate) reads: Vec<LogRead>,
    pub(crate) machine: Machine,
    pub(crate) snapshot_wanted: bool,
    /// What is known to the oracle of its commit index.
    pub(crate) noted: LogIndex,
    /// Where its clock began.
    pub(crate) clock_ms: u64,
    starts: u64,
}

impl Member {
    pub(crate) fn new(id: NodeId, snapshot: SnapshotMeta) -> Self {
        let conf = snapshot.conf_state.clone();
        let machine = Machine {
            applied: snapshot.last,
            conf,
            ..Machine::default()
        };
        let log = MemLog::default();
        log.reset_to(snapshot.last);
        let disk = Disk {
            log: log.fork(),
            hard_state: HardState::default(),
            snapshot,
            machine: machine.clone(),
            health: LogHealth::default(),
            meta: BTreeMap::new(),
            before_losses: Vec::new(),
        };
        Self {
            id,
            node: None,
            log,
            disk,
            writes: VecDeque::new(),
            applies: VecDeque::new(),
            reads: Vec::new(),
            machine,
            snapshot_wanted: false,
            noted: LogIndex::ZERO,
            clock_ms: id.0 * 77_777,
            starts: 0,
        }
    }

    /// Starts from what the disk holds.
    pub(crate) fn start(&mut self, config: &Config) {
        self.log = self.disk.log.fork();
        self.machine = self.disk.machine.clone();
        self.starts += 1;
        let state = GroupState {
            hard_state: self.disk.hard_state,
            snapshot: Some(self.disk.snapshot.clone()),
            first: self.log.first(),
            last: self.log.last(),
            health: self.disk.health.clone(),
            meta: self.disk.meta.clone().into_iter().collect(),
        };
        let restart = Restart::recover(&state, &self.log, self.machine.applied.index).unwrap();
        assert_eq!(
            restart.conf_state, self.machine.conf,
            "configuration after a restart"
        );
        let config = Config {
            id: self.id,
            seed: config.seed ^ (self.starts << 32),
            ..config.clone()
        };
        let node = RawNode::new(config, restart, self.log.clone()).unwrap();
        assert!(
            !node.status().voteless || !self.disk.before_losses.is_empty(),
            "a sound disk lost something"
        );
        self.node = Some(node);
    }

    /// Everything that is not on the disk is gone.
    pub(crate) fn crash(&mut self) {
        self.node = None;
        self.writes.clear();
        self.applies.clear();
        self.reads.clear();
        self.snapshot_wanted = false;
        self.noted = LogIndex::ZERO;
    }

    /// A snapshot is on its way to the disk: the state is about to be replaced.
    pub(crate) fn is_installing(&self) -> bool {
        self.writes.iter().any(|persist| persist.snapshot.is_some())
    }

    /// Makes a snapshot of the applied state and drops the log up to `keep` entries before it.
    pub(crate) fn make_snapshot(&mut self, keep: u64) {
        let applied = self.machine.applied;
        if self.is_installing() || applied.index <= self.disk.snapshot.last.index {
            return;
        }
        let conf_state = self.machine.conf.clone();
        let meta = SnapshotMeta {
            last: applied,
            conf_state,
            ..SnapshotMeta::default()
        };
        self.disk.machine = self.machine.clone();
        self.disk.snapshot = meta.clone();
        if let Some(node) = &mut self.node {
            node.snapshot_available(meta);
        }
        self.compact(LogIndex(applied.index.0.saturating_sub(keep)));
    }

    fn compact(&mut self, to: LogIndex) {
        if to > LogIndex::ZERO && to >= self.log.first() {
            self.log.compact(to);
        }
        if to > LogIndex::ZERO && to >= self.disk.log.first() {
            self.disk.log.compact(to);
        }
    }
}

impl Disk {
    /// Loses something, if there is something of the kind to be lost that can be noticed.
    pub(crate) fn lose(&mut self, loss: Loss, dice: &mut Dice) {
        let (before, applied) = (self.log.fork(), self.machine.applied.index);
        let last = self.log.last().index;
        match loss {
            Loss::Vote => {
                self.hard_state = HardState::default();
                self.health.vote_unknown = true;
            }
            Loss::Tail if self.hard_state.commit > applied => {
                let some = self.hard_state.commit.since(applied);
                let kept = applied.plus(dice.below(usize::try_from(some).unwrap()) as u64);
                self.log.forget_behind(kept);
                self.health.faulty.retain(|range| range.start <= kept);
            }
            Loss::Entry if last > applied && self.health.faulty.is_empty() => {
                let some = usize::try_from(last.since(applied)).unwrap();
                let first = applied.next().plus(dice.below(some) as u64);
                self.log.spoil([first]);
                self.health.faulty = vec![first..first.next()];
            }
            Loss::Tail | Loss::Entry => return,
        }
        self.before_losses.push(before);
    }

    pub(crate) fn has_lost(&self) -> bool {
        !self.before_losses.is_empty()
    }

    /// Whether an entry counts as being here: it is and this member's word for it is good, or it
    /// was when that was given.
    pub(crate) fn vouches_for(&self, index: LogIndex, term: Term) -> bool {
        let in_log = |log: &MemLog| log.first() > index || log.term(index) == Ok(term);
        (!self.health.vote_unknown && in_log(&self.log)) || self.before_losses.iter().any(in_log)
    }

    /// One step becomes durable. `state_at` gives the state that a snapshot brings.
    pub(crate) fn write(
        &mut self,
        persist: &Persist,
        keep_vote: bool,
        state_at: impl Fn(LogId) -> u64,
    ) {
        if let Some(meta) = &persist.snapshot {
            self.log.reset_to(meta.last);
            self.snapshot = meta.clone();
            assert!(
                meta.last.index >= self.machine.applied.index,
                "the state goes back"
            );
            self.machine = Machine {
                applied: meta.last,
                hash: state_at(meta.last),
                conf: meta.conf_state.clone(),
            };
        }
        self.log.append(&persist.entries);
        if let Some(first) = persist.entries.first() {
            let faulty = &mut self.health.faulty;
            faulty.retain(|range| range.start < first.index());
        }
        if persist.snapshot.is_some() {
            self.health.faulty.clear();
        }
        for (name, value) in &persist.meta {
            match value {
                Some(value) => self.meta.insert(name.clone(), value.clone()),
                None => self.meta.remove(name),
            };
        }
        if let Some(state) = persist.hard_state {
            let kept = self.hard_state;
            assert!(state.term >= kept.term, "term went back on disk");
            let vote = if keep_vote { state.vote } else { None };
            self.hard_state = HardState { vote, ..state };
        }
    }
}
