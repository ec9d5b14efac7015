//! How many bytes things count for, the same in every backend.

use raftwerk_raft::{Entry, GroupWrite, SnapshotMeta, WriteBatch};

/// What a batch counts for beside its payload.
const BATCH_BYTES: u64 = 32;
/// What a group's step counts for beside its parts.
const GROUP_BYTES: u64 = 64;
/// What an entry counts for beside its payload.
const ENTRY_BYTES: u64 = 32;

/// What a batch counts for against a store's bounds, in bytes: its payload and a fixed share for
/// each part. Not its exact size on any disk.
#[must_use]
pub fn batch_bytes(batch: &WriteBatch) -> u64 {
    batch.groups.iter().fold(BATCH_BYTES, |sum, write| {
        sum.saturating_add(group_bytes(write))
    })
}

/// The largest entry, in bytes of payload, that with a hard state makes a batch of at most
/// `batch_bytes_max`.
#[must_use]
pub const fn entry_bytes_max(batch_bytes_max: u64) -> u64 {
    batch_bytes_max.saturating_sub(BATCH_BYTES + GROUP_BYTES + ENTRY_BYTES)
}

fn group_bytes(write: &GroupWrite) -> u64 {
    let entries = write.append.iter().map(entry_bytes);
    let snapshots = [&write.reset_to, &write.snapshot]
        .into_iter()
        .flatten()
        .map(snapshot_bytes);
    let meta = write.meta.iter().map(|(name, value)| {
        ENTRY_BYTES + name.len() as u64 + value.as_ref().map_or(0, |value| value.len() as u64)
    });
    entries
        .chain(snapshots)
        .chain(meta)
        .fold(GROUP_BYTES, u64::saturating_add)
}

pub(crate) fn entry_bytes(entry: &Entry) -> u64 {
    ENTRY_BYTES + entry.data.len() as u64
}

fn snapshot_bytes(meta: &SnapshotMeta) -> u64 {
    let conf = &meta.conf_state;
    let members = conf.voters.len()
        + conf.learners.len()
        + conf.voters_outgoing.len()
        + conf.learners_next.len();
    ENTRY_BYTES + 8 * members as u64 + meta.context.len() as u64
}

/// How many of `entries` go into `max_bytes` of payload, from the front: at least one if there
/// is any.
pub fn payload_fits<'a>(entries: impl IntoIterator<Item = &'a Entry>, max_bytes: u64) -> usize {
    let mut sum = 0u64;
    let mut count = 0;
    for entry in entries {
        sum = sum.saturating_add(entry.data.len() as u64);
        if count > 0 && sum > max_bytes {
            break;
        }
        count += 1;
    }
    count
}
