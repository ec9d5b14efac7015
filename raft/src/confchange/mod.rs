//! How a configuration becomes the next one (thesis, section 4). Nothing here changes a tracker:
//! each step gives the new configuration and progress, or an error and nothing.

mod changer;
mod draft;
mod restore;

pub use changer::Changer;
pub use restore::restore;

use crate::entry::{ConfChange, ConfChangeTransition};
use crate::types::NodeId;

/// Why a configuration change cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfChangeError {
    /// A simple change, asked for in a joint configuration: leave that first.
    #[error("can't apply simple config change in joint config")]
    SimpleInJoint,
    /// A simple change that moves more than one voter: two quorums could miss each other.
    #[error("more than one voter changed without entering joint config")]
    MoreThanOneVoter,
    /// Nobody would be left to vote.
    #[error("removed all voters")]
    RemovedAllVoters,
    /// Leave the joint configuration before entering another.
    #[error("config is already joint")]
    AlreadyJoint,
    /// There is no configuration to start from.
    #[error("can't make a zero-voter config joint")]
    ZeroVoters,
    /// There is nothing to leave.
    #[error("can't leave a non-joint config")]
    NotJoint,
    /// A member without progress.
    #[error("no progress for {0}")]
    NoProgress(NodeId),
    /// A learner to be that is no outgoing voter.
    #[error("{0} is in LearnersNext, but not Voters[1]")]
    LearnerNextNotOutgoing(NodeId),
    /// A learner to be that is one already.
    #[error("{0} is in LearnersNext, but is already marked as learner")]
    LearnerNextIsLearner(NodeId),
    /// A learner that votes in the outgoing half.
    #[error("{0} is in Learners and Voters[1]")]
    LearnerIsOutgoing(NodeId),
    /// A learner that votes in the incoming half.
    #[error("{0} is in Learners and Voters[0]")]
    LearnerIsIncoming(NodeId),
    /// A learner whose progress says that it votes.
    #[error("{0} is in Learners, but is not marked as learner")]
    LearnerNotMarked(NodeId),
    /// Learners to be outside a joint configuration.
    #[error("cfg.LearnersNext must be nil when not joint")]
    LearnersNextNotJoint,
    /// Automatic leaving outside a joint configuration.
    #[error("AutoLeave must be false when not joint")]
    AutoLeaveNotJoint,
    /// A stored configuration that no sequence of changes leads to: a list that is unsorted or
    /// has duplicates, a member in two lists that exclude each other, the id zero.
    #[error("stored configuration contradicts itself")]
    Unreachable,
}

impl ConfChange {
    /// Whether this leaves a joint configuration: it has no steps and asks for no transition. The
    /// context does not matter.
    #[must_use]
    pub fn leave_joint(&self) -> bool {
        self.transition == ConfChangeTransition::Auto && self.steps.is_empty()
    }

    /// Whether this enters a joint configuration, and if so, whether the leader leaves that by
    /// itself. One step without a transition asked for goes the simple way: `None`.
    #[must_use]
    pub fn enter_joint(&self) -> Option<bool> {
        match self.transition {
            ConfChangeTransition::Auto if self.steps.len() <= 1 => None,
            ConfChangeTransition::Auto | ConfChangeTransition::JointImplicit => Some(true),
            ConfChangeTransition::JointExplicit => Some(false),
        }
    }
}
