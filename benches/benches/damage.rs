//! What a log makes of a disk that rots: the same attack on raft-engine and on `raftwerk-wal`, both
//! with every byte synced and closed in good order. Prints how often each did what; no time counts.
//!
//! `cargo bench -p raftwerk-benches --features peers --bench damage`
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize, RecoveryMode};
use raftwerk_raft::{
    Entry, GroupId, GroupWrite, LogId, LogIndex, Storage, SubmitError, Term, WriteBatch,
};
use raftwerk_storage::vfs::RealVfs;
use raftwerk_wal::{Background, Options, Prepared, Wal, Written};

const FILES: usize = 16;
const FILE_BYTES: u64 = 4096;
const SECTOR: usize = 512;
const GROUP: u64 = 1;
/// One bit of so many is flipped: prime, so that it comes to all bits of all sorts of bytes.
const BIT_STRIDE: usize = 61;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Intact,
    Named,
    Refused,
    SilentlyShorter,
    WrongBytes,
    Panicked,
}

/// A log that can be written, and read again.
trait Subject {
    fn name(&self) -> String;
    /// Writes entries, one by one, each durable, until there are `FILES` files. How many.
    fn write(&self, dir: &Path) -> u64;
    /// Opens it and reads entries 1 to `last`.
    fn read(&self, dir: &Path, last: u64) -> Result<Vec<Said>, String>;
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
            target_file_size: ReadableSize(FILE_BYTES),
            batch_compression_threshold: ReadableSize(0),
            ..Config::default()
        };
        Engine::open(config).map_err(|error| error.to_string())
    }
}

impl Subject for Theirs {
    fn name(&self) -> String {
        format!("raft-engine 0.4.2, {:?}", self.0)
    }

    fn write(&self, dir: &Path) -> u64 {
        let engine = self.open(dir).unwrap();
        let mut last = 0u64;
        while segments(dir) < FILES {
            last += 1;
            let mut entry = BytesValue::new();
            let bytes = [last.to_le_bytes().to_vec(), payload(last)].concat();
            entry.set_value(bytes);
            let mut batch = LogBatch::default();
            batch.add_entries::<Indexed>(GROUP, &[entry]).unwrap();
            engine.write(&mut batch, true).unwrap();
        }
        last
    }

    fn read(&self, dir: &Path, last: u64) -> Result<Vec<Said>, String> {
        let engine = self.open(dir)?;
        let one = |index| match engine.get_entry::<Indexed>(GROUP, index) {
            Ok(Some(entry)) => Said::Bytes(entry.get_value().get(8..).unwrap_or_default().to_vec()),
            Ok(None) => Said::Nothing,
            Err(_) => Said::Lost,
        };
        Ok((1..=last).map(one).collect())
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
}

impl Subject for Ours {
    fn name(&self) -> String {
        "raftwerk-wal".to_owned()
    }

    fn write(&self, dir: &Path) -> u64 {
        let wal = Self::open(dir).unwrap();
        let mut last = 0;
        while segments(dir) < FILES {
            last += 1;
            let id = LogId::new(Term(1), LogIndex(last));
            let write = GroupWrite {
                group: GroupId(GROUP),
                append: vec![Entry::normal(id, payload(last).into())],
                ..GroupWrite::default()
            };
            let mut batch = WriteBatch {
                groups: vec![write],
                ..WriteBatch::default()
            };
            let ticket = loop {
                match wal.submit(batch) {
                    Err(SubmitError::Full(back)) => batch = back,
                    taken => break taken.unwrap(),
                }
                while wal.step_preparer() == Prepared::Progress {}
            };
            wal.wait(ticket).unwrap();
        }
        while wal.step_writer() != Written::Idle {}
        last
    }

    fn read(&self, dir: &Path, last: u64) -> Result<Vec<Said>, String> {
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
        Ok((1..=last).map(one).collect())
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

type Files = Vec<(String, Vec<u8>)>;

fn files(dir: &Path) -> Files {
    let mut files: Files = fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// One attack: what it is called, and the files after each of its damages.
fn attack(subject: &dyn Subject, place: &Path) {
    let origin = place.join("origin");
    fs::create_dir_all(&origin).unwrap();
    let last = subject.write(&origin);
    let whole = files(&origin);
    let sectors: Vec<(usize, usize)> = (0..whole.len())
        .filter(|file| is_segment(&whole[*file].0))
        .flat_map(|file| (0..whole[file].1.len() / SECTOR).map(move |sector| (file, sector)))
        .collect();
    println!(
        "{}: {last} entries, {} sectors",
        subject.name(),
        sectors.len()
    );
    let bytes = |(file, sector): (usize, usize)| &whole[file].1[sector * SECTOR..][..SECTOR];
    let mut attempt = Attempt {
        subject,
        last,
        dir: place.join("attacked"),
        counts: BTreeMap::new(),
    };
    for (file, sector) in &sectors {
        let mut damaged = whole.clone();
        damaged[*file].1[sector * SECTOR..][..SECTOR].fill(0);
        attempt.judge("a sector zeroed", &whole, &damaged);
    }
    for (at, one) in sectors.iter().enumerate() {
        for other in &sectors[at + 1..] {
            let mut damaged = whole.clone();
            damaged[one.0].1[one.1 * SECTOR..][..SECTOR].copy_from_slice(bytes(*other));
            damaged[other.0].1[other.1 * SECTOR..][..SECTOR].copy_from_slice(bytes(*one));
            attempt.judge("two sectors swapped", &whole, &damaged);
        }
    }
    let mut number = 0;
    for file in (0..whole.len()).filter(|file| is_segment(&whole[*file].0)) {
        for bit in 0..whole[file].1.len() * 8 {
            number += 1;
            if number % BIT_STRIDE == 0 {
                let mut damaged = whole.clone();
                damaged[file].1[bit / 8] ^= 1 << (bit % 8);
                attempt.judge("a bit flipped", &whole, &damaged);
            }
        }
    }
    for (what, counts) in attempt.counts {
        println!("  {what}: {counts:?}");
    }
}

struct Attempt<'a> {
    subject: &'a dyn Subject,
    last: u64,
    dir: PathBuf,
    counts: BTreeMap<&'static str, BTreeMap<Outcome, u64>>,
}

impl Attempt<'_> {
    fn judge(&mut self, what: &'static str, whole: &Files, damaged: &Files) {
        if whole == damaged {
            return;
        }
        let _ = fs::remove_dir_all(&self.dir);
        fs::create_dir(&self.dir).unwrap();
        for (name, bytes) in damaged {
            fs::write(self.dir.join(name), bytes).unwrap();
        }
        let said = catch_unwind(AssertUnwindSafe(|| self.subject.read(&self.dir, self.last)));
        let outcome = match said {
            Err(_) => Outcome::Panicked,
            Ok(Err(_)) => Outcome::Refused,
            Ok(Ok(said)) => {
                let mut worst = Outcome::Intact;
                for (index, said) in (1..).zip(said) {
                    let one = match said {
                        Said::Bytes(bytes) if bytes == payload(index) => Outcome::Intact,
                        Said::Bytes(_) => Outcome::WrongBytes,
                        Said::Lost => Outcome::Named,
                        Said::Nothing => Outcome::SilentlyShorter,
                    };
                    worst = worst.max(one);
                }
                worst
            }
        };
        let counts = self.counts.entry(what).or_default();
        *counts.entry(outcome).or_default() += 1;
    }
}

fn main() {
    // The smoke test of all benches asks for no figures.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    std::panic::set_hook(Box::new(|_| ()));
    let memory = Path::new("/dev/shm");
    let place = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    let place = place.unwrap();
    let subjects: [&dyn Subject; 4] = [
        &Ours,
        &Theirs(RecoveryMode::TolerateTailCorruption),
        &Theirs(RecoveryMode::AbsoluteConsistency),
        &Theirs(RecoveryMode::TolerateAnyCorruption),
    ];
    for (number, subject) in subjects.into_iter().enumerate() {
        attack(subject, &place.path().join(number.to_string()));
    }
}
