//! Proposals, reads, forwarding, bounds and ends, over logs in memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Cluster, G, Journal, Seen, members, wait_for};
use raftwerk::raft::{
    LogId, LogIndex, NodeId, SnapshotMeta, SnapshotReader, StateMachine, Storage, Term,
};
use raftwerk::{
    EnvelopeBody, GroupConfig, GroupError, GroupEvent, Health, Host, HostConfig, InMemory,
    InProcessNetwork, Incarnation, ProposeError, ReadError, TransferError,
};
use raftwerk_storage_mem::{MemLog, MemLogOptions};

#[test]
fn entries_reach_every_state_machine_in_one_order() {
    let cluster = Cluster::start(3);
    let answers: Vec<_> = (0..300)
        .map(|n| cluster.group(1 + n % 3).propose(format!("entry {n}")))
        .collect();
    for answer in answers {
        answer.wait().unwrap();
    }
    let first = cluster.caught_up(1);
    assert_eq!(first.len(), 300);
    assert_eq!(cluster.caught_up(2), first);
    assert_eq!(cluster.caught_up(3), first);
}

#[test]
fn proposal_is_answered_with_what_apply_returned_for_it() {
    let cluster = Cluster::start(3);
    assert_eq!(cluster.propose(1, "a"), 1);
    assert_eq!(cluster.propose(2, "b"), 2);
    assert_eq!(cluster.propose(3, "c"), 3);
    let applied = cluster.group(2).propose("d").wait().unwrap();
    assert_eq!(applied.response, "4");
    assert_eq!(cluster.group(1).read_index().wait(), Ok(applied.id.index));
}

#[test]
fn proposal_made_before_there_is_a_leader_is_held_for_it() {
    let mut cluster = Cluster::without_nodes(Cluster::start(3).config.clone());
    (1..=3).for_each(|id| cluster.boot(id));
    let early = cluster.group(2).propose("early");
    let read = cluster.group(2).read_index();
    cluster.group(1).campaign();
    assert_eq!(early.wait().unwrap().response, "1");
    read.wait().unwrap();
}

#[test]
fn proposal_fails_with_no_leader_when_nobody_can_lead() {
    let mut cluster = Cluster::start_with(3, |config| {
        config.limits.leader_wait_ticks = 4;
        config.limits.read_ticks = 4;
    });
    let config = cluster.config.clone();
    (1..=3).for_each(|id| cluster.stop(id));
    cluster.boot_with(2, config);
    assert_eq!(
        cluster.group(2).propose("x").wait(),
        Err(ProposeError::NoLeader)
    );
    assert_eq!(
        cluster.group(2).read_index().wait(),
        Err(ReadError::NoLeader)
    );
}

#[test]
fn forwarded_proposal_whose_answer_is_lost_ends_unknown_and_is_applied_once() {
    let cluster = Cluster::start_with(3, |config| config.limits.proposal_ticks = 6);
    cluster.net.filter(|from, _, envelope| {
        from != NodeId(1) || !matches!(envelope.body, EnvelopeBody::Forwarded { .. })
    });
    assert_eq!(
        cluster.group(2).propose("once").wait(),
        Err(ProposeError::Unknown)
    );
    cluster.net.filter(|_, _, _| true);
    assert_eq!(cluster.propose(2, "after"), 2);
    assert_eq!(
        cluster.caught_up(3),
        [Bytes::from("once"), Bytes::from("after")]
    );
}

#[test]
fn leadership_is_handed_over_and_writes_go_on() {
    let cluster = Cluster::start(3);
    assert_eq!(cluster.propose(1, "a"), 1);
    assert_eq!(cluster.group(1).transfer_leader(NodeId(3)).wait(), Ok(()));
    assert_eq!(cluster.group(1).leader(), Some(NodeId(3)));
    assert_eq!(cluster.propose(1, "b"), 2);
    let stranger = NodeId(9);
    let refused = cluster.group(1).transfer_leader(stranger).wait();
    assert_eq!(refused, Err(TransferError::NotVoter { to: stranger }));
}

#[test]
fn proposals_beyond_the_bound_are_busy_and_those_before_are_applied() {
    let cluster = Cluster::start_with(3, |config| config.limits.proposals_max = 4);
    let held: Vec<_> = cluster
        .nodes
        .values()
        .map(|node| node.log.hold_syncs())
        .collect();
    let answers: Vec<_> = (0..6)
        .map(|n| cluster.group(1).propose(format!("{n}")))
        .collect();
    let mut answers = answers.into_iter();
    let first: Vec<_> = answers.by_ref().take(4).collect();
    for beyond in answers {
        assert_eq!(beyond.wait(), Err(ProposeError::Busy));
    }
    drop(held);
    for (n, answer) in (1..).zip(first) {
        assert_eq!(answer.wait().unwrap().response, n.to_string());
    }
}

#[test]
fn oversized_proposal_is_refused_before_it_goes_anywhere() {
    let cluster = Cluster::start_with(1, |config| config.limits.proposal_bytes_max = 8);
    let refused = cluster.group(1).propose("nine bytes").wait();
    assert_eq!(refused, Err(ProposeError::TooLarge { bytes: 10, max: 8 }));
}

#[test]
fn stop_answers_everybody_and_later_requests_are_refused() {
    let mut cluster = Cluster::start(3);
    cluster.stop(2);
    cluster.stop(3);
    let group = cluster.group(1).clone();
    let mut events = group.events();
    let waiting = group.propose("nobody will commit this");
    let reading = group.read_index();
    cluster.stop(1);
    // Unknown once it is in the log, else certainly never appended.
    let ended = waiting.wait();
    assert!(
        matches!(ended, Err(ProposeError::Unknown | ProposeError::Stopped)),
        "{ended:?}"
    );
    assert_eq!(reading.wait(), Err(ReadError::Stopped));
    assert_eq!(group.propose("late").wait(), Err(ProposeError::Stopped));
    assert_eq!(group.status().health, Health::Stopped);
    while events.recv().wait().is_some() {}
}

#[test]
fn panicking_state_machine_halts_its_group_here_and_no_other() {
    let cluster = Cluster::start(3);
    let other = cluster.nodes.values().map(|node| {
        let config = cluster.config.clone();
        let machine = raftwerk::InMemory::new(common::Journal(common::Seen::default()));
        node.host
            .open_group(raftwerk::raft::GroupId(2), config, Box::new(machine))
            .unwrap()
    });
    let other: Vec<_> = other.collect();
    other[0].campaign();
    let mut events = cluster.group(1).events();
    let answer = cluster.group(1).propose("panic").wait();
    assert_eq!(answer, Err(ProposeError::Unknown));
    wait_for(&mut events, |event| {
        matches!(event, GroupEvent::Halted { .. })
    });
    assert!(matches!(
        cluster.group(1).status().health,
        Health::Halted { .. }
    ));
    let refused = cluster.group(1).propose("x").wait();
    assert!(
        matches!(refused, Err(ProposeError::Halted { .. })),
        "{refused:?}"
    );
    assert_eq!(other[0].propose("y").wait().unwrap().response, "1");
    assert_eq!(
        cluster.node(1).host.groups(),
        [G, raftwerk::raft::GroupId(2)]
    );
}

#[test]
fn log_that_fails_halts_the_groups_of_its_host_and_the_others_go_on() {
    let cluster = Cluster::start(3);
    let mut events = cluster.group(1).events();
    cluster.node(1).log.fail_next_sync("the disk is gone");
    let lost = cluster.group(1).propose("unknown").wait();
    assert!(lost.is_err(), "{lost:?}");
    wait_for(&mut events, |event| {
        matches!(event, GroupEvent::Halted { .. })
    });
    // The others elect somebody once they miss the leader; what they forwarded to it meanwhile may
    // have been in its log.
    while cluster.group(3).propose("goes on").wait().is_err() {}
    assert!(cluster.caught_up(2).contains(&Bytes::from("goes on")));
}

#[test]
fn table_binds_each_member_to_its_store_and_refuses_another_under_its_id() {
    let cluster = Cluster::without_nodes(GroupConfig::bootstrap(members(1)));
    let log = Arc::new(MemLog::new(MemLogOptions::default()).unwrap());
    let open = |incarnation| {
        let mut config = HostConfig::new(NodeId(1), cluster.snapshot_dir(1));
        config.tick = Duration::from_millis(20);
        config.incarnation = Incarnation(incarnation);
        let transport = InProcessNetwork::new().join(NodeId(1));
        let storage = Arc::clone(&log) as Arc<dyn Storage>;
        let host = Host::start(config, storage, transport).unwrap();
        let machine = Box::new(InMemory::new(Journal(Seen::default())));
        let group = host.open_group(G, cluster.config.clone(), machine).unwrap();
        (host, group)
    };
    let (host, group) = open(7);
    let mut events = group.events();
    group.campaign();
    let bound = |incarnation| {
        let own = group.members().member(NodeId(1)).cloned();
        own.is_some_and(|own| own.incarnation == Incarnation(incarnation))
    };
    while !bound(7) {
        let is_change = |event: &GroupEvent| matches!(event, GroupEvent::Membership { .. });
        wait_for(&mut events, is_change);
    }
    host.stop();
    let (host, group) = open(8);
    let mut events = group.events();
    while !matches!(group.status().health, Health::Halted { .. }) {
        let is_halt = |event: &GroupEvent| matches!(event, GroupEvent::Halted { .. });
        wait_for(&mut events, is_halt);
    }
    host.stop();
}

#[test]
fn state_machine_with_a_past_begins_no_new_group() {
    let cluster = Cluster::without_nodes(GroupConfig::bootstrap(members(1)));
    let log = Arc::new(MemLog::new(MemLogOptions::default()).unwrap());
    let host = cluster.host(1, Arc::clone(&log) as Arc<dyn Storage>);
    let mut machine = InMemory::new(Journal(Seen::default()));
    // As far as the new group's first entry would be.
    let applied = LogId::new(Term(1), LogIndex(1));
    let meta = SnapshotMeta {
        last: applied,
        ..SnapshotMeta::default()
    };
    machine.restore(&meta, &mut Nothing).unwrap();
    let refused = host.open_group(G, cluster.config.clone(), Box::new(machine));
    let lost = match refused.unwrap_err() {
        GroupError::ForeignState { applied, last } => (applied, last),
        other => panic!("{other:?}"),
    };
    assert_eq!(lost, (applied, LogId::ZERO));
    assert_eq!(log.groups().unwrap(), []);
    host.stop();
}

struct Nothing;

impl SnapshotReader for Nothing {
    fn read(&mut self, _out: &mut [u8]) -> std::io::Result<usize> {
        Ok(0)
    }
}
