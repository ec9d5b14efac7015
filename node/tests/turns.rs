//! Who runs a run loop that rests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::task::{Wake, Waker};
use std::thread;
use std::time::Duration;

use common::{Cluster, G, Journal, Seen};
use parking_lot::Mutex;
use raftwerk::raft::{NodeId, Role};
use raftwerk::{GroupConfig, Host, HostConfig, InMemory, InProcessNetwork, Member, ProposeError};
use raftwerk_storage_mem::{MemLog, MemLogOptions};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn loop_at_rest_runs_on_the_thread_that_brings_a_message() {
    let cluster = Cluster::start(2);
    let (told, sends) = channel();
    let told = Mutex::new(told);
    cluster.net.filter(move |from, _, _| {
        let _ = told.lock().send((from, thread::current().id()));
        true
    });
    // A heartbeat is answered by the thread that sent it.
    let mut seen = BTreeSet::new();
    let mut threads = Vec::new();
    loop {
        let (from, thread) = sends
            .recv_timeout(LIMIT)
            .expect("nobody ran the other's loop");
        let known = threads.iter().position(|other| *other == thread);
        let number = known.unwrap_or_else(|| {
            threads.push(thread);
            threads.len() - 1
        });
        seen.insert((from, number));
        let both = |number| {
            [1, 2]
                .iter()
                .all(|id| seen.contains(&(NodeId(*id), number)))
        };
        if (0..threads.len()).any(both) {
            break;
        }
    }
}

struct Tell(Mutex<Sender<()>>);

impl Wake for Tell {
    fn wake(self: Arc<Self>) {
        let _ = self.0.lock().send(());
    }
}

#[test]
fn requests_for_a_loop_at_rest_wake_the_task_that_wants_to_run_it() {
    let dir = tempfile::tempdir().unwrap();
    let (told, asked) = channel();
    let mut config = HostConfig::new(NodeId(1), dir.path());
    // Nothing happens by itself.
    config.tick = Duration::from_secs(3600);
    config.on_request = Some(Waker::from(Arc::new(Tell(Mutex::new(told)))));
    let log = Arc::new(MemLog::new(MemLogOptions::default()).unwrap());
    let host = Host::start(config, log, InProcessNetwork::new().join(NodeId(1))).unwrap();
    let seen = Seen::default();
    let machine = Box::new(InMemory::new(Journal(Arc::clone(&seen))));
    let bootstrap = GroupConfig::bootstrap(vec![Member::new(NodeId(1))]);
    let group = host.open_group(G, bootstrap, machine).unwrap();

    // A loop that does not rest yet finds what waits by itself.
    while group.status().applied.index.0 == 0 {
        thread::yield_now();
    }
    group.campaign();
    while group.status().role != Role::Leader {
        host.turn();
        thread::yield_now();
    }
    for round in 1..=20 {
        let answer = group.propose(vec![round]);
        let taken = group.propose(vec![round]);
        let _ = asked.try_recv();
        while seen.lock().len() < 2 * usize::from(round) {
            host.turn();
            thread::yield_now();
        }
        answer.wait().unwrap();
        taken.wait().unwrap();
    }
    // Resting at last, it wakes nobody else.
    while asked.try_recv().is_ok() {}
    let deadline = std::time::Instant::now() + LIMIT;
    loop {
        let answer = group.read_index();
        if asked.recv_timeout(Duration::from_millis(100)).is_ok() {
            host.turn();
            answer.wait().unwrap();
            break;
        }
        assert!(std::time::Instant::now() < deadline, "nobody was woken");
    }
    host.stop();
}

#[test]
fn panic_of_a_loop_in_anothers_hands_ends_its_groups_alone() {
    let cluster = Cluster::start(2);
    let armed = Arc::new(AtomicBool::new(true));
    let other = Arc::new(Mutex::new(None));
    let (told, panicked) = channel();
    let told = Mutex::new(told);
    let (fuse, of_one) = (Arc::clone(&armed), Arc::clone(&other));
    cluster.net.filter(move |from, _, _| {
        let here = thread::current().id();
        if from == NodeId(1) {
            *of_one.lock() = Some(here);
        } else if *of_one.lock() == Some(here) && fuse.swap(false, Ordering::SeqCst) {
            let _ = told.lock().send(());
            panic!("as the test asked for");
        }
        true
    });
    panicked
        .recv_timeout(LIMIT)
        .expect("nobody ran the other's loop");
    let ended = |id| cluster.group(id).propose("late").wait();
    assert!(
        matches!(ended(2), Err(ProposeError::Stopped)),
        "{:?}",
        ended(2)
    );
    assert!(cluster.group(1).status().term.0 > 0);
    for id in [1, 2] {
        assert!(cluster.node(id).host.stop_within(LIMIT));
    }
}
