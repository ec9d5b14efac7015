//! Configuration changes.

use raftwerk_raft::{
    ApplyConfChangeError, Body, ConfChange, ConfChangeKind, ConfChangeStep, ConfChangeTransition,
    ConfState, EntryKind, LogIndex, MessageKind, NodeId, ProposeError, Role,
};

use crate::solo::{Solo, change, change_entry, id, joint, setup, snapshot, voters};

fn add(node: u64) -> ConfChange {
    change(ConfChangeKind::AddVoter, node)
}

fn remove(node: u64) -> ConfChange {
    change(ConfChangeKind::Remove, node)
}

fn refused(result: Result<raftwerk_raft::Proposed, ProposeError>) -> bool {
    matches!(result, Err(ProposeError::ConfChange { .. }))
}

fn pending(result: Result<raftwerk_raft::Proposed, ProposeError>) -> bool {
    matches!(result, Err(ProposeError::ChangePending { .. }))
}

#[test]
fn a_new_leader_takes_no_change_before_what_it_found_is_applied() {
    let mut solo = setup().log(&[1, 1]).hard_state(1, 0, 0).start();
    solo.lead();
    assert!(pending(solo.node.propose_conf_change(add(4))));
    solo.ack(2, 3);
    assert_eq!(solo.node.status().applied, LogIndex(3));
    assert!(solo.node.propose_conf_change(add(4)).is_ok());
}

#[test]
fn changes_are_made_one_at_a_time() {
    let mut solo = setup().start();
    solo.lead();
    solo.ack(2, 1);
    assert!(solo.node.propose_conf_change(add(4)).is_ok());
    solo.drain();
    assert!(pending(solo.node.propose_conf_change(add(5))));
    solo.ack(2, 2);
    assert!(solo.node.propose_conf_change(add(5)).is_ok());
}

#[test]
fn a_change_that_cannot_be_made_is_refused_at_once() {
    let mut solo = setup().conf(voters(&[1])).start();
    solo.lead();
    let last = solo.node.status().last;
    assert!(refused(solo.node.propose_conf_change(remove(1))));
    assert!(
        refused(solo.node.propose_conf_change(ConfChange::default())),
        "nothing to leave"
    );
    solo.drain();
    assert_eq!(solo.node.status().last, last, "no entry stands for it");
    assert!(
        solo.node.propose_conf_change(add(2)).is_ok(),
        "and it blocks nothing"
    );
}

#[test]
fn in_a_joint_configuration_only_leaving_it_is_possible() {
    let mut solo = setup().conf(joint(&[1, 2, 3], &[1, 2])).start();
    solo.lead();
    solo.ack(2, 1);
    assert!(refused(solo.node.propose_conf_change(add(4))));
    assert!(solo.node.propose_conf_change(ConfChange::default()).is_ok());
}

#[test]
fn where_etcd_is_followed_an_empty_entry_takes_the_place_of_a_refused_change() {
    let mut solo = setup()
        .conf(joint(&[1, 2, 3], &[1, 2]))
        .options(|config| config.etcd_quirks = true)
        .start();
    solo.lead();
    solo.ack(2, 1);
    assert!(solo.node.propose_conf_change(add(4)).is_ok());
    solo.drain();
    let refused = solo.log.all().remove(1);
    assert_eq!((refused.kind, refused.data.len()), (EntryKind::Normal, 0));
    assert!(solo.node.propose_conf_change(ConfChange::default()).is_ok());
    solo.drain();
    assert_eq!(solo.log.all()[2].kind, EntryKind::ConfChange);
}

#[test]
fn without_validation_a_change_is_taken_while_another_is_pending() {
    let mut solo = setup()
        .options(|config| config.disable_conf_change_validation = true)
        .start();
    solo.lead();
    for node in [4, 5] {
        assert!(solo.node.propose_conf_change(add(node)).is_ok());
        solo.drain();
    }
    assert!(solo.node.propose_conf_change(ConfChange::default()).is_ok());
}

#[test]
fn no_election_with_a_committed_change_not_applied() {
    let setup = setup().log(&[1]).hard_state(1, 0, 2);
    setup.log.append(&[change_entry(1, 2, &add(4))]);
    let mut solo = setup.options(|config| config.synchronous = false).start();
    solo.campaign();
    assert_eq!(solo.node.role(), Role::Follower);
    assert!(solo.saw("CampaignBlocked"));
    solo.apply();
    solo.campaign();
    assert_eq!(solo.node.role(), Role::Candidate);
}

#[test]
fn no_election_while_it_cannot_be_told_whether_there_is_a_change() {
    let setup = setup().log(&[1, 1]).hard_state(1, 0, 2);
    setup.log.cool(LogIndex(3));
    let mut solo = setup.options(|config| config.synchronous = false).start();
    solo.campaign();
    assert_eq!(solo.node.role(), Role::Follower);
    let read = solo.reads.remove(0);
    let entries = crate::solo::entries(1, &[1, 1]);
    solo.node.log_read(read.id, Ok(entries));
    solo.drain();
    solo.apply();
    solo.campaign();
    assert_eq!(solo.node.role(), Role::Candidate);
}

#[test]
fn a_smaller_quorum_commits_what_waited_for_a_larger_one() {
    let mut solo = setup().conf(voters(&[1, 2])).start();
    solo.lead();
    solo.ack(2, 1);
    solo.propose("waits");
    assert_eq!(solo.commit(), 1);
    solo.node.apply_conf_change(&remove(2)).unwrap();
    assert_eq!(solo.commit(), 2);
}

#[test]
fn reads_are_confirmed_when_the_quorum_shrinks() {
    let mut solo = setup().conf(voters(&[1, 2])).start();
    solo.lead();
    solo.ack(2, 1);
    solo.node.read_index("r".into()).unwrap();
    solo.drain();
    assert!(solo.read_states.is_empty());
    solo.node.apply_conf_change(&remove(2)).unwrap();
    solo.drain();
    assert_eq!(solo.read_states.len(), 1);
}

#[test]
fn a_new_member_counts_as_active_and_is_probed_at_once() {
    let mut solo = setup()
        .conf(voters(&[1]))
        .options(|config| config.check_quorum = true)
        .start();
    solo.lead();
    solo.node.propose_conf_change(add(2)).unwrap();
    solo.drain();
    assert_eq!(solo.node.status().conf_state, voters(&[1, 2]));
    assert_eq!(solo.sent_to(2, MessageKind::Append).len(), 1);
    assert!(solo.node.status().progress[&NodeId(2)].recent_active);
    solo.tick(10);
    assert_eq!(solo.node.role(), Role::Leader);
}

#[test]
fn a_removed_leader_steps_down_where_that_is_asked_for() {
    for steps_down in [true, false] {
        let mut solo = setup()
            .options(|config| config.step_down_on_removal = steps_down)
            .start();
        solo.lead();
        solo.node.apply_conf_change(&remove(1)).unwrap();
        let role = if steps_down {
            Role::Follower
        } else {
            Role::Leader
        };
        assert_eq!(solo.node.role(), role);
        if !steps_down {
            assert_eq!(solo.node.propose("a".into()), Err(ProposeError::NotMember));
        }
    }
}

/// Enters a joint configuration that is left automatically.
fn enter(solo: &mut Solo) {
    let steps = [(ConfChangeKind::AddVoter, 4), (ConfChangeKind::Remove, 3)];
    let steps = steps
        .map(|(kind, node)| ConfChangeStep {
            kind,
            node: NodeId(node),
        })
        .to_vec();
    let transition = ConfChangeTransition::JointImplicit;
    let change = ConfChange {
        transition,
        steps,
        ..ConfChange::default()
    };
    solo.node.propose_conf_change(change).unwrap();
    solo.drain();
}

#[test]
fn an_automatic_leave_that_a_transfer_prevents_is_made_up_for() {
    let mut solo = setup().start();
    solo.lead();
    solo.ack(2, 1);
    enter(&mut solo);
    solo.node.transfer_leader(NodeId(2));
    solo.drain();
    solo.ack(2, 2);
    assert!(solo.saw("NotLeavingJoint"));
    assert_eq!(solo.node.status().last.index, LogIndex(2));
    solo.tick(10);
    assert!(solo.saw("LeavingJoint"), "when the transfer is given up");
    assert_eq!(solo.node.status().last.index, LogIndex(3));
}

#[test]
fn a_joint_configuration_is_left_automatically_once() {
    let mut solo = setup().start();
    solo.lead();
    solo.ack(2, 1);
    enter(&mut solo);
    solo.ack(2, 2);
    assert_eq!(solo.node.status().last.index, LogIndex(3));
    solo.tick(5);
    assert_eq!(solo.node.status().last.index, LogIndex(3));
    solo.ack(2, 3);
    solo.ack(4, 3);
    assert_eq!(solo.node.status().conf_state, voters(&[1, 2, 4]));
}

#[test]
fn a_voter_that_is_demoted_in_a_joint_configuration_votes_until_it_is_left() {
    let mut solo = setup().start();
    solo.lead();
    let steps = vec![ConfChangeStep {
        kind: ConfChangeKind::AddLearner,
        node: NodeId(3),
    }];
    let transition = ConfChangeTransition::JointExplicit;
    let demote = ConfChange {
        transition,
        steps,
        ..ConfChange::default()
    };
    let state = solo.node.apply_conf_change(&demote).unwrap();
    let learners_next = vec![NodeId(3)];
    assert_eq!(
        state,
        ConfState {
            learners_next,
            ..joint(&[1, 2], &[1, 2, 3])
        }
    );
    assert!(!solo.node.status().progress[&NodeId(3)].is_learner);
    let state = solo.node.apply_conf_change(&ConfChange::default()).unwrap();
    assert_eq!(
        state,
        ConfState {
            learners: vec![NodeId(3)],
            ..voters(&[1, 2])
        }
    );
}

#[test]
fn a_joint_leader_commits_what_both_halves_hold() {
    let mut solo = setup().conf(joint(&[1, 2, 3], &[1, 4, 5])).start();
    solo.lead();
    solo.ack(2, 1);
    solo.ack(3, 1);
    assert_eq!(solo.commit(), 0);
    solo.ack(4, 1);
    assert_eq!(solo.commit(), 1);
}

#[test]
fn a_change_on_its_way_is_not_made_on_top_of_a_newer_snapshot() {
    let mut solo = setup().options(|config| config.synchronous = false).start();
    solo.step(
        2,
        1,
        Body::Append {
            prev: id(0, 0),
            commit: 1.into(),
            entries: change_entry(1, 1, &remove(3)).into(),
        },
    );
    solo.sync();
    assert_eq!(solo.applies.len(), 1);
    let newest = voters(&[1, 2, 7]);
    solo.step(
        2,
        1,
        Body::Snapshot {
            meta: snapshot(1, 9, newest.clone()).into(),
        },
    );
    let result = solo.node.apply_conf_change(&remove(3));
    assert_eq!(result, Err(ApplyConfChangeError::Superseded));
    assert_eq!(solo.node.status().conf_state, newest);
}

#[test]
fn a_change_that_fits_nothing_changes_nothing() {
    let mut solo = setup().start();
    let result = solo.node.apply_conf_change(&ConfChange::default());
    assert!(matches!(result, Err(ApplyConfChangeError::Refused { .. })));
    assert_eq!(solo.node.status().conf_state, voters(&[1, 2, 3]));
}

#[test]
fn a_new_leader_leaves_a_joint_configuration_once_what_it_found_is_applied() {
    let conf = ConfState {
        auto_leave: true,
        ..joint(&[1, 2], &[1, 3])
    };
    let mut solo = setup()
        .conf(conf)
        .log(&[1, 1])
        .hard_state(1, 0, 0)
        .options(|config| {
            config.synchronous = false;
            config.max_committed_size_per_ready = 1;
        })
        .start();
    solo.lead();
    solo.ack(2, 3);
    solo.ack(3, 3);
    assert_eq!(solo.commit(), 3);
    let (_, ack) = solo.applies.remove(0);
    solo.node.applied(ack);
    solo.drain();
    assert_eq!(solo.node.status().applied, LogIndex(1));
    assert_eq!(
        solo.node.status().last.index,
        LogIndex(3),
        "entry 2 may be a change"
    );
    assert!(!solo.saw("NotLeavingJoint"), "it is not even tried");
    let (_, ack) = solo.applies.remove(0);
    solo.node.applied(ack);
    solo.drain();
    assert_eq!(solo.node.status().last.index, LogIndex(4));
}

#[test]
fn a_removed_leader_still_leaves_the_joint_configuration() {
    let conf = ConfState {
        learners: vec![NodeId(1)],
        ..voters(&[2])
    };
    let mut solo = setup()
        .options(|config| config.step_down_on_removal = false)
        .start();
    solo.lead();
    // Demoted, then removed by a change that enters a joint configuration.
    solo.ack(2, 1);
    for (kind, node) in [(ConfChangeKind::Remove, 3), (ConfChangeKind::AddLearner, 1)] {
        solo.node.apply_conf_change(&change(kind, node)).unwrap();
    }
    assert_eq!(solo.node.status().conf_state, conf);
    let transition = ConfChangeTransition::JointImplicit;
    let leave = ConfChange {
        transition,
        ..remove(1)
    };
    solo.node.propose_conf_change(leave).unwrap();
    solo.drain();
    solo.ack(2, 2);
    assert!(!solo.node.status().conf_state.contains(NodeId(1)));
    solo.ack(2, 3);
    assert_eq!(solo.node.status().conf_state, voters(&[2]));
}
