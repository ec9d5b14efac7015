//! Quorums: the scripts of commit indexes and votes, and a naive recount for every property.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod datadriven;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use datadriven::Command;
use proptest::prelude::*;
use raftwerk_raft::quorum::{JointConfig, MajorityConfig, VoteResult};
use raftwerk_raft::{LogIndex, NodeId};

type Acked = BTreeMap<NodeId, LogIndex>;
type Votes = BTreeMap<NodeId, bool>;

#[test]
fn scripts_give_the_expected_output() {
    let (own, extra) = (
        datadriven::own_scripts("quorum"),
        datadriven::extra_traces("quorum"),
    );
    for path in own.iter().chain(&extra) {
        datadriven::run_file(path, handle);
    }
    println!(
        "quorum scripts: {} of our own, {} more",
        own.len(),
        extra.len()
    );
}

fn handle(command: &Command) -> String {
    let incoming = ids(command, "cfg");
    let joint = command.arg("cfgj").is_some();
    let outgoing = if command.val_is_zero("cfgj") {
        Vec::new()
    } else {
        ids(command, "cfgj")
    };
    let mut distinct: Vec<NodeId> = Vec::new();
    for id in incoming.iter().chain(&outgoing) {
        if !distinct.contains(id) {
            distinct.push(*id);
        }
    }
    let config = JointConfig {
        incoming: incoming.into_iter().collect(),
        outgoing: outgoing.into_iter().collect(),
    };
    match command.cmd.as_str() {
        "committed" => committed(
            &config,
            joint,
            &assign(command, "idx", &distinct, |text| {
                LogIndex(text.parse().unwrap())
            }),
        ),
        "vote" => vote(
            &config,
            joint,
            &assign(command, "votes", &distinct, |text| match text {
                "y" => true,
                "n" => false,
                _ => panic!("{text:?} is no vote"),
            }),
        ),
        other => panic!("unknown command {other}"),
    }
}

trait ValIsZero {
    fn val_is_zero(&self, key: &str) -> bool;
}

impl ValIsZero for Command {
    fn val_is_zero(&self, key: &str) -> bool {
        self.vals(key) == ["zero"]
    }
}

fn ids(command: &Command, key: &str) -> Vec<NodeId> {
    command
        .vals(key)
        .iter()
        .map(|text| NodeId(text.parse().unwrap()))
        .collect()
}

fn assign<V>(
    command: &Command,
    key: &str,
    distinct: &[NodeId],
    parse: impl Fn(&str) -> V,
) -> BTreeMap<NodeId, V> {
    let texts = command.vals(key);
    assert_eq!(
        texts.len(),
        distinct.len(),
        "line {}: one value for each id",
        command.line
    );
    let known = distinct.iter().zip(texts).filter(|(_, text)| *text != "_");
    known.map(|(id, text)| (*id, parse(text))).collect()
}

fn committed(config: &JointConfig, joint: bool, acked: &Acked) -> String {
    let look = |id| acked.get(&id).copied();
    let voters: BTreeSet<NodeId> = config.ids().collect();
    let mut out = describe(&voters, acked);
    let index = if joint {
        config.committed_index(look)
    } else {
        config.incoming.committed_index(look)
    };
    writeln!(out, "{}", show(index)).unwrap();
    // The same by other ways: each must agree.
    let mut check = |other: LogIndex, way: &str| {
        if other != index {
            writeln!(out, "{} <-- {way}", show(other)).unwrap();
        }
    };
    check(
        naive_committed(config, acked),
        "via alternative computation",
    );
    let swapped = JointConfig {
        incoming: config.outgoing.clone(),
        outgoing: config.incoming.clone(),
    };
    check(swapped.committed_index(look), "via symmetry");
    if !joint {
        let twice = JointConfig {
            incoming: config.incoming.clone(),
            outgoing: config.incoming.clone(),
        };
        check(config.committed_index(look), "via zero-joint quorum");
        check(twice.committed_index(look), "via self-joint quorum");
    }
    for id in voters {
        let held = look(id).unwrap_or_default();
        for lower in [LogIndex::ZERO, held.prev()] {
            if held > index && lower >= index {
                let mut overlaid = acked.clone();
                overlaid.insert(id, lower);
                let other = config.committed_index(|id| overlaid.get(&id).copied());
                check(other, &format!("overlaying {id}->{lower}"));
            }
        }
    }
    out
}

fn vote(config: &JointConfig, joint: bool, votes: &Votes) -> String {
    let look = |id| votes.get(&id).copied();
    let result = if joint {
        config.vote_result(look)
    } else {
        config.incoming.vote_result(look)
    };
    let mut out = format!("Vote{result:?}\n");
    let swapped = JointConfig {
        incoming: config.outgoing.clone(),
        outgoing: config.incoming.clone(),
    };
    for (other, way) in [
        (naive_vote(config, votes), "via alternative computation"),
        (swapped.vote_result(look), "via symmetry"),
    ] {
        if other != result {
            writeln!(out, "Vote{other:?} <-- {way}").unwrap();
        }
    }
    out
}

/// A picture of who has acknowledged what.
fn describe(voters: &BTreeSet<NodeId>, acked: &Acked) -> String {
    if voters.is_empty() {
        return "<empty majority quorum>".to_owned();
    }
    let count = voters.len();
    let mut ranked: Vec<(LogIndex, NodeId)> = voters
        .iter()
        .map(|id| (acked.get(id).copied().unwrap_or_default(), *id))
        .collect();
    ranked.sort();
    let mut bars: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut bar = 0;
    for (place, (index, id)) in ranked.iter().enumerate() {
        if place > 0 && ranked[place - 1].0 < *index {
            bar = place;
        }
        bars.insert(*id, bar);
    }
    let mut out = format!("{}    idx\n", " ".repeat(count));
    for id in voters {
        let picture = match acked.get(id) {
            None => format!("?{}", " ".repeat(count)),
            Some(_) => format!("{}>{}", "x".repeat(bars[id]), " ".repeat(count - bars[id])),
        };
        let index = acked.get(id).copied().unwrap_or_default().value();
        writeln!(out, "{picture} {index:>5}    (id={:x})", id.value()).unwrap();
    }
    out
}

fn show(index: LogIndex) -> String {
    if index == LogIndex::MAX {
        "∞".to_owned()
    } else {
        index.to_string()
    }
}

/// Counts for every index that somebody holds, and for zero, who holds it.
fn naive_committed(config: &JointConfig, acked: &Acked) -> LogIndex {
    let half = |voters: &BTreeSet<NodeId>| {
        if voters.is_empty() {
            return LogIndex::MAX;
        }
        let held = |id: &NodeId| acked.get(id).copied().unwrap_or_default();
        let candidates = voters.iter().map(held).chain([LogIndex::ZERO]);
        let agreed = |index: &LogIndex| {
            voters.iter().filter(|id| held(id) >= *index).count() * 2 > voters.len()
        };
        candidates.filter(agreed).max().unwrap()
    };
    half(&config.incoming.0).min(half(&config.outgoing.0))
}

/// Tries every way in which the missing votes may still come.
fn naive_vote(config: &JointConfig, votes: &Votes) -> VoteResult {
    let half = |voters: &BTreeSet<NodeId>| {
        let won = |missing: bool| {
            let granted = voters
                .iter()
                .filter(|id| *votes.get(id).unwrap_or(&missing))
                .count();
            voters.is_empty() || granted * 2 > voters.len()
        };
        (won(false), won(true))
    };
    let (incoming, outgoing) = (half(&config.incoming.0), half(&config.outgoing.0));
    if incoming.0 && outgoing.0 {
        VoteResult::Won
    } else if incoming.1 && outgoing.1 {
        VoteResult::Pending
    } else {
        VoteResult::Lost
    }
}

/// Up to `count` voters, so few ids that the halves overlap.
fn voters(count: usize) -> impl Strategy<Value = MajorityConfig> {
    prop::collection::btree_set((1..10_u64).prop_map(NodeId), 0..=count).prop_map(MajorityConfig)
}

fn joint_config() -> impl Strategy<Value = JointConfig> {
    (voters(9), voters(7)).prop_map(|(incoming, outgoing)| JointConfig { incoming, outgoing })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn committed_index_equals_a_naive_recount(
        config in joint_config(),
        acked in prop::collection::btree_map(
            (1..10_u64).prop_map(NodeId),
            (0..6_u64).prop_map(LogIndex),
            0..10,
        ),
    ) {
        let expected = naive_committed(&config, &acked);
        prop_assert_eq!(config.committed_index(|id| acked.get(&id).copied()), expected);
        let alone = JointConfig { outgoing: MajorityConfig::default(), ..config };
        let expected = naive_committed(&alone, &acked);
        prop_assert_eq!(alone.incoming.committed_index(|id| acked.get(&id).copied()), expected);
    }

    #[test]
    fn vote_result_equals_a_naive_recount(
        config in joint_config(),
        votes in prop::collection::btree_map((1..10_u64).prop_map(NodeId), any::<bool>(), 0..10),
    ) {
        let expected = naive_vote(&config, &votes);
        prop_assert_eq!(config.vote_result(|id| votes.get(&id).copied()), expected);
    }

    #[test]
    fn any_two_quorums_of_a_joint_configuration_share_a_voter(
        config in joint_config(),
        one in prop::collection::btree_set((1..10_u64).prop_map(NodeId), 0..10),
        two in prop::collection::btree_set((1..10_u64).prop_map(NodeId), 0..10),
    ) {
        prop_assume!(config.ids().next().is_some());
        let wins = |set: &BTreeSet<NodeId>| {
            config.vote_result(|id| Some(set.contains(&id))) == VoteResult::Won
        };
        if wins(&one) && wins(&two) {
            prop_assert!(config.ids().any(|id| one.contains(&id) && two.contains(&id)));
        }
    }
}
