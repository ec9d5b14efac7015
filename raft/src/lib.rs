//! A deterministic Raft core that does no I/O, and the contracts of what surrounds it.
#![forbid(unsafe_code)]

pub mod codec;
pub mod confchange;
mod config;
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

pub use config::{Config, ReadOnly};
pub use entry::{
    ConfChange, ConfChangeKind, ConfChangeStep, ConfChangeTransition, ConfState, Entry, EntryKind,
    HardState, SnapshotMeta,
};
pub use error::{
    ApplyConfChangeError, ConfigError, Halted, ProposeError, ReadIndexError, StepError,
};
pub use message::{Body, Message, MessageKind};
pub use observer::{ConfChangeRefusal, Event, NoObserver, Observer, VoteRequest};
pub use raw_node::RawNode;
pub use ready::{
    ApplyAck, LogRead, LogReadId, LogReadResult, Persist, PersistAck, Proposed, ReadState, Ready,
    SnapshotStatus, SoftState,
};
pub use restart::Restart;
pub use state_machine::{
    Halt, KeyRange, Response, ScanOrder, ScanVisitor, SnapshotReader, SnapshotSource, StateError,
    StateMachine, StateOp, StateStats, StateStore, View,
};
pub use status::Status;
pub use storage::{
    ByteBudget, Durability, DurableNotify, GroupState, GroupWrite, LogError, LogHealth, LogReader,
    META_BYTES_MAX, OpenGroup, Poisoned, Pressure, ScrubReport, Storage, StorageError, SubmitError,
    Subscription, Ticket, WriteBatch,
};
pub use types::{GroupId, LogId, LogIndex, NodeId, Role, Term};
