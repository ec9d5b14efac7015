//! Sections 5.4 to 5.6 of the paper: what keeps committed entries, whatever fails.

use raftwerk_raft::{LogIndex, MessageKind, NodeId, Role};

use crate::group::{Group, NO, YES, acked, restarted, vote};
use crate::solo::{append, id, setup};

/// Section 5.4.1: how logs are compared.
#[test]
fn the_later_term_is_more_up_to_date_and_then_the_longer_log() {
    for (candidate, granted) in [
        ((3, 1), true),
        ((2, 4), true),
        ((2, 3), true),
        ((2, 2), false),
        ((1, 9), false),
        ((0, 0), false),
    ] {
        let setup = setup().log(&[1, 1, 2]).hard_state(3, 0, 0);
        let mut solo = setup.start();
        solo.step(2, 4, vote(candidate.0, candidate.1));
        let answer = if granted { &YES } else { &NO };
        let sent = solo.sent_to(2, MessageKind::VoteResponse);
        assert_eq!(sent, [answer], "{candidate:?}");
    }
}

/// Section 5.4.1: the restriction on elections.
#[test]
fn a_candidate_without_a_committed_entry_does_not_win() {
    let mut group = Group::of(5, |_| {});
    group.elect(1);
    group.cut.extend([4, 5]);
    group.propose(1, "committed");
    assert_eq!(group.applied(1), ["committed"]);
    group.cut = [1].into();
    for candidate in [4, 5] {
        group.at(candidate).campaign();
        group.deliver();
        assert_ne!(group.at(candidate).node.role(), Role::Leader);
    }
    group.elect(2);
    assert_eq!(group.applied(5), ["committed"]);
}

/// Figure 8 and section 5.4.2: why entries of older terms are not committed by counting.
#[test]
fn an_entry_of_an_older_term_on_a_majority_can_be_overwritten_and_is_not_committed() {
    // (c): server 1 leads term 4 and has brought the entry of term 2 to a majority.
    let mut leader = setup().log(&[1, 2]).hard_state(3, 0, 0);
    leader.restart.conf_state = crate::solo::voters(&[1, 2, 3, 4, 5]);
    let mut leader = leader.start();
    leader.lead();
    leader.ack(2, 2);
    leader.ack(3, 2);
    assert_eq!(leader.commit(), 0);
    // (d): server 5, with an entry of term 3, is elected by 2, 3 and 4, and overwrites it.
    let logs: [&[u64]; 5] = [&[1, 2], &[1, 2], &[1, 2], &[1], &[1, 3]];
    let mut group = Group::with_logs(&logs);
    group.cut.insert(1);
    for member in 2..=5 {
        group.at(member).step(1, 4, NO);
    }
    group.elect(5);
    assert_eq!(group.log(2)[1], id(3, 2));
    // (e): had server 1 brought an entry of its own term to a majority, 5 could not win.
    let logs: [&[u64]; 5] = [&[1, 2, 4], &[1, 2, 4], &[1, 2, 4], &[1], &[1, 3]];
    let mut group = Group::with_logs(&logs);
    group.cut.insert(1);
    group.at(5).campaign();
    group.deliver();
    group.at(5).campaign();
    group.deliver();
    assert_ne!(group.at(5).node.role(), Role::Leader);
}

/// Section 5.4.2: they are committed by one of the current term behind them.
#[test]
fn entries_of_older_terms_are_committed_indirectly() {
    let mut solo = setup().log(&[1, 2]).hard_state(2, 0, 0).start();
    solo.lead();
    solo.ack(2, 3);
    assert_eq!(solo.commit(), 3);
    let applied: Vec<_> = solo.committed.iter().map(|entry| entry.id).collect();
    assert_eq!(applied, [id(1, 1), id(2, 2), id(3, 3)]);
}

/// Section 5.4.2: replicated entries are not given new terms.
#[test]
fn entries_of_previous_terms_keep_their_terms() {
    let mut group = Group::with_logs(&[&[1, 2], &[], &[]]);
    group.elect(1);
    assert_eq!(group.log(3), [id(1, 1), id(2, 2), id(3, 3)]);
}

/// Section 5.4.3, Leader Completeness.
#[test]
fn committed_entries_are_in_the_logs_of_all_later_leaders() {
    let mut group = Group::of(5, |_| {});
    group.elect(1);
    for round in 0..6_u64 {
        let leader = group.leaders()[0];
        group.propose(leader, "x");
        // Another two miss each round; whoever can win next has everything.
        group.cut = [leader, 1 + (leader + round) % 5].into();
        for candidate in 1..=5 {
            if group.cut.contains(&candidate) || group.leaders().iter().any(|l| *l != leader) {
                continue;
            }
            group.at(candidate).campaign();
            group.deliver();
        }
        group.cut.clear();
        group.tick(2);
        assert_eq!(group.leaders().len(), 1);
    }
    group.tick(3);
    for member in group.ids() {
        assert_eq!(group.applied(member).len(), 6, "server {member}");
    }
}

/// Section 5.4.3, State Machine Safety.
#[test]
fn nobody_applies_another_entry_at_an_index_that_was_applied() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    group.propose(1, "kept");
    group.cut.insert(1);
    // The old leader takes more that reaches nobody.
    group.at(1).propose("lost");
    group.elect(2);
    group.propose(2, "other");
    group.cut.clear();
    group.tick(1);
    for member in group.ids() {
        assert_eq!(group.applied(member), ["kept", "other"]);
    }
}

/// Section 5.5: the same request again changes nothing.
#[test]
fn requests_are_idempotent() {
    let mut solo = setup().start();
    let body = append(0, 0, &[1, 1, 1], 2);
    solo.step(2, 1, body.clone());
    let (first, answers) = (solo.node.status(), solo.take());
    for _ in 0..3 {
        solo.step(2, 1, body.clone());
        assert_eq!(solo.node.status(), first);
        // What it has committed meanwhile it need not look at: it says how far it holds.
        assert_eq!(solo.take().len(), answers.len());
    }
    assert_eq!(solo.log.all().len(), 3);
    let mut leader = setup().start();
    leader.lead();
    leader.ack(2, 1);
    let before = leader.node.status();
    leader.step(2, 1, acked(1));
    assert_eq!(leader.node.status(), before);
}

/// Section 5.5: requests are repeated to who has restarted.
#[test]
fn a_server_that_crashed_before_it_responded_takes_the_same_request_again() {
    let mut solo = setup().start();
    solo.step(2, 1, append(0, 0, &[1], 0));
    solo.step(3, 2, vote(1, 1));
    let mut again = restarted(&solo, |_| {});
    again.step(3, 2, vote(1, 1));
    assert_eq!(again.sent_to(3, MessageKind::VoteResponse), [&YES]);
    again.step(3, 2, append(0, 0, &[1], 1));
    assert_eq!(again.sent_to(3, MessageKind::AppendResponse), [&acked(1)]);
    assert_eq!(again.log.all().len(), 1);
}

/// Section 5.6: whatever clocks do, a leader without a majority commits nothing.
#[test]
fn safety_does_not_depend_on_timing() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    let committed = group.at(1).commit();
    group.cut.extend([2, 3]);
    for ticks in [0, 1, 50, 500] {
        for member in [2, 3] {
            group.at(member).tick(ticks);
        }
        group.at(1).propose("x");
        group.deliver();
        assert_eq!(group.at(1).commit(), committed);
    }
    let status = group.at(1).node.status();
    assert_eq!(status.progress[&NodeId(2)].match_index, LogIndex(1));
}

/// Section 5.6: availability asks for little of clocks: one runs three times as fast as the others.
#[test]
fn a_leader_is_elected_and_maintained_with_clocks_of_different_speed() {
    let mut group = Group::of(3, |config| {
        config.election_ticks = 12;
        config.check_quorum = true;
        config.pre_vote = true;
    });
    for _ in 0..200 {
        group.at(3).tick(2);
        group.tick(1);
    }
    let leaders = group.leaders();
    assert_eq!(leaders.len(), 1);
    let term = group.at(1).node.term();
    for _ in 0..200 {
        group.at(3).tick(2);
        group.tick(1);
    }
    assert_eq!((group.leaders(), group.at(1).node.term()), (leaders, term));
}
