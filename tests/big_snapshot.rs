//! A state of 500 MB travels in a snapshot without holding anybody up or filling their memory.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::time::Instant;

use raftwerk_tests::client::{Client, agreed_hash, await_known, fill, leader, number, report};
use raftwerk_tests::processes::{Cluster, PATIENCE, Patience, await_some, succeed};

const VALUE_BYTES: usize = 32 * 1024;
const VALUES: usize = 16_000;
/// By how much a member's memory may grow.
const GROWTH_BYTES_MAX: u64 = 64 << 20;
/// Two heartbeats: how late a tick may be.
const TICK_DELAY_SECONDS_MAX: f64 = 0.2;
const TICK_DELAY: &str = "raftwerk_tick_delay_max_seconds";

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_gigabyte_installs_in_little_memory_and_holds_nobody_up() {
    let mut cluster = Cluster::start(3, &["--segment-mib", "64"]);
    leader(&cluster).await;
    fill(&cluster, "early", 100, 100, 8).await;
    agreed_hash(&cluster).await;
    await_known(&cluster);
    assert!(cluster.members[2].stop().success(), "{}", cluster.outputs());
    let last = {
        let began = Instant::now();
        let last = number(&report(&cluster.members[0]), "log_last");
        fill(&cluster, "key", VALUES, VALUE_BYTES, 16).await;
        println!(
            "{} MiB written in {:?}",
            (VALUES * VALUE_BYTES) >> 20,
            began.elapsed()
        );
        last
    };
    // A fresh start: what the load needed is no part of what the snapshot needs.
    for index in 0..2 {
        assert!(
            cluster.members[index].stop().success(),
            "{}",
            cluster.outputs()
        );
    }
    (0..2).for_each(|index| cluster.start_member(index));
    leader(&cluster).await;
    let endpoints = cluster.endpoints();
    let began = Instant::now();
    for index in 0..2 {
        let name = cluster.members[index].name.clone();
        let line = succeed(&[
            "snapshot",
            "take",
            &name,
            "--timeout",
            "120",
            "--endpoints",
            &endpoints,
        ]);
        print!("{line}");
        let member = &cluster.members[index];
        await_some("the log to be compacted", || {
            (number(&report(member), "log_first") > last + 1).then_some(())
        });
    }
    println!("two snapshots taken in {:?}", began.elapsed());
    let before = [0, 1].map(|index| cluster.members[index].memory_bytes());
    install(&mut cluster, before).await;
    let mut client = Client::of(&cluster.members[2]);
    assert_eq!(client.count("key").await, i64::try_from(VALUES).unwrap());
    agreed_hash(&cluster).await;
}

/// Starts the third member and watches everybody's memory until it has everything.
async fn install(cluster: &mut Cluster, before: [u64; 2]) {
    let goal = number(&report(&cluster.members[0]), "applied");
    let began = Instant::now();
    cluster.start_member(2);
    let mut most = [0; 3];
    let own = await_some("the member to answer", || {
        let member = &cluster.members[2];
        let memory = member.memory_bytes();
        member.http("/metrics").is_ok().then_some(memory)
    });
    let base = [before[0], before[1], own];
    let patience = Patience::new(3 * PATIENCE);
    while cluster.members[2].metric("raftwerk_applied_index") < goal as f64 {
        for (most, member) in most.iter_mut().zip(&cluster.members) {
            *most = (*most).max(member.memory_bytes());
        }
        patience.again(|| cluster.outputs()).await;
    }
    println!("installed in {:?}", began.elapsed());
    for ((member, base), most) in cluster.members.iter().zip(base).zip(most) {
        let delay = member.metric(TICK_DELAY);
        println!(
            "{}: memory {} MiB, at most {} MiB; a tick late by at most {delay:.3} s",
            member.name,
            mib(base),
            mib(most)
        );
        assert!(
            most.saturating_sub(base) <= GROWTH_BYTES_MAX,
            "{} grew",
            member.name
        );
        assert!(
            delay <= TICK_DELAY_SECONDS_MAX,
            "{} was held up",
            member.name
        );
    }
}
