//! redb as somebody would use it who writes a log on it by hand: one table of entries by group
//! and index, one of hard states, one transaction for each batch.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use raftwerk_raft::codec::{encode_entry, encode_hard_state, read_entry, wire::Reader};
use raftwerk_raft::{HardState, LogIndex, Term};
use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use super::{Append, LogTarget, words};

const ENTRIES: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("entries");
const STATES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("states");
/// What the backend on redb takes.
const CACHE_BYTES: usize = 32 << 20;

struct BareRedb {
    db: Database,
    syncs: AtomicU64,
}

pub(super) fn open(folder: &Path) -> Result<Box<dyn LogTarget>, String> {
    let db = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create(folder.join("bare.redb"))
        .map_err(words)?;
    Ok(Box::new(BareRedb {
        db,
        syncs: AtomicU64::new(0),
    }))
}

impl BareRedb {
    fn commit(&self, steps: &[Append], durability: Durability) -> Result<(), String> {
        let mut transaction = self.db.begin_write().map_err(words)?;
        transaction.set_durability(durability).map_err(words)?;
        {
            let mut entries = transaction.open_table(ENTRIES).map_err(words)?;
            let mut states = transaction.open_table(STATES).map_err(words)?;
            let mut buffer = Vec::new();
            for step in steps {
                for entry in step.entries() {
                    buffer.clear();
                    encode_entry(&entry, &mut buffer);
                    entries
                        .insert((step.group, entry.index().0), buffer.as_slice())
                        .map_err(words)?;
                }
                if let Some(to) = step.compact_to() {
                    entries
                        .retain_in((step.group, 0)..=(step.group, to), |_, _| false)
                        .map_err(words)?;
                }
                buffer.clear();
                encode_hard_state(&hard_state(step), &mut buffer);
                states
                    .insert(step.group, buffer.as_slice())
                    .map_err(words)?;
            }
        }
        transaction.commit().map_err(words)
    }
}

/// What moves with a step.
pub(super) fn hard_state(step: &Append) -> HardState {
    HardState {
        term: Term(1),
        vote: None,
        commit: LogIndex(step.last()),
    }
}

/// The bytes of an encoded entry's payload.
pub(super) fn payload_bytes(value: &[u8]) -> Result<u64, String> {
    let mut reader = Reader::new(bytes::Bytes::copy_from_slice(value));
    Ok(read_entry(&mut reader).map_err(words)?.data.len() as u64)
}

impl LogTarget for BareRedb {
    fn append(&self, steps: &[Append], durable: bool) -> Result<(), String> {
        if durable {
            self.syncs.fetch_add(1, Ordering::Relaxed);
            self.commit(steps, Durability::Immediate)
        } else {
            self.commit(steps, Durability::None)
        }
    }

    fn settle(&self) -> Result<(), String> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.commit(&[], Durability::Immediate)
    }

    fn read(&self, group: u64, first: u64, last: u64) -> Result<u64, String> {
        let transaction = self.db.begin_read().map_err(words)?;
        let entries = transaction.open_table(ENTRIES).map_err(words)?;
        let mut bytes = 0;
        for item in entries
            .range((group, first)..=(group, last))
            .map_err(words)?
        {
            let (_, value) = item.map_err(words)?;
            bytes += payload_bytes(value.value())?;
        }
        Ok(bytes)
    }

    fn syncs(&self) -> Option<u64> {
        Some(self.syncs.load(Ordering::Relaxed))
    }

    fn fed_by_one(&self) -> bool {
        true
    }
}
