//! The log keeps the contract of logs; what its home cannot do is printed as skipped.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use raftwerk_raft::{Storage, StorageError};
use raftwerk_storage::queue::QueueOptions;
use raftwerk_storage_rocksdb::{RocksLog, RocksLogOptions};
use raftwerk_testkit::FolderHome;

const MIB: usize = 1 << 20;

/// Small tables and a short tail, so that reads reach the disk.
fn open(path: &Path, batch_bytes_max: usize) -> Result<Arc<dyn Storage>, StorageError> {
    let options = RocksLogOptions {
        queue: QueueOptions {
            queued_bytes_max: 2 * batch_bytes_max as u64,
            batch_bytes_max: batch_bytes_max as u64,
            tail_bytes_max: 512,
            ..QueueOptions::default()
        },
        memtable_bytes: MIB,
        cache_bytes: MIB,
        ..RocksLogOptions::new(path)
    };
    Ok(Arc::new(RocksLog::open(&options)?))
}

const ELSEWHERE: &str =
    "RocksDB writes its own files: tests/power_cut.rs cuts the power, tests/kill.rs fails syncs";

const HELD_ELSEWHERE: &str = "nothing stands between RocksDB and the disk: \
    storage/tests/queue_suite.rs holds the syncs of the queue that this log is built on, over an \
    engine in memory";

/// Random batches in full: `cargo test --profile ci -p raftwerk-storage-rocksdb --features
/// long-tests`.
const IN_FULL: bool = cfg!(feature = "long-tests");

raftwerk_testkit::storage_suite!(|| {
    FolderHome::new(ELSEWHERE, |path: &Path| open(path, 2 * MIB))
        .syncs_held(HELD_ELSEWHERE)
        .in_full(IN_FULL)
});

#[test]
fn entry_of_sixteen_mebibytes_comes_back_whole() {
    let open = |path: &Path| open(path, 17 * MIB);
    let home = move || FolderHome::new(ELSEWHERE, open);
    raftwerk_testkit::log_suite::run("largest_entry_comes_back_whole", &home);
}
