//! A log of any backend, through the contract alone: every group, every entry.

use std::io::{ErrorKind, Write};
use std::ops::Range;

use raftwerk_raft::{
    ByteBudget, Entry, EntryKind, GroupId, GroupState, LogError, LogIndex, LogReader, Storage,
};

use super::engine::failed;
use super::look::Finding;
use crate::cli::CliError;
use crate::client::json::{Object, list};

/// What is read at once, in bytes of payload.
pub(super) const CHUNK_BYTES: u64 = 1 << 20;
/// What one step of a scrub reads, in bytes.
const SCRUB_BYTES: u64 = 64 << 20;
/// Steps of a scrub: far more than any log needs.
const SCRUB_STEPS_MAX: usize = 1 << 20;

/// Reads a group's log from one end to the other, a piece at a time. What cannot be read is given
/// to `lost`, and reading goes on behind it.
///
/// # Errors
/// The system's, and what `visit` says.
pub(super) fn walk(
    log: &dyn LogReader,
    lost: &mut dyn FnMut(Range<LogIndex>),
    visit: &mut dyn FnMut(Vec<Entry>) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let end = log.last().index.next();
    let mut at = log.first();
    while at < end {
        match log.read(at..end, CHUNK_BYTES) {
            Ok(entries) => {
                let Some(last) = entries.last().map(Entry::index) else {
                    return Err(CliError::failed(format!("entry {at} is not in the log")));
                };
                at = last.next();
                visit(entries)?;
            }
            Err(LogError::Faulty { range }) if range.end > at => {
                at = range.end;
                lost(range);
            }
            Err(error) => return Err(CliError::failed(error.to_string())),
        }
    }
    Ok(())
}

/// Prints every group and every entry.
pub(super) fn dump(
    log: &dyn Storage,
    json: bool,
    out: &mut dyn Write,
) -> Result<Finding, CliError> {
    let mut finding = Finding::Intact;
    for group in log.groups().map_err(failed)? {
        let open = log.open_group(group).map_err(failed)?;
        if !open.state.health.is_intact() {
            finding = Finding::Damaged;
        }
        let mut lines = vec![if json {
            group_object(group, &open.state).end()
        } else {
            group_line(group, &open.state)
        }];
        let mut lost = Vec::new();
        let mut gone = false;
        let walked = walk(
            open.log.as_ref(),
            &mut |range| lost.push(range),
            &mut |entries| {
                lines.extend(entries.iter().map(|entry| entry_line(group, entry, json)));
                gone = !print(&mut lines, out)?;
                // Nobody listens any more.
                if gone {
                    Err(CliError::failed(""))
                } else {
                    Ok(())
                }
            },
        );
        if gone {
            return Ok(finding);
        }
        walked?;
        lines.extend(lost.iter().map(|range| lost_line(group, range, json)));
        if !lost.is_empty() {
            finding = Finding::Damaged;
        }
        if !print(&mut lines, out)? {
            return Ok(finding);
        }
    }
    Ok(finding)
}

/// False when nobody reads any more.
fn print(lines: &mut Vec<String>, out: &mut dyn Write) -> Result<bool, CliError> {
    for line in lines.drain(..) {
        match writeln!(out, "{line}") {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(false),
            Err(error) => return Err(CliError::failed(error.to_string())),
        }
    }
    Ok(true)
}

/// What is known of a group, without its entries.
pub(super) fn group_object(group: GroupId, state: &GroupState) -> Object {
    let mut object = Object::new()
        .string("record", "group")
        .number("group", group.0)
        .number("term", state.hard_state.term.0)
        .number("commit", state.hard_state.commit.0)
        .number("first", state.first.0)
        .number("last", state.last.index.0)
        .number("last_term", state.last.term.0)
        .number("values", count(state.meta.len()));
    if let Some(vote) = state.hard_state.vote {
        object = object.string("vote", &format!("{:x}", vote.0));
    }
    if let Some(snapshot) = &state.snapshot {
        object = object
            .number("snapshot", snapshot.last.index.0)
            .number("snapshot_term", snapshot.last.term.0);
    }
    object
        .raw(
            "faulty",
            &list(state.health.faulty.iter().map(range_object)),
        )
        .raw("vote_unknown", truth(state.health.vote_unknown))
}

fn group_line(group: GroupId, state: &GroupState) -> String {
    let hard = state.hard_state;
    let mut line = format!("group {group}  term {}  commit {}", hard.term, hard.commit);
    if let Some(vote) = hard.vote {
        line.push_str(&format!("  vote {:x}", vote.0));
    }
    if let Some(snapshot) = &state.snapshot {
        line.push_str(&format!("  snapshot {}", snapshot.last));
    }
    if state.last.index >= state.first {
        line.push_str(&format!(
            "  entries {} to {}",
            state.first, state.last.index
        ));
    } else {
        line.push_str(&format!("  no entries behind {}", state.first.prev()));
    }
    for (name, value) in &state.meta {
        line.push_str(&format!(
            "  {}: {} bytes",
            String::from_utf8_lossy(name).escape_debug(),
            value.len()
        ));
    }
    if state.health.vote_unknown {
        line.push_str("  A VOTE MAY BE LOST");
    }
    line
}

fn entry_line(group: GroupId, entry: &Entry, json: bool) -> String {
    let kind = match entry.kind {
        EntryKind::Normal => "normal",
        EntryKind::ConfChangeSingle => "change of one member",
        EntryKind::ConfChange => "change of members",
    };
    if json {
        return Object::new()
            .string("record", "entry")
            .number("group", group.0)
            .number("index", entry.index().0)
            .number("term", entry.term().0)
            .string("kind", kind)
            .number("bytes", count(entry.data.len()))
            .end();
    }
    format!(
        "      entry {}  term {}  {kind}  {} bytes",
        entry.index(),
        entry.term(),
        entry.data.len()
    )
}

fn lost_line(group: GroupId, range: &Range<LogIndex>, json: bool) -> String {
    if json {
        return Object::new()
            .string("record", "unreadable")
            .number("group", group.0)
            .number("first", range.start.0)
            .number("end", range.end.0)
            .end();
    }
    format!(
        "      UNREADABLE  entries {} to {}",
        range.start,
        range.end.prev()
    )
}

fn range_object(range: &Range<LogIndex>) -> String {
    Object::new()
        .number("first", range.start.0)
        .number("end", range.end.0)
        .end()
}

/// What reading everything found.
#[derive(Default)]
struct Found {
    groups: u64,
    entries: u64,
    payload_bytes: u64,
    checked_bytes: u64,
    damage: Vec<String>,
    damaged_groups: Vec<String>,
    damaged_objects: Vec<String>,
}

/// Reads every entry, and has the engine check what it stored.
pub(super) fn verify(log: &dyn Storage, json: bool) -> Result<(String, Finding), CliError> {
    let mut found = Found::default();
    for group in log.groups().map_err(failed)? {
        let open = log.open_group(group).map_err(failed)?;
        let mut lost = Vec::new();
        walk(
            open.log.as_ref(),
            &mut |range| lost.push(range),
            &mut |entries| {
                found.entries += count(entries.len());
                found.payload_bytes += entries.iter().map(|e| count(e.data.len())).sum::<u64>();
                Ok(())
            },
        )?;
        found.groups += 1;
        let vote_unknown = open.state.health.vote_unknown;
        for range in &lost {
            let (first, last) = (range.start, range.end.prev());
            let words = format!("group {group}: entries {first} to {last} are lost here");
            found.damaged_groups.push(words);
        }
        if vote_unknown {
            found
                .damaged_groups
                .push(format!("group {group}: a vote may be lost"));
        }
        if vote_unknown || !lost.is_empty() {
            let object = Object::new()
                .number("group", group.0)
                .raw("faulty", &list(lost.iter().map(range_object)))
                .raw("vote_unknown", truth(vote_unknown));
            found.damaged_objects.push(object.end());
        }
    }
    for _ in 0..SCRUB_STEPS_MAX {
        let report = log.scrub(ByteBudget(SCRUB_BYTES)).map_err(failed)?;
        found.checked_bytes += report.checked_bytes;
        found.damage.extend(report.damage);
        if report.completed {
            break;
        }
    }
    let damaged = !found.damage.is_empty() || !found.damaged_groups.is_empty();
    let finding = if damaged {
        Finding::Damaged
    } else {
        Finding::Intact
    };
    let text = if json {
        found_object(&found, damaged)
    } else {
        found_text(&found, damaged)
    };
    Ok((text, finding))
}

fn verdict(damaged: bool) -> &'static str {
    if damaged { "damaged" } else { "intact" }
}

fn found_text(found: &Found, damaged: bool) -> String {
    let mut lines = vec![format!(
        "{}: {} groups, {} entries, {} bytes of payload",
        verdict(damaged),
        found.groups,
        found.entries,
        found.payload_bytes
    )];
    lines.extend(found.damage.iter().cloned());
    lines.extend(found.damaged_groups.iter().cloned());
    lines.join("\n")
}

fn found_object(found: &Found, damaged: bool) -> String {
    let quoted = |text: &String| Object::new().string("what", text).end();
    Object::new()
        .string("verdict", verdict(damaged))
        .number("groups", found.groups)
        .number("entries", found.entries)
        .number("payload_bytes", found.payload_bytes)
        .number("checked_bytes", found.checked_bytes)
        .raw("damage", &list(found.damage.iter().map(quoted)))
        .raw(
            "damaged_groups",
            &list(found.damaged_objects.iter().cloned()),
        )
        .end()
}

/// Of a log that does not open for its damage.
pub(super) fn unreadable(reason: &str, json: bool) -> String {
    if json {
        let what = Object::new().string("what", reason).end();
        return Object::new()
            .string("verdict", verdict(true))
            .raw("damage", &list([what]))
            .end();
    }
    format!("{}: {reason}", verdict(true))
}

const fn truth(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

pub(super) fn count(len: usize) -> u64 {
    // A usize has 64 bits at most.
    len as u64
}
