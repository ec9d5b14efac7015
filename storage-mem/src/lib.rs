//! Raftwerk's log and state store in memory: the contracts of `raftwerk_raft::Storage` and
//! `raftwerk_raft::StateStore` as plainly as they can be written, for reading and for tests.
//!
//! What they call durable is honest within its limit: the "disk" is memory of this process. It
//! survives [`MemLog::crash`], [`MemStore::crash`] and, as a [`MemDisk`], the dropping of the
//! log; it does not survive the process. So what was acknowledged as durable comes back after a
//! simulated crash, what was not is lost, and nothing comes back after a real one.
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod group;
mod log;
mod options;
mod store;

pub use log::{HeldSyncs, MemDisk, MemLog};
pub use options::{MemLogOptions, SyncMode};
pub use store::MemStore;
