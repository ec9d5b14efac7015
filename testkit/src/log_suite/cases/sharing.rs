//! Several threads on one store, several stores on one home.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::Mutex;
use raftwerk_raft::{GroupId, LogIndex, StorageError};

use crate::log_suite::home::LogFactory;
use crate::log_suite::session::{Session, append, batch, entry, id};

pub(super) fn concurrent_submitters_each_keep_their_order(factory: &dyn LogFactory) {
    const THREADS: u64 = 8;
    const BATCHES: u64 = 40;
    let mut session = Session::begin(factory);
    let tickets = Mutex::new(Vec::new());
    let store = Arc::clone(session.store());
    thread::scope(|scope| {
        for group in 1..=THREADS {
            let (store, tickets) = (&store, &tickets);
            scope.spawn(move || {
                let mut before = Default::default();
                for index in 1..=BATCHES {
                    let write = append(group, 1, index, index);
                    let ticket = store.submit(batch([write])).expect("taken");
                    assert!(ticket > before, "{ticket:?} after {before:?}");
                    before = ticket;
                    if index % 4 == 0 {
                        store.wait(ticket).expect("durable");
                        assert!(store.durable().expect("not poisoned") >= ticket);
                    }
                    tickets.lock().push(ticket);
                }
            });
        }
    });
    let mut tickets = tickets.into_inner();
    let last = tickets.iter().copied().max().expect("some");
    store.wait(last).expect("durable");
    tickets.sort_unstable();
    tickets.dedup();
    assert_eq!(
        tickets.len() as u64,
        THREADS * BATCHES,
        "no ticket is given twice"
    );
    drop(store);
    let whole = batch((1..=THREADS).map(|group| append(group, 1, 1, BATCHES)));
    session.adopt(&whole);
    session.verify();
    session.reopen();
}

pub(super) fn readers_see_whole_entries_while_others_write(factory: &dyn LogFactory) {
    const LAST: u64 = 300;
    let session = Session::begin(factory);
    let store = session.store();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let log = store.open_group(GroupId(1)).expect("open_group").log;
                let mut seen = LogIndex(0);
                while !done.load(Ordering::Acquire) || seen < LogIndex(LAST) {
                    let last = log.last();
                    assert!(last.index >= seen, "{last} after {seen}");
                    seen = last.index;
                    if seen == LogIndex(0) {
                        thread::yield_now();
                        continue;
                    }
                    assert_eq!(log.term(seen), Ok(last.term));
                    let from = LogIndex(seen.0.saturating_sub(3).max(1));
                    let read = log.read(from..seen.next(), u64::MAX).expect("read");
                    let expected: Vec<_> = (from.0..=seen.0).map(|index| entry(1, index)).collect();
                    assert_eq!(read, expected);
                }
            });
        }
        for index in 1..=LAST {
            let ticket = store
                .submit(batch([append(1, 1, index, index)]))
                .expect("taken");
            if index % 10 == 0 {
                store.wait(ticket).expect("durable");
            }
        }
        done.store(true, Ordering::Release);
    });
    assert_eq!(session.log(GroupId(1)).last(), id(1, LAST));
}

pub(super) fn second_open_is_refused_while_the_first_lives(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.write(append(1, 1, 1, 3));
    session.wait();
    match session.open_again() {
        Err(StorageError::Locked { .. }) => {}
        Err(error) => panic!("a second open failed with {error}, not Locked"),
        Ok(_) => panic!("two stores on one home"),
    }
    session.verify();
    session.write(append(1, 1, 4, 4));
    session.reopen();
    // A reader alone does not keep the store, or does: either way the next life opens.
    if session.power_loss(0) {
        session.verify();
    }
}
