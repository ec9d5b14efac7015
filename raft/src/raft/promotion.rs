//! Learners that become voters once they are caught up (thesis, section 4.2.1): a learner is when
//! it takes all that the leader had at the beginning of a round within an election timeout.

use std::collections::BTreeMap;

use super::Raft;
use crate::entry::{ConfChange, ConfChangeKind, ConfChangeStep};
use crate::message::Standing;
use crate::observer::{Event, Observer};
use crate::storage::LogReader;
use crate::tracker::ProgressState;
use crate::types::{LogIndex, NodeId};

/// What a learner has to take, and for how many ticks it has been at it.
#[derive(Clone, Copy, Debug)]
struct Round {
    goal: LogIndex,
    ticks: u32,
}

/// A leader's learners on their way.
#[derive(Clone, Debug, Default)]
pub(super) struct Promotions {
    rounds: BTreeMap<NodeId, Round>,
}

impl Promotions {
    pub(super) fn clear(&mut self) {
        self.rounds.clear();
    }
}

impl<L: LogReader, O: Observer> Raft<L, O> {
    /// One tick of a leader: looks how far its learners are, and makes the first that is caught up
    /// a voter.
    pub(super) fn promote_learner(&mut self) {
        if !self.config.promote_learners {
            return;
        }
        let (last, max) = (self.log.last_index(), self.config.election_ticks);
        let rounds = &mut self.promotions.rounds;
        rounds.retain(|id, _| self.tracker.config.learners.contains(id));
        let mut caught_up = None;
        for id in &self.tracker.config.learners {
            let Some(progress) = self.tracker.progress.get(id) else {
                continue;
            };
            let begin = Round {
                goal: last,
                ticks: 0,
            };
            let round = rounds.entry(*id).or_insert(begin);
            round.ticks = round.ticks.saturating_add(1);
            let keeps_up = progress.state == ProgressState::Replicate && progress.recent_active;
            // As a voter it would only make the quorum larger.
            let votes = progress.standing == Standing::Sound;
            if progress.match_index < round.goal || !keeps_up || !votes {
                continue;
            }
            if round.ticks < max {
                caught_up = caught_up.or(Some(*id));
            } else {
                *round = begin;
            }
        }
        if let Some(id) = caught_up {
            self.promote(id);
        }
    }

    /// Proposes it as anybody's change: one at a time, and none while leadership is handed over.
    fn promote(&mut self, id: NodeId) {
        let pending = self.pending_conf_index > self.log.applied;
        let joint = self.tracker.config.voters.is_joint();
        if pending || joint || self.transferee.is_some() || !self.committed_in_term() {
            return;
        }
        let step = ConfChangeStep {
            kind: ConfChangeKind::AddVoter,
            node: id,
        };
        let change = ConfChange {
            steps: vec![step],
            ..ConfChange::default()
        };
        // Refused only for its size: the next tick tries again.
        if self.propose_conf_change(&change).is_ok() {
            self.observer.event(&Event::LearnerPromoted { id });
        }
    }
}
