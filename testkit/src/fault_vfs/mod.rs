//! A file system in memory that keeps apart what was written and what was synced, so that a test
//! can cut the power at any call and see every state the disk may be left in.
//!
//! It assumes of a disk what a log may assume and no more: unsynced sectors persist in any order
//! and any subset, lengths apart from bytes, names apart from files; a rename is atomic; a sync
//! that failed has marked its pages clean, so that a later one proves nothing; a synced write is
//! durable and takes nothing along that was written beside it.
//!
//! ```
//! use std::path::Path;
//! use raftwerk_storage::vfs::{OpenMode, SyncSite, Vfs};
//! use raftwerk_testkit::fault_vfs::{CrashPlan, FaultVfs};
//!
//! # fn main() -> std::io::Result<()> {
//! let vfs = FaultVfs::new();
//! let file = vfs.open(Path::new("log"), OpenMode::CreateNew)?;
//! file.write_at(0, b"acknowledged")?;
//! file.sync_data(SyncSite("log"))?;
//! // The file's bytes are durable, its name is not: nothing is left.
//! let after = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
//! assert!(after.open(Path::new("log"), OpenMode::Read).is_err());
//! assert!(file.write_at(0, b"x").is_err(), "handles die with their life");
//! # Ok(())
//! # }
//! ```

mod content;
mod disk;
mod fault;
mod names;
pub(crate) mod plan;
mod vfs_impl;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use raftwerk_storage::vfs::SyncSite;

pub use fault::{Call, CallKind, Fault};
pub use plan::{CrashPlan, Keep, PlanLimits, plans};

use disk::Disk;
use fault::Schedule;

/// Sees a call before it takes effect. It may block, and look at the file system.
pub type Hook = Box<dyn Fn(&FaultVfs, &Call) + Send + Sync>;

/// The syncs of all lives of one file system, by name.
#[derive(Debug, Default)]
struct Sites {
    seen: BTreeMap<SyncSite, u64>,
    disabled: BTreeSet<SyncSite>,
}

/// What has a beginning and an end: one life between two crashes.
#[derive(Debug)]
struct Life {
    disk: Disk,
    open: BTreeMap<u64, usize>,
    locks: BTreeSet<PathBuf>,
    schedule: Schedule,
    calls: u64,
    counts: BTreeMap<CallKind, u64>,
    dead: bool,
}

struct Shared {
    life: Mutex<Life>,
    hooks: Mutex<Arc<Vec<Hook>>>,
    sites: Arc<Mutex<Sites>>,
}

/// The file system. A clone is another handle on the same life.
#[derive(Clone)]
pub struct FaultVfs {
    shared: Arc<Shared>,
}

impl fmt::Debug for FaultVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultVfs")
            .field("life", &*self.shared.life.lock())
            .finish_non_exhaustive()
    }
}

impl Default for FaultVfs {
    fn default() -> Self {
        Self::new()
    }
}

impl FaultVfs {
    /// An empty file system with sectors of 512 bytes.
    #[must_use]
    pub fn new() -> Self {
        Self::begin(Disk::new(512), Arc::default())
    }

    fn begin(disk: Disk, sites: Arc<Mutex<Sites>>) -> Self {
        let life = Life {
            disk,
            open: BTreeMap::new(),
            locks: BTreeSet::new(),
            schedule: Schedule::default(),
            calls: 0,
            counts: BTreeMap::new(),
            dead: false,
        };
        let shared = Shared {
            life: Mutex::new(life),
            hooks: Mutex::default(),
            sites,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.shared.life.lock()
    }

    /// Ends this life, its handles and locks, and begins the next one as `plan` leaves the disk.
    /// May be called again with other plans: each answers from the same moment.
    pub fn crash(&self, plan: &CrashPlan) -> Self {
        self.life().dead = true;
        self.image().after(plan)
    }

    /// The file system as it stands, to be looked at or crashed later; this life goes on. Costs
    /// about as much as a few reference counts, whatever the files' sizes.
    #[must_use]
    pub fn image(&self) -> Image {
        Image {
            disk: self.life().disk.clone(),
            sites: Arc::clone(&self.shared.sites),
        }
    }

    /// Makes `fault` happen at the first call from number `call` on that it fits.
    pub fn fail_at(&self, call: u64, fault: Fault) {
        self.life().schedule.add(call, fault);
    }

    /// From call number `call` on (it included), everything fails with "crashed".
    pub fn crash_at(&self, call: u64) {
        self.life().schedule.crash_at = Some(call);
    }

    /// How many counted calls this life has seen.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.life().calls
    }

    /// How many calls of one kind this life has seen.
    #[must_use]
    pub fn calls_of(&self, kind: CallKind) -> u64 {
        self.life().counts.get(&kind).copied().unwrap_or(0)
    }

    /// The syncs at `site` answer Ok and do nothing, in this and all later lives.
    pub fn disable_sync(&self, site: SyncSite) {
        self.shared.sites.lock().disabled.insert(site);
    }

    /// Undoes [`FaultVfs::disable_sync`].
    pub fn enable_sync(&self, site: SyncSite) {
        self.shared.sites.lock().disabled.remove(&site);
    }

    /// The names of all syncs called in this life, those it came from and those that came of it.
    #[must_use]
    pub fn sync_sites_seen(&self) -> Vec<SyncSite> {
        self.shared.sites.lock().seen.keys().copied().collect()
    }

    /// How often the syncs at `site` were called, in the same lives.
    #[must_use]
    pub fn syncs_at(&self, site: SyncSite) -> u64 {
        self.shared
            .sites
            .lock()
            .seen
            .get(&site)
            .copied()
            .unwrap_or(0)
    }

    /// Calls `hook` before each counted call of this life, on the calling thread and under no
    /// lock: it may block there while other threads go on.
    pub fn on_call(&self, hook: Hook) {
        let mut hooks = self.shared.hooks.lock();
        match Arc::get_mut(&mut hooks) {
            Some(hooks) => hooks.push(hook),
            // Some call is going through the old ones: they go on being called, then this one.
            None => {
                let old = Arc::clone(&hooks);
                let all: Hook = Box::new(move |vfs, call| {
                    old.iter().chain([&hook]).for_each(|hook| hook(vfs, call));
                });
                *hooks = Arc::new(vec![all]);
            }
        }
    }

    /// Refuses to let files take more than so many bytes (in pages of 4096, holes excluded).
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.life().disk.capacity_bytes = bytes;
    }

    /// The unit of atomic writing.
    #[must_use]
    pub fn sector_bytes(&self) -> usize {
        self.life().disk.sector_bytes
    }

    /// A number that tells this file system's files, their names and bytes from others': equal
    /// ones have the same. None while something is unsynced.
    #[must_use]
    pub fn digest(&self) -> Option<u64> {
        self.life().disk.digest()
    }

    /// Every file, by path.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.life().disk.paths()
    }

    /// A file's bytes, as the page cache has them.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.life().disk.peek(path)
    }

    /// Overwrites bytes of a file on the disk behind its owner's back; never grows it. Unsynced
    /// writes to the same sectors are forgotten, and broken ones can be read again.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn poke(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.life().disk.poke(path, offset, bytes)
    }

    /// Flips one bit (0 to 7) of the byte at `offset`.
    ///
    /// # Errors
    /// When there is no such file or byte.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        let mut life = self.life();
        let mut byte = [0];
        let id = life.disk.names.file_at(path)?;
        if life.disk.file(id)?.now.read(offset, &mut byte) == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        let flipped = byte.map(|byte| byte ^ 1_u8.rotate_left(u32::from(bit)));
        life.disk.poke(path, offset, &flipped)
    }

    /// Fills sector `number` of a file with zeros.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn zero_sector(&self, path: &Path, number: u64) -> io::Result<()> {
        let mut life = self.life();
        let sector = life.disk.sector_bytes;
        life.disk
            .poke(path, number * sector as u64, &vec![0; sector])
    }

    /// Exchanges two sectors, of one file or of two: a misdirected write.
    ///
    /// # Errors
    /// When one of the files is not there.
    pub fn swap_sectors(&self, one: (&Path, u64), other: (&Path, u64)) -> io::Result<()> {
        let mut life = self.life();
        let sector = life.disk.sector_bytes;
        let read = |disk: &Disk, (path, number): (&Path, u64)| -> io::Result<Vec<u8>> {
            let mut bytes = vec![0; sector];
            let file = disk.file(disk.names.file_at(path)?)?;
            file.now.read(number * sector as u64, &mut bytes);
            Ok(bytes)
        };
        let (first, second) = (read(&life.disk, one)?, read(&life.disk, other)?);
        life.disk.poke(one.0, one.1 * sector as u64, &second)?;
        life.disk.poke(other.0, other.1 * sector as u64, &first)
    }

    /// Makes reads of a sector fail with EIO until it is written again.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn break_sector(&self, path: &Path, number: u64) -> io::Result<()> {
        self.life().disk.break_sector(path, number)
    }
}

/// The file system at one moment.
#[derive(Clone, Debug)]
pub struct Image {
    disk: Disk,
    sites: Arc<Mutex<Sites>>,
}

impl Image {
    /// A new life from this moment on, as `plan` leaves the disk.
    #[must_use]
    pub fn after(&self, plan: &CrashPlan) -> FaultVfs {
        FaultVfs::begin(self.disk.clone().after(plan), Arc::clone(&self.sites))
    }

    /// The crash plans worth trying at this moment.
    #[must_use]
    pub fn plans(&self, limits: &PlanLimits) -> Vec<CrashPlan> {
        let (data, names) = self.disk.unsynced();
        plans(data, names, limits)
    }
}
