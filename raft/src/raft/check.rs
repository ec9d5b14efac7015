//! Whether a message can be true at all. What fails here was never sent by a sound peer.

use super::Raft;
use crate::entry::Entry;
use crate::error::StepError;
use crate::message::{Body, Message, MessageKind};
use crate::observer::{Event, Observer};
use crate::storage::LogReader;
use crate::types::{LogId, LogIndex, NodeId, Role, Term};

impl<L: LogReader, O: Observer> Raft<L, O> {
    /// Counts and reports a message that cannot be true.
    pub(super) fn refuse(
        &mut self,
        from: NodeId,
        kind: MessageKind,
        reason: &'static str,
    ) -> StepError {
        self.invalid_messages = self.invalid_messages.saturating_add(1);
        self.observer
            .event(&Event::InvalidMessage { from, kind, reason });
        StepError::Invalid { reason }
    }

    #[inline]
    pub(super) fn check_message(&self, message: &Message) -> Result<(), &'static str> {
        if message.term == Term(u64::MAX) {
            return Err("term is out of range");
        }
        if message.to != self.config.id {
            return Err("addressed to another member");
        }
        if matches!(
            message.body,
            Body::Propose { .. }
                | Body::ReadIndex { .. }
                | Body::ReadIndexDropped { .. }
                | Body::Committed { .. }
        ) {
            let termless = message.term == Term::ZERO;
            return if termless {
                Ok(())
            } else {
                Err("carries a term")
            };
        }
        if message.from == NodeId::ZERO {
            return Err("has no sender");
        }
        match &message.body {
            Body::Append { prev, entries, .. } => check_entries(message.term, *prev, entries),
            Body::AppendResponse {
                index,
                reject: None,
            } if self.role == Role::Leader
                && message.term == self.term
                && *index > self.log.last_index() =>
            {
                Err("acknowledges entries that do not exist")
            }
            Body::Snapshot { meta } if meta.last.index.next() == LogIndex::MAX => {
                Err("index is out of range")
            }
            // A member of term zero may refuse a vote or, told to, send its snapshot.
            Body::VoteResponse { reject: true }
            | Body::PreVoteResponse { reject: true }
            | Body::Snapshot { .. } => Ok(()),
            _ if message.term == Term::ZERO => Err("carries no term"),
            _ => Ok(()),
        }
    }
}

/// A leader's entries follow `prev` without a gap, in terms that never fall nor exceed its own.
fn check_entries(term: Term, prev: LogId, entries: &[Entry]) -> Result<(), &'static str> {
    if term == Term::ZERO {
        return Err("carries no term");
    }
    let mut before = prev;
    for entry in entries {
        if entry.index() != before.index.next() || entry.term() < before.term {
            return Err("entries do not follow each other");
        }
        before = entry.id;
    }
    if before.term > term || before.index.next() == LogIndex::MAX {
        return Err("entries are out of range");
    }
    Ok(())
}
