//! A random but repeatable history of batches, and what a log must hold after each.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use raftwerk_raft::{
    ConfState, Durability, Entry, GroupId, GroupWrite, HardState, LogId, LogIndex, NodeId,
    SnapshotMeta, Storage, StorageError, Term, WriteBatch,
};
use raftwerk_storage::queue::QueueOptions;
use raftwerk_storage_redb::{RedbLog, RedbLogOptions};
use raftwerk_testkit::crash::Progress;
use raftwerk_testkit::fault_vfs::FaultVfs;
use raftwerk_testkit::log_suite::model::LogModel;

pub(crate) const DIR: &str = "/log";

/// Small, read from the file, and written by whoever waits.
pub(crate) fn options() -> RedbLogOptions {
    let mut options = RedbLogOptions::new(DIR);
    options.cache_bytes = 1 << 20;
    options.queue = QueueOptions {
        tail_bytes_max: 0,
        background: false,
        ..QueueOptions::default()
    };
    options
}

pub(crate) fn try_open(vfs: &FaultVfs) -> Result<RedbLog, StorageError> {
    RedbLog::open(Arc::new(vfs.clone()), &options())
}

pub(crate) fn open(vfs: &FaultVfs) -> Result<RedbLog, String> {
    try_open(vfs).map_err(|error| error.to_string())
}

/// How far a history has come: counts of batches.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    pub(crate) acknowledged: usize,
    pub(crate) submitted: usize,
}

/// The models after each batch; number 0 is empty.
pub(crate) type Models = Arc<Mutex<Vec<LogModel>>>;

pub(crate) fn models() -> Models {
    Arc::new(Mutex::new(vec![LogModel::default()]))
}

/// A small generator of numbers.
#[derive(Clone, Copy, Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.next(count) == 0
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

fn step(dice: &mut Dice, model: &LogModel, id: GroupId) -> GroupWrite {
    let group = model.group(id);
    let mut write = GroupWrite {
        group: id,
        ..GroupWrite::default()
    };
    let last = group.last();
    match dice.next(40) {
        0 => {
            write.destroy = true;
            return write;
        }
        1 => {
            let last = LogId::new(last.term.max(Term(1)), last.index.plus(1 + dice.next(5)));
            write.reset_to = Some(meta(last));
            return write;
        }
        _ => {}
    }
    let covered = group
        .snapshot
        .as_ref()
        .map_or(LogIndex::ZERO, |meta| meta.last.index);
    if dice.one_in(4) && last.index > covered {
        let index = covered.plus(1 + dice.next(last.index.since(covered)));
        if let Some(id) = group.id_at(index) {
            write.snapshot = Some(meta(id));
            write.compact_to = Some(index);
        }
        return write;
    }
    let back = if dice.one_in(5) { dice.next(4) } else { 0 };
    let first = LogIndex(last.index.0.saturating_sub(back))
        .max(covered)
        .next();
    let before = group.id_at(first.prev()).unwrap_or(last);
    let mut term = before.term.max(Term(1));
    if back > 0 || dice.one_in(8) {
        term = last.term.max(term).next();
    }
    for number in 0..dice.next(4) {
        let size = if dice.one_in(12) { 5000 } else { dice.next(60) };
        let data = Bytes::from(vec![dice.next(256) as u8; size as usize]);
        let id = LogId::new(term, first.plus(number));
        write.append.push(Entry::normal(id, data));
    }
    if dice.one_in(3) {
        let term = group.hard_state.term.max(term);
        let same = term == group.hard_state.term;
        let vote = group.hard_state.vote.filter(|_| same);
        write.hard_state = Some(HardState {
            term,
            vote: vote.or(Some(NodeId(1 + dice.next(3)))),
            commit: covered,
        });
    }
    if dice.one_in(15) {
        let name = Bytes::from(vec![b'a' + dice.next(3) as u8]);
        let value = (!dice.one_in(3)).then(|| Bytes::from(vec![7; dice.next(20) as usize]));
        write.meta.push((name, value));
    }
    write
}

fn batch(dice: &mut Dice, model: &LogModel) -> (WriteBatch, LogModel) {
    loop {
        let mut groups = Vec::new();
        for id in 0..4 {
            if dice.one_in(2) {
                groups.push(step(dice, model, GroupId(id)));
            }
        }
        let lazy = dice.one_in(6);
        let durability = if lazy {
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

/// Writes `count` random batches, waits for the last and keeps account of what is acknowledged.
/// Ends at the first that is not taken.
pub(crate) fn run(
    log: &RedbLog,
    progress: &Progress<Known>,
    models: &Models,
    seed: u64,
    count: usize,
) {
    let mut dice = Dice(seed);
    for number in 1..=count {
        let before = models.lock().last().cloned().unwrap_or_default();
        let (batch, after) = batch(&mut dice, &before);
        models.lock().push(after);
        progress.update(|known| known.submitted += 1);
        let Ok(ticket) = log.submit(batch) else {
            return;
        };
        if dice.next(10) < 6 || number == count {
            if log.wait(ticket).is_err() {
                return;
            }
            progress.update(|known| known.acknowledged = known.submitted);
        }
    }
}

#[allow(dead_code, reason = "each test binary uses its own part")]
/// The log must be what it was after one of the batches that may be the last.
pub(crate) fn check(models: &Models, known: &Known, log: &RedbLog) -> Result<(), String> {
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
