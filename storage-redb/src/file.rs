//! The file that a store is in: made whole, and durable as it is found.

use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use raftwerk_raft::StorageError;
use raftwerk_storage::folder::{Folder, io_error};
use raftwerk_storage::vfs::{OpenMode, SyncSite, VfsFile};
use redb::{Builder, Database};

use crate::backend::{FileBackend, read_exact};

/// What [`renew`] reads and writes at once, in bytes.
const RENEW_BYTES: usize = 1 << 20;

/// The names of a store's file and of the syncs that concern it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileNames {
    pub(crate) name: &'static str,
    /// What it is called until it is whole.
    pub(crate) temporary: &'static str,
    /// Makes what redb commits durable.
    pub(crate) commit: SyncSite,
    /// Makes its name durable.
    pub(crate) rename: SyncSite,
    /// Makes durable what an earlier life may have left in the page cache alone.
    pub(crate) renew: SyncSite,
}

impl FileNames {
    /// Opens the file, if there is one, and makes its name durable: a kill may have come between
    /// the rename and its sync.
    pub(crate) fn find(&self, folder: &Folder) -> Result<Option<Arc<dyn VfsFile>>, StorageError> {
        let path = folder.path().join(self.name);
        match folder.vfs().open(&path, OpenMode::Write) {
            Ok(file) => {
                self.sync_name(folder)?;
                Ok(Some(file.into()))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("open", &path)(error)),
        }
    }

    /// Makes the file under its temporary name, has `fill` write it, and gives it its own name:
    /// under that it is always whole. An older one is replaced.
    pub(crate) fn create(
        &self,
        folder: &Folder,
        fill: impl FnOnce(FileBackend) -> Result<(), redb::Error>,
    ) -> Result<Arc<dyn VfsFile>, StorageError> {
        let (vfs, temporary) = (folder.vfs(), folder.path().join(self.temporary));
        let path = folder.path().join(self.name);
        match vfs.remove_file(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(io_error("remove", &temporary)(error));
            }
            _ => {}
        }
        let file: Arc<dyn VfsFile> = vfs
            .open(&temporary, OpenMode::CreateNew)
            .map_err(io_error("create", &temporary))?
            .into();
        let backend = FileBackend {
            file: Arc::clone(&file),
            site: self.commit,
        };
        fill(backend).map_err(|error| io_error("fill", &temporary)(to_io(error)))?;
        let replaces = vfs.open(&path, OpenMode::Read).is_ok();
        vfs.rename(&temporary, &path)
            .map_err(io_error("rename", &temporary))?;
        if let Err(error) = self.sync_name(folder) {
            if !replaces {
                // The name stands in the cache and perhaps never on the disk, whatever a later
                // sync says: the next open must not find it. Should this fail, so does the disk.
                let _ = vfs.remove_file(&path);
            }
            return Err(error);
        }
        Ok(file)
    }

    fn sync_name(&self, folder: &Folder) -> Result<(), StorageError> {
        folder
            .vfs()
            .sync_dir(folder.path(), self.rename)
            .map_err(io_error("sync", folder.path()))
    }

    /// Makes durable what is found in `file`, unless the store in it was closed: an earlier life
    /// that was killed, or whose sync failed, may have left pages that only the cache has and
    /// that no later sync writes. What is written are the bytes that are there, so that a power
    /// cut meanwhile leaves what one before might have left. True when it was closed.
    pub(crate) fn settle(&self, file: &Arc<dyn VfsFile>) -> io::Result<bool> {
        let closed = is_closed(&FileBackend {
            file: Arc::clone(file),
            site: self.commit,
        });
        if !closed {
            renew(file.as_ref(), self.renew)?;
        }
        Ok(closed)
    }
}

/// Whether redb closed the file in good order.
fn is_closed(backend: &FileBackend) -> bool {
    let mut builder = Builder::new();
    builder.set_cache_size(0);
    guard(|| Ok(builder.open_read_only_with_backend(backend.clone())?)).is_ok()
}

fn renew(file: &dyn VfsFile, site: SyncSite) -> io::Result<()> {
    let len = file.len()?;
    let mut buffer = vec![0; RENEW_BYTES];
    let mut at = 0;
    while at < len {
        let count = usize::try_from(len - at).unwrap_or(RENEW_BYTES);
        let Some(piece) = buffer.get_mut(..count.min(RENEW_BYTES)) else {
            break;
        };
        read_exact(file, at, piece)?;
        file.write_at(at, piece)?;
        at += piece.len() as u64;
    }
    file.sync_data(site)
}

/// Opens the database in `file`, whose every page is checked if `check` says so.
pub(crate) fn open(
    backend: FileBackend,
    cache_bytes: usize,
    check: bool,
) -> Result<Database, redb::Error> {
    let open = || {
        Builder::new()
            .set_cache_size(cache_bytes)
            .set_check_integrity_on_open(check)
            .create_with_backend(backend)
    };
    guard(|| Ok(open()?))
}

/// What redb does with bytes that it did not write may be a panic: damage, like any other.
///
/// # Errors
/// What `work` says, [`redb::Error::Corrupted`] if it panics.
pub(crate) fn guard<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(redb::Error::Corrupted(PANICKED.to_owned())))
}

/// Said of a file that redb choked on.
const PANICKED: &str = "redb panicked over what it read";

/// The error of the system if that is what it is.
pub(crate) fn to_io(error: redb::Error) -> io::Error {
    match error {
        redb::Error::Io(source) => source,
        other => io::Error::other(other),
    }
}
