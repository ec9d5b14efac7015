//! Handing leadership over on purpose (thesis, section 3.10).

use super::Raft;
use crate::message::{Body, MessageKind, Standing};
use crate::observer::{Event, Observer};
use crate::storage::LogReader;
use crate::types::{NodeId, Role};

impl<L: LogReader, O: Observer> Raft<L, O> {
    pub(super) const fn abort_transfer(&mut self) {
        self.transferee = None;
    }

    /// Somebody wants `to` to lead.
    pub(crate) fn transfer(&mut self, to: NodeId) {
        match (self.role, self.leader) {
            (Role::Leader, _) => self.transfer_as_leader(to),
            (Role::Follower, Some(leader)) => self.send(leader, Body::TransferLeader { to }),
            (Role::Follower, None) => self.drop_for_no_leader(MessageKind::TransferLeader),
            _ => {}
        }
    }

    fn transfer_as_leader(&mut self, to: NodeId) {
        let (term, last) = (self.term, self.log.last_index());
        let Some(progress) = self.tracker.progress.get(&to) else {
            self.observer.event(&Event::NoProgress { from: to });
            return;
        };
        if progress.is_learner {
            self.observer.event(&Event::TransferToLearner);
            return;
        }
        if progress.standing != Standing::Sound {
            self.observer.event(&Event::TransferToVoteless { to });
            return;
        }
        let caught_up = progress.match_index == last;
        if let Some(current) = self.transferee {
            if current == to {
                self.observer.event(&Event::TransferRunning { to, term });
                return;
            }
            self.abort_transfer();
            self.observer
                .event(&Event::TransferReplaced { to: current, term });
        }
        if to == self.config.id {
            self.observer.event(&Event::TransferToSelf);
            return;
        }
        self.observer.event(&Event::TransferStarted { to, term });
        // It has one election timeout from now on.
        self.transfer_elapsed = 0;
        if self.config.etcd_quirks {
            // Which also puts off CheckQuorum, for as long as somebody keeps asking.
            self.election_elapsed = 0;
        }
        self.transferee = Some(to);
        if caught_up {
            self.give_lease_away();
            self.send(to, Body::TimeoutNow);
            self.observer.event(&Event::TimeoutNowSent {
                to,
                after_catching_up: false,
            });
        } else {
            self.maybe_send_append(to, true);
        }
    }

    /// The heir has the whole log: it may start.
    #[inline]
    pub(super) fn maybe_finish_transfer(&mut self, from: NodeId) {
        if self.transferee.is_none() {
            return;
        }
        let last = self.log.last_index();
        let caught_up = self
            .tracker
            .progress
            .get(&from)
            .is_some_and(|progress| progress.match_index == last);
        if self.transferee == Some(from) && caught_up {
            self.give_lease_away();
            self.observer.event(&Event::TimeoutNowSent {
                to: from,
                after_catching_up: true,
            });
            self.send(from, Body::TimeoutNow);
        }
    }
}
