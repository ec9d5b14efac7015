//! What a member does when its disk lost something, and what its leader does.

use bytes::Bytes;
use raftwerk_raft::{Body, GroupState, LogIndex, Loss, MessageKind, NodeId, Restart, Role};

use crate::solo::{Setup, Solo, append, entries, id, setup, snapshot, voters};
use crate::support::MemLog;

fn heartbeat(commit: u64) -> Body {
    Body::Heartbeat {
        commit: LogIndex(commit),
        read_position: 0,
    }
}

fn lost(term: u64, index: u64) -> Body {
    Body::Lost {
        kept: id(term, index),
    }
}

fn vote(term: u64, index: u64) -> Body {
    Body::Vote {
        last: id(term, index),
        transfer: false,
    }
}

/// A log of six entries of term 1, all known to be committed, of which some cannot be read.
fn damaged(faulty: std::ops::Range<u64>, applied: u64) -> Setup {
    let mut setup = setup().log(&[1; 6]).hard_state(1, 0, 6).applied(applied);
    setup.log.spoil(faulty.clone().map(LogIndex));
    setup.restart.health.faulty = vec![LogIndex(faulty.start)..LogIndex(faulty.end)];
    setup
}

/// Starts again from what was written, as a driver does.
fn again(solo: &Solo, faulty: Vec<std::ops::Range<LogIndex>>) -> Solo {
    let status = solo.node.status();
    let mut meta = std::collections::BTreeMap::new();
    for (name, value) in &solo.meta {
        match value {
            Some(value) => meta.insert(name.clone(), value.clone()),
            None => meta.remove(name),
        };
    }
    let state = GroupState {
        hard_state: status.hard_state,
        snapshot: Some(snapshot(0, 0, voters(&[1, 2, 3]))),
        meta: meta.into_iter().collect(),
        ..GroupState::default()
    };
    let mut restart = Restart::recover(&state, &solo.log, LogIndex::ZERO).unwrap();
    restart.health.faulty = faulty;
    let log = solo.log.clone();
    Setup {
        restart,
        log,
        ..setup()
    }
    .start()
}

fn refuses_votes(solo: &mut Solo) {
    solo.take();
    solo.step(3, 50, vote(49, 99));
    solo.step(3, 51, Body::PreVote { last: id(49, 99) });
    let no = Body::VoteResponse { reject: true };
    assert_eq!(solo.sent_to(3, MessageKind::VoteResponse), [&no]);
    let no = Body::PreVoteResponse { reject: true };
    assert_eq!(solo.sent_to(3, MessageKind::PreVoteResponse), [&no]);
    solo.tick(50);
    solo.campaign();
    solo.step(2, 50, Body::TimeoutNow);
    assert_eq!(solo.node.role(), Role::Follower);
}

#[test]
fn follower_that_lost_its_tail_asks_for_it_and_is_brought_up_to_date() {
    let mut solo = setup().log(&[1, 1]).hard_state(1, 0, 1).start();
    solo.step(2, 1, heartbeat(5));
    assert_eq!(solo.sent_to(2, MessageKind::Lost), [&lost(1, 2)]);
    assert_eq!(solo.node.status().loss, Some(Loss::TailLost));
    solo.step(2, 1, append(1, 2, &[1, 1, 1], 5));
    assert_eq!((solo.commit(), solo.committed.len()), (5, 5));
    refuses_votes(&mut solo);
}

#[test]
fn lost_tail_is_remembered_though_the_log_is_complete_again() {
    let mut solo = setup().log(&[1]).hard_state(1, 0, 3).start();
    solo.step(2, 1, append(1, 1, &[1, 1], 3));
    assert_eq!(solo.commit(), 3);
    let mut solo = again(&solo, Vec::new());
    assert_eq!(solo.node.status().loss, Some(Loss::TailLost));
    refuses_votes(&mut solo);
}

#[test]
fn lost_tail_votes_only_by_the_option_that_is_named_unsafe() {
    let unsafe_vote = |config: &mut raftwerk_raft::Config| {
        config.unsafe_vote_after_lost_tail = true;
    };
    let start = || setup().log(&[1]).hard_state(1, 0, 3).options(unsafe_vote);
    let mut solo = start().start();
    assert_eq!(solo.node.status().loss, Some(Loss::TailLost), "still told");
    solo.step(2, 2, vote(1, 1));
    let yes = Body::VoteResponse { reject: false };
    assert_eq!(solo.sent_to(2, MessageKind::VoteResponse), [&yes]);
    solo.campaign();
    assert_eq!(solo.node.role(), Role::Candidate);
    let mut setup = start();
    setup.restart.health.vote_unknown = true;
    refuses_votes(&mut setup.start());
}

/// Member 2 has acknowledged two entries behind the leader's first.
fn leader_of_one_that_holds_all() -> Solo {
    let mut leader = setup().start();
    leader.lead();
    leader.propose("a");
    leader.propose("b");
    leader.ack(2, 3);
    leader.take();
    leader
}

#[test]
fn acknowledged_entries_that_were_not_yet_committed_are_missed_by_the_leader() {
    // The leader asks, for the refusal may be an old one.
    let mut leader = leader_of_one_that_holds_all();
    leader.nack(2, 3, 1, 1);
    let acked = Body::Acked { index: LogIndex(3) };
    assert_eq!(leader.sent_to(2, MessageKind::Acked), [&acked]);
    let progress = |leader: &Solo| leader.node.status().progress[&NodeId(2)].clone();
    assert_eq!(progress(&leader).match_index, LogIndex(3));
    // The follower knows.
    let mut follower = setup().log(&[1]).hard_state(1, 0, 0).start();
    follower.step(2, 1, acked.clone());
    assert_eq!(follower.sent_to(2, MessageKind::Lost), [&lost(1, 1)]);
    assert!(follower.node.status().voteless);
    let mut sound = setup().log(&[1, 1, 1]).hard_state(1, 0, 0).start();
    sound.step(2, 1, acked);
    assert!(sound.sent_to(2, MessageKind::Lost).is_empty());
    assert!(!sound.node.status().voteless);
    // And the leader begins again where the follower's log ends now.
    leader.take();
    leader.step(2, 1, lost(1, 1));
    assert_eq!(progress(&leader).match_index, LogIndex(1));
    let Some(Body::Append { prev, entries, .. }) =
        leader.sent_to(2, MessageKind::Append).last().copied()
    else {
        panic!("nothing was sent");
    };
    assert_eq!((*prev, entries.len()), (id(1, 1), 2));
    leader.ack(2, 3);
    assert_eq!(progress(&leader).match_index, LogIndex(3));
}

#[test]
fn what_a_follower_lost_does_not_count_for_a_commit_any_more() {
    let mut leader = setup().conf(voters(&[1, 2, 3, 4, 5])).start();
    leader.lead();
    leader.propose("a");
    leader.ack(2, 2);
    leader.step(2, 1, lost(1, 1));
    leader.ack(3, 2);
    assert_eq!(leader.commit(), 1);
    leader.ack(2, 2);
    assert_eq!(leader.commit(), 2);
}

#[test]
fn follower_that_lost_more_than_the_log_still_has_gets_a_snapshot() {
    let mut leader = setup().log(&[1, 1, 1]).hard_state(1, 0, 3).start();
    leader.lead();
    leader.ack(2, 4);
    leader.log.compact(LogIndex(3));
    leader
        .node
        .snapshot_available(snapshot(1, 3, voters(&[1, 2, 3])));
    leader.take();
    leader.step(2, 2, lost(1, 1));
    assert_eq!(leader.sent_to(2, MessageKind::Snapshot).len(), 1);
    // While it waits for that it can lose nothing more.
    leader.step(2, 2, lost(1, 1));
    assert_eq!(leader.sent_to(2, MessageKind::Snapshot).len(), 1);
}

#[test]
fn faulty_entries_count_as_present_when_voting_and_bar_from_leading() {
    let mut solo = damaged(3..5, 0).start();
    assert_eq!(
        solo.node.status().loss,
        Some(Loss::Faulty {
            first: LogIndex(3),
            last: LogIndex(4)
        })
    );
    assert_eq!(solo.commit(), 2, "what is not known is not committed here");
    solo.tick(50);
    solo.campaign();
    assert_eq!(solo.node.role(), Role::Follower);
    solo.step(2, 2, vote(1, 5));
    let no = Body::VoteResponse { reject: true };
    assert_eq!(solo.sent_to(2, MessageKind::VoteResponse), [&no]);
    solo.take();
    solo.step(2, 3, vote(1, 6));
    let yes = Body::VoteResponse { reject: false };
    assert_eq!(solo.sent_to(2, MessageKind::VoteResponse), [&yes]);
}

#[test]
fn faulty_entries_are_asked_for_and_nothing_behind_them_is_acknowledged_before() {
    let mut solo = damaged(3..5, 0).start();
    solo.step(2, 1, append(1, 6, &[1], 6));
    assert_eq!(solo.sent_to(2, MessageKind::Lost), [&lost(1, 2)]);
    assert!(solo.sent_to(2, MessageKind::AppendResponse).is_empty());
    solo.take();
    solo.step(2, 1, heartbeat(6));
    assert_eq!(solo.sent_to(2, MessageKind::Lost), [&lost(1, 2)]);
    assert!(!solo.node.status().voteless, "its end was not lost");
    assert_eq!(solo.commit(), 2);
}

#[test]
fn faulty_entries_are_refilled_and_the_member_is_whole_again() {
    let mut solo = damaged(3..5, 0).start();
    solo.step(2, 1, append(1, 2, &[1, 1], 6));
    let to = id(1, 6);
    assert_eq!(solo.node.status().loss, Some(Loss::Refilling { to }));
    assert_eq!(solo.commit(), 4);
    // Half of the way its log is shorter than it was: it does not vote as if it had always been.
    solo.step(3, 2, vote(1, 5));
    let no = Body::VoteResponse { reject: true };
    assert_eq!(solo.sent_to(3, MessageKind::VoteResponse), [&no]);
    solo.campaign();
    assert_eq!(solo.node.role(), Role::Follower);
    solo.step(2, 2, append(1, 4, &[1, 1], 6));
    assert_eq!(solo.node.status().loss, None);
    assert_eq!((solo.commit(), solo.committed.len()), (6, 6));
    solo.campaign();
    assert_eq!(solo.node.role(), Role::Candidate);
    let solo = again(&solo, Vec::new());
    assert_eq!(solo.node.status().loss, None);
}

#[test]
fn crash_while_being_refilled_forgets_nothing() {
    let mut solo = damaged(3..5, 0).start();
    solo.step(2, 1, append(1, 2, &[1], 6));
    let mut solo = again(&solo, Vec::new());
    let to = id(1, 6);
    assert_eq!(solo.node.status().loss, Some(Loss::Refilling { to }));
    assert!(!solo.node.status().voteless);
    solo.step(3, 2, vote(1, 5));
    let no = Body::VoteResponse { reject: true };
    assert_eq!(solo.sent_to(3, MessageKind::VoteResponse), [&no]);
    // A heartbeat of a leader that still counts on what was acknowledged before.
    solo.step(2, 2, heartbeat(6));
    assert_eq!(solo.sent_to(2, MessageKind::Lost), [&lost(1, 3)]);
    assert!(!solo.node.status().voteless);
}

#[test]
fn faulty_entries_that_a_new_leader_never_had_go_with_what_is_behind_them() {
    let mut setup = damaged(3..5, 0);
    setup.restart.hard_state.commit = LogIndex(1);
    let mut solo = setup.start();
    solo.step(2, 3, append(1, 1, &[3], 1));
    assert_eq!(solo.node.status().last, id(3, 2));
    assert_eq!(solo.node.status().loss, None);
    solo.step(3, 4, vote(3, 2));
    let yes = Body::VoteResponse { reject: false };
    assert_eq!(solo.sent_to(3, MessageKind::VoteResponse), [&yes]);
}

#[test]
fn snapshot_makes_good_for_faulty_entries() {
    let mut solo = damaged(3..5, 0).start();
    let meta = snapshot(1, 6, voters(&[1, 2, 3]));
    solo.step(2, 1, Body::Snapshot { meta: meta.into() });
    assert_eq!(solo.node.status().loss, None);
    assert_eq!(solo.commit(), 6);
    let mut solo = damaged(3..5, 0).start();
    let meta = snapshot(1, 4, voters(&[1, 2, 3]));
    solo.step(2, 1, Body::Snapshot { meta: meta.into() });
    let to = id(1, 6);
    assert_eq!(solo.node.status().loss, Some(Loss::Refilling { to }));
}

#[test]
fn faulty_entries_that_are_applied_need_only_a_snapshot() {
    let mut solo = damaged(2..4, 5).start();
    assert!(solo.snapshot_wanted);
    assert_eq!(solo.node.status().loss, Some(Loss::Damaged));
    assert_eq!(solo.commit(), 6);
    solo.campaign();
    assert_eq!(
        solo.node.role(),
        Role::Follower,
        "it could not replicate them"
    );
    solo.step(2, 1, append(1, 6, &[1], 7));
    assert_eq!(solo.commit(), 7, "it goes on as a follower");
    solo.log.compact(LogIndex(5));
    assert_eq!(solo.node.status().loss, None);
    solo.campaign();
    assert_eq!(solo.node.role(), Role::Candidate);
}

#[test]
fn entry_that_is_applied_and_lost_is_followed_though_its_term_is_a_wrong_guess() {
    // The entry at 3 is of term 2; it is lost with the next one, and so the log guesses at 1.
    let lost_at_commit = || {
        let mut setup = setup().log(&[1, 1, 1, 3]).hard_state(3, 0, 3).applied(3);
        setup.log.spoil([LogIndex(3), LogIndex(4)]);
        setup.restart.health.faulty = vec![LogIndex(3)..LogIndex(5)];
        setup
    };
    let mut solo = lost_at_commit().start();
    solo.step(2, 3, append(2, 3, &[3, 3], 5));
    let acked = Body::AppendResponse {
        index: LogIndex(5),
        reject: None,
    };
    assert_eq!(solo.sent_to(2, MessageKind::AppendResponse), [&acked]);
    assert_eq!(solo.commit(), 5);
    // Of what is not committed the term decides as ever.
    let mut solo = lost_at_commit().start();
    solo.step(2, 3, append(2, 4, &[3], 5));
    assert!(solo.sent_to(2, MessageKind::AppendResponse).is_empty());
    assert_eq!(solo.sent_to(2, MessageKind::Lost), [&lost(1, 3)]);
    let sound = setup().log(&[1, 1, 1, 3]).hard_state(3, 0, 3).applied(3);
    let mut solo = sound.start();
    solo.step(2, 3, append(2, 3, &[3, 3], 5));
    assert_eq!(
        solo.commit(),
        3,
        "no leader can say so of an entry that is held"
    );
}

#[test]
fn every_loss_tells_the_operator_what_to_do() {
    let to = id(1, 6);
    let (first, last) = (LogIndex(3), LogIndex(4));
    for (loss, words) in [
        (Loss::VoteUnknown, "remove it from the group"),
        (Loss::TailLost, "remove it from the group"),
        (Loss::Faulty { first, last }, "entries 3 to 4 are damaged"),
        (Loss::Faulty { first, last }, "check the disk"),
        (Loss::Refilling { to }, "lead again"),
        (Loss::Damaged, "take a snapshot"),
    ] {
        assert!(loss.to_string().contains(words), "{loss}");
    }
}

#[test]
fn mark_that_cannot_be_read_counts_as_a_lost_tail() {
    let log = MemLog::default();
    log.append(&entries(1, &[1]));
    let state = GroupState {
        meta: vec![(Bytes::from_static(b"raft.refill-to"), Bytes::new())],
        ..GroupState::default()
    };
    let restart = Restart::recover(&state, &log, LogIndex::ZERO).unwrap();
    assert!(restart.tail_lost);
}

#[test]
fn entry_before_a_loss_may_be_of_a_term_that_nobody_knows() {
    let mut leader = leader_of_one_that_holds_all();
    leader.step(2, 1, lost(0, 2));
    let Some(Body::Append { prev, .. }) = leader.sent_to(2, MessageKind::Append).first().copied()
    else {
        panic!("nothing was sent");
    };
    assert_eq!(*prev, id(1, 2));
}
