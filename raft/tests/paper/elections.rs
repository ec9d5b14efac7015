//! Sections 5.1 and 5.2 of the paper: terms, and how leaders are elected.

use std::collections::BTreeSet;

use raftwerk_raft::{Body, NodeId, Role, Term};

use crate::group::{Group, NO, YES, heartbeat, vote};
use crate::solo::{append, setup};

/// Section 5.1: the three roles, and who has them when all is well.
#[test]
fn in_normal_operation_there_is_one_leader_and_the_others_follow_it() {
    let mut group = Group::of(5, |_| {});
    group.tick(60);
    let leaders = group.leaders();
    let [leader] = leaders[..] else {
        panic!("{leaders:?}")
    };
    for id in group.ids() {
        assert_eq!(group.at(id).node.leader(), Some(NodeId(leader)));
    }
}

/// Section 5.2: the role at the start.
#[test]
fn servers_begin_as_followers() {
    for setup in [setup(), setup().log(&[1, 2]).hard_state(2, 1, 2)] {
        assert_eq!(setup.start().node.role(), Role::Follower);
    }
}

/// Section 5.1: followers are passive.
#[test]
fn followers_issue_no_requests_on_their_own() {
    let mut solo = setup().start();
    solo.step(2, 1, append(0, 0, &[1], 1));
    solo.take();
    solo.node.set_election_timeout(20);
    solo.tick(19);
    assert!(solo.take().is_empty());
}

/// Section 5.1: terms are a logical clock; the larger one wins.
#[test]
fn terms_are_exchanged_whenever_servers_communicate() {
    let mut group = Group::of(3, |_| {});
    group.cut.insert(3);
    group.elect(1);
    group.at(2).campaign();
    group.deliver();
    assert_eq!(group.at(3).node.term(), Term(0));
    group.cut.clear();
    group.tick(1);
    let terms: BTreeSet<u64> = group
        .ids()
        .iter()
        .map(|id| group.at(*id).node.term().0)
        .collect();
    assert_eq!(terms, BTreeSet::from([2]));
}

/// Section 5.1: leaders of old terms.
#[test]
fn a_leader_that_is_out_of_date_reverts_to_follower() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    group.cut.insert(1);
    group.elect(2);
    assert_eq!(group.leaders(), [1, 2], "of different terms");
    group.cut.clear();
    group.tick(1);
    assert_eq!(group.leaders(), [2]);
}

/// Section 5.1: requests of old terms.
#[test]
fn requests_with_a_stale_term_are_rejected() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    group.cut.insert(1);
    group.elect(2);
    // The old leader goes on in its term: nothing of it is taken.
    group.cut.clear();
    group.at(1).propose("stale");
    group.deliver();
    assert!(!group.applied(2).contains(&"stale".to_owned()));
    assert_eq!(group.log(3), group.log(2));
}

/// Section 5.2: what keeps a follower one.
#[test]
fn a_server_remains_a_follower_as_long_as_it_hears_from_a_leader() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    group.tick(200);
    assert_eq!(group.leaders(), [1]);
    assert_eq!(group.at(2).node.term(), Term(1));
}

/// Section 5.2: heartbeats are what a leader's authority rests on.
#[test]
fn authority_ends_when_heartbeats_do() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    group.cut.insert(1);
    group.tick(60);
    let leaders = group.leaders();
    assert!(leaders.contains(&2) || leaders.contains(&3), "{leaders:?}");
}

/// Section 5.2: one vote for each term, to whoever comes first.
#[test]
fn votes_are_given_first_come_first_served() {
    let mut solo = setup().start();
    solo.step(3, 1, vote(5, 5));
    solo.step(2, 1, vote(9, 9));
    let answers: Vec<(u64, Body)> = solo
        .take()
        .into_iter()
        .map(|message| (message.to.0, message.body))
        .collect();
    assert_eq!(answers, [(3, YES), (2, NO)]);
}

/// Section 5.2: two majorities of one term would share a voter.
#[test]
fn at_most_one_candidate_wins_an_election() {
    // Every way in which three voters may decide between two candidates of one term.
    for choices in 0..8_u64 {
        let mut group = Group::of(5, |_| {});
        group.cut.extend([1, 2, 3, 4, 5]);
        for candidate in [1, 2] {
            group.at(candidate).campaign();
            group.at(candidate).take();
        }
        for voter in 3..=5_u64 {
            let first = 1 + ((choices >> (voter - 3)) & 1);
            for candidate in [first, 3 - first] {
                group.at(voter).step(candidate, 1, vote(0, 0));
                for answer in group.at(voter).take() {
                    group.at(candidate).step(voter, 1, answer.body);
                }
            }
        }
        assert_eq!(group.leaders().len(), 1, "{choices:03b}");
    }
}

/// Section 5.2: which leaders a candidate recognises.
#[test]
fn a_candidate_returns_to_follower_for_a_leader_of_its_term_or_a_later_one_only() {
    for (term, role) in [
        (4, Role::Candidate),
        (5, Role::Follower),
        (6, Role::Follower),
    ] {
        let mut solo = setup().hard_state(4, 0, 0).start();
        solo.campaign();
        solo.step(2, term, heartbeat(0));
        assert_eq!(solo.node.role(), role, "term {term}");
    }
}

/// Section 5.2: elections that nobody wins.
#[test]
fn a_split_vote_is_followed_by_a_new_election() {
    let mut group = Group::of(4, |_| {});
    for candidate in [1, 2] {
        group.at(candidate).campaign();
    }
    // 3 hears only from 1 before it votes, 4 only from 2.
    for (voter, candidate) in [(3, 1), (4, 2)] {
        group.at(voter).step(candidate, 1, vote(0, 0));
    }
    group.deliver();
    assert!(group.leaders().is_empty());
    group.tick(60);
    assert_eq!(group.leaders().len(), 1);
    assert!(group.at(1).node.term() > Term(1));
}

/// Section 5.2: what makes split votes rare.
#[test]
fn election_timeouts_are_random_and_drawn_anew_for_each_election() {
    let mut drawn = BTreeSet::new();
    for seed in 0..20 {
        let mut solo = setup().options(|config| config.seed = seed).start();
        let mut waits = Vec::new();
        for election in 1..=5 {
            let wait = (1..).find(|_| {
                solo.tick(1);
                solo.node.term() == Term(election)
            });
            waits.push(wait.unwrap());
        }
        assert!(waits.iter().all(|wait| (10..20).contains(wait)));
        assert!(waits.iter().any(|wait| *wait != waits[0]), "{waits:?}");
        drawn.extend(waits);
    }
    assert_eq!(drawn.len(), 10);
}

/// Section 5.2: split votes are resolved quickly.
#[test]
fn random_timeouts_find_a_leader_within_few_elections() {
    for start in 0..50_u64 {
        let seeded = |config: &mut raftwerk_raft::Config| config.seed = start * 7;
        let members = (1..=5).map(|id| {
            let conf = crate::solo::voters(&[1, 2, 3, 4, 5]);
            (id, setup().conf(conf).options(seeded))
        });
        let mut group = Group::made_of(members);
        let ticks = (1..=200).find(|_| {
            group.tick(1);
            !group.leaders().is_empty()
        });
        assert!(ticks.unwrap() < 100, "start {start}: {ticks:?}");
    }
}
