//! What stands in memory before the B-tree: the newest changes, and the ones that are on their way
//! into it.

use std::cmp::Ordering;
use std::iter::Peekable;

use bytes::Bytes;
use raftwerk_raft::{KeyRange, ScanOrder};
use raftwerk_storage::tree::{Range, Tree};

/// What a change leaves of a key: `None` when it is removed.
pub(crate) type Change = Option<Bytes>;

/// Both tables, or a moment of them: a clone is free.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layers {
    /// Takes what is written.
    pub(crate) active: Tree<Change>,
    /// Older than `active`; goes into the B-tree piece by piece, and hides what stands there until
    /// it is all in.
    pub(crate) frozen: Tree<Change>,
}

impl Layers {
    /// The newest change of `key`.
    pub(crate) fn find(&self, key: &[u8]) -> Option<&Change> {
        self.active.find(key).or_else(|| self.frozen.find(key))
    }

    /// The newest change of every key of `range`, in `order`.
    pub(crate) fn range<'a>(&'a self, range: KeyRange<'a>, order: ScanOrder) -> Changes<'a> {
        Changes {
            newer: self.active.range(range, order).peekable(),
            older: self.frozen.range(range, order).peekable(),
            order,
        }
    }

    /// Bytes of all keys and values.
    pub(crate) fn bytes(&self) -> u64 {
        self.active.bytes().saturating_add(self.frozen.bytes())
    }
}

/// True when `one` comes before `other` in `order`.
pub(crate) fn comes_first(order: ScanOrder, one: &[u8], other: &[u8]) -> bool {
    match order {
        ScanOrder::Ascending => one < other,
        ScanOrder::Descending => one > other,
    }
}

/// The changes of both tables, one a key.
pub(crate) struct Changes<'a> {
    newer: Peekable<Range<'a, Change>>,
    older: Peekable<Range<'a, Change>>,
    order: ScanOrder,
}

impl<'a> Iterator for Changes<'a> {
    type Item = (&'a Bytes, &'a Change);

    fn next(&mut self) -> Option<Self::Item> {
        let (Some((newer, _)), Some((older, _))) = (self.newer.peek(), self.older.peek()) else {
            return self.newer.next().or_else(|| self.older.next());
        };
        if comes_first(self.order, older, newer) {
            return self.older.next();
        }
        if newer.cmp(older) == Ordering::Equal {
            // Hidden by the newer one.
            self.older.next();
        }
        self.newer.next()
    }
}
