//! Clusters under drops, duplicates, reorderings, crashes that forget what was not synced,
//! partitions, members that stand still, configuration changes, transfers, snapshots, leases and
//! cold reads: after every event what Raft promises is checked, and once the trouble ends the
//! cluster must go on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod simulated;
mod support;

#[path = "cluster/invariants.rs"]
mod invariants;

use std::cell::Cell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::thread;

use simulated::{Driver, Loss, Simulation};

const EVENTS: usize = 1200;

/// Seeds to run; `RAFTWERK_SEEDS=from..to` chooses others.
fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("RAFTWERK_SEEDS") else {
        return 0..2000;
    };
    let (from, to) = text.split_once("..").expect("RAFTWERK_SEEDS=from..to");
    from.parse().unwrap()..to.parse().unwrap()
}

/// What happened in many histories.
#[derive(Debug, Default)]
struct Sum {
    histories: u64,
    committed: u64,
    reads: u64,
    lease_reads: u64,
    fates: u64,
    installs: u64,
    changes: u64,
    joint_changes: u64,
}

impl Sum {
    fn add(&mut self, simulation: &Simulation) {
        self.histories += 1;
        self.committed += simulation.committed().0;
        self.reads += simulation.read_count;
        self.lease_reads += simulation.lease_read_count;
        self.fates += simulation.fate_count;
        self.installs += simulation.installs;
        self.changes += simulation.changes;
        self.joint_changes += simulation.joint_changes;
    }

    fn merge(mut self, other: &Self) -> Self {
        self.histories += other.histories;
        self.committed += other.committed;
        self.reads += other.reads;
        self.lease_reads += other.lease_reads;
        self.fates += other.fates;
        self.installs += other.installs;
        self.changes += other.changes;
        self.joint_changes += other.joint_changes;
        self
    }
}

/// Every `step`th seed from `seeds.start` on.
fn run_seeds(seeds: Range<u64>, step: usize) -> Sum {
    let mut sum = Sum::default();
    for seed in seeds.step_by(step) {
        let run = || {
            let mut simulation = Simulation::new(seed, Driver::Sound);
            simulation.run(EVENTS);
            simulation.must_recover();
            simulation
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(simulation) => sum.add(&simulation),
            Err(_) => panic!("seed {seed} failed: RAFTWERK_SEEDS={seed}..{}", seed + 1),
        }
    }
    sum
}

#[test]
fn every_promise_holds_after_every_event_and_the_cluster_recovers() {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let sum = thread::scope(|scope| {
        let start = |worker| {
            let seeds = seeds();
            let own = seeds.start + worker as u64..seeds.end;
            scope.spawn(move || run_seeds(own, workers))
        };
        let running: Vec<_> = (0..workers).map(start).collect();
        let done = running.into_iter().map(|worker| worker.join().unwrap());
        done.fold(Sum::default(), |sum, own| sum.merge(&own))
    });
    println!("{sum:?}");
    let runs = sum.histories;
    assert_eq!(runs, seeds().count() as u64);
    if runs >= 100 {
        // Not a test of nothing.
        assert!(sum.committed > runs * 40 && sum.reads > runs * 2 && sum.installs > runs / 4);
        assert!(sum.fates > runs && sum.lease_reads > runs / 2);
        assert!(sum.changes > runs && sum.joint_changes > runs / 4);
    }
}

/// What must never happen does not, whatever of this the disks of a minority lose.
fn holds_with(losses: &'static [Loss], seeds: Range<u64>) {
    let mut lost = 0;
    for seed in seeds.clone() {
        let mut simulation = Simulation::with_losses(seed, losses);
        let run = || simulation.run(EVENTS);
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            panic!("seed {seed} failed with {losses:?}");
        }
        lost += simulation.loss_count;
    }
    println!("{losses:?}: {lost} losses");
    assert!(lost >= seeds.count() as u64, "a test of nothing");
}

#[test]
fn every_promise_holds_where_disks_lose_the_votes() {
    holds_with(&[Loss::Vote], 0..400);
}

#[test]
fn every_promise_holds_where_disks_lose_entries() {
    holds_with(&[Loss::Tail, Loss::Entry], 0..400);
}

#[test]
fn every_promise_holds_where_disks_lose_anything() {
    holds_with(&[Loss::Vote, Loss::Tail, Loss::Entry], 0..400);
}

#[test]
fn every_promise_holds_while_old_messages_are_sent_again() {
    let mut replays = 0;
    for seed in 0..200 {
        let mut simulation = Simulation::with_replays(seed);
        let run = || {
            simulation.run(EVENTS);
            simulation.must_recover();
        };
        assert!(
            catch_unwind(AssertUnwindSafe(run)).is_ok(),
            "seed {seed} failed"
        );
        replays += simulation.replay_count;
    }
    println!("{replays} replays");
    assert!(replays > 200 * 100, "a test of nothing");
}

thread_local! {
    /// Failures are expected on this thread.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// With what words `run` failed, if it did.
fn caught(run: impl FnOnce()) -> Option<String> {
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
    let panic = catch_unwind(AssertUnwindSafe(run)).err();
    QUIET.set(false);
    let words = |panic: Box<dyn std::any::Any + Send>| match panic.downcast::<String>() {
        Ok(words) => *words,
        Err(panic) => (*panic.downcast::<&str>().expect("a reason")).to_owned(),
    };
    panic.map(words)
}

/// Some seed must notice, for one of these reasons.
fn is_caught(driver: Driver, reasons: &[&str]) {
    let found = (0..1000).find_map(|seed| caught(|| Simulation::new(seed, driver).run(EVENTS)));
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
    is_caught(
        Driver::AcknowledgesEarly,
        &["Applied {", "on their disks", " applies "],
    );
}

#[test]
fn a_driver_that_applies_out_of_order_is_caught() {
    is_caught(Driver::AppliesOutOfOrder, &["states differ"]);
}

#[test]
fn a_driver_that_reads_an_old_clock_is_caught() {
    is_caught(Driver::ReadsOldClock, &["stale lease read"]);
}
