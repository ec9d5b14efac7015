//! Section 5.3 of the paper: how logs are replicated.

use raftwerk_raft::{Body, LogIndex, MessageKind, NodeId};

use crate::group::{Group, acked};
use crate::solo::{append, setup};

/// Section 5.3: what committed means.
#[test]
fn an_entry_is_committed_once_a_majority_has_it() {
    for (cut, commits) in [(&[][..], true), (&[4, 5], true), (&[3, 4, 5], false)] {
        let mut group = Group::of(5, |_| {});
        group.elect(1);
        group.cut.extend(cut);
        group.propose(1, "x");
        assert_eq!(group.applied(1) == ["x"], commits, "without {cut:?}");
    }
}

/// Section 5.3: a commit is one of everything before it.
#[test]
fn a_commit_covers_all_preceding_entries_of_earlier_leaders() {
    let mut group = Group::with_logs(&[&[1, 2, 3], &[1, 2], &[]]);
    assert_eq!(group.at(1).commit(), 0);
    group.elect(1);
    assert_eq!(group.applied(1), ["1.1", "2.2", "3.3"]);
    assert_eq!(group.applied(3), group.applied(1));
}

/// Section 5.3: the leader's commit index travels with its messages.
#[test]
fn followers_learn_what_is_committed_and_apply_it_in_log_order() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    for data in ["a", "b", "c"] {
        group.propose(1, data);
    }
    for id in group.ids() {
        assert_eq!(group.applied(id), ["a", "b", "c"]);
    }
}

/// Section 5.3: nobody waits for another.
#[test]
fn entries_are_sent_to_all_servers_in_parallel() {
    let mut solo = setup().start();
    solo.lead();
    solo.ack(2, 1);
    solo.ack(3, 1);
    solo.take();
    solo.propose("x");
    for peer in [2, 3] {
        assert_eq!(solo.sent_to(peer, MessageKind::Append).len(), 1);
    }
}

/// Section 5.3: crashed and slow followers, lost messages.
#[test]
fn the_leader_retries_until_a_follower_has_everything() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    group.cut.insert(3);
    for data in ["a", "b", "c"] {
        group.propose(1, data);
    }
    group.tick(300);
    group.cut.clear();
    group.tick(80);
    assert_eq!(group.leaders().len(), 1);
    assert_eq!(group.applied(3), ["a", "b", "c"]);
}

/// Section 5.3, Log Matching, its first half: index and term name one entry.
#[test]
fn a_leader_creates_one_entry_for_an_index_of_its_term() {
    let mut solo = setup().start();
    solo.lead();
    let ids: Vec<u64> = (0..5)
        .map(|_| {
            solo.propose("x");
            solo.node.status().last.index.0
        })
        .collect();
    assert_eq!(ids, [2, 3, 4, 5, 6]);
}

/// Section 5.3, Log Matching, its second half: everything before it is the same.
#[test]
fn what_a_follower_acknowledges_is_identical_up_to_there() {
    let mut group = Group::with_logs(&[&[1, 2, 2, 5], &[1, 3, 3, 3, 3], &[1, 2, 4]]);
    group.elect(1);
    let leader = group.log(1);
    for id in [2, 3] {
        let progress = group.at(1).node.status().progress[&NodeId(id)].clone();
        assert_eq!(progress.match_index, LogIndex(leader.len() as u64));
        assert_eq!(group.log(id), leader);
    }
}

/// Figure 7 and section 5.3: logs that lack entries, have others, or both.
#[test]
fn every_log_of_figure_7_comes_to_duplicate_the_leaders() {
    let mut group = Group::with_logs(&[
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ]);
    // The leader of the figure is at the beginning of term 8.
    group.at(1).step(2, 7, crate::group::NO);
    group.elect(1);
    let leader = group.log(1);
    assert_eq!(leader.last(), Some(&crate::solo::id(8, 11)));
    for id in 2..=7 {
        assert_eq!(group.log(id), leader, "server {id}");
    }
}

/// Section 5.3: the optimisation that skips whole terms.
#[test]
fn one_rejection_is_needed_for_each_conflicting_term_and_not_for_each_entry() {
    let ours: Vec<u64> = [vec![1; 10], vec![4; 30], vec![6; 30]].concat();
    let theirs: Vec<u64> = [vec![1; 10], vec![2; 20], vec![3; 20], vec![5; 20]].concat();
    let mut group = Group::with_logs(&[&ours, &ours, &theirs]);
    group.elect(1);
    assert_eq!(group.log(3), group.log(1));
    let rejections = group.arrived.iter().filter(|message| {
        matches!(
            message.body,
            Body::AppendResponse {
                reject: Some(_),
                ..
            }
        )
    });
    assert!((1..=4).contains(&rejections.count()));
}

/// Section 5.3, Leader Append-Only.
#[test]
fn a_leader_never_overwrites_its_own_entries() {
    let mut solo = setup().log(&[1, 1]).hard_state(1, 0, 0).start();
    solo.lead();
    let before = solo.log.all();
    // Even if somebody claims to lead the same term.
    solo.step(2, 2, append(0, 0, &[2, 2], 2));
    solo.nack(3, 2, 0, 0);
    solo.step(2, 2, acked(1));
    let after = solo.log.all();
    assert_eq!(after[..before.len()], before[..]);
}

/// Section 5.3: the normal case, with one slow follower.
#[test]
fn one_round_to_a_majority_commits() {
    let mut group = Group::of(5, |_| {});
    group.elect(1);
    group.cut.insert(5);
    group.at(1).take();
    let before = group.count(MessageKind::Append);
    group.at(1).propose("x");
    let round = group.at(1).take();
    for message in round.iter().filter(|message| message.to.0 <= 3) {
        assert_eq!(message.body.kind(), MessageKind::Append);
        let (to, term) = (message.to.0, message.term.0);
        group.at(to).step(1, term, message.body.clone());
        for answer in group.at(to).take() {
            group.at(1).step(to, term, answer.body);
        }
    }
    assert_eq!(group.applied(1), ["x"]);
    assert_eq!(group.count(MessageKind::Append), before);
}
