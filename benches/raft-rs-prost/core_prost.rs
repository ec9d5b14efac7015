//! What consensus itself costs, beside raft-rs with its codec prost: entries own their payload.
#![forbid(unsafe_code)]

#[path = "../src/core/raft_rs.rs"]
mod raft_rs;

use std::process::ExitCode;

use raftwerk_benches::core::{Core, Cores, LOADS, LOG_ENTRIES, MEMBERS, OwnCore};
use raftwerk_benches::{Bench, Report, Wanted, bench_main};

use raft_rs::RaftRs;

fn main() -> ExitCode {
    bench_main("core_prost", run)
}

fn run(report: &mut Report) -> Result<(), String> {
    for (entries, bytes, times) in LOADS {
        let bench = Bench {
            load: format!("{entries} x {bytes} B"),
            subjects: vec![
                Box::new(Cores::<RaftRs>::new("raft-rs", entries, bytes)?),
                Box::new(Cores::<OwnCore<false>>::new("raftwerk", entries, bytes)?),
            ],
        };
        let wanted = times.map(|times| Wanted::times("raftwerk", &["raft-rs"], times));
        report.measure_wanted(bench, wanted.as_slice())?;
    }
    Ok(())
}
