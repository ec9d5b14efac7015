//! Many groups on one log: they share its syncs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Cluster, Journal, Seen, members};
use raftwerk::raft::{GroupId, NodeId, Storage};
use raftwerk::{Group, GroupConfig, Host, InMemory};
use raftwerk_storage_mem::{MemLog, MemLogOptions, SyncMode};

const GROUPS: u64 = 100;
const ENTRIES: u64 = 10;

fn open_groups(host: &Host, config: &GroupConfig) -> Vec<Group> {
    let open = |group| {
        let machine = Box::new(InMemory::new(Journal(Seen::default())));
        host.open_group(GroupId(group), config.clone(), machine)
            .unwrap()
    };
    (1..=GROUPS).map(open).collect()
}

#[test]
fn hundred_groups_written_at_once_take_less_than_a_sync_for_ten_entries() {
    let cluster = Cluster::without_nodes(GroupConfig::bootstrap(members(3)));
    let mut nodes = Vec::new();
    for id in 1..=3 {
        let sync = SyncMode::Delayed(Duration::from_millis(1));
        let log = Arc::new(
            MemLog::new(MemLogOptions {
                sync,
                ..Default::default()
            })
            .unwrap(),
        );
        let syncs = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&syncs);
        let count = log.on_durable(Box::new(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        }));
        let host = cluster.host(id, log as Arc<dyn Storage>);
        let groups = open_groups(&host, &cluster.config);
        nodes.push((host, groups, syncs, count));
    }
    for group in &nodes[0].1 {
        while group.leader() != Some(NodeId(1)) {
            group.campaign();
            drop(group.read_index().wait());
            if let Some(leader) = group.leader().filter(|leader| *leader != NodeId(1)) {
                let other = &nodes[(leader.0 - 1) as usize].1[(group.id().0 - 1) as usize];
                drop(other.transfer_leader(NodeId(1)).wait());
            }
        }
    }
    let before: Vec<u64> = nodes
        .iter()
        .map(|node| node.2.load(Ordering::SeqCst))
        .collect();
    let propose = |group: &Group| -> Vec<_> { (0..ENTRIES).map(|_| group.propose("x")).collect() };
    let answers: Vec<_> = nodes[0].1.iter().flat_map(propose).collect();
    for answer in answers {
        answer.wait().unwrap();
    }
    for (node, before) in nodes.iter().zip(before) {
        let syncs = node.2.load(Ordering::SeqCst) - before;
        let per_entry = syncs as f64 / (GROUPS * ENTRIES) as f64;
        println!(
            "host {}: {syncs} syncs, {per_entry:.4} per entry",
            node.0.id()
        );
        assert!(
            per_entry < 0.1,
            "host {}: {per_entry} syncs per entry",
            node.0.id()
        );
    }
    nodes.iter().for_each(|node| node.0.stop());
}
