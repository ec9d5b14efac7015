//! What a leader tracks: the configuration in force, each member's progress, the votes.

mod inflights;
mod nodes;
mod progress;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use inflights::Inflights;
pub use nodes::NodeMap;
pub use progress::{Progress, ProgressState};

use crate::entry::ConfState;
use crate::quorum::{JointConfig, MajorityConfig, VoteResult, held_by_quorum};
use crate::types::{LogIndex, NodeId};

/// The configuration in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Who votes.
    pub voters: JointConfig,
    /// Who receives the log and does not vote. Disjoint from both halves of the voters.
    pub learners: BTreeSet<NodeId>,
    /// Outgoing voters that become learners when the joint configuration is left: until then
    /// they vote, so they cannot stand in `learners`.
    pub learners_next: BTreeSet<NodeId>,
    /// The leader leaves the joint configuration by itself.
    pub auto_leave: bool,
}

impl Config {
    /// The configuration as it is stored: each list sorted.
    #[must_use]
    pub fn conf_state(&self) -> ConfState {
        let list = |set: &BTreeSet<NodeId>| set.iter().copied().collect();
        ConfState {
            voters: list(&self.voters.incoming.0),
            learners: list(&self.learners),
            voters_outgoing: list(&self.voters.outgoing.0),
            learners_next: list(&self.learners_next),
            auto_leave: self.auto_leave,
        }
    }
}

impl fmt::Display for Config {
    /// `voters=(2)&&(1) learners=(4) learners_next=(1) autoleave`, without what is empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "voters={}", self.voters)?;
        if !self.learners.is_empty() {
            write!(f, " learners={}", MajorityConfig(self.learners.clone()))?;
        }
        if !self.learners_next.is_empty() {
            write!(
                f,
                " learners_next={}",
                MajorityConfig(self.learners_next.clone())
            )?;
        }
        if self.auto_leave {
            f.write_str(" autoleave")?;
        }
        Ok(())
    }
}

/// The configuration, and what is known of each member in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgressTracker {
    /// The configuration in force.
    pub config: Config,
    /// Every voter of either half and every learner.
    pub progress: NodeMap<Progress>,
    /// The votes of the running election.
    pub votes: BTreeMap<NodeId, bool>,
    /// Append messages in flight to one member.
    pub max_inflight: usize,
    /// Payload bytes in flight to one member; zero for no limit.
    pub max_inflight_bytes: u64,
}

impl ProgressTracker {
    /// A tracker without members.
    #[must_use]
    pub fn new(max_inflight: usize, max_inflight_bytes: u64) -> Self {
        Self {
            max_inflight,
            max_inflight_bytes,
            ..Self::default()
        }
    }

    /// An empty window of this tracker's limits.
    #[must_use]
    pub const fn inflights(&self) -> Inflights {
        Inflights::new(self.max_inflight, self.max_inflight_bytes)
    }

    /// The configuration as it is stored.
    #[must_use]
    pub fn conf_state(&self) -> ConfState {
        self.config.conf_state()
    }

    /// A single voter decides alone.
    #[must_use]
    pub fn is_singleton(&self) -> bool {
        self.config.voters.incoming.0.len() == 1 && !self.config.voters.is_joint()
    }

    /// The highest index that a quorum has acknowledged whose answers count;
    /// [`LogIndex::MAX`] without voters.
    #[must_use]
    #[inline]
    pub fn committed(&self) -> LogIndex {
        let members = self.progress.len();
        if !self.config.voters.is_joint() && self.config.voters.incoming.0.len() == members {
            // All members vote, and all at once: nobody has to be looked for.
            let acked = self.progress.values();
            return held_by_quorum(members, acked.map(|p| p.counts().then_some(p.match_index)));
        }
        let counted = |id: NodeId| self.progress.get(&id).filter(|p| p.counts());
        let voters = &self.config.voters;
        voters.committed_index(|id| counted(id).map(|p| p.match_index))
    }

    /// A quorum of voters whose answers count was heard from lately.
    #[must_use]
    pub fn quorum_active(&self) -> bool {
        let active = |id| {
            self.voter_progress(id)
                .map(|p| p.recent_active && p.counts())
        };
        self.config.voters.vote_result(active) == VoteResult::Won
    }

    /// Forgets the votes, for a new election.
    pub fn reset_votes(&mut self) {
        self.votes.clear();
    }

    /// Takes a vote. The first one of each member counts.
    pub fn record_vote(&mut self, id: NodeId, granted: bool) {
        self.votes.entry(id).or_insert(granted);
    }

    /// How many granted, how many refused, and how the election stands. Votes of those who have
    /// no vote (learners, removed members) are not counted.
    #[must_use]
    pub fn tally_votes(&self) -> (usize, usize, VoteResult) {
        let (mut granted, mut rejected) = (0, 0);
        for (id, vote) in &self.votes {
            if self.voter_progress(*id).is_some() {
                *(if *vote { &mut granted } else { &mut rejected }) += 1;
            }
        }
        let result = self
            .config
            .voters
            .vote_result(|id| self.votes.get(&id).copied());
        (granted, rejected, result)
    }

    /// The voters of both halves, ascending.
    #[must_use]
    pub fn voter_nodes(&self) -> Vec<NodeId> {
        self.config.voters.ids().collect()
    }

    /// The learners, ascending.
    #[must_use]
    pub fn learner_nodes(&self) -> Vec<NodeId> {
        self.config.learners.iter().copied().collect()
    }

    fn voter_progress(&self, id: NodeId) -> Option<&Progress> {
        self.progress.get(&id).filter(|p| !p.is_learner)
    }
}
