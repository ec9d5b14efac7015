//! What a member is configured with.

use crate::error::ConfigError;
use crate::types::NodeId;

/// How reads are made linearizable (thesis, section 6.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadOnly {
    /// A heartbeat round confirms leadership for every batch of reads.
    #[default]
    Safe,
    /// The leader trusts CheckQuorum's lease: bounded clock drift assumed.
    Lease,
}

/// The options of a [`crate::RawNode`]. The default is the safe choice for a real cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This member.
    pub id: NodeId,
    /// Ticks without a leader after which an election starts; each time a random number of ticks
    /// in `[election_ticks, 2 * election_ticks)` is drawn.
    pub election_ticks: u32,
    /// Ticks between heartbeats; less than `election_ticks`.
    pub heartbeat_ticks: u32,
    /// What the random timeouts are drawn from. Different for each member and start.
    pub seed: u64,
    /// Asks before it raises its term (thesis, section 9.6).
    pub pre_vote: bool,
    /// A leader that has not heard from a quorum for an election timeout steps down, and members
    /// with a live leader refuse votes.
    pub check_quorum: bool,
    /// How reads are made linearizable.
    pub read_only: ReadOnly,
    /// A removed or demoted leader becomes a follower.
    pub step_down_on_removal: bool,
    /// Accepts configuration changes without checking them against pending ones: unsafe, for
    /// tests of etcd's behaviour only.
    pub disable_conf_change_validation: bool,
    /// Committed entries are handed out before they are durable here, and `advance` acknowledges
    /// a whole `Ready` at once. Off: the asynchronous way, where `persisted` and `applied` do.
    pub synchronous: bool,
    /// Payload bytes per append message; one entry always goes through.
    pub max_size_per_msg: u64,
    /// Append messages in flight to one follower.
    pub max_inflight_msgs: usize,
    /// Payload bytes in flight to one follower; zero for no limit.
    pub max_inflight_bytes: u64,
    /// Payload bytes that a leader holds uncommitted before it refuses proposals; zero: no limit.
    pub max_uncommitted_size: u64,
    /// Bytes of committed entries handed out and not yet applied.
    pub max_committed_size_per_ready: u64,
    /// A member that lost acknowledged entries at the end of its log votes all the same. Unsafe:
    /// what was committed may be lost with it. For a group that has no other way to a leader.
    pub unsafe_vote_after_lost_tail: bool,
    /// Behaves as etcd's raft does where this one does better, for comparison with its traces
    /// only: vote requests leave before the log they speak of is durable; refused candidates are
    /// not told what is committed; a refused configuration change becomes an empty entry; one that
    /// is older than the snapshot being installed is made all the same; a removed leader does not
    /// leave a joint configuration; a transfer puts off CheckQuorum; a snapshot of a lower term
    /// gets no answer, nor does any message of one from a member that cannot lead; a snapshot is
    /// sent even where it does not help; a pre-candidate keeps its timeout.
    pub etcd_quirks: bool,
}

impl Config {
    /// The defaults for member `id`: ten ticks of election timeout, one of heartbeat, PreVote and
    /// CheckQuorum on, all sizes bounded. `seed` should differ for each start.
    #[must_use]
    pub const fn new(id: NodeId, seed: u64) -> Self {
        Self {
            id,
            election_ticks: 10,
            heartbeat_ticks: 1,
            seed,
            pre_vote: true,
            check_quorum: true,
            read_only: ReadOnly::Safe,
            step_down_on_removal: true,
            disable_conf_change_validation: false,
            synchronous: false,
            max_size_per_msg: 1024 * 1024,
            max_inflight_msgs: 256,
            max_inflight_bytes: 8 * 1024 * 1024,
            max_uncommitted_size: 64 * 1024 * 1024,
            max_committed_size_per_ready: 8 * 1024 * 1024,
            unsafe_vote_after_lost_tail: false,
            etcd_quirks: false,
        }
    }

    /// Whether the options make sense together.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let rules = [
            ("id", self.id != NodeId::ZERO, "zero is nobody's id"),
            ("heartbeat_ticks", self.heartbeat_ticks > 0, "at least one"),
            (
                "election_ticks",
                self.election_ticks > self.heartbeat_ticks,
                "more than heartbeat_ticks",
            ),
            (
                "max_inflight_msgs",
                self.max_inflight_msgs > 0,
                "at least one",
            ),
            (
                "max_committed_size_per_ready",
                self.max_committed_size_per_ready > 0,
                "at least one",
            ),
            (
                "max_inflight_bytes",
                self.max_inflight_bytes == 0 || self.max_inflight_bytes >= self.max_size_per_msg,
                "at least max_size_per_msg, or zero for no limit",
            ),
            (
                "read_only",
                self.read_only != ReadOnly::Lease || self.check_quorum,
                "lease reads need check_quorum",
            ),
        ];
        match rules.into_iter().find(|(_, holds, _)| !holds) {
            Some((name, _, reason)) => Err(ConfigError::Option { name, reason }),
            None => Ok(()),
        }
    }
}
