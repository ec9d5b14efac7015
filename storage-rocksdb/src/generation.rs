//! The folders of a state store: one RocksDB each, of which one is the store.
//!
//! A restore fills a new one beside the old, and a file that is replaced by a rename names the
//! one that counts. So a restore that breaks has changed nothing, and views of the old keep it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use raftwerk_raft::{LogId, LogIndex, StateError, StorageError, Term};
use raftwerk_storage::folder::{Folder, io_error, replace_file};
use raftwerk_storage::vfs::{OpenMode, SyncSite};
use rocksdb::{DB, Options};

use crate::error;
use crate::manifest;

/// Makes the name of a new store's folder durable before it is named as the one that counts.
const SYNC_DATA: SyncSite = SyncSite("state-rocksdb: new folder");
/// Makes the bytes of the file that names it durable.
const SYNC_ACTIVE: SyncSite = SyncSite("state-rocksdb: name of the store");
/// Makes its rename durable.
const SYNC_RENAME: SyncSite = SyncSite("state-rocksdb: rename");

const ACTIVE_FILE: &str = "ACTIVE";
const ACTIVE_TEMPORARY: &str = "ACTIVE.tmp";
const ACTIVE_BYTES_MAX: usize = 64;
/// What the folders are called, before their number.
const DATA: &str = "data-";
pub(crate) const INCOMING: &str = "incoming-";
const CHECKPOINT: &str = "checkpoint-";

/// The key of our own record; a user's keys stand behind it.
pub(crate) const HEAD_KEY: [u8; 1] = [0];
/// What comes before each of a user's keys.
pub(crate) const USER: u8 = 1;
/// The first key behind all of a user's.
pub(crate) const BEHIND_USER: [u8; 1] = [2];

/// A RocksDB in a folder.
pub(crate) struct Generation {
    // Before the folder: it is closed before that goes.
    pub(crate) db: DB,
    folder: DataFolder,
    /// A write or sync failed.
    failed: AtomicBool,
}

/// A folder that goes when it is no longer needed.
#[derive(Debug)]
pub(crate) struct DataFolder {
    pub(crate) path: PathBuf,
    doomed: AtomicBool,
}

impl DataFolder {
    /// A folder that goes with this value unless it is kept. Whatever is there already goes now.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn temporary(path: PathBuf) -> Result<Self, StateError> {
        remove(&path).map_err(error::io("remove an old folder"))?;
        Ok(Self {
            path,
            doomed: AtomicBool::new(true),
        })
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        if self.doomed.load(Ordering::Relaxed) {
            // What cannot be removed now is by the next open.
            let _ = remove(&self.path);
        }
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Generation {
    pub(crate) fn new(db: DB, folder: DataFolder) -> Self {
        Self {
            db,
            folder,
            failed: AtomicBool::new(false),
        }
    }

    /// An empty one that goes with this value unless it is kept.
    pub(crate) fn create(
        home: &Folder,
        number: u64,
        options: &Options,
    ) -> Result<Self, StateError> {
        let folder = DataFolder::temporary(data_path(home.path(), number))?;
        let mut options = options.clone();
        options.create_if_missing(true);
        options.set_error_if_exists(true);
        let db = DB::open(&options, &folder.path).map_err(error::state("make the store"))?;
        Ok(Self::new(db, folder))
    }

    /// The folder stays when this is dropped.
    pub(crate) fn keep(&self) {
        self.folder.doomed.store(false, Ordering::Relaxed);
    }

    /// The folder goes when the last view of it does.
    pub(crate) fn doom(&self) {
        self.folder.doomed.store(true, Ordering::Relaxed);
    }

    /// What `operation` says; after it has failed once nothing is written here any more.
    pub(crate) fn writing<T>(
        &self,
        operation: &'static str,
        write: impl FnOnce(&DB) -> Result<T, rocksdb::Error>,
    ) -> Result<T, StateError> {
        if self.failed.load(Ordering::Acquire) {
            return Err(StateError::Io {
                operation,
                source: std::io::Error::other("an earlier write failed; open the store again"),
            });
        }
        write(&self.db).map_err(|error| {
            self.failed.store(true, Ordering::Release);
            error::state(operation)(error)
        })
    }
}

/// The applied id as stored.
pub(crate) fn put_applied(applied: LogId) -> [u8; 20] {
    let mut head = [0; 20];
    head[..8].copy_from_slice(&applied.term.0.to_le_bytes());
    head[8..16].copy_from_slice(&applied.index.0.to_le_bytes());
    let crc = crc32fast::hash(&head[..16]);
    head[16..].copy_from_slice(&crc.to_le_bytes());
    head
}

/// Reads what [`put_applied`] wrote; a store without it has applied nothing.
pub(crate) fn applied(stored: Option<&[u8]>) -> Result<LogId, StateError> {
    let Some(stored) = stored else {
        return Ok(LogId::ZERO);
    };
    let (numbers, _) = stored.as_chunks::<8>();
    if let [term, index] = numbers {
        let id = LogId::new(
            Term(u64::from_le_bytes(*term)),
            LogIndex(u64::from_le_bytes(*index)),
        );
        if put_applied(id) == *stored {
            return Ok(id);
        }
    }
    Err(StateError::Corrupt {
        reason: "the applied id is damaged".to_owned(),
    })
}

/// A user's key as RocksDB gets it.
pub(crate) fn user_key(key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.push(USER);
    out.extend_from_slice(key);
}

fn data_path(home: &Path, number: u64) -> PathBuf {
    home.join(format!("{DATA}{number}"))
}

pub(crate) fn numbered(home: &Folder, what: &str, number: u64) -> PathBuf {
    home.path().join(format!("{what}{number}"))
}

pub(crate) fn checkpoint_path(home: &Folder, number: u64) -> PathBuf {
    numbered(home, CHECKPOINT, number)
}

/// The store that counts: its number and itself. A new home gets one, and whatever broken
/// restores and checkpoints left is removed.
pub(crate) fn open_active(
    home: &Folder,
    options: &Options,
) -> Result<(u64, Generation), StateError> {
    let active = read_active(home)?;
    let names = home
        .vfs()
        .list(home.path())
        .map_err(io_error("list", home.path()))?;
    let kept = active.map(|number| format!("{DATA}{number}"));
    for name in names.iter().filter(|name| Some(*name) != kept.as_ref()) {
        if [DATA, INCOMING, CHECKPOINT]
            .iter()
            .any(|known| name.starts_with(known))
        {
            let path = home.path().join(name);
            remove(&path).map_err(io_error("remove", &path))?;
        }
    }
    let Some(number) = active else {
        let first = Generation::create(home, 0, options)?;
        activate(home, 0)?;
        first.keep();
        return Ok((0, first));
    };
    let path = data_path(home.path(), number);
    manifest::check(&path)?;
    let db = DB::open(options, &path).map_err(error::storage("open", &path))?;
    let folder = DataFolder {
        path,
        doomed: AtomicBool::new(false),
    };
    Ok((number, Generation::new(db, folder)))
}

fn read_active(home: &Folder) -> Result<Option<u64>, StorageError> {
    let path = home.path().join(ACTIVE_FILE);
    let file = match home.vfs().open(&path, OpenMode::Read) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(io_error("open", &path))?,
    };
    let mut text = [0; ACTIVE_BYTES_MAX];
    let count = file
        .read_at(0, &mut text)
        .map_err(io_error("read", &path))?;
    let text = text.get(..count).unwrap_or_default();
    let number = std::str::from_utf8(text).ok().and_then(|text| {
        let number = text.split_whitespace().next()?.parse().ok()?;
        (active_text(number) == text).then_some(number)
    });
    number.map(Some).ok_or_else(|| StorageError::Corrupt {
        path: path.display().to_string(),
        offset: 0,
        reason: "it does not say which store counts".to_owned(),
    })
}

fn active_text(number: u64) -> String {
    let crc = crc32fast::hash(&number.to_le_bytes());
    format!("{number} {crc:08x}\n")
}

/// Makes the store of that number the one that counts, durably.
pub(crate) fn activate(home: &Folder, number: u64) -> Result<(), StorageError> {
    let (vfs, path) = (home.vfs(), home.path());
    // The store itself, before anything names it.
    vfs.sync_dir(path, SYNC_DATA)
        .map_err(io_error("sync", path))?;
    let text = active_text(number);
    let names = (ACTIVE_FILE, ACTIVE_TEMPORARY);
    replace_file(vfs.as_ref(), path, names, text.as_bytes(), SYNC_ACTIVE)?;
    vfs.sync_dir(path, SYNC_RENAME)
        .map_err(io_error("sync", path))
}
