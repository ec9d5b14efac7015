//! Makes the segments that come next, off the writer's path: real zeros in every page, so that a
//! sync of the log touches no metadata and an end of the log is told from what is behind it.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use raftwerk_storage::folder::StoreUuid;
use raftwerk_storage::vfs::{Vfs, VfsFile};

use crate::options::Io;
use crate::segment::format::SegmentId;
use crate::segment::header::{SegmentHeader, file_name};
use crate::sites::{SYNC_NAME, SYNC_PREPARE};
use crate::state::{READY_SEGMENTS, Segment, State};
use raftwerk_storage::buffer::PageBuf;

/// How many zeros are written at once, in bytes.
const ZEROS_BYTES: usize = 1024 * 1024;

/// What a step of the preparer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// There was nothing to do.
    Idle,
    /// Some of the work is done; there is more.
    Progress,
    /// The disk is full: try again later.
    NoSpace,
}

/// The file that is being prepared.
#[derive(Debug)]
struct Current {
    header: SegmentHeader,
    file: Arc<dyn VfsFile>,
    path: PathBuf,
    zeroed: u64,
    /// Its zeros need not be written.
    set_aside: bool,
}

/// Prepares one segment at a time, a step at a time.
#[derive(Debug)]
pub(crate) struct Preparer {
    uuid: StoreUuid,
    page_bytes: u32,
    life_seed: u64,
    next_number: u64,
    io: Io,
    /// What prepared segments are filled with.
    zeros: PageBuf,
    /// Writes are so large that zeros beneath them are not worth writing.
    set_aside: bool,
    current: Option<Current>,
    /// An old segment that came when enough were prepared, or that the disk had no room to rename:
    /// the next one is made of it, and no file need be made and removed.
    kept: Option<Segment>,
    /// A file that was to be removed when the disk was too full even for that: nothing else is
    /// done before it is gone.
    doomed: Option<PathBuf>,
}

/// What the files that are being prepared are called.
pub(crate) fn spare_name(number: u64) -> String {
    format!("spare-{number:016x}.tmp")
}

/// Whether `name` is one of those.
pub(crate) fn is_spare(name: &str) -> bool {
    name.starts_with("spare-") && name.ends_with(".tmp")
}

impl Preparer {
    /// Numbers segments from `next_number` on.
    pub(crate) fn new(
        uuid: StoreUuid,
        page_bytes: u32,
        life_seed: u64,
        next_number: u64,
        io: Io,
    ) -> Self {
        Self {
            uuid,
            page_bytes,
            life_seed,
            next_number,
            io,
            zeros: PageBuf::default(),
            set_aside: false,
            current: None,
            kept: None,
            doomed: None,
        }
    }

    /// Does a bounded piece of work.
    ///
    /// # Errors
    /// What the operating system says, but for a full disk. The log cannot go on then.
    pub(crate) fn step(
        &mut self,
        vfs: &dyn Vfs,
        dir: &Path,
        state: &Mutex<State>,
    ) -> io::Result<Prepared> {
        if let Some(path) = self.doomed.take() {
            return self.discard(vfs, path);
        }
        if let Some(current) = self.current.take() {
            return self.fill(vfs, dir, current, |segment| state.lock().add_ready(segment));
        }
        let (wanted, usual, old) = {
            let mut state = state.lock();
            self.set_aside = state.usual_write >= state.options.set_aside_bytes;
            let wanted = state.segment_wanted();
            let kept = wanted.and_then(|_| self.kept.take());
            let old = kept.or_else(|| state.retired.pop_front());
            (wanted, state.wanted_capacity(), old)
        };
        let fits = |old: &Segment, capacity| old.header.capacity == capacity && old.is_unread();
        match (wanted, old) {
            (None, None) => Ok(Prepared::Idle),
            (None, Some(old)) if self.kept.is_none() && fits(&old, usual) => {
                self.kept = Some(old);
                Ok(Prepared::Progress)
            }
            (Some(capacity), Some(old)) if fits(&old, capacity) => {
                let step = self.recycle(vfs, dir, old)?;
                state.lock().stats.recycled += u64::from(step == Prepared::Progress);
                Ok(step)
            }
            (_, Some(old)) => {
                let step = self.discard(vfs, dir.join(file_name(old.header.id.number)))?;
                state.lock().stats.removed += 1;
                Ok(step)
            }
            (Some(capacity), None) => self.begin(vfs, dir, capacity),
        }
    }

    /// Makes one segment of `capacity` bytes at once: what opening needs when none is left over.
    /// Of a preparer that has not begun anything, which would be forgotten.
    pub(crate) fn make_now(
        &mut self,
        vfs: &dyn Vfs,
        dir: &Path,
        capacity: u64,
    ) -> io::Result<Segment> {
        debug_assert!(self.current.is_none() && self.doomed.is_none());
        let full = || io::Error::from(ErrorKind::StorageFull);
        if self.begin(vfs, dir, capacity)? == Prepared::NoSpace {
            return Err(full());
        }
        let mut made = None;
        while let Some(current) = self.current.take() {
            let step = self.fill(vfs, dir, current, |segment| made = Some(segment))?;
            if step == Prepared::NoSpace {
                return Err(full());
            }
        }
        made.ok_or_else(full)
    }

    fn header(&mut self, capacity: u64) -> SegmentHeader {
        let number = self.next_number;
        self.next_number += 1;
        let life = mix(self.life_seed ^ number);
        let id = SegmentId { number, life };
        SegmentHeader {
            uuid: self.uuid,
            id,
            page_bytes: self.page_bytes,
            zeroed: true,
            capacity,
        }
    }

    fn begin(&mut self, vfs: &dyn Vfs, dir: &Path, capacity: u64) -> io::Result<Prepared> {
        let header = self.header(capacity);
        let path = dir.join(spare_name(header.id.number));
        let file = match vfs.open(&path, self.io.create_mode()) {
            Ok(file) => Arc::from(file),
            Err(error) if is_full(&error) => return Ok(Prepared::NoSpace),
            Err(error) => return Err(error),
        };
        self.current = Some(Current {
            header,
            file,
            path,
            zeroed: 0,
            set_aside: self.set_aside,
        });
        Ok(Prepared::Progress)
    }

    /// A segment that the log needs no more becomes the next one.
    fn recycle(&mut self, vfs: &dyn Vfs, dir: &Path, old: Segment) -> io::Result<Prepared> {
        let name = dir.join(file_name(old.header.id.number));
        let header = self.header(old.header.capacity);
        let path = dir.join(spare_name(header.id.number));
        match vfs.rename(&name, &path) {
            Err(error) if is_full(&error) => {
                self.kept = Some(old);
                return Ok(Prepared::NoSpace);
            }
            other => other?,
        }
        self.current = Some(Current {
            header,
            file: old.file,
            path,
            zeroed: 0,
            set_aside: self.set_aside,
        });
        Ok(Prepared::Progress)
    }

    /// Removes a file, now or, if the disk is too full for that, before the next step.
    fn discard(&mut self, vfs: &dyn Vfs, path: PathBuf) -> io::Result<Prepared> {
        match remove(vfs, &path) {
            Err(error) if is_full(&error) => {
                self.doomed = Some(path);
                Ok(Prepared::NoSpace)
            }
            other => other.map(|()| Prepared::Progress),
        }
    }

    fn fill(
        &mut self,
        vfs: &dyn Vfs,
        dir: &Path,
        mut current: Current,
        done: impl FnOnce(Segment),
    ) -> io::Result<Prepared> {
        let path = current.path.clone();
        // A file system may find out as late as at the sync that it is full.
        let outcome = self.fill_some(&mut current).and_then(|whole| {
            if whole {
                current.file.sync_data(SYNC_PREPARE)?;
            }
            Ok(whole)
        });
        match outcome {
            Ok(false) => {
                self.current = Some(current);
                return Ok(Prepared::Progress);
            }
            Ok(true) => {}
            Err(error) if is_full(&error) => {
                drop(current.file);
                self.discard(vfs, path)?;
                return Ok(Prepared::NoSpace);
            }
            Err(error) => return Err(error),
        }
        let name = dir.join(file_name(current.header.id.number));
        match vfs.rename(&path, &name) {
            Err(error) if is_full(&error) => {
                // It is whole, and keeps its space until there is room for its name.
                self.current = Some(current);
                return Ok(Prepared::NoSpace);
            }
            other => other?,
        }
        let Current { header, file, .. } = current;
        let segment = Segment::new(header, file, u64::from(header.page_bytes));
        // The header comes when the name is durable, and not before: whatever fails here, and
        // whenever the process ends, no later life takes the file for a segment that it may lose.
        let named = vfs.sync_dir(dir, SYNC_NAME);
        match named.and_then(|()| segment.write_header()) {
            // A later sync proves nothing of this name. Nothing stands in the file, so another one
            // of another name takes its place.
            Err(error) if is_full(&error) => {
                drop(segment);
                self.discard(vfs, name)?;
                return Ok(Prepared::NoSpace);
            }
            Err(error) => {
                let _ = remove(vfs, &name);
                return Err(error);
            }
            Ok(()) => {}
        }
        done(segment);
        Ok(Prepared::Progress)
    }

    /// Writes zeros, where the header will stand too; true when that is done.
    fn fill_some(&mut self, current: &mut Current) -> io::Result<bool> {
        let left = current.header.capacity - current.zeroed;
        if left == 0 {
            return Ok(true);
        }
        if std::mem::take(&mut current.set_aside) && current.file.zero(0, left)? {
            current.zeroed = current.header.capacity;
            return Ok(false);
        }
        let count = usize::try_from(left)
            .unwrap_or(ZEROS_BYTES)
            .min(ZEROS_BYTES);
        if self.zeros.len() < count {
            self.zeros = PageBuf::zeros(count);
        }
        let zeros = self.zeros.content();
        let zeros = zeros.get(..count).unwrap_or(zeros);
        current.file.write_at(current.zeroed, zeros)?;
        current.zeroed += zeros.len() as u64;
        Ok(false)
    }
}

impl State {
    /// The size of the next segment, if there are too few.
    fn segment_wanted(&self) -> Option<u64> {
        let wanted = self.wanted_capacity();
        let usable = self
            .ready
            .iter()
            .filter(|ready| ready.header.capacity >= wanted)
            .count();
        if usable < READY_SEGMENTS {
            return Some(wanted);
        }
        let fits = |ready: &Segment| ready.header.capacity >= self.large;
        (self.large > 0 && !self.ready.iter().any(fits)).then_some(self.large)
    }

    /// Takes a prepared segment; those that have become too small go. One that is made for a large
    /// batch comes on top.
    fn add_ready(&mut self, segment: Segment) {
        if segment.header.capacity >= self.large {
            self.large = 0;
        }
        self.ready.push_back(segment);
        let wanted = self.wanted_capacity();
        let is_large = |ready: &Segment| ready.header.capacity > wanted;
        let most = READY_SEGMENTS + usize::from(self.ready.iter().any(is_large));
        while self.ready.len() > most {
            let capacities = self.ready.iter().map(|ready| ready.header.capacity);
            let smallest = capacities.enumerate().min_by_key(|(_, capacity)| *capacity);
            let smallest = smallest.and_then(|(at, _)| self.ready.remove(at));
            self.retired.extend(smallest);
        }
        if std::mem::take(&mut self.refused) {
            // Whoever was refused tries again once the watermark moves.
            self.move_watermark();
        }
    }
}

fn remove(vfs: &dyn Vfs, path: &Path) -> io::Result<()> {
    match vfs.remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

/// Spreads a number over 64 bits, so that lives drawn one after the other share nothing.
const fn mix(value: u64) -> u64 {
    let folded = (value ^ (value >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let folded = (folded ^ (folded >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    folded ^ (folded >> 32)
}

#[cfg(test)]
mod tests {
    use raftwerk_raft::Ticket;
    use raftwerk_testkit::fault_vfs::{CallKind, FaultVfs};

    use crate::Options;
    use crate::stats::Stats;
    use crate::tests::space::{entries, settle, write, write_and_compact};
    use crate::tests::workload::{open_with, options, prepare};

    /// Many segments of entries of `bytes`, of which the newest `keep` live; what was done by half
    /// of the way and in all, and how often zeros were set aside in the second half.
    fn churn(bytes: usize, keep: u64) -> (Stats, Stats, u64) {
        let vfs = FaultVfs::new();
        let options = Options {
            set_aside_bytes: 2048,
            ..options()
        };
        let wal = open_with(&vfs, options).unwrap();
        prepare(&wal);
        let mut last = Ticket(0);
        let mut half = (wal.stats(), 0);
        for index in 1..400 {
            let append = entries(1, index..index + 1, bytes);
            let write = match index {
                _ if index <= keep => write(1, append),
                _ => write_and_compact(1, append, index - keep),
            };
            settle(&wal, vec![write], &mut last);
            if index == 200 {
                half = (wal.stats(), vfs.calls_of(CallKind::Zero));
            }
        }
        (half.0, wal.stats(), vfs.calls_of(CallKind::Zero) - half.1)
    }

    #[test]
    fn old_segments_are_used_again_and_no_file_is_made_or_removed() {
        // What lives takes a segment and a half: the old one comes when the next is prepared.
        for (bytes, keep) in [(300, 24), (3000, 7)] {
            let (half, whole, _) = churn(bytes, keep);
            assert_eq!(whole.removed, half.removed, "{bytes}: {whole:?}");
            assert!(whole.recycled > half.recycled + 5, "{bytes}: {whole:?}");
        }
    }

    #[test]
    fn zeros_are_set_aside_beneath_large_writes_and_written_beneath_small_ones() {
        assert_eq!(churn(300, 3).2, 0);
        let (half, whole, zeros) = churn(3000, 3);
        let recycled = whole.recycled - half.recycled;
        assert!(zeros.abs_diff(recycled) <= 1, "{zeros} of {recycled}");
    }
}
