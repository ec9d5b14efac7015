//! Section 7 of the paper: logs that are compacted, and snapshots.

use raftwerk_raft::tracker::ProgressState;
use raftwerk_raft::{Body, ConfState, LogIndex, LogReader as _, MessageKind, NodeId, Role};

use crate::group::{Group, acked, restarted};
use crate::solo::{append, id, setup, snapshot, voters};

/// Three members, of which 3 has missed everything and 1 has compacted it away.
fn compacted() -> Group {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    group.cut.insert(3);
    for data in ["a", "b", "c", "d"] {
        group.propose(1, data);
    }
    let leader = group.at(1);
    leader.log.compact(LogIndex(4));
    leader
        .node
        .snapshot_available(snapshot(1, 4, voters(&[1, 2, 3])));
    group.cut.clear();
    group
}

/// Section 7: last included index and term.
#[test]
fn the_entry_a_snapshot_ends_with_supports_the_check_of_what_follows() {
    let setup = setup().hard_state(2, 0, 0).applied(5);
    setup.log.reset_to(id(2, 5));
    let mut solo = setup.start();
    solo.step(2, 3, append(1, 5, &[3], 0));
    let sent = solo.sent_to(2, MessageKind::AppendResponse);
    assert_eq!(sent.len(), 1);
    assert_eq!(solo.node.status().last, id(2, 5), "another term");
    solo.take();
    solo.step(2, 3, append(2, 5, &[3], 6));
    assert_eq!(solo.sent_to(2, MessageKind::AppendResponse), [&acked(6)]);
    assert_eq!(solo.node.status().last, id(3, 6));
}

/// Section 7: the configuration as of its last entry.
#[test]
fn a_snapshot_brings_its_configuration() {
    let conf = ConfState {
        learners: vec![NodeId(1)],
        ..voters(&[2, 3, 4])
    };
    let mut solo = setup().start();
    let meta = snapshot(1, 5, conf.clone());
    solo.step(2, 1, Body::Snapshot { meta: meta.into() });
    assert_eq!(solo.node.status().conf_state, conf);
}

/// Section 7: InstallSnapshot, for who lags behind.
#[test]
fn a_follower_whose_next_entry_is_discarded_gets_a_snapshot() {
    let mut group = compacted();
    group.tick(3);
    assert!(group.count(MessageKind::Snapshot) >= 1);
    assert_eq!(group.at(3).log.first(), LogIndex(5));
    assert_eq!(
        group.at(3).node.status().last,
        group.at(1).node.status().last
    );
    let progress = &group.at(1).node.status().progress[&NodeId(3)];
    assert_eq!(progress.state, ProgressState::Replicate);
    assert_eq!(group.applied(3), ["d"], "the rest came with the snapshot");
}

/// Section 7: and for nobody else.
#[test]
fn a_follower_that_keeps_up_gets_no_snapshot() {
    let mut group = compacted();
    group.tick(3);
    let to_2 = group
        .arrived
        .iter()
        .filter(|message| message.to == NodeId(2) && message.body.kind() == MessageKind::Snapshot);
    assert_eq!(to_2.count(), 0);
}

/// Section 7: what the receiver does with its log, which may conflict.
#[test]
fn a_snapshot_with_news_replaces_the_whole_log() {
    for log in [&[][..], &[1, 1], &[1, 1, 1, 1, 1, 1, 1]] {
        let mut solo = setup().log(log).hard_state(1, 0, 0).start();
        let meta = snapshot(2, 5, voters(&[1, 2, 3]));
        solo.step(2, 2, Body::Snapshot { meta: meta.into() });
        assert_eq!(solo.node.status().last, id(2, 5));
        assert!(solo.log.all().is_empty());
        assert_eq!((solo.log.first(), solo.commit()), (LogIndex(6), 5));
        assert_eq!(solo.sent_to(2, MessageKind::AppendResponse), [&acked(5)]);
    }
}

/// Section 7: a snapshot sent again, or by mistake.
#[test]
fn entries_behind_a_snapshot_of_a_prefix_are_retained() {
    let mut solo = setup().log(&[1, 1, 1, 1]).hard_state(1, 0, 1).start();
    for index in [1, 3] {
        let meta = snapshot(1, index, voters(&[1, 2, 3]));
        solo.step(2, 1, Body::Snapshot { meta: meta.into() });
        assert_eq!(solo.node.status().last, id(1, 4));
    }
    assert_eq!(solo.commit(), 3, "what a snapshot covers is committed");
}

/// Section 7: every server takes its own snapshots.
#[test]
fn followers_compact_without_the_leaders_knowledge() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    for data in ["a", "b", "c"] {
        group.propose(1, data);
    }
    let follower = group.at(2);
    assert_eq!(follower.commit(), 4);
    follower.log.compact(LogIndex(4));
    follower
        .node
        .snapshot_available(snapshot(1, 4, voters(&[1, 2, 3])));
    follower.drain();
    group.propose(1, "d");
    assert_eq!(group.applied(2), ["a", "b", "c", "d"]);
    assert_eq!(group.count(MessageKind::Snapshot), 0);
    // And it may lead with what it has.
    group.elect(2);
    group.propose(2, "e");
    assert_eq!(group.applied(3).last().unwrap(), "e");
}

/// Section 7: snapshots cover committed entries.
#[test]
fn a_snapshot_of_what_is_not_committed_is_not_sent() {
    let mut solo = setup()
        .log(&[1, 1, 1])
        .hard_state(1, 0, 1)
        .applied(1)
        .start();
    solo.lead();
    solo.node
        .snapshot_available(snapshot(1, 3, voters(&[1, 2, 3])));
    solo.log.compact(LogIndex(1));
    solo.step(2, 2, Body::HeartbeatResponse { read_position: 0 });
    solo.nack(2, 3, 0, 0);
    assert!(solo.sent_to(2, MessageKind::Snapshot).is_empty());
}

/// Section 7: what is left of a log is enough.
#[test]
fn a_server_restarts_from_its_snapshot_and_what_follows() {
    let mut group = compacted();
    group.tick(3);
    group.propose(1, "e");
    let again = restarted(group.at(3), |_| {});
    let status = again.node.status();
    assert_eq!(status.last, group.at(1).node.status().last);
    assert_eq!(again.node.role(), Role::Follower);
    assert_eq!(again.log.first(), LogIndex(5));
}
