//! Stores that nobody runs: what is in them, and into which others they can be copied. The folder
//! that is looked at or copied from is never written to; its lock is held meanwhile.

pub(crate) mod compact;
mod copy;
mod engine;
pub(crate) mod look;
pub(crate) mod migrate;
pub(crate) mod salvage;
mod stats;
mod wal;
mod walk;
