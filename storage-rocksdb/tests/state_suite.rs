//! The store keeps the contract of state stores; what its home cannot do is printed as skipped.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use raftwerk_raft::{StateError, StateStore};
use raftwerk_storage_rocksdb::{RocksStore, RocksStoreOptions};
use raftwerk_testkit::FolderHome;

fn open(path: &Path) -> Result<Arc<dyn StateStore>, StateError> {
    let options = RocksStoreOptions {
        memtable_bytes: 256 << 10,
        cache_bytes: 1 << 20,
        ..RocksStoreOptions::new(path)
    };
    Ok(Arc::new(RocksStore::open(&options)?))
}

const ELSEWHERE: &str =
    "RocksDB writes its own files: tests/power_cut.rs cuts the power, tests/kill.rs fails syncs";

raftwerk_testkit::state_store_suite!(|| FolderHome::new(ELSEWHERE, open));
