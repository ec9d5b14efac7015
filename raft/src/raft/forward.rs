//! Proposals that a follower sends on to its leader, and what it hears of them. An answer gets lost
//! where any message does: none is waited for longer than an election timeout, nor beyond the
//! leader that it was to come from.

use std::collections::VecDeque;

use super::{Raft, election};
use crate::entries::Entries;
use crate::error::ProposeError;
use crate::message::Body;
use crate::observer::{Event, Observer};
use crate::ready::{Fate, ForwardOutcome, ProposalDropped, Proposed};
use crate::storage::LogReader;
use crate::types::{ForwardMark, LogId, NodeId, Role};

/// How many wait for an answer at most; who proposes more is told to come again.
const WAITING_MAX: usize = 1024;

/// What was sent on and has no answer yet, the oldest first.
#[derive(Clone, Debug)]
pub(super) struct Forwards {
    /// What the latest was given. The first of each start is drawn by its seed, so that an answer
    /// to an earlier life names nothing.
    last_mark: ForwardMark,
    /// Ticks so far, and for each that waits at which of them it is given up.
    ticks: u64,
    waiting: VecDeque<(ForwardMark, u64)>,
}

impl Forwards {
    /// What decides which answers say something, and what the next is given.
    pub(super) fn marks(&self) -> Vec<ForwardMark> {
        let waiting = self.waiting.iter().map(|(mark, _)| *mark);
        waiting.chain([self.last_mark]).collect()
    }
}

impl<L: LogReader, O: Observer> Raft<L, O> {
    /// Proposals of this member's own users.
    pub(crate) fn propose_own(&mut self, entries: Entries) -> Result<Proposed, ProposeError> {
        let id = self.config.id;
        if self.role == Role::Leader || self.config.etcd_quirks {
            return self.propose(id, ForwardMark::ZERO, entries);
        }
        let mark = match &self.forwards {
            Some(forwards) if forwards.waiting.len() >= WAITING_MAX => {
                let busy = Err(ProposeError::Busy);
                self.tell_proposed(id, entries.len(), &busy);
                return busy;
            }
            Some(forwards) => forwards.last_mark,
            None => ForwardMark(election::first_mark(self.config.seed, id)),
        };
        // Zero is nobody's.
        let mark = ForwardMark(mark.value().wrapping_add(1).max(1));
        let proposed = self.propose(id, mark, entries)?;
        if let Proposed::Forwarded { .. } = proposed {
            let forwards = self.forwards.get_or_insert_with(|| {
                Box::new(Forwards {
                    last_mark: mark,
                    ticks: 0,
                    waiting: VecDeque::new(),
                })
            });
            forwards.last_mark = mark;
            let patience = u64::from(self.config.election_ticks);
            let until = forwards.ticks.saturating_add(patience);
            forwards.waiting.push_back((mark, until));
        }
        Ok(proposed)
    }

    /// Proposals that `from` sent on: it is told whether they are in the log.
    pub(super) fn propose_for(
        &mut self,
        from: NodeId,
        mark: ForwardMark,
        entries: Entries,
    ) -> Result<(), ProposeError> {
        let result = self.propose(from, mark, entries);
        let told = match &result {
            Ok(Proposed::Appended(last)) => Ok(*last),
            // Whoever leads tells it.
            Ok(Proposed::Forwarded { .. }) => return Ok(()),
            Err(error) => Err(ProposalDropped::from(error)),
        };
        // A leader does not wait for itself: what it had sent on was in doubt when it took office.
        if mark != ForwardMark::ZERO && from != NodeId::ZERO && !self.config.etcd_quirks {
            let body = Body::ProposeResponse { mark, result: told };
            self.forward(self.config.id, from, body);
        }
        result.map(drop)
    }

    /// The answer to what this member sent on. Of what is given up or was told before, and of an
    /// earlier life, it says nothing any more.
    pub(super) fn forward_answered(
        &mut self,
        mark: ForwardMark,
        result: Result<LogId, ProposalDropped>,
    ) {
        let Some(forwards) = &mut self.forwards else {
            return;
        };
        let mut marks = forwards.waiting.iter();
        let place = marks.position(|(waiting, _)| *waiting == mark);
        if place.is_some_and(|place| forwards.waiting.remove(place).is_some()) {
            let outcome = match result {
                Ok(last) => ForwardOutcome::Appended(last),
                Err(reason) => ForwardOutcome::Dropped(reason),
            };
            self.tell_forwarded(mark, outcome);
        }
    }

    fn tell_forwarded(&mut self, mark: ForwardMark, outcome: ForwardOutcome) {
        self.observer.event(&Event::ForwardTold { mark, outcome });
        self.fates.push(Fate::Forwarded { mark, outcome });
    }

    /// A tick has passed: what has waited for too long is in doubt.
    pub(super) fn tick_forwards(&mut self) {
        if let Some(forwards) = &mut self.forwards {
            forwards.ticks = forwards.ticks.saturating_add(1);
            let now = forwards.ticks;
            self.doubt_forwards_until(now);
        }
    }

    /// Whoever was to answer leads no more, or this member has stopped.
    pub(super) fn doubt_forwards(&mut self) {
        self.doubt_forwards_until(u64::MAX);
    }

    fn doubt_forwards_until(&mut self, now: u64) {
        while let Some(forwards) = &mut self.forwards
            && let Some((mark, until)) = forwards.waiting.front().copied()
            && until <= now
        {
            forwards.waiting.pop_front();
            self.tell_forwarded(mark, ForwardOutcome::InDoubt);
        }
    }
}
