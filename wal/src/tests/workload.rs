//! A random but repeatable history of batches, and what a log must hold after each.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use raftwerk_raft::{
    ConfState, Durability, Entry, GroupId, GroupWrite, HardState, LogId, LogIndex, NodeId,
    SnapshotMeta, Storage, SubmitError, Term, Ticket, WriteBatch,
};
use raftwerk_testkit::crash::Progress;
use raftwerk_testkit::fault_vfs::FaultVfs;
use raftwerk_testkit::log_suite::model::LogModel;

use crate::preparer::Prepared;
use crate::{AmbiguousTail, Background, Options, Wal};

pub(super) const DIR: &str = "log";

pub(super) fn options() -> Options {
    Options {
        segment_bytes: 16 * 1024,
        batch_bytes_max: 10 * 1024,
        page_bytes: 512,
        tail_bytes_max: 0,
        group_tail_bytes_max: 0,
        background: Background::Manual,
        ..Options::default()
    }
}

pub(crate) fn open(vfs: &FaultVfs) -> Result<Arc<Wal>, String> {
    open_with(vfs, options())
}

pub(super) fn open_with(vfs: &FaultVfs, options: Options) -> Result<Arc<Wal>, String> {
    let wal = Wal::open(Arc::new(vfs.clone()), DIR, options).map_err(|error| error.to_string())?;
    Ok(Arc::new(wal))
}

pub(super) fn keep_prefix() -> Options {
    Options {
        ambiguous_tail: AmbiguousTail::KeepPrefix,
        ..options()
    }
}

/// How far a history has come: counts of batches.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    pub(super) acknowledged: usize,
    pub(super) submitted: usize,
}

/// The models after each batch; number 0 is empty.
pub(super) type Models = Arc<Mutex<Vec<LogModel>>>;

/// A small generator of numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn next(&mut self, below: u64) -> u64 {
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

fn write(dice: &mut Dice, model: &LogModel, id: GroupId) -> GroupWrite {
    let group = model.group(id);
    let mut write = GroupWrite {
        group: id,
        ..GroupWrite::default()
    };
    if dice.one_in(40) {
        write.destroy = true;
        return write;
    }
    let covered = group
        .snapshot
        .as_ref()
        .map_or(LogIndex::ZERO, |meta| meta.last.index);
    let last = group.last();
    if dice.one_in(30) {
        let last = LogId::new(last.term.max(Term(1)), last.index.plus(1 + dice.next(5)));
        write.reset_to = Some(meta(last));
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
        let size = if dice.one_in(12) { 900 } else { dice.next(60) };
        let id = LogId::new(term, first.plus(number));
        let data = Bytes::from(vec![dice.next(256) as u8; size as usize]);
        write.append.push(Entry::normal(id, data));
    }
    if dice.one_in(3) {
        let term = group.hard_state.term.max(term);
        let same = term == group.hard_state.term;
        let vote = if same { group.hard_state.vote } else { None };
        let vote = vote.or_else(|| dice.one_in(2).then(|| NodeId(1 + dice.next(3))));
        write.hard_state = Some(HardState {
            term,
            vote,
            commit: covered,
        });
    }
    if dice.one_in(4) && last.index > covered && write.append.is_empty() {
        let index = covered.plus(1 + dice.next(last.index.since(covered)));
        if let Some(id) = group.id_at(index) {
            write.snapshot = Some(meta(id));
            write.compact_to = Some(index);
        }
    }
    if dice.one_in(15) {
        let name = Bytes::from(vec![b'a' + dice.next(3) as u8]);
        let value = (!dice.one_in(3)).then(|| Bytes::from(vec![7; dice.next(20) as usize]));
        write.meta.push((name, value));
    }
    write
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

pub(super) fn batch(dice: &mut Dice, model: &LogModel) -> (WriteBatch, LogModel) {
    loop {
        let mut groups = Vec::new();
        for id in 1..=4 {
            if dice.one_in(2) {
                groups.push(write(dice, model, GroupId(id)));
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

/// Prepares all segments that are wanted.
pub(crate) fn prepare(wal: &Wal) {
    while wal.step_preparer() == Prepared::Progress {}
}

/// Submits, making room where there is none. None when the log is poisoned.
pub(super) fn submit(wal: &Wal, batch: WriteBatch, last: Ticket) -> Option<Ticket> {
    let mut batch = batch;
    for _ in 0..4 {
        match wal.submit(batch) {
            Ok(ticket) => return Some(ticket),
            Err(SubmitError::Full(back)) => batch = back,
            Err(SubmitError::Poisoned(_)) => return None,
            Err(other) => panic!("a valid batch was refused: {other}"),
        }
        if last > Ticket(0) {
            wal.wait(last).ok()?;
        }
        prepare(wal);
    }
    None
}

/// Writes `count` random batches and keeps account of what is acknowledged.
pub(super) fn run(
    vfs: &FaultVfs,
    progress: &Progress<Known>,
    models: &Models,
    seed: u64,
    count: usize,
) {
    let Ok(wal) = open(vfs) else { return };
    run_on(&wal, progress, models, seed, count);
}

pub(super) fn run_on(
    wal: &Wal,
    progress: &Progress<Known>,
    models: &Models,
    seed: u64,
    count: usize,
) {
    let mut dice = Dice(seed);
    let mut last = Ticket(0);
    for _ in 0..count {
        let before = models.lock().last().cloned().unwrap_or_default();
        let (batch, after) = batch(&mut dice, &before);
        models.lock().push(after);
        progress.update(|known| known.submitted += 1);
        let Some(ticket) = submit(wal, batch, last) else {
            return;
        };
        last = ticket;
        if dice.next(10) < 7 {
            if wal.wait(ticket).is_err() {
                return;
            }
            progress.update(|known| known.acknowledged = known.submitted);
        }
        if dice.one_in(6) {
            wal.step_writer();
        }
        if dice.one_in(2) {
            wal.step_preparer();
        }
    }
}

pub(super) fn models() -> Models {
    Arc::new(Mutex::new(vec![LogModel::default()]))
}

/// The log must be what it was after one of the batches that may be the last.
pub(super) fn check(models: &Models, known: &Known, wal: &Wal) -> Result<(), String> {
    let models = models.lock();
    let mut reasons = Vec::new();
    for number in (known.acknowledged..=known.submitted).rev() {
        let Some(model) = models.get(number) else {
            continue;
        };
        match model.compare(wal) {
            Ok(()) => return Ok(()),
            Err(reason) => reasons.push(format!("not as after batch {number}: {reason}")),
        }
    }
    Err(format!(
        "{known:?}: {} ({:?})",
        reasons.join("; "),
        wal.report()
    ))
}

/// A log that was opened takes and keeps a batch.
pub(super) fn goes_on(vfs: &FaultVfs, wal: Arc<Wal>) -> Result<(), String> {
    prepare(&wal);
    let id = LogId::new(Term(9), LogIndex(1));
    let append = vec![Entry::normal(id, Bytes::from_static(b"goes on"))];
    let write = GroupWrite {
        group: GroupId(99),
        append,
        ..GroupWrite::default()
    };
    let batch = WriteBatch {
        groups: vec![write],
        durability: Durability::Sync,
    };
    let ticket = submit(&wal, batch, Ticket(0)).ok_or("refused after recovery")?;
    wal.wait(ticket).map_err(|error| error.to_string())?;
    drop(wal);
    let after = vfs.crash(&raftwerk_testkit::fault_vfs::CrashPlan::LOSE_UNSYNCED);
    let wal = open(&after)?;
    let group = wal
        .open_group(GroupId(99))
        .map_err(|error| error.to_string())?;
    if group.log.last() == id {
        Ok(())
    } else {
        Err("lost after recovery".to_owned())
    }
}
