//! Walking over a tree.

use std::iter::Zip;
use std::ops::Bound;
use std::slice::Iter;

use bytes::Bytes;
use raftwerk_raft::{KeyRange, ScanOrder};

use super::keys::Keys;
use super::{Branch, Leaf, Node, Weigh};

/// The keys of a range of a [`Tree`](super::Tree) with their values, by
/// [`Tree::range`](super::Tree::range).
#[derive(Debug)]
pub struct Range<'a, V> {
    /// From the root down, and which child of each is being walked over.
    path: Vec<(&'a Branch<V>, usize)>,
    /// What is left of the leaf.
    pairs: Zip<Iter<'a, Bytes>, Iter<'a, V>>,
    /// Nothing of the range stands behind this leaf.
    ended: bool,
    range: KeyRange<'a>,
    order: ScanOrder,
}

impl<'a, V: Weigh> Range<'a, V> {
    pub(super) fn new(root: Option<&'a Node<V>>, range: KeyRange<'a>, order: ScanOrder) -> Self {
        let mut found = Self {
            path: Vec::new(),
            pairs: [].iter().zip(&[]),
            ended: root.is_none(),
            range,
            order,
        };
        if let Some(root) = root {
            found.descend(root, true);
        }
        found
    }

    /// Goes down to a leaf: the one that the range begins in, or the first of `node`.
    fn descend(&mut self, mut node: &'a Node<V>, seeks: bool) {
        loop {
            let branch = match node {
                Node::Leaf(leaf) => return self.enter(leaf),
                Node::Branch(branch) => branch,
            };
            let bound = match self.order {
                ScanOrder::Ascending => self.range.0,
                ScanOrder::Descending => self.range.1,
            };
            let at = match (bound, self.order) {
                (Bound::Included(key) | Bound::Excluded(key), _) if seeks => branch.place(key),
                (_, ScanOrder::Ascending) => 0,
                (_, ScanOrder::Descending) => branch.children.len().saturating_sub(1),
            };
            self.path.push((branch, at));
            match branch.children.get(at) {
                Some(child) => node = child,
                None => return,
            }
        }
    }

    /// Takes what the range has of a leaf.
    fn enter(&mut self, leaf: &'a Leaf<V>) {
        let length = leaf.values.len();
        let from = match self.range.0 {
            Bound::Unbounded => 0,
            Bound::Included(start) => not_above(&leaf.keys, start),
            Bound::Excluded(start) => above(&leaf.keys, start),
        };
        let to = match self.range.1 {
            Bound::Unbounded => length,
            Bound::Included(end) => above(&leaf.keys, end),
            Bound::Excluded(end) => not_above(&leaf.keys, end),
        };
        self.ended = match self.order {
            ScanOrder::Ascending => to < length,
            ScanOrder::Descending => from > 0,
        };
        let keys = leaf.keys.slice(from..to.max(from));
        let values = leaf.values.get(from..to.max(from)).unwrap_or_default();
        self.pairs = keys.iter().zip(values);
    }

    /// Goes on to the next leaf.
    fn advance(&mut self) {
        while let Some((branch, at)) = self.path.pop() {
            let next = match self.order {
                ScanOrder::Ascending => Some(at + 1),
                ScanOrder::Descending => at.checked_sub(1),
            };
            let child = next.and_then(|next| Some((next, branch.children.get(next)?)));
            if let Some((next, child)) = child {
                self.path.push((branch, next));
                return self.descend(child, false);
            }
        }
        self.ended = true;
    }
}

/// How many keys are below `key`.
fn not_above(keys: &Keys, key: &[u8]) -> usize {
    keys.search(key).unwrap_or_else(|at| at)
}

/// How many keys are not above `key`.
fn above(keys: &Keys, key: &[u8]) -> usize {
    keys.search(key).map_or_else(|at| at, |at| at + 1)
}

impl<'a, V: Weigh> Iterator for Range<'a, V> {
    type Item = (&'a Bytes, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let next = match self.order {
                ScanOrder::Ascending => self.pairs.next(),
                ScanOrder::Descending => self.pairs.next_back(),
            };
            if next.is_some() || self.ended {
                return next;
            }
            self.advance();
        }
    }
}
