//! A deterministic Raft core that does no I/O, and the contracts of what surrounds it.
//!
//! [`RawNode`] is one member of one group. Whoever drives it keeps this loop:
//!
//! 1. Give it one input at a time: a tick, a message, a proposal, a receipt.
//! 2. As long as [`RawNode::has_ready`], take a [`Ready`]; taking it accepts it.
//! 3. Send its `messages`, at once.
//! 4. Write `persist` to the log (its snapshot first), in the order of the `Ready`s. It must be
//!    readable through the [`LogReader`] as soon as it is written.
//! 5. Once that and every earlier write is durable, give `persist.messages` addressed to this
//!    member to its own [`RawNode::step`], send the others, and give `persist.ack` back.
//! 6. Apply `committed` in order, telling each configuration change to
//!    [`RawNode::apply_conf_change`], then give `apply_ack` back.
//! 7. Answer `read_states` once their index is applied, and `reads` from the log.
//!
//! That is the asynchronous mode: any number of steps may be on their way to the disk, and what is
//! applied is durable here. In synchronous mode ([`Config::synchronous`]) everything of a `Ready`
//! is done before [`RawNode::advance`], which gives all receipts and takes the messages to this
//! member; committed entries are handed out together with the step that writes them. That is the
//! loop below; the README has the other, and what differs from other libraries.
//!
//! ```
//! use std::ops::Range;
//! use std::sync::{Arc, Mutex};
//!
//! use raftwerk_raft::*;
//!
//! /// A log in memory, readable as soon as it is written.
//! #[derive(Clone, Default)]
//! struct Log(Arc<Mutex<Vec<Entry>>>);
//!
//! impl LogReader for Log {
//!     fn first(&self) -> LogIndex {
//!         LogIndex(1)
//!     }
//!     fn last(&self) -> LogId {
//!         self.0.lock().unwrap().last().map_or(LogId::ZERO, |entry| entry.id)
//!     }
//!     fn term(&self, index: LogIndex) -> Result<Term, LogError> {
//!         if index == LogIndex::ZERO {
//!             return Ok(Term::ZERO);
//!         }
//!         Ok(self.read(index..index.next(), 0)?[0].term())
//!     }
//!     fn entries(
//!         &self,
//!         range: Range<LogIndex>,
//!         max_bytes: u64,
//!         out: &mut Vec<Entry>,
//!     ) -> Result<(), LogError> {
//!         out.extend(self.read(range, max_bytes)?);
//!         Ok(())
//!     }
//!     fn read(&self, range: Range<LogIndex>, _max_bytes: u64) -> Result<Vec<Entry>, LogError> {
//!         let unavailable = LogError::Unavailable { last: self.last().index };
//!         let (from, to) = (range.start.0 as usize - 1, range.end.0 as usize - 1);
//!         Ok(self.0.lock().unwrap().get(from..to).ok_or(unavailable)?.to_vec())
//!     }
//! }
//!
//! let log = Log::default();
//! let conf_state = ConfState { voters: vec![NodeId(1)], ..ConfState::default() };
//! let restart = Restart { conf_state, ..Restart::default() };
//! let config = Config { synchronous: true, ..Config::new(NodeId(1), 42) };
//! let mut node = RawNode::new(config, restart, log.clone())?;
//!
//! node.campaign();
//! let mut applied = Vec::new();
//! let mut proposed = false;
//! while node.has_ready() {
//!     let ready = node.ready();
//!     if let Some(persist) = ready.persist {
//!         let mut log = log.0.lock().unwrap();
//!         if let Some(first) = persist.entries.first() {
//!             log.truncate(first.index().0 as usize - 1);
//!         }
//!         log.extend(persist.entries); // a real log also writes persist.hard_state, and syncs
//!     }
//!     applied.extend(ready.committed.into_iter().filter(|entry| !entry.data.is_empty()));
//!     node.advance();
//!     if node.role() == Role::Leader && !proposed {
//!         node.propose("hello".into()).unwrap();
//!         proposed = true;
//!     }
//! }
//! assert_eq!(applied[0].data, "hello");
//! # Ok::<(), ConfigError>(())
//! ```
#![forbid(unsafe_code)]
// What `clippy.toml` here names, and whatever else could panic or be heard.
#![deny(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unreachable
)]

pub mod codec;
pub mod confchange;
mod config;
mod entries;
mod entry;
mod error;
mod log;
mod message;
mod observer;
pub mod quorum;
mod raft;
mod raw_node;
mod ready;
mod restart;
mod state_machine;
mod status;
mod storage;
pub mod tracker;
mod types;

pub use config::{Config, LeaseTerms, ReadOnly};
pub use entries::Entries;
pub use entry::{
    ConfChange, ConfChangeKind, ConfChangeStep, ConfChangeTransition, ConfState, Entry, EntryKind,
    HardState, SnapshotMeta,
};
pub use error::{
    ApplyConfChangeError, ConfigError, Halted, LeaseReadError, ProposeError, ReadIndexError,
    RequestSnapshotError, StepError,
};
pub use message::{Body, Message, MessageKind, Standing};
pub use observer::{ConfChangeRefusal, Event, NoObserver, Observer, VoteRequest};
pub use raw_node::RawNode;
pub use ready::{
    ApplyAck, Fate, ForwardOutcome, LogRead, LogReadId, LogReadResult, Persist, PersistAck,
    ProposalDropped, Proposed, ReadDropped, ReadState, Ready, SnapshotStatus, SoftState,
};
pub use restart::Restart;
pub use state_machine::{
    Halt, KeyRange, Response, ScanOrder, ScanVisitor, SnapshotReader, SnapshotSource, StateError,
    StateMachine, StateOp, StateStats, StateStore, View,
};
pub use status::{Loss, Status};
pub use storage::{
    ByteBudget, Durability, DurableNotify, GroupState, GroupWrite, LogError, LogHealth, LogReader,
    META_BYTES_MAX, OpenGroup, Poisoned, Pressure, ScrubReport, Storage, StorageError, SubmitError,
    Subscription, Ticket, WriteBatch,
};
pub use types::{ForwardMark, GroupId, LogId, LogIndex, NodeId, Role, Term};

/// The README's loop is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
