//! A machine that loses power while it writes has everything it acknowledged, whole batches and no
//! gap. The power of an ext4 image is cut: whatever was not synced is gone.
//!
//! Wants root, a loop device and ext4; says so where it cannot run. A program of its own and not a
//! list of tests: it calls itself as the process that writes.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod child;
mod history;

use child::{What, check, did_a_childs_job, start};
use raftwerk_testkit::processes::Disk;
use tempfile::TempDir;

const CUTS: u64 = 20;

fn main() {
    if did_a_childs_job() {
        return;
    }
    for what in [What::Log, What::State] {
        let root = TempDir::new().unwrap();
        match Disk::make(root.path()) {
            Ok(mut disk) => {
                power_cuts(what, &mut disk);
                println!("acknowledged_batches_survive_a_power_cut of {what:?} ... ok");
            }
            Err(reason) => println!("SKIPPED: power cuts of {what:?}: {reason}"),
        }
    }
}

fn power_cuts(what: What, disk: &mut Disk) {
    let path = disk.mounted.join("store");
    let mut stands = 0;
    for cut in 0..CUTS {
        let switch = disk.switch();
        let mut writer = start(what, &path, &[]);
        assert!(
            writer.listen(|life| life.acks > cut % 7),
            "it ended early: {:?}",
            writer.life
        );
        let before = writer.life.acked;
        switch.cut();
        let mut life = writer.kill();
        disk.power_on();
        assert_eq!(life.found, Some(stands), "a life began elsewhere");
        // A sync that was under way may have been answered either way.
        life.acked = before;
        stands = check(what, &path, &life);
    }
    assert!(stands > CUTS, "{stands}");
}
