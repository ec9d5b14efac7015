//! Crashes at every call, in every way worth trying, and again during recovery.

use std::sync::Arc;

use raftwerk_testkit::crash::{CrashOptions, CrashReport, crash_points};
use raftwerk_testkit::fault_vfs::{FaultVfs, PlanLimits};

use super::workload::{Known, check, goes_on, models, open, run};
use crate::Verdict;

fn enumerate(seed: u64, count: usize, options: &CrashOptions) -> CrashReport {
    let models = models();
    let vfs = FaultVfs::new();
    let mut images = 0u64;
    let outcome = crash_points(
        &vfs,
        Known::default(),
        options,
        |vfs, progress| run(vfs, progress, &models, seed, count),
        |vfs| Ok((vfs.clone(), open(vfs)?)),
        |known, (vfs, wal)| {
            check(&models, known, &wal)?;
            if wal.report().verdict() == Verdict::Corrupt {
                return Err(format!("a crash was taken for damage: {:?}", wal.report()));
            }
            images += 1;
            if images.is_multiple_of(16) {
                let wal = Arc::clone(&wal);
                goes_on(&vfs, wal)?;
            }
            Ok(())
        },
    );
    outcome.unwrap_or_else(|failure| panic!("{failure}"))
}

fn plans(seed: u64) -> PlanLimits {
    PlanLimits {
        subsets_max: 3,
        random: 4,
        prefixes_max: 6,
        tear_at: &[],
        seed,
    }
}

#[test]
fn acknowledged_survives_every_crash_and_nothing_else_appears() {
    let options = CrashOptions {
        plans: plans(1),
        recovery_plans: Some(PlanLimits {
            subsets_max: 1,
            random: 1,
            prefixes_max: 2,
            ..plans(2)
        }),
        stride: 3,
        recovery_stride: 29,
    };
    let report = enumerate(11, 120, &options);
    assert!(report.images > 500, "{report:?}");
    assert!(report.recovery_images > 100, "{report:?}");
}

#[test]
fn sectors_torn_in_the_middle_are_torn_writes_too() {
    let options = CrashOptions {
        plans: PlanLimits {
            tear_at: &[8, 100, 256, 500],
            ..plans(3)
        },
        recovery_plans: None,
        stride: 5,
        recovery_stride: 1,
    };
    let report = enumerate(12, 60, &options);
    assert!(report.images > 300, "{report:?}");
}

/// The long form: `cargo test --profile ci -p raftwerk-wal --features long-tests`.
#[cfg(feature = "long-tests")]
#[test]
fn acknowledged_survives_every_crash_of_two_thousand_batches() {
    let options = CrashOptions {
        plans: plans(4),
        recovery_plans: Some(PlanLimits {
            subsets_max: 2,
            random: 2,
            prefixes_max: 3,
            ..plans(5)
        }),
        stride: 1,
        recovery_stride: 401,
    };
    let report = enumerate(13, 2000, &options);
    assert!(report.images > 20_000, "{report:?}");
}
