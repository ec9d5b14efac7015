//! A small cluster of real processes keeps what it acknowledged.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use raftwerk_tests::client::{Client, agreed_hash, leader};
use raftwerk_tests::processes::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn all_members_killed_at_once_keep_every_acknowledged_write() {
    let mut cluster = Cluster::start(3, &[]);
    leader(&cluster).await;
    let mut client = Client::of_all(&cluster, 0);
    for n in 0..50 {
        client
            .put(&format!("key{n}"), format!("value{n}").as_bytes())
            .await;
    }
    for member in &mut cluster.members {
        member.kill();
    }
    for index in 0..3 {
        cluster.start_member(index);
    }
    leader(&cluster).await;
    for turn in 0..3 {
        let mut client = Client::of_all(&cluster, turn);
        assert_eq!(client.count("key").await, 50, "at member {turn}");
        assert_eq!(
            client.get("key49").await.as_deref(),
            Some(b"value49".as_slice())
        );
    }
    agreed_hash(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_told_to_stop_ends_cleanly_and_finds_its_data_again() {
    let mut cluster = Cluster::start(1, &[]);
    let mut client = Client::of_all(&cluster, 0);
    client.put("a", b"1").await;
    let status = cluster.members[0].stop();
    assert!(status.success(), "{status}: {}", cluster.outputs());
    cluster.start_member(0);
    assert_eq!(client.get("a").await.as_deref(), Some(b"1".as_slice()));
}
