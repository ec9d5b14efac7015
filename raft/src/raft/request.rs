//! Snapshots that a follower asks for: its state is to be replaced though its log is sound.
//!
//! What it has acknowledged must outlive that, and the log goes when a snapshot takes its place.
//! So the snapshot has to reach the log's end: the leader sends none that does not, and as long as
//! it is waited for the log does not grow. What the follower then acknowledges it had acknowledged
//! before: the leader hears from the driver that the snapshot has arrived.

use std::collections::BTreeMap;

use super::Raft;
use crate::error::RequestSnapshotError;
use crate::message::Body;
use crate::observer::{Event, Observer};
use crate::storage::LogReader;
use crate::tracker::{NodeMap, Progress, ProgressState};
use crate::types::{LogId, LogIndex, NodeId, Role};

/// What this member wants, and what others want of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SnapshotRequests {
    /// This member waits for one.
    pub(crate) wanted: bool,
    /// A leader's: who asked, and up to where the snapshot has to go.
    asked: BTreeMap<NodeId, LogIndex>,
}

impl SnapshotRequests {
    /// Up to where a snapshot for `to` has to go, if it asked for one.
    #[inline]
    pub(super) fn least(&self, to: NodeId) -> Option<LogIndex> {
        if self.asked.is_empty() {
            return None;
        }
        self.asked.get(&to).copied()
    }

    pub(super) fn sent(&mut self, to: NodeId) {
        self.asked.remove(&to);
    }

    /// Another term: whoever still wants one asks again.
    pub(super) fn forget_others(&mut self) {
        self.asked.clear();
    }

    pub(super) fn retain_members(&mut self, members: &NodeMap<Progress>) {
        self.asked.retain(|id, _| members.contains_key(id));
    }

    /// Whether one that is asked for can be made since `applied` moved from `before`.
    #[inline]
    pub(super) fn can_be_met(&self, before: LogIndex, applied: LogIndex) -> bool {
        let mut asked = self.asked.values();
        !self.asked.is_empty() && asked.any(|least| *least > before && *least <= applied)
    }
}

impl<L: LogReader, O: Observer> Raft<L, O> {
    pub(crate) fn request_snapshot(&mut self) -> Result<(), RequestSnapshotError> {
        if self.role != Role::Follower {
            return Err(RequestSnapshotError::NotFollower);
        }
        if self.decides_alone() {
            return Err(RequestSnapshotError::Alone);
        }
        self.requests.wanted = true;
        if let Some(leader) = self.leader {
            self.ask_for_snapshot(leader);
        }
        Ok(())
    }

    /// The log may stop growing. Not before it has the leader's first entry: only with one of its
    /// own term a leader commits what is before (Raft paper, section 5.4.2), and it may depend on
    /// this member for that.
    #[inline]
    pub(super) fn awaits_snapshot(&self) -> bool {
        self.requests.wanted && self.log.last().term == self.term
    }

    /// Asked again with every message of a leader, until one is here.
    pub(super) fn ask_for_snapshot(&mut self, leader: NodeId) {
        if self.awaits_snapshot() {
            let last = self.log.last();
            self.send(leader, Body::WantSnapshot { last });
        }
    }

    /// Others had twice the time for an election of theirs: perhaps nobody but this member can
    /// lead, or it is alone by now.
    pub(super) fn give_up_request(&mut self) {
        let silence = self.config.election_ticks.saturating_mul(4);
        if self.election_elapsed >= silence {
            self.requests.wanted = false;
        }
    }

    /// A follower whose log ends at `last` wants its state replaced.
    pub(super) fn handle_want_snapshot(&mut self, from: NodeId, last: LogId) {
        let Some(progress) = self.tracker.progress.get(&from) else {
            return;
        };
        // It holds an entry of this very term, so the whole log is this one's.
        if progress.state == ProgressState::Snapshot || !self.log.matches(last) {
            return;
        }
        if self.requests.least(from).is_none() {
            let least = last.index.max(progress.match_index);
            self.observer
                .event(&Event::SnapshotRequested { from, least });
            self.requests.asked.insert(from, least);
        } else if self.waiting_for_snapshot.contains(&from) {
            return;
        }
        // Asked before, it was silent when there was one for it.
        self.maybe_send_snapshot(from);
    }
}
