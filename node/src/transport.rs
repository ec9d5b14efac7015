//! The seam to the network: what a transport does for the runtime, and the runtime for a transport.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;

use raftwerk_raft::{Body, GroupId, Message, NodeId, SnapshotMeta, SnapshotStatus, Standing, Term};

use crate::envelope::Envelope;
use crate::member::Member;

/// Carries envelopes and snapshots between hosts. Every method returns at once, with the one
/// exception of [`Transport::send_snapshot`], which is never called on a run loop.
pub trait Transport: Send + Sync + 'static {
    /// Begins to receive: everything that arrives goes to `inbox`. Called once, by the host.
    ///
    /// # Errors
    /// [`TransportError`] when it cannot listen or was started before.
    fn start(&self, inbox: Arc<dyn Inbox>) -> Result<(), TransportError>;

    /// Sends to one peer. Ordered per peer; may be lost (the queue is full, the peer is away);
    /// never blocks. A peer that is away is told to [`Inbox::unreachable`].
    fn send(&self, to: NodeId, envelope: Envelope);

    /// Sends many, in order, and leaves `envelopes` empty: what one turn has to say costs a queue
    /// one lock and its reader one wake.
    fn send_all(&self, envelopes: &mut Vec<(NodeId, Envelope)>) {
        for (to, envelope) in envelopes.drain(..) {
            self.send(to, envelope);
        }
    }

    /// Sends a snapshot on a stream of its own, beginning where the receiver already is. May
    /// return before it is through; `outgoing.done` tells how it ended. Gives up for want of
    /// progress, never for the total time.
    fn send_snapshot(&self, to: NodeId, outgoing: OutgoingSnapshot);

    /// Makes a member known, or its new addresses.
    fn set_member(&self, member: &Member);

    /// Forgets a member: connections to it are closed.
    fn remove_member(&self, id: NodeId);

    /// Ends everything; no call of the inbox begins after it returns.
    fn stop(&self);
}

/// Where a transport hands in what arrives. Never blocks, but for the sink of a snapshot.
pub trait Inbox: Send + Sync + 'static {
    /// An envelope from `from`, whose identity the transport has checked.
    ///
    /// # Errors
    /// [`Busy`]: the queue is full and the envelope dropped, which Raft is made for.
    fn receive(&self, from: NodeId, envelope: Envelope) -> Result<(), Busy>;

    /// Takes envelopes from the front, in order, up to the first that finds a queue full: what is
    /// left then may be tried again or dropped. Costs a queue one lock and its reader one wake.
    fn receive_all(&self, from: NodeId, envelopes: &mut VecDeque<Envelope>) {
        while let Some(first) = envelopes.front() {
            if self.receive(from, first.clone()).is_err() {
                return;
            }
            envelopes.pop_front();
        }
    }

    /// A snapshot is about to arrive. The sink does blocking file work: not for an async worker.
    ///
    /// # Errors
    /// [`SnapshotRefused`] tells whether it makes sense to try again.
    fn snapshot(
        &self,
        from: NodeId,
        header: SnapshotHeader,
    ) -> Result<Box<dyn SnapshotSink>, SnapshotRefused>;

    /// Envelopes to `peer` are being lost.
    fn unreachable(&self, peer: NodeId);
}

/// Takes the bytes of one snapshot, in order.
pub trait SnapshotSink: Send {
    /// How many bytes are already here and checked: the sender goes on from there.
    fn resume_at(&self) -> u64;

    /// Takes the next bytes, at most [`SNAPSHOT_CHUNK_BYTES_MAX`] of them.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] when a checksum does not fit, else what the disk says. What
    /// was taken before stays for the next try.
    fn write(&mut self, chunk: &[u8]) -> io::Result<()>;

    /// The sender has sent everything: checks the whole, makes it durable and hands it to the
    /// group. Dropping a sink without this keeps what is there for the next try.
    ///
    /// # Errors
    /// As for [`SnapshotSink::write`].
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// The largest piece of a snapshot that is sent at once, in bytes.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 1024 * 1024;

/// What goes before a snapshot's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// Whose state it is.
    pub group: GroupId,
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The sender's term.
    pub term: Term,
    /// The message's session.
    pub session: u64,
    /// What the snapshot covers.
    pub meta: SnapshotMeta,
    /// Names this build of the snapshot: a resumed stream must have the same.
    pub snapshot: u128,
    /// Its length in bytes.
    pub len_bytes: u64,
}

/// The bytes of a snapshot that is being sent. Blocks on the disk and may sleep to keep to the
/// configured rate: not for an async worker.
pub trait SnapshotBytes: Send {
    /// Reads at `offset` into the front of `out`; zero only at the end.
    ///
    /// # Errors
    /// What the disk says.
    fn read_at(&mut self, offset: u64, out: &mut [u8]) -> io::Result<usize>;
}

/// A snapshot on its way to one peer.
pub struct OutgoingSnapshot {
    /// What goes before the bytes.
    pub header: SnapshotHeader,
    /// The bytes, `header.len_bytes` of them.
    pub bytes: Box<dyn SnapshotBytes>,
    /// To be told how it ended.
    pub done: SnapshotDone,
}

impl fmt::Debug for OutgoingSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingSnapshot")
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

/// Reports once how the sending of a snapshot ended; dropped without a word it says `Failed`.
pub struct SnapshotDone {
    report: Option<Box<dyn FnOnce(SnapshotStatus) + Send>>,
}

impl SnapshotDone {
    /// Calls `report` once.
    #[must_use]
    pub fn new(report: impl FnOnce(SnapshotStatus) + Send + 'static) -> Self {
        Self {
            report: Some(Box::new(report)),
        }
    }

    /// `Finished` only after the receiver's [`SnapshotSink::finish`] succeeded.
    pub fn report(mut self, status: SnapshotStatus) {
        if let Some(report) = self.report.take() {
            report(status);
        }
    }
}

impl Drop for SnapshotDone {
    fn drop(&mut self) {
        if let Some(report) = self.report.take() {
            report(SnapshotStatus::Failed);
        }
    }
}

impl fmt::Debug for SnapshotDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotDone")
    }
}

impl SnapshotHeader {
    /// The message that the receiver's group steps once the bytes are safe.
    #[must_use]
    pub fn message(&self) -> Message {
        Message {
            from: self.from,
            to: self.to,
            term: self.term,
            session: self.session,
            standing: Standing::Sound,
            body: Body::Snapshot {
                meta: Box::new(self.meta.clone()),
            },
        }
    }
}

/// A queue is at its bound: retry later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a queue is full; retry later")]
pub struct Busy;

/// Why a snapshot is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotRefused {
    /// Others are being received: try again later.
    #[error("as many snapshots as allowed are being received; retry later")]
    Busy,
    /// The group is not open on this host: nothing to retry before somebody opens it.
    #[error("group {group} is not open here")]
    UnknownGroup {
        /// Which.
        group: GroupId,
    },
    /// The state here is as new already: report it as finished.
    #[error("the state here is as new already")]
    NotNeeded,
    /// The header contradicts itself or a limit: retrying is of no use.
    #[error("snapshot refused: {reason}")]
    Invalid {
        /// What is wrong.
        reason: &'static str,
    },
    /// The disk refused.
    #[error("cannot store the snapshot: {reason}")]
    Io {
        /// Why.
        reason: Arc<str>,
    },
}

/// Why a transport cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// It runs already, or was stopped.
    #[error("transport was started before")]
    Started,
    /// The operating system refused the address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The configuration makes no sense or is not allowed.
    #[error("transport configuration refused: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
}
