//! Names that are not durable: of the slot's file, of segments, and of those that were removed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use raftwerk_raft::{LogIndex, Storage};
use raftwerk_storage::vfs::SyncSite;
use raftwerk_testkit::fault_vfs::{Call, CallKind, CrashPlan, Fault, FaultVfs};

use super::sites::{GROUP, append, entry};
use super::workload::{DIR, keep_prefix, open, open_with, prepare};
use crate::segment::header::{file_name, parse_file_name};
use crate::slot::SLOT_FILE;
use crate::{Prepared, SYNC_NAME, SYNC_PREPARE, SYNC_SLOT, Verdict, Wal, Written};

/// Fails every call that `is_meant`.
fn fail(vfs: &FaultVfs, is_meant: impl Fn(&Call) -> bool + Send + Sync + 'static) {
    vfs.on_call(Box::new(move |vfs, call| {
        if is_meant(call) {
            vfs.fail_at(call.number, Fault::Eio);
        }
    }));
}

fn names_folder(call: &Call, site: SyncSite) -> bool {
    call.kind == CallKind::SyncDir && call.site == Some(site)
}

/// Ends the life at the first call that `is_meant`.
fn end_at(vfs: &FaultVfs, is_meant: impl Fn(&Call) -> bool + Send + Sync + 'static) {
    vfs.on_call(Box::new(move |vfs, call| {
        if is_meant(call) {
            vfs.crash_at(call.number);
        }
    }));
}

fn is_segment(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.and_then(parse_file_name).is_some()
}

fn path_of(number: u64) -> PathBuf {
    Path::new(DIR).join(file_name(number))
}

/// Appends the next entry and waits for it.
fn put(wal: &Wal, size: usize) {
    let next = wal.open_group(GROUP).unwrap().log.last().index.next();
    wal.wait(append(wal, entry(1, next.0, size))).unwrap();
}

/// After a power cut all entries up to `last` are there, and nothing is damaged.
fn survives(vfs: &FaultVfs, last: u64) {
    let wal = open(&vfs.crash(&CrashPlan::LOSE_UNSYNCED)).unwrap();
    let log = wal.open_group(GROUP).unwrap().log;
    assert_eq!(log.last().index, LogIndex(last));
    let read = log.read(LogIndex(1)..LogIndex(last + 1), u64::MAX);
    assert_eq!(read.unwrap().len() as u64, last);
    assert_eq!(wal.report().verdict(), Verdict::Clean, "{:?}", wal.report());
}

/// The folder's sync fails in the life that makes the slot's file: in the next one the name stands
/// there, and no sync makes it durable.
#[test]
fn slot_is_a_witness_although_the_sync_of_its_name_failed() {
    let vfs = FaultVfs::new();
    fail(&vfs, |call| names_folder(call, SYNC_SLOT));
    open(&vfs).unwrap_err();
    let second = vfs.crash(&CrashPlan::Kill);
    let wal = open(&second).unwrap();
    prepare(&wal);
    put(&wal, 30);
    assert_eq!(wal.step_writer(), Written::Slot);
    let (number, end) = wal.engine_end();
    drop(wal);
    let third = second.crash(&CrashPlan::LOSE_UNSYNCED);
    let path = Path::new(DIR).join(SLOT_FILE);
    third.read_file(&path).expect("its name is durable");
    third.zero_sector(&path_of(number), end / 512 - 1).unwrap();
    let wal = open(&third).unwrap();
    assert_eq!(wal.report().verdict(), Verdict::Corrupt, "not a torn write");
}

/// The folder's sync fails after a segment got its name, and then the process ends, or the name
/// cannot be removed: the next life does not write to a file that a power cut takes away.
#[test]
fn segment_whose_name_may_be_lost_is_never_written_to() {
    let removes = |call: &Call| call.kind == CallKind::Remove && is_segment(&call.path);
    for ends in [true, false] {
        let vfs = FaultVfs::new();
        let wal = open(&vfs).unwrap();
        put(&wal, 30);
        fail(&vfs, |call| names_folder(call, SYNC_NAME));
        match ends {
            true => end_at(&vfs, removes),
            false => fail(&vfs, removes),
        }
        let mut step = Prepared::Progress;
        while step == Prepared::Progress {
            step = wal.step_preparer();
        }
        assert!(wal.durable().is_err(), "poisoned");
        let doubtful = path_of(wal.engine_end().0 + 1);
        drop(wal);
        let second = vfs.crash(&CrashPlan::Kill);
        second.read_file(&doubtful).expect("it stands there");
        let wal = open(&second).unwrap();
        put(&wal, 30);
        assert!(path_of(wal.engine_end().0) != doubtful);
        assert!(second.read_file(&doubtful).is_err(), "it is gone");
        drop(wal);
        survives(&second, 2);
    }
}

/// The process ends between a segment's header and its sync: the next life makes it durable.
#[test]
fn header_that_was_not_synced_is_there_after_the_next_life_too() {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    put(&wal, 30);
    let last = path_of(wal.engine_end().0 + 2);
    // Of each of two segments, the zeros and then the header.
    let syncs = AtomicU64::new(0);
    end_at(&vfs, move |call| {
        call.site == Some(SYNC_PREPARE) && syncs.fetch_add(1, Ordering::Relaxed) == 3
    });
    prepare(&wal);
    assert_eq!(wal.stats().ready_segments, 1);
    drop(wal);
    let second = vfs.crash(&CrashPlan::Kill);
    let wal = open(&second).unwrap();
    let mut count = 1;
    while path_of(wal.engine_end().0) != last {
        count += 1;
        put(&wal, 2000);
    }
    drop(wal);
    survives(&second, count);
}

/// A bit stands where a prepared segment's first frame would: once that was resolved, it is not
/// found again after a power cut.
#[test]
fn segment_that_was_given_up_does_not_come_back() {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    prepare(&wal);
    put(&wal, 30);
    let spoiled = path_of(wal.engine_end().0 + 2);
    drop(wal);
    let second = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    second.flip_bit(&spoiled, 512 + 20, 3).unwrap();
    open(&second).map(drop).unwrap_err();
    let wal: Arc<Wal> = open_with(&second, keep_prefix()).unwrap();
    assert!(second.read_file(&spoiled).is_err());
    put(&wal, 30);
    drop(wal);
    let third = second.crash(&CrashPlan::LOSE_UNSYNCED);
    let wal = open(&third).expect("it is not ambiguous once more");
    assert_eq!(wal.open_group(GROUP).unwrap().log.last().index, LogIndex(2));
}
