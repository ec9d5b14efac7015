//! A [`StateStore`](raftwerk_raft::StateStore) on redb.
//!
//! The contract: [`RedbStore`] keeps what `raftwerk_raft` says of a state store. What is written
//! is visible at once and durable by `persist`; the applied `LogId` is part of the same
//! transaction as the data, so that after a crash both are of one moment. Every byte goes through
//! the [`Vfs`](raftwerk_storage::vfs::Vfs) given at open.
#![forbid(unsafe_code)]

mod backend;
mod error;
mod head;
mod layers;
mod restore;
mod role;
mod store;
mod view;

pub use backend::SYNC_STATE;
pub use store::{KIND, RedbOptions, RedbStore, SYNC_NEW_STATE};
