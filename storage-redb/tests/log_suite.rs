//! The log keeps the logs' contract, on a file system that forgets and fails.
#![allow(missing_docs)]

use std::sync::Arc;

use raftwerk_raft::{Storage, StorageError};
use raftwerk_storage::queue::QueueOptions;
use raftwerk_storage_redb::{RedbLog, RedbLogOptions};
use raftwerk_testkit::fault_vfs::FaultVfs;
use raftwerk_testkit::log_suite::VfsHome;

fn open(vfs: &FaultVfs, tail_bytes_max: u64) -> Result<Arc<dyn Storage>, StorageError> {
    let mut options = RedbLogOptions::new("/log");
    options.cache_bytes = 1 << 20;
    options.queue = QueueOptions {
        queued_bytes_max: 8 << 20,
        batch_bytes_max: 4 << 20,
        tail_bytes_max,
        ..QueueOptions::default()
    };
    let log = RedbLog::open(Arc::new(vfs.clone()), &options)?;
    Ok(Arc::new(log))
}

mod read_from_memory {
    raftwerk_testkit::storage_suite!(|| super::VfsHome::new(|vfs| super::open(vfs, 1 << 20)));
}

mod read_from_the_file {
    raftwerk_testkit::storage_suite!(|| super::VfsHome::new(|vfs| super::open(vfs, 0)));
}
