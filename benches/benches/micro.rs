//! Pure computation, which criterion's statistics fit: nothing here touches a disk, so single
//! calls can be repeated at will and outliers are noise.
#![forbid(unsafe_code)]

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;

use criterion::{BatchSize, Criterion, Throughput};
use raftwerk_benches::log::log_id;
use raftwerk_benches::{Payloads, Report, bench_folder, bench_main};
use raftwerk_raft::codec::{decode_entry, decode_message, encode_entry, encode_message};
use raftwerk_raft::{
    Body, Entry, GroupId, GroupWrite, LogId, LogIndex, Message, NodeId, Standing, Storage, Term,
    WriteBatch,
};
use raftwerk_storage::TermRuns;
use raftwerk_storage::image::GroupImage;
use raftwerk_storage_mem::{MemLog, MemLogOptions};
use serde_json::Value;

fn main() -> ExitCode {
    bench_main("micro", run)
}

fn run(report: &mut Report) -> Result<(), String> {
    let folder = bench_folder().join("criterion");
    // What an earlier run left is not this one's.
    let _ = fs::remove_dir_all(&folder);
    let mut criterion = Criterion::default()
        .output_directory(&folder)
        .configure_from_args();
    checksums(&mut criterion);
    codec(&mut criterion);
    records(&mut criterion);
    collect(report, &folder)
}

fn entry(index: u64, bytes: usize) -> Entry {
    Entry::normal(log_id(index), Payloads::new(bytes).starting_at(index).cut())
}

fn checksums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crc32fast");
    for bytes in [128, 4096, 65_536] {
        let data = Payloads::new(bytes).cut();
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("{bytes} B"), |bencher| {
            bencher.iter(|| crc32fast::hash(black_box(&data)));
        });
    }
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    let one = entry(1, 128);
    let mut encoded = Vec::new();
    encode_entry(&one, &mut encoded);
    let mut out = Vec::with_capacity(4096);
    group.bench_function("encode 128 B", |bencher| {
        bencher.iter(|| {
            out.clear();
            encode_entry(black_box(&one), &mut out);
        });
    });
    let stored = bytes::Bytes::from(encoded);
    group.bench_function("decode 128 B", |bencher| {
        bencher.iter(|| decode_entry(black_box(stored.clone())));
    });
    let message = Message {
        from: NodeId(1),
        to: NodeId(2),
        term: Term(1),
        session: 0,
        standing: Standing::Sound,
        body: Body::Append {
            prev: LogId::default(),
            commit: LogIndex(0),
            entries: (1..=16).map(|index| entry(index, 128)).collect(),
        },
    };
    group.bench_function("encode 16 msg", |bencher| {
        bencher.iter(|| {
            out.clear();
            encode_message(black_box(&message), &mut out);
        });
    });
    let mut sent = Vec::new();
    encode_message(&message, &mut sent);
    let sent = bytes::Bytes::from(sent);
    group.bench_function("decode 16 msg", |bencher| {
        bencher.iter(|| decode_message(black_box(sent.clone())));
    });
}

fn records(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log in memory");
    let mut terms = TermRuns::new(LogId::default());
    for index in 1..=10_000 {
        terms.push(LogId::new(Term(index / 10 + 1), LogIndex(index)));
    }
    let mut index = 0;
    group.bench_function("term, 1000 runs", |bencher| {
        bencher.iter(|| {
            index = index % 10_000 + 7;
            terms.term(black_box(LogIndex(index.min(10_000))))
        });
    });
    let write = GroupWrite {
        group: GroupId(1),
        append: (1..=16).map(|index| entry(index, 128)).collect(),
        ..GroupWrite::default()
    };
    group.bench_function("check + take 16", |bencher| {
        bencher.iter_batched_ref(
            GroupImage::default,
            |image| {
                let valid = image.check(black_box(&write));
                image.apply(&write);
                valid
            },
            BatchSize::SmallInput,
        );
    });
    let batch = WriteBatch {
        groups: vec![write],
        ..WriteBatch::default()
    };
    if let Ok(log) = MemLog::new(MemLogOptions::default()) {
        // The same entries again and again: each time the end is truncated.
        group.bench_function("submit 16", |bencher| {
            bencher.iter_batched(
                || batch.clone(),
                |batch| log.submit(batch).is_ok(),
                BatchSize::SmallInput,
            );
        });
    }
}

/// Takes over what criterion left; nothing in a test pass.
fn collect(report: &mut Report, folder: &Path) -> Result<(), String> {
    let Ok(groups) = fs::read_dir(folder) else {
        return Ok(());
    };
    let mut found = Vec::new();
    for group in groups.filter_map(Result::ok) {
        for function in fs::read_dir(group.path()).into_iter().flatten() {
            let new = function
                .map_err(|error| error.to_string())?
                .path()
                .join("new");
            found.extend(figures(&new));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    for ((group, function), [mean, lower, upper]) in found {
        report.say(&group, &function, "ns", mean);
        report.row(&group, &function, "ns, lower bound", lower);
        report.row(&group, &function, "ns, upper bound", upper);
    }
    Ok(())
}

/// Names, and the mean with the bounds of its confidence interval.
fn figures(folder: &Path) -> Option<((String, String), [f64; 3])> {
    let read = |name: &str| -> Option<Value> {
        serde_json::from_slice(&fs::read(folder.join(name)).ok()?).ok()
    };
    let names = read("benchmark.json")?;
    let name = |field: &str| names.get(field)?.as_str().map(str::to_owned);
    let estimates = read("estimates.json")?;
    let mean = estimates.get("mean")?;
    let interval = mean.get("confidence_interval")?;
    Some((
        (name("group_id")?, name("function_id")?),
        [
            mean.get("point_estimate")?.as_f64()?,
            interval.get("lower_bound")?.as_f64()?,
            interval.get("upper_bound")?.as_f64()?,
        ],
    ))
}
