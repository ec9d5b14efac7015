//! What arrives from outside and makes no sense: refused in words, and the member goes on.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::io::{ErrorKind, Write};
use std::net::TcpStream;

use raftwerk_server::proto::etcdserverpb as pb;
use raftwerk_tests::client::{Client, channel, leader};
use raftwerk_tests::processes::{Cluster, PATIENCE, command};
use tonic::Code;

/// Bytes that no member sends: reproducible noise.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        })
        .collect()
}

/// Sends `bytes` and waits for the other side to hang up, whatever it answers before.
fn shout(port: u16, bytes: &[u8]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let hung_up = |error: &std::io::Error| {
        let kind = error.kind();
        assert!(
            matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
            "{error} after {} bytes to port {port}",
            bytes.len()
        );
    };
    // The member may hang up before everything is written.
    if let Err(error) = stream.write_all(bytes) {
        return hung_up(&error);
    }
    let _ = std::io::copy(&mut stream, &mut std::io::sink()).map_err(|error| hung_up(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_both_ports_leaves_the_cluster_in_service() {
    let cluster = Cluster::start(3, &[]);
    let at = leader(&cluster).await;
    let mut client = Client::of_all(&cluster, at);
    client.put("before", b"1").await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut oversize = preface.to_vec();
    // A frame header that declares 16 MiB, followed by less.
    oversize.extend([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]);
    oversize.extend(noise(4096));
    let mut broken = preface.to_vec();
    broken.extend(noise(64 * 1024));
    for member in &cluster.members {
        for port in [member.client_port, member.peer_port] {
            for bytes in [&noise(100), &noise(1024 * 1024), &oversize, &broken] {
                shout(port, bytes);
            }
        }
    }
    client.put("after", b"2").await;
    for member in &cluster.members {
        let mut client = Client::of(member);
        assert_eq!(client.get("before").await.as_deref(), Some(b"1".as_slice()));
        assert_eq!(client.get("after").await.as_deref(), Some(b"2".as_slice()));
        assert!(!member.output().contains("panicked"), "{}", member.output());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_too_large_or_has_no_key_is_refused_in_words() {
    let cluster = Cluster::start(1, &[]);
    let mut client = Client::of_all(&cluster, 0);
    client.put("a", b"1").await;
    let large = client.put_refused("large", &vec![7; 1_600_000]).await;
    assert_eq!(
        large.message(),
        "etcdserver: request is too large",
        "{large:?}"
    );
    assert_eq!(large.code(), Code::InvalidArgument);
    let empty = client.put_refused("", b"value").await;
    assert_eq!(
        empty.message(),
        "etcdserver: key is not provided",
        "{empty:?}"
    );
    assert_eq!(empty.code(), Code::InvalidArgument);
    assert_eq!(client.get("a").await.as_deref(), Some(b"1".as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_says_so() {
    let cluster = Cluster::start(1, &[]);
    leader(&cluster).await;
    let channel = channel(&cluster.members[0], PATIENCE);
    let mut leases = pb::lease_client::LeaseClient::new(channel);
    let request = pb::LeaseGrantRequest { ttl: 5, id: 0 };
    let refused = leases.lease_grant(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(!refused.message().is_empty());
}

#[test]
fn wrong_flags_are_refused_by_name_and_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    let cases: [(&[&str], &str); 6] = [
        (&["up", "--data", data, "--members", "0"], "--members"),
        (&["up", "--data", data, "--members", "8"], "--members"),
        (
            &["up", "--data", data, "--client-port", "70000"],
            "--client-port",
        ),
        (&["up", "--data", data, "--log", "paper"], "--log"),
        (&["up", "--data", data, "--store", "paper"], "--store"),
        (
            &["serve", "--data", data, "--listen-client", "nonsense"],
            "--listen-client",
        ),
    ];
    for (args, word) in cases {
        let said = command(args);
        assert_eq!(said.code, Some(2), "{args:?}: {said:?}");
        assert!(said.err.contains(word), "{args:?}: {said:?}");
        assert!(!std::path::Path::new(data).exists(), "{args:?} made {data}");
    }
}
