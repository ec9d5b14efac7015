//! Damage behind an acknowledged write, and disks that are full: what must not be forgotten, and
//! what must go on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use raftwerk_raft::{
    Entry, GroupId, GroupWrite, HardState, LogId, LogIndex, NodeId, Storage, StorageError,
    SubmitError, Term, Ticket, WriteBatch,
};
use raftwerk_testkit::fault_vfs::{CrashPlan, FaultVfs};
use raftwerk_wal::{AmbiguousTail, Background, Options, Prepared, TailEnd, Verdict, Wal, Written};

const GROUP: GroupId = GroupId(1);
const PAGE: u64 = 512;

fn options() -> Options {
    Options {
        segment_bytes: 16 * 1024,
        batch_bytes_max: 10 * 1024,
        page_bytes: PAGE as u32,
        background: Background::Manual,
        ..Options::default()
    }
}

fn keep_prefix() -> Options {
    Options {
        ambiguous_tail: AmbiguousTail::KeepPrefix,
        ..options()
    }
}

fn open(vfs: &FaultVfs, options: Options) -> Result<Wal, StorageError> {
    Wal::open(Arc::new(vfs.clone()), "log", options)
}

fn prepare(wal: &Wal) -> Prepared {
    loop {
        let step = wal.step_preparer();
        if step != Prepared::Progress {
            return step;
        }
    }
}

fn submit(wal: &Wal, write: GroupWrite) -> Result<Ticket, SubmitError> {
    let groups = vec![write];
    wal.submit(WriteBatch {
        groups,
        ..WriteBatch::default()
    })
}

fn vote(group: u64, term: u64) -> GroupWrite {
    let hard_state = HardState {
        term: Term(term),
        vote: Some(NodeId(2)),
        commit: LogIndex::ZERO,
    };
    GroupWrite {
        group: GroupId(group),
        hard_state: Some(hard_state),
        ..GroupWrite::default()
    }
}

fn append(index: u64) -> GroupWrite {
    let id = LogId::new(Term(1), LogIndex(index));
    GroupWrite {
        group: GROUP,
        append: vec![Entry::normal(id, Bytes::from(vec![7; 2000]))],
        ..GroupWrite::default()
    }
}

fn compact(index: u64) -> GroupWrite {
    let meta = raftwerk_raft::SnapshotMeta {
        last: LogId::new(Term(1), LogIndex(index)),
        ..raftwerk_raft::SnapshotMeta::default()
    };
    GroupWrite {
        group: GROUP,
        snapshot: Some(meta),
        compact_to: Some(LogIndex(index)),
        ..GroupWrite::default()
    }
}

fn write(wal: &Wal, write: GroupWrite) {
    let ticket = submit(wal, write).unwrap();
    wal.wait(ticket).unwrap();
}

/// Segments and where the pages are on which frames begin.
fn frames(vfs: &FaultVfs) -> Vec<(PathBuf, Vec<u64>)> {
    let mut found = Vec::new();
    for path in vfs.files() {
        let bytes = vfs.read_file(&path).unwrap();
        let pages = bytes.chunks(PAGE as usize).enumerate();
        let begins = pages.filter(|(_, page)| page.starts_with(b"RWf1"));
        let begins: Vec<_> = begins.map(|(page, _)| page as u64 * PAGE).collect();
        if !begins.is_empty() {
            found.push((path, begins));
        }
    }
    found.sort();
    found
}

fn newest_frame(vfs: &FaultVfs) -> (PathBuf, u64) {
    let (path, begins) = frames(vfs).pop().unwrap();
    (path, *begins.last().unwrap())
}

#[test]
fn damaged_first_frame_of_a_new_segment_is_never_a_clean_end() {
    let vfs = FaultVfs::new();
    let wal = open(&vfs, options()).unwrap();
    let mut last = 0;
    while frames(&vfs).len() < 2 {
        prepare(&wal);
        last += 1;
        write(&wal, append(last));
    }
    let (path, begins) = frames(&vfs).pop().unwrap();
    assert_eq!(begins, [PAGE], "the batch rode in the rotation");
    let image = vfs.crash(&CrashPlan::LOSE_UNSYNCED).image();
    let len = last_byte(&vfs.read_file(&path).unwrap());
    for byte in PAGE..len {
        let after = image.after(&CrashPlan::Kill);
        after.flip_bit(&path, byte, (byte % 8) as u8).unwrap();
        let report = raftwerk_wal_report(&after);
        let spared = after.read_file(&path).unwrap()[byte as usize] != 0;
        match report {
            // Zeros at a sector's end look like a write that was cut short, whatever they are.
            Ok((TailEnd::Torn { .. }, _)) if byte >= PAGE + 80 || !spared => {}
            Ok((TailEnd::Clean, Verdict::Clean)) => {
                panic!("byte {byte}: acknowledged, damaged, and called clean")
            }
            Ok((TailEnd::Torn { .. }, _)) => panic!("byte {byte} of the header: called torn"),
            Ok(_) | Err(StorageError::Corrupt { .. }) => {}
            Err(other) => panic!("byte {byte}: {other}"),
        }
    }
}

fn last_byte(bytes: &[u8]) -> u64 {
    bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1
}

fn raftwerk_wal_report(vfs: &FaultVfs) -> Result<(TailEnd, Verdict), StorageError> {
    let wal = open(vfs, options())?;
    Ok((wal.report().tail, wal.report().verdict()))
}

#[test]
fn flipped_bit_in_the_last_header_is_never_a_torn_write() {
    let vfs = FaultVfs::new();
    let wal = open(&vfs, options()).unwrap();
    prepare(&wal);
    write(&wal, vote(1, 1));
    write(&wal, vote(1, 2));
    let (path, offset) = newest_frame(&vfs);
    let image = vfs.crash(&CrashPlan::LOSE_UNSYNCED).image();
    for bit in 0..80 * 8 {
        let after = image.after(&CrashPlan::Kill);
        after
            .flip_bit(&path, offset + bit / 8, (bit % 8) as u8)
            .unwrap();
        let Err(StorageError::Corrupt { .. }) = open(&after, options()) else {
            panic!("bit {bit}: opens without the vote")
        };
    }
}

#[test]
fn kept_prefix_trusts_no_vote() {
    let vfs = FaultVfs::new();
    let wal = open(&vfs, options()).unwrap();
    prepare(&wal);
    write(&wal, vote(1, 6));
    write(&wal, vote(1, 7));
    let (path, offset) = newest_frame(&vfs);
    let after = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    after.flip_bit(&path, offset + 20, 0).unwrap();
    let wal = open(&after, keep_prefix()).unwrap();
    assert!(matches!(wal.report().tail, TailEnd::Ambiguous { .. }));
    let state = wal.open_group(GROUP).unwrap().state;
    assert_eq!(state.hard_state.term, Term(6));
    assert!(state.health.vote_unknown, "the vote of term 7 is lost");
    assert_eq!(wal.report().damaged_groups.len(), 1);
    let stranger = wal.open_group(GroupId(9)).unwrap().state;
    assert!(stranger.health.vote_unknown, "it may have been in it");
    drop(wal);
    // The next life knows it too.
    let wal = open(&after.crash(&CrashPlan::LOSE_UNSYNCED), options()).unwrap();
    let state = wal.open_group(GROUP).unwrap().state;
    assert!(state.health.vote_unknown);
}

#[test]
fn stranger_that_is_written_stays_doubtful() {
    let vfs = FaultVfs::new();
    let wal = open(&vfs, options()).unwrap();
    prepare(&wal);
    write(&wal, vote(1, 6));
    write(&wal, vote(9, 7));
    let (path, offset) = newest_frame(&vfs);
    let after = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    after.flip_bit(&path, offset + 20, 0).unwrap();
    let wal = open(&after, keep_prefix()).unwrap();
    prepare(&wal);
    write(&wal, vote(9, 7));
    let doubtful = |wal: &Wal| {
        let state = wal.open_group(GroupId(9)).unwrap().state;
        state.health.vote_unknown
    };
    assert!(doubtful(&wal));
    let later = after.crash(&CrashPlan::LOSE_UNSYNCED);
    assert!(doubtful(&open(&later, options()).unwrap()));
    // Told again by a checkpoint.
    let later = later.crash(&CrashPlan::LOSE_UNSYNCED);
    assert!(doubtful(&open(&later, options()).unwrap()));
}

/// A log whose disk has no room for another segment, filled up.
fn full() -> (FaultVfs, Wal, u64) {
    let vfs = FaultVfs::new();
    let wal = open(&vfs, options()).unwrap();
    let mut last = 0;
    while frames(&vfs).len() < 3 {
        prepare(&wal);
        last += 1;
        write(&wal, append(last));
    }
    prepare(&wal);
    vfs.set_capacity(Some(0));
    loop {
        prepare(&wal);
        match submit(&wal, append(last + 1)) {
            Ok(ticket) => wal.wait(ticket).unwrap(),
            Err(SubmitError::Full(_)) => return (vfs, wal, last),
            Err(other) => panic!("{other}"),
        }
        last += 1;
        assert!(last < 1000, "never full");
    }
}

#[test]
fn full_log_takes_what_frees_it() {
    let (_vfs, wal, last) = full();
    for round in 0..20 {
        write(&wal, compact(last));
        prepare(&wal);
        // Each rotation lets go of another old segment, which becomes the next one in place.
        if let Ok(ticket) = submit(&wal, append(last + 1)) {
            wal.wait(ticket).unwrap();
            return;
        }
        assert!(round < 10, "compacted, and still full");
    }
}

#[test]
fn full_log_takes_votes_until_nothing_is_left() {
    let (vfs, wal, _) = full();
    for term in 1..=20 {
        write(&wal, vote(1, term));
        prepare(&wal);
    }
    drop(wal);
    let after = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    // The votes took the reserve, so that opening needs room again.
    after.set_capacity(None);
    let wal = open(&after, options());
    let state = wal.unwrap().open_group(GROUP).unwrap().state;
    assert_eq!(state.hard_state.term, Term(20));
}

#[test]
fn refused_batch_is_told_of_when_there_is_room_again() {
    let (vfs, wal, last) = full();
    let before = wal.durable().unwrap();
    assert_eq!(wal.step_writer(), Written::Slot, "nothing waits");
    vfs.set_capacity(None);
    prepare(&wal);
    assert_eq!(wal.step_writer(), Written::Batches);
    assert!(wal.durable().unwrap() > before, "the watermark moved");
    write(&wal, append(last + 1));
}

#[test]
fn file_that_is_not_the_logs_is_left_alone() {
    let vfs = FaultVfs::new();
    let wal = open(&vfs, options()).unwrap();
    prepare(&wal);
    let mut last = 0;
    while frames(&vfs).len() < 5 {
        prepare(&wal);
        last += 1;
        write(&wal, append(last));
    }
    let all = frames(&vfs);
    let after = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    // The third one is another log's, or nobody's.
    let (spoiled, _) = &all[2];
    let len = after.read_file(spoiled).unwrap().len();
    after.poke(spoiled, 0, &vec![0xee; len]).unwrap();
    let wal = open(&after, options()).unwrap();
    assert_eq!(wal.report().verdict(), Verdict::Corrupt);
    let group = wal.open_group(GROUP).unwrap();
    assert!(!group.state.health.faulty.is_empty());
    let first = group.log.read(LogIndex(1)..LogIndex(2), 1 << 20).unwrap();
    assert_eq!(
        first.len(),
        1,
        "what stands before the lost segment is there"
    );
    let kept: Vec<PathBuf> = after.files();
    assert!(kept.contains(spoiled), "nobody removes what he cannot read");
    assert!(kept.iter().any(|path| path == Path::new(&all[0].0)));
}
