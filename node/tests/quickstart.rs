//! The quick start does what it says, at the leader and through a follower.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../examples/quickstart.rs"]
#[allow(dead_code)]
mod quickstart;

use raftwerk::InProcessNetwork;
use raftwerk::raft::NodeId;

#[test]
fn counter_answers_at_the_leader_and_through_a_follower() {
    let dir = tempfile::tempdir().unwrap();
    let net = InProcessNetwork::new();
    let nodes: Vec<_> = (1..=3)
        .map(|id| quickstart::node(id, &net, dir.path()).unwrap())
        .collect();
    for group in 0..3 {
        let at = |node: usize| &nodes[node].1[group];
        // Each group is led by another node.
        at(group).campaign();
        assert_eq!(at(group).propose("count").wait().unwrap().response, "1");
        let leader = at(group).leader().unwrap();
        let follower = (0..3).find(|node| nodes[*node].0.id() != leader).unwrap();
        assert_ne!(nodes[follower].0.id(), leader);
        assert_eq!(at(follower).propose("count").wait().unwrap().response, "2");
        assert_eq!(
            at((leader.0 - 1) as usize)
                .propose("count")
                .wait()
                .unwrap()
                .response,
            "3"
        );
    }
    assert_eq!(nodes[0].0.id(), NodeId(1));
    nodes.iter().for_each(|(host, _)| host.stop());
}

#[test]
fn example_takes_less_than_sixty_lines() {
    let lines = include_str!("../examples/quickstart.rs").lines().count();
    assert!(lines < 60, "{lines} lines");
}
