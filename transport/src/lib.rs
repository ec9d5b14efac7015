//! Raftwerk's members over gRPC: [`GrpcTransport`] is a [`raftwerk::Transport`].
//!
//! - One ordered stream per peer and direction carries frames of many messages; what cannot be
//!   sent is dropped and counted, never waited for, and the runtime is told that the peer is
//!   unreachable. Broken streams come back after a capped, jittered wait.
//! - Snapshots have connections of their own, begin where the receiver already is, and are given
//!   up for want of progress only.
//! - Both sides say who they are in the call's metadata (protocol version, cluster, both ids, the
//!   store's uuid) and check the other before a frame is read or a message leaves. A known id
//!   with another store is refused: that is how a wiped disk is told from a first start.
//! - What arrives is input: frames have a limit, every message is decoded with typed errors, and
//!   what cannot be true ends its stream with a status and a counter. Nothing panics.
//! - Plain text, hence loopback addresses only, until TLS is there.
//!
//! The transport has a small tokio runtime of its own, so that its caller needs none.
#![forbid(unsafe_code)]

mod address;
mod backoff;
pub mod gather;
mod identity;
mod incoming;
pub mod listen;
mod members;
mod options;
mod outgoing;
mod queue;
mod shared;
mod snapshot;
mod stats;
mod transport;

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
mod proto {
    tonic::include_proto!("raftwerk.peer.v1");
}

pub use address::{AddressError, check_listen, check_url};
pub use identity::{ClusterId, PROTOCOL_VERSION, Refusal};
pub use options::{FRAME_BYTES_CEILING, OnRefused, OpenError, Options};
pub use stats::Stats;
pub use transport::GrpcTransport;
