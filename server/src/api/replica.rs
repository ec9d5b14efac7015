//! What the services need of the runtime.

use bytes::Bytes;

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: u64,
    /// This member.
    pub member_id: u64,
}

/// How this member stands in its group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The term.
    pub term: u64,
    /// Who leads, as far as is known here; zero for nobody.
    pub leader: u64,
    /// The last index known to be committed.
    pub committed: u64,
    /// The last index applied here.
    pub applied: u64,
    /// This member receives the log and does not vote.
    pub is_learner: bool,
    /// What is wrong here, one sentence each, for people.
    pub errors: Vec<String>,
}

/// One member, as the replicated member table has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberRecord {
    /// Its id.
    pub id: u64,
    /// Its name; empty until it was started.
    pub name: String,
    /// Where peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it was started.
    pub client_urls: Vec<String>,
    /// It receives the log and does not vote.
    pub is_learner: bool,
}

/// One group's replica on this member.
#[tonic::async_trait]
pub trait Replica: Send + Sync + 'static {
    /// Who answers.
    fn identity(&self) -> Identity;

    /// The term, cheaply: every answer carries it.
    fn term(&self) -> u64;

    /// How this member stands now.
    fn standing(&self) -> Standing;

    /// Proposes a command, at whichever member leads, and returns what applying it answered.
    ///
    /// # Errors
    /// [`ReplicaError`]; whether it is done in spite of that is open after `Timeout`,
    /// `OutcomeUnknown`, `Stopped` and `Halted`.
    async fn propose(&self, command: Bytes) -> Result<Bytes, ReplicaError>;

    /// Returns once everything is applied here that was committed when the call began.
    ///
    /// # Errors
    /// [`ReplicaError`].
    async fn read_barrier(&self) -> Result<(), ReplicaError>;

    /// The member table as applied here, in order of id.
    fn members(&self) -> Vec<MemberRecord>;

    /// Adds a member and returns its record, with its new id.
    ///
    /// # Errors
    /// [`ReplicaError`].
    async fn add_member(
        &self,
        peer_urls: Vec<String>,
        is_learner: bool,
    ) -> Result<MemberRecord, ReplicaError>;

    /// Removes a member.
    ///
    /// # Errors
    /// [`ReplicaError`].
    async fn remove_member(&self, id: u64) -> Result<(), ReplicaError>;

    /// Gives a member other peer addresses.
    ///
    /// # Errors
    /// [`ReplicaError`].
    async fn update_member(&self, id: u64, peer_urls: Vec<String>) -> Result<(), ReplicaError>;

    /// Makes a learner a voter.
    ///
    /// # Errors
    /// [`ReplicaError`].
    async fn promote_member(&self, id: u64) -> Result<(), ReplicaError>;

    /// Hands leadership from this member to another.
    ///
    /// # Errors
    /// [`ReplicaError`].
    async fn transfer_leader(&self, to: u64) -> Result<(), ReplicaError>;
}

/// Why the group did not do it. Where the public API has a sentence for it, that is the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaError {
    /// Nobody leads: retry.
    #[error("etcdserver: no leader")]
    NoLeader,
    /// Only the leader can do this: ask there.
    #[error("etcdserver: not leader")]
    NotLeader,
    /// The leader changed before it was committed: not done, retry.
    #[error("etcdserver: leader changed")]
    LeaderChanged,
    /// Took too long. It may be done later, or not.
    #[error("etcdserver: request timed out")]
    Timeout,
    /// The leader is gone. It may have been done, or not.
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    OutcomeUnknown,
    /// Too much is waiting: retry later.
    #[error("etcdserver: too many requests")]
    Busy,
    /// The disk is full: reads are served, writes are not.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// The command exceeds what the group takes at once.
    #[error("etcdserver: request is too large")]
    TooLarge,
    /// This member is stopping.
    #[error("etcdserver: server stopped")]
    Stopped,
    /// This member's replica has halted for good: ask another one.
    #[error("raftwerk: this member has halted: {cause}")]
    Halted {
        /// Why, and what the operator can do.
        cause: String,
    },
    /// No member of that id.
    #[error("etcdserver: member not found")]
    MemberNotFound,
    /// A member has that peer address already.
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExists,
    /// The addresses are no addresses.
    #[error("etcdserver: given member URLs are invalid")]
    BadUrls,
    /// Only a learner can be promoted.
    #[error("etcdserver: can only promote a learner member")]
    NotLearner,
    /// The learner is too far behind to be promoted.
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// After the change too few members would be up.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// After the change members that are not heard of could stop the group.
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
    /// There is a learner already.
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    /// The group cannot change its members now.
    #[error("raftwerk: change of members refused: {reason}")]
    ChangeRefused {
        /// Why.
        reason: String,
    },
    /// Leadership cannot go there.
    #[error("etcdserver: bad leader transferee")]
    BadTransferee,
}
