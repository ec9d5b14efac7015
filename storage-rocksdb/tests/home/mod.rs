//! A folder on the real disk as a home for the suites. RocksDB writes its files itself, so no file
//! system of ours can forget or fail under it: a kill is a copy of what the files hold.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use raftwerk_raft::{StateError, StateStore, Storage, StorageError};
use raftwerk_testkit::log_suite::{Ability, HeldSyncs, LogHome};
use raftwerk_testkit::state_suite::StateHome;
use tempfile::TempDir;

const NO_POWER_LOSS: &str = "RocksDB writes its own files; tests/power_cut.rs cuts the power";
const NO_FAULTS: &str = "RocksDB syncs its own files; tests/kill.rs lets a sync of it fail";

pub(crate) struct DiskHome<O> {
    root: TempDir,
    life: u64,
    open: O,
}

impl<O> DiskHome<O> {
    pub(crate) fn new(open: O) -> Self {
        Self {
            root: TempDir::new().unwrap(),
            life: 0,
            open,
        }
    }

    fn path(&self) -> PathBuf {
        self.root.path().join(self.life.to_string())
    }

    /// The next life has the files as they are now; what this one still does reaches its own.
    fn copy(&mut self) {
        let from = self.path();
        self.life += 1;
        copy_moment(&from, &self.path());
    }
}

impl<O> LogHome for DiskHome<O>
where
    O: FnMut(&Path) -> Result<Arc<dyn Storage>, StorageError> + Send,
{
    fn open(&mut self) -> Result<Arc<dyn Storage>, StorageError> {
        let path = self.path();
        (self.open)(&path)
    }

    fn kill(&mut self) {
        self.copy();
    }

    fn power_loss(&mut self, _seed: u64) -> Ability {
        Ability::Unsupported(NO_POWER_LOSS)
    }

    fn hold_syncs(&mut self) -> Option<HeldSyncs> {
        None
    }

    fn fail_next_sync(&mut self) -> Ability {
        Ability::Unsupported(NO_FAULTS)
    }
}

impl<O> StateHome for DiskHome<O>
where
    O: FnMut(&Path) -> Result<Arc<dyn StateStore>, StateError> + Send,
{
    fn open(&mut self) -> Result<Arc<dyn StateStore>, StateError> {
        let path = self.path();
        (self.open)(&path)
    }

    fn kill(&mut self) {
        self.copy();
    }

    fn power_loss(&mut self, _seed: u64) -> Ability {
        Ability::Unsupported(NO_POWER_LOSS)
    }

    fn fail_next_sync(&mut self) -> Ability {
        Ability::Unsupported(NO_FAULTS)
    }
}

type Moment = Vec<(PathBuf, u64, SystemTime)>;

/// Copies a folder as it is at one moment: again, if anything moved meanwhile.
pub(crate) fn copy_moment(from: &Path, to: &Path) {
    loop {
        let before = files(from, from);
        let copied = before
            .as_ref()
            .map(|files| copy(files, from, to))
            .is_ok_and(|copied| copied.is_ok());
        match (before, files(from, from)) {
            (Ok(before), Ok(after)) if copied && before == after => return,
            _ => fs::remove_dir_all(to).unwrap_or_default(),
        }
    }
}

/// Every file below `folder`: its path from `root`, its length, when it changed.
fn files(root: &Path, folder: &Path) -> io::Result<Moment> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_dir() {
            found.extend(files(root, &entry.path())?);
        } else {
            let path = entry.path().strip_prefix(root).unwrap().to_path_buf();
            found.push((path, meta.len(), meta.modified()?));
        }
    }
    found.sort();
    Ok(found)
}

fn copy(files: &Moment, from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for (path, ..) in files {
        let target = to.join(path);
        fs::create_dir_all(target.parent().unwrap())?;
        fs::copy(from.join(path), target)?;
    }
    Ok(())
}
