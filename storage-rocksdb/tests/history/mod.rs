//! What the child processes write into a state: always the same batches, so that whoever opens the
//! store later knows what it may hold.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::path::Path;

use bytes::Bytes;
use raftwerk_raft::{LogId, LogIndex, ScanOrder, StateOp, StateStore, Term};
use raftwerk_storage_rocksdb::{RocksLog, RocksLogOptions, RocksStore, RocksStoreOptions};
use raftwerk_testkit::processes::numbered::filler;

pub(crate) fn open_log(path: &Path) -> Result<RocksLog, String> {
    let mut options = RocksLogOptions::new(path);
    options.memtable_bytes = 128 << 10;
    options.cache_bytes = 1 << 20;
    options.queue.tail_bytes_max = 4096;
    RocksLog::open(&options).map_err(|error| format!("open the log: {error}"))
}

pub(crate) fn open_store(path: &Path) -> Result<RocksStore, String> {
    let mut options = RocksStoreOptions::new(path);
    options.memtable_bytes = 64 << 10;
    options.cache_bytes = 1 << 20;
    RocksStore::open(&options).map_err(|error| format!("open the store: {error}"))
}

pub(crate) fn applied(number: u64) -> LogId {
    match number {
        0 => LogId::ZERO,
        _ => LogId::new(Term(1), LogIndex(number)),
    }
}

/// The operations of batch `number`.
pub(crate) fn ops(number: u64) -> Vec<StateOp> {
    let key = |key: u64| Bytes::from(format!("key {:02}", key % 50));
    let mut ops: Vec<StateOp> = (0..10)
        .map(|offset| StateOp::Put {
            key: key(number * 7 + offset),
            value: filler(number + offset, 700),
        })
        .collect();
    ops.push(StateOp::Delete {
        key: key(number * 3),
    });
    if number.is_multiple_of(5) {
        ops.push(StateOp::DeleteRange {
            start: "key 20".into(),
            end: "key 25".into(),
        });
    }
    for name in ["first", "zz last"] {
        ops.push(StateOp::Put {
            key: name.into(),
            value: number.to_string().into(),
        });
    }
    ops
}

type State = BTreeMap<Bytes, Bytes>;

fn state_after(number: u64) -> State {
    let mut state = State::new();
    for op in (1..=number).flat_map(ops) {
        match op {
            StateOp::Put { key, value } => {
                state.insert(key, value);
            }
            StateOp::Delete { key } => {
                state.remove(&key);
            }
            StateOp::DeleteRange { start, end } => {
                state.retain(|key, _| *key < start || *key >= end);
            }
        }
    }
    state
}

/// Which batch the store ends with; fails unless it holds just what that left.
pub(crate) fn check_store(store: &dyn StateStore) -> Result<u64, String> {
    let view = store.view().map_err(|error| error.to_string())?;
    let mut found = State::new();
    let everything = (Bound::Unbounded, Bound::Unbounded);
    view.scan(everything, ScanOrder::Ascending, &mut |key, value| {
        found.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        ControlFlow::Continue(())
    })
    .map_err(|error| error.to_string())?;
    let number = view.applied().index.0;
    if view.applied() != applied(number) || found != state_after(number) {
        return Err(format!("not the state after batch {number}"));
    }
    Ok(number)
}
