//! Many groups on one log: append, read the newest entries, compact.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use raftwerk_benches::log::{Feed, Role, Shape, gathered_logs, logs};
use raftwerk_benches::{Bench, Report, Subject, bench_main, wal_before_backends};

fn main() -> ExitCode {
    bench_main("mixed", run)
}

const WRITERS: u64 = 8;
const TAIL_ENTRIES: u64 = 16;

fn run(report: &mut Report) -> Result<(), String> {
    let all: &[u64] = report.plan().pick(&[16], &[1000], &[1000, 10_000]);
    for &groups in all {
        let shape = Shape {
            groups: groups / WRITERS,
            tail: TAIL_ENTRIES,
            ..Shape::durable(WRITERS, 256)
        };
        let mut subjects: Vec<Box<dyn Subject>> = Vec::new();
        for kind in logs().into_iter().chain(gathered_logs()) {
            // There is nothing to read on a bare device.
            if kind.role != Role::Device {
                subjects.push(Box::new(Feed::new(&kind, shape)?));
            }
        }
        let bench = Bench {
            load: format!("{groups} groups, {WRITERS} writers, 256 B"),
            subjects,
        };
        report.measure_wanted(bench, &wal_before_backends())?;
    }
    Ok(())
}
