//! Whole clusters, driven by scripts: elections, replication, snapshots, configuration changes,
//! with everything that each member says and writes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod datadriven;
mod harness;
#[path = "support/progress.rs"]
mod progress;
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use harness::Cluster;

/// Runs every script; fails with all that differ, and says how many ran.
fn run(kind: &str, scripts: &[PathBuf]) {
    let mut failed = Vec::new();
    for script in scripts {
        let mut cluster = Cluster::default();
        let run = || datadriven::run_file(script, |command| cluster.handle(command));
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            failed.push(script.display().to_string());
        }
    }
    println!(
        "{kind}: {} scripts ran, {} differ",
        scripts.len(),
        failed.len()
    );
    assert!(failed.is_empty(), "differ:\n{}", failed.join("\n"));
}

#[test]
fn own_scripts_give_what_they_should() {
    run("interaction", &datadriven::own_scripts("interaction"));
}

#[test]
fn traces_of_etcd_are_reproduced() {
    run("etcd", &datadriven::extra_traces("etcd"));
}

#[test]
fn random_traces_of_etcd_are_reproduced() {
    run("random", &datadriven::extra_traces("random"));
}
