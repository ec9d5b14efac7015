//! What a write-ahead log holds, frame by frame: it can be read without being opened.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use raftwerk_raft::StorageError;
use raftwerk_storage::vfs::RealVfs;
use raftwerk_wal::inspect::{self, Record};
use raftwerk_wal::{Report, TailEnd, Verdict};

use super::engine::failed;
use super::look::Finding;
use super::walk::unreadable;
use crate::cli::CliError;
use crate::client::json::{Object, list};
use crate::serve::backends::tell_progress;

/// Prints every record.
pub(super) fn dump(dir: &Path, json: bool, out: &mut dyn Write) -> Result<Finding, CliError> {
    let mut written = Ok(());
    let mut intact = true;
    inspect::dump(&RealVfs, dir, &mut |record| {
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
    match written {
        // Whoever read the beginning has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        result => result.map_err(|error| CliError::failed(error.to_string()))?,
    }
    Ok(if intact {
        Finding::Intact
    } else {
        Finding::Damaged
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

/// Checks the whole log and says what there is. An end that may have been acknowledged is damage:
/// somebody has to decide about it.
pub(super) fn verify(dir: &Path, json: bool) -> Result<(String, Finding), CliError> {
    let report = match inspect::verify_watched(&RealVfs, dir, &mut tell_progress()) {
        Err(StorageError::Corrupt { reason, .. }) => {
            return Ok((unreadable(&reason, json), Finding::Damaged));
        }
        report => report.map_err(failed)?,
    };
    let finding = match (report.verdict(), &report.tail) {
        (Verdict::Corrupt, _) | (_, TailEnd::Ambiguous { .. }) => Finding::Damaged,
        (Verdict::Torn, _) => Finding::Torn,
        (Verdict::Clean, _) => Finding::Intact,
    };
    let text = if json {
        report_object(&report)
    } else {
        report_text(&report)
    };
    Ok((text, finding))
}

/// What stands behind the last write that counts, in words; none where there is nothing.
pub(super) fn end(dir: &Path) -> Result<Option<(String, Finding)>, CliError> {
    let report = inspect::verify_watched(&RealVfs, dir, &mut tell_progress()).map_err(failed)?;
    Ok(match report.tail {
        TailEnd::Clean => None,
        TailEnd::Torn { bytes, .. } => Some((
            format!("a torn end of {bytes} bytes that was never acknowledged"),
            Finding::Torn,
        )),
        TailEnd::Ambiguous { segment, offset } => Some((
            format!(
                "the last write, in segment {segment} at {offset}: it may have been acknowledged"
            ),
            Finding::Damaged,
        )),
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
