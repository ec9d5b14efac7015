//! What a log finds in RocksDB when it is opened: one pass over everything.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Range};
use std::path::Path;

use raftwerk_raft::{GroupId, GroupState, LogHealth, LogId, LogIndex, StorageError};
use raftwerk_storage::TermRuns;
use raftwerk_storage::image::GroupImage;
use rocksdb::{DB, Error, ErrorKind, ReadOptions};

use crate::error;
use crate::key::{self, Key, Kind, RECORDS};
use crate::record::{self, Head};
use crate::writer::{Writer, Written};

/// What there is of the groups, and what the first commits go on from.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) images: BTreeMap<GroupId, GroupImage>,
    pub(crate) writer: Writer,
}

/// Reads and checks everything. Entries outside of their group's bounds are left over from
/// before and are removed later. A group of which a record is damaged is in doubt, and has
/// nothing else; damaged entries stand in their group's health.
///
/// # Errors
/// [`StorageError::Corrupt`] when it cannot be told which groups are damaged,
/// [`StorageError::Io`] when reading fails.
pub(crate) fn recover(db: &DB, path: &Path) -> Result<Found, StorageError> {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    let mut pass = Pass {
        db,
        path,
        found: Found::default(),
        roster: Roster::read(db, path)?,
        group: None,
    };
    let mut records = db.raw_iterator_opt(options);
    records.seek_to_first();
    loop {
        if let Some((key, value)) = records.item() {
            if pass.take(key, value)? {
                break;
            }
            records.next();
            continue;
        }
        match records.status() {
            Ok(()) => break,
            Err(error) => match pass.unreadable(error)? {
                Some(onwards) => records.seek(onwards),
                None => break,
            },
        }
    }
    pass.end();
    Ok(pass.found)
}

/// Which groups there are, as it stands apart from them.
#[derive(Debug, Default)]
struct Roster {
    groups: BTreeSet<GroupId>,
    /// All of it could be read.
    whole: bool,
}

impl Roster {
    fn read(db: &DB, path: &Path) -> Result<Self, StorageError> {
        let mut records = db.raw_iterator();
        records.seek(key::roster(GroupId(0)));
        let mut groups = BTreeSet::new();
        while let Some(key) = records.key() {
            groups.extend(key::parse(key).map(|(group, ..)| group));
            records.next();
        }
        let whole = match records.status() {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::Corruption => false,
            Err(error) => return Err(error::storage("read", path)(error)),
        };
        Ok(Self { groups, whole })
    }

    /// The first group behind `group`, the first of all behind none.
    fn behind(&self, group: Option<GroupId>) -> Option<GroupId> {
        let from = group.map_or(Bound::Unbounded, Bound::Excluded);
        self.groups.range((from, Bound::Unbounded)).next().copied()
    }
}

struct Pass<'a> {
    db: &'a DB,
    path: &'a Path,
    found: Found,
    roster: Roster,
    group: Option<Parts>,
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
    /// All its records were read, and its entries come.
    at_entries: bool,
    /// A record of it is damaged.
    damaged: bool,
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
            at_entries: false,
            damaged: false,
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

    /// True when no group comes any more.
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<bool, StorageError> {
        let Some((group, kind, index)) = key::parse(key) else {
            return Err(self.corrupt(format!("key {key:02x?} is none of a log's")));
        };
        if kind == Kind::Roster {
            return Ok(true);
        }
        self.enter(group);
        let Some(parts) = &mut self.group else {
            return Ok(false);
        };
        match kind {
            Kind::Entry => {
                parts.at_entries = true;
                self.take_entry(key, value, index);
            }
            _ => parts.take_record(kind, key, value),
        }
        Ok(false)
    }

    /// What comes next is `group`'s. Of groups passed over nothing could be read.
    fn enter(&mut self, group: GroupId) {
        let mut present = self.group.as_ref().map(|parts| parts.group);
        if present == Some(group) {
            return;
        }
        self.finish_group();
        while let Some(passed) = self.roster.behind(present).filter(|passed| *passed < group) {
            self.found.doubt(passed);
            present = Some(passed);
        }
        self.group = Some(Parts::new(group));
    }

    /// Nothing comes any more.
    fn end(&mut self) {
        let mut present = self.group.as_ref().map(|parts| parts.group);
        self.finish_group();
        while let Some(passed) = self.roster.behind(present) {
            self.found.doubt(passed);
            present = Some(passed);
        }
        for group in &self.roster.groups {
            if let Some(written) = self.found.writer.written.get_mut(group) {
                written.rostered = true;
            }
        }
    }

    fn take_entry(&mut self, key: &[u8], value: &[u8], index: LogIndex) {
        let Some(parts) = &mut self.group else { return };
        let last = match &parts.head {
            Some(head) if index >= parts.expected && index <= head.last => head.last,
            // Nobody knows what it was.
            None if parts.damaged || self.roster.groups.contains(&parts.group) => return,
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

    /// RocksDB cannot read what comes next; says where to go on, if anywhere.
    fn unreadable(&mut self, error: Error) -> Result<Option<Key>, StorageError> {
        if error.kind() != ErrorKind::Corruption {
            return Err(error::storage("read", self.path)(error));
        }
        if let Some(parts) = &mut self.group {
            if !parts.at_entries {
                parts.at_entries = true;
                parts.take_each(self.db);
            }
            if let Some(head) = &parts.head
                && parts.expected <= head.last
            {
                parts.lose(parts.expected.next());
                return Ok(Some(key::entry(parts.group, parts.expected)));
            }
        }
        // Whose records come next, only the roster knows.
        if !self.roster.whole {
            return Err(error::storage("read", self.path)(error));
        }
        let present = self.group.as_ref().map(|parts| parts.group);
        let next = self.roster.behind(present);
        if let Some(next) = next {
            self.enter(next);
        }
        Ok(next.map(|next| key::record(next, Kind::Head)))
    }

    fn finish_group(&mut self) {
        let Some(parts) = self.group.take() else {
            return;
        };
        let group = parts.group;
        let known = self.roster.groups.contains(&group) || parts.written != Written::default();
        if parts.head.is_none() && !parts.damaged && !known {
            return;
        }
        match parts.into_image() {
            Some((image, written)) => {
                self.found.images.insert(group, image);
                self.found.writer.written.insert(group, written);
            }
            None => self.found.doubt(group),
        }
    }
}

impl Found {
    /// Nothing is known of `group` but that it was there, and may have voted.
    fn doubt(&mut self, group: GroupId) {
        let mut image = GroupImage::default();
        image.set_health(LogHealth {
            vote_unknown: true,
            ..LogHealth::default()
        });
        self.images.insert(group, image);
        let written = Written {
            stale: true,
            ..Written::default()
        };
        self.writer.written.insert(group, written);
    }
}

impl Parts {
    fn take_record(&mut self, kind: Kind, key: &[u8], value: &[u8]) {
        let read = match kind {
            Kind::Head => record::head(key, value).map(|head| {
                self.expected = head.base.index.next();
                self.terms = TermRuns::new(head.base);
                self.head = Some(head);
            }),
            Kind::Snapshot => {
                record::snapshot(key, value).map(|snapshot| self.written.snapshot = Some(snapshot))
            }
            Kind::Terms => record::terms(key, value).and_then(|terms| self.take_terms(terms)),
            Kind::Values => record::values(key, value).map(|values| self.written.values = values),
            // That it is there says it.
            _ => {
                self.written.doubt = true;
                Ok(())
            }
        };
        self.damaged |= read.is_err();
    }

    /// Each record by itself: what comes next by order cannot be read.
    fn take_each(&mut self, db: &DB) {
        for kind in RECORDS {
            let key = key::record(self.group, kind);
            match db.get_pinned(key) {
                Ok(Some(value)) => self.take_record(kind, &key, &value),
                Ok(None) => {}
                Err(_) => self.damaged = true,
            }
        }
    }

    /// The group, unless something of it is damaged that nothing else tells.
    fn into_image(mut self) -> Option<(GroupImage, Written)> {
        let head = self.head.filter(|_| !self.damaged)?;
        if head.last < head.base.index || head.last == LogIndex::MAX {
            return None;
        }
        self.settle_terms(head.last);
        self.lose(head.last.next());
        let state = GroupState {
            hard_state: head.hard_state,
            snapshot: self.written.snapshot.clone(),
            first: head.base.index.next(),
            last: self.terms.last(),
            meta: self.written.values.clone().into_iter().collect(),
            health: LogHealth {
                faulty: self.faulty,
                vote_unknown: self.written.doubt,
            },
        };
        let image = GroupImage::from_parts(state, self.terms).ok()?;
        Some((image, self.written))
    }

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
