//! What the answers of a member count for whose disk lost something: who does not know in which
//! terms it took part counts for nobody, who only has no vote counts as it did.

use std::time::Duration;

use bytes::Bytes;
use raftwerk_raft::{
    Body, ConfState, Config, LeaseTerms, LogIndex, MessageKind, NodeId, Role, Standing, Term,
};

use crate::solo::{Setup, Solo, append, id, setup, voters};

const LOST: [Standing; 2] = [Standing::Voteless, Standing::Uncounted];

fn counts(standing: Standing) -> bool {
    standing != Standing::Uncounted
}

fn ack(index: u64) -> Body {
    Body::AppendResponse {
        index: LogIndex(index),
        reject: None,
    }
}

fn alive(read_position: u64) -> Body {
    Body::HeartbeatResponse { read_position }
}

fn leader(change: impl FnOnce(&mut Config)) -> Solo {
    let mut solo = setup().options(change).start();
    solo.lead();
    solo
}

#[test]
fn acknowledgement_of_who_may_have_replaced_this_leader_commits_nothing() {
    for standing in LOST {
        let mut solo = leader(|_| {});
        solo.answer(standing, 2, ack(1));
        assert_eq!(solo.commit() == 1, counts(standing), "{standing:?}");
        // It is kept up to date like anybody.
        solo.take();
        solo.propose("a");
        assert_eq!(solo.sent_to(2, MessageKind::Append).len(), 1);
        solo.ack(3, 2);
        assert_eq!(solo.commit(), 2, "a quorum without it");
    }
}

#[test]
fn who_does_not_count_does_not_count_in_either_half_of_a_joint_configuration() {
    let conf = ConfState {
        voters_outgoing: voters(&[1, 2, 3]).voters,
        ..voters(&[1, 2])
    };
    let mut solo = setup().conf(conf).start();
    solo.lead();
    solo.answer(Standing::Uncounted, 2, ack(1));
    solo.ack(3, 1);
    assert_eq!(solo.commit(), 0);
}

#[test]
fn late_answer_of_a_better_time_does_not_count_again() {
    let mut solo = leader(|_| {});
    solo.answer(Standing::Uncounted, 2, alive(0));
    solo.ack(2, 1);
    assert_eq!(solo.commit(), 0);
    // With another term all begin anew: it says again what it is.
    solo.step(3, 2, append(0, 0, &[], 0));
    solo.lead();
    let last = solo.node.status().last.index.0;
    solo.ack(2, last);
    assert_eq!(solo.commit(), last);
}

#[test]
fn leader_that_only_hears_from_who_may_have_replaced_it_steps_down() {
    for standing in LOST {
        let mut solo = leader(|config| config.check_quorum = true);
        for _ in 0..3 {
            solo.answer(standing, 2, alive(0));
            solo.tick(10);
        }
        let leads = solo.node.role() == Role::Leader;
        assert_eq!(leads, counts(standing), "{standing:?}");
    }
}

#[test]
fn read_is_not_confirmed_by_who_may_have_replaced_the_leader() {
    for standing in LOST {
        let mut solo = leader(|_| {});
        solo.ack(3, 1);
        solo.node.read_index(Bytes::from_static(b"r")).unwrap();
        solo.drain();
        solo.answer(standing, 2, alive(1));
        assert_eq!(
            solo.read_states.len() == 1,
            counts(standing),
            "{standing:?}"
        );
        solo.step(3, 1, alive(1));
        assert_eq!(solo.read_states.len(), 1);
    }
}

#[test]
fn lease_is_not_renewed_by_who_may_have_replaced_the_leader() {
    for standing in LOST {
        let terms = LeaseTerms {
            election_timeout: Duration::from_millis(900),
            drift_bound: Duration::from_millis(100),
        };
        let mut solo = setup()
            .options(|config| {
                config.check_quorum = true;
                config.lease = Some(terms);
            })
            .start();
        // Nobody votes so soon after the start.
        solo.node.set_election_timeout(100);
        solo.tick(10);
        solo.lead();
        solo.ack(3, 1);
        solo.tick(1);
        solo.answer(standing, 2, alive(1));
        let read = solo.node.lease_read(Duration::from_millis(1));
        assert_eq!(read.is_ok(), counts(standing), "{standing:?}");
    }
}

#[test]
fn leadership_is_not_handed_to_who_has_no_vote() {
    for standing in LOST {
        let mut solo = leader(|_| {});
        solo.answer(standing, 2, ack(1));
        solo.node.transfer_leader(NodeId(2));
        solo.drain();
        assert!(solo.saw("TransferToVoteless"));
        assert_eq!(solo.node.status().transferee, None);
    }
}

#[test]
fn who_does_not_count_gets_a_snapshot_all_the_same() {
    let mut solo = setup().log(&[1; 5]).hard_state(1, 0, 5).start();
    solo.lead();
    solo.log.compact(LogIndex(4));
    let meta = crate::solo::snapshot(1, 4, voters(&[1, 2, 3]));
    solo.node.snapshot_available(meta);
    let refused = Body::AppendResponse {
        index: LogIndex(5),
        reject: Some(id(0, 0)),
    };
    solo.take();
    solo.answer(Standing::Uncounted, 2, refused);
    assert_eq!(solo.sent_to(2, MessageKind::Snapshot).len(), 1);
}

/// A member of two entries in its log, of term 4.
fn stored() -> Setup {
    setup().log(&[1, 4]).hard_state(4, 0, 1)
}

#[test]
fn every_answer_says_what_it_counts_for() {
    let unknown = {
        let mut setup = stored();
        setup.restart.health.vote_unknown = true;
        setup
    };
    let tail = || stored().hard_state(4, 0, 9);
    let damaged = {
        let mut setup = stored();
        setup.log.spoil([LogIndex(2)]);
        setup.restart.health.faulty = vec![LogIndex(2)..LogIndex(3)];
        setup
    };
    let cases = [
        (stored(), Standing::Sound),
        (unknown, Standing::Uncounted),
        (tail(), Standing::Voteless),
        (
            tail().options(|config| config.unsafe_vote_after_lost_tail = true),
            Standing::Sound,
        ),
        (damaged, Standing::Sound),
    ];
    for (setup, standing) in cases {
        let mut solo = setup.start();
        solo.step(2, 5, append(1, 1, &[5], 0));
        solo.step(2, 5, append(5, 7, &[5], 0));
        let commit = LogIndex(0);
        let read_position = 0;
        solo.step(
            2,
            5,
            Body::Heartbeat {
                commit,
                read_position,
            },
        );
        solo.step(3, 6, Body::PreVote { last: id(0, 0) });
        let sent = solo.take();
        assert_eq!(sent.iter().filter(|m| m.body.kind().is_answer()).count(), 3);
        for message in sent {
            let kind = message.body.kind();
            let is = match kind.is_answer() {
                true => standing,
                false => Standing::Sound,
            };
            assert_eq!(message.standing, is, "{kind:?}");
        }
    }
}

#[test]
fn whose_term_is_lost_begins_with_that_of_its_last_entry() {
    let mut setup = stored().hard_state(0, 0, 0);
    setup.restart.health.vote_unknown = true;
    let mut solo = setup.start();
    assert_eq!(solo.node.term(), Term(4));
    // A leader of old would cut off what came after it.
    solo.step(2, 2, append(1, 1, &[2], 0));
    assert_eq!(solo.node.status().last, id(4, 2));
}
