//! What tools see of a log, without opening it.

use std::ops::ControlFlow;
use std::path::Path;

use raftwerk_raft::{LogIndex, Storage, StorageError};
use raftwerk_testkit::fault_vfs::{CrashPlan, FaultVfs, Keep};

use super::sites::{append, entry};
use super::workload::{DIR, open, prepare};
use crate::inspect::{Record, dump, verify};
use crate::segment::header::file_name;
use crate::{SYNC_BATCH, Verdict};

fn dir() -> &'static Path {
    Path::new(DIR)
}

#[test]
fn verify_tells_clean_torn_and_corrupt_and_touches_nothing() {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    prepare(&wal);
    for index in 1..=3 {
        wal.wait(append(&wal, entry(1, index, 30))).unwrap();
    }
    let (number, end) = wal.engine_end();
    let refusal = verify(&vfs, dir());
    assert!(matches!(refusal, Err(StorageError::Locked { .. })));
    vfs.disable_sync(SYNC_BATCH);
    wal.wait(append(&wal, entry(1, 4, 2000))).unwrap();
    vfs.enable_sync(SYNC_BATCH);
    let image = vfs.image();
    let torn = image.after(&CrashPlan::PowerLoss {
        data: Keep::First(2),
        names: Keep::All,
    });
    let calls = torn.calls();
    assert_eq!(verify(&torn, dir()).unwrap().verdict(), Verdict::Torn);
    assert_eq!(torn.calls(), calls, "nothing was written");
    let clean = image.after(&CrashPlan::LOSE_UNSYNCED);
    assert_eq!(verify(&clean, dir()).unwrap().verdict(), Verdict::Clean);
    let path = dir().join(file_name(number));
    clean.zero_sector(&path, end / 512 - 2).unwrap();
    let report = verify(&clean, dir()).unwrap();
    assert_eq!(report.verdict(), Verdict::Corrupt, "{report:?}");
    let faulty = &report.damaged_groups[0].faulty;
    assert_eq!(faulty, &[LogIndex(2)..LogIndex(3)], "{report:?}");
}

#[test]
fn dump_shows_every_entry_once() {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    let mut last = 0;
    while wal.engine_segments() < 3 {
        prepare(&wal);
        last += 1;
        wal.wait(append(&wal, entry(1, last, 1500))).unwrap();
    }
    assert_eq!(wal.durable().unwrap().0, last);
    drop(wal);
    let mut seen = Vec::new();
    dump(&vfs, dir(), &mut |record| {
        if let Record::Item {
            entries, intact, ..
        } = record
        {
            assert!(intact);
            seen.extend(entries.start.0..entries.end.0);
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(seen, (1..=last).collect::<Vec<_>>());
}
