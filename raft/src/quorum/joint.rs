//! A quorum of both halves of a joint configuration.

use std::collections::BTreeSet;
use std::fmt;

use super::{MajorityConfig, VoteResult};
use crate::types::{LogIndex, NodeId};

/// Two sets of voters that must both agree (thesis, section 4.3). Outside a joint configuration
/// `outgoing` is empty and agrees with everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JointConfig {
    /// The voters to come, or all voters outside a joint configuration.
    pub incoming: MajorityConfig,
    /// The voters that were.
    pub outgoing: MajorityConfig,
}

impl JointConfig {
    /// Both halves are in force.
    #[must_use]
    #[inline]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.0.is_empty()
    }

    /// Whether `node` votes in either half.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.incoming.0.contains(&node) || self.outgoing.0.contains(&node)
    }

    /// The voters of both halves, ascending, each once.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        BTreeSet::union(&self.incoming.0, &self.outgoing.0).copied()
    }

    /// The highest index that a quorum of each half holds; see
    /// [`MajorityConfig::committed_index`].
    #[must_use]
    #[inline]
    pub fn committed_index(&self, acked: impl Fn(NodeId) -> Option<LogIndex>) -> LogIndex {
        self.incoming
            .committed_index(&acked)
            .min(self.outgoing.committed_index(&acked))
    }

    /// Won when both halves are, lost as soon as one is.
    #[must_use]
    pub fn vote_result(&self, votes: impl Fn(NodeId) -> Option<bool>) -> VoteResult {
        match (
            self.incoming.vote_result(&votes),
            self.outgoing.vote_result(&votes),
        ) {
            (VoteResult::Won, VoteResult::Won) => VoteResult::Won,
            (VoteResult::Lost, _) | (_, VoteResult::Lost) => VoteResult::Lost,
            _ => VoteResult::Pending,
        }
    }
}

impl fmt::Display for JointConfig {
    /// `(1 2 3)`, or `(1 2 3)&&(1)` when joint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.incoming.fmt(f)?;
        if self.is_joint() {
            write!(f, "&&{}", self.outgoing)?;
        }
        Ok(())
    }
}
