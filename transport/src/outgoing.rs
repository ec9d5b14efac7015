//! The stream to one peer: connect, greet, send, and all over again.

use std::sync::Arc;
use std::time::Duration;

use raftwerk_raft::NodeId;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::backoff::Backoff;
use crate::identity::{Hello, Refusal};
use crate::proto::peer_client::PeerClient;
use crate::queue::SendQueue;
use crate::shared::Shared;

/// HTTP/2 windows: large enough that a burst of appends never waits for an update.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// A stream that lived this long was a success: the next attempt comes soon.
const STABLE: Duration = Duration::from_secs(1);

/// One peer that is sent to.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    pub(crate) queue: Arc<SendQueue>,
    /// Its address or its store is another now: connect anew.
    pub(crate) changed: Notify,
    /// It is sent to no more.
    pub(crate) gone: Notify,
}

/// Why a call came to its end.
#[derive(Debug)]
pub(crate) enum CallError {
    /// Nobody there, or the connection broke.
    Away,
    /// One side will not speak with the other.
    Refused(Refusal),
}

impl CallError {
    pub(crate) fn of(shared: &Shared, status: &Status) -> Self {
        Refusal::from_status(shared.options.id, status).map_or(Self::Away, Self::Refused)
    }
}

/// Keeps a stream to the peer until the peer is removed or the runtime ends.
pub(crate) async fn run(shared: Arc<Shared>, peer: Arc<Peer>) {
    let options = &shared.options;
    let seed = options.id.0.rotate_left(32) ^ peer.id.0 ^ low_bits(options.incarnation.0);
    let mut backoff = Backoff::new(options.backoff_first, options.backoff_most, seed);
    let mut attempt = 0_usize;
    loop {
        let began = Instant::now();
        let ended = tokio::select! {
            ended = stream(&shared, &peer, attempt) => Some(ended),
            () = peer.changed.notified() => None,
            () = peer.gone.notified() => {
                peer.queue.close();
                peer.queue.clear();
                return;
            }
        };
        attempt = attempt.wrapping_add(1);
        peer.queue.close();
        if began.elapsed() >= STABLE {
            backoff.reset();
        }
        let Some(ended) = ended else { continue };
        peer.queue.clear();
        shared.counters.disconnects.add(1);
        if let CallError::Refused(refusal) = &ended {
            shared.refused_by(peer.id, refusal);
        }
        shared.unreachable(peer.id);
        tokio::select! {
            () = tokio::time::sleep(backoff.wait()) => {}
            () = peer.changed.notified() => backoff.reset(),
            () = peer.gone.notified() => return,
        }
    }
}

fn low_bits(value: u128) -> u64 {
    u64::try_from(value & u128::from(u64::MAX)).unwrap_or(0)
}

/// One stream from its connection to its end.
async fn stream(shared: &Shared, peer: &Peer, attempt: usize) -> CallError {
    let deadline = shared.options.connect_timeout;
    let Some(channel) = connect(shared, peer.id, attempt).await else {
        return CallError::Away;
    };
    let mut client = client(shared, channel);
    let mut request = Request::new(peer.queue.stream());
    shared.hello(peer.id).write(request.metadata_mut());
    let response = match timeout(deadline, client.messages(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => return CallError::of(shared, &status),
        Err(_) => return CallError::Away,
    };
    // Who answers is checked too, and before a single message leaves: a wiped member listens
    // under its old address and would take everything.
    if let Err(refusal) = check_answer(shared, peer.id, response.metadata()) {
        return CallError::Refused(refusal);
    }
    shared.counters.connects.add(1);
    peer.queue.open();
    let mut answers = response.into_inner();
    match answers.message().await {
        Err(status) => CallError::of(shared, &status),
        Ok(_) => CallError::Away,
    }
}

/// # Errors
/// The refusal, about the *other* side.
pub(crate) fn check_answer(
    shared: &Shared,
    peer: NodeId,
    metadata: &tonic::metadata::MetadataMap,
) -> Result<(), Refusal> {
    let hello = Hello::read(metadata)?;
    if hello.cluster != shared.options.cluster {
        let (ours, theirs) = (shared.options.cluster, hello.cluster);
        return Err(Refusal::Cluster { ours, theirs });
    }
    if hello.from != peer {
        return Err(Refusal::Misdirected {
            here: hello.from,
            meant: peer,
        });
    }
    shared.members.admit(&hello).map(|_| ())
}

/// Connects to one of the peer's addresses; each attempt begins with the next one.
pub(crate) async fn connect(shared: &Shared, peer: NodeId, attempt: usize) -> Option<Channel> {
    let addresses = shared.members.addresses(peer);
    let address = addresses.get(attempt.checked_rem(addresses.len())?)?;
    let options = &shared.options;
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .ok()?
        .tcp_nodelay(true)
        .connect_timeout(options.connect_timeout)
        .http2_keep_alive_interval(options.keepalive)
        .keep_alive_timeout(options.keepalive)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_max_header_list_size(16 * 1024);
    timeout(options.connect_timeout, endpoint.connect())
        .await
        .ok()?
        .ok()
}

pub(crate) fn client(shared: &Shared, channel: Channel) -> PeerClient<Channel> {
    PeerClient::new(channel)
        .max_decoding_message_size(64 * 1024)
        .max_encoding_message_size(shared.options.frame_bytes_max)
}
