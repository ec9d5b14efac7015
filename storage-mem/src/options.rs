//! What can be set on a log in memory.

use std::time::Duration;

use raftwerk_raft::StorageError;

/// When what was submitted becomes durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// Before `submit` returns; lazy batches ride with the next that is not.
    #[default]
    Immediate,
    /// When somebody waits for it or calls [`crate::MemLog::sync_now`], and not before.
    Manual,
    /// A thread syncs, and each sync takes this long: a slow disk. Lazy batches ride along.
    Delayed(Duration),
}

/// The options of a [`crate::MemLog`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemLogOptions {
    /// When what was submitted becomes durable.
    pub sync: SyncMode,
    /// How many bytes may be taken and not yet durable; 64 MiB.
    pub queued_bytes_max: u64,
    /// How many bytes one batch may count for; 16 MiB. Not more than `queued_bytes_max`.
    pub batch_bytes_max: u64,
}

impl Default for MemLogOptions {
    fn default() -> Self {
        Self {
            sync: SyncMode::default(),
            queued_bytes_max: 64 << 20,
            batch_bytes_max: 16 << 20,
        }
    }
}

impl MemLogOptions {
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        let option = |name, reason: &str| StorageError::Option {
            name,
            reason: reason.to_owned(),
        };
        if self.batch_bytes_max == 0 {
            return Err(option("batch_bytes_max", "no batch would ever fit"));
        }
        if self.batch_bytes_max > self.queued_bytes_max {
            return Err(option(
                "batch_bytes_max",
                "a batch must fit into queued_bytes_max",
            ));
        }
        Ok(())
    }
}
