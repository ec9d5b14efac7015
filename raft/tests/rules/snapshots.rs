//! Snapshots: who gets one, who takes one, and what it replaces.

use raftwerk_raft::tracker::ProgressState;
use raftwerk_raft::{Body, ConfState, LogIndex, MessageKind, NodeId, Role, SnapshotStatus, Term};

use crate::solo::{Solo, append, id, joint, setup, snapshot, voters};

fn progress(solo: &Solo, of: u64) -> raftwerk_raft::tracker::Progress {
    solo.node.status().progress[&NodeId(of)].clone()
}

fn acked(index: u64) -> Body {
    Body::AppendResponse {
        index: LogIndex(index),
        reject: None,
    }
}

/// A leader whose log begins behind entry 3.
fn compacted_leader() -> Solo {
    let mut setup = setup().log(&[1, 1, 1, 1, 1]).hard_state(1, 0, 5).applied(5);
    setup.restart.snapshot = Some(snapshot(1, 3, voters(&[1, 2, 3])));
    setup.log.compact(LogIndex(3));
    let mut solo = setup.start();
    solo.lead();
    solo
}

#[test]
fn a_snapshot_that_the_log_covers_only_moves_the_commit_index() {
    let mut solo = setup().log(&[1, 1, 1]).hard_state(1, 0, 1).start();
    solo.step(
        2,
        1,
        Body::Snapshot {
            meta: snapshot(1, 2, voters(&[1, 2, 3])).into(),
        },
    );
    assert_eq!(solo.node.status().last, id(1, 3), "newer entries stay");
    assert_eq!(solo.commit(), 2);
    assert_eq!(solo.sent_to(2, MessageKind::AppendResponse), [&acked(2)]);
}

#[test]
fn an_old_snapshot_is_answered_with_the_commit_index() {
    let mut solo = setup().log(&[1, 1, 1]).hard_state(1, 0, 2).start();
    solo.step(
        2,
        1,
        Body::Snapshot {
            meta: snapshot(1, 1, voters(&[1, 2, 3])).into(),
        },
    );
    assert_eq!(solo.sent_to(2, MessageKind::AppendResponse), [&acked(2)]);
    assert!(solo.saw("SnapshotIgnored"));
}

#[test]
fn a_snapshot_of_others_is_refused() {
    let mut solo = setup().start();
    solo.step(
        2,
        1,
        Body::Snapshot {
            meta: snapshot(1, 5, voters(&[2, 3])).into(),
        },
    );
    assert!(solo.saw("SnapshotForeign"));
    assert_eq!((solo.commit(), solo.node.status().last), (0, id(0, 0)));
}

#[test]
fn an_outgoing_voter_and_a_learner_take_a_snapshot() {
    let learner = ConfState {
        learners: vec![NodeId(1)],
        ..voters(&[2, 3])
    };
    for conf_state in [joint(&[2, 3], &[1, 2]), learner] {
        let mut solo = setup().start();
        solo.step(
            2,
            1,
            Body::Snapshot {
                meta: snapshot(1, 5, conf_state.clone()).into(),
            },
        );
        assert_eq!(solo.node.status().conf_state, conf_state);
        assert_eq!(solo.node.status().last, id(1, 5));
    }
}

#[test]
fn a_snapshot_restores_all_of_a_joint_configuration() {
    let conf_state = ConfState {
        learners: vec![NodeId(5)],
        learners_next: vec![NodeId(3)],
        auto_leave: true,
        ..joint(&[1, 2], &[2, 3])
    };
    let mut solo = setup().start();
    solo.step(
        2,
        1,
        Body::Snapshot {
            meta: snapshot(1, 5, conf_state.clone()).into(),
        },
    );
    assert_eq!(solo.node.status().conf_state, conf_state);
}

#[test]
fn a_snapshot_whose_configuration_contradicts_itself_is_refused() {
    let conf_state = ConfState {
        learners: vec![NodeId(2)],
        ..voters(&[1, 2])
    };
    let mut solo = setup().log(&[1]).hard_state(1, 0, 0).start();
    solo.step(
        2,
        1,
        Body::Snapshot {
            meta: snapshot(1, 5, conf_state).into(),
        },
    );
    assert_eq!(solo.node.status().last, id(1, 1));
    assert_eq!(solo.node.status().invalid_messages, 1);
}

#[test]
fn a_snapshot_takes_the_place_of_entries_on_their_way_to_the_disk() {
    let mut solo = setup().options(|config| config.synchronous = false).start();
    solo.step(2, 1, append(0, 0, &[1, 1], 0));
    solo.step(
        2,
        1,
        Body::Snapshot {
            meta: snapshot(1, 5, voters(&[1, 2, 3])).into(),
        },
    );
    assert_eq!(solo.node.status().last, id(1, 5));
    assert_eq!(solo.writes.len(), 2);
    solo.sync();
    let status = solo.node.status();
    assert_eq!((status.first, status.applied), (LogIndex(6), LogIndex(5)));
}

#[test]
fn a_member_whose_snapshot_is_not_installed_starts_no_election() {
    let mut solo = setup().options(|config| config.synchronous = false).start();
    solo.step(
        2,
        1,
        Body::Snapshot {
            meta: snapshot(1, 5, voters(&[1, 2, 3])).into(),
        },
    );
    solo.tick(40);
    solo.campaign();
    assert_eq!(
        (solo.node.role(), solo.node.term()),
        (Role::Follower, Term(1))
    );
    assert!(solo.saw("Unpromotable"));
    solo.sync();
    solo.campaign();
    assert_eq!(solo.node.role(), Role::Candidate);
}

#[test]
fn a_snapshot_receipt_of_an_earlier_term_counts() {
    let mut solo = setup().options(|config| config.synchronous = false).start();
    solo.step(
        2,
        1,
        Body::Snapshot {
            meta: snapshot(1, 5, voters(&[1, 2, 3])).into(),
        },
    );
    solo.step(
        3,
        4,
        Body::Heartbeat {
            commit: 0.into(),
            read_position: 0,
        },
    );
    solo.sync();
    assert_eq!(solo.node.status().applied, LogIndex(5));
    solo.campaign();
    assert_eq!(
        solo.node.role(),
        Role::Candidate,
        "nothing is pending any more"
    );
}

#[test]
fn nothing_is_applied_while_a_snapshot_waits() {
    let mut solo = setup().options(|config| config.synchronous = false).start();
    solo.step(2, 1, append(0, 0, &[1, 1], 0));
    solo.step(
        2,
        1,
        Body::Snapshot {
            meta: snapshot(1, 5, voters(&[1, 2, 3])).into(),
        },
    );
    solo.step(2, 1, append(1, 5, &[1], 6));
    assert!(solo.applies.is_empty());
    solo.sync();
    assert_eq!(solo.applies[0].0[0].id, id(1, 6));
}

#[test]
fn a_snapshot_goes_to_who_was_heard_from_lately() {
    let mut solo = compacted_leader();
    // A new leader has heard from nobody.
    solo.node.report_unreachable(NodeId(2));
    solo.nack(2, 5, 0, 0);
    assert_eq!(
        solo.sent_to(2, MessageKind::Snapshot).len(),
        1,
        "the refusal is a sign of life"
    );
    assert_eq!(progress(&solo, 2).state, ProgressState::Snapshot);
    let mut solo = setup().options(|config| config.check_quorum = true).start();
    solo.lead();
    solo.ack(2, 1);
    solo.ack(3, 1);
    solo.propose("a");
    solo.ack(3, 2);
    // From now on nobody was heard from.
    solo.tick(10);
    solo.node
        .snapshot_available(snapshot(1, 2, voters(&[1, 2, 3])));
    solo.log.compact(LogIndex(2));
    solo.node.report_unreachable(NodeId(2));
    solo.propose("b");
    assert!(solo.saw("SnapshotToInactive"));
    assert!(solo.sent_to(2, MessageKind::Snapshot).is_empty());
}

#[test]
fn only_what_reaches_the_log_ends_the_wait_for_a_snapshot() {
    let mut solo = compacted_leader();
    solo.node
        .snapshot_available(snapshot(1, 5, voters(&[1, 2, 3])));
    solo.nack(2, 5, 0, 0);
    assert_eq!(progress(&solo, 2).state, ProgressState::Snapshot);
    solo.take();
    solo.ack(2, 1);
    assert_eq!(progress(&solo, 2).state, ProgressState::Snapshot);
    assert!(solo.take().is_empty(), "entry 2 is compacted");
    // Another snapshot than the one sent will do as well.
    solo.ack(2, 3);
    assert_eq!(progress(&solo, 2).state, ProgressState::Replicate);
    assert_eq!(progress(&solo, 2).match_index, LogIndex(3));
}

#[test]
fn a_failed_snapshot_is_tried_again_after_a_heartbeat() {
    let mut solo = compacted_leader();
    solo.nack(2, 5, 0, 0);
    solo.take();
    solo.node.report_snapshot(NodeId(2), SnapshotStatus::Failed);
    solo.drain();
    let after = progress(&solo, 2);
    assert_eq!(
        (after.state, after.next),
        (ProgressState::Probe, LogIndex(1))
    );
    assert!(solo.take().is_empty());
    solo.step(2, 2, Body::HeartbeatResponse { read_position: 0 });
    assert_eq!(solo.sent_to(2, MessageKind::Snapshot).len(), 1);
}

#[test]
fn a_finished_snapshot_is_followed_by_entries_once_it_is_acknowledged() {
    let mut solo = compacted_leader();
    solo.nack(2, 5, 0, 0);
    solo.node
        .report_snapshot(NodeId(2), SnapshotStatus::Finished);
    let after = progress(&solo, 2);
    assert_eq!(
        (after.state, after.next),
        (ProgressState::Probe, LogIndex(4))
    );
    assert!(after.is_paused());
}

#[test]
fn without_a_snapshot_that_helps_one_is_asked_for_and_sent_when_it_comes() {
    let mut setup = setup().log(&[1, 1, 1, 1, 1]).hard_state(1, 0, 5).applied(5);
    // The newest one says nothing of member 2.
    setup.restart.snapshot = Some(snapshot(1, 3, voters(&[1, 3])));
    setup.log.compact(LogIndex(3));
    let mut solo = setup.start();
    solo.lead();
    solo.nack(2, 5, 0, 0);
    assert!(solo.snapshot_wanted);
    assert!(solo.sent_to(2, MessageKind::Snapshot).is_empty());
    solo.node
        .snapshot_available(snapshot(1, 4, voters(&[1, 2, 3])));
    solo.drain();
    assert_eq!(solo.sent_to(2, MessageKind::Snapshot).len(), 1);
}

#[test]
fn a_leader_of_a_lower_term_learns_from_its_snapshot_that_it_is_one() {
    let mut solo = setup()
        .hard_state(5, 0, 0)
        .options(|config| config.check_quorum = true)
        .start();
    solo.step(
        2,
        3,
        Body::Snapshot {
            meta: snapshot(1, 5, voters(&[1, 2, 3])).into(),
        },
    );
    let sent = solo.take();
    assert_eq!((sent[0].term, &sent[0].body), (Term(5), &acked(0)));
}

#[test]
fn what_a_snapshot_covers_counts_as_durable_once_it_is_installed() {
    let setup = setup().options(|config| config.synchronous = false);
    let mut solo = setup.log(&[1, 1]).hard_state(1, 0, 0).start();
    assert_eq!(solo.node.status().durable, LogIndex(2));
    let meta = snapshot(2, 5, voters(&[1, 2, 3]));
    solo.step(2, 2, Body::Snapshot { meta: meta.into() });
    assert_eq!(solo.node.status().durable, LogIndex(0));
    solo.sync();
    assert_eq!(solo.node.status().durable, LogIndex(5));
}
