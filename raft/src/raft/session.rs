//! Lives of one id within one term. Who is removed and added again may begin with an empty log: an
//! answer of its earlier life, late on its way, must not stand for what it holds now.

use std::collections::BTreeMap;

use crate::message::MessageKind;
use crate::tracker::{NodeMap, Progress};
use crate::types::NodeId;

/// A leader's count of removals in its term, and what a follower answers with.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    /// Only who was removed in this term.
    removed: BTreeMap<NodeId, u64>,
    /// Of the message being answered.
    answering: u64,
}

impl Sessions {
    /// Another term: whatever is answered in it was asked in it.
    pub(super) fn end(&mut self) {
        self.removed.clear();
    }

    /// What `id` has to answer with to be heard.
    pub(super) fn current(&self, id: NodeId) -> u64 {
        self.removed.get(&id).copied().unwrap_or(0)
    }

    /// A message of this session is being taken.
    pub(super) const fn answer(&mut self, session: u64) {
        self.answering = session;
    }

    /// The session of a message to `to`.
    pub(super) fn of(&self, to: NodeId, kind: MessageKind) -> u64 {
        match kind {
            MessageKind::Append
            | MessageKind::Heartbeat
            | MessageKind::Commit
            | MessageKind::Snapshot
            | MessageKind::Acked => self.current(to),
            kind if kind.is_answer() => self.answering,
            _ => 0,
        }
    }

    /// The members change from `before` to `after` while this member leads.
    pub(super) fn change(&mut self, before: &NodeMap<Progress>, after: &NodeMap<Progress>) {
        for id in before.keys().filter(|id| !after.contains_key(id)) {
            let removed = self.removed.entry(*id).or_default();
            *removed = removed.saturating_add(1);
        }
    }
}
