//! The terms of a log without its entries: one item per change of term.

use std::collections::VecDeque;

use raftwerk_raft::{LogError, LogId, LogIndex, Term};

/// The terms from just before a log's first entry to its last, run-length encoded. A log of one
/// leader takes a few bytes, however long it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TermRuns {
    /// What stands just before the first entry.
    base: LogId,
    last: LogIndex,
    /// Where the term changes after `base`, ascending.
    changes: VecDeque<LogId>,
}

impl TermRuns {
    /// An empty log just behind `base`.
    #[must_use]
    pub const fn new(base: LogId) -> Self {
        Self {
            base,
            last: base.index,
            changes: VecDeque::new(),
        }
    }

    /// A log from just behind `base` to `last` with these [`TermRuns::changes`]; those outside of
    /// it and those that change nothing are left out.
    #[must_use]
    pub fn from_changes(base: LogId, last: LogIndex, changes: &[LogId]) -> Self {
        let mut runs = Self::new(base);
        for change in changes.iter().filter(|change| change.index <= last) {
            if change.index > base.index && change.term > runs.last().term {
                runs.changes.push_back(*change);
            }
        }
        runs.last = last.max(base.index);
        runs
    }

    /// What stands just before the first entry.
    #[must_use]
    pub const fn base(&self) -> LogId {
        self.base
    }

    /// The first index; one behind the last when the log is empty.
    #[must_use]
    pub const fn first(&self) -> LogIndex {
        self.base.index.next()
    }

    /// The last entry, or [`TermRuns::base`].
    #[must_use]
    pub fn last(&self) -> LogId {
        let term = self
            .changes
            .back()
            .map_or(self.base.term, |change| change.term);
        LogId::new(term, self.last)
    }

    /// The first entry of each run of equal terms after `base`'s, ascending.
    pub fn changes(&self) -> impl Iterator<Item = LogId> + '_ {
        self.changes.iter().copied()
    }

    /// The term at `index`, which may be `base`'s.
    ///
    /// # Errors
    /// [`LogError::Compacted`] before that, [`LogError::Unavailable`] beyond the last.
    pub fn term(&self, index: LogIndex) -> Result<Term, LogError> {
        if index < self.base.index {
            return Err(LogError::Compacted {
                first: self.first(),
            });
        }
        if index > self.last {
            return Err(LogError::Unavailable { last: self.last });
        }
        let runs = self.changes.partition_point(|change| change.index <= index);
        let change = runs.checked_sub(1).and_then(|run| self.changes.get(run));
        Ok(change.map_or(self.base.term, |change| change.term))
    }

    /// Adds the entry `id`; whatever stood at its index or behind it goes first. An entry at or
    /// before `base`, or one that leaves a gap, is not added: callers check that before.
    pub fn push(&mut self, id: LogId) {
        debug_assert!(
            id.index > self.base.index && id.index <= self.last.next(),
            "{id}"
        );
        if id.index <= self.base.index || id.index > self.last.next() {
            return;
        }
        self.truncate(id.index);
        if id.term != self.last().term {
            self.changes.push_back(id);
        }
        self.last = id.index;
    }

    /// Adds the entries from `id` to the one at `last`, all of `id`'s term, as
    /// [`TermRuns::push`] does one.
    pub fn push_run(&mut self, id: LogId, last: LogIndex) {
        self.push(id);
        if self.last == id.index {
            self.last = last.max(id.index);
        }
    }

    /// Drops the entries from `from` on.
    pub fn truncate(&mut self, from: LogIndex) {
        let from = from.max(self.first());
        while self
            .changes
            .back()
            .is_some_and(|change| change.index >= from)
        {
            self.changes.pop_back();
        }
        self.last = self.last.min(from.prev());
    }

    /// Drops the entries up to and including `to`; its term stays known. What is beyond the last
    /// entry is taken as the last.
    pub fn compact(&mut self, to: LogIndex) {
        let to = to.min(self.last);
        let Ok(term) = self.term(to) else { return };
        self.base = LogId::new(term, to);
        while self
            .changes
            .front()
            .is_some_and(|change| change.index <= to)
        {
            self.changes.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, entry by entry.
    #[derive(Debug)]
    struct Plain {
        base: LogId,
        entries: Vec<LogId>,
    }

    impl Plain {
        fn last(&self) -> LogId {
            self.entries.last().copied().unwrap_or(self.base)
        }

        fn term(&self, index: LogIndex) -> Option<Term> {
            let mut all = self.entries.iter().chain([&self.base]);
            all.find(|id| id.index == index).map(|id| id.term)
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Append { back: u64, bump: u64, count: u64 },
        Truncate { back: u64 },
        Compact { ahead: u64 },
        Reset { ahead: u64, bump: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..4u64, 0..3u64, 1..6u64)
                .prop_map(|(back, bump, count)| Step::Append { back, bump, count }),
            1 => (0..5u64).prop_map(|back| Step::Truncate { back }),
            2 => (0..8u64).prop_map(|ahead| Step::Compact { ahead }),
            1 => (0..4u64, 0..2u64).prop_map(|(ahead, bump)| Step::Reset { ahead, bump }),
        ]
    }

    fn run(step: &Step, runs: &mut TermRuns, plain: &mut Plain) {
        match *step {
            Step::Append { back, bump, count } => {
                let held = plain.entries.len() as u64;
                let from = LogIndex(plain.last().index.0 + 1 - back.min(held));
                let term = Term(plain.term(from.prev()).unwrap().0 + bump);
                plain.entries.retain(|id| id.index < from);
                for offset in 0..count {
                    let id = LogId::new(Term(term.0 + offset / 3), from.plus(offset));
                    plain.entries.push(id);
                    runs.push(id);
                }
            }
            Step::Truncate { back } => {
                let from = LogIndex((plain.last().index.0 + 1).saturating_sub(back));
                plain.entries.retain(|id| id.index < from);
                runs.truncate(from);
            }
            Step::Compact { ahead } => {
                let to = plain.base.index.plus(ahead).min(plain.last().index);
                plain.base = LogId::new(plain.term(to).unwrap(), to);
                plain.entries.retain(|id| id.index > to);
                runs.compact(to);
            }
            Step::Reset { ahead, bump } => {
                let last = plain.last();
                plain.base = LogId::new(Term(last.term.0 + bump), last.index.plus(ahead));
                plain.entries.clear();
                *runs = TermRuns::new(plain.base);
            }
        }
    }

    proptest! {
        #[test]
        fn runs_answer_as_a_plain_list_does(steps in prop::collection::vec(step(), 1..40)) {
            let mut runs = TermRuns::default();
            let mut plain = Plain { base: LogId::ZERO, entries: Vec::new() };
            for step in &steps {
                run(step, &mut runs, &mut plain);
                prop_assert_eq!(runs.base(), plain.base);
                prop_assert_eq!(runs.last(), plain.last());
                for index in (0..plain.last().index.0 + 3).map(LogIndex) {
                    prop_assert_eq!(runs.term(index).ok(), plain.term(index), "at {}", index);
                }
                let changes: Vec<_> = runs.changes().collect();
                let mut before = plain.base.term;
                let mut wanted = plain.entries.clone();
                wanted.retain(|id| std::mem::replace(&mut before, id.term) != id.term);
                prop_assert_eq!(&changes, &wanted);
                let again = TermRuns::from_changes(plain.base, plain.last().index, &changes);
                prop_assert_eq!(&again, &runs);
            }
        }
    }

    #[test]
    fn term_tells_compacted_from_unavailable() {
        let runs = TermRuns::new(LogId::new(Term(3), LogIndex(7)));
        assert_eq!(
            runs.term(LogIndex(6)),
            Err(LogError::Compacted { first: LogIndex(8) })
        );
        assert_eq!(runs.term(LogIndex(7)), Ok(Term(3)));
        assert_eq!(
            runs.term(LogIndex(8)),
            Err(LogError::Unavailable { last: LogIndex(7) })
        );
    }
}
