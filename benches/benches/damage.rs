//! What a log makes of a disk that rots: the same attack on raft-engine and on `raftwerk-wal`, both
//! with every byte synced and closed in good order. Counts what each did; no time counts.
//! `docs/damage.md` says what the words mean.
//!
//! `cargo bench -p raftwerk-benches --features peers --bench damage -- --all`
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize, RecoveryMode};
use raftwerk_benches::{Mode, Report, bench_main};
use raftwerk_raft::{
    Entry, GroupId, GroupWrite, LogId, LogIndex, SnapshotMeta, Storage, SubmitError, Term,
    WriteBatch,
};
use raftwerk_storage::vfs::RealVfs;
use raftwerk_wal::{Background, Options, Prepared, Wal, Written};

const FILES: usize = 16;
const FILE_BYTES: u64 = 4096;
const SECTOR: usize = 512;
const GROUP: u64 = 1;
/// How many of the reasons are printed.
const REASONS: usize = 3;
/// How many damages are judged at the same time.
const THREADS: usize = 2;
/// How many one of these takes at once.
const AT_ONCE: usize = 64;
/// How many are between two lines that tell how far it is.
const TELL_EVERY: usize = 20_000;

/// What entry `index` carries.
fn payload(index: u64) -> Vec<u8> {
    let len = 40 + index * 37 % 110;
    (0..len)
        .map(|at| (index * 131 + at * 7 + 1).to_le_bytes()[0])
        .collect()
}

/// What a log says of an entry that it acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Bytes(Vec<u8>),
    /// It is lost, and the log knows.
    Lost,
    /// There is no such entry.
    Nothing,
}

/// What a log made of a damage, the worse the further down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Intact,
    Named,
    Refused,
    Shorter,
    WrongBytes,
    Panicked,
}

const OUTCOMES: [(Outcome, &str); 6] = [
    (Outcome::Intact, "intact"),
    (Outcome::Named, "named"),
    (Outcome::Refused, "refused"),
    (Outcome::Shorter, "silently shorter"),
    (Outcome::WrongBytes, "wrong bytes"),
    (Outcome::Panicked, "panicked"),
];

/// A log that can be written, and read again.
trait Subject: Sync {
    fn name(&self) -> String;
    /// Writes entries, one by one, each durable, until there are `FILES` files; drops them all and
    /// calls `turned`; writes as many again into the same files. Which are there then.
    fn write(&self, dir: &Path, turned: &mut dyn FnMut()) -> RangeInclusive<u64>;
    /// Opens it and reads.
    fn read(&self, dir: &Path, held: RangeInclusive<u64>) -> Result<Vec<Said>, String>;
}

#[derive(Clone)]
struct Indexed;

impl MessageExt for Indexed {
    type Entry = BytesValue;

    fn index(entry: &Self::Entry) -> u64 {
        let index = entry.get_value().first_chunk();
        index.map_or(0, |index| u64::from_le_bytes(*index))
    }
}

struct Theirs(RecoveryMode);

impl Theirs {
    fn open(&self, dir: &Path) -> Result<Engine, String> {
        let config = Config {
            dir: dir.to_str().unwrap().to_owned(),
            recovery_mode: self.0,
            recovery_threads: 1,
            target_file_size: ReadableSize(FILE_BYTES),
            // So that all files are used again.
            purge_threshold: ReadableSize(FILE_BYTES * (FILES as u64 - 2)),
            enable_log_recycle: true,
            batch_compression_threshold: ReadableSize(0),
            ..Config::default()
        };
        Engine::open(config).map_err(|error| error.to_string())
    }

    fn append(engine: &Engine, index: u64) {
        let mut entry = BytesValue::new();
        entry.set_value([index.to_le_bytes().to_vec(), payload(index)].concat());
        let mut batch = LogBatch::default();
        batch.add_entries::<Indexed>(GROUP, &[entry]).unwrap();
        engine.write(&mut batch, true).unwrap();
    }
}

impl Subject for Theirs {
    fn name(&self) -> String {
        format!("raft-engine, {:?}", self.0)
    }

    fn write(&self, dir: &Path, turned: &mut dyn FnMut()) -> RangeInclusive<u64> {
        let engine = self.open(dir).unwrap();
        let mut last = 0;
        while segments(dir) < FILES {
            last += 1;
            Self::append(&engine, last);
        }
        turned();
        engine.compact_to(GROUP, last + 1);
        engine.purge_expired_files().unwrap();
        let first = last + 1;
        for index in first..=2 * last {
            Self::append(&engine, index);
        }
        first..=2 * last
    }

    fn read(&self, dir: &Path, held: RangeInclusive<u64>) -> Result<Vec<Said>, String> {
        let engine = self.open(dir)?;
        let one = |index| match engine.get_entry::<Indexed>(GROUP, index) {
            Ok(Some(entry)) => Said::Bytes(entry.get_value().get(8..).unwrap_or_default().to_vec()),
            Ok(None) => Said::Nothing,
            Err(_) => Said::Lost,
        };
        Ok(held.map(one).collect())
    }
}

struct Ours;

impl Ours {
    fn open(dir: &Path) -> Result<Wal, String> {
        let options = Options {
            segment_bytes: FILE_BYTES,
            batch_bytes_max: 1200,
            page_bytes: 512,
            background: Background::Manual,
            ..Options::default()
        };
        Wal::open(Arc::new(RealVfs), dir, options).map_err(|error| error.to_string())
    }

    fn submit(wal: &Wal, write: GroupWrite) {
        let mut batch = WriteBatch {
            groups: vec![write],
            ..WriteBatch::default()
        };
        let ticket = loop {
            match wal.submit(batch) {
                Err(SubmitError::Full(back)) => batch = back,
                taken => break taken.unwrap(),
            }
            // What is on its way to a newer segment may wait to be written.
            Self::settle(wal);
        };
        wal.wait(ticket).unwrap();
    }

    fn append(wal: &Wal, index: u64) {
        let write = GroupWrite {
            group: GroupId(GROUP),
            append: vec![Entry::normal(id(index), payload(index).into())],
            ..GroupWrite::default()
        };
        Self::submit(wal, write);
    }

    fn settle(wal: &Wal) {
        while wal.step_writer() != Written::Idle {}
        while wal.step_preparer() == Prepared::Progress {}
    }
}

const fn id(index: u64) -> LogId {
    LogId::new(Term(1), LogIndex(index))
}

impl Subject for Ours {
    fn name(&self) -> String {
        "raftwerk-wal".to_owned()
    }

    fn write(&self, dir: &Path, turned: &mut dyn FnMut()) -> RangeInclusive<u64> {
        let wal = Self::open(dir).unwrap();
        let mut last = 0;
        while segments(dir) < FILES {
            last += 1;
            Self::append(&wal, last);
        }
        turned();
        let drop_all = GroupWrite {
            group: GroupId(GROUP),
            snapshot: Some(SnapshotMeta {
                last: id(last),
                ..SnapshotMeta::default()
            }),
            compact_to: Some(LogIndex(last)),
            ..GroupWrite::default()
        };
        Self::submit(&wal, drop_all);
        Self::settle(&wal);
        let first = last + 1;
        for index in first..=2 * last {
            Self::append(&wal, index);
        }
        Self::settle(&wal);
        first..=2 * last
    }

    fn read(&self, dir: &Path, held: RangeInclusive<u64>) -> Result<Vec<Said>, String> {
        let wal = Self::open(dir)?;
        let open = wal
            .open_group(GroupId(GROUP))
            .map_err(|error| error.to_string())?;
        let known = !open.state.health.is_intact();
        let one = |index| {
            let range = LogIndex(index)..LogIndex(index + 1);
            match open.log.read(range, u64::MAX).as_deref() {
                Ok([entry]) => Said::Bytes(entry.data.to_vec()),
                Err(raftwerk_raft::LogError::Faulty { .. }) => Said::Lost,
                _ if known => Said::Lost,
                _ => Said::Nothing,
            }
        };
        Ok(held.map(one).collect())
    }
}

fn segments(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| is_segment(name)).count()
}

fn is_segment(name: &str) -> bool {
    name.starts_with("segment-") || name.ends_with(".raftlog")
}

/// Names and contents.
type Files = Vec<(String, Vec<u8>)>;

fn files(dir: &Path) -> Files {
    let file = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    };
    let entries = fs::read_dir(dir).unwrap();
    let mut files: Files = entries.map(|entry| file(entry.unwrap())).collect();
    files.sort();
    files
}

/// How much of the attack is made: one of so many.
#[derive(Clone, Copy)]
struct Strides {
    bits: usize,
    pairs: usize,
}

impl fmt::Display for Strides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bits, pairs } = self;
        write!(f, "one of {bits} bits, one of {pairs} pairs of sectors")
    }
}

/// Where a sector stands: the file's place and the sector's.
type At = (usize, usize);

/// Other sectors in their places.
struct Damage {
    what: &'static str,
    others: Vec<(At, Vec<u8>)>,
}

/// What became of the damages.
#[derive(Default)]
struct Counts {
    outcomes: BTreeMap<&'static str, BTreeMap<Outcome, u64>>,
    /// Why it was refused, with every digit as `0`, and how often.
    reasons: BTreeMap<String, u64>,
    done: usize,
    /// How many were done when it was told last.
    told: usize,
}

/// A whole log, and where it can be hurt.
struct Victim<'a> {
    subject: &'a dyn Subject,
    held: RangeInclusive<u64>,
    whole: Files,
    /// What the log's segments held before it began anew.
    earlier: Files,
    /// All sectors of segments.
    sectors: Vec<At>,
    place: PathBuf,
}

impl<'a> Victim<'a> {
    fn make(subject: &'a dyn Subject, place: PathBuf) -> Self {
        let origin = place.join("origin");
        fs::create_dir_all(&origin).unwrap();
        let mut earlier = Vec::new();
        let held = subject.write(&origin, &mut || earlier = files(&origin));
        earlier.retain(|(name, _)| is_segment(name));
        let whole = files(&origin);
        let sectors = (0..whole.len())
            .filter(|file| is_segment(&whole[*file].0))
            .flat_map(|file| (0..whole[file].1.len() / SECTOR).map(move |at| (file, at)))
            .collect();
        Self {
            subject,
            held,
            whole,
            earlier,
            sectors,
            place,
        }
    }

    fn sector(&self, (file, sector): At) -> &[u8] {
        &self.whole[file].1[sector * SECTOR..][..SECTOR]
    }

    /// Every damage that changes something.
    fn damages(&self, strides: Strides) -> impl Iterator<Item = Damage> + '_ {
        let one = |what, at, other: &[u8]| Damage {
            what,
            others: vec![(at, other.to_vec())],
        };
        let zeroed = move |at| one("sector zeroed", at, &[0; SECTOR]);
        let stale = move |at: At| {
            let before = self.earlier.iter();
            let before = before.filter_map(move |(_, bytes)| bytes.chunks_exact(SECTOR).nth(at.1));
            before.map(move |old| one("sector of an earlier life", at, old))
        };
        let sectors = self.sectors.iter().copied();
        let sectors = sectors.flat_map(move |at| std::iter::once(zeroed(at)).chain(stale(at)));
        let pairs = self.sectors.iter().enumerate().flat_map(|(number, first)| {
            let others = self.sectors[number + 1..].iter();
            others.map(move |second| (*first, *second))
        });
        let pairs = pairs.skip(strides.pairs - 1).step_by(strides.pairs);
        let swapped = pairs.map(|(first, second)| Damage {
            what: "two sectors swapped",
            others: vec![
                (first, self.sector(second).to_vec()),
                (second, self.sector(first).to_vec()),
            ],
        });
        let bits = (0..self.sectors.len() * SECTOR * 8).step_by(strides.bits);
        let flipped = bits.map(move |bit| {
            let at = self.sectors[bit / 8 / SECTOR];
            let mut flipped = self.sector(at).to_vec();
            flipped[bit / 8 % SECTOR] ^= 1 << (bit % 8);
            one("bit flipped", at, &flipped)
        });
        let changes = |damage: &Damage| {
            let mut others = damage.others.iter();
            others.any(|(at, bytes)| self.sector(*at) != *bytes)
        };
        sectors.chain(swapped).chain(flipped).filter(changes)
    }

    /// Counts what the log makes of each damage, on so many threads.
    fn attack(&self, strides: Strides) -> Counts {
        let total = self.damages(strides).count();
        let damages = Mutex::new(self.damages(strides));
        let counts = Mutex::new(Counts::default());
        let start = Instant::now();
        std::thread::scope(|scope| {
            for number in 0..THREADS {
                let dir = self.place.join(format!("attacked-{number}"));
                let (damages, counts) = (&damages, &counts);
                scope.spawn(move || {
                    loop {
                        let some: Vec<_> = damages.lock().by_ref().take(AT_ONCE).collect();
                        if some.is_empty() {
                            return;
                        }
                        for damage in some {
                            let outcome = self.put(&dir, &damage.others);
                            counts.lock().add(damage.what, outcome);
                        }
                        self.progress(&mut counts.lock(), total, start);
                    }
                });
            }
        });
        counts.into_inner()
    }

    /// Says how far it is, every now and then.
    fn progress(&self, counts: &mut Counts, total: usize, start: Instant) {
        if counts.done < total && counts.done < counts.told + TELL_EVERY {
            return;
        }
        counts.told = counts.done;
        let (name, seconds) = (self.subject.name(), start.elapsed().as_secs_f64());
        eprintln!(
            "{name}: {} of {total} damages in {seconds:.0} s",
            counts.done
        );
    }

    /// What the log makes of other sectors in their places.
    fn put(&self, dir: &Path, others: &[(At, Vec<u8>)]) -> (Outcome, Option<String>) {
        self.restore(dir);
        for ((place, sector), other) in others {
            let (name, _) = &self.whole[*place];
            let file = OpenOptions::new().write(true).open(dir.join(name));
            let offset = (sector * SECTOR) as u64;
            file.unwrap().write_all_at(other, offset).unwrap();
        }
        self.judge(dir)
    }

    /// Makes the folder what it was before anything was damaged. Most files still are: to look is
    /// cheaper than to write them all again.
    fn restore(&self, dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let known = |(name, _): &(String, Vec<u8>)| entry.file_name() == name.as_str();
            if !self.whole.iter().any(known) {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        for (name, whole) in &self.whole {
            let path = dir.join(name);
            if fs::read(&path).is_ok_and(|bytes| bytes == *whole) {
                continue;
            }
            fs::write(path, whole).unwrap();
        }
    }

    fn judge(&self, dir: &Path) -> (Outcome, Option<String>) {
        let read = || self.subject.read(dir, self.held.clone());
        let said = match catch_unwind(AssertUnwindSafe(read)) {
            Err(_) => return (Outcome::Panicked, None),
            Ok(Err(reason)) => {
                let alike = reason.replace(dir.to_str().unwrap(), "");
                let alike = alike.replace(|letter: char| letter.is_ascii_digit(), "0");
                return (Outcome::Refused, Some(alike));
            }
            Ok(Ok(said)) => said,
        };
        let one = |(index, said): (u64, Said)| match said {
            Said::Bytes(bytes) if bytes == payload(index) => Outcome::Intact,
            Said::Bytes(_) => Outcome::WrongBytes,
            Said::Lost => Outcome::Named,
            Said::Nothing => Outcome::Shorter,
        };
        let each = self.held.clone().zip(said).map(one);
        (each.max().unwrap_or(Outcome::Intact), None)
    }

    /// Prints the counts, and why it was refused most often.
    fn tell(&self, counts: &Counts, report: &mut Report) {
        let name = self.subject.name();
        let (count, sectors) = (self.held.clone().count(), self.sectors.len());
        println!("\n{name}: {count} entries, {sectors} sectors");
        let heads = OUTCOMES.map(|(_, word)| format!("{word:>18}"));
        println!("{:<28}{:>10}{}", "", "damages", heads.concat());
        for (what, counts) in &counts.outcomes {
            let total: u64 = counts.values().sum();
            let count = |outcome: &Outcome| counts.get(outcome).copied().unwrap_or(0);
            let cells = OUTCOMES.map(|(outcome, _)| format!("{:>18}", count(&outcome)));
            println!("{what:<28}{total:>10}{}", cells.concat());
            for (outcome, word) in OUTCOMES {
                report.row(what, &name, word, count(&outcome) as f64);
            }
        }
        let mut reasons: Vec<_> = counts.reasons.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (reason, count) in reasons.iter().take(REASONS) {
            println!("  refused {count} times: {reason}");
        }
    }
}

impl Counts {
    fn add(&mut self, what: &'static str, (outcome, reason): (Outcome, Option<String>)) {
        *self
            .outcomes
            .entry(what)
            .or_default()
            .entry(outcome)
            .or_default() += 1;
        if let Some(reason) = reason {
            *self.reasons.entry(reason).or_default() += 1;
        }
        self.done += 1;
    }
}

fn main() -> ExitCode {
    bench_main("damage", run)
}

fn run(report: &mut Report) -> Result<(), String> {
    let plan = report.plan();
    let all = std::env::args().any(|argument| argument == "--all");
    // Primes, so that they come to all bits of all sorts of bytes; one of seven is one or two of
    // every byte.
    let usual = Strides {
        bits: plan.pick(50_021, 1_009, 127),
        pairs: plan.pick(1, 29, 3),
    };
    let most = match all {
        true => Strides { bits: 7, pairs: 1 },
        false => usual,
    };
    report.note(format!("{most}, all sectors; counts, no time"));
    if all {
        report.note(format!("of raft-engine's other modes {usual}"));
    }
    std::panic::set_hook(Box::new(|_| ()));
    let memory = Path::new("/dev/shm");
    let place = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    let place = place.map_err(|error| error.to_string())?;
    let subjects: [&dyn Subject; 4] = [
        &Ours,
        &Theirs(RecoveryMode::TolerateTailCorruption),
        &Theirs(RecoveryMode::AbsoluteConsistency),
        &Theirs(RecoveryMode::TolerateAnyCorruption),
    ];
    for (number, subject) in subjects.into_iter().enumerate() {
        let mut victim = Victim::make(subject, place.path().join(number.to_string()));
        if plan.mode == Mode::Test {
            victim.sectors.truncate(4);
        }
        let counts = victim.attack(if number < 2 { most } else { usual });
        victim.tell(&counts, report);
    }
    Ok(())
}
