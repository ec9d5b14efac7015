//! The store keeps the state stores' contract, on a file system that forgets and fails.
#![allow(missing_docs)]

use std::path::PathBuf;
use std::sync::Arc;

use raftwerk_raft::{StateError, StateStore};
use raftwerk_storage::vfs::Vfs;
use raftwerk_storage_redb::{RedbOptions, RedbStore};
use raftwerk_testkit::fault_vfs::FaultVfs;

fn open(
    vfs: Arc<dyn Vfs>,
    path: impl Into<PathBuf>,
    write_buffer_bytes: u64,
    straight_ops_min: usize,
) -> Result<Arc<dyn StateStore>, StateError> {
    let mut options = RedbOptions::new(path);
    options.cache_bytes = 1 << 20;
    options.write_buffer_bytes = write_buffer_bytes;
    options.straight_ops_min = straight_ops_min;
    Ok(Arc::new(RedbStore::open(vfs, &options)?))
}

fn faulty(vfs: &FaultVfs, buffer: u64, straight: usize) -> Result<Arc<dyn StateStore>, StateError> {
    open(Arc::new(vfs.clone()), "/state", buffer, straight)
}

/// What is written stays in memory until it is persisted.
mod gathering {
    use raftwerk_testkit::log_suite::VfsHome;

    raftwerk_testkit::state_store_suite!(|| VfsHome::of_state(|vfs| super::faulty(
        vfs,
        8 << 20,
        usize::MAX
    )));
}

/// What is written goes on into the B-tree all the time, in pieces.
mod passing_on {
    use raftwerk_testkit::log_suite::VfsHome;

    raftwerk_testkit::state_store_suite!(|| VfsHome::of_state(|vfs| super::faulty(
        vfs,
        300,
        usize::MAX
    )));
}

/// Any batch that may goes into the B-tree past what has gathered.
mod straight {
    use raftwerk_testkit::log_suite::VfsHome;

    raftwerk_testkit::state_store_suite!(|| VfsHome::of_state(|vfs| super::faulty(vfs, 3000, 1)));
}

/// As it is by default, on the real file system.
mod on_the_disk {
    use std::path::Path;
    use std::sync::Arc;

    use raftwerk_storage::vfs::RealVfs;
    use raftwerk_testkit::FolderHome;

    raftwerk_testkit::state_store_suite!(|| FolderHome::new(
        "the other modules of this suite run on a file system that forgets and fails",
        |path: &Path| super::open(Arc::new(RealVfs), path, 8 << 20, 64)
    ));
}
