//! What consensus itself costs: three cores in memory, no disk, no network, no thread.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use raftwerk_benches::core::{Cores, LOADS, OwnCore, idle_core};
use raftwerk_benches::{Bench, Quartiles, Report, Subject, Wanted, bench_main};

/// What a tick of an idle follower may take.
const TICK_NS_MAX: f64 = 20.0;

fn main() -> ExitCode {
    bench_main("core", run)
}

fn run(report: &mut Report) -> Result<(), String> {
    for (entries, bytes, times) in LOADS {
        let bench = Bench {
            load: format!("{entries} x {bytes} B"),
            subjects: subjects(entries, bytes)?,
        };
        let wanted = times.map(|times| Wanted::times("raftwerk", &["raft-rs"], times));
        report.measure_wanted(bench, wanted.as_slice())?;
    }
    ticks(report)
}

/// The peer stands first where it takes part: what is said is how many times as fast we are.
fn subjects(entries: usize, bytes: usize) -> Result<Vec<Box<dyn Subject>>, String> {
    Ok(vec![
        #[cfg(feature = "peers")]
        Box::new(Cores::<raftwerk_benches::core::RaftRs>::new(
            "raft-rs", entries, bytes,
        )?),
        Box::new(Cores::<OwnCore<false>>::new("raftwerk", entries, bytes)?),
        Box::new(Cores::<OwnCore<true>>::new("synchronous", entries, bytes)?),
    ])
}

/// Ticks of a follower that hears from no one and whose timeout is far off.
fn ticks(report: &mut Report) -> Result<(), String> {
    let (rounds, ticks) = report.plan().pick((1, 100), (20, 100_000), (50, 1_000_000));
    let mut node = idle_core(1, false, Default::default())?;
    let mut times = Vec::new();
    for _ in 0..rounds {
        node.forget_leader();
        node.set_election_timeout(u32::MAX);
        let start = Instant::now();
        for _ in 0..ticks {
            black_box(&mut node).tick();
        }
        times.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(ticks));
    }
    if let Some(found) = Quartiles::of(&times) {
        let load = "tick of an idle follower";
        report.say_wanted(load, "raftwerk", "ns", found.median, TICK_NS_MAX);
    }
    Ok(())
}
