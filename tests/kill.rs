//! kill -9, again and again.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::time::{Duration, Instant};

use raftwerk_tests::client::{Client, agreed_hash, key, leader, of_prefix, value, verify};
use raftwerk_tests::processes::Cluster;
use raftwerk_tests::writers::{Writers, Written};
use rustix::process::Signal;

/// How long the leaders are being killed; `RAFTWERK_KILL_SECONDS` shortens or stretches it.
fn duration() -> Duration {
    let seconds = std::env::var("RAFTWERK_KILL_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok());
    Duration::from_secs(seconds.unwrap_or(60))
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_leader_again_and_again_loses_no_acknowledged_write() {
    let mut cluster = Cluster::start(3, &[]);
    leader(&cluster).await;
    let writers = Writers::start(&cluster);
    let end = Instant::now() + duration();
    let mut kills = 0;
    while Instant::now() < end {
        let victim = leader(&cluster).await;
        cluster.members[victim].kill();
        kills += 1;
        // Some writes must get through without it before it comes back.
        writers.more(100, &cluster).await;
        cluster.start_member(victim);
    }
    let written = writers.end().await;
    report_gaps(&written, kills);
    written.verify(&cluster).await;
}

fn report_gaps(written: &Written, kills: usize) {
    let longest: Vec<Duration> = written.gaps().into_iter().take(kills.max(1)).collect();
    let median = longest.get(longest.len() / 2).copied().unwrap_or_default();
    let maximum = longest.first().copied().unwrap_or_default();
    println!(
        "{} writes acknowledged over {kills} kills; gap of service: median {median:?}, \
         maximum {maximum:?}",
        written.count()
    );
    assert!(
        maximum < Duration::from_secs(30),
        "service was gone for {maximum:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_stopped_for_five_seconds_gives_no_stale_read_and_loses_no_write() {
    let cluster = Cluster::start(3, &[]);
    let old = leader(&cluster).await;
    let mut client = Client::of_all(&cluster, old + 1);
    client.put("x", b"before").await;
    cluster.members[old].signal(Signal::STOP);
    let stopped = Instant::now();
    client.put("x", b"after").await;
    // Service goes on without it all the while.
    let mut meanwhile = 0;
    while stopped.elapsed() < Duration::from_secs(5) {
        let key = key("y", meanwhile);
        client.put(&key, &value(&key, 10)).await;
        meanwhile += 1;
    }
    cluster.members[old].signal(Signal::CONT);
    // Asked at once after it wakes up, it still believes that it leads.
    let mut woken = Client::of(&cluster.members[old]);
    for _ in 0..50 {
        if let Ok(answer) = woken.range_once(of_prefix("x")).await {
            assert_eq!(answer.kvs[0].value, b"after".as_slice(), "stale read");
        }
    }
    // Those may all have failed: now until it answers.
    assert_eq!(woken.get("x").await.as_deref(), Some(b"after".as_slice()));
    for member in &cluster.members {
        let mut client = Client::of(member);
        assert_eq!(client.get("x").await.as_deref(), Some(b"after".as_slice()));
        verify(&mut client, "y", meanwhile, 10).await;
    }
    agreed_hash(&cluster).await;
}
