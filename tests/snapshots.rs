//! A member that is too far behind for the log comes back by a snapshot.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use raftwerk_tests::client::{Client, agreed_hash, fill, leader, number, report, verify};
use raftwerk_tests::processes::{Cluster, await_some};

/// Stops a member for `count` writes while the others compact their logs, and starts it again.
async fn come_back_after(count: usize, entries: &str, keep: &str) {
    let flags = ["--snapshot-entries", entries, "--snapshot-keep", keep];
    let mut cluster = Cluster::start(3, &flags);
    let away = (leader(&cluster).await + 1) % 3;
    fill(&cluster, "early", 10, 100, 1).await;
    agreed_hash(&cluster).await;
    let last = number(&report(&cluster.members[away]), "log_last");
    assert!(
        cluster.members[away].stop().success(),
        "{}",
        cluster.outputs()
    );
    fill(&cluster, "late", count, 100, 64).await;
    // Nobody can send what comes next in the log: only a snapshot can bring it back.
    for (_, member) in cluster
        .members
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != away)
    {
        await_some("the log to be compacted", || {
            (number(&report(member), "log_first") > last + 1).then_some(())
        });
    }
    let began = std::time::Instant::now();
    cluster.start_member(away);
    let (revision, _) = agreed_hash(&cluster).await;
    println!("back at revision {revision} after {:?}", began.elapsed());
    assert!(number(&report(&cluster.members[away]), "log_first") > last + 1);
    let mut client = Client::of(&cluster.members[away]);
    verify(&mut client, "early", 10, 100).await;
    verify(&mut client, "late", count, 100).await;
    // It takes part: with it alone beside the leader, writes go on.
    let other = (0..3).find(|at| *at != away).unwrap();
    cluster.members[other].kill();
    client.put("after", b"1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_stopped_while_the_log_is_compacted_comes_back_by_snapshot() {
    come_back_after(1_000, "200", "100").await;
}

#[cfg(feature = "processes")]
#[tokio::test(flavor = "multi_thread")]
async fn a_member_stopped_for_fifty_thousand_writes_comes_back_by_snapshot() {
    come_back_after(50_000, "10000", "5000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_killed_after_compaction_find_everything_again() {
    let flags = ["--snapshot-entries", "200", "--snapshot-keep", "100"];
    let mut cluster = Cluster::start(3, &flags);
    leader(&cluster).await;
    fill(&cluster, "key", 1_000, 100, 64).await;
    let (revision, hash) = agreed_hash(&cluster).await;
    for member in &cluster.members {
        await_some("the log to be compacted", || {
            (number(&report(member), "log_first") > 1).then_some(())
        });
    }
    cluster.kill_all();
    (0..3).for_each(|index| cluster.start_member(index));
    leader(&cluster).await;
    assert_eq!(agreed_hash(&cluster).await, (revision, hash));
    assert_eq!(Client::of_all(&cluster, 0).count("key").await, 1_000);
}
