//! How entries get to everybody and when they are committed (Raft paper, sections 5.3 and 5.4).

use std::mem;

use super::Raft;
use crate::entries::Entries;
use crate::entry::{Entry, EntryKind};
use crate::error::{ProposeError, StepError};
use crate::message::{Body, MessageKind};
use crate::observer::{Event, Observer};
use crate::ready::Proposed;
use crate::storage::{LogError, LogReader};
use crate::tracker::ProgressState;
use crate::types::{ForwardMark, LogId, LogIndex, NodeId, Role, Term};

impl<L: LogReader, O: Observer> Raft<L, O> {
    /// Takes proposals, or sends them on to the leader, and tells what became of them.
    pub(crate) fn propose(
        &mut self,
        from: NodeId,
        mark: ForwardMark,
        entries: Entries,
    ) -> Result<Proposed, ProposeError> {
        let count = entries.len();
        let result = self.take_proposals(from, mark, entries);
        self.tell_proposed(from, count, &result);
        result
    }

    fn take_proposals(
        &mut self,
        from: NodeId,
        mark: ForwardMark,
        mut entries: Entries,
    ) -> Result<Proposed, ProposeError> {
        if entries.is_empty() {
            return Err(ProposeError::Invalid {
                reason: "there is nothing in it",
            });
        }
        match (self.role, self.leader) {
            (Role::Leader, _) => {}
            (Role::Follower, Some(leader)) => {
                if entries.iter().any(|entry| entry.id != LogId::ZERO) {
                    let own = entries.iter().cloned().map(|entry| Entry {
                        id: LogId::ZERO,
                        ..entry
                    });
                    entries = own.collect();
                }
                self.forward(from, leader, Body::Propose { mark, entries });
                return Ok(Proposed::Forwarded { to: leader, mark });
            }
            _ => {
                self.drop_for_no_leader(MessageKind::Propose);
                return Err(ProposeError::NoLeader);
            }
        }
        if !self.log.has_room(entries.len()) {
            return Err(ProposeError::Invalid {
                reason: "the log's indexes are used up",
            });
        }
        let is_member = self.tracker.progress.contains_key(&self.config.id);
        if !is_member && !self.must_leave_joint(&entries) {
            return Err(ProposeError::NotMember);
        }
        if let Some(to) = self.transferee {
            let term = self.term;
            self.observer.event(&Event::ProposalInTransfer { to, term });
            return Err(ProposeError::Transferring);
        }
        let before = self.pending_conf_index;
        let appended = self
            .check_conf_changes(&mut entries)
            .and_then(|()| self.append_own(entries).ok_or(ProposeError::Busy));
        if appended.is_err() {
            self.pending_conf_index = before;
        }
        let last = appended?;
        self.broadcast_append();
        Ok(Proposed::Appended(last))
    }

    /// Checks each configuration change against what is in force and what is on its way.
    #[inline]
    fn check_conf_changes(&mut self, entries: &mut Entries) -> Result<(), ProposeError> {
        if !entries.may_change_conf() {
            return Ok(());
        }
        let mut index = self.log.last_index();
        let mut refused = Vec::new();
        for (place, entry) in entries.iter().enumerate() {
            index = index.next();
            if entry.kind == EntryKind::Normal {
                continue;
            }
            match self.check_conf_change(entry) {
                Ok(()) => self.pending_conf_index = index,
                // etcd lets an empty entry take the place of a change that it refuses.
                Err(ProposeError::ConfChange { .. } | ProposeError::ChangePending { .. })
                    if self.config.etcd_quirks =>
                {
                    refused.push(place);
                }
                Err(error) => return Err(error),
            }
        }
        if !refused.is_empty() {
            let kept = entries.iter().enumerate().map(|(place, entry)| {
                let gone = refused.contains(&place);
                if gone {
                    Entry::default()
                } else {
                    entry.clone()
                }
            });
            *entries = kept.collect();
        }
        Ok(())
    }

    /// Appends entries of this leader's own term; none if that exceeded what may be uncommitted.
    pub(super) fn append_own(&mut self, mut entries: Entries) -> Option<LogId> {
        let bytes = entries.payload_bytes();
        let total = self.uncommitted_bytes.saturating_add(bytes);
        let max = self.config.max_uncommitted_size;
        // One of any size goes through when there is no other, and one without payload always:
        // leaving a joint configuration must not depend on how much is going on.
        if max > 0 && self.uncommitted_bytes > 0 && bytes > 0 && total > max {
            self.observer.event(&Event::UncommittedFull);
            return None;
        }
        self.uncommitted_bytes = total;
        let last = entries.number(self.term, self.log.last());
        self.log.append(entries, &mut self.observer);
        // Otherwise the receipt says it: see `persisted`.
        if self.config.etcd_quirks {
            self.send(
                self.config.id,
                Body::AppendResponse {
                    index: last.index,
                    reject: None,
                },
            );
        }
        Some(last)
    }

    /// Who stands at `place` among the members, if it is another one.
    pub(super) fn other(&self, place: usize) -> Option<NodeId> {
        let id = self.tracker.progress.id_at(place);
        id.filter(|id| *id != self.config.id)
    }

    /// Sends everybody what is missing, or at least the commit index.
    pub(super) fn broadcast_append(&mut self) {
        for place in 0..self.tracker.progress.len() {
            if let Some(id) = self.other(place) {
                self.maybe_send_append(id, true);
            }
        }
    }

    /// The commit index moved: everybody is told. Not before the next `Ready`: who has acknowledged
    /// everything by then is told by less, and once for all that was committed until then.
    fn broadcast_commit(&mut self) {
        if self.config.etcd_quirks {
            self.broadcast_append();
        } else {
            self.commit_untold = true;
        }
    }

    /// Tells what [`Raft::broadcast_commit`] has put off, and sends what is missing.
    #[inline]
    pub(crate) fn tell_committed(&mut self) {
        if !mem::take(&mut self.commit_untold) {
            return;
        }
        for place in 0..self.tracker.progress.len() {
            let Some(id) = self.other(place) else {
                continue;
            };
            let (last, commit) = (self.log.last_index(), self.log.committed);
            let Some(progress) = self.tracker.progress.get(&id) else {
                continue;
            };
            // Entries that left in the meantime have told it as well.
            let untold = progress.sent_commit < commit;
            let lacks = progress.next <= last || self.requests.least(id).is_some();
            if lacks || untold {
                self.maybe_send_append(id, untold);
            }
        }
    }

    /// Sends everybody entries that are missing.
    pub(super) fn broadcast_missing(&mut self) {
        for place in 0..self.tracker.progress.len() {
            if let Some(id) = self.other(place) {
                self.maybe_send_append(id, false);
            }
        }
    }

    /// Sends `to` what is missing there, as far as the limits let it. Says whether a message left.
    pub(super) fn maybe_send_append(&mut self, to: NodeId, send_if_empty: bool) -> bool {
        let Some(progress) = self.tracker.progress.get(&to) else {
            return false;
        };
        if self.requests.least(to).is_some() {
            return self.maybe_send_snapshot(to);
        }
        if progress.is_paused() || self.cold.is_reading_for(to) {
            return false;
        }
        let next = progress.next;
        // With the window full only empty messages leave: were all that fill it lost, nothing
        // else would ever be acknowledged or refused.
        let full = progress.state == ProgressState::Replicate && progress.inflights.is_full();
        if next > self.log.last_index() {
            if !send_if_empty {
                return false;
            }
            if self.tell_commit_index(to) {
                return true;
            }
        }
        let Ok(term) = self.log.term(next.prev()) else {
            return self.maybe_send_snapshot(to);
        };
        let entries = match if full {
            Ok(Entries::new())
        } else {
            self.entries_for(to, next)
        } {
            Ok(entries) => entries,
            Err(LogError::Cold) => {
                let range = next..self.log.last_index().next();
                self.cold
                    .read_for_peer(to, range, self.config.max_size_per_msg);
                return false;
            }
            Err(_) => return self.maybe_send_snapshot(to),
        };
        if entries.is_empty() && !send_if_empty {
            return false;
        }
        let (count, bytes) = (entries.len() as u64, entries.payload_bytes());
        let (prev, commit) = (LogId::new(term, next.prev()), self.log.committed);
        self.send(
            to,
            Body::Append {
                prev,
                commit,
                entries,
            },
        );
        if let Some(progress) = self.tracker.progress.get_mut(&to) {
            progress.sent_entries(count, bytes);
            progress.set_sent_commit(commit);
        }
        true
    }

    /// Tells `to` what is committed, if it has acknowledged all that was sent to it: an empty
    /// append, and its answer, would say nothing more.
    fn tell_commit_index(&mut self, to: NodeId) -> bool {
        let commit = self.log.committed;
        let Some(progress) = self.tracker.progress.get_mut(&to) else {
            return false;
        };
        let holds_all = progress.state == ProgressState::Replicate
            && progress.match_index.next() == progress.next
            && commit <= progress.match_index;
        if self.config.etcd_quirks || !holds_all {
            return false;
        }
        progress.set_sent_commit(commit);
        self.send(to, Body::Commit { index: commit });
        true
    }

    #[inline]
    fn entries_for(&mut self, to: NodeId, next: LogIndex) -> Result<Entries, LogError> {
        let max = self.config.max_size_per_msg;
        if let Some(entries) = self.cold.take_for_peer(to) {
            let entries = self.log.verify_read(entries, next, max);
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        self.log.slice(next, self.log.last_index().next(), max)
    }

    pub(super) fn broadcast_heartbeat(&mut self) {
        self.begin_lease_round();
        self.reads.begin_round();
        let read_position = match self.config.lease {
            Some(_) => self.reads.newest_position(),
            None => self.reads.last_position(),
        };
        for place in 0..self.tracker.progress.len() {
            let Some(to) = self.other(place) else {
                continue;
            };
            let Some(progress) = self.tracker.progress.get_mut(&to) else {
                continue;
            };
            // Never beyond what the follower is known to hold: it might hold something else.
            let commit = progress.match_index.min(self.log.committed);
            progress.set_sent_commit(commit);
            self.send(
                to,
                Body::Heartbeat {
                    commit,
                    read_position,
                },
            );
        }
    }

    /// Commits what a quorum holds, if the last of it is of this term (section 5.4.2).
    pub(super) fn maybe_commit(&mut self) -> bool {
        self.log.maybe_commit(self.tracker.committed(), self.term)
    }

    /// A follower (or this leader's own disk) holds everything up to `index`.
    pub(super) fn handle_append_ack(&mut self, from: NodeId, index: LogIndex) {
        let Some(progress) = self.tracker.progress.get_mut(&from) else {
            return;
        };
        // What is no news may still show that a follower being probed is reachable again.
        let found = progress.state == ProgressState::Probe && progress.match_index == index;
        if !progress.maybe_update(index) && !found {
            return;
        }
        match progress.state {
            ProgressState::Probe => progress.become_replicate(),
            ProgressState::Snapshot if progress.match_index.next() >= self.log.first_index() => {
                // Any snapshot that reaches this log will do, not only the one that was sent.
                self.observer
                    .event(&Event::SnapshotAcknowledged { from, progress });
                progress.become_probe();
                progress.become_replicate();
            }
            ProgressState::Snapshot => {}
            ProgressState::Replicate => progress.inflights.free_to(index),
        }
        let other = from != self.config.id;
        let news = progress.can_bump_commit(self.log.committed);
        let wants = progress.next <= self.log.last_index() || self.requests.least(from).is_some();
        // What is no more than is committed already makes no quorum for anything.
        if index > self.log.committed && self.maybe_commit() {
            self.release_waiting_reads();
            self.broadcast_commit();
        } else if other && news && !self.commit_untold {
            self.maybe_send_append(from, true);
        }
        if other && wants {
            // The window may have opened for several messages.
            while self.maybe_send_append(from, false) {}
        }
        self.maybe_finish_transfer(from);
    }

    /// A follower does not hold the entry at `index`: look further back.
    pub(super) fn handle_append_rejection(&mut self, from: NodeId, index: LogIndex, hint: LogId) {
        self.observer
            .event(&Event::RejectReceived { from, index, hint });
        self.doubt(from, hint.index);
        // Everything of ours that is of a later term than the hint cannot be there either: a term
        // is skipped with each message.
        let next = if hint.term > Term::ZERO {
            self.log
                .find_conflict_by_term(hint.index.min(index), hint.term)
                .index
        } else {
            hint.index
        };
        let Some(progress) = self.tracker.progress.get_mut(&from) else {
            return;
        };
        if !progress.maybe_decr_to(index, next) {
            return;
        }
        self.observer
            .event(&Event::ProgressDecreased { of: from, progress });
        if progress.state == ProgressState::Replicate {
            progress.become_probe();
        }
        self.maybe_send_append(from, true);
    }

    pub(super) fn handle_heartbeat_response(&mut self, from: NodeId, read_position: u64) {
        let last = self.log.last_index();
        let Some(progress) = self.tracker.progress.get_mut(&from) else {
            return;
        };
        progress.msg_app_flow_paused = false;
        // A follower being probed gets an append even when it lacks nothing: its answer is what
        // ends the probing.
        let wants = progress.match_index < last || progress.state == ProgressState::Probe;
        if wants {
            self.maybe_send_append(from, true);
        }
        self.confirm_reads(from, read_position);
    }

    /// The last message to `peer` may be lost.
    pub(crate) fn report_unreachable(&mut self, peer: NodeId) {
        if self.role != Role::Leader {
            return;
        }
        let Some(progress) = self.tracker.progress.get_mut(&peer) else {
            self.observer.event(&Event::NoProgress { from: peer });
            return;
        };
        if progress.state == ProgressState::Replicate {
            progress.become_probe();
        }
        self.observer
            .event(&Event::PeerUnreachable { peer, progress });
    }

    /// Takes the leader's entries, if they fit to what is here.
    pub(super) fn handle_append(
        &mut self,
        from: NodeId,
        prev: LogId,
        commit: LogIndex,
        entries: Entries,
    ) -> Result<(), StepError> {
        if prev.index < self.log.committed {
            // An old message. What is committed here is in the leader's log too.
            let index = self.log.committed;
            self.send(
                from,
                Body::AppendResponse {
                    index,
                    reject: None,
                },
            );
            return Ok(());
        }
        if !self.log.agrees(prev) {
            self.reject_append(from, prev);
            return Ok(());
        }
        let mut last = prev.index.plus(entries.len() as u64);
        // Only from the first that differs: a delayed message must not cut off newer entries.
        if let Some(position) = self.log.find_conflict(&entries, &mut self.observer) {
            let news = entries.skip(position);
            let news_at = prev.index.plus(position as u64).next();
            if news_at <= self.log.committed {
                let reason = "contradicts committed entries";
                return Err(self.refuse(from, MessageKind::Append, reason));
            }
            if self.awaits_snapshot() && news_at > self.log.last_index() {
                last = news_at.prev();
                self.ask_for_snapshot(from);
            } else {
                self.begin_refill(news_at);
                self.log.append(news, &mut self.observer);
            }
        }
        // What lies behind this message may differ from the leader's log.
        self.log.commit_to(commit.min(last));
        self.send(
            from,
            Body::AppendResponse {
                index: last,
                reject: None,
            },
        );
        Ok(())
    }

    fn reject_append(&mut self, from: NodeId, prev: LogId) {
        if prev.index > self.log.known_end() && self.log.gap.is_some() {
            self.ask_for_lost(from);
            return;
        }
        let own_term = self.log.term(prev.index).unwrap_or_default();
        self.observer.event(&Event::AppendRejected {
            from,
            prev,
            own_term,
        });
        let hint = prev.index.min(self.log.last_index());
        let hint = self.log.find_conflict_by_term(hint, prev.term);
        self.send(
            from,
            Body::AppendResponse {
                index: prev.index,
                reject: Some(hint),
            },
        );
    }

    /// Commits what the leader says, which is only what was acknowledged from here.
    pub(super) fn handle_commit(&mut self, from: NodeId, index: LogIndex) {
        self.check_held(from, index);
        self.log.commit_to(index);
    }

    pub(super) fn handle_heartbeat(&mut self, from: NodeId, commit: LogIndex, read_position: u64) {
        self.handle_commit(from, commit);
        self.send(from, Body::HeartbeatResponse { read_position });
        self.ask_for_snapshot(from);
    }
}
