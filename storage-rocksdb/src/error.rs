//! RocksDB's errors as the contracts'.

use std::io;
use std::path::Path;

use raftwerk_raft::{StateError, StorageError};
use rocksdb::{Error, ErrorKind};

/// A log's, on opening or reading what is at `path`.
pub(crate) fn storage(operation: &'static str, path: &Path) -> impl FnOnce(Error) -> StorageError {
    let path = path.display().to_string();
    move |error| match error.kind() {
        ErrorKind::Corruption => StorageError::Corrupt {
            path,
            offset: 0,
            reason: error.into_string(),
        },
        _ => StorageError::Io {
            operation,
            path,
            source: io::Error::other(error),
        },
    }
}

/// A state store's.
pub(crate) fn state(operation: &'static str) -> impl FnOnce(Error) -> StateError {
    move |error| match error.kind() {
        ErrorKind::Corruption => StateError::Corrupt {
            reason: format!("{operation}: {error}"),
        },
        _ => StateError::Io {
            operation,
            source: io::Error::other(error),
        },
    }
}

/// The operating system's, for a state store.
pub(crate) fn io(operation: &'static str) -> impl FnOnce(io::Error) -> StateError {
    move |source| StateError::Io { operation, source }
}
