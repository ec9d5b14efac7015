//! What a member is configured with.

use std::time::Duration;

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

/// On what lease reads rest ([`crate::RawNode::lease_read`]). The same for every member: it is the
/// others who keep the promise that a leader counts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    /// How long members with a leader refuse to elect another. At most what
    /// `election_ticks - 1` ticks take: the first tick may follow at once on what was heard.
    pub election_timeout: Duration,
    /// By how much two members' clocks may differ in measuring that time; the lease is shorter by
    /// it.
    pub drift_bound: Duration,
}

impl LeaseTerms {
    /// How long a lease lasts from the sending of the heartbeat on.
    pub(crate) const fn lasts(&self) -> Duration {
        self.election_timeout.saturating_sub(self.drift_bound)
    }
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
    /// What the random timeouts are drawn from, and what names the proposals that are sent on.
    /// Different for each member and start: with the same, an answer to an earlier life could be
    /// taken for one to this.
    pub seed: u64,
    /// Asks before it raises its term (thesis, section 9.6).
    pub pre_vote: bool,
    /// A leader that has not heard from a quorum for an election timeout steps down, and members
    /// with a live leader refuse votes.
    pub check_quorum: bool,
    /// How reads are made linearizable.
    pub read_only: ReadOnly,
    /// Lets a leader answer reads by itself, on a clock that the driver reads; none: off. While it
    /// is on, every member refuses its vote for an election timeout after it last heard from any
    /// leader and after it was started.
    pub lease: Option<LeaseTerms>,
    /// Ticks that this member waits longer than others before it starts an election: who should
    /// rather not lead has a larger one.
    pub election_delay_ticks: u32,
    /// A leader that has given its disk something to write and got no receipt for an election
    /// timeout steps down: others may do better.
    pub step_down_on_stalled_disk: bool,
    /// A removed or demoted leader becomes a follower.
    pub step_down_on_removal: bool,
    /// A leader makes a voter of every learner that is caught up, one at a time: for groups in
    /// which nobody is to stay a learner.
    pub promote_learners: bool,
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
    /// sent even where it does not help; a pre-candidate keeps its timeout; the commit index is
    /// told by an empty append, which is answered, where [`crate::Body::Commit`] would do, and told
    /// at once each time it moves; who sends a proposal on is not told what became of it.
    pub etcd_quirks: bool,
}

impl Config {
    /// The defaults for member `id`: ten ticks of election timeout, one of heartbeat, PreVote and
    /// CheckQuorum on, all sizes bounded. `seed` is to differ for each start.
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
            lease: None,
            election_delay_ticks: 0,
            step_down_on_stalled_disk: true,
            step_down_on_removal: true,
            promote_learners: false,
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
            (
                "lease",
                self.lease
                    .is_none_or(|lease| lease.lasts() > Duration::ZERO),
                "drift_bound is less than election_timeout",
            ),
            (
                "lease",
                self.lease.is_none() || (self.check_quorum && !self.etcd_quirks),
                "leases need check_quorum, and no quirks",
            ),
        ];
        match rules.into_iter().find(|(_, holds, _)| !holds) {
            Some((name, _, reason)) => Err(ConfigError::Option { name, reason }),
            None => Ok(()),
        }
    }
}
