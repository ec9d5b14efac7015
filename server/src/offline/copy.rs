//! Copies of a store's folder: an engine that cannot open read-only is given one of these, so that
//! what is looked at stays as it is, byte for byte.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use raftwerk_raft::StorageError;
use raftwerk_storage::folder::LOCK_FILE;
use raftwerk_storage::vfs::VfsLock;

use super::engine::failed;
use crate::cli::CliError;
use crate::client::table::bytes;
use crate::serve::backends::{disk, folder_bytes};

/// How many names are tried for a scratch folder.
const SCRATCH_NAMES_MAX: u32 = 100;

/// Takes the lock of the store in `dir`.
///
/// # Errors
/// [`ErrorKind::WouldBlock`] when somebody has it.
pub(super) fn lock(dir: &Path) -> io::Result<Box<dyn VfsLock>> {
    disk().lock(&dir.join(LOCK_FILE))
}

/// What to say when [`lock`] fails.
pub(super) fn not_locked(dir: &Path, error: io::Error) -> CliError {
    let path = dir.display().to_string();
    failed(match error.kind() {
        ErrorKind::WouldBlock => StorageError::Locked { path },
        _ => StorageError::Io {
            operation: "lock",
            path,
            source: error,
        },
    })
}

/// Copies the files in `from` and below into `to`, which is made, but not the lock. `copied` is
/// told the bytes of each file.
///
/// # Errors
/// What the system says, of which file.
pub(super) fn copy_folder(
    from: &Path,
    to: &Path,
    copied: &mut dyn FnMut(u64) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let failed = |path: &Path, error: io::Error| {
        CliError::failed(format!("cannot copy {}: {error}", path.display()))
    };
    make_private(to).map_err(|error| failed(to, error))?;
    for entry in fs::read_dir(from).map_err(|error| failed(from, error))? {
        let entry = entry.map_err(|error| failed(from, error))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_name() == LOCK_FILE {
            continue;
        }
        // Follows links: a log may have been moved to another disk by one.
        let found = fs::metadata(&path).map_err(|error| failed(&path, error))?;
        if found.is_dir() {
            copy_folder(&path, &target, copied)?;
        } else {
            let count = fs::copy(&path, &target).map_err(|error| failed(&path, error))?;
            copied(count)?;
        }
    }
    Ok(())
}

/// Makes everything in `dir` and below durable.
///
/// # Errors
/// What the system says: nothing is known then of what is durable.
pub(super) fn sync_folder(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if fs::metadata(&path)?.is_dir() {
            sync_folder(&path)?;
        } else {
            File::open(&path)?.sync_all()?;
        }
    }
    File::open(dir)?.sync_all()
}

fn make_private(dir: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(dir)
}

/// A copy of a store's folder among the system's temporary files, gone when dropped.
pub(super) struct Scratch {
    path: PathBuf,
    _lock: Option<Box<dyn VfsLock>>,
}

impl Scratch {
    /// Copies the store in `dir`, and keeps its lock where that can be taken: not on a disk that
    /// is read-only.
    ///
    /// # Errors
    /// It is in use, or there is no room.
    pub(super) fn of(dir: &Path) -> Result<Self, CliError> {
        let lock = match lock(dir) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(not_locked(dir, error));
            }
            Err(_) => None,
        };
        let temporary = std::env::temp_dir();
        let needed = folder_bytes(dir);
        if let Ok(Some(space)) = disk().space(&temporary)
            && space.free_bytes < needed
        {
            return Err(CliError::failed(format!(
                "a copy of {} is looked at, which takes {}, and {} has {}: set TMPDIR to a folder \
                 with more room",
                dir.display(),
                bytes(needed),
                temporary.display(),
                bytes(space.free_bytes)
            )));
        }
        let path = (0..SCRATCH_NAMES_MAX).find_map(|number| {
            let name = format!("raftwerk-look-{}-{number}", std::process::id());
            let path = temporary.join(name);
            make_private(&path).is_ok().then_some(path)
        });
        let Some(path) = path else {
            return Err(CliError::failed(format!(
                "cannot make a folder in {}: set TMPDIR to one that can be written to",
                temporary.display()
            )));
        };
        let scratch = Self { path, _lock: lock };
        copy_folder(dir, &scratch.store(), &mut |_| Ok(()))?;
        Ok(scratch)
    }

    /// Where the copy is.
    pub(super) fn store(&self) -> PathBuf {
        self.path.join("store")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is a temporary file.
        let _ = fs::remove_dir_all(&self.path);
    }
}
