//! The store keeps the state stores' contract, on a file system that forgets and fails.
#![allow(missing_docs)]

use std::sync::Arc;

use raftwerk_raft::StateStore;
use raftwerk_storage_redb::{RedbOptions, RedbStore};
use raftwerk_testkit::log_suite::VfsHome;

raftwerk_testkit::state_store_suite!(|| VfsHome::of_state(|vfs| {
    let mut options = RedbOptions::new("/state");
    options.cache_bytes = 1 << 20;
    let store = RedbStore::open(Arc::new(vfs.clone()), &options)?;
    Ok(Arc::new(store) as Arc<dyn StateStore>)
}));
