//! What a leader tracks: the window of messages against a list, each follower's progress, votes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "support/progress.rs"]
mod progress;

use progress::shown;
use proptest::prelude::*;
use raftwerk_raft::quorum::VoteResult;
use raftwerk_raft::tracker::{Inflights, Progress, ProgressState, ProgressTracker};
use raftwerk_raft::{ConfState, LogIndex, NodeId, confchange};

const fn index(index: u64) -> LogIndex {
    LogIndex(index)
}

/// A follower of whom `matched` is known and that was last heard of.
fn progress(matched: u64, next: u64) -> Progress {
    let mut progress = Progress::new(index(next), Inflights::new(2, 0));
    progress.match_index = index(matched);
    progress.recent_active = true;
    progress
}

fn replicating(matched: u64) -> Progress {
    let mut progress = progress(matched, matched + 1);
    progress.become_replicate();
    progress
}

fn ids(ids: &[u64]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn tracker(conf_state: &ConfState) -> ProgressTracker {
    let mut tracker = ProgressTracker::new(10, 0);
    (tracker.config, tracker.progress) =
        confchange::restore(&tracker, LogIndex::ZERO, conf_state).unwrap();
    tracker
}

fn joint(voters: &[u64], outgoing: &[u64]) -> ProgressTracker {
    tracker(&ConfState {
        voters: ids(voters),
        voters_outgoing: ids(outgoing),
        learners: ids(&[9]),
        ..ConfState::default()
    })
}

#[test]
fn probe_sends_one_message_and_waits() {
    let mut p = progress(4, 5);
    p.sent_entries(0, 0);
    assert!(!p.is_paused(), "an empty message asks for nothing");
    p.sent_entries(3, 30);
    assert_eq!(shown(&p), "StateProbe match=4 next=5 paused");
    assert!(p.maybe_update(index(7)));
    assert_eq!(shown(&p), "StateProbe match=7 next=8");
}

#[test]
fn replicate_sends_until_the_window_is_full() {
    let mut p = replicating(4);
    p.sent_entries(3, 30);
    assert_eq!(shown(&p), "StateReplicate match=4 next=8 inflight=1");
    p.sent_entries(1, 10);
    assert_eq!(
        shown(&p),
        "StateReplicate match=4 next=9 paused inflight=2[full]"
    );
    // A heartbeat's answer lets one empty message through, which is no reason to send more.
    p.msg_app_flow_paused = false;
    p.sent_entries(0, 0);
    assert_eq!(
        shown(&p),
        "StateReplicate match=4 next=9 paused inflight=2[full]"
    );
    p.inflights.free_to(index(7));
    assert!(p.maybe_update(index(7)));
    assert_eq!(shown(&p), "StateReplicate match=7 next=9 inflight=1");
}

#[test]
fn acknowledgement_moves_match_forward_only_and_never_lowers_next() {
    let mut p = replicating(4);
    p.sent_entries(6, 6);
    p.msg_app_flow_paused = true;
    assert!(!p.maybe_update(index(4)));
    assert!(!p.maybe_update(index(3)));
    assert!(p.is_paused(), "an old answer frees nothing");
    assert!(p.maybe_update(index(6)));
    assert_eq!((p.match_index, p.next), (index(6), index(11)));
    assert!(p.maybe_update(index(20)));
    assert_eq!((p.match_index, p.next), (index(20), index(21)));
}

#[test]
fn stale_rejection_changes_nothing() {
    let mut p = replicating(4);
    p.sent_entries(6, 6);
    let before = p.clone();
    assert!(!p.maybe_decr_to(index(4), index(1)));
    assert!(!p.maybe_decr_to(index(3), index(1)));
    assert_eq!(p, before);

    let mut p = progress(0, 10);
    p.sent_entries(1, 1);
    let before = p.clone();
    for rejected in [0, 8, 10] {
        assert!(!p.maybe_decr_to(index(rejected), index(1)));
    }
    assert_eq!(p, before);
}

#[test]
fn rejection_goes_back_to_the_match_when_replicating() {
    let mut p = replicating(4);
    p.sent_entries(6, 6);
    p.set_sent_commit(index(9));
    assert!(p.maybe_decr_to(index(5), index(2)));
    assert_eq!((p.next, p.sent_commit), (index(5), index(4)));
}

#[test]
fn rejection_goes_back_to_the_hint_when_probing_but_never_below_the_match() {
    let decreased = |matched, next: u64, hint| {
        let mut p = progress(matched, next);
        p.sent_entries(1, 1);
        p.set_sent_commit(index(next));
        assert!(p.maybe_decr_to(index(next - 1), index(hint)));
        assert!(!p.is_paused());
        assert_eq!(p.sent_commit, p.next.prev());
        p.next.value()
    };
    assert_eq!(decreased(0, 10, 4), 5, "behind the hint");
    assert_eq!(decreased(0, 10, 40), 9, "at least one step");
    assert_eq!(decreased(6, 10, 4), 7, "not below the match");
    assert_eq!(decreased(0, 1, 0), 1, "not below the first index");
    assert_eq!(decreased(0, 10, u64::MAX), 9);
}

#[test]
fn snapshot_sends_nothing_and_counts_when_it_ends() {
    let mut p = replicating(4);
    p.sent_entries(2, 2);
    p.become_snapshot(index(20));
    assert_eq!(
        shown(&p),
        "StateSnapshot match=4 next=21 paused pendingSnap=20"
    );
    assert_eq!(p.sent_commit, index(20));
    let mut received = p.clone();
    received.become_probe();
    assert_eq!(shown(&received), "StateProbe match=4 next=21");
    // Somebody else's snapshot took it further than ours.
    let mut further = p.clone();
    further.maybe_update(index(30));
    further.become_probe();
    assert_eq!(shown(&further), "StateProbe match=30 next=31");
    let mut failed = p;
    failed.pending_snapshot = LogIndex::ZERO;
    failed.become_probe();
    assert_eq!(shown(&failed), "StateProbe match=4 next=5");
    assert_eq!(failed.sent_commit, index(4));
}

#[test]
fn commit_index_is_worth_sending_while_the_follower_may_lack_it() {
    let mut p = replicating(4);
    p.sent_entries(6, 6);
    p.set_sent_commit(index(5));
    assert!(p.can_bump_commit(index(6)));
    assert!(!p.can_bump_commit(index(5)));
    // Everything that was sent is known there to be committed: more needs entries first.
    p.set_sent_commit(index(10));
    assert!(!p.can_bump_commit(index(12)));
    p.become_probe();
    assert_eq!(p.sent_commit, index(4));
}

#[test]
fn inactive_learner_says_so() {
    let mut p = Progress::new(LogIndex::ZERO, Inflights::new(2, 0));
    p.is_learner = true;
    assert_eq!(shown(&p), "StateProbe match=0 next=1 learner inactive");
}

#[test]
fn byte_limit_lets_one_message_exceed_it() {
    let mut window = Inflights::new(10, 100);
    window.add(index(1), 99);
    assert!(!window.is_full());
    window.add(index(2), 1000);
    assert!(window.is_full());
    assert_eq!((window.count(), window.bytes()), (2, 1099));
    window.free_to(index(1));
    assert!(window.is_full());
    window.free_to(index(2));
    assert_eq!(
        (window.is_full(), window.count(), window.bytes()),
        (false, 0, 0)
    );
}

#[test]
fn first_vote_of_a_member_counts() {
    let mut t = joint(&[1, 2, 3], &[]);
    t.record_vote(NodeId(1), true);
    t.record_vote(NodeId(2), false);
    t.record_vote(NodeId(2), true);
    assert_eq!(t.tally_votes(), (1, 1, VoteResult::Pending));
    t.record_vote(NodeId(3), true);
    assert_eq!(t.tally_votes(), (2, 1, VoteResult::Won));
    t.reset_votes();
    assert_eq!(t.tally_votes(), (0, 0, VoteResult::Pending));
}

#[test]
fn votes_of_learners_and_strangers_do_not_count() {
    let mut t = joint(&[1, 2, 3], &[]);
    for id in [1, 9, 77] {
        t.record_vote(NodeId(id), true);
    }
    assert_eq!(t.tally_votes(), (1, 0, VoteResult::Pending));
}

#[test]
fn election_is_lost_with_one_half() {
    let mut t = joint(&[1, 2, 3], &[4, 5]);
    for (id, vote) in [(1, true), (2, true), (3, true), (4, false)] {
        t.record_vote(NodeId(id), vote);
    }
    assert_eq!(t.tally_votes(), (3, 1, VoteResult::Lost));
}

#[test]
fn quorum_is_active_when_both_halves_are() {
    let active = |t: &ProgressTracker, active: &[u64]| {
        let mut t = t.clone();
        for (id, progress) in &mut t.progress {
            progress.recent_active = active.contains(&id.value());
        }
        t.quorum_active()
    };
    let t = joint(&[1, 2, 3], &[3, 4, 5]);
    assert!(active(&t, &[1, 3, 4]));
    assert!(!active(&t, &[1, 2, 4]), "outgoing half is missing");
    assert!(!active(&t, &[1, 4, 5]), "incoming half is missing");
    let t = joint(&[1, 2], &[]);
    assert!(!active(&t, &[1, 9]), "a learner does not count");
    assert!(active(&t, &[1, 2]));
}

#[test]
fn commit_index_needs_both_halves() {
    let mut t = joint(&[1, 2, 3], &[3, 4, 5]);
    for (id, matched) in [(1, 10), (2, 10), (3, 7), (4, 3), (5, 0), (9, 100)] {
        t.progress.get_mut(&NodeId(id)).unwrap().match_index = index(matched);
    }
    assert_eq!(t.committed(), index(3));
    assert_eq!(ProgressTracker::new(1, 0).committed(), LogIndex::MAX);
}

#[test]
fn configuration_is_listed_in_order() {
    let conf_state = ConfState {
        voters: ids(&[2, 3]),
        learners: ids(&[5, 17]),
        voters_outgoing: ids(&[1, 2]),
        learners_next: ids(&[1]),
        auto_leave: true,
    };
    let t = tracker(&conf_state);
    assert_eq!(t.conf_state(), conf_state);
    assert_eq!(
        (t.voter_nodes(), t.learner_nodes()),
        (ids(&[1, 2, 3]), ids(&[5, 17]))
    );
    assert_eq!(
        t.config.to_string(),
        "voters=(2 3)&&(1 2) learners=(5 11) learners_next=(1) autoleave"
    );
    assert_eq!(ProgressTracker::new(1, 0).config.to_string(), "voters=()");
}

#[test]
fn singleton_is_one_voter_outside_a_joint_configuration() {
    assert!(joint(&[1], &[]).is_singleton());
    assert!(!joint(&[1], &[1]).is_singleton());
    assert!(!joint(&[1, 2], &[]).is_singleton());
    assert!(!ProgressTracker::new(1, 0).is_singleton());
}

#[derive(Clone, Debug)]
enum Step {
    Send { bytes: u64 },
    Acknowledge { index: u64 },
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..40_u64).prop_map(|bytes| Step::Send { bytes }),
        4 => (0..60_u64).prop_map(|index| Step::Acknowledge { index }),
        1 => Just(Step::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn window_follows_a_list(
        messages_max in 1..8_usize,
        bytes_max in prop_oneof![Just(0_u64), 1..100_u64],
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut window = Inflights::new(messages_max, bytes_max);
        let mut list: Vec<(u64, u64)> = Vec::new();
        let mut last = 0;
        for step in steps {
            match step {
                Step::Send { bytes } if !window.is_full() => {
                    last += 1 + bytes % 3;
                    window.add(index(last), bytes);
                    list.push((last, bytes));
                }
                Step::Send { .. } => {}
                Step::Acknowledge { index: acknowledged } => {
                    window.free_to(index(acknowledged));
                    list.retain(|(sent, _)| *sent > acknowledged);
                }
                Step::Reset => {
                    window.reset();
                    list.clear();
                }
            }
            let bytes: u64 = list.iter().map(|(_, bytes)| bytes).sum();
            prop_assert_eq!((window.count(), window.bytes()), (list.len(), bytes));
            let full = list.len() == messages_max || (bytes_max > 0 && bytes >= bytes_max);
            prop_assert_eq!(window.is_full(), full);
            prop_assert!(list.len() <= messages_max);
        }
    }

    /// Whatever answers come, in whatever order, old ones too.
    #[test]
    fn match_stays_below_next_and_never_goes_back(
        answers in prop::collection::vec((0..3_u8, 0..30_u64, 0..30_u64), 1..60),
    ) {
        let mut p = progress(0, 1);
        for (kind, a, b) in answers {
            let before = p.match_index;
            match kind {
                0 => {
                    if p.maybe_update(index(a)) && p.state != ProgressState::Replicate {
                        p.become_replicate();
                    }
                }
                1 => {
                    if p.maybe_decr_to(index(a), index(b)) && p.state == ProgressState::Replicate {
                        p.become_probe();
                    }
                }
                _ if p.is_paused() => {
                    p.inflights.free_to(p.match_index);
                    p.msg_app_flow_paused = p.inflights.is_full();
                }
                // With the window full, only an empty message may follow.
                _ if p.inflights.is_full() => p.sent_entries(0, 0),
                _ => p.sent_entries(1 + b % 3, b),
            }
            prop_assert!(p.match_index < p.next, "{}", shown(&p));
            prop_assert!(p.match_index >= before, "{}", shown(&p));
        }
    }
}
