//! What is done to a state store.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Put, StateTarget};
use crate::random::{Payloads, Random};
use crate::run::{Slice, Subject, repeat};

/// Keys `0..present` of 16 bytes, in order, with values of one size.
#[derive(Clone, Debug)]
pub struct Keys {
    present: u64,
    values: Payloads,
    random: Random,
    next: u64,
}

/// Which keys come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Any of those that are present.
    Random,
    /// One after the other, from the first again behind the last.
    Ascending,
}

impl Keys {
    /// So many keys, with values of `value_bytes`.
    #[must_use]
    pub fn new(present: u64, value_bytes: usize) -> Self {
        Self {
            present,
            values: Payloads::new(value_bytes),
            random: Random::new(2),
            next: 0,
        }
    }

    /// The key of a number.
    #[must_use]
    pub fn key(&self, number: u64) -> Bytes {
        Bytes::from(format!("key/{number:012}"))
    }

    /// The next key.
    pub fn draw(&mut self, order: Order) -> Bytes {
        let number = match order {
            Order::Random => self.random.below(self.present),
            Order::Ascending => {
                self.next = (self.next + 1) % self.present;
                self.next
            }
        };
        self.key(number)
    }

    /// A batch of puts over keys that are present.
    pub fn batch(&mut self, order: Order, puts: u64) -> Vec<Put> {
        (0..puts)
            .map(|_| (self.draw(order), self.values.cut()))
            .collect()
    }
}

/// Puts every key into an empty store.
///
/// # Errors
/// What the store says.
pub fn fill(store: &dyn StateTarget, mut keys: Keys, batch: u64) -> Result<(), String> {
    let mut number = 0;
    let mut batches: u64 = 0;
    while number < keys.present {
        let end = (number + batch).min(keys.present);
        let puts: Vec<Put> = (number..end)
            .map(|number| (keys.key(number), keys.values.cut()))
            .collect();
        batches += 1;
        store.write(puts, batches)?;
        // What is not durable may have to stay in memory.
        if batches.is_multiple_of(64) {
            store.persist()?;
        }
        number = end;
    }
    store.persist()
}

/// Batches of puts.
pub struct Apply<'a> {
    /// The store's name.
    pub name: &'static str,
    /// The store.
    pub store: &'a dyn StateTarget,
    /// What is in it.
    pub keys: Keys,
    /// Which keys come.
    pub order: Order,
    /// Puts of a batch.
    pub batch: u64,
    /// Every batch is made durable; else each slice, within its time.
    pub persist: bool,
    /// The last index applied.
    pub index: u64,
}

impl Subject for Apply<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn slice(&mut self, length: Duration) -> Result<Slice, String> {
        let mut slice = repeat(length, || {
            let puts = self.keys.batch(self.order, self.batch);
            self.index += 1;
            self.store.write(puts, self.index)?;
            if self.persist {
                self.store.persist()?;
            }
            Ok(self.batch)
        })?;
        if !self.persist {
            // What was put off is paid for by who put it off.
            let start = Instant::now();
            self.store.persist()?;
            slice.elapsed += start.elapsed();
        }
        Ok(slice)
    }
}

/// Reads of keys that are there.
pub struct Reads<'a> {
    /// The store's name.
    pub name: &'static str,
    /// The store.
    pub store: &'a dyn StateTarget,
    /// What is in it.
    pub keys: Keys,
    /// Keys read from each starting point; one is a point read.
    pub scan: u64,
}

impl Subject for Reads<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn slice(&mut self, length: Duration) -> Result<Slice, String> {
        repeat(length, || {
            let key = self.keys.draw(Order::Random);
            if self.scan == 1 {
                let found = self.store.get(&key)?;
                return found.map(|_| 1).ok_or_else(|| "a key is missing".into());
            }
            // Near the end there are fewer.
            self.store.scan(&key, self.scan)
        })
    }
}
