//! Many groups on one log: append, read the newest entries, compact.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use raftwerk_benches::log::{Feed, Role, Shape, logs};
use raftwerk_benches::{Bench, Report, Subject, bench_main};

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
        for kind in logs() {
            // There is nothing to read on a bare device.
            if kind.role != Role::Device {
                subjects.push(Box::new(Feed::new(&kind, shape)?));
            }
        }
        report.measure(Bench {
            load: format!("{groups} groups, {WRITERS} writers, 256 B"),
            subjects,
        })?;
    }
    Ok(())
}
