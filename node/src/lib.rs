//! What a database embeds when it needs a replicated log: many Raft groups over one durable log,
//! with snapshots, membership, forwarding and plain futures.
//!
//! A [`Host`] is one process's part: it owns the log ([`raftwerk_raft::Storage`]), the network
//! ([`Transport`]) and a few threads. [`Host::open_group`] gives a [`Group`], a handle whose
//! requests are answered by [`Pending`], a future that any executor polls and any thread may wait
//! for. The state machine ([`raftwerk_raft::StateMachine`]) is the embedder's.
//!
//! # What holds
//! - A proposal is answered when its entry is committed (durable on a quorum) and applied by the
//!   leader, with what the state machine responded. It is appended at most once: where that cannot
//!   be told, the answer is [`ProposeError::Unknown`].
//! - [`Group::read_index`] is answered when the state machine on this host shows every write that
//!   was acknowledged anywhere before the call.
//! - Nothing that depends on the disk leaves this host before the disk has it. Other work goes on
//!   meanwhile: a leader sends entries while its own disk syncs.
//! - The log is cut in one order only: snapshot file durable, its record in the log durable, then
//!   compaction, never above what the state machine has durably applied.
//! - Every queue has a bound and answers busy at it; every wait has an end, counted in ticks.
//! - A state machine that fails or panics halts its group on this host, a poisoned log all groups;
//!   the status says why.
#![forbid(unsafe_code)]

mod apply;
mod clock;
mod config;
mod envelope;
mod error;
mod group;
mod host;
mod in_memory;
mod in_process;
mod mailbox;
mod member;
mod oneshot;
mod peers;
mod pool;
mod run_loop;
mod snapshot;
mod status;
mod transport;

pub use config::{GroupConfig, HostConfig, Limits, SnapshotPolicy, Start};
pub use envelope::{Applied, Envelope, EnvelopeBody, ForwardError};
pub use error::{
    GroupError, HostError, ProposeError, ReadError, ReplaceError, SnapshotError, TransferError,
};
pub use group::{Group, MembershipChange};
pub use host::Host;
pub use in_memory::{InMemory, MemoryState};
pub use in_process::InProcessNetwork;
pub use member::{Incarnation, Member, MemberTable};
pub use oneshot::Pending;
pub use raftwerk_raft as raft;
pub use raftwerk_raft::codec::DecodeError;
pub use raftwerk_storage::vfs;
#[cfg(feature = "mem")]
pub use raftwerk_storage_mem as mem;
#[cfg(feature = "redb")]
pub use raftwerk_storage_redb as redb;
#[cfg(feature = "rocksdb")]
pub use raftwerk_storage_rocksdb as rocksdb;
#[cfg(feature = "wal")]
pub use raftwerk_wal as wal;

pub use status::{Events, GroupEvent, GroupStatus, Health, NextEvent, PeerStatus, Until};
pub use transport::{
    Busy, Inbox, OutgoingSnapshot, SNAPSHOT_CHUNK_BYTES_MAX, SnapshotBytes, SnapshotDone,
    SnapshotHeader, SnapshotRefused, SnapshotSink, Transport, TransportError,
};

/// Opens the log in `dir` with this build's backend, the first of these whose feature is on: the
/// write-ahead log (`wal`), RocksDB (`rocksdb`), redb (`redb`), the log in memory (`mem`), which
/// forgets everything with the process.
///
/// # Errors
/// [`raft::StorageError`] when the log cannot be opened.
#[cfg(any(
    feature = "wal",
    feature = "rocksdb",
    feature = "redb",
    feature = "mem"
))]
pub fn open_log(
    dir: &std::path::Path,
) -> Result<std::sync::Arc<dyn raft::Storage>, raft::StorageError> {
    #[cfg(feature = "wal")]
    let log = {
        let disk = std::sync::Arc::new(vfs::RealVfs);
        wal::Wal::open(disk, dir, wal::Options::default())?
    };
    #[cfg(all(feature = "rocksdb", not(feature = "wal")))]
    let log = rocksdb::RocksLog::open(&rocksdb::RocksLogOptions::new(dir))?;
    #[cfg(all(feature = "redb", not(any(feature = "wal", feature = "rocksdb"))))]
    let log = {
        let disk = std::sync::Arc::new(vfs::RealVfs);
        redb::RedbLog::open(disk, &redb::RedbLogOptions::new(dir))?
    };
    #[cfg(not(any(feature = "wal", feature = "rocksdb", feature = "redb")))]
    let (log, _) = (mem::MemLog::new(mem::MemLogOptions::default())?, dir);
    Ok(std::sync::Arc::new(log))
}
