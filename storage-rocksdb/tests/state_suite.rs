//! The store keeps the contract of state stores; what its home cannot do is printed as skipped.
#![allow(missing_docs, clippy::unwrap_used)]

mod home;

use std::path::Path;
use std::sync::Arc;

use home::DiskHome;
use raftwerk_raft::{StateError, StateStore};
use raftwerk_storage_rocksdb::{RocksStore, RocksStoreOptions};

fn open(path: &Path) -> Result<Arc<dyn StateStore>, StateError> {
    let options = RocksStoreOptions {
        memtable_bytes: 256 << 10,
        cache_bytes: 1 << 20,
        ..RocksStoreOptions::new(path)
    };
    Ok(Arc::new(RocksStore::open(&options)?))
}

raftwerk_testkit::state_store_suite!(|| DiskHome::new(open));
