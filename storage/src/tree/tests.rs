use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;

use super::*;

type Model = BTreeMap<Bytes, Bytes>;

#[derive(Clone, Debug)]
enum Step {
    Insert(u16, u8),
    /// So many keys in a row.
    InsertRun(u16, u8),
    Remove(u16),
    RemoveRange(u16, u16),
    Keep,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => any::<(u16, u8)>().prop_map(|(key, value)| Step::Insert(key, value)),
        8 => any::<(u16, u8)>().prop_map(|(key, count)| Step::InsertRun(key, count)),
        8 => any::<u16>().prop_map(Step::Remove),
        2 => any::<(u16, u16)>().prop_map(|(start, end)| Step::RemoveRange(start, end)),
        1 => Just(Step::Keep),
    ]
}

/// One of some 2,000 keys: of several lengths, some the beginning of others, with much in common or
/// nothing, and with zeros at their ends.
fn key(number: u16) -> Bytes {
    let number = number % 2_048;
    let prefix: &[u8] = match number % 3 {
        0 => b"",
        1 => b"common",
        _ => b"common beginning\0",
    };
    let digits = (number / 4).to_be_bytes();
    let zeros = [0; 3];
    let parts = [prefix, &digits, &zeros[..usize::from(number % 4)]];
    Bytes::from(parts.concat())
}

fn scanned(tree: &Tree<Bytes>, range: KeyRange<'_>, order: ScanOrder) -> Vec<(Bytes, Bytes)> {
    let found = tree.range(range, order);
    found
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Order, equal depth, widths within the limit, heads that are true; counts keys and their bytes.
fn sound(node: &Node<Bytes>, bounds: (&[u8], Option<&[u8]>)) -> (usize, usize, u64) {
    assert!((1..=WIDTH).contains(&node.width()));
    let within = |key: &Bytes| *key >= bounds.0 && bounds.1.is_none_or(|end| *key < end);
    match node {
        Node::Leaf(leaf) => {
            leaf.keys.check();
            assert_eq!(leaf.keys.len(), leaf.values.len());
            assert!(leaf.keys.iter().all(within));
            (1, leaf.values.len(), node.weight())
        }
        Node::Branch(branch) => {
            branch.keys.check();
            assert_eq!(branch.keys.len() + 1, branch.children.len());
            assert!(branch.keys.iter().all(within));
            let mut sums = (0, 0, 0);
            let starts = std::iter::once(bounds.0).chain(branch.keys.iter().map(Bytes::as_ref));
            let ends = branch
                .keys
                .iter()
                .map(|key| Some(key.as_ref()))
                .chain([bounds.1]);
            for (child, bounds) in branch.children.iter().zip(starts.zip(ends)) {
                let (depth, keys, bytes) = sound(child, bounds);
                assert!(sums.0 == 0 || sums.0 == depth, "leaves of different depths");
                sums = (depth, sums.1 + keys, sums.2 + bytes);
            }
            (sums.0 + 1, sums.1, sums.2)
        }
    }
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
    assert_eq!(tree.bytes(), bytes as u64);
    assert_eq!(tree.is_empty(), model.is_empty());
    if let Some(root) = &tree.root {
        let (_, keys, weight) = sound(root, (&[], None));
        assert_eq!((keys, weight), (model.len(), bytes as u64));
    }
    for number in 0..2_048 {
        assert_eq!(tree.find(&key(number)), model.get(&key(number)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn tree_answers_as_a_btree_map_and_its_clones_never_change(
        steps in prop::collection::vec(step(), 1..100),
        bounds in prop::collection::vec((any::<u16>(), any::<u16>(), 0..9u8), 8),
    ) {
        let (mut tree, mut model) = (Tree::<Bytes>::default(), Model::new());
        let mut kept = Vec::new();
        for step in steps {
            match step {
                Step::Insert(number, value) => {
                    let value = Bytes::from(vec![value; usize::from(value % 5)]);
                    let before = tree.insert(key(number), value.clone());
                    prop_assert_eq!(before, model.insert(key(number), value));
                }
                Step::InsertRun(start, count) => {
                    for number in (0..u16::from(count)).map(|at| start.wrapping_add(at)) {
                        tree.insert(key(number), Bytes::new());
                        model.insert(key(number), Bytes::new());
                    }
                }
                Step::Remove(number) => {
                    tree.remove(&key(number));
                    model.remove(&key(number));
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

fn depth(tree: &Tree<Bytes>) -> usize {
    let root = tree.root.as_ref().expect("keys");
    sound(root, (&[], None)).0
}

fn numbered(keys: std::ops::Range<u32>) -> Tree<Bytes> {
    let mut tree = Tree::default();
    for key in keys {
        tree.insert(Bytes::copy_from_slice(&key.to_be_bytes()), Bytes::new());
    }
    tree
}

#[test]
fn ascending_keys_fill_the_leaves() {
    let width = u32::try_from(WIDTH).expect("small");
    assert_eq!(depth(&numbered(0..width * width)), 2);
    assert_eq!(depth(&numbered(0..width * width * width)), 3);
}

#[test]
fn removed_keys_leave_no_thin_nodes() {
    let mut tree = numbered(0..50_000);
    for key in (0..50_000u32).filter(|key| key % 50 != 0) {
        tree.remove(&key.to_be_bytes());
    }
    assert!(depth(&tree) <= 4, "{}", depth(&tree));
    let mut leaves = 0;
    count_leaves(tree.root.as_ref().expect("keys"), &mut leaves);
    assert!(
        leaves <= 2 * 1_000 / NARROW,
        "{leaves} leaves for 1,000 keys"
    );
    tree.remove_range(&[], &[255; 5]);
    assert!(tree.is_empty());
}

fn count_leaves(node: &Node<Bytes>, leaves: &mut usize) {
    match node {
        Node::Leaf(_) => *leaves += 1,
        Node::Branch(branch) => {
            for child in &branch.children {
                count_leaves(child, leaves);
            }
        }
    }
}

#[test]
fn change_copies_only_its_path() {
    let mut tree = numbered(0..10_000);
    let kept = tree.clone();
    tree.insert(Bytes::from_static(b"\0\0\x10\0new"), Bytes::new());
    let (mut shared, root) = (0, kept.root.as_ref().expect("keys"));
    count_shared(root, &mut shared);
    assert!(shared >= 10_000 - WIDTH, "{shared}");
}

/// Keys in nodes that stand under a link that both trees hold, or below such a one.
fn count_shared(node: &Arc<Node<Bytes>>, shared: &mut usize) {
    if Arc::strong_count(node) > 1 {
        *shared += sound(node, (&[], None)).1;
    } else if let Node::Branch(branch) = &**node {
        for child in &branch.children {
            count_shared(child, shared);
        }
    }
}
