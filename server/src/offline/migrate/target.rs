//! The folder that a migration fills: no store until it is whole.
//!
//! `MIGRATION` names the source and is the first thing in the folder and the last to go. While it
//! stands, no backend opens the folder. The new store grows in a folder below, its files move up
//! when it has been compared, its identity file last.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use raftwerk_storage::folder::{IDENTITY_FILE, Identity, LOCK_FILE, MIGRATION_FILE};
use raftwerk_storage::vfs::{SyncSite, VfsLock};

use super::progress::{Phase, Progress};
use crate::cli::CliError;
use crate::offline::copy::{lock, not_locked, sync_folder};
use crate::serve::backends::disk;
use crate::serve::folder::write_whole;

/// Where the new store grows.
const STORE: &str = "MIGRATION.store";
/// The copy of the source's files that is opened in their place.
const SOURCE: &str = "MIGRATION.source";
/// Makes the folder's name, and what stands in it, durable.
const SYNC: SyncSite = SyncSite("migrate: folder");

/// A folder that is being filled, locked for as long as this lives.
pub(super) struct Target {
    dir: PathBuf,
    _lock: Box<dyn VfsLock>,
}

impl Target {
    /// Takes the folder and empties it of what an earlier migration of `source` left.
    ///
    /// # Errors
    /// It holds something else, or somebody else is at it.
    pub(super) fn claim(dir: &Path, source: &Identity) -> Result<Self, CliError> {
        check(dir, source)?;
        disk()
            .create_dir_all(dir, SYNC)
            .map_err(|error| failed(dir, error))?;
        let lock = lock(dir).map_err(|error| not_locked(dir, error))?;
        // Again, now that nobody else can be at it.
        check(dir, source)?;
        write_whole(dir, MIGRATION_FILE, &mark(source)).map_err(|error| failed(dir, error))?;
        let target = Self {
            dir: dir.to_owned(),
            _lock: lock,
        };
        target.clear().map_err(|error| failed(dir, error))?;
        Ok(target)
    }

    pub(super) fn store(&self) -> PathBuf {
        self.dir.join(STORE)
    }

    pub(super) fn source(&self) -> PathBuf {
        self.dir.join(SOURCE)
    }

    /// Everything but the mark and the lock goes.
    fn clear(&self) -> io::Result<()> {
        for name in names(&self.dir)? {
            if name != LOCK_FILE && name != MIGRATION_FILE {
                remove(&self.dir.join(name))?;
            }
        }
        fs::File::open(&self.dir)?.sync_all()
    }

    /// Gives the store, which nobody has open, its place.
    ///
    /// # Errors
    /// What the system says; the folder is no store then.
    pub(super) fn settle(self, progress: &mut dyn Progress) -> Result<(), CliError> {
        let wrong = |error| failed(&self.dir, error);
        let store = self.store();
        progress.at(Phase::Settle, 0, 4)?;
        sync_folder(&store).map_err(wrong)?;
        progress.at(Phase::Settle, 1, 4)?;
        remove(&self.source()).map_err(wrong)?;
        for name in names(&store).map_err(wrong)? {
            if name != LOCK_FILE && name != IDENTITY_FILE {
                fs::rename(store.join(&name), self.dir.join(&name)).map_err(wrong)?;
                progress.at(Phase::Settle, 1, 4)?;
            }
        }
        self.sync()?;
        progress.at(Phase::Settle, 2, 4)?;
        fs::rename(store.join(IDENTITY_FILE), self.dir.join(IDENTITY_FILE)).map_err(wrong)?;
        remove(&store).map_err(wrong)?;
        self.sync()?;
        progress.at(Phase::Settle, 3, 4)?;
        fs::remove_file(self.dir.join(MIGRATION_FILE)).map_err(wrong)?;
        self.sync()
    }

    fn sync(&self) -> Result<(), CliError> {
        disk()
            .sync_dir(&self.dir, SYNC)
            .map_err(|error| failed(&self.dir, error))
    }
}

/// Whether `dir` may be filled from `source`.
fn check(dir: &Path, source: &Identity) -> Result<(), CliError> {
    let found = match names(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found.map_err(|error| failed(dir, error))?,
    };
    if found.iter().any(|name| name == MIGRATION_FILE) {
        let path = dir.join(MIGRATION_FILE);
        let left = fs::read_to_string(&path).map_err(|error| failed(&path, error))?;
        if left == mark(source) {
            return Ok(());
        }
        return Err(CliError::failed(format!(
            "{} holds an unfinished migration of another store: delete it, or choose another \
             folder",
            dir.display()
        )));
    }
    // The mark's own file may be left under its first name.
    let begun = format!("{MIGRATION_FILE}.new");
    let ours = |name: &&String| **name == LOCK_FILE || **name == begun;
    match found.iter().find(|name| !ours(name)) {
        None => Ok(()),
        Some(name) => Err(CliError::failed(format!(
            "{} holds {name}: choose an empty folder, or one that does not exist",
            dir.display()
        ))),
    }
}

fn mark(source: &Identity) -> String {
    format!(
        "raftwerk-migration 1\nsource {}\nbackend {}\n\
         This is no store until `raftwerk migrate` has completed it: run it again.\n",
        source.uuid, source.backend
    )
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    disk().list(dir)
}

/// Removes a file or a folder; none is as good.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn failed(path: &Path, error: io::Error) -> CliError {
    CliError::failed(format!("{}: {error}", path.display()))
}
