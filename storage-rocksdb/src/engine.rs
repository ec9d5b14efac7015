//! RocksDB as the engine of a [`TicketQueue`](raftwerk_storage::queue::TicketQueue).

use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use raftwerk_raft::{ByteBudget, Entry, GroupId, LogError, LogIndex, ScrubReport, StorageError};
use raftwerk_storage::folder::Folder;
use raftwerk_storage::queue::{Commit, Engine};
use rocksdb::{DB, Error, ErrorKind, ReadOptions, WriteOptions};

use crate::error;
use crate::key;
use crate::proof::Proof;
use crate::record;
use crate::writer::{Writer, payload};

/// How many entries behind a damaged one are looked at for the end of the damage.
const DAMAGE_LOOK_AHEAD: u64 = 4096;

pub(crate) struct RocksEngine {
    // Before the folder: the files are let go before their lock.
    pub(crate) db: DB,
    pub(crate) proof: Proof,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) sync: WriteOptions,
    /// From where the scrub goes on.
    pub(crate) scrubbed: Mutex<Vec<u8>>,
    pub(crate) folder: Folder,
}

impl RocksEngine {
    pub(crate) fn property(&self, name: &rocksdb::properties::PropName) -> u64 {
        self.db
            .property_int_value(name)
            .ok()
            .flatten()
            .unwrap_or_default()
    }

    /// The first index of `range` whose entry can be read again.
    fn damage_end(&self, group: GroupId, range: Range<LogIndex>) -> LogIndex {
        let end = range.end.min(range.start.plus(DAMAGE_LOOK_AHEAD));
        let readable = |index: &u64| {
            let key = key::entry(group, LogIndex(*index));
            let found = self.db.get_pinned(key);
            found.is_ok_and(|value| {
                value.is_none_or(|value| record::entry(&key, &value, LogIndex(*index)).is_some())
            })
        };
        (range.start.0..end.0).find(readable).map_or(end, LogIndex)
    }
}

/// Why a read ends before its range does.
enum Stop {
    /// There is no such entry any more.
    Gone,
    Damaged,
    Failed(Error),
}

impl Engine for RocksEngine {
    fn commit(&self, commit: &Commit) -> Result<(), String> {
        let batch = self.writer.lock().batch(commit);
        if batch.is_empty() {
            return Ok(());
        }
        self.db
            .write_opt(batch, &self.sync)
            .map_err(Error::into_string)?;
        self.proof.note(self.db.latest_sequence_number())
    }

    fn read(
        &self,
        group: GroupId,
        range: Range<LogIndex>,
        max_bytes: u64,
    ) -> Result<Vec<Entry>, LogError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(key::entry(group, range.end));
        let mut records = self.db.raw_iterator_opt(options);
        let mut next = range.start;
        records.seek(key::entry(group, next));
        let mut out = Vec::new();
        let mut bytes = 0_u64;
        let stop = loop {
            if next >= range.end {
                return Ok(out);
            }
            let Some((key, value)) = records.item() else {
                break match records.status() {
                    Ok(()) => Stop::Gone,
                    Err(error) if error.kind() == ErrorKind::Corruption => Stop::Damaged,
                    Err(error) => Stop::Failed(error),
                };
            };
            if key != key::entry(group, next) {
                break Stop::Gone;
            }
            let Some(entry) = record::entry(key, value, next) else {
                break Stop::Damaged;
            };
            bytes = bytes.saturating_add(payload(&entry));
            if bytes > max_bytes && !out.is_empty() {
                return Ok(out);
            }
            out.push(entry);
            next = next.next();
            records.next();
        };
        match stop {
            // What stands before it is what was asked for.
            _ if !out.is_empty() => Ok(out),
            Stop::Gone => Ok(out),
            Stop::Damaged => Err(LogError::Faulty {
                range: next..self.damage_end(group, next.next()..range.end),
            }),
            Stop::Failed(error) => Err(LogError::Io {
                reason: Arc::from(error.into_string()),
            }),
        }
    }

    fn disk_free_bytes(&self) -> Option<u64> {
        self.folder.disk_free_bytes()
    }

    fn scrub(&self, budget: ByteBudget) -> Result<ScrubReport, StorageError> {
        let mut from = self.scrubbed.lock().clone();
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let mut records = self.db.raw_iterator_opt(options);
        records.seek(&from);
        let mut report = ScrubReport::default();
        while report.checked_bytes < budget.0 {
            if let Some((key, value)) = records.item() {
                report.checked_bytes += (key.len() + value.len()) as u64;
                if record::unseal(key, value).is_none() {
                    report.damage.push(describe(key));
                }
                from.clear();
                from.extend_from_slice(key);
                // The smallest key behind this one.
                from.push(0);
                records.next();
                continue;
            }
            let Err(error) = records.status() else {
                from.clear();
                report.completed = true;
                break;
            };
            if error.kind() != ErrorKind::Corruption {
                return Err(error::storage("read", self.folder.path())(error));
            }
            report.damage.push(error.into_string());
            // What is behind the damage in the same file cannot be told apart from it.
            let Some(onwards) = self.next_file(&from)? else {
                from.clear();
                report.completed = true;
                break;
            };
            from = onwards;
            records.seek(&from);
        }
        *self.scrubbed.lock() = from;
        Ok(report)
    }
}

impl RocksEngine {
    /// Just behind the file that ends first behind `from`.
    fn next_file(&self, from: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let files = self
            .db
            .live_files()
            .map_err(error::storage("list files of", self.folder.path()))?;
        let ends = files.into_iter().filter_map(|file| file.end_key);
        let mut end = ends.filter(|end| end.as_slice() >= from).min();
        if let Some(end) = &mut end {
            end.push(0);
        }
        Ok(end)
    }
}

/// Names a damaged record.
fn describe(key: &[u8]) -> String {
    match key::parse(key) {
        Some((group, key::Kind::Entry, index)) => format!("entry {index} of group {group}"),
        Some((group, kind, _)) => format!("{kind:?} of group {group}"),
        None => format!("key {key:02x?}"),
    }
}
