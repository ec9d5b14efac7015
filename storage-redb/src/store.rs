//! The store.

use std::fmt;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use raftwerk_raft::{
    LogId, ScanOrder, SnapshotReader, SnapshotSource, StateError, StateOp, StateStats, StateStore,
    View,
};
use raftwerk_storage::checkpoint::ViewStream;
use raftwerk_storage::folder::{Folder, FolderMode, Kind, io_error};
use raftwerk_storage::tree::Tree;
use raftwerk_storage::vfs::{SyncSite, Vfs, VfsFile};
use redb::{Database, Durability, WriteTransaction};

use crate::backend::FileBackend;
use crate::error::{corrupt, failed};
use crate::file::{FileNames, open as open_db};
use crate::head::{DATA, Head, META};
use crate::layers::{Change, Layers};
use crate::restore::{forget_incoming, restore};
use crate::role::Role;
use crate::view::{Base, RedbView};

/// What the folder's identity says.
pub const KIND: Kind = Kind {
    name: "state-redb",
    format_version: 1,
};
/// Makes the name of a new state file durable.
pub const SYNC_NEW_STATE: SyncSite = SyncSite("state-redb: new file");

/// Makes durable what a life that ended without closing the state left.
pub const SYNC_RENEW_STATE: SyncSite = SyncSite("state-redb: renew");
/// Makes the B-tree's pages durable.
pub const SYNC_STATE: SyncSite = SyncSite("state-redb: commit");

const FILE: FileNames = FileNames {
    name: "state.redb",
    temporary: "state.redb.tmp",
    commit: SYNC_STATE,
    rename: SYNC_NEW_STATE,
    renew: SYNC_RENEW_STATE,
};

/// How to open a [`RedbStore`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedbOptions {
    /// The folder.
    pub path: PathBuf,
    /// Whether a missing or empty folder becomes a new store.
    pub mode: FolderMode,
    /// What redb may keep in memory, in bytes, pages that are not yet written included.
    pub cache_bytes: usize,
    /// Bytes of keys and values that gather before they go into the B-tree, and the most that one
    /// commit takes unless a single batch is larger. About three times as much is kept in memory.
    pub write_buffer_bytes: u64,
    /// A batch of so many operations may go into the B-tree past that, where it would gain nothing
    /// by gathering; 64. Of fewer, a commit of their own costs more than it saves.
    pub straight_ops_min: usize,
    /// Whether opening reads the whole file and checks every page. Else what has rotted since the
    /// last close is noticed late or never: redb looks at the pages' checksums at no other time.
    pub check_pages: bool,
}

impl RedbOptions {
    /// A store in `path`, made if missing, with 32 MiB of cache and a write buffer of 8 MiB, its
    /// pages checked at open.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            mode: FolderMode::CreateIfMissing,
            cache_bytes: 32 << 20,
            write_buffer_bytes: 8 << 20,
            straight_ops_min: 64,
            check_pages: true,
        }
    }
}

/// A state store in one redb file.
///
/// What is written goes into a table in memory, which views lay over the B-tree. A table that is
/// full is frozen and goes into the B-tree in order of its keys, a piece with each later write, so
/// that neighbours share a page's copy, what was overwritten is never stored, and no write pays for
/// all of it. The B-tree is of one moment only when all of a frozen table is in it: until then
/// nothing makes it durable. A large batch that would gain nothing there goes straight into the
/// B-tree.
pub struct RedbStore {
    // Before the folder: the file is let go before its lock. Absent only while dropped.
    db: Option<Database>,
    file: Arc<dyn VfsFile>,
    write_buffer_bytes: u64,
    straight_ops_min: usize,
    role: Role,
    state: Mutex<State>,
    folder: Folder,
}

/// What views are made of, and what is known of it.
struct State {
    layers: Layers,
    base: Arc<Base>,
    /// Of all that is written.
    written: Head,
    /// Of the frozen table and what is older: stored with the last piece of it.
    frozen: Head,
    /// The B-tree has the frozen table up to this key.
    moved_to: Option<Bytes>,
    /// What the B-tree says of itself.
    stored: Head,
    durable: LogId,
    /// Batches since the last persist, and whether there was one alone before that.
    batches: u64,
    persisted_each: bool,
    /// Of the last batch.
    last_key: Option<Bytes>,
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
        let file = match FILE.find(&folder)? {
            Some(file) => file,
            None => FILE.create(&folder, fill)?,
        };
        let path = folder.path().join(FILE.name);
        FILE.settle(&file).map_err(io_error("renew", &path))?;
        let backend = FileBackend {
            file: Arc::clone(&file),
            site: SYNC_STATE,
        };
        let db = open_db(backend, options.cache_bytes, options.check_pages)
            .map_err(|error| named(&path, failed("open the state file")(error)))?;
        forget_incoming(&db)?;
        let head = Head::stored(&db)?;
        let state = State {
            layers: Layers::default(),
            base: Arc::new(Base::new(&db)?),
            written: head,
            frozen: head,
            moved_to: None,
            stored: head,
            durable: head.applied,
            batches: 0,
            persisted_each: false,
            last_key: None,
        };
        Ok(Self {
            db: Some(db),
            file,
            write_buffer_bytes: options.write_buffer_bytes,
            straight_ops_min: options.straight_ops_min,
            role: Role::default(),
            state: Mutex::new(state),
            folder,
        })
    }

    /// The folder it is in.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    fn db(&self) -> Result<&Database, StateError> {
        self.db
            .as_ref()
            .ok_or_else(|| corrupt("the store is closed"))
    }

    /// Counts what `ops` do to the bytes of keys and values, and puts them into the active table.
    fn take(&self, ops: &[StateOp], applied: LogId) -> Result<(), StateError> {
        let old = self.old_lengths(ops)?;
        let mut state = self.state.lock();
        let State {
            layers, written, ..
        } = &mut *state;
        for (op, old) in ops.iter().zip(old) {
            let (key, change) = match op {
                StateOp::Put { key, value } => (key, Some(value)),
                StateOp::Delete { key } => (key, None),
                StateOp::DeleteRange { .. } => continue,
            };
            let before = layers.active.insert(own(key), change.map(own));
            // There since before this batch, or by an earlier operation of it.
            let old = before.map_or(old, |change| change.as_ref().map(Bytes::len));
            written.replace(
                old.map(|old| (key.len(), old)),
                change.map(|value| (key.len(), value.len())),
            );
        }
        written.applied = applied;
        Ok(())
    }

    /// How long the values are that the keys of `ops` had before.
    fn old_lengths(&self, ops: &[StateOp]) -> Result<Vec<Option<usize>>, StateError> {
        let (layers, base) = {
            let state = self.state.lock();
            (state.layers.clone(), Arc::clone(&state.base))
        };
        let old = |op: &StateOp| match op {
            StateOp::Put { key, .. } | StateOp::Delete { key } => match layers.find(key) {
                Some(change) => Ok(change.as_ref().map(Bytes::len)),
                None => base.value_len(key),
            },
            StateOp::DeleteRange { .. } => Ok(None),
        };
        ops.iter().map(old).collect()
    }

    /// Freezes the active table when it is full, and moves a piece of the frozen one, larger than
    /// what `ops` brought, so that it is empty before the active one is full again.
    fn flush(&self, ops: &[StateOp]) -> Result<(), StateError> {
        let bytes: usize = ops.iter().map(size).sum();
        // Never nothing: a piece of nothing looks like the end of the table.
        let least = (self.write_buffer_bytes / 8).clamp(1, PIECE_BYTES_MIN);
        let piece = 2 * bytes as u64 + least;
        let full = {
            let mut state = self.state.lock();
            let full = state.layers.active.bytes() >= self.write_buffer_bytes;
            if full && state.layers.frozen.is_empty() {
                state.freeze();
            }
            full && !state.layers.active.is_empty()
        };
        let piece = if full { u64::MAX } else { piece };
        self.move_frozen(piece, Durability::None)
    }

    /// Moves up to about `piece` bytes of the frozen table into the B-tree. `Immediate` only with
    /// all of it.
    fn move_frozen(&self, piece: u64, durability: Durability) -> Result<(), StateError> {
        let (frozen, moved_to, head) = {
            let state = self.state.lock();
            let frozen = state.layers.frozen.clone();
            (frozen, state.moved_to.clone(), state.frozen)
        };
        if frozen.is_empty() {
            return Ok(());
        }
        let db = self.db()?;
        let transaction = begin(db, durability)?;
        let rest = move_piece(&transaction, &frozen, moved_to.as_ref(), piece)?;
        if rest.is_none() {
            write_head(&transaction, head)?;
        }
        transaction.commit().map_err(failed("commit"))?;
        let base = Arc::new(Base::new(db)?);
        let mut state = self.state.lock();
        let before = std::mem::replace(&mut state.base, base);
        if rest.is_none() {
            state.layers.frozen = Tree::default();
            state.stored = head;
        }
        state.moved_to = rest;
        drop(state);
        // Freed here and not under the lock.
        drop((before, frozen));
        Ok(())
    }

    /// Brings everything written into the B-tree, with one commit if nothing was on its way.
    fn empty_layers(&self, durability: Durability) -> Result<Head, StateError> {
        self.move_frozen(u64::MAX, Durability::None)?;
        let (written, moves, stored) = {
            let mut state = self.state.lock();
            let moves = !state.layers.active.is_empty();
            if moves {
                state.freeze();
            }
            (state.written, moves, state.stored)
        };
        if moves {
            self.move_frozen(u64::MAX, durability)?;
        } else if written != stored || matches!(durability, Durability::Immediate) {
            let transaction = begin(self.db()?, durability)?;
            if written != stored {
                write_head(&transaction, written)?;
            }
            transaction.commit().map_err(failed("commit"))?;
            let mut state = self.state.lock();
            state.frozen = written;
            state.stored = written;
        }
        Ok(written)
    }

    /// Whether a batch goes into the B-tree past the table: one that removes ranges, and a large
    /// one that would only be copied by going through it. That is so when it is as large as all
    /// that has gathered (which has to go first) and its keys ascend from where the batch before it
    /// ended, so that neighbours stand together as they are, or when each batch is made durable by
    /// itself, so that none gathers.
    fn goes_straight(&self, ops: &[StateOp]) -> bool {
        let ranges = |op: &StateOp| matches!(op, StateOp::DeleteRange { .. });
        if ops.iter().any(ranges) {
            return true;
        }
        if ops.len() < self.straight_ops_min {
            return false;
        }
        let bytes: usize = ops.iter().map(size).sum();
        let (gathered, persisted_each, goes_on) = {
            let state = self.state.lock();
            let each = state.persisted_each && state.batches == 0;
            let goes_on = ops.first().and_then(key) > state.last_key.as_ref();
            (state.layers.bytes(), each, goes_on)
        };
        gathered <= bytes as u64 && (persisted_each || goes_on && ops.is_sorted_by_key(key))
    }

    /// Puts a batch straight into the B-tree.
    fn write_through(&self, ops: &[StateOp], applied: LogId) -> Result<(), StateError> {
        let mut head = self.empty_layers(Durability::None)?;
        let db = self.db()?;
        let transaction = begin(db, Durability::None)?;
        head.applied = applied;
        {
            let mut data = transaction
                .open_table(DATA)
                .map_err(failed("open the data"))?;
            for op in ops {
                apply(&mut data, op, &mut head)?;
            }
        }
        write_head(&transaction, head)?;
        transaction.commit().map_err(failed("commit"))?;
        self.replace(head, Base::new(db)?);
        Ok(())
    }

    /// The B-tree holds everything.
    fn replace(&self, head: Head, base: Base) {
        let mut state = self.state.lock();
        state.written = head;
        state.frozen = head;
        state.stored = head;
        let layers = std::mem::take(&mut state.layers);
        let before = std::mem::replace(&mut state.base, Arc::new(base));
        drop(state);
        drop((layers, before));
    }
}

impl State {
    /// The frozen table is empty: the active one takes its place.
    fn freeze(&mut self) {
        self.layers.frozen = std::mem::take(&mut self.layers.active);
        self.frozen = self.written;
    }
}

impl Drop for RedbStore {
    /// Half of a frozen table must not become durable: redb makes its last commit so when closed.
    fn drop(&mut self) {
        let whole = self.move_frozen(u64::MAX, Durability::None).is_ok();
        if let (false, Some(db)) = (whole, self.db.take()) {
            // As after a crash: the last durable commit is what is found again.
            std::mem::forget(db);
        }
    }
}

/// The least of a frozen table that a write moves on, in bytes.
const PIECE_BYTES_MIN: u64 = 4 << 10;

/// Where an operation stands; one that removes a range stands nowhere.
fn key(op: &StateOp) -> Option<&Bytes> {
    match op {
        StateOp::Put { key, .. } | StateOp::Delete { key } => Some(key),
        StateOp::DeleteRange { .. } => None,
    }
}

fn size(op: &StateOp) -> usize {
    match op {
        StateOp::Put { key, value } => key.len() + value.len(),
        StateOp::Delete { key } => key.len(),
        StateOp::DeleteRange { .. } => 0,
    }
}

/// Says which file is damaged.
fn named(path: &Path, error: StateError) -> StateError {
    match error {
        StateError::Corrupt { reason } => StateError::Corrupt {
            reason: format!("{}: {reason}", path.display()),
        },
        other => other,
    }
}

/// A copy where keeping the slice would keep a larger buffer alive, as far as that can be told.
fn own(bytes: &Bytes) -> Bytes {
    if bytes.is_unique() {
        bytes.clone()
    } else {
        Bytes::copy_from_slice(bytes)
    }
}

fn begin(db: &Database, durability: Durability) -> Result<WriteTransaction, StateError> {
    let mut transaction = db.begin_write().map_err(failed("begin to write"))?;
    transaction
        .set_durability(durability)
        .map_err(failed("begin to write"))?;
    Ok(transaction)
}

fn write_head(transaction: &WriteTransaction, head: Head) -> Result<(), StateError> {
    let mut meta = transaction
        .open_table(META)
        .map_err(failed("open the records"))?;
    head.write(&mut meta)
}

/// Puts up to about `piece` bytes of what `frozen` has behind `after` into the B-tree; returns how
/// far it came, if not to the end.
fn move_piece(
    transaction: &WriteTransaction,
    frozen: &Tree<Change>,
    after: Option<&Bytes>,
    piece: u64,
) -> Result<Option<Bytes>, StateError> {
    let mut data = transaction
        .open_table(DATA)
        .map_err(failed("open the data"))?;
    let start = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_ref()));
    let mut last = None;
    let mut bytes = 0;
    for (key, change) in frozen.range((start, Bound::Unbounded), ScanOrder::Ascending) {
        if bytes >= piece {
            return Ok(last);
        }
        match change {
            Some(value) => {
                data.insert(key.as_ref(), value.as_ref())
                    .map_err(failed("write a key"))?;
            }
            None => {
                data.remove(key.as_ref()).map_err(failed("remove a key"))?;
            }
        }
        bytes += (key.len() + change.as_ref().map_or(0, Bytes::len)) as u64;
        last = Some(key.clone());
    }
    Ok(None)
}

/// Makes the tables of a new file.
fn fill(backend: FileBackend) -> Result<(), redb::Error> {
    let db = Database::builder().create_with_backend(backend)?;
    let transaction = db.begin_write()?;
    transaction.open_table(DATA)?;
    transaction.open_table(META)?;
    transaction.commit()?;
    Ok(db.close()?)
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
        let _writing = self.role.take();
        if self.goes_straight(ops) {
            self.write_through(ops, applied)?;
        } else {
            self.take(ops, applied)?;
            self.flush(ops)?;
        }
        let last_key = ops.last().and_then(key).map(own);
        let mut state = self.state.lock();
        state.batches += 1;
        if last_key.is_some() {
            state.last_key = last_key;
        }
        Ok(())
    }

    fn view(&self) -> Result<Box<dyn View>, StateError> {
        let state = self.state.lock();
        Ok(Box::new(RedbView {
            base: Arc::clone(&state.base),
            layers: state.layers.clone(),
            applied: state.written.applied,
        }))
    }

    fn persist(&self) -> Result<LogId, StateError> {
        let _writing = self.role.take();
        let head = self.empty_layers(Durability::Immediate)?;
        let mut state = self.state.lock();
        state.durable = head.applied;
        let batches = std::mem::take(&mut state.batches);
        state.persisted_each = batches <= 1;
        Ok(head.applied)
    }

    fn durable_applied(&self) -> Result<LogId, StateError> {
        Ok(self.state.lock().durable)
    }

    fn checkpoint(&self) -> Result<Box<dyn SnapshotSource>, StateError> {
        Ok(Box::new(ViewStream::new(self.view()?)))
    }

    fn restore(&self, source: &mut dyn SnapshotReader) -> Result<LogId, StateError> {
        let _writing = self.role.take();
        // A restore makes durable what the B-tree holds, which must be of one moment.
        self.move_frozen(u64::MAX, Durability::None)?;
        let db = self.db()?;
        let head = restore(db, source)?;
        self.replace(head, Base::new(db)?);
        self.state.lock().durable = head.applied;
        Ok(head.applied)
    }

    fn stats(&self) -> Result<StateStats, StateError> {
        let file_bytes = self.file.len().map_err(|source| StateError::Io {
            operation: "measure the state file",
            source,
        })?;
        let state = self.state.lock();
        Ok(StateStats {
            allocated_bytes: file_bytes.saturating_add(state.layers.bytes()),
            live_bytes: state.written.live_bytes,
        })
    }
}
