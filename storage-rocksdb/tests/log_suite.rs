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
fn open(path: &Path) -> Result<Arc<dyn Storage>, StorageError> {
    let options = RocksLogOptions {
        queue: QueueOptions {
            queued_bytes_max: 4 * MIB as u64,
            batch_bytes_max: 2 * MIB as u64,
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

raftwerk_testkit::storage_suite!(|| FolderHome::new(ELSEWHERE, open));
