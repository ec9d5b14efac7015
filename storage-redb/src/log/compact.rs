//! Giving the disk back what a log does not need.

use std::path::Path;
use std::sync::Arc;

use raftwerk_raft::StorageError;
use raftwerk_storage::folder::{Folder, FolderMode, io_error};
use raftwerk_storage::vfs::Vfs;

use super::FILE;
use super::engine::{Found, write_heads};
use super::store::{LOG_KIND, OnDamage, open};
use crate::file::to_io;

/// What [`compact_log`] did to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactedLog {
    /// Its length before, in bytes.
    pub bytes_before: u64,
    /// Its length now, in bytes.
    pub bytes_after: u64,
}

/// How often the file may be gone through.
const PASSES_MAX: usize = 16;
/// What redb may keep in memory meanwhile, in bytes.
const CACHE_BYTES: usize = 32 << 20;

/// Shrinks the file of the log in `path`, which nobody may have open. A crash meanwhile loses
/// nothing; a damaged log is left as it is.
///
/// # Errors
/// [`StorageError`], as opening the log.
pub fn compact_log(
    vfs: Arc<dyn Vfs>,
    path: impl AsRef<Path>,
) -> Result<CompactedLog, StorageError> {
    let folder = Folder::open(vfs, path.as_ref(), LOG_KIND, FolderMode::MustExist)?;
    let (found, images) = open(&folder, CACHE_BYTES, OnDamage::Refuse)?;
    let Found {
        mut db,
        file,
        mark,
        mut ledger,
    } = found;
    let path = folder.path().join(FILE.name);
    let length = || file.len().map_err(io_error("measure", &path));
    let bytes_before = length()?;
    let failed = |error: redb::Error| io_error("compact", &path)(to_io(error));
    write_heads(&db, &mut ledger, &images).map_err(failed)?;
    for _ in 0..PASSES_MAX {
        if !db.compact().map_err(|error| failed(error.into()))? {
            break;
        }
    }
    db.close().map_err(|error| failed(error.into()))?;
    // Else what rots from now on would be confined to nobody.
    mark.close(ledger.commit, &ledger.roster())
        .map_err(io_error("write", &path))?;
    Ok(CompactedLog {
        bytes_before,
        bytes_after: length()?,
    })
}
