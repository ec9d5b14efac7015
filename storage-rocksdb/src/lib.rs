//! A log ([`RocksLog`]) and a state store ([`RocksStore`]) on RocksDB.
//!
//! The contract: [`RocksLog`] keeps what `raftwerk_raft` says of a log and [`RocksStore`] what it
//! says of a state store, each in a folder of its own with a lock and an identity.
//! - The log writes each commit as one synced batch; nothing is called durable before. What was
//!   called durable and is missing at the next open is noticed, never passed over.
//! - The state store writes without a log of its own: the Raft log is the redo. Data and applied
//!   `LogId` are of one batch and of one moment after any end; `persist` makes them durable.
//!
//! RocksDB writes its files itself and not through the [`Vfs`](raftwerk_storage::vfs::Vfs).
#![forbid(unsafe_code)]

mod batch;
mod engine;
mod error;
mod generation;
mod key;
mod log;
mod manifest;
mod options;
mod proof;
mod purge;
mod record;
mod recover;
mod restore;
mod sizes;
mod store;
mod view;
mod writer;

pub use log::{LOG_KIND, RocksLog, Stall};
pub use options::{RocksLogOptions, RocksStoreOptions};
pub use store::{RocksStore, STATE_KIND};
