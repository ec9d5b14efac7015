//! The end of what is durable, as far as it need not be read back from the store.

use std::mem;
use std::ops::Range;

use super::{entry_bytes, limit};
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
    pub(super) entries: Vec<Entry>,
}

impl Durable {
    /// Entries were added and `last` is the newest of them; what comes up to `applying` is
    /// handed out already.
    pub(super) fn reached(&mut self, last: LogId, applying: LogIndex) {
        self.last = Some(last);
        if last.index <= applying || self.is_too_much() {
            self.entries = Vec::new();
        }
    }

    fn is_too_much(&self) -> bool {
        let bytes = self.entries.iter().map(entry_bytes);
        self.entries.len() > ENTRIES_MAX || bytes.fold(0, u64::saturating_add) > BYTES_MAX
    }

    /// What stands from `first` on is cut off, and `last` is the new end.
    pub(super) fn truncate(&mut self, first: LogIndex, last: Option<LogId>) {
        self.last = last;
        let kept = self.place(first).min(self.entries.len());
        self.entries.truncate(kept);
    }

    /// Everything is replaced by a snapshot that ends at `last`.
    pub(super) fn restore(&mut self, last: LogId) {
        self.last = Some(last);
        self.entries = Vec::new();
    }

    /// Where `index` stands, or would.
    fn place(&self, index: LogIndex) -> usize {
        let first = self.entries.first().map_or(index, Entry::index);
        usize::try_from(index.since(first)).unwrap_or(usize::MAX)
    }

    /// The entries of `range` up to `max` bytes but at least one, if all of `range` is here.
    pub(super) fn take(&mut self, range: &Range<LogIndex>, max: u64) -> Vec<Entry> {
        let ends = (self.entries.first(), self.entries.last());
        let (Some(first), Some(last)) = ends else {
            return Vec::new();
        };
        if first.index() > range.start || last.index().next() < range.end {
            // What is here cannot be the next any more.
            self.entries = Vec::new();
            return Vec::new();
        }
        let (start, end) = (self.place(range.start), self.place(range.end));
        let mut taken = if start == 0 && end == self.entries.len() {
            mem::take(&mut self.entries)
        } else {
            let rest = self.entries.split_off(end);
            let mut taken = mem::replace(&mut self.entries, rest);
            taken.drain(..start);
            taken
        };
        let before = taken.len();
        limit(&mut taken, max);
        if taken.len() < before {
            // The others are cut off: they come from the store.
            self.entries = Vec::new();
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
        Durable {
            entries: indexes.map(entry).collect(),
            ..Durable::default()
        }
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
        let mut held = Durable {
            entries: (1..4).map(large).collect(),
            ..Durable::default()
        };
        held.reached(LogId::new(Term(1), LogIndex(3)), LogIndex(0));
        assert_eq!(held.entries.len(), 3);
        held.entries.extend((4..6).map(large));
        held.reached(LogId::new(Term(1), LogIndex(5)), LogIndex(0));
        assert!(held.entries.is_empty());
    }
}
