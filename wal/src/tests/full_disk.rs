//! A disk without room: what the preparer meets at any of its calls, and opening again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use raftwerk_raft::{LogIndex, Storage, SubmitError, Ticket, WriteBatch};
use raftwerk_testkit::crash::{CrashOptions, Progress, crash_points};
use raftwerk_testkit::fault_vfs::{
    Call, CallKind, CrashPlan, Fault, FaultVfs, Image, Keep, PlanLimits,
};

use super::sites::{GROUP, append, entry, vote};
use super::space::{entries, write, write_and_compact};
use super::workload::{DIR, goes_on, open_with, options, prepare, submit};
use crate::segment::header::file_name;
use crate::{Options, Prepared, SYNC_BATCH, SYNC_NAME, SYNC_PREPARE, TailEnd, Verdict, Wal};

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
        CallKind::Write | CallKind::Zero => name.starts_with("spare-") && call.offset == 0,
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

/// Room in a segment for what a hundred lives write.
fn roomy() -> Options {
    Options {
        segment_bytes: 128 * 1024,
        ..options()
    }
}

const LIVES: usize = 100;

/// Opens the log on a full disk in a hundred lives: each does as `live` says, and holds the same.
fn live_on(start: FaultVfs, options: &Options, mut live: impl FnMut(usize, &FaultVfs, &Wal)) {
    let mut vfs = start;
    let mut before: Option<Vec<String>> = None;
    let mut size = sizes(&vfs).values().sum::<usize>();
    for life in 0..LIVES {
        fill_up(&vfs);
        let wal = open_with(&vfs, options.clone());
        let wal = wal.unwrap_or_else(|error| panic!("life {life}: {error}"));
        let held = contents(&wal);
        assert_eq!(*before.get_or_insert_with(|| held.clone()), held, "{life}");
        prepare(&wal);
        live(life, &vfs, &wal);
        before = Some(contents(&wal));
        drop(wal);
        let now = sizes(&vfs).values().sum::<usize>();
        assert!(now <= size, "life {life}: {now} bytes, {size} before");
        size = now;
        vfs = vfs.crash(&ENDINGS[life % 3]);
    }
}

/// A log with a few entries and votes.
fn started(options: &Options) -> FaultVfs {
    let vfs = FaultVfs::new();
    let wal = open_with(&vfs, options.clone()).unwrap();
    prepare(&wal);
    for index in 1..=5 {
        wal.wait(append(&wal, entry(1, index, 300))).unwrap();
    }
    wal.wait(vote(&wal, 1, 2)).unwrap();
    vfs
}

#[test]
fn log_opens_on_a_full_disk_a_hundred_times() {
    let vfs = started(&options()).crash(&CrashPlan::LOSE_UNSYNCED);
    live_on(vfs, &options(), |_, _, _| {});
}

/// Each life writes, and so none can go on in a segment that the one before left empty.
#[test]
fn log_that_votes_in_each_life_opens_on_a_full_disk_a_hundred_times() {
    let vfs = started(&roomy()).crash(&CrashPlan::Kill);
    live_on(vfs, &roomy(), |life, _, wal| {
        wal.wait(vote(wal, 2 + life as u64, 2)).unwrap();
        if life % 2 == 0 {
            wal.step_writer();
        }
    });
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
    live_on(vfs, &options(), |_, _, wal| {
        assert_eq!(wal.report().verdict(), Verdict::Corrupt);
        let health = wal.open_group(GROUP).unwrap().state.health;
        assert!(!health.faulty.is_empty());
    });
}

/// What crashes leave of a write is overwritten where nothing else can be done.
#[test]
fn log_with_a_torn_end_opens_on_a_full_disk_a_hundred_times() {
    let mut vfs = started(&roomy()).crash(&CrashPlan::Kill);
    let mut torn = 0;
    for life in 0..LIVES as u64 {
        fill_up(&vfs);
        let wal = open_with(&vfs, roomy()).unwrap();
        torn += u64::from(matches!(wal.report().tail, TailEnd::Torn { .. }));
        let state = wal.open_group(GROUP).unwrap().state;
        assert_eq!(state.hard_state.term.0, life + 1);
        wal.wait(vote(&wal, 2 + life, 2)).unwrap();
        let last = wal.open_group(GROUP).unwrap().log.last().index;
        assert_eq!(last, LogIndex(5));
        let ticket = append(&wal, entry(1, 6, 1500));
        vfs.disable_sync(SYNC_BATCH);
        wal.wait(ticket).unwrap();
        vfs.enable_sync(SYNC_BATCH);
        let kept = match life % 3 {
            0 => Keep::First(1),
            1 => Keep::AllBut(0),
            _ => Keep::Only(0b100),
        };
        vfs = vfs.crash(&CrashPlan::PowerLoss {
            data: kept,
            names: Keep::All,
        });
    }
    assert!(torn > 90, "{torn}");
}

/// A term that is acknowledged, and the entries before it, survive every crash of an opening that
/// finds no room, and of what is written behind it.
#[test]
fn acknowledged_survives_every_crash_while_the_disk_is_full() {
    let first = started(&options());
    let mut vfs = first.crash(&CrashPlan::Kill);
    // Each takes one of those that are prepared.
    for term in 2..=3 {
        fill_up(&vfs);
        let wal = open_with(&vfs, options()).unwrap();
        wal.wait(vote(&wal, term, 2)).unwrap();
        vfs = vfs.crash(&CrashPlan::Kill);
    }
    let wal = open_with(&vfs, options()).unwrap();
    assert!(wal.engine_state().ready.is_empty(), "nothing is left");
    wal.wait(vote(&wal, 4, 2)).unwrap();
    let ticket = append(&wal, entry(1, 6, 1500));
    vfs.disable_sync(SYNC_BATCH);
    wal.wait(ticket).unwrap();
    vfs.enable_sync(SYNC_BATCH);
    let image = vfs.image();
    let plans = PlanLimits {
        subsets_max: 6,
        random: 8,
        ..PlanLimits::default()
    };
    let crashes = CrashOptions {
        plans,
        recovery_plans: Some(plans),
        stride: 1,
        recovery_stride: 97,
        second_stride: 0,
    };
    let mut images = 0;
    for plan in image.plans(&plans) {
        let report = crash_points(
            &image.after(&plan),
            4,
            &crashes,
            |vfs, progress: &Progress<u64>| {
                fill_up(vfs);
                let wal = open_with(vfs, options()).unwrap();
                for term in 5..=7 {
                    wal.wait(vote(&wal, term, 2)).unwrap();
                    progress.update(|known| *known = term);
                }
                wal.step_writer();
            },
            |vfs| {
                fill_up(vfs);
                open_with(vfs, options())
            },
            |known, wal| {
                let group = wal.open_group(GROUP).unwrap();
                let term = group.state.hard_state.term.0;
                let read = group.log.read(LogIndex(1)..LogIndex(6), u64::MAX);
                let whole = read.is_ok_and(|read| read.len() == 5);
                match whole && (*known..=known + 1).contains(&term) {
                    true => Ok(()),
                    false => Err(format!("term {term}: {:?}", wal.report())),
                }
            },
        );
        let report = report.unwrap_or_else(|failure| panic!("{plan:?}: {failure}"));
        images += report.images + report.recovery_images;
    }
    println!("{images} disks");
    assert!(images > 1000, "{images}");
}
