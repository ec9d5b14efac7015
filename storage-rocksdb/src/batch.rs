//! Operations as RocksDB takes them.

use raftwerk_raft::{LogId, StateError, StateOp};
use rocksdb::{DB, ReadOptions, WriteBatch};

use crate::error::state;
use crate::generation::{HEAD_KEY, put_applied, user_key};

/// Of how many keys a range is removed one by one. Beyond that it is one tombstone, which every
/// later read over the range has to step over until tables are merged.
const RANGE_KEYS_MAX: usize = 1 << 16;

/// The operations in their order, and the applied id with them.
///
/// # Errors
/// [`StateError`] when RocksDB cannot say which keys a range holds.
pub(crate) fn batch(db: &DB, ops: &[StateOp], applied: LogId) -> Result<WriteBatch, StateError> {
    let bytes: usize = ops
        .iter()
        .map(|op| match op {
            StateOp::Put { key, value } => key.len() + value.len() + 12,
            StateOp::Delete { key } => key.len() + 8,
            StateOp::DeleteRange { start, end } => start.len() + end.len() + 12,
        })
        .sum();
    let mut batch = WriteBatch::with_capacity_bytes(bytes + 64);
    let mut stored = Vec::new();
    for (at, op) in ops.iter().enumerate() {
        match op {
            StateOp::Put { key, value } => {
                user_key(key, &mut stored);
                batch.put(&stored, value);
            }
            StateOp::Delete { key } => {
                user_key(key, &mut stored);
                batch.delete(&stored);
            }
            StateOp::DeleteRange { start, end } if start < end => {
                let before = ops.get(..at).unwrap_or_default();
                let unwritten = before
                    .iter()
                    .any(|op| matches!(op, StateOp::Put { key, .. } if start <= key && key < end));
                remove_range(db, &mut batch, start, end, unwritten)?;
            }
            StateOp::DeleteRange { .. } => {}
        }
    }
    batch.put(HEAD_KEY, put_applied(applied));
    Ok(batch)
}

/// Removes `[start, end)`. `unwritten`: this batch itself puts keys there.
fn remove_range(
    db: &DB,
    batch: &mut WriteBatch,
    start: &[u8],
    end: &[u8],
    unwritten: bool,
) -> Result<(), StateError> {
    let (mut from, mut to) = (Vec::new(), Vec::new());
    user_key(start, &mut from);
    user_key(end, &mut to);
    if unwritten {
        batch.delete_range(&from, &to);
        return Ok(());
    }
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(to.clone());
    options.fill_cache(false);
    let mut records = db.raw_iterator_opt(options);
    records.seek(&from);
    let mut keys = Vec::new();
    while let Some(key) = records.key() {
        if keys.len() == RANGE_KEYS_MAX {
            batch.delete_range(&from, &to);
            return Ok(());
        }
        keys.push(key.to_vec());
        records.next();
    }
    records.status().map_err(state("read a range"))?;
    for key in keys {
        batch.delete(key);
    }
    Ok(())
}
