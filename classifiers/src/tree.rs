//! Tree: an ordered set that never changes; an update copies one chunk and the way to it.

use std::ops::ControlFlow;
use std::sync::Arc;

/// Most entries of a chunk, and most branches of a node.
const FANOUT: usize = 64;

/// An entry knows its key.
pub(crate) trait Keyed: Clone {
    type Key: Ord + Copy + Default + std::fmt::Debug;

    fn key(&self) -> Self::Key;
}

/// Entries in ascending order of their keys, no two alike. Chunks of up to 64 entries are the leaves of a tree whose inner
/// nodes have up to 64 branches, all leaves at one depth: an update of one among 100,000 copies about 150 pointers, and
/// who holds the tree of before sees that one, complete, for as long as it likes.
#[derive(Clone, Debug)]
pub(crate) struct Tree<V: Keyed> {
    root: Node<V>,
}

#[derive(Debug)]
enum Node<V: Keyed> {
    /// Empty only as a root.
    Chunk(Vec<V>),
    /// At least two branches, each with the lowest key in it.
    Inner(Vec<(V::Key, Arc<Node<V>>)>),
}

/// With room for one more: copies are made to be added to.
impl<V: Keyed> Clone for Node<V> {
    fn clone(&self) -> Self {
        fn copy<T: Clone>(list: &[T]) -> Vec<T> {
            let mut copy = Vec::with_capacity(list.len() + 1);
            copy.extend_from_slice(list);
            copy
        }
        match self {
            Node::Chunk(entries) => Node::Chunk(copy(entries)),
            Node::Inner(branches) => Node::Inner(copy(branches)),
        }
    }
}

impl<V: Keyed> Default for Tree<V> {
    fn default() -> Self {
        Tree { root: Node::Chunk(Vec::new()) }
    }
}

impl<V: Keyed> Tree<V> {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        matches!(&self.root, Node::Chunk(entries) if entries.is_empty())
    }

    /// Calls `f` in order until it breaks.
    #[inline]
    pub(crate) fn try_for_each<'a, B>(&'a self, mut f: impl FnMut(&'a V) -> ControlFlow<B>) -> ControlFlow<B> {
        match &self.root {
            Node::Chunk(entries) => entries.iter().try_for_each(f),
            inner => inner.try_for_each(&mut f),
        }
    }

    /// The same for those whose key is at least `from`.
    #[inline]
    pub(crate) fn try_for_each_from<'a, B>(
        &'a self,
        from: V::Key,
        mut f: impl FnMut(&'a V) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        self.root.try_for_each_from(from, &mut f)
    }

    /// The first entry whose key is at least `key`.
    pub(crate) fn at_or_after(&self, key: V::Key) -> Option<&V> {
        self.root.at_or_after(key)
    }

    /// The last entry whose key is at most `key`.
    pub(crate) fn at_or_before(&self, key: V::Key) -> Option<&V> {
        self.root.at_or_before(key)
    }

    pub(crate) fn get(&self, key: V::Key) -> Option<&V> {
        self.at_or_after(key).filter(|entry| entry.key() == key)
    }

    /// A copy with `entry` in the place of its key.
    pub(crate) fn with(&self, entry: V) -> Tree<V> {
        self.with_all([entry])
    }

    /// A copy with each of `entries` in the place of its key. A node is copied once, however many of them are in it.
    pub(crate) fn with_all(&self, entries: impl IntoIterator<Item = V>) -> Tree<V> {
        let mut root = self.root.clone();
        for entry in entries {
            if let Some(right) = root.put(entry) {
                root = Node::Inner(vec![root.into_branch(), right.into_branch()]);
            }
        }
        Tree { root }
    }

    /// A copy without `key`.
    pub(crate) fn without(&self, key: V::Key) -> Tree<V> {
        let mut root = self.root.without(key).unwrap_or_else(|| Node::Chunk(Vec::new()));
        while let Node::Inner(branches) = &root
            && let [(_, only)] = &branches[..]
        {
            root = Node::clone(only);
        }
        Tree { root }
    }
}

impl<V: Keyed> Node<V> {
    fn try_for_each<'a, B>(&'a self, f: &mut impl FnMut(&'a V) -> ControlFlow<B>) -> ControlFlow<B> {
        match self {
            Node::Chunk(entries) => entries.iter().try_for_each(f),
            Node::Inner(branches) => branches.iter().try_for_each(|(_, node)| node.try_for_each(f)),
        }
    }

    fn try_for_each_from<'a, B>(&'a self, from: V::Key, f: &mut impl FnMut(&'a V) -> ControlFlow<B>) -> ControlFlow<B> {
        match self {
            Node::Chunk(entries) => {
                entries[entries.partition_point(|entry| entry.key() < from)..].iter().try_for_each(f)
            }
            Node::Inner(branches) => {
                let (first, others) = branches[branch_of(branches, from)..].split_at(1);
                first.iter().try_for_each(|(_, node)| node.try_for_each_from(from, f))?;
                others.iter().try_for_each(|(_, node)| node.try_for_each(f))
            }
        }
    }

    fn at_or_after(&self, key: V::Key) -> Option<&V> {
        match self {
            Node::Chunk(entries) => entries.get(entries.partition_point(|entry| entry.key() < key)),
            Node::Inner(branches) => {
                let at = branch_of(branches, key);
                let next = || branches.get(at + 1).and_then(|(_, node)| node.at_or_after(key));
                branches[at].1.at_or_after(key).or_else(next)
            }
        }
    }

    fn at_or_before(&self, key: V::Key) -> Option<&V> {
        match self {
            Node::Chunk(entries) => entries[..entries.partition_point(|entry| entry.key() <= key)].last(),
            Node::Inner(branches) => branches[branch_of(branches, key)].1.at_or_before(key),
        }
    }

    fn lowest(&self) -> V::Key {
        match self {
            Node::Chunk(entries) => entries.first().map_or_else(V::Key::default, Keyed::key),
            Node::Inner(branches) => branches.first().map_or_else(V::Key::default, |(lowest, _)| *lowest),
        }
    }

    fn len(&self) -> usize {
        match self {
            Node::Chunk(entries) => entries.len(),
            Node::Inner(branches) => branches.len(),
        }
    }

    fn into_branch(self) -> (V::Key, Arc<Node<V>>) {
        (self.lowest(), Arc::new(self))
    }

    /// What is too much for one, if it is.
    fn split(&mut self) -> Option<Node<V>> {
        if self.len() <= FANOUT {
            return None;
        }
        Some(match self {
            Node::Chunk(entries) => Node::Chunk(entries.split_off(entries.len() / 2)),
            Node::Inner(branches) => Node::Inner(branches.split_off(branches.len() / 2)),
        })
    }

    /// Puts `entry` in the place of its key; nodes that another tree has too are copied first. What is then too much for this
    /// node is returned.
    fn put(&mut self, entry: V) -> Option<Node<V>> {
        match self {
            Node::Chunk(entries) => match entries.binary_search_by_key(&entry.key(), Keyed::key) {
                Ok(at) => entries[at] = entry,
                Err(at) => entries.insert(at, entry),
            },
            Node::Inner(branches) => {
                let at = branch_of(branches, entry.key());
                let (lowest, node) = &mut branches[at];
                let right = Arc::make_mut(node).put(entry);
                *lowest = node.lowest();
                if let Some(right) = right {
                    branches.insert(at + 1, right.into_branch());
                }
            }
        }
        self.split()
    }

    /// Nothing if nothing is left.
    fn without(&self, key: V::Key) -> Option<Node<V>> {
        match self {
            Node::Chunk(entries) => {
                let mut copy = entries.clone();
                if let Ok(at) = copy.binary_search_by_key(&key, Keyed::key) {
                    copy.remove(at);
                }
                (!copy.is_empty()).then_some(Node::Chunk(copy))
            }
            Node::Inner(branches) => {
                let at = branch_of(branches, key);
                let mut copy = branches.clone();
                match branches[at].1.without(key) {
                    None => drop(copy.remove(at)),
                    Some(node) => {
                        let small = node.len() < FANOUT / 4;
                        copy[at] = node.into_branch();
                        if small && copy.len() > 1 {
                            let left = at.min(copy.len() - 2);
                            merge(&mut copy, left);
                        }
                    }
                }
                (!copy.is_empty()).then_some(Node::Inner(copy))
            }
        }
    }

    /// `self` and then `other`, which are of one depth.
    fn joined(&self, other: &Node<V>) -> Node<V> {
        match (self, other) {
            (Node::Chunk(a), Node::Chunk(b)) => Node::Chunk(a.iter().chain(b).cloned().collect()),
            (Node::Inner(a), Node::Inner(b)) => Node::Inner(a.iter().chain(b).cloned().collect()),
            _ => unreachable!("all leaves are at one depth"),
        }
    }
}

/// The branch that `key` is in or belongs into.
fn branch_of<V: Keyed>(branches: &[(V::Key, Arc<Node<V>>)], key: V::Key) -> usize {
    branches.partition_point(|(lowest, _)| *lowest <= key).saturating_sub(1)
}

/// Joins a branch with the next one; evenly in two, if that is too much for one.
fn merge<V: Keyed>(branches: &mut Vec<(V::Key, Arc<Node<V>>)>, at: usize) {
    let (_, right) = branches.remove(at + 1);
    let mut left = branches[at].1.joined(&right);
    let rest = left.split();
    branches[at] = left.into_branch();
    if let Some(rest) = rest {
        branches.insert(at + 1, rest.into_branch());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    impl Keyed for u64 {
        type Key = u64;

        fn key(&self) -> u64 {
            *self
        }
    }

    fn contents(tree: &Tree<u64>) -> Vec<u64> {
        let mut all = Vec::new();
        let _ = tree.try_for_each(|&key| {
            all.push(key);
            ControlFlow::<()>::Continue(())
        });
        all
    }

    fn check_shape(node: &Node<u64>, root: bool) -> usize {
        assert!(node.len() <= FANOUT);
        match node {
            Node::Chunk(entries) => {
                assert!(root || !entries.is_empty());
                1
            }
            Node::Inner(branches) => {
                assert!(branches.len() > usize::from(root));
                let depths: BTreeSet<_> = branches.iter().map(|(_, node)| check_shape(node, false)).collect();
                assert_eq!(depths.len(), 1, "all leaves at one depth");
                assert!(branches.iter().all(|(lowest, node)| *lowest == node.lowest()));
                depths.first().unwrap() + 1
            }
        }
    }

    proptest! {
        /// [TP-1], [DV-7]: a set with the same history is the oracle; earlier trees stay as they were.
        #[test]
        fn a_tree_is_a_sorted_set_and_its_past_stays(steps in prop::collection::vec((any::<bool>(), 0..6000_u64), 0..4000)) {
            let (mut tree, mut set) = (Tree::default(), BTreeSet::new());
            let mut kept = None;
            for (i, &(add, key)) in steps.iter().enumerate() {
                if i % 7 == 0 {
                    let keys = [key, key + 1, key / 2, key];
                    tree = tree.with_all(keys);
                    set.extend(keys);
                } else if add || i % 5 == 0 {
                    tree = tree.with(key);
                    set.insert(key);
                } else {
                    tree = tree.without(key);
                    set.remove(&key);
                }
                if i == steps.len() / 2 {
                    kept = Some((tree.clone(), set.clone()));
                }
                prop_assert_eq!(tree.at_or_after(key).copied(), set.range(key..).next().copied());
                let mut rest = Vec::new();
                let _ = tree.try_for_each_from(key, |&key| { rest.push(key); ControlFlow::<()>::Continue(()) });
                prop_assert_eq!(rest.len(), set.range(key..).count());
                prop_assert_eq!(tree.at_or_before(key).copied(), set.range(..=key).next_back().copied());
            }
            check_shape(&tree.root, true);
            prop_assert_eq!(contents(&tree), set.iter().copied().collect::<Vec<_>>());
            if let Some((tree, set)) = kept {
                prop_assert_eq!(contents(&tree), set.into_iter().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_large_tree_comes_and_goes() {
        let mut tree = Tree::default();
        for key in 0..100_000_u64 {
            tree = tree.with(key * 7919 % 100_000);
        }
        assert!(check_shape(&tree.root, true) <= 4);
        assert_eq!(contents(&tree).len(), 100_000);
        for key in 0..100_000_u64 {
            tree = tree.without(key * 104_729 % 100_000);
        }
        assert!(tree.is_empty());
    }
}
