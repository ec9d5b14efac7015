//! Random numbers and payloads that no compression shortens. The same seed gives the same ones.

use std::sync::LazyLock;

use bytes::Bytes;

/// A small generator (SplitMix64, Steele et al. 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator for `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next number below `end`, which is not zero.
    pub fn below(&mut self, end: u64) -> u64 {
        let product = u128::from(self.number()) * u128::from(end);
        u64::try_from(product >> 64).unwrap_or(0)
    }
}

/// How much is random; payloads are cut from it, one behind the other.
const POOL_BYTES: usize = 16 << 20;

/// One for the whole process.
static POOL: LazyLock<Bytes> = LazyLock::new(|| {
    let mut random = Random::new(1);
    let mut pool = Vec::with_capacity(POOL_BYTES);
    for _ in 0..POOL_BYTES / 8 {
        pool.extend_from_slice(&random.number().to_le_bytes());
    }
    pool.into()
});

/// Payloads of one size, each other bytes than the ones before it.
#[derive(Clone, Debug)]
pub struct Payloads {
    pool: Bytes,
    bytes: usize,
    next: usize,
}

impl Payloads {
    /// Payloads of `bytes` each, at most the pool's 16 MiB.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self {
            pool: POOL.clone(),
            bytes: bytes.min(POOL_BYTES),
            next: 0,
        }
    }

    /// The same pool from another place on, so that writers differ.
    #[must_use]
    pub fn starting_at(&self, place: u64) -> Self {
        let mut random = Random::new(place);
        Self {
            next: random.below(POOL_BYTES as u64) as usize,
            ..self.clone()
        }
    }

    /// The size of each.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The next one. Copies nothing.
    pub fn cut(&mut self) -> Bytes {
        if self.next + self.bytes > self.pool.len() {
            // Not a multiple of any size: the second pass is cut at other places.
            self.next = (self.next + 7) % 61;
        }
        let payload = self.pool.slice(self.next..self.next + self.bytes);
        self.next += self.bytes;
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_below_the_end_and_reach_all_of_it() {
        let mut random = Random::new(7);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[random.below(5) as usize] = true;
        }
        assert_eq!(seen, [true; 5]);
    }

    #[test]
    fn payloads_have_their_size_and_differ() {
        let mut payloads = Payloads::new(1000);
        let (first, second) = (payloads.cut(), payloads.cut());
        assert_eq!((first.len(), second.len()), (1000, 1000));
        assert_ne!(first, second);
        let mut large = Payloads::new(POOL_BYTES / 2 + 1);
        assert_ne!(large.cut(), large.cut());
        assert_ne!(payloads.starting_at(1).cut(), payloads.starting_at(2).cut());
    }
}
