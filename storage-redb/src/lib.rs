//! A [`Storage`](raftwerk_raft::Storage) and a [`StateStore`](raftwerk_raft::StateStore) on redb.
//!
//! The contract: [`RedbLog`] and [`RedbStore`] keep what `raftwerk_raft` says of a log and of a
//! state store. The log makes one durable commit for everybody who waits; what is read from it was
//! checked against a checksum of its own, and what the disk lost is named or refused. The state is
//! visible at once and durable by `persist`; the applied `LogId` is part of the same
//! transaction as the data, so that after a crash both are of one moment. Every byte goes through
//! the [`Vfs`](raftwerk_storage::vfs::Vfs) given at open. Each has a folder of its own.
#![forbid(unsafe_code)]

mod backend;
mod error;
mod file;
mod head;
mod layers;
mod log;
mod restore;
mod role;
mod store;
mod view;

pub use log::{
    CompactedLog, LOG_KIND, OnDamage, RedbLog, RedbLogOptions, SYNC_LOG, SYNC_LOG_MARK,
    SYNC_LOG_NAME, SYNC_LOG_RENEW, compact_log,
};
pub use store::{KIND, RedbOptions, RedbStore, SYNC_NEW_STATE, SYNC_RENEW_STATE, SYNC_STATE};
