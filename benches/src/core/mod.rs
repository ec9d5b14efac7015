//! Consensus alone: three cores in memory whose messages are handed over in a loop.

mod own;
#[cfg(feature = "peers")]
mod raft_rs;

use std::time::{Duration, Instant};

use bytes::Bytes;

pub use own::{Log, OwnCore, idle_core};
#[cfg(feature = "peers")]
pub use raft_rs::RaftRs;

use crate::random::Payloads;
use crate::run::{Slice, Subject};

/// Entries of a batch, bytes of each, and how many times as fast as the peer is wanted.
pub const LOADS: [(usize, usize, Option<f64>); 4] = [
    (1, 128, Some(3.0)),
    (64, 128, Some(4.0)),
    (64, 1024, Some(8.0)),
    (1, 1024, None),
];
/// Members of a group.
pub const MEMBERS: usize = 3;
/// Proposals that are prepared before the clock runs.
const PREPARED: usize = 64;
/// A log is compacted to what is applied when it has grown to this many entries.
pub const LOG_ENTRIES: usize = 1024;

/// One core with its log and its state, as its library wants it to be driven.
pub trait Core: Sized {
    /// What members send each other.
    type Mail;
    /// A batch ready to be proposed.
    type Batch;

    /// Member `id` of 1 to [`MEMBERS`].
    ///
    /// # Errors
    /// Why there is none.
    fn new(id: u64) -> Result<Self, String>;

    /// What the library wants to get, made of `payloads`.
    fn batch(payloads: impl ExactSizeIterator<Item = Bytes>) -> Self::Batch;

    /// Starts an election.
    ///
    /// # Errors
    /// What the library says.
    fn campaign(&mut self) -> Result<(), String>;

    /// Proposes a whole batch at once.
    ///
    /// # Errors
    /// What the library says.
    fn propose(&mut self, batch: Self::Batch) -> Result<(), String>;

    /// Whose mail it is: 1 to [`MEMBERS`].
    fn to(mail: &Self::Mail) -> u64;

    /// Takes mail.
    ///
    /// # Errors
    /// What the library says.
    fn take(&mut self, mail: Self::Mail) -> Result<(), String>;

    /// Does everything there is to do: writes, applies, sends to `out`.
    ///
    /// # Errors
    /// What the library says.
    fn work(&mut self, out: &mut Vec<Self::Mail>) -> Result<(), String>;

    /// The last index that is applied.
    fn applied(&self) -> u64;

    /// It leads.
    fn leads(&self) -> bool;
}

/// Three cores, the first of which leads.
pub struct Group<C: Core> {
    members: [C; MEMBERS],
    mail: Vec<C::Mail>,
}

impl<C: Core> Group<C> {
    /// A group whose leader's first entry is applied everywhere.
    ///
    /// # Errors
    /// What a core says, or that none leads.
    pub fn new() -> Result<Self, String> {
        let mut group = Self {
            members: [C::new(1)?, C::new(2)?, C::new(3)?],
            mail: Vec::new(),
        };
        let [first, ..] = &mut group.members;
        first.campaign()?;
        group.settle(1)?;
        let [first, ..] = &group.members;
        if first.leads() {
            Ok(group)
        } else {
            Err("nobody leads".into())
        }
    }

    /// Proposes and goes on until every member has applied `entries` more.
    ///
    /// # Errors
    /// What a core says, or that nothing moves any more.
    pub fn commit(&mut self, batch: C::Batch, entries: usize) -> Result<(), String> {
        let [leader, ..] = &mut self.members;
        let until = leader.applied() + entries as u64;
        leader.propose(batch)?;
        self.settle(until)
    }

    fn settle(&mut self, until: u64) -> Result<(), String> {
        loop {
            for member in &mut self.members {
                member.work(&mut self.mail)?;
            }
            if self.mail.is_empty() {
                break;
            }
            for mail in self.mail.drain(..) {
                let place = C::to(&mail) as usize - 1;
                let member = self.members.get_mut(place).ok_or("mail for a stranger")?;
                member.take(mail)?;
            }
        }
        match self.members.iter().find(|member| member.applied() < until) {
            Some(member) => Err(format!("stuck at {} of {until}", member.applied())),
            None => Ok(()),
        }
    }
}

/// A group under load.
pub struct Cores<C: Core> {
    name: &'static str,
    group: Group<C>,
    payloads: Payloads,
    entries: usize,
    prepared: Vec<C::Batch>,
}

impl<C: Core> Cores<C> {
    /// Batches of `entries` entries of `bytes` each.
    ///
    /// # Errors
    /// What a core says.
    pub fn new(name: &'static str, entries: usize, bytes: usize) -> Result<Self, String> {
        Ok(Self {
            name,
            group: Group::new()?,
            payloads: Payloads::new(bytes),
            entries,
            prepared: Vec::new(),
        })
    }

    /// Makes batches: whoever proposes has the payload already, in whatever the library takes.
    fn prepare(&mut self) {
        let (payloads, entries) = (&mut self.payloads, self.entries);
        let batches = (PREPARED / entries).max(1);
        self.prepared
            .extend((0..batches).map(|_| C::batch((0..entries).map(|_| payloads.cut()))));
    }

    /// Commits what is prepared and says how many entries that were.
    fn commit(&mut self) -> Result<usize, String> {
        let mut committed = 0;
        for batch in self.prepared.drain(..) {
            self.group.commit(batch, self.entries)?;
            committed += self.entries;
        }
        Ok(committed)
    }

    /// Prepares and commits once, and says how many entries that were.
    ///
    /// # Errors
    /// What a core says.
    pub fn step(&mut self) -> Result<usize, String> {
        self.prepare();
        self.commit()
    }
}

impl<C: Core> Subject for Cores<C> {
    fn name(&self) -> &str {
        self.name
    }

    fn slice(&mut self, length: Duration) -> Result<Slice, String> {
        let mut slice = Slice::default();
        while slice.elapsed < length {
            self.prepare();
            let start = Instant::now();
            let committed = self.commit()?;
            let took = start.elapsed();
            slice.elapsed += took;
            slice.operations += committed as u64;
            slice.latencies.record(took);
        }
        Ok(slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_applies_what_is_proposed() {
        let mut cores = Cores::<OwnCore<true>>::new("us", 3, 16).unwrap();
        for _ in 0..100 {
            cores.step().unwrap();
        }
        let applied: Vec<_> = cores.group.members.iter().map(Core::applied).collect();
        assert_eq!(applied, [1 + 100 * 63; 3]);
    }
}
