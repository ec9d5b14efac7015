//! Lives of one id within one term. Who is removed and added again may begin with an empty log: an
//! answer of its earlier life, late on its way, must not stand for what it holds now.

use std::collections::BTreeMap;

use crate::message::MessageKind;
use crate::tracker::{NodeMap, Progress};
use crate::types::{NodeId, Term};

/// A leader's count of removals in its term, and what a follower answers with.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    /// Only who was removed in this term.
    removed: BTreeMap<NodeId, u64>,
    /// Of the message being answered.
    answering: u64,
    /// A term, and the latest session in which its leader was heard.
    heard: (Term, u64),
}

impl Sessions {
    /// Another term: whatever is answered in it was asked in it.
    pub(super) fn end(&mut self) {
        self.removed.clear();
    }

    /// What `id` has to answer with to be heard.
    #[inline]
    pub(super) fn current(&self, id: NodeId) -> u64 {
        if self.removed.is_empty() {
            return 0;
        }
        self.removed.get(&id).copied().unwrap_or(0)
    }

    /// A message of this session is being taken.
    #[inline]
    pub(super) const fn answer(&mut self, session: u64) {
        self.answering = session;
    }

    /// Whether what the leader of `term` says is of a life of this member that is over.
    #[inline]
    pub(super) fn is_over(&mut self, term: Term, kind: MessageKind, session: u64) -> bool {
        if !is_leaders(kind) {
            return false;
        }
        if self.heard.0 != term {
            self.heard = (term, 0);
        }
        self.heard.1 = self.heard.1.max(session);
        session < self.heard.1
    }

    /// The session of a message to `to`.
    #[inline]
    pub(super) fn of(&self, to: NodeId, kind: MessageKind) -> u64 {
        match kind {
            kind if is_leaders(kind) => self.current(to),
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

/// What a leader replicates with.
const fn is_leaders(kind: MessageKind) -> bool {
    matches!(
        kind,
        MessageKind::Append
            | MessageKind::Heartbeat
            | MessageKind::Commit
            | MessageKind::Snapshot
            | MessageKind::Acked
    )
}
