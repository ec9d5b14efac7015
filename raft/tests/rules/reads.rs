//! Reads of a linearizable state, and reads of entries that are not in memory.

use raftwerk_raft::{
    Body, ConfChangeKind, ConfState, ConfigError, LogError, LogIndex, MessageKind, NodeId, RawNode,
    ReadIndexError, ReadOnly, Role,
};

use crate::solo::{Solo, append, change, entries, id, joint, setup, voters};

fn answer(solo: &mut Solo, from: u64, read_position: u64) {
    let term = solo.node.term().0;
    solo.step(from, term, Body::HeartbeatResponse { read_position });
}

fn ask(solo: &mut Solo, mark: &'static str) {
    solo.node.read_index(mark.into()).unwrap();
    solo.drain();
}

#[test]
fn a_read_waits_for_the_first_commit_of_the_term() {
    let mut solo = setup().log(&[1]).hard_state(1, 0, 0).start();
    solo.lead();
    ask(&mut solo, "r");
    answer(&mut solo, 2, 1);
    assert!(solo.read_states.is_empty());
    solo.ack(2, 2);
    answer(&mut solo, 2, 1);
    assert_eq!(solo.read_states[0].index, LogIndex(2));
}

#[test]
fn a_single_member_does_not_answer_before_that_either() {
    let setup = setup().conf(voters(&[1])).log(&[1]).hard_state(1, 0, 0);
    let mut solo = setup.options(|config| config.synchronous = false).start();
    solo.campaign();
    while solo.node.role() != Role::Leader {
        // The vote is written, the new term's first entry is not.
        let persist = solo.writes.remove(0);
        persist
            .messages
            .into_iter()
            .for_each(|message| solo.node.step(message).unwrap());
        persist
            .ack
            .into_iter()
            .for_each(|ack| solo.node.persisted(ack));
    }
    solo.drain();
    ask(&mut solo, "r");
    assert!(
        solo.read_states.is_empty(),
        "entry 1 may be committed without this being known"
    );
    solo.sync();
    assert_eq!(solo.read_states[0].index, LogIndex(2));
}

#[test]
fn who_decides_alone_commits_and_reads_alone_in_both_halves_and_beside_learners() {
    let with_learner = |conf| ConfState {
        learners: vec![NodeId(4)],
        ..conf
    };
    let alone = [voters(&[1]), joint(&[1], &[1])];
    for conf in alone.clone().into_iter().chain(alone.map(with_learner)) {
        let mut solo = setup()
            .conf(conf.clone())
            .options(|config| config.check_quorum = true)
            .start();
        solo.lead();
        solo.propose("x");
        assert_eq!(solo.commit(), 2, "{conf:?}");
        ask(&mut solo, "r");
        let indexes: Vec<u64> = solo.read_states.iter().map(|state| state.index.0).collect();
        assert_eq!(indexes, [2], "{conf:?}");
        assert_eq!(solo.node.status().pending_reads, 0);
        // The learner, if there is one, never says a word.
        solo.tick(30);
        assert_eq!(solo.node.role(), Role::Leader, "{conf:?}");
    }
}

#[test]
fn where_etcd_is_followed_a_joint_leader_waits_for_an_answer_though_it_needs_none() {
    let conf = ConfState {
        learners: vec![NodeId(4)],
        ..joint(&[1], &[1])
    };
    let setup = setup().conf(conf);
    let mut solo = setup.options(|config| config.etcd_quirks = true).start();
    solo.lead();
    ask(&mut solo, "r");
    assert!(solo.read_states.is_empty());
    answer(&mut solo, 4, 1);
    assert_eq!(solo.read_states.len(), 1);
}

#[test]
fn one_answer_confirms_all_earlier_reads_and_none_later() {
    let mut solo = setup().start();
    solo.lead();
    solo.ack(2, 1);
    ask(&mut solo, "a");
    ask(&mut solo, "b");
    ask(&mut solo, "c");
    answer(&mut solo, 2, 2);
    let marks = |solo: &Solo| -> Vec<_> {
        solo.read_states
            .iter()
            .map(|state| state.context.clone())
            .collect()
    };
    assert_eq!(marks(&solo), ["a", "b"]);
    answer(&mut solo, 3, 3);
    assert_eq!(marks(&solo), ["a", "b", "c"]);
}

#[test]
fn the_same_mark_twice_is_two_reads() {
    let mut solo = setup().start();
    solo.lead();
    solo.ack(2, 1);
    ask(&mut solo, "same");
    solo.propose("x");
    solo.ack(2, 2);
    ask(&mut solo, "same");
    answer(&mut solo, 2, 2);
    let indexes: Vec<u64> = solo.read_states.iter().map(|state| state.index.0).collect();
    assert_eq!(indexes, [1, 2]);
}

#[test]
fn answers_to_nothing_and_to_positions_never_given_confirm_nothing() {
    let mut solo = setup().start();
    solo.lead();
    solo.ack(2, 1);
    answer(&mut solo, 2, 9);
    ask(&mut solo, "r");
    answer(&mut solo, 2, 9);
    answer(&mut solo, 3, 0);
    assert!(solo.read_states.is_empty());
}

#[test]
fn reads_end_with_the_term() {
    let mut solo = setup().start();
    solo.lead();
    solo.ack(2, 1);
    ask(&mut solo, "r");
    assert_eq!(solo.node.status().pending_reads, 1);
    solo.step(3, 5, append(0, 0, &[], 0));
    assert_eq!(solo.node.status().pending_reads, 0);
}

#[test]
fn the_reads_a_leader_holds_have_a_bound() {
    let mut solo = setup().start();
    solo.lead();
    let mut taken = 0;
    while solo.node.read_index("r".into()).is_ok() {
        taken += 1;
        assert!(taken < 100_000);
    }
    assert_eq!(solo.node.read_index("r".into()), Err(ReadIndexError::Busy));
    assert_eq!(solo.node.status().pending_reads, taken);
}

#[test]
fn a_followers_read_goes_to_the_leader_and_back() {
    let mut follower = setup().start();
    follower.step(2, 1, append(0, 0, &[], 0));
    ask(&mut follower, "r");
    assert_eq!(follower.sent_to(2, MessageKind::ReadIndex).len(), 1);
    follower.step(
        2,
        1,
        Body::ReadIndexResponse {
            index: 7.into(),
            context: "r".into(),
        },
    );
    assert_eq!(follower.read_states[0].index, LogIndex(7));
    let mut leader = setup().start();
    leader.lead();
    leader.ack(2, 1);
    leader.step(
        3,
        0,
        Body::ReadIndex {
            context: "r".into(),
        },
    );
    answer(&mut leader, 2, 1);
    assert_eq!(leader.sent_to(3, MessageKind::ReadIndexResponse).len(), 1);
}

#[test]
fn a_lease_answers_at_once_but_not_during_a_transfer() {
    let lease = |config: &mut raftwerk_raft::Config| {
        config.read_only = ReadOnly::Lease;
        config.check_quorum = true;
    };
    let mut solo = setup().options(lease).start();
    solo.lead();
    solo.ack(2, 1);
    ask(&mut solo, "a");
    assert_eq!(solo.read_states.len(), 1);
    solo.node.transfer_leader(NodeId(3));
    ask(&mut solo, "b");
    assert_eq!(solo.read_states.len(), 1, "the heir may lead already");
    answer(&mut solo, 2, 1);
    assert_eq!(solo.read_states.len(), 2);
}

#[test]
fn lease_reads_need_check_quorum() {
    let setup = setup().options(|config| config.read_only = ReadOnly::Lease);
    let node = RawNode::new(setup.config, setup.restart, setup.log);
    assert!(matches!(
        node,
        Err(ConfigError::Option {
            name: "read_only",
            ..
        })
    ));
}

/// A leader with a cold log of three entries.
fn cold_leader() -> Solo {
    let setup = setup().log(&[1, 1, 1]).hard_state(1, 0, 3).applied(3);
    setup.log.cool(LogIndex(4));
    let mut solo = setup.start();
    solo.lead();
    solo
}

#[test]
fn cold_entries_for_a_peer_are_asked_for_and_only_that_peer_waits() {
    let mut solo = cold_leader();
    solo.nack(2, 3, 1, 1);
    assert!(solo.sent_to(2, MessageKind::Append).is_empty());
    let read = solo.reads.remove(0);
    assert_eq!(read.range, LogIndex(2)..LogIndex(5));
    solo.step(2, 2, Body::HeartbeatResponse { read_position: 0 });
    assert!(solo.reads.is_empty() && solo.sent_to(2, MessageKind::Append).is_empty());
    solo.ack(3, 4);
    assert_eq!(solo.commit(), 4, "nobody else waits");
    solo.node.log_read(read.id, Ok(entries(2, &[1, 1])));
    solo.drain();
    let sent = solo.sent_to(2, MessageKind::Append);
    assert!(matches!(sent[..], [Body::Append { prev, entries, .. }]
            if *prev == id(1, 1) && entries.len() == 2));
}

#[test]
fn an_answer_that_is_not_the_log_is_not_sent() {
    let mut solo = cold_leader();
    solo.nack(2, 3, 1, 1);
    let read = solo.reads.remove(0);
    solo.node.log_read(read.id, Ok(entries(2, &[7, 7])));
    solo.drain();
    assert!(solo.sent_to(2, MessageKind::Append).is_empty());
    assert_eq!(solo.reads.len(), 1, "it is asked for again");
}

#[test]
fn an_answer_that_comes_after_the_term_is_ignored() {
    let mut solo = cold_leader();
    solo.nack(2, 3, 1, 1);
    let read = solo.reads.remove(0);
    solo.step(3, 9, append(0, 0, &[], 0));
    solo.take();
    solo.node.log_read(read.id, Ok(entries(2, &[1, 1])));
    solo.drain();
    assert!(solo.take().is_empty());
}

#[test]
fn a_read_that_fails_is_tried_again_after_a_heartbeat() {
    let mut solo = cold_leader();
    solo.nack(2, 3, 1, 1);
    let read = solo.reads.remove(0);
    solo.node.log_read(
        read.id,
        Err(LogError::Io {
            reason: "tired".into(),
        }),
    );
    solo.drain();
    assert!(solo.reads.is_empty());
    solo.step(2, 2, Body::HeartbeatResponse { read_position: 0 });
    assert_eq!(solo.reads.len(), 1);
}

#[test]
fn cold_committed_entries_are_asked_for_and_then_applied() {
    let setup = setup().log(&[1, 1, 1]).hard_state(1, 0, 3);
    setup.log.cool(LogIndex(4));
    let mut solo = setup.start();
    let read = solo.reads.remove(0);
    assert_eq!(read.range, LogIndex(1)..LogIndex(4));
    assert!(!solo.node.has_ready());
    solo.node.log_read(read.id, Ok(entries(1, &[1, 1, 1])));
    solo.drain();
    assert_eq!(solo.committed, entries(1, &[1, 1, 1]));
    assert_eq!(solo.node.status().applied, LogIndex(3));
}

#[test]
fn a_leader_on_whose_lease_reads_rest_is_not_forgotten() {
    let lease = |config: &mut raftwerk_raft::Config| {
        config.read_only = ReadOnly::Lease;
        config.check_quorum = true;
    };
    let mut solo = setup().options(lease).start();
    solo.step(2, 1, append(0, 0, &[], 0));
    solo.node.forget_leader();
    assert_eq!(solo.node.leader(), Some(NodeId(2)));
}

#[test]
fn entries_that_are_fetched_for_a_removed_member_do_not_keep_its_next_life_waiting() {
    let setup = setup().log(&[1, 1, 1]).hard_state(1, 0, 3).applied(3);
    setup.log.cool(LogIndex(4));
    let mut solo = setup.start();
    solo.lead();
    solo.ack(2, 4);
    solo.nack(3, 3, 0, 0);
    assert_eq!(solo.reads.len(), 1);
    for kind in [ConfChangeKind::Remove, ConfChangeKind::AddLearner] {
        solo.node.apply_conf_change(&change(kind, 3)).unwrap();
        solo.drain();
    }
    let refused = Body::AppendResponse {
        index: LogIndex(3),
        reject: Some(id(0, 0)),
    };
    solo.try_step_in(1, 3, 2, refused).unwrap();
    assert_eq!(solo.reads.len(), 2, "the first answer may never come");
}

#[test]
fn reads_that_waited_for_the_term_begin_with_one_round() {
    for quirks in [false, true] {
        let mut solo = setup().options(|c| c.etcd_quirks = quirks).start();
        solo.lead();
        for _ in 0..100 {
            solo.node.read_index("r".into()).unwrap();
        }
        solo.ack(2, 1);
        let rounds = solo.sent_to(2, MessageKind::Heartbeat).len();
        assert_eq!(rounds, if quirks { 100 } else { 1 });
        solo.step(2, 1, Body::HeartbeatResponse { read_position: 100 });
        assert_eq!(solo.read_states.len(), 100);
    }
}

#[test]
fn a_round_that_nobody_waits_for_any_more_is_not_sent() {
    let mut solo = setup().start();
    solo.lead();
    solo.ack(2, 1);
    solo.take();
    solo.node.read_index("r".into()).unwrap();
    // A heartbeat that was due leaves with the position: that is the round.
    solo.node.tick();
    solo.drain();
    assert_eq!(solo.sent_to(2, MessageKind::Heartbeat).len(), 1);
}
