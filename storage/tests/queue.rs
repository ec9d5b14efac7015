//! The queue: who writes, what one commit carries, and reads beside it all.
#![allow(clippy::unwrap_used, clippy::panic)]

mod toy;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use bytes::Bytes;
use raftwerk_raft::{
    Durability, Entry, GroupId, GroupWrite, LogError, LogId, LogIndex, LogReader, SnapshotMeta,
    Storage, StorageError, SubmitError, Term, Ticket, WriteBatch,
};
use raftwerk_storage::batch_bytes;
use raftwerk_storage::queue::{QueueOptions, TicketQueue};
use toy::{ToyDisk, ToyEngine};

const GROUP: GroupId = GroupId(1);

fn options() -> QueueOptions {
    QueueOptions {
        background: false,
        tail_bytes_max: 0,
        ..QueueOptions::default()
    }
}

fn open(disk: &ToyDisk) -> TicketQueue<ToyEngine> {
    disk.open(options()).unwrap()
}

fn entry(term: u64, index: u64) -> Entry {
    let data = Bytes::from(format!("entry {index} of term {term}"));
    Entry::normal(LogId::new(Term(term), LogIndex(index)), data)
}

fn append(group: u64, term: u64, range: Range<u64>) -> GroupWrite {
    let append = range.map(|index| entry(term, index)).collect();
    GroupWrite {
        group: GroupId(group),
        append,
        ..GroupWrite::default()
    }
}

fn batch(write: GroupWrite, durability: Durability) -> WriteBatch {
    WriteBatch {
        groups: vec![write],
        durability,
    }
}

fn submit(queue: &TicketQueue<ToyEngine>, write: GroupWrite) -> Ticket {
    queue.submit(batch(write, Durability::Sync)).unwrap()
}

fn ids(entries: &[Entry]) -> Vec<(u64, u64)> {
    entries
        .iter()
        .map(|entry| (entry.term().0, entry.index().0))
        .collect()
}

#[test]
fn commit_carries_the_net_effect_and_no_overwritten_entry() {
    let disk = ToyDisk::default();
    let queue = open(&disk);
    submit(&queue, append(1, 1, 1..11));
    submit(&queue, append(1, 2, 5..7));
    let ticket = submit(&queue, append(2, 1, 1..2));
    queue.wait(ticket).unwrap();
    // The engine has 1 to 6 of group 1; now 2 is compacted, 4 replaced and 5 and 6 cut off.
    let last = LogId::new(Term(1), LogIndex(2));
    let snapshot = Some(SnapshotMeta {
        last,
        ..SnapshotMeta::default()
    });
    submit(
        &queue,
        GroupWrite {
            snapshot,
            compact_to: Some(last.index),
            ..append(1, 3, 4..5)
        },
    );
    let destroy = GroupWrite {
        group: GroupId(2),
        destroy: true,
        ..GroupWrite::default()
    };
    let ticket = submit(&queue, destroy);
    queue.wait(ticket).unwrap();
    let commits = disk.commits();
    let [(first, _), (second, _)] = commits.as_slice() else {
        panic!("{} commits", commits.len())
    };
    let [one, two] = first.groups.as_slice() else {
        panic!("{first:?}")
    };
    assert_eq!(
        ids(&one.put),
        [(1, 1), (1, 2), (1, 3), (1, 4), (2, 5), (2, 6)]
    );
    assert_eq!((one.removed.len(), ids(&two.put)), (0, vec![(1, 1)]));
    let [one, two] = second.groups.as_slice() else {
        panic!("{second:?}")
    };
    assert_eq!(
        one.removed,
        [LogIndex(1)..LogIndex(3), LogIndex(5)..LogIndex(7)]
    );
    assert_eq!(ids(&one.put), [(3, 4)]);
    assert_eq!(
        (&two.removed, &two.image),
        (&vec![LogIndex(1)..LogIndex(2)], &None)
    );
    assert_eq!(queue.groups().unwrap(), [GROUP]);
}

#[test]
fn lone_waiter_writes_on_its_own_thread() {
    let disk = ToyDisk::default();
    let queue = open(&disk);
    let ticket = submit(&queue, append(1, 1, 1..2));
    assert!(disk.commits().is_empty());
    queue.wait(ticket).unwrap();
    let threads: Vec<_> = disk
        .commits()
        .into_iter()
        .map(|(_, thread)| thread)
        .collect();
    assert_eq!(threads, [thread::current().id()]);
}

#[test]
fn background_thread_commits_what_nobody_waits_for() {
    let disk = ToyDisk::default();
    let queue = disk.open(QueueOptions::default()).unwrap();
    let (sender, news) = mpsc::channel();
    let _subscription = queue.on_durable(Box::new(move |news| sender.send(news).unwrap()));
    for index in 1..4 {
        let ticket = submit(&queue, append(1, 1, index..index + 1));
        while news.recv().unwrap().unwrap() < ticket {}
    }
    let lazy = queue
        .submit(batch(append(2, 1, 1..2), Durability::Lazy))
        .unwrap();
    assert!(queue.durable().unwrap() < lazy);
    // The next that is not lazy takes it along.
    let ticket = submit(&queue, append(1, 1, 4..5));
    while news.recv().unwrap().unwrap() < ticket {}
    assert_eq!(
        disk.open(options()).unwrap_err().to_string(),
        "toy is in use by another process"
    );
}

#[test]
fn background_takes_over_what_came_while_a_waiter_wrote() {
    let disk = ToyDisk::default();
    let queue = disk
        .open(QueueOptions {
            background: true,
            ..options()
        })
        .unwrap();
    let (sender, news) = mpsc::channel();
    let _subscription = queue.on_durable(Box::new(move |news| sender.send(news).unwrap()));
    disk.hold();
    // Lazy, so that it wakes nobody: its waiter writes.
    let first = queue
        .submit(batch(append(1, 1, 1..2), Durability::Lazy))
        .unwrap();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| queue.wait(first));
        disk.wait_arrived(1);
        let second = submit(&queue, append(1, 1, 2..3));
        disk.release();
        waiter.join().unwrap().unwrap();
        while news.recv().unwrap().unwrap() < second {}
    });
}

#[test]
fn cold_read_overtaken_by_a_change_is_read_again() {
    let disk = ToyDisk::default();
    let queue = open(&disk);
    let ticket = submit(&queue, append(1, 1, 1..4));
    queue.wait(ticket).unwrap();
    let log = queue.open_group(GROUP).unwrap().log;
    disk.hold_reads();
    thread::scope(|scope| {
        let reader = scope.spawn(|| log.read(LogIndex(1)..LogIndex(4), u64::MAX).unwrap());
        disk.wait_read_arrived();
        // The same ids, another log.
        let mut again = GroupWrite {
            destroy: true,
            ..append(1, 1, 1..4)
        };
        for entry in &mut again.append {
            entry.data = Bytes::from_static(b"another");
        }
        let wanted = again.append.clone();
        submit(&queue, again);
        disk.release_reads();
        assert_eq!(reader.join().unwrap(), wanted);
    });
}

#[test]
fn one_commit_serves_everybody_waiting() {
    const THREADS: u64 = 6;
    let disk = ToyDisk::default();
    let queue = open(&disk);
    disk.hold();
    let submitted = Barrier::new(THREADS as usize + 1);
    thread::scope(|scope| {
        let first = submit(&queue, append(100, 1, 1..2));
        let writer = scope.spawn({
            let queue = &queue;
            move || queue.wait(first)
        });
        disk.wait_arrived(1);
        for group in 1..=THREADS {
            let (queue, submitted) = (&queue, &submitted);
            scope.spawn(move || {
                let ticket = submit(queue, append(group, 1, 1..2));
                submitted.wait();
                queue.wait(ticket).unwrap();
            });
        }
        submitted.wait();
        disk.release();
        writer.join().unwrap().unwrap();
    });
    assert_eq!(disk.commits().len(), 2);
}

#[test]
fn failed_commit_poisons_reads_stay_open_and_nothing_more_is_written() {
    for (fails, cause) in [
        ("bad sector", "bad sector"),
        ("panic", "the engine panicked: on request"),
    ] {
        let disk = ToyDisk::default();
        let queue = disk
            .open(QueueOptions {
                background: true,
                ..options()
            })
            .unwrap();
        let ticket = submit(&queue, append(1, 1, 1..4));
        queue.wait(ticket).unwrap();
        disk.fail_next(fails);
        let ticket = submit(&queue, append(1, 1, 4..6));
        let error = queue.wait(ticket).unwrap_err();
        assert_eq!(&*error.cause, cause);
        let refused = queue
            .submit(batch(append(1, 1, 6..7), Durability::Sync))
            .unwrap_err();
        assert!(matches!(refused, SubmitError::Poisoned(_)), "{refused}");
        assert_eq!(queue.wait(ticket), Err(error.clone()));
        assert_eq!(queue.durable(), Err(error));
        let log = queue.open_group(GROUP).unwrap().log;
        let read = log.read(LogIndex(1)..LogIndex(4), u64::MAX).unwrap();
        assert_eq!(ids(&read), [(1, 1), (1, 2), (1, 3)]);
        let read = log.read(LogIndex(4)..LogIndex(9), u64::MAX).unwrap();
        assert_eq!(
            ids(&read),
            [(1, 4), (1, 5)],
            "of what failed nothing is known, nor forgotten"
        );
        assert_eq!(disk.commits().len(), 1);
    }
}

#[test]
fn queue_is_bounded_and_lazy_batches_alone_do_not_fill_it() {
    let one = || batch(append(1, 1, 1..2), Durability::Lazy);
    let bytes = batch_bytes(&one());
    let disk = ToyDisk::default();
    let bounds = |background| QueueOptions {
        queued_bytes_max: 4 * bytes,
        batch_bytes_max: 2 * bytes,
        background,
        ..options()
    };
    let queue = disk.open(bounds(false)).unwrap();
    let next = |index| batch(append(1, 1, index..index + 1), Durability::Lazy);
    for index in 1..5 {
        queue.submit(next(index)).unwrap();
    }
    let Err(SubmitError::Full(back)) = queue.submit(next(5)) else {
        panic!("took too much")
    };
    assert_eq!(back, next(5));
    let pressure = queue.pressure();
    assert_eq!(
        (pressure.queued_bytes, pressure.queued_bytes_max),
        (4 * bytes, 4 * bytes)
    );
    assert_eq!(pressure.disk_free_bytes, Some(77));
    let huge = batch(append(1, 1, 5..50), Durability::Lazy);
    assert!(matches!(
        queue.submit(huge),
        Err(SubmitError::TooLarge { .. })
    ));
    queue.wait(Ticket(1)).unwrap();
    assert_eq!(queue.pressure().queued_bytes, 0);
    drop(queue);

    let queue = disk.open(bounds(true)).unwrap();
    let (sender, news) = mpsc::channel();
    let _subscription = queue.on_durable(Box::new(move |_| sender.send(()).unwrap()));
    for index in 5..50 {
        let mut pending = next(index);
        while let Err(SubmitError::Full(back)) = queue.submit(pending) {
            news.recv().unwrap();
            pending = back;
        }
    }
}

#[test]
fn stalled_commit_shows_in_the_pressure() {
    let disk = ToyDisk::default();
    let stall = QueueOptions {
        stall_ms_max: 0,
        background: true,
        ..options()
    };
    let queue = disk.open(stall).unwrap();
    assert_eq!(queue.pressure().sync_age_ms, 0);
    disk.hold();
    let ticket = submit(&queue, append(1, 1, 1..2));
    disk.wait_arrived(1);
    while !queue.pressure().stalled {
        thread::yield_now();
    }
    disk.release();
    queue.wait(ticket).unwrap();
}

#[test]
fn senseless_options_are_refused() {
    let senseless = QueueOptions {
        batch_bytes_max: 0,
        ..options()
    };
    let refused = ToyDisk::default().open(senseless).unwrap_err();
    assert!(matches!(refused, StorageError::Option { .. }), "{refused}");
}

#[test]
fn reopened_queue_goes_on_where_the_engine_stands() {
    let disk = ToyDisk::default();
    let queue = open(&disk);
    let ticket = submit(&queue, append(1, 1, 1..6));
    queue.wait(ticket).unwrap();
    submit(&queue, append(1, 1, 6..9));
    drop(queue);
    let queue = open(&disk);
    let open = queue.open_group(GROUP).unwrap();
    assert_eq!(open.state.last, LogId::new(Term(1), LogIndex(5)));
    let range = LogIndex(2)..LogIndex(4);
    let mut out = Vec::new();
    assert_eq!(
        open.log.entries(range.clone(), 99, &mut out),
        Err(LogError::Cold)
    );
    assert_eq!(ids(&open.log.read(range, 99).unwrap()), [(1, 2), (1, 3)]);
    assert_eq!(submit(&queue, append(1, 2, 4..5)), Ticket(1));
    queue.wait(Ticket(1)).unwrap();
}

/// Reads with everything evicted, while a writer truncates, compacts, resets and destroys: what
/// comes back is always a piece of one state of the log, from where it was asked for.
#[test]
fn cold_reads_never_mix_two_states_of_the_log() {
    let disk = ToyDisk::default();
    let queue = disk
        .open(QueueOptions {
            background: true,
            ..options()
        })
        .unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let log = queue.open_group(GROUP).unwrap().log;
                while !done.load(Ordering::Acquire) {
                    read_once(&log);
                }
            });
        }
        churn(&queue);
        done.store(true, Ordering::Release);
    });
}

fn read_once(log: &Arc<dyn LogReader>) {
    let first = log.first();
    match log.read(first..first.plus(8), u64::MAX) {
        Ok(entries) => {
            assert!(!entries.is_empty());
            let mut term = Term(0);
            for (found, offset) in entries.iter().zip(0..) {
                assert_eq!(found.index(), first.plus(offset));
                assert_eq!(*found, entry(found.term().0, found.index().0));
                assert!(found.term() >= term, "terms of two logs in one read");
                term = found.term();
            }
        }
        Err(LogError::Compacted { .. } | LogError::Unavailable { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

fn churn(queue: &TicketQueue<ToyEngine>) {
    let mut term = 0;
    for round in 0..300u64 {
        term += 1;
        let first = queue.open_group(GROUP).unwrap().log.first().0;
        submit(queue, append(1, term, first..first + 10));
        // Truncates in the middle, each round elsewhere.
        term += 1;
        let ticket = submit(queue, append(1, term, first + 1 + round % 8..first + 12));
        queue.wait(ticket).unwrap();
        let last = LogId::new(Term(term), LogIndex(first + 11));
        let meta = Some(SnapshotMeta {
            last,
            ..SnapshotMeta::default()
        });
        let step = GroupWrite {
            group: GROUP,
            ..GroupWrite::default()
        };
        let ticket = match round % 3 {
            0 => submit(
                queue,
                GroupWrite {
                    snapshot: meta,
                    compact_to: Some(last.index),
                    ..step
                },
            ),
            1 => submit(
                queue,
                GroupWrite {
                    reset_to: meta,
                    ..step
                },
            ),
            _ => submit(
                queue,
                GroupWrite {
                    destroy: true,
                    ..step
                },
            ),
        };
        if round % 2 == 0 {
            queue.wait(ticket).unwrap();
        }
    }
}

/// Many submitters, some waiting, on few groups; the toy engine checks each commit.
#[test]
fn concurrent_submitters_lose_nothing() {
    const THREADS: u64 = 4;
    const BATCHES: u64 = 200;
    let disk = ToyDisk::default();
    let queue = disk
        .open(QueueOptions {
            background: true,
            ..options()
        })
        .unwrap();
    let tickets: Vec<_> = thread::scope(|scope| {
        let submitter = |group| {
            let queue = &queue;
            move || {
                let mut last = Ticket(0);
                for index in 1..=BATCHES {
                    let durability = if index % 3 == 0 {
                        Durability::Lazy
                    } else {
                        Durability::Sync
                    };
                    let write = append(group, 1, index..index + 1);
                    last = queue.submit(batch(write, durability)).unwrap();
                    if index % 7 == 0 {
                        queue.wait(last).unwrap();
                        assert!(queue.durable().unwrap() >= last);
                    }
                }
                last
            }
        };
        let threads: Vec<_> = (1..=THREADS)
            .map(|group| scope.spawn(submitter(group)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let last = tickets.into_iter().max().unwrap();
    assert_eq!(last, Ticket(THREADS * BATCHES));
    queue.wait(last).unwrap();
    drop(queue);
    let queue = open(&disk);
    let mut found = BTreeMap::new();
    for group in queue.groups().unwrap() {
        let log = queue.open_group(group).unwrap().log;
        found.insert(
            group.0,
            log.read(LogIndex(1)..LogIndex::MAX, u64::MAX).unwrap(),
        );
    }
    let wanted: Vec<_> = (1..=BATCHES).map(|index| entry(1, index)).collect();
    assert_eq!(
        found,
        (1..=THREADS).map(|group| (group, wanted.clone())).collect()
    );
}
