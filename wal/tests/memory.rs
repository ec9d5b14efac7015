//! What opening a log takes of memory: no more for more entries.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use raftwerk_raft::{
    Durability, Entry, GroupId, GroupWrite, LogId, LogIndex, Storage, SubmitError, Term, Ticket,
    WriteBatch,
};
use raftwerk_storage::vfs::RealVfs;
use raftwerk_wal::{Options, Wal};

/// The process with this variable opens the log there, and says what that took.
const OPENS: &str = "RAFTWERK_WAL_OPENS";
const GROUPS: u64 = 64;
/// How many groups a batch has, and how many entries each.
const BATCH_GROUPS: u64 = 16;
const BATCH_ENTRIES: u64 = 16;
const ENTRY_BYTES: usize = 128;
/// Entries of each group, in the shorter log and in the longer one.
const ENTRIES: [u64; 2] = [1024, 8192];
/// What allocators and the kernel count in, here and there, in bytes.
const SLACK: u64 = 512 * 1024;

fn open(path: &Path) -> Wal {
    let options = Options {
        segment_bytes: 4 << 20,
        batch_bytes_max: 1 << 20,
        ..Options::default()
    };
    Wal::open(Arc::new(RealVfs), path, options).unwrap()
}

fn append(group: u64, first: u64) -> GroupWrite {
    let payload = Bytes::from(vec![7; ENTRY_BYTES]);
    let entry = |index| {
        let id = LogId::new(Term(1), LogIndex(index));
        Entry::normal(id, payload.clone())
    };
    GroupWrite {
        group: GroupId(group),
        append: (first..first + BATCH_ENTRIES).map(entry).collect(),
        ..GroupWrite::default()
    }
}

fn fill(path: &Path, entries: u64) {
    let wal = open(path);
    let mut last = Ticket(0);
    for first in (1..=entries).step_by(BATCH_ENTRIES as usize) {
        for group in (1..=GROUPS).step_by(BATCH_GROUPS as usize) {
            let groups = (group..group + BATCH_GROUPS).map(|group| append(group, first));
            let mut batch = WriteBatch {
                groups: groups.collect(),
                durability: Durability::Lazy,
            };
            last = loop {
                match wal.submit(batch) {
                    Ok(ticket) => break ticket,
                    Err(SubmitError::Full(back)) => batch = back,
                    Err(other) => panic!("{other}"),
                }
                wal.wait(last).unwrap();
            };
        }
    }
    wal.wait(last).unwrap();
}

/// A figure of this process, in bytes; none where the kernel does not tell.
fn memory(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// What a process of its own takes at most, in bytes, to open the log beside what it had before.
fn grown(path: &Path) -> u64 {
    let name = "opening_takes_memory_for_groups_and_blocks_and_not_for_entries";
    let outcome = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(OPENS, path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&outcome.stdout);
    let grown = said.lines().find_map(|line| line.strip_prefix("grown "));
    let grown = grown.unwrap_or_else(|| panic!("{said}"));
    grown.parse().unwrap()
}

#[test]
fn opening_takes_memory_for_groups_and_blocks_and_not_for_entries() {
    if let Some(path) = std::env::var_os(OPENS) {
        let before = memory("VmRSS:").unwrap();
        let wal = open(Path::new(&path));
        let grown = memory("VmHWM:").unwrap().saturating_sub(before);
        assert_eq!(wal.groups().unwrap().len() as u64, GROUPS);
        println!("\ngrown {grown}");
        return;
    }
    if memory("VmHWM:").is_none() {
        let _ = writeln!(
            std::io::stderr().lock(),
            "SKIPPED: this kernel does not tell what a process had in memory"
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [short, long] = ENTRIES.map(|entries| {
        let path = folder.path().join(entries.to_string());
        fill(&path, entries);
        grown(&path)
    });
    let more = (ENTRIES[1] - ENTRIES[0]) * GROUPS;
    let bytes = ENTRIES[1] * GROUPS * ENTRY_BYTES as u64;
    println!("{short} bytes, {long} with {more} entries more, of {bytes} bytes");
    assert!(long <= short + more + SLACK, "{long}, {short} before");
    assert!(long <= bytes / 8, "{long} of {bytes}");
}
