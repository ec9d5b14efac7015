//! The log and the state store that the flags name.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use raftwerk::Incarnation;
use raftwerk_raft::{StateError, StateStore, Storage, StorageError};
use raftwerk_storage::folder::{Folder, StoreUuid};
use raftwerk_storage::vfs::{RealVfs, Vfs};
use raftwerk_storage_mem::{MemLog, MemLogOptions, MemStore};
use raftwerk_storage_redb::{RedbLog, RedbLogOptions, RedbOptions, RedbStore};
use raftwerk_wal::{Progress, Wal};

use crate::cli::CliError;
use crate::cli::words::complain;
use crate::client::table::bytes;
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

/// How often the progress of reading a log is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

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
    let watch = &mut tell_progress();
    let wal = Wal::open_watched(disk(), dir, options, watch).map_err(refuse_log)?;
    let wal = Arc::new(wal);
    let identity = Folder::peek(disk().as_ref(), dir).map_err(refuse_log)?;
    let storage = Arc::clone(&wal) as Arc<dyn Storage>;
    Ok(OpenLog {
        wal: Some(wal),
        ..OpenLog::new(storage, incarnation(identity.uuid))
    })
}

/// Says on standard error, about once a second, how far reading a log is: nothing of one that
/// takes no longer.
pub(crate) fn tell_progress() -> impl FnMut(Progress) {
    let mut last = Instant::now();
    move |progress| {
        if let Some(words) = progress_line(&mut last, Instant::now(), progress) {
            complain!("{words}");
        }
    }
}

/// What to say at `now`, if the `last` time is long ago.
fn progress_line(last: &mut Instant, now: Instant, progress: Progress) -> Option<String> {
    if now.duration_since(*last) < PROGRESS_EVERY {
        return None;
    }
    *last = now;
    let (done, total) = (bytes(progress.done_bytes), bytes(progress.total_bytes));
    Some(format!("reading the log: {done} of {total}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_a_log_is_told_of_once_a_second_and_not_when_it_is_short() {
        let begin = Instant::now();
        let mut last = begin;
        let mut at = |millis| {
            let progress = Progress {
                done_bytes: millis << 20,
                total_bytes: 4 << 30,
            };
            progress_line(&mut last, begin + Duration::from_millis(millis), progress)
        };
        assert_eq!([0, 500, 999].map(&mut at), [None, None, None]);
        let line = at(1024).unwrap();
        assert_eq!(
            line,
            format!("reading the log: {} of {}", bytes(1 << 30), bytes(4 << 30))
        );
        assert_eq!([1025, 2023].map(&mut at), [None, None]);
        assert!(at(2024).is_some());
    }
}
