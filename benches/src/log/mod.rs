//! Logs under one interface: Raftwerk's backends, the bare engines beneath them, peers, the disk.

mod bare_redb;
#[cfg(feature = "rocksdb")]
mod bare_rocksdb;
mod feed;
mod gather;
#[cfg(feature = "peers")]
mod raft_engine;
mod raw_device;
mod storage;

use std::ops::RangeInclusive;
use std::path::Path;

use bytes::Bytes;
use raftwerk_raft::{Entry, LogId, LogIndex, Term};

pub use feed::{Feed, Shape};

/// What one group's step gives to a log: entries, and the hard state that moves with them.
#[derive(Clone, Debug, Default)]
pub struct Append {
    /// Whose.
    pub group: u64,
    /// The index of the first payload.
    pub first: u64,
    /// One for each entry.
    pub payloads: Vec<Bytes>,
    /// Entries that may go: the oldest that are there.
    pub removed: Option<RangeInclusive<u64>>,
}

impl Append {
    /// The last index.
    #[must_use]
    pub fn last(&self) -> u64 {
        (self.first + self.payloads.len() as u64).saturating_sub(1)
    }

    /// The last index of those that may go.
    #[must_use]
    pub fn compact_to(&self) -> Option<u64> {
        self.removed.as_ref().map(|removed| *removed.end())
    }

    /// The same step in pieces of at most `bytes` each, or of one entry: one behind the other.
    pub fn pieces(&self, bytes: usize) -> impl Iterator<Item = Self> + '_ {
        let entry = self.payloads.iter().map(Bytes::len).max().unwrap_or(0);
        let count = (bytes / entry.max(1)).max(1);
        let firsts = (self.first..).step_by(count);
        let pieces = firsts.zip(self.payloads.chunks(count)).enumerate();
        pieces.map(|(place, (first, payloads))| Self {
            group: self.group,
            first,
            payloads: payloads.to_vec(),
            removed: self.removed.clone().filter(|_| place == 0),
        })
    }

    /// The entries, all of the first term.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        (self.first..)
            .zip(&self.payloads)
            .map(|(index, payload)| Entry::normal(log_id(index), payload.clone()))
    }
}

/// The first term's entry at `index`.
#[must_use]
pub const fn log_id(index: u64) -> LogId {
    LogId::new(Term(1), LogIndex(index))
}

/// A log that can be fed.
pub trait LogTarget: Send + Sync {
    /// Takes the steps, atomically if it can. `durable`: they are when this returns; else they
    /// are some time, at the latest after [`LogTarget::settle`].
    ///
    /// # Errors
    /// What the log says, in words.
    fn append(&self, steps: &[Append], durable: bool) -> Result<(), String>;

    /// Takes the steps as if each came from somebody else, all at once, from one thread; durable
    /// when this returns. A backend whose waiter writes takes all of them together, so whoever is
    /// fed by hand gets them in one batch.
    ///
    /// # Errors
    /// What the log says, in words.
    fn append_each(&self, steps: &[Append]) -> Result<(), String> {
        self.append(steps, true)
    }

    /// Takes the steps and says which number they are durable under, some time, unasked.
    ///
    /// # Errors
    /// What the log says, in words, or that it knows no such thing.
    fn submit(&self, steps: &[Append]) -> Result<u64, String> {
        let _ = steps;
        Err("this log has no tickets".to_owned())
    }

    /// Waits until what was submitted under `ticket` is durable, and says up to which it all is.
    ///
    /// # Errors
    /// What the log says, in words, or that it knows no such thing.
    fn wait(&self, ticket: u64) -> Result<u64, String> {
        let _ = ticket;
        Err("this log has no tickets".to_owned())
    }

    /// Makes durable what was appended before.
    ///
    /// # Errors
    /// What the log says, in words.
    fn settle(&self) -> Result<(), String>;

    /// Reads the entries from `first` to `last` and returns the bytes of their payloads.
    ///
    /// # Errors
    /// What the log says, in words.
    fn read(&self, group: u64, first: u64, last: u64) -> Result<u64, String>;

    /// How many syncs it has asked for so far, if that is known.
    fn syncs(&self) -> Option<u64>;

    /// It wants all writers' steps in one call, from one thread: what merges them is what a
    /// backend does around a bare engine.
    fn fed_by_one(&self) -> bool;

    /// What has to be done from time to time.
    ///
    /// # Errors
    /// What the log says, in words.
    fn upkeep(&self) -> Result<(), String> {
        Ok(())
    }
}

/// What a subject is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The yardstick.
    Device,
    /// A backend of Raftwerk's.
    Ours,
    /// An engine without Raftwerk around it.
    Bare,
    /// Somebody else's log.
    Peer,
}

/// Opens a log in a folder.
pub type OpenLog = fn(&Path) -> Result<Box<dyn LogTarget>, String>;

/// A log that can be measured.
#[derive(Clone, Copy)]
pub struct LogKind {
    /// Its name on the page.
    pub name: &'static str,
    /// What it is.
    pub role: Role,
    /// It keeps something on the disk.
    pub durable: bool,
    /// Opens or makes one.
    pub open: OpenLog,
}

/// Every log that this build knows, the yardstick first.
#[must_use]
pub fn logs() -> Vec<LogKind> {
    let kind = |name, role, open: OpenLog| LogKind {
        name,
        role,
        durable: true,
        open,
    };
    vec![
        kind("raw device", Role::Device, raw_device::open),
        kind("wal", Role::Ours, storage::open_wal),
        LogKind {
            durable: false,
            ..kind("mem", Role::Ours, storage::open_mem)
        },
        kind("redb", Role::Ours, storage::open_redb),
        kind("bare redb", Role::Bare, bare_redb::open),
        #[cfg(feature = "rocksdb")]
        kind("rocksdb", Role::Ours, storage::open_rocksdb),
        #[cfg(feature = "rocksdb")]
        kind("bare rocksdb", Role::Bare, bare_rocksdb::open),
        #[cfg(feature = "peers")]
        kind("raft-engine", Role::Peer, raft_engine::open),
    ]
}

/// The bare engines behind a thread that gathers what many writers give, under names of their own:
/// what a backend is fairly compared with where there is more than one writer.
#[must_use]
pub fn gathered_logs() -> Vec<LogKind> {
    let kind = |name, open: OpenLog| LogKind {
        name,
        role: Role::Bare,
        durable: true,
        open,
    };
    vec![
        kind(REDB_THREADS, |folder| {
            Ok(gather::gathered(bare_redb::open(folder)?))
        }),
        #[cfg(feature = "rocksdb")]
        kind(ROCKSDB_THREADS, |folder| {
            Ok(gather::gathered(bare_rocksdb::open(folder)?))
        }),
    ]
}

/// The name of redb with a writer's thread before it.
pub const REDB_THREADS: &str = "bare redb, threads";
/// The name of RocksDB with a writer's thread before it.
pub const ROCKSDB_THREADS: &str = "bare rocksdb, threads";

/// The peers of the write-ahead log, which some builds have none of, and what they are given.
#[must_use]
pub fn wal_peers() -> Vec<LogKind> {
    vec![
        #[cfg(feature = "peers")]
        LogKind {
            name: "raft-engine",
            role: Role::Peer,
            durable: true,
            open: raft_engine::open_recycling,
        },
        #[cfg(feature = "peers")]
        LogKind {
            name: "prefilled",
            role: Role::Peer,
            durable: true,
            open: raft_engine::open_prefilled,
        },
    ]
}

/// Every option of the logs that [`wal_peers`] and the write-ahead log are opened with.
#[must_use]
pub fn wal_options() -> Vec<String> {
    vec![
        storage::wal_options(),
        #[cfg(feature = "peers")]
        raft_engine::options(),
    ]
}

/// Words for any error.
pub(crate) fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(first: u64, removed: Option<RangeInclusive<u64>>) -> Append {
        Append {
            group: 7,
            first,
            payloads: vec![Bytes::from(vec![1; 100]); 4],
            removed,
        }
    }

    #[test]
    fn a_step_in_pieces_holds_the_same_entries_in_the_same_order() {
        let mut step = step(5, Some(1..=2));
        for (payload, byte) in step.payloads.iter_mut().zip(0..) {
            *payload = Bytes::from(vec![byte; 100]);
        }
        let whole: Vec<Entry> = step.entries().collect();
        for (bytes, count) in [(1000, 1), (399, 2), (250, 2), (100, 4), (1, 4)] {
            let pieces: Vec<Append> = step.pieces(bytes).collect();
            assert_eq!(pieces.len(), count, "{bytes}");
            let entries: Vec<Entry> = pieces.iter().flat_map(Append::entries).collect();
            assert_eq!(entries, whole, "{bytes}");
            let removed: Vec<_> = pieces.iter().map(Append::compact_to).collect();
            assert_eq!(removed[0], Some(2));
            assert!(removed[1..].iter().all(Option::is_none));
        }
    }

    #[test]
    fn a_step_that_is_more_than_a_batch_may_carry_is_taken() {
        for kind in logs() {
            let folder = tempfile::tempdir().unwrap();
            let log = (kind.open)(folder.path()).unwrap();
            let large = Append {
                payloads: vec![Bytes::from(vec![1; 65_536]); 256],
                ..step(1, None)
            };
            log.append(&[large], true).unwrap();
            if kind.role != Role::Device {
                assert_eq!(log.read(7, 255, 256), Ok(2 * 65_536), "{}", kind.name);
            }
        }
    }

    #[test]
    fn every_log_takes_steps_and_gives_them_back() {
        for kind in logs().into_iter().chain(gathered_logs()) {
            let folder = tempfile::tempdir().unwrap();
            let log = (kind.open)(folder.path()).unwrap();
            log.append(&[step(1, None)], true).unwrap();
            log.append(&[step(5, Some(1..=2))], false).unwrap();
            log.settle().unwrap();
            log.upkeep().unwrap();
            if kind.role != Role::Device {
                assert_eq!(log.read(7, 3, 8), Ok(600), "{}", kind.name);
            }
        }
    }
}
