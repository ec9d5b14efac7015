//! Who takes part (thesis, section 4): changes are checked when proposed and made when applied.

use bytes::Bytes;

use super::Raft;
use crate::codec::{decode_conf_change, encode_conf_change};
use crate::confchange::{self, Changer};
use crate::entry::{ConfChange, ConfState, Entry, EntryKind};
use crate::error::{ApplyConfChangeError, ConfigError, ProposeError};
use crate::observer::{ConfChangeRefusal, Event, Observer};
use crate::ready::Proposed;
use crate::storage::LogReader;
use crate::tracker::{Config, NodeMap, Progress};
use crate::types::{ForwardMark, LogId, Role};

/// Bytes of entries looked at in one go.
const SCAN_BYTES: u64 = 1024 * 1024;

impl<L: LogReader, O: Observer> Raft<L, O> {
    /// The configuration that this member starts with.
    pub(super) fn restore_conf_state(&mut self, state: &ConfState) -> Result<(), ConfigError> {
        let last = self.log.last_index();
        let (config, progress) =
            confchange::restore(&self.tracker, last, state).map_err(|error| {
                ConfigError::ConfState {
                    reason: error.to_string(),
                }
            })?;
        self.switch_to(config, progress);
        Ok(())
    }

    /// A change of this member's own users, or of its own.
    pub(crate) fn propose_conf_change(
        &mut self,
        change: &ConfChange,
    ) -> Result<Proposed, ProposeError> {
        let mut data = Vec::new();
        encode_conf_change(change, &mut data);
        let entry = Entry {
            id: LogId::ZERO,
            kind: EntryKind::ConfChange,
            data: data.into(),
        };
        self.propose_own(entry.into())
    }

    /// A committed change takes effect.
    pub(crate) fn apply_conf_change(
        &mut self,
        change: &ConfChange,
    ) -> Result<ConfState, ApplyConfChangeError> {
        // Still on its way to be applied when a snapshot came that is behind it.
        let index = self.conf_changes_out.pop_front();
        if index.is_some_and(|index| index <= self.conf_restored_at) && !self.config.etcd_quirks {
            return Err(ApplyConfChangeError::Superseded);
        }
        let changer = Changer {
            tracker: &self.tracker,
            last_index: self.log.last_index(),
        };
        match changer.change(change) {
            Ok((config, progress)) => {
                self.switch_to(config, progress);
                Ok(self.tracker.conf_state())
            }
            Err(error) => {
                let reason = error.to_string();
                self.observer
                    .event(&Event::ConfChangeVoid { reason: &reason });
                Err(ApplyConfChangeError::Refused { reason })
            }
        }
    }

    pub(super) fn switch_to(&mut self, config: Config, progress: NodeMap<Progress>) {
        if self.role == Role::Leader && !self.config.etcd_quirks {
            self.sessions.change(&self.tracker.progress, &progress);
        }
        self.tracker.config = config;
        self.tracker.progress = progress;
        self.observer.event(&Event::ConfSwitched {
            config: &self.tracker.config,
        });
        self.cold.retain_peers(&self.tracker.progress);
        self.requests.retain_members(&self.tracker.progress);
        self.reads.retain_members(&self.tracker.progress);
        if self.role != Role::Leader {
            return;
        }
        self.revoke_lease();
        let own = self.tracker.progress.get(&self.config.id);
        if own.is_none_or(|progress| progress.is_learner) {
            if self.config.step_down_on_removal {
                self.become_follower(self.term, None);
            }
            return;
        }
        if self.tracker.config.voters.incoming.0.is_empty() {
            return;
        }
        // The quorum may have shrunk.
        if self.maybe_commit() {
            self.release_waiting_reads();
            self.broadcast_append();
        } else {
            // New members need not wait for a heartbeat.
            self.broadcast_missing();
        }
        self.answer_confirmed_reads();
        let voters = &self.tracker.config.voters;
        if self.transferee.is_some_and(|to| !voters.contains(to)) {
            self.abort_transfer();
        }
    }

    /// Whether a proposed change may be made now.
    pub(super) fn check_conf_change(&mut self, entry: &Entry) -> Result<(), ProposeError> {
        let change = decode_conf_change(entry.data.clone()).map_err(|_| ProposeError::Invalid {
            reason: "no configuration change",
        })?;
        if entry.kind == EntryKind::ConfChangeSingle && change.enter_joint().is_some() {
            return Err(ProposeError::Invalid {
                reason: "not a single step",
            });
        }
        let (index, applied) = (self.pending_conf_index, self.log.applied);
        let joint = self.tracker.config.voters.is_joint();
        let reason = if index > applied {
            ConfChangeRefusal::Pending { index, applied }
        } else if joint && !change.steps.is_empty() {
            ConfChangeRefusal::Joint
        } else if !joint && change.steps.is_empty() {
            ConfChangeRefusal::NotJoint
        } else {
            return self.check_change_applies(&change);
        };
        if self.config.disable_conf_change_validation {
            return Ok(());
        }
        let (change, config) = (&change, &self.tracker.config);
        self.observer.event(&Event::ConfChangeRefused {
            change,
            config,
            reason,
        });
        Err(match reason {
            ConfChangeRefusal::Pending { index, applied } => {
                ProposeError::ChangePending { index, applied }
            }
            reason => ProposeError::ConfChange { reason },
        })
    }

    /// Nothing is pending, so what is in force now is in force when the change is applied: one
    /// that cannot be made is better refused than committed without effect.
    fn check_change_applies(&self, change: &ConfChange) -> Result<(), ProposeError> {
        if self.config.etcd_quirks || self.config.disable_conf_change_validation {
            return Ok(());
        }
        let changer = Changer {
            tracker: &self.tracker,
            last_index: self.log.last_index(),
        };
        let refused = |error| ProposeError::ConfChange {
            reason: ConfChangeRefusal::Impossible(error),
        };
        changer.change(change).map(drop).map_err(refused)
    }

    /// Proposes to leave a joint configuration that is to be left automatically, once nothing
    /// that might belong to it is unapplied.
    #[inline]
    pub(super) fn maybe_leave_joint(&mut self) {
        let due = self.tracker.config.auto_leave && self.log.applied >= self.pending_conf_index;
        if self.role != Role::Leader || !due {
            return;
        }
        // No bytes at all: such an entry is never refused for its size.
        let leave = Entry {
            id: LogId::ZERO,
            kind: EntryKind::ConfChange,
            data: Bytes::new(),
        };
        match self.propose(self.config.id, ForwardMark::ZERO, leave.into()) {
            Ok(_) => self.observer.event(&Event::LeavingJoint {
                config: &self.tracker.config,
            }),
            Err(error) => {
                let (config, reason) = (&self.tracker.config, error.to_string());
                self.observer.event(&Event::NotLeavingJoint {
                    config,
                    reason: &reason,
                });
            }
        }
    }

    /// Whether a leader that is no member any more proposes to leave the joint configuration: as
    /// long as it leads nobody else can, and nothing else may be changed before.
    pub(super) fn must_leave_joint(&self, entries: &[Entry]) -> bool {
        let leaves = |entry: &Entry| entry.kind == EntryKind::ConfChange && entry.data.is_empty();
        let auto = self.tracker.config.auto_leave && !self.config.etcd_quirks;
        auto && matches!(entries, [entry] if leaves(entry))
    }

    /// Whether a change of the configuration is committed and not applied: with it the members
    /// may be others than this one thinks, and so may be the quorum.
    pub(super) fn has_unapplied_conf_change(&self) -> bool {
        let mut next = self.log.applied.next();
        while next <= self.log.committed {
            // What cannot be looked at now may hold one.
            let Ok(entries) = self.log.slice(next, self.log.committed.next(), SCAN_BYTES) else {
                return true;
            };
            let Some(last) = entries.last() else {
                return true;
            };
            if entries.iter().any(|entry| entry.kind != EntryKind::Normal) {
                return true;
            }
            next = last.index().next();
        }
        false
    }
}
