//! A request that names its authority as etcdctl 3.4 does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![allow(missing_docs)]

mod common;
#[path = "common/fake.rs"]
mod fake;

use std::net::SocketAddr;

use common::Fixture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A header field as a literal without indexing.
fn field(name: &str, value: &str) -> Vec<u8> {
    let string = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
    [vec![0], string(name), string(value)].concat()
}

/// Sends an empty Status request and gives the kind of the first frame of its answer.
async fn first_frame_of_the_answer(address: SocketAddr, authority: &str) -> u8 {
    let authority = [
        &[0x41, u8::try_from(authority.len()).unwrap()][..],
        authority.as_bytes(),
    ];
    let headers = [
        field(":method", "POST"),
        field(":scheme", "http"),
        field(":path", "/etcdserverpb.Maintenance/Status"),
        authority.concat(),
        field("content-type", "application/grpc"),
        field("te", "trailers"),
    ];
    let request = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &[]),
        frame(HEADERS, 4, 1, &headers.concat()),
        frame(DATA, 1, 1, &[0; 5]),
    ];
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&request.concat()).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        if head[8] == 1 {
            return head[3];
        }
    }
}

#[tokio::test]
async fn request_whose_authority_is_a_url_is_served() {
    let (_, address) = fake::serve(Fixture::new()).await;
    for authority in [
        "127.0.0.1:2379",
        "http://127.0.0.1:2379",
        "https://node:2379",
    ] {
        let kind = first_frame_of_the_answer(address, authority).await;
        assert_eq!(kind, HEADERS, "{authority}");
    }
    // What no client of ours sends is still refused, by HTTP/2's own rules.
    let kind = first_frame_of_the_answer(address, "ftp://nobody/at all").await;
    assert_eq!(kind, RST_STREAM);
}
