//! The end of what is durable, as far as it need not be read back from the store.

use std::ops::Range;

use super::runs::Runs;
use crate::entries::Entries;
use crate::entry::Entry;
use crate::types::{LogId, LogIndex};

/// More than this many entries that wait to be committed are not kept.
const ENTRIES_MAX: usize = 1024;
/// Nor so many that are larger than this together.
const BYTES_MAX: u64 = 4 << 20;

/// Entries that the store holds durably and that are not yet handed out to be applied: a copy of
/// its own would be fetched from there otherwise. Contiguous, and nothing is lost with them.
#[derive(Clone, Debug, Default)]
pub(super) struct Durable {
    /// The last durable entry, before which nothing is unstable. None while only the store knows.
    pub(super) last: Option<LogId>,
    pub(super) entries: Runs,
}

impl Durable {
    /// Entries were added and `last` is the newest of them; what comes up to `applying` is
    /// handed out already.
    #[inline]
    pub(super) fn reached(&mut self, last: LogId, applying: LogIndex) {
        self.last = Some(last);
        if last.index <= applying || self.is_too_much() {
            self.entries.clear();
        }
    }

    #[inline]
    fn is_too_much(&self) -> bool {
        self.entries.len() > ENTRIES_MAX || self.entries.bytes() > BYTES_MAX
    }

    /// What stands from `first` on is cut off, and `last` is the new end.
    pub(super) fn truncate(&mut self, first: LogIndex, last: Option<LogId>) {
        self.last = last;
        self.entries.truncate(first);
    }

    /// Everything is replaced by a snapshot that ends at `last`.
    pub(super) fn restore(&mut self, last: LogId) {
        self.last = Some(last);
        self.entries.clear();
    }

    /// The entries of `range` up to `max` bytes but at least one, if all of `range` is here.
    #[inline]
    pub(super) fn take(&mut self, range: &Range<LogIndex>, max: u64) -> Entries {
        let ends = (self.entries.first(), self.entries.last());
        let (Some(first), Some(last)) = ends else {
            return Entries::new();
        };
        if first > range.start || last.index.next() < range.end {
            // What is here cannot be the next any more.
            self.entries.clear();
            return Entries::new();
        }
        if first == range.start && last.index.next() == range.end {
            // All of them, as nearly always.
            if let Some(taken) = self.entries.take_one(max) {
                return taken;
            }
        }
        let taken = self.entries.share(range.start, range.end, max);
        if taken.last().map(Entry::index) == Some(range.end.prev()) {
            self.entries.cut_before(range.end);
        } else {
            // The others are cut off: they come from the store.
            self.entries.clear();
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Term;

    fn durable(indexes: Range<u64>) -> Durable {
        let entry = |index| Entry::normal(LogId::new(Term(1), LogIndex(index)), "abcd".into());
        holding(indexes.map(entry).collect())
    }

    fn holding(entries: Entries) -> Durable {
        let mut durable = Durable::default();
        durable.entries.push(entries);
        durable
    }

    fn taken(durable: &mut Durable, range: Range<u64>, max: u64) -> Vec<u64> {
        let range = LogIndex(range.start)..LogIndex(range.end);
        let taken = durable.take(&range, max);
        taken.iter().map(|entry| entry.index().0).collect()
    }

    #[test]
    fn what_is_asked_for_is_taken_and_what_follows_stays() {
        let mut durable = durable(3..9);
        assert_eq!(taken(&mut durable, 4..6, u64::MAX), [4, 5]);
        assert_eq!(taken(&mut durable, 6..9, u64::MAX), [6, 7, 8]);
        assert_eq!(taken(&mut durable, 9..10, u64::MAX), []);
    }

    #[test]
    fn a_part_of_what_is_asked_for_is_not_given() {
        assert_eq!(taken(&mut durable(3..9), 2..5, u64::MAX), []);
        assert_eq!(taken(&mut durable(3..9), 5..10, u64::MAX), []);
    }

    #[test]
    fn bytes_are_limited_and_one_always_goes() {
        let mut held = durable(3..9);
        assert_eq!(taken(&mut held, 3..9, 40), [3, 4]);
        assert_eq!(taken(&mut held, 5..9, 40), [], "the store has them");
        assert_eq!(taken(&mut durable(3..9), 3..9, 0), [3]);
    }

    #[test]
    fn what_is_cut_off_or_replaced_or_too_much_is_gone() {
        let mut held = durable(3..9);
        held.truncate(LogIndex(6), None);
        assert_eq!(taken(&mut held, 3..6, u64::MAX), [3, 4, 5]);
        let mut held = durable(3..9);
        held.truncate(LogIndex(2), None);
        assert!(held.entries.is_empty());
        let mut held = durable(3..9);
        held.reached(LogId::new(Term(1), LogIndex(8)), LogIndex(8));
        assert!(held.entries.is_empty(), "all handed out");
        let mut held = durable(0..2000);
        held.reached(LogId::new(Term(1), LogIndex(1999)), LogIndex(0));
        assert!(held.entries.is_empty());
    }

    #[test]
    fn large_entries_are_not_kept_beyond_a_bound() {
        let large = |index| {
            Entry::normal(
                LogId::new(Term(1), LogIndex(index)),
                vec![0; 1 << 20].into(),
            )
        };
        let mut held = holding((1..4).map(large).collect());
        held.reached(LogId::new(Term(1), LogIndex(3)), LogIndex(0));
        assert_eq!(held.entries.len(), 3);
        held.entries.push((4..6).map(large).collect());
        held.reached(LogId::new(Term(1), LogIndex(5)), LogIndex(0));
        assert!(held.entries.is_empty());
    }
}
