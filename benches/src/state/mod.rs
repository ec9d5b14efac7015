//! State stores under one interface: Raftwerk's backends and the bare engines beneath them.

mod bare_redb;
#[cfg(feature = "rocksdb")]
mod bare_rocksdb;
mod load;
mod store;

use std::io;
use std::path::Path;

use bytes::Bytes;
use raftwerk_raft::{SnapshotReader, SnapshotSource};

pub use crate::log::Role;
pub use load::{Apply, Keys, Order, Reads, fill};

/// A key and its value.
pub type Put = (Bytes, Bytes);

/// A store that can be fed.
pub trait StateTarget: Send {
    /// Stores a batch and the index that it was applied for, atomically; not durable yet.
    ///
    /// # Errors
    /// What the store says, in words.
    fn write(&self, puts: Vec<Put>, index: u64) -> Result<(), String>;

    /// Makes durable what was written.
    ///
    /// # Errors
    /// What the store says, in words.
    fn persist(&self) -> Result<(), String>;

    /// Reads one key in a view of its own; the length of its value.
    ///
    /// # Errors
    /// What the store says, in words.
    fn get(&self, key: &[u8]) -> Result<Option<usize>, String>;

    /// Reads up to `count` keys from `from` on, in a view of its own; how many there were.
    ///
    /// # Errors
    /// What the store says, in words.
    fn scan(&self, from: &[u8], count: u64) -> Result<u64, String>;

    /// A stream of everything, where the store has one.
    ///
    /// # Errors
    /// What the store says, in words.
    fn checkpoint(&self) -> Result<Option<Box<dyn SnapshotSource>>, String> {
        Ok(None)
    }

    /// Becomes what the stream holds; durable.
    ///
    /// # Errors
    /// What the store says, in words.
    fn restore(&self, _from: &mut dyn SnapshotReader) -> Result<(), String> {
        Err("this store has no stream".to_owned())
    }
}

/// Opens a store in a folder.
pub type OpenState = fn(&Path) -> Result<Box<dyn StateTarget>, String>;

/// A store that can be measured.
#[derive(Clone, Copy)]
pub struct StateKind {
    /// Its name on the page.
    pub name: &'static str,
    /// What it is.
    pub role: Role,
    /// It keeps something on the disk.
    pub durable: bool,
    /// Opens or makes one.
    pub open: OpenState,
}

/// Every store that this build knows, each bare engine behind its backend.
#[must_use]
pub fn states() -> Vec<StateKind> {
    let kind = |name, role, open: OpenState| StateKind {
        name,
        role,
        durable: true,
        open,
    };
    vec![
        kind("redb", Role::Ours, store::open_redb),
        kind("bare redb", Role::Bare, bare_redb::open),
        #[cfg(feature = "rocksdb")]
        kind("rocksdb", Role::Ours, store::open_rocksdb),
        #[cfg(feature = "rocksdb")]
        kind("bare rocksdb", Role::Bare, bare_rocksdb::open),
        StateKind {
            durable: false,
            ..kind("mem", Role::Ours, store::open_mem)
        },
    ]
}

/// A file as a snapshot's bytes.
pub struct FileReader<R>(pub R);

impl<R: io::Read + Send> SnapshotReader for FileReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_store_keeps_what_was_put_and_finds_it_again() {
        for kind in states() {
            let folder = tempfile::tempdir().unwrap();
            let keys = Keys::new(50, 20);
            let store = (kind.open)(folder.path()).unwrap();
            fill(store.as_ref(), keys.clone(), 16).unwrap();
            store.persist().unwrap();
            let store = if kind.durable {
                drop(store);
                (kind.open)(folder.path()).unwrap()
            } else {
                store
            };
            let name = kind.name;
            assert_eq!(store.get(&keys.key(49)).unwrap(), Some(20), "{name}");
            assert_eq!(store.get(&keys.key(50)).unwrap(), None, "{name}");
            assert_eq!(store.scan(&keys.key(45), 100).unwrap(), 5, "{name}");
            assert_eq!(store.scan(&keys.key(5), 10).unwrap(), 10, "{name}");
        }
    }
}
