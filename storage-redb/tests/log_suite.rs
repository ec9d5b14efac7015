//! The log keeps the logs' contract, on a file system that forgets and fails.
#![allow(missing_docs)]

use std::path::PathBuf;
use std::sync::Arc;

use raftwerk_raft::{Storage, StorageError};
use raftwerk_storage::queue::QueueOptions;
use raftwerk_storage::vfs::Vfs;
use raftwerk_storage_redb::{RedbLog, RedbLogOptions};
use raftwerk_testkit::fault_vfs::FaultVfs;
use raftwerk_testkit::log_suite::VfsHome;

fn open(
    vfs: Arc<dyn Vfs>,
    path: impl Into<PathBuf>,
    tail_bytes_max: u64,
    batch_bytes_max: u64,
) -> Result<Arc<dyn Storage>, StorageError> {
    let mut options = RedbLogOptions::new(path);
    options.cache_bytes = 1 << 20;
    options.queue = QueueOptions {
        queued_bytes_max: 2 * batch_bytes_max,
        batch_bytes_max,
        tail_bytes_max,
        ..QueueOptions::default()
    };
    Ok(Arc::new(RedbLog::open(vfs, &options)?))
}

fn faulty(vfs: &FaultVfs, tail_bytes_max: u64) -> Result<Arc<dyn Storage>, StorageError> {
    open(Arc::new(vfs.clone()), "/log", tail_bytes_max, 4 << 20)
}

#[test]
fn entry_of_sixteen_mebibytes_comes_back_whole() {
    let open = |vfs: &FaultVfs| open(Arc::new(vfs.clone()), "/log", 0, 17 << 20);
    let home = move || VfsHome::new(open);
    raftwerk_testkit::log_suite::run("largest_entry_comes_back_whole", &home);
}

mod read_from_memory {
    raftwerk_testkit::storage_suite!(|| super::VfsHome::new(|vfs| super::faulty(vfs, 1 << 20)));
}

mod read_from_the_file {
    raftwerk_testkit::storage_suite!(|| super::VfsHome::new(|vfs| super::faulty(vfs, 0)));
}

mod on_the_disk {
    use std::path::Path;
    use std::sync::Arc;

    use raftwerk_storage::vfs::RealVfs;
    use raftwerk_testkit::FolderHome;

    raftwerk_testkit::storage_suite!(|| FolderHome::new(
        "the other modules of this suite run on a file system that forgets and fails",
        |path: &Path| super::open(Arc::new(RealVfs), path, 0, 4 << 20)
    )
    .in_full(cfg!(feature = "long-tests")));
}
