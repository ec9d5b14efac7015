//! Entries that several hold at once without a copy.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use bytes::Bytes;

use crate::entry::{Entry, EntryKind};
use crate::log::payload_bytes;
use crate::types::{LogId, Term};

/// Some entries, shared: a clone is the same memory. What a leader appends stands once, in its
/// log, in the messages to its followers and in what it hands out to be written and applied; one
/// clone of a few keeps all that were made together.
#[derive(Clone, Default)]
pub struct Entries {
    /// None: no entries. Otherwise there is at least one from `start` to `end`.
    shared: Option<Arc<[Entry]>>,
    start: usize,
    end: usize,
    /// The payload of those from `start` to `end`: asked for all the time.
    payload: u64,
    /// A configuration change is among what is shared.
    changes: bool,
}

impl Entries {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            shared: None,
            start: 0,
            end: 0,
            payload: 0,
            changes: false,
        }
    }

    /// How many they are.
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// There are none.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.shared.is_none()
    }

    /// The first of them: as the slice has it, but looked at all the time.
    #[must_use]
    #[inline]
    pub fn first(&self) -> Option<&Entry> {
        self.shared.as_deref()?.get(self.start)
    }

    /// The last of them, likewise.
    #[must_use]
    #[inline]
    pub fn last(&self) -> Option<&Entry> {
        self.shared.as_deref()?.get(self.end.checked_sub(1)?)
    }

    /// How many bytes of payload they are together.
    #[must_use]
    #[inline]
    pub const fn payload_bytes(&self) -> u64 {
        self.payload
    }

    /// Whether there may be a configuration change among them.
    #[inline]
    pub(crate) const fn may_change_conf(&self) -> bool {
        self.changes
    }

    /// Shares a part of the same memory.
    fn of(shared: Arc<[Entry]>, start: usize, end: usize, changes: bool) -> Self {
        let mut part = Self {
            shared: Some(shared),
            start,
            end,
            payload: 0,
            changes,
        };
        part.payload = payload_of(&part);
        part
    }

    /// Those at `places`, as far as there are any.
    #[must_use]
    #[inline]
    pub fn part(&self, places: Range<usize>) -> Self {
        let end = self.start.saturating_add(places.end).min(self.end);
        let start = self.start.saturating_add(places.start);
        if start == self.start && end == self.end {
            return self.clone();
        }
        match &self.shared {
            Some(shared) if start < end => Self::of(Arc::clone(shared), start, end, self.changes),
            _ => Self::new(),
        }
    }

    /// Leaves the first `count` out.
    #[inline]
    pub(crate) fn skip(self, count: usize) -> Self {
        if count == 0 {
            return self;
        }
        self.part(count..usize::MAX)
    }

    /// Keeps the first `count`.
    pub fn truncate(&mut self, count: usize) {
        let end = self.start.saturating_add(count);
        if end < self.end {
            *self = self.part(0..count);
        }
    }

    /// Leaves all of them out.
    #[inline]
    pub(crate) fn clear(&mut self) {
        if self.shared.is_some() {
            *self = Self::new();
        }
    }

    /// Gives them ids of `term`, one behind the other behind `before`, and says the last.
    #[inline]
    pub(crate) fn number(&mut self, term: Term, before: LogId) -> LogId {
        let places = self.start..self.end;
        let own = self.shared.as_mut().and_then(Arc::get_mut);
        let Some(own) = own.and_then(|own| own.get_mut(places)) else {
            if self.is_empty() {
                return before;
            }
            // Somebody else looks at them too.
            *self = self.iter().cloned().collect();
            return self.number(term, before);
        };
        let mut last = before;
        for entry in own {
            last = LogId::new(term, last.index.next());
            entry.id = last;
        }
        last
    }
}

impl Deref for Entries {
    type Target = [Entry];

    #[inline]
    fn deref(&self) -> &[Entry] {
        let shared = self.shared.as_deref().unwrap_or_default();
        shared.get(self.start..self.end).unwrap_or_default()
    }
}

impl AsRef<[Entry]> for Entries {
    fn as_ref(&self) -> &[Entry] {
        self
    }
}

impl FromIterator<Entry> for Entries {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let shared: Arc<[Entry]> = entries.into_iter().collect();
        shared.into()
    }
}

/// Normal entries to be proposed: they have no ids yet.
impl FromIterator<Bytes> for Entries {
    fn from_iter<I: IntoIterator<Item = Bytes>>(payloads: I) -> Self {
        let entry = |data| Entry::normal(LogId::ZERO, data);
        payloads.into_iter().map(entry).collect()
    }
}

impl From<Vec<Bytes>> for Entries {
    fn from(payloads: Vec<Bytes>) -> Self {
        payloads.into_iter().collect()
    }
}

impl From<Arc<[Entry]>> for Entries {
    fn from(shared: Arc<[Entry]>) -> Self {
        let end = shared.len();
        // Nothing is kept of none.
        if end == 0 {
            return Self::new();
        }
        let changes = shared.iter().any(|entry| entry.kind != EntryKind::Normal);
        Self::of(shared, 0, end, changes)
    }
}

fn payload_of(entries: &[Entry]) -> u64 {
    let bytes = entries.iter().map(payload_bytes);
    bytes.fold(0, u64::saturating_add)
}

impl From<Vec<Entry>> for Entries {
    fn from(entries: Vec<Entry>) -> Self {
        // Nothing is allocated for none.
        if entries.is_empty() {
            return Self::new();
        }
        Arc::<[Entry]>::from(entries).into()
    }
}

impl From<Entry> for Entries {
    fn from(entry: Entry) -> Self {
        let shared: Arc<[Entry]> = Arc::new([entry]);
        shared.into()
    }
}

impl<'a> IntoIterator for &'a Entries {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Entries {
    type Item = Entry;
    type IntoIter = IntoIter;

    /// Clones of them: others may hold them too.
    fn into_iter(self) -> IntoIter {
        IntoIter {
            entries: self,
            next: 0,
        }
    }
}

/// The entries of an [`Entries`], one by one.
#[derive(Clone, Debug)]
pub struct IntoIter {
    entries: Entries,
    next: usize,
}

impl Iterator for IntoIter {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let entry = self.entries.get(self.next)?.clone();
        self.next = self.next.saturating_add(1);
        Some(entry)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.entries.len().saturating_sub(self.next);
        (left, Some(left))
    }
}

impl ExactSizeIterator for IntoIter {}

impl fmt::Debug for Entries {
    /// As a list.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Entries {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::LogIndex;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(Term(term), LogIndex(index))
    }

    fn entries(count: u64) -> Entries {
        let entry = |index| Entry::normal(id(1, index), "x".into());
        (1..=count).map(entry).collect()
    }

    fn indexes(entries: &Entries) -> Vec<u64> {
        entries.iter().map(|entry| entry.index().0).collect()
    }

    #[test]
    fn a_part_is_the_same_memory() {
        let all = entries(5);
        let part = all.part(1..4);
        assert_eq!(indexes(&part), [2, 3, 4]);
        assert!(std::ptr::eq(&part[0], &all[1]));
        assert_eq!(indexes(&part.part(1..9)), [3, 4]);
        assert_eq!(part.part(3..9), Entries::new());
        let mut short = part.clone();
        short.truncate(1);
        assert_eq!((indexes(&short), part.len()), (vec![2], 3));
    }

    #[test]
    fn what_is_made_of_nothing_is_empty() {
        for none in [
            Entries::new(),
            Vec::<Entry>::new().into(),
            entries(0),
            entries(3).part(3..3),
        ] {
            assert!(none.is_empty() && none.shared.is_none());
        }
    }

    #[test]
    fn numbering_leaves_what_others_hold_as_it_is() {
        let mut own = entries(3);
        let others = own.clone();
        assert_eq!(own.number(Term(7), id(2, 10)), id(7, 13));
        assert_eq!(indexes(&own), [11, 12, 13]);
        assert_eq!(indexes(&others), [1, 2, 3]);
        assert_eq!(own.number(Term(8), id(7, 1)), id(8, 4));
        assert_eq!(Entries::new().number(Term(8), id(7, 1)), id(7, 1));
    }
}
