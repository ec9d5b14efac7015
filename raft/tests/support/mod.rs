//! A log in memory that tests can read and write.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use raftwerk_raft::{Entry, LogError, LogId, LogIndex, LogReader, Term};

#[derive(Clone, Debug, Default)]
struct Inner {
    /// What stands just before the first entry.
    before: LogId,
    entries: Vec<Entry>,
    /// Entries below are not in memory.
    cold_below: LogIndex,
    /// Entries that the disk lost.
    faulty: BTreeSet<LogIndex>,
}

/// A log in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemLog(Arc<Mutex<Inner>>);

impl MemLog {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// A copy that shares nothing.
    pub fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.lock().clone())))
    }

    /// Empties the log behind a snapshot.
    pub fn reset_to(&self, before: LogId) {
        *self.lock() = Inner {
            before,
            ..Inner::default()
        };
    }

    /// Appends; what conflicts goes.
    pub fn append(&self, entries: &[Entry]) {
        let mut log = self.lock();
        let base = log.before.index;
        let news: Vec<Entry> = entries
            .iter()
            .filter(|entry| entry.index() > base)
            .cloned()
            .collect();
        let Some(first) = news.first() else { return };
        let keep = usize::try_from(first.index().since(base)).unwrap() - 1;
        assert!(
            keep <= log.entries.len(),
            "gap before entry {}",
            first.index()
        );
        log.entries.truncate(keep);
        log.faulty.split_off(&first.index());
        log.entries.extend(news);
    }

    /// Drops everything up to `index`; false when that is gone already.
    pub fn compact(&self, index: LogIndex) -> bool {
        let mut log = self.lock();
        if index <= log.before.index {
            return false;
        }
        let count = usize::try_from(index.since(log.before.index)).unwrap();
        log.before = log.entries[count - 1].id;
        log.entries.drain(..count);
        true
    }

    /// The disk lost what these entries hold.
    pub fn spoil(&self, indexes: impl IntoIterator<Item = LogIndex>) {
        self.lock().faulty.extend(indexes);
    }

    /// The disk lost everything behind `index`, and does not know it.
    pub fn forget_behind(&self, index: LogIndex) {
        let mut log = self.lock();
        let keep = usize::try_from(index.since(log.before.index)).unwrap();
        log.entries.truncate(keep);
    }

    /// Lets entries below `index` be read only by `read`.
    pub fn cool(&self, index: LogIndex) {
        self.lock().cold_below = index;
    }

    /// Everything in it.
    pub fn all(&self) -> Vec<Entry> {
        self.lock().entries.clone()
    }

    fn range(log: &Inner, range: Range<LogIndex>, max_bytes: u64) -> Result<Vec<Entry>, LogError> {
        let first = log.before.index.next();
        let last = log.before.index.plus(log.entries.len() as u64);
        if range.start < first {
            return Err(LogError::Compacted { first });
        }
        if range.end > last.next() {
            return Err(LogError::Unavailable { last });
        }
        let (from, to) = (range.start.since(first), range.end.since(first));
        let mut out: Vec<Entry> = Vec::new();
        let mut size = 0;
        for entry in &log.entries[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()] {
            if log.faulty.contains(&entry.index()) {
                if out.is_empty() {
                    let range = entry.index()..entry.index().next();
                    return Err(LogError::Faulty { range });
                }
                break;
            }
            size += entry.data.len() as u64;
            if size > max_bytes && !out.is_empty() {
                break;
            }
            out.push(entry.clone());
        }
        Ok(out)
    }
}

impl LogReader for MemLog {
    fn first(&self) -> LogIndex {
        self.lock().before.index.next()
    }

    fn last(&self) -> LogId {
        let log = self.lock();
        log.entries.last().map_or(log.before, |entry| entry.id)
    }

    fn term(&self, index: LogIndex) -> Result<Term, LogError> {
        let log = self.lock();
        if index == log.before.index {
            return Ok(log.before.term);
        }
        let first = log.before.index.next();
        if index < first {
            return Err(LogError::Compacted { first });
        }
        let at = usize::try_from(index.since(first)).unwrap();
        let last = log.before.index.plus(log.entries.len() as u64);
        let entry = log.entries.get(at);
        entry.map(Entry::term).ok_or(LogError::Unavailable { last })
    }

    fn entries(
        &self,
        range: Range<LogIndex>,
        max_bytes: u64,
        out: &mut Vec<Entry>,
    ) -> Result<(), LogError> {
        let log = self.lock();
        let start = range.start;
        let found = Self::range(&log, range, max_bytes)?;
        if start < log.cold_below {
            return Err(LogError::Cold);
        }
        out.extend(found);
        Ok(())
    }

    fn read(&self, range: Range<LogIndex>, max_bytes: u64) -> Result<Vec<Entry>, LogError> {
        Self::range(&self.lock(), range, max_bytes)
    }
}
