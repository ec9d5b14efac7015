//! What one writer gets out of a log: steps of several sizes, durable and lazy.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use raftwerk_benches::log::{Feed, Shape, logs};
use raftwerk_benches::{Bench, Mode, Report, Subject, bench_main, wal_before_backends};

fn main() -> ExitCode {
    bench_main("append", run)
}

fn run(report: &mut Report) -> Result<(), String> {
    let batches: &[u64] = match report.plan().mode {
        Mode::Full => &[1, 16, 256],
        Mode::Quick | Mode::Test => &[1, 16],
    };
    if batches.contains(&256) {
        report.note(
            "256 x 64 KiB is more than Raftwerk's logs take in one batch: they get it as batches \
             of 8 MiB, one behind the other, and it counts when the last one is durable.",
        );
    }
    for (entry_bytes, size) in [(128, "128 B"), (1024, "1 KiB"), (65_536, "64 KiB")] {
        for &batch in batches {
            let shape = Shape {
                batch,
                ..Shape::durable(1, entry_bytes)
            };
            measure(report, format!("{batch} x {size}"), shape)?;
        }
    }
    for &batch in batches {
        let shape = Shape {
            batch,
            durable: false,
            ..Shape::durable(1, 128)
        };
        measure(report, format!("lazy, {batch} x 128 B"), shape)?;
    }
    Ok(())
}

fn measure(report: &mut Report, load: String, shape: Shape) -> Result<(), String> {
    let mut subjects: Vec<Box<dyn Subject>> = Vec::new();
    for kind in logs() {
        subjects.push(Box::new(Feed::new(&kind, shape)?));
    }
    let wanted = wal_before_backends();
    let wanted = wanted.as_slice();
    report.measure_wanted(
        Bench { load, subjects },
        if shape.durable { wanted } else { &[] },
    )
}
