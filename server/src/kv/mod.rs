//! The key space: etcd's semantics over a [`raftwerk_raft::StateStore`].
//!
//! A cluster revision counts the requests that changed something; every key carries the revision
//! that created it, the one that changed it last, and how often it was changed since. Only the
//! newest revision is kept: an older one answers as a compacted one does.
//!
//! [`Machine`] applies committed [`Command`]s, [`Reader`] reads beside it; the `check_` functions
//! refuse requests by their form before anything is proposed.

mod check;
mod command;
mod error;
mod machine;
mod range;
mod reader;
mod record;
mod space;
mod write;

pub use check::{check_delete, check_put, check_range, check_txn};
pub use command::{Answer, Command, DecodeError, decode_outcome};
pub use error::{KvError, Refusal};
pub use machine::Machine;
pub use reader::{KeySpaceHash, Reader};
pub use write::is_read_only;

/// Bytes that one request may take: keys, values and all.
pub const REQUEST_BYTES_MAX: usize = 1536 * 1024;

/// Operations of one transaction, nested ones included.
pub const TXN_OPS_MAX: usize = 128;

/// Bytes of keys and values that one answer may take.
pub const RESPONSE_BYTES_MAX: usize = 256 * 1024 * 1024;
