//! Which call fails, and how.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use raftwerk_storage::vfs::SyncSite;

/// A call that changes the file system or makes a change durable. Only these are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallKind {
    /// [`raftwerk_storage::vfs::VfsFile::write_at`].
    Write,
    /// [`raftwerk_storage::vfs::VfsFile::zero`].
    Zero,
    /// [`raftwerk_storage::vfs::VfsFile::set_len`].
    SetLen,
    /// [`raftwerk_storage::vfs::VfsFile::sync_data`].
    Sync,
    /// A file made by [`raftwerk_storage::vfs::Vfs::open`] or [`raftwerk_storage::vfs::Vfs::lock`].
    Create,
    /// One folder made by [`raftwerk_storage::vfs::Vfs::create_dir_all`].
    CreateDir,
    /// [`raftwerk_storage::vfs::Vfs::rename`].
    Rename,
    /// [`raftwerk_storage::vfs::Vfs::remove_file`].
    Remove,
    /// [`raftwerk_storage::vfs::Vfs::sync_dir`], and one per folder made by `create_dir_all`.
    SyncDir,
}

/// One counted call, as hooks see it before it takes effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Counted from 0 in each life.
    pub number: u64,
    /// What kind.
    pub kind: CallKind,
    /// The file or folder (of a rename: its new name).
    pub path: PathBuf,
    /// The sync's name.
    pub site: Option<SyncSite>,
    /// Where a write begins, or the length set, in bytes.
    pub offset: u64,
    /// How many bytes are written.
    pub len: usize,
}

/// How a call fails. A fault waits for the first call from its number on that it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Any call: EIO, and nothing is done. A sync that fails so leaves its pages marked clean: no
    /// later sync makes them durable, a power cut may or may not keep them.
    Eio,
    /// Any call: EINTR, and nothing is done. Of a sync it proves nothing, as of [`Fault::Eio`].
    Eintr,
    /// Any call: ENOSPC, and nothing is done. A full file system may need space for a new name, to
    /// remove one, and to make durable what it has put off, too. Of a sync it proves nothing, as of
    /// [`Fault::Eio`].
    Enospc,
    /// The next write: its first half is written, then ENOSPC.
    ShortWrite,
    /// The next sync (of a file or folder) fails with EIO; later ones succeed, and do not make
    /// durable what this one did not.
    FsyncFailsOnceThenOk,
}

impl Fault {
    fn fits(self, kind: CallKind) -> bool {
        match self {
            Self::Eio | Self::Eintr | Self::Enospc => true,
            Self::ShortWrite => matches!(kind, CallKind::Write | CallKind::Zero),
            Self::FsyncFailsOnceThenOk => matches!(kind, CallKind::Sync | CallKind::SyncDir),
        }
    }

    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Eio | Self::FsyncFailsOnceThenOk => io::Error::from_raw_os_error(5),
            Self::Eintr => io::Error::from_raw_os_error(4),
            Self::Enospc | Self::ShortWrite => io::Error::from_raw_os_error(28),
        }
    }
}

/// The faults that still wait for their call.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    faults: BTreeMap<u64, Fault>,
    pub(super) crash_at: Option<u64>,
}

impl Schedule {
    pub(super) fn add(&mut self, number: u64, fault: Fault) {
        self.faults.insert(number, fault);
    }

    /// Takes the oldest waiting fault that fits this call.
    pub(super) fn take(&mut self, number: u64, kind: CallKind) -> Option<Fault> {
        let due = self
            .faults
            .range(..=number)
            .find(|(_, fault)| fault.fits(kind))
            .map(|(at, _)| *at)?;
        self.faults.remove(&due)
    }
}
