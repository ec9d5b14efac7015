//! The write-ahead log of Raftwerk.
#![forbid(unsafe_code)]
mod batch;
mod engine;
mod index;
mod options;
mod plan;
mod preparer;
mod reader;
mod record;
mod recovery;
mod rules;
mod scrub;
mod segment;
mod sites;
mod slot;
mod state;
mod threads;
mod wal;
mod writer;

pub use engine::Written;
pub use options::{AmbiguousTail, Background, Options};
pub use preparer::Prepared;
pub use recovery::verdict::{Damage, GroupDamage, Lost, Report, TailEnd, Verdict};
pub use sites::{
    SYNC_BATCH, SYNC_NAME, SYNC_OPEN, SYNC_PREPARE, SYNC_SEAL, SYNC_SITES, SYNC_SLOT,
};
pub use wal::{KIND, Wal};
