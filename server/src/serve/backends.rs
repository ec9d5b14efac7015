//! The log and the state store that the flags name.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;

use raftwerk::Incarnation;
use raftwerk_raft::{StateError, StateStore, Storage, StorageError};
use raftwerk_storage::folder::{Folder, StoreUuid};
use raftwerk_storage::vfs::{RealVfs, Vfs};
use raftwerk_storage_mem::{MemLog, MemLogOptions, MemStore};
use raftwerk_storage_redb::{RedbLog, RedbLogOptions, RedbOptions, RedbStore};
use raftwerk_wal::Wal;

use crate::cli::CliError;
use crate::config::{AmbiguousTail, LogBackend, Settings, StoreBackend};

/// The log's folder in a member's.
pub(crate) const LOG_DIR: &str = "log";
/// The state store's.
pub(crate) const STATE_DIR: &str = "state";
/// The snapshot files'.
pub(crate) const SNAPSHOT_DIR: &str = "snapshots";

/// What to do where a restart does not help.
const REPLACE: &str = "if the disk cannot be mended: remove this member from the cluster, \
     delete its folder and add it again as a new member; the others hold what is missing";

/// The real disk.
pub(crate) fn disk() -> Arc<dyn Vfs> {
    Arc::new(RealVfs)
}

/// A member's log.
pub(crate) struct OpenLog {
    pub(crate) storage: Arc<dyn Storage>,
    /// The same, where it is one that counts what it does.
    pub(crate) wal: Option<Arc<Wal>>,
    pub(crate) incarnation: Incarnation,
}

impl OpenLog {
    fn new(storage: Arc<dyn Storage>, incarnation: Incarnation) -> Self {
        Self {
            storage,
            wal: None,
            incarnation,
        }
    }
}

/// Opens the log, and names the store that it is.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(crate) fn open_log(settings: &Settings, folder: &Path) -> Result<OpenLog, CliError> {
    match settings.log {
        LogBackend::Mem => {
            let log = MemLog::new(MemLogOptions::default())
                .map_err(|error| CliError::failed(format!("log in memory: {error}")))?;
            Ok(OpenLog::new(Arc::new(log), random()))
        }
        LogBackend::Wal => open_wal(settings, &folder.join(LOG_DIR)),
        LogBackend::Redb => open_redb(&folder.join(LOG_DIR)),
        LogBackend::Rocksdb => open_rocksdb(&folder.join(LOG_DIR)),
    }
}

#[cfg(feature = "rocksdb")]
fn open_rocksdb(dir: &Path) -> Result<OpenLog, CliError> {
    use raftwerk_storage_rocksdb::{RocksLog, RocksLogOptions};

    let log = RocksLog::open(&RocksLogOptions::new(dir)).map_err(refuse_log)?;
    check_whole(&log, dir).map_err(refuse_log)?;
    let incarnation = incarnation(log.folder().uuid());
    Ok(OpenLog::new(Arc::new(log), incarnation))
}

/// With one group, what is lost is this member's: its promises cannot be kept.
#[cfg(feature = "rocksdb")]
fn check_whole(log: &dyn Storage, dir: &Path) -> Result<(), StorageError> {
    for group in log.groups()? {
        if !log.open_group(group)?.state.health.is_intact() {
            return Err(StorageError::Corrupt {
                path: dir.display().to_string(),
                offset: 0,
                reason: format!("group {group} lost records, and may have lost its vote"),
            });
        }
    }
    Ok(())
}

#[cfg(not(feature = "rocksdb"))]
fn open_rocksdb(_: &Path) -> Result<OpenLog, CliError> {
    Err(crate::config::not_built_in())
}

fn open_wal(settings: &Settings, dir: &Path) -> Result<OpenLog, CliError> {
    let options = raftwerk_wal::Options {
        segment_bytes: settings.segment_bytes,
        ambiguous_tail: match settings.ambiguous_tail {
            AmbiguousTail::Refuse => raftwerk_wal::AmbiguousTail::Refuse,
            AmbiguousTail::KeepPrefix => raftwerk_wal::AmbiguousTail::KeepPrefix,
        },
        // With one group, what is lost is this member's: its promises cannot be kept.
        on_damage: raftwerk_wal::OnDamage::Refuse,
        ..raftwerk_wal::Options::default()
    };
    let wal = Arc::new(Wal::open(disk(), dir, options).map_err(refuse_log)?);
    let identity = Folder::peek(disk().as_ref(), dir).map_err(refuse_log)?;
    let storage = Arc::clone(&wal) as Arc<dyn Storage>;
    Ok(OpenLog {
        wal: Some(wal),
        ..OpenLog::new(storage, incarnation(identity.uuid))
    })
}

fn open_redb(dir: &Path) -> Result<OpenLog, CliError> {
    let mut options = RedbLogOptions::new(dir);
    // As above.
    options.on_damage = raftwerk_storage_redb::OnDamage::Refuse;
    let log = RedbLog::open(disk(), &options).map_err(refuse_log)?;
    let incarnation = incarnation(log.folder().uuid());
    Ok(OpenLog::new(Arc::new(log), incarnation))
}

/// Says why the state does not open, and what to do.
fn refuse_store(error: StateError) -> CliError {
    match error {
        // As with the log.
        StateError::Corrupt { .. } | StateError::Open(StorageError::Corrupt { .. }) => {
            CliError::refused(format!("state store: {error}\n{REPLACE}"))
        }
        error => CliError::failed(format!("state store: {error}")),
    }
}

/// Says why the log does not open, and what to do.
fn refuse_log(error: StorageError) -> CliError {
    match error {
        // What opening cannot get past, a restart cannot either.
        StorageError::Corrupt { .. } => CliError::refused(format!("log: {error}\n{REPLACE}")),
        error => CliError::failed(format!("log: {error}")),
    }
}

fn incarnation(uuid: StoreUuid) -> Incarnation {
    Incarnation(u128::from_be_bytes(uuid.0))
}

/// A log in memory is another store at each start.
fn random() -> Incarnation {
    let bits = |salt: u8| u128::from(RandomState::new().hash_one(salt));
    Incarnation((bits(0) << 64 | bits(1)).max(1))
}

/// Opens the state store.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn open_store(
    settings: &Settings,
    folder: &Path,
) -> Result<Arc<dyn StateStore>, CliError> {
    match settings.store {
        StoreBackend::Mem => Ok(Arc::new(MemStore::new())),
        StoreBackend::Redb => {
            let options = RedbOptions::new(folder.join(STATE_DIR));
            let store = RedbStore::open(disk(), &options).map_err(refuse_store)?;
            Ok(Arc::new(store))
        }
        StoreBackend::Rocksdb => open_rocksdb_store(&folder.join(STATE_DIR)),
    }
}

#[cfg(feature = "rocksdb")]
fn open_rocksdb_store(dir: &Path) -> Result<Arc<dyn StateStore>, CliError> {
    use raftwerk_storage_rocksdb::{RocksStore, RocksStoreOptions};

    let store = RocksStore::open(&RocksStoreOptions::new(dir)).map_err(refuse_store)?;
    Ok(Arc::new(store))
}

#[cfg(not(feature = "rocksdb"))]
fn open_rocksdb_store(_: &Path) -> Result<Arc<dyn StateStore>, CliError> {
    Err(crate::config::not_built_in())
}

/// Bytes of the files in `folder` and below; zero where there is none.
pub(crate) fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => folder_bytes(&entry.path()),
        Ok(found) => found.len(),
        // It went meanwhile.
        Err(_) => 0,
    };
    entries.flatten().map(bytes).sum()
}
