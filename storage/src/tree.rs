//! An ordered map whose clones are free and independent: a treap (Seidel and Aragon, 1996) with
//! shared nodes. A change copies the nodes on its path that a clone still shares, and no more.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use raftwerk_raft::{KeyRange, ScanOrder};

type Link<V> = Option<Arc<Node<V>>>;

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

/// Keys and values; as many levels deep as a few times the logarithm of their number.
#[derive(Clone, Debug)]
pub struct Tree<V> {
    root: Link<V>,
    /// State of the generator of priorities. Keys have no influence on it, so nobody can choose
    /// keys that unbalance the tree.
    seed: u64,
}

impl<V> Default for Tree<V> {
    fn default() -> Self {
        Self {
            root: None,
            seed: 0,
        }
    }
}

#[derive(Clone, Debug)]
struct Node<V> {
    key: Bytes,
    value: V,
    priority: u64,
    left: Link<V>,
    right: Link<V>,
    /// Of keys and values of this node and those below.
    bytes: u64,
}

impl<V: Weigh> Node<V> {
    fn own_bytes(&self) -> u64 {
        (self.key.len() + self.value.bytes()) as u64
    }

    fn sum(&mut self) {
        self.bytes = self.own_bytes() + bytes(&self.left) + bytes(&self.right);
    }
}

fn bytes<V>(link: &Link<V>) -> u64 {
    link.as_ref().map_or(0, |node| node.bytes)
}

impl<V: Weigh> Tree<V> {
    /// Bytes of all keys and values.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        bytes(&self.root)
    }

    /// True when it has no key.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// The value of `key`.
    #[must_use]
    pub fn find(&self, key: &[u8]) -> Option<&V> {
        let mut at = &self.root;
        while let Some(node) = at {
            at = match key.cmp(&node.key) {
                Ordering::Equal => return Some(&node.value),
                Ordering::Less => &node.left,
                Ordering::Greater => &node.right,
            };
        }
        None
    }

    /// Sets the value of `key`.
    pub fn insert(&mut self, key: Bytes, value: V) {
        let priority = self.draw();
        let bytes = (key.len() + value.bytes()) as u64;
        insert(
            &mut self.root,
            Node {
                key,
                value,
                priority,
                left: None,
                right: None,
                bytes,
            },
        );
    }

    /// Removes `key`.
    pub fn remove(&mut self, key: &[u8]) {
        // Looks first, so that removing nothing copies nothing.
        if self.find(key).is_some() {
            remove(&mut self.root, key);
        }
    }

    /// Removes the keys of `[start, end)`.
    pub fn remove_range(&mut self, start: &[u8], end: &[u8]) {
        if start >= end {
            return;
        }
        let (below, rest) = split(self.root.take(), start);
        let (_, above) = split(rest, end);
        self.root = merge(below, above);
    }

    /// The keys of `range` with their values, in `order`.
    #[must_use]
    pub fn range<'a>(&'a self, range: KeyRange<'a>, order: ScanOrder) -> Range<'a, V> {
        let mut found = Range {
            path: Vec::new(),
            range,
            order,
        };
        found.descend(&self.root);
        found
    }

    /// SplitMix64 (Steele, Lea, Flood, 2014).
    fn draw(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.seed;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

fn insert<V: Weigh>(link: &mut Link<V>, mut new: Node<V>) {
    let Some(at) = link else {
        *link = Some(Arc::new(new));
        return;
    };
    let order = new.key.cmp(&at.key);
    if order == Ordering::Equal || new.priority <= at.priority {
        let node = Arc::make_mut(at);
        match order {
            Ordering::Less => insert(&mut node.left, new),
            Ordering::Greater => insert(&mut node.right, new),
            Ordering::Equal => node.value = new.value,
        }
        node.sum();
        return;
    }
    // The new node goes here; the key may still stand below.
    let (left, rest) = split(link.take(), &new.key);
    new.left = left;
    new.right = rest;
    if leftmost_is(&new.right, &new.key) {
        remove(&mut new.right, &new.key);
    }
    new.sum();
    *link = Some(Arc::new(new));
}

fn leftmost_is<V>(link: &Link<V>, key: &[u8]) -> bool {
    let mut at = link;
    while let Some(node) = at {
        if node.left.is_none() {
            return node.key == key;
        }
        at = &node.left;
    }
    false
}

/// Removes a key that is there.
fn remove<V: Weigh>(link: &mut Link<V>, key: &[u8]) {
    let Some(at) = link else { return };
    let node = Arc::make_mut(at);
    match key.cmp(&node.key) {
        Ordering::Less => remove(&mut node.left, key),
        Ordering::Greater => remove(&mut node.right, key),
        Ordering::Equal => {
            *link = merge(node.left.take(), node.right.take());
            return;
        }
    }
    node.sum();
}

/// The keys below `key`, and the others.
fn split<V: Weigh>(link: Link<V>, key: &[u8]) -> (Link<V>, Link<V>) {
    let Some(mut at) = link else {
        return (None, None);
    };
    let node = Arc::make_mut(&mut at);
    if node.key < key {
        let (below, rest) = split(node.right.take(), key);
        node.right = below;
        node.sum();
        (Some(at), rest)
    } else {
        let (below, rest) = split(node.left.take(), key);
        node.left = rest;
        node.sum();
        (below, Some(at))
    }
}

/// Joins two trees; every key of the first is below every key of the second.
fn merge<V: Weigh>(below: Link<V>, above: Link<V>) -> Link<V> {
    match (below, above) {
        (link, None) | (None, link) => link,
        (Some(mut below), Some(above)) if below.priority >= above.priority => {
            let node = Arc::make_mut(&mut below);
            node.right = merge(node.right.take(), Some(above));
            node.sum();
            Some(below)
        }
        (below, Some(mut above)) => {
            let node = Arc::make_mut(&mut above);
            node.left = merge(below, node.left.take());
            node.sum();
            Some(above)
        }
    }
}

/// The keys of a range of a [`Tree`], by [`Tree::range`].
#[derive(Debug)]
pub struct Range<'a, V> {
    /// What comes next is on top; of each node here one side is still to come.
    path: Vec<&'a Node<V>>,
    range: KeyRange<'a>,
    order: ScanOrder,
}

impl<'a, V> Range<'a, V> {
    /// Goes down to the first key of the subtree that the range does not leave out.
    fn descend(&mut self, mut link: &'a Link<V>) {
        while let Some(node) = link {
            let ahead = match self.order {
                ScanOrder::Ascending => is_after(&node.key, self.range.0),
                ScanOrder::Descending => is_before(&node.key, self.range.1),
            };
            let (near, far) = match self.order {
                ScanOrder::Ascending => (&node.left, &node.right),
                ScanOrder::Descending => (&node.right, &node.left),
            };
            link = if ahead {
                self.path.push(node);
                near
            } else {
                far
            };
        }
    }
}

impl<'a, V> Iterator for Range<'a, V> {
    type Item = (&'a Bytes, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        let node = self.path.pop()?;
        let (within, far) = match self.order {
            ScanOrder::Ascending => (is_before(&node.key, self.range.1), &node.right),
            ScanOrder::Descending => (is_after(&node.key, self.range.0), &node.left),
        };
        if !within {
            self.path.clear();
            return None;
        }
        self.descend(far);
        Some((&node.key, &node.value))
    }
}

fn is_after(key: &[u8], start: Bound<&[u8]>) -> bool {
    match start {
        Bound::Unbounded => true,
        Bound::Included(start) => key >= start,
        Bound::Excluded(start) => key > start,
    }
}

fn is_before(key: &[u8], end: Bound<&[u8]>) -> bool {
    match end {
        Bound::Unbounded => true,
        Bound::Included(end) => key <= end,
        Bound::Excluded(end) => key < end,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Model = BTreeMap<Bytes, Bytes>;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8, u8),
        Remove(u8),
        RemoveRange(u8, u8),
        Keep,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => any::<(u8, u8)>().prop_map(|(key, value)| Step::Insert(key, value)),
            3 => any::<u8>().prop_map(Step::Remove),
            1 => any::<(u8, u8)>().prop_map(|(start, end)| Step::RemoveRange(start, end)),
            1 => Just(Step::Keep),
        ]
    }

    fn key(byte: u8) -> Bytes {
        Bytes::from(vec![byte; 1 + usize::from(byte % 3)])
    }

    fn scanned(tree: &Tree<Bytes>, range: KeyRange<'_>, order: ScanOrder) -> Vec<(Bytes, Bytes)> {
        let found = tree.range(range, order);
        found
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// Heap order, and the sums.
    fn sound(link: &Link<Bytes>) -> u64 {
        let Some(node) = link else { return 0 };
        for child in [&node.left, &node.right].into_iter().flatten() {
            assert!(child.priority <= node.priority);
        }
        let sum = node.own_bytes() + sound(&node.left) + sound(&node.right);
        assert_eq!(node.bytes, sum);
        sum
    }

    fn compare(tree: &Tree<Bytes>, model: &Model) {
        let mut all: Vec<_> = model
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let everything = (Bound::Unbounded, Bound::Unbounded);
        assert_eq!(scanned(tree, everything, ScanOrder::Ascending), all);
        all.reverse();
        assert_eq!(scanned(tree, everything, ScanOrder::Descending), all);
        let bytes: usize = all.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert_eq!(sound(&tree.root), bytes as u64);
        for byte in 0..=u8::MAX {
            assert_eq!(tree.find(&key(byte)), model.get(&key(byte)));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn tree_answers_as_a_btree_map_and_its_clones_never_change(
            steps in prop::collection::vec(step(), 1..200),
            bounds in prop::collection::vec((any::<u8>(), any::<u8>(), 0..9u8), 8),
        ) {
            let (mut tree, mut model) = (Tree::<Bytes>::default(), Model::new());
            let mut kept = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(byte, value) => {
                        let value = Bytes::from(vec![value; usize::from(value % 5)]);
                        tree.insert(key(byte), value.clone());
                        model.insert(key(byte), value);
                    }
                    Step::Remove(byte) => {
                        tree.remove(&key(byte));
                        model.remove(&key(byte));
                    }
                    Step::RemoveRange(start, end) => {
                        let (start, end) = (key(start), key(end));
                        tree.remove_range(&start, &end);
                        model.retain(|key, _| *key < start || *key >= end);
                    }
                    Step::Keep => kept.push((tree.clone(), model.clone())),
                }
            }
            kept.push((tree, model));
            for (tree, model) in &kept {
                compare(tree, model);
                for (start, end, kind) in &bounds {
                    let (start, end) = (key(*start), key(*end));
                    let bound = |kind, key| match kind {
                        0 => Bound::Unbounded,
                        1 => Bound::Included(key),
                        _ => Bound::Excluded(key),
                    };
                    let range = (bound(kind % 3, start.as_ref()), bound(kind / 3, end.as_ref()));
                    let wanted = model.iter().filter(|(key, _)| {
                        std::ops::RangeBounds::<[u8]>::contains(&range, key.as_ref())
                    });
                    let mut wanted: Vec<_> =
                        wanted.map(|(key, value)| (key.clone(), value.clone())).collect();
                    prop_assert_eq!(&scanned(tree, range, ScanOrder::Ascending), &wanted);
                    wanted.reverse();
                    prop_assert_eq!(scanned(tree, range, ScanOrder::Descending), wanted);
                }
            }
        }
    }

    fn depth(link: &Link<Bytes>) -> usize {
        link.as_ref()
            .map_or(0, |node| 1 + depth(&node.left).max(depth(&node.right)))
    }

    #[test]
    fn ascending_keys_leave_the_tree_shallow() {
        let mut tree = Tree::<Bytes>::default();
        for key in 0..20_000u32 {
            tree.insert(Bytes::copy_from_slice(&key.to_be_bytes()), Bytes::new());
        }
        assert!(depth(&tree.root) < 60, "{}", depth(&tree.root));
    }

    #[test]
    fn change_copies_only_its_path() {
        let mut tree = Tree::<Bytes>::default();
        for key in 0..10_000u32 {
            tree.insert(Bytes::copy_from_slice(&key.to_be_bytes()), Bytes::new());
        }
        let kept = tree.clone();
        tree.insert(Bytes::from_static(b"\0\0\x10\0new"), Bytes::new());
        let mut shared = 0;
        count_shared(&kept.root, &mut shared);
        assert!(shared > 9_800, "{shared}");
    }

    /// Nodes that stand under a link that both trees hold, or below such a one.
    fn count_shared(link: &Link<Bytes>, shared: &mut usize) {
        let Some(node) = link else { return };
        if Arc::strong_count(node) > 1 {
            *shared += size(link);
        } else {
            count_shared(&node.left, shared);
            count_shared(&node.right, shared);
        }
    }

    fn size(link: &Link<Bytes>) -> usize {
        link.as_ref()
            .map_or(0, |node| 1 + size(&node.left) + size(&node.right))
    }
}
