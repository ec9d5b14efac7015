//! Sizes: of entries, of reads, of batches, of the queue.

use bytes::Bytes;
use raftwerk_raft::{
    ByteBudget, Entry, EntryKind, GroupId, GroupWrite, HardState, LogError, LogIndex, LogReader,
    SubmitError, Term, Ticket,
};

use crate::log_suite::home::LogFactory;
use crate::log_suite::session::{Session, append, batch, id, skip, step};

fn sized(index: u64, len: usize) -> Entry {
    // Not compressible, and different everywhere.
    let mut dice = crate::dice::Dice::new(index);
    let mut data: Vec<u8> = (0..len.div_ceil(8))
        .flat_map(|_| dice.next().to_le_bytes())
        .collect();
    data.truncate(len);
    Entry::normal(id(1, index), Bytes::from(data))
}

pub(super) fn reads_stop_at_the_byte_limit_but_give_one(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    let lens = [100, 100, 5000, 0, 0, 100, 100];
    let append = (1..)
        .zip(lens)
        .map(|(index, len)| sized(index, len))
        .collect();
    session.write(GroupWrite { append, ..step(1) });
    for _ in 0..2 {
        let log = session.log(GroupId(1));
        let limits = [
            (1, 0, 1),
            (1, 99, 1),
            (1, 199, 1),
            (1, 200, 2),
            (1, 5199, 2),
            (1, 5200, 5),
        ];
        for (from, max_bytes, count) in
            limits
                .into_iter()
                .chain([(3, 10, 1), (4, 0, 2), (1, u64::MAX, 7)])
        {
            let range = LogIndex(from)..LogIndex(8);
            let found = log.read(range.clone(), max_bytes).unwrap();
            assert_eq!(found.len(), count, "read from {from} with {max_bytes}");
            check_hot(&*log, range, max_bytes, &found);
        }
        let found = log.read(LogIndex(2)..LogIndex(3), u64::MAX).unwrap();
        assert_eq!(found.len(), 1, "the range ends it too");
        drop(log);
        session.reopen();
    }
}

/// What is in memory agrees with what is read, is added behind what `out` held, and keeps to the
/// limit.
fn check_hot(log: &dyn LogReader, range: std::ops::Range<LogIndex>, max: u64, found: &[Entry]) {
    let mark = sized(77, 3);
    let mut out = vec![mark.clone()];
    match log.entries(range, max, &mut out) {
        Err(LogError::Cold) => assert_eq!(out, [mark]),
        Ok(()) => {
            assert_eq!(out[0], mark);
            assert!(
                out.len() > 1 && found.starts_with(&out[1..]),
                "{} entries",
                out.len()
            );
        }
        Err(error) => panic!("entries: {error}"),
    }
}

pub(super) fn entries_of_all_sizes_and_kinds_come_back(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    let lens = [
        0,
        1,
        7,
        8,
        127,
        128,
        511,
        512,
        513,
        4095,
        4096,
        4097,
        65_535,
        65_536,
        300_000,
        1 << 20,
    ];
    for (index, len) in (1..).zip(lens) {
        let kinds = [
            EntryKind::Normal,
            EntryKind::ConfChangeSingle,
            EntryKind::ConfChange,
        ];
        let kind = kinds[index as usize % 3];
        let append = vec![Entry {
            kind,
            ..sized(index, len)
        }];
        session.write(GroupWrite { append, ..step(1) });
        session.wait();
    }
    session.verify();
    session.reopen();
    let many = (1..=2000)
        .map(|index| sized(index, index as usize % 40))
        .collect();
    session.write(GroupWrite {
        append: many,
        ..step(2)
    });
    session.reopen();
}

/// What every store can be set up to take in one entry.
const LARGEST: u64 = 16 * MIB;

/// The largest entry that the store promises to take, [`LARGEST`] at most, and those on the way
/// there.
pub(super) fn largest_entry_comes_back_whole(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    let queue = session.store().pressure().queued_bytes_max;
    let promised = session.store().entry_bytes_max().unwrap_or(queue / 2);
    let largest = promised.min(LARGEST);
    if largest < LARGEST {
        let reason = format!("this store takes {largest} bytes at most, as it is set up here");
        skip("an entry of 16 MiB", &reason);
    }
    let mut lens = vec![largest];
    while lens[0] > 4 * MIB {
        lens.insert(0, lens[0] / 2 + 1);
    }
    for (index, len) in (1..).zip(&lens) {
        let append = vec![sized(index, usize::try_from(*len).unwrap())];
        session.write(GroupWrite { append, ..step(1) });
        session.wait();
    }
    session.write(GroupWrite {
        append: vec![sized(lens.len() as u64 + 1, 0)],
        ..step(1)
    });
    for _ in 0..2 {
        let log = session.log(GroupId(1));
        let last = LogIndex(lens.len() as u64);
        for max_bytes in [0, largest] {
            let read = log.read(last..last.plus(2), max_bytes).unwrap();
            // An entry without payload fits behind one that fills the limit, behind a larger not.
            assert_eq!(read.len(), if max_bytes == 0 { 1 } else { 2 });
            assert_eq!(read[0].data.len() as u64, largest);
        }
        drop(log);
        session.reopen();
    }
}

pub(super) fn largest_numbers_come_back(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    let (term, index) = (u64::MAX, u64::MAX - 3);
    let meta = crate::log_suite::session::snapshot(term, index);
    session.write(GroupWrite {
        reset_to: Some(meta),
        ..append(u64::MAX, term, index + 1, index + 2)
    });
    session.reopen();
    let open = session.store().open_group(GroupId(u64::MAX)).unwrap();
    assert_eq!(open.state.last, id(term, u64::MAX - 1));
}

const MIB: u64 = 1 << 20;

/// A step with `count` entries of a mebibyte, from `from` on.
fn large(data: &Bytes, from: u64, count: u64) -> GroupWrite {
    let entry = |index| Entry::normal(id(1, index), data.clone());
    GroupWrite {
        append: (from..from + count).map(entry).collect(),
        ..step(2)
    }
}

pub(super) fn refused_batch_comes_back_unchanged(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.write(append(1, 1, 1, 3));
    session.wait();
    let max = session.store().pressure().queued_bytes_max;
    let largest = session.store().entry_bytes_max();
    if let Some(largest) = largest.filter(|largest| *largest <= 256 * MIB) {
        session.write(GroupWrite {
            append: vec![sized(1, usize::try_from(largest).unwrap())],
            hard_state: Some(HardState {
                term: Term(1),
                ..HardState::default()
            }),
            ..step(3)
        });
        session.wait();
    }
    if max > 256 * MIB {
        skip(
            "a batch beyond the limit",
            "the store's limit is over 256 MiB",
        );
        return;
    }
    let data = Bytes::from(vec![b'x'; 1 << 20]);
    let too_large = batch([large(&data, 1, max / MIB + 2)]);
    match session.store().submit(too_large.clone()) {
        Err(SubmitError::TooLarge { batch, bytes, max }) => {
            assert!(bytes > max, "{bytes} bytes refused with a limit of {max}");
            assert_eq!(batch, too_large);
        }
        other => panic!("a batch beyond the queue's limit must be TooLarge, not {other:?}"),
    }
    session.verify();
    full_queue_hands_back(&mut session, &data, max);
}

fn full_queue_hands_back(session: &mut Session, data: &Bytes, max: u64) {
    let Some(held) = session.hold_syncs() else {
        return;
    };
    let mut accepted = Ticket(0);
    let mut index = 1;
    loop {
        assert!(
            index * MIB <= max + 2 * MIB,
            "queued beyond the limit of {max} bytes"
        );
        let pending = batch([large(data, index, 1)]);
        match session.store().submit(pending.clone()) {
            Ok(ticket) => accepted = ticket,
            Err(SubmitError::Full(back)) => {
                assert_eq!(back, pending);
                break;
            }
            other => panic!("{other:?}"),
        }
        index += 1;
    }
    assert_eq!(
        session.log(GroupId(2)).last().index,
        LogIndex(index - 1),
        "no effect"
    );
    drop(held);
    session.store().wait(accepted).unwrap();
    // There is room again.
    let ticket = session
        .store()
        .submit(batch([large(data, index, 1)]))
        .unwrap();
    session.store().wait(ticket).unwrap();
    assert_eq!(session.log(GroupId(2)).last(), id(1, index));
}

pub(super) fn idle_store_has_nothing_queued(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.write(append(1, 1, 1, 100));
    session.wait();
    let pressure = session.store().pressure();
    assert_eq!(pressure.queued_bytes, 0);
    assert!(pressure.queued_bytes_max > 0);
    assert!(!pressure.stalled);
}

pub(super) fn scrub_of_a_healthy_store_finds_nothing(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    for round in 0..20 {
        session.submit(batch(
            (1..=5).map(|group| append(group, 1, round * 10 + 1, round * 10 + 10)),
        ));
        session.wait();
    }
    for budget in [64 * 1024, u64::MAX] {
        let mut calls = 0;
        loop {
            let report = session.store().scrub(ByteBudget(budget)).unwrap();
            assert_eq!(report.damage, [] as [String; 0]);
            calls += 1;
            assert!(calls < 100_000, "a scrub comes to its end");
            if report.completed {
                break;
            }
        }
    }
    session.reopen();
    assert_eq!(
        session.store().scrub(ByteBudget(u64::MAX)).unwrap().damage,
        [] as [String; 0]
    );
}
