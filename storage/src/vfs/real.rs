//! The real disk.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, IoSlice};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::map::{FileMap, Gate};
use super::{DirectIo, DiskSpace, OpenMode, SyncSite, Vfs, VfsFile, VfsLock};

/// Folders are their owner's alone.
const FOLDER_MODE: u32 = 0o700;
/// So are files, should somebody loosen the folder.
const FILE_MODE: u32 = 0o600;

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealVfs;

impl Vfs for RealVfs {
    fn create_dir_all(&self, path: &Path, site: SyncSite) -> io::Result<()> {
        let mut missing: Vec<PathBuf> = Vec::new();
        let mut at = path;
        while !exists_as_dir(at)? {
            missing.push(at.to_path_buf());
            match at.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => at = parent,
                _ => break,
            }
        }
        if missing.is_empty() {
            return sync_parent(self, path, site);
        }
        // From the top down, each synced before the next: a cut leaves one unsynced at most.
        for folder in missing.iter().rev() {
            match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => sync_parent(self, folder, site)?,
            }
        }
        Ok(())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn VfsFile>> {
        let (mode, direct) = mode.split_direct();
        let mut options = OpenOptions::new();
        options.read(true).mode(FILE_MODE);
        match mode {
            OpenMode::Write | OpenMode::WriteDirect => {
                options.write(true);
            }
            OpenMode::CreateNew | OpenMode::CreateNewDirect => {
                options.write(true).create_new(true);
            }
            OpenMode::Read => {}
        }
        let file = options.open(path)?;
        let direct = match direct.then(|| open_direct(path)).transpose() {
            Ok(direct) => direct,
            Err(error) => {
                if mode == OpenMode::CreateNew {
                    // Nobody is to find a file that was never opened.
                    let _ = fs::remove_file(path);
                }
                return Err(error);
            }
        };
        Ok(Box::new(RealFile {
            file,
            direct,
            gate: Arc::default(),
        }))
    }

    fn direct_io(&self, path: &Path) -> io::Result<Option<DirectIo>> {
        Ok(stated_direct_io(path)?.filter(|_| open_direct(path).is_ok()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self, dir: &Path, _site: SyncSite) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock { _held: file })),
            Err(TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn space(&self, dir: &Path) -> io::Result<Option<DiskSpace>> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(Some(DiskSpace {
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        }))
    }
}

fn exists_as_dir(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(true),
        Ok(_) => Err(ErrorKind::NotADirectory.into()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn sync_parent(vfs: &RealVfs, path: &Path, site: SyncSite) -> io::Result<()> {
    match path.parent() {
        // The root has no entry anywhere.
        None => Ok(()),
        Some(parent) if parent.as_os_str().is_empty() => vfs.sync_dir(Path::new("."), site),
        Some(parent) => vfs.sync_dir(parent, site),
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
    /// The same file for writes past the page cache. Such a write drops what the cache has of its
    /// place, so reads through `file` see it.
    direct: Option<File>,
    gate: Arc<Gate>,
}

impl VfsFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let _pass = self.gate.write()?;
        // Loops over short counts and interruptions.
        let file = self.direct.as_ref().unwrap_or(&self.file);
        file.write_all_at(bytes, offset)
    }

    fn write_synced(&self, offset: u64, bytes: &[u8], _site: SyncSite) -> io::Result<()> {
        let _pass = self.gate.write()?;
        let file = self.direct.as_ref().unwrap_or(&self.file);
        write_synced(file, offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let _pass = self.gate.write()?;
        self.file.set_len(len)
    }

    fn zero(&self, offset: u64, len: u64) -> io::Result<bool> {
        let _pass = self.gate.write()?;
        set_aside_zeros(&self.file, offset, len)
    }

    fn sync_data(&self, _site: SyncSite) -> io::Result<()> {
        self.file.sync_data()
    }

    fn map(&self) -> io::Result<Option<FileMap>> {
        FileMap::new(&self.file, &self.gate).map(Some)
    }
}

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::DIRECT.bits();
    let flags = i32::try_from(flags).map_err(io::Error::other)?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(path)
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_path: &Path) -> io::Result<File> {
    Err(ErrorKind::Unsupported.into())
}

/// One call instead of two: less processor time, and one way into the kernel less between the
/// write and its sync.
#[cfg(target_os = "linux")]
fn write_synced(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    use rustix::io::{Errno, ReadWriteFlags, pwritev2};
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(done as u64);
        match pwritev2(file, &[IoSlice::new(rest)], at, ReadWriteFlags::DSYNC) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            // What a short call wrote is durable.
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            // Kernels, file systems and sandboxes without this call.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM | Errno::INVAL) => {
                file.write_all_at(rest, at)?;
                return file.sync_data();
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn write_synced(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, offset)?;
    file.sync_data()
}

/// Blocks that are the file's and count as never written.
#[cfg(target_os = "linux")]
fn set_aside_zeros(file: &File, offset: u64, len: u64) -> io::Result<bool> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    loop {
        return match fallocate(file, FallocateFlags::ZERO_RANGE, offset, len) {
            Ok(()) => Ok(true),
            Err(Errno::INTR) => continue,
            // File systems and sandboxes without this call.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM | Errno::INVAL) => Ok(false),
            Err(error) => Err(error.into()),
        };
    }
}

#[cfg(not(target_os = "linux"))]
fn set_aside_zeros(_file: &File, _offset: u64, _len: u64) -> io::Result<bool> {
    Ok(false)
}

/// What the kernel says of direct writes to `path`. Some file systems take the flag and go through
/// the page cache all the same; those state nothing.
#[cfg(target_os = "linux")]
fn stated_direct_io(path: &Path) -> io::Result<Option<DirectIo>> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let stated = match statx(CWD, path, AtFlags::empty(), StatxFlags::DIOALIGN) {
        Ok(stated) => stated,
        // Kernels and sandboxes without this call.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let (memory_bytes, offset_bytes) = (stated.stx_dio_mem_align, stated.stx_dio_offset_align);
    let states = stated.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    let sound = memory_bytes.is_power_of_two() && offset_bytes.is_power_of_two();
    Ok((states && sound).then_some(DirectIo {
        memory_bytes,
        offset_bytes,
    }))
}

#[cfg(not(target_os = "linux"))]
fn stated_direct_io(_path: &Path) -> io::Result<Option<DirectIo>> {
    Ok(None)
}

#[derive(Debug)]
struct RealLock {
    /// The lock goes with the file.
    _held: File,
}

impl VfsLock for RealLock {}
