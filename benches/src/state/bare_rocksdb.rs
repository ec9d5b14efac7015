//! RocksDB as somebody would use it who writes a state machine on it by hand: one write batch for
//! each batch, with the index applied, without RocksDB's own log: the Raft log is the redo.

use std::path::Path;

use raftwerk_storage_rocksdb::RocksStoreOptions;
use rocksdb::{DB, Direction, IteratorMode, WriteBatch};

use super::{Put, StateTarget};
use crate::log::words;

/// Before all keys of the data.
const APPLIED: &[u8] = b"\0applied";
/// Stands before each key of the data.
const DATA: u8 = 1;

struct BareRocksdb(DB);

pub(super) fn open(folder: &Path) -> Result<Box<dyn StateTarget>, String> {
    let mut options = RocksStoreOptions::new("").engine();
    options.create_if_missing(true);
    let db = DB::open(&options, folder.join("bare")).map_err(words)?;
    Ok(Box::new(BareRocksdb(db)))
}

fn data_key(key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.push(DATA);
    out.extend_from_slice(key);
}

impl StateTarget for BareRocksdb {
    fn write(&self, puts: Vec<Put>, index: u64) -> Result<(), String> {
        let mut batch = WriteBatch::default();
        let mut stored = Vec::new();
        for (key, value) in &puts {
            data_key(key, &mut stored);
            batch.put(&stored, value);
        }
        batch.put(APPLIED, index.to_le_bytes());
        self.0.write_without_wal(batch).map_err(words)
    }

    fn persist(&self) -> Result<(), String> {
        self.0.flush().map_err(words)
    }

    fn get(&self, key: &[u8]) -> Result<Option<usize>, String> {
        let mut stored = Vec::new();
        data_key(key, &mut stored);
        let value = self.0.get_pinned(&stored).map_err(words)?;
        Ok(value.map(|value| value.len()))
    }

    fn scan(&self, from: &[u8], count: u64) -> Result<u64, String> {
        let mut stored = Vec::new();
        data_key(from, &mut stored);
        let mode = IteratorMode::From(&stored, Direction::Forward);
        let mut found = 0;
        let mut bytes = 0;
        for item in self.0.iterator(mode) {
            let (key, value) = item.map_err(words)?;
            bytes += key.len() + value.len();
            found += 1;
            if found == count {
                break;
            }
        }
        std::hint::black_box(bytes);
        Ok(found)
    }
}
