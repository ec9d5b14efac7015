//! What a log holds: entries, and the records beside them.

use bytes::Bytes;

use crate::types::{LogId, LogIndex, NodeId, Term};

/// What an entry's payload means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// The application's own bytes; empty for the entry a new leader starts its term with.
    #[default]
    Normal,
    /// A [`ConfChange`] of exactly one step, without a joint phase (etcd's v1 encoding of it).
    ConfChangeSingle,
    /// A [`ConfChange`] of any shape; one without changes leaves a joint configuration.
    ConfChange,
}

/// One entry of a group's log. Cheap to clone: the payload is shared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Term and index.
    pub id: LogId,
    /// How to read `data`.
    pub kind: EntryKind,
    /// The payload.
    pub data: Bytes,
}

impl Entry {
    /// An entry with the application's bytes.
    #[must_use]
    pub const fn normal(id: LogId, data: Bytes) -> Self {
        Self {
            id,
            kind: EntryKind::Normal,
            data,
        }
    }

    /// Its index.
    #[must_use]
    pub const fn index(&self) -> LogIndex {
        self.id.index
    }

    /// Its term.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.id.term
    }
}

/// What a member must never forget (Raft paper, figure 2: persistent state), and how far it knows
/// the log to be committed (a hint: losing it is safe, so it alone needs no sync).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HardState {
    /// The latest term seen.
    pub term: Term,
    /// Who got this member's vote in `term`.
    pub vote: Option<NodeId>,
    /// The highest index known to be committed.
    pub commit: LogIndex,
}

/// Who takes part in a group. Each list is sorted and free of duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConfState {
    /// The (incoming) voters.
    pub voters: Vec<NodeId>,
    /// Members that receive the log and do not vote.
    pub learners: Vec<NodeId>,
    /// The outgoing half of a joint configuration; empty outside one.
    pub voters_outgoing: Vec<NodeId>,
    /// Outgoing voters that become learners when the joint configuration is left.
    pub learners_next: Vec<NodeId>,
    /// The leader leaves the joint configuration by itself.
    pub auto_leave: bool,
}

impl ConfState {
    /// Whether `id` has a part in it, as a voter of either half or as a learner.
    #[must_use]
    pub fn contains(&self, id: NodeId) -> bool {
        // Learners to be are outgoing voters still.
        [&self.voters, &self.learners, &self.voters_outgoing]
            .iter()
            .any(|list| list.contains(&id))
    }
}

/// What one step of a configuration change does to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConfChangeKind {
    /// Makes it a voter.
    AddVoter,
    /// Makes it a learner; a voter is demoted.
    AddLearner,
    /// Removes it.
    Remove,
    /// Changes only the context that travels with the entry (an address, say).
    Update,
}

/// One step of a configuration change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConfChangeStep {
    /// What to do.
    pub kind: ConfChangeKind,
    /// To whom. A step about [`NodeId::ZERO`] is ignored.
    pub node: NodeId,
}

/// How a change of several members passes through a joint configuration (thesis, section 4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConfChangeTransition {
    /// One step directly, several through a joint configuration that is left automatically.
    #[default]
    Auto,
    /// Always joint, left automatically.
    JointImplicit,
    /// Always joint, left by a proposal of an empty change.
    JointExplicit,
}

/// A change of the group's members. Without steps it leaves a joint configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConfChange {
    /// Whether and how to go through a joint configuration.
    pub transition: ConfChangeTransition,
    /// The steps, applied in order.
    pub steps: Vec<ConfChangeStep>,
    /// The application's bytes (the member table's record, say).
    pub context: Bytes,
}

/// What a snapshot stands for: the log's prefix up to `last`, and who was a member there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SnapshotMeta {
    /// The last entry that the snapshot covers.
    pub last: LogId,
    /// The configuration in force at `last`.
    pub conf_state: ConfState,
    /// The application's bytes that belong to the configuration (the member table).
    pub context: Bytes,
}
