//! What consensus asks of the allocator. A target of its own, since counting costs time.
#![forbid(unsafe_code)]

use std::alloc::System;
use std::process::ExitCode;

use raftwerk_benches::core::{Core, Cores, OwnCore, idle_core};
use raftwerk_benches::{Report, bench_main};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Entries of a batch, and bytes of each.
const LOADS: [(usize, usize); 2] = [(1, 128), (64, 128)];

fn main() -> ExitCode {
    bench_main("core_memory", run)
}

fn run(report: &mut Report) -> Result<(), String> {
    for (entries, bytes) in LOADS {
        #[cfg(feature = "peers")]
        allocations::<raftwerk_benches::core::RaftRs>(report, "raft-rs", entries, bytes)?;
        allocations::<OwnCore<false>>(report, "raftwerk", entries, bytes)?;
        allocations::<OwnCore<true>>(report, "synchronous", entries, bytes)?;
    }
    idle(report)
}

/// Allocations of the three cores, their logs and the loop around them, proposals included.
fn allocations<C: Core>(
    report: &mut Report,
    name: &'static str,
    entries: usize,
    bytes: usize,
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
    report.say(&load, name, "allocations/entry", per(calls));
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
    report.say("an idle core", "raftwerk", "bytes", (own + heap) as f64);
    Ok(())
}
