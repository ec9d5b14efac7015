//! What a database embeds when it needs a replicated log: many Raft groups over one durable log,
//! with snapshots, membership, forwarding and plain futures.
#![forbid(unsafe_code)]

mod envelope;
mod member;
mod transport;
mod wire;

pub use envelope::{Applied, Envelope, EnvelopeBody, ForwardError};
pub use member::{Incarnation, Member, MemberTable};
pub use transport::{
    Busy, Inbox, OutgoingSnapshot, SNAPSHOT_CHUNK_BYTES_MAX, SnapshotBytes, SnapshotDone,
    SnapshotHeader, SnapshotRefused, SnapshotSink, Transport, TransportError,
};
pub use wire::DecodeError;
