//! The listening side: identity first, then frames, each message checked before it goes on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raftwerk::{Envelope, EnvelopeBody};
use raftwerk_raft::NodeId;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::identity::{Hello, Refusal};
use crate::proto::peer_server::Peer as PeerService;
use crate::proto::{Frame, FrameAck, SnapshotPart, SnapshotReply};
use crate::shared::Shared;
use crate::snapshot::receive::receive;

/// How long a full inbox is waited for before its envelope is dropped: pressure goes back through
/// HTTP/2's windows to the sender first.
const BUSY_PAUSE: Duration = Duration::from_millis(1);
const BUSY_TRIES: u32 = 20;

/// The service that members call.
#[derive(Clone, Debug)]
pub(crate) struct Incoming {
    pub(crate) shared: Arc<Shared>,
    /// Starts the stream to a member that only this call told about.
    pub(crate) learned: mpsc::Sender<NodeId>,
}

impl Incoming {
    /// Checks who calls; nothing of the body is read before.
    fn admit(&self, metadata: &tonic::metadata::MetadataMap) -> Result<NodeId, Status> {
        let checked = Hello::read(metadata).and_then(|hello| {
            let options = &self.shared.options;
            if hello.cluster != options.cluster {
                let (ours, theirs) = (options.cluster, hello.cluster);
                return Err(Refusal::Cluster { ours, theirs });
            }
            if hello.to != options.id {
                return Err(Refusal::Misdirected {
                    here: options.id,
                    meant: hello.to,
                });
            }
            if hello.from == options.id {
                return Err(Refusal::Replaced { id: hello.from });
            }
            let admitted = self.shared.members.admit(&hello)?;
            Ok((hello.from, admitted))
        });
        match checked {
            Ok((from, admitted)) => {
                if let Some(id) = admitted.forgotten {
                    self.shared.forget(id);
                }
                if admitted.learned {
                    // A full queue means that others are being learned; the next call tells again.
                    let _ = self.learned.try_send(from);
                }
                Ok(from)
            }
            Err(refusal) => {
                self.shared.counters.refused.add(1);
                Err(refusal.to_status())
            }
        }
    }

    fn answer<T>(&self, to: NodeId, body: T) -> Response<T> {
        let mut response = Response::new(body);
        self.shared.hello(to).write(response.metadata_mut());
        response
    }
}

#[tonic::async_trait]
impl PeerService for Incoming {
    type MessagesStream = ReceiverStream<Result<FrameAck, Status>>;

    async fn messages(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::MessagesStream>, Status> {
        let from = self.admit(request.metadata())?;
        let (end, answers) = mpsc::channel(1);
        let replaced = self.shared.hear(from);
        tokio::spawn(listen(
            Arc::clone(&self.shared),
            from,
            request.into_inner(),
            replaced,
            end,
        ));
        Ok(self.answer(from, ReceiverStream::new(answers)))
    }

    type SnapshotStream = ReceiverStream<Result<SnapshotReply, Status>>;

    async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotPart>>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let from = self.admit(request.metadata())?;
        let slots = Arc::clone(&self.shared.snapshot_slots);
        let Ok(slot) = slots.try_acquire_owned() else {
            return Err(Status::unavailable(
                "as many snapshots as allowed are being received",
            ));
        };
        let (replies, answers) = mpsc::channel(4);
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let _slot = slot;
            if let Err(status) = receive(&shared, from, request.into_inner(), &replies).await {
                shared.counters.snapshots_failed.add(1);
                // The sender may be gone already.
                drop(replies.send(Err(status)).await);
            }
        });
        Ok(self.answer(from, ReceiverStream::new(answers)))
    }
}

/// Hands on what a peer sends until the stream ends, breaks the rules or is replaced.
async fn listen(
    shared: Arc<Shared>,
    from: NodeId,
    mut frames: Streaming<Frame>,
    mut replaced: oneshot::Receiver<()>,
    end: mpsc::Sender<Result<FrameAck, Status>>,
) {
    let status = loop {
        let frame = tokio::select! {
            frame = frames.message() => frame,
            _ = &mut replaced => break Status::aborted("another stream took this one's place"),
            () = end.closed() => return,
        };
        match frame {
            Ok(Some(frame)) => {
                shared.counters.received_frames.add(1);
                if let Err(status) = deliver(&shared, from, frame).await {
                    shared.counters.receive_invalid.add(1);
                    break status;
                }
            }
            Ok(None) => return,
            Err(status) => {
                if matches!(
                    status.code(),
                    tonic::Code::OutOfRange | tonic::Code::Internal | tonic::Code::InvalidArgument
                ) {
                    shared.counters.receive_invalid.add(1);
                }
                break status;
            }
        }
    };
    // The peer may be gone already.
    drop(end.send(Err(status)).await);
}

/// # Errors
/// The status that ends the stream: something in the frame cannot be true.
async fn deliver(shared: &Shared, from: NodeId, frame: Frame) -> Result<(), Status> {
    let decoded = frame
        .envelopes
        .into_iter()
        .map(|bytes| decode(shared, from, bytes));
    let mut waiting = decoded.collect::<Result<VecDeque<Envelope>, Status>>()?;
    let mut tries = 0;
    loop {
        let before = waiting.len();
        shared.receive(from, &mut waiting);
        let taken = before.saturating_sub(waiting.len());
        shared.counters.received.add(taken);
        if waiting.is_empty() {
            return Ok(());
        }
        tries = if taken > 0 { 0 } else { tries + 1 };
        if tries > BUSY_TRIES {
            waiting.pop_front();
            shared.counters.receive_dropped.add(1);
            tries = 0;
        } else {
            tokio::time::sleep(BUSY_PAUSE).await;
        }
    }
}

fn decode(shared: &Shared, from: NodeId, bytes: Bytes) -> Result<Envelope, Status> {
    let envelope = Envelope::decode(bytes)
        .map_err(|error| Status::invalid_argument(format!("envelope: {error}")))?;
    if let EnvelopeBody::Raft(message) = &envelope.body
        && (message.from != from || message.to != shared.options.id)
    {
        return Err(Status::invalid_argument(format!(
            "envelope of {} for {} on a stream of {from} for {}",
            message.from, message.to, shared.options.id
        )));
    }
    Ok(envelope)
}
