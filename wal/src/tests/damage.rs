//! Disks that rot: whatever is flipped, zeroed or unreadable, the log never gives a wrong byte
//! and is never silently shorter.

use std::path::Path;

use raftwerk_raft::{Entry, LogId, LogIndex, Storage, Term};
use raftwerk_testkit::crash::Progress;
use raftwerk_testkit::damage::{DamageOptions, damage_points};
use raftwerk_testkit::fault_vfs::{CrashPlan, FaultVfs, Image};
use raftwerk_testkit::log_suite::model::LogModel;
use raftwerk_testkit::verdict::{Answer, judge};

use super::sites::{GROUP, append, entry};
use super::workload::{DIR, Known, Small, keep_prefix, models, open, open_with, prepare, run_on};
use crate::segment::header::file_name;
use crate::{TailEnd, Written};

/// A log of several segments whose slot vouches for all of it, and what it holds.
fn log(seed: u64, count: usize) -> (Image, LogModel) {
    let vfs = FaultVfs::new();
    let models = models();
    let wal = open(&vfs).unwrap();
    prepare(&wal);
    let taken = run_on(
        &wal,
        &Progress::new(Known::default()),
        &models,
        Small::Pages32.history(seed),
        count,
    );
    assert_eq!(taken, count);
    while wal.step_writer() != Written::Idle {}
    drop(wal);
    let second = vfs.crash(&CrashPlan::Kill);
    let wal = open(&second).unwrap();
    let last = models.lock().last().cloned().unwrap();
    last.compare(wal.as_ref()).unwrap();
    drop(wal);
    (second.crash(&CrashPlan::LOSE_UNSYNCED).image(), last)
}

fn attack(seed: u64, count: usize, options: &DamageOptions) {
    let (image, model) = log(seed, count);
    let counts = damage_points(&image, options, |vfs, damage| {
        // The identity is another crate's.
        if format!("{damage:?}").contains("IDENTITY") {
            return Ok(Answer::Refused);
        }
        open(vfs).map_or(Ok(Answer::Refused), |wal| judge(wal.as_ref(), &model))
    });
    let counts = counts.unwrap_or_else(|failure| panic!("{failure}"));
    for answer in [Answer::Intact, Answer::Named] {
        assert!(
            counts.get(&answer).is_some_and(|count| *count > 0),
            "{counts:?}"
        );
    }
}

#[test]
fn zeroed_and_unreadable_sectors_are_named_or_harmless() {
    let options = DamageOptions {
        bit_stride: 0,
        zeroed: true,
        swapped: false,
        unreadable: true,
    };
    attack(21, 100, &options);
}

#[test]
fn flipped_bits_are_named_or_harmless() {
    let options = DamageOptions {
        bit_stride: 1009,
        zeroed: false,
        swapped: false,
        unreadable: false,
    };
    attack(22, 100, &options);
}

/// Within the few milliseconds before the slot is written, a flipped bit of the last write is
/// ambiguous: refused, unless the options say to keep what stands before it.
#[test]
fn flipped_bit_before_the_slot_is_written_is_ambiguous() {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    prepare(&wal);
    wal.wait(append(&wal, entry(1, 1, 100))).unwrap();
    let (number, offset) = wal.engine_end();
    wal.wait(append(&wal, entry(1, 2, 300))).unwrap();
    let path = Path::new(DIR).join(file_name(number));
    let after = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    after.flip_bit(&path, offset + 200, 3).unwrap();
    let refusal = open(&after).map(drop).unwrap_err();
    assert!(refusal.contains("keep-prefix"), "{refusal}");
    let wal = open_with(&after, keep_prefix()).unwrap();
    assert!(
        matches!(wal.report().tail, TailEnd::Ambiguous { .. }),
        "{:?}",
        wal.report()
    );
    assert_eq!(wal.open_group(GROUP).unwrap().log.last().index, LogIndex(1));
}

/// A sector that the disk does not give says nothing of a tear: behind the slot such a write may
/// have been acknowledged, whatever its other sectors end with.
#[test]
fn unreadable_sector_before_the_slot_is_written_is_ambiguous_beside_zeros_too() {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    prepare(&wal);
    wal.wait(append(&wal, entry(1, 1, 100))).unwrap();
    let (number, offset) = wal.engine_end();
    let zeros = Entry::normal(LogId::new(Term(1), LogIndex(2)), vec![0; 3000].into());
    wal.wait(append(&wal, zeros)).unwrap();
    let sectors = offset / 512..wal.engine_end().1 / 512;
    let path = Path::new(DIR).join(file_name(number));
    let image = vfs.crash(&CrashPlan::LOSE_UNSYNCED).image();
    assert_eq!(sectors.clone().count(), 7);
    for sector in sectors.clone() {
        let after = image.after(&CrashPlan::Kill);
        after.break_sector(&path, sector).unwrap();
        let refusal = open(&after).map(drop).unwrap_err();
        assert!(refusal.contains("keep-prefix"), "{sector}: {refusal}");
        let wal = open_with(&after, keep_prefix()).unwrap();
        let tail = wal.report().tail;
        assert!(
            matches!(tail, TailEnd::Ambiguous { .. }),
            "{sector}: {tail:?}"
        );
        assert_eq!(wal.open_group(GROUP).unwrap().log.last().index, LogIndex(1));
    }
    // A tear that the disk gives is one, whatever it does not give elsewhere.
    let after = image.after(&CrashPlan::Kill);
    after.zero_sector(&path, sectors.end - 1).unwrap();
    after.break_sector(&path, sectors.end + 4).unwrap();
    let tail = open(&after).unwrap().report().tail;
    assert!(matches!(tail, TailEnd::Torn { .. }), "{tail:?}");
}

/// One flipped byte of a sealed segment: the entry is named, all else is served, and the damage
/// is still known after the next open.
#[test]
fn damage_in_a_sealed_segment_is_named_to_the_entry_at_every_open() {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    let mut index = 0;
    while wal.engine_segments() < 4 {
        prepare(&wal);
        index += 1;
        wal.wait(append(&wal, entry(1, index, 1500))).unwrap();
    }
    let (number, _) = wal.engine_end();
    wal.step_writer();
    let after = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    let path = Path::new(DIR).join(file_name(number - 2));
    let bytes = after.read_file(&path).unwrap();
    let place = bytes
        .windows(64)
        .skip(6000)
        .position(|window| window.iter().all(|byte| *byte == b'e'));
    after
        .flip_bit(&path, 6000 + place.unwrap() as u64, 1)
        .unwrap();
    let wal = open(&after).unwrap();
    let faulty = wal.open_group(GROUP).unwrap().state.health.faulty;
    assert_eq!(faulty.len(), 1, "{faulty:?}");
    assert_eq!(faulty[0].end.since(faulty[0].start), 1, "{faulty:?}");
    let log = wal.open_group(GROUP).unwrap().log;
    for number in 1..=index {
        let range = LogIndex(number)..LogIndex(number + 1);
        let bad = faulty[0].contains(&range.start);
        assert_eq!(log.read(range, u64::MAX).is_err(), bad, "entry {number}");
    }
    drop((wal, log));
    let wal = open(&after.crash(&CrashPlan::LOSE_UNSYNCED)).unwrap();
    assert_eq!(wal.open_group(GROUP).unwrap().state.health.faulty, faulty);
}
