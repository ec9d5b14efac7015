//! A random but repeatable history of batches, and what a log must hold after each: what crash and
//! fault enumerations write.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use raftwerk_raft::{
    ConfState, Durability, Entry, GroupId, GroupWrite, HardState, LogId, LogIndex, NodeId,
    SnapshotMeta, Storage, Term, WriteBatch,
};

use crate::crash::Progress;
use crate::fault_vfs::FaultVfs;
use crate::faults::{FAULTS, FaultFailure, FaultReport, fault_points};
use crate::log_suite::model::{GroupModel, LogModel};

/// How far a history has come: counts of batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Known {
    /// Of those that were waited for.
    pub acknowledged: usize,
    /// Of those that were submitted, or were about to be.
    pub submitted: usize,
}

/// The models after each batch; number 0 is empty.
pub type Models = Arc<Mutex<Vec<LogModel>>>;

/// The models of a history that has not begun.
#[must_use]
pub fn models() -> Models {
    Arc::new(Mutex::new(vec![LogModel::default()]))
}

/// The source of a history: the same seed, the same batches.
#[derive(Clone, Copy, Debug)]
pub struct History {
    state: u64,
    large_bytes: usize,
    groups: u64,
}

impl History {
    /// A history of four groups in which one entry of twelve is large, which is `large_bytes`.
    #[must_use]
    pub const fn new(seed: u64, large_bytes: usize) -> Self {
        Self {
            state: seed,
            large_bytes,
            groups: 4,
        }
    }

    /// Of groups 1 to `groups` instead: two of them write in most batches, and in one of ten all.
    #[must_use]
    pub const fn of_groups(self, groups: u64) -> Self {
        Self { groups, ..self }
    }

    /// A number in `[0, end)`; zero when that is empty. (Knuth's linear congruence, 1988.)
    pub fn below(&mut self, end: u64) -> u64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33).checked_rem(end).unwrap_or(0)
    }

    /// True once in `count` times.
    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// The next batch of a log that holds `model`, and what it holds then.
    pub fn batch(&mut self, model: &LogModel) -> (WriteBatch, LogModel) {
        loop {
            let mut groups = Vec::new();
            let all = self.groups > 4 && self.one_in(10);
            for id in 1..=self.groups {
                if all || self.one_in(self.groups / 2) {
                    groups.push(self.write(&model.group(GroupId(id)), GroupId(id)));
                }
            }
            let durability = if self.one_in(6) {
                Durability::Lazy
            } else {
                Durability::Sync
            };
            let batch = WriteBatch { groups, durability };
            if let Ok(after) = model.after(&batch) {
                return (batch, after);
            }
        }
    }

    fn write(&mut self, group: &GroupModel, id: GroupId) -> GroupWrite {
        let mut write = GroupWrite {
            group: id,
            ..GroupWrite::default()
        };
        if self.one_in(40) {
            write.destroy = true;
            return write;
        }
        let snapshot = group.snapshot.as_ref();
        let covered = snapshot.map_or(LogIndex::ZERO, |meta| meta.last.index);
        let last = group.last();
        if self.one_in(30) {
            let index = last.index.plus(1 + self.below(5));
            write.reset_to = Some(meta(LogId::new(last.term.max(Term(1)), index)));
            return write;
        }
        let term = self.append(group, covered, &mut write.append);
        if self.one_in(3) {
            write.hard_state = Some(self.hard_state(group.hard_state, term, covered));
        }
        if self.one_in(4) && last.index > covered && write.append.is_empty() {
            let index = covered.plus(1 + self.below(last.index.since(covered)));
            if let Some(id) = group.id_at(index) {
                write.snapshot = Some(meta(id));
                write.compact_to = Some(index);
            }
        }
        if self.one_in(15) {
            let letter = self.below(3).to_le_bytes()[0];
            let name = Bytes::from(vec![b'a' + letter]);
            let value = (!self.one_in(3)).then(|| {
                let bytes = self.below(20);
                Bytes::from(vec![7; usize::try_from(bytes).unwrap_or(0)])
            });
            write.meta.push((name, value));
        }
        write
    }

    /// Up to three entries, one time in five over some that are there; their term.
    fn append(&mut self, group: &GroupModel, covered: LogIndex, out: &mut Vec<Entry>) -> Term {
        let last = group.last();
        let back = if self.one_in(5) { self.below(4) } else { 0 };
        let kept = LogIndex(last.index.0.saturating_sub(back)).max(covered);
        let before = group.id_at(kept).unwrap_or(last);
        let mut term = before.term.max(Term(1));
        if back > 0 || self.one_in(8) {
            term = last.term.max(term).next();
        }
        for number in 0..self.below(4) {
            let size = if self.one_in(12) {
                self.large_bytes
            } else {
                usize::try_from(self.below(60)).unwrap_or(0)
            };
            let id = LogId::new(term, kept.next().plus(number));
            out.push(Entry::normal(id, Bytes::from(vec![self.byte(); size])));
        }
        term
    }

    fn hard_state(&mut self, before: HardState, term: Term, commit: LogIndex) -> HardState {
        let term = before.term.max(term);
        let vote = before.vote.filter(|_| term == before.term);
        let mut draw = || self.one_in(2).then(|| NodeId(1 + self.below(3)));
        HardState {
            term,
            vote: vote.or_else(&mut draw),
            commit,
        }
    }

    fn byte(&mut self) -> u8 {
        self.below(256).to_le_bytes()[0]
    }
}

fn meta(last: LogId) -> SnapshotMeta {
    let conf_state = ConfState {
        voters: vec![NodeId(1), NodeId(2)],
        ..ConfState::default()
    };
    SnapshotMeta {
        last,
        conf_state,
        context: Bytes::from_static(b"members"),
    }
}

/// The log must be what it was after one of the batches that may be the last.
///
/// # Errors
/// How it differs from each of them.
pub fn check(models: &Models, known: &Known, log: &dyn Storage) -> Result<(), String> {
    let models = models.lock();
    let mut reasons = Vec::new();
    for number in (known.acknowledged..=known.submitted).rev() {
        let Some(model) = models.get(number) else {
            continue;
        };
        match model.compare(log) {
            Ok(()) => return Ok(()),
            Err(reason) => reasons.push(format!("not as after batch {number}: {reason}")),
        }
    }
    Err(format!("{known:?}: {}", reasons.join("; ")))
}

/// Fails each call of the history that `run` writes, in every way: what it knows to be acknowledged
/// must be there when the log is opened again. With `in_recovery`, each call of that too.
///
/// # Errors
/// The first fault that it did not survive.
pub fn fail_every_call<R>(
    in_recovery: bool,
    open: impl Fn(&FaultVfs) -> Result<R, String>,
    run: impl Fn(&R, &Progress<Known>, &Models),
    check: impl Fn(&Models, &Known, &R) -> Result<(), String>,
) -> Result<FaultReport, Box<FaultFailure>> {
    // Every run is the same history up to its fault, so one list of models serves all.
    let all = models();
    fault_points(
        &Known::default(),
        &FAULTS,
        in_recovery,
        |vfs, progress| {
            let mine = models();
            if let Ok(log) = open(vfs) {
                run(&log, progress, &mine);
            }
            let (mut all, mine) = (all.lock(), mine.lock());
            if mine.len() > all.len() {
                all.clone_from(&mine);
            }
        },
        &open,
        |known, log| check(&all, known, &log),
    )
}
