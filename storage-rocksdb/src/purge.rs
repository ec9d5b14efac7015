//! Entries that are no longer part of any log and still stand in the engine.
//!
//! Who reads trusts a group's bounds, so nothing hurries: each commit removes a bounded number of
//! them, and a compaction of a million entries is never one batch of a million removals.

use std::collections::BTreeMap;
use std::ops::Range;

use raftwerk_raft::{GroupId, LogIndex};

/// Ranges to remove, dense: of nearly every index there is an entry.
#[derive(Debug, Default)]
pub(crate) struct Purge {
    pending: BTreeMap<GroupId, Vec<Range<LogIndex>>>,
}

impl Purge {
    /// Adds what is no longer wanted.
    pub(crate) fn add(&mut self, group: GroupId, range: Range<LogIndex>) {
        if range.is_empty() {
            return;
        }
        let ranges = self.pending.entry(group).or_default();
        match ranges.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => ranges.push(range),
        }
    }

    /// What is stored anew under the same indexes stays.
    pub(crate) fn keep(&mut self, group: GroupId, kept: &Range<LogIndex>) {
        let Some(ranges) = self.pending.get_mut(&group) else {
            return;
        };
        let cut = |range: &Range<LogIndex>| {
            let before = range.start..range.end.min(kept.start);
            let behind = range.start.max(kept.end)..range.end;
            [before, behind]
        };
        *ranges = ranges
            .iter()
            .flat_map(cut)
            .filter(|range| !range.is_empty())
            .collect();
        if ranges.is_empty() {
            self.pending.remove(&group);
        }
    }

    /// The next entries to remove, at most `max`.
    pub(crate) fn take(&mut self, mut max: u64) -> Vec<(GroupId, Range<LogIndex>)> {
        let mut taken = Vec::new();
        while max > 0 {
            let Some(mut first) = self.pending.first_entry() else {
                break;
            };
            let group = *first.key();
            let Some(range) = first.get_mut().last_mut() else {
                first.remove();
                continue;
            };
            let count = range.end.since(range.start).min(max);
            let end = range.start.plus(count);
            taken.push((group, range.start..end));
            range.start = end;
            max -= count;
            if range.is_empty() {
                first.get_mut().pop();
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: u64, to: u64) -> Range<LogIndex> {
        LogIndex(from)..LogIndex(to)
    }

    #[test]
    fn no_more_than_asked_for_is_taken_and_nothing_is_forgotten() {
        let mut purge = Purge::default();
        purge.add(GroupId(2), range(1, 4));
        purge.add(GroupId(1), range(5, 5));
        purge.add(GroupId(1), range(5, 10));
        purge.add(GroupId(1), range(10, 12));
        let mut taken = Vec::new();
        loop {
            let some = purge.take(3);
            let count: u64 = some
                .iter()
                .map(|(_, range)| range.end.0 - range.start.0)
                .sum();
            assert!(count <= 3);
            if count == 0 {
                break;
            }
            for (group, range) in some {
                taken.extend((range.start.0..range.end.0).map(|index| (group.0, index)));
            }
        }
        taken.sort_unstable();
        let wanted: Vec<_> = (5..12)
            .map(|i| (1, i))
            .chain((1..4).map(|i| (2, i)))
            .collect();
        assert_eq!(taken, wanted);
    }

    #[test]
    fn what_is_stored_anew_is_not_removed() {
        let mut purge = Purge::default();
        purge.add(GroupId(1), range(1, 10));
        purge.keep(GroupId(1), &range(4, 6));
        purge.keep(GroupId(2), &range(1, 9));
        let mut left = purge.take(100);
        left.sort_by_key(|(_, range)| range.start);
        assert_eq!(
            left,
            [(GroupId(1), range(1, 4)), (GroupId(1), range(6, 10))]
        );
        purge.add(GroupId(1), range(1, 10));
        purge.keep(GroupId(1), &range(1, 10));
        assert_eq!(purge.take(100), []);
    }
}
