//! The fault file system notices what it is there to notice: each toy is wrong in one way, and
//! found out; the right toy passes everything.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]

mod toy;

use std::path::Path;

use raftwerk_storage::vfs::SyncSite;
use raftwerk_testkit::crash::{CrashFailure, CrashOptions, CrashReport, Progress, crash_points};
use raftwerk_testkit::damage::{DamageOptions, damage_points};
use raftwerk_testkit::fault_vfs::{CrashPlan, Fault, FaultVfs, PlanLimits};
use raftwerk_testkit::faults::{FAULTS, FaultFailure, FaultReport, fault_points};
use toy::{APPEND, FOLDER, Flaw, HEADER, Toy};

/// What was handed in, and how many of those batches were acknowledged, in order.
#[derive(Clone, Debug, Default, Hash)]
struct Known {
    batches: Vec<Vec<u64>>,
    acked: usize,
}

fn workload(vfs: &FaultVfs, flaw: Option<Flaw>, progress: &Progress<Known>) {
    let Ok(mut toy) = Toy::open(vfs, flaw) else {
        return;
    };
    for number in 0..4 {
        let batch = vec![number * 2 + 1, number * 2 + 2];
        progress.update(|known| known.batches.push(batch.clone()));
        if toy.append(&batch).is_err() {
            return;
        }
        progress.update(|known| known.acked += 1);
    }
}

/// Whole batches, in order, at least the acknowledged ones.
fn check(known: &Known, found: &[u64]) -> Result<(), String> {
    let whole =
        (known.acked..=known.batches.len()).any(|count| known.batches[..count].concat() == found);
    if whole {
        Ok(())
    } else {
        Err(format!("{known:?} came back as {found:?}"))
    }
}

fn recover(vfs: &FaultVfs, flaw: Option<Flaw>) -> Result<Vec<u64>, String> {
    Toy::open(vfs, flaw)
        .map(|toy| toy.items)
        .map_err(|error| format!("reopen: {error}"))
}

/// Crashes everywhere, in recovery too.
fn crash_everywhere(vfs: &FaultVfs, flaw: Option<Flaw>) -> Result<CrashReport, Box<CrashFailure>> {
    let plans = PlanLimits {
        tear_at: &[100],
        ..PlanLimits::default()
    };
    let options = CrashOptions {
        plans,
        recovery_plans: Some(PlanLimits {
            subsets_max: 4,
            random: 2,
            ..plans
        }),
        recovery_stride: 7,
        ..CrashOptions::default()
    };
    crash_points(
        vfs,
        Known::default(),
        &options,
        |vfs, progress| workload(vfs, flaw, progress),
        |left| recover(left, flaw),
        |known, found| check(known, &found),
    )
}

/// Fails every call once in every way, of the recovery too.
fn fail_everywhere(flaw: Option<Flaw>) -> Result<FaultReport, Box<FaultFailure>> {
    fault_points(
        &Known::default(),
        &FAULTS,
        true,
        |vfs, progress| workload(vfs, flaw, progress),
        |left| recover(left, flaw),
        |known, found| check(known, &found),
    )
}

/// A sync fails, the process dies, the next life appends behind what it finds in the cache, and
/// then the power goes.
fn second_life_after_failed_sync(flaw: Option<Flaw>) -> Result<(), String> {
    let vfs = FaultVfs::new();
    let mut toy = Toy::open(&vfs, flaw).unwrap();
    toy.append(&[1, 2]).unwrap();
    vfs.fail_at(vfs.calls(), Fault::FsyncFailsOnceThenOk);
    assert!(toy.append(&[3, 4]).is_err());
    let second = vfs.crash(&CrashPlan::Kill);
    let mut toy = Toy::open(&second, flaw).unwrap();
    let before = toy.items.clone();
    toy.append(&[5, 6]).unwrap();
    let found = recover(&second.crash(&CrashPlan::LOSE_UNSYNCED), flaw)?;
    let expected = [before, vec![5, 6]].concat();
    if found == expected {
        Ok(())
    } else {
        Err(format!("{expected:?} came back as {found:?}"))
    }
}

#[test]
fn right_toy_survives_every_crash_and_every_fault() {
    let vfs = FaultVfs::new();
    let report = crash_everywhere(&vfs, None).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(
        report.images >= 90 && report.recovery_images >= 500,
        "{report:?}"
    );
    assert_eq!(vfs.sync_sites_seen(), [APPEND, FOLDER, HEADER]);
    let report = fail_everywhere(None).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(
        report.runs >= 60 && report.recovery_runs >= 1000,
        "{report:?}"
    );
    second_life_after_failed_sync(None).unwrap();
}

#[test]
fn forgotten_fsync_is_noticed() {
    let failure = crash_everywhere(&FaultVfs::new(), Some(Flaw::ForgetsFsync)).unwrap_err();
    assert!(failure.reason.contains("came back as"), "{failure}");
}

#[test]
fn forgotten_folder_sync_after_create_is_noticed() {
    let failure = crash_everywhere(&FaultVfs::new(), Some(Flaw::ForgetsDirSync)).unwrap_err();
    assert!(failure.reason.contains("came back as []"), "{failure}");
}

#[test]
fn rename_of_an_unsynced_file_is_noticed() {
    let failure = crash_everywhere(&FaultVfs::new(), Some(Flaw::RenamesUnsynced)).unwrap_err();
    assert!(failure.reason.contains("reopen: no log"), "{failure}");
}

#[test]
fn acknowledgement_after_a_failed_sync_is_noticed() {
    let failure = fail_everywhere(Some(Flaw::AcksAfterFailedSync)).unwrap_err();
    assert!(failure.reason.contains("came back as"), "{failure}");
    assert_eq!(
        failure.plan,
        CrashPlan::LOSE_UNSYNCED,
        "a kill alone does not show it"
    );
}

#[test]
fn split_batch_is_noticed() {
    let failure = crash_everywhere(&FaultVfs::new(), Some(Flaw::SplitsBatch)).unwrap_err();
    assert!(failure.reason.contains("came back as"), "{failure}");
}

#[test]
fn torn_record_taken_for_whole_is_noticed() {
    let failure = crash_everywhere(&FaultVfs::new(), Some(Flaw::TrustsLength)).unwrap_err();
    assert!(failure.reason.contains(&u64::MAX.to_string()), "{failure}");
}

#[test]
fn append_behind_an_earlier_life_is_noticed() {
    let reason = second_life_after_failed_sync(Some(Flaw::AppendsToEarlierLife)).unwrap_err();
    assert!(reason.contains("came back as"), "{reason}");
}

#[test]
fn recovery_that_a_second_crash_breaks_is_noticed() {
    let failure = crash_everywhere(&FaultVfs::new(), Some(Flaw::RecoveryRemovesFirst)).unwrap_err();
    assert!(failure.crashes.len() > 1, "{failure}");
    assert!(failure.reason.contains("came back as []"), "{failure}");
}

/// Whole batches only, though the toy cannot tell damage from a torn end and may give fewer.
fn judge_damage(vfs: &FaultVfs, flaw: Option<Flaw>) -> Result<&'static str, String> {
    let Ok(found) = recover(vfs, flaw) else {
        return Ok("refused");
    };
    let batches: Vec<Vec<u64>> = (0..4).map(|n| vec![n * 2 + 1, n * 2 + 2]).collect();
    match (0..=4).find(|count| batches[..*count].concat() == found) {
        Some(4) => Ok("intact"),
        Some(_) => Ok("shorter"),
        None => Err(format!("came back as {found:?}")),
    }
}

#[test]
fn damage_anywhere_is_answered_by_the_right_toy_and_swallowed_by_the_trusting_one() {
    let vfs = FaultVfs::new();
    workload(&vfs, None, &Progress::new(Known::default()));
    let options = DamageOptions::default();
    let verdicts = damage_points(&vfs.image(), &options, |vfs, _| judge_damage(vfs, None)).unwrap();
    let bytes = vfs.read_file(Path::new("d/log")).unwrap().len() as u64;
    let (sectors, tried) = (bytes.div_ceil(512), verdicts.values().sum::<u64>());
    let pairs = sectors * (sectors - 1) / 2;
    assert_eq!(
        tried,
        bytes * 8 + 2 * sectors + pairs,
        "every bit, sector and pair: {verdicts:?}"
    );
    assert!(
        verdicts["refused"] >= 64 + sectors,
        "the magic, and what is unreadable: {verdicts:?}"
    );
    assert_eq!(
        verdicts.get("intact"),
        None,
        "nothing goes unnoticed: {verdicts:?}"
    );
    let trusting = Some(Flaw::TrustsLength);
    let failure =
        damage_points(&vfs.image(), &options, |vfs, _| judge_damage(vfs, trusting)).unwrap_err();
    assert!(failure.reason.contains("came back as"), "{failure}");
}

#[test]
fn each_sync_of_the_right_toy_is_needed() {
    for site in [HEADER, APPEND, FOLDER] {
        let vfs = FaultVfs::new();
        vfs.disable_sync(site);
        let result = crash_everywhere(&vfs, None);
        assert!(result.is_err(), "nobody missed {site:?}");
    }
    let vfs = FaultVfs::new();
    vfs.disable_sync(SyncSite("toy.nowhere"));
    assert!(crash_everywhere(&vfs, None).is_ok(), "no false alarm");
}
