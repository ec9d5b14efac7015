//! Whoever should not be there, and whatever should not arrive.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use common::{CLUSTER, Host, PATIENCE, forward, heartbeat, host, host_with, options};
use raftwerk::Transport;
use raftwerk_raft::NodeId;
use raftwerk_transport::{ClusterId, GrpcTransport, OpenError, Options, Refusal};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataMap;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};

#[test]
fn only_loopback_addresses_are_listened_on() {
    let mut options = options(1, 101);
    options.listen = "0.0.0.0:0".parse().unwrap();
    let error = GrpcTransport::open(options).unwrap_err();
    assert!(error.to_string().contains("until TLS is there"), "{error}");
}

#[test]
fn options_without_sense_are_refused_by_name() {
    type Case = (fn(&mut Options), &'static str);
    let cases: [Case; 4] = [
        (|options| options.id = NodeId::ZERO, "id"),
        (
            |options| options.frame_bytes_max = usize::MAX,
            "frame_bytes_max",
        ),
        (|options| options.batch_bytes = 0, "batch_bytes"),
        (
            |options| options.backoff_most = Duration::ZERO,
            "backoff_first",
        ),
    ];
    for (change, expected) in cases {
        let mut options = options(1, 101);
        change(&mut options);
        match GrpcTransport::open(options).unwrap_err() {
            OpenError::Option { name, .. } => assert_eq!(name, expected),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let a = host(1, 101);
    let mut second = options(2, 102);
    second.listen = a.transport.address();
    let error = GrpcTransport::open(second).unwrap_err().to_string();
    assert!(
        error.contains(&a.transport.address().to_string()),
        "{error}"
    );
}

#[test]
fn a_wiped_member_is_refused_in_both_directions() {
    let (a, b) = (host(1, 101), host(2, 102));
    a.transport.set_member(&b.member(2));
    b.transport.set_member(&a.member(1));
    a.transport.send(NodeId(2), forward(0, 1));
    assert_eq!(b.next_request(), (NodeId(1), 0));
    b.transport.send(NodeId(1), forward(0, 1));
    assert_eq!(a.next_request(), (NodeId(2), 0));

    let mut wiped = options(2, 999);
    wiped.listen = b.transport.address();
    drop(b);
    let b = host_with(wiped);
    // It knows nobody yet and would take anything: nothing may be sent to it.
    a.transport.send(NodeId(2), forward(1, 1));
    let (peer, refusal) = a.refused.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        (peer, refusal),
        (NodeId(2), Refusal::Replaced { id: NodeId(2) })
    );
    // And when it calls, it is told what to do.
    b.transport.set_member(&a.member(1));
    b.transport.send(NodeId(1), forward(1, 1));
    let (peer, refusal) = b.refused.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        (peer, &refusal),
        (NodeId(1), &Refusal::Replaced { id: NodeId(2) })
    );
    assert!(
        refusal
            .to_string()
            .contains("remove it from the cluster and add it again")
    );
    assert!(
        a.events
            .try_iter()
            .all(|event| matches!(event, common::Event::Unreachable(_)))
    );
    assert!(
        b.events
            .try_iter()
            .all(|event| matches!(event, common::Event::Unreachable(_)))
    );
}

#[test]
fn members_of_another_cluster_and_mixed_up_addresses_are_refused() {
    let a = host(1, 101);
    let mut other = options(2, 102);
    other.cluster = ClusterId(0xbad);
    let other = host_with(other);
    other.transport.set_member(&a.member(1));
    let (_, refusal) = other.refused.recv_timeout(PATIENCE).unwrap();
    assert!(
        refusal
            .to_string()
            .contains("belongs to cluster 00000000000000c1"),
        "{refusal}"
    );

    let b = host(3, 103);
    b.transport.set_member(&a.member(7));
    let (_, refusal) = b.refused.recv_timeout(PATIENCE).unwrap();
    assert!(
        refusal
            .to_string()
            .contains("this is member 1, the call is for member 7")
    );
    assert!(a.transport.stats().refused >= 2);
}

#[test]
fn accepted_sockets_do_not_delay_small_answers() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let limits = raftwerk_transport::listen::Limits::default();
        let mut incoming = raftwerk_transport::listen::Incoming::new(listener, limits).unwrap();
        let _client = tokio::net::TcpStream::connect(address).await.unwrap();
        let accepted = tokio_stream::StreamExt::next(&mut incoming)
            .await
            .unwrap()
            .unwrap();
        assert!(
            accepted.socket().nodelay().unwrap(),
            "TCP_NODELAY must be set"
        );
    });
}

#[test]
fn connections_beyond_the_bound_are_closed_and_silent_ones_do_not_stay() {
    let mut few = options(1, 101);
    few.limits.connections_max = 2;
    few.limits.preface_timeout = Duration::from_millis(50);
    let a = host_with(few);
    let connect = || TcpStream::connect(a.transport.address()).unwrap();
    let mut held = [connect(), connect(), connect()];
    // The third is closed at once, the others after the deadline: all reads come to an end.
    for stream in &mut held {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        assert!(ended.is_ok() || ended.unwrap_err().kind() != std::io::ErrorKind::WouldBlock);
    }
    let b = host(2, 102);
    b.transport.set_member(&a.member(1));
    b.transport.send(NodeId(1), forward(1, 1));
    assert_eq!(a.next_request(), (NodeId(2), 1), "room again for a member");
}

#[test]
fn garbage_on_the_port_harms_nobody() {
    let a = host(1, 101);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let noise: Vec<u8> = (0..70_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let oversize_frame = [preface.as_slice(), &[0xff; 9], &noise].concat();
    let settings_flood = [
        preface.as_slice(),
        &[0, 0, 0, 4, 0, 0, 0, 0, 0].repeat(5000),
    ]
    .concat();
    for bytes in [
        &noise[..],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &oversize_frame,
        &settings_flood,
        &[0; 100_000],
    ] {
        let mut stream = TcpStream::connect(a.transport.address()).unwrap();
        // The other side may close in the middle.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let b = host(2, 102);
    b.transport.set_member(&a.member(1));
    b.transport.send(NodeId(1), forward(1, 1));
    assert_eq!(a.next_request(), (NodeId(2), 1));
}

/// A caller of the service that keeps to HTTP/2 and to nothing else.
struct Caller {
    runtime: tokio::runtime::Runtime,
    url: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawFrame {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    envelopes: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawAnswer {}

#[derive(Clone, PartialEq, prost::Message)]
struct RawPart {
    #[prost(bytes = "bytes", optional, tag = "1")]
    offer: Option<Bytes>,
    #[prost(message, optional, tag = "2")]
    chunk: Option<RawChunk>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawChunk {
    #[prost(uint64, tag = "1")]
    offset: u64,
    #[prost(bytes = "bytes", tag = "2")]
    data: Bytes,
    #[prost(fixed32, tag = "3")]
    checksum: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawReply {
    #[prost(uint64, optional, tag = "1")]
    resume_at: Option<u64>,
}

impl Caller {
    fn new(host: &Host) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            runtime,
            url: format!("http://{}", host.transport.address()),
        }
    }

    /// Sends `messages` on one stream and returns the status it ends with.
    fn call<M, R>(&self, method: &'static str, messages: Vec<M>, metadata: MetadataMap) -> Status
    where
        M: prost::Message + Send + Sync + 'static,
        R: prost::Message + Default + Send + Sync + 'static,
    {
        self.runtime.block_on(async {
            let channel = Endpoint::from_shared(self.url.clone())
                .unwrap()
                .connect()
                .await
                .unwrap();
            let mut grpc = tonic::client::Grpc::new(channel);
            grpc.ready().await.unwrap();
            let (send, body) = tokio::sync::mpsc::channel(messages.len().max(1));
            for message in messages {
                send.send(message).await.unwrap();
            }
            drop(send);
            let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(body));
            *request.metadata_mut() = metadata;
            let codec = tonic_prost::ProstCodec::<M, R>::default();
            let path = PathAndQuery::from_static(method);
            let answers = match grpc.streaming(request, path, codec).await {
                Ok(response) => response,
                Err(status) => return status,
            };
            let mut answers = answers.into_inner();
            loop {
                match answers.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return Status::ok(""),
                    Err(status) => return status,
                }
            }
        })
    }

    fn frames(&self, envelopes: Vec<Bytes>, metadata: MetadataMap) -> Status {
        let frames = vec![RawFrame { envelopes }];
        self.call::<_, RawAnswer>("/raftwerk.peer.v1.Peer/Messages", frames, metadata)
    }

    fn parts(&self, parts: Vec<RawPart>) -> Status {
        let metadata = metadata();
        self.call::<_, RawReply>("/raftwerk.peer.v1.Peer/Snapshot", parts, metadata)
    }
}

fn metadata() -> MetadataMap {
    let mut metadata = MetadataMap::new();
    for (key, value) in [
        ("raftwerk-protocol", "1".to_owned()),
        ("raftwerk-cluster", CLUSTER.to_string()),
        ("raftwerk-from", "2".to_owned()),
        ("raftwerk-to", "1".to_owned()),
        ("raftwerk-store", format!("{:032x}", 102)),
    ] {
        metadata.insert(key, value.parse().unwrap());
    }
    metadata
}

#[test]
fn callers_without_a_name_are_refused_before_their_frames_are_read() {
    let a = host(1, 101);
    let caller = Caller::new(&a);
    let status = caller.frames(vec![forward(1, 1).encode()], MetadataMap::new());
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let mut newer = metadata();
    newer.insert("raftwerk-protocol", "2".parse().unwrap());
    let status = caller.frames(vec![forward(1, 1).encode()], newer);
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    let mut myself = metadata();
    myself.insert("raftwerk-from", "1".parse().unwrap());
    let status = caller.frames(vec![forward(1, 1).encode()], myself);
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    assert_eq!(a.transport.stats().received_frames, 0);
}

#[test]
fn envelopes_that_cannot_be_true_end_their_stream() {
    let a = host(1, 101);
    let caller = Caller::new(&a);
    let good = forward(1, 100).encode();
    let mut bad: Vec<Bytes> = (0..good.len().min(40)).map(|n| good.slice(..n)).collect();
    bad.push(Bytes::from(vec![0xff; 1000]));
    // Of another sender, and for another receiver.
    bad.push(heartbeat(3, 1).encode());
    bad.push(heartbeat(2, 3).encode());
    let count = bad.len() as u64;
    for envelope in bad {
        let status = caller.frames(vec![envelope.clone()], metadata());
        assert_eq!(
            status.code(),
            Code::InvalidArgument,
            "{envelope:?}: {status:?}"
        );
    }
    assert_eq!(a.transport.stats().receive_invalid, count);
    assert_eq!(a.transport.stats().received, 0);
}

#[test]
fn an_oversize_frame_ends_its_stream_and_nothing_is_taken() {
    let mut small = options(1, 101);
    small.frame_bytes_max = 64 * 1024;
    small.batch_bytes = 16 * 1024;
    small.snapshot_chunk_bytes = 16 * 1024;
    let a = host_with(small);
    let caller = Caller::new(&a);
    let status = caller.frames(vec![forward(1, 65 * 1024).encode()], metadata());
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert_eq!(a.transport.stats().received, 0);
}

#[test]
fn a_snapshot_out_of_order_or_damaged_is_refused() {
    let a = host(1, 101);
    let caller = Caller::new(&a);
    let offer = || RawPart {
        offer: Some(common::header(2, 1, 5, 100).encode()),
        chunk: None,
    };
    let chunk = |offset, size: usize, damage| {
        let data = Bytes::from(vec![7; size]);
        let checksum = crc32fast::hash(&data) ^ damage;
        RawPart {
            offer: None,
            chunk: Some(RawChunk {
                offset,
                data,
                checksum,
            }),
        }
    };
    let foreign = RawPart {
        offer: Some(common::header(3, 1, 5, 100).encode()),
        chunk: None,
    };
    let noise = RawPart {
        offer: Some(Bytes::from(vec![0xee; 100])),
        chunk: None,
    };
    for (parts, expected) in [
        (vec![chunk(0, 10, 0)], Code::InvalidArgument),
        (vec![foreign], Code::InvalidArgument),
        (vec![noise], Code::InvalidArgument),
        (vec![offer(), chunk(1, 10, 0)], Code::InvalidArgument),
        (vec![offer(), chunk(u64::MAX, 10, 0)], Code::InvalidArgument),
        (vec![offer(), chunk(0, 101, 0)], Code::InvalidArgument),
        (vec![offer(), chunk(0, 0, 0)], Code::InvalidArgument),
        (vec![offer(), offer()], Code::InvalidArgument),
        (vec![offer(), chunk(0, 10, 1)], Code::DataLoss),
        (vec![offer(), chunk(0, 10, 0)], Code::Aborted),
    ] {
        a.inbox.partial.lock().bytes.clear();
        let status = caller.parts(parts.clone());
        assert_eq!(status.code(), expected, "{parts:?}: {status:?}");
    }
    assert_eq!(a.transport.stats().snapshots_failed, 10);
}
