//! What this member's disk lost, and the way back. Nothing here ever votes as if the log were
//! shorter than it was: whoever was promised an entry of this log still counts on it.

use bytes::Bytes;

use super::Raft;
use crate::message::{Body, MessageKind, Standing};
use crate::observer::{Event, Observer};
use crate::restart::{REFILL_TO, Restart, TAIL_LOST, encode_mark};
use crate::status::Loss;
use crate::storage::LogReader;
use crate::types::{LogId, LogIndex, NodeId, Role, Term};

/// What was lost, and the marks of it that are still to be written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Losses {
    vote_unknown: bool,
    tail_lost: bool,
    /// The log ended here before what was damaged was cut off to be sent again.
    refill_to: Option<LogId>,
    /// Named values that outlive a restart: see [`Restart::recover`].
    pub(crate) marks: Vec<(Bytes, Option<Bytes>)>,
}

impl Losses {
    pub(super) const fn new(restart: &Restart) -> Self {
        Self {
            vote_unknown: restart.health.vote_unknown,
            tail_lost: restart.tail_lost,
            refill_to: restart.refill_to,
            marks: Vec::new(),
        }
    }
}

impl<L: LogReader, O: Observer> Raft<L, O> {
    /// This member neither asks for votes nor grants any.
    pub(crate) const fn voteless(&self) -> bool {
        let lost = &self.losses;
        lost.vote_unknown || (lost.tail_lost && !self.config.unsafe_vote_after_lost_tail)
    }

    /// Whose term may be lost was at least in that of its last entry.
    pub(super) fn known_term(&self) -> Term {
        if self.losses.vote_unknown {
            self.term.max(self.log.last().term)
        } else {
            self.term
        }
    }

    /// What this member's answers count for, with the leader that gets them.
    pub(super) const fn standing(&self) -> Standing {
        if self.losses.vote_unknown {
            Standing::Uncounted
        } else if self.voteless() {
            Standing::Voteless
        } else {
            Standing::Sound
        }
    }

    /// The standing that a message of this kind carries.
    pub(super) fn standing_in(&self, kind: MessageKind) -> Standing {
        match self.standing() {
            Standing::Sound => Standing::Sound,
            standing if kind.is_answer() => standing,
            _ => Standing::Sound,
        }
    }

    /// Entries are missing that have to come back before this member may lead.
    pub(super) fn is_faulty(&self) -> bool {
        self.log.gap.is_some() || self.losses.refill_to.is_some() || self.log.is_damaged()
    }

    /// What is wrong, the worst first.
    pub(crate) fn loss(&self) -> Option<Loss> {
        let lost = &self.losses;
        if lost.vote_unknown {
            Some(Loss::VoteUnknown)
        } else if lost.tail_lost {
            Some(Loss::TailLost)
        } else if let Some((first, last)) = self.log.lost() {
            Some(Loss::Faulty { first, last })
        } else if let Some(to) = lost.refill_to {
            Some(Loss::Refilling { to })
        } else if self.log.is_damaged() || self.cold.apply_blocked() {
            Some(Loss::Damaged)
        } else {
            None
        }
    }

    /// Up to where this log went when it was whole: what candidates are measured by.
    pub(super) fn promised(&self) -> LogId {
        let last = self.log.last();
        self.losses.refill_to.map_or(last, |to| last.max(to))
    }

    /// Acknowledged entries are gone: with this member's vote a leader could be elected that
    /// lacks them too.
    pub(super) fn lose_tail(&mut self, commit: LogIndex) {
        if self.losses.tail_lost {
            return;
        }
        self.losses.tail_lost = true;
        self.losses.mark(TAIL_LOST, Some(self.log.last()));
        let last = self.log.last();
        self.observer.event(&Event::TailLost { commit, last });
    }

    /// The leader counts on everything up to `index` being here.
    #[inline]
    pub(super) fn check_held(&mut self, leader: NodeId, index: LogIndex) {
        if index > self.promised().index {
            self.lose_tail(index);
        }
        if index > self.log.known_end() {
            self.ask_for_lost(leader);
        }
    }

    /// Asks the leader to begin again behind what is still here.
    pub(super) fn ask_for_lost(&mut self, leader: NodeId) {
        let end = self.log.known_end();
        let kept = LogId::new(self.log.term(end).unwrap_or_default(), end);
        self.send(leader, Body::Lost { kept });
    }

    /// The leader's entries from `first` on are about to replace what is here. Where that is only
    /// because it is damaged, this log was longer than it is going to be, and that must survive a
    /// crash.
    pub(super) fn begin_refill(&mut self, first: LogIndex) {
        if self.log.gap.is_some_and(|gap| first >= gap) {
            let to = self.promised();
            self.losses.refill_to = Some(to);
            self.losses.mark(REFILL_TO, Some(to));
            self.observer.event(&Event::RefillStarted { first, to });
        }
    }

    /// Nothing is missing any more once the log is durably as good as it was.
    pub(super) fn finish_refill(&mut self) {
        let (Some(to), None) = (self.losses.refill_to, self.log.gap) else {
            return;
        };
        let index = self.log.unstable.offset.prev();
        let last = LogId::new(self.log.term(index).unwrap_or_default(), index);
        if last >= to && self.log.unstable.snapshot.is_none() {
            self.losses.refill_to = None;
            self.losses.mark(REFILL_TO, None);
            self.observer.event(&Event::RefillFinished { last });
        }
    }

    /// A follower refuses to follow an entry that it has acknowledged: either this is an old
    /// answer, or its disk has lost it. Only the follower can tell.
    pub(super) fn doubt(&mut self, peer: NodeId, hint: LogIndex) {
        let Some(progress) = self.tracker.progress.get(&peer) else {
            return;
        };
        let index = progress.match_index;
        if hint < index && !self.config.etcd_quirks {
            self.send(peer, Body::Acked { index });
        }
    }

    /// A follower's disk lost what is behind `kept`: whatever it acknowledged counts no longer.
    pub(super) fn handle_lost(&mut self, from: NodeId, kept: LogId) {
        let end = kept.index.min(self.log.last_index());
        let index = if kept.term > Term::ZERO {
            self.log.find_conflict_by_term(end, kept.term).index
        } else {
            end
        };
        let Some(progress) = self.tracker.progress.get_mut(&from) else {
            return;
        };
        if self.role != Role::Leader || from == self.config.id || !progress.lose_to(index) {
            return;
        }
        self.observer.event(&Event::FollowerLost { from, progress });
        self.maybe_send_append(from, true);
    }
}

impl Losses {
    fn mark(&mut self, name: &'static [u8], id: Option<LogId>) {
        self.marks
            .push((Bytes::from_static(name), id.map(encode_mark)));
    }
}
