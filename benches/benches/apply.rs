//! What a state store costs: batches of puts, durable each or not, and reads beside.
#![forbid(unsafe_code)]

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use raftwerk_benches::state::{Apply, Keys, Order, Reads, StateKind, StateTarget, fill, states};
use raftwerk_benches::{Bench, Mode, Report, Subject, Wanted, bench_folder, bench_main, scratch};
use tempfile::TempDir;

const VALUE_BYTES: usize = 128;
/// How stores are filled.
const FILL_BATCH: u64 = 4096;
/// The keys of a full run's second half.
const MANY: u64 = 10_000_000;
/// How that is filled.
const MANY_BATCH: u64 = 1 << 15;
/// Behind what the filling applied.
const FIRST_INDEX: u64 = 1 << 32;
/// What a backend keeps of its engine where batches are large.
const WANTED: &[Wanted] = &[
    Wanted::times("redb", &["bare redb"], 0.9),
    Wanted::times("rocksdb", &["bare rocksdb"], 0.9),
];

fn main() -> ExitCode {
    bench_main("apply", run)
}

fn run(report: &mut Report) -> Result<(), String> {
    let mode = report.plan().mode;
    if std::env::args().any(|argument| argument == "--build") {
        return many(report).map(drop);
    }
    let present = report.plan().pick(1_000, 100_000, 100_000);
    let mut stores = Vec::new();
    for kind in states() {
        stores.push(small(&kind, present)?);
    }
    measure(report, &stores, present)?;
    drop(stores);
    if mode == Mode::Full {
        let stores = many(report)?;
        measure(report, &stores, MANY)?;
    }
    Ok(())
}

/// The stores of many keys, which `--build` builds alone.
fn many(report: &mut Report) -> Result<Vec<Filled>, String> {
    let mut stores = Vec::new();
    for kind in states() {
        if kind.durable {
            let start = Instant::now();
            stores.push(large(&kind, MANY)?);
            let seconds = start.elapsed().as_secs_f64();
            report.say("10 M keys, built or opened", kind.name, "s", seconds);
        } else {
            report.note(format!("{} is not asked to hold {MANY} keys", kind.name));
        }
    }
    Ok(stores)
}

/// A filled store.
struct Filled {
    name: &'static str,
    store: Box<dyn StateTarget>,
    _folder: Option<TempDir>,
}

/// One that goes when it has been measured.
fn small(kind: &StateKind, present: u64) -> Result<Filled, String> {
    let folder = scratch()?;
    let store = (kind.open)(folder.path())?;
    fill(store.as_ref(), Keys::new(present, VALUE_BYTES), FILL_BATCH)?;
    Ok(Filled {
        name: kind.name,
        store,
        _folder: Some(folder),
    })
}

/// One that is built once and stays in `target/bench/data`.
fn large(kind: &StateKind, present: u64) -> Result<Filled, String> {
    let name = format!("{}-{present}", kind.name.replace(' ', "-"));
    let folder = bench_folder().join("data").join(name);
    let whole = folder.join("whole");
    let io = |error: std::io::Error| format!("{}: {error}", folder.display());
    if !whole.exists() && folder.exists() {
        fs::remove_dir_all(&folder).map_err(io)?;
    }
    fs::create_dir_all(&folder).map_err(io)?;
    let store = (kind.open)(&folder)?;
    if !whole.exists() {
        println!("building {}, once", folder.display());
        fill(store.as_ref(), Keys::new(present, VALUE_BYTES), MANY_BATCH)?;
        fs::write(&whole, "").map_err(io)?;
    }
    Ok(Filled {
        name: kind.name,
        store,
        _folder: None,
    })
}

fn measure(report: &mut Report, stores: &[Filled], present: u64) -> Result<(), String> {
    let keys = Keys::new(present, VALUE_BYTES);
    let of = format!("of {} k", present / 1000);
    let batches: &[u64] = match report.plan().mode {
        Mode::Full => &[1, 64, 1024],
        Mode::Quick | Mode::Test => &[1, 1024],
    };
    for (order, word) in [(Order::Random, "random"), (Order::Ascending, "ascending")] {
        for &batch in batches {
            for (persist, then) in [(false, ""), (true, ", persist")] {
                let apply = |filled| apply(filled, &keys, order, batch, persist);
                let bench = Bench {
                    load: format!("{batch} x {word} {of}{then}"),
                    subjects: stores.iter().map(apply).collect(),
                };
                let wanted = if batch == 1024 { WANTED } else { &[] };
                report.measure_wanted(bench, wanted)?;
            }
        }
    }
    for (scan, what) in [(1, "point reads"), (100, "scans of 100")] {
        let reads = |filled| reads(filled, &keys, scan);
        report.measure(Bench {
            load: format!("{what}, {of}"),
            subjects: stores.iter().map(reads).collect(),
        })?;
    }
    Ok(())
}

fn apply<'a>(
    filled: &'a Filled,
    keys: &Keys,
    order: Order,
    batch: u64,
    persist: bool,
) -> Box<dyn Subject + 'a> {
    Box::new(Apply {
        name: filled.name,
        store: filled.store.as_ref(),
        keys: keys.clone(),
        order,
        batch,
        persist,
        index: FIRST_INDEX,
    })
}

fn reads<'a>(filled: &'a Filled, keys: &Keys, scan: u64) -> Box<dyn Subject + 'a> {
    Box::new(Reads {
        name: filled.name,
        store: filled.store.as_ref(),
        keys: keys.clone(),
        scan,
    })
}
