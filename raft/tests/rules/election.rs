//! Who may vote for whom, and who may lead.

use raftwerk_raft::{Body, ConfState, MessageKind, NodeId, Role, Term};

use crate::solo::{append, id, joint, setup, voters};

fn vote(term: u64, index: u64) -> Body {
    Body::Vote {
        last: id(term, index),
        transfer: false,
    }
}

const YES: Body = Body::VoteResponse { reject: false };
const NO: Body = Body::VoteResponse { reject: true };

#[test]
fn the_same_vote_is_granted_again() {
    let mut solo = setup().log(&[1]).start();
    solo.step(2, 2, vote(1, 1));
    assert_eq!(solo.sent_to(2, MessageKind::VoteResponse), [&YES]);
    // The answer was lost, and meanwhile a leader was heard from.
    solo.step(2, 2, append(1, 1, &[], 0));
    solo.take();
    solo.step(2, 2, vote(1, 1));
    assert_eq!(solo.sent_to(2, MessageKind::VoteResponse), [&YES]);
}

#[test]
fn the_vote_of_a_term_is_given_once() {
    let mut solo = setup().start();
    solo.step(2, 2, vote(0, 0));
    solo.step(3, 2, vote(0, 0));
    assert_eq!(solo.sent_to(3, MessageKind::VoteResponse), [&NO]);
    assert_eq!(solo.node.status().hard_state.vote, Some(NodeId(2)));
}

#[test]
fn no_vote_in_a_term_whose_leader_is_known() {
    let mut solo = setup().start();
    solo.step(2, 2, append(0, 0, &[2], 0));
    solo.step(3, 2, vote(2, 9));
    assert_eq!(solo.sent_to(3, MessageKind::VoteResponse), [&NO]);
}

#[test]
fn no_vote_for_a_log_that_is_behind() {
    for (term, index, answer) in [
        (2, 1, NO),
        (1, 9, NO),
        (2, 2, YES),
        (2, 3, YES),
        (3, 1, YES),
    ] {
        let mut solo = setup().log(&[1, 2]).hard_state(2, 0, 0).start();
        solo.step(2, 4, vote(term, index));
        assert_eq!(
            solo.sent_to(2, MessageKind::VoteResponse),
            [&answer],
            "{term}/{index}"
        );
    }
}

#[test]
fn granting_a_vote_puts_off_the_own_election_and_a_pre_vote_does_not() {
    for (body, role) in [
        (vote(0, 0), Role::Follower),
        (Body::PreVote { last: id(0, 0) }, Role::Candidate),
    ] {
        let mut solo = setup().hard_state(2, 0, 0).start();
        solo.node.set_election_timeout(10);
        solo.tick(9);
        let term = if role == Role::Follower { 2 } else { 3 };
        solo.step(3, term, body);
        assert_eq!(solo.take().len(), 1, "granted");
        solo.tick(1);
        assert_eq!(solo.node.role(), role);
    }
}

#[test]
fn entries_and_heartbeats_put_off_the_own_election() {
    for body in [
        append(0, 0, &[], 0),
        Body::Heartbeat {
            commit: 0.into(),
            read_position: 0,
        },
    ] {
        let mut solo = setup().start();
        solo.step(2, 1, body.clone());
        solo.node.set_election_timeout(10);
        solo.tick(9);
        solo.step(2, 1, body);
        solo.tick(9);
        assert_eq!(solo.node.role(), Role::Follower);
        solo.tick(1);
        assert_eq!(solo.node.role(), Role::Candidate);
    }
}

#[test]
fn a_lease_ends_when_the_leader_has_been_silent_for_the_base_timeout() {
    let mut solo = setup().options(|config| config.check_quorum = true).start();
    solo.step(2, 1, append(0, 0, &[], 0));
    solo.node.set_election_timeout(19);
    solo.tick(9);
    solo.step(3, 2, vote(0, 0));
    assert_eq!(
        (solo.node.term(), solo.take().len()),
        (Term(1), 1),
        "only the append's answer"
    );
    solo.tick(1);
    solo.step(3, 2, vote(0, 0));
    assert_eq!(solo.sent_to(3, MessageKind::VoteResponse), [&YES]);
}

#[test]
fn a_forgotten_leader_has_no_lease() {
    let mut solo = setup().options(|config| config.check_quorum = true).start();
    solo.step(2, 1, append(0, 0, &[], 0));
    solo.node.forget_leader();
    solo.step(3, 2, vote(0, 0));
    assert_eq!(solo.sent_to(3, MessageKind::VoteResponse), [&YES]);
}

#[test]
fn a_lease_does_not_stand_in_the_way_of_a_transfer() {
    let mut solo = setup().options(|config| config.check_quorum = true).start();
    solo.step(2, 1, append(0, 0, &[], 0));
    solo.step(
        3,
        2,
        Body::Vote {
            last: id(0, 0),
            transfer: true,
        },
    );
    assert_eq!(solo.sent_to(3, MessageKind::VoteResponse), [&YES]);
}

#[test]
fn a_pre_vote_of_a_lower_term_is_refused_in_the_own_term() {
    let mut solo = setup().hard_state(5, 0, 0).start();
    solo.step(2, 3, Body::PreVote { last: id(0, 0) });
    let sent = solo.take();
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (sent[0].term, &sent[0].body),
        (Term(5), &Body::PreVoteResponse { reject: true })
    );
}

#[test]
fn a_pre_vote_changes_neither_term_nor_vote() {
    let mut solo = setup().hard_state(5, 0, 0).start();
    solo.step(2, 6, Body::PreVote { last: id(0, 0) });
    let sent = solo.take();
    assert_eq!(
        (sent[0].term, &sent[0].body),
        (Term(6), &Body::PreVoteResponse { reject: false })
    );
    let state = solo.node.status().hard_state;
    assert_eq!((state.term, state.vote), (Term(5), None));
}

#[test]
fn the_first_vote_of_a_member_counts() {
    let conf = voters(&[1, 2, 3, 4, 5]);
    let mut solo = setup().conf(conf).start();
    solo.campaign();
    solo.step(2, 1, NO);
    solo.step(2, 1, YES);
    solo.step(3, 1, YES);
    assert_eq!(solo.node.role(), Role::Candidate);
    solo.step(4, 1, YES);
    assert_eq!(solo.node.role(), Role::Leader);
}

#[test]
fn a_lost_election_makes_a_follower_of_the_same_term() {
    let mut solo = setup().start();
    solo.campaign();
    solo.step(2, 1, NO);
    solo.step(3, 1, NO);
    assert_eq!(
        (solo.node.role(), solo.node.term()),
        (Role::Follower, Term(1))
    );
}

#[test]
fn a_candidate_follows_who_won_its_term() {
    let heartbeat = Body::Heartbeat {
        commit: 0.into(),
        read_position: 0,
    };
    for body in [append(0, 0, &[1], 0), heartbeat] {
        let mut solo = setup().start();
        solo.campaign();
        assert_eq!(solo.node.role(), Role::Candidate);
        solo.step(2, 1, body);
        assert_eq!(solo.node.role(), Role::Follower);
        assert_eq!(
            (solo.node.term(), solo.node.leader()),
            (Term(1), Some(NodeId(2)))
        );
    }
}

#[test]
fn a_late_pre_vote_does_not_count_as_a_vote() {
    let mut solo = setup().options(|config| config.pre_vote = true).start();
    solo.campaign();
    solo.step(2, 1, Body::PreVoteResponse { reject: false });
    assert_eq!(
        (solo.node.role(), solo.node.term()),
        (Role::Candidate, Term(1))
    );
    solo.step(3, 1, Body::PreVoteResponse { reject: false });
    assert_eq!(solo.node.role(), Role::Candidate);
}

#[test]
fn a_joint_election_is_won_in_both_halves() {
    let mut solo = setup().conf(joint(&[1, 2, 3], &[1, 4, 5])).start();
    solo.campaign();
    for to in 2..=5 {
        assert_eq!(solo.sent_to(to, MessageKind::Vote).len(), 1, "asks {to}");
    }
    solo.step(2, 1, YES);
    solo.step(3, 1, YES);
    assert_eq!(solo.node.role(), Role::Candidate);
    solo.step(5, 1, YES);
    assert_eq!(solo.node.role(), Role::Leader);
}

#[test]
fn a_joint_leader_needs_to_hear_from_both_halves() {
    let conf = joint(&[1, 2, 3], &[1, 4, 5]);
    let mut solo = setup()
        .conf(conf)
        .options(|config| config.check_quorum = true)
        .start();
    solo.lead();
    let answer = Body::HeartbeatResponse { read_position: 0 };
    for from in [2, 4] {
        solo.step(from, 1, answer.clone());
    }
    solo.tick(10);
    assert_eq!(solo.node.role(), Role::Leader);
    for from in [2, 3] {
        solo.step(from, 1, answer.clone());
    }
    solo.tick(10);
    assert_eq!(solo.node.role(), Role::Follower);
}

#[test]
fn a_learner_votes_and_never_asks_for_votes() {
    let conf = ConfState {
        learners: vec![NodeId(1)],
        ..voters(&[2, 3])
    };
    let mut solo = setup().conf(conf).start();
    solo.tick(50);
    solo.campaign();
    solo.step(2, 1, append(0, 0, &[], 0));
    solo.step(2, 1, Body::TimeoutNow);
    assert_eq!(
        (solo.node.role(), solo.node.term()),
        (Role::Follower, Term(1))
    );
    solo.step(3, 2, vote(0, 0));
    assert_eq!(solo.sent_to(3, MessageKind::VoteResponse), [&YES]);
}

#[test]
fn a_member_of_the_last_possible_term_starts_no_election() {
    let mut solo = setup().hard_state(u64::MAX - 1, 0, 0).start();
    solo.campaign();
    assert_eq!(solo.node.role(), Role::Follower);
    assert!(solo.try_step(2, u64::MAX, vote(9, 9)).is_err());
}

#[test]
fn timeouts_lie_between_one_and_two_base_timeouts_and_depend_on_the_seed() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let mut solo = setup().options(|config| config.seed = seed).start();
        let ticks = (1..).find(|_| {
            solo.tick(1);
            solo.node.role() == Role::Candidate
        });
        seen.insert(ticks.unwrap());
    }
    assert_eq!(
        seen.into_iter().collect::<Vec<u32>>(),
        (10..20).collect::<Vec<u32>>()
    );
}

#[test]
fn a_refused_candidate_learns_what_is_committed() {
    let mut voter = setup().log(&[1, 1, 2]).hard_state(2, 0, 2).start();
    voter.step(2, 3, vote(1, 2));
    let told = Body::Committed { last: id(1, 2) };
    assert_eq!(voter.sent_to(2, MessageKind::Committed), [&told]);
    // Not to one that cannot have it.
    voter.step(3, 4, vote(1, 1));
    assert!(voter.sent_to(3, MessageKind::Committed).is_empty());
    let mut candidate = setup().log(&[1, 1]).hard_state(2, 0, 0).start();
    candidate.campaign();
    candidate.step(2, 0, told);
    assert_eq!(candidate.commit(), 2);
    candidate.step(2, 0, Body::Committed { last: id(2, 2) });
    candidate.step(2, 0, Body::Committed { last: id(2, 9) });
    assert_eq!(candidate.commit(), 2, "only what it holds itself");
}

#[test]
fn the_only_voter_left_needs_no_vote_of_the_removed() {
    // Leaving the joint configuration is committed; this member has the entry and does not know.
    let leave = crate::solo::change_entry(1, 2, &raftwerk_raft::ConfChange::default());
    let setup = setup()
        .conf(joint(&[1], &[1, 2]))
        .log(&[1])
        .hard_state(1, 0, 1)
        .applied(1);
    setup.log.append(&[leave]);
    let mut solo = setup.start();
    solo.campaign();
    solo.step(2, 2, NO);
    assert_eq!(solo.node.role(), Role::Follower);
    solo.step(2, 0, Body::Committed { last: id(1, 2) });
    assert_eq!(solo.node.status().conf_state, voters(&[1]));
    solo.campaign();
    assert_eq!(solo.node.role(), Role::Leader);
}

#[test]
fn who_cannot_lead_tells_a_leader_of_a_lower_term_that_it_is_one() {
    let answer = Body::AppendResponse {
        index: 0.into(),
        reject: None,
    };
    let learner = ConfState {
        learners: vec![NodeId(1)],
        ..voters(&[2, 3])
    };
    let mut solo = setup().conf(learner).hard_state(9, 0, 0).start();
    solo.step(2, 3, append(0, 0, &[], 0));
    assert_eq!(solo.sent_to(2, MessageKind::AppendResponse), [&answer]);
    // A voter's own election will.
    let mut solo = setup().hard_state(9, 0, 0).start();
    solo.step(2, 3, append(0, 0, &[], 0));
    assert!(solo.take().is_empty());
}

#[test]
fn refusal_of_a_member_that_has_no_term_yet_counts() {
    let mut solo = setup().start();
    solo.campaign();
    let no = Body::VoteResponse { reject: true };
    solo.step(2, 0, no.clone());
    assert_eq!(solo.node.role(), Role::Candidate);
    solo.step(3, 0, no);
    assert_eq!(solo.node.role(), Role::Follower);
}
