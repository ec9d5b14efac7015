//! What compaction frees is used again, and the offline compaction gives the rest back.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use raftwerk_raft::{
    Durability, Entry, GroupId, GroupWrite, LogId, LogIndex, SnapshotMeta, Storage, StorageError,
    Term, WriteBatch,
};
use raftwerk_storage::folder::FolderMode;
use raftwerk_storage::vfs::RealVfs;
use raftwerk_storage_redb::{RedbLog, RedbLogOptions, RedbOptions, RedbStore, compact_log};
use tempfile::TempDir;

const GROUPS: u64 = 4;
/// What each group has at the most, in entries.
const LIVE: u64 = 4000;
const ROUND: u64 = 100;
/// How often everything is replaced; a hundred times with `cargo test --profile ci -p
/// raftwerk-storage-redb --features long-tests`.
const TIMES: u64 = if cfg!(feature = "long-tests") {
    100
} else {
    25
};
/// How many quarters of that are written: the first four fill the log, the others replace it.
const QUARTERS: u64 = 4 + 4 * TIMES;

fn open(dir: &TempDir) -> RedbLog {
    let mut options = RedbLogOptions::new(dir.path().join("log"));
    options.cache_bytes = 8 << 20;
    options.queue.tail_bytes_max = 0;
    RedbLog::open(Arc::new(RealVfs), &options).unwrap()
}

fn data(group: u64, index: u64) -> Vec<u8> {
    let size = 100 + (index * 7 + group) % 200;
    vec![index as u8; size as usize]
}

/// Appends up to `to` in every group, by rounds, and drops what is behind the last `LIVE`.
fn fill(log: &RedbLog, from: u64, to: u64) {
    for first in (from..=to).step_by(ROUND as usize) {
        let step = |group| {
            let id = |index| LogId::new(Term(1), LogIndex(index));
            let entry = |index| Entry::normal(id(index), data(group, index).into());
            let mut write = GroupWrite {
                group: GroupId(group),
                append: (first..first + ROUND).map(entry).collect(),
                ..GroupWrite::default()
            };
            if let Some(gone) = (first + ROUND - 1)
                .checked_sub(LIVE)
                .filter(|gone| *gone > 0)
            {
                write.snapshot = Some(SnapshotMeta {
                    last: id(gone),
                    ..SnapshotMeta::default()
                });
                write.compact_to = Some(LogIndex(gone));
            }
            write
        };
        let batch = WriteBatch {
            groups: (0..GROUPS).map(step).collect(),
            durability: Durability::Sync,
        };
        log.wait(log.submit(batch).unwrap()).unwrap();
    }
}

#[test]
fn file_stays_under_twice_the_peak_of_live_bytes_and_shrinks_offline() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir);
    let live: u64 = (1..=LIVE)
        .flat_map(|index| (0..GROUPS).map(move |group| data(group, index).len() as u64))
        .sum();
    let mut peak = 0;
    // A quarter of everything at a time.
    for quarter in 0..QUARTERS {
        let from = 1 + quarter * LIVE / 4;
        fill(&log, from, from + LIVE / 4 - 1);
        peak = peak.max(log.file_bytes().unwrap());
    }
    assert!(peak < 2 * live, "{peak} bytes of file for {live} alive");
    // All but the last round goes.
    let last = QUARTERS * LIVE / 4;
    for group in 0..GROUPS {
        let to = last - ROUND;
        let write = GroupWrite {
            group: GroupId(group),
            snapshot: Some(SnapshotMeta {
                last: LogId::new(Term(1), LogIndex(to)),
                ..SnapshotMeta::default()
            }),
            compact_to: Some(LogIndex(to)),
            ..GroupWrite::default()
        };
        let batch = WriteBatch {
            groups: vec![write],
            durability: Durability::Sync,
        };
        log.wait(log.submit(batch).unwrap()).unwrap();
    }
    drop(log);
    let done = compact_log(Arc::new(RealVfs), dir.path().join("log")).unwrap();
    assert!(done.bytes_after * 4 < done.bytes_before, "{done:?}");
    let log = open(&dir);
    for group in 0..GROUPS {
        let open = log.open_group(GroupId(group)).unwrap();
        assert_eq!(open.state.last.index, LogIndex(last));
        let range = open.state.first..LogIndex(last + 1);
        let found = open.log.read(range, u64::MAX).unwrap();
        assert_eq!(found.len() as u64, ROUND);
        assert!(
            found
                .iter()
                .all(|entry| entry.data == data(group, entry.index().0))
        );
    }
}

#[test]
fn folders_of_log_and_state_are_told_apart() {
    let dir = TempDir::new().unwrap();
    drop(open(&dir));
    let state = RedbStore::open(Arc::new(RealVfs), &RedbOptions::new(dir.path().join("log")));
    let refusal = state.unwrap_err().to_string();
    assert!(refusal.contains("log-redb"), "{refusal}");
    let state = dir.path().join("state");
    drop(RedbStore::open(Arc::new(RealVfs), &RedbOptions::new(&state)).unwrap());
    let refusal = RedbLog::open(Arc::new(RealVfs), &RedbLogOptions::new(&state)).unwrap_err();
    assert!(
        matches!(refusal, StorageError::WrongStore { .. }),
        "{refusal}"
    );
    let mut options = RedbLogOptions::new(dir.path().join("none"));
    options.mode = FolderMode::MustExist;
    assert!(RedbLog::open(Arc::new(RealVfs), &options).is_err());
    let locked = open(&dir);
    let refusal = compact_log(Arc::new(RealVfs), dir.path().join("log")).unwrap_err();
    assert!(matches!(refusal, StorageError::Locked { .. }), "{refusal}");
    drop(locked);
}
