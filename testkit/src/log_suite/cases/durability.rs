//! Visible and durable: tickets, watermark, crashes, poison.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use raftwerk_raft::{
    Durability, GroupId, GroupWrite, HardState, LogIndex, NodeId, SubmitError, Term, Ticket,
    WriteBatch,
};

use crate::log_suite::home::LogFactory;
use crate::log_suite::session::{Session, append, batch, id, step};

/// Longer than anything here takes; only a hang reaches it.
const HANG: Duration = Duration::from_secs(10);

fn lazy(write: GroupWrite) -> WriteBatch {
    WriteBatch {
        groups: vec![write],
        durability: Durability::Lazy,
    }
}

/// A step whose hard state tells the batch it was in.
fn round(group: u64, number: u64) -> GroupWrite {
    let state = HardState {
        term: Term(number),
        vote: Some(NodeId(number)),
        commit: LogIndex(number),
    };
    GroupWrite {
        hard_state: Some(state),
        ..append(group, number, number, number)
    }
}

pub(super) fn tickets_begin_at_one_and_grow(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    assert_eq!(session.store().durable(), Ok(Ticket(0)));
    assert_eq!(session.write(append(1, 1, 1, 1)), Ticket(1));
    for index in 2..50 {
        // `submit` asserts that each ticket exceeds the one before.
        session.write(append(1, 1, index, index));
    }
    let last = session.submit(lazy(append(2, 1, 1, 1)));
    session.refused(batch([append(1, 1, 99, 99)]));
    assert!(session.store().durable().unwrap() <= last);
    session.wait();
    assert_eq!(session.store().durable(), Ok(last));
    session.reopen();
}

pub(super) fn durable_reaches_what_was_waited_for(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    for number in 1..20 {
        session.write(round(1, number));
        // `wait` asserts that the watermark is there.
        session.wait();
    }
    session.store().wait(Ticket(1)).unwrap();
    session.store().wait(Ticket(0)).unwrap();
}

pub(super) fn lazy_batch_becomes_durable_when_waited_for(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    for number in 1..5 {
        session.submit(lazy(round(1, number)));
        session.verify();
    }
    session.wait();
    if session.power_loss(0) {
        session.verify();
        assert_eq!(session.log(GroupId(1)).last(), id(4, 4));
    }
}

pub(super) fn sync_batch_takes_lazy_ones_before_it_along(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    let first = session.submit(lazy(round(1, 1)));
    let second = session.write(round(2, 1));
    session.store().wait(second).unwrap();
    assert!(session.store().durable().unwrap() >= first);
    session.wait();
    if session.power_loss(0) {
        assert_eq!(session.log(GroupId(1)).last(), id(1, 1));
    }
}

pub(super) fn acknowledged_batches_survive_a_kill(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    for number in 1..40 {
        session.submit(batch([round(1, number), round(2, number)]));
        if number % 3 == 0 {
            session.wait();
        }
        if number % 10 == 0 {
            // Finds all that was acknowledged, or fails.
            session.kill();
            let next = session.model().group(GroupId(1)).last().index.0;
            for number in next + 1..=number {
                session.submit(batch([round(1, number), round(2, number)]));
            }
        }
    }
    session.reopen();
}

pub(super) fn acknowledged_batches_survive_power_loss(factory: &dyn LogFactory) {
    for seed in 0..12 {
        let mut session = Session::begin(factory);
        for number in 1..=12 {
            session.submit(batch([round(1, number), round(2, number)]));
            if number <= seed {
                session.wait();
            }
        }
        if !session.power_loss(seed) {
            return;
        }
        let left = session.model().group(GroupId(1)).last().index.0;
        assert!(
            left >= seed,
            "{left} of {seed} acknowledged batches are left"
        );
        // The next life goes on from there, and survives likewise.
        for number in left + 1..=14 {
            session.submit(batch([round(1, number), round(2, number)]));
        }
        session.wait();
        assert!(session.power_loss(0));
        assert_eq!(session.log(GroupId(2)).last().index, LogIndex(14));
    }
}

pub(super) fn batch_over_groups_survives_whole_or_not_at_all(factory: &dyn LogFactory) {
    for seed in 0..40 {
        let mut session = Session::begin(factory);
        session.submit(batch((1..=8).map(|group| round(group, 1))));
        session.wait();
        let wide = |number| {
            batch((1..=8).map(move |group| GroupWrite {
                append: super::super::session::entries(number, number, number + 20),
                ..round(group, number)
            }))
        };
        session.submit(wide(2));
        session.submit(wide(3));
        // The comparison after it finds the batches whole and in order, or fails.
        if !session.power_loss(seed) {
            return;
        }
    }
}

pub(super) fn submit_and_reads_do_not_wait_for_the_disk(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.write(round(1, 1));
    session.wait();
    let Some(held) = session.hold_syncs() else {
        return;
    };
    let store = Arc::clone(session.store());
    let (done, wait_done) = mpsc::channel();
    let worker = thread::spawn(move || {
        let mut last = Ticket(0);
        for number in 2..20 {
            last = store.submit(batch([round(1, number)])).unwrap();
            let log = store.open_group(GroupId(1)).unwrap().log;
            assert_eq!(log.last(), id(number, number));
            assert_eq!(log.term(LogIndex(number)), Ok(Term(number)));
            let mut hot = Vec::new();
            log.entries(LogIndex(number)..LogIndex(number + 1), 1, &mut hot)
                .unwrap();
            assert_eq!(hot.len(), 1, "what is not durable is in memory");
        }
        done.send(last).unwrap();
    });
    let last = wait_done
        .recv_timeout(HANG)
        .expect("submit must not wait for a sync");
    worker.join().unwrap();
    drop(held);
    session.store().wait(last).unwrap();
}

pub(super) fn unsynced_batch_is_not_called_durable(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.write(round(1, 1));
    session.wait();
    let Some(held) = session.hold_syncs() else {
        return;
    };
    let store = Arc::clone(session.store());
    // Told by the home when a sync is held, by the worker when the store answers without one.
    let arrival = held.arrival();
    let released = Arc::new(AtomicBool::new(false));
    let ticket = session.write(round(1, 2));
    let (done, wait_done) = mpsc::channel();
    let worker = thread::spawn({
        let (arrival, released) = (arrival.clone(), Arc::clone(&released));
        move || {
            let result = store.wait(ticket);
            let _ = done.send((result, released.load(Ordering::SeqCst)));
            if let Some(arrival) = arrival {
                arrival.tell();
            }
        }
    });
    if let Some(arrival) = arrival {
        assert!(arrival.wait(HANG), "neither a sync nor an answer");
    }
    assert!(
        wait_done.try_recv().is_err(),
        "acknowledged before its sync"
    );
    assert!(session.store().durable().unwrap() < ticket);
    assert!(
        session.store().pressure().queued_bytes > 0,
        "taken and not yet durable"
    );
    released.store(true, Ordering::SeqCst);
    drop(held);
    let answer = wait_done.recv_timeout(HANG);
    assert_eq!(answer, Ok((Ok(()), true)), "acknowledged before its sync");
    worker.join().unwrap();
    session.reopen();
}

pub(super) fn watermark_notices_are_monotone_and_reach_the_end(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    let (told, notices) = mpsc::channel();
    let told = Mutex::new(told);
    let subscription = session.store().on_durable(Box::new(move |notice| {
        let _ = told.lock().send(notice);
    }));
    let mut last = Ticket(0);
    for number in 1..=50 {
        last = session.write(round(1, number));
        if number % 5 == 0 {
            session.wait();
        }
    }
    session.wait();
    let mut before = Ticket(0);
    while before < last {
        let notice = notices
            .recv_timeout(HANG)
            .expect("the watermark reaches the last ticket");
        let now = notice.expect("not poisoned");
        assert!(now > before, "{now:?} after {before:?}");
        before = now;
    }
    drop(subscription);
    assert_eq!(
        notices.try_recv().ok(),
        None,
        "coalesced: nothing is said twice"
    );
}

pub(super) fn dropped_subscription_is_silent(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let subscribe = |session: &Session, name: &'static str| {
        let heard = Arc::clone(&heard);
        session
            .store()
            .on_durable(Box::new(move |_| heard.lock().push(name)))
    };
    let dropped = subscribe(&session, "dropped");
    let (told, notices) = mpsc::channel();
    let told = Mutex::new(told);
    let _kept = session.store().on_durable(Box::new(move |_| {
        let _ = told.lock().send(());
    }));
    drop(dropped);
    session.write(round(1, 1));
    session.wait();
    notices.recv_timeout(HANG).expect("the other one is told");
    session.write(round(1, 2));
    session.wait();
    notices.recv_timeout(HANG).expect("and again");
    assert_eq!(*heard.lock(), [] as [&str; 0]);
}

pub(super) fn failed_sync_poisons_for_ever(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.write(round(1, 1));
    session.wait();
    if !session.fail_next_sync() {
        return;
    }
    let (told, notices) = mpsc::channel();
    let told = Mutex::new(told);
    let _kept = session.store().on_durable(Box::new(move |notice| {
        let _ = told.lock().send(notice);
    }));
    let ticket = session.write(round(1, 2));
    let store = Arc::clone(session.store());
    let poison = store
        .wait(ticket)
        .expect_err("a failed sync acknowledges nothing");
    assert_eq!(
        store.wait(ticket),
        Err(poison.clone()),
        "a second wait changes nothing"
    );
    assert_eq!(store.durable(), Err(poison.clone()));
    match store.submit(batch([round(1, 3)])) {
        Err(SubmitError::Poisoned(again)) => assert_eq!(again, poison),
        other => panic!("a poisoned store took a batch: {other:?}"),
    }
    assert_eq!(
        notices.recv_timeout(HANG),
        Ok(Err(poison.clone())),
        "subscribers are told"
    );
    assert_eq!(notices.try_recv().ok(), None, "once");
    drop(store);
    // The disk recovered, the store did not; the next life finds what was acknowledged, and what
    // it acknowledges survives.
    session.kill();
    let next = session.model().group(GroupId(1)).last().index.0 + 1;
    session.write(round(1, next));
    session.wait();
    if session.power_loss(0) {
        assert_eq!(session.log(GroupId(1)).last().index, LogIndex(next));
    }
}

pub(super) fn reads_stay_open_when_poisoned(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.write(append(1, 1, 1, 10));
    session.wait();
    if !session.fail_next_sync() {
        return;
    }
    let last = submit_into_failure(&mut session, batch([append(1, 1, 11, 12)])).map_or(10, |_| 12);
    session.verify();
    let log = session.log(GroupId(1));
    let all = LogIndex(1)..LogIndex(last + 1);
    let reachable = log.read(all, u64::MAX).unwrap();
    assert_eq!(reachable.len() as u64, last);
    drop(log);
    assert!(session.store().submit(batch([step(1)])).is_err());
}

/// Submits a batch that does not become durable, because the next sync fails. Where that was one
/// of the store's own in the background, the batch may be refused already.
fn submit_into_failure(session: &mut Session, batch: WriteBatch) -> Option<Ticket> {
    let ticket = session.try_submit(batch).ok();
    match ticket {
        Some(ticket) => assert!(session.store().wait(ticket).is_err()),
        None => assert!(session.store().durable().is_err()),
    }
    ticket
}

pub(super) fn what_a_new_life_shows_survives_a_power_cut(factory: &dyn LogFactory) {
    for failed in [false, true] {
        let mut session = Session::begin(factory);
        session.submit(batch([round(1, 1), round(2, 1)]));
        session.wait();
        if failed && !session.fail_next_sync() {
            return;
        }
        let next = batch([round(1, 2), round(2, 2)]);
        if failed {
            submit_into_failure(&mut session, next);
        } else {
            session.submit(next);
        }
        session.kill();
        // The next life must find the very same.
        if !session.power_loss(0) {
            return;
        }
        let number = session.model().group(GroupId(1)).last().index.0 + 1;
        session.write(round(1, number));
        session.reopen();
    }
}
