//! Entries that are larger than a segment.

use raftwerk_raft::{GroupId, LogIndex, Storage, SubmitError, Ticket, WriteBatch};
use raftwerk_testkit::fault_vfs::{CrashPlan, FaultVfs};

use super::space::{entries, rest, settle, write, write_and_compact};
use super::workload::{open_with, options, prepare};
use crate::{Options, Wal};

fn small() -> Options {
    Options {
        segment_bytes: 16 * 1024,
        batch_bytes_max: 256 * 1024,
        ..options()
    }
}

fn append(index: u64, size: usize) -> WriteBatch {
    WriteBatch {
        groups: vec![write(1, entries(1, index..index + 1, size))],
        ..WriteBatch::default()
    }
}

fn sizes(wal: &Wal) -> Vec<u64> {
    let state = wal.engine_state();
    let segments = state.segments.values();
    segments.map(|segment| segment.header.capacity).collect()
}

#[test]
fn entry_larger_than_a_segment_gets_one_of_its_size() {
    let vfs = FaultVfs::new();
    let wal = open_with(&vfs, small()).unwrap();
    prepare(&wal);
    let mut last = Ticket(0);
    settle(&wal, vec![write(1, entries(1, 1..2, 100))], &mut last);
    // Not what is prepared: refused whole, and the watermark moves when there is a place for it.
    let before = wal.durable().unwrap();
    let Err(SubmitError::Full(refused)) = wal.submit(append(2, 200_000)) else {
        panic!("there is no room")
    };
    assert_eq!(refused, append(2, 200_000));
    rest(&wal);
    assert!(wal.durable().unwrap() > before);
    wal.wait(wal.submit(refused).unwrap()).unwrap();
    for index in 3..80 {
        settle(
            &wal,
            vec![write(1, entries(1, index..index + 1, 500))],
            &mut last,
        );
    }
    let large = sizes(&wal).into_iter().filter(|size| *size > 200_000);
    assert_eq!(large.count(), 1, "{:?}", sizes(&wal));
    assert_eq!(sizes(&wal).last(), Some(&(16 * 1024)));
    let check = |wal: &Wal| {
        let log = wal.open_group(GroupId(1)).unwrap().log;
        let read = log.read(LogIndex(2)..LogIndex(4), u64::MAX).unwrap();
        assert_eq!(
            read.iter()
                .map(|entry| entry.data.len())
                .collect::<Vec<_>>(),
            [200_000, 500]
        );
    };
    check(&wal);
    let wal = open_with(&vfs.crash(&CrashPlan::LOSE_UNSYNCED), small()).unwrap();
    check(&wal);
    rest(&wal);
    // Nobody needs it any more: its file goes.
    for index in 80..160 {
        let append = entries(1, index..index + 1, 500);
        settle(
            &wal,
            vec![write_and_compact(1, append, index - 5)],
            &mut last,
        );
    }
    assert!(
        sizes(&wal).iter().all(|size| *size == 16 * 1024),
        "{:?}",
        sizes(&wal)
    );
}

#[test]
fn batch_beyond_the_limit_is_too_large_before_anything_is_taken() {
    let wal = open_with(&FaultVfs::new(), small()).unwrap();
    prepare(&wal);
    let batch = append(1, 256 * 1024);
    let Err(SubmitError::TooLarge {
        batch: back, max, ..
    }) = wal.submit(batch.clone())
    else {
        panic!("it is larger than a batch may be")
    };
    assert_eq!((back, max), (batch, 256 * 1024));
    assert_eq!(wal.stats().batches, 0);
    assert_eq!(rest(&wal), 0, "no segment is prepared for it");
    let largest = wal.entry_bytes_max().unwrap() as usize;
    assert!(matches!(
        wal.submit(append(1, largest)),
        Err(SubmitError::Full(_))
    ));
    rest(&wal);
    wal.wait(wal.submit(append(1, largest)).unwrap()).unwrap();
}

/// One entry is larger than the pieces in which entries move.
#[test]
fn large_entry_of_an_idle_group_is_moved_too() {
    let vfs = FaultVfs::new();
    let wal = open_with(&vfs, small()).unwrap();
    prepare(&wal);
    let mut last = Ticket(0);
    settle(&wal, vec![write(2, entries(1, 1..2, 100_000))], &mut last);
    for index in 1..2000 {
        let append = entries(1, index..index + 1, 500);
        let write = match index {
            1..6 => write(1, append),
            _ => write_and_compact(1, append, index - 5),
        };
        settle(&wal, vec![write], &mut last);
    }
    assert!(wal.stats().rewritten_bytes > 100_000, "{:?}", wal.stats());
    assert!(wal.stats().log_bytes < 500_000, "{:?}", wal.stats());
    let log = wal.open_group(GroupId(2)).unwrap().log;
    let read = log.read(LogIndex(1)..LogIndex(2), u64::MAX).unwrap();
    assert_eq!(read, entries(1, 1..2, 100_000));
}
