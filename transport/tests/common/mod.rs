//! An inbox that remembers, and transports to put before it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    dead_code,
    unreachable_pub
)]

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use raftwerk::{
    Busy, Envelope, EnvelopeBody, Inbox, Incarnation, Member, OutgoingSnapshot, SnapshotBytes,
    SnapshotDone, SnapshotHeader, SnapshotRefused, SnapshotSink, Transport,
};
use raftwerk_raft::{
    Body, EntryKind, GroupId, LogIndex, Message, NodeId, SnapshotMeta, SnapshotStatus, Standing,
    Term,
};
use raftwerk_transport::{ClusterId, GrpcTransport, Options, Refusal};

/// Long enough for a loaded machine; nothing waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(30);

#[derive(PartialEq)]
pub enum Event {
    Received(NodeId, Envelope),
    Unreachable(NodeId),
    Snapshot(u128, Vec<u8>),
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Received(from, envelope) => write!(f, "{} bytes of {from}", envelope.weight()),
            Self::Unreachable(peer) => write!(f, "{peer} is unreachable"),
            Self::Snapshot(snapshot, bytes) => write!(f, "{snapshot}: {} bytes", bytes.len()),
        }
    }
}

/// What a sink has on its disk, so to speak.
#[derive(Debug, Default)]
pub struct Partial {
    pub bytes: Vec<u8>,
    /// Breaks once this many bytes are there.
    pub break_at: Option<usize>,
}

pub struct TestInbox {
    events: Mutex<Sender<Event>>,
    pub partial: Arc<Mutex<Partial>>,
    pub refuse: Mutex<Option<SnapshotRefused>>,
    /// How many more envelopes are answered with `Busy`.
    pub busy: Mutex<u32>,
}

impl Inbox for TestInbox {
    fn receive(&self, from: NodeId, envelope: Envelope) -> Result<(), Busy> {
        let mut busy = self.busy.lock();
        if *busy > 0 {
            *busy -= 1;
            return Err(Busy);
        }
        drop(busy);
        let _ = self.events.lock().send(Event::Received(from, envelope));
        Ok(())
    }

    fn snapshot(
        &self,
        _from: NodeId,
        header: SnapshotHeader,
    ) -> Result<Box<dyn SnapshotSink>, SnapshotRefused> {
        if let Some(refused) = self.refuse.lock().clone() {
            return Err(refused);
        }
        let resume_at = self.partial.lock().bytes.len() as u64;
        let events = self.events.lock().clone();
        let partial = Arc::clone(&self.partial);
        Ok(Box::new(TestSink {
            header,
            partial,
            resume_at,
            events,
        }))
    }

    fn unreachable(&self, peer: NodeId) {
        let _ = self.events.lock().send(Event::Unreachable(peer));
    }
}

struct TestSink {
    header: SnapshotHeader,
    partial: Arc<Mutex<Partial>>,
    resume_at: u64,
    events: Sender<Event>,
}

impl SnapshotSink for TestSink {
    fn resume_at(&self) -> u64 {
        self.resume_at
    }

    fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        let mut partial = self.partial.lock();
        if partial.break_at.is_some_and(|at| partial.bytes.len() >= at) {
            partial.break_at = None;
            return Err(io::Error::other("no space left, say"));
        }
        partial.bytes.extend_from_slice(chunk);
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.partial.lock().bytes);
        let _ = self
            .events
            .send(Event::Snapshot(self.header.snapshot, bytes));
        Ok(())
    }
}

/// A transport, its inbox and what the inbox saw.
pub struct Host {
    pub transport: GrpcTransport,
    pub inbox: Arc<TestInbox>,
    pub events: Receiver<Event>,
    pub refused: Receiver<(NodeId, Refusal)>,
}

pub const CLUSTER: ClusterId = ClusterId(0xc1);

pub fn options(id: u64, store: u128) -> Options {
    let mut options = Options::new(
        CLUSTER,
        NodeId(id),
        Incarnation(store),
        "127.0.0.1:0".parse().unwrap(),
    );
    options.backoff_first = Duration::from_millis(5);
    options.backoff_most = Duration::from_millis(50);
    options
}

pub fn host(id: u64, store: u128) -> Host {
    host_with(options(id, store))
}

pub fn host_with(mut options: Options) -> Host {
    let (tell, refused) = channel();
    let tell = Mutex::new(tell);
    options.on_refused = Some(Arc::new(move |peer, refusal: &Refusal| {
        let _ = tell.lock().send((peer, refusal.clone()));
    }));
    let transport = GrpcTransport::open(options).unwrap();
    let (sender, events) = channel();
    let inbox = Arc::new(TestInbox {
        events: Mutex::new(sender),
        partial: Arc::default(),
        refuse: Mutex::new(None),
        busy: Mutex::new(0),
    });
    let handed: Arc<TestInbox> = Arc::clone(&inbox);
    transport.start(handed).unwrap();
    Host {
        transport,
        inbox,
        events,
        refused,
    }
}

impl Host {
    pub fn member(&self, id: u64) -> Member {
        Member {
            id: NodeId(id),
            peer_urls: vec![format!("http://{}", self.transport.address())],
            ..Member::default()
        }
    }

    /// The next event that is no word of an unreachable peer.
    pub fn next(&self) -> Event {
        loop {
            match self.events.recv_timeout(PATIENCE).unwrap() {
                Event::Unreachable(_) => {}
                event => return event,
            }
        }
    }

    pub fn next_request(&self) -> (NodeId, u64) {
        match self.next() {
            Event::Received(from, envelope) => match envelope.body {
                EnvelopeBody::Forward { request, .. } => (from, request),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    pub fn next_unreachable(&self) -> NodeId {
        loop {
            if let Event::Unreachable(peer) = self.events.recv_timeout(PATIENCE).unwrap() {
                return peer;
            }
        }
    }
}

/// Two hosts that know each other.
pub fn pair() -> (Host, Host) {
    let (a, b) = (host(1, 101), host(2, 102));
    a.transport.set_member(&b.member(2));
    b.transport.set_member(&a.member(1));
    (a, b)
}

pub fn forward(request: u64, size: usize) -> Envelope {
    let data = Bytes::from(vec![b'x'; size]);
    Envelope {
        group: GroupId(1),
        body: EnvelopeBody::Forward {
            request,
            kind: EntryKind::Normal,
            data,
        },
    }
}

pub fn heartbeat(from: u64, to: u64) -> Envelope {
    let body = Body::Heartbeat {
        commit: LogIndex(7),
        read_position: 0,
    };
    let message = Message {
        from: NodeId(from),
        to: NodeId(to),
        term: Term(3),
        session: 0,
        standing: Standing::Sound,
        body,
    };
    Envelope {
        group: GroupId(1),
        body: EnvelopeBody::Raft(message),
    }
}

/// A snapshot in memory that counts from where it is read.
pub struct MemBytes {
    pub bytes: Vec<u8>,
    pub read_from: Arc<Mutex<Vec<u64>>>,
}

impl SnapshotBytes for MemBytes {
    fn read_at(&mut self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.read_from.lock().push(offset);
        let rest = &self.bytes[offset as usize..];
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

pub fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n * 31 % 251) as u8).collect()
}

pub fn header(from: u64, to: u64, snapshot: u128, len_bytes: u64) -> SnapshotHeader {
    SnapshotHeader {
        group: GroupId(1),
        from: NodeId(from),
        to: NodeId(to),
        term: Term(3),
        session: 0,
        meta: SnapshotMeta::default(),
        snapshot,
        len_bytes,
    }
}

/// Sends `bytes` from 1 to 2; the receivers get how it ended and every offset that was read.
pub fn send_snapshot(
    host: &Host,
    snapshot: u128,
    bytes: &[u8],
) -> (Receiver<SnapshotStatus>, Arc<Mutex<Vec<u64>>>) {
    let (tell, done) = channel();
    let read_from = Arc::new(Mutex::new(Vec::new()));
    let source = MemBytes {
        bytes: bytes.to_vec(),
        read_from: Arc::clone(&read_from),
    };
    host.transport.send_snapshot(
        NodeId(2),
        OutgoingSnapshot {
            header: header(1, 2, snapshot, bytes.len() as u64),
            bytes: Box::new(source),
            done: SnapshotDone::new(move |status| {
                let _ = tell.send(status);
            }),
        },
    );
    (done, read_from)
}
