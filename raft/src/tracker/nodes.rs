//! A small map from members to what is known of them.

use std::slice;

use crate::types::NodeId;

/// Sorted by id, without gaps in memory: a group has a handful of members, and a process may have
/// thousands of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeMap<V>(Vec<(NodeId, V)>);

impl<V> NodeMap<V> {
    fn find(&self, id: NodeId) -> Result<usize, usize> {
        // Ids are looked for one by one: that is faster than halving as long as there are few.
        match self.0.iter().position(|(held, _)| *held >= id) {
            Some(place) if self.0.get(place).is_some_and(|(held, _)| *held == id) => Ok(place),
            place => Err(place.unwrap_or(self.0.len())),
        }
    }

    /// What is known of `id`.
    #[must_use]
    #[inline]
    pub fn get(&self, id: &NodeId) -> Option<&V> {
        let found = self.0.iter().find(|(held, _)| held == id);
        found.map(|(_, value)| value)
    }

    /// What is known of `id`, to be changed.
    #[inline]
    pub fn get_mut(&mut self, id: &NodeId) -> Option<&mut V> {
        let found = self.0.iter_mut().find(|(held, _)| held == id);
        found.map(|(_, value)| value)
    }

    /// Whether anything is known of `id`.
    #[must_use]
    pub fn contains_key(&self, id: &NodeId) -> bool {
        self.get(id).is_some()
    }

    /// Replaces what is known of `id`.
    pub fn insert(&mut self, id: NodeId, value: V) {
        match self.find(id) {
            Ok(place) => {
                if let Some((_, held)) = self.0.get_mut(place) {
                    *held = value;
                }
            }
            Err(place) => {
                self.0.reserve_exact(1);
                self.0.insert(place, (id, value));
            }
        }
    }

    /// Forgets `id`.
    pub fn remove(&mut self, id: &NodeId) -> Option<V> {
        let place = self.find(*id).ok()?;
        Some(self.0.remove(place).1)
    }

    /// How many members it has.
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// It has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The id at `place` in ascending order.
    #[must_use]
    #[inline]
    pub fn id_at(&self, place: usize) -> Option<NodeId> {
        self.0.get(place).map(|(id, _)| *id)
    }

    /// The members, ascending.
    pub fn keys(&self) -> impl Iterator<Item = &NodeId> {
        self.0.iter().map(|(id, _)| id)
    }

    /// What is known of each member, in ascending order of their ids.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    /// The members, ascending, and what is known of each.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeId, &V)> {
        self.into_iter()
    }
}

impl<V> Default for NodeMap<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

type Iter<'a, V> = std::iter::Map<slice::Iter<'a, (NodeId, V)>, Pair<'a, V>>;
type IterMut<'a, V> = std::iter::Map<slice::IterMut<'a, (NodeId, V)>, PairMut<'a, V>>;
type Pair<'a, V> = fn(&'a (NodeId, V)) -> (&'a NodeId, &'a V);
type PairMut<'a, V> = fn(&'a mut (NodeId, V)) -> (&'a NodeId, &'a mut V);

impl<'a, V> IntoIterator for &'a NodeMap<V> {
    type Item = (&'a NodeId, &'a V);
    type IntoIter = Iter<'a, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(|(id, value)| (id, value))
    }
}

impl<'a, V> IntoIterator for &'a mut NodeMap<V> {
    type Item = (&'a NodeId, &'a mut V);
    type IntoIter = IterMut<'a, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter_mut().map(|(id, value)| (&*id, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stand_in_order_and_each_once() {
        let mut map = NodeMap::default();
        for (id, value) in [(3, 1), (1, 1), (2, 2), (3, 6)] {
            map.insert(NodeId(id), value);
        }
        let found: Vec<_> = map.iter().map(|(id, value)| (id.0, *value)).collect();
        assert_eq!(found, [(1, 1), (2, 2), (3, 6)]);
        assert_eq!(
            (map.remove(&NodeId(2)), map.remove(&NodeId(2))),
            (Some(2), None)
        );
        assert_eq!((map.id_at(1), map.id_at(2)), (Some(NodeId(3)), None));
        assert!(map.contains_key(&NodeId(3)) && map.get(&NodeId(2)).is_none());
        for (_, value) in &mut map {
            *value += 1;
        }
        assert_eq!(
            (map.get(&NodeId(1)), map.len(), map.is_empty()),
            (Some(&2), 2, false)
        );
    }
}
