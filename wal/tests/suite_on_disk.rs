//! The conformance suite of all log backends, in real folders.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use raftwerk_raft::{Storage, StorageError};
use raftwerk_storage::vfs::{
    DirectIo, DiskSpace, OpenMode, RealVfs, SyncSite, Vfs, VfsFile, VfsLock,
};
use raftwerk_testkit::log_suite::{Ability, HeldSyncs, LogHome};
use raftwerk_wal::{Io, Options, Wal};
use tempfile::TempDir;

/// The real disk, until it is told that the process has died: then nothing gets through.
#[derive(Clone, Debug, Default)]
struct Mortal {
    dead: Arc<RwLock<bool>>,
}

impl Mortal {
    fn alive<T>(&self, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let dead = self.dead.read().unwrap();
        if *dead {
            return Err(io::Error::other("the process is dead"));
        }
        call()
    }
}

impl Vfs for Mortal {
    fn create_dir_all(&self, path: &Path, site: SyncSite) -> io::Result<()> {
        self.alive(|| RealVfs.create_dir_all(path, site))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn VfsFile>> {
        let file = self.alive(|| RealVfs.open(path, mode))?;
        let mortal = self.clone();
        Ok(Box::new(MortalFile { file, mortal }))
    }

    fn direct_io(&self, path: &Path) -> io::Result<Option<DirectIo>> {
        self.alive(|| RealVfs.direct_io(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.alive(|| RealVfs.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.alive(|| RealVfs.remove_file(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.alive(|| RealVfs.list(dir))
    }

    fn sync_dir(&self, dir: &Path, site: SyncSite) -> io::Result<()> {
        self.alive(|| RealVfs.sync_dir(dir, site))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>> {
        self.alive(|| RealVfs.lock(path))
    }

    fn space(&self, dir: &Path) -> io::Result<Option<DiskSpace>> {
        self.alive(|| RealVfs.space(dir))
    }
}

#[derive(Debug)]
struct MortalFile {
    file: Box<dyn VfsFile>,
    mortal: Mortal,
}

impl VfsFile for MortalFile {
    fn len(&self) -> io::Result<u64> {
        self.mortal.alive(|| self.file.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.mortal.alive(|| self.file.read_at(offset, buffer))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.mortal.alive(|| self.file.write_at(offset, bytes))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.mortal.alive(|| self.file.set_len(len))
    }

    fn sync_data(&self, site: SyncSite) -> io::Result<()> {
        self.mortal.alive(|| self.file.sync_data(site))
    }
}

/// A folder for each life: what comes after a kill goes on in a copy, where no old handle reaches.
struct Folders {
    root: TempDir,
    life: u32,
    vfs: Mortal,
    io: Io,
}

impl Folders {
    /// Where direct writes are asked for and cannot be had, the test is of buffered ones again.
    fn new(io: Io) -> Self {
        let root = TempDir::new().unwrap();
        let vfs = Mortal::default();
        let there = root.path().join("there");
        fs::write(&there, b"").unwrap();
        let direct = vfs.open(&there, OpenMode::WriteDirect).is_ok();
        if io == Io::Direct && !direct {
            eprintln!("SKIPPED: the folder for temporary files takes no direct writes");
        }
        let io = if direct { io } else { Io::Buffered };
        Self {
            root,
            life: 0,
            vfs,
            io,
        }
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join(self.life.to_string())
    }
}

impl LogHome for Folders {
    fn open(&mut self) -> Result<Arc<dyn Storage>, StorageError> {
        let options = Options {
            segment_bytes: 2 * 1024 * 1024,
            batch_bytes_max: 1280 * 1024,
            io: self.io,
            ..Options::default()
        };
        let vfs = Arc::new(self.vfs.clone());
        let wal = Wal::open(vfs, self.dir(), options)?;
        assert_eq!(wal.io(), self.io);
        Ok(Arc::new(wal))
    }

    fn kill(&mut self) {
        *self.vfs.dead.write().unwrap() = true;
        self.vfs = Mortal::default();
        let old = self.dir();
        self.life += 1;
        fs::create_dir(self.dir()).unwrap();
        for file in fs::read_dir(&old).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), self.dir().join(file.file_name())).unwrap();
        }
    }

    fn power_loss(&mut self, _seed: u64) -> Ability {
        Ability::Unsupported("a real disk keeps its power")
    }

    fn hold_syncs(&mut self) -> Option<HeldSyncs> {
        None
    }

    fn fail_next_sync(&mut self) -> Ability {
        Ability::Unsupported("a real disk fails when it likes")
    }

    fn is_slow(&self) -> bool {
        cfg!(not(feature = "long-tests"))
    }
}

mod direct {
    use super::{Folders, Io};

    raftwerk_testkit::storage_suite!(|| Folders::new(Io::Direct));
}

mod buffered {
    use super::{Folders, Io};

    raftwerk_testkit::storage_suite!(|| Folders::new(Io::Buffered));
}
