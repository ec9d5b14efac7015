//! An ordered map whose clones are free and independent: a B-tree with shared nodes. A change
//! copies the nodes on its path that a clone still shares, and no more.

mod keys;
mod range;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use raftwerk_raft::{KeyRange, ScanOrder};

use self::keys::Keys;
pub use self::range::Range;

/// The most keys of a leaf, and children of a branch.
const WIDTH: usize = 32;
/// A node with fewer is joined with a neighbour if both fit into one.
const NARROW: usize = WIDTH / 4;

/// A value of a [`Tree`].
pub trait Weigh: Clone {
    /// Its bytes, as the tree is to count them.
    fn bytes(&self) -> usize;
}

impl Weigh for Bytes {
    fn bytes(&self) -> usize {
        self.len()
    }
}

/// What a layer over another says of a key: `None` hides what is below.
impl Weigh for Option<Bytes> {
    fn bytes(&self) -> usize {
        self.as_ref().map_or(0, Bytes::len)
    }
}

/// Keys and values.
#[derive(Clone, Debug)]
pub struct Tree<V> {
    /// Never a node with nothing in it, nor a branch with one child.
    root: Option<Arc<Node<V>>>,
    /// Of all keys and values.
    bytes: u64,
}

impl<V> Default for Tree<V> {
    fn default() -> Self {
        Self {
            root: None,
            bytes: 0,
        }
    }
}

#[derive(Clone, Debug)]
enum Node<V> {
    Leaf(Leaf<V>),
    Branch(Branch<V>),
}

#[derive(Clone, Debug)]
struct Leaf<V> {
    keys: Keys,
    /// One for each key.
    values: Vec<V>,
}

#[derive(Clone, Debug)]
struct Branch<V> {
    /// One between two children: above all keys of the one before it, and not above any of the one
    /// behind it.
    keys: Keys,
    children: Vec<Arc<Node<V>>>,
}

/// What comes of putting a key into a node.
enum Put<V> {
    /// The value that the key had before.
    Done(Option<V>),
    /// The key is new, and the node gave away its upper half, which begins with this key.
    Split(Bytes, Arc<Node<V>>),
}

fn weight<V: Weigh>(key: &[u8], value: &V) -> u64 {
    (key.len() + value.bytes()) as u64
}

impl<V: Weigh> Tree<V> {
    /// Bytes of all keys and values.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// True when it has no key.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// The value of `key`.
    #[must_use]
    pub fn find(&self, key: &[u8]) -> Option<&V> {
        let mut node = self.root.as_ref()?;
        loop {
            match &**node {
                Node::Leaf(leaf) => return leaf.values.get(leaf.keys.search(key).ok()?),
                Node::Branch(branch) => node = branch.children.get(branch.place(key))?,
            }
        }
    }

    /// Sets the value of `key`; returns the one that it had.
    pub fn insert(&mut self, key: Bytes, value: V) -> Option<V> {
        let (length, added) = (key.len(), weight(&key, &value));
        let put = match &mut self.root {
            Some(root) => Arc::make_mut(root).put(key, value),
            None => {
                self.root = Some(Arc::new(Node::Leaf(Leaf {
                    keys: Keys::of(key),
                    values: vec![value],
                })));
                Put::Done(None)
            }
        };
        let before = match put {
            Put::Done(before) => before,
            Put::Split(middle, upper) => {
                let children = self.root.take().into_iter().chain([upper]).collect();
                let keys = Keys::of(middle);
                self.root = Some(Arc::new(Node::Branch(Branch { keys, children })));
                None
            }
        };
        let freed = before.as_ref().map_or(0, |value| length + value.bytes());
        self.bytes = self
            .bytes
            .saturating_add(added)
            .saturating_sub(freed as u64);
        before
    }

    /// Removes `key`.
    pub fn remove(&mut self, key: &[u8]) {
        // Looks first, so that removing nothing copies nothing.
        if self.find(key).is_some() {
            let next: Vec<u8> = key.iter().copied().chain([0]).collect();
            self.remove_range(key, &next);
        }
    }

    /// Removes the keys of `[start, end)`.
    pub fn remove_range(&mut self, start: &[u8], end: &[u8]) {
        let Some(root) = &mut self.root else { return };
        if start >= end {
            return;
        }
        let freed = Arc::make_mut(root).cut(start, end);
        self.bytes = self.bytes.saturating_sub(freed);
        while let Some(root) = &mut self.root {
            match &**root {
                Node::Leaf(leaf) if leaf.values.is_empty() => self.root = None,
                Node::Branch(branch) if branch.children.len() < 2 => {
                    self.root = branch.children.first().cloned();
                }
                _ => return,
            }
        }
    }

    /// The keys of `range` with their values, in `order`.
    #[must_use]
    pub fn range<'a>(&'a self, range: KeyRange<'a>, order: ScanOrder) -> Range<'a, V> {
        Range::new(self.root.as_deref(), range, order)
    }
}

impl<V: Weigh> Node<V> {
    /// Keys, or children.
    const fn width(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.values.len(),
            Self::Branch(branch) => branch.children.len(),
        }
    }

    /// Bytes of all keys and values.
    fn weight(&self) -> u64 {
        match self {
            Self::Leaf(leaf) => {
                let pairs = leaf.keys.iter().zip(&leaf.values);
                pairs.map(|(key, value)| weight(key, value)).sum()
            }
            Self::Branch(branch) => branch.children.iter().map(|node| node.weight()).sum(),
        }
    }

    fn put(&mut self, key: Bytes, value: V) -> Put<V> {
        match self {
            Self::Leaf(leaf) => leaf.put(key, value),
            Self::Branch(branch) => branch.put(key, value),
        }
    }

    /// Removes the keys of `[start, end)`; returns their bytes, those of the values included.
    fn cut(&mut self, start: &[u8], end: &[u8]) -> u64 {
        match self {
            Self::Leaf(leaf) => {
                let place = |key| leaf.keys.search(key).unwrap_or_else(|at| at);
                let (from, to) = (place(start), place(end));
                let values = leaf.values.drain(from..to);
                let keys = leaf.keys.drain(from..to);
                keys.zip(values)
                    .map(|(key, value)| weight(&key, &value))
                    .sum()
            }
            Self::Branch(branch) => branch.cut(start, end),
        }
    }

    /// Takes over what `above` has; `between` stands between the two.
    fn join(&mut self, between: Bytes, above: Self) {
        match (self, above) {
            (Self::Leaf(below), Self::Leaf(above)) => {
                below.keys.append(above.keys);
                below.values.extend(above.values);
            }
            (Self::Branch(below), Self::Branch(above)) => {
                below.keys.insert(below.keys.len(), between);
                below.keys.append(above.keys);
                below.children.extend(above.children);
            }
            // All leaves are equally deep.
            _ => {}
        }
    }
}

/// Where a node that has become too wide is split: in the middle, or, as long as keys ascend, so
/// that what stays behind is full.
const fn middle(at: usize, width: usize) -> usize {
    if at + 1 == width { at } else { width / 2 }
}

impl<V: Weigh> Leaf<V> {
    fn put(&mut self, key: Bytes, value: V) -> Put<V> {
        let at = match self.keys.search(&key) {
            Ok(at) => {
                let place = self.values.get_mut(at);
                return Put::Done(place.map(|place| std::mem::replace(place, value)));
            }
            Err(at) => at,
        };
        self.keys.insert(at, key);
        self.values.insert(at, value);
        if self.values.len() <= WIDTH {
            return Put::Done(None);
        }
        let middle = middle(at, self.values.len());
        let keys = self.keys.split_off(middle);
        let values = self.values.split_off(middle);
        match keys.iter().next().cloned() {
            Some(first) => Put::Split(first, Arc::new(Node::Leaf(Self { keys, values }))),
            None => Put::Done(None),
        }
    }
}

impl<V: Weigh> Branch<V> {
    /// Which child `key` belongs to.
    fn place(&self, key: &[u8]) -> usize {
        match self.keys.search(key) {
            Ok(at) => at + 1,
            Err(at) => at,
        }
    }

    fn put(&mut self, key: Bytes, value: V) -> Put<V> {
        let at = self.place(&key);
        let Some(child) = self.children.get_mut(at) else {
            return Put::Done(None);
        };
        let (first, upper) = match Arc::make_mut(child).put(key, value) {
            Put::Split(first, upper) => (first, upper),
            done @ Put::Done(_) => return done,
        };
        self.keys.insert(at, first);
        self.children.insert(at + 1, upper);
        if self.children.len() <= WIDTH {
            return Put::Done(None);
        }
        let middle = middle(at + 1, self.children.len());
        let children = self.children.split_off(middle);
        let keys = self.keys.split_off(middle);
        // Stood between the halves.
        match self.keys.pop() {
            Some(between) => {
                let upper = Node::Branch(Self { keys, children });
                Put::Split(between, Arc::new(upper))
            }
            None => Put::Done(None),
        }
    }

    fn cut(&mut self, start: &[u8], end: &[u8]) -> u64 {
        let (first, last) = (self.place(start), self.place(end));
        let mut freed = 0;
        // The children between the two go whole; the one before keeps what stands behind it.
        if last > first + 1 {
            let gone = self.children.drain(first + 1..last);
            freed = gone.map(|node| node.weight()).sum();
            drop(self.keys.drain(first..last - 1));
        }
        for at in (first..=last.min(first + 1)).rev() {
            if let Some(child) = self.children.get_mut(at) {
                freed += Arc::make_mut(child).cut(start, end);
                self.mend(at);
            }
        }
        freed
    }

    /// Drops a child without keys, and joins a narrow one with a neighbour if both fit into one.
    fn mend(&mut self, at: usize) {
        let width = |at: usize| self.children.get(at).map(|node| node.width());
        let Some(own) = width(at) else { return };
        if own == 0 {
            self.children.remove(at);
            if self.keys.len() > 0 {
                drop(self.keys.drain(at.saturating_sub(1)..at.max(1)));
            }
            return;
        }
        if own >= NARROW {
            return;
        }
        let fits = |other: Option<usize>| other.is_some_and(|other| other + own <= WIDTH);
        let below = match at.checked_sub(1) {
            Some(below) if fits(width(below)) => below,
            _ if fits(width(at + 1)) => at,
            _ => return,
        };
        let above = self.children.remove(below + 1);
        let between = self.keys.drain(below..below + 1).next();
        if let (Some(child), Some(between)) = (self.children.get_mut(below), between) {
            Arc::make_mut(child).join(between, Arc::unwrap_or_clone(above));
        }
    }
}
