//! Followers that need what the log no longer has (Raft paper, section 7).

use super::Raft;
use crate::confchange;
use crate::entry::SnapshotMeta;
use crate::message::{Body, MessageKind};
use crate::observer::{Event, Observer};
use crate::ready::SnapshotStatus;
use crate::storage::LogReader;
use crate::tracker::ProgressState;
use crate::types::{LogIndex, NodeId, Role};

impl<L: LogReader, O: Observer> Raft<L, O> {
    /// The newest snapshot, if the log goes on where it ends and `to` has a part in it: who has
    /// none would refuse it.
    fn snapshot_for(&self, to: NodeId) -> Option<&SnapshotMeta> {
        let least = self.requests.least(to).unwrap_or(LogIndex::ZERO);
        let usable = |snapshot: &&SnapshotMeta| {
            let last = snapshot.last.index;
            let reaches = last.next() >= self.log.first_index() && last >= least;
            (reaches && snapshot.conf_state.contains(to)) || self.config.etcd_quirks
        };
        self.snapshot.as_ref().filter(usable)
    }

    /// Sends `to` a snapshot if there is one and somebody there to take it.
    pub(super) fn maybe_send_snapshot(&mut self, to: NodeId) -> bool {
        let snapshot = self.snapshot_for(to).cloned();
        let Some(progress) = self.tracker.progress.get_mut(&to) else {
            return false;
        };
        if !progress.recent_active {
            self.observer.event(&Event::SnapshotToInactive { to });
            return false;
        }
        let Some(meta) = snapshot else {
            self.observer.event(&Event::SnapshotUnavailable { to });
            self.waiting_for_snapshot.insert(to);
            // One that has to cover more than is applied cannot be made yet.
            let least = self.requests.least(to);
            self.snapshot_wanted |= least.is_none_or(|least| least <= self.log.applied);
            return false;
        };
        self.observer.event(&Event::SnapshotSent {
            to,
            first: self.log.first_index(),
            commit: self.log.committed,
            snapshot: meta.last,
            progress,
        });
        progress.become_snapshot(meta.last.index);
        self.requests.sent(to);
        self.observer
            .event(&Event::ReplicationPaused { to, progress });
        let meta = Box::new(meta);
        self.send(to, Body::Snapshot { meta });
        true
    }

    /// A newer snapshot may be sent: those who wait for one get it.
    pub(crate) fn snapshot_available(&mut self, meta: SnapshotMeta) {
        let newest = self
            .snapshot
            .as_ref()
            .map_or(LogIndex::ZERO, |snapshot| snapshot.last.index);
        if meta.last.index <= newest || meta.last.index > self.log.committed {
            return;
        }
        self.snapshot = Some(meta);
        for to in std::mem::take(&mut self.waiting_for_snapshot) {
            self.maybe_send_append(to, false);
        }
    }

    /// How sending a snapshot ended.
    pub(crate) fn report_snapshot(&mut self, to: NodeId, status: SnapshotStatus) {
        if self.role != Role::Leader {
            return;
        }
        let Some(progress) = self.tracker.progress.get_mut(&to) else {
            self.observer.event(&Event::NoProgress { from: to });
            return;
        };
        if progress.state != ProgressState::Snapshot {
            return;
        }
        let finished = status == SnapshotStatus::Finished;
        if !finished {
            // Before the probing begins, or it would begin behind what never arrived.
            progress.pending_snapshot = LogIndex::ZERO;
        }
        progress.become_probe();
        self.observer.event(&Event::SnapshotReported {
            to,
            finished,
            progress,
        });
        // Nothing more until the follower acknowledges it, or answers a heartbeat.
        progress.msg_app_flow_paused = true;
    }

    pub(super) fn handle_snapshot(&mut self, from: NodeId, meta: SnapshotMeta) {
        let snapshot = meta.last;
        let index = if self.restore(from, meta) {
            self.log.last_index()
        } else {
            let commit = self.log.committed;
            self.observer
                .event(&Event::SnapshotIgnored { commit, snapshot });
            commit
        };
        self.send(
            from,
            Body::AppendResponse {
                index,
                reject: None,
            },
        );
    }

    /// Replaces the log and the configuration by a snapshot's, unless the log has all of it.
    fn restore(&mut self, from: NodeId, meta: SnapshotMeta) -> bool {
        let snapshot = meta.last;
        // What replaces the whole log loses nothing that was acknowledged.
        let wanted = self.requests.wanted && snapshot.index >= self.log.last_index();
        if snapshot.index <= self.log.committed && !wanted {
            return false;
        }
        let state = &meta.conf_state;
        if !state.contains(self.config.id) {
            self.observer
                .event(&Event::SnapshotForeign { conf_state: state });
            return false;
        }
        if self.log.matches(snapshot) && !wanted {
            // Whatever follows in this log may be newer than the snapshot: it stays.
            let (commit, last) = (self.log.committed, self.log.last());
            self.observer.event(&Event::SnapshotFastForwarded {
                commit,
                last,
                snapshot,
            });
            self.log.commit_to(snapshot.index);
            return false;
        }
        let Ok((config, progress)) = confchange::restore(&self.tracker, snapshot.index, state)
        else {
            self.refuse(
                from,
                MessageKind::Snapshot,
                "configuration contradicts itself",
            );
            return false;
        };
        self.requests.wanted = false;
        self.begin_refill(snapshot.index);
        self.log.restore(meta, &mut self.observer);
        self.cold.forget_apply();
        self.conf_restored_at = snapshot.index;
        self.tracker.reset_votes();
        self.switch_to(config, progress);
        let (commit, last) = (self.log.committed, self.log.last());
        self.observer.event(&Event::SnapshotRestored {
            commit,
            last,
            snapshot,
        });
        true
    }
}
