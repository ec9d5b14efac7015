//! A state of 500 MB travels in a snapshot without holding anybody up or filling their memory.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use raftwerk_tests::client::{
    Client, agreed_hash, await_known, fill, leader, number, report, verify,
};
use raftwerk_tests::processes::{Cluster, Member, PATIENCE, Patience, await_some, pause, succeed};

const VALUE_BYTES: usize = 32 * 1024;
const VALUES: usize = 16_000;
/// By how much a member's memory may grow.
const GROWTH_BYTES_MAX: u64 = 64 << 20;
/// Two heartbeats: how much later a tick may be than a thread of this process that only sleeps.
const TICK_DELAY_SECONDS_MAX: f64 = 0.2;
/// How much of such a thread's own delay may excuse a tick's, in seconds: what keeps all threads
/// waiting for longer may be the members' doing.
const EXCUSED_SECONDS_MAX: f64 = 1.0;
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
    let sleeper = Sleeper::start();
    (0..2).for_each(|index| cluster.start_member(index));
    leader(&cluster).await;
    let endpoints = cluster.endpoints();
    let before = memory(&cluster.members[..2]);
    let began = Instant::now();
    let members = &cluster.members[..2];
    let most = std::thread::scope(|scope| {
        let taking = scope.spawn(|| {
            for member in members {
                take(member, &endpoints);
                await_some("the log to be compacted", || {
                    (number(&report(member), "log_first") > last + 1).then_some(())
                });
            }
        });
        let mut most = before.clone();
        while !taking.is_finished() {
            raise(&mut most, members);
            pause();
        }
        taking.join().unwrap();
        most
    });
    println!("two snapshots taken in {:?}", began.elapsed());
    check_growth(members, &before, &most);
    install(&mut cluster, before, sleeper).await;
    let mut client = Client::of(&cluster.members[2]);
    verify(&mut client, "key", VALUES, VALUE_BYTES).await;
    agreed_hash(&cluster).await;
}

/// A thread that only sleeps, a tick at a time: how late it is woken is the machine's doing.
struct Sleeper {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Sleeper {
    const TICK: Duration = Duration::from_millis(100);

    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut latest = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) {
                let asleep = Instant::now();
                std::thread::sleep(Self::TICK);
                latest = latest.max(asleep.elapsed().saturating_sub(Self::TICK));
            }
            latest
        });
        Self { stop, thread }
    }

    /// By how many seconds it was late at most.
    fn end(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().as_secs_f64()
    }
}

fn take(member: &Member, endpoints: &str) {
    let (take, more) = (["snapshot", "take", &member.name], ["--timeout", "120"]);
    print!(
        "{}",
        succeed(&[&take[..], &more, &["--endpoints", endpoints]].concat())
    );
}

fn memory(members: &[Member]) -> Vec<u64> {
    members.iter().map(Member::memory_bytes).collect()
}

/// Looks at the memory again, and keeps what is more than before.
fn raise(most: &mut [u64], members: &[Member]) {
    for (most, found) in most.iter_mut().zip(memory(members)) {
        *most = found.max(*most);
    }
}

fn check_growth(members: &[Member], base: &[u64], most: &[u64]) {
    for ((member, base), most) in members.iter().zip(base).zip(most) {
        let name = &member.name;
        println!(
            "{name}: memory {} MiB, at most {} MiB",
            mib(*base),
            mib(*most)
        );
    }
    for ((member, base), most) in members.iter().zip(base).zip(most) {
        let grown = most.saturating_sub(*base);
        assert!(grown <= GROWTH_BYTES_MAX, "{} grew", member.name);
    }
}

/// Starts the third member and watches everybody's memory until it has everything. `base` is what
/// the others had before their snapshots were taken.
async fn install(cluster: &mut Cluster, mut base: Vec<u64>, sleeper: Sleeper) {
    let goal = number(&report(&cluster.members[0]), "applied");
    let began = Instant::now();
    cluster.start_member(2);
    base.push(await_some("the member to answer", || {
        let member = &cluster.members[2];
        let memory = member.memory_bytes();
        member.http("/metrics").is_ok().then_some(memory)
    }));
    let mut most = base.clone();
    let patience = Patience::new(3 * PATIENCE);
    while cluster.members[2].metric("raftwerk_applied_index") < goal as f64 {
        raise(&mut most, &cluster.members);
        patience.again(|| cluster.outputs()).await;
    }
    println!("installed in {:?}", began.elapsed());
    check_growth(&cluster.members, &base, &most);
    let machine = sleeper.end();
    println!("a thread that only sleeps: late by at most {machine:.3} s");
    for member in &cluster.members {
        let delay = member.metric(TICK_DELAY);
        println!("{}: a tick late by at most {delay:.3} s", member.name);
        assert!(
            delay <= TICK_DELAY_SECONDS_MAX + machine.min(EXCUSED_SECONDS_MAX),
            "{} was held up",
            member.name
        );
    }
}
