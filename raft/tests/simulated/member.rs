//! One member with its disk, which forgets in a crash what was not synced.

use std::collections::VecDeque;

use raftwerk_raft::{
    ApplyAck, Config, Entry, GroupState, HardState, LogId, LogIndex, LogRead, LogReader, NodeId,
    Persist, RawNode, Restart, SnapshotMeta,
};

use super::oracle::Machine;
use crate::support::MemLog;

/// What survives a crash.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) log: MemLog,
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: SnapshotMeta,
    pub(crate) machine: Machine,
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
    pub(crate) applies: VecDeque<(Vec<Entry>, Option<ApplyAck>)>,
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
            ..GroupState::default()
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
        assert!(!node.status().voteless, "a sound disk lost something");
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
        if let Some(state) = persist.hard_state {
            let kept = self.hard_state;
            assert!(state.term >= kept.term, "term went back on disk");
            let vote = if keep_vote { state.vote } else { None };
            self.hard_state = HardState { vote, ..state };
        }
    }
}
