//! Section 3.10 of the thesis: how leadership is transferred.

use raftwerk_raft::{MessageKind, NodeId, ProposeError, Role, Term};

use crate::group::{Group, restarted, vote};
use crate::solo::setup;

fn begin(group: &mut Group, from: u64, to: u64) {
    group.at(from).node.transfer_leader(NodeId(to));
    group.at(from).drain();
}

/// Thesis, 3.10, step 1.
#[test]
fn the_prior_leader_accepts_no_requests_during_a_transfer() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    group.cut.insert(2);
    begin(&mut group, 1, 2);
    let refused = group.at(1).node.propose("x".into());
    assert_eq!(refused, Err(ProposeError::Transferring));
}

/// Thesis, 3.10, step 2.
#[test]
fn the_target_is_brought_up_to_date_before_it_is_told() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    group.cut.insert(2);
    group.propose(1, "a");
    group.propose(1, "b");
    group.cut.clear();
    begin(&mut group, 1, 2);
    group.deliver();
    group.tick(1);
    assert_eq!(group.leaders(), [2]);
    let told = group
        .arrived
        .iter()
        .position(|message| message.body.kind() == MessageKind::TimeoutNow);
    let caught_up = group.arrived[..told.unwrap()]
        .iter()
        .any(|message| message.from == NodeId(2) && message.body == crate::group::acked(3));
    assert!(caught_up);
    assert_eq!(group.applied(2), ["a", "b"]);
}

/// Thesis, 3.10, step 3: TimeoutNow.
#[test]
fn the_target_starts_an_election_at_once() {
    let mut solo = setup().start();
    solo.step(2, 3, crate::group::heartbeat(0));
    solo.step(2, 3, raftwerk_raft::Body::TimeoutNow);
    assert_eq!(
        (solo.node.role(), solo.node.term()),
        (Role::Candidate, Term(4))
    );
    let request = raftwerk_raft::Body::Vote {
        last: crate::solo::id(0, 0),
        transfer: true,
    };
    assert_eq!(solo.sent_to(3, MessageKind::Vote), [&request]);
}

/// Thesis, 3.10: the target is up to date and first.
#[test]
fn the_prior_leader_steps_down_and_the_target_leads() {
    for check_quorum in [false, true] {
        let mut group = Group::of(5, |config| {
            config.check_quorum = check_quorum;
            config.pre_vote = check_quorum;
        });
        group.elect(1);
        group.tick(2);
        begin(&mut group, 1, 4);
        group.deliver();
        assert_eq!(group.leaders(), [4]);
        assert_eq!(group.at(1).node.role(), Role::Follower);
        assert_eq!(group.at(1).node.term(), Term(2));
    }
}

/// Thesis, 3.10: the target may have failed.
#[test]
fn a_transfer_that_takes_an_election_timeout_is_aborted() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    group.cut.insert(2);
    begin(&mut group, 1, 2);
    group.at(1).tick(9);
    assert!(group.at(1).node.propose("x".into()).is_err());
    group.at(1).tick(1);
    group.propose(1, "y");
    assert_eq!(group.applied(1), ["y"]);
}

/// Thesis, 3.10: or only seem to have.
#[test]
fn a_target_that_is_told_late_only_makes_another_election() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    begin(&mut group, 1, 2);
    let late = group.at(1).take();
    group.at(1).tick(10);
    group.propose(1, "x");
    for message in late {
        let (to, term) = (message.to.0, message.term.0);
        group.at(to).step(1, term, message.body);
    }
    group.deliver();
    group.tick(1);
    assert_eq!(group.leaders(), [2]);
    assert_eq!(group.applied(2), ["x"]);
}

/// Thesis, 3.10: the target must be able to lead: no learner, no stranger.
#[test]
fn only_another_voter_is_a_target() {
    let conf = raftwerk_raft::ConfState {
        learners: vec![NodeId(4)],
        ..crate::solo::voters(&[1, 2, 3])
    };
    for target in [1, 4, 9] {
        let mut solo = setup().conf(conf.clone()).start();
        solo.lead();
        solo.node.transfer_leader(NodeId(target));
        solo.drain();
        assert_eq!(solo.node.status().transferee, None, "to {target}");
        assert!(solo.node.propose("x".into()).is_ok());
    }
}

/// Thesis, 3.10: nothing of a transfer persists.
#[test]
fn a_restart_ends_a_transfer() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    group.cut.insert(2);
    begin(&mut group, 1, 2);
    let mut again = restarted(group.at(1), |_| {});
    assert_eq!(again.node.status().transferee, None);
    again.step(2, 2, vote(1, 1));
    assert_eq!(again.node.status().hard_state.vote, Some(NodeId(2)));
}
