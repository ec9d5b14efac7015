//! A write-ahead log for the logs of many Raft groups: one stream of atomic batches in a row of
//! segment files.
//!
//! # Contract
//! - [`Wal`] is a [`raftwerk_raft::Storage`]. A batch is readable when `submit` returns, and
//!   durable when the watermark has passed its ticket; a write covers everybody who waits.
//! - Nothing is acknowledged before the sync that covers it. After the first write or sync that
//!   fails, nothing is ever acknowledged again.
//! - A batch is taken only against space that is prepared already: a full disk is
//!   [`raftwerk_raft::SubmitError::Full`], never a failed write.
//! - Opening tells a write that a crash cut short (cut, never acknowledged) from damage to what
//!   was acknowledged (named by group and index, never cut). `README.md` says how, and what is
//!   assumed of disks; `docs/format.md` describes every byte.
//!
//! ```
//! use std::sync::Arc;
//! use raftwerk_raft::{Entry, GroupId, GroupWrite, LogId, LogIndex, Storage, Term, WriteBatch};
//! use raftwerk_storage::vfs::RealVfs;
//! use raftwerk_wal::{Options, Wal};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = std::env::temp_dir().join(format!("raftwerk-wal-doc-{}", std::process::id()));
//! let options = Options {
//!     segment_bytes: 1 << 20,
//!     batch_bytes_max: 1 << 18,
//!     ..Options::default()
//! };
//! let wal = Wal::open(Arc::new(RealVfs), &dir, options)?;
//! let entry = Entry::normal(LogId::new(Term(1), LogIndex(1)), "hello".into());
//! let write = GroupWrite { group: GroupId(7), append: vec![entry], ..GroupWrite::default() };
//! let ticket = wal.submit(WriteBatch { groups: vec![write], ..WriteBatch::default() })?;
//! wal.wait(ticket)?; // durable from here on
//! assert_eq!(wal.open_group(GroupId(7))?.log.last().index, LogIndex(1));
//! # drop(wal);
//! # std::fs::remove_dir_all(dir)?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
mod batch;
mod device;
mod engine;
mod index;
pub mod inspect;
mod options;
mod plan;
mod preparer;
mod reader;
mod record;
mod recovery;
mod rules;
mod scrub;
mod sections;
mod segment;
mod sites;
mod slot;
mod state;
mod stats;
mod straggler;
mod tables;
#[cfg(test)]
mod tests;
mod threads;
mod wal;
mod writer;

pub use engine::Written;
pub use options::{AmbiguousTail, Background, Io, OnDamage, Options};
pub use preparer::Prepared;
pub use recovery::Progress;
pub use recovery::verdict::{Damage, GroupDamage, Lost, Report, TailEnd, Verdict};
pub use sites::{SYNC_BATCH, SYNC_NAME, SYNC_OPEN, SYNC_PREPARE, SYNC_SEAL, SYNC_SITES, SYNC_SLOT};
pub use stats::{Histogram, Reads, Stats};
pub use wal::{KIND, Wal};
