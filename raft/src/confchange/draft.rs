//! A configuration being edited.

use super::ConfChangeError;
use crate::entry::{ConfChangeKind, ConfChangeStep};
use crate::tracker::{Config, Inflights, NodeMap, Progress, ProgressTracker};
use crate::types::{LogIndex, NodeId};

/// A copy of the configuration and the progress, open to changes until it is checked.
pub(super) struct Draft {
    pub(super) config: Config,
    pub(super) progress: NodeMap<Progress>,
    last_index: LogIndex,
    inflights: Inflights,
}

impl Draft {
    /// A copy of what `tracker` holds, which must be sound itself.
    pub(super) fn of(
        tracker: &ProgressTracker,
        last_index: LogIndex,
    ) -> Result<Self, ConfChangeError> {
        let draft = Self {
            config: tracker.config.clone(),
            progress: tracker.progress.clone(),
            last_index,
            inflights: tracker.inflights(),
        };
        draft.check()?;
        Ok(draft)
    }

    /// Makes the steps in order. They change the incoming half only.
    pub(super) fn apply(&mut self, steps: &[ConfChangeStep]) -> Result<(), ConfChangeError> {
        for step in steps {
            // etcd's way to say that an entry turned out not to be applicable.
            if step.node == NodeId::ZERO {
                continue;
            }
            match step.kind {
                ConfChangeKind::AddVoter => self.make_voter(step.node),
                ConfChangeKind::AddLearner => self.make_learner(step.node),
                ConfChangeKind::Remove => self.remove(step.node),
                ConfChangeKind::Update => {}
            }
        }
        if self.config.voters.incoming.0.is_empty() {
            return Err(ConfChangeError::RemovedAllVoters);
        }
        Ok(())
    }

    pub(super) fn make_voter(&mut self, id: NodeId) {
        self.track(id, false);
        self.config.learners.remove(&id);
        self.config.learners_next.remove(&id);
        self.config.voters.incoming.0.insert(id);
    }

    /// A voter keeps its progress. While it votes in the outgoing half it cannot be a learner
    /// yet: it becomes one when the joint configuration is left.
    fn make_learner(&mut self, id: NodeId) {
        self.config.voters.incoming.0.remove(&id);
        if self.config.voters.outgoing.0.contains(&id) {
            self.config.learners_next.insert(id);
        } else {
            self.track(id, true);
            self.config.learners.insert(id);
        }
    }

    fn remove(&mut self, id: NodeId) {
        self.config.voters.incoming.0.remove(&id);
        self.config.learners.remove(&id);
        self.config.learners_next.remove(&id);
        if !self.config.voters.outgoing.0.contains(&id) {
            self.progress.remove(&id);
        }
    }

    /// Ends the joint phase: demotions that waited for it happen, and who is in no list is
    /// forgotten.
    pub(super) fn leave_joint(&mut self) {
        for id in std::mem::take(&mut self.config.learners_next) {
            self.track(id, true);
            self.config.learners.insert(id);
        }
        for id in std::mem::take(&mut self.config.voters.outgoing.0) {
            if !self.config.voters.incoming.0.contains(&id) && !self.config.learners.contains(&id) {
                self.progress.remove(&id);
            }
        }
        self.config.auto_leave = false;
    }

    fn track(&mut self, id: NodeId, is_learner: bool) {
        let mut progress = self.progress_of(id);
        progress.is_learner = is_learner;
        self.progress.insert(id, progress);
    }

    /// The progress of `id`, made if it is new. A new member counts as active, or CheckQuorum
    /// could depose the leader before the member had any chance to answer.
    fn progress_of(&self, id: NodeId) -> Progress {
        self.progress.get(&id).cloned().unwrap_or_else(|| {
            let mut progress = Progress::new(self.last_index, self.inflights.clone());
            progress.recent_active = true;
            progress
        })
    }

    /// Gives the result if it is sound.
    pub(super) fn finish(self) -> Result<(Config, NodeMap<Progress>), ConfChangeError> {
        self.check()?;
        Ok((self.config, self.progress))
    }

    fn check(&self) -> Result<(), ConfChangeError> {
        let Config {
            voters,
            learners,
            learners_next,
            auto_leave,
        } = &self.config;
        for id in voters
            .ids()
            .chain(learners.iter().copied())
            .chain(learners_next.iter().copied())
        {
            if !self.progress.contains_key(&id) {
                return Err(ConfChangeError::NoProgress(id));
            }
        }
        let marked = |id: &NodeId| self.progress.get(id).is_some_and(|p| p.is_learner);
        for id in learners_next {
            if !voters.outgoing.0.contains(id) {
                return Err(ConfChangeError::LearnerNextNotOutgoing(*id));
            }
            if marked(id) {
                return Err(ConfChangeError::LearnerNextIsLearner(*id));
            }
        }
        for id in learners {
            if voters.outgoing.0.contains(id) {
                return Err(ConfChangeError::LearnerIsOutgoing(*id));
            }
            if voters.incoming.0.contains(id) {
                return Err(ConfChangeError::LearnerIsIncoming(*id));
            }
            if !marked(id) {
                return Err(ConfChangeError::LearnerNotMarked(*id));
            }
        }
        if !voters.is_joint() {
            if !learners_next.is_empty() {
                return Err(ConfChangeError::LearnersNextNotJoint);
            }
            if *auto_leave {
                return Err(ConfChangeError::AutoLeaveNotJoint);
            }
        }
        Ok(())
    }
}
