//! Receiving one snapshot: every chunk is checked before the sink sees it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use raftwerk::{SNAPSHOT_CHUNK_BYTES_MAX, SnapshotHeader, SnapshotRefused, SnapshotSink};
use raftwerk_raft::NodeId;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, interval, timeout, timeout_at};
use tonic::{Status, Streaming};

use crate::proto::snapshot_part::Part;
use crate::proto::snapshot_reply::Reply;
use crate::proto::{SnapshotChunk, SnapshotPart, SnapshotReply, SnapshotTaken};
use crate::shared::Shared;

/// How often the sender hears that there is progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// Chunks taken from the network ahead of the disk.
const CHUNKS_AHEAD: usize = 4;
/// How long checking and installing a whole snapshot may take before the stream is given up.
const FINISH_MAX: Duration = Duration::from_secs(600);

type Replies = mpsc::Sender<Result<SnapshotReply, Status>>;

enum Work {
    Chunk(Bytes),
    Finish,
}

/// Takes one snapshot from `from`.
///
/// # Errors
/// The status that the sender gets.
pub(crate) async fn receive(
    shared: &Arc<Shared>,
    from: NodeId,
    mut parts: Streaming<SnapshotPart>,
    replies: &Replies,
) -> Result<(), Status> {
    let idle = shared.options.snapshot_idle_timeout;
    let header = match next(&mut parts, idle).await? {
        Part::Offer(offer) => SnapshotHeader::decode(offer)
            .map_err(|error| Status::invalid_argument(format!("snapshot header: {error}")))?,
        _ => return Err(Status::invalid_argument("a snapshot begins with its offer")),
    };
    if header.from != from || header.to != shared.options.id {
        return Err(Status::invalid_argument(
            "snapshot header names other members",
        ));
    }
    let size = header.len_bytes;
    let Some(sink) = open(shared, from, header).await? else {
        reply(replies, Reply::Taken(SnapshotTaken {})).await?;
        return Ok(());
    };
    let resume_at = sink.resume_at();
    if resume_at > size {
        return Err(Status::internal(
            "more of the snapshot is here than there can be",
        ));
    }
    let written = Arc::new(AtomicU64::new(resume_at));
    let (work, queue) = mpsc::channel(CHUNKS_AHEAD);
    let counted = Arc::clone(&written);
    let writer = tokio::task::spawn_blocking(move || write(sink, queue, &counted));
    reply(replies, Reply::ResumeAt(resume_at)).await?;

    let mut ticks = interval(PROGRESS_EVERY);
    let mut transfer = Transfer {
        offset: resume_at,
        size,
        told: resume_at,
        written,
        replies,
        ticks: &mut ticks,
    };
    if let Err(status) = transfer.take(&mut parts, &work, idle).await {
        drop(work);
        // The writer's own error says more than the stream's.
        return match timeout(idle, writer).await {
            Ok(Ok(Err(error))) if error.kind() != io::ErrorKind::ConnectionAborted => {
                Err(cannot_store(&error))
            }
            _ => Err(status),
        };
    }
    transfer.finish(writer).await?;
    reply(replies, Reply::Taken(SnapshotTaken {})).await?;
    shared.counters.snapshots_received.add(1);
    Ok(())
}

/// Asks the inbox for a sink; `None` when the state here is as new already.
async fn open(
    shared: &Arc<Shared>,
    from: NodeId,
    header: SnapshotHeader,
) -> Result<Option<Box<dyn SnapshotSink>>, Status> {
    let inbox = shared
        .inbox()
        .cloned()
        .ok_or_else(|| Status::unavailable("member is stopping"))?;
    let opened = tokio::task::spawn_blocking(move || inbox.snapshot(from, header)).await;
    let refused = match opened {
        Ok(Ok(sink)) => return Ok(Some(sink)),
        Ok(Err(SnapshotRefused::NotNeeded)) => return Ok(None),
        Ok(Err(refused)) => refused,
        Err(_) => return Err(Status::internal("the snapshot could not be taken")),
    };
    let text = refused.to_string();
    Err(match refused {
        SnapshotRefused::Busy => Status::unavailable(text),
        SnapshotRefused::UnknownGroup { .. } => Status::not_found(text),
        SnapshotRefused::Io { .. } => Status::resource_exhausted(text),
        _ => Status::invalid_argument(text),
    })
}

/// Runs on a thread for blocking work until the snapshot is whole or its stream ends.
fn write(
    mut sink: Box<dyn SnapshotSink>,
    mut queue: mpsc::Receiver<Work>,
    written: &AtomicU64,
) -> io::Result<()> {
    while let Some(work) = queue.blocking_recv() {
        match work {
            Work::Chunk(data) => {
                sink.write(&data)?;
                written.fetch_add(u64::try_from(data.len()).unwrap_or(0), Ordering::Release);
            }
            Work::Finish => return sink.finish(),
        }
    }
    Err(io::ErrorKind::ConnectionAborted.into())
}

/// The state of a transfer under way.
struct Transfer<'a> {
    /// Where the next chunk begins.
    offset: u64,
    size: u64,
    /// What the sender was last told.
    told: u64,
    written: Arc<AtomicU64>,
    replies: &'a Replies,
    ticks: &'a mut Interval,
}

impl Transfer<'_> {
    /// Takes chunks until the end part. The deadline moves with each part.
    async fn take(
        &mut self,
        parts: &mut Streaming<SnapshotPart>,
        work: &mpsc::Sender<Work>,
        idle: Duration,
    ) -> Result<(), Status> {
        let mut deadline = Instant::now() + idle;
        loop {
            let part = tokio::select! {
                part = timeout_at(deadline, parts.message()) => part,
                _ = self.ticks.tick() => {
                    self.tell_progress().await?;
                    continue;
                }
            };
            let part = part.map_err(|_| Status::deadline_exceeded("no progress"))??;
            deadline = Instant::now() + idle;
            match part.and_then(|part| part.part) {
                Some(Part::Chunk(chunk)) => {
                    let data = self.check(chunk)?;
                    self.pass(work, Work::Chunk(data)).await?;
                }
                Some(Part::End(end)) if end.size == self.size && self.offset == self.size => {
                    return self.pass(work, Work::Finish).await;
                }
                Some(_) => return Err(Status::invalid_argument("snapshot parts out of order")),
                None => return Err(Status::aborted("snapshot ended early")),
            }
        }
    }

    fn check(&mut self, chunk: SnapshotChunk) -> Result<Bytes, Status> {
        let SnapshotChunk {
            offset,
            data,
            checksum,
        } = chunk;
        let end = u64::try_from(data.len())
            .ok()
            .and_then(|len| offset.checked_add(len));
        let fits = end.is_some_and(|end| end <= self.size);
        let sized = !data.is_empty() && data.len() <= SNAPSHOT_CHUNK_BYTES_MAX;
        if offset != self.offset || !fits || !sized {
            return Err(Status::invalid_argument("snapshot chunk out of place"));
        }
        if crc32fast::hash(&data) != checksum {
            return Err(Status::data_loss(
                "snapshot chunk does not match its checksum",
            ));
        }
        self.offset = end.unwrap_or(self.offset);
        Ok(data)
    }

    /// Hands work to the writer; while it is behind, the sender keeps hearing of what it does.
    async fn pass(&mut self, work: &mpsc::Sender<Work>, item: Work) -> Result<(), Status> {
        loop {
            tokio::select! {
                permit = work.reserve() => {
                    permit.map_err(|_| Status::internal("cannot store the snapshot"))?.send(item);
                    return Ok(());
                }
                _ = self.ticks.tick() => self.tell_progress().await?,
            }
        }
    }

    async fn tell_progress(&mut self) -> Result<(), Status> {
        let written = self.written.load(Ordering::Acquire);
        if written == self.told {
            return Ok(());
        }
        self.told = written;
        reply(self.replies, Reply::Progress(written)).await
    }

    /// Waits until the whole is checked and installed; the sender hears that it goes on.
    async fn finish(&mut self, mut writer: JoinHandle<io::Result<()>>) -> Result<(), Status> {
        let deadline = Instant::now() + FINISH_MAX;
        loop {
            let finished = tokio::select! {
                finished = timeout_at(deadline, &mut writer) => finished,
                _ = self.ticks.tick() => {
                    reply(self.replies, Reply::Progress(self.size)).await?;
                    continue;
                }
            };
            return match finished {
                Ok(Ok(Ok(()))) => Ok(()),
                Ok(Ok(Err(error))) => Err(cannot_store(&error)),
                Ok(Err(_)) => Err(Status::internal("the snapshot could not be installed")),
                Err(_) => Err(Status::deadline_exceeded("installing takes too long")),
            };
        }
    }
}

fn cannot_store(error: &io::Error) -> Status {
    Status::resource_exhausted(format!("cannot store the snapshot: {error}"))
}

async fn reply(replies: &Replies, reply: Reply) -> Result<(), Status> {
    let reply = SnapshotReply { reply: Some(reply) };
    replies
        .send(Ok(reply))
        .await
        .map_err(|_| Status::cancelled("the sender is gone"))
}

async fn next(parts: &mut Streaming<SnapshotPart>, idle: Duration) -> Result<Part, Status> {
    let part = timeout(idle, parts.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no progress"))??;
    part.and_then(|part| part.part)
        .ok_or_else(|| Status::aborted("snapshot ended early"))
}
