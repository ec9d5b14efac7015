//! What a log of many groups costs to open, to hold and to read, beside its peer: the same entries
//! in both, opened in processes of their own, read in turns in one.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use raftwerk_benches::child::{Memory, bench_main_with_children, run_child, tell};
use raftwerk_benches::log::{Append, LogKind, LogTarget, logs};
use raftwerk_benches::{
    Bench, Payloads, Plan, Quartiles, Random, Report, Slice, Subject, Wanted, allocated_bytes,
    repeat, scratch,
};

const MIB: f64 = 1_048_576.0;
const ENTRY_BYTES: usize = 128;
/// How many groups a batch has, and how many entries each.
const BATCH_GROUPS: u64 = 16;
const BATCH_ENTRIES: u64 = 16;
/// How many entries a follower is sent at once.
const WINDOW: u64 = 64;
/// How many groups have a tail in memory.
const TAIL_GROUPS: u64 = 64;
const WAL: &str = "wal";
const PEER: &str = "raft-engine";
const MS: &str = "ms";
const HELD: &str = "bytes of memory/entry";
/// What the log may hold in memory of an entry, in bytes.
const HELD_MAX: f64 = 1.0;

fn main() -> ExitCode {
    bench_main_with_children("wal_reads", run, child)
}

/// How much there is.
#[derive(Clone, Copy)]
struct Size {
    groups: u64,
    /// Of each group.
    entries: u64,
}

impl Size {
    fn of(plan: &Plan) -> Self {
        Self {
            groups: plan.pick(32, 256, 1_008),
            entries: plan.pick(128, 4_096, 6_992),
        }
    }

    const fn all(self) -> u64 {
        self.groups * self.entries
    }
}

/// Who is measured: the log first, that is, the ratios are to it.
fn kinds() -> Vec<LogKind> {
    let mut all = logs();
    all.retain(|kind| kind.name == WAL || kind.name == PEER);
    all
}

fn run(report: &mut Report) -> Result<(), String> {
    let size = Size::of(&report.plan());
    report.note(format!(
        "{} entries of {ENTRY_BYTES} B in {} groups, given {BATCH_ENTRIES} to each of \
         {BATCH_GROUPS} groups at a time. The page cache is warm: what a cold disk adds is not in \
         these figures.",
        size.all(),
        size.groups
    ));
    let mut filled = Vec::new();
    for kind in kinds() {
        let folder = scratch()?;
        start(&kind, "fill", folder.path(), size)?;
        let bytes = allocated_bytes(folder.path()) as f64;
        report.say("fill", kind.name, "MiB on the disk", bytes / MIB);
        filled.push((kind, folder));
    }
    open_in_turns(report, size, &filled)?;
    let mut opened = Vec::new();
    for (kind, folder) in &filled {
        let log = (kind.open)(folder.path())?;
        for groups in (1..=TAIL_GROUPS.min(size.groups))
            .collect::<Vec<_>>()
            .chunks(16)
        {
            let last = size.entries;
            log.append(
                &steps(groups, last + 1..last + 1 + WINDOW, &mut payloads()),
                true,
            )?;
        }
        opened.push((kind.name, log));
    }
    for load in [Load::Tail, Load::Cold, Load::Random] {
        let reader = |(name, log)| Reader {
            name,
            log,
            load,
            size,
            random: Random::new(7),
        };
        let readers = opened.iter().map(|(name, log)| (*name, log.as_ref()));
        let bench = Bench {
            load: load.name().to_owned(),
            subjects: readers
                .map(|one| Box::new(reader(one)) as Box<dyn Subject + '_>)
                .collect(),
        };
        let wanted = load.times().map(|times| Wanted::times(WAL, &[PEER], times));
        report.measure_wanted(bench, wanted.as_slice())?;
    }
    Ok(())
}

/// Opens each log in a process of its own, in turns.
fn open_in_turns(
    report: &mut Report,
    size: Size,
    filled: &[(LogKind, tempfile::TempDir)],
) -> Result<(), String> {
    let mut found: Vec<(&str, String, Vec<f64>)> = Vec::new();
    for _ in 0..report.plan().pick(1, 3, 5) {
        for (kind, folder) in filled {
            for (unit, value) in start(kind, "open", folder.path(), size)? {
                match found
                    .iter_mut()
                    .find(|(name, of, _)| *name == kind.name && *of == unit)
                {
                    Some((_, _, values)) => values.push(value),
                    None => found.push((kind.name, unit, vec![value])),
                }
            }
        }
    }
    let load = "open after a kill";
    for (name, unit, values) in &found {
        if let Some(quartiles) = Quartiles::of(values) {
            report.say(load, name, unit, quartiles.median);
        }
    }
    let values = |name, unit| {
        let mut all = found.iter();
        let found = all.find(|(of, figure, _)| *of == name && figure == unit);
        found.map_or(&[][..], |(_, _, values)| values)
    };
    let rounds = values(PEER, MS).iter().zip(values(WAL, MS));
    let ratios: Vec<f64> = rounds.map(|(theirs, ours)| theirs / ours).collect();
    if let Some(ratio) = Quartiles::of(&ratios) {
        report.verdict(load, &Wanted::times(WAL, &[PEER], 1.0), PEER, ratio);
    }
    if let Some(held) = Quartiles::of(values(WAL, HELD)) {
        report.at_most(load, WAL, HELD, held.median, HELD_MAX);
    }
    Ok(())
}

fn start(
    kind: &LogKind,
    task: &str,
    folder: &Path,
    size: Size,
) -> Result<Vec<(String, f64)>, String> {
    let folder = folder.to_str().ok_or("a path that is no text")?;
    let (groups, entries) = (size.groups.to_string(), size.entries.to_string());
    run_child(&[task, kind.name, folder, &groups, &entries])
}

fn child(words: &[&str]) -> Result<(), String> {
    let [task, name, folder, groups, entries] = words else {
        return Err("five words are needed".to_owned());
    };
    let kind = kinds().into_iter().find(|kind| kind.name == *name);
    let kind = kind.ok_or("no such log")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    let size = Size {
        groups: number(groups)?,
        entries: number(entries)?,
    };
    match *task {
        "fill" => fill(&kind, Path::new(folder), size),
        "open" => open(&kind, Path::new(folder), size),
        _ => Err("no such task".to_owned()),
    }
}

fn payloads() -> Payloads {
    Payloads::new(ENTRY_BYTES)
}

fn steps(groups: &[u64], indexes: Range<u64>, payloads: &mut Payloads) -> Vec<Append> {
    let step = |group: &u64| Append {
        group: *group,
        first: indexes.start,
        payloads: indexes.clone().map(|_| payloads.cut()).collect(),
        removed: None,
    };
    groups.iter().map(step).collect()
}

fn fill(kind: &LogKind, folder: &Path, size: Size) -> Result<(), String> {
    let log = (kind.open)(folder)?;
    let groups: Vec<u64> = (1..=size.groups).collect();
    let mut payloads = payloads();
    for first in (1..=size.entries).step_by(BATCH_ENTRIES as usize) {
        for groups in groups.chunks(BATCH_GROUPS as usize) {
            log.append(
                &steps(groups, first..first + BATCH_ENTRIES, &mut payloads),
                false,
            )?;
        }
    }
    log.settle()?;
    std::mem::forget(log);
    Ok(())
}

fn open(kind: &LogKind, folder: &Path, size: Size) -> Result<(), String> {
    let before = Memory::now();
    let start = Instant::now();
    let log = (kind.open)(folder)?;
    tell(MS, start.elapsed().as_secs_f64() * 1e3);
    let after = Memory::now();
    let grown = |bytes: u64| bytes.saturating_sub(before.resident) as f64;
    tell("MiB of memory at most", grown(after.peak) / MIB);
    let entries = size.all() as f64;
    let held = after.anonymous.saturating_sub(before.anonymous) as f64;
    tell(HELD, held / entries);
    let wanted = ENTRY_BYTES as u64;
    for group in [1, size.groups / 2, size.groups] {
        if log.read(group, size.entries, size.entries)? != wanted {
            return Err("an entry is gone".to_owned());
        }
    }
    std::mem::forget(log);
    Ok(())
}

#[derive(Clone, Copy)]
enum Load {
    Tail,
    Cold,
    Random,
}

impl Load {
    const fn name(self) -> &'static str {
        match self {
            Self::Tail => "tail, 64 entries",
            Self::Cold => "cold, 64 entries",
            Self::Random => "cold, one entry",
        }
    }

    /// How many times as fast as its peer the log is wanted.
    const fn times(self) -> Option<f64> {
        match self {
            Self::Tail => Some(3.0),
            Self::Cold => Some(1.5),
            Self::Random => None,
        }
    }
}

/// Somebody who reads.
struct Reader<'a> {
    name: &'static str,
    log: &'a dyn LogTarget,
    load: Load,
    size: Size,
    random: Random,
}

impl Reader<'_> {
    fn read(&mut self) -> Result<u64, String> {
        let Size { groups, entries } = self.size;
        let random = &mut self.random;
        let (group, first, count) = match self.load {
            Load::Tail => (random.below(groups.min(TAIL_GROUPS)), entries + 1, WINDOW),
            Load::Cold => (
                random.below(groups),
                1 + random.below(entries - WINDOW),
                WINDOW,
            ),
            Load::Random => (random.below(groups), 1 + random.below(entries), 1),
        };
        let bytes = self.log.read(group + 1, first, first + count - 1)?;
        if bytes != count * ENTRY_BYTES as u64 {
            return Err(format!("{bytes} bytes of {count} entries"));
        }
        Ok(count)
    }
}

impl Subject for Reader<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn slice(&mut self, length: Duration) -> Result<Slice, String> {
        repeat(length, || self.read())
    }
}
