//! A process that is killed at any of its calls, and a machine that loses power while it writes,
//! leave everything they acknowledged, whole batches and no gap.
//!
//! A program of its own and not a list of tests: it calls itself as the process that dies. What it
//! cannot do here (no strace; no root, loop device and ext4) it says.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing
)]

use std::path::Path;
use std::sync::Arc;

use raftwerk_storage::vfs::RealVfs;
use raftwerk_testkit::processes::numbered::check_log;
use raftwerk_testkit::processes::{
    Disk, Life, Writer, can_inject, check_life, end_job, inject, job, write_log,
};
use raftwerk_wal::{Options, Wal};
use tempfile::TempDir;

#[cfg(not(feature = "long-tests"))]
const CYCLES: u32 = 2;
#[cfg(feature = "long-tests")]
const CYCLES: u32 = 100;

/// Calls that a kill may come before, and how many a life makes of them, about.
const CALLS: [(&str, u32); 7] = [
    ("pwritev2", 60),
    ("pwrite64", 9),
    ("fdatasync", 9),
    ("fallocate", 5),
    ("rename", 9),
    ("fsync", 5),
    ("unlink", 1),
];

fn open(path: &Path) -> Result<Wal, String> {
    let options = Options {
        segment_bytes: 256 << 10,
        batch_bytes_max: 64 << 10,
        // Half of the lives write over zeros, half for the first time.
        set_aside_bytes: if std::process::id().is_multiple_of(2) {
            0
        } else {
            u64::MAX
        },
        ..Options::default()
    };
    Wal::open(Arc::new(RealVfs), path, options).map_err(|error| format!("open: {error}"))
}

fn main() {
    if let Some((_, path)) = job() {
        end_job(open(&path).and_then(|wal| write_log(&wal)));
        return;
    }
    if can_inject("kills of the write-ahead log at single calls") {
        let killed = killed_at_a_call();
        println!("killed_at_a_call_it_keeps_what_it_acknowledged: {killed} of {CYCLES} ... ok");
    }
    let root = TempDir::new().unwrap();
    match Disk::make(root.path()) {
        Ok(mut disk) => {
            let batches = power_cuts(&mut disk);
            println!(
                "acknowledged_batches_survive_a_power_cut: {CYCLES} cuts, {batches} batches ... ok"
            );
        }
        Err(reason) => println!("SKIPPED: power cuts of the write-ahead log: {reason}"),
    }
}

/// Checks what a life left, and says after which batch it stands.
fn settle(path: &Path, life: Life, stands: u64) -> u64 {
    if let Some(found) = life.found {
        assert_eq!(found, stands, "a life began elsewhere");
    }
    assert_eq!(life.failed, None);
    // One that died while it opened the log changed nothing.
    let life = Life {
        acked: life.acked.max(stands),
        began: life.began.max(stands),
        ..life
    };
    check_life(open(path).and_then(|wal| check_log(&wal)), &life)
}

fn killed_at_a_call() -> u32 {
    let root = TempDir::new().unwrap();
    let path = root.path().join("log");
    let (mut stands, mut killed) = (0, 0);
    for cycle in 0..CYCLES {
        let (call, most) = CALLS[cycle as usize % CALLS.len()];
        let at = 1 + cycle * 7 % most;
        let life = Writer::start("log", &path, &inject(call, "signal=SIGKILL", at)).end();
        killed += u32::from(!life.ended);
        stands = settle(&path, life, stands);
        if cycle % 20 == 19 {
            // What a life checks grows with what there is.
            std::fs::remove_dir_all(&path).unwrap();
            stands = 0;
        }
    }
    assert!(killed > CYCLES / 2, "only {killed} of {CYCLES} died");
    killed
}

fn power_cuts(disk: &mut Disk) -> u64 {
    let path = disk.mounted.join("log");
    let (mut stands, mut batches) = (0, 0);
    for cut in 0..CYCLES {
        let switch = disk.switch();
        let mut writer = Writer::start("log", &path, &[]);
        let enough = u64::from(cut % 23);
        assert!(
            writer.listen(|life| life.acks > enough),
            "it ended early: {:?}",
            writer.life
        );
        let before = writer.life.acked;
        switch.cut();
        let life = writer.kill();
        disk.power_on();
        // A sync that was under way may have been answered either way.
        let life = Life {
            acked: before,
            failed: None,
            ..life
        };
        let now = settle(&path, life, stands);
        batches += now - stands;
        stands = now;
        if cut % 20 == 19 {
            std::fs::remove_dir_all(&path).unwrap();
            stands = 0;
        }
    }
    batches
}
