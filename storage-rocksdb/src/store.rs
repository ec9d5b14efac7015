//! The state store.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use raftwerk_raft::{
    LogId, SnapshotReader, SnapshotSource, StateError, StateOp, StateStats, StateStore,
    StorageError, View,
};
use raftwerk_storage::checkpoint::ViewStream;
use raftwerk_storage::folder::{Folder, Kind};
use raftwerk_storage::vfs::RealVfs;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{DB, Options};

use crate::batch::batch;
use crate::error::state;
use crate::generation::{
    DataFolder, Generation, HEAD_KEY, activate, applied, checkpoint_path, open_active,
};
use crate::options::RocksStoreOptions;
use crate::restore::fill;
use crate::sizes::measure;
use crate::view::RocksView;

/// What the folder's identity says.
pub const STATE_KIND: Kind = Kind {
    name: "state-rocksdb",
    format_version: 1,
};

/// A state store in one RocksDB.
pub struct RocksStore {
    // Before the folder: the files are let go before their lock.
    live: RwLock<Arc<Generation>>,
    options: Options,
    /// Up to where the live store is durable.
    durable: Mutex<LogId>,
    /// The last number given to a folder.
    numbers: AtomicU64,
    restoring: AtomicBool,
    folder: Folder,
}

impl fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksStore")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl RocksStore {
    /// Opens or makes a store.
    ///
    /// # Errors
    /// [`StateError::Open`] when the folder is another's, in use, or cannot be read;
    /// [`StateError`] when RocksDB cannot make sense of its files.
    pub fn open(options: &RocksStoreOptions) -> Result<Self, StateError> {
        if options.memtables_max < 2 {
            return Err(StateError::Open(StorageError::Option {
                name: "memtables_max",
                reason: "one is written to disk while another takes writes".to_owned(),
            }));
        }
        let folder = Folder::open(Arc::new(RealVfs), &options.path, STATE_KIND, options.mode)?;
        let engine = options.engine();
        let (number, live) = open_active(&folder, &engine)?;
        let durable = stored_applied(&live.db)?;
        Ok(Self {
            live: RwLock::new(Arc::new(live)),
            options: engine,
            durable: Mutex::new(durable),
            numbers: AtomicU64::new(number),
            restoring: AtomicBool::new(false),
            folder,
        })
    }

    /// The folder it is in.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    fn live(&self) -> Arc<Generation> {
        Arc::clone(&self.live.read())
    }

    fn next_number(&self) -> u64 {
        self.numbers
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1)
    }

    fn replace(&self, source: &mut dyn SnapshotReader) -> Result<LogId, StateError> {
        let number = self.next_number();
        let (new, applied) = fill(&self.folder, number, &self.options, source)?;
        // From here on it may be the one that counts, whatever is said of the attempt.
        new.keep();
        activate(&self.folder, number)?;
        let old = {
            let mut live = self.live.write();
            *self.durable.lock() = applied;
            std::mem::replace(&mut *live, Arc::new(new))
        };
        old.doom();
        Ok(applied)
    }
}

fn stored_applied(db: &DB) -> Result<LogId, StateError> {
    let head = db
        .get_pinned(HEAD_KEY)
        .map_err(state("read the applied id"))?;
    applied(head.as_deref())
}

impl StateStore for RocksStore {
    fn write(&self, ops: &[StateOp], applied: LogId) -> Result<(), StateError> {
        let live = self.live();
        let batch = batch(&live.db, ops, applied)?;
        live.writing("write", |db| db.write_without_wal(batch))
    }

    fn view(&self) -> Result<Box<dyn View>, StateError> {
        Ok(Box::new(RocksView::new(self.live())?))
    }

    fn persist(&self) -> Result<LogId, StateError> {
        let live = self.live();
        let applied = stored_applied(&live.db)?;
        live.writing("sync", |db| db.flush())?;
        let current = self.live.read();
        if Arc::ptr_eq(&current, &live) {
            let mut durable = self.durable.lock();
            *durable = applied.max(*durable);
        }
        Ok(applied)
    }

    fn durable_applied(&self) -> Result<LogId, StateError> {
        Ok(*self.durable.lock())
    }

    fn checkpoint(&self) -> Result<Box<dyn SnapshotSource>, StateError> {
        let live = self.live();
        let number = self.next_number();
        let folder = DataFolder::temporary(checkpoint_path(&self.folder, number))?;
        live.writing("make a checkpoint", |db| {
            Checkpoint::new(db)?.create_checkpoint(&folder.path)
        })?;
        let db = DB::open_for_read_only(&self.options, &folder.path, false)
            .map_err(state("open a checkpoint"))?;
        let linked = Arc::new(Generation::new(db, folder));
        let view = RocksView::new(linked)?;
        Ok(Box::new(ViewStream::new(Box::new(view))))
    }

    fn restore(&self, source: &mut dyn SnapshotReader) -> Result<LogId, StateError> {
        if self.restoring.swap(true, Ordering::AcqRel) {
            return Err(StateError::Io {
                operation: "restore",
                source: std::io::ErrorKind::ResourceBusy.into(),
            });
        }
        let outcome = self.replace(source);
        self.restoring.store(false, Ordering::Release);
        outcome
    }

    fn stats(&self) -> Result<StateStats, StateError> {
        measure(&self.live().db)
    }
}
