//! A log in memory that a copy of its member takes along.

use std::ops::Range;
use std::sync::Mutex;

use raftwerk_raft::{Entry, LogError, LogId, LogIndex, LogReader, Term};

/// Entries from index 1 on. A clone shares nothing with it.
#[derive(Debug, Default)]
pub(crate) struct Shelf(Mutex<Vec<Entry>>);

impl Clone for Shelf {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.all()))
    }
}

fn at(index: LogIndex) -> usize {
    usize::try_from(index.0).unwrap() - 1
}

/// Appends; what conflicts goes.
pub(crate) fn append(log: &mut Vec<Entry>, entries: &[Entry]) {
    if let Some(first) = entries.first() {
        assert!(at(first.index()) <= log.len(), "gap in the log");
        log.truncate(at(first.index()));
        log.extend_from_slice(entries);
    }
}

impl Shelf {
    pub(crate) fn new(entries: Vec<Entry>) -> Self {
        Self(Mutex::new(entries))
    }

    pub(crate) fn all(&self) -> Vec<Entry> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn append(&self, entries: &[Entry]) {
        append(&mut self.0.lock().unwrap(), entries);
    }
}

impl LogReader for Shelf {
    fn first(&self) -> LogIndex {
        LogIndex(1)
    }

    fn last(&self) -> LogId {
        let log = self.0.lock().unwrap();
        log.last().map_or(LogId::ZERO, |entry| entry.id)
    }

    fn term(&self, index: LogIndex) -> Result<Term, LogError> {
        if index == LogIndex::ZERO {
            return Ok(Term::ZERO);
        }
        let log = self.0.lock().unwrap();
        let last = LogIndex(log.len() as u64);
        let entry = log.get(at(index)).map(Entry::term);
        entry.ok_or(LogError::Unavailable { last })
    }

    fn entries(
        &self,
        range: Range<LogIndex>,
        max_bytes: u64,
        out: &mut Vec<Entry>,
    ) -> Result<(), LogError> {
        out.extend(self.read(range, max_bytes)?);
        Ok(())
    }

    fn read(&self, range: Range<LogIndex>, _max_bytes: u64) -> Result<Vec<Entry>, LogError> {
        let log = self.0.lock().unwrap();
        let last = LogIndex(log.len() as u64);
        let found = log.get(at(range.start)..at(range.end)).map(<[_]>::to_vec);
        found.ok_or(LogError::Unavailable { last })
    }
}
