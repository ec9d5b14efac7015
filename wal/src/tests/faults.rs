//! Disks that refuse: the k-th call fails, for every k.

use raftwerk_raft::{GroupWrite, LogIndex, Storage, SubmitError, Ticket, WriteBatch};
use raftwerk_testkit::fault_vfs::{CrashPlan, Fault, FaultVfs};
use raftwerk_testkit::history::fail_every_call;

use super::sites::{GROUP, append, entry};
use super::workload::{Small, check, open, prepare, run_on};
use crate::Prepared;

#[test]
fn no_failed_call_leads_to_a_false_acknowledgement() {
    let outcome = fail_every_call(
        false,
        open,
        |wal, progress, models| run_on(wal, progress, models, Small::Pages32.history(31), 30),
        |models, known, wal| check(models, known, wal),
    );
    let report = outcome.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.runs > 200, "{report:?}");
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
fn log_opens_on_a_full_disk_again_and_again() {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    prepare(&wal);
    wal.wait(append(&wal, entry(1, 1, 100))).unwrap();
    wal.step_writer();
    drop(wal);
    let mut vfs = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    for _ in 0..4 {
        vfs.set_capacity(Some(0));
        let wal = open(&vfs).unwrap();
        assert_eq!(wal.open_group(GROUP).unwrap().log.last().index, LogIndex(1));
        drop(wal);
        vfs = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    }
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
