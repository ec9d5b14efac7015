//! The store.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use raftwerk_raft::{
    LogId, SnapshotReader, SnapshotSource, StateError, StateOp, StateStats, StateStore, View,
};
use raftwerk_storage::checkpoint::ViewStream;
use raftwerk_storage::folder::{Folder, FolderMode, Kind, io_error};
use raftwerk_storage::vfs::{OpenMode, SyncSite, Vfs, VfsFile};
use redb::{Database, Durability, ReadableDatabase, WriteTransaction};

use crate::backend::FileBackend;
use crate::error::failed;
use crate::head::{DATA, Head, META};
use crate::restore::{forget_incoming, restore};
use crate::view::RedbView;

/// What the folder's identity says.
pub const KIND: Kind = Kind {
    name: "state-redb",
    format_version: 1,
};
/// Makes the name of a new state file durable.
pub const SYNC_NEW_STATE: SyncSite = SyncSite("state-redb: new file");

const STATE_FILE: &str = "state.redb";
const STATE_TEMPORARY: &str = "state.redb.tmp";

/// How to open a [`RedbStore`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedbOptions {
    /// The folder.
    pub path: PathBuf,
    /// Whether a missing or empty folder becomes a new store.
    pub mode: FolderMode,
    /// What redb may keep in memory, in bytes, pages that are not yet written included.
    pub cache_bytes: usize,
}

impl RedbOptions {
    /// A store in `path`, made if missing, with 32 MiB of cache.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            mode: FolderMode::CreateIfMissing,
            cache_bytes: 32 << 20,
        }
    }
}

/// A state store in one redb file.
pub struct RedbStore {
    // Before the folder: the file is let go before its lock.
    db: Database,
    file: Arc<dyn VfsFile>,
    commits: AtomicU64,
    marks: Mutex<Marks>,
    folder: Folder,
}

/// What is written, and what of it is durable.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    written: Mark,
    durable: Mark,
}

/// A commit in the order of redb's single writer, whoever comes to the lock first.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    commit: u64,
    head: Head,
}

impl Mark {
    fn advance(&mut self, to: Self) {
        if to.commit >= self.commit {
            *self = to;
        }
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl RedbStore {
    /// Opens or makes a store.
    ///
    /// # Errors
    /// [`StateError::Open`] when the folder is another's, in use, or cannot be read;
    /// [`StateError`] when redb cannot make sense of its file.
    pub fn open(vfs: Arc<dyn Vfs>, options: &RedbOptions) -> Result<Self, StateError> {
        let folder = Folder::open(Arc::clone(&vfs), &options.path, KIND, options.mode)?;
        let path = folder.path().join(STATE_FILE);
        let file = match vfs.open(&path, OpenMode::Write) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                create(&folder)?;
                vfs.open(&path, OpenMode::Write)
                    .map_err(io_error("open", &path))?
            }
            Err(error) => return Err(io_error("open", &path)(error).into()),
        };
        let file: Arc<dyn VfsFile> = file.into();
        let db = Database::builder()
            .set_cache_size(options.cache_bytes)
            .create_with_backend(FileBackend(Arc::clone(&file)))
            .map_err(failed("open the state file"))?;
        forget_incoming(&db)?;
        let transaction = db.begin_read().map_err(failed("begin to read"))?;
        let head = Head::read(
            &transaction
                .open_table(META)
                .map_err(failed("open the records"))?,
        )?;
        let mark = Mark { commit: 0, head };
        let marks = Mutex::new(Marks {
            written: mark,
            durable: mark,
        });
        Ok(Self {
            db,
            file,
            commits: AtomicU64::new(0),
            marks,
            folder,
        })
    }

    /// The folder it is in.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    fn begin(&self, durability: Durability) -> Result<WriteTransaction, StateError> {
        let mut transaction = self.db.begin_write().map_err(failed("begin to write"))?;
        transaction
            .set_durability(durability)
            .map_err(failed("begin to write"))?;
        Ok(transaction)
    }

    /// The number of the commit that is being made: called by whoever has the write transaction.
    fn next_commit(&self) -> u64 {
        self.commits
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1)
    }
}

/// Makes the state file under a temporary name: under its own name it is always whole.
fn create(folder: &Folder) -> Result<(), StateError> {
    let vfs = folder.vfs();
    let temporary = folder.path().join(STATE_TEMPORARY);
    match vfs.remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(io_error("remove", &temporary)(error).into());
        }
        _ => {}
    }
    let file = vfs
        .open(&temporary, OpenMode::CreateNew)
        .map_err(io_error("create", &temporary))?;
    let db = Database::builder()
        .create_with_backend(FileBackend(file.into()))
        .map_err(failed("make the state file"))?;
    let transaction = db.begin_write().map_err(failed("make the tables"))?;
    transaction
        .open_table(DATA)
        .map_err(failed("make the tables"))?;
    transaction
        .open_table(META)
        .map_err(failed("make the tables"))?;
    transaction.commit().map_err(failed("make the tables"))?;
    db.close().map_err(failed("close the new state file"))?;
    vfs.rename(&temporary, &folder.path().join(STATE_FILE))
        .map_err(io_error("rename", &temporary))?;
    vfs.sync_dir(folder.path(), SYNC_NEW_STATE)
        .map_err(io_error("sync", folder.path()))?;
    Ok(())
}

/// Applies one operation and counts what it does to the live bytes.
fn apply(
    data: &mut redb::Table<'_, &'static [u8], &'static [u8]>,
    op: &StateOp,
    head: &mut Head,
) -> Result<(), StateError> {
    match op {
        StateOp::Put { key, value } => {
            let old = data
                .insert(key.as_ref(), value.as_ref())
                .map_err(failed("write a key"))?;
            let old = old.map(|old| (key.len(), old.value().len()));
            head.replace(old, Some((key.len(), value.len())));
        }
        StateOp::Delete { key } => {
            let old = data.remove(key.as_ref()).map_err(failed("remove a key"))?;
            head.replace(old.map(|old| (key.len(), old.value().len())), None);
        }
        StateOp::DeleteRange { start, end } if start < end => {
            data.retain_in(start.as_ref()..end.as_ref(), |key: &[u8], value: &[u8]| {
                head.replace(Some((key.len(), value.len())), None);
                false
            })
            .map_err(failed("remove a range"))?;
        }
        StateOp::DeleteRange { .. } => {}
    }
    Ok(())
}

impl StateStore for RedbStore {
    fn write(&self, ops: &[StateOp], applied: LogId) -> Result<(), StateError> {
        let transaction = self.begin(Durability::None)?;
        let mut mark = Mark {
            commit: self.next_commit(),
            head: Head::default(),
        };
        {
            let mut meta = transaction
                .open_table(META)
                .map_err(failed("open the records"))?;
            let mut data = transaction
                .open_table(DATA)
                .map_err(failed("open the data"))?;
            mark.head = Head {
                applied,
                ..Head::read(&meta)?
            };
            for op in ops {
                apply(&mut data, op, &mut mark.head)?;
            }
            mark.head.write(&mut meta)?;
        }
        transaction.commit().map_err(failed("commit"))?;
        self.marks.lock().written.advance(mark);
        Ok(())
    }

    fn view(&self) -> Result<Box<dyn View>, StateError> {
        Ok(Box::new(RedbView::new(&self.db)?))
    }

    fn persist(&self) -> Result<LogId, StateError> {
        let transaction = self.begin(Durability::Immediate)?;
        let mut mark = Mark {
            commit: self.next_commit(),
            head: Head::default(),
        };
        {
            let meta = transaction
                .open_table(META)
                .map_err(failed("open the records"))?;
            mark.head = Head::read(&meta)?;
        }
        transaction.commit().map_err(failed("sync"))?;
        self.marks.lock().durable.advance(mark);
        Ok(mark.head.applied)
    }

    fn durable_applied(&self) -> Result<LogId, StateError> {
        Ok(self.marks.lock().durable.head.applied)
    }

    fn checkpoint(&self) -> Result<Box<dyn SnapshotSource>, StateError> {
        Ok(Box::new(ViewStream::new(self.view()?)))
    }

    fn restore(&self, source: &mut dyn SnapshotReader) -> Result<LogId, StateError> {
        let (head, commit) = restore(&self.db, source, || self.next_commit())?;
        let mark = Mark { commit, head };
        let mut marks = self.marks.lock();
        marks.written.advance(mark);
        marks.durable.advance(mark);
        Ok(head.applied)
    }

    fn stats(&self) -> Result<StateStats, StateError> {
        let allocated_bytes = self.file.len().map_err(|source| StateError::Io {
            operation: "measure the state file",
            source,
        })?;
        let live_bytes = self.marks.lock().written.head.live_bytes;
        Ok(StateStats {
            allocated_bytes,
            live_bytes,
        })
    }
}
