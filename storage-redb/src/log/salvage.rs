//! A log that was closed in good order and whose file has been damaged since: what can be had is
//! written to a new file, and what cannot is missing there by name.
//!
//! The mark says which records there were, each with a checksum: so no group, vote or snapshot is
//! missing or of another time unnoticed, and the heads know which entries there must be. A group
//! whose records are not as they were is in doubt and has nothing else. Without such a mark, or
//! when no group is left, nothing is done, and opening fails.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use raftwerk_raft::StorageError;
use raftwerk_storage::folder::Folder;
use raftwerk_storage::vfs::VfsFile;
use redb::{Builder, Key, ReadOnlyDatabase, ReadOnlyTable, ReadableDatabase, TableDefinition};

use super::FILE;
use super::engine::{Writer, begin};
use super::ledger::Roster;
use super::mark::{Mark, MarkFile};
use super::value::{ENTRIES, Head, IN_DOUBT, RECORDS, kind, unseal, unseal_entry};
use crate::backend::{FileBackend, SalvageBackend};

/// How often the file is opened anew because redb panicked over it.
const PANICS_MAX: usize = 64;
/// What one transaction of the new file takes, in bytes.
const CHUNK_BYTES: usize = 4 << 20;

/// Writes what is good to a new file in the old one's place. False when too little is known of
/// what there was.
pub(crate) fn salvage(
    folder: &Folder,
    file: &Arc<dyn VfsFile>,
    mark_file: &MarkFile,
    mark: Option<Mark>,
) -> Result<bool, StorageError> {
    let known = mark.and_then(|mark| Some((mark.commit, mark_file.roster(mark)?)));
    let Some((commit, roster)) = known else {
        return Ok(false);
    };
    let records = Records::read(file, &roster);
    if records.heads.is_empty() && !records.doubted.is_empty() {
        return Ok(false);
    }
    FILE.create(folder, |backend| {
        let mut source = Source::new(file, ENTRIES);
        copy(backend, &mut source, &records, commit)
    })?;
    Ok(true)
}

/// What is left of all records.
#[derive(Debug, Default)]
struct Records {
    /// As they are stored, of the groups that have all of theirs.
    stored: BTreeMap<(u64, u8), Vec<u8>>,
    heads: BTreeMap<u64, Head>,
    /// The groups that have not.
    doubted: BTreeSet<u64>,
}

impl Records {
    fn read(file: &Arc<dyn VfsFile>, roster: &Roster) -> Self {
        let mut source = Source::new(file, RECORDS);
        let mut records = Self::default();
        for (&(group, kind), &crc) in &roster.0 {
            let place = (group, u64::from(kind));
            let found = source.get((group, kind), |value| {
                let (_, body) = unseal(place, value).ok()?;
                let head = (kind == kind::HEAD).then(|| Head::decode(body));
                let same = crc32fast::hash(body) == crc;
                same.then(|| (head.transpose().ok().flatten(), value.to_vec()))
            });
            let Some((head, value)) = found else {
                records.doubted.insert(group);
                continue;
            };
            records.heads.extend(head.map(|head| (group, head)));
            records.stored.insert((group, kind), value);
        }
        let doubted = &records.doubted;
        records.heads.retain(|group, _| !doubted.contains(group));
        records
            .stored
            .retain(|(group, _), _| !doubted.contains(group));
        records
    }
}

fn open(file: &Arc<dyn VfsFile>) -> Option<ReadOnlyDatabase> {
    Builder::new()
        .set_cache_size(1 << 20)
        .open_read_only_with_backend(SalvageBackend(Arc::clone(file)))
        .ok()
}

/// A table of the damaged file.
struct Source<'a, K: Key + 'static> {
    file: &'a Arc<dyn VfsFile>,
    definition: TableDefinition<'static, K, &'static [u8]>,
    table: Option<ReadOnlyTable<K, &'static [u8]>>,
    panics: usize,
}

impl<'a, K> Source<'a, K>
where
    K: for<'k> Key<SelfType<'k> = K> + Borrow<K> + Copy + 'static,
{
    fn new(
        file: &'a Arc<dyn VfsFile>,
        definition: TableDefinition<'static, K, &'static [u8]>,
    ) -> Self {
        let mut source = Self {
            file,
            definition,
            table: None,
            panics: 0,
        };
        source.reopen();
        source
    }

    fn reopen(&mut self) {
        let table = || {
            let transaction = open(self.file)?.begin_read().ok()?;
            transaction.open_table(self.definition).ok()
        };
        self.table = catch_unwind(AssertUnwindSafe(table)).unwrap_or(None);
    }

    /// What `look` makes of the value under `key`.
    fn get<T>(&mut self, key: K, look: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        let table = self.table.as_ref()?;
        let get = || look(table.get(key).ok()??.value());
        catch_unwind(AssertUnwindSafe(get)).unwrap_or_else(|_| {
            self.panics += 1;
            self.table = None;
            if self.panics <= PANICS_MAX {
                self.reopen();
            }
            None
        })
    }
}

fn copy(
    backend: FileBackend,
    source: &mut Source<'_, (u64, u64)>,
    records: &Records,
    commit: u64,
) -> Result<(), redb::Error> {
    let db = Builder::new().create_with_backend(backend)?;
    let transaction = begin(&db)?;
    {
        let mut writer = Writer::open(&transaction, commit)?;
        writer.store_record()?;
        for (key, value) in &records.stored {
            writer.records.insert(*key, value.as_slice())?;
        }
        for group in &records.doubted {
            writer.record((*group, kind::DOUBT), IN_DOUBT)?;
        }
    }
    transaction.commit()?;
    for (group, head) in &records.heads {
        let mut next = head.base.index.0.saturating_add(1);
        while next <= head.last.0 {
            let transaction = begin(&db)?;
            let mut writer = Writer::open(&transaction, commit)?;
            let mut bytes = 0;
            while next <= head.last.0 && bytes < CHUNK_BYTES {
                let key = (*group, next);
                // Of that term, too: an older page may hold what was truncated.
                let good = |value: &[u8]| {
                    let (_, entry) = unseal_entry(key, value).ok()?;
                    (head.id(entry.index()) == Some(entry.id)).then(|| value.to_vec())
                };
                if let Some(value) = source.get(key, good) {
                    writer.entries.insert(key, value.as_slice())?;
                    bytes += value.len();
                }
                next += 1;
            }
            drop(writer);
            transaction.commit()?;
        }
    }
    Ok(db.close()?)
}
