//! RocksDB as somebody would use it who writes a log on it by hand: keys of group and index, one
//! write batch for each batch, its own write-ahead log synced.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use raftwerk_raft::codec::{encode_entry, encode_hard_state};
use raftwerk_storage_rocksdb::RocksLogOptions;
use rocksdb::{DB, Direction, IteratorMode, WriteBatch, WriteOptions};

use super::bare_redb::{hard_state, payload_bytes};
use super::{Append, LogTarget, words};

/// Behind the group in a key: hard states stand before entries.
const STATE: u8 = 0;
const ENTRY: u8 = 1;

struct BareRocksdb {
    db: DB,
    syncs: AtomicU64,
}

pub(super) fn open(folder: &Path) -> Result<Box<dyn LogTarget>, String> {
    let db = DB::open(&RocksLogOptions::new("").engine(), folder.join("bare")).map_err(words)?;
    Ok(Box::new(BareRocksdb {
        db,
        syncs: AtomicU64::new(0),
    }))
}

fn key(group: u64, kind: u8, index: u64) -> [u8; 17] {
    let mut key = [0; 17];
    let (front, back) = key.split_at_mut(8);
    front.copy_from_slice(&group.to_be_bytes());
    let (tag, number) = back.split_at_mut(1);
    tag.copy_from_slice(&[kind]);
    number.copy_from_slice(&index.to_be_bytes());
    key
}

impl LogTarget for BareRocksdb {
    fn append(&self, steps: &[Append], durable: bool) -> Result<(), String> {
        let mut batch = WriteBatch::default();
        let mut buffer = Vec::new();
        for step in steps {
            for entry in step.entries() {
                buffer.clear();
                encode_entry(&entry, &mut buffer);
                batch.put(key(step.group, ENTRY, entry.index().0), &buffer);
            }
            for index in step.removed.clone().into_iter().flatten() {
                batch.delete(key(step.group, ENTRY, index));
            }
            buffer.clear();
            encode_hard_state(&hard_state(step), &mut buffer);
            batch.put(key(step.group, STATE, 0), &buffer);
        }
        let mut how = WriteOptions::default();
        how.set_sync(durable);
        if durable {
            self.syncs.fetch_add(1, Ordering::Relaxed);
        }
        self.db.write_opt(batch, &how).map_err(words)
    }

    fn settle(&self) -> Result<(), String> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.db.flush_wal(true).map_err(words)
    }

    fn read(&self, group: u64, first: u64, last: u64) -> Result<u64, String> {
        let start = key(group, ENTRY, first);
        let end = key(group, ENTRY, last);
        let mut bytes = 0;
        for item in self
            .db
            .iterator(IteratorMode::From(&start, Direction::Forward))
        {
            let (found, value) = item.map_err(words)?;
            if *found > end[..] {
                break;
            }
            bytes += payload_bytes(&value)?;
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
