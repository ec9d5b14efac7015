//! The power goes, and calls fail, at every place of a history and of the recovery after it: what
//! was acknowledged stays, and nothing comes back in part.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod log_history;

use log_history::{DIR, open, run};
use raftwerk_raft::{Entry, GroupId, GroupWrite, LogId, LogIndex, Storage, Term, WriteBatch};
use raftwerk_storage_redb::{
    RedbLog, SYNC_LOG, SYNC_LOG_MARK, SYNC_LOG_NAME, SYNC_LOG_RENEW, compact_log,
};
use raftwerk_testkit::crash::{CrashOptions, CrashReport, crash_points};
use raftwerk_testkit::fault_vfs::{CrashPlan, Fault, FaultVfs, PlanLimits};
use raftwerk_testkit::history::{Known, check, fail_every_call, models};
use std::sync::Arc;

fn options(stride: usize, seed: u64) -> CrashOptions {
    let plans = PlanLimits {
        subsets_max: 2,
        random: 1,
        prefixes_max: 2,
        tear_at: &[100],
        seed,
    };
    CrashOptions {
        plans,
        stride,
        ..CrashOptions::default()
    }
}

/// Runs a history, closes the log in good order and begins a second one in it.
fn enumerate(vfs: &FaultVfs, options: &CrashOptions, count: usize) -> Result<CrashReport, String> {
    let models = models();
    crash_points(
        vfs,
        Known::default(),
        options,
        |vfs, progress| {
            for seed in [11, 12] {
                let log = open(vfs).unwrap();
                run(&log, progress, &models, seed, count);
            }
        },
        open,
        |known, log| check(&models, known, &log),
    )
    .map_err(|failure| failure.to_string())
}

#[test]
fn acknowledged_survives_every_crash_and_nothing_else_appears() {
    let report = enumerate(&FaultVfs::new(), &options(6, 1), 12).unwrap();
    assert!(report.moments > 100 && report.images > 50, "{report:?}");
}

/// The long form: `cargo test --profile ci -p raftwerk-storage-redb --features long-tests`.
#[cfg(feature = "long-tests")]
#[test]
fn acknowledged_survives_a_crash_at_every_call_of_a_long_history() {
    let report = enumerate(&FaultVfs::new(), &options(1, 1), 100).unwrap();
    println!("two hundred batches, every call: {report:?}");
    assert!(report.moments > 1_000, "{report:?}");
}

#[test]
fn acknowledged_survives_a_crash_of_the_recovery_too() {
    let mut options = options(9, 2);
    options.recovery_plans = Some(PlanLimits {
        subsets_max: 1,
        random: 1,
        prefixes_max: 1,
        ..options.plans
    });
    options.recovery_stride = 29;
    let report = enumerate(&FaultVfs::new(), &options, 8).unwrap();
    assert!(report.recovery_images > 50, "{report:?}");
}

#[test]
fn enumeration_notices_a_commit_that_does_not_sync() {
    let vfs = FaultVfs::new();
    vfs.disable_sync(SYNC_LOG);
    assert!(enumerate(&vfs, &options(1, 1), 8).is_err());
}

#[test]
fn enumeration_notices_a_new_file_whose_name_is_not_synced() {
    let vfs = FaultVfs::new();
    vfs.disable_sync(SYNC_LOG_NAME);
    assert!(enumerate(&vfs, &options(1, 1), 8).is_err());
}

#[test]
fn every_sync_has_a_name_that_was_seen() {
    let vfs = FaultVfs::new();
    enumerate(&vfs, &options(50, 1), 8).unwrap();
    let seen = vfs.sync_sites_seen();
    for site in [SYNC_LOG, SYNC_LOG_MARK, SYNC_LOG_NAME, SYNC_LOG_RENEW] {
        assert!(seen.contains(&site), "{site:?} of {seen:?}");
    }
}

#[test]
fn no_failed_call_leads_to_a_false_acknowledgement() {
    let outcome = fail_every_call(
        false,
        open,
        |log, progress, models| run(log, progress, models, 31, 5),
        |models, known, log| check(models, known, log),
    );
    let report = outcome.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.runs > 100, "{report:?}");
}

fn append(log: &RedbLog, index: u64, size: usize) -> Result<(), String> {
    let id = LogId::new(Term(1), LogIndex(index));
    let write = GroupWrite {
        group: GroupId(1),
        append: vec![Entry::normal(id, vec![index as u8; size].into())],
        ..GroupWrite::default()
    };
    let batch = WriteBatch {
        groups: vec![write],
        ..WriteBatch::default()
    };
    let ticket = log.submit(batch).map_err(|error| error.to_string())?;
    log.wait(ticket).map_err(|error| error.to_string())
}

fn last(log: &RedbLog) -> u64 {
    log.open_group(GroupId(1)).unwrap().log.last().index.0
}

/// The sync fails, its pages stay in the cache and count as clean: a new life that shows them must
/// see to it that they are on the disk.
fn shows_what_a_failed_sync_left(vfs: &FaultVfs) -> Result<(), String> {
    let log = open(vfs)?;
    append(&log, 1, 100)?;
    vfs.fail_at(vfs.calls(), Fault::FsyncFailsOnceThenOk);
    assert!(append(&log, 2, 100).is_err());
    let second = vfs.crash(&CrashPlan::Kill);
    let log = open(&second)?;
    let shown = last(&log);
    append(&log, shown + 1, 100)?;
    let third = second.crash(&CrashPlan::LOSE_UNSYNCED);
    let left = last(&open(&third)?);
    if left == shown + 1 {
        Ok(())
    } else {
        Err(format!(
            "{shown} was shown and written behind, {left} is left"
        ))
    }
}

#[test]
fn what_a_failed_sync_left_is_durable_before_it_is_shown() {
    shows_what_a_failed_sync_left(&FaultVfs::new()).unwrap();
}

/// Crashes the open that follows on a failed sync and a kill, at every call.
fn recover_from_a_failed_sync(vfs: &FaultVfs) -> Result<CrashReport, String> {
    let log = open(vfs)?;
    for index in 1..=20 {
        append(&log, index, 1000)?;
    }
    vfs.fail_at(vfs.calls(), Fault::FsyncFailsOnceThenOk);
    assert!(append(&log, 21, 1000).is_err());
    let second = vfs.crash(&CrashPlan::Kill);
    let mut options = options(1, 5);
    options.plans.random = 4;
    crash_points(
        &second,
        (),
        &options,
        |vfs, _| drop(open(vfs)),
        open,
        |(), log| match last(&log) {
            20 | 21 => Ok(()),
            other => Err(format!("20 were acknowledged, {other} are left")),
        },
    )
    .map_err(|failure| failure.to_string())
}

#[test]
fn recovery_from_a_failed_sync_survives_every_crash() {
    let report = recover_from_a_failed_sync(&FaultVfs::new()).unwrap();
    assert!(report.images > 50, "{report:?}");
}

#[test]
fn full_disk_poisons_and_loses_nothing_acknowledged() {
    let vfs = FaultVfs::new();
    let log = open(&vfs).unwrap();
    append(&log, 1, 100).unwrap();
    vfs.set_capacity(Some(0));
    let mut index = 1;
    while append(&log, index + 1, 100_000).is_ok() {
        index += 1;
        assert!(index < 1000, "the disk is full");
    }
    assert!(log.durable().is_err());
    drop(log);
    vfs.set_capacity(None);
    let log = open(&vfs.crash(&CrashPlan::Kill)).unwrap();
    assert!(last(&log) == index || last(&log) == index + 1);
}

#[test]
fn compaction_of_the_file_survives_every_crash() {
    let models = models();
    let vfs = FaultVfs::new();
    let report = crash_points(
        &vfs,
        Known::default(),
        &options(11, 3),
        |vfs, progress| {
            let log = open(vfs).unwrap();
            run(&log, progress, &models, 41, 12);
            drop(log);
            compact_log(Arc::new(vfs.clone()), DIR).unwrap();
        },
        open,
        |known, log| check(&models, known, &log),
    );
    let report = report.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.images > 50, "{report:?}");
}
