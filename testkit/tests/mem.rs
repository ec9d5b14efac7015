//! The log and the state store in memory pass the suites.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, missing_docs)]

use std::env;
use std::process::Command;
use std::sync::Arc;

use raftwerk_raft::{StateError, StateStore, Storage, StorageError};
use raftwerk_storage_mem::{MemDisk, MemLog, MemLogOptions, MemStore, SyncMode};
use raftwerk_testkit::log_suite::{Ability, HeldSyncs, LogHome};
use raftwerk_testkit::state_suite::StateHome;

struct MemHome {
    disk: MemDisk,
    log: Option<Arc<MemLog>>,
    sync: SyncMode,
}

impl MemHome {
    fn new(sync: SyncMode) -> Self {
        Self {
            disk: MemDisk::default(),
            log: None,
            sync,
        }
    }

    fn crash(&mut self, keep: usize) {
        if let Some(log) = self.log.take() {
            drop(log.crash_keeping(keep).expect("opens again"));
        }
    }
}

impl LogHome for MemHome {
    fn open(&mut self) -> Result<Arc<dyn Storage>, StorageError> {
        let options = MemLogOptions {
            sync: self.sync,
            queued_bytes_max: 34 << 20,
            batch_bytes_max: 17 << 20,
        };
        let log = Arc::new(MemLog::open(&self.disk, options)?);
        self.log = Some(Arc::clone(&log));
        Ok(log)
    }

    fn kill(&mut self) {
        self.crash(usize::MAX);
    }

    fn power_loss(&mut self, seed: u64) -> Ability {
        self.crash(usize::try_from(seed % 4).expect("small"));
        Ability::Done
    }

    fn hold_syncs(&mut self) -> Result<HeldSyncs, &'static str> {
        let held = self.log.as_ref().ok_or("not open")?.hold_syncs();
        Ok(HeldSyncs::new(move || drop(held)))
    }

    fn fail_next_sync(&mut self) -> Ability {
        match &self.log {
            Some(log) => {
                log.fail_next_sync("the disk said no");
                Ability::Done
            }
            None => Ability::Unsupported("not open"),
        }
    }
}

mod synced_at_once {
    raftwerk_testkit::storage_suite!(|| super::MemHome::new(super::SyncMode::Immediate));
}

mod synced_on_demand {
    raftwerk_testkit::storage_suite!(|| super::MemHome::new(super::SyncMode::Manual));
}

mod synced_by_a_thread {
    use std::time::Duration;

    use super::{MemHome, SyncMode};

    raftwerk_testkit::storage_suite!(|| MemHome::new(SyncMode::Delayed(Duration::from_micros(
        100
    ))));
}

#[derive(Default)]
struct MemStateHome(Arc<MemStore>);

impl StateHome for MemStateHome {
    fn open(&mut self) -> Result<Arc<dyn StateStore>, StateError> {
        Ok(Arc::clone(&self.0) as Arc<dyn StateStore>)
    }

    fn kill(&mut self) {
        self.0 = Arc::new(self.0.crash());
    }

    fn power_loss(&mut self, _seed: u64) -> Ability {
        self.kill();
        Ability::Done
    }

    fn fail_next_sync(&mut self) -> Ability {
        self.0.fail_next_sync("the disk said no");
        Ability::Done
    }
}

mod state {
    raftwerk_testkit::state_store_suite!(super::MemStateHome::default);
}

/// What a case leaves out it says past the harness, on standard error. How the log syncs makes no
/// difference to what its home can do.
#[test]
fn nothing_is_skipped_in_memory() {
    let suites = Command::new(env::current_exe().unwrap())
        .args(["synced_at_once::", "state::"])
        .output()
        .unwrap();
    assert!(suites.status.success(), "{suites:?}");
    let ran = String::from_utf8_lossy(&suites.stdout);
    assert!(
        ran.contains("synced_at_once::largest_entry_comes_back_whole ... ok"),
        "{ran}"
    );
    assert!(ran.contains("state::"), "{ran}");
    let said = String::from_utf8_lossy(&suites.stderr);
    assert!(!said.contains("SKIPPED"), "{said}");
}
