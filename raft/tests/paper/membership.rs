//! Section 6 of the paper and section 4 of the thesis: how members are changed.

use std::collections::BTreeSet;

use raftwerk_raft::quorum::{MajorityConfig, VoteResult};
use raftwerk_raft::{
    ConfChange, ConfChangeKind, ConfChangeStep, ConfChangeTransition, ConfState, MessageKind,
    NodeId, ProposeError, Role, Term,
};

use crate::group::{Group, NO, YES, heartbeat, vote};
use crate::solo::{Solo, append, change, id, joint, setup, voters};

fn add(node: u64) -> ConfChange {
    change(ConfChangeKind::AddVoter, node)
}

fn remove(node: u64) -> ConfChange {
    change(ConfChangeKind::Remove, node)
}

/// Several steps through a joint configuration.
fn replace(transition: ConfChangeTransition, added: &[u64], removed: &[u64]) -> ConfChange {
    let step = |kind| {
        move |node: &u64| ConfChangeStep {
            kind,
            node: NodeId(*node),
        }
    };
    let added = added.iter().map(step(ConfChangeKind::AddVoter));
    let removed = removed.iter().map(step(ConfChangeKind::Remove));
    ConfChange {
        transition,
        steps: added.chain(removed).collect(),
        ..ConfChange::default()
    }
}

/// A member that waits to be added to voters 1, 2 and 3.
fn waiting(group: &mut Group, id: u64) {
    group.join(id, setup().conf(voters(&[1, 2, 3])));
}

fn conf(solo: &Solo) -> ConfState {
    solo.node.status().conf_state
}

/// Leader 1 in a joint configuration that somebody must leave.
fn joint_leader(incoming: &[u64], outgoing: &[u64]) -> Solo {
    let mut solo = setup().conf(joint(incoming, outgoing)).start();
    solo.lead();
    solo
}

/// Section 6: whom a joint configuration's leader replicates to.
#[test]
fn joint_entries_go_to_all_servers_of_both_configurations() {
    let mut solo = joint_leader(&[1, 2, 3], &[1, 4, 5]);
    for peer in 2..=5 {
        solo.ack(peer, 1);
    }
    solo.take();
    solo.propose("x");
    for peer in 2..=5 {
        assert_eq!(solo.sent_to(peer, MessageKind::Append).len(), 1);
    }
}

/// Section 6: who may lead a joint configuration.
#[test]
fn any_server_of_either_configuration_may_lead() {
    for (incoming, outgoing) in [(&[1, 2, 3][..], &[2, 3, 4][..]), (&[2, 3, 4], &[1, 2, 3])] {
        let solo = joint_leader(incoming, outgoing);
        assert_eq!(solo.node.role(), Role::Leader);
    }
}

/// Section 6: elections and commits under a joint configuration.
#[test]
fn joint_agreement_needs_separate_majorities() {
    for (granting, wins) in [
        (&[2, 3][..], false),
        (&[4, 5], false),
        (&[2, 4], true),
        (&[2, 3, 4], true),
    ] {
        let conf = joint(&[1, 2, 3], &[1, 4, 5]);
        let mut solo = setup().conf(conf).start();
        solo.campaign();
        for voter in granting {
            solo.step(*voter, 1, YES);
        }
        assert_eq!(solo.node.role() == Role::Leader, wins, "{granting:?}");
        let mut solo = joint_leader(&[1, 2, 3], &[1, 4, 5]);
        for voter in granting {
            solo.ack(*voter, 1);
        }
        assert_eq!(solo.commit() == 1, wins, "{granting:?}");
    }
}

/// Section 6: no pause for clients.
#[test]
fn requests_are_served_throughout_a_change() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    waiting(&mut group, 4);
    let explicit = ConfChangeTransition::JointExplicit;
    group.change(1, replace(explicit, &[4], &[3]));
    assert_eq!(conf(group.at(1)), joint(&[1, 2, 4], &[1, 2, 3]));
    group.propose(1, "joint");
    assert_eq!(group.applied(1).last().unwrap(), "joint");
    group.change(1, ConfChange::default());
    assert_eq!(conf(group.at(1)), voters(&[1, 2, 4]));
    group.propose(1, "after");
    assert_eq!(group.applied(4).last().unwrap(), "after");
}

/// Section 6 lets a server use a configuration as soon as it is in its log. Here it takes effect
/// when its entry is applied, on every server, as in etcd; for that no member campaigns with a
/// committed change that it has not applied.
#[test]
fn a_configuration_takes_effect_when_its_entry_is_applied() {
    let mut solo = setup().start();
    solo.lead();
    solo.ack(2, 1);
    solo.node.propose_conf_change(add(4)).unwrap();
    solo.drain();
    assert_eq!(conf(&solo), voters(&[1, 2, 3]));
    solo.ack(3, 2);
    assert_eq!(conf(&solo), voters(&[1, 2, 3, 4]));
}

/// Section 6: the order of the two entries of a change.
#[test]
fn the_new_configuration_follows_when_the_joint_one_is_committed() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    waiting(&mut group, 4);
    group.cut.extend([2, 3]);
    let implicit = ConfChangeTransition::JointImplicit;
    group.change(1, replace(implicit, &[4], &[2]));
    let last = group.at(1).node.status().last;
    assert_eq!(conf(group.at(1)), voters(&[1, 2, 3]), "not committed");
    group.cut.clear();
    group.tick(2);
    assert_eq!(conf(group.at(1)), voters(&[1, 3, 4]));
    assert_eq!(group.at(1).node.status().last.index, last.index.next());
}

/// Section 6; thesis, 4.2.1: new servers catch up before they vote.
#[test]
fn non_voting_members_get_entries_and_count_for_no_majority() {
    let conf = ConfState {
        learners: vec![NodeId(4), NodeId(5)],
        ..voters(&[1, 2, 3])
    };
    let mut solo = setup().conf(conf).start();
    solo.lead();
    assert!(solo.node.status().progress.contains_key(&NodeId(4)));
    for learner in [4, 5] {
        solo.ack(learner, 1);
    }
    assert_eq!(solo.commit(), 0);
    solo.take();
    solo.propose("x");
    assert_eq!(solo.sent_to(4, MessageKind::Append).len(), 1);
    solo.ack(2, 2);
    assert_eq!(solo.commit(), 2);
    // Nor do their votes.
    let mut solo = setup()
        .conf(ConfState {
            learners: vec![NodeId(4)],
            ..voters(&[1, 2, 3])
        })
        .start();
    solo.campaign();
    solo.step(4, 1, YES);
    assert_eq!(solo.node.role(), Role::Candidate);
}

/// Section 6; thesis, 4.2.2: a leader may manage a cluster that it is no part of.
#[test]
fn a_leader_that_is_not_of_the_new_configuration_does_not_count_itself() {
    let mut solo = joint_leader(&[2, 3, 4], &[1, 2, 3]);
    solo.ack(2, 1);
    assert_eq!(solo.commit(), 0, "1 and 2 are one of three in the new one");
    solo.ack(3, 1);
    assert_eq!(solo.commit(), 1);
}

/// Section 6; thesis, 4.2.2: and for how long.
#[test]
fn a_removed_leader_steps_down_once_the_new_configuration_is_committed() {
    let mut solo = joint_leader(&[2, 3, 4], &[1, 2, 3]);
    for peer in [2, 3] {
        solo.ack(peer, 1);
    }
    let leave = ConfChange::default();
    solo.node.propose_conf_change(leave).unwrap();
    solo.drain();
    solo.ack(2, 2);
    assert_eq!(solo.node.role(), Role::Leader, "not committed yet");
    solo.ack(3, 2);
    assert_eq!(conf(&solo), voters(&[2, 3, 4]));
    assert_eq!(solo.node.role(), Role::Follower);
}

/// Section 6; thesis, 4.2.3: neither term nor vote change at such a request.
#[test]
fn vote_requests_are_disregarded_within_the_minimum_timeout_of_hearing_from_a_leader() {
    for (ticks, granted) in [(0, false), (9, false), (10, true)] {
        let mut solo = setup().options(|config| config.check_quorum = true).start();
        solo.step(2, 1, heartbeat(0));
        solo.take();
        solo.node.set_election_timeout(19);
        solo.tick(ticks);
        solo.step(3, 5, vote(9, 9));
        let (sent, term) = (solo.take(), solo.node.term());
        assert_eq!(sent.iter().any(|message| message.body == YES), granted);
        assert_eq!(term, Term(if granted { 5 } else { 1 }));
    }
}

/// Section 6: who waits for its timeout finds the others free.
#[test]
fn normal_elections_are_not_affected_by_that() {
    let mut group = Group::of(3, |config| config.check_quorum = true);
    group.elect(1);
    group.tick(5);
    group.cut.insert(1);
    group.tick(60);
    let new = group.leaders().into_iter().filter(|id| *id != 1).count();
    assert_eq!(new, 1);
}

/// Section 6: a server that does not learn of its removal starts elections for ever.
#[test]
fn removed_servers_do_not_disrupt_the_cluster() {
    let mut group = Group::of(4, |config| config.check_quorum = true);
    group.elect(1);
    group.tick(1);
    // It does not learn that it is removed.
    group.cut.insert(4);
    group.change(1, remove(4));
    group.cut.clear();
    group.at(4).node.set_election_timeout(1);
    for _ in 0..100 {
        group.at(4).tick(3);
        group.tick(1);
    }
    assert_eq!(group.leaders(), [1]);
    assert_eq!(group.at(1).node.term(), Term(1));
    assert!(group.at(4).node.term() > Term(1), "it did try");
}

/// Thesis, 4.1: why a single server needs no joint configuration.
#[test]
fn majorities_overlap_when_one_server_is_added_or_removed() {
    for size in 1..=6_u64 {
        let majority = |ids: std::ops::RangeInclusive<u64>| {
            MajorityConfig(ids.map(NodeId).collect::<BTreeSet<_>>())
        };
        let (old, new) = (majority(1..=size), majority(1..=size + 1));
        let wins = |config: &MajorityConfig, set: u64| {
            let votes = |id: NodeId| Some(set & (1 << id.0) != 0);
            config.vote_result(votes) == VoteResult::Won
        };
        for one in 0..1 << (size + 2) {
            for two in 0..1 << (size + 2) {
                assert!(one & two != 0 || !wins(&old, one) || !wins(&new, two));
            }
        }
    }
}

/// Thesis, 4.1: the earlier change must be committed; here, applied.
#[test]
fn changes_are_made_one_after_the_other() {
    let mut solo = setup().start();
    solo.lead();
    solo.ack(2, 1);
    solo.node.propose_conf_change(add(4)).unwrap();
    solo.drain();
    let second = solo.node.propose_conf_change(add(5));
    assert!(matches!(second, Err(ProposeError::ChangePending { .. })));
    solo.ack(2, 2);
    solo.node.propose_conf_change(add(5)).unwrap();
}

/// Thesis, 4.1, as its author corrected it in 2015: no change of a leader may take effect before an
/// entry of its own term is committed. Here a change takes effect when applied, and so behind that
/// entry.
#[test]
fn a_leader_changes_nothing_before_it_has_committed_in_its_term() {
    let mut solo = setup().log(&[1]).hard_state(1, 0, 1).applied(1).start();
    solo.lead();
    solo.node.propose_conf_change(add(4)).unwrap();
    solo.drain();
    solo.ack(2, 2);
    assert_eq!((solo.commit(), conf(&solo)), (2, voters(&[1, 2, 3])));
    solo.ack(2, 3);
    assert_eq!((solo.commit(), conf(&solo)), (3, voters(&[1, 2, 3, 4])));
    // Behind what may be a change of an earlier leader there is not even a proposal.
    let mut solo = setup().log(&[1, 1]).hard_state(1, 0, 1).applied(1).start();
    solo.lead();
    let early = solo.node.propose_conf_change(add(4));
    assert!(matches!(early, Err(ProposeError::ChangePending { .. })));
    solo.ack(2, 3);
    solo.node.propose_conf_change(add(4)).unwrap();
}

/// Thesis, 4.2.2: removing the leader.
#[test]
fn the_others_go_on_when_the_leader_is_removed() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    group.change(1, remove(1));
    assert_eq!(group.at(1).node.role(), Role::Follower);
    group.tick(60);
    let leader = group.leaders();
    assert!(leader == [2] || leader == [3], "{leader:?}");
    group.propose(leader[0], "x");
    assert_eq!(group.applied(5 - leader[0]).last().unwrap(), "x");
}

/// Thesis, 4.2.2: who knows that it is no member does not campaign.
#[test]
fn a_removed_server_starts_no_election() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    group.change(1, remove(3));
    group.tick(1);
    assert_eq!(conf(group.at(3)), voters(&[1, 2]));
    group.cut.insert(3);
    group.tick(100);
    assert_eq!(group.at(3).node.role(), Role::Follower);
    assert_eq!(group.at(3).node.term(), Term(1));
}

/// Thesis, 4.2.3: the exception for transfers.
#[test]
fn a_transfer_is_not_taken_for_a_disruption() {
    let mut solo = setup().options(|config| config.check_quorum = true).start();
    solo.step(2, 1, heartbeat(0));
    solo.take();
    let request = raftwerk_raft::Body::Vote {
        last: id(0, 0),
        transfer: true,
    };
    solo.step(3, 2, request);
    assert_eq!(solo.sent_to(3, MessageKind::VoteResponse), [&YES]);
}

/// Thesis, 4.4: clusters begin with one server.
#[test]
fn a_cluster_of_one_grows() {
    let mut group = Group::of(1, |_| {});
    group.elect(1);
    group.join(2, setup().conf(voters(&[1])));
    group.change(1, add(2));
    assert_eq!(conf(group.at(1)), voters(&[1, 2]));
    group.tick(2);
    group.propose(1, "x");
    assert_eq!(group.applied(2).last().unwrap(), "x");
    group.cut.insert(2);
    group.propose(1, "y");
    assert_eq!(group.applied(1).last().unwrap(), "x", "both are needed");
}

/// Thesis, 4.3: arbitrary changes, even to servers none of which was there before.
#[test]
fn a_cluster_can_be_replaced_whole() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    group.propose(1, "kept");
    for id in 4..=6 {
        waiting(&mut group, id);
    }
    let implicit = ConfChangeTransition::JointImplicit;
    group.change(1, replace(implicit, &[4, 5, 6], &[1, 2, 3]));
    group.tick(3);
    group.cut.extend([1, 2, 3]);
    group.tick(60);
    let leaders = group.leaders();
    let leader = leaders.iter().copied().find(|id| *id >= 4).unwrap();
    assert_eq!(conf(group.at(leader)), voters(&[4, 5, 6]));
    group.propose(leader, "new");
    for id in 4..=6 {
        let applied = group.applied(id);
        let texts = [&applied[0], applied.last().unwrap()];
        assert_eq!(texts, ["kept", "new"]);
    }
}

/// Thesis, 4.3: a leader that crashes in the middle leaves the rest to the next.
#[test]
fn a_new_leader_finishes_what_the_old_one_began() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    waiting(&mut group, 4);
    let explicit = ConfChangeTransition::JointExplicit;
    group.change(1, replace(explicit, &[4], &[3]));
    group.cut.insert(1);
    group.elect(2);
    assert_eq!(conf(group.at(2)), joint(&[1, 2, 4], &[1, 2, 3]));
    group.change(2, ConfChange::default());
    assert_eq!(conf(group.at(2)), voters(&[1, 2, 4]));
}

/// Section 6; thesis, 4.1: they may be of a newer configuration.
#[test]
fn servers_answer_those_that_are_not_in_their_configuration() {
    let mut solo = setup().start();
    solo.step(9, 2, vote(1, 1));
    assert_eq!(solo.sent_to(9, MessageKind::VoteResponse), [&YES]);
    solo.step(8, 3, append(0, 0, &[3], 1));
    assert_eq!(solo.node.leader(), Some(NodeId(8)));
    assert_eq!(solo.commit(), 1);
    solo.step(7, 3, vote(9, 9));
    assert_eq!(solo.sent_to(7, MessageKind::VoteResponse), [&NO]);
}
