//! What a leader sends, what a follower takes, what is committed.

use bytes::Bytes;
use raftwerk_raft::tracker::ProgressState;
use raftwerk_raft::{
    Body, Entries, LogIndex, MessageKind, NodeId, ProposeError, Role, StepError, Term,
};

use crate::solo::{Solo, append, entries, id, setup};

fn acked(index: u64) -> Body {
    Body::AppendResponse {
        index: LogIndex(index),
        reject: None,
    }
}

fn progress(solo: &Solo, of: u64) -> raftwerk_raft::tracker::Progress {
    solo.node.status().progress[&NodeId(of)].clone()
}

#[test]
fn an_entry_of_an_earlier_term_is_not_committed_by_counting() {
    let mut solo = setup().log(&[1, 1]).hard_state(1, 0, 0).start();
    solo.lead();
    solo.ack(2, 2);
    assert_eq!(solo.commit(), 0);
    solo.ack(2, 3);
    assert_eq!(
        solo.commit(),
        3,
        "with the first of the leader's own term they all are"
    );
}

#[test]
fn a_delayed_append_cuts_off_nothing_newer() {
    let mut solo = setup().start();
    solo.step(2, 1, append(0, 0, &[1, 1, 1], 0));
    solo.step(2, 1, append(0, 0, &[1], 0));
    assert_eq!(solo.node.status().last, id(1, 3));
    assert_eq!(
        solo.sent_to(2, MessageKind::AppendResponse),
        [&acked(3), &acked(1)]
    );
}

#[test]
fn only_from_the_first_difference_on_entries_are_replaced() {
    let mut solo = setup().log(&[1, 1, 1]).hard_state(1, 0, 0).start();
    solo.step(2, 2, append(0, 0, &[1, 2], 0));
    assert_eq!(solo.node.status().last, id(2, 2));
    assert_eq!(solo.log.all(), entries(1, &[1, 2]));
}

#[test]
fn a_follower_commits_no_further_than_the_message_covers() {
    let mut solo = setup().log(&[1, 1, 1]).hard_state(1, 0, 0).start();
    solo.step(2, 2, append(1, 1, &[], 3));
    assert_eq!(
        solo.commit(),
        1,
        "what follows may not be what the leader has"
    );
}

#[test]
fn an_append_before_the_commit_index_is_answered_with_that() {
    let mut solo = setup().start();
    solo.step(2, 1, append(0, 0, &[1, 1, 1], 2));
    solo.take();
    solo.step(2, 1, append(0, 0, &[1], 0));
    assert_eq!(solo.sent_to(2, MessageKind::AppendResponse), [&acked(2)]);
}

#[test]
fn entries_that_contradict_committed_ones_are_refused_and_change_nothing() {
    let mut solo = setup().start();
    solo.step(2, 1, append(0, 0, &[1, 1], 1));
    // Behind the commit index nobody looks; at it only a broken leader differs.
    let error = solo.try_step(2, 1, append(9, 1, &[], 0));
    assert!(matches!(error, Err(StepError::Invalid { .. })), "{error:?}");
    assert_eq!(solo.log.all(), entries(1, &[1, 1]));
}

#[test]
fn messages_that_cannot_be_true_are_refused_and_counted() {
    let mut solo = setup().start();
    let gap = Body::Append {
        prev: id(0, 0),
        commit: 0.into(),
        entries: entries(2, &[1]).into(),
    };
    let falling = Body::Append {
        prev: id(0, 0),
        commit: 0.into(),
        entries: entries(1, &[2, 1]).into(),
    };
    let future = append(0, 0, &[7], 0);
    let bodies = [gap, falling, future, append(0, u64::MAX - 1, &[], 0)];
    let count = bodies.len() as u64;
    for body in bodies {
        let result = solo.try_step(2, 2, body);
        assert!(
            matches!(result, Err(StepError::Invalid { .. })),
            "{result:?}"
        );
    }
    assert!(
        solo.try_step(2, 0, append(0, 0, &[], 0)).is_err(),
        "an append without a term"
    );
    assert_eq!(solo.node.status().invalid_messages, count + 1);
    assert_eq!(solo.node.term(), Term(0));
}

#[test]
fn an_acknowledgement_beyond_the_log_is_refused() {
    let mut solo = setup().start();
    solo.lead();
    let result = solo.try_step(2, 1, acked(9));
    assert!(
        matches!(result, Err(StepError::Invalid { .. })),
        "{result:?}"
    );
    assert_eq!(progress(&solo, 2).match_index, LogIndex(0));
}

#[test]
fn a_heartbeat_beyond_the_log_tells_of_a_lost_tail_and_costs_the_vote() {
    let mut solo = setup().log(&[1]).hard_state(1, 0, 0).start();
    solo.step(
        2,
        1,
        Body::Heartbeat {
            commit: 5.into(),
            read_position: 0,
        },
    );
    assert!(solo.saw("TailLost"));
    assert_eq!(solo.commit(), 1);
    assert!(solo.node.status().voteless);
    solo.step(
        3,
        2,
        Body::Vote {
            last: id(9, 9),
            transfer: true,
        },
    );
    let no = Body::VoteResponse { reject: true };
    assert_eq!(solo.sent_to(3, MessageKind::VoteResponse), [&no]);
}

#[test]
fn a_refusal_of_what_matched_long_ago_is_stale() {
    let mut solo = setup().log(&[1, 1]).hard_state(1, 0, 0).start();
    solo.lead();
    solo.ack(2, 3);
    assert_eq!(progress(&solo, 2).state, ProgressState::Replicate);
    solo.nack(2, 2, 1, 1);
    assert_eq!(progress(&solo, 2).state, ProgressState::Replicate);
    assert_eq!(progress(&solo, 2).next, LogIndex(4));
}

#[test]
fn a_refusal_of_another_message_than_the_last_probe_is_stale() {
    let mut solo = setup().log(&[1, 1, 1]).hard_state(1, 0, 0).start();
    solo.lead();
    let before = progress(&solo, 2);
    solo.nack(2, 1, 0, 0);
    assert_eq!(progress(&solo, 2).next, before.next);
}

#[test]
fn probing_never_goes_back_behind_what_matched() {
    let mut solo = setup().log(&[1, 1, 1]).hard_state(1, 0, 0).start();
    solo.lead();
    solo.ack(2, 2);
    // Everything sent since is in doubt.
    solo.node.report_unreachable(NodeId(2));
    assert_eq!(progress(&solo, 2).state, ProgressState::Probe);
    solo.nack(2, 2, 0, 0);
    let after = progress(&solo, 2);
    assert_eq!((after.match_index, after.next), (LogIndex(2), LogIndex(3)));
}

#[test]
fn after_a_refusal_the_commit_index_counts_as_unsent_beyond_the_probe() {
    let mut solo = setup().log(&[1, 1, 1]).hard_state(1, 0, 0).start();
    solo.lead();
    solo.ack(2, 4);
    solo.ack(3, 2);
    assert_eq!(progress(&solo, 3).sent_commit, LogIndex(4));
    // All that was sent since the match at 2 was lost.
    solo.nack(3, 4, 1, 2);
    let after = progress(&solo, 3);
    assert_eq!(
        (after.state, after.next),
        (ProgressState::Probe, LogIndex(3))
    );
    assert!(after.sent_commit <= LogIndex(4));
    let mut lost = after;
    lost.set_sent_commit(LogIndex(4));
    assert!(lost.maybe_decr_to(LogIndex(2), LogIndex(2)));
    assert_eq!(
        lost.sent_commit,
        LogIndex(2),
        "it may not know of a later one"
    );
}

#[test]
fn what_a_follower_lacks_is_found_a_term_at_a_time() {
    // The leader: 1 1 1 4 4 5; the follower: 1 1 1 2 2 2 3 3.
    let mut solo = setup().log(&[1, 1, 1, 4, 4, 5]).hard_state(5, 0, 0).start();
    solo.lead();
    solo.nack(2, 6, 3, 6);
    assert_eq!(
        progress(&solo, 2).next,
        LogIndex(4),
        "terms 4 and 5 are skipped at once"
    );
    let mut follower = setup()
        .log(&[1, 1, 1, 2, 2, 2, 3, 3])
        .hard_state(3, 0, 0)
        .start();
    follower.step(2, 6, append(1, 5, &[5], 0));
    let sent = follower.take();
    let hint = Some(id(1, 3));
    let index = LogIndex(5);
    assert_eq!(
        sent[0].body,
        Body::AppendResponse {
            index,
            reject: hint
        }
    );
}

#[test]
fn a_full_window_lets_only_empty_appends_through() {
    let mut solo = setup()
        .options(|config| config.max_inflight_msgs = 2)
        .start();
    solo.lead();
    solo.ack(2, 1);
    ["a", "b", "c"]
        .into_iter()
        .for_each(|data| solo.propose(data));
    assert_eq!(
        progress(&solo, 2).next,
        LogIndex(4),
        "two messages are on their way"
    );
    solo.take();
    solo.step(2, 1, Body::HeartbeatResponse { read_position: 0 });
    let sent = solo.sent_to(2, MessageKind::Append);
    assert!(matches!(sent[..], [Body::Append { entries, .. }] if entries.is_empty()));
    solo.take();
    solo.ack(2, 2);
    let sent = solo.sent_to(2, MessageKind::Append);
    assert!(
        sent.iter()
            .any(|body| matches!(body, Body::Append { entries, .. } if entries.len() == 1))
    );
}

#[test]
fn a_batch_becomes_one_message() {
    let mut solo = setup().start();
    solo.lead();
    solo.ack(2, 1);
    solo.take();
    solo.node
        .propose_batch(vec![Bytes::from("a"), "b".into()])
        .unwrap();
    solo.drain();
    let sent = solo.sent_to(2, MessageKind::Append);
    assert!(matches!(sent[..], [Body::Append { entries, .. }] if entries.len() == 2));
    let empty = solo.node.propose_batch(Entries::new());
    assert!(matches!(empty, Err(ProposeError::Invalid { .. })));
}

#[test]
fn a_heartbeat_never_tells_a_follower_to_commit_what_it_may_not_have() {
    let mut solo = setup().log(&[1, 1, 1]).hard_state(1, 0, 0).start();
    solo.lead();
    solo.ack(2, 4);
    solo.take();
    solo.tick(1);
    let commit = |to| match solo.sent_to(to, MessageKind::Heartbeat)[..] {
        [Body::Heartbeat { commit, .. }] => commit.0,
        ref other => panic!("{other:?}"),
    };
    assert_eq!((commit(2), commit(3)), (4, 0));
}

#[test]
fn who_holds_all_is_told_what_is_committed_and_answers_nothing() {
    let mut solo = setup().log(&[1, 1]).hard_state(1, 0, 0).start();
    solo.step(2, 1, append(1, 2, &[], 0));
    solo.take();
    solo.step(2, 1, Body::Commit { index: LogIndex(2) });
    assert_eq!(solo.node.status().hard_state.commit, LogIndex(2));
    assert!(solo.take().is_empty());
}

#[test]
fn who_has_not_acknowledged_all_is_told_what_is_committed_by_an_append() {
    let mut solo = setup().start();
    solo.lead();
    solo.take();
    solo.ack(2, 1);
    let index = LogIndex(1);
    assert_eq!(
        solo.sent_to(2, MessageKind::Commit),
        [&Body::Commit { index }]
    );
    // Its answer may be what is lost: an append asks for another.
    assert!(solo.sent_to(3, MessageKind::Commit).is_empty());
}

#[test]
fn a_follower_sends_proposals_on_and_others_refuse_them() {
    let mut solo = setup().start();
    assert_eq!(solo.node.propose("a".into()), Err(ProposeError::NoLeader));
    solo.step(2, 1, append(0, 0, &[], 0));
    solo.propose("a");
    assert_eq!(solo.sent_to(2, MessageKind::Propose).len(), 1);
    solo.campaign();
    assert_eq!(solo.node.role(), Role::Candidate);
    assert_eq!(solo.node.propose("a".into()), Err(ProposeError::NoLeader));
}

#[test]
fn a_follower_that_lacks_nothing_is_brought_back_from_probing_by_its_heartbeat() {
    let mut solo = setup().start();
    solo.lead();
    solo.ack(2, 1);
    solo.node.report_unreachable(NodeId(2));
    solo.drain();
    solo.take();
    solo.step(2, 1, Body::HeartbeatResponse { read_position: 0 });
    assert_eq!(solo.sent_to(2, MessageKind::Append).len(), 1);
    solo.ack(2, 1);
    assert_eq!(progress(&solo, 2).state, ProgressState::Replicate);
}
