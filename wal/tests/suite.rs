//! The conformance suite of all log backends, on a disk in memory that forgets.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use raftwerk_raft::{Storage, StorageError};
use raftwerk_testkit::fault_vfs::FaultVfs;
use raftwerk_testkit::log_suite::VfsHome;
use raftwerk_wal::{Options, Wal};

fn options() -> Options {
    Options {
        segment_bytes: 4 * 1024 * 1024,
        batch_bytes_max: 1280 * 1024,
        ..Options::default()
    }
}

fn open_with(vfs: &FaultVfs, options: Options) -> Result<Arc<dyn Storage>, StorageError> {
    Ok(Arc::new(Wal::open(Arc::new(vfs.clone()), "log", options)?))
}

fn open(vfs: &FaultVfs) -> Result<Arc<dyn Storage>, StorageError> {
    open_with(vfs, options())
}

raftwerk_testkit::storage_suite!(|| VfsHome::new(open));

/// Hardly anything stays in memory: a read takes its front from the disk and the rest from there.
#[test]
fn read_from_disk_and_memory_is_of_one_moment() {
    let open = |vfs: &FaultVfs| -> Result<Arc<dyn Storage>, StorageError> {
        let options = Options {
            group_tail_bytes_max: 1024,
            ..options()
        };
        open_with(vfs, options)
    };
    let name = "read_gives_what_stood_in_the_log_at_one_moment";
    raftwerk_testkit::log_suite::run(name, &move || VfsHome::new(open));
}

#[test]
fn entry_of_sixteen_mebibytes_comes_back_whole() {
    let open = |vfs: &FaultVfs| -> Result<Arc<dyn Storage>, StorageError> {
        let options = Options {
            batch_bytes_max: 17 * 1024 * 1024,
            ..options()
        };
        open_with(vfs, options)
    };
    let name = "largest_entry_comes_back_whole";
    raftwerk_testkit::log_suite::run(name, &move || VfsHome::new(open));
}
