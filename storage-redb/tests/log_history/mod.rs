//! A small log, and the random history that is written to it.

use std::sync::Arc;

use raftwerk_raft::{Storage, StorageError};
use raftwerk_storage::queue::QueueOptions;
use raftwerk_storage_redb::{RedbLog, RedbLogOptions};
use raftwerk_testkit::crash::Progress;
use raftwerk_testkit::fault_vfs::FaultVfs;
use raftwerk_testkit::history::{History, Known, Models};

pub(crate) const DIR: &str = "/log";

/// Small, read from the file, and written by whoever waits.
pub(crate) fn options() -> RedbLogOptions {
    let mut options = RedbLogOptions::new(DIR);
    options.cache_bytes = 1 << 20;
    options.queue = QueueOptions {
        tail_bytes_max: 0,
        background: false,
        ..QueueOptions::default()
    };
    options
}

pub(crate) fn try_open(vfs: &FaultVfs) -> Result<RedbLog, StorageError> {
    RedbLog::open(Arc::new(vfs.clone()), &options())
}

pub(crate) fn open(vfs: &FaultVfs) -> Result<RedbLog, String> {
    try_open(vfs).map_err(|error| error.to_string())
}

/// Writes `count` random batches, waits for the last and keeps account of what is acknowledged.
/// Ends at the first that is not taken.
pub(crate) fn run(
    log: &RedbLog,
    progress: &Progress<Known>,
    models: &Models,
    seed: u64,
    count: usize,
) {
    let mut history = History::new(seed, 5000);
    for number in 1..=count {
        let before = models.lock().last().cloned().unwrap_or_default();
        let (batch, after) = history.batch(&before);
        models.lock().push(after);
        progress.update(|known| known.submitted += 1);
        let Ok(ticket) = log.submit(batch) else {
            return;
        };
        if history.below(10) < 6 || number == count {
            if log.wait(ticket).is_err() {
                return;
            }
            progress.update(|known| known.acknowledged = known.submitted);
        }
    }
}
