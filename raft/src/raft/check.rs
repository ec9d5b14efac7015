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
    #[cold]
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
        let (body, leads) = (&message.body, self.role == Role::Leader);
        if body.kind().is_termless() {
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
        if message.term == Term::ZERO && !may_have_no_term(body) {
            return Err("carries no term");
        }
        match body {
            Body::Append { prev, entries, .. } => check_entries(message.term, *prev, entries),
            Body::AppendResponse {
                index,
                reject: None,
            } if leads && message.term == self.term && *index > self.log.last_index() => {
                Err("acknowledges entries that do not exist")
            }
            Body::Snapshot { meta } if meta.last.index.next() == LogIndex::MAX => {
                Err("index is out of range")
            }
            _ => Ok(()),
        }
    }
}

/// A member of term zero may refuse a vote or, told to, send its snapshot.
const fn may_have_no_term(body: &Body) -> bool {
    matches!(
        body,
        Body::VoteResponse { reject: true }
            | Body::PreVoteResponse { reject: true }
            | Body::Snapshot { .. }
    )
}

/// A leader's entries follow `prev` without a gap, in terms that never fall nor exceed its own.
fn check_entries(term: Term, prev: LogId, entries: &[Entry]) -> Result<(), &'static str> {
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
