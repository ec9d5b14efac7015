//! The queue over an engine passes the log suite, with everything in memory and with nothing.
#![allow(clippy::unwrap_used, clippy::panic)]

mod toy;

use std::sync::Arc;

use raftwerk_raft::{Storage, StorageError};
use raftwerk_storage::queue::QueueOptions;
use raftwerk_testkit::log_suite::{Ability, HeldSyncs, LogHome};
use toy::ToyDisk;

struct ToyHome {
    disk: ToyDisk,
    options: QueueOptions,
}

impl ToyHome {
    fn new(background: bool, tail_bytes_max: u64) -> Self {
        let options = QueueOptions {
            queued_bytes_max: 8 << 20,
            batch_bytes_max: 4 << 20,
            tail_bytes_max,
            background,
            ..QueueOptions::default()
        };
        Self {
            disk: ToyDisk::default(),
            options,
        }
    }
}

impl LogHome for ToyHome {
    fn open(&mut self) -> Result<Arc<dyn Storage>, StorageError> {
        Ok(Arc::new(self.disk.open(self.options.clone())?))
    }

    fn kill(&mut self) {
        self.disk.crash();
    }

    fn power_loss(&mut self, _seed: u64) -> Ability {
        self.disk.crash();
        Ability::Done
    }

    fn hold_syncs(&mut self) -> Result<HeldSyncs, &'static str> {
        self.disk.hold();
        let disk = self.disk.clone();
        Ok(HeldSyncs::new(move || disk.release()))
    }

    fn fail_next_sync(&mut self) -> Ability {
        self.disk.fail_next("on request");
        Ability::Done
    }
}

mod written_by_a_thread_and_read_from_memory {
    raftwerk_testkit::storage_suite!(|| super::ToyHome::new(true, 1 << 20));
}

mod written_by_a_thread_and_read_from_the_engine {
    raftwerk_testkit::storage_suite!(|| super::ToyHome::new(true, 0));
}
