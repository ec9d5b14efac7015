//! Writers go on while links are cut and members lose power: what was acknowledged is there in the
//! end, nothing is there twice, and everybody agrees.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use common::{Cluster, Node, members};
use parking_lot::Mutex;
use raftwerk::raft::NodeId;
use raftwerk::{Group, GroupConfig, ProposeError, SnapshotPolicy};
use raftwerk_storage_mem::SyncMode;

const ROUNDS: u64 = 12;
const WRITERS: u64 = 4;
/// Up to so many writes are acknowledged before the next fault.
const WRITES: u64 = 8;
/// Longer than an election takes; only a hang reaches it.
const HANG: Duration = Duration::from_secs(60);

/// The next number of a fixed sequence, below `end`.
fn dice(state: &mut u64, end: u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % end
}

struct Writer {
    number: u64,
    groups: Arc<Mutex<BTreeMap<u64, Group>>>,
    stop: Arc<AtomicBool>,
    /// Told of each write that was acknowledged.
    progress: Sender<()>,
}

impl Writer {
    /// Proposes until told to stop; gives what was acknowledged. A number is tried once only.
    fn run(self) -> Vec<Bytes> {
        let mut acknowledged = Vec::new();
        let mut state = self.number;
        for n in 0_u64.. {
            if self.stop.load(Ordering::SeqCst) {
                break;
            }
            let at = 1 + dice(&mut state, 3);
            let group = self.groups.lock().get(&at).cloned();
            let Some(group) = group else { continue };
            let data = Bytes::from(format!("{} {n}", self.number));
            match group.propose(data.clone()).wait() {
                Ok(_) => {
                    acknowledged.push(data);
                    let _ = self.progress.send(());
                }
                Err(ProposeError::Refused { reason }) => panic!("{reason}"),
                Err(_) => {}
            }
        }
        acknowledged
    }
}

/// A power cut, and the restart.
fn lose_power(cluster: &mut Cluster, id: u64, groups: &Mutex<BTreeMap<u64, Group>>) {
    groups.lock().remove(&id);
    let Node {
        host, log, group, ..
    } = cluster.nodes.remove(&id).unwrap();
    drop(log.crash());
    host.stop();
    drop((host, log, group));
    cluster.boot(id);
    groups.lock().insert(id, cluster.group(id).clone());
}

/// Three members that snapshot now and then, on disks slow enough that there is something to lose.
fn start() -> Cluster {
    let mut config = GroupConfig::bootstrap(members(3));
    config.snapshot = SnapshotPolicy {
        entries: 300,
        growth: 0,
        bytes: 0,
        trailing_entries: 20,
    };
    config.limits.proposal_ticks = 20;
    let mut cluster = Cluster::without_nodes(config);
    cluster.options.sync = SyncMode::Delayed(Duration::from_millis(2));
    (1..=3).for_each(|id| cluster.boot(id));
    cluster.lead(1);
    cluster
}

#[test]
fn acknowledged_writes_survive_power_cuts_and_partitions_exactly_once() {
    let mut cluster = start();
    let groups: BTreeMap<u64, Group> = (1..=3).map(|id| (id, cluster.group(id).clone())).collect();
    let groups = Arc::new(Mutex::new(groups));
    let stop = Arc::new(AtomicBool::new(false));
    let (progress, acknowledgements) = channel();
    let writers: Vec<_> = (1..=WRITERS)
        .map(|number| {
            let writer = Writer {
                number,
                groups: Arc::clone(&groups),
                stop: Arc::clone(&stop),
                progress: progress.clone(),
            };
            std::thread::spawn(move || writer.run())
        })
        .collect();
    let mut state = 1;
    for _ in 0..ROUNDS {
        let id = 1 + dice(&mut state, 3);
        match dice(&mut state, 3) {
            0 => lose_power(&mut cluster, id, &groups),
            1 => cluster.net.isolate(NodeId(id)),
            _ => cluster.net.cut(NodeId(id), NodeId(1 + id % 3)),
        }
        // The others go on, with an election first where it was the leader. What was acknowledged
        // before does not count.
        acknowledgements.try_iter().for_each(drop);
        for _ in 0..=dice(&mut state, WRITES) {
            acknowledgements
                .recv_timeout(HANG)
                .expect("two members of three go on");
        }
        cluster.net.heal();
    }
    stop.store(true, Ordering::SeqCst);
    let acknowledged: Vec<Bytes> = writers
        .into_iter()
        .flat_map(|writer| writer.join().unwrap())
        .collect();
    while cluster.group(1).propose("the end").wait().is_err() {}
    let first = cluster.caught_up(1);
    let unique: BTreeSet<&Bytes> = first.iter().filter(|data| *data != "the end").collect();
    let ends = first.iter().filter(|data| *data == "the end").count();
    assert_eq!(
        unique.len() + ends,
        first.len(),
        "something was applied twice"
    );
    let missing: Vec<_> = acknowledged
        .iter()
        .filter(|data| !unique.contains(data))
        .collect();
    assert!(missing.is_empty(), "lost: {missing:?}");
    assert_eq!(cluster.caught_up(2), first);
    assert_eq!(cluster.caught_up(3), first);
    println!(
        "{} acknowledged, {} applied",
        acknowledged.len(),
        first.len()
    );
}
