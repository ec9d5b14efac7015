//! What every Raftwerk backend shares.
//!
//! - [`vfs`]: the file system seam. Every byte a log writes goes through it. Its mappings are the
//!   only unsafe code of this project.
//! - [`folder`]: whose folder it is; the lock on it.
//! - [`buffer`]: memory that direct writes take.
//! - [`watermark`]: the durable ticket, its waiters and subscribers, the sticky poison.
//! - [`image`]: what a backend knows of a group; which writes are valid and what they do.
//! - [`tail`]: the recent entries of a group in memory.
//! - [`queue`]: a log on any engine with a single writer.
//! - [`checkpoint`]: the stream format of state snapshots, the same for every backend.
//! - [`tree`]: an ordered map whose clones are free, for what a store keeps in memory.
//!
//! The contract: whatever one backend accepts, refuses or answers, every other does too, because
//! all of them ask [`image::GroupImage`]; and nothing is reported durable that a sync has not
//! covered, because all of them report through [`watermark::Watermark`].
#![deny(unsafe_code)]

pub mod buffer;
pub mod checkpoint;
pub mod folder;
pub mod image;
pub mod queue;
pub mod tail;
pub mod tree;
pub mod vfs;
pub mod watermark;

mod panics;
mod size;
mod terms;

pub use size::{batch_bytes, entry_bytes_max, payload_fits};
pub use terms::TermRuns;
