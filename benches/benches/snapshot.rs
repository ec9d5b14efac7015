//! A store's whole state into a file, and from it into an empty store.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use raftwerk_benches::state::{FileReader, Keys, StateKind, StateTarget, fill, states};
use raftwerk_benches::{Payloads, Quartiles, Report, bench_main, scratch};

const VALUE_BYTES: usize = 1024;
const KEY_BYTES: u64 = 16;
/// What is written or read at once.
const CHUNK_BYTES: usize = 1 << 20;
const BUILD: &str = "build, MB/s";
const RESTORE: &str = "restore, MB/s";

fn main() -> ExitCode {
    bench_main("snapshot", run)
}

fn run(report: &mut Report) -> Result<(), String> {
    let bytes: u64 = report.plan().pick(1 << 20, 64 << 20, 1 << 30);
    let rounds = report.plan().pick(1, 3, 5);
    let present = bytes / (VALUE_BYTES as u64 + KEY_BYTES);
    let load = format!("{} MiB", bytes >> 20);
    let device = times(rounds, || device(bytes))?;
    said(report, &load, "raw device", &device);
    for kind in states() {
        let folder = scratch()?;
        let store = (kind.open)(folder.path())?;
        fill(store.as_ref(), Keys::new(present, VALUE_BYTES), 1024)?;
        let Some(first) = round(&kind, store.as_ref(), bytes)? else {
            continue;
        };
        let mut found = vec![first];
        for _ in 1..rounds {
            found.extend(round(&kind, store.as_ref(), bytes)?);
        }
        said(report, &load, kind.name, &found);
    }
    Ok(())
}

fn said(report: &mut Report, load: &str, subject: &str, found: &[(f64, f64)]) {
    let (builds, restores): (Vec<f64>, Vec<f64>) = found.iter().copied().unzip();
    for (unit, values) in [(BUILD, builds), (RESTORE, restores)] {
        if let Some(quartiles) = Quartiles::of(&values) {
            report.say(load, subject, unit, quartiles.median);
            report.row(
                load,
                subject,
                &format!("{unit}, lower quartile"),
                quartiles.lower,
            );
            report.row(
                load,
                subject,
                &format!("{unit}, upper quartile"),
                quartiles.upper,
            );
        }
    }
}

fn times<T>(rounds: u32, mut once: impl FnMut() -> Result<T, String>) -> Result<Vec<T>, String> {
    (0..rounds).map(|_| once()).collect()
}

fn words(error: io::Error) -> String {
    error.to_string()
}

fn rate(bytes: u64, start: Instant) -> f64 {
    bytes as f64 / 1e6 / start.elapsed().as_secs_f64()
}

/// MB/s of writing a synced file and of reading it.
fn device(bytes: u64) -> Result<(f64, f64), String> {
    let folder = scratch()?;
    let path = folder.path().join("file");
    let mut payloads = Payloads::new(CHUNK_BYTES);
    let start = Instant::now();
    let mut file = File::create(&path).map_err(words)?;
    for _ in 0..bytes / CHUNK_BYTES as u64 {
        file.write_all(&payloads.cut()).map_err(words)?;
    }
    file.sync_all().map_err(words)?;
    let written = rate(bytes, start);
    let start = Instant::now();
    let mut file = File::open(&path).map_err(words)?;
    let mut buffer = vec![0; CHUNK_BYTES];
    while file.read(&mut buffer).map_err(words)? > 0 {}
    Ok((written, rate(bytes, start)))
}

/// MB/s of a build and a restore; `None` where a store has no stream.
fn round(
    kind: &StateKind,
    store: &dyn StateTarget,
    bytes: u64,
) -> Result<Option<(f64, f64)>, String> {
    let folder = scratch()?;
    let path = folder.path().join("snapshot");
    let start = Instant::now();
    let Some(mut source) = store.checkpoint()? else {
        return Ok(None);
    };
    let mut file = BufWriter::with_capacity(CHUNK_BYTES, File::create(&path).map_err(words)?);
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let count = source.read(&mut buffer).map_err(words)?;
        if count == 0 {
            break;
        }
        file.write_all(buffer.get(..count).unwrap_or_default())
            .map_err(words)?;
    }
    let file = file.into_inner().map_err(|error| error.to_string())?;
    file.sync_all().map_err(words)?;
    let built = rate(bytes, start);
    drop(source);
    Ok(Some((built, restore(kind, &path, folder.path(), bytes)?)))
}

fn restore(kind: &StateKind, path: &Path, folder: &Path, bytes: u64) -> Result<f64, String> {
    let folder = folder.join("restored");
    std::fs::create_dir(&folder).map_err(words)?;
    let store = (kind.open)(&folder)?;
    let file = BufReader::with_capacity(CHUNK_BYTES, File::open(path).map_err(words)?);
    let start = Instant::now();
    store.restore(&mut FileReader(file))?;
    Ok(rate(bytes, start))
}
