//! What the child processes write: always the same batches, so that whoever opens the store later
//! knows what it may hold.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::path::Path;

use bytes::Bytes;
use raftwerk_raft::{
    Durability, Entry, GroupId, GroupWrite, HardState, LogId, LogIndex, NodeId, ScanOrder,
    SnapshotMeta, StateOp, StateStore, Storage, Term, WriteBatch,
};
use raftwerk_storage_rocksdb::{RocksLog, RocksLogOptions, RocksStore, RocksStoreOptions};
use raftwerk_testkit::log_suite::model::LogModel;

const GROUPS: u64 = 3;
/// The named value that says which batch a group is of.
const NUMBER: &[u8] = b"number";

fn filler(number: u64, len: usize) -> Bytes {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..len).map(byte).collect()
}

pub(crate) fn open_log(path: &Path) -> Result<RocksLog, String> {
    let mut options = RocksLogOptions::new(path);
    options.memtable_bytes = 128 << 10;
    options.cache_bytes = 1 << 20;
    options.queue.tail_bytes_max = 4096;
    RocksLog::open(&options).map_err(|error| format!("open the log: {error}"))
}

/// Batch `number`, for a log that holds all before: entries of three groups, conflicts, snapshots,
/// compactions, a group that is destroyed and begins anew.
pub(crate) fn batch(model: &LogModel, number: u64) -> WriteBatch {
    let write = |group: u64| {
        let id = GroupId(group);
        let before = model.group(id);
        let state = before.state();
        let destroy = group == GROUPS && number.is_multiple_of(25);
        let (first, last) = match destroy {
            true => (LogIndex(1), LogId::ZERO),
            false => (state.first, before.last()),
        };
        let term = Term(1 + number / 10);
        let conflict = !destroy && number.is_multiple_of(10) && last.index > first;
        let from = if conflict {
            last.index
        } else {
            last.index.next()
        };
        let entry = |offset: u64| {
            let len = (number * 37 + offset * 911 + group) % 3000;
            let len = usize::try_from(len).unwrap();
            Entry::normal(
                LogId::new(term, from.plus(offset)),
                filler(number ^ offset, len),
            )
        };
        let snapshot =
            (number % 16 == 8 && last.index > first.plus(4)).then(|| LogIndex(last.index.0 - 2));
        let meta = |at| SnapshotMeta {
            last: before.id_at(at).unwrap(),
            ..SnapshotMeta::default()
        };
        GroupWrite {
            group: id,
            destroy,
            snapshot: snapshot.map(meta),
            append: (0..1 + number % 4).map(entry).collect(),
            hard_state: Some(HardState {
                term,
                vote: Some(NodeId(1 + term.0 % 3)),
                commit: last.index,
            }),
            compact_to: snapshot.map(LogIndex::prev),
            meta: vec![(Bytes::from_static(NUMBER), Some(number.to_string().into()))],
            ..GroupWrite::default()
        }
    };
    WriteBatch {
        groups: (1..=GROUPS).map(write).collect(),
        durability: Durability::Sync,
    }
}

/// The log after batch `number`.
pub(crate) fn log_after(number: u64) -> LogModel {
    (1..=number).fold(LogModel::default(), |model, number| {
        model.after(&batch(&model, number)).unwrap()
    })
}

/// Which batch the log ends with; fails unless it holds just what that left, of all groups.
pub(crate) fn check_log(log: &dyn Storage) -> Result<u64, String> {
    let state = log
        .open_group(GroupId(1))
        .map_err(|error| error.to_string())?
        .state;
    let named = state.meta.iter().find(|(name, _)| name == NUMBER);
    let number = named.map_or(0, |(_, value)| {
        String::from_utf8_lossy(value).parse().unwrap()
    });
    log_after(number)
        .compare(log)
        .map_err(|difference| format!("not the log after batch {number}: {difference}"))?;
    Ok(number)
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
