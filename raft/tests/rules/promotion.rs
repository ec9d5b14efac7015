//! Learners that become voters by themselves.

use raftwerk_raft::codec::decode_conf_change;
use raftwerk_raft::{
    Body, ConfChangeKind, ConfState, EntryKind, LogIndex, MessageKind, NodeId, Role, Standing,
};

use crate::solo::{Solo, change, setup, voters};

/// The leader of 1 and 2, with the learners 3 and 4.
fn leader(promotes: bool) -> Solo {
    let conf = ConfState {
        learners: vec![NodeId(3), NodeId(4)],
        ..voters(&[1, 2])
    };
    let setup = setup().conf(conf);
    let mut solo = setup.options(|c| c.promote_learners = promotes).start();
    solo.lead();
    solo.ack(2, 1);
    solo
}

/// The members that changes in the log make voters.
fn promoted(solo: &Solo) -> Vec<u64> {
    let entries = solo.log.all();
    let changes = entries.iter().filter(|e| e.kind != EntryKind::Normal);
    changes
        .map(|entry| {
            let change = decode_conf_change(entry.data.clone()).unwrap();
            assert_eq!(change.steps[0].kind, ConfChangeKind::AddVoter);
            change.steps[0].node.0
        })
        .collect()
}

#[test]
fn learner_that_is_caught_up_becomes_a_voter_only_with_the_option() {
    for on in [false, true] {
        let mut solo = leader(on);
        solo.ack(3, 1);
        solo.tick(1);
        assert_eq!(promoted(&solo) == [3], on);
        solo.ack(2, solo.node.status().last.index.0);
        let voters = solo.node.status().conf_state.voters;
        assert_eq!(voters.contains(&NodeId(3)), on);
    }
}

#[test]
fn learners_are_promoted_one_after_the_other() {
    let mut solo = leader(true);
    solo.ack(3, 1);
    solo.ack(4, 1);
    solo.tick(3);
    assert_eq!(promoted(&solo), [3], "the second waits for the first");
    solo.ack(2, 2);
    solo.ack(4, 2);
    solo.tick(1);
    assert_eq!(promoted(&solo), [3, 4]);
}

#[test]
fn learner_is_measured_by_what_was_there_when_its_round_began() {
    let mut solo = leader(true);
    solo.propose("before");
    solo.ack(2, 2);
    solo.tick(1);
    assert!(promoted(&solo).is_empty(), "nothing was heard of it");
    solo.propose("after");
    solo.ack(2, 3);
    solo.ack(3, 1);
    solo.tick(1);
    assert!(promoted(&solo).is_empty());
    solo.ack(3, 2);
    solo.tick(1);
    assert_eq!(promoted(&solo), [3]);
}

#[test]
fn learner_that_takes_longer_than_an_election_timeout_for_a_round_begins_another() {
    let mut solo = leader(true);
    solo.tick(1);
    for _ in 0..3 {
        solo.propose("more");
        let last = solo.node.status().last.index.0;
        solo.ack(2, last);
        solo.tick(10);
        solo.ack(3, last - 1);
        solo.tick(1);
        assert!(promoted(&solo).is_empty());
    }
    let last = solo.node.status().last.index.0;
    solo.ack(3, last);
    solo.tick(1);
    assert_eq!(promoted(&solo), [3]);
}

#[test]
fn nothing_is_promoted_while_another_change_or_a_transfer_is_under_way() {
    let mut solo = leader(true);
    solo.node
        .propose_conf_change(change(ConfChangeKind::AddLearner, 5))
        .unwrap();
    solo.drain();
    solo.ack(3, 2);
    solo.tick(2);
    assert_eq!(solo.node.status().last.index, LogIndex(2));
    solo.ack(2, 2);
    solo.propose("a");
    solo.node.transfer_leader(NodeId(2));
    solo.tick(2);
    assert_eq!(solo.node.status().last.index, LogIndex(3));
    assert!(solo.sent_to(2, MessageKind::TimeoutNow).is_empty());
}

#[test]
fn new_leader_promotes_nobody_before_it_has_committed_in_its_term() {
    let mut solo = leader(true);
    solo.step(
        2,
        2,
        Body::Heartbeat {
            commit: LogIndex(0),
            read_position: 0,
        },
    );
    solo.lead();
    assert_eq!(solo.node.role(), Role::Leader);
    let last = solo.node.status().last.index.0;
    solo.ack(3, last);
    solo.tick(2);
    assert!(promoted(&solo).is_empty());
    solo.ack(2, last);
    solo.tick(1);
    assert_eq!(promoted(&solo), [3]);
}

#[test]
fn learner_that_would_have_no_vote_stays_one() {
    for standing in [Standing::Voteless, Standing::Uncounted] {
        let mut solo = leader(true);
        let ack = Body::AppendResponse {
            index: LogIndex(1),
            reject: None,
        };
        solo.answer(standing, 3, ack);
        solo.ack(4, 1);
        solo.tick(1);
        assert_eq!(promoted(&solo), [4], "{standing:?}");
    }
}
