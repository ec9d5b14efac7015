//! Snapshots: taken, sent, installed, and what they cut off the log.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{Cluster, Journal, Seen, wait_for};
use raftwerk::raft::{
    Entry, Halt, LogId, LogIndex, NodeId, SnapshotMeta, SnapshotReader, SnapshotSource, StateError,
    StateMachine,
};
use raftwerk::{
    GroupConfig, GroupError, GroupEvent, Health, InMemory, Member, MembershipChange, ReplaceError,
    SnapshotError, SnapshotPolicy,
};
use raftwerk_storage_mem::{MemLog, MemLogOptions};

const NO_TAIL: SnapshotPolicy = SnapshotPolicy {
    entries: 0,
    growth: 0,
    bytes: 0,
    trailing_entries: 0,
};

fn is_installed(event: &GroupEvent) -> bool {
    matches!(event, GroupEvent::SnapshotInstalled { .. })
}

/// Waits until the log begins behind `index`: compaction follows the snapshot a turn later.
fn wait_until_cut(group: &raftwerk::Group, index: LogIndex) {
    let cut = group.until(move |status| status.first > index).wait();
    cut.expect("the group goes on");
}

#[test]
fn follower_that_the_log_no_longer_reaches_catches_up_by_snapshot() {
    let cluster = Cluster::start_with(3, |config| config.snapshot = NO_TAIL);
    cluster.propose(1, "before");
    cluster.net.isolate(NodeId(3));
    for n in 0..50 {
        cluster.propose(1, vec![n; 10_000]);
    }
    let taken = cluster.group(1).snapshot().wait().unwrap();
    wait_until_cut(cluster.group(1), taken.index);
    cluster.propose(2, "after");
    let mut events = cluster.group(3).events();
    cluster.net.heal();
    wait_for(&mut events, is_installed);
    let first = cluster.caught_up(1);
    assert_eq!(first.len(), 52);
    assert_eq!(cluster.caught_up(3), first);
    let status = cluster.group(3).status();
    assert_eq!(status.snapshot, Some(taken));
    assert_eq!(status.health, Health::Running);
    assert_eq!(status.first, taken.index.next());
}

#[test]
fn snapshot_is_taken_when_the_policy_says_and_keeps_the_tail_it_says() {
    let policy = SnapshotPolicy {
        entries: 20,
        growth: 0,
        bytes: 0,
        trailing_entries: 5,
    };
    let cluster = Cluster::start_with(1, |config| config.snapshot = policy);
    let mut events = cluster.group(1).events();
    for n in 0..30 {
        cluster.propose(1, format!("{n}"));
    }
    let taken = |event: &GroupEvent| matches!(event, GroupEvent::SnapshotTaken { .. });
    let GroupEvent::SnapshotTaken { last } = wait_for(&mut events, taken) else {
        unreachable!()
    };
    assert!(last.index >= LogIndex(20), "{last}");
    wait_until_cut(cluster.group(1), LogIndex(last.index.0 - 5));
    assert_eq!(cluster.group(1).status().first, LogIndex(last.index.0 - 4));
}

#[test]
fn restart_begins_with_the_snapshot_file_and_replays_the_log_behind_it() {
    let mut cluster = Cluster::start_with(1, |config| config.snapshot = NO_TAIL);
    for n in 0..10 {
        cluster.propose(1, format!("{n}"));
    }
    let taken = cluster.group(1).snapshot().wait().unwrap();
    wait_until_cut(cluster.group(1), taken.index);
    cluster.propose(1, "behind it");
    let before = cluster.caught_up(1);
    cluster.stop(1);
    cluster.boot(1);
    cluster.lead(1);
    assert_eq!(cluster.caught_up(1), before);
    assert_eq!(cluster.propose(1, "goes on"), 12);
}

#[test]
fn restart_without_the_snapshot_file_is_refused_and_says_what_is_missing() {
    let mut cluster = Cluster::start_with(1, |config| config.snapshot = NO_TAIL);
    cluster.propose(1, "x");
    let taken = cluster.group(1).snapshot().wait().unwrap();
    cluster.stop(1);
    for file in std::fs::read_dir(cluster.snapshot_dir(1)).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    let missing = match cluster.try_boot(1).unwrap_err() {
        GroupError::SnapshotMissing { snapshot, .. } => snapshot,
        other => panic!("{other:?}"),
    };
    assert_eq!(missing, taken);
}

/// A state whose views panic when they are read.
struct Unreadable(InMemory<Journal>);

struct Panics(LogId);

impl SnapshotSource for Panics {
    fn applied(&self) -> LogId {
        self.0
    }
    fn read(&mut self, _out: &mut [u8]) -> std::io::Result<usize> {
        panic!("as the test asked for")
    }
}

impl StateMachine for Unreadable {
    fn applied(&self) -> LogId {
        self.0.applied()
    }
    fn apply(&mut self, entries: &[Entry], out: &mut Vec<Bytes>) -> Result<(), Halt> {
        self.0.apply(entries, out)
    }
    fn snapshot(&self) -> Result<Box<dyn SnapshotSource>, StateError> {
        Ok(Box::new(Panics(self.0.applied())))
    }
    fn restore(
        &mut self,
        meta: &SnapshotMeta,
        source: &mut dyn SnapshotReader,
    ) -> Result<(), StateError> {
        self.0.restore(meta, source)
    }
    fn persist(&mut self) -> Result<LogId, StateError> {
        self.0.persist()
    }
}

#[test]
fn panic_while_a_snapshot_is_written_fails_it_and_the_group_goes_on() {
    let cluster = Cluster::without_nodes(GroupConfig::bootstrap(common::members(1)));
    let log = MemLog::new(MemLogOptions::default()).unwrap();
    let host = cluster.host(1, Arc::new(log));
    let machine = Unreadable(InMemory::new(Journal(Seen::default())));
    let group = host
        .open_group(common::G, cluster.config.clone(), Box::new(machine))
        .unwrap();
    group.campaign();
    assert_eq!(group.propose("before").wait().unwrap().response, "1");
    let failed = group.snapshot().wait();
    assert!(
        matches!(failed, Err(SnapshotError::Failed { .. })),
        "{failed:?}"
    );
    assert_eq!(group.propose("after").wait().unwrap().response, "2");
    host.stop();
}

#[test]
fn older_snapshot_files_are_removed_once_a_newer_one_is_recorded() {
    let cluster = Cluster::start_with(1, |config| config.snapshot = NO_TAIL);
    let mut events = cluster.group(1).events();
    for n in 0..3 {
        cluster.propose(1, format!("{n}"));
        cluster.group(1).snapshot().wait().unwrap();
        wait_for(&mut events, |event| {
            matches!(event, GroupEvent::SnapshotTaken { .. })
        });
    }
    // The last removal is done once the worker is: stopping waits for it.
    cluster.node(1).host.stop();
    let files = std::fs::read_dir(cluster.snapshot_dir(1)).unwrap().count();
    assert_eq!(files, 1);
}

#[test]
fn joining_member_gets_the_state_and_the_members_and_then_takes_part() {
    let mut cluster = Cluster::start_with(3, |config| config.snapshot = NO_TAIL);
    for n in 0..10 {
        cluster.propose(1, format!("{n}"));
    }
    let taken = cluster.group(1).snapshot().wait().unwrap();
    wait_until_cut(cluster.group(1), taken.index);
    cluster.boot_joining(4);
    let fourth = Member {
        name: "fourth".into(),
        ..Member::new(NodeId(4))
    };
    let learner = MembershipChange::new().add_learner(fourth.clone());
    cluster.group(2).change_membership(learner).wait().unwrap();
    cluster.propose(1, "to a learner");
    assert_eq!(cluster.caught_up(4), cluster.caught_up(1));
    let voter = MembershipChange::new().add_voter(fourth.clone());
    cluster.group(1).change_membership(voter).wait().unwrap();
    cluster.group(4).read_index().wait().unwrap();
    let status = cluster.group(4).status();
    assert_eq!(status.conf_state.voters, [1, 2, 3, 4].map(NodeId));
    assert_eq!(status.members.member(NodeId(4)), Some(&fourth));
    assert_eq!(status.members.len(), 4);
    cluster.group(1).transfer_leader(NodeId(4)).wait().unwrap();
    assert_eq!(cluster.propose(3, "led by the fourth"), 12);
}

#[test]
fn removed_member_is_forgotten_and_the_rest_goes_on() {
    let cluster = Cluster::start(3);
    let remove = |id| MembershipChange::new().remove(NodeId(id));
    cluster
        .group(1)
        .change_membership(remove(3))
        .wait()
        .unwrap();
    cluster.propose(2, "of two");
    let status = cluster.group(1).status();
    assert_eq!(status.conf_state.voters, [NodeId(1), NodeId(2)]);
    assert!(status.members.member(NodeId(3)).is_none());
    // The leader itself goes too, and hands over.
    cluster
        .group(1)
        .change_membership(remove(1))
        .wait()
        .unwrap();
    cluster.lead(2);
    assert_eq!(cluster.propose(2, "of one"), 2);
    assert_eq!(cluster.group(2).status().conf_state.voters, [NodeId(2)]);
}

#[test]
fn state_that_is_not_to_be_trusted_is_replaced_by_the_leaders() {
    let cluster = Cluster::start(3);
    cluster.lead(1);
    for n in 0..5 {
        cluster.propose(1, vec![n; 10]);
    }
    let refused = cluster.group(1).replace_state().wait().unwrap_err();
    assert_eq!(refused, ReplaceError::NotFollower);
    cluster.caught_up(3);
    let (before, applied) = (cluster.caught_up(1), cluster.group(3).status().applied);
    // Something in it has gone wrong, nobody knows what.
    cluster.node(3).seen.lock().clear();
    let covered = cluster.group(3).replace_state().wait().unwrap();
    assert!(covered.index >= applied.index, "{covered} after {applied}");
    assert_eq!(cluster.caught_up(3), before);
    cluster.propose(3, "after");
    assert_eq!(cluster.caught_up(3), cluster.caught_up(1));
}

#[test]
fn only_voter_has_nobody_to_replace_its_state() {
    let cluster = Cluster::start(1);
    cluster.propose(1, "a");
    let refused = cluster.group(1).replace_state().wait().unwrap_err();
    assert_eq!(refused, ReplaceError::NotFollower, "it leads");
}
