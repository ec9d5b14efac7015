//! What consensus asks of the allocator. A target of its own, since counting costs time.
#![forbid(unsafe_code)]

use std::alloc::System;
use std::process::ExitCode;

use raftwerk_benches::core::{Core, Cores, OwnCore, idle_core};
use raftwerk_benches::{Report, bench_main};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Entries of a batch, bytes of each, and how many allocations an entry are wanted at most.
const LOADS: [(usize, usize, Option<f64>); 2] = [(1, 128, None), (64, 128, Some(0.2))];
/// What an idle core may take beside its log.
const IDLE_BYTES_MAX: f64 = 2048.0;

fn main() -> ExitCode {
    bench_main("core_memory", run)
}

fn run(report: &mut Report) -> Result<(), String> {
    for (entries, bytes, most) in LOADS {
        #[cfg(feature = "peers")]
        allocations::<raftwerk_benches::core::RaftRs>(report, "raft-rs", entries, bytes, None)?;
        allocations::<OwnCore<false>>(report, "raftwerk", entries, bytes, most)?;
        allocations::<OwnCore<true>>(report, "synchronous", entries, bytes, None)?;
    }
    idle(report)
}

/// Allocations of the three cores, their logs and the loop around them, proposals included.
fn allocations<C: Core>(
    report: &mut Report,
    name: &'static str,
    entries: usize,
    bytes: usize,
    most: Option<f64>,
) -> Result<(), String> {
    let steps = report.plan().pick(10, 1_000, 10_000);
    let mut cores = Cores::<C>::new(name, entries, bytes)?;
    // What grows once does not count.
    for _ in 0..steps {
        cores.step()?;
    }
    let region = Region::new(GLOBAL);
    let mut committed = 0;
    for _ in 0..steps {
        committed += cores.step()?;
    }
    let found = region.change();
    let load = format!("{entries} x {bytes} B");
    let per = |amount: usize| amount as f64 / committed as f64;
    let calls = found.allocations + found.reallocations;
    let unit = "allocations/entry";
    match most {
        Some(most) => report.say_wanted(&load, name, unit, per(calls), most),
        None => report.say(&load, name, unit, per(calls)),
    }
    report.say(&load, name, "bytes/entry", per(found.bytes_allocated));
    Ok(())
}

/// Bytes of a core that has nothing to do, beside its log.
fn idle(report: &mut Report) -> Result<(), String> {
    let log = Default::default();
    let region = Region::new(GLOBAL);
    let node = idle_core(1, false, log)?;
    let found = region.change();
    let heap = found
        .bytes_allocated
        .saturating_sub(found.bytes_deallocated);
    let own = size_of_val(&node);
    report.say("an idle core", "raftwerk", "bytes itself", own as f64);
    report.say("an idle core", "raftwerk", "bytes on the heap", heap as f64);
    let (load, all) = ("an idle core", (own + heap) as f64);
    report.say_wanted(load, "raftwerk", "bytes", all, IDLE_BYTES_MAX);
    Ok(())
}
