//! `log dump` and `log verify`: a stopped member's log, read-only.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use raftwerk_raft::StorageError;
use raftwerk_storage::vfs::RealVfs;
use raftwerk_wal::inspect::{self, Record};
use raftwerk_wal::{Report, TailEnd, Verdict};

use crate::cli::CliError;
use crate::cli::words::say;
use crate::client::json::{Object, list};

/// The log within a member's folder.
const LOG_DIR: &str = "log";

/// The log's folder: the one given, or the one in the member's folder that was given.
fn log_dir(dir: &Path) -> PathBuf {
    let inside = dir.join(LOG_DIR);
    if inside.is_dir() {
        inside
    } else {
        dir.to_owned()
    }
}

fn failed(error: StorageError) -> CliError {
    match error {
        StorageError::Locked { path } => {
            CliError::failed(format!("{path} is in use: end the member first"))
        }
        error => CliError::failed(error.to_string()),
    }
}

/// Prints every record. Exit code 3 when something cannot be read.
pub(crate) fn dump(dir: &Path, json: bool) -> Result<ExitCode, CliError> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut written = Ok(());
    let mut intact = true;
    inspect::dump(&RealVfs, &log_dir(dir), &mut |record| {
        intact &= !matches!(
            record,
            Record::Unreadable { .. } | Record::Item { intact: false, .. }
        );
        let line = if json { object(&record) } else { line(&record) };
        written = writeln!(out, "{line}");
        if written.is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })
    .map_err(failed)?;
    match written.and_then(|()| out.flush()) {
        // Whoever read the beginning has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        result => result.map_err(|error| CliError::failed(error.to_string()))?,
    }
    Ok(if intact {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(3)
    })
}

fn line(record: &Record) -> String {
    match record {
        Record::Frame {
            segment,
            offset,
            kind,
            lsn,
            durable,
            bytes,
        } => format!(
            "{kind:<5} lsn {lsn}  segment {segment} at {offset}  {bytes} bytes  durable {durable}"
        ),
        Record::Item {
            group,
            kind,
            entries,
            term,
            bytes,
            intact,
        } => {
            let mut line = format!("      {kind}  group {group}");
            if !entries.is_empty() {
                let (first, last) = (entries.start, entries.end.prev());
                line.push_str(&format!("  entries {first} to {last}  term {term}"));
            }
            line.push_str(&format!("  {bytes} bytes"));
            if !intact {
                line.push_str("  UNREADABLE");
            }
            line
        }
        Record::Unreadable {
            segment,
            offset,
            until,
        } => {
            format!("UNREADABLE  segment {segment} from {offset} to {until}")
        }
        other => format!("{other:?}"),
    }
}

fn object(record: &Record) -> String {
    match record {
        Record::Frame {
            segment,
            offset,
            kind,
            lsn,
            durable,
            bytes,
        } => Object::new()
            .string("record", "frame")
            .string("kind", kind)
            .number("lsn", *lsn)
            .number("segment", *segment)
            .number("offset", *offset)
            .number("bytes", *bytes)
            .number("durable", *durable)
            .end(),
        Record::Item {
            group,
            kind,
            entries,
            term,
            bytes,
            intact,
        } => Object::new()
            .string("record", "item")
            .string("kind", kind)
            .number("group", group.0)
            .number("first", entries.start.0)
            .number("end", entries.end.0)
            .number("term", term.0)
            .number("bytes", *bytes)
            .raw("intact", if *intact { "true" } else { "false" })
            .end(),
        Record::Unreadable {
            segment,
            offset,
            until,
        } => Object::new()
            .string("record", "unreadable")
            .number("segment", *segment)
            .number("offset", *offset)
            .number("until", *until)
            .end(),
        other => Object::new().string("record", &format!("{other:?}")).end(),
    }
}

/// Checks the whole log. Exit code 0: intact; 1: it cannot be looked at; 3: damaged. A torn end
/// is what a crash leaves and counts as intact.
pub(crate) fn verify(dir: &Path, json: bool) -> Result<ExitCode, CliError> {
    let report = inspect::verify(&RealVfs, &log_dir(dir)).map_err(failed)?;
    say!(
        "{}",
        if json {
            report_object(&report)
        } else {
            report_text(&report)
        }
    );
    let damaged =
        report.verdict() == Verdict::Corrupt || matches!(report.tail, TailEnd::Ambiguous { .. });
    Ok(if damaged {
        ExitCode::from(3)
    } else {
        ExitCode::SUCCESS
    })
}

fn verdict(report: &Report) -> &'static str {
    match (report.verdict(), &report.tail) {
        (Verdict::Corrupt, _) => "damaged",
        (_, TailEnd::Ambiguous { .. }) => "ambiguous end",
        (Verdict::Torn, _) => "intact, with a torn end that was never acknowledged",
        (Verdict::Clean, _) => "intact",
    }
}

fn report_text(report: &Report) -> String {
    let mut text = format!(
        "{}: {} segments, {} frames, {} groups, {} entries",
        verdict(report),
        report.segments.len(),
        report.frames,
        report.groups,
        report.entries
    );
    for damage in &report.damage {
        text.push_str(&format!("\n{damage}"));
    }
    for group in &report.damaged_groups {
        text.push_str(&format!("\n{group}"));
    }
    if report.strangers_unknown {
        text.push_str("\na batch of unknown groups is lost");
    }
    match &report.tail {
        TailEnd::Clean => {}
        TailEnd::Torn {
            segment,
            offset,
            bytes,
        } => {
            text.push_str(&format!(
                "\ntorn end: segment {segment} at {offset}, {bytes} bytes"
            ));
        }
        TailEnd::Ambiguous { segment, offset } => text.push_str(&format!(
            "\nambiguous end: segment {segment} at {offset}; it may have been acknowledged \
             milliseconds before the end; `raftwerk serve --ambiguous-tail keep-prefix` goes on \
             without it"
        )),
    }
    text
}

fn report_object(report: &Report) -> String {
    let place = |segment: u64, offset: u64| {
        Object::new()
            .number("segment", segment)
            .number("offset", offset)
    };
    let tail = match &report.tail {
        TailEnd::Clean => Object::new().string("end", "clean"),
        TailEnd::Torn {
            segment,
            offset,
            bytes,
        } => place(*segment, *offset)
            .string("end", "torn")
            .number("bytes", *bytes),
        TailEnd::Ambiguous { segment, offset } => {
            place(*segment, *offset).string("end", "ambiguous")
        }
    };
    let damage = report.damage.iter().map(|damage| {
        place(damage.segment, damage.offset)
            .string("what", &damage.to_string())
            .end()
    });
    let groups = report.damaged_groups.iter().map(|group| {
        let faulty = group.faulty.iter().map(|range| {
            Object::new()
                .number("first", range.start.0)
                .number("end", range.end.0)
                .end()
        });
        Object::new()
            .number("group", group.group.0)
            .raw("faulty", &list(faulty))
            .raw(
                "vote_unknown",
                if group.vote_unknown { "true" } else { "false" },
            )
            .end()
    });
    Object::new()
        .string("verdict", verdict(report))
        .number(
            "segments",
            u64::try_from(report.segments.len()).unwrap_or(u64::MAX),
        )
        .number("frames", report.frames)
        .number("groups", report.groups)
        .number("entries", report.entries)
        .number("durable_lsn", report.durable_lsn)
        .raw("tail", &tail.end())
        .raw("damage", &list(damage))
        .raw("damaged_groups", &list(groups))
        .end()
}
