//! Groups on the write-ahead log, on a real disk.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::{Journal, Seen, members};
use raftwerk::raft::{Body, GroupId, LogIndex, Loss, NodeId, Role, Storage};
use raftwerk::vfs::{CountingVfs, RealVfs};
use raftwerk::wal::{Options, Wal};
use raftwerk::{
    EnvelopeBody, Group, GroupConfig, Host, HostConfig, InMemory, InProcessNetwork, ReadError,
    SnapshotPolicy,
};

struct Node {
    host: Host,
    groups: Vec<Group>,
    seen: Vec<Seen>,
    disk: CountingVfs,
}

/// Cuts the logs every fifty entries.
const CUTTING: SnapshotPolicy = SnapshotPolicy {
    entries: 50,
    growth: 0,
    bytes: 0,
    trailing_entries: 10,
};

fn start(id: u64, groups: u64, net: &InProcessNetwork, dir: &Path) -> Node {
    start_with(id, groups, net, dir, (4 << 20, CUTTING))
}

fn start_with(
    id: u64,
    groups: u64,
    net: &InProcessNetwork,
    dir: &Path,
    (segment_bytes, snapshot): (u64, SnapshotPolicy),
) -> Node {
    let dir = dir.join(id.to_string());
    let disk = CountingVfs::new(Arc::new(RealVfs));
    let options = Options {
        segment_bytes,
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
        config.snapshot = snapshot;
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
    loop {
        match node.groups[group].read_index().wait() {
            Ok(_) => break node.seen[group].lock().clone(),
            Err(error) => assert_eq!(error, ReadError::NoLeader),
        }
    }
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

/// What entry `n` of a group says: no two are alike, nor short enough to share a page.
fn text(group: usize, n: usize) -> String {
    format!("entry {n:03} of group {group} {}", "x".repeat(1500))
}

/// Writes `count` entries to each group, one after the other, and gives the index of each.
fn fill(leaders: &[Group], count: usize) -> Vec<Vec<LogIndex>> {
    let mut ids = vec![Vec::new(); leaders.len()];
    for n in 0..count {
        for (group, leader) in leaders.iter().enumerate() {
            let applied = leader.propose(text(group, n)).wait().unwrap();
            ids[group].push(applied.id.index);
        }
    }
    ids
}

/// Flips one byte of the one file in `dir` that holds `entry`, which must be sealed: `newest`,
/// written last, is in another.
fn damage(dir: &Path, entry: &str, newest: &str) {
    let place = |bytes: &[u8], text: &str| {
        bytes
            .windows(text.len())
            .position(|window| window == text.as_bytes())
    };
    let mut hit = 0;
    for file in fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = place(&bytes, entry) {
            assert_eq!(place(&bytes, newest), None, "its segment is not sealed");
            bytes[at + 700] ^= 1;
            fs::write(&path, bytes).unwrap();
            hit += 1;
        }
    }
    assert_eq!(hit, 1, "copies of the entry");
}

/// Lets nothing of `group` to host 3 or from it, and counts what that sent to be elected.
fn keep_apart(net: &InProcessNetwork, group: GroupId) -> Arc<AtomicUsize> {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    net.filter(move |from, to, envelope| {
        let hit = envelope.group == group && (from == NodeId(3) || to == NodeId(3));
        if let (true, NodeId(3), EnvelopeBody::Raft(message)) = (hit, from, &envelope.body)
            && matches!(message.body, Body::PreVote { .. } | Body::Vote { .. })
        {
            count.fetch_add(1, Ordering::SeqCst);
        }
        !hit
    });
    asked
}

#[test]
fn damaged_entry_is_named_by_its_group_alone_and_filled_again_by_the_leader() {
    const GROUPS: usize = 4;
    const HIT: usize = 2;
    const ENTRIES: usize = 60;
    let dir = tempfile::tempdir().unwrap();
    let net = InProcessNetwork::new();
    let boot = |id| {
        let options = (64 << 10, SnapshotPolicy::ON_REQUEST);
        start_with(id, GROUPS as u64, &net, dir.path(), options)
    };
    let mut nodes: Vec<Node> = (1..=3).map(boot).collect();
    let ids = fill(&leaders(&nodes), ENTRIES);
    let before: Vec<_> = (0..GROUPS)
        .map(|group| caught_up(&nodes[2], group))
        .collect();
    nodes.pop().unwrap().host.stop();
    let newest = text(GROUPS - 1, ENTRIES - 1);
    damage(&dir.path().join("3/log"), &text(HIT, 20), &newest);
    leaders(&nodes);

    // It is opened by default in spite of the damage. Nobody can help the group yet.
    let asked = keep_apart(&net, GroupId(HIT as u64 + 1));
    nodes.push(boot(3));
    for group in (0..GROUPS).filter(|group| *group != HIT) {
        assert_eq!(caught_up(&nodes[2], group), before[group]);
        let answer = nodes[2].groups[group].propose("served").wait().unwrap();
        assert_eq!(answer.response, (ENTRIES + 1).to_string());
        assert_eq!(nodes[2].groups[group].status().loss, None);
    }
    let hit = &nodes[2].groups[HIT];
    let lost = ids[HIT][20];
    let (first, last) = (lost, lost);
    assert_eq!(hit.status().loss, Some(Loss::Faulty { first, last }));
    assert!(nodes[2].seen[HIT].lock().len() <= 20, "nothing behind it");
    hit.campaign();
    assert_eq!(hit.read_index().wait(), Err(ReadError::NoLeader));
    assert_eq!(hit.status().role, Role::Follower);
    assert_eq!(asked.load(Ordering::SeqCst), 0, "it may not lead");

    net.filter(|_, _, _| true);
    let whole = hit.until(|status| status.loss.is_none()).wait();
    whole.expect("the group goes on");
    assert_eq!(caught_up(&nodes[2], HIT), before[HIT]);
    nodes.pop().unwrap().host.stop();
    // Nothing of it is left on the disk.
    nodes.push(boot(3));
    assert_eq!(nodes[2].groups[HIT].status().loss, None);
    assert_eq!(caught_up(&nodes[2], HIT), before[HIT]);
    let leader = nodes[2].groups[HIT].leader().unwrap();
    let leader = &nodes[(leader.0 - 1) as usize].groups[HIT];
    leader.transfer_leader(NodeId(3)).wait().unwrap();
    nodes.iter().for_each(|node| node.host.stop());
}
