//! Disks that refuse: the k-th call fails, for every k.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use raftwerk_raft::{GroupId, GroupWrite, LogIndex, Storage, SubmitError, Ticket, WriteBatch};
use raftwerk_storage::vfs::SyncSite;
use raftwerk_testkit::fault_vfs::{CrashPlan, Fault, FaultVfs};
use raftwerk_testkit::faults::FaultReport;
use raftwerk_testkit::history::fail_every_call;

use super::sites::{GROUP, append, entry};
use super::space::{entries, rest, settle, write, write_and_compact};
use super::workload::{Small, check, open, open_with, options, prepare, run_on};
use crate::{Options, Prepared, SYNC_BATCH, SYNC_SLOT, Wal, Written};

fn fail_every_call_of(count: usize, in_recovery: bool) -> FaultReport {
    let outcome = fail_every_call(
        in_recovery,
        |vfs| open_with(vfs, Small::Pages8.options()),
        |wal, progress, models| {
            run_on(wal, progress, models, Small::Pages8.history(31), count);
        },
        |models, known, wal| check(models, known, wal),
    );
    let report = outcome.unwrap_or_else(|failure| panic!("{failure}"));
    println!("{count} batches: {report:?}");
    report
}

#[test]
fn no_failed_call_leads_to_a_false_acknowledgement() {
    let report = fail_every_call_of(16, false);
    assert!(report.runs > 200, "{report:?}");
}

/// The long form: `cargo test --profile ci -p raftwerk-wal --features long-tests`.
#[cfg(feature = "long-tests")]
#[test]
fn no_failed_call_of_a_recovery_leads_to_one() {
    let report = fail_every_call_of(8, true);
    assert!(report.recovery_runs > 10_000, "{report:?}");
}

fn large(index: u64) -> WriteBatch {
    let write = GroupWrite {
        group: GROUP,
        append: vec![entry(1, index, 2000)],
        ..GroupWrite::default()
    };
    WriteBatch {
        groups: vec![write],
        ..WriteBatch::default()
    }
}

#[test]
fn full_disk_refuses_batches_whole_and_goes_on_when_there_is_space() {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    prepare(&wal);
    vfs.set_capacity(Some(0));
    let mut index = 1;
    let refused = loop {
        match wal.submit(large(index)) {
            Ok(ticket) => wal.wait(ticket).unwrap(),
            Err(SubmitError::Full(batch)) => break batch,
            Err(other) => panic!("{other}"),
        }
        index += 1;
        assert!(index < 1000, "the disk is full");
    };
    let mut steps = (0..100).map(|_| wal.step_preparer());
    let last = steps.find(|step| *step != Prepared::Progress);
    assert_eq!(last, Some(Prepared::NoSpace));
    assert!(index > 3, "what was prepared is used");
    let last = wal.open_group(GROUP).unwrap().log.last().index;
    assert_eq!(last, LogIndex(index - 1), "refused whole");
    vfs.set_capacity(None);
    prepare(&wal);
    let ticket = wal.submit(refused).unwrap();
    wal.wait(ticket).unwrap();
}

#[test]
fn poisoned_log_still_reads_and_takes_nothing() {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    prepare(&wal);
    wal.wait(append(&wal, entry(1, 1, 100))).unwrap();
    let ticket = append(&wal, entry(1, 2, 100));
    vfs.fail_at(vfs.calls(), Fault::Eio);
    assert!(wal.wait(ticket).is_err());
    assert!(wal.wait(Ticket(1)).is_ok(), "that was acknowledged");
    let log = wal.open_group(GROUP).unwrap().log;
    let read = log.read(LogIndex(1)..LogIndex(3), u64::MAX).unwrap();
    assert_eq!(read.len(), 2);
    let refusal = wal.submit(WriteBatch::default());
    assert!(matches!(refusal, Err(SubmitError::Poisoned(_))));
}

/// Appends entries of `bytes` to group 2, from `next` on, until there is no room for one.
fn fill_up(wal: &Wal, next: &mut u64, bytes: usize) {
    for _ in 0..1000 {
        let batch = WriteBatch {
            groups: vec![write(2, entries(1, *next..*next + 1, bytes))],
            ..WriteBatch::default()
        };
        match wal.submit(batch) {
            Ok(ticket) => wal.wait(ticket).unwrap(),
            Err(SubmitError::Full(_)) => return,
            Err(other) => panic!("{other}"),
        }
        *next += 1;
    }
    panic!("the disk is full");
}

fn oldest(wal: &Wal) -> u64 {
    *wal.engine_state().segments.first_key_value().unwrap().0
}

/// What moves frees a segment, as what compacts does: so it may take the reserve where the active
/// segment has no room for it, and gives it back at once.
#[test]
fn entries_that_move_take_the_reserve_of_a_full_disk() {
    let vfs = FaultVfs::new();
    let options = Options {
        rewrite_percent: 0,
        ..options()
    };
    let wal = open_with(&vfs, options).unwrap();
    prepare(&wal);
    let mut last = Ticket(0);
    settle(&wal, vec![write(50, entries(1, 1..6, 300))], &mut last);
    // So much that nothing of what follows stands beside the first.
    settle(&wal, vec![write(1, entries(1, 1..11, 900))], &mut last);
    settle(&wal, vec![write(1, entries(1, 11..13, 900))], &mut last);
    settle(&wal, vec![write_and_compact(1, Vec::new(), 12)], &mut last);
    vfs.set_capacity(Some(0));
    let mut next = 1;
    for bytes in [900, 100, 1] {
        fill_up(&wal, &mut next, bytes);
    }
    assert_eq!(rest(&wal), 0, "nothing may be moved");
    let (before, first) = (wal.stats(), oldest(&wal));
    assert_eq!(before.ready_segments, 1, "the reserve: {before:?}");
    wal.engine_state().options.rewrite_percent = 100;
    wal.engine_state().rewriting.look_soon();
    let mut fewest = before.ready_segments;
    for _ in 0..20 {
        wal.step_preparer();
        wal.step_writer();
        fewest = fewest.min(wal.stats().ready_segments);
    }
    let after = wal.stats();
    assert_eq!(fewest, 0, "the reserve is taken: {after:?}");
    assert!(after.rewritten_entries >= 5, "{after:?}");
    assert!(oldest(&wal) > first, "it is the log's no longer");
    assert_eq!(after.recycled, before.recycled + 1, "{after:?}");
    assert_eq!(after.ready_segments, 1, "the reserve is back: {after:?}");
    let log = wal.open_group(GroupId(50)).unwrap().log;
    let read = log.read(LogIndex(1)..LogIndex(6), u64::MAX).unwrap();
    assert_eq!(read, entries(1, 1..6, 300));
}

/// An idle group keeps the oldest segment, and the disk has no room for another one: its entries
/// move, so that the segment can be used again.
#[test]
fn idle_group_does_not_fill_a_full_disk() {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    prepare(&wal);
    let mut last = Ticket(0);
    settle(&wal, vec![write(50, entries(1, 1..6, 100))], &mut last);
    vfs.set_capacity(Some(0));
    for index in 1..300 {
        let append = entries(1, index..index + 1, 500);
        let write = match index {
            1..6 => write(1, append),
            _ => write_and_compact(1, append, index - 5),
        };
        settle(&wal, vec![write], &mut last);
    }
    let stats = wal.stats();
    assert!(
        stats.rewritten_entries >= 5 && stats.recycled > 3,
        "{stats:?}"
    );
    let log = wal.open_group(GroupId(50)).unwrap().log;
    let read = log.read(LogIndex(1)..LogIndex(6), u64::MAX).unwrap();
    assert_eq!(read, entries(1, 1..6, 100));
}

/// What [`Storage::pressure`] and the statistics call stalled.
fn stalled(wal: &Wal) -> (bool, bool) {
    (wal.pressure().stalled, wal.stats().stalled)
}

/// At each sync, what [`stalled`] says and how many bytes wait.
type Seen = Arc<Mutex<Vec<((bool, bool), u64)>>>;

/// A log that calls every sync stalled, and what is seen at those of `site`.
fn watched(vfs: &FaultVfs, site: SyncSite) -> (Arc<Wal>, Seen) {
    let options = Options {
        stall_after: Duration::ZERO,
        ..options()
    };
    let wal = open_with(vfs, options).unwrap();
    prepare(&wal);
    let seen = Seen::default();
    let (watched, seen_by) = (Arc::downgrade(&wal), Arc::clone(&seen));
    vfs.on_call(Box::new(move |_, call| {
        if call.site == Some(site)
            && let Some(wal) = watched.upgrade()
        {
            let found = (stalled(&wal), wal.pressure().queued_bytes);
            seen_by.lock().push(found);
        }
    }));
    (wal, seen)
}

/// Nothing is under way.
fn assert_at_rest(wal: &Wal) {
    let pressure = wal.pressure();
    assert_eq!(stalled(wal), (false, false));
    assert_eq!((pressure.sync_age_ms, pressure.queued_bytes), (0, 0));
}

#[test]
fn sync_that_takes_too_long_is_called_stalled_while_it_does() {
    let vfs = FaultVfs::new();
    let (wal, seen) = watched(&vfs, SYNC_BATCH);
    assert_at_rest(&wal);
    wal.wait(append(&wal, entry(1, 1, 1000))).unwrap();
    let seen = seen.lock().clone();
    assert!(matches!(seen[..], [((true, true), 1000..)]), "{seen:?}");
    assert_at_rest(&wal);
}

/// Every batch waits for the writer, who is at the slot.
#[test]
fn sync_of_the_watermark_slot_that_takes_too_long_is_called_stalled_too() {
    let vfs = FaultVfs::new();
    let (wal, seen) = watched(&vfs, SYNC_SLOT);
    wal.wait(append(&wal, entry(1, 1, 1000))).unwrap();
    assert_eq!(wal.step_writer(), Written::Slot);
    let seen = seen.lock().clone();
    assert_eq!(seen, [((true, true), 0)]);
    assert_at_rest(&wal);
}

#[test]
fn poisoned_log_is_not_called_stalled_for_ever() {
    for site in [SYNC_BATCH, SYNC_SLOT] {
        let vfs = FaultVfs::new();
        let (wal, seen) = watched(&vfs, site);
        if site == SYNC_SLOT {
            wal.wait(append(&wal, entry(1, 1, 1000))).unwrap();
        } else {
            append(&wal, entry(1, 1, 1000));
        }
        vfs.fail_at(vfs.calls(), Fault::FsyncFailsOnceThenOk);
        assert_eq!(wal.step_writer(), Written::Poisoned, "{site:?}");
        assert_eq!(seen.lock().len(), 1, "{site:?}");
        assert_at_rest(&wal);
    }
}

/// One stream, one watermark: what ten thousand groups wrote is durable with one sync.
#[test]
fn ten_thousand_groups_share_one_log_and_one_sync() {
    let vfs = FaultVfs::new();
    let options = Options {
        segment_bytes: 32 << 20,
        batch_bytes_max: 16 << 20,
        page_bytes: 4096,
        ..options()
    };
    let wal = open_with(&vfs, options.clone()).unwrap();
    prepare(&wal);
    for (round, size) in [(1, 20), (2, 30)] {
        let mut last = Ticket(0);
        let before = vfs.syncs_at(SYNC_BATCH);
        for first in (1..=10_000).step_by(1000) {
            let groups = first..first + 1000;
            let groups = groups.map(|group| write(group, entries(1, round..round + 1, size)));
            let groups = groups.collect();
            let batch = WriteBatch {
                groups,
                ..WriteBatch::default()
            };
            last = wal.submit(batch).unwrap();
        }
        wal.wait(last).unwrap();
        assert_eq!(wal.durable().unwrap(), last);
        assert_eq!(vfs.syncs_at(SYNC_BATCH) - before, 1);
        prepare(&wal);
    }
    drop(wal);
    let wal = open_with(&vfs.crash(&CrashPlan::LOSE_UNSYNCED), options).unwrap();
    assert_eq!(wal.groups().unwrap().len(), 10_000);
    for group in (1..=10_000).step_by(997) {
        let log = wal.open_group(GroupId(group)).unwrap().log;
        let read = log.read(LogIndex(1)..LogIndex(3), u64::MAX).unwrap();
        assert_eq!(read, [entries(1, 1..2, 20), entries(1, 2..3, 30)].concat());
    }
}
