//! The options of a host and of a group. Every bound has a default that a small machine can bear.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use raftwerk_raft::{Config, NodeId, ReadOnly};
use raftwerk_storage::vfs::Vfs;

use crate::clock;
use crate::error::{GroupError, HostError};
use crate::member::{Incarnation, Member};

/// The options of a [`crate::Host`].
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// This host: the member id that its groups use.
    pub id: NodeId,
    /// The uuid of the store that the log is in. Each group's member table is told of it, once
    /// there is a leader, and a group whose table names another store halts: the disk was
    /// replaced. Zero: nothing is told or checked, as for an embedder that changes its own record
    /// itself.
    pub incarnation: Incarnation,
    /// How long a tick is, in real time. 100 ms is right for a local network.
    pub tick: Duration,
    /// What election timeouts are drawn from: different for each start.
    pub seed: u64,
    /// Threads that run the groups; each group belongs to one of them.
    pub run_loops: usize,
    /// Threads that run the state machines.
    pub apply_workers: usize,
    /// Threads that write, send and receive snapshots.
    pub snapshot_workers: usize,
    /// The folder of the snapshot files; made when the first group is opened.
    pub snapshot_dir: PathBuf,
    /// The file system of that folder.
    pub vfs: Arc<dyn Vfs>,
    /// How fast one snapshot is sent at most; none: as fast as it goes.
    pub snapshot_bytes_per_second: Option<NonZeroU64>,
    /// Snapshots received at the same time.
    pub snapshots_received_max: usize,
    /// Envelopes that wait for one run loop.
    pub queued_messages_max: usize,
    /// Bytes of those.
    pub queued_message_bytes_max: usize,
    /// Requests (proposals, reads, ...) that wait for one run loop.
    pub queued_requests_max: usize,
    /// Bytes of those.
    pub queued_request_bytes_max: usize,
    /// How long [`crate::Host::stop`] waits for disks that hang.
    pub stop_wait: Duration,
    /// How large a batch grows before it is submitted and the next one begun.
    pub batch_bytes_max: usize,
    /// Woken, in place of a run loop's thread, when requests wait for a loop that rests. Whoever it
    /// wakes calls [`crate::Host::turn`] soon, but after the other tasks that are ready, so that
    /// their requests share the turn: that costs less than waking a thread. None: the thread is
    /// woken. Nothing is lost when nobody calls: the next message or tick makes a turn as well.
    pub on_request: Option<Waker>,
}

impl HostConfig {
    /// The defaults for host `id`, snapshots in `snapshot_dir` of the real file system.
    #[must_use]
    pub fn new(id: NodeId, snapshot_dir: impl Into<PathBuf>) -> Self {
        Self {
            id,
            incarnation: Incarnation::UNBOUND,
            tick: Duration::from_millis(100),
            seed: random_seed(),
            run_loops: 1,
            apply_workers: 2,
            snapshot_workers: 2,
            snapshot_dir: snapshot_dir.into(),
            vfs: crate::snapshot::real_disk(),
            snapshot_bytes_per_second: None,
            snapshots_received_max: 4,
            queued_messages_max: 64 * 1024,
            queued_message_bytes_max: 64 * 1024 * 1024,
            queued_requests_max: 64 * 1024,
            queued_request_bytes_max: 64 * 1024 * 1024,
            stop_wait: Duration::from_secs(30),
            batch_bytes_max: 4 * 1024 * 1024,
            on_request: None,
        }
    }

    pub(crate) fn check(&self) -> Result<(), HostError> {
        let at_least_one = [
            ("run_loops", self.run_loops),
            ("apply_workers", self.apply_workers),
            ("snapshot_workers", self.snapshot_workers),
            ("queued_messages_max", self.queued_messages_max),
            ("queued_message_bytes_max", self.queued_message_bytes_max),
            ("queued_requests_max", self.queued_requests_max),
            ("queued_request_bytes_max", self.queued_request_bytes_max),
            ("batch_bytes_max", self.batch_bytes_max),
        ];
        for (name, value) in at_least_one {
            if value == 0 {
                return Err(HostError::Option {
                    name,
                    reason: "must be at least 1",
                });
            }
        }
        if self.id == NodeId::ZERO {
            return Err(HostError::Option {
                name: "id",
                reason: "zero is nobody",
            });
        }
        if self.tick.is_zero() {
            return Err(HostError::Option {
                name: "tick",
                reason: "must be more than zero",
            });
        }
        Ok(())
    }
}

/// A number that differs for each call and process: std's hash keys come from the system's
/// randomness.
pub(crate) fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0_u8)
}

/// How a group comes into being when the log holds nothing of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// It must exist.
    #[default]
    Existing,
    /// A new group. Every one of `members` starts it with the same list, in any order: it becomes
    /// the first entries of the log.
    Bootstrap {
        /// All the initial members, this host among them.
        members: Vec<Member>,
    },
    /// Joins an existing group: waits until the leader, told by `change_membership`, gets in touch.
    Join {
        /// Members that may be the leader, so that they can be answered.
        contacts: Vec<Member>,
    },
}

/// When a group's log is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// A snapshot is taken when this many entries were applied since the last one and `growth`
    /// agrees; zero: never for their number. In any case the state machine is asked to persist, so
    /// that a restart has no more than this to apply again.
    pub entries: u64,
    /// `entries` alone are not enough while their payload is less than this many times the last
    /// snapshot's file: what all snapshots cost stays in proportion to what is written. Zero: they
    /// are.
    pub growth: u64,
    /// The same for the bytes of their payload; zero: never for their size.
    pub bytes: u64,
    /// How many entries before the snapshot stay in the log for followers that are a little
    /// behind.
    pub trailing_entries: u64,
}

impl SnapshotPolicy {
    /// Only [`crate::Group::snapshot`] and followers in need make one.
    pub const ON_REQUEST: Self = Self {
        entries: 0,
        growth: 0,
        bytes: 0,
        trailing_entries: 10_000,
    };
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        Self {
            entries: 100_000,
            growth: 4,
            bytes: 256 * 1024 * 1024,
            trailing_entries: 10_000,
        }
    }
}

/// What one group may hold, and how long things may take, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest proposal, in bytes.
    pub proposal_bytes_max: usize,
    /// Proposals that are held, forwarded or in the log and not yet applied.
    pub proposals_max: usize,
    /// Bytes of those that are held or forwarded. What is in the log counts for
    /// `raft.max_uncommitted_size`.
    pub proposals_bytes_max: usize,
    /// Reads that wait.
    pub reads_max: usize,
    /// How long a proposal is held for want of a leader before it fails with `NoLeader`.
    pub leader_wait_ticks: u64,
    /// How long a proposal may be in the log or with the leader before it fails with `Unknown`.
    pub proposal_ticks: u64,
    /// How long a read may wait before it fails with `NoLeader`.
    pub read_ticks: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            proposal_bytes_max: 2 * 1024 * 1024,
            proposals_max: 16 * 1024,
            proposals_bytes_max: 64 * 1024 * 1024,
            reads_max: 16 * 1024,
            leader_wait_ticks: 50,
            proposal_ticks: 100,
            read_ticks: 50,
        }
    }
}

/// The options of a [`crate::Group`].
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// What to do when the log holds nothing of it.
    pub start: Start,
    /// The core's options; `id` and `seed` are set by the host. With `lease` a leader answers reads
    /// without asking the others while its lease holds; without, which is the safe choice, each
    /// round of reads asks a quorum. Leases need a system whose clock counts suspension (Linux),
    /// and the same terms on every member: `election_timeout` is at most what `election_ticks - 1`
    /// ticks of the host take.
    pub raft: Config,
    /// When the log is cut.
    pub snapshot: SnapshotPolicy,
    /// Its bounds.
    pub limits: Limits,
}

impl GroupConfig {
    /// The defaults.
    #[must_use]
    pub fn new(start: Start) -> Self {
        Self {
            start,
            raft: Config::new(NodeId::ZERO, 0),
            snapshot: SnapshotPolicy::default(),
            limits: Limits::default(),
        }
    }

    /// The defaults for a new group of `members`: see [`Start::Bootstrap`].
    #[must_use]
    pub fn bootstrap(members: Vec<Member>) -> Self {
        Self::new(Start::Bootstrap { members })
    }

    /// The defaults for a member that is to be added to an existing group: see [`Start::Join`].
    #[must_use]
    pub fn join(contacts: Vec<Member>) -> Self {
        Self::new(Start::Join { contacts })
    }

    /// What the core offers to others and the runtime must not use.
    fn check_raft(&self) -> Result<(), GroupError> {
        let raft = &self.raft;
        let unusable = [
            (
                raft.synchronous,
                "raft.synchronous",
                "the runtime persists asynchronously",
            ),
            (
                raft.read_only != ReadOnly::Safe,
                "raft.read_only",
                "ticks stand still while a run loop does, and a lease would outlive its end",
            ),
            (
                raft.etcd_quirks,
                "raft.etcd_quirks",
                "for comparison with etcd's traces only",
            ),
            (
                raft.disable_conf_change_validation,
                "raft.disable_conf_change_validation",
                "for tests of etcd's behaviour only",
            ),
        ];
        match unusable.into_iter().find(|(set, ..)| *set) {
            Some((_, name, reason)) => Err(GroupError::Option { name, reason }),
            None => Ok(()),
        }
    }

    /// Leases rest on what a tick takes in real time.
    pub(crate) fn check_lease(&self, tick: Duration) -> Result<(), GroupError> {
        let Some(lease) = self.raft.lease else {
            return Ok(());
        };
        let reason = if clock::now().is_none() {
            "this system has no clock that counts suspension"
        } else if lease.election_timeout > tick * self.raft.election_ticks.saturating_sub(1) {
            "election_timeout is longer than election_ticks - 1 ticks take"
        } else {
            return Ok(());
        };
        let name = "raft.lease";
        Err(GroupError::Option { name, reason })
    }

    pub(crate) fn check(&self, host: NodeId) -> Result<(), GroupError> {
        self.check_raft()?;
        if let Start::Bootstrap { members } = &self.start {
            let mut ids: Vec<NodeId> = members.iter().map(|member| member.id).collect();
            ids.sort_unstable();
            ids.dedup();
            if ids.len() != members.len() || ids.first() == Some(&NodeId::ZERO) {
                let reason = "ids must differ and not be zero";
                return Err(GroupError::Option {
                    name: "start.members",
                    reason,
                });
            }
            if !ids.contains(&host) {
                let reason = "this host must be among them";
                return Err(GroupError::Option {
                    name: "start.members",
                    reason,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use raftwerk_raft::LeaseTerms;

    use super::*;

    #[test]
    fn lease_that_outlives_the_promise_it_rests_on_is_refused() {
        let mut config = GroupConfig::new(Start::Existing);
        config.raft.election_ticks = 10;
        let mut check = |millis| {
            config.raft.lease = Some(LeaseTerms {
                election_timeout: Duration::from_millis(millis),
                drift_bound: Duration::from_millis(1),
            });
            config.check_lease(Duration::from_millis(100)).is_ok()
        };
        assert_eq!(check(900), cfg!(target_os = "linux"));
        assert!(!check(901));
    }

    #[test]
    fn what_is_unsafe_in_the_core_is_refused() {
        let unsafe_ones: [fn(&mut Config); 4] = [
            |raft| raft.synchronous = true,
            |raft| raft.read_only = ReadOnly::Lease,
            |raft| raft.etcd_quirks = true,
            |raft| raft.disable_conf_change_validation = true,
        ];
        let mut config = GroupConfig::new(Start::Existing);
        config.check(NodeId(1)).unwrap();
        for set in unsafe_ones {
            config.raft = Config::new(NodeId::ZERO, 0);
            set(&mut config.raft);
            let refused = config.check(NodeId(1));
            assert!(
                matches!(refused, Err(GroupError::Option { .. })),
                "{refused:?}"
            );
        }
    }
}
