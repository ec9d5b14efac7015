//! What is counted.

use raftwerk_raft::{LogIndex, Storage};
use raftwerk_testkit::fault_vfs::FaultVfs;

use super::sites::{GROUP, append, entry};
use super::workload::{open, prepare};
use crate::{SYNC_BATCH, SYNC_SEAL, SYNC_SLOT};

#[test]
fn batches_writes_syncs_and_reads_are_counted() {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    let opening = vfs.syncs_at(SYNC_SLOT);
    prepare(&wal);
    append(&wal, entry(1, 1, 100));
    assert!(wal.stats().queued_bytes > 100);
    for index in 2..=30 {
        let ticket = append(&wal, entry(1, index, 2000));
        wal.wait(ticket).unwrap();
        prepare(&wal);
    }
    wal.step_writer();
    let log = wal.open_group(GROUP).unwrap().log;
    assert_eq!(
        log.read(LogIndex(1)..LogIndex(31), u64::MAX).unwrap().len(),
        30
    );
    let stats = wal.stats();
    assert_eq!((stats.batches, stats.writes, stats.slots), (30, 29, 1));
    assert_eq!(
        stats.syncs,
        vfs.syncs_at(SYNC_BATCH) + vfs.syncs_at(SYNC_SEAL)
    );
    assert_eq!(stats.slots, vfs.syncs_at(SYNC_SLOT) - opening);
    assert_eq!(stats.sync_time.count(), stats.writes);
    assert!(stats.written_bytes > 30 * 2000);
    assert_eq!(stats.segments, wal.engine_segments() as u64);
    assert!(stats.log_bytes > stats.written_bytes / 2);
    assert_eq!((stats.queued_bytes, stats.stalled), (0, false));
    assert!(stats.reads.file > 0);
}
