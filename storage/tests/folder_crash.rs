//! A folder that was opened once keeps its identity, whatever fails and whenever the power goes.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use raftwerk_storage::folder::{
    Folder, FolderMode, Kind, SYNC_CREATE, SYNC_IDENTITY, SYNC_RENAME, StoreUuid,
};
use raftwerk_storage::vfs::Vfs;
use raftwerk_testkit::crash::{CrashOptions, CrashReport, Progress, crash_points};
use raftwerk_testkit::fault_vfs::{CrashPlan, FaultVfs, PlanLimits};
use raftwerk_testkit::faults::{FAULTS, fault_points};

fn open(vfs: &FaultVfs) -> Result<StoreUuid, String> {
    let kind = Kind {
        name: "toy",
        format_version: 1,
    };
    Folder::open(
        Arc::new(vfs.clone()),
        "/data/store",
        kind,
        FolderMode::CreateIfMissing,
    )
    .map(|folder| folder.uuid())
    .map_err(|error| error.to_string())
}

fn workload(vfs: &FaultVfs, progress: &Progress<Option<StoreUuid>>) {
    if let Ok(uuid) = open(vfs) {
        progress.update(|known| *known = Some(uuid));
    }
}

fn check(known: &Option<StoreUuid>, found: StoreUuid) -> Result<(), String> {
    match known {
        Some(known) if *known != found => Err(format!("{known} came back as {found}")),
        _ => Ok(()),
    }
}

fn crash_everywhere(
    vfs: &FaultVfs,
    recovery_plans: Option<PlanLimits>,
) -> Result<CrashReport, String> {
    let options = CrashOptions {
        plans: PlanLimits {
            tear_at: &[60],
            ..PlanLimits::default()
        },
        recovery_plans,
        ..CrashOptions::default()
    };
    crash_points(vfs, None, &options, workload, open, check).map_err(|failure| failure.to_string())
}

#[test]
fn power_cut_anywhere_leaves_a_folder_that_opens_as_itself() {
    let report = crash_everywhere(&FaultVfs::new(), Some(PlanLimits::default())).unwrap();
    assert!(
        report.images > 50 && report.recovery_images > 500,
        "{report:?}"
    );
}

#[test]
fn each_sync_that_is_left_out_is_noticed() {
    let vfs = FaultVfs::new();
    open(&vfs).unwrap();
    let mut sites = [SYNC_CREATE, SYNC_IDENTITY, SYNC_RENAME];
    sites.sort();
    assert_eq!(vfs.sync_sites_seen(), sites);
    for site in sites {
        let vfs = FaultVfs::new();
        vfs.disable_sync(site);
        crash_everywhere(&vfs, None).expect_err(site.0);
    }
}

#[test]
fn failing_call_anywhere_leaves_a_folder_that_opens_as_itself() {
    let report = fault_points(&None, &FAULTS, true, workload, open, check).unwrap();
    assert!(report.runs >= 4 * 10, "{report:?}");
}

/// What the next life finds in the cache may not be on the disk, and syncing it again may not
/// bring it there. (Of the folder's own name that cannot be undone: there it is made before.)
#[test]
fn life_after_a_failed_one_relies_on_nothing_of_it() {
    let fresh = || {
        let vfs = FaultVfs::new();
        vfs.create_dir_all(Path::new("/data/store"), SYNC_CREATE)
            .unwrap();
        vfs
    };
    let clean = fresh();
    open(&clean).unwrap();
    for call in fresh().calls()..clean.calls() {
        for fault in FAULTS {
            let first = fresh();
            first.fail_at(call, fault);
            let acknowledged = open(&first).ok();
            let second = first.crash(&CrashPlan::Kill);
            let found = open(&second).unwrap();
            check(&acknowledged, found).unwrap();
            let third = second.crash(&CrashPlan::LOSE_UNSYNCED);
            assert_eq!(open(&third), Ok(found), "{fault:?} at call {call}");
        }
    }
}

#[test]
fn life_after_a_killed_one_makes_durable_what_it_finds() {
    let clean = FaultVfs::new();
    open(&clean).unwrap();
    for call in 0..clean.calls() {
        let first = FaultVfs::new();
        first.crash_at(call);
        open(&first).unwrap_err();
        let second = first.crash(&CrashPlan::Kill);
        let found = open(&second).unwrap();
        let third = second.crash(&CrashPlan::LOSE_UNSYNCED);
        assert_eq!(open(&third), Ok(found), "killed at call {call}");
    }
}
