//! What a member starts from, and what it may do when its disk lost something.

use raftwerk_raft::{
    Body, ConfChangeKind, ConfigError, GroupState, LogIndex, LogReader as _, MessageKind, NodeId,
    RawNode, Restart, Role,
};

use crate::solo::{append, change, change_entry, entries, id, setup, snapshot, voters};
use crate::support::MemLog;

#[test]
fn what_was_applied_is_committed_even_if_the_commit_index_was_not_written() {
    let solo = setup()
        .log(&[1, 1, 1])
        .hard_state(1, 0, 1)
        .applied(2)
        .start();
    let status = solo.node.status();
    assert_eq!(
        (status.hard_state.commit, status.applied),
        (LogIndex(2), LogIndex(2))
    );
}

#[test]
fn applied_beyond_the_log_is_an_error() {
    for applied in [4, 9] {
        let setup = setup().log(&[1, 1, 1]).applied(applied);
        let node = RawNode::new(setup.config, setup.restart, setup.log);
        assert!(matches!(node, Err(ConfigError::Applied { .. })));
    }
    let setup = setup().log(&[1, 1, 1]).applied(1);
    setup.log.compact(LogIndex(2));
    let node = RawNode::new(setup.config, setup.restart, setup.log);
    assert!(
        matches!(node, Err(ConfigError::Applied { .. })),
        "the entries between are gone"
    );
}

#[test]
fn options_that_make_no_sense_are_refused_by_name() {
    let name = |change: fn(&mut raftwerk_raft::Config)| {
        let setup = setup().options(change);
        match RawNode::new(setup.config, setup.restart, setup.log) {
            Err(ConfigError::Option { name, .. }) => name,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(name(|config| config.id = NodeId::ZERO), "id");
    assert_eq!(name(|config| config.heartbeat_ticks = 0), "heartbeat_ticks");
    assert_eq!(name(|config| config.election_ticks = 1), "election_ticks");
    assert_eq!(
        name(|config| config.max_inflight_msgs = 0),
        "max_inflight_msgs"
    );
    assert_eq!(
        name(|config| config.max_inflight_bytes = 1),
        "max_inflight_bytes"
    );
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused() {
    let setup = setup().conf(voters(&[3, 1, 1]));
    let node = RawNode::new(setup.config, setup.restart, setup.log);
    assert!(matches!(node, Err(ConfigError::ConfState { .. })));
}

#[test]
fn a_commit_index_beyond_the_log_costs_the_vote_and_not_the_start() {
    let mut solo = setup().log(&[1]).hard_state(1, 0, 5).start();
    assert!(solo.saw("TailLost"));
    assert_eq!(solo.commit(), 1);
    solo.tick(50);
    solo.campaign();
    assert_eq!(solo.node.role(), Role::Follower);
}

#[test]
fn who_may_have_forgotten_a_vote_neither_grants_nor_asks() {
    let mut setup = setup();
    setup.restart.health.vote_unknown = true;
    let mut solo = setup.start();
    solo.tick(50);
    solo.campaign();
    assert_eq!(solo.node.role(), Role::Follower);
    solo.step(
        2,
        3,
        Body::Vote {
            last: id(9, 9),
            transfer: false,
        },
    );
    solo.step(3, 9, Body::PreVote { last: id(9, 9) });
    solo.step(2, 3, Body::TimeoutNow);
    assert_eq!(solo.node.role(), Role::Follower);
    let no = Body::VoteResponse { reject: true };
    assert_eq!(solo.sent_to(2, MessageKind::VoteResponse), [&no]);
    let no = Body::PreVoteResponse { reject: true };
    assert_eq!(solo.sent_to(3, MessageKind::PreVoteResponse), [&no]);
    solo.step(2, 3, append(0, 0, &[3], 1));
    assert_eq!(solo.committed.len(), 1, "it is kept up to date");
}

#[test]
fn who_lost_entries_in_the_middle_does_not_lead_and_votes_by_what_was_there() {
    let mut setup = setup().log(&[1, 1, 1]).hard_state(1, 0, 0);
    setup.restart.health.faulty = vec![LogIndex(2)..LogIndex(3)];
    let mut solo = setup.start();
    solo.campaign();
    assert_eq!(solo.node.role(), Role::Follower);
    solo.step(
        2,
        2,
        Body::Vote {
            last: id(1, 1),
            transfer: false,
        },
    );
    let no = Body::VoteResponse { reject: true };
    assert_eq!(solo.sent_to(2, MessageKind::VoteResponse), [&no]);
}

#[test]
fn the_vote_and_the_term_survive() {
    let mut solo = setup().hard_state(4, 2, 0).start();
    solo.step(
        3,
        4,
        Body::Vote {
            last: id(9, 9),
            transfer: false,
        },
    );
    let no = Body::VoteResponse { reject: true };
    assert_eq!(solo.sent_to(3, MessageKind::VoteResponse), [&no]);
}

#[test]
fn the_configuration_is_the_snapshots_with_the_changes_since_made_again() {
    let log = MemLog::default();
    log.reset_to(id(1, 3));
    log.append(&[
        change_entry(1, 4, &change(ConfChangeKind::AddVoter, 4)),
        // It could not be made when it was applied either.
        change_entry(1, 5, &raftwerk_raft::ConfChange::default()),
        change_entry(1, 6, &change(ConfChangeKind::Remove, 1)),
    ]);
    log.append(&entries(7, &[1]));
    log.cool(LogIndex(8));
    let state = GroupState {
        snapshot: Some(snapshot(1, 3, voters(&[1, 2]))),
        first: log.first(),
        last: log.last(),
        ..GroupState::default()
    };
    let conf = |applied| {
        Restart::recover(&state, &log, LogIndex(applied))
            .unwrap()
            .conf_state
    };
    assert_eq!(conf(3), voters(&[1, 2]));
    assert_eq!(conf(5), voters(&[1, 2, 4]));
    assert_eq!(conf(7), voters(&[2, 4]));
    let mut made = Vec::new();
    let shows = |change: &raftwerk_raft::ConfChange| made.push(change.steps[0].node.0);
    Restart::recover_with(&state, &log, LogIndex(7), shows).unwrap();
    assert_eq!(made, [4, 1], "and nothing of the one without effect");
    assert!(
        Restart::recover(&state, &log, LogIndex(8)).is_err(),
        "beyond the log"
    );
}
