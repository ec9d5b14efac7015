//! What durable appends cost when several wait at once: rate, latency, syncs for each entry.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use raftwerk_benches::log::{Feed, Shape, logs};
use raftwerk_benches::{Bench, Report, Subject, bench_main};

const ENTRY_BYTES: usize = 128;

fn main() -> ExitCode {
    bench_main("fsync", run)
}

fn run(report: &mut Report) -> Result<(), String> {
    for writers in [1, 8, 64] {
        let shape = Shape::durable(writers, ENTRY_BYTES);
        let mut subjects: Vec<Box<dyn Subject>> = Vec::new();
        for kind in logs() {
            subjects.push(Box::new(Feed::new(&kind, shape)?));
        }
        let plural = if writers == 1 { "" } else { "s" };
        report.measure(Bench {
            load: format!("{writers} writer{plural}, 128 B each"),
            subjects,
        })?;
    }
    Ok(())
}
