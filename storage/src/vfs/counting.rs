//! Counts what a store asks of its file system: tests and benches look at syncs and bytes, which
//! do not waver as the clock does.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{DirectIo, DiskSpace, FileMap, OpenMode, SyncSite, Vfs, VfsFile, VfsLock};

/// What was asked so far, failed calls included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IoCounts {
    /// Syncs of files and folders, by the place that asked.
    pub syncs: BTreeMap<SyncSite, u64>,
    /// Calls that write.
    pub writes: u64,
    /// Bytes given to them.
    pub written_bytes: u64,
    /// Calls that read.
    pub reads: u64,
    /// Bytes they returned.
    pub read_bytes: u64,
    /// Files opened or made.
    pub opens: u64,
    /// All else: renames, removals, lists, cuts, new folders, locks.
    pub others: u64,
}

impl IoCounts {
    /// Syncs of all places.
    #[must_use]
    pub fn syncs_total(&self) -> u64 {
        self.syncs.values().sum()
    }

    /// Calls of every kind, about one system call each; a write with its sync counts for two.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.syncs_total() + self.writes + self.reads + self.opens + self.others
    }

    /// What was asked since `earlier`, a snapshot of the same file system.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let syncs = self.syncs.iter().map(|(site, count)| {
            (
                *site,
                count.saturating_sub(earlier.syncs.get(site).copied().unwrap_or(0)),
            )
        });
        Self {
            syncs: syncs.filter(|(_, count)| *count > 0).collect(),
            writes: self.writes.saturating_sub(earlier.writes),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
            reads: self.reads.saturating_sub(earlier.reads),
            read_bytes: self.read_bytes.saturating_sub(earlier.read_bytes),
            opens: self.opens.saturating_sub(earlier.opens),
            others: self.others.saturating_sub(earlier.others),
        }
    }
}

type Shared = Arc<Mutex<IoCounts>>;

/// A file system that counts what passes through to another. Clones share one count.
#[derive(Clone, Debug)]
pub struct CountingVfs {
    inner: Arc<dyn Vfs>,
    counts: Shared,
}

impl CountingVfs {
    /// Counts what goes to `inner` from now on.
    #[must_use]
    pub fn new(inner: Arc<dyn Vfs>) -> Self {
        Self {
            inner,
            counts: Shared::default(),
        }
    }

    /// What was asked so far.
    #[must_use]
    pub fn counts(&self) -> IoCounts {
        self.counts.lock().clone()
    }
}

fn count_sync(counts: &Shared, site: SyncSite) {
    *counts.lock().syncs.entry(site).or_default() += 1;
}

impl Vfs for CountingVfs {
    fn create_dir_all(&self, path: &Path, site: SyncSite) -> io::Result<()> {
        count_sync(&self.counts, site);
        self.counts.lock().others += 1;
        self.inner.create_dir_all(path, site)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn VfsFile>> {
        self.counts.lock().opens += 1;
        let inner = self.inner.open(path, mode)?;
        Ok(Box::new(CountingFile {
            inner,
            counts: Arc::clone(&self.counts),
        }))
    }

    fn direct_io(&self, path: &Path) -> io::Result<Option<DirectIo>> {
        self.counts.lock().others += 1;
        self.inner.direct_io(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.counts.lock().others += 1;
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.counts.lock().others += 1;
        self.inner.remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.counts.lock().others += 1;
        self.inner.list(dir)
    }

    fn sync_dir(&self, dir: &Path, site: SyncSite) -> io::Result<()> {
        count_sync(&self.counts, site);
        self.inner.sync_dir(dir, site)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>> {
        self.counts.lock().others += 1;
        self.inner.lock(path)
    }

    fn space(&self, dir: &Path) -> io::Result<Option<DiskSpace>> {
        self.counts.lock().others += 1;
        self.inner.space(dir)
    }
}

#[derive(Debug)]
struct CountingFile {
    inner: Box<dyn VfsFile>,
    counts: Shared,
}

impl VfsFile for CountingFile {
    fn len(&self) -> io::Result<u64> {
        self.counts.lock().others += 1;
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let outcome = self.inner.read_at(offset, buffer);
        let mut counts = self.counts.lock();
        counts.reads += 1;
        counts.read_bytes += *outcome.as_ref().unwrap_or(&0) as u64;
        outcome
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        {
            let mut counts = self.counts.lock();
            counts.writes += 1;
            counts.written_bytes += bytes.len() as u64;
        }
        self.inner.write_at(offset, bytes)
    }

    fn write_synced(&self, offset: u64, bytes: &[u8], site: SyncSite) -> io::Result<()> {
        {
            let mut counts = self.counts.lock();
            counts.writes += 1;
            counts.written_bytes += bytes.len() as u64;
            *counts.syncs.entry(site).or_default() += 1;
        }
        self.inner.write_synced(offset, bytes, site)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.counts.lock().others += 1;
        self.inner.set_len(len)
    }

    fn zero(&self, offset: u64, len: u64) -> io::Result<bool> {
        self.counts.lock().others += 1;
        self.inner.zero(offset, len)
    }

    fn sync_data(&self, site: SyncSite) -> io::Result<()> {
        count_sync(&self.counts, site);
        self.inner.sync_data(site)
    }

    fn map(&self) -> io::Result<Option<FileMap>> {
        self.counts.lock().others += 1;
        self.inner.map()
    }
}
