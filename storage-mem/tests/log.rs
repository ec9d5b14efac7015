//! What this log adds to the contract: modes, crashes, failures on request.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use raftwerk_raft::{
    Durability, Entry, GroupId, GroupWrite, LogId, LogIndex, Storage, StorageError, SubmitError,
    Term, Ticket, WriteBatch,
};
use raftwerk_storage::batch_bytes;
use raftwerk_storage_mem::{MemDisk, MemLog, MemLogOptions, SyncMode};

const GROUP: GroupId = GroupId(7);

fn batch(index: u64, durability: Durability) -> WriteBatch {
    let id = LogId::new(Term(1), LogIndex(index));
    let append = vec![Entry::normal(id, Bytes::from(format!("entry {index}")))];
    let groups = vec![GroupWrite {
        group: GROUP,
        append,
        ..GroupWrite::default()
    }];
    WriteBatch { groups, durability }
}

fn submit(log: &MemLog, index: u64) -> Ticket {
    log.submit(batch(index, Durability::Sync)).unwrap()
}

fn last(log: &MemLog) -> u64 {
    log.open_group(GROUP).unwrap().log.last().index.0
}

fn log(sync: SyncMode) -> MemLog {
    MemLog::new(MemLogOptions {
        sync,
        ..MemLogOptions::default()
    })
    .unwrap()
}

#[test]
fn immediate_mode_is_durable_on_return_and_lazy_batches_ride_along() {
    let log = log(SyncMode::Immediate);
    assert_eq!(submit(&log, 1), Ticket(1));
    assert_eq!(log.durable(), Ok(Ticket(1)));
    log.submit(batch(2, Durability::Lazy)).unwrap();
    assert_eq!(log.durable(), Ok(Ticket(1)));
    submit(&log, 3);
    assert_eq!(log.durable(), Ok(Ticket(3)));
    assert_eq!(last(&log.crash().unwrap()), 3);
}

#[test]
fn crash_loses_what_was_not_synced_and_nothing_else() {
    let log = log(SyncMode::Manual);
    for index in 1..=5 {
        submit(&log, index);
    }
    assert_eq!(log.durable(), Ok(Ticket(0)));
    log.wait(Ticket(2)).unwrap();
    assert_eq!(log.durable(), Ok(Ticket(2)));
    assert_eq!(last(&log), 5, "readable before it is durable");
    let log = log.crash().unwrap();
    assert_eq!(last(&log), 2);
    submit(&log, 3);
    submit(&log, 4);
    assert_eq!(log.sync_now(), Ok(Ticket(2)));
    submit(&log, 5);
    submit(&log, 6);
    let log = log.crash_keeping(1).unwrap();
    assert_eq!(last(&log), 5);
}

#[test]
fn crashed_handle_is_dead() {
    let old = log(SyncMode::Manual);
    submit(&old, 1);
    let new = old.crash().unwrap();
    let refused = old.submit(batch(2, Durability::Sync)).unwrap_err();
    assert!(matches!(refused, SubmitError::Poisoned(_)), "{refused}");
    assert!(old.wait(Ticket(1)).is_err() && old.sync_now().is_err());
    assert!(matches!(old.crash(), Err(StorageError::Locked { .. })));
    assert!(new.groups().unwrap().is_empty());
}

#[test]
fn disk_outlives_the_log_and_has_one_at_a_time() {
    let disk = MemDisk::default();
    let options = MemLogOptions::default;
    let log = MemLog::open(&disk, options()).unwrap();
    assert!(matches!(
        MemLog::open(&disk, options()),
        Err(StorageError::Locked { .. })
    ));
    submit(&log, 1);
    drop(log);
    let log = MemLog::open(&disk, options()).unwrap();
    assert_eq!(last(&log), 1);
    assert_eq!(submit(&log, 2), Ticket(1), "tickets begin anew");
}

#[test]
fn failed_sync_poisons_and_reads_stay_open() {
    let log = log(SyncMode::Manual);
    submit(&log, 1);
    log.sync_now().unwrap();
    let ticket = submit(&log, 2);
    let (sender, news) = mpsc::channel();
    let _subscription = log.on_durable(Box::new(move |news| sender.send(news).unwrap()));
    log.fail_next_sync("bad sector");
    let error = log.wait(ticket).unwrap_err();
    assert_eq!(&*error.cause, "bad sector");
    assert_eq!(news.try_iter().collect::<Vec<_>>(), [Err(error.clone())]);
    assert_eq!(
        log.sync_now(),
        Err(error.clone()),
        "a second try proves nothing"
    );
    assert_eq!(log.durable(), Err(error));
    assert_eq!(last(&log), 2);
    assert_eq!(last(&log.crash().unwrap()), 1);
}

#[test]
fn held_syncs_let_submits_through_and_waiters_wait() {
    for sync in [
        SyncMode::Immediate,
        SyncMode::Manual,
        SyncMode::Delayed(Duration::ZERO),
    ] {
        let log = log(sync);
        let held = log.hold_syncs();
        let ticket = submit(&log, 1);
        assert_eq!(log.durable(), Ok(Ticket(0)));
        thread::scope(|scope| {
            let waiter = scope.spawn(|| log.wait(ticket));
            // Not yet a waiter, perhaps: it must come through either way.
            thread::yield_now();
            drop(held);
            waiter.join().unwrap().unwrap();
        });
        assert_eq!(log.durable(), Ok(ticket));
    }
}

#[test]
fn delayed_mode_syncs_by_itself_and_takes_everybody_along() {
    let log = log(SyncMode::Delayed(Duration::from_millis(1)));
    let (sender, news) = mpsc::channel();
    let _subscription = log.on_durable(Box::new(move |news| sender.send(news.unwrap()).unwrap()));
    let held = log.hold_syncs();
    for index in 1..=20 {
        submit(&log, index);
    }
    drop(held);
    assert_eq!(news.recv(), Ok(Ticket(20)), "one sync for all");
    let lazy = log.submit(batch(21, Durability::Lazy)).unwrap();
    log.wait(lazy).unwrap();
    assert_eq!(news.recv(), Ok(lazy));
}

#[test]
fn full_queue_hands_the_batch_back_until_the_watermark_moves() {
    let bytes = batch_bytes(&batch(1, Durability::Sync));
    let options = MemLogOptions {
        sync: SyncMode::Manual,
        queued_bytes_max: 2 * bytes,
        batch_bytes_max: bytes,
    };
    let log = MemLog::new(options).unwrap();
    submit(&log, 1);
    submit(&log, 2);
    assert_eq!(log.pressure().queued_bytes, 2 * bytes);
    let Err(SubmitError::Full(back)) = log.submit(batch(3, Durability::Sync)) else {
        panic!("a full log took a batch");
    };
    assert_eq!(back, batch(3, Durability::Sync));
    log.sync_now().unwrap();
    assert_eq!(log.pressure().queued_bytes, 0);
    log.submit(back).unwrap();
    assert_eq!(last(&log), 3);
    let Err(SubmitError::TooLarge {
        bytes: found, max, ..
    }) = log.submit(WriteBatch {
        groups: vec![GroupWrite::default(); 9],
        ..WriteBatch::default()
    })
    else {
        panic!("a batch beyond the limit was taken");
    };
    assert!(found > max && max == bytes);
}

#[test]
fn lazy_batches_alone_do_not_fill_the_queue_for_good() {
    let bytes = batch_bytes(&batch(1, Durability::Sync));
    let options = MemLogOptions {
        sync: SyncMode::Immediate,
        queued_bytes_max: 4 * bytes,
        batch_bytes_max: 2 * bytes,
    };
    let log = MemLog::new(options).unwrap();
    for index in 1..=50 {
        log.submit(batch(index, Durability::Lazy)).unwrap();
    }
    assert!(log.durable().unwrap() >= Ticket(47));
}

#[test]
fn senseless_options_are_refused() {
    for (queued_bytes_max, batch_bytes_max) in [(1, 2), (1, 0)] {
        let options = MemLogOptions {
            queued_bytes_max,
            batch_bytes_max,
            ..MemLogOptions::default()
        };
        assert!(matches!(
            MemLog::new(options),
            Err(StorageError::Option { .. })
        ));
    }
}
