//! Raftwerk's own backends, all behind `dyn StateStore`.

use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;

use raftwerk_raft::{
    ScanOrder, SnapshotReader, SnapshotSource, StateError, StateOp, StateStore, View,
};
use raftwerk_storage::vfs::RealVfs;
use raftwerk_storage_mem::MemStore;
use raftwerk_storage_redb::{RedbOptions, RedbStore};
#[cfg(feature = "rocksdb")]
use raftwerk_storage_rocksdb::{RocksStore, RocksStoreOptions};

use super::{Put, StateTarget};
use crate::log::{log_id, words};

/// The store on redb.
pub(super) fn open_redb(folder: &Path) -> Result<Box<dyn StateTarget>, String> {
    let options = RedbOptions::new(folder.join("state"));
    let store = RedbStore::open(Arc::new(RealVfs), &options).map_err(words)?;
    Ok(Box::new(Store(Arc::new(store))))
}

/// The store on RocksDB.
#[cfg(feature = "rocksdb")]
pub(super) fn open_rocksdb(folder: &Path) -> Result<Box<dyn StateTarget>, String> {
    let options = RocksStoreOptions::new(folder.join("state"));
    let store = RocksStore::open(&options).map_err(words)?;
    Ok(Box::new(Store(Arc::new(store))))
}

/// The store in memory.
pub(super) fn open_mem(_folder: &Path) -> Result<Box<dyn StateTarget>, String> {
    Ok(Box::new(Store(Arc::new(MemStore::new()))))
}

/// Any [`StateStore`].
struct Store(Arc<dyn StateStore>);

impl StateTarget for Store {
    fn write(&self, puts: Vec<Put>, index: u64) -> Result<(), String> {
        let ops: Vec<StateOp> = puts
            .into_iter()
            .map(|(key, value)| StateOp::Put { key, value })
            .collect();
        self.0.write(&ops, log_id(index)).map_err(words)
    }

    fn persist(&self) -> Result<(), String> {
        self.0.persist().map_err(words).map(|_| ())
    }

    fn get(&self, key: &[u8]) -> Result<Option<usize>, String> {
        let value = self.0.view().and_then(|view| view.get(key));
        Ok(value.map_err(words)?.map(|value| value.len()))
    }

    fn scan(&self, from: &[u8], count: u64) -> Result<u64, String> {
        let mut found = 0;
        let mut bytes = 0;
        let mut visit = |key: &[u8], value: &[u8]| {
            found += 1;
            bytes += key.len() + value.len();
            if found == count {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let range = (Bound::Included(from), Bound::Unbounded);
        let scanned: Result<(), StateError> = self
            .0
            .view()
            .and_then(|view: Box<dyn View>| view.scan(range, ScanOrder::Ascending, &mut visit));
        scanned.map_err(words)?;
        std::hint::black_box(bytes);
        Ok(found)
    }

    fn checkpoint(&self) -> Result<Option<Box<dyn SnapshotSource>>, String> {
        self.0.checkpoint().map(Some).map_err(words)
    }

    fn restore(&self, from: &mut dyn SnapshotReader) -> Result<(), String> {
        self.0.restore(from).map_err(words).map(|_| ())
    }
}
