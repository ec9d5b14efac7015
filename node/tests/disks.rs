//! What a slow or full disk holds up, and what it does not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Cluster, G, Journal, Node, Seen, members, wait_for_commit};
use raftwerk::raft::{
    ByteBudget, DurableNotify, GroupId, GroupWrite, Loss, NodeId, OpenGroup, Poisoned, Pressure,
    ScrubReport, SnapshotMeta, Storage, StorageError, SubmitError, Subscription, Ticket,
    WriteBatch,
};
use raftwerk::{
    Group, GroupConfig, GroupStatus, Health, Host, InMemory, MemoryState as _, ProposeError,
    ReadError, SnapshotPolicy,
};
use raftwerk_storage_mem::{MemLog, MemLogOptions, SyncMode};

#[test]
fn commits_go_on_while_the_leaders_own_disk_stands_still() {
    let cluster = Cluster::start(3);
    let log = &cluster.node(1).log;
    let held = log.hold_syncs();
    let before = log.durable().unwrap();
    let answer = cluster.group(1).propose("committed by the other two");
    // The followers have applied it, so it is committed.
    while !cluster
        .node(2)
        .seen
        .lock()
        .contains(&Bytes::from("committed by the other two"))
    {
        cluster.group(2).read_index().wait().unwrap();
    }
    let committed = cluster.group(1).status().commit;
    assert_eq!(
        log.durable().unwrap(),
        before,
        "the leader's disk has not moved"
    );
    // Here it is applied only when it is durable here too.
    assert!(cluster.node(1).seen.lock().is_empty());
    drop(held);
    assert_eq!(answer.wait().unwrap().id.index, committed);
}

#[test]
fn nothing_commits_while_two_disks_of_three_stand_still() {
    let cluster = Cluster::start(3);
    let held = [
        cluster.node(1).log.hold_syncs(),
        cluster.node(2).log.hold_syncs(),
    ];
    let before = cluster.group(1).status().commit;
    let answer = cluster.group(1).propose("waits");
    // The third has the entry on its disk and has told the leader.
    let arrived = move |status: &GroupStatus| {
        let mut peers = status.peers.iter();
        peers.any(|peer| peer.id == NodeId(3) && peer.matched > before)
    };
    cluster.group(1).until(arrived).wait().unwrap();
    assert_eq!(cluster.group(1).status().commit, before);
    assert_eq!(cluster.group(3).status().commit, before);
    let [leader, second] = held;
    drop(second);
    wait_for_commit(cluster.group(1), before.next());
    drop(leader);
    assert_eq!(answer.wait().unwrap().id.index, before.next());
}

/// How long a sync of a slow disk takes.
const SYNC: Duration = Duration::from_millis(50);

/// How long some commits took, one after the other, in a group of three led by the first, whose
/// first `slow` disks are slow; the shortest first.
fn commits_with_slow_disks(slow: u64) -> Vec<Duration> {
    let mut cluster = Cluster::without_nodes(GroupConfig::bootstrap(members(3)));
    for id in 1..=3 {
        cluster.options.sync = match id {
            id if id <= slow => SyncMode::Delayed(SYNC),
            _ => SyncMode::Immediate,
        };
        cluster.boot(id);
    }
    cluster.lead(1);
    let leader = cluster.group(1);
    let commit = |_| {
        let next = leader.status().last.index.next();
        let begun = Instant::now();
        let _answer = leader.propose("x");
        wait_for_commit(leader, next);
        begun.elapsed()
    };
    let mut took: Vec<Duration> = (0..30).map(commit).collect();
    took.sort_unstable();
    println!(
        "{slow} of three disks take {SYNC:?} for a sync: a commit takes {:?}, {:?}, {:?} \
         (shortest, median, longest)",
        took[0],
        took[took.len() / 2],
        took[took.len() - 1]
    );
    took
}

/// The one place where how long something takes is what is asked.
#[test]
fn commit_takes_as_long_as_the_second_fastest_disk() {
    let took = commits_with_slow_disks(1);
    assert!(took[0] < SYNC / 5, "{took:?}");
    assert!(took[took.len() / 2] < SYNC, "{took:?}");
    let took = commits_with_slow_disks(2);
    assert!(took[0] >= SYNC, "{took:?}");
}

const PANIC: usize = usize::MAX - 1;

/// Refuses batches as full for as long as it is told to, and counts what it takes.
struct Choked {
    inner: MemLog,
    refusals: AtomicUsize,
    refused: AtomicUsize,
    /// Refuses what makes no room, until a compaction comes.
    until_cut: AtomicBool,
}

impl Choked {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: MemLog::new(MemLogOptions::default()).unwrap(),
            refusals: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            until_cut: AtomicBool::new(false),
        })
    }
}

impl Storage for Choked {
    fn groups(&self) -> Result<Vec<GroupId>, StorageError> {
        self.inner.groups()
    }
    fn open_group(&self, group: GroupId) -> Result<OpenGroup, StorageError> {
        self.inner.open_group(group)
    }
    fn submit(&self, batch: WriteBatch) -> Result<Ticket, SubmitError> {
        let left = self.refusals.load(Ordering::SeqCst);
        assert_ne!(left, PANIC, "as the test asked for");
        if left > 0 {
            let once = |left: usize| (left > 0).then(|| left - usize::from(left < usize::MAX));
            let _ = self
                .refusals
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, once);
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(SubmitError::Full(batch));
        }
        if self.until_cut.load(Ordering::SeqCst) {
            let cut = batch.groups.iter().any(|write| write.compact_to.is_some());
            let grows = |write: &GroupWrite| !write.append.is_empty() || write.hard_state.is_some();
            let any = |write: &GroupWrite| write.snapshot.is_some() || write.compact_to.is_some();
            if batch.groups.iter().any(grows) || !batch.groups.iter().any(any) {
                self.refused.fetch_add(1, Ordering::SeqCst);
                return Err(SubmitError::Full(batch));
            }
            self.until_cut.store(!cut, Ordering::SeqCst);
        }
        self.inner.submit(batch)
    }
    fn durable(&self) -> Result<Ticket, Poisoned> {
        self.inner.durable()
    }
    fn on_durable(&self, notify: DurableNotify) -> Subscription {
        self.inner.on_durable(notify)
    }
    fn wait(&self, ticket: Ticket) -> Result<(), Poisoned> {
        self.inner.wait(ticket)
    }
    fn pressure(&self) -> Pressure {
        self.inner.pressure()
    }
    fn scrub(&self, budget: ByteBudget) -> Result<ScrubReport, StorageError> {
        self.inner.scrub(budget)
    }
}

/// The only member of its group, which has applied one entry, on a log that can be choked.
fn on_a_choked_log(cluster: &Cluster) -> (Arc<Choked>, Host, Group) {
    let log = Choked::new();
    let host = cluster.host(1, Arc::clone(&log) as Arc<dyn Storage>);
    let machine = Box::new(InMemory::new(Journal(Seen::default())));
    let group = host.open_group(G, cluster.config.clone(), machine).unwrap();
    group.campaign();
    assert_eq!(group.propose("first").wait().unwrap().response, "1");
    (log, host, group)
}

#[test]
fn batch_that_the_log_was_too_full_for_is_submitted_again_and_nothing_is_lost() {
    let cluster = Cluster::without_nodes(GroupConfig::bootstrap(members(1)));
    let (log, host, group) = on_a_choked_log(&cluster);
    log.refusals.store(3, Ordering::SeqCst);
    assert_eq!(group.propose("second").wait().unwrap().response, "2");
    assert_eq!(log.refused.load(Ordering::SeqCst), 3);
    host.stop();
}

#[test]
fn full_log_refuses_writes_as_busy_and_serves_reads_and_then_goes_on() {
    let cluster = Cluster::without_nodes(GroupConfig::bootstrap(members(1)));
    let (log, host, group) = on_a_choked_log(&cluster);
    log.refusals.store(usize::MAX, Ordering::SeqCst);
    let kept = group.propose("kept until there is room");
    while log.refused.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    assert_eq!(group.propose("more").wait(), Err(ProposeError::Busy));
    group.read_index().wait().unwrap();
    log.refusals.store(0, Ordering::SeqCst);
    assert_eq!(kept.wait().unwrap().response, "2");
    host.stop();
}

#[test]
fn snapshot_makes_room_in_a_full_log_ahead_of_what_waits_for_it() {
    let mut config = GroupConfig::bootstrap(members(1));
    config.snapshot = SnapshotPolicy {
        trailing_entries: 0,
        ..SnapshotPolicy::ON_REQUEST
    };
    let cluster = Cluster::without_nodes(config);
    let (log, host, group) = on_a_choked_log(&cluster);
    log.until_cut.store(true, Ordering::SeqCst);
    let kept = group.propose("kept until there is room");
    while !group.status().log_full {
        std::thread::yield_now();
    }
    group.snapshot().wait().unwrap();
    assert_eq!(kept.wait().unwrap().response, "2");
    group.read_index().wait().unwrap();
    assert!(!group.status().log_full);
    host.stop();
}

#[test]
fn panic_on_the_run_loop_leaves_nobody_waiting() {
    let cluster = Cluster::without_nodes(GroupConfig::bootstrap(members(1)));
    let (log, host, group) = on_a_choked_log(&cluster);
    let mut events = group.events();
    log.refusals.store(PANIC, Ordering::SeqCst);
    // A write of the group's own may end the loop before the proposal is taken.
    assert!(matches!(
        group.propose("lost").wait(),
        Err(ProposeError::Unknown | ProposeError::Stopped)
    ));
    while events.recv().wait().is_some() {}
    assert_eq!(group.status().health, Health::Stopped);
    assert_eq!(group.propose("late").wait(), Err(ProposeError::Stopped));
    assert_eq!(group.read_index().wait(), Err(ReadError::Stopped));
    host.stop();
}

#[test]
fn proposals_that_the_log_could_not_take_are_refused_when_the_group_is_opened() {
    let cluster = Cluster::without_nodes(GroupConfig::bootstrap(members(1)));
    let options = MemLogOptions {
        batch_bytes_max: 1 << 20,
        ..MemLogOptions::default()
    };
    let log = Arc::new(MemLog::new(options).unwrap());
    let max = usize::try_from(log.entry_bytes_max().unwrap()).unwrap();
    let host = cluster.host(1, Arc::clone(&log) as Arc<dyn Storage>);
    let mut config = cluster.config.clone();
    for (bytes, opens) in [(max + 1, false), (max, true)] {
        config.limits.proposal_bytes_max = bytes;
        let machine = Box::new(InMemory::new(Journal(Seen::default())));
        let opened = host.open_group(G, config.clone(), machine);
        assert_eq!(opened.is_ok(), opens, "{opened:?}");
    }
    let group = host.group(G).unwrap();
    group.campaign();
    assert_eq!(group.propose(vec![7; max]).wait().unwrap().response, "1");
    host.stop();
}

#[test]
fn batch_that_is_too_large_for_the_log_is_split_and_nothing_is_lost() {
    let mut config = GroupConfig::bootstrap(members(1));
    config.limits.proposal_bytes_max = 1000;
    let cluster = Cluster::without_nodes(config);
    let options = MemLogOptions {
        batch_bytes_max: 4096,
        ..MemLogOptions::default()
    };
    let log = Arc::new(MemLog::new(options).unwrap());
    let host = cluster.host(1, Arc::clone(&log) as Arc<dyn Storage>);
    let machine = Box::new(InMemory::new(Journal(Seen::default())));
    let group = host.open_group(G, cluster.config.clone(), machine).unwrap();
    group.campaign();
    group.read_index().wait().unwrap();
    let held = log.hold_syncs();
    let answers: Vec<_> = (0..64).map(|_| group.propose(vec![7; 1000])).collect();
    drop(held);
    for (n, answer) in (1..).zip(answers) {
        assert_eq!(answer.wait().unwrap().response, n.to_string());
    }
    host.stop();
}

#[test]
fn restart_keeps_every_acknowledged_entry_and_forgets_none_of_the_votes() {
    let mut cluster = Cluster::start(3);
    for n in 1..=20 {
        assert_eq!(cluster.propose(1 + n % 3, format!("{n}")), n);
    }
    let before = cluster.caught_up(1);
    for id in 1..=3 {
        // A power cut: what was not durable is gone.
        let Node { host, log, .. } = cluster.nodes.remove(&id).unwrap();
        let term = log.open_group(G).unwrap().state.hard_state.term;
        drop(log.crash());
        host.stop();
        drop((host, log));
        let log = MemLog::open(&cluster.disks[&id], MemLogOptions::default()).unwrap();
        assert_eq!(log.open_group(G).unwrap().state.hard_state.term, term);
        drop(log);
    }
    (1..=3).for_each(|id| cluster.boot(id));
    cluster.lead(2);
    assert_eq!(cluster.caught_up(2), before);
    assert_eq!(cluster.propose(1, "goes on"), 21);
}

#[test]
fn stopping_does_not_wait_for_a_disk_that_hangs() {
    let cluster = Cluster::start(1);
    let before = cluster.group(1).status().last;
    let held = cluster.node(1).log.hold_syncs();
    let answer = cluster.group(1).propose("never durable");
    while cluster.group(1).status().last == before {
        std::thread::yield_now();
    }
    assert!(!cluster.node(1).host.stop_within(Duration::from_millis(20)));
    assert_eq!(answer.wait().unwrap_err(), ProposeError::Unknown);
    let again = cluster.node(1).host.stop_within(Duration::from_millis(20));
    assert!(!again, "whoever asks again is told the same");
    drop(held);
    assert!(cluster.node(1).host.stop_within(Duration::from_secs(30)));
}

#[test]
fn state_that_is_ahead_of_a_log_without_its_tail_is_caught_up_and_does_not_vote() {
    let mut cluster = Cluster::start(3);
    cluster.propose(1, "both have it");
    cluster.caught_up(3);
    let lost = cluster.group(3).status();
    assert_eq!((lost.loss, lost.voteless), (None, false));
    cluster.stop(3);
    cluster.propose(1, "lost");
    // The third has applied all of it, and its log has none.
    let last = cluster.group(1).propose("lost too").wait().unwrap().id;
    let state = Journal(Arc::clone(&cluster.node(1).seen)).save();
    let meta = SnapshotMeta {
        last,
        ..SnapshotMeta::default()
    };
    cluster.boot_ahead(3, &meta, state);
    cluster.propose(1, "after that");
    assert_eq!(cluster.caught_up(3), cluster.caught_up(1), "each once");
    let status = cluster.group(3).status();
    assert_eq!((status.loss, status.voteless), (Some(Loss::TailLost), true));
    cluster.group(3).snapshot().wait().unwrap();
}
