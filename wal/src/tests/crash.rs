//! Crashes at every call, in every way worth trying, and again during recovery.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use raftwerk_raft::Storage;
use raftwerk_testkit::crash::{CrashOptions, CrashReport, Progress, crash_points};
use raftwerk_testkit::fault_vfs::{CallKind, FaultVfs, PlanLimits};

use super::workload::{Small, check, goes_on, models, open_with, run_on};
use crate::Verdict;

/// Crashes `count` batches of a small log, and says how much was tried.
fn enumerate(small: Small, seed: u64, count: usize, options: &CrashOptions) -> CrashReport {
    let models = models();
    let images = AtomicU64::new(0);
    let began = Instant::now();
    let outcome = crash_points(
        &FaultVfs::new(),
        super::workload::Known::default(),
        options,
        |vfs, progress| {
            let wal = open_with(vfs, small.options()).unwrap();
            let taken = run_on(&wal, progress, &models, small.history(seed), count);
            assert_eq!(taken, count, "{:?}", wal.stats());
        },
        |vfs| Ok((vfs.clone(), open_with(vfs, small.options())?)),
        |known, (vfs, wal)| {
            check(&models, known, &wal)?;
            if wal.report().verdict() == Verdict::Corrupt {
                return Err(format!("a crash was taken for damage: {:?}", wal.report()));
            }
            match images.fetch_add(1, Ordering::Relaxed) % 32 {
                0 => goes_on(&vfs, Arc::clone(&wal), small.options()),
                _ => Ok(()),
            }
        },
    );
    let report = outcome.unwrap_or_else(|failure| panic!("{failure}"));
    println!(
        "{count} batches of {small:?}: {report:?}, {} us an image",
        began.elapsed().as_micros() / report.distinct.max(1) as u128
    );
    report
}

/// Every subset of up to so many sectors; more are sampled.
fn plans(subsets_max: usize, seed: u64) -> PlanLimits {
    PlanLimits {
        subsets_max,
        random: 8,
        prefixes_max: 64,
        tear_at: &[],
        seed,
    }
}

/// Each kind of call is crashed at.
fn is_everywhere(report: &CrashReport) {
    for kind in [
        CallKind::Write,
        CallKind::Sync,
        CallKind::SyncDir,
        CallKind::Create,
        CallKind::Rename,
        CallKind::Remove,
    ] {
        assert!(report.before.contains_key(&kind), "{report:?}");
    }
}

/// No history ends before its time, whatever it needs room for.
#[test]
fn every_batch_of_a_long_history_is_taken() {
    for (small, count) in [
        (Small::Pages8, 200),
        (Small::Aside8, 200),
        (Small::Pages32, 2000),
    ] {
        for seed in [1, 2, 13] {
            let wal = open_with(&FaultVfs::new(), small.options()).unwrap();
            let progress = Progress::new(super::workload::Known::default());
            let taken = run_on(&wal, &progress, &models(), small.history(seed), count);
            assert_eq!(taken, count, "{small:?} {seed}: {:?}", wal.durable());
        }
    }
}

/// What the enumerations below rest on.
#[test]
fn history_that_is_crashed_moves_a_straggler_and_reuses_segments() {
    for (small, seed) in [(Small::Pages8, 19), (Small::Pages32, 16)] {
        let wal = open_with(&FaultVfs::new(), small.options()).unwrap();
        let progress = Progress::new(super::workload::Known::default());
        assert_eq!(
            run_on(&wal, &progress, &models(), small.history(seed), BATCHES),
            BATCHES
        );
        let stats = wal.stats();
        assert!(stats.rewritten_entries > 0, "{small:?}: {stats:?}");
        assert!(stats.recycled + stats.removed > 0, "{small:?}: {stats:?}");
    }
}

/// How long the histories are that are crashed in short.
const BATCHES: usize = 75;

/// How many disks each of the three tests below looks at, at least: together a twentieth of the
/// million of the long form.
const DISKS: [usize; 3] = [43_200, 4_300, 2_600];
const _: () = assert!(DISKS[0] + DISKS[1] + DISKS[2] >= 1_000_000 / 20);

fn all_images(report: &CrashReport) -> usize {
    report.images + report.recovery_images + report.second_images
}

#[test]
fn acknowledged_survives_every_crash_and_nothing_else_appears() {
    let options = CrashOptions {
        plans: plans(3, 1),
        recovery_plans: Some(plans(2, 2)),
        stride: 1,
        recovery_stride: 61,
        second_stride: 17,
    };
    let report = enumerate(Small::Pages8, 19, BATCHES, &options);
    is_everywhere(&report);
    assert!(report.recovery_images > 100, "{report:?}");
    assert!(report.second_images > 100, "{report:?}");
    assert!(all_images(&report) >= DISKS[0], "{report:?}");
}

#[test]
fn acknowledged_survives_every_crash_where_zeros_are_set_aside() {
    let options = CrashOptions {
        plans: plans(3, 4),
        ..CrashOptions::default()
    };
    let report = enumerate(Small::Aside8, 19, BATCHES, &options);
    is_everywhere(&report);
    assert!(report.before.contains_key(&CallKind::Zero), "{report:?}");
    assert!(all_images(&report) >= DISKS[1], "{report:?}");
}

#[test]
fn sectors_torn_in_the_middle_are_torn_writes_too() {
    let options = CrashOptions {
        plans: PlanLimits {
            tear_at: &[8, 100, 256, 500],
            ..plans(3, 3)
        },
        stride: 5,
        ..CrashOptions::default()
    };
    let report = enumerate(Small::Pages32, 16, BATCHES, &options);
    assert!(all_images(&report) >= DISKS[2], "{report:?}");
}

/// A million disks, in five ways, history after history (equal ones are looked at once):
/// `cargo test --profile ci -p raftwerk-wal --features long-tests`.
/// `RAFTWERK_SEED` is where the histories begin.
#[cfg(feature = "long-tests")]
#[test]
fn acknowledged_survives_a_million_crashes() {
    let seed = std::env::var("RAFTWERK_SEED");
    let seed: u64 = seed.map_or(1, |seed| seed.parse().unwrap());
    let whole = CrashOptions {
        plans: plans(12, seed),
        ..CrashOptions::default()
    };
    let wide = CrashOptions {
        plans: plans(4, seed),
        ..CrashOptions::default()
    };
    let torn = CrashOptions {
        plans: PlanLimits {
            tear_at: &[8, 100, 256, 500],
            ..plans(3, seed)
        },
        ..CrashOptions::default()
    };
    let deep = CrashOptions {
        plans: plans(2, seed),
        recovery_plans: Some(plans(6, seed)),
        stride: 1,
        recovery_stride: 97,
        second_stride: 211,
    };
    let (mut images, mut distinct) = (0, 0);
    for round in 0.. {
        for (small, count, options) in [
            (Small::Pages8, 200, whole),
            (Small::Aside8, 200, wide),
            (Small::Pages32, 600, wide),
            (Small::Pages8, 200, torn),
            (Small::Pages8, 200, deep),
        ] {
            let report = enumerate(small, seed.wrapping_add(round), count, &options);
            is_everywhere(&report);
            images += all_images(&report);
            distinct += report.distinct;
        }
        if images > 1_000_000 && distinct > 250_000 {
            break;
        }
    }
    println!("{images} disks, {distinct} of them different");
}

/// A long life, cut at each of its calls: the log moves its stragglers and uses its segments again
/// hundreds of times.
#[cfg(feature = "long-tests")]
#[test]
fn acknowledged_survives_crashes_of_two_thousand_batches() {
    let options = CrashOptions {
        plans: plans(3, 7),
        ..CrashOptions::default()
    };
    let report = enumerate(Small::Pages32, 13, 3000, &options);
    assert!(
        report.moments > 5000 && report.images > 200_000,
        "{report:?}"
    );
}
