//! Entries that several hold at once without a copy.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::entry::Entry;
use crate::types::{LogId, Term};

/// Some entries, shared: a clone is the same memory. What a leader appends stands once, in its
/// log, in the messages to its followers and in what it hands out to be written and applied; one
/// clone of a few keeps all that were made together.
#[derive(Clone, Default)]
pub struct Entries {
    /// None: no entries.
    shared: Option<Arc<[Entry]>>,
    start: usize,
    end: usize,
}

impl Entries {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            shared: None,
            start: 0,
            end: 0,
        }
    }

    /// Those at `places`, as far as there are any.
    #[must_use]
    #[inline]
    pub fn part(&self, places: Range<usize>) -> Self {
        let end = self.start.saturating_add(places.end).min(self.end);
        let start = self.start.saturating_add(places.start);
        if start >= end {
            return Self::new();
        }
        Self {
            shared: self.shared.clone(),
            start,
            end,
        }
    }

    /// Keeps the first `count`.
    pub fn truncate(&mut self, count: usize) {
        self.end = self.end.min(self.start.saturating_add(count));
        if self.start >= self.end {
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

impl From<Arc<[Entry]>> for Entries {
    fn from(shared: Arc<[Entry]>) -> Self {
        let end = shared.len();
        Self {
            shared: (end > 0).then_some(shared),
            start: 0,
            end,
        }
    }
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
        IntoIter(self)
    }
}

/// The entries of an [`Entries`], one by one.
#[derive(Clone, Debug)]
pub struct IntoIter(Entries);

impl Iterator for IntoIter {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let entry = self.0.first()?.clone();
        self.0.start = self.0.start.saturating_add(1);
        Some(entry)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.len(), Some(self.0.len()))
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
            Vec::new().into(),
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
