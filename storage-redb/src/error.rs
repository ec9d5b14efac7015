//! redb's errors as the contract's.

use std::io;

use raftwerk_raft::StateError;

/// Names what was tried.
pub(crate) fn failed<E: Into<redb::Error>>(
    operation: &'static str,
) -> impl FnOnce(E) -> StateError {
    move |error| match error.into() {
        redb::Error::Io(source) => StateError::Io { operation, source },
        redb::Error::Corrupted(reason) => StateError::Corrupt { reason },
        other => StateError::Io {
            operation,
            source: io::Error::other(other),
        },
    }
}

pub(crate) fn corrupt(reason: &str) -> StateError {
    StateError::Corrupt {
        reason: reason.to_owned(),
    }
}
