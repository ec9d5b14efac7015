//! Batches that are always the same, so that whoever opens a log later knows what it may hold.

use bytes::Bytes;
use raftwerk_raft::{
    Durability, Entry, GroupId, GroupWrite, HardState, LogId, LogIndex, NodeId, SnapshotMeta,
    Storage, Term, WriteBatch,
};

use crate::log_suite::model::LogModel;

const GROUPS: u64 = 3;
/// The named value that says which batch a group is of.
const NUMBER: &[u8] = b"number";

/// Bytes that say nothing and are the same for the same number.
#[must_use]
pub fn filler(number: u64, len: usize) -> Bytes {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..len).map(byte).collect()
}

/// Batch `number`, for a log that holds all before: entries of three groups, conflicts, snapshots,
/// compactions, a group that is destroyed and begins anew.
#[must_use]
pub fn batch(model: &LogModel, number: u64) -> WriteBatch {
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
#[must_use]
pub fn log_after(number: u64) -> LogModel {
    (1..=number).fold(LogModel::default(), |model, number| {
        model.after(&batch(&model, number)).unwrap()
    })
}

/// Which batch the log ends with.
///
/// # Errors
/// It does not hold just what that left, of all groups.
pub fn check_log(log: &dyn Storage) -> Result<u64, String> {
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
