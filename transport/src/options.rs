//! What a transport is opened with.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use raftwerk::{Incarnation, SNAPSHOT_CHUNK_BYTES_MAX};
use raftwerk_raft::NodeId;

use crate::address::{AddressError, check_listen};
use crate::identity::{ClusterId, Refusal};
use crate::listen::Limits;

/// No frame limit may exceed this.
pub const FRAME_BYTES_CEILING: usize = 64 * 1024 * 1024;

/// Called when another member refuses to speak with this one.
pub type OnRefused = Arc<dyn Fn(NodeId, &Refusal) + Send + Sync>;

/// The identity, address and bounds of a transport.
#[derive(Clone)]
pub struct Options {
    /// The cluster: another one's members are refused.
    pub cluster: ClusterId,
    /// This member.
    pub id: NodeId,
    /// This member's store.
    pub incarnation: Incarnation,
    /// Where to listen. Loopback only until TLS is there.
    pub listen: SocketAddr,
    /// Under which URL others reach this member; `None`: `http://` and the listening address.
    pub advertise: Option<String>,
    /// The largest frame that is taken, in bytes; at most [`FRAME_BYTES_CEILING`].
    pub frame_bytes_max: usize,
    /// How many bytes of messages one frame gathers before it leaves (a larger message leaves
    /// alone).
    pub batch_bytes: usize,
    /// Messages that wait for one peer; what comes beyond is dropped and counted.
    pub queue_messages_max: usize,
    /// Bytes of messages that wait for one peer.
    pub queue_bytes_max: usize,
    /// How long an attempt to connect, and the greeting after it, may take.
    pub connect_timeout: Duration,
    /// The first wait before another attempt.
    pub backoff_first: Duration,
    /// The longest wait before another attempt.
    pub backoff_most: Duration,
    /// A silent connection is asked for a sign of life after this time, and ended after as long
    /// again without one.
    pub keepalive: Duration,
    /// Bytes of a snapshot sent as one chunk.
    pub snapshot_chunk_bytes: usize,
    /// A snapshot that makes no progress for this long is given up (and resumed later).
    pub snapshot_idle_timeout: Duration,
    /// Snapshots received at once.
    pub snapshot_streams_max: usize,
    /// Bounds of the listening socket.
    pub limits: Limits,
    /// Threads of the transport's own runtime.
    pub threads: usize,
    /// Called, off the run loops, when another member refuses to speak with this one.
    pub on_refused: Option<OnRefused>,
}

impl Options {
    /// The defaults: everything bounded, one thread.
    #[must_use]
    pub fn new(
        cluster: ClusterId,
        id: NodeId,
        incarnation: Incarnation,
        listen: SocketAddr,
    ) -> Self {
        Self {
            cluster,
            id,
            incarnation,
            listen,
            advertise: None,
            frame_bytes_max: 8 * 1024 * 1024,
            batch_bytes: 256 * 1024,
            queue_messages_max: 8192,
            queue_bytes_max: 64 * 1024 * 1024,
            connect_timeout: Duration::from_secs(2),
            backoff_first: Duration::from_millis(20),
            backoff_most: Duration::from_secs(1),
            keepalive: Duration::from_secs(5),
            snapshot_chunk_bytes: 256 * 1024,
            snapshot_idle_timeout: Duration::from_secs(30),
            snapshot_streams_max: 4,
            limits: Limits {
                connections_max: 128,
                ..Limits::default()
            },
            threads: 1,
            on_refused: None,
        }
    }

    /// # Errors
    /// [`OpenError`] naming the first option that makes no sense.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        check_listen(self.listen)?;
        let zero = Duration::ZERO;
        let wrong = |name, reason| Err(OpenError::Option { name, reason });
        if self.id == NodeId::ZERO {
            return wrong("id", "a member's id is not zero");
        }
        if self.incarnation == Incarnation::default() {
            return wrong("incarnation", "a store's uuid is not zero");
        }
        if self.frame_bytes_max < 64 * 1024 || self.frame_bytes_max > FRAME_BYTES_CEILING {
            return wrong("frame_bytes_max", "from 64 KiB to 64 MiB");
        }
        if self.batch_bytes == 0 || self.batch_bytes > self.frame_bytes_max / 2 {
            return wrong("batch_bytes", "from 1 to half of frame_bytes_max");
        }
        if self.queue_messages_max == 0 || self.queue_bytes_max == 0 {
            return wrong("queue_messages_max", "a queue must hold something");
        }
        let chunk_max = SNAPSHOT_CHUNK_BYTES_MAX.min(self.frame_bytes_max / 2);
        if self.snapshot_chunk_bytes == 0 || self.snapshot_chunk_bytes > chunk_max {
            return wrong(
                "snapshot_chunk_bytes",
                "from 1 to 1 MiB and half of frame_bytes_max",
            );
        }
        if self.backoff_first == zero || self.backoff_most < self.backoff_first {
            return wrong("backoff_first", "above zero and at most backoff_most");
        }
        if [
            self.connect_timeout,
            self.keepalive,
            self.snapshot_idle_timeout,
        ]
        .contains(&zero)
        {
            return wrong("connect_timeout", "timeouts are above zero");
        }
        if self.threads == 0 || self.snapshot_streams_max == 0 || self.limits.connections_max == 0 {
            return wrong(
                "threads",
                "threads, snapshot streams and connections are above zero",
            );
        }
        Ok(())
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("cluster", &self.cluster)
            .field("id", &self.id)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// Why a transport cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// An option makes no sense.
    #[error("invalid option {name}: {reason}")]
    Option {
        /// Which.
        name: &'static str,
        /// What is allowed.
        reason: &'static str,
    },
    /// The address cannot be used.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The port cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The runtime cannot be started.
    #[error("cannot start the transport's threads: {0}")]
    Runtime(#[source] std::io::Error),
}
