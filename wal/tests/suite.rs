//! The conformance suite of all log backends, on a disk in memory that forgets.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use raftwerk_raft::{Storage, StorageError};
use raftwerk_testkit::fault_vfs::FaultVfs;
use raftwerk_testkit::log_suite::VfsHome;
use raftwerk_wal::{Options, Wal};

fn open(vfs: &FaultVfs) -> Result<Arc<dyn Storage>, StorageError> {
    let options = Options {
        segment_bytes: 4 * 1024 * 1024,
        batch_bytes_max: 1280 * 1024,
        ..Options::default()
    };
    Ok(Arc::new(Wal::open(Arc::new(vfs.clone()), "log", options)?))
}

raftwerk_testkit::storage_suite!(|| VfsHome::new(open));
