//! A seed stands for one history: whatever process runs it and however it was compiled, every
//! output is the same. Says nothing about what is right; `cluster.rs` does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod simulated;
mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use simulated::{Driver, Simulation};

/// One line for each of some seeds.
fn histories() -> String {
    (0..60).fold(String::new(), |mut out, seed| {
        let mut simulation = Simulation::new(seed, Driver::Sound);
        simulation.run(600);
        simulation.must_recover();
        writeln!(out, "history {seed} {:016x}", simulation.history()).unwrap();
        out
    })
}

#[test]
fn histories_are_printed() {
    print!("\n{}", histories());
}

#[test]
fn a_seed_gives_the_same_history_in_another_process() {
    let own = histories();
    let other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "histories_are_printed", "--nocapture"])
        .output()
        .unwrap();
    assert!(other.status.success(), "{other:?}");
    let text = String::from_utf8(other.stdout).unwrap();
    let other: String = text
        .lines()
        .filter(|line| line.starts_with("history "))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(own, other);
    assert_eq!(own.lines().count(), 60);
    let mut different: Vec<&str> = own
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), 60, "seeds are no histories of their own");
}

/// What every profile found for these very sources must be the same: the first one leaves it in
/// the target folder, which all of them share, and the others compare.
#[test]
fn a_seed_gives_the_same_history_in_every_profile() {
    let Some(folder) = option_env!("CARGO_TARGET_TMPDIR").map(Path::new) else {
        return;
    };
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    for part in [
        "src",
        "tests/simulated",
        "tests/support",
        "tests/histories.rs",
    ] {
        collect(&package.join(part), &mut sources);
    }
    sources.sort();
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for path in &sources {
        for byte in fs::read(path).unwrap() {
            sum = (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    let shared = folder.join(format!("raft-histories-{sum:016x}"));
    let own = histories();
    match fs::read_to_string(&shared) {
        Ok(found) => assert_eq!(own, found, "differs from {}", shared.display()),
        Err(_) => {
            // Another process may be just as far.
            let whole = folder.join(format!("raft-histories-{}", std::process::id()));
            fs::create_dir_all(folder).unwrap();
            fs::write(&whole, &own).unwrap();
            fs::rename(&whole, &shared).unwrap();
        }
    }
}

/// All files below `path`.
fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_file() {
        files.push(path.to_owned());
        return;
    }
    for entry in fs::read_dir(path).unwrap() {
        collect(&entry.unwrap().path(), files);
    }
}
