//! A contiguous part of the log, in the pieces in which it came.

use std::collections::VecDeque;
use std::fmt;
use std::mem;

use super::{entries_bytes, entry_bytes, fitting};
use crate::entries::Entries;
use crate::entry::Entry;
use crate::types::{LogId, LogIndex};

/// Room for more pieces than this is given back once few are left.
const PIECES_KEPT: usize = 64;

/// Pieces that follow each other, none of them empty.
#[derive(Clone, Default)]
pub(crate) struct Runs {
    pieces: VecDeque<Entries>,
    /// Asked for all the time: the first index and the last entry, if there is a piece.
    first: LogIndex,
    last: LogId,
}

impl Runs {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    #[inline]
    pub(crate) fn first(&self) -> Option<LogIndex> {
        (!self.is_empty()).then_some(self.first)
    }

    #[inline]
    pub(crate) fn last(&self) -> Option<LogId> {
        (!self.is_empty()).then_some(self.last)
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        if self.is_empty() {
            return 0;
        }
        let len = self.last.index.next().since(self.first);
        usize::try_from(len).unwrap_or(usize::MAX)
    }

    /// The pieces have changed.
    #[inline]
    fn changed(&mut self) {
        let first = self.pieces.front().and_then(|run| run.first());
        let last = self.pieces.back().and_then(|run| run.last());
        if let (Some(first), Some(last)) = (first, last) {
            (self.first, self.last) = (first.index(), last.id);
        }
        // What many took is given back once they are few again.
        let (len, room) = (self.pieces.len(), self.pieces.capacity());
        if room > PIECES_KEPT && len < room / 4 {
            self.pieces.shrink_to(len.saturating_mul(2));
        }
    }

    /// The piece that `index` stands in, if it is not before the first or behind the last: else
    /// the one nearest to it.
    #[inline]
    fn piece(&self, index: LogIndex) -> usize {
        if self.pieces.len() < 2 {
            return 0;
        }
        let after = self.pieces.partition_point(|run| starts(run) <= index);
        after.saturating_sub(1)
    }

    #[inline]
    pub(crate) fn get(&self, index: LogIndex) -> Option<&Entry> {
        let run = self.pieces.get(self.piece(index))?;
        run.get(offset(run, index)?)
    }

    /// Appends what follows the last.
    #[inline]
    pub(crate) fn push(&mut self, run: Entries) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return;
        };
        if self.is_empty() {
            self.first = first.index();
        }
        self.last = last.id;
        self.pieces.push_back(run);
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.changed();
    }

    /// Takes everything if it came together and is no more than `max` bytes.
    #[inline]
    pub(crate) fn take_one(&mut self, max: u64) -> Option<Entries> {
        if self.pieces.len() != 1 {
            return None;
        }
        let fits = |run: &Entries| run.len() == 1 || entries_bytes(run) <= max;
        self.pieces.front().filter(|run| fits(run))?;
        self.pieces.pop_front()
    }

    /// Cuts off what stands from `index` on.
    pub(crate) fn truncate(&mut self, index: LogIndex) {
        while let Some(run) = self.pieces.back_mut() {
            match offset(run, index) {
                Some(kept) if kept > 0 => {
                    run.truncate(kept);
                    break;
                }
                _ => drop(self.pieces.pop_back()),
            }
        }
        self.changed();
    }

    /// Moves what stands before `index` behind what `to` holds.
    #[inline]
    pub(crate) fn move_to(&mut self, index: LogIndex, to: &mut Self) {
        if to.is_empty() && self.last().is_some_and(|last| last.index < index) {
            // Nobody has to move: the two change their places.
            return mem::swap(self, to);
        }
        while let Some(run) = self.pieces.front_mut() {
            match offset(run, index) {
                None | Some(0) => break,
                Some(moved) if moved < run.len() => {
                    to.pieces.push_back(run.part(0..moved));
                    *run = run.part(moved..usize::MAX);
                    break;
                }
                Some(_) => to.pieces.extend(self.pieces.pop_front()),
            }
        }
        to.changed();
        self.changed();
    }

    /// Cuts off what stands before `index`.
    #[inline]
    pub(crate) fn cut_before(&mut self, index: LogIndex) {
        if self.last().is_some_and(|last| last.index < index) {
            return self.clear();
        }
        while let Some(run) = self.pieces.front_mut() {
            match offset(run, index) {
                None | Some(0) => break,
                Some(gone) if gone < run.len() => {
                    *run = run.part(gone..usize::MAX);
                    break;
                }
                Some(_) => drop(self.pieces.pop_front()),
            }
        }
        self.changed();
    }

    /// The entries of `[lo, hi)`, as far as they are here.
    pub(crate) fn range(&self, lo: LogIndex, hi: LogIndex) -> impl Iterator<Item = &Entry> {
        let runs = self.pieces.range(self.piece(lo).min(self.pieces.len())..);
        runs.flat_map(move |run| {
            let start = offset(run, lo).unwrap_or(0).min(run.len());
            let end = offset(run, hi).unwrap_or(0).min(run.len());
            run.get(start..end).unwrap_or_default()
        })
    }

    /// The entries of `[lo, hi)` up to `max` bytes, but at least one. Without a copy where they
    /// came together.
    #[inline]
    pub(crate) fn share(&self, lo: LogIndex, hi: LogIndex, max: u64) -> Entries {
        if let (1, Some(run)) = (self.pieces.len(), self.pieces.front())
            && self.first == lo
            && self.last.index < hi
            && entries_bytes(run) <= max
        {
            // All of them, as nearly always.
            return run.clone();
        }
        self.share_part(lo, hi, max)
    }

    fn share_part(&self, lo: LogIndex, hi: LogIndex, max: u64) -> Entries {
        let piece = self.piece(lo);
        let Some(run) = self.pieces.get(piece) else {
            return Entries::new();
        };
        let (Some(start), Some(end)) = (offset(run, lo), offset(run, hi)) else {
            return Entries::new();
        };
        if end > run.len() && piece.saturating_add(1) < self.pieces.len() {
            let mut size: u64 = 0;
            let found = self.range(lo, hi).enumerate().take_while(|(place, entry)| {
                size = size.saturating_add(entry_bytes(entry));
                *place == 0 || size <= max
            });
            return found.map(|(_, entry)| entry.clone()).collect();
        }
        let mut found = run.part(start..end);
        if entries_bytes(&found) > max {
            found.truncate(fitting(&found, max).0);
        }
        found
    }

    /// The entries from `index` on, which are one piece from now on.
    #[inline]
    pub(crate) fn join(&mut self, index: LogIndex) -> Entries {
        if let Some(run) = self.pieces.back().filter(|run| starts(run) == index) {
            return run.clone();
        }
        let joined = self.share(index, LogIndex::MAX, u64::MAX);
        if self.pieces.back().is_some_and(|run| starts(run) > index) {
            self.truncate(index);
            self.push(joined.clone());
        }
        joined
    }

    /// What all of them count against limits of bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> u64 {
        if let (1, Some(run)) = (self.pieces.len(), self.pieces.front()) {
            return entries_bytes(run);
        }
        let pieces = self.pieces.iter().map(entries_bytes);
        pieces.fold(0, u64::saturating_add)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.pieces.iter().flatten()
    }
}

#[inline]
fn starts(run: &Entries) -> LogIndex {
    run.first().map_or(LogIndex::MAX, Entry::index)
}

/// How far `index` stands behind the first of `run`; none if before it.
#[inline]
fn offset(run: &Entries, index: LogIndex) -> Option<usize> {
    let first = run.first()?.index();
    (index >= first).then(|| usize::try_from(index.since(first)).unwrap_or(usize::MAX))
}

impl fmt::Debug for Runs {
    /// As one list: how it came in pieces means nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Term;

    fn run(indexes: std::ops::Range<u64>) -> Entries {
        let entry = |index| Entry::normal(LogId::new(Term(1), LogIndex(index)), "abcd".into());
        indexes.map(entry).collect()
    }

    fn runs() -> Runs {
        let mut runs = Runs::default();
        for indexes in [3..6, 6..7, 7..7, 7..12] {
            runs.push(run(indexes));
        }
        runs
    }

    fn indexes<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<u64> {
        entries.into_iter().map(|entry| entry.index().0).collect()
    }

    fn shared(runs: &Runs, lo: u64, hi: u64, max: u64) -> Vec<u64> {
        indexes(&runs.share(LogIndex(lo), LogIndex(hi), max))
    }

    #[test]
    fn every_part_is_found_wherever_the_pieces_end() {
        let runs = runs();
        assert_eq!((runs.len(), indexes(runs.iter()).len()), (9, 9));
        for lo in 1..14_u64 {
            let there = (3..12).contains(&lo);
            let found = runs.get(LogIndex(lo)).map(|entry| entry.index().0);
            assert_eq!(found, there.then_some(lo));
            for hi in lo..15 {
                let wanted: Vec<_> = (lo.max(3)..hi.min(12)).collect();
                assert_eq!(indexes(runs.range(LogIndex(lo), LogIndex(hi))), wanted);
                if lo >= 3 {
                    assert_eq!(shared(&runs, lo, hi, u64::MAX), wanted);
                }
            }
        }
    }

    #[test]
    fn bytes_are_limited_within_a_piece_and_across() {
        let runs = runs();
        assert_eq!(shared(&runs, 3, 6, 40), [3, 4]);
        assert_eq!(shared(&runs, 5, 12, 40), [5, 6]);
        assert_eq!(shared(&runs, 5, 12, 0), [5]);
        assert_eq!(shared(&runs, 8, 12, 0), [8]);
    }

    #[test]
    fn what_came_together_is_shared() {
        let runs = runs();
        let found = runs.share(LogIndex(8), LogIndex(10), u64::MAX);
        assert!(std::ptr::eq(&found[0], runs.get(LogIndex(8)).unwrap()));
    }

    #[test]
    fn pieces_are_cut_moved_and_joined_anywhere() {
        for index in 1..14_u64 {
            let (before, behind): (Vec<u64>, Vec<u64>) = (3..12).partition(|at| *at < index);
            let mut cut = runs();
            cut.truncate(LogIndex(index));
            assert_eq!(indexes(cut.iter()), before);
            let (mut left, mut moved) = (runs(), Runs::default());
            moved.push(run(1..3));
            left.move_to(LogIndex(index), &mut moved);
            assert_eq!(indexes(left.iter()), behind);
            assert_eq!(indexes(moved.iter()), [&[1, 2], &before[..]].concat());
            let mut joined = runs();
            if index >= 3 {
                assert_eq!(indexes(&joined.join(LogIndex(index))), behind);
            }
            assert_eq!(indexes(joined.iter()), (3..12).collect::<Vec<_>>());
        }
    }
}
