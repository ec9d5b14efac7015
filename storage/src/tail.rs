//! The recent entries of one group in memory: all that are not durable yet, and as many durable
//! ones as fit.

use std::collections::VecDeque;
use std::ops::Range;

use raftwerk_raft::{Entry, GroupWrite, LogError, LogIndex, Ticket};

use crate::size::{entry_bytes, payload_fits};

/// The end of a group's log, payload included. What it does not hold is read from the disk.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    /// Contiguous; tickets never decrease, since an overwritten suffix gets newer ones.
    entries: VecDeque<(Ticket, Entry)>,
    bytes: u64,
}

impl Tail {
    /// Takes over what `write`, submitted as `ticket`, does to the log's entries.
    pub fn apply(&mut self, ticket: Ticket, write: GroupWrite) {
        if write.destroy || write.reset_to.is_some() {
            self.entries.clear();
            self.bytes = 0;
        }
        self.append(ticket, write.append);
        if let Some(to) = write.compact_to {
            while self.first().is_some_and(|first| first <= to) {
                self.pop_front();
            }
        }
    }

    fn append(&mut self, ticket: Ticket, append: Vec<Entry>) {
        let Some(from) = append.first().map(Entry::index) else {
            return;
        };
        while self.last().is_some_and(|last| last >= from) {
            if let Some((_, entry)) = self.entries.pop_back() {
                self.bytes -= entry_bytes(&entry);
            }
        }
        debug_assert!(
            self.last().is_none_or(|last| last.next() == from),
            "gap before {from}"
        );
        self.bytes += append.iter().map(entry_bytes).sum::<u64>();
        self.entries
            .extend(append.into_iter().map(|entry| (ticket, entry)));
    }

    /// Drops the oldest entries until at most `bytes_max` is left, but none that was
    /// submitted after `durable`.
    pub fn evict(&mut self, durable: Ticket, bytes_max: u64) {
        while self.bytes > bytes_max && self.entries.front().is_some_and(|(at, _)| *at <= durable) {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        if let Some((_, entry)) = self.entries.pop_front() {
            self.bytes -= entry_bytes(&entry);
        }
    }

    fn last(&self) -> Option<LogIndex> {
        self.entries.back().map(|(_, entry)| entry.index())
    }

    /// The entries submitted after `ticket`, in order.
    pub fn since(&self, ticket: Ticket) -> impl Iterator<Item = &Entry> {
        let skip = self.entries.partition_point(|(at, _)| *at <= ticket);
        self.entries.range(skip..).map(|(_, entry)| entry)
    }

    /// The first index held.
    #[must_use]
    pub fn first(&self) -> Option<LogIndex> {
        self.entries.front().map(|(_, entry)| entry.index())
    }

    /// How much is held, in bytes: payload and a fixed share for each entry.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends to `out` the entries of `range`, which [`crate::image::GroupImage::readable`]
    /// has passed, up to `max_bytes` of payload but at least one.
    ///
    /// # Errors
    /// [`LogError::Cold`] when the first of them is not held.
    pub fn entries(
        &self,
        range: Range<LogIndex>,
        max_bytes: u64,
        out: &mut Vec<Entry>,
    ) -> Result<(), LogError> {
        if range.is_empty() {
            return Ok(());
        }
        let first = self
            .first()
            .filter(|first| *first <= range.start)
            .ok_or(LogError::Cold)?;
        let skip = usize::try_from(range.start.since(first)).unwrap_or(usize::MAX);
        if skip >= self.entries.len() {
            return Err(LogError::Cold);
        }
        let held = || {
            let rest = self.entries.range(skip..).map(|(_, entry)| entry);
            rest.take_while(|entry| entry.index() < range.end)
        };
        out.extend(held().take(payload_fits(held(), max_bytes)).cloned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use raftwerk_raft::{LogId, SnapshotMeta, Term};

    use super::*;

    fn append(from: u64, to: u64, term: u64) -> GroupWrite {
        let entry = |index| {
            let data = Bytes::from(vec![b'x'; 10]);
            Entry::normal(LogId::new(Term(term), LogIndex(index)), data)
        };
        GroupWrite {
            append: (from..=to).map(entry).collect(),
            ..GroupWrite::default()
        }
    }

    fn held(tail: &Tail, range: Range<u64>, max_bytes: u64) -> Result<Vec<(u64, u64)>, LogError> {
        let mut out = Vec::new();
        tail.entries(
            LogIndex(range.start)..LogIndex(range.end),
            max_bytes,
            &mut out,
        )?;
        Ok(out
            .iter()
            .map(|entry| (entry.index().0, entry.term().0))
            .collect())
    }

    #[test]
    fn entries_give_at_least_one_and_no_more_than_fits() {
        let mut tail = Tail::default();
        tail.apply(Ticket(1), append(1, 5, 1));
        assert_eq!(held(&tail, 2..5, 0).unwrap(), [(2, 1)]);
        assert_eq!(held(&tail, 2..5, 19).unwrap(), [(2, 1)]);
        assert_eq!(held(&tail, 2..5, 20).unwrap(), [(2, 1), (3, 1)]);
        assert_eq!(held(&tail, 2..5, u64::MAX).unwrap().len(), 3);
        assert_eq!(held(&tail, 3..3, 0).unwrap(), []);
    }

    #[test]
    fn conflicting_append_replaces_the_suffix() {
        let mut tail = Tail::default();
        tail.apply(Ticket(1), append(1, 5, 1));
        tail.apply(Ticket(2), append(3, 3, 2));
        assert_eq!(
            held(&tail, 1..4, u64::MAX).unwrap(),
            [(1, 1), (2, 1), (3, 2)]
        );
        assert_eq!(held(&tail, 4..6, u64::MAX), Err(LogError::Cold));
    }

    #[test]
    fn eviction_spares_what_is_not_durable_although_its_index_was() {
        let mut tail = Tail::default();
        tail.apply(Ticket(1), append(1, 5, 1));
        tail.apply(Ticket(2), append(3, 5, 2));
        // Ticket 1 made indexes 3 to 5 durable once, with other entries.
        tail.evict(Ticket(1), 0);
        assert_eq!(held(&tail, 2..4, u64::MAX), Err(LogError::Cold));
        assert_eq!(
            held(&tail, 3..6, u64::MAX).unwrap(),
            [(3, 2), (4, 2), (5, 2)]
        );
        tail.evict(Ticket(2), tail.bytes() - 1);
        assert_eq!(tail.first(), Some(LogIndex(4)));
        tail.evict(Ticket(2), 0);
        assert_eq!((tail.first(), tail.bytes()), (None, 0));
        tail.apply(Ticket(3), append(6, 7, 2));
        assert_eq!(held(&tail, 6..8, u64::MAX).unwrap(), [(6, 2), (7, 2)]);
    }

    #[test]
    fn compaction_and_reset_drop_entries() {
        let mut tail = Tail::default();
        tail.apply(Ticket(1), append(1, 5, 1));
        let compact = GroupWrite {
            compact_to: Some(LogIndex(2)),
            ..GroupWrite::default()
        };
        tail.apply(Ticket(2), compact);
        assert_eq!(tail.first(), Some(LogIndex(3)));
        let last = LogId::new(Term(1), LogIndex(9));
        let reset_to = Some(SnapshotMeta {
            last,
            ..SnapshotMeta::default()
        });
        tail.apply(
            Ticket(3),
            GroupWrite {
                reset_to,
                ..append(10, 10, 1)
            },
        );
        assert_eq!(held(&tail, 10..11, u64::MAX).unwrap(), [(10, 1)]);
        assert_eq!(tail.first(), Some(LogIndex(10)));
    }
}
