//! Snapshot files: built from a view of the state, sent, received, restored. Nothing in here runs
//! on a run loop.

mod build;
mod format;
mod read;
mod receive;
mod store;

use std::sync::Arc;

use raftwerk_storage::vfs::Vfs;

pub(crate) use store::{Outgoing, SnapshotStore};

/// The file system of the operating system.
pub(crate) fn real_disk() -> Arc<dyn Vfs> {
    Arc::new(raftwerk_storage::vfs::RealVfs)
}

/// A uuid for one build of a snapshot: std's hash keys come from the system's randomness.
fn random_u128() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    let half = || u128::from(RandomState::new().hash_one(0_u8));
    (half() << 64) | half()
}
