//! Groups on the write-ahead log, on a real disk.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Journal, Seen, members};
use raftwerk::raft::{GroupId, NodeId, Storage};
use raftwerk::vfs::{CountingVfs, RealVfs};
use raftwerk::wal::{Options, Wal};
use raftwerk::{Group, GroupConfig, Host, HostConfig, InMemory, InProcessNetwork, SnapshotPolicy};

struct Node {
    host: Host,
    groups: Vec<Group>,
    seen: Vec<Seen>,
    disk: CountingVfs,
}

fn start(id: u64, groups: u64, net: &InProcessNetwork, dir: &Path) -> Node {
    let dir = dir.join(id.to_string());
    let disk = CountingVfs::new(Arc::new(RealVfs));
    let options = Options {
        segment_bytes: 4 << 20,
        ..Options::default()
    };
    let log = Wal::open(Arc::new(disk.clone()), dir.join("log"), options).unwrap();
    let mut config = HostConfig::new(NodeId(id), dir.join("snapshots"));
    config.tick = Duration::from_millis(50);
    let log = Arc::new(log) as Arc<dyn Storage>;
    let host = Host::start(config, log, net.join(NodeId(id))).unwrap();
    let seen: Vec<Seen> = (0..groups).map(|_| Seen::default()).collect();
    let open = |(group, seen): (u64, &Seen)| {
        let mut config = GroupConfig::bootstrap(members(3));
        config.snapshot = SnapshotPolicy {
            entries: 50,
            growth: 0,
            bytes: 0,
            trailing_entries: 10,
        };
        let machine = Box::new(InMemory::new(Journal(Arc::clone(seen))));
        host.open_group(GroupId(group), config, machine).unwrap()
    };
    let groups = (1..).zip(&seen).map(open).collect();
    Node {
        host,
        groups,
        seen,
        disk,
    }
}

/// Waits until somebody leads each group, and gives the handles at the leaders.
fn leaders(nodes: &[Node]) -> Vec<Group> {
    let groups = nodes[0].groups.len();
    (0..groups)
        .map(|group| {
            nodes[0].groups[group].campaign();
            loop {
                let waited = nodes[0].groups[group].read_index().wait();
                let leader = nodes[0].groups[group].leader();
                if let (Ok(_), Some(leader)) = (waited, leader) {
                    break nodes[(leader.0 - 1) as usize].groups[group].clone();
                }
            }
        })
        .collect()
}

fn caught_up(node: &Node, group: usize) -> Vec<Bytes> {
    node.groups[group].read_index().wait().unwrap();
    node.seen[group].lock().clone()
}

#[test]
fn everything_acknowledged_is_there_after_all_hosts_were_restarted() {
    let dir = tempfile::tempdir().unwrap();
    let net = InProcessNetwork::new();
    let mut nodes: Vec<Node> = (1..=3).map(|id| start(id, 2, &net, dir.path())).collect();
    leaders(&nodes);
    for round in 0..3 {
        for group in 0..2 {
            let propose = |n: usize| {
                nodes[n % 3].groups[group]
                    .propose(format!("{round} {n}"))
                    .wait()
                    .unwrap()
            };
            let answers: Vec<_> = (0..70).map(propose).collect();
            let count = (round + 1) * 70;
            assert_eq!(answers.last().unwrap().response, count.to_string());
        }
        let before: Vec<_> = (0..2).map(|group| caught_up(&nodes[0], group)).collect();
        for node in nodes.drain(..) {
            node.host.stop();
        }
        nodes = (1..=3).map(|id| start(id, 2, &net, dir.path())).collect();
        leaders(&nodes);
        for (group, before) in before.into_iter().enumerate() {
            for node in &nodes {
                assert_eq!(caught_up(node, group), before);
            }
        }
    }
    // The policy has cut the logs on the way.
    let status = nodes[0].groups[0].status();
    assert!(status.snapshot.is_some(), "{status:?}");
    assert!(status.first.0 > 1, "{status:?}");
    nodes.iter().for_each(|node| node.host.stop());
}

#[test]
fn hundred_groups_written_at_once_take_less_than_a_sync_for_ten_entries() {
    const ENTRIES: usize = 10;
    let dir = tempfile::tempdir().unwrap();
    let net = InProcessNetwork::new();
    let nodes: Vec<Node> = (1..=3).map(|id| start(id, 100, &net, dir.path())).collect();
    let leaders = leaders(&nodes);
    let before: Vec<_> = nodes.iter().map(|node| node.disk.counts()).collect();
    let propose = |group: &Group| -> Vec<_> { (0..ENTRIES).map(|_| group.propose("x")).collect() };
    let answers: Vec<_> = leaders.iter().flat_map(propose).collect();
    for answer in answers {
        answer.wait().unwrap();
    }
    for (node, before) in nodes.iter().zip(before) {
        let syncs = node.disk.counts().since(&before).syncs_total();
        let per_entry = syncs as f64 / (leaders.len() * ENTRIES) as f64;
        println!(
            "host {}: {syncs} syncs, {per_entry:.4} per entry",
            node.host.id()
        );
        assert!(
            per_entry < 0.1,
            "host {}: {per_entry} syncs per entry",
            node.host.id()
        );
    }
    nodes.iter().for_each(|node| node.host.stop());
}
