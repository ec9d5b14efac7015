//! The store keeps the state stores' contract, on a file system that forgets and fails.
#![allow(missing_docs)]

use std::sync::Arc;

use raftwerk_raft::{StateError, StateStore};
use raftwerk_storage_redb::{RedbOptions, RedbStore};
use raftwerk_testkit::fault_vfs::FaultVfs;

fn open(vfs: &FaultVfs, write_buffer_bytes: u64) -> Result<Arc<dyn StateStore>, StateError> {
    let mut options = RedbOptions::new("/state");
    options.cache_bytes = 1 << 20;
    options.write_buffer_bytes = write_buffer_bytes;
    Ok(Arc::new(RedbStore::open(Arc::new(vfs.clone()), &options)?))
}

/// What is written stays in memory until it is persisted.
mod gathering {
    use raftwerk_testkit::log_suite::VfsHome;

    raftwerk_testkit::state_store_suite!(|| VfsHome::of_state(|vfs| super::open(vfs, 8 << 20)));
}

/// What is written goes on into the B-tree all the time, in pieces.
mod passing_on {
    use raftwerk_testkit::log_suite::VfsHome;

    raftwerk_testkit::state_store_suite!(|| VfsHome::of_state(|vfs| super::open(vfs, 300)));
}
