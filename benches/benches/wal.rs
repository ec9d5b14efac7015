//! The write-ahead log beside its peer and the raw device, under the loads that it is judged by.
//! All of them write the same payload bytes into folders of one disk, in turns.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use raftwerk_benches::log::{Feed, LogKind, Role, Shape, logs, wal_options, wal_peers};
use raftwerk_benches::{Bench, Plan, Report, Subject, Wanted, bench_main};

const WAL: &str = "wal";
const TICKETS: &str = "wal, tickets";
const DEVICE: &[&str] = &["raw device"];
/// Old files used again, with files made before and without: the faster one counts.
const PEER: &[&str] = &["raft-engine", "prefilled"];

fn main() -> ExitCode {
    bench_main("wal", run)
}

fn run(report: &mut Report) -> Result<(), String> {
    for options in wal_options() {
        report.note(options);
    }
    durable(report)?;
    outstanding(report)?;
    lazy(report)?;
    unawaited(report)
}

/// Writers that wait for each step.
fn durable(report: &mut Report) -> Result<(), String> {
    let small = Shape::durable(1, 128);
    let device_and_peer = |times| {
        [
            Wanted::times(WAL, DEVICE, 0.9),
            Wanted::times(WAL, PEER, times),
        ]
    };
    let name = "1 writer, 1 x 128 B, sync";
    measure(report, name, small, &device_and_peer(1.0))?;
    let shape = Shape { batch: 64, ..small };
    let name = "1 writer, 64 x 128 B, sync";
    measure(report, name, shape, &device_and_peer(1.4))?;
    let many = Shape::durable(8, 128);
    let name = "8 writers, 1 x 128 B, sync";
    measure(report, name, many, &[Wanted::times(WAL, PEER, 1.5)])?;
    let shape = Shape { batch: 16, ..many };
    let name = "8 writers, 16 x 128 B, sync";
    measure(report, name, shape, &[Wanted::times(WAL, PEER, 2.0)])
}

/// Sixty-four durable writes at any time: a thread for each, or two that hold tickets.
fn outstanding(report: &mut Report) -> Result<(), String> {
    let threads = Shape::durable(64, 128);
    let tickets = Shape {
        pending: 32,
        ..Shape::durable(2, 128)
    };
    let load = "64 outstanding, 1 x 128 B, sync";
    if skipped(report, load) {
        return Ok(());
    }
    let mut subjects = feeds(&kinds(&[Role::Ours]), threads)?;
    for kind in log(WAL) {
        subjects.push(Box::new(Feed::new(&kind, tickets)?.named(TICKETS)));
    }
    let bench = Bench {
        load: load.to_owned(),
        subjects,
    };
    report.measure_wanted(
        bench,
        &[
            Wanted::times(TICKETS, PEER, 2.5),
            Wanted::times(WAL, PEER, 1.3),
        ],
    )
}

/// Half a second: in a tenth of it a log that writes a gigabyte a second makes one new file or
/// none, which costs as much as the rest.
const LAZY_TURNS: u32 = 5;

/// Writers that do not ask when it is durable.
fn lazy(report: &mut Report) -> Result<(), String> {
    let one = Shape {
        batch: 64,
        durable: false,
        ..Shape::durable(1, 128)
    };
    let name = "1 writer, 64 x 128 B, lazy";
    let plan = report.plan().longer(LAZY_TURNS);
    measure_as(plan, report, name, one, &[Wanted::times(WAL, PEER, 2.0)])?;
    let two = Shape {
        batch: 64,
        durable: false,
        ..Shape::durable(2, 1024)
    };
    let name = "2 writers, 64 x 1 KiB, lazy";
    measure_as(plan, report, name, two, &[Wanted::times(WAL, PEER, 0.9)])
}

/// A writer that asks for durability and never waits for it, but for room.
fn unawaited(report: &mut Report) -> Result<(), String> {
    let shape = Shape {
        pending: usize::MAX,
        ..Shape::durable(1, 128)
    };
    let load = "submit without waiting, 1 x 128 B";
    if skipped(report, load) {
        return Ok(());
    }
    let bench = Bench {
        load: load.to_owned(),
        subjects: feeds(&log(WAL), shape)?,
    };
    report.measure(bench)
}

/// The words behind `--only` choose loads by what their names contain.
fn skipped(report: &mut Report, load: &str) -> bool {
    let mut args = std::env::args().skip_while(|arg| arg != "--only").skip(1);
    let skipped = args.next().is_some_and(|only| !load.contains(&only));
    if skipped {
        report.note(format!("{load} is left out, as asked"));
    }
    skipped
}

fn log(name: &str) -> Vec<LogKind> {
    let mut all = logs();
    all.retain(|kind| kind.name == name);
    all
}

/// The peers, the log, and what else has such a role.
fn kinds(roles: &[Role]) -> Vec<LogKind> {
    let mut kinds = log(WAL);
    if roles.contains(&Role::Device) {
        kinds.extend(log("raw device"));
    }
    kinds.extend(wal_peers());
    kinds
}

fn feeds(kinds: &[LogKind], shape: Shape) -> Result<Vec<Box<dyn Subject>>, String> {
    let feed = |kind| Ok(Box::new(Feed::new(kind, shape)?) as Box<dyn Subject>);
    kinds.iter().map(feed).collect()
}

fn measure(report: &mut Report, load: &str, shape: Shape, wanted: &[Wanted]) -> Result<(), String> {
    measure_as(report.plan(), report, load, shape, wanted)
}

fn measure_as(
    plan: Plan,
    report: &mut Report,
    load: &str,
    shape: Shape,
    wanted: &[Wanted],
) -> Result<(), String> {
    if skipped(report, load) {
        return Ok(());
    }
    let bench = Bench {
        load: load.to_owned(),
        subjects: feeds(&kinds(&[Role::Ours, Role::Device]), shape)?,
    };
    report.measure_as(plan, bench, wanted)
}
