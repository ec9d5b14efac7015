//! Figure 2 of the paper: the state, the two RPCs, and the rules for servers.

use raftwerk_raft::{Body, LogIndex, MessageKind, NodeId, Proposed, Role, Term};

use crate::group::{Group, NO, YES, acked, heartbeat, restarted, vote};
use crate::solo::{append, id, setup};

/// Figure 2, state: term, vote and log are on stable storage before any RPC is answered.
#[test]
fn persistent_state_is_updated_on_stable_storage_before_responding() {
    for (body, answer) in [
        (vote(0, 0), MessageKind::VoteResponse),
        (append(0, 0, &[2], 0), MessageKind::AppendResponse),
    ] {
        let asynchronous = setup().options(|config| config.synchronous = false);
        let mut solo = asynchronous.start();
        solo.step(2, 2, body);
        assert!(solo.take().is_empty(), "nothing leaves before the write");
        assert!(solo.writes[0].must_sync);
        assert_eq!(solo.writes[0].hard_state.unwrap().term, Term(2));
        solo.sync();
        assert_eq!(solo.sent_to(2, answer).len(), 1);
    }
}

/// Figure 2, state: the current term never goes back.
#[test]
fn current_term_increases_monotonically() {
    let mut solo = setup().hard_state(5, 0, 0).start();
    for body in [append(0, 0, &[3], 0), vote(9, 9), heartbeat(0), acked(1)] {
        solo.step(2, 4, body);
        assert_eq!(solo.node.term(), Term(5));
    }
    solo.step(2, 6, heartbeat(0));
    assert_eq!(solo.node.term(), Term(6));
}

/// Figure 2, state: term, vote and log persist.
#[test]
fn term_vote_and_log_outlive_a_restart() {
    let mut solo = setup().start();
    solo.step(2, 3, append(0, 0, &[1, 3], 0));
    solo.step(3, 4, vote(3, 2));
    let mut again = restarted(&solo, |_| {});
    let status = again.node.status();
    assert_eq!(status.hard_state.term, Term(4));
    assert_eq!(status.hard_state.vote, Some(NodeId(3)));
    assert_eq!(status.last, id(3, 2));
    again.step(2, 4, vote(9, 9));
    assert_eq!(again.sent_to(2, MessageKind::VoteResponse), [&NO]);
}

/// Figure 2, state: the vote is one of the current term, and none at its beginning.
#[test]
fn voted_for_is_none_in_a_new_term() {
    let mut solo = setup().start();
    solo.step(2, 2, vote(0, 0));
    assert_eq!(solo.node.status().hard_state.vote, Some(NodeId(2)));
    solo.step(3, 3, heartbeat(0));
    assert_eq!(solo.node.status().hard_state.vote, None);
}

/// Figure 2, state: the commit index begins at zero and never goes back.
#[test]
fn commit_index_begins_at_zero_and_increases_monotonically() {
    let mut solo = setup().log(&[1, 1, 1]).start();
    assert_eq!(solo.commit(), 0);
    solo.step(2, 1, append(1, 3, &[], 2));
    assert_eq!(solo.commit(), 2);
    solo.step(2, 1, append(1, 3, &[], 1));
    solo.step(2, 1, heartbeat(0));
    assert_eq!(solo.commit(), 2);
}

/// Figure 2, state: next index and match index, both anew after each election.
#[test]
fn next_index_begins_behind_the_leaders_last_entry_and_match_index_at_zero() {
    let mut solo = setup().log(&[1, 1]).hard_state(1, 0, 0).start();
    for term in [2, 4] {
        solo.step(3, term - 1, heartbeat(0));
        solo.campaign();
        let last = solo.node.status().last;
        solo.take();
        solo.step(2, term, YES);
        let sent = solo.sent_to(3, MessageKind::Append);
        let [Body::Append { prev, .. }] = sent[..] else {
            panic!("{sent:?}")
        };
        assert_eq!(*prev, last);
        let progress = solo.node.status().progress;
        assert_eq!(progress[&NodeId(3)].match_index, LogIndex(0));
        solo.ack(3, last.index.0 + 1);
        let progress = solo.node.status().progress;
        assert_eq!(progress[&NodeId(3)].match_index, last.index.next());
    }
}

/// Figure 2, AppendEntries 1: nothing is taken of a lower term. An answer is only of use, and only
/// sent, where the sender might otherwise never learn of the term.
#[test]
fn append_entries_of_an_older_term_is_refused() {
    for pre_vote in [false, true] {
        let setup = setup().options(|config| config.pre_vote = pre_vote);
        let mut solo = setup.log(&[1]).hard_state(5, 0, 0).start();
        solo.step(2, 4, append(1, 1, &[4], 2));
        assert_eq!(solo.node.status().last, id(1, 1));
        assert_eq!((solo.commit(), solo.node.leader()), (0, None));
        let sent = solo.take();
        assert_eq!(sent.len(), usize::from(pre_vote));
        assert!(sent.iter().all(|message| message.term == Term(5)));
    }
}

/// Figure 2, AppendEntries 2: the check of the entry before, by index and term.
#[test]
fn append_entries_is_refused_without_the_entry_before_it() {
    for (term, index) in [(2, 2), (1, 3), (2, 9)] {
        let mut solo = setup().log(&[1, 1]).hard_state(2, 0, 0).start();
        solo.step(2, 2, append(term, index, &[2], 9));
        let sent = solo.sent_to(2, MessageKind::AppendResponse);
        let [Body::AppendResponse { reject, .. }] = sent[..] else {
            panic!("{sent:?}")
        };
        assert!(reject.is_some(), "{term}/{index}");
        assert_eq!((solo.node.status().last, solo.commit()), (id(1, 2), 0));
    }
}

/// Figure 2, AppendEntries 3: conflicts are of the same index and another term.
#[test]
fn a_conflicting_entry_is_deleted_with_all_that_follow_it() {
    let mut solo = setup().log(&[1, 1, 1, 1]).hard_state(2, 0, 0).start();
    solo.step(2, 2, append(1, 1, &[2], 0));
    let ids: Vec<_> = solo.log.all().iter().map(|entry| entry.id).collect();
    assert_eq!(ids, [id(1, 1), id(2, 2)]);
}

/// Figure 2, AppendEntries 4: what is there already stays as it is.
#[test]
fn only_entries_that_are_not_there_are_appended() {
    let mut solo = setup().log(&[1, 1, 1]).hard_state(1, 0, 0).start();
    solo.step(2, 1, append(1, 1, &[1], 0));
    assert_eq!(solo.node.status().last, id(1, 3), "nothing is cut");
    solo.step(2, 1, append(1, 1, &[1, 1, 1], 0));
    assert_eq!(solo.node.status().last, id(1, 4));
    assert_eq!(solo.log.all().len(), 4);
}

/// Figure 2, AppendEntries 5: how a follower moves its commit index.
#[test]
fn commit_index_is_the_leaders_but_no_further_than_the_last_new_entry() {
    for (leader_commit, commit) in [(1, 1), (2, 2), (3, 2), (9, 2)] {
        let mut solo = setup().log(&[1, 1, 1]).hard_state(1, 0, 0).start();
        solo.step(2, 1, append(1, 1, &[1], leader_commit));
        assert_eq!(solo.commit(), commit);
    }
}

/// Figure 2, RequestVote 1. The candidate is not answered: it learns the term from who leads it, or
/// from who asks for votes in it.
#[test]
fn request_vote_of_an_older_term_gets_no_vote() {
    let mut solo = setup().hard_state(5, 0, 0).start();
    solo.step(2, 4, vote(4, 9));
    assert!(!solo.take().iter().any(|message| message.body == YES));
    assert_eq!(solo.node.status().hard_state.vote, None);
}

/// Figure 2, RequestVote 2: who gets the vote.
#[test]
fn a_vote_is_granted_to_the_first_or_the_same_candidate_with_an_up_to_date_log() {
    for (voted, last, answer) in [
        (0, (2, 2), &YES),
        (2, (2, 2), &YES),
        (3, (2, 2), &NO),
        (0, (2, 1), &NO),
        (2, (1, 9), &NO),
    ] {
        let setup = setup().log(&[1, 2]).hard_state(3, voted, 0);
        let mut solo = setup.start();
        solo.step(2, 3, vote(last.0, last.1));
        let sent = solo.sent_to(2, MessageKind::VoteResponse);
        assert_eq!(sent, [answer], "{voted} {last:?}");
    }
}

/// Figure 2, all servers: what is committed and not applied is applied, one after the other.
#[test]
fn committed_entries_are_applied_in_order_and_once() {
    let mut solo = setup().log(&[1, 1, 1]).hard_state(1, 0, 0).start();
    for commit in [1, 3, 3, 2] {
        solo.step(2, 1, append(1, 3, &[], commit));
    }
    let applied: Vec<u64> = solo.committed.iter().map(|e| e.index().0).collect();
    assert_eq!(applied, [1, 2, 3]);
}

/// Figure 2, all servers: a higher term in a request or an answer.
#[test]
fn whoever_sees_a_higher_term_becomes_a_follower_in_it() {
    let bodies = [
        append(0, 0, &[], 0),
        heartbeat(0),
        vote(0, 0),
        acked(0),
        NO,
        YES,
    ];
    for role in [Role::Follower, Role::Candidate, Role::Leader] {
        for body in &bodies {
            let mut solo = setup().start();
            match role {
                Role::Candidate => solo.campaign(),
                Role::Leader => solo.lead(),
                _ => {}
            }
            assert_eq!(solo.node.role(), role);
            solo.step(3, 7, body.clone());
            let now = (solo.node.role(), solo.node.term());
            assert_eq!(now, (Role::Follower, Term(7)), "{role} {body:?}");
        }
    }
}

/// Figure 2, followers: every RPC is answered.
#[test]
fn followers_respond_to_candidates_and_leaders() {
    let mut solo = setup().start();
    let requests = [vote(0, 0), append(0, 0, &[1], 0), heartbeat(0)];
    for body in requests {
        solo.step(2, 1, body);
        assert_eq!(solo.take().len(), 1);
    }
}

/// Figure 2, followers: entries of the leader and votes given put the election off, refused votes
/// do not.
#[test]
fn a_follower_converts_to_candidate_when_nothing_puts_it_off() {
    let putting_off = [
        (append(0, 0, &[], 0), Role::Follower),
        (vote(0, 0), Role::Follower),
        // Refused: the log is behind.
        (vote(0, 0), Role::Candidate),
    ];
    for (case, (body, role)) in putting_off.into_iter().enumerate() {
        let log: &[u64] = if case == 2 { &[1] } else { &[] };
        let mut solo = setup().log(log).hard_state(1, 0, 0).start();
        solo.node.set_election_timeout(10);
        solo.tick(9);
        solo.step(2, 1, body);
        solo.tick(1);
        assert_eq!(solo.node.role(), role, "case {case}");
    }
}

/// Figure 2, candidates: how an election starts, its timer too.
#[test]
fn a_candidate_increments_its_term_votes_for_itself_and_asks_everybody() {
    let mut solo = setup().log(&[4]).hard_state(4, 0, 0).start();
    solo.node.set_election_timeout(3);
    solo.tick(3);
    assert_eq!(solo.node.role(), Role::Candidate);
    let state = solo.node.status().hard_state;
    assert_eq!((state.term, state.vote), (Term(5), Some(NodeId(1))));
    for peer in [2, 3] {
        assert_eq!(solo.sent_to(peer, MessageKind::Vote), [&vote(4, 1)]);
    }
    // The timer: nothing happens before a whole timeout has gone by.
    solo.node.set_election_timeout(10);
    solo.tick(9);
    assert_eq!(solo.node.term(), Term(5));
}

/// Figure 2, candidates: when an election is won.
#[test]
fn votes_of_a_majority_make_a_leader() {
    let five = crate::solo::voters(&[1, 2, 3, 4, 5]);
    let mut solo = setup().conf(five).start();
    solo.campaign();
    solo.step(2, 1, YES);
    assert_eq!(solo.node.role(), Role::Candidate);
    solo.step(3, 1, NO);
    assert_eq!(solo.node.role(), Role::Candidate);
    solo.step(4, 1, YES);
    assert_eq!(solo.node.role(), Role::Leader);
}

/// Figure 2, candidates: a leader of the same term ends the candidacy.
#[test]
fn a_candidate_follows_the_new_leader() {
    for body in [append(0, 0, &[1], 0), heartbeat(0)] {
        let mut solo = setup().start();
        solo.campaign();
        solo.step(2, 1, body);
        assert_eq!(solo.node.role(), Role::Follower);
        assert_eq!(solo.node.leader(), Some(NodeId(2)));
    }
}

/// Figure 2, candidates: an election without end is followed by another.
#[test]
fn a_candidate_whose_election_times_out_starts_another() {
    let mut solo = setup().start();
    solo.campaign();
    solo.take();
    solo.node.set_election_timeout(10);
    solo.tick(10);
    assert_eq!(
        (solo.node.role(), solo.node.term()),
        (Role::Candidate, Term(2))
    );
    assert_eq!(solo.sent_to(2, MessageKind::Vote).len(), 1);
}

/// Figure 2, leaders: heartbeats. The first carries the entry that the term starts with.
#[test]
fn a_leader_sends_to_everybody_upon_election_and_again_when_idle() {
    let mut solo = setup().start();
    solo.campaign();
    solo.take();
    solo.step(2, 1, YES);
    for peer in [2, 3] {
        assert_eq!(solo.sent_to(peer, MessageKind::Append).len(), 1);
    }
    for _ in 0..3 {
        solo.take();
        solo.tick(1);
        for peer in [2, 3] {
            assert_eq!(solo.sent_to(peer, MessageKind::Heartbeat).len(), 1);
        }
    }
}

/// Figure 2, leaders: the way of a client's command; it is answered when it is applied.
#[test]
fn a_command_is_appended_at_once_and_applied_when_a_majority_has_it() {
    let mut solo = setup().start();
    solo.lead();
    solo.ack(2, 1);
    let proposed = solo.node.propose("x".into()).unwrap();
    solo.drain();
    assert_eq!(proposed, Proposed::Appended(id(1, 2)));
    assert_eq!(solo.node.status().last, id(1, 2));
    assert_eq!(solo.committed.len(), 1, "only the term's first entry");
    solo.ack(3, 2);
    assert_eq!(solo.committed[1].data, "x");
}

/// Figure 2, leaders: next index and match index follow what is acknowledged.
#[test]
fn a_leader_sends_entries_from_next_index_on_and_notes_success() {
    let mut solo = setup().start();
    solo.lead();
    solo.ack(2, 1);
    solo.take();
    solo.propose("x");
    let sent = solo.sent_to(2, MessageKind::Append);
    assert!(
        matches!(sent[..], [Body::Append { prev, entries, .. }] if *prev == id(1, 1)
            && entries.len() == 1)
    );
    solo.ack(2, 2);
    let progress = &solo.node.status().progress[&NodeId(2)];
    assert_eq!(progress.match_index, LogIndex(2));
    assert_eq!(progress.next, LogIndex(3));
}

/// Figure 2, leaders: what follows a refusal.
#[test]
fn a_leader_decrements_next_index_and_retries_when_logs_do_not_fit() {
    let mut group = Group::with_logs(&[&[1, 1, 2], &[1, 1, 2], &[1]]);
    group.elect(1);
    assert_eq!(group.log(3), group.log(1));
    let refusals = group.arrived.iter().filter(|message| {
        message.from == NodeId(3)
            && matches!(
                message.body,
                Body::AppendResponse {
                    reject: Some(_),
                    ..
                }
            )
    });
    assert!(refusals.count() > 0);
}

/// Figure 2, leaders: the three conditions of a commit.
#[test]
fn a_leader_commits_what_a_majority_holds_of_its_own_term() {
    let mut solo = setup().log(&[1, 2]).hard_state(2, 0, 0).start();
    solo.lead();
    assert_eq!(solo.node.term(), Term(3));
    solo.ack(2, 2);
    solo.ack(3, 2);
    assert_eq!(solo.commit(), 0, "all hold it, but it is of an older term");
    solo.propose("x");
    assert_eq!(solo.commit(), 0, "one of three");
    solo.ack(2, 4);
    assert_eq!(solo.commit(), 4);
}
