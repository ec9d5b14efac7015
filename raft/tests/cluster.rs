//! Clusters under drops, duplicates, reorderings, crashes that forget what was not synced,
//! partitions, configuration changes, transfers, snapshots and cold reads: after every event what
//! Raft promises is checked, and once the trouble ends the cluster must go on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod simulated;
mod support;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use simulated::{Driver, Simulation};

const EVENTS: usize = 2500;

/// Seeds to run; `RAFTWERK_SEEDS=from..to` chooses others.
fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("RAFTWERK_SEEDS") else {
        return 0..200;
    };
    let (from, to) = text.split_once("..").expect("RAFTWERK_SEEDS=from..to");
    from.parse().unwrap()..to.parse().unwrap()
}

#[test]
fn every_promise_holds_after_every_event_and_the_cluster_recovers() {
    let (mut committed, mut reads, mut installs) = (0, 0, 0);
    for seed in seeds() {
        let run = || {
            let mut simulation = Simulation::new(seed, Driver::Sound);
            simulation.run(EVENTS);
            simulation.must_recover();
            simulation
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(simulation) => {
                committed += simulation.committed().0;
                reads += simulation.read_count;
                installs += simulation.installs;
            }
            Err(_) => panic!("seed {seed} failed: RAFTWERK_SEEDS={seed}..{}", seed + 1),
        }
    }
    println!(
        "{committed} entries committed, {reads} reads answered, {installs} snapshots installed"
    );
    let runs = seeds().count() as u64;
    if runs >= 100 {
        // Not a test of nothing.
        assert!(committed > runs * 20 && reads > runs && installs > runs / 2);
    }
}

thread_local! {
    /// Failures are expected on this thread.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

fn be_quiet() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                loud(info);
            }
        }));
    });
    QUIET.set(true);
}

/// Some seed must notice, for one of these reasons.
fn is_caught(driver: Driver, reasons: &[&str]) {
    be_quiet();
    let found = (0..400).find_map(|seed| {
        let run = || Simulation::new(seed, driver).run(EVENTS);
        let panic = catch_unwind(AssertUnwindSafe(run)).err()?;
        Some(panic.downcast_ref::<String>().expect("a reason").clone())
    });
    QUIET.set(false);
    let found = found.unwrap_or_else(|| panic!("{driver:?} went unnoticed"));
    assert!(
        reasons.iter().any(|reason| found.contains(reason)),
        "{driver:?}: {found}"
    );
}

#[test]
fn a_driver_that_answers_before_it_writes_is_caught() {
    is_caught(Driver::AnswersEarly, &["on their disks"]);
}

#[test]
fn a_driver_that_forgets_its_vote_is_caught() {
    is_caught(Driver::ForgetsVote, &["voted twice"]);
}

#[test]
fn a_driver_that_acknowledges_before_it_writes_is_caught() {
    is_caught(Driver::AcknowledgesEarly, &["Applied {", "on their disks"]);
}

#[test]
fn a_driver_that_applies_out_of_order_is_caught() {
    is_caught(Driver::AppliesOutOfOrder, &["states differ"]);
}
