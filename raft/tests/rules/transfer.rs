//! Handing leadership over.

use raftwerk_raft::{Body, ConfChangeKind, MessageKind, NodeId, ProposeError, Role, Term};

use crate::solo::{append, change, setup};

#[test]
fn the_heir_is_told_once_it_has_everything() {
    let mut solo = setup().start();
    solo.lead();
    solo.node.transfer_leader(NodeId(2));
    solo.drain();
    assert!(solo.sent_to(2, MessageKind::TimeoutNow).is_empty());
    assert_eq!(
        solo.node.propose("a".into()),
        Err(ProposeError::Transferring)
    );
    solo.ack(2, 1);
    assert_eq!(solo.sent_to(2, MessageKind::TimeoutNow).len(), 1);
}

#[test]
fn a_transfer_is_given_up_after_an_election_timeout() {
    let mut solo = setup().start();
    solo.lead();
    solo.tick(7);
    solo.node.transfer_leader(NodeId(2));
    solo.tick(9);
    assert_eq!(
        solo.node.status().transferee,
        Some(NodeId(2)),
        "counted from its start"
    );
    solo.tick(1);
    assert_eq!(solo.node.status().transferee, None);
    assert!(solo.node.propose("a".into()).is_ok());
}

#[test]
fn transfers_one_after_the_other_do_not_put_off_the_quorum_check() {
    let mut solo = setup().options(|config| config.check_quorum = true).start();
    solo.lead();
    for turn in 0..10 {
        solo.tick(3);
        solo.node.transfer_leader(NodeId(2 + turn % 2));
    }
    assert_ne!(solo.node.role(), Role::Leader);
}

#[test]
fn a_transfer_to_a_member_that_is_removed_is_given_up() {
    for kind in [ConfChangeKind::Remove, ConfChangeKind::AddLearner] {
        let mut solo = setup().start();
        solo.lead();
        solo.node.transfer_leader(NodeId(2));
        assert_eq!(solo.node.status().transferee, Some(NodeId(2)));
        solo.node.apply_conf_change(&change(kind, 2)).unwrap();
        assert_eq!(solo.node.status().transferee, None);
    }
}

#[test]
fn a_transfer_ends_with_the_term() {
    let mut solo = setup().start();
    solo.lead();
    solo.node.transfer_leader(NodeId(2));
    solo.step(3, 5, append(0, 0, &[], 0));
    assert_eq!(solo.node.status().transferee, None);
}

#[test]
fn the_heir_asks_for_votes_without_asking_whether_it_may() {
    let mut solo = setup().options(|config| config.pre_vote = true).start();
    solo.step(2, 1, append(0, 0, &[], 0));
    solo.step(2, 1, Body::TimeoutNow);
    assert_eq!(
        (solo.node.role(), solo.node.term()),
        (Role::Candidate, Term(2))
    );
    let asked = solo.sent_to(3, MessageKind::Vote);
    assert!(matches!(asked[..], [Body::Vote { transfer: true, .. }]));
}

#[test]
fn nobody_else_can_be_an_heir() {
    let mut solo = setup().start();
    solo.lead();
    for to in [1, 9] {
        solo.node.transfer_leader(NodeId(to));
        assert_eq!(solo.node.status().transferee, None);
    }
    solo.node
        .apply_conf_change(&change(ConfChangeKind::AddLearner, 4))
        .unwrap();
    solo.node.transfer_leader(NodeId(4));
    assert_eq!(solo.node.status().transferee, None);
}

#[test]
fn a_follower_sends_the_wish_on() {
    let mut solo = setup().start();
    solo.step(2, 1, append(0, 0, &[], 0));
    solo.node.transfer_leader(NodeId(3));
    solo.drain();
    let sent = solo.sent_to(2, MessageKind::TransferLeader);
    assert_eq!(sent, [&Body::TransferLeader { to: NodeId(3) }]);
}
