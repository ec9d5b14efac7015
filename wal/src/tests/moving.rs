//! Entries that move to the end of the log, and what is written around them.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use raftwerk_raft::{
    ByteBudget, Durability, Entry, GroupId, GroupWrite, LogError, LogIndex, Storage, Ticket,
    WriteBatch,
};
use raftwerk_testkit::fault_vfs::{Call, CallKind, CrashPlan, Fault, FaultVfs, Image};

use super::space::{entries, rest, write, write_and_compact};
use super::workload::{DIR, open, open_with, options, prepare, submit};
use crate::batch::{Effect, Fill};
use crate::segment::header::file_name;
use crate::{OnDamage, Options, Prepared, SYNC_BATCH, SYNC_SEAL, Wal, Written};

const IDLE: u64 = 50;

/// A log whose oldest segment is worth freeing: of all that was written to it only ten entries of
/// group [`IDLE`] live. None has been moved yet.
struct Sparse {
    vfs: FaultVfs,
    wal: Arc<Wal>,
    last: Ticket,
    /// The busy group's next entry.
    next: u64,
    oldest: u64,
}

impl Sparse {
    /// The entries are of `size` bytes.
    fn new(size: usize) -> Self {
        let vfs = FaultVfs::new();
        let wal = open(&vfs).unwrap();
        let mut log = Self {
            vfs,
            wal,
            last: Ticket(0),
            next: 1,
            oldest: 0,
        };
        log.put(write(IDLE, entries(1, 1..11, size)));
        log.oldest = *log.wal.engine_state().segments.keys().next_back().unwrap();
        while log.wal.engine_segments() < 7 {
            log.busy();
        }
        log
    }

    /// Writes this at once, and makes segments ready but moves nothing.
    fn put(&mut self, write: GroupWrite) {
        self.last = submit(&self.wal, batch(write), self.last).unwrap();
        self.wal.wait(self.last).unwrap();
        let percent = std::mem::take(&mut self.wal.engine_state().options.rewrite_percent);
        prepare(&self.wal);
        self.wal.engine_state().options.rewrite_percent = percent;
    }

    fn busy(&mut self) {
        let append = entries(1, self.next..self.next + 1, 300);
        self.put(match self.next {
            1..6 => write(1, append),
            next => write_and_compact(1, append, next - 5),
        });
        self.next += 1;
    }

    /// The active segment takes an entry of 2000 bytes, but not one of 5000.
    fn nearly_full(&mut self) {
        let left = |wal: &Wal| wal.engine_state().active_left(&Fill::default());
        while !left(&self.wal).is_some_and(|left| (3000..4500).contains(&left)) {
            self.busy();
        }
    }

    /// The next write takes entries of group [`IDLE`] along.
    fn move_some(&self) {
        prepare(&self.wal);
        let moves = self
            .wal
            .engine_state()
            .fill
            .effects
            .contains(&Effect::Relocate);
        assert!(moves);
    }

    /// Submits it and leaves it at that.
    fn leave(&mut self, write: GroupWrite) {
        self.last = self.wal.submit(batch(write)).unwrap();
    }

    /// Calls `look` before each call of the disk from now on.
    fn on_call(&self, look: impl Fn(&Arc<Wal>, &FaultVfs, &Call) + Send + Sync + 'static) {
        let wal = Arc::downgrade(&self.wal);
        self.vfs.on_call(Box::new(move |vfs, call| {
            if let Some(wal) = wal.upgrade() {
                look(&wal, vfs, call);
            }
        }));
    }

    /// Group [`IDLE`] holds this, now and when the log is opened again.
    fn check(self, expected: &[Entry]) {
        assert_eq!(held(&self.wal).unwrap(), expected);
        rest(&self.wal);
        assert_eq!(held(&self.wal).unwrap(), expected, "when all is quiet");
        drop(self.wal);
        let wal = open(&self.vfs.crash(&CrashPlan::LOSE_UNSYNCED)).unwrap();
        assert_eq!(held(&wal).unwrap(), expected, "when it is opened again");
    }
}

fn batch(write: GroupWrite) -> WriteBatch {
    WriteBatch {
        groups: vec![write],
        durability: Durability::Lazy,
    }
}

fn held(wal: &Wal) -> Result<Vec<Entry>, LogError> {
    let log = wal.open_group(GroupId(IDLE)).unwrap().log;
    log.read(log.first()..log.last().index.next(), u64::MAX)
}

fn is_sync(call: &Call, site: raftwerk_storage::vfs::SyncSite) -> bool {
    call.kind == CallKind::Sync && call.site == Some(site)
}

/// What group [`IDLE`] holds is `expected`, though its entries are looked at for moving when
/// `write` waits, and again when it is under way.
fn moved_around(write: &GroupWrite, expected: &[Entry]) {
    let mut log = Sparse::new(100);
    log.leave(write.clone());
    prepare(&log.wal);
    log.wal.wait(log.last).unwrap();
    log.check(expected);
    let mut log = Sparse::new(100);
    log.on_call(|wal, _, call| {
        if is_sync(call, SYNC_BATCH) {
            prepare(wal);
        }
    });
    log.leave(write.clone());
    log.wal.wait(log.last).unwrap();
    log.check(expected);
}

#[test]
fn recreated_group_gets_nothing_of_its_namesake() {
    let again = entries(1, 1..4, 30);
    let write = GroupWrite {
        destroy: true,
        ..write(IDLE, again.clone())
    };
    moved_around(&write, &again);
}

#[test]
fn entries_written_again_are_not_those_that_stood_there_before() {
    let again = entries(1, 8..11, 30);
    let expected = [entries(1, 1..8, 100), again.clone()].concat();
    moved_around(&write(IDLE, again), &expected);
}

#[test]
fn what_is_appended_or_compacted_meanwhile_hinders_no_move() {
    let behind = entries(1, 11..13, 30);
    let expected = [entries(1, 7..11, 100), behind.clone()].concat();
    moved_around(&write_and_compact(IDLE, behind, 6), &expected);
}

#[test]
fn entries_are_read_while_the_log_rotates_with_them_in_hand() {
    let mut log = Sparse::new(100);
    log.nearly_full();
    log.move_some();
    let reads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&reads);
    log.on_call(move |wal, _, call| {
        let read = held(wal);
        seen.lock().push((call.site, read));
    });
    log.leave(write(2, entries(1, 1..2, 5000)));
    let segment = log.wal.engine_end().0;
    log.wal.wait(log.last).unwrap();
    assert!(log.wal.engine_end().0 > segment);
    let expected = entries(1, 1..11, 100);
    let reads = std::mem::take(&mut *reads.lock());
    assert!(reads.iter().any(|(site, _)| *site == Some(SYNC_SEAL)));
    for (site, read) in reads {
        assert_eq!(read.as_deref(), Ok(&expected[..]), "{site:?}");
    }
    rest(&log.wal);
    let oldest = log.oldest;
    let gone = !log.wal.engine_state().segments.contains_key(&oldest);
    assert!(gone, "they are moved all the same");
    assert_eq!(log.wal.stats().rewritten_entries, 10, "and counted once");
    log.check(&expected);
}

#[test]
fn entries_are_read_when_the_rotation_that_had_them_in_hand_failed() {
    let mut log = Sparse::new(100);
    log.nearly_full();
    log.move_some();
    log.leave(write(2, entries(1, 1..2, 5000)));
    log.vfs.fail_at(log.vfs.calls(), Fault::Eio);
    assert!(log.wal.wait(log.last).is_err());
    assert_eq!(held(&log.wal).unwrap(), entries(1, 1..11, 100));
}

/// Entries are moved; while that is under way they are compacted, and the next write rotates.
/// Returns the log, and the disk just before the new segment's first frame is durable.
fn compacted_on_the_way() -> (Sparse, Image) {
    let mut log = Sparse::new(100);
    log.nearly_full();
    log.move_some();
    let image = Arc::new(Mutex::new((false, None)));
    let taken = Arc::clone(&image);
    log.on_call(move |wal, vfs, call| {
        let (moved, image) = &mut *taken.lock();
        if !is_sync(call, SYNC_BATCH) {
            return;
        }
        if std::mem::replace(moved, true) {
            image.get_or_insert_with(|| vfs.image());
            return;
        }
        for write in [
            write_and_compact(IDLE, Vec::new(), 8),
            write(2, entries(1, 1..2, 5000)),
        ] {
            wal.submit(batch(write)).unwrap();
        }
    });
    let segment = log.wal.engine_end().0;
    assert_eq!(log.wal.step_writer(), Written::Batches);
    assert_eq!(log.wal.engine_end().0, segment, "this one moved them");
    assert_eq!(log.wal.step_writer(), Written::Batches);
    assert!(log.wal.engine_end().0 > segment, "this one rotated");
    let image = image.lock().1.take().unwrap();
    (log, image)
}

#[test]
fn footer_of_a_lost_rotation_hides_nothing() {
    let (_, image) = compacted_on_the_way();
    let mut vfs = image.after(&CrashPlan::LOSE_UNSYNCED);
    for _ in 0..2 {
        let wal = open(&vfs).unwrap();
        assert_eq!(held(&wal).unwrap(), entries(1, 1..11, 100));
        drop(wal);
        vfs = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    }
}

#[test]
fn footer_that_leaves_out_what_a_damaged_frame_compacted_is_not_the_last_word() {
    let (log, _) = compacted_on_the_way();
    // The slot vouches for the new segment's first frame, which then rots.
    assert_eq!(log.wal.step_writer(), Written::Slot);
    let path = Path::new(DIR).join(file_name(log.wal.engine_end().0));
    let vfs = log.vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    vfs.zero_sector(&path, 1).unwrap();
    let confine = Options {
        on_damage: OnDamage::Confine,
        ..options()
    };
    let wal = open_with(&vfs, confine).unwrap();
    assert_eq!(
        wal.open_group(GroupId(IDLE)).unwrap().log.first(),
        LogIndex(1)
    );
    assert_eq!(held(&wal).unwrap(), entries(1, 1..11, 100));
}

#[test]
fn preparer_rests_while_what_it_would_move_waits_to_be_compacted() {
    for cut in [
        write_and_compact(IDLE, Vec::new(), 10),
        write(IDLE, entries(2, 1..2, 10)),
    ] {
        // More than one write takes along.
        let mut log = Sparse::new(400);
        log.leave(cut);
        let rests = (0..1000).any(|_| log.wal.step_preparer() != Prepared::Progress);
        assert!(rests);
        rest(&log.wal);
        let oldest = log.oldest;
        assert!(!log.wal.engine_state().segments.contains_key(&oldest));
    }
}

#[test]
fn scrub_finds_no_damage_in_a_log_that_rotates() {
    let mut log = Sparse::new(100);
    log.nearly_full();
    let scrubs = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&scrubs);
    log.on_call(move |wal, _, _| {
        let report = wal.scrub(ByteBudget(u64::MAX)).unwrap();
        seen.lock().push(report.damage);
    });
    log.leave(write(2, entries(1, 1..2, 5000)));
    log.wal.wait(log.last).unwrap();
    let scrubs = scrubs.lock();
    assert!(scrubs.len() >= 4, "two writes, two syncs");
    assert!(scrubs.iter().all(Vec::is_empty), "{scrubs:?}");
}

/// A frame that nothing vouches for and that cannot be read may be a torn write. It must not have
/// been all that stood between an old segment and its reuse.
#[test]
fn segment_is_kept_until_something_vouches_for_the_frame_that_freed_it() {
    let log = Sparse::new(100);
    log.move_some();
    let (segment, offset) = log.wal.engine_end();
    assert_eq!(log.wal.step_writer(), Written::Batches);
    assert_eq!(log.wal.engine_end().0, segment);
    prepare(&log.wal);
    let vfs = log.vfs.image().after(&CrashPlan::LOSE_UNSYNCED);
    let path = Path::new(DIR).join(file_name(segment));
    vfs.zero_sector(&path, offset / 512).unwrap();
    let wal = open(&vfs).unwrap();
    assert_eq!(held(&wal).unwrap(), entries(1, 1..11, 100));
    let has = |wal: &Wal| wal.engine_state().segments.contains_key(&log.oldest);
    assert!(has(&log.wal));
    assert_eq!(log.wal.step_writer(), Written::Slot);
    assert!(!has(&log.wal), "the slot vouches");
}
