//! What a log or a store takes: bytes to the disk for each byte given, space, memory, and the time
//! to open after the process was ended without closing anything. Each in a process of its own.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use raftwerk_benches::child::{Memory, bench_main_with_children, run_child, tell};
use raftwerk_benches::log::{Feed, LogKind, Role, Shape, logs};
use raftwerk_benches::state::{Keys, Order, StateKind, fill, states};
use raftwerk_benches::{Cost, Payloads, Plan, Quartiles, Report, allocated_bytes, scratch};

const MIB: u64 = 1 << 20;
const VALUE_BYTES: usize = 128;
const KEY_BYTES: u64 = 16;
/// The groups of a log.
const WRITERS: u64 = 16;
/// Puts of a batch, and batches from one persist to the next.
const PUTS: u64 = 64;
const BATCHES_A_PERSIST: u64 = 16;

fn main() -> ExitCode {
    bench_main_with_children("footprint", run, child)
}

/// How much is given.
struct Sizes {
    churn_bytes: u64,
    put_bytes: u64,
    open_bytes: u64,
    keys: u64,
    rounds: u32,
}

impl Sizes {
    fn of(plan: &Plan) -> Self {
        Self {
            churn_bytes: plan.pick(MIB / 4, 16 * MIB, 128 * MIB),
            put_bytes: plan.pick(MIB / 4, 8 * MIB, 64 * MIB),
            open_bytes: plan.pick(MIB / 4, 32 * MIB, 256 * MIB),
            keys: plan.pick(1_000, 100_000, 1_000_000),
            rounds: plan.pick(1, 1, 2),
        }
    }
}

fn run(report: &mut Report) -> Result<(), String> {
    let sizes = Sizes::of(&report.plan());
    report.note(
        "Opening finds the files in the page cache. Bytes to the disk are those that the kernel \
         counts for the process; the file system's own journal is not in them.",
    );
    let churn = format!(
        "log, {} MiB given, old entries compacted",
        sizes.churn_bytes / MIB
    );
    let open = format!("log of {} MiB", sizes.open_bytes / MIB);
    let state = format!(
        "state of {} k keys, {} MiB of random puts",
        sizes.keys / 1000,
        sizes.put_bytes / MIB
    );
    let mut found = Found::default();
    for _ in 0..sizes.rounds {
        for kind in logs().iter().filter(|kind| kind.role != Role::Device) {
            found.log(kind, &sizes, &churn, &open)?;
        }
        for kind in &states() {
            found.state(kind, &sizes, &state)?;
        }
    }
    for ((load, unit, subject), values) in found.0 {
        if let Some(quartiles) = Quartiles::of(&values) {
            report.say(&load, &subject, &unit, quartiles.median);
        }
    }
    Ok(())
}

/// Figures of all rounds, by load, unit and subject, in order of their first.
#[derive(Default)]
struct Found(Vec<((String, String, String), Vec<f64>)>);

impl Found {
    fn log(
        &mut self,
        kind: &LogKind,
        sizes: &Sizes,
        churn: &str,
        open: &str,
    ) -> Result<(), String> {
        let folder = scratch()?;
        let bytes = sizes.churn_bytes.to_string();
        self.child(churn, "log-churn", kind.name, folder.path(), &bytes)?;
        if kind.durable {
            let folder = scratch()?;
            let bytes = sizes.open_bytes.to_string();
            self.child(open, "log-fill", kind.name, folder.path(), &bytes)?;
            self.child(open, "log-open", kind.name, folder.path(), &bytes)?;
        }
        Ok(())
    }

    fn state(&mut self, kind: &StateKind, sizes: &Sizes, load: &str) -> Result<(), String> {
        let folder = scratch()?;
        let size = format!("{} {}", sizes.keys, sizes.put_bytes);
        self.child(load, "state-churn", kind.name, folder.path(), &size)?;
        if kind.durable {
            self.child(load, "state-open", kind.name, folder.path(), &size)?;
        }
        Ok(())
    }

    fn child(
        &mut self,
        load: &str,
        task: &str,
        subject: &str,
        folder: &Path,
        size: &str,
    ) -> Result<(), String> {
        let folder = folder.to_str().ok_or("a path that is no text")?;
        for (unit, value) in run_child(&[task, subject, folder, size])? {
            let key = (load.to_owned(), unit, subject.to_owned());
            match self.0.iter_mut().find(|(found, _)| *found == key) {
                Some((_, values)) => values.push(value),
                None => self.0.push((key, vec![value])),
            }
        }
        // Subjects of one load and unit stand together.
        self.0
            .sort_by(|(a, _), (b, _)| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        Ok(())
    }
}

fn child(words: &[&str]) -> Result<(), String> {
    let [task, name, folder, size] = words else {
        return Err("four words are needed".to_owned());
    };
    let folder = Path::new(folder);
    let sizes: Vec<u64> = size.split(' ').filter_map(|n| n.parse().ok()).collect();
    let log = || logs().into_iter().find(|kind| kind.name == *name);
    let state = || states().into_iter().find(|kind| kind.name == *name);
    match (*task, sizes.as_slice()) {
        ("log-churn", [bytes]) => log_churn(&log().ok_or("no such log")?, folder, *bytes),
        ("log-fill", [bytes]) => log_fill(&log().ok_or("no such log")?, folder, *bytes),
        ("log-open", [_]) => log_open(&log().ok_or("no such log")?, folder),
        ("state-churn", [keys, bytes]) => {
            state_churn(&state().ok_or("no such store")?, folder, *keys, *bytes)
        }
        ("state-open", [keys, _]) => state_open(&state().ok_or("no such store")?, folder, *keys),
        _ => Err("no such task".to_owned()),
    }
}

fn log_churn(kind: &LogKind, folder: &Path, bytes: u64) -> Result<(), String> {
    let shape = Shape {
        batch: 16,
        ..Shape::durable(WRITERS, 256)
    };
    // The pool of payloads is not the log's.
    Payloads::new(1).cut();
    let (cost, memory) = (Cost::now(), Memory::now());
    let mut feed = Feed::in_folder(kind, shape, folder)?;
    let given = feed.give(bytes)?;
    costs(kind.durable, given, cost, memory);
    if kind.durable {
        tell(
            "bytes kept / byte wanted",
            ratio(allocated_bytes(folder), feed.live_bytes()),
        );
    }
    finish(feed)
}

/// Ends the process with everything still open.
fn finish<T>(open: T) -> Result<(), String> {
    std::mem::forget(open);
    Ok(())
}

fn costs(durable: bool, given: u64, cost: Cost, memory: Memory) {
    if durable {
        let spent = Cost::now().since(cost);
        tell("bytes to disk / byte given", ratio(spent.disk_bytes, given));
    }
    let grown = Memory::now().peak.saturating_sub(memory.resident);
    tell("memory, MiB at most", ratio(grown, MIB));
}

fn ratio(amount: u64, unit: u64) -> f64 {
    amount as f64 / unit.max(1) as f64
}

fn log_fill(kind: &LogKind, folder: &Path, bytes: u64) -> Result<(), String> {
    let shape = Shape {
        batch: 16,
        compact: false,
        ..Shape::durable(WRITERS, 1024)
    };
    let mut feed = Feed::in_folder(kind, shape, folder)?;
    feed.give(bytes)?;
    finish(feed)
}

fn log_open(kind: &LogKind, folder: &Path) -> Result<(), String> {
    let memory = Memory::now();
    let start = Instant::now();
    let log = (kind.open)(folder)?;
    for group in 1..=WRITERS {
        log.read(group, 1, 1)?;
    }
    tell("open after a kill, ms", start.elapsed().as_secs_f64() * 1e3);
    let grown = Memory::now().peak.saturating_sub(memory.resident);
    tell("memory once open, MiB", ratio(grown, MIB));
    finish(log)
}

fn state_churn(kind: &StateKind, folder: &Path, present: u64, bytes: u64) -> Result<(), String> {
    let mut keys = Keys::new(present, VALUE_BYTES);
    keys.batch(Order::Random, 1);
    let memory = Memory::now();
    let store = (kind.open)(folder)?;
    fill(store.as_ref(), keys.clone(), 4096)?;
    let cost = Cost::now();
    let put_bytes = KEY_BYTES + VALUE_BYTES as u64;
    let batches = (bytes / (PUTS * put_bytes)).max(1);
    for batch in 1..=batches {
        store.write(keys.batch(Order::Random, PUTS), (1 << 32) + batch)?;
        if batch.is_multiple_of(BATCHES_A_PERSIST) {
            store.persist()?;
        }
    }
    store.persist()?;
    costs(kind.durable, batches * PUTS * put_bytes, cost, memory);
    if kind.durable {
        tell(
            "bytes kept / byte wanted",
            ratio(allocated_bytes(folder), present * put_bytes),
        );
    }
    finish(store)
}

fn state_open(kind: &StateKind, folder: &Path, present: u64) -> Result<(), String> {
    let keys = Keys::new(present, VALUE_BYTES);
    let memory = Memory::now();
    let start = Instant::now();
    let store = (kind.open)(folder)?;
    let found = store.get(&keys.key(present / 2))?;
    tell("open after a kill, ms", start.elapsed().as_secs_f64() * 1e3);
    let grown = Memory::now().peak.saturating_sub(memory.resident);
    tell("memory once open, MiB", ratio(grown, MIB));
    if found.is_none() {
        return Err("a key is gone".to_owned());
    }
    finish(store)
}
