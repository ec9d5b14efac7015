//! What compaction frees is given back, and no removal of a range stays behind.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::fs;
use std::path::Path;

use raftwerk_raft::{
    Durability, Entry, GroupId, GroupWrite, LogId, LogIndex, SnapshotMeta, Storage, Term,
    WriteBatch,
};
use raftwerk_storage_rocksdb::{RocksLog, RocksLogOptions};
use rocksdb::{DB, properties};
use tempfile::TempDir;

const GROUPS: u64 = 4;
/// What each group has at the most, in entries.
const LIVE: u64 = 2000;
const ROUND: u64 = 100;
const CYCLES: u64 = 300;
const MEMTABLE_BYTES: usize = 256 << 10;

fn options(path: &Path) -> RocksLogOptions {
    let mut options = RocksLogOptions::new(path);
    options.memtable_bytes = MEMTABLE_BYTES;
    options.cache_bytes = 1 << 20;
    options.queue.tail_bytes_max = 0;
    options
}

fn data(group: u64, index: u64) -> Vec<u8> {
    let size = 100 + (index * 7 + group) % 200;
    let mut state = index ^ (group << 40) | 1;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..size).map(byte).collect()
}

/// Appends a round and drops what is behind the last `LIVE`.
fn step(group: u64, first: u64) -> GroupWrite {
    let id = |index| LogId::new(Term(1), LogIndex(index));
    let entry = |index| Entry::normal(id(index), data(group, index).into());
    let mut write = GroupWrite {
        group: GroupId(group),
        append: (first..first + ROUND).map(entry).collect(),
        ..GroupWrite::default()
    };
    let gone = (first + ROUND - 1).checked_sub(LIVE);
    if let Some(gone) = gone.filter(|gone| *gone > 0) {
        write.snapshot = Some(SnapshotMeta {
            last: id(gone),
            ..SnapshotMeta::default()
        });
        write.compact_to = Some(LogIndex(gone));
    }
    write
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => bytes_below(&entry.path()),
            // Gone meanwhile.
            found => found.map_or(0, |found| found.len()),
        })
        .sum()
}

fn submit(log: &RocksLog, groups: Vec<GroupWrite>) {
    let batch = WriteBatch {
        groups,
        durability: Durability::Sync,
    };
    log.wait(log.submit(batch).unwrap()).unwrap();
}

#[test]
fn folder_stays_bounded_over_many_cycles_without_a_range_tombstone() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("log");
    let log = RocksLog::open(&options(&path)).unwrap();
    let live: u64 = (1..=LIVE)
        .flat_map(|index| (0..GROUPS).map(move |group| data(group, index).len() as u64))
        .sum();
    let mut peaks = [0, 0];
    let mut written = 0;
    // A quarter is replaced again and again, each time with a truncation in every group.
    for cycle in 0..CYCLES {
        for round in 0..LIVE / 4 / ROUND {
            let first = 1 + (cycle * (LIVE / 4 / ROUND) + round) * ROUND;
            submit(&log, (0..GROUPS).map(|group| step(group, first)).collect());
            written += live * ROUND / LIVE;
        }
        let last = (cycle + 1) * LIVE / 4;
        let cut = |group| GroupWrite {
            append: vec![Entry::normal(
                LogId::new(Term(1), LogIndex(last)),
                data(group, last).into(),
            )],
            group: GroupId(group),
            ..GroupWrite::default()
        };
        submit(&log, (0..GROUPS).map(cut).collect());
        let half = &mut peaks[usize::from(cycle >= CYCLES / 2)];
        *half = bytes_below(&path.join("db")).max(*half);
    }
    let peak = peaks[0].max(peaks[1]);
    // Eight tables, each of two tables in memory, wait for a merge with the four below them, as
    // many more come while it runs, and until it ends its outcome is there as well; tables in
    // memory have their write-ahead files, and some of those are kept to be used again.
    let waiting = 64 * MEMTABLE_BYTES as u64;
    assert!(peak < 2 * live + waiting, "{peak} bytes for {live} alive");
    assert!(
        peaks[1] < peaks[0] * 3 / 2,
        "{peaks:?} bytes, {written} written"
    );
    assert!(written > 3 * peak, "{written} written, {peak} kept");
    drop(log);
    let raw = DB::open(&options(&path).engine(), path.join("db")).unwrap();
    let text = raw.property_value(properties::AGGREGATED_TABLE_PROPERTIES);
    let text = text.unwrap().unwrap();
    assert!(text.contains("# range deletions=0;"), "{text}");
    drop(raw);
    let log = RocksLog::open(&options(&path)).unwrap();
    for group in 0..GROUPS {
        let open = log.open_group(GroupId(group)).unwrap();
        assert_eq!(open.state.last.index, LogIndex(CYCLES * LIVE / 4));
        assert!(open.state.health.is_intact());
    }
}
