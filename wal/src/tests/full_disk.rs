//! A disk without room: what the preparer meets at any of its calls, and opening again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use raftwerk_raft::{LogIndex, Storage, SubmitError, Ticket, WriteBatch};
use raftwerk_testkit::fault_vfs::{Call, CallKind, CrashPlan, Fault, FaultVfs, Image};

use super::sites::{GROUP, append, entry, vote};
use super::space::{entries, write, write_and_compact};
use super::workload::{DIR, goes_on, open_with, options, prepare, submit};
use crate::segment::header::file_name;
use crate::{Options, Prepared, SYNC_NAME, SYNC_PREPARE, Verdict, Wal};

/// How a life may end here: acknowledged is what was synced, and more may be there.
const ENDINGS: [CrashPlan; 3] = [
    CrashPlan::Kill,
    CrashPlan::LOSE_UNSYNCED,
    CrashPlan::KEEP_UNSYNCED,
];

/// Zeros are set aside, so that every kind of call is made.
fn aside() -> Options {
    Options {
        set_aside_bytes: 0,
        rewrite_percent: 0,
        ..options()
    }
}

fn batch(append: u64, compact: bool) -> WriteBatch {
    let entry = entries(1, append..append + 1, 900);
    let write = match append {
        6.. if compact => write_and_compact(1, entry, append - 5),
        _ => write(1, entry),
    };
    WriteBatch {
        groups: vec![write],
        ..WriteBatch::default()
    }
}

/// A log with an earlier life, whose segments are removed and not used again.
fn earlier() -> Image {
    let vfs = FaultVfs::new();
    let wal = open_with(&vfs, aside()).unwrap();
    for index in 1..=40 {
        prepare(&wal);
        let ticket = submit(&wal, batch(index, false), Ticket(0)).unwrap();
        wal.wait(ticket).unwrap();
    }
    assert!(wal.engine_segments() > 2);
    vfs.image()
}

/// Writes entries 41 to 120, of which five live.
fn go_on(wal: &Wal) {
    let mut last = Ticket(0);
    for index in 41..=120 {
        last = submit(wal, batch(index, true), last).unwrap();
        wal.wait(last).unwrap();
        wal.step_writer();
        prepare(wal);
    }
}

fn holds(wal: &Wal, last: u64) -> Result<(), String> {
    let log = wal.open_group(GROUP).unwrap().log;
    let first = last - 4;
    let read = log.read(LogIndex(first)..LogIndex(last + 1), u64::MAX);
    let read = read.map_err(|error| error.to_string())?;
    match read == entries(1, first..last + 1, 900) && log.last().index == LogIndex(last) {
        true => Ok(()),
        false => Err(format!("{} entries up to {}", read.len(), log.last())),
    }
}

/// Whether the preparer makes this call: nobody else touches names or a segment's first page while
/// a log is open.
fn is_the_preparers(call: &Call) -> bool {
    let name = call.path.file_name().unwrap_or_default().to_string_lossy();
    match call.kind {
        CallKind::Write | CallKind::Zero => !name.starts_with("WATERMARK") && call.offset == 0,
        CallKind::Sync => call.site == Some(SYNC_PREPARE),
        CallKind::SyncDir => call.site == Some(SYNC_NAME),
        CallKind::Create | CallKind::Rename | CallKind::Remove => true,
        CallKind::SetLen | CallKind::CreateDir => false,
    }
}

const KINDS: [CallKind; 7] = [
    CallKind::Write,
    CallKind::Zero,
    CallKind::Sync,
    CallKind::Create,
    CallKind::Rename,
    CallKind::Remove,
    CallKind::SyncDir,
];

/// Goes on, and fails the preparer's `fails`-th call, if any; which calls it made.
fn failing(vfs: &FaultVfs, wal: &Wal, fails: Option<usize>) -> Vec<CallKind> {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&calls);
    vfs.on_call(Box::new(move |vfs, call| {
        if is_the_preparers(call) {
            let mut seen = seen.lock();
            if fails == Some(seen.len()) {
                vfs.fail_at(call.number, Fault::Enospc);
            }
            seen.push(call.kind);
        }
    }));
    go_on(wal);
    let calls = calls.lock();
    calls.clone()
}

/// The log is not poisoned, holds what was acknowledged, in the next life too, and takes more.
fn is_whole(vfs: &FaultVfs, wal: Arc<Wal>, last: u64, what: &str) {
    wal.durable()
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    holds(&wal, last).unwrap_or_else(|reason| panic!("{what}: {reason}"));
    drop(wal);
    for plan in ENDINGS {
        let after = vfs.crash(&plan);
        let wal = open_with(&after, aside()).unwrap();
        assert_eq!(wal.report().verdict(), Verdict::Clean, "{what}: {plan:?}");
        holds(&wal, last).unwrap_or_else(|reason| panic!("{what}: {plan:?}: {reason}"));
        goes_on(&after, wal, aside()).unwrap_or_else(|reason| panic!("{what}: {plan:?}: {reason}"));
    }
}

#[test]
fn full_disk_at_any_call_of_the_preparer_does_not_end_the_log() {
    let image = earlier();
    let begin = || {
        let vfs = image.after(&CrashPlan::Kill);
        let wal = open_with(&vfs, aside()).unwrap();
        (vfs, wal)
    };
    let (vfs, wal) = begin();
    let calls = failing(&vfs, &wal, None);
    let kinds: BTreeSet<_> = calls.iter().copied().collect();
    assert_eq!(kinds, BTreeSet::from(KINDS), "{calls:?}");
    for (number, kind) in calls.into_iter().enumerate() {
        let (vfs, wal) = begin();
        failing(&vfs, &wal, Some(number));
        is_whole(&vfs, wal, 120, &format!("{kind:?}, call {number}"));
    }
}

/// As long as the disk says so, whatever is asked for; then there is room again.
#[test]
fn log_goes_on_when_there_is_room_again_for_what_the_preparer_does() {
    for kind in KINDS {
        let vfs = earlier().after(&CrashPlan::Kill);
        let wal = open_with(&vfs, aside()).unwrap();
        // How often it was refused, while it is.
        let refusals = Arc::new(Mutex::new(Some(0)));
        let count = Arc::clone(&refusals);
        vfs.on_call(Box::new(move |vfs, call| {
            if call.kind == kind
                && is_the_preparers(call)
                && let Some(count) = count.lock().as_mut()
            {
                *count += 1;
                vfs.fail_at(call.number, Fault::Enospc);
            }
        }));
        // Old segments have to go for some to be removed.
        let (compact, mut last) = (kind == CallKind::Remove, 40);
        let refused = loop {
            match wal.submit(batch(last + 1, compact)) {
                Ok(ticket) => wal.wait(ticket).unwrap(),
                Err(SubmitError::Full(back)) => break back,
                Err(other) => panic!("{kind:?}: {other}"),
            }
            last += 1;
            wal.step_writer();
            prepare(&wal);
            assert!(last < 1000, "{kind:?} is never needed");
        };
        let mut steps = (0..100).map(|_| wal.step_preparer());
        let rests = steps.find(|step| *step != Prepared::Progress);
        assert_eq!(rests, Some(Prepared::NoSpace), "{kind:?}");
        holds(&wal, last).unwrap();
        let refusals = refusals.lock().take().unwrap();
        assert!(refusals > 1, "{kind:?}: tried again");
        prepare(&wal);
        wal.wait(wal.submit(refused).unwrap()).unwrap();
        is_whole(&vfs, wal, last + 1, &format!("{kind:?} for a while"));
    }
}

/// From now on, and in all later lives, no file grows; and in this one none is made.
fn fill_up(vfs: &FaultVfs) {
    vfs.set_capacity(Some(0));
    vfs.on_call(Box::new(|vfs, call| {
        if call.kind == CallKind::Create {
            vfs.fail_at(call.number, Fault::Enospc);
        }
    }));
}

/// Every file of the disk and how long it is.
fn sizes(vfs: &FaultVfs) -> BTreeMap<PathBuf, usize> {
    let files = vfs.files().into_iter();
    let size = |path: PathBuf| (vfs.read_file(&path).unwrap().len(), path);
    files.map(size).map(|(size, path)| (path, size)).collect()
}

/// All that the log holds, in words.
fn contents(wal: &Wal) -> Vec<String> {
    let groups = wal.groups().unwrap().into_iter();
    let one = |id| {
        let group = wal.open_group(id).unwrap();
        let (first, last) = (group.log.first(), group.log.last().index.next());
        let each = (first.0..last.0).map(LogIndex);
        let entries: Vec<_> = each
            .map(|index| group.log.read(index..index.next(), u64::MAX).ok())
            .collect();
        format!("{id} {:?} {entries:?}", group.state)
    };
    groups.map(one).collect()
}

const LIVES: usize = 100;

/// Opens the log on a full disk in a hundred lives: each looks at it as `live` says, and it holds
/// the same.
fn live_on(start: FaultVfs, live: impl Fn(&Wal)) {
    let mut vfs = start;
    let mut before: Option<Vec<String>> = None;
    let mut size = sizes(&vfs).values().sum::<usize>();
    for life in 0..LIVES {
        fill_up(&vfs);
        let wal = open_with(&vfs, options());
        let wal = wal.unwrap_or_else(|error| panic!("life {life}: {error}"));
        let held = contents(&wal);
        assert_eq!(*before.get_or_insert_with(|| held.clone()), held, "{life}");
        prepare(&wal);
        live(&wal);
        drop(wal);
        let now = sizes(&vfs).values().sum::<usize>();
        assert!(now <= size, "life {life}: {now} bytes, {size} before");
        size = now;
        vfs = vfs.crash(&ENDINGS[life % 3]);
    }
}

#[test]
fn log_opens_on_a_full_disk_a_hundred_times() {
    let vfs = FaultVfs::new();
    let wal = open_with(&vfs, options()).unwrap();
    prepare(&wal);
    for index in 1..=5 {
        wal.wait(append(&wal, entry(1, index, 300))).unwrap();
    }
    wal.wait(vote(&wal, 1, 2)).unwrap();
    live_on(vfs.crash(&CrashPlan::LOSE_UNSYNCED), |_| {});
}

/// A damaged entry is told of in the first life, and the log says so from then on.
#[test]
fn damaged_log_opens_on_a_full_disk_a_hundred_times() {
    let vfs = FaultVfs::new();
    let wal = open_with(&vfs, options()).unwrap();
    while wal.engine_segments() < 4 {
        prepare(&wal);
        let next = wal.open_group(GROUP).unwrap().log.last().index.next();
        wal.wait(append(&wal, entry(1, next.0, 900))).unwrap();
    }
    prepare(&wal);
    let oldest = *wal.engine_state().segments.first_key_value().unwrap().0;
    drop(wal);
    let vfs = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    let path = Path::new(DIR).join(file_name(oldest));
    vfs.zero_sector(&path, 4).unwrap();
    live_on(vfs, |wal| {
        assert_eq!(wal.report().verdict(), Verdict::Corrupt);
        let health = wal.open_group(GROUP).unwrap().state.health;
        assert!(!health.faulty.is_empty());
    });
}
