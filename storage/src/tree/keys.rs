//! The keys of a node, in order, laid out for looking one up.

use std::cmp::Ordering;
use std::ops::Range;

use bytes::Bytes;

/// Ascending keys, no two alike. The eight bytes that follow what all of them begin with stand side
/// by side, so that a look at them, and then at one or two whole keys, finds a key: what a search
/// waits for is memory, and each key is in a place of its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    keys: Vec<Bytes>,
    /// So many bytes are the same in all keys.
    common: usize,
    /// Of each key the bytes behind those, as [`head`] gives them.
    heads: Vec<u64>,
}

/// The eight bytes of `key` from `start` on as a big-endian number; zeros stand for what is
/// missing. A smaller head is of a smaller key, and equal heads say nothing.
fn head(key: &[u8], start: usize) -> u64 {
    let rest = key.get(start..).unwrap_or_default();
    match rest.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let padded = rest.iter().copied().chain(std::iter::repeat(0)).take(8);
            padded.fold(0, |head, byte| head << 8 | u64::from(byte))
        }
    }
}

impl Keys {
    /// One key.
    pub(super) fn of(key: Bytes) -> Self {
        let mut keys = Self::default();
        keys.insert(0, key);
        keys
    }

    pub(super) const fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Bytes> {
        self.keys.iter()
    }

    /// The keys at `places`; none where there are not so many.
    pub(super) fn slice(&self, places: Range<usize>) -> &[Bytes] {
        self.keys.get(places).unwrap_or_default()
    }

    /// Where `key` stands, or where it would.
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let Some(first) = self.keys.first() else {
            return Err(0);
        };
        let start = key.get(..self.common).unwrap_or(key);
        match start.cmp(first.get(..self.common).unwrap_or(first)) {
            Ordering::Less => return Err(0),
            Ordering::Greater => return Err(self.keys.len()),
            Ordering::Equal => {}
        }
        let head = head(key, self.common);
        let below = self.heads.iter().map(|other| usize::from(*other < head));
        let mut at: usize = below.sum();
        while self.heads.get(at) == Some(&head) {
            match self.keys.get(at).map(|other| key.cmp(other)) {
                Some(Ordering::Greater) => at += 1,
                Some(Ordering::Equal) => return Ok(at),
                Some(Ordering::Less) | None => break,
            }
        }
        Err(at)
    }

    /// Puts `key` where [`Keys::search`] said that it would stand.
    pub(super) fn insert(&mut self, at: usize, key: Bytes) {
        let first = self.keys.first().map(|first| first.get(..self.common));
        let alike = first.is_some_and(|first| first == key.get(..self.common));
        let head = head(&key, self.common);
        self.keys.insert(at, key);
        self.heads.insert(at, head);
        if !alike {
            self.measure();
        }
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        self.heads.pop();
        self.keys.pop()
    }

    /// Takes out the keys at `places`.
    pub(super) fn drain(&mut self, places: Range<usize>) -> std::vec::Drain<'_, Bytes> {
        drop(self.heads.drain(places.clone()));
        self.keys.drain(places)
    }

    /// Takes out the keys from `at` on.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let mut upper = Self {
            keys: self.keys.split_off(at),
            ..Self::default()
        };
        self.measure();
        upper.measure();
        upper
    }

    /// Adds keys that are all above these.
    pub(super) fn append(&mut self, mut above: Self) {
        self.keys.append(&mut above.keys);
        self.measure();
    }

    /// Finds out what all keys begin with, and takes the heads anew.
    fn measure(&mut self) {
        let (first, last) = (self.keys.first(), self.keys.last());
        let ends = first.into_iter().zip(last);
        let same = ends.map(|(first, last)| {
            let pairs = first.iter().zip(last.iter());
            pairs.take_while(|(one, other)| one == other).count()
        });
        self.common = same.sum();
        self.heads.clear();
        let common = self.common;
        self.heads
            .extend(self.keys.iter().map(|key| head(key, common)));
    }
}

#[cfg(test)]
impl Keys {
    /// Panics unless they ascend and what is known of them is true.
    pub(super) fn check(&self) {
        assert!(self.keys.is_sorted_by(|one, other| one < other));
        let heads: Vec<_> = self.keys.iter().map(|key| head(key, self.common)).collect();
        assert_eq!(self.heads, heads);
        let prefixes: Vec<_> = self.keys.iter().map(|key| &key[..self.common]).collect();
        assert!(prefixes.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
