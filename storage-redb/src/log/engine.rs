//! The engine under the ticket queue.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use raftwerk_raft::{ByteBudget, Entry, GroupId, LogError, LogIndex, ScrubReport, StorageError};
use raftwerk_storage::folder::{Folder, io_error};
use raftwerk_storage::image::GroupImage;
use raftwerk_storage::queue::{Commit, Engine, GroupCommit};
use raftwerk_storage::vfs::VfsFile;
use redb::{Database, Durability, ReadableDatabase, Table, WriteTransaction};

use super::FILE;
use super::ledger::{Ledger, RecordChanges};
use super::mark::{Mark, MarkFile};
use super::value::{ENTRIES, RECORDS, kind, seal, seal_entry, unseal, unseal_entry};
use crate::file::{guard, to_io};

type Entries<'a> = Table<'a, (u64, u64), &'static [u8]>;
type Records<'a> = Table<'a, (u64, u8), &'static [u8]>;

/// Entries from which on they are put as a run: fewer are cheaper one by one.
const RUN_MIN: usize = 8;
/// The key of the store's own record.
const STORE_KEY: (u64, u8) = (0, kind::STORE);

/// One redb file.
pub(crate) struct RedbEngine {
    /// `None` once closed.
    db: Option<Database>,
    file: Arc<dyn VfsFile>,
    mark: MarkFile,
    /// `None` while a commit is made, and from a failed one on.
    books: Mutex<Option<Books>>,
    scrubbed: Mutex<ScrubAt>,
    // Last: the file is let go before its lock.
    folder: Folder,
}

/// What the writer knows.
#[derive(Debug)]
struct Books {
    ledger: Ledger,
    /// Groups whose heads do not know all of the log.
    behind: BTreeMap<GroupId, GroupImage>,
}

/// Where the next scrub goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScrubAt {
    Entry((u64, u64)),
    Record((u64, u8)),
}

/// What opening found, and the engine is made of.
pub(crate) struct Found {
    pub(crate) db: Database,
    pub(crate) file: Arc<dyn VfsFile>,
    pub(crate) mark: MarkFile,
    pub(crate) ledger: Ledger,
}

impl fmt::Debug for RedbEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbEngine")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl RedbEngine {
    pub(crate) fn new(folder: Folder, found: Found) -> Self {
        let books = Books {
            ledger: found.ledger,
            behind: BTreeMap::new(),
        };
        Self {
            db: Some(found.db),
            file: found.file,
            mark: found.mark,
            books: Mutex::new(Some(books)),
            scrubbed: Mutex::new(ScrubAt::Entry((0, 0))),
            folder,
        }
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The length of the file, in bytes.
    pub(crate) fn file_bytes(&self) -> Result<u64, StorageError> {
        self.file
            .len()
            .map_err(io_error("measure", &self.folder.path().join(FILE.name)))
    }

    fn db(&self) -> Result<&Database, redb::Error> {
        self.db.as_ref().ok_or(redb::Error::DatabaseClosed)
    }

    fn store(&self, books: &mut Books, commit: &Commit) -> Result<(), redb::Error> {
        let transaction = begin(self.db()?)?;
        let number = books.ledger.commit.saturating_add(1);
        let mut told = false;
        {
            let mut writer = Writer::open(&transaction, number)?;
            for change in &commit.groups {
                let records = books.ledger.changes(change);
                // Whatever carries the commit's number tells that there was one.
                told |= !change.put.is_empty() || records.iter().any(|(_, body)| body.is_some());
                writer.change(change, &records)?;
                match &change.image {
                    Some(image) => books.behind.insert(change.group, image.clone()),
                    None => books.behind.remove(&change.group),
                };
            }
            if !told {
                writer.store_record()?;
            }
        }
        transaction.commit()?;
        books.ledger.commit = number;
        let mark = Mark {
            commit: number,
            closed: None,
        };
        Ok(self.mark.write(mark)?)
    }

    /// Lets the heads know all of the log, so that the next open can name what is missing.
    fn close(&mut self) -> Result<(), redb::Error> {
        let Some(mut books) = self.books.lock().take() else {
            return Ok(());
        };
        let Some(db) = self.db.take() else {
            return Ok(());
        };
        write_heads(&db, &mut books.ledger, &books.behind)?;
        db.close()?;
        Ok(self
            .mark
            .close(books.ledger.commit, &books.ledger.roster())?)
    }
}

/// Lets the heads of `groups` know all of the log: what the mark of a close rests on.
pub(crate) fn write_heads(
    db: &Database,
    ledger: &mut Ledger,
    groups: &BTreeMap<GroupId, GroupImage>,
) -> Result<(), redb::Error> {
    let transaction = begin(db)?;
    ledger.commit = ledger.commit.saturating_add(1);
    {
        let mut writer = Writer::open(&transaction, ledger.commit)?;
        for (group, image) in groups {
            writer.records(&ledger.head_behind(*group, image))?;
        }
        writer.store_record()?;
    }
    Ok(transaction.commit()?)
}

impl Drop for RedbEngine {
    /// What fails here was not acknowledged to anybody: the next open finds the last commit.
    fn drop(&mut self) {
        let _ = guard(|| self.close());
    }
}

pub(crate) fn begin(db: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = db.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    Ok(transaction)
}

/// The tables in one transaction.
pub(crate) struct Writer<'a> {
    pub(crate) entries: Entries<'a>,
    pub(crate) records: Records<'a>,
    commit: u64,
    buffer: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(crate) fn open(
        transaction: &'a WriteTransaction,
        commit: u64,
    ) -> Result<Self, redb::Error> {
        Ok(Self {
            entries: transaction.open_table(ENTRIES)?,
            records: transaction.open_table(RECORDS)?,
            commit,
            buffer: Vec::new(),
        })
    }

    fn change(&mut self, change: &GroupCommit, records: &RecordChanges) -> Result<(), redb::Error> {
        let group = change.group.0;
        for range in &change.removed {
            self.entries
                .retain_in((group, range.start.0)..(group, range.end.0), |_, _| false)?;
        }
        if change.image.is_none() {
            self.entries
                .retain_in((group, 0)..=(group, u64::MAX), |_, _| false)?;
        }
        self.put(group, &change.put)?;
        self.records(records)
    }

    fn put(&mut self, group: u64, put: &[Entry]) -> Result<(), redb::Error> {
        if put.len() < RUN_MIN || !self.put_run(group, put)? {
            for entry in put {
                seal_entry(group, entry, self.commit, &mut self.buffer);
                self.entries
                    .insert((group, entry.index().0), self.buffer.as_slice())?;
            }
        }
        Ok(())
    }

    /// Puts many entries into a gap of the table, which fills pages whole. False when the place
    /// is no gap.
    fn put_run(&mut self, group: u64, put: &[Entry]) -> Result<bool, redb::Error> {
        let Some(first) = put.first() else {
            return Ok(true);
        };
        let mut cursor = self
            .entries
            .lower_bound_mut(std::ops::Bound::Included((group, first.index().0)))?;
        let over = cursor
            .peek_next()?
            .is_some_and(|(key, _)| key.value().0 == group);
        if over {
            cursor.close()?;
            return Ok(false);
        }
        for entry in put {
            seal_entry(group, entry, self.commit, &mut self.buffer);
            cursor
                .insert_before((group, entry.index().0), self.buffer.as_slice())
                .map_err(|error| match error {
                    redb::CursorError::Storage(error) => redb::Error::from(error),
                    other => redb::Error::Corrupted(other.to_string()),
                })?;
        }
        cursor.close()?;
        Ok(true)
    }

    fn records(&mut self, changes: &RecordChanges) -> Result<(), redb::Error> {
        for (key, body) in changes {
            match body {
                Some(body) => self.record(*key, body)?,
                None => {
                    self.records.remove(*key)?;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn record(&mut self, key: (u64, u8), body: &[u8]) -> Result<(), redb::Error> {
        let place = (key.0, u64::from(key.1));
        seal(place, self.commit, &mut self.buffer, |out| {
            out.extend_from_slice(body);
        });
        self.records.insert(key, self.buffer.as_slice())?;
        Ok(())
    }

    pub(crate) fn store_record(&mut self) -> Result<(), redb::Error> {
        self.record(STORE_KEY, &[])
    }
}

impl Engine for RedbEngine {
    fn commit(&self, commit: &Commit) -> Result<(), String> {
        let books = self.books.lock().take();
        let mut books = books.ok_or_else(|| "an earlier commit failed".to_owned())?;
        self.store(&mut books, commit)
            .map_err(|error| error.to_string())?;
        *self.books.lock() = Some(books);
        Ok(())
    }

    fn read(
        &self,
        group: GroupId,
        range: Range<LogIndex>,
        max_bytes: u64,
    ) -> Result<Vec<Entry>, LogError> {
        let mut out = Vec::new();
        match guard(|| self.read_into(group, range.clone(), max_bytes, &mut out)) {
            Ok(()) => Ok(out),
            // What was read before the damage is good; who reads on from there comes back to it.
            Err(redb::Error::Corrupted(_)) if !out.is_empty() => Ok(out),
            Err(redb::Error::Corrupted(_)) => Err(LogError::Faulty {
                range: range.start..range.start.next(),
            }),
            Err(error) => Err(LogError::Io {
                reason: error.to_string().into(),
            }),
        }
    }

    fn disk_free_bytes(&self) -> Option<u64> {
        self.folder.disk_free_bytes()
    }

    fn scrub(&self, budget: ByteBudget) -> Result<ScrubReport, StorageError> {
        let mut report = ScrubReport::default();
        let mut at = *self.scrubbed.lock();
        let failed = match guard(|| self.scrub_from(&mut at, budget, &mut report)) {
            Ok(()) => None,
            Err(redb::Error::Corrupted(reason)) => Some(reason),
            Err(error) => {
                let path = self.folder.path().join(FILE.name);
                return Err(io_error("read", &path)(to_io(error)));
            }
        };
        if let Some(reason) = failed {
            report.damage.push(format!("behind {at:?}: {reason}"));
            report.completed = true;
        }
        if report.completed {
            at = ScrubAt::Entry((0, 0));
        }
        *self.scrubbed.lock() = at;
        Ok(report)
    }
}

impl RedbEngine {
    fn read_into(
        &self,
        group: GroupId,
        range: Range<LogIndex>,
        max_bytes: u64,
        out: &mut Vec<Entry>,
    ) -> Result<(), redb::Error> {
        let table = self.db()?.begin_read()?.open_table(ENTRIES)?;
        let mut payload = 0u64;
        for found in table.range((group.0, range.start.0)..(group.0, range.end.0))? {
            let (key, value) = found?;
            let (_, entry) =
                unseal_entry(key.value(), value.value()).map_err(redb::Error::Corrupted)?;
            payload = payload.saturating_add(entry.data.len() as u64);
            if !out.is_empty() && payload > max_bytes {
                return Ok(());
            }
            out.push(entry);
        }
        Ok(())
    }

    fn scrub_from(
        &self,
        at: &mut ScrubAt,
        budget: ByteBudget,
        report: &mut ScrubReport,
    ) -> Result<(), redb::Error> {
        let transaction = self.db()?.begin_read()?;
        if let ScrubAt::Entry(from) = *at {
            for found in transaction.open_table(ENTRIES)?.range(from..)? {
                let (key, value) = found?;
                let key = key.value();
                if report.checked_bytes >= budget.0.max(1) {
                    *at = ScrubAt::Entry(key);
                    return Ok(());
                }
                report.checked_bytes += value.value().len() as u64;
                if let Err(damage) = unseal_entry(key, value.value()) {
                    let (group, index) = key;
                    report
                        .damage
                        .push(format!("entry {index} of group {group}: {damage}"));
                }
            }
            *at = ScrubAt::Record((0, 0));
        }
        if let ScrubAt::Record(from) = *at {
            for found in transaction.open_table(RECORDS)?.range(from..)? {
                let (key, value) = found?;
                let key = key.value();
                if report.checked_bytes >= budget.0.max(1) {
                    *at = ScrubAt::Record(key);
                    return Ok(());
                }
                report.checked_bytes += value.value().len() as u64;
                let (group, kind) = key;
                if let Err(damage) = unseal((group, u64::from(kind)), value.value()) {
                    report
                        .damage
                        .push(format!("record {kind} of group {group}: {damage}"));
                }
            }
        }
        report.completed = true;
        Ok(())
    }
}
