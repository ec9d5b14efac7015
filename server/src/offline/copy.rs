//! Copies of a store's folder: an engine that cannot open read-only is given one of these, so that
//! what is looked at stays as it is, byte for byte.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use raftwerk_raft::StorageError;
use raftwerk_storage::folder::LOCK_FILE;
use raftwerk_storage::vfs::VfsLock;

use super::engine::failed;
use crate::cli::CliError;
use crate::cli::words::complain;
use crate::client::table::bytes;
use crate::serve::backends::{disk, folder_bytes};

/// How many names are tried for a scratch folder.
const SCRATCH_NAMES_MAX: u32 = 100;

/// Linux's EIO: the disk cannot read a place.
const EIO: i32 = 5;
/// How much is read at once where a place cannot be read, in bytes.
const CHUNK_BYTES: usize = 1 << 20;
/// The least that is left out, in bytes: the kernel reads no less.
const SECTOR_BYTES: usize = 4096;
/// What stands in a copy for what cannot be read. Not zeros: behind the end of a log they mean
/// that nothing was written.
const FILLER: u8 = 0xdb;

/// What to do about places that the disk cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadSectors {
    /// Fail.
    Refuse,
    /// Copy around them and say so: no checksum of what stands there passes.
    Fill,
}

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
    bad: BadSectors,
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
            copy_folder(&path, &target, bad, copied)?;
        } else {
            let count = copy_file(&path, &target, bad).map_err(|error| failed(&path, error))?;
            copied(count)?;
        }
    }
    Ok(())
}

/// Copies one file; says how long it is, in bytes.
fn copy_file(path: &Path, target: &Path, bad: BadSectors) -> io::Result<u64> {
    let error = match fs::copy(path, target) {
        Err(error) if bad == BadSectors::Fill && error.raw_os_error() == Some(EIO) => error,
        copied => return copied,
    };
    let (source, mut out) = (File::open(path)?, File::create(target)?);
    let len = source.metadata()?.len();
    let lost = copy_around(&|at, buf| source.read_at(buf, at), &mut out, len)?;
    complain!(
        "{}: {error}: {} of {} are left out",
        path.display(),
        bytes(lost),
        bytes(len)
    );
    Ok(len)
}

/// Copies `len` bytes, with filler for the sectors that `read` fails at; says how many bytes that
/// is.
fn copy_around(
    read: &dyn Fn(u64, &mut [u8]) -> io::Result<usize>,
    out: &mut dyn Write,
    len: u64,
) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let (mut at, mut lost) = (0, 0);
    while at < len {
        let left = usize::try_from(len - at).unwrap_or(CHUNK_BYTES);
        let chunk = buffer.get_mut(..left.min(CHUNK_BYTES)).unwrap_or_default();
        if read_whole(read, at, chunk).is_err() {
            let mut sector_at = at;
            for sector in chunk.chunks_mut(SECTOR_BYTES) {
                if read_whole(read, sector_at, sector).is_err() {
                    sector.fill(FILLER);
                    lost += sector.len() as u64;
                }
                sector_at += sector.len() as u64;
            }
        }
        out.write_all(chunk)?;
        at += chunk.len() as u64;
    }
    Ok(lost)
}

/// Fills `buffer` from `at` on.
fn read_whole(
    read: &dyn Fn(u64, &mut [u8]) -> io::Result<usize>,
    at: u64,
    buffer: &mut [u8],
) -> io::Result<()> {
    let (mut at, mut left) = (at, buffer);
    while !left.is_empty() {
        match read(at, left) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                at += count as u64;
                left = left.get_mut(count..).unwrap_or_default();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
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
        copy_folder(dir, &scratch.store(), BadSectors::Fill, &mut |_| Ok(()))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_goes_around_what_cannot_be_read_and_says_how_much_that_is() {
        let len = CHUNK_BYTES + 3 * SECTOR_BYTES + 100;
        let source: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        // One in the first chunk, one that begins the second, and the short one at the end.
        let bad = [5, CHUNK_BYTES / SECTOR_BYTES, len / SECTOR_BYTES];
        let read = |at: u64, buffer: &mut [u8]| {
            let at = at as usize;
            // Short reads are no errors.
            let end = len.min(at + buffer.len().min(10_000));
            let touched = at / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES;
            if bad.iter().any(|sector| touched.contains(sector)) {
                return Err(io::Error::from_raw_os_error(EIO));
            }
            buffer[..end - at].copy_from_slice(&source[at..end]);
            Ok(end - at)
        };
        let mut copy = Vec::new();
        let lost = copy_around(&read, &mut copy, len as u64).unwrap();
        assert_eq!(lost, 2 * SECTOR_BYTES as u64 + 100);
        let mut expected = source.clone();
        for (number, sector) in expected.chunks_mut(SECTOR_BYTES).enumerate() {
            if bad.contains(&number) {
                sector.fill(FILLER);
            }
        }
        assert!(copy == expected);
    }

    #[test]
    fn file_that_shrinks_while_it_is_copied_is_filled_up() {
        let read = |at: u64, buffer: &mut [u8]| {
            let count = buffer.len().min(5000_usize.saturating_sub(at as usize));
            buffer[..count].fill(1);
            Ok(count)
        };
        let mut copy = Vec::new();
        let lost = copy_around(&read, &mut copy, 8192).unwrap();
        assert_eq!((lost, copy.len()), (4096, 8192));
        assert!(copy[4096..].iter().all(|byte| *byte == FILLER));
    }
}
