//! The file system as a log needs it: a small trait, so that tests and the simulator can forget
//! unsynced bytes, tear sectors and fail any call.

use std::fmt;
use std::io;
use std::path::Path;

mod counting;
mod map;
mod real;

pub use counting::{CountingVfs, IoCounts};
pub use map::FileMap;
pub use real::RealVfs;

/// A place in the code that syncs, by name: tests switch single ones off and expect to notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyncSite(pub &'static str);

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    Write,
    /// A new file, to read and write; an existing one of that name is an error.
    CreateNew,
    /// As `Write`, and writes go past the page cache: each is aligned as [`Vfs::direct_io`] says.
    /// Reads may be of anything, and see what was written.
    WriteDirect,
    /// As `CreateNew`, and writes as with `WriteDirect`.
    CreateNewDirect,
}

impl OpenMode {
    /// The mode without the wish to go past the page cache, and whether there was one.
    #[must_use]
    pub const fn split_direct(self) -> (Self, bool) {
        match self {
            Self::WriteDirect => (Self::Write, true),
            Self::CreateNewDirect => (Self::CreateNew, true),
            other => (other, false),
        }
    }
}

/// What writes that go past the page cache must be aligned to; both are powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectIo {
    /// The memory's address, in bytes.
    pub memory_bytes: u32,
    /// Offset and length, in bytes.
    pub offset_bytes: u32,
}

impl DirectIo {
    /// Whether `bytes` may be written at `offset`.
    #[must_use]
    pub fn allows(self, offset: u64, bytes: &[u8]) -> bool {
        let unit = u64::from(self.offset_bytes.max(1));
        offset.is_multiple_of(unit)
            && (bytes.len() as u64).is_multiple_of(unit)
            && bytes
                .as_ptr()
                .addr()
                .is_multiple_of(self.memory_bytes.max(1) as usize)
    }
}

/// What the disk under a folder still has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// A file system. Nothing is durable until the sync that covers it: a file's bytes and length by
/// [`VfsFile::sync_data`], the entries of a folder (create, rename, remove) by [`Vfs::sync_dir`].
pub trait Vfs: Send + Sync + fmt::Debug + 'static {
    /// Makes the folder `path`, its missing parents too, readable by its owner only. Existing is
    /// no error. Syncs the parent of each folder it made, and of `path` in any case: whoever made
    /// that may have been killed before its sync.
    ///
    /// # Errors
    /// What the operating system says.
    fn create_dir_all(&self, path: &Path, site: SyncSite) -> io::Result<()>;

    /// Opens a file.
    ///
    /// # Errors
    /// What the operating system says.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn VfsFile>>;

    /// How files beside `path`, an existing one, can be written past the page cache; `None` where
    /// they cannot or nobody knows. Leaves nothing behind.
    ///
    /// # Errors
    /// What the operating system says.
    fn direct_io(&self, path: &Path) -> io::Result<Option<DirectIo>> {
        let _ = path;
        Ok(None)
    }

    /// Renames a file, replacing one of the new name.
    ///
    /// # Errors
    /// What the operating system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// The names in a folder, sorted.
    ///
    /// # Errors
    /// What the operating system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes the entries of a folder durable.
    ///
    /// # Errors
    /// What the operating system says: nothing is known then of the folder's durable entries.
    fn sync_dir(&self, dir: &Path, site: SyncSite) -> io::Result<()>;

    /// Takes an exclusive lock on the file `path` (made if missing) without waiting. Held until
    /// the returned value is dropped.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when somebody holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>>;

    /// What the disk under `dir` still has; `None` where that is not known.
    ///
    /// # Errors
    /// What the operating system says.
    fn space(&self, dir: &Path) -> io::Result<Option<DiskSpace>>;
}

/// An open file. Reads and writes take `&self`: there is no cursor.
pub trait VfsFile: Send + Sync + fmt::Debug {
    /// The length in bytes.
    ///
    /// # Errors
    /// What the operating system says.
    fn len(&self) -> io::Result<u64>;

    /// True when the file has no bytes.
    ///
    /// # Errors
    /// What the operating system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads at `offset` into the front of `buffer`; fewer bytes only at the end of the file.
    ///
    /// # Errors
    /// What the operating system says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`; a file grows as needed.
    ///
    /// # Errors
    /// What the operating system says; any part may have been written then.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// [`VfsFile::write_at`] and what makes these bytes durable, in one go where that is possible.
    /// What was written before by other calls may stay as it is.
    ///
    /// # Errors
    /// As [`VfsFile::write_at`] and [`VfsFile::sync_data`].
    fn write_synced(&self, offset: u64, bytes: &[u8], site: SyncSite) -> io::Result<()> {
        self.write_at(offset, bytes)?;
        self.sync_data(site)
    }

    /// Cuts or extends (with zeros) the file.
    ///
    /// # Errors
    /// What the operating system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes `len` bytes from `offset` on read as zeros without writing them, and sets the space
    /// for them aside; a file grows as needed. False where that cannot be: they have to be written
    /// then.
    ///
    /// # Errors
    /// What the operating system says; any part may have been done then.
    fn zero(&self, offset: u64, len: u64) -> io::Result<bool> {
        let _ = (offset, len);
        Ok(false)
    }

    /// Makes the file's bytes and length durable (not its name: that is [`Vfs::sync_dir`]).
    ///
    /// # Errors
    /// What the operating system says: nothing is known then of what is durable, and a second
    /// call that succeeds proves nothing.
    fn sync_data(&self, site: SyncSite) -> io::Result<()>;

    /// Maps all of the file into memory, to read from; `None` where files cannot be mapped, and
    /// [`VfsFile::read_at`] has to do. While the mapping lives, writes and cuts are refused as
    /// [`io::ErrorKind::ResourceBusy`].
    ///
    /// # Errors
    /// What the operating system says; [`io::ErrorKind::ResourceBusy`] during a write.
    fn map(&self) -> io::Result<Option<FileMap>> {
        Ok(None)
    }
}

/// An exclusive lock; dropping it lets go.
pub trait VfsLock: Send + Sync + fmt::Debug {}
