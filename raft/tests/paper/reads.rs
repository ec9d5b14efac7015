//! Section 6.4 of the thesis: reads that write nothing to the log.

use std::time::Duration;

use bytes::Bytes;
use raftwerk_raft::{
    Body, Config, LeaseReadError, LeaseTerms, LogIndex, MessageKind, NodeId, ReadIndexError,
};

use crate::group::Group;
use crate::solo::{Solo, setup};

fn ask(solo: &mut Solo, mark: &'static str) {
    solo.node
        .read_index(Bytes::from_static(mark.as_bytes()))
        .unwrap();
    solo.drain();
}

fn confirm(solo: &mut Solo, from: u64, read_position: u64) {
    let term = solo.node.term().0;
    solo.step(from, term, Body::HeartbeatResponse { read_position });
}

/// Thesis, 6.4, step 1: before that a leader does not know what is committed.
#[test]
fn a_read_waits_for_a_committed_entry_of_the_current_term() {
    let mut solo = setup().log(&[1, 1]).hard_state(1, 0, 1).start();
    solo.lead();
    ask(&mut solo, "r");
    confirm(&mut solo, 2, 1);
    assert!(solo.read_states.is_empty());
    solo.ack(2, 3);
    confirm(&mut solo, 2, 1);
    assert_eq!(solo.read_states[0].index, LogIndex(3));
}

/// Thesis, 6.4, step 2.
#[test]
fn the_read_index_is_the_commit_index_when_the_read_came() {
    let mut solo = setup().start();
    solo.lead();
    solo.ack(2, 1);
    ask(&mut solo, "r");
    solo.propose("x");
    solo.ack(2, 2);
    confirm(&mut solo, 2, 1);
    assert_eq!(solo.commit(), 2);
    assert_eq!(solo.read_states[0].index, LogIndex(1));
}

/// Thesis, 6.4, step 3: answers to earlier ones do not count.
#[test]
fn a_read_is_confirmed_by_a_new_round_of_heartbeats_to_a_majority() {
    let conf = crate::solo::voters(&[1, 2, 3, 4, 5]);
    let mut solo = setup().conf(conf).start();
    solo.lead();
    solo.ack(2, 1);
    solo.ack(3, 1);
    // Answers to earlier heartbeats confirm nothing.
    solo.tick(1);
    solo.take();
    ask(&mut solo, "r");
    for peer in 2..=5 {
        assert_eq!(solo.sent_to(peer, MessageKind::Heartbeat).len(), 1);
    }
    for peer in 2..=5 {
        confirm(&mut solo, peer, 0);
    }
    confirm(&mut solo, 2, 1);
    assert!(solo.read_states.is_empty(), "two of five");
    confirm(&mut solo, 3, 1);
    assert_eq!(solo.read_states.len(), 1);
}

/// Thesis, 6.4, step 3: what the round is for.
#[test]
fn a_deposed_leader_answers_no_read() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    group.cut.insert(1);
    group.elect(2);
    group.propose(2, "newer");
    ask(group.at(1), "r");
    group.deliver();
    group.cut.clear();
    group.tick(2);
    assert!(group.at(1).read_states.is_empty());
}

/// Thesis, 6.4, step 4: the index comes with the answer, and whoever asked waits for it.
#[test]
fn the_answer_says_how_far_the_state_machine_must_be() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    group.propose(1, "a");
    group.propose(1, "b");
    ask(group.at(1), "r");
    group.deliver();
    let state = group.at(1).read_states[0].clone();
    assert_eq!((state.index, &state.context[..]), (LogIndex(3), &b"r"[..]));
}

/// Thesis, 6.4: reads share rounds.
#[test]
fn one_round_confirms_any_number_of_reads() {
    let mut solo = setup().start();
    solo.lead();
    solo.ack(2, 1);
    for _ in 0..50 {
        ask(&mut solo, "r");
    }
    confirm(&mut solo, 2, 50);
    assert_eq!(solo.read_states.len(), 50);
}

/// Thesis, 6.4: followers serve reads too.
#[test]
fn a_follower_asks_the_leader_for_a_read_index() {
    let mut group = Group::of(3, |_| {});
    group.elect(1);
    group.propose(1, "a");
    ask(group.at(3), "mark");
    group.deliver();
    let states = &group.at(3).read_states;
    assert_eq!(states.len(), 1);
    assert_eq!(
        (states[0].index, &states[0].context[..]),
        (LogIndex(2), &b"mark"[..])
    );
    assert_eq!(group.applied(3), ["a"], "it has that already");
    group.cut.insert(1);
    group.at(3).campaign();
    let alone = group.at(3).node.read_index("r".into());
    assert_eq!(alone, Err(ReadIndexError::NoLeader));
}

const TICK: Duration = Duration::from_millis(100);

/// Ten ticks of 100 ms are an election timeout, of which nine count; clocks may drift 100 ms.
fn leased(config: &mut Config) {
    config.check_quorum = true;
    config.lease = Some(LeaseTerms {
        election_timeout: TICK * 9,
        drift_bound: TICK,
    });
}

/// A leader that has committed, at the time `now`.
fn lease_leader(now: Duration) -> Solo {
    let mut solo = setup().options(leased).start();
    solo.node.set_election_timeout(100);
    solo.tick(10);
    solo.node.tell_time(now);
    solo.lead();
    solo.ack(2, 1);
    solo
}

/// A round of heartbeats at the time `now`, answered by 2.
fn round(solo: &mut Solo, now: Duration) {
    solo.node.tell_time(now);
    solo.take();
    solo.tick(1);
    let sent = solo.sent_to(2, MessageKind::Heartbeat);
    let [Body::Heartbeat { read_position, .. }] = sent[..] else {
        panic!("{sent:?}")
    };
    let position = *read_position;
    confirm(solo, 2, position);
}

/// Thesis, 6.4.1: how long a lease lasts, and that it asks nobody.
#[test]
fn a_lease_runs_from_the_heartbeats_start_for_the_timeout_less_the_drift_bound() {
    let start = TICK * 50;
    let mut solo = lease_leader(start);
    let mut read = |now| solo.node.lease_read(now);
    assert_eq!(read(start), Err(LeaseReadError::Expired), "nobody answered");
    round(&mut solo, start);
    solo.take();
    assert_eq!(solo.node.lease_read(start + TICK * 7), Ok(LogIndex(1)));
    assert!(solo.take().is_empty(), "no communication");
    assert_eq!(
        solo.node.lease_read(start + TICK * 8),
        Err(LeaseReadError::Expired)
    );
}

/// Thesis, 6.4.1: the promise that a lease rests on.
#[test]
fn nobody_is_elected_while_a_lease_is_in_force() {
    let mut solo = setup().options(leased).start();
    solo.node.set_election_timeout(100);
    solo.tick(10);
    solo.step(2, 1, crate::group::heartbeat(0));
    for _ in 0..9 {
        solo.tick(1);
        solo.take();
        solo.step(3, 9, crate::group::vote(9, 9));
        solo.campaign();
        assert!(solo.take().is_empty());
    }
    solo.tick(1);
    solo.step(3, 9, crate::group::vote(9, 9));
    assert_eq!(solo.sent_to(3, MessageKind::VoteResponse).len(), 1);
}

/// Thesis, 6.4.1: a transfer breaks that promise.
#[test]
fn a_lease_is_expired_before_leadership_is_transferred() {
    let start = TICK * 50;
    let mut solo = lease_leader(start);
    round(&mut solo, start);
    assert!(solo.node.lease_read(start).is_ok());
    solo.node.transfer_leader(NodeId(2));
    solo.drain();
    assert_eq!(solo.node.lease_read(start), Err(LeaseReadError::Expired));
}
