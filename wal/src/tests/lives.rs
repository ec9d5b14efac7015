//! Reads across lives of a log and over disks that fail for a moment.

use std::path::Path;
use std::sync::Arc;

use raftwerk_raft::LogIndex;
use raftwerk_testkit::fault_vfs::{CrashPlan, FaultVfs};

use super::reads::{append, are_held, hold, log, on_disk, read_all, rotate, write_three};
use super::workload::{DIR, keep_prefix, options, prepare};
use crate::segment::format::FRAME_HEADER_BYTES;
use crate::segment::header::file_name;
use crate::{Lost, Wal, Written};

#[test]
fn slice_held_over_another_life_of_the_log_still_reads_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let wal = on_disk(dir.path(), options());
    write_three(&wal);
    let held = hold(&wal);
    drop(wal);
    let wal = on_disk(dir.path(), options());
    rotate(&wal, 20);
    let stats = wal.stats();
    assert!(stats.removed > 5 && stats.recycled > 5, "{stats:?}");
    are_held(&held);
}

#[test]
fn disk_that_cannot_be_read_for_a_moment_costs_nothing_later() {
    let vfs = FaultVfs::new();
    let wal = Wal::open(Arc::new(vfs.clone()), DIR, options()).unwrap();
    write_three(&wal);
    // Without its footer a segment is looked through, and the disk does not give all of it.
    let (segment, footer) = wal.engine_footers()[1];
    let path = Path::new(DIR).join(file_name(segment));
    let bytes = vfs.read_file(&path).unwrap();
    vfs.zero_sector(&path, footer / 512).unwrap();
    vfs.break_sector(&path, footer / 1024).unwrap();
    let all = |group| log(&wal, group).read(LogIndex(1)..LogIndex(301), u64::MAX);
    let short = (1..4).any(|group| all(group).map_or(true, |found| found.len() < 300));
    assert!(short, "the sector holds entries");
    let at = footer / 1024 * 512;
    let sector = &bytes[at as usize..at as usize + 512];
    vfs.poke(&path, at, sector).unwrap();
    for group in 1..4 {
        assert_eq!(read_all(&*log(&wal, group), group, 150, 10), 300);
    }
}

/// A footer repeats what the frames say: rot of one alone loses nothing, in any segment.
#[test]
fn footer_that_has_rotted_costs_no_entry_and_no_vote_at_the_next_open() {
    let vfs = FaultVfs::new();
    let wal = Wal::open(Arc::new(vfs.clone()), DIR, options()).unwrap();
    write_three(&wal);
    while wal.step_writer() != Written::Idle {}
    let footers = wal.engine_footers();
    assert!(footers.len() > 6);
    drop(wal);
    let image = vfs.crash(&CrashPlan::LOSE_UNSYNCED).image();
    for (segment, footer) in footers {
        let path = Path::new(DIR).join(file_name(segment));
        // In what says that it is one, and in what it says.
        for (place, is_footer) in [(20, false), (FRAME_HEADER_BYTES as u64 + 2, true)] {
            let vfs = image.after(&CrashPlan::Kill);
            vfs.flip_bit(&path, footer + place, 3).unwrap();
            let wal = Wal::open(Arc::new(vfs), DIR, options()).unwrap();
            let report = wal.report();
            assert!(report.damaged_groups.is_empty(), "{report:?}");
            assert!(!report.strangers_unknown, "{report:?}");
            let [damage] = report.damage.as_slice() else {
                panic!("one place is damaged: {report:?}");
            };
            assert_eq!((damage.segment, damage.offset >= footer), (segment, true));
            assert_eq!(damage.what == Lost::Footer, is_footer, "{report:?}");
            for group in 1..4 {
                assert_eq!(read_all(&*log(&wal, group), group, 150, 10), 300);
            }
        }
    }
}

#[test]
fn segment_whose_successor_does_not_say_where_it_ends_is_read_all_the_same() {
    let vfs = FaultVfs::new();
    let wal = Wal::open(Arc::new(vfs.clone()), DIR, options()).unwrap();
    write_three(&wal);
    while wal.step_writer() != Written::Idle {}
    let (unsealed, end) = wal.engine_end();
    assert!(end > 2 * 512, "it has more than its first frame");
    drop(wal);
    let second = vfs.crash(&CrashPlan::Kill);
    let wal = Wal::open(Arc::new(second.clone()), DIR, options()).unwrap();
    prepare(&wal);
    append(&wal, 1..4, 301..303, 150);
    while wal.step_writer() != Written::Idle {}
    let newest = wal.engine_end().0;
    assert!(newest > unsealed);
    drop(wal);
    let third = second.crash(&CrashPlan::LOSE_UNSYNCED);
    let path = Path::new(DIR).join(file_name(newest));
    third.flip_bit(&path, 512 + 20, 3).unwrap();
    let wal = Wal::open(Arc::new(third), DIR, keep_prefix()).unwrap();
    assert!(wal.report().damage.iter().any(|one| one.segment == newest));
    for group in 1..4 {
        let found = log(&wal, group).read(LogIndex(1)..LogIndex(301), u64::MAX);
        assert_eq!(found.unwrap().len(), 300, "group {group}");
    }
}
