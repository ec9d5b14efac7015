//! Where entries are read from, and what the index costs.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use raftwerk_raft::{
    Durability, Entry, GroupId, GroupWrite, LogId, LogIndex, LogReader, Storage, Term, WriteBatch,
};
use raftwerk_storage::vfs::{CountingVfs, RealVfs, Vfs};
use raftwerk_testkit::fault_vfs::FaultVfs;

use super::workload::{self, DIR, options, prepare};
use crate::inspect::verify_watched;
use crate::segment::header::file_name;
use crate::{Options, Wal};

fn payload(group: u64, index: u64, bytes: usize) -> Bytes {
    let seed = group.wrapping_mul(31).wrapping_add(index) as u8;
    Bytes::from(vec![seed; bytes])
}

/// Appends to each of `groups`, in one batch, the entries of these indexes, and makes the next
/// segment ready.
pub(super) fn append(wal: &Wal, groups: Range<u64>, indexes: Range<u64>, bytes: usize) {
    put(wal, groups, indexes, bytes);
    prepare(wal);
}

fn put(wal: &Wal, groups: Range<u64>, indexes: Range<u64>, bytes: usize) {
    let write = |group: u64| {
        let entry = |index: u64| {
            let id = LogId::new(Term(1 + index / 100), LogIndex(index));
            Entry::normal(id, payload(group, index, bytes))
        };
        GroupWrite {
            group: GroupId(group),
            append: indexes.clone().map(entry).collect(),
            ..GroupWrite::default()
        }
    };
    let batch = WriteBatch {
        groups: groups.map(write).collect(),
        durability: Durability::Sync,
    };
    submit(wal, batch);
}

/// Until it is durable.
fn submit(wal: &Wal, batch: WriteBatch) {
    let last = wal.durable().unwrap();
    let ticket = workload::submit(wal, batch, last).unwrap();
    wal.wait(ticket).unwrap();
}

/// Everything goes: so that the segments behind are used again.
fn compact(wal: &Wal, group: u64, last: u64) {
    let id = LogId::new(Term(1 + last / 100), LogIndex(last));
    let snapshot = raftwerk_raft::SnapshotMeta {
        last: id,
        ..raftwerk_raft::SnapshotMeta::default()
    };
    let write = GroupWrite {
        group: GroupId(group),
        snapshot: Some(snapshot),
        compact_to: Some(id.index),
        ..GroupWrite::default()
    };
    let batch = WriteBatch {
        groups: vec![write],
        durability: Durability::Sync,
    };
    submit(wal, batch);
}

pub(super) fn log(wal: &Wal, group: u64) -> Arc<dyn LogReader> {
    wal.open_group(GroupId(group)).unwrap().log
}

/// Reads all of a group, `step` entries at a time, and checks every payload.
pub(super) fn read_all(log: &dyn LogReader, group: u64, bytes: usize, step: u64) -> u64 {
    let (first, last) = (log.first().0, log.last().index.0);
    let mut next = first;
    while next <= last {
        let range = LogIndex(next)..LogIndex((next + step).min(last + 1));
        let entries = log.read(range, u64::MAX).unwrap();
        assert_eq!(entries[0].index(), LogIndex(next));
        for entry in &entries {
            let index = entry.index().0;
            assert_eq!(
                entry.data,
                payload(group, index, bytes),
                "{group} at {index}"
            );
        }
        next += entries.len() as u64;
    }
    last + 1 - first
}

pub(super) fn on_disk(dir: &Path, options: Options) -> Wal {
    Wal::open(Arc::new(RealVfs), dir.join(DIR), options).unwrap()
}

/// Three groups with 300 entries each, over a good many segments.
pub(super) fn write_three(wal: &Wal) {
    prepare(wal);
    for index in (1..300).step_by(3) {
        append(wal, 1..4, index..index + 3, 150);
    }
    assert!(wal.engine_segments() > 8);
}

/// Payloads of the second of [`write_three`]'s groups, in a mapping.
pub(super) fn hold(wal: &Wal) -> Vec<Entry> {
    let log = wal.zero_copy_log(GroupId(2));
    let held = log.read(LogIndex(1)..LogIndex(40), u64::MAX).unwrap();
    assert!(wal.stats().reads.mapped > 0);
    held
}

/// Goes on behind [`write_three`] for so many segments, and compacts all that is behind.
pub(super) fn rotate(wal: &Wal, segments: u64) {
    let start = wal.engine_end().0;
    let mut index = 301;
    while wal.engine_end().0 < start + segments {
        put(wal, 1..4, index..index + 9, 150);
        index += 9;
        for group in 1..4 {
            compact(wal, group, index - 1);
        }
        prepare(wal);
    }
}

/// They still are what was appended.
pub(super) fn are_held(held: &[Entry]) {
    assert_eq!(held.len(), 39);
    for entry in held {
        assert_eq!(entry.data, payload(2, entry.index().0, 150));
    }
}

#[test]
fn sealed_segments_are_read_through_mappings_where_there_are_any() {
    let dir = tempfile::tempdir().unwrap();
    for (life, mapped) in [true, false, true].into_iter().enumerate() {
        let wal = on_disk(
            dir.path(),
            Options {
                mapped_reads: mapped,
                ..options()
            },
        );
        if life == 0 {
            write_three(&wal);
        }
        for group in 1..4 {
            for step in [1, 7, 1000] {
                assert_eq!(read_all(&*log(&wal, group), group, 150, step), 300);
            }
        }
        let reads = wal.stats().reads;
        // The segment that is being written is never mapped.
        assert_eq!(reads.mapped > 1000, mapped, "{reads:?}");
        assert!(reads.file < 200 || !mapped, "{reads:?}");
    }
}

#[test]
fn a_disk_that_cannot_map_is_read_all_the_same() {
    let vfs = FaultVfs::new();
    for life in 0..3 {
        let wal = Wal::open(Arc::new(vfs.clone()), DIR, options()).unwrap();
        if life == 0 {
            write_three(&wal);
        }
        for group in 1..4 {
            assert_eq!(read_all(&*log(&wal, group), group, 150, 10), 300);
        }
        let reads = wal.stats().reads;
        assert!(reads.mapped == 0 && reads.file > 0, "{reads:?}");
    }
}

#[test]
fn slice_held_over_a_hundred_rotations_still_reads_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let wal = on_disk(dir.path(), options());
    write_three(&wal);
    let held = hold(&wal);
    rotate(&wal, 100);
    let stats = wal.stats();
    assert!(stats.recycled > 50, "{stats:?}");
    assert!(
        stats.removed > 0,
        "what is held is not used again: {stats:?}"
    );
    are_held(&held);
    // Nor does it need the log.
    drop(wal);
    assert_eq!(held[0].data, payload(2, 1, 150));
}

#[test]
fn mapped_segment_is_used_again_when_nobody_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let wal = on_disk(dir.path(), options());
    prepare(&wal);
    let mut index = 1;
    for _ in 0..10 {
        for _ in 0..20 {
            append(&wal, 1..2, index..index + 10, 150);
            index += 10;
        }
        read_all(&*log(&wal, 1), 1, 150, 4);
        let start = wal.engine_end().0;
        while wal.engine_end().0 == start {
            put(&wal, 1..2, index..index + 10, 150);
            index += 10;
        }
        compact(&wal, 1, index - 1);
        prepare(&wal);
    }
    let stats = wal.stats();
    assert!(stats.reads.mapped > 100, "{stats:?}");
    assert!(stats.recycled > 5, "{stats:?}");
}

#[test]
fn tail_is_read_as_the_very_bytes_that_were_appended() {
    let vfs = FaultVfs::new();
    let options = Options {
        tail_bytes_max: 1 << 20,
        group_tail_bytes_max: 1 << 20,
        ..options()
    };
    let wal = Wal::open(Arc::new(vfs), DIR, options).unwrap();
    prepare(&wal);
    let id = LogId::new(Term(1), LogIndex(1));
    let data = payload(1, 1, 100);
    let write = GroupWrite {
        group: GroupId(1),
        append: vec![Entry::normal(id, data.clone())],
        ..GroupWrite::default()
    };
    let batch = WriteBatch {
        groups: vec![write],
        durability: Durability::Sync,
    };
    submit(&wal, batch);
    let read = log(&wal, 1).read(LogIndex(1)..LogIndex(2), 1).unwrap();
    assert_eq!(read[0].data.as_ptr(), data.as_ptr());
    assert_eq!(wal.stats().reads.memory, 1);
}

#[test]
fn small_payload_does_not_keep_its_section_alive() {
    let vfs = FaultVfs::new();
    let wal = Wal::open(Arc::new(vfs), DIR, options()).unwrap();
    write_three(&wal);
    let read = log(&wal, 1)
        .read(LogIndex(1)..LogIndex(60), u64::MAX)
        .unwrap();
    for entry in read {
        assert!(entry.data.is_unique(), "it shares its buffer");
    }
}

#[test]
fn term_never_touches_the_disk() {
    let vfs = CountingVfs::new(Arc::new(FaultVfs::new()));
    let shared: Arc<dyn Vfs> = Arc::new(vfs.clone());
    drop_after_writing(&shared);
    let wal = Wal::open(shared, DIR, options()).unwrap();
    let before = vfs.counts();
    for group in 1..4 {
        let log = log(&wal, group);
        for index in 1..=300 {
            assert_eq!(log.term(LogIndex(index)), Ok(Term(1 + index / 100)));
        }
    }
    assert_eq!(vfs.counts(), before);
}

fn drop_after_writing(vfs: &Arc<dyn Vfs>) {
    let wal = Wal::open(Arc::clone(vfs), DIR, options()).unwrap();
    write_three(&wal);
}

#[test]
fn footers_in_memory_are_bounded() {
    for index_cache_bytes in [0, 3000, 1 << 20] {
        let vfs = FaultVfs::new();
        let options = Options {
            index_cache_bytes,
            ..options()
        };
        let wal = Wal::open(Arc::new(vfs.clone()), DIR, options.clone()).unwrap();
        write_three(&wal);
        let mut most = 0;
        let mut segments = wal.engine_segments() as u64;
        for _ in 0..2 {
            for group in (1..4).chain(1..4) {
                read_all(&*log(&wal, group), group, 150, 5);
                most = most.max(wal.engine_tables());
            }
        }
        let one = most / segments.max(1);
        assert!(
            most > 0 && most <= index_cache_bytes.max(2000),
            "{most} bytes"
        );
        drop(wal);
        // Nor does the segment without a footer, in which the last life ended, need more.
        let wal = Wal::open(Arc::new(vfs.clone()), DIR, options).unwrap();
        for group in 1..4 {
            assert_eq!(read_all(&*log(&wal, group), group, 150, 5), 300);
        }
        segments = wal.engine_segments() as u64;
        assert!(
            wal.engine_tables() <= index_cache_bytes.max(4000),
            "{one} each of {segments}"
        );
    }
}

#[test]
fn footer_that_rots_while_the_log_is_open_costs_nothing_but_time() {
    let vfs = FaultVfs::new();
    let wal = Wal::open(Arc::new(vfs.clone()), DIR, options()).unwrap();
    write_three(&wal);
    let footers = wal.engine_footers();
    assert!(footers.len() > 6);
    for (number, footer) in &footers {
        let path = Path::new(DIR).join(file_name(*number));
        vfs.zero_sector(&path, footer / 512).unwrap();
    }
    for group in 1..4 {
        assert_eq!(read_all(&*log(&wal, group), group, 150, 10), 300);
    }
}

#[test]
fn index_takes_less_than_a_byte_for_each_entry() {
    let vfs = FaultVfs::new();
    let options = Options {
        segment_bytes: 1 << 20,
        batch_bytes_max: 256 * 1024,
        ..options()
    };
    let wal = Wal::open(Arc::new(vfs), DIR, options).unwrap();
    prepare(&wal);
    let (groups, rounds, batch) = (20u64, 40, 64u64);
    for round in 0..rounds {
        let first = 1 + round * batch;
        append(&wal, 1..groups + 1, first..first + batch, 100);
    }
    assert!(wal.engine_segments() > 5);
    let entries = groups * rounds * batch;
    let bytes = wal.engine_index();
    assert!(bytes < entries, "{bytes} bytes for {entries} entries");
    // And with a section for every entry.
    let single = append_singly(&wal, 30_000);
    let more = wal.engine_index() - bytes;
    assert!(more <= 16 * single, "{more} bytes for {single} entries");
}

/// Appends so many entries to a group of its own, one in a section; says how many.
fn append_singly(wal: &Wal, count: u64) -> u64 {
    for chunk in 0..count / 200 {
        for index in 1 + chunk * 200..=(chunk + 1) * 200 {
            let id = LogId::new(Term(1), LogIndex(index));
            let write = GroupWrite {
                group: GroupId(1000),
                append: vec![Entry::normal(id, Bytes::from_static(b"small"))],
                ..GroupWrite::default()
            };
            let batch = WriteBatch {
                groups: vec![write],
                durability: Durability::Lazy,
            };
            let last = wal.durable().unwrap();
            workload::submit(wal, batch, last).unwrap();
        }
        while wal.step_writer() == crate::Written::Batches {}
        prepare(wal);
    }
    count
}

#[test]
fn ten_thousand_groups_are_found_again() {
    let vfs = FaultVfs::new();
    let options = Options {
        segment_bytes: 4 << 20,
        batch_bytes_max: 4 << 20,
        ..options()
    };
    let wal = Wal::open(Arc::new(vfs.clone()), DIR, options.clone()).unwrap();
    prepare(&wal);
    let count = 10_000;
    for index in 1..=6 {
        for groups in [1..3500, 3500..7000, 7000..count + 1] {
            append(&wal, groups, index..index + 1, 90);
        }
    }
    assert!(wal.engine_segments() > 1);
    drop(wal);
    let wal = Wal::open(Arc::new(vfs), DIR, options).unwrap();
    assert_eq!(wal.groups().unwrap().len() as u64, count);
    for group in 1..=count {
        let log = log(&wal, group);
        assert_eq!(read_all(&*log, group, 90, 6), 6);
    }
    let bytes = wal.engine_index();
    assert!(bytes <= 400 * count, "{bytes} bytes for {count} groups");
}

#[test]
fn opening_and_verifying_tell_how_far_they_are() {
    let vfs = FaultVfs::new();
    let wal = Wal::open(Arc::new(vfs.clone()), DIR, options()).unwrap();
    write_three(&wal);
    let segments = wal.engine_segments();
    drop(wal);
    for only_look in [true, false] {
        let mut told = Vec::new();
        let watch = &mut |progress| told.push(progress);
        if only_look {
            verify_watched(&vfs, Path::new(DIR), watch).unwrap();
        } else {
            Wal::open_watched(Arc::new(vfs.clone()), DIR, options(), watch).unwrap();
        }
        assert_eq!(told.len(), segments);
        assert!(told.is_sorted_by_key(|one| one.done_bytes));
        let (first, last) = (told[0], told[segments - 1]);
        assert!(first.done_bytes < first.total_bytes);
        assert_eq!(last.done_bytes, last.total_bytes);
    }
}
