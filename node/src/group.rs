//! The handle to one group.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use raftwerk_raft::{
    ConfChange, ConfChangeKind, ConfChangeStep, ConfChangeTransition, GroupId, LogId, LogIndex,
    NodeId, Term,
};

use crate::config::Limits;
use crate::envelope::Applied;
use crate::error::{ProposeError, ReadError, ReplaceError, SnapshotError, TransferError};
use crate::mailbox::{Full, Mailbox};
use crate::member::{Member, MemberTable};
use crate::oneshot::{Pending, pending};
use crate::run_loop::{Ask, Request};
use crate::status::{Events, GroupStatus, Shared, Until};

/// A handle to one group on this host. Cheap to clone; every call returns at once with a
/// [`Pending`] answer, a plain future. Nothing waits for ever: each answer comes within the ticks
/// that [`Limits`] gives it.
#[derive(Clone)]
pub struct Group {
    id: GroupId,
    mailbox: Arc<Mailbox>,
    shared: Arc<Shared>,
    limits: Limits,
}

impl Group {
    pub(crate) fn new(
        id: GroupId,
        mailbox: Arc<Mailbox>,
        shared: Arc<Shared>,
        limits: Limits,
    ) -> Self {
        Self {
            id,
            mailbox,
            shared,
            limits,
        }
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> GroupId {
        self.id
    }

    /// Proposes `data` and answers, once it is committed and applied on the leader, what the state
    /// machine responded. At a follower it is forwarded to the leader; with no leader it is held
    /// for a while. Never proposed twice: where its fate is not known the answer is
    /// [`ProposeError::Unknown`].
    pub fn propose(&self, data: impl Into<Bytes>) -> Pending<Applied, ProposeError> {
        let data = data.into();
        let max = self.limits.proposal_bytes_max;
        if data.len() > max {
            return Pending::ready(Err(ProposeError::TooLarge {
                bytes: data.len(),
                max,
            }));
        }
        let (answer, result) = pending();
        self.ask(Ask::Propose { data, answer });
        result
    }

    /// An index such that a state machine that has applied it shows every write acknowledged
    /// before this call. Answered when the state machine *here* has applied it: read it then.
    pub fn read_index(&self) -> Pending<LogIndex, ReadError> {
        let (answer, result) = pending();
        self.ask(Ask::Read { answer });
        result
    }

    /// Changes who is a member; answered when the change is applied on the leader. Where several
    /// members change at once, the joint configuration may still be in force then.
    pub fn change_membership(&self, change: MembershipChange) -> Pending<Applied, ProposeError> {
        let (answer, result) = pending();
        self.ask(Ask::Change {
            change: change.into_conf_change(),
            answer,
        });
        result
    }

    /// Hands leadership to `to`; answered when `to` is seen to lead.
    pub fn transfer_leader(&self, to: NodeId) -> Pending<(), TransferError> {
        let (answer, result) = pending();
        self.ask(Ask::Transfer { to, answer });
        result
    }

    /// Starts an election now, without waiting for the timeout. For tests and for the first start.
    pub fn campaign(&self) {
        self.ask(Ask::Campaign);
    }

    /// Takes a snapshot now; answers what it covers when it is durable.
    pub fn snapshot(&self) -> Pending<LogId, SnapshotError> {
        let (answer, result) = pending();
        self.ask(Ask::Snapshot { answer });
        result
    }

    /// Replaces this follower's state by a snapshot of the leader's though its log is sound, for a
    /// state that is not to be trusted; answered with what the snapshot covers when it is in place.
    /// Until it comes this member's log does not grow.
    pub fn replace_state(&self) -> Pending<LogId, ReplaceError> {
        let (answer, result) = pending();
        self.ask(Ask::Replace { answer });
        result
    }

    /// How it is. A copy of what the run loop last wrote: does not wait for it.
    #[must_use]
    pub fn status(&self) -> GroupStatus {
        self.shared.status()
    }

    /// The status as soon as `wanted` says yes to it, `None` when the group was stopped first. Says
    /// nothing of what the status was in between two looks.
    pub fn until(&self, wanted: impl Fn(&GroupStatus) -> bool + Send + 'static) -> Until {
        self.shared.until(wanted)
    }

    /// Who leads, as far as this member knows.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.shared.read(|status| status.leader)
    }

    /// Its term. Cheap.
    #[must_use]
    pub fn term(&self) -> Term {
        self.shared.read(|status| status.term)
    }

    /// The member table.
    #[must_use]
    pub fn members(&self) -> MemberTable {
        self.shared.read(|status| status.members.clone())
    }

    /// What happens to it from now on. Bounded: a slow subscriber loses the oldest events and is
    /// told how many.
    #[must_use]
    pub fn events(&self) -> Events {
        self.shared.subscribe()
    }

    fn ask(&self, ask: Ask) {
        if let Err((full, request)) = self.mailbox.request(Request {
            group: self.id,
            ask,
        }) {
            match full {
                Full::Busy => request.ask.refuse_busy(),
                Full::Stopped => request.ask.refuse_stopped(),
            }
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A change of a group's members. One step is made directly, several through a joint
/// configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MembershipChange {
    steps: Vec<ConfChangeStep>,
    members: MemberTable,
    transition: ConfChangeTransition,
}

impl MembershipChange {
    /// No change yet; as it is, it leaves a joint configuration.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `member` a voter.
    #[must_use]
    pub fn add_voter(self, member: Member) -> Self {
        self.with(ConfChangeKind::AddVoter, member)
    }

    /// Makes `member` a learner, who receives the log and has no vote.
    #[must_use]
    pub fn add_learner(self, member: Member) -> Self {
        self.with(ConfChangeKind::AddLearner, member)
    }

    /// Records new addresses, another name or a bound incarnation of a member.
    #[must_use]
    pub fn update(self, member: Member) -> Self {
        self.with(ConfChangeKind::Update, member)
    }

    /// Removes a member. Its id is never used again.
    #[must_use]
    pub fn remove(mut self, node: NodeId) -> Self {
        self.steps.push(ConfChangeStep {
            kind: ConfChangeKind::Remove,
            node,
        });
        self
    }

    /// Whether and how to pass through a joint configuration.
    #[must_use]
    pub const fn transition(mut self, transition: ConfChangeTransition) -> Self {
        self.transition = transition;
        self
    }

    fn with(mut self, kind: ConfChangeKind, member: Member) -> Self {
        self.steps.push(ConfChangeStep {
            kind,
            node: member.id,
        });
        self.members.insert(member);
        self
    }

    pub(crate) fn into_conf_change(self) -> ConfChange {
        let Self {
            steps,
            members,
            transition,
        } = self;
        let context = if members.is_empty() {
            Bytes::new()
        } else {
            members.encode()
        };
        ConfChange {
            transition,
            steps,
            context,
        }
    }
}
