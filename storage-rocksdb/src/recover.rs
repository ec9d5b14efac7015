//! What a log finds in RocksDB when it is opened: one pass over everything.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use raftwerk_raft::{GroupId, GroupState, LogHealth, LogId, LogIndex, StorageError};
use raftwerk_storage::TermRuns;
use raftwerk_storage::image::GroupImage;
use rocksdb::{DB, Error, ErrorKind, ReadOptions};

use crate::error;
use crate::key::{self, Key, Kind};
use crate::record::{self, Head};
use crate::writer::{Writer, Written};

/// What there is of the groups, and what the first commits go on from.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) images: BTreeMap<GroupId, GroupImage>,
    pub(crate) writer: Writer,
}

/// Reads and checks everything. Entries outside of their group's bounds are left over from
/// before and are removed later.
///
/// # Errors
/// [`StorageError::Corrupt`] when a record of a group is damaged, [`StorageError::Io`] when
/// reading fails. A damaged entry is none: it stands in the group's health.
pub(crate) fn recover(db: &DB, path: &Path) -> Result<Found, StorageError> {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    let mut pass = Pass {
        path,
        found: Found::default(),
        group: None,
        skipped_group: false,
    };
    let mut records = db.raw_iterator_opt(options);
    records.seek_to_first();
    loop {
        if let Some((key, value)) = records.item() {
            pass.take(key, value)?;
            records.next();
            continue;
        }
        match records.status() {
            Ok(()) => break,
            Err(error) => {
                let onwards = pass.unreadable(error)?;
                records.seek(onwards);
            }
        }
    }
    pass.finish_group()?;
    Ok(pass.found)
}

struct Pass<'a> {
    path: &'a Path,
    found: Found,
    group: Option<Parts>,
    /// What stands behind the present group's entries could not be read either.
    skipped_group: bool,
}

/// A group as far as it was read.
struct Parts {
    group: GroupId,
    head: Option<Head>,
    written: Written,
    terms: TermRuns,
    /// The next index that should come.
    expected: LogIndex,
    faulty: Vec<Range<LogIndex>>,
}

impl Parts {
    fn new(group: GroupId) -> Self {
        Self {
            group,
            head: None,
            written: Written::default(),
            terms: TermRuns::default(),
            expected: LogIndex::ZERO,
            faulty: Vec::new(),
        }
    }

    /// The entries from the expected one up to `end` cannot be had.
    fn lose(&mut self, end: LogIndex) {
        if end <= self.expected {
            return;
        }
        match self.faulty.last_mut() {
            Some(last) if last.end == self.expected => last.end = end,
            _ => self.faulty.push(self.expected..end),
        }
        self.expected = end;
    }
}

impl Pass<'_> {
    fn corrupt(&self, reason: String) -> StorageError {
        StorageError::Corrupt {
            path: self.path.display().to_string(),
            offset: 0,
            reason,
        }
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), StorageError> {
        let Some((group, kind, index)) = key::parse(key) else {
            return Err(self.corrupt(format!("key {key:02x?} is none of a log's")));
        };
        if self.group.as_ref().is_none_or(|parts| parts.group != group) {
            self.finish_group()?;
            self.group = Some(Parts::new(group));
        }
        let Some(parts) = &mut self.group else {
            return Ok(());
        };
        let read = match kind {
            Kind::Head => record::head(key, value).map(|head| {
                parts.expected = head.base.index.next();
                parts.terms = TermRuns::new(head.base);
                parts.head = Some(head);
            }),
            Kind::Snapshot => {
                record::snapshot(key, value).map(|snapshot| parts.written.snapshot = Some(snapshot))
            }
            Kind::Terms => record::terms(key, value).and_then(|terms| parts.take_terms(terms)),
            Kind::Values => record::values(key, value).map(|values| parts.written.values = values),
            Kind::Entry => {
                self.take_entry(key, value, index);
                return Ok(());
            }
        };
        read.map_err(|reason| self.corrupt(format!("{kind:?} of group {group}: {reason}")))
    }

    fn take_entry(&mut self, key: &[u8], value: &[u8], index: LogIndex) {
        let Some(parts) = &mut self.group else { return };
        let last = match &parts.head {
            Some(head) if index >= parts.expected && index <= head.last => head.last,
            _ => {
                let left_over = index..index.next();
                self.found.writer.purge.add(parts.group, left_over);
                return;
            }
        };
        parts.settle_terms(last);
        parts.lose(index);
        let entry = record::entry(key, value, index);
        if entry.is_some_and(|entry| parts.terms.term(index) == Ok(entry.term())) {
            parts.expected = index.next();
        } else {
            parts.lose(index.next());
        }
    }

    /// RocksDB cannot read what comes next; says where to go on.
    fn unreadable(&mut self, error: Error) -> Result<Key, StorageError> {
        if let (ErrorKind::Corruption, Some(parts)) = (error.kind(), &mut self.group)
            && let Some(head) = &parts.head
        {
            if parts.expected <= head.last {
                parts.lose(parts.expected.next());
                return Ok(key::entry(parts.group, parts.expected));
            }
            if !self.skipped_group {
                self.skipped_group = true;
                return Ok(key::behind(parts.group));
            }
        }
        Err(error::storage("read", self.path)(error))
    }

    fn finish_group(&mut self) -> Result<(), StorageError> {
        self.skipped_group = false;
        let Some(mut parts) = self.group.take() else {
            return Ok(());
        };
        let group = parts.group;
        let Some(head) = parts.head else {
            if parts.written == Written::default() {
                return Ok(());
            }
            return Err(self.corrupt(format!("group {group} has records and no head")));
        };
        if head.last < head.base.index || head.last == LogIndex::MAX {
            return Err(self.corrupt(format!("group {group} ends before its log begins")));
        }
        parts.settle_terms(head.last);
        parts.lose(head.last.next());
        let state = GroupState {
            hard_state: head.hard_state,
            snapshot: parts.written.snapshot.clone(),
            first: head.base.index.next(),
            last: parts.terms.last(),
            meta: parts.written.values.clone().into_iter().collect(),
            health: LogHealth {
                faulty: parts.faulty,
                vote_unknown: false,
            },
        };
        let image = GroupImage::from_parts(state, parts.terms)
            .map_err(|reason| self.corrupt(format!("group {group}: {reason}")))?;
        self.found.images.insert(group, image);
        self.found.writer.written.insert(group, parts.written);
        Ok(())
    }
}

impl Parts {
    fn take_terms(&mut self, terms: Vec<LogId>) -> Result<(), String> {
        let base = self.terms.base();
        let ascend = |pair: &[LogId]| match pair {
            [before, after] => before.index < after.index && before.term < after.term,
            _ => true,
        };
        let first = terms.first().is_none_or(|first| ascend(&[base, *first]));
        if !first || !terms.windows(2).all(ascend) {
            return Err("terms do not ascend".to_owned());
        }
        self.written.terms = terms;
        Ok(())
    }

    /// Once all records of the group are read, which stand before its entries.
    fn settle_terms(&mut self, last: LogIndex) {
        let terms = &self.terms;
        if terms.last().index < last {
            self.terms = TermRuns::from_changes(terms.base(), last, &self.written.terms);
        }
    }
}
