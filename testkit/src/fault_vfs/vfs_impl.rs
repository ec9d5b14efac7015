//! The file system's calls: counted, failed on schedule, then performed.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use raftwerk_storage::vfs::{DirectIo, DiskSpace, OpenMode, SyncSite, Vfs, VfsFile, VfsLock};

use super::fault::{Call, CallKind, Fault};
use super::names::plain;
use super::{FaultVfs, Life};

/// As strict as a disk may be with memory, and as lenient as one is with sectors.
const DIRECT_IO: DirectIo = DirectIo {
    memory_bytes: 4096,
    offset_bytes: 512,
};

fn crashed() -> io::Error {
    io::Error::other("crashed")
}

fn no_space() -> io::Error {
    Fault::Enospc.error()
}

impl FaultVfs {
    /// Runs a call that changes nothing.
    fn look<R>(&self, see: impl FnOnce(&mut Life) -> io::Result<R>) -> io::Result<R> {
        let mut life = self.life();
        if life.dead {
            Err(crashed())
        } else {
            see(&mut life)
        }
    }

    /// Counts a call, shows it to the hooks, and performs it with the fault due, if any.
    fn act<R>(
        &self,
        mut call: Call,
        perform: impl FnOnce(&mut Life, Option<Fault>) -> io::Result<R>,
    ) -> io::Result<R> {
        call.number = {
            let mut life = self.life();
            if life.dead {
                return Err(crashed());
            }
            *life.counts.entry(call.kind).or_default() += 1;
            let number = life.calls;
            life.calls += 1;
            number
        };
        if let Some(site) = call.site {
            *self.shared.sites.lock().seen.entry(site).or_default() += 1;
        }
        let hooks = Arc::clone(&self.shared.hooks.lock());
        hooks.iter().for_each(|hook| hook(self, &call));
        drop(hooks);
        let mut life = self.life();
        if life.schedule.crash_at.is_some_and(|at| call.number >= at) {
            life.dead = true;
        }
        if life.dead {
            return Err(crashed());
        }
        let fault = life.schedule.take(call.number, call.kind);
        perform(&mut life, fault)
    }

    /// A change of names: done whole, or not at all with the fault's error.
    fn act_on_names<R>(
        &self,
        kind: CallKind,
        path: &Path,
        perform: impl FnOnce(&mut Life) -> io::Result<R>,
    ) -> io::Result<R> {
        self.act(call(kind, path), |life, fault| match fault {
            Some(fault) => Err(fault.error()),
            None => perform(life),
        })
    }

    fn handle(&self, life: &mut Life, id: u64, path: &Path, direct: bool) -> Box<dyn VfsFile> {
        *life.open.entry(id).or_default() += 1;
        Box::new(FaultFile {
            vfs: self.clone(),
            id,
            path: path.to_owned(),
            direct,
        })
    }

    fn disabled(&self, site: SyncSite) -> bool {
        self.shared.sites.lock().disabled.contains(&site)
    }
}

fn call(kind: CallKind, path: &Path) -> Call {
    Call {
        number: 0,
        kind,
        path: path.to_owned(),
        site: None,
        offset: 0,
        len: 0,
    }
}

impl Vfs for FaultVfs {
    fn create_dir_all(&self, path: &Path, site: SyncSite) -> io::Result<()> {
        let path = plain(path);
        let missing: Vec<PathBuf> = self.look(|life| {
            let is_missing = |path: &&Path| !life.disk.names.exists(path);
            let mut missing: Vec<PathBuf> = path
                .ancestors()
                .take_while(is_missing)
                .map(Path::to_owned)
                .collect();
            missing.reverse();
            Ok(missing)
        })?;
        for dir in &missing {
            self.act_on_names(CallKind::CreateDir, dir, |life| life.disk.create_dir(dir))?;
            self.sync_dir(dir.parent().unwrap_or(Path::new("")), site)?;
        }
        if missing.is_empty() {
            // Whoever made it may have died before its sync.
            self.sync_dir(path.parent().unwrap_or(Path::new("")), site)?;
        }
        self.look(|life| match life.disk.names.is_dir(&path) {
            true => Ok(()),
            false => Err(io::Error::from(io::ErrorKind::NotADirectory)),
        })
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn VfsFile>> {
        let path = plain(path);
        let (mode, direct) = mode.split_direct();
        if mode == OpenMode::CreateNew {
            return self.act_on_names(CallKind::Create, &path, |life| {
                let id = life.disk.create(&path)?;
                Ok(self.handle(life, id, &path, direct))
            });
        }
        let file = self.look(|life| {
            let id = life.disk.names.file_at(&path)?;
            Ok(self.handle(life, id, &path, direct))
        })?;
        match mode {
            OpenMode::Read => Ok(Box::new(ReadOnly(file))),
            _ => Ok(file),
        }
    }

    fn direct_io(&self, path: &Path) -> io::Result<Option<DirectIo>> {
        self.look(|life| {
            life.disk
                .names
                .file_at(&plain(path))
                .map(|_| Some(DIRECT_IO))
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (plain(from), plain(to));
        self.act_on_names(CallKind::Rename, &to, |life| life.disk.rename(&from, &to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let path = plain(path);
        self.act_on_names(CallKind::Remove, &path, |life| life.disk.remove(&path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.look(|life| life.disk.names.list(&plain(dir)))
    }

    fn sync_dir(&self, dir: &Path, site: SyncSite) -> io::Result<()> {
        let dir = plain(dir);
        let call = Call {
            site: Some(site),
            ..call(CallKind::SyncDir, &dir)
        };
        self.act(call, |life, fault| {
            if self.disabled(site) {
                return Ok(());
            }
            if !life.disk.names.is_dir(&dir) {
                return Err(io::Error::from(io::ErrorKind::NotFound));
            }
            if let Some(fault) = fault {
                life.disk.names.strand(&dir);
                return Err(fault.error());
            }
            life.disk.names.sync_dir(&dir);
            Ok(())
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>> {
        let path = plain(path);
        if !self.look(|life| Ok(life.disk.names.exists(&path)))? {
            self.act_on_names(CallKind::Create, &path, |life| life.disk.create(&path))?;
        }
        self.look(|life| {
            if !life.locks.insert(path.clone()) {
                return Err(io::Error::from(io::ErrorKind::WouldBlock));
            }
            Ok(Box::new(FaultLock {
                vfs: self.clone(),
                path: path.clone(),
            }) as Box<dyn VfsLock>)
        })
    }

    fn space(&self, _dir: &Path) -> io::Result<Option<DiskSpace>> {
        self.look(|life| {
            Ok(life.disk.capacity_bytes.map(|total_bytes| {
                let used = life.disk.used_bytes(&life.open);
                DiskSpace {
                    free_bytes: total_bytes.saturating_sub(used),
                    total_bytes,
                }
            }))
        })
    }
}

struct FaultFile {
    vfs: FaultVfs,
    id: u64,
    path: PathBuf,
    /// Writes must be aligned.
    direct: bool,
}

impl fmt::Debug for FaultFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Drop for FaultFile {
    fn drop(&mut self) {
        let mut life = self.vfs.life();
        if let Some(count) = life.open.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                life.open.remove(&self.id);
            }
        }
    }
}

impl FaultFile {
    fn put(&self, kind: CallKind, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let call = Call {
            offset,
            len: bytes.len(),
            ..call(kind, &self.path)
        };
        self.vfs.act(call, |life, fault| {
            if let Some(fault) = fault {
                if fault == Fault::ShortWrite {
                    let half = bytes.get(..bytes.len() / 2).unwrap_or(bytes);
                    life.disk.write(self.id, offset, half)?;
                }
                return Err(fault.error());
            }
            if life.disk.lacks_space(self.id, offset, bytes, &life.open)? {
                return Err(no_space());
            }
            life.disk.write(self.id, offset, bytes)
        })
    }

    fn sync(&self, bytes: Range<u64>, site: SyncSite) -> io::Result<()> {
        let call = Call {
            site: Some(site),
            ..call(CallKind::Sync, &self.path)
        };
        self.vfs.act(call, |life, fault| {
            if self.vfs.disabled(site) {
                return Ok(());
            }
            if let Some(fault) = fault {
                life.disk.strand(self.id)?;
                return Err(fault.error());
            }
            life.disk.sync(self.id, &bytes)
        })
    }
}

impl VfsFile for FaultFile {
    fn len(&self) -> io::Result<u64> {
        self.vfs.look(|life| Ok(life.disk.file(self.id)?.now.len()))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.vfs
            .look(|life| life.disk.read(self.id, offset, buffer))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.direct && !DIRECT_IO.allows(offset, bytes) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        self.put(CallKind::Write, offset, bytes)
    }

    /// As a write of zeros: any of its sectors may be lost until it is synced.
    fn zero(&self, offset: u64, len: u64) -> io::Result<bool> {
        let zeros = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        self.put(CallKind::Zero, offset, &zeros)?;
        Ok(true)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let call = Call {
            offset: len,
            ..call(CallKind::SetLen, &self.path)
        };
        self.vfs.act(call, |life, fault| match fault {
            Some(fault) => Err(fault.error()),
            None => life.disk.set_len(self.id, len),
        })
    }

    /// A write, and a sync of these bytes and no others: what other writes left stays as it is.
    fn write_synced(&self, offset: u64, bytes: &[u8], site: SyncSite) -> io::Result<()> {
        self.write_at(offset, bytes)?;
        self.sync(offset..offset.saturating_add(bytes.len() as u64), site)
    }

    fn sync_data(&self, site: SyncSite) -> io::Result<()> {
        self.sync(0..u64::MAX, site)
    }
}

/// A file opened to be read: writing to it is an error.
#[derive(Debug)]
struct ReadOnly(Box<dyn VfsFile>);

impl VfsFile for ReadOnly {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buffer)
    }

    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::PermissionDenied))
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::PermissionDenied))
    }

    fn sync_data(&self, site: SyncSite) -> io::Result<()> {
        self.0.sync_data(site)
    }
}

#[derive(Debug)]
struct FaultLock {
    vfs: FaultVfs,
    path: PathBuf,
}

impl VfsLock for FaultLock {}

impl Drop for FaultLock {
    fn drop(&mut self) {
        self.vfs.life().locks.remove(&self.path);
    }
}
