//! A log that was closed in good order and whose file has been damaged since: what can be had is
//! written to a new file, and the entries that cannot are missing there by name.
//!
//! It takes a mark and records that agree: then no group, vote or snapshot is missing, and the
//! heads know which entries there must be. Else nothing is done, and opening fails.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use raftwerk_raft::StorageError;
use raftwerk_storage::folder::Folder;
use raftwerk_storage::vfs::VfsFile;
use redb::{Builder, ReadOnlyDatabase, ReadOnlyTable, ReadableDatabase};

use super::FILE;
use super::engine::{Writer, begin};
use super::ledger::Ledger;
use super::mark::Mark;
use super::value::{ENTRIES, Head, RECORDS, kind, unseal, unseal_entry};
use crate::backend::{FileBackend, SalvageBackend};

/// How often the file is opened anew because redb panicked over it.
const PANICS_MAX: usize = 64;
/// What one transaction of the new file takes, in bytes.
const CHUNK_BYTES: usize = 4 << 20;

/// The records as they are stored, by group and kind.
type Stored = BTreeMap<(u64, u8), Vec<u8>>;

/// Writes what is good to a new file in the old one's place. False when too little is known of
/// what there was.
pub(crate) fn salvage(
    folder: &Folder,
    file: &Arc<dyn VfsFile>,
    mark: Option<Mark>,
) -> Result<bool, StorageError> {
    let Some((records, ledger)) = mark.and_then(|mark| whole_records(file, mark)) else {
        return Ok(false);
    };
    FILE.create(folder, |backend| {
        let mut source = Source::new(file);
        copy(backend, &mut source, &records, &ledger)
    })?;
    Ok(true)
}

fn open(file: &Arc<dyn VfsFile>) -> Option<ReadOnlyDatabase> {
    let open = || {
        Builder::new()
            .set_cache_size(1 << 20)
            .open_read_only_with_backend(SalvageBackend(Arc::clone(file)))
            .ok()
    };
    catch_unwind(AssertUnwindSafe(open)).unwrap_or(None)
}

/// All records, if they are those of the commit that closed the log.
fn whole_records(file: &Arc<dyn VfsFile>, mark: Mark) -> Option<(Stored, Ledger)> {
    let closed = mark.closed?;
    let read = || -> Option<(Stored, Ledger)> {
        let table = open(file)?.begin_read().ok()?.open_table(RECORDS).ok()?;
        let (mut stored, mut ledger) = (Stored::new(), Ledger::default());
        for found in table.range::<(u64, u8)>(..).ok()? {
            let (key, value) = found.ok()?;
            let (id, kind) = key.value();
            let (commit, body) = unseal((id, u64::from(kind)), value.value()).ok()?;
            ledger.commit = ledger.commit.max(commit);
            if kind != kind::STORE {
                ledger.records.insert((id, kind), body.to_vec());
            }
            stored.insert((id, kind), value.value().to_vec());
        }
        Some((stored, ledger))
    };
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or(None)
        .filter(|(_, ledger)| ledger.commit == mark.commit && ledger.checksum() == closed)
}

/// The damaged file's entries.
struct Source<'a> {
    file: &'a Arc<dyn VfsFile>,
    entries: Option<ReadOnlyTable<(u64, u64), &'static [u8]>>,
    panics: usize,
}

impl<'a> Source<'a> {
    fn new(file: &'a Arc<dyn VfsFile>) -> Self {
        let mut source = Self {
            file,
            entries: None,
            panics: 0,
        };
        source.reopen();
        source
    }

    fn reopen(&mut self) {
        let table = || open(self.file)?.begin_read().ok()?.open_table(ENTRIES).ok();
        self.entries = catch_unwind(AssertUnwindSafe(table)).unwrap_or(None);
    }

    /// The entry under `key` as it is stored, if it is good.
    fn get(&mut self, key: (u64, u64)) -> Option<Vec<u8>> {
        let entries = self.entries.as_ref()?;
        let get = || {
            let found = entries.get(key).ok()??;
            unseal_entry(key, found.value()).ok()?;
            Some(found.value().to_vec())
        };
        catch_unwind(AssertUnwindSafe(get)).unwrap_or_else(|_| {
            self.panics += 1;
            self.entries = None;
            if self.panics <= PANICS_MAX {
                self.reopen();
            }
            None
        })
    }
}

fn copy(
    backend: FileBackend,
    source: &mut Source<'_>,
    records: &Stored,
    ledger: &Ledger,
) -> Result<(), redb::Error> {
    let db = Builder::new().create_with_backend(backend)?;
    let transaction = begin(&db)?;
    {
        let mut writer = Writer::open(&transaction, ledger.commit)?;
        for (key, value) in records {
            writer.records.insert(*key, value.as_slice())?;
        }
    }
    transaction.commit()?;
    let heads = ledger
        .records
        .iter()
        .filter(|((_, kind), _)| *kind == kind::HEAD);
    for ((group, _), body) in heads {
        let Ok(head) = Head::decode(body) else {
            return Err(redb::Error::Corrupted(format!("head of group {group}")));
        };
        let mut next = head.base.index.0.saturating_add(1);
        while next <= head.last.0 {
            let transaction = begin(&db)?;
            let mut writer = Writer::open(&transaction, ledger.commit)?;
            let mut bytes = 0;
            while next <= head.last.0 && bytes < CHUNK_BYTES {
                if let Some(value) = source.get((*group, next)) {
                    writer.entries.insert((*group, next), value.as_slice())?;
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
