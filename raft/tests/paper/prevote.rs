//! Section 9.6 of the thesis: who rejoins a cluster does not disrupt it.

use raftwerk_raft::{Body, MessageKind, NodeId, Role, Term};

use crate::group::{Group, heartbeat};
use crate::solo::{Solo, append, id, setup};

const WOULD: Body = Body::PreVoteResponse { reject: false };
const WOULD_NOT: Body = Body::PreVoteResponse { reject: true };

fn careful(config: &mut raftwerk_raft::Config) {
    config.pre_vote = true;
    config.check_quorum = true;
}

fn pre_vote(solo: &mut Solo, from: u64, term: u64, last: (u64, u64)) -> Vec<Body> {
    solo.take();
    let last = id(last.0, last.1);
    solo.step(from, term, Body::PreVote { last });
    let sent = solo.take().into_iter();
    sent.filter(|message| message.to == NodeId(from))
        .map(|message| message.body)
        .collect()
}

/// Thesis, 9.6: the extra phase.
#[test]
fn a_candidate_increments_its_term_only_when_a_majority_would_vote_for_it() {
    let conf = crate::solo::voters(&[1, 2, 3, 4, 5]);
    let mut solo = setup().conf(conf).options(careful).start();
    solo.campaign();
    assert_eq!(
        (solo.node.role(), solo.node.term()),
        (Role::PreCandidate, Term(0))
    );
    assert_eq!(solo.node.status().hard_state.vote, None);
    solo.step(2, 1, WOULD);
    assert_eq!(solo.node.term(), Term(0));
    solo.step(3, 1, WOULD);
    assert_eq!(
        (solo.node.role(), solo.node.term()),
        (Role::Candidate, Term(1))
    );
    assert_eq!(solo.sent_to(4, MessageKind::Vote).len(), 1);
}

/// Thesis, 9.6: the first condition.
#[test]
fn a_pre_vote_is_granted_only_for_an_up_to_date_log() {
    for (last, answer) in [
        ((2, 2), WOULD),
        ((3, 1), WOULD),
        ((2, 1), WOULD_NOT),
        ((1, 9), WOULD_NOT),
    ] {
        let setup = setup().options(careful).log(&[1, 2]).hard_state(2, 0, 0);
        let mut solo = setup.start();
        assert_eq!(pre_vote(&mut solo, 2, 3, last), [answer], "{last:?}");
    }
}

/// Thesis, 9.6: the second condition.
#[test]
fn no_pre_vote_within_an_election_timeout_of_a_leaders_heartbeat() {
    let mut solo = setup().options(careful).start();
    solo.step(2, 1, heartbeat(0));
    solo.node.set_election_timeout(19);
    solo.tick(9);
    assert!(pre_vote(&mut solo, 3, 2, (9, 9)).is_empty());
    solo.tick(1);
    assert_eq!(pre_vote(&mut solo, 3, 2, (9, 9)), [WOULD]);
}

/// Thesis, 9.6: any number of candidates may be told yes.
#[test]
fn a_pre_vote_binds_nobody() {
    let mut solo = setup().options(careful).hard_state(4, 0, 0).start();
    for from in [2, 3] {
        assert_eq!(pre_vote(&mut solo, from, 5, (4, 4)), [WOULD]);
    }
    let state = solo.node.status().hard_state;
    assert_eq!((state.term, state.vote), (Term(4), None));
    let last = id(4, 4);
    let transfer = false;
    solo.step(3, 5, Body::Vote { last, transfer });
    assert_eq!(solo.node.status().hard_state.vote, Some(NodeId(3)));
}

/// Thesis, 9.6: during a partition.
#[test]
fn a_partitioned_server_does_not_increment_its_term() {
    let mut group = Group::of(3, careful);
    group.elect(1);
    group.cut.insert(3);
    group.tick(300);
    assert_eq!(group.at(3).node.term(), Term(1));
    assert_eq!(group.leaders(), [1]);
}

/// Thesis, 9.6: and after it.
#[test]
fn a_server_that_rejoins_returns_to_the_same_term() {
    let mut group = Group::of(3, careful);
    group.elect(1);
    group.cut.insert(3);
    group.tick(300);
    assert_eq!(group.at(3).node.role(), Role::PreCandidate);
    group.cut.clear();
    group.at(3).campaign();
    group.deliver();
    group.tick(1);
    assert_eq!(group.leaders(), [1]);
    let rejoined = &group.at(3).node;
    assert_eq!(
        (rejoined.role(), rejoined.term()),
        (Role::Follower, Term(1))
    );
    assert_eq!(rejoined.leader(), Some(NodeId(1)));
}

/// Thesis, 9.6: what the extension is for.
#[test]
fn without_pre_vote_who_rejoins_deposes_the_leader() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    group.cut.insert(3);
    group.tick(300);
    let raised = group.at(3).node.term();
    assert!(raised > Term(1));
    group.cut.clear();
    group.at(3).campaign();
    group.deliver();
    assert!(group.at(1).node.term() > raised);
}

/// Thesis, 9.6: it does not stand in the way of needed elections.
#[test]
fn pre_vote_lets_a_cluster_without_leader_elect_one() {
    let mut group = Group::of(5, careful);
    group.elect(1);
    group.propose(1, "kept");
    group.tick(3);
    group.cut.insert(1);
    group.tick(80);
    let others = group.leaders().into_iter().filter(|id| *id != 1).count();
    assert_eq!(others, 1);
    // One that is behind finds nobody who would vote for it.
    let mut behind = setup().options(careful).start();
    behind.step(2, 1, append(0, 0, &[1], 0));
    behind.node.forget_leader();
    behind.campaign();
    behind.step(2, 1, WOULD_NOT);
    behind.step(3, 1, WOULD_NOT);
    assert_eq!(
        (behind.node.role(), behind.node.term()),
        (Role::Follower, Term(1))
    );
}
