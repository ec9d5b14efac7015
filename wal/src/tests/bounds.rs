//! What the writer must not write: a frame that leaves its segment, a slot behind a failed footer.

use std::path::{Path, PathBuf};

use raftwerk_raft::{LogIndex, Storage};
use raftwerk_testkit::fault_vfs::{CrashPlan, Fault, FaultVfs};

use super::sites::{GROUP, append, entry};
use super::workload::{DIR, open, prepare};
use crate::segment::header::file_name;
use crate::{SYNC_SEAL, TailEnd, Verdict, Wal, Written};

/// Every file of the log, and what is in it.
fn files(vfs: &FaultVfs) -> Vec<(PathBuf, Vec<u8>)> {
    let bytes = |path: PathBuf| {
        let bytes = vfs.read_file(&path).unwrap();
        (path, bytes)
    };
    vfs.files().into_iter().map(bytes).collect()
}

/// What is durable of the log, and how it was found.
fn reopened(vfs: &FaultVfs) -> (LogIndex, Verdict, TailEnd) {
    let wal = open(&vfs.crash(&CrashPlan::LOSE_UNSYNCED)).unwrap();
    let last = wal.open_group(GROUP).unwrap().log.last().index;
    (last, wal.report().verdict(), wal.report().tail)
}

/// Gives every prepared segment `capacity`, and tells what they had.
fn shrink_ready(wal: &Wal, capacities: &[u64]) -> Vec<u64> {
    let mut state = wal.engine_state();
    let mut before = Vec::new();
    for (place, ready) in state.ready.iter_mut().enumerate() {
        before.push(ready.header.capacity);
        ready.header.capacity = capacities.get(place).copied().unwrap_or(600);
    }
    before
}

/// Admission saw a segment large enough, the plan finds a smaller one: recovery would never look
/// behind its end.
#[test]
fn first_frame_beyond_its_segment_poisons_and_is_not_written() {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    prepare(&wal);
    for index in 1..100 {
        let ticket = append(&wal, entry(1, index, 2000));
        let capacities = shrink_ready(&wal, &[]);
        let before = files(&vfs);
        if wal.wait(ticket).is_err() {
            assert!(wal.durable().is_err(), "poisoned for good");
            assert_eq!(files(&vfs), before);
            let (last, verdict, _) = reopened(&vfs);
            assert_eq!((last, verdict), (LogIndex(index - 1), Verdict::Clean));
            return;
        }
        shrink_ready(&wal, &capacities);
    }
    panic!("the log never rotates");
}

fn slot(vfs: &FaultVfs) -> Option<Vec<u8>> {
    vfs.read_file(&Path::new(DIR).join("WATERMARK")).ok()
}

#[test]
fn no_slot_is_written_behind_a_footer_whose_sync_failed() {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    prepare(&wal);
    vfs.on_call(Box::new(|vfs, call| {
        if call.site == Some(SYNC_SEAL) {
            vfs.fail_at(call.number, Fault::FsyncFailsOnceThenOk);
        }
    }));
    for index in 1..100 {
        let before = slot(&vfs);
        if wal.wait(append(&wal, entry(1, index, 2000))).is_ok() {
            continue;
        }
        // Something is durable that the slot does not vouch for yet, but no more is said.
        assert_eq!(wal.engine_slot(), Written::Poisoned);
        assert_eq!(wal.step_writer(), Written::Poisoned);
        assert_eq!(slot(&vfs), before);
        let (last, verdict, _) = reopened(&vfs);
        assert_ne!(verdict, Verdict::Corrupt);
        assert_eq!(last, LogIndex(index - 1));
        return;
    }
    panic!("the log never rotates");
}

/// The window that docs/format.md names: until the slot is written, nothing tells a sector that the
/// disk zeroed from one that was never written. Behind the slot it is damage.
#[test]
fn zeroed_last_sector_is_torn_before_the_slot_and_damage_behind_it() {
    for with_slot in [false, true] {
        let vfs = FaultVfs::new();
        let wal = open(&vfs).unwrap();
        prepare(&wal);
        wal.wait(append(&wal, entry(1, 1, 30))).unwrap();
        wal.wait(append(&wal, entry(1, 2, 3000))).unwrap();
        if with_slot {
            assert_eq!(wal.step_writer(), Written::Slot);
        }
        let (number, end) = wal.engine_end();
        let path = Path::new(DIR).join(file_name(number));
        vfs.zero_sector(&path, end / 512 - 1).unwrap();
        let wal = open(&vfs.crash(&CrashPlan::LOSE_UNSYNCED)).unwrap();
        let torn = matches!(wal.report().tail, TailEnd::Torn { .. });
        let verdict = wal.report().verdict();
        assert_eq!(torn, !with_slot, "{:?}", wal.report());
        assert_eq!(verdict == Verdict::Corrupt, with_slot, "{:?}", wal.report());
    }
}
