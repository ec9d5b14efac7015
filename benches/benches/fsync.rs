//! What durable appends cost when several wait at once: rate, latency, syncs for each entry.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use raftwerk_benches::log::{Feed, REDB_THREADS, ROCKSDB_THREADS, Shape, gathered_logs, logs};
use raftwerk_benches::{Bench, Report, Subject, Wanted, bench_main, wal_before_backends};

const ENTRY_BYTES: usize = 128;
/// What a backend keeps of its engine: a lone writer, and many.
const LONE: f64 = 0.9;
const MANY: f64 = 0.8;

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
    let mut kinds = logs();
    let apart = shape.writers > 1 && !shape.one_thread;
    if apart {
        kinds.extend(gathered_logs());
    }
    let feed = |kind| Ok(Box::new(Feed::new(kind, shape)?) as Box<dyn Subject>);
    let subjects = kinds.iter().map(feed).collect::<Result<_, String>>()?;
    let (redb, rocksdb): (&[&str], &[&str]) = match apart {
        true => (&[REDB_THREADS], &[ROCKSDB_THREADS]),
        false => (&["bare redb"], &["bare rocksdb"]),
    };
    let times = if shape.writers == 1 { LONE } else { MANY };
    let mut wanted = vec![
        Wanted::times("redb", redb, times),
        Wanted::times("rocksdb", rocksdb, times),
    ];
    wanted.extend(wal_before_backends());
    report.measure_wanted(Bench { load, subjects }, &wanted)
}
