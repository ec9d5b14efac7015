//! Disks that rot: whatever is flipped, zeroed, exchanged or unreadable, the log never gives a
//! wrong byte and is never silently shorter.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod log_history;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use log_history::{DIR, open, run, try_open};
use raftwerk_raft::{ByteBudget, GroupId, GroupWrite, LogIndex, Storage, StorageError};
use raftwerk_storage_redb::{OnDamage, RedbLog, SYNC_LOG_MARK, compact_log};
use raftwerk_testkit::crash::Progress;
use raftwerk_testkit::damage::{DamageOptions, damage_each, damage_points, swaps};
use raftwerk_testkit::fault_vfs::{CrashPlan, FaultVfs, Image};
use raftwerk_testkit::history::{Known, models};
use raftwerk_testkit::log_suite::model::LogModel;
use raftwerk_testkit::verdict::{
    Answer, REBIRTHS, doubt_lasts_until_the_group_is_made_anew, judge, store, vote,
};

/// A log on the disk, and what it holds; closed in good order or killed.
fn log(vfs: &FaultVfs, seed: u64, count: usize, closed: bool) -> (Image, LogModel) {
    let models = models();
    let log = open(vfs).unwrap();
    run(&log, &Progress::new(Known::default()), &models, seed, count);
    let last = models.lock().last().cloned().unwrap();
    if closed {
        drop(log);
        return (vfs.crash(&CrashPlan::LOSE_UNSYNCED).image(), last);
    }
    (vfs.crash(&CrashPlan::Kill).image(), last)
}

fn attack(closed: bool, count: usize, options: &DamageOptions) -> BTreeMap<Answer, u64> {
    let (image, model) = log(&FaultVfs::new(), 21, count, closed);
    let counts = damage_points(&image, options, |vfs, _| answer(vfs, &model));
    counts.unwrap_or_else(|failure| panic!("{failure}"))
}

fn answer(vfs: &FaultVfs, model: &LogModel) -> Result<Answer, String> {
    match try_open(vfs) {
        Ok(log) => judge(&log, model),
        Err(StorageError::Corrupt { .. } | StorageError::Io { .. }) => Ok(Answer::Refused),
        // The identity is another crate's.
        Err(StorageError::WrongStore { .. }) => Ok(Answer::Refused),
        Err(other) => Err(other.to_string()),
    }
}

/// Neighbours, and sectors in the same place of neighbouring pages.
#[test]
fn swapped_sectors_are_named_or_refused() {
    for closed in [true, false] {
        let (image, model) = log(&FaultVfs::new(), 23, 8, closed);
        let counts = damage_each(&image, swaps(&image, &[1, 8]), |vfs, _| answer(vfs, &model));
        let counts = counts.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(counts.contains_key(&Answer::Refused), "{counts:?}");
    }
}

const SECTORS: DamageOptions = DamageOptions {
    bit_stride: 0,
    zeroed: true,
    swapped: false,
    unreadable: true,
};
const BITS: DamageOptions = DamageOptions {
    bit_stride: 9001,
    zeroed: false,
    swapped: false,
    unreadable: false,
};

#[test]
fn damaged_sectors_of_a_closed_log_are_named_or_refused() {
    let counts = attack(true, 12, &SECTORS);
    assert!(counts.len() == 3, "{counts:?}");
}

#[test]
fn flipped_bits_of_a_closed_log_are_named_or_refused() {
    let counts = attack(true, 12, &BITS);
    assert!(counts.len() == 3, "{counts:?}");
}

#[test]
fn damage_to_a_log_that_was_killed_is_never_silent() {
    let counts = attack(false, 8, &SECTORS);
    assert!(counts.contains_key(&Answer::Refused), "{counts:?}");
    let counts = attack(false, 8, &BITS);
    assert!(counts.contains_key(&Answer::Refused), "{counts:?}");
}

/// A log of one group with 40 entries of which one has a flipped bit.
fn with_one_bad_entry(vfs: &FaultVfs) -> (FaultVfs, u64) {
    use raftwerk_raft::{Entry, GroupWrite, LogId, Term, WriteBatch};
    let log = open(vfs).unwrap();
    let entry = |index: u64| {
        let id = LogId::new(Term(1), LogIndex(index));
        Entry::normal(id, vec![index as u8; 400].into())
    };
    let write = GroupWrite {
        group: GroupId(1),
        append: (1..=40).map(entry).collect(),
        ..GroupWrite::default()
    };
    let batch = WriteBatch {
        groups: vec![write],
        ..WriteBatch::default()
    };
    log.wait(log.submit(batch).unwrap()).unwrap();
    drop(log);
    let after = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    let path = Path::new(DIR).join("log.redb");
    let bytes = after.read_file(&path).unwrap();
    let at = bytes.windows(400).position(|window| window == [17; 400]);
    after.flip_bit(&path, at.unwrap() as u64 + 200, 3).unwrap();
    (after, 17)
}

#[test]
fn flipped_bit_in_an_entry_is_named_to_the_entry_at_every_open() {
    let (mut vfs, bad) = with_one_bad_entry(&FaultVfs::new());
    for _ in 0..3 {
        let log = open(&vfs).unwrap();
        let group = log.open_group(GroupId(1)).unwrap();
        let faulty = LogIndex(bad)..LogIndex(bad + 1);
        assert_eq!(group.state.health.faulty, [faulty]);
        for index in 1..=40 {
            let range = LogIndex(index)..LogIndex(index + 1);
            assert_eq!(group.log.read(range, 0).is_err(), index == bad, "{index}");
        }
        drop((log, group));
        vfs = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    }
}

/// Found again in the file.
const VALUE: [u8; 400] = [77; 400];

/// A log of five groups that was closed in good order; the third has a named value.
fn close_with_five_groups(vfs: &FaultVfs) -> LogModel {
    let log = open(vfs).unwrap();
    let mut model = LogModel::default();
    for group in 1..=5 {
        store(&log, &mut model, vote(group));
    }
    let named = GroupWrite {
        meta: vec![("name".into(), Some(VALUE.to_vec().into()))],
        ..vote(3)
    };
    store(&log, &mut model, named);
    model
}

/// Flips a bit of every copy of the named value.
fn damage_the_value(vfs: &FaultVfs) {
    let path = Path::new(DIR).join("log.redb");
    let bytes = vfs.read_file(&path).unwrap();
    let values = bytes.windows(VALUE.len()).enumerate();
    for (at, _) in values.filter(|(_, found)| *found == VALUE) {
        vfs.flip_bit(&path, at as u64 + 9, 2).unwrap();
    }
}

/// A record of one group rots.
#[test]
fn damaged_record_of_a_group_leaves_that_group_in_doubt_and_the_others_alone() {
    for rebirth in REBIRTHS {
        let vfs = FaultVfs::new();
        let model = close_with_five_groups(&vfs);
        let mut vfs = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
        damage_the_value(&vfs);
        doubt_lasts_until_the_group_is_made_anew(3, model, rebirth, || {
            vfs = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
            open(&vfs).unwrap()
        });
    }
}

/// What shrinks the file closes it as the log itself does.
#[test]
fn damage_after_an_offline_compaction_is_confined_to_its_group() {
    for closed in [true, false] {
        let vfs = FaultVfs::new();
        let model = close_with_five_groups(&vfs);
        let vfs = if closed {
            vfs.crash(&CrashPlan::LOSE_UNSYNCED)
        } else {
            let _killed = open(&vfs).unwrap();
            vfs.crash(&CrashPlan::Kill)
        };
        compact_log(Arc::new(vfs.clone()), DIR).unwrap();
        let vfs = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
        damage_the_value(&vfs);
        let log = open(&vfs).unwrap();
        assert_eq!(judge(&log, &model), Ok(Answer::Named));
        for group in 1..=5 {
            let health = log.open_group(GroupId(group)).unwrap().state.health;
            assert_eq!(health.vote_unknown, group == 3, "{group}");
        }
    }
}

#[test]
fn refusal_leaves_a_damaged_log_as_it_was_found() {
    let (vfs, _) = with_one_bad_entry(&FaultVfs::new());
    let mut options = log_history::options();
    options.on_damage = OnDamage::Refuse;
    let path = Path::new(DIR).join("log.redb");
    for _ in 0..2 {
        let before = vfs.read_file(&path).unwrap();
        let refusal = RedbLog::open(Arc::new(vfs.clone()), &options).unwrap_err();
        assert!(matches!(refusal, StorageError::Corrupt { .. }), "{refusal}");
        assert_eq!(vfs.read_file(&path).unwrap(), before);
    }
    // Once it was taken as it is, the loss is named for good.
    drop(open(&vfs).unwrap());
    let refusal = RedbLog::open(Arc::new(vfs.clone()), &options).unwrap_err();
    assert!(refusal.to_string().contains("lost entries"), "{refusal}");
}

/// Without the mark nobody knows what there was.
#[test]
fn damage_is_refused_when_the_mark_of_the_close_was_not_synced() {
    let vfs = FaultVfs::new();
    vfs.disable_sync(SYNC_LOG_MARK);
    let (vfs, _) = with_one_bad_entry(&vfs);
    let refusal = try_open(&vfs).unwrap_err();
    assert!(matches!(refusal, StorageError::Corrupt { .. }), "{refusal}");
}

/// What an earlier close has listed is not all that there is.
#[test]
fn damage_is_refused_when_the_mark_of_the_last_close_alone_was_not_synced() {
    let vfs = FaultVfs::new();
    close_with_five_groups(&vfs);
    let log = open(&vfs).unwrap();
    vfs.disable_sync(SYNC_LOG_MARK);
    store(&log, &mut LogModel::default(), vote(9));
    drop(log);
    let vfs = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    damage_the_value(&vfs);
    let refusal = try_open(&vfs).unwrap_err();
    assert!(matches!(refusal, StorageError::Corrupt { .. }), "{refusal}");
}

#[test]
fn scrub_goes_through_everything_in_pieces() {
    let vfs = FaultVfs::new();
    let (image, _) = log(&vfs, 5, 30, true);
    let log = open(&image.after(&CrashPlan::Kill)).unwrap();
    let whole = log.scrub(ByteBudget(u64::MAX)).unwrap();
    assert!(whole.completed && whole.damage.is_empty(), "{whole:?}");
    let (mut checked, mut steps) = (0, 0);
    loop {
        let piece = log.scrub(ByteBudget(300)).unwrap();
        checked += piece.checked_bytes;
        steps += 1;
        if piece.completed {
            break;
        }
    }
    assert_eq!(checked, whole.checked_bytes);
    assert!(steps > 5, "{steps}");
}
