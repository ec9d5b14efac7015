//! A follower that asks for a snapshot, though its log is sound.

use raftwerk_raft::tracker::ProgressState;
use raftwerk_raft::{
    Body, ConfChangeKind, LogIndex, MessageKind, NodeId, RequestSnapshotError, Role, SnapshotStatus,
};

use crate::solo::{Setup, Solo, append, change, id, setup, snapshot, voters};

fn want(term: u64, index: u64) -> Body {
    Body::WantSnapshot {
        last: id(term, index),
    }
}

fn acked(index: u64) -> Body {
    Body::AppendResponse {
        index: LogIndex(index),
        reject: None,
    }
}

fn offered(index: u64) -> Body {
    Body::Snapshot {
        meta: snapshot(1, index, voters(&[1, 2, 3])).into(),
    }
}

fn heartbeat(commit: u64) -> Body {
    Body::Heartbeat {
        commit: LogIndex(commit),
        read_position: 0,
    }
}

/// A follower of member 2 in term 1 with three entries, two of them committed, that has asked.
fn asking() -> Solo {
    let mut solo = setup().start();
    solo.step(2, 1, append(0, 0, &[1, 1, 1], 2));
    solo.take();
    solo.node.request_snapshot().unwrap();
    solo.drain();
    solo
}

/// A leader with a snapshot up to entry 2, whose followers have acknowledged entry 3.
fn leading() -> Solo {
    leading_with(false)
}

/// And one that looks now and then who of them is there.
fn leading_with(check_quorum: bool) -> Solo {
    let start = setup().options(|c| c.check_quorum = check_quorum);
    let mut start: Setup = start.log(&[1, 1]).hard_state(1, 0, 2).applied(2);
    start.restart.snapshot = Some(snapshot(1, 2, voters(&[1, 2, 3])));
    let mut solo = start.start();
    solo.lead();
    for follower in [2, 3] {
        solo.ack(follower, 3);
    }
    solo.take();
    solo
}

fn progress(solo: &Solo, of: u64) -> raftwerk_raft::tracker::Progress {
    solo.node.status().progress[&NodeId(of)].clone()
}

#[test]
fn follower_asks_its_leader_again_until_the_snapshot_is_here() {
    let mut solo = asking();
    assert_eq!(solo.sent_to(2, MessageKind::WantSnapshot), [&want(1, 3)]);
    assert!(solo.node.status().wants_snapshot);
    solo.take();
    solo.step(2, 1, heartbeat(2));
    assert_eq!(solo.sent_to(2, MessageKind::WantSnapshot), [&want(1, 3)]);
    solo.take();
    solo.step(2, 1, offered(3));
    solo.step(2, 1, heartbeat(3));
    assert!(solo.sent_to(2, MessageKind::WantSnapshot).is_empty());
    assert!(!solo.node.status().wants_snapshot);
}

#[test]
fn requested_snapshot_replaces_a_log_that_has_all_of_it() {
    let mut solo = asking();
    solo.step(2, 1, offered(3));
    assert!(solo.saw("SnapshotRestored "), "not merely fast-forwarded");
    assert_eq!((solo.commit(), solo.node.status().first), (3, LogIndex(4)));
    assert_eq!(solo.sent_to(2, MessageKind::AppendResponse), [&acked(3)]);
}

#[test]
fn snapshot_at_the_commit_index_replaces_the_log_only_if_it_was_asked_for() {
    for asks in [false, true] {
        let mut solo = setup().start();
        solo.step(2, 1, append(0, 0, &[1, 1, 1], 3));
        if asks {
            solo.node.request_snapshot().unwrap();
        }
        solo.step(2, 1, offered(3));
        assert_eq!(solo.saw("SnapshotRestored "), asks);
    }
}

#[test]
fn acknowledged_entries_behind_a_snapshot_are_never_given_up_for_it() {
    let mut solo = asking();
    solo.step(2, 1, offered(2));
    assert_eq!(solo.node.status().last, id(1, 3));
    assert!(solo.node.status().wants_snapshot, "it goes on waiting");
}

#[test]
fn log_does_not_grow_while_a_snapshot_is_waited_for() {
    let mut solo = asking();
    solo.take();
    solo.step(2, 1, append(1, 2, &[1, 1, 1], 5));
    assert_eq!(solo.node.status().last, id(1, 3));
    assert_eq!(solo.sent_to(2, MessageKind::AppendResponse), [&acked(3)]);
    assert_eq!(solo.commit(), 3, "what is here is committed");
    solo.step(2, 1, offered(3));
    solo.step(2, 1, append(1, 3, &[1, 1], 5));
    assert_eq!(solo.node.status().last, id(1, 5));
}

#[test]
fn leaders_first_entry_is_taken_before_that() {
    // It may need this member to commit anything, the entries here as well.
    let mut solo = setup().log(&[1, 1]).hard_state(1, 0, 1).start();
    solo.node.request_snapshot().unwrap();
    solo.step(2, 2, append(1, 2, &[2], 1));
    assert_eq!(solo.node.status().last, id(2, 3));
    assert!(solo.sent_to(2, MessageKind::WantSnapshot).is_empty());
    solo.step(2, 2, heartbeat(1));
    assert_eq!(solo.sent_to(2, MessageKind::WantSnapshot), [&want(2, 3)]);
}

#[test]
fn who_waits_for_a_snapshot_starts_no_election_but_votes() {
    let mut solo = asking();
    solo.tick(39);
    assert_eq!(solo.node.role(), Role::Follower);
    let vote = Body::Vote {
        last: id(1, 3),
        transfer: false,
    };
    solo.step(3, 2, vote);
    let granted = Body::VoteResponse { reject: false };
    assert_eq!(solo.sent_to(3, MessageKind::VoteResponse), [&granted]);
}

#[test]
fn who_has_nobody_to_ask_is_refused() {
    let mut leader = leading();
    let refused = leader.node.request_snapshot();
    assert_eq!(refused, Err(RequestSnapshotError::NotFollower));
    let mut alone = setup().conf(voters(&[1])).start();
    let refused = alone.node.request_snapshot();
    assert_eq!(refused, Err(RequestSnapshotError::Alone));
}

#[test]
fn leader_sends_a_snapshot_that_reaches_the_followers_end() {
    let mut solo = leading();
    solo.step(2, 2, want(2, 3));
    assert!(solo.sent_to(2, MessageKind::Snapshot).is_empty());
    assert!(solo.snapshot_wanted, "its own ends before");
    solo.propose("not sent to who waits");
    assert!(solo.sent_to(2, MessageKind::Append).is_empty());
    let meta = snapshot(2, 3, voters(&[1, 2, 3]));
    solo.node.snapshot_available(meta.clone());
    solo.drain();
    assert_eq!(
        solo.sent_to(2, MessageKind::Snapshot),
        [&Body::Snapshot { meta: meta.into() }]
    );
    assert_eq!(progress(&solo, 2).state, ProgressState::Snapshot);
    // An acknowledgement says nothing of it: it may be one of before.
    solo.take();
    solo.ack(2, 3);
    assert_eq!(progress(&solo, 2).state, ProgressState::Snapshot);
    let finished = SnapshotStatus::Finished;
    solo.node.report_snapshot(NodeId(2), finished);
    solo.ack(2, 3);
    assert_eq!(progress(&solo, 2).state, ProgressState::Replicate);
    assert_eq!(solo.sent_to(2, MessageKind::Append).len(), 1);
}

#[test]
fn snapshot_is_made_once_what_it_has_to_cover_is_applied() {
    let mut solo = leading();
    solo.propose("a");
    solo.step(2, 2, want(2, 4));
    assert!(!solo.snapshot_wanted, "entry 4 is not committed");
    solo.ack(3, 4);
    assert!(solo.snapshot_wanted);
}

#[test]
fn request_that_failed_on_the_way_is_made_again() {
    let mut solo = leading();
    solo.node
        .snapshot_available(snapshot(2, 3, voters(&[1, 2, 3])));
    for _ in 0..2 {
        solo.take();
        solo.step(2, 2, want(2, 3));
        assert_eq!(solo.sent_to(2, MessageKind::Snapshot).len(), 1);
        solo.step(2, 2, want(2, 3));
        assert_eq!(solo.sent_to(2, MessageKind::Snapshot).len(), 1, "only one");
        solo.node.report_snapshot(NodeId(2), SnapshotStatus::Failed);
        solo.drain();
    }
}

#[test]
fn request_ends_with_the_leaders_term() {
    let mut solo = leading();
    solo.step(2, 2, want(2, 3));
    solo.step(3, 3, append(0, 0, &[], 0));
    solo.lead();
    solo.ack(2, 4);
    solo.propose("a");
    assert!(!solo.sent_to(2, MessageKind::Append).is_empty());
}

#[test]
fn who_has_the_longest_log_gives_up_its_wish_when_others_need_a_leader() {
    let mut solo = setup().log(&[1, 1]).hard_state(1, 0, 0).start();
    solo.step(2, 1, append(1, 2, &[], 0));
    solo.node.request_snapshot().unwrap();
    let vote = |index| Body::Vote {
        last: id(1, index),
        transfer: false,
    };
    // One that can win needs nobody else.
    solo.step(3, 2, vote(2));
    assert!(solo.node.status().wants_snapshot);
    solo.step(3, 3, vote(1));
    assert!(!solo.node.status().wants_snapshot);
    solo.tick(20);
    assert_eq!(solo.node.role(), Role::Candidate);
}

#[test]
fn who_hears_from_no_leader_for_long_gives_up_its_wish() {
    let setup = setup().conf(voters(&[1, 2])).log(&[1]);
    let mut solo = setup.hard_state(1, 0, 1).start();
    solo.node.request_snapshot().unwrap();
    // It could not know that it would be left alone.
    let removal = change(ConfChangeKind::Remove, 2);
    solo.node.apply_conf_change(&removal).unwrap();
    solo.tick(39);
    assert!(solo.node.status().wants_snapshot);
    solo.tick(1);
    assert!(!solo.node.status().wants_snapshot);
    assert_eq!(solo.node.role(), Role::Leader);
}

#[test]
fn who_was_silent_when_its_snapshot_came_gets_it_when_it_asks_again() {
    let mut solo = leading_with(true);
    solo.step(3, 2, want(2, 3));
    assert!(
        solo.sent_to(3, MessageKind::Snapshot).is_empty(),
        "none fits"
    );
    assert!(solo.saw("SnapshotRequested"));
    // Until nobody knows whether 3 is there.
    for _ in 0..30 {
        solo.tick(1);
        solo.step(2, 2, Body::HeartbeatResponse { read_position: 0 });
        if !progress(&solo, 3).recent_active {
            break;
        }
    }
    assert!(!progress(&solo, 3).recent_active);
    solo.node
        .snapshot_available(snapshot(2, 3, voters(&[1, 2, 3])));
    solo.drain();
    solo.take();
    solo.step(3, 2, Body::HeartbeatResponse { read_position: 0 });
    solo.step(3, 2, want(2, 3));
    assert_eq!(solo.sent_to(3, MessageKind::Snapshot).len(), 1);
    assert_eq!(progress(&solo, 3).state, ProgressState::Snapshot);
}
