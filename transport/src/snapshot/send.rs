//! Sending one snapshot.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raftwerk::{OutgoingSnapshot, SnapshotBytes};
use raftwerk_raft::{NodeId, SnapshotStatus};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

use crate::outgoing::{CallError, check_answer, client, connect};
use crate::proto::snapshot_part::Part;
use crate::proto::snapshot_reply::Reply;
use crate::proto::{SnapshotChunk, SnapshotEnd, SnapshotPart, SnapshotReply};
use crate::shared::Shared;

/// Chunks read ahead of the network.
const CHUNKS_AHEAD: usize = 2;

/// Marks the peer as being sent to, until dropped.
struct Sending<'a> {
    shared: &'a Shared,
    to: NodeId,
}

impl<'a> Sending<'a> {
    fn begin(shared: &'a Shared, to: NodeId) -> Option<Self> {
        shared
            .sending
            .lock()
            .insert(to)
            .then_some(Self { shared, to })
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.shared.sending.lock().remove(&self.to);
    }
}

/// Sends one snapshot and reports how it ended.
pub(crate) async fn send(shared: Arc<Shared>, to: NodeId, outgoing: OutgoingSnapshot) {
    let OutgoingSnapshot {
        header,
        bytes,
        done,
    } = outgoing;
    // Another one to the same peer is under way: this one has failed.
    let Some(_sending) = Sending::begin(&shared, to) else {
        return;
    };
    let offer = header.encode();
    match call(&shared, to, offer, header.len_bytes, bytes).await {
        Ok(()) => {
            shared.counters.snapshots_sent.add(1);
            done.report(SnapshotStatus::Finished);
        }
        Err(error) => {
            shared.counters.snapshots_failed.add(1);
            if let CallError::Refused(refusal) = error {
                shared.refused_by(to, &refusal);
            }
            done.report(SnapshotStatus::Failed);
        }
    }
}

async fn call(
    shared: &Shared,
    to: NodeId,
    offer: Bytes,
    size: u64,
    bytes: Box<dyn SnapshotBytes>,
) -> Result<(), CallError> {
    let channel = match connect(shared, to, 0).await {
        Some(channel) => channel,
        None => connect(shared, to, 1).await.ok_or(CallError::Away)?,
    };
    let (parts, body) = mpsc::channel(CHUNKS_AHEAD);
    let mut request = Request::new(ReceiverStream::new(body));
    shared.hello(to).write(request.metadata_mut());
    let mut client = client(shared, channel);
    let response = timeout(shared.options.connect_timeout, client.snapshot(request))
        .await
        .map_err(|_| CallError::Away)?
        .map_err(|status| CallError::of(shared, &status))?;
    check_answer(shared, to, response.metadata()).map_err(CallError::Refused)?;

    let idle = shared.options.snapshot_idle_timeout;
    let mut replies = response.into_inner();
    let offer = SnapshotPart {
        part: Some(Part::Offer(offer)),
    };
    parts.send(offer).await.map_err(|_| CallError::Away)?;
    let resume_at = match next(shared, &mut replies, idle).await? {
        Reply::ResumeAt(offset) if offset <= size => offset,
        // The receiver is as new already.
        Reply::Taken(_) => return Ok(()),
        _ => return Err(CallError::Away),
    };
    let chunk_bytes = shared.options.snapshot_chunk_bytes;
    // Detached on purpose: it ends when `parts` has no receiver any more.
    drop(tokio::task::spawn_blocking(move || {
        // A read that failed closes the stream early, which the receiver takes for a break.
        drop(pump(bytes, resume_at, size, chunk_bytes, &parts));
    }));
    loop {
        match next(shared, &mut replies, idle).await? {
            Reply::Progress(_) => {}
            Reply::Taken(_) => return Ok(()),
            Reply::ResumeAt(_) => return Err(CallError::Away),
        }
    }
}

async fn next(
    shared: &Shared,
    replies: &mut Streaming<SnapshotReply>,
    idle: Duration,
) -> Result<Reply, CallError> {
    let reply = timeout(idle, replies.message())
        .await
        .map_err(|_| CallError::Away)?
        .map_err(|status| CallError::of(shared, &status))?;
    reply.and_then(|reply| reply.reply).ok_or(CallError::Away)
}

/// Reads the snapshot into the stream. Blocks on the disk and on the network.
fn pump(
    mut bytes: Box<dyn SnapshotBytes>,
    resume_at: u64,
    size: u64,
    chunk_bytes: usize,
    parts: &mpsc::Sender<SnapshotPart>,
) -> io::Result<()> {
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    let mut offset = resume_at;
    while offset < size {
        let wanted = usize::try_from(size - offset)
            .unwrap_or(chunk_bytes)
            .min(chunk_bytes);
        let mut data = vec![0; wanted];
        let count = bytes.read_at(offset, &mut data)?;
        if count == 0 || count > wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        data.truncate(count);
        let checksum = crc32fast::hash(&data);
        let chunk = SnapshotChunk {
            offset,
            data: Bytes::from(data),
            checksum,
        };
        let part = SnapshotPart {
            part: Some(Part::Chunk(chunk)),
        };
        parts.blocking_send(part).map_err(|_| gone())?;
        offset = offset.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
    }
    let end = SnapshotPart {
        part: Some(Part::End(SnapshotEnd { size })),
    };
    parts.blocking_send(end).map_err(|_| gone())
}
