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
        let plural = if writers == 1 { "" } else { "s" };
        let load = format!("{writers} writer{plural}, 128 B each");
        measure(report, load, Shape::durable(writers, ENTRY_BYTES))?;
    }
    // What a layer costs without the threads that it has to wake.
    let shape = Shape {
        one_thread: true,
        ..Shape::durable(64, ENTRY_BYTES)
    };
    measure(
        report,
        "64 outstanding, one thread, 128 B each".into(),
        shape,
    )
}

fn measure(report: &mut Report, load: String, shape: Shape) -> Result<(), String> {
    let mut subjects: Vec<Box<dyn Subject>> = Vec::new();
    for kind in logs() {
        subjects.push(Box::new(Feed::new(&kind, shape)?));
    }
    report.measure(Bench { load, subjects })
}
