//! A small cluster of real processes keeps what it acknowledged.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use raftwerk_tests::client::{Client, leader};
use raftwerk_tests::processes::Cluster;
use raftwerk_tests::writers::Writers;

#[tokio::test(flavor = "multi_thread")]
async fn all_members_killed_at_once_under_load_keep_every_acknowledged_write() {
    let mut cluster = Cluster::start(3, &[]);
    leader(&cluster).await;
    let writers = Writers::start(&cluster);
    for _ in 0..3 {
        writers.more(300, &cluster).await;
        cluster.kill_all();
        (0..3).for_each(|index| cluster.start_member(index));
    }
    writers.more(300, &cluster).await;
    let written = writers.end().await;
    written.verify(&cluster).await;
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
