//! Small logs, and the random history that is written to them.

use std::sync::Arc;

use bytes::Bytes;
use raftwerk_raft::{
    Durability, Entry, GroupId, GroupWrite, LogId, LogIndex, Storage, SubmitError, Term, Ticket,
    WriteBatch,
};
use raftwerk_testkit::crash::Progress;
use raftwerk_testkit::fault_vfs::FaultVfs;
use raftwerk_testkit::history::{History, Models};
pub(super) use raftwerk_testkit::history::{Known, models};
use raftwerk_testkit::log_suite::model::LogModel;

use super::space;
use crate::preparer::Prepared;
use crate::{AmbiguousTail, Background, Options, Wal};

pub(super) const DIR: &str = "log";

/// Groups 1 to this write all the time.
const BUSY_GROUPS: u64 = 8;
/// As many more, at most, write twice.
const STRAGGLERS_MAX: usize = 4;
/// Batches that may be too large one after the other.
const TOO_LARGE_MAX: usize = 10;

pub(crate) fn options() -> Options {
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

/// Logs so small that a few batches fill a segment.
#[derive(Clone, Copy, Debug)]
pub(super) enum Small {
    /// Segments of eight pages.
    Pages8,
    /// The same, and their zeros are set aside.
    Aside8,
    /// Segments of 32 pages.
    Pages32,
}

impl Small {
    pub(super) fn options(self) -> Options {
        match self {
            Self::Pages8 => Options {
                segment_bytes: 4 * 1024,
                batch_bytes_max: 12 * 1024,
                ..options()
            },
            Self::Aside8 => Options {
                set_aside_bytes: 0,
                ..Self::Pages8.options()
            },
            Self::Pages32 => options(),
        }
    }

    /// Random batches, nearly all of which fit.
    pub(super) const fn history(self, seed: u64) -> History {
        let history = match self {
            Self::Pages8 | Self::Aside8 => History::new(seed, 120),
            Self::Pages32 => History::new(seed, 900),
        };
        history.of_groups(BUSY_GROUPS)
    }
}

pub(crate) fn open(vfs: &FaultVfs) -> Result<Arc<Wal>, String> {
    open_with(vfs, options())
}

pub(crate) fn open_with(vfs: &FaultVfs, options: Options) -> Result<Arc<Wal>, String> {
    let wal = Wal::open(Arc::new(vfs.clone()), DIR, options).map_err(|error| error.to_string())?;
    Ok(Arc::new(wal))
}

pub(super) fn keep_prefix() -> Options {
    Options {
        ambiguous_tail: AmbiguousTail::KeepPrefix,
        ..options()
    }
}

/// Prepares all segments that are wanted.
pub(crate) fn prepare(wal: &Wal) {
    while wal.step_preparer() == Prepared::Progress {}
}

/// Why a batch was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// It is larger than the options allow.
    TooLarge,
    /// The log is poisoned, or there is no room and none can be made.
    Stopped,
}

/// Submits, making room where there is none.
pub(super) fn submit(wal: &Wal, batch: WriteBatch, last: Ticket) -> Result<Ticket, NotTaken> {
    let mut batch = batch;
    for _ in 0..8 {
        match wal.submit(batch) {
            Ok(ticket) => return Ok(ticket),
            Err(SubmitError::Full(back)) => batch = back,
            Err(SubmitError::Poisoned(_)) => return Err(NotTaken::Stopped),
            Err(SubmitError::TooLarge { .. }) => return Err(NotTaken::TooLarge),
            Err(other) => panic!("a valid batch was refused: {other}"),
        }
        if last > Ticket(0) {
            wal.wait(last).map_err(|_| NotTaken::Stopped)?;
        }
        // What moves entries may wait to be written, and nobody waits for that.
        wal.step_writer();
        prepare(wal);
    }
    Err(NotTaken::Stopped)
}

/// Writes `count` batches of `history` and keeps account of what is acknowledged; says how many
/// were taken, which are fewer only when the log stopped.
pub(super) fn run_on(
    wal: &Wal,
    progress: &Progress<Known>,
    models: &Models,
    history: History,
    count: usize,
) -> usize {
    let mut history = history;
    let mut last = Ticket(0);
    for number in 0..count {
        let Some(ticket) = next(wal, progress, models, &mut history, (number, count), last) else {
            return number;
        };
        last = ticket;
        if history.below(10) < 7 {
            if wal.wait(ticket).is_err() {
                return number + 1;
            }
            progress.update(|known| known.acknowledged = known.submitted);
        }
        if history.one_in(6) {
            wal.step_writer();
        }
        if history.one_in(2) {
            wal.step_preparer();
        }
    }
    count
}

/// Submits batch `number` of `count`: the first that is not too large.
fn next(
    wal: &Wal,
    progress: &Progress<Known>,
    models: &Models,
    history: &mut History,
    (number, count): (usize, usize),
    last: Ticket,
) -> Option<Ticket> {
    let before = models.lock().last().cloned().unwrap_or_default();
    for _ in 0..TOO_LARGE_MAX {
        let (batch, after) = match straggler(&before, number, count) {
            Some(batch) => (batch.clone(), before.after(&batch).unwrap()),
            None => history.batch(&before),
        };
        models.lock().push(after);
        progress.update(|known| known.submitted += 1);
        match submit(wal, batch, last) {
            Ok(ticket) => return Some(ticket),
            Err(NotTaken::Stopped) => return None,
            Err(NotTaken::TooLarge) => {
                models.lock().pop();
                progress.update(|known| known.submitted -= 1);
            }
        }
    }
    panic!("batch {number} is too large whatever is in it");
}

/// Groups that write once and then keep what they have, until they are destroyed in the middle of
/// the history and made again; what they have is moved on meanwhile.
fn straggler(before: &LogModel, number: usize, count: usize) -> Option<WriteBatch> {
    let stragglers = (count / 16).clamp(1, STRAGGLERS_MAX);
    let of = |from: usize| number.checked_sub(from).filter(|which| *which < stragglers);
    let (which, term, end) = match (of(1), of(count / 2)) {
        (Some(which), _) => (which, 1, 6),
        (None, Some(which)) => (which, 2, 4),
        (None, None) => return None,
    };
    let group = GroupId(BUSY_GROUPS + 1 + which as u64);
    let write = GroupWrite {
        destroy: before.group(group).last().index > LogIndex::ZERO,
        ..space::write(group.0, space::entries(term, 1..end, 40))
    };
    Some(WriteBatch {
        groups: vec![write],
        durability: Durability::Sync,
    })
}

/// As [`raftwerk_testkit::history::check`], with what opening the log found.
pub(super) fn check(models: &Models, known: &Known, wal: &Wal) -> Result<(), String> {
    raftwerk_testkit::history::check(models, known, wal)
        .map_err(|reason| format!("{reason} ({:?})", wal.report()))
}

/// A log that was opened takes and keeps a batch.
pub(super) fn goes_on(vfs: &FaultVfs, wal: Arc<Wal>, options: Options) -> Result<(), String> {
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
    let ticket =
        submit(&wal, batch, Ticket(0)).map_err(|why| format!("refused after recovery: {why:?}"))?;
    wal.wait(ticket).map_err(|error| error.to_string())?;
    drop(wal);
    let after = vfs.crash(&raftwerk_testkit::fault_vfs::CrashPlan::LOSE_UNSYNCED);
    let wal = open_with(&after, options)?;
    let group = wal
        .open_group(GroupId(99))
        .map_err(|error| error.to_string())?;
    if group.log.last() == id {
        Ok(())
    } else {
        Err("lost after recovery".to_owned())
    }
}
