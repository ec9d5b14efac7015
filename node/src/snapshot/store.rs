//! The folder of a host's snapshot files.
//!
//! A file is written under a temporary name, synced, renamed and its folder synced; only then is
//! it known here. `.part` files are what arrived of a broken stream, to go on from; `.tmp` files
//! are builds that never ended, removed when their group is opened.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use raftwerk_raft::{GroupId, LogId, LogIndex, SnapshotMeta, SnapshotReader, Term};
use raftwerk_storage::vfs::{OpenMode, SyncSite, Vfs};

use super::format::Manifest;
use super::read::{FileBytes, FileReader};
use crate::transport::SnapshotBytes;

/// A snapshot's bytes before its file gets its name.
pub(crate) const SYNC_FILE: SyncSite = SyncSite("snapshot.file");
/// The folder, after a file got its name or lost it.
pub(crate) const SYNC_DIR: SyncSite = SyncSite("snapshot.dir");

/// A whole, durable snapshot file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SnapshotFile {
    pub(crate) last: LogId,
    pub(crate) snapshot: u128,
    pub(crate) name: String,
}

/// A snapshot file opened to be sent.
pub(crate) struct Outgoing {
    /// Names the build.
    pub(crate) snapshot: u128,
    pub(crate) len_bytes: u64,
    pub(crate) bytes: Box<dyn SnapshotBytes>,
}

/// All snapshot files of one host.
pub(crate) struct SnapshotStore {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) dir: PathBuf,
    bytes_per_second: Option<NonZeroU64>,
    files: Mutex<BTreeMap<GroupId, Vec<Arc<SnapshotFile>>>>,
    pub(super) receiving: Mutex<BTreeMap<GroupId, u64>>,
    pub(super) receiving_max: usize,
    stopping: AtomicBool,
}

impl SnapshotStore {
    pub(crate) fn new(
        vfs: Arc<dyn Vfs>,
        dir: PathBuf,
        bytes_per_second: Option<NonZeroU64>,
        receiving_max: usize,
    ) -> Self {
        Self {
            vfs,
            dir,
            bytes_per_second,
            files: Mutex::default(),
            receiving: Mutex::default(),
            receiving_max,
            stopping: AtomicBool::new(false),
        }
    }

    /// The host stops: builds and streams end early.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Finds the group's files and removes builds that never ended.
    pub(crate) fn open_group(&self, group: GroupId) -> io::Result<()> {
        self.vfs.create_dir_all(&self.dir, SYNC_DIR)?;
        for name in self.vfs.list(&self.dir)? {
            match Named::parse(&name) {
                Some(named) if named.group == group => match named.kind {
                    // A peer's stream may have ended since the folder was listed: keep it.
                    Kind::Whole => self.add(group, named.file(name)),
                    Kind::Building => self.vfs.remove_file(&self.dir.join(name))?,
                    Kind::Part => {}
                },
                _ => {}
            }
        }
        Ok(())
    }

    /// The file of the snapshot that covers `last`.
    pub(crate) fn find(&self, group: GroupId, last: LogId) -> Option<Arc<SnapshotFile>> {
        let files = self.files.lock();
        files
            .get(&group)?
            .iter()
            .rev()
            .find(|file| file.last == last)
            .map(Arc::clone)
    }

    /// True when this very build is here, whole.
    pub(super) fn has(&self, group: GroupId, last: LogId, snapshot: u128) -> bool {
        let is_it = |file: &Arc<SnapshotFile>| file.last == last && file.snapshot == snapshot;
        let files = self.files.lock();
        files
            .get(&group)
            .is_some_and(|files| files.iter().any(is_it))
    }

    /// A file is known once: of two entries of one name, collecting one would remove the other's.
    pub(super) fn add(&self, group: GroupId, file: SnapshotFile) {
        let mut files = self.files.lock();
        let files = files.entry(group).or_default();
        if files.iter().any(|known| known.name == file.name) {
            return;
        }
        files.push(Arc::new(file));
        files.sort_by_key(|file| file.last.index);
    }

    /// Removes the files that are older than `newest` and not being sent.
    pub(crate) fn collect(&self, group: GroupId, newest: LogId) -> io::Result<()> {
        let mut gone = Vec::new();
        if let Some(files) = self.files.lock().get_mut(&group) {
            let kept = files.iter().rposition(|file| file.last == newest);
            let mut place = 0;
            files.retain(|file| {
                let keep = Some(place) == kept
                    || file.last.index > newest.index
                    || Arc::strong_count(file) > 1;
                place += 1;
                if !keep {
                    gone.push(Arc::clone(file));
                }
                keep
            });
        }
        let mut failed = None;
        for file in gone {
            if let Err(error) = self.vfs.remove_file(&self.dir.join(&file.name)) {
                failed = Some(error);
                // Tried again after the next snapshot.
                self.files.lock().entry(group).or_default().insert(0, file);
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if self.receiving.lock().contains_key(&group) {
            return Ok(());
        }
        self.remove_parts(group, |named, _| named.last.index <= newest.index)
    }

    /// Removes what arrived of streams that nobody will go on with.
    fn remove_parts(
        &self,
        group: GroupId,
        is_stale: impl Fn(&Named, &str) -> bool,
    ) -> io::Result<()> {
        for name in self.vfs.list(&self.dir)? {
            let stale = Named::parse(&name).is_some_and(|named| {
                named.group == group && named.kind == Kind::Part && is_stale(&named, &name)
            });
            if stale {
                self.vfs.remove_file(&self.dir.join(name))?;
            }
        }
        Ok(())
    }

    /// Removes the parts of other streams than that of `part`, which is the only one now.
    pub(super) fn remove_other_parts(&self, group: GroupId, part: &str) -> io::Result<()> {
        self.remove_parts(group, |_, name| name != part)
    }

    /// The state in the file that covers `last`, every chunk checked as it is read.
    pub(crate) fn state(
        &self,
        group: GroupId,
        meta: &SnapshotMeta,
    ) -> io::Result<Option<Box<dyn SnapshotReader>>> {
        let Some(file) = self.find(group, meta.last) else {
            return Ok(None);
        };
        let opened = self.vfs.open(&self.dir.join(&file.name), OpenMode::Read)?;
        let reader = FileReader::open(opened)?;
        let manifest = reader.manifest();
        if manifest.group != group || manifest.meta.last != meta.last {
            let reason = "snapshot file holds another snapshot than its name says";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(Some(Box::new(reader)))
    }

    /// The file that covers `last`, to be sent.
    pub(crate) fn bytes(
        self: &Arc<Self>,
        group: GroupId,
        last: LogId,
    ) -> io::Result<Option<Outgoing>> {
        let Some(file) = self.find(group, last) else {
            return Ok(None);
        };
        let opened = self.vfs.open(&self.dir.join(&file.name), OpenMode::Read)?;
        let len = opened.len()?;
        let snapshot = file.snapshot;
        let bytes = FileBytes::new(opened, file, Arc::clone(self), self.bytes_per_second);
        Ok(Some(Outgoing {
            snapshot,
            len_bytes: len,
            bytes: Box::new(bytes),
        }))
    }

    /// The name of a file of this snapshot.
    pub(super) fn name(manifest: &Manifest, kind: Kind) -> String {
        Named {
            group: manifest.group,
            last: manifest.meta.last,
            snapshot: manifest.snapshot,
            kind,
        }
        .to_string()
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Whole,
    Building,
    Part,
}

impl Kind {
    const fn extension(self) -> &'static str {
        match self {
            Self::Whole => "snap",
            Self::Building => "tmp",
            Self::Part => "part",
        }
    }
}

/// What a file's name says.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    group: GroupId,
    last: LogId,
    snapshot: u128,
    kind: Kind,
}

impl Named {
    fn parse(name: &str) -> Option<Self> {
        let (stem, extension) = name.rsplit_once('.')?;
        let kind = [Kind::Whole, Kind::Building, Kind::Part]
            .into_iter()
            .find(|kind| kind.extension() == extension)?;
        let mut parts = stem.split('-');
        let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
        let group = GroupId(number()?);
        let last = LogId::new(Term(number()?), LogIndex(number()?));
        let snapshot = u128::from_str_radix(parts.next()?, 16).ok()?;
        let named = Self {
            group,
            last,
            snapshot,
            kind,
        };
        // Anything that this program would not write so is somebody else's.
        (named.to_string() == name).then_some(named)
    }

    fn file(self, name: String) -> SnapshotFile {
        SnapshotFile {
            last: self.last,
            snapshot: self.snapshot,
            name,
        }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            group,
            last,
            snapshot,
            kind,
        } = self;
        let (term, index) = (last.term.0, last.index.0);
        write!(
            f,
            "{:016x}-{term:016x}-{index:016x}-{snapshot:032x}",
            group.0
        )?;
        write!(f, ".{}", kind.extension())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_name_says_what_the_file_is_and_foreign_names_are_left_alone() {
        let last = LogId::new(Term(3), LogIndex(0x2a));
        let named = Named {
            group: GroupId(7),
            last,
            snapshot: 5,
            kind: Kind::Whole,
        };
        let name = named.to_string();
        assert_eq!(Named::parse(&name), Some(named));
        for foreign in ["LOCK", "a-b-c-d.snap", "7-3-2a-5.snap", ".snap", "7.tmp"] {
            assert_eq!(Named::parse(foreign), None, "{foreign}");
        }
    }
}
