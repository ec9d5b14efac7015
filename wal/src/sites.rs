//! Every place that syncs, by name. `README.md` says what each protects.

use raftwerk_storage::vfs::SyncSite;

/// The zeros of a prepared segment, before it gets its name, and then its header.
pub const SYNC_PREPARE: SyncSite = SyncSite("wal: prepared segment");
/// The name of a prepared segment, before it gets its header, and those that an open removed.
pub const SYNC_NAME: SyncSite = SyncSite("wal: segment name");
/// Batches, before they are acknowledged.
pub const SYNC_BATCH: SyncSite = SyncSite("wal: batch");
/// A footer, before the successor gets a byte.
pub const SYNC_SEAL: SyncSite = SyncSite("wal: seal");
/// The first frame of the segment that an open begins, before the open answers.
pub const SYNC_OPEN: SyncSite = SyncSite("wal: open");
/// The watermark slot, when the log is idle, and its file's space and name when that is new.
pub const SYNC_SLOT: SyncSite = SyncSite("wal: watermark slot");

/// All of them.
pub const SYNC_SITES: [SyncSite; 6] = [
    SYNC_PREPARE,
    SYNC_NAME,
    SYNC_BATCH,
    SYNC_SEAL,
    SYNC_OPEN,
    SYNC_SLOT,
];
