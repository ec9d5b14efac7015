//! How much space the log takes, and what keeping it small costs.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use raftwerk_raft::{
    ConfState, Durability, Entry, GroupId, GroupWrite, HardState, LogId, LogIndex, NodeId,
    SnapshotMeta, Storage, Term, Ticket, WriteBatch,
};
use raftwerk_testkit::fault_vfs::{CrashPlan, FaultVfs};

use super::workload::{open_with, options, prepare, submit};
use crate::{Options, Wal};

pub(crate) fn entries(term: u64, range: std::ops::Range<u64>, size: usize) -> Vec<Entry> {
    let one = |index| {
        let id = LogId::new(Term(term), LogIndex(index));
        Entry::normal(id, Bytes::from(vec![index as u8; size]))
    };
    range.map(one).collect()
}

pub(crate) fn write(group: u64, append: Vec<Entry>) -> GroupWrite {
    GroupWrite {
        group: GroupId(group),
        append,
        ..GroupWrite::default()
    }
}

/// As [`write`], and compacts up to `to`, an entry of term 1.
pub(crate) fn write_and_compact(group: u64, append: Vec<Entry>, to: u64) -> GroupWrite {
    let last = LogId::new(Term(1), LogIndex(to));
    let conf_state = ConfState {
        voters: vec![NodeId(1)],
        ..ConfState::default()
    };
    GroupWrite {
        snapshot: Some(SnapshotMeta {
            last,
            conf_state,
            context: Bytes::new(),
        }),
        compact_to: Some(last.index),
        ..write(group, append)
    }
}

/// Submits, waits, and does all that there is to do in the background.
pub(crate) fn settle(wal: &Wal, groups: Vec<GroupWrite>, last: &mut Ticket) {
    let durability = Durability::Sync;
    let batch = WriteBatch { groups, durability };
    *last = submit(wal, batch, *last).unwrap();
    wal.wait(*last).unwrap();
    rest(wal);
}

/// Does all that there is to do in the background; says how many writes that took.
pub(crate) fn rest(wal: &Wal) -> u64 {
    let before = wal.stats().writes;
    prepare(wal);
    while wal.step_writer() == crate::Written::Batches {
        prepare(wal);
    }
    wal.stats().writes - before
}

/// Writes to a busy group, without moving entries, until `found` finds something.
pub(crate) fn fill_segments<T>(
    wal: &Wal,
    last: &mut Ticket,
    mut found: impl FnMut(&Wal) -> Option<T>,
) -> T {
    for index in 1..2000 {
        let append = entries(1, index..index + 1, 500);
        let write = match index {
            1..6 => write(1, append),
            _ => write_and_compact(1, append, index - 5),
        };
        let durability = Durability::Sync;
        let groups = vec![write];
        *last = submit(wal, WriteBatch { groups, durability }, *last).unwrap();
        wal.wait(*last).unwrap();
        let percent = std::mem::take(&mut wal.engine_state().options.rewrite_percent);
        prepare(wal);
        wal.engine_state().options.rewrite_percent = percent;
        if let Some(found) = found(wal) {
            return found;
        }
    }
    panic!("it is never found")
}

/// Bytes of the pages that hold an entry that lives.
fn live_pages(wal: &Wal) -> u64 {
    let state = wal.engine_state();
    let page = u64::from(state.options.page_bytes);
    let mut pages = BTreeSet::new();
    for (id, group) in &state.groups {
        for part in group.extents.parts.iter() {
            let extents = match group.extents.details(part) {
                Some(extents) => extents.collect(),
                None => wal.engine().tables.find(
                    &state.sealed(part.segment).unwrap(),
                    *id,
                    &part.range(),
                ),
            };
            for extent in extents.iter().filter_map(|one| one.clip(&part.range())) {
                let end = extent.offset + u64::from(extent.bytes);
                pages.extend(
                    (extent.offset / page..end.div_ceil(page)).map(|at| (extent.segment, at)),
                );
            }
        }
    }
    pages.len() as u64 * page
}

/// What the log takes, and what it may take: twice what lives, and two segments.
fn space(wal: &Wal) -> (u64, u64) {
    let segment = wal.engine_state().wanted_capacity();
    (wal.stats().log_bytes, 2 * live_pages(wal) + 2 * segment)
}

/// What each segment may hold beside entries: in small ones that counts. In bytes.
fn beside(wal: &Wal) -> u64 {
    wal.stats().segments * wal.engine_state().empty_bytes()
}

fn check_entries(wal: &Wal, group: u64, range: std::ops::Range<u64>, size: usize) {
    let log = wal.open_group(GroupId(group)).unwrap().log;
    let read = log.read(LogIndex(range.start)..LogIndex(range.end), u64::MAX);
    assert_eq!(read.unwrap(), entries(1, range, size), "group {group}");
}

const SMALL: u64 = 64 * 1024;

fn small() -> Options {
    Options {
        segment_bytes: SMALL,
        batch_bytes_max: 32 * 1024,
        ..options()
    }
}

/// What is kept free for the footer is what it takes, or little more.
#[test]
fn segments_of_small_entries_are_used_to_their_end() {
    const ENTRY: usize = 128;
    let wal = open_with(&FaultVfs::new(), small()).unwrap();
    prepare(&wal);
    let mut last = Ticket(0);
    for index in 1..2000 {
        let commit = LogIndex(index - 1);
        let hard_state = Some(HardState {
            term: Term(1),
            vote: None,
            commit,
        });
        let batch = WriteBatch {
            groups: vec![GroupWrite {
                hard_state,
                ..write(1, entries(1, index..index + 1, ENTRY))
            }],
            ..WriteBatch::default()
        };
        last = submit(&wal, batch, last).unwrap();
        if index % 40 == 0 {
            wal.wait(last).unwrap();
            rest(&wal);
        }
    }
    wal.wait(last).unwrap();
    let state = wal.engine_state();
    let sealed: Vec<_> = state.segments.values().filter(|one| one.sealed).collect();
    assert!(sealed.len() >= 4, "{sealed:?}");
    // The last frame may have missed by as much as it takes itself, 40 entries.
    for segment in sealed {
        let (end, capacity) = (segment.end, segment.header.capacity);
        assert!(
            end >= capacity * 4 / 5,
            "{end} of {capacity} bytes are used"
        );
    }
}

/// Each of `groups` appends an entry of `size` in turn, and keeps the last `keep`.
fn churn(
    wal: &Wal,
    groups: std::ops::RangeInclusive<u64>,
    rounds: std::ops::RangeInclusive<u64>,
    size: usize,
    keep: u64,
    mut each: impl FnMut(&Wal),
) {
    let mut last = Ticket(0);
    for round in rounds {
        for first in groups.clone().step_by(20) {
            let some = first..=groups.end().to_owned().min(first + 19);
            let one = |group| {
                let append = entries(1, round..round + 1, size);
                match round.checked_sub(keep) {
                    Some(to) if to > 0 => write_and_compact(group, append, to),
                    _ => write(group, append),
                }
            };
            settle(wal, some.map(one).collect(), &mut last);
            each(wal);
        }
    }
}

#[test]
fn idle_group_among_a_thousand_busy_ones_does_not_keep_their_space() {
    let vfs = FaultVfs::new();
    let options = Options {
        segment_bytes: 4 << 20,
        batch_bytes_max: 128 * 1024,
        page_bytes: 4096,
        ..options()
    };
    let wal = open_with(&vfs, options.clone()).unwrap();
    prepare(&wal);
    settle(
        &wal,
        vec![write(5000, entries(1, 1..6, 300))],
        &mut Ticket(0),
    );
    let (mut most, mut batches) = (0, 0);
    churn(&wal, 1..=1000, 1..=25, 1000, 3, |wal| {
        batches += 1;
        if batches % 17 > 0 {
            return;
        }
        let (taken, may) = space(wal);
        assert!(taken <= may, "{taken} of {may} at {:?}", wal.stats());
        most = most.max(wal.stats().segments);
    });
    let stats = wal.stats();
    assert!(stats.recycled + stats.removed >= 5, "{stats:?}");
    assert!(stats.rewritten_entries >= 5, "{stats:?}");
    assert!((3..=5).contains(&most), "{most}");
    check_entries(&wal, 5000, 1..6, 300);
    let wal = open_with(&vfs.crash(&CrashPlan::LOSE_UNSYNCED), options).unwrap();
    check_entries(&wal, 5000, 1..6, 300);
    check_entries(&wal, 1, 23..26, 1000);
}

/// The worst that can be asked: what is old lives, what is new dies.
#[test]
fn rewriting_never_costs_more_than_what_was_appended_and_ends() {
    let vfs = FaultVfs::new();
    let wal = open_with(&vfs, small()).unwrap();
    prepare(&wal);
    let mut last = Ticket(0);
    // Ten segments that live.
    for index in 0..10 * SMALL / 2000 {
        settle(
            &wal,
            vec![write(1, entries(1, index + 1..index + 2, 2000))],
            &mut last,
        );
    }
    let before = wal.stats();
    assert_eq!(before.rewritten_bytes, 0, "all of it lives");
    churn(&wal, 2..=6, 1..=1500, 300, 1, |wal| {
        let (taken, may) = space(wal);
        let may = may + beside(wal);
        assert!(taken <= may, "{taken} of {may} at {:?}", wal.stats());
        let stats = wal.stats();
        let used = (stats.segments + stats.recycled + stats.removed) * SMALL;
        assert!(2 * stats.rewritten_bytes <= used, "{stats:?}");
    });
    let stats = wal.stats();
    assert!(
        stats.rewritten_bytes > 10 * SMALL / 2,
        "the old ones were turned over: {stats:?}"
    );
    // Nothing comes any more: what there is to do comes to its end.
    rest(&wal);
    assert_eq!(rest(&wal), 0);
    check_entries(&wal, 1, 1..10 * SMALL / 2000 + 1, 2000);
}

#[test]
fn nothing_is_rewritten_where_the_option_forbids_it() {
    let vfs = FaultVfs::new();
    let options = Options {
        rewrite_percent: 0,
        ..small()
    };
    let wal = open_with(&vfs, options).unwrap();
    prepare(&wal);
    settle(&wal, vec![write(50, entries(1, 1..3, 100))], &mut Ticket(0));
    churn(&wal, 1..=20, 1..=100, 300, 2, |_| {});
    let stats = wal.stats();
    assert_eq!((stats.rewritten_bytes, stats.recycled), (0, 0));
    assert!(stats.segments > 5);
    assert_eq!(wal.pressure().pinning_groups, [GroupId(50)]);
}

/// A log that is reopened in between, as a crash leaves it, keeps what was rewritten and where.
#[test]
fn rewritten_entries_survive_every_reopening() {
    let mut vfs = FaultVfs::new();
    let mut wal: Arc<Wal> = open_with(&vfs, small()).unwrap();
    prepare(&wal);
    settle(
        &wal,
        vec![write(50, entries(1, 1..31, 400))],
        &mut Ticket(0),
    );
    let mut rewritten = 0;
    for round in 0..12 {
        churn(
            &wal,
            1..=20,
            1 + round * 20..=20 + round * 20,
            300,
            2,
            |_| {},
        );
        check_entries(&wal, 50, 1..31, 400);
        rewritten += wal.stats().rewritten_entries;
        vfs = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
        wal = open_with(&vfs, small()).unwrap();
        assert_eq!(
            wal.report().verdict(),
            crate::Verdict::Clean,
            "{:?}",
            wal.report()
        );
        check_entries(&wal, 50, 1..31, 400);
        rest(&wal);
    }
    assert!(rewritten >= 60, "{rewritten}");
}
