//! What the handles and the transport are told of the group.

use raftwerk_raft::tracker::ProgressState;
use raftwerk_raft::{LogId, Role};

use super::Driver;
use crate::run_loop::Effect;
use crate::run_loop::membership::Conf;
use crate::status::{GroupEvent, Health, PeerStatus};

impl Driver {
    /// How far the others are, if this member leads.
    pub(super) fn peers(&self) -> Vec<PeerStatus> {
        if self.node.role() != Role::Leader {
            return Vec::new();
        }
        let progress = self.node.status().progress.into_iter();
        let others = progress.filter(|(id, _)| *id != self.host);
        others
            .map(|(id, progress)| PeerStatus {
                id,
                matched: progress.match_index,
                learner: progress.is_learner,
                active: progress.recent_active,
                snapshot: (progress.state == ProgressState::Snapshot)
                    .then_some(progress.pending_snapshot),
            })
            .collect()
    }

    /// Tells the handles and the transport of the configuration in force.
    pub(super) fn publish(&self, out: &mut Vec<Effect>) {
        let Conf {
            conf_state,
            members,
            ..
        } = self.membership.current();
        self.shared.update(|status| {
            status.conf_state = conf_state.clone();
            status.members = members.clone();
        });
        self.shared.tell(&GroupEvent::Membership {
            conf_state: conf_state.clone(),
        });
        out.push(Effect::Members {
            group: self.group,
            members: members.clone(),
        });
    }

    /// The group begins. One without members has not heard of them yet, and keeps its contacts.
    pub(crate) fn begin(&self, out: &mut Vec<Effect>) {
        if !self.membership.current().members.is_empty() {
            self.publish(out);
        }
    }

    /// Tells the handles whether the log has room.
    pub(crate) fn log_full(&self, full: bool) {
        self.shared.update(|status| status.log_full = full);
    }

    /// Writes down how the group is, for its handles.
    pub(crate) fn refresh(&mut self) {
        // Asking costs the log's lock.
        let ends = std::mem::take(&mut self.log_moved).then(|| (self.log.first(), self.log.last()));
        let snapshot = self.snapshots.newest();
        self.shared.update(|status| {
            status.group = self.group;
            status.node = self.host;
            status.term = self.node.term();
            status.commit = self.hard_state.commit;
            status.loss = self.node.loss();
            status.voteless = self.node.voteless();
            status.applied = self.applied;
            if let Some((first, last)) = ends {
                (status.first, status.last) = (first, last);
            }
            status.snapshot = (snapshot != LogId::ZERO).then_some(snapshot);
            status.pending = self.proposals.len() + self.reads.len();
            if self.halted.is_none() && !self.ended {
                status.role = self.node.role();
                status.leader = self.node.leader();
                status.health = if self.installing {
                    Health::Installing
                } else {
                    Health::Running
                };
            }
        });
    }
}
