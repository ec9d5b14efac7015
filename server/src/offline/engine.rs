//! What a folder holds, and how to open that.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use raftwerk_raft::{StateError, StateStore, Storage, StorageError};
use raftwerk_storage::folder::{Folder, FolderMode, Identity, Kind, MIGRATION_FILE};
use raftwerk_storage_redb::{RedbLog, RedbLogOptions, RedbOptions, RedbStore};
use raftwerk_wal::Wal;

use crate::cli::CliError;
use crate::serve::backends::disk;

/// What keeps a store on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// The write-ahead log
    Wal,
    /// A redb file
    Redb,
    /// RocksDB, where it is built in
    Rocksdb,
}

impl Engine {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Wal => "wal",
            Self::Redb => "redb",
            Self::Rocksdb => "rocksdb",
        }
    }
}

/// What a folder holds: a log or a state store, and of which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Log(Engine),
    State(Engine),
}

impl Held {
    /// As the identity files have it.
    fn from_identity(name: &str) -> Option<Self> {
        Some(match name {
            "wal" => Self::Log(Engine::Wal),
            "log-redb" => Self::Log(Engine::Redb),
            "log-rocksdb" => Self::Log(Engine::Rocksdb),
            "state-redb" => Self::State(Engine::Redb),
            "state-rocksdb" => Self::State(Engine::Rocksdb),
            _ => return None,
        })
    }

    pub(crate) const fn engine(self) -> Engine {
        match self {
            Self::Log(engine) | Self::State(engine) => engine,
        }
    }

    /// The same sort of store, kept by `engine`.
    pub(crate) const fn kept_by(self, engine: Engine) -> Self {
        match self {
            Self::Log(_) => Self::Log(engine),
            Self::State(_) => Self::State(engine),
        }
    }

    /// What its identity file is to say.
    ///
    /// # Errors
    /// There is no such store, or not in this program.
    pub(crate) fn kind(self) -> Result<Kind, CliError> {
        match self {
            Self::Log(Engine::Wal) => Ok(raftwerk_wal::KIND),
            Self::Log(Engine::Redb) => Ok(raftwerk_storage_redb::LOG_KIND),
            Self::State(Engine::Redb) => Ok(raftwerk_storage_redb::KIND),
            Self::State(Engine::Wal) => Err(no_state_in_wal()),
            Self::Log(Engine::Rocksdb) => rocksdb::log_kind(),
            Self::State(Engine::Rocksdb) => rocksdb::state_kind(),
        }
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Log(engine) => write!(f, "a {} log", engine.word()),
            Self::State(engine) => write!(f, "a {} state store", engine.word()),
        }
    }
}

/// What the folder `dir` holds, by its identity file.
///
/// # Errors
/// It holds no store, one that is not known, or one that this program cannot open.
pub(crate) fn recognise(dir: &Path) -> Result<(Held, Identity), CliError> {
    if dir.join(MIGRATION_FILE).exists() {
        return Err(CliError::failed(format!(
            "{} holds no store yet: run `raftwerk migrate` again, as it ended before its time",
            dir.display()
        )));
    }
    let identity = Folder::peek(disk().as_ref(), dir).map_err(|error| match error {
        StorageError::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
            CliError::failed(format!("{} holds no store", dir.display()))
        }
        error => failed(error),
    })?;
    let Some(held) = Held::from_identity(&identity.backend) else {
        return Err(CliError::failed(format!(
            "{} holds {identity}, which this raftwerk does not know",
            dir.display()
        )));
    };
    held.kind()?;
    Ok((held, identity))
}

/// In words for whoever runs a tool.
pub(crate) fn failed(error: StorageError) -> CliError {
    match error {
        StorageError::Locked { path } => {
            CliError::failed(format!("{path} is in use: end the member first"))
        }
        error => CliError::failed(error.to_string()),
    }
}

/// As [`failed`], of a state store.
pub(crate) fn state_failed(error: StateError) -> CliError {
    match error {
        StateError::Open(error) => failed(error),
        error => CliError::failed(error.to_string()),
    }
}

/// What a log is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be read, as a copy: what is damaged is named.
    Look,
    /// The same, and its end is given up where that is in doubt.
    Salvage,
    /// To be filled, or to be read back as a member would.
    Keep,
}

/// Opens the log in `dir`, which exists.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn open_log(
    engine: Engine,
    dir: &Path,
    purpose: Purpose,
) -> Result<Arc<dyn Storage>, StorageError> {
    match engine {
        Engine::Wal => {
            let defaults = raftwerk_wal::Options::default();
            let options = match purpose {
                Purpose::Keep => raftwerk_wal::Options {
                    on_damage: raftwerk_wal::OnDamage::Refuse,
                    ..defaults
                },
                Purpose::Look => raftwerk_wal::Options {
                    background: raftwerk_wal::Background::Manual,
                    // A bad sector is to be an error, and not the end of the process.
                    mapped_reads: false,
                    ..defaults
                },
                Purpose::Salvage => raftwerk_wal::Options {
                    background: raftwerk_wal::Background::Manual,
                    ambiguous_tail: raftwerk_wal::AmbiguousTail::KeepPrefix,
                    mapped_reads: false,
                    ..defaults
                },
            };
            Ok(Arc::new(Wal::open(disk(), dir, options)?))
        }
        Engine::Redb => {
            let mut options = RedbLogOptions::new(dir);
            options.mode = FolderMode::MustExist;
            options.on_damage = match purpose {
                Purpose::Keep => raftwerk_storage_redb::OnDamage::Refuse,
                Purpose::Look | Purpose::Salvage => raftwerk_storage_redb::OnDamage::Confine,
            };
            Ok(Arc::new(RedbLog::open(disk(), &options)?))
        }
        Engine::Rocksdb => rocksdb::open_log(dir),
    }
}

/// Opens the state store in `dir`, which exists.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn open_state(engine: Engine, dir: &Path) -> Result<Arc<dyn StateStore>, CliError> {
    match engine {
        Engine::Redb => {
            let mut options = RedbOptions::new(dir);
            options.mode = FolderMode::MustExist;
            let store = RedbStore::open(disk(), &options).map_err(state_failed)?;
            Ok(Arc::new(store))
        }
        Engine::Rocksdb => rocksdb::open_state(dir),
        Engine::Wal => Err(no_state_in_wal()),
    }
}

fn no_state_in_wal() -> CliError {
    CliError::usage("a state store cannot be kept in a wal: choose redb or rocksdb")
}

#[cfg(feature = "rocksdb")]
mod rocksdb {
    use raftwerk_storage_rocksdb::{
        LOG_KIND, RocksLog, RocksLogOptions, RocksStore, RocksStoreOptions, STATE_KIND,
    };

    use super::{
        Arc, CliError, FolderMode, Kind, Path, StateStore, Storage, StorageError, state_failed,
    };

    pub(super) const fn log_kind() -> Result<Kind, CliError> {
        Ok(LOG_KIND)
    }

    pub(super) const fn state_kind() -> Result<Kind, CliError> {
        Ok(STATE_KIND)
    }

    pub(super) fn open_log(dir: &Path) -> Result<Arc<dyn Storage>, StorageError> {
        let mut options = RocksLogOptions::new(dir);
        options.mode = FolderMode::MustExist;
        Ok(Arc::new(RocksLog::open(&options)?))
    }

    pub(super) fn open_state(dir: &Path) -> Result<Arc<dyn StateStore>, CliError> {
        let mut options = RocksStoreOptions::new(dir);
        options.mode = FolderMode::MustExist;
        let store = RocksStore::open(&options).map_err(state_failed)?;
        Ok(Arc::new(store))
    }
}

/// Every way to RocksDB ends with the words for how to build it in.
#[cfg(not(feature = "rocksdb"))]
mod rocksdb {
    use super::{Arc, CliError, Kind, Path, StateStore, Storage, StorageError};
    use crate::config::not_built_in;

    pub(super) fn log_kind() -> Result<Kind, CliError> {
        Err(not_built_in())
    }

    pub(super) fn state_kind() -> Result<Kind, CliError> {
        Err(not_built_in())
    }

    pub(super) fn open_log(_: &Path) -> Result<Arc<dyn Storage>, StorageError> {
        Err(StorageError::Option {
            name: "log",
            reason: not_built_in().to_string(),
        })
    }

    pub(super) fn open_state(_: &Path) -> Result<Arc<dyn StateStore>, CliError> {
        Err(not_built_in())
    }
}
