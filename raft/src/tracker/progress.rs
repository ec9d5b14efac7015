//! What a leader knows of one follower's log.

use super::Inflights;
use crate::message::Standing;
use crate::types::LogIndex;

/// How a leader sends to a follower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProgressState {
    /// The follower's log is not known: one message at a time looks for the last match.
    #[default]
    Probe,
    /// The follower keeps up: messages are pipelined.
    Replicate,
    /// The follower needs a snapshot and gets no entries until it has it.
    Snapshot,
}

/// What a leader knows of one follower's log (Raft paper, figure 2: nextIndex and matchIndex), and
/// how fast it may send. Always `match_index < next`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The highest index known to be durable there and equal to the leader's.
    pub match_index: LogIndex,
    /// The first index of the next message. Entries in between are on their way, or (in
    /// [`ProgressState::Probe`]) in doubt.
    pub next: LogIndex,
    /// The highest commit index sent in a message that may have arrived.
    pub sent_commit: LogIndex,
    /// How to send.
    pub state: ProgressState,
    /// In [`ProgressState::Snapshot`], the last index of the snapshot sent; zero otherwise.
    pub pending_snapshot: LogIndex,
    /// Something was heard from it since CheckQuorum last looked.
    pub recent_active: bool,
    /// Appends wait for an answer.
    pub msg_app_flow_paused: bool,
    /// The messages on their way, in [`ProgressState::Replicate`].
    pub inflights: Inflights,
    /// It does not vote.
    pub is_learner: bool,
    /// What its answers count for.
    pub standing: Standing,
}

impl Progress {
    /// A follower of whom nothing is known, to be probed from `next` on (at least 1). Not active
    /// and no learner: set the fields where it is.
    #[must_use]
    pub fn new(next: LogIndex, inflights: Inflights) -> Self {
        Self {
            match_index: LogIndex::ZERO,
            next: next.max(LogIndex(1)),
            sent_commit: LogIndex::ZERO,
            state: ProgressState::Probe,
            pending_snapshot: LogIndex::ZERO,
            recent_active: false,
            msg_app_flow_paused: false,
            inflights,
            is_learner: false,
            standing: Standing::Sound,
        }
    }

    /// What it answers counts in a quorum.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.standing != Standing::Uncounted
    }

    /// Changes the state and forgets what belonged to the old one.
    pub fn reset_state(&mut self, state: ProgressState) {
        self.state = state;
        self.msg_app_flow_paused = false;
        self.pending_snapshot = LogIndex::ZERO;
        self.inflights.reset();
    }

    /// Looks for the match: behind what is known, or behind the snapshot that was on its way,
    /// which counts as received until a rejection says otherwise.
    pub fn become_probe(&mut self) {
        let known = self.match_index.max(self.pending_snapshot);
        self.reset_state(ProgressState::Probe);
        self.next = known.next();
        self.sent_commit = self.sent_commit.min(known);
    }

    /// Pipelines from the entry after the match on.
    pub fn become_replicate(&mut self) {
        self.reset_state(ProgressState::Replicate);
        self.next = self.match_index.next();
    }

    /// Waits for a snapshot that ends at `last`.
    pub fn become_snapshot(&mut self, last: LogIndex) {
        self.reset_state(ProgressState::Snapshot);
        self.pending_snapshot = last;
        self.next = last.next();
        self.sent_commit = last;
    }

    /// Notes an append message of `entries` entries with `bytes` of payload from `next` on.
    /// Not called in [`ProgressState::Snapshot`], where none are sent.
    #[inline]
    pub fn sent_entries(&mut self, entries: u64, bytes: u64) {
        match self.state {
            ProgressState::Replicate => {
                if entries > 0 {
                    self.next = self.next.plus(entries);
                    self.inflights.add(self.next.prev(), bytes);
                }
                // An empty message with the window full is the one that an answer asked for.
                self.msg_app_flow_paused = self.inflights.is_full();
            }
            ProgressState::Probe => {
                if entries > 0 {
                    self.msg_app_flow_paused = true;
                }
            }
            ProgressState::Snapshot => debug_assert!(false, "append sent during a snapshot"),
        }
    }

    /// Whether sending the commit index `commit` can tell it something: it is higher than what
    /// was sent, and what was sent does not already cover all that it has.
    #[must_use]
    #[inline]
    pub fn can_bump_commit(&self, commit: LogIndex) -> bool {
        commit > self.sent_commit && self.sent_commit < self.next.prev()
    }

    /// Notes that `commit` was sent.
    #[inline]
    pub const fn set_sent_commit(&mut self, commit: LogIndex) {
        self.sent_commit = commit;
    }

    /// Takes an acknowledgement of everything up to `index`; false when it says nothing new.
    #[inline]
    pub fn maybe_update(&mut self, index: LogIndex) -> bool {
        if index <= self.match_index {
            return false;
        }
        self.match_index = index;
        self.next = self.next.max(index.next());
        self.msg_app_flow_paused = false;
        true
    }

    /// Takes a rejection of the append whose previous entry was at `rejected`; `hint` is the
    /// highest index that may match. False when it is stale and changes nothing.
    pub fn maybe_decr_to(&mut self, rejected: LogIndex, hint: LogIndex) -> bool {
        if self.state == ProgressState::Replicate {
            // With many on their way the order of answers is unknown; what matched stays so.
            if rejected <= self.match_index {
                return false;
            }
            self.next = self.match_index.next();
        } else {
            // Only one is on its way; an answer to any other is old.
            if rejected != self.next.prev() {
                return false;
            }
            self.next = rejected.min(hint.next()).max(self.match_index.next());
            self.msg_app_flow_paused = false;
        }
        self.sent_commit = self.sent_commit.min(self.next.prev());
        true
    }

    /// Forgets what was acknowledged behind `index`: its disk lost that. False while it waits for
    /// a snapshot, which gives it everything.
    pub fn lose_to(&mut self, index: LogIndex) -> bool {
        if self.state == ProgressState::Snapshot {
            return false;
        }
        self.match_index = self.match_index.min(index);
        self.reset_state(ProgressState::Probe);
        self.next = index.next();
        self.sent_commit = self.sent_commit.min(index);
        true
    }

    /// No append may be sent now.
    #[must_use]
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.state == ProgressState::Snapshot || self.msg_app_flow_paused
    }
}
