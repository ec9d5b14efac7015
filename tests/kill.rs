//! kill -9, again and again.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raftwerk_tests::client::{Client, agreed_hash, leader, of_prefix};
use raftwerk_tests::processes::Cluster;
use rustix::process::Signal;
use tokio::sync::Notify;

const WRITERS: usize = 8;

/// How long the leaders are being killed; `RAFTWERK_KILL_SECONDS` shortens or stretches it.
fn duration() -> Duration {
    let seconds = std::env::var("RAFTWERK_KILL_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok());
    Duration::from_secs(seconds.unwrap_or(60))
}

/// What the writers saw: the moments of acknowledgements, and how many each one got.
#[derive(Default)]
struct Seen {
    acknowledged: Vec<Instant>,
    counts: [u64; WRITERS],
}

/// The same, and who is told of each acknowledgement.
#[derive(Default)]
struct Watched {
    seen: Mutex<Seen>,
    grown: Notify,
}

impl Watched {
    /// Waits until `count` writes are acknowledged.
    async fn acknowledged(&self, count: usize) {
        while self.seen.lock().acknowledged.len() < count {
            self.grown.notified().await;
        }
    }
}

/// Starts writers that write `w<writer>/<number>` in order until told to stop.
fn start_writers(
    cluster: &Cluster,
    watched: &Arc<Watched>,
    stop: &Arc<AtomicBool>,
) -> Vec<tokio::task::JoinHandle<()>> {
    (0..WRITERS)
        .map(|writer| {
            let (watched, stop) = (Arc::clone(watched), Arc::clone(stop));
            let mut client = Client::of_all(cluster, writer);
            tokio::spawn(async move {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    client.put(&key(writer, number), b"written").await;
                    number += 1;
                    let mut seen = watched.seen.lock();
                    seen.acknowledged.push(Instant::now());
                    seen.counts[writer] = number;
                    drop(seen);
                    watched.grown.notify_one();
                }
            })
        })
        .collect()
}

fn key(writer: usize, number: u64) -> String {
    format!("w{writer}/{number:08}")
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_leader_again_and_again_loses_no_acknowledged_write() {
    let mut cluster = Cluster::start(3, &[]);
    leader(&cluster).await;
    let watched = Arc::new(Watched::default());
    let stop = Arc::new(AtomicBool::new(false));
    let writers = start_writers(&cluster, &watched, &stop);
    let end = Instant::now() + duration();
    let mut kills = 0;
    while Instant::now() < end {
        let victim = leader(&cluster).await;
        let before = watched.seen.lock().acknowledged.len();
        cluster.members[victim].kill();
        kills += 1;
        // Some writes must get through without it before it comes back.
        let service = watched.acknowledged(before + 100);
        let within = tokio::time::timeout(Duration::from_secs(30), service).await;
        assert!(within.is_ok(), "no service for 30 s\n{}", cluster.outputs());
        cluster.start_member(victim);
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    report_gaps(&watched.seen.lock().acknowledged, kills);
    let counts = watched.seen.lock().counts;
    for turn in 0..3 {
        for (writer, count) in counts.iter().enumerate() {
            verify(&mut Client::of_all(&cluster, turn), writer, *count).await;
        }
    }
    agreed_hash(&cluster).await;
}

/// Reads one writer's keys from one member, page by page: none may be missing.
async fn verify(client: &mut Client, writer: usize, count: u64) {
    let mut expected = 0;
    while expected < count {
        let mut request = of_prefix(&format!("w{writer}/"));
        request.key = key(writer, expected).into_bytes().into();
        request.limit = 5_000;
        request.keys_only = true;
        let page = client.range(request).await.kvs;
        assert!(
            !page.is_empty(),
            "{} of {count} is missing",
            key(writer, expected)
        );
        for kv in &page {
            if expected == count {
                break;
            }
            assert_eq!(
                kv.key,
                key(writer, expected).as_bytes(),
                "acknowledged and gone"
            );
            expected += 1;
        }
    }
}

fn report_gaps(acknowledged: &[Instant], kills: usize) {
    let mut gaps: Vec<Duration> = acknowledged
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .collect();
    gaps.sort();
    let longest: Vec<Duration> = gaps.iter().rev().take(kills.max(1)).copied().collect();
    let median = longest.get(longest.len() / 2).copied().unwrap_or_default();
    let maximum = longest.first().copied().unwrap_or_default();
    println!(
        "{} writes acknowledged over {kills} kills; gap of service: median {median:?}, \
         maximum {maximum:?}",
        acknowledged.len()
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
    while stopped.elapsed() < Duration::from_secs(5) {
        client.put("y", b"meanwhile").await;
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
    assert_eq!(client.get("x").await.as_deref(), Some(b"after".as_slice()));
    agreed_hash(&cluster).await;
}
