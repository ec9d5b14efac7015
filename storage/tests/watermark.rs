//! Who waits gets an answer, who subscribes is told in order, and poison is for ever.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use raftwerk_raft::{Poisoned, Subscription, Ticket};
use raftwerk_storage::watermark::Watermark;

type News = Result<Ticket, Poisoned>;

fn listen(mark: &Watermark) -> (Subscription, Receiver<News>) {
    let (sender, receiver) = mpsc::channel();
    let notify = Box::new(move |news| sender.send(news).unwrap());
    (mark.subscribe(notify), receiver)
}

fn poisoned(cause: &str) -> Poisoned {
    Poisoned {
        cause: cause.into(),
    }
}

#[test]
fn watermark_never_moves_back() {
    let mark = Watermark::new(Ticket(3));
    mark.advance(Ticket(5));
    mark.advance(Ticket(4));
    assert_eq!(mark.durable(), Ok(Ticket(5)));
}

#[test]
fn first_poison_stays_and_nothing_is_acknowledged_after_it() {
    let mark = Watermark::new(Ticket(3));
    mark.poison("first");
    mark.poison("second");
    mark.advance(Ticket(9));
    assert_eq!(mark.durable(), Err(poisoned("first")));
    assert_eq!(mark.wait(Ticket(4)), Err(poisoned("first")));
    assert_eq!(mark.wait(Ticket(3)), Ok(()), "that much was durable before");
}

#[test]
fn waiter_is_woken_by_the_ticket_and_by_poison() {
    let mark = Watermark::default();
    thread::scope(|scope| {
        let early = scope.spawn(|| mark.wait(Ticket(1)));
        let late = scope.spawn(|| mark.wait(Ticket(2)));
        mark.advance(Ticket(1));
        assert_eq!(early.join().unwrap(), Ok(()));
        mark.poison("disk");
        assert_eq!(late.join().unwrap(), Err(poisoned("disk")));
    });
}

#[test]
fn subscriber_hears_each_watermark_once_and_poison_once() {
    let mark = Watermark::new(Ticket(1));
    let (_subscription, news) = listen(&mark);
    mark.advance(Ticket(1));
    mark.advance(Ticket(4));
    mark.advance(Ticket(2));
    mark.advance(Ticket(6));
    mark.poison("disk");
    mark.poison("again");
    let heard: Vec<_> = news.try_iter().collect();
    assert_eq!(heard, [Ok(Ticket(4)), Ok(Ticket(6)), Err(poisoned("disk"))]);
}

#[test]
fn late_subscriber_of_a_poisoned_store_hears_it_at_once() {
    let mark = Watermark::default();
    mark.poison("disk");
    let (_subscription, news) = listen(&mark);
    assert_eq!(news.try_iter().collect::<Vec<_>>(), [Err(poisoned("disk"))]);
}

#[test]
fn dropped_subscription_hears_nothing_and_frees_its_callback() {
    let mark = Watermark::default();
    let (subscription, news) = listen(&mark);
    drop(subscription);
    mark.advance(Ticket(1));
    assert_eq!(news.recv(), Err(mpsc::RecvError));
}

#[test]
fn panic_in_a_callback_poisons_and_the_others_hear_of_it() {
    let mark = Watermark::default();
    let (_before, news) = listen(&mark);
    let _panics = mark.subscribe(Box::new(|_| panic!("on purpose")));
    mark.advance(Ticket(1));
    let error = mark.durable().unwrap_err();
    assert_eq!(
        error,
        poisoned("a durability callback panicked: on purpose")
    );
    assert_eq!(
        news.try_iter().collect::<Vec<_>>(),
        [Ok(Ticket(1)), Err(error)]
    );
}

#[test]
fn callback_may_use_the_watermark_and_drop_its_own_subscription() {
    let mark = Watermark::default();
    let own: Arc<Mutex<Option<Subscription>>> = Arc::default();
    let calls = Arc::new(AtomicU64::new(0));
    let notify = {
        let (mark, own, calls) = (mark.clone(), Arc::clone(&own), Arc::clone(&calls));
        move |news: News| {
            calls.fetch_add(1, Ordering::Relaxed);
            if news == Ok(Ticket(1)) {
                mark.advance(Ticket(2));
                mark.wait(Ticket(2)).unwrap();
            } else {
                own.lock().unwrap().take();
            }
        }
    };
    *own.lock().unwrap() = Some(mark.subscribe(Box::new(notify)));
    mark.advance(Ticket(1));
    mark.advance(Ticket(3));
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[test]
fn concurrent_advances_are_told_in_order_and_the_last_is_not_missed() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 500;
    let mark = Watermark::default();
    let (_subscription, news) = listen(&mark);
    let next = AtomicU64::new(1);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    mark.advance(Ticket(next.fetch_add(1, Ordering::Relaxed)));
                }
            });
        }
    });
    let heard: Vec<_> = news.try_iter().map(Result::unwrap).collect();
    assert!(heard.is_sorted_by(|one, other| one < other));
    assert_eq!(heard.last(), Some(&Ticket(THREADS * ROUNDS)));
}

#[test]
fn no_call_runs_once_the_drop_has_returned() {
    for _ in 0..200 {
        let mark = Watermark::default();
        let dropped = Arc::new(AtomicBool::new(false));
        let late = Arc::new(AtomicBool::new(false));
        let subscription = {
            let (dropped, late) = (Arc::clone(&dropped), Arc::clone(&late));
            mark.subscribe(Box::new(move |_| {
                thread::yield_now();
                late.fetch_or(dropped.load(Ordering::SeqCst), Ordering::SeqCst);
            }))
        };
        let start = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                (1..20).for_each(|ticket| mark.advance(Ticket(ticket)));
            });
            start.wait();
            drop(subscription);
            dropped.store(true, Ordering::SeqCst);
        });
        assert!(!late.load(Ordering::SeqCst));
    }
}

#[test]
fn role_freed_before_the_waiter_sleeps_is_noticed() {
    let mark = Watermark::default();
    let mut calls = 0;
    // What another thread might do between a refused attempt and the sleep after it.
    let work = || {
        calls += 1;
        match calls {
            1 => mark.wake(),
            2 => mark.advance(Ticket(1)),
            _ => {
                mark.advance(Ticket(2));
                return true;
            }
        }
        false
    };
    mark.wait_or(Ticket(2), work).unwrap();
    assert_eq!(calls, 3);
}

#[test]
fn one_call_at_a_time_and_what_came_meanwhile_follows_it() {
    let mark = Watermark::default();
    let active = Arc::new(AtomicU64::new(0));
    let (entered, wait_entered) = mpsc::channel();
    let (go, wait_go) = mpsc::channel::<()>();
    let wait_go = Mutex::new(wait_go);
    let (sender, news) = mpsc::channel();
    let _subscription = mark.subscribe(Box::new(move |ticket| {
        assert_eq!(
            active.fetch_add(1, Ordering::SeqCst),
            0,
            "two calls at a time"
        );
        if ticket == Ok(Ticket(1)) {
            entered.send(()).unwrap();
            wait_go.lock().unwrap().recv().unwrap();
        }
        sender.send(ticket).unwrap();
        active.fetch_sub(1, Ordering::SeqCst);
    }));
    thread::scope(|scope| {
        scope.spawn(|| mark.advance(Ticket(1)));
        wait_entered.recv().unwrap();
        mark.advance(Ticket(2));
        mark.advance(Ticket(3));
        go.send(()).unwrap();
    });
    assert_eq!(
        news.try_iter().collect::<Vec<_>>(),
        [Ok(Ticket(1)), Ok(Ticket(3))]
    );
}

/// Many threads wait, each for a ticket of its own again and again, and lend a hand to rounds that
/// make durable what `durable_after` says of the watermark and of the last ticket given.
fn wait_in_turns(threads: u64, durable_after: fn(u64, u64) -> u64) {
    const ROUNDS: u64 = 300;
    let mark = Watermark::default();
    let issued = AtomicU64::new(0);
    let writing = AtomicBool::new(false);
    let work = || {
        if writing.swap(true, Ordering::SeqCst) {
            return false;
        }
        let durable = mark.durable().unwrap().0;
        let last = issued.load(Ordering::SeqCst);
        if durable < last {
            mark.advance(Ticket(durable_after(durable, last)));
        }
        writing.store(false, Ordering::SeqCst);
        mark.wake();
        true
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let ticket = Ticket(issued.fetch_add(1, Ordering::SeqCst) + 1);
                    mark.wait_or(ticket, work).unwrap();
                    assert!(mark.durable().unwrap() >= ticket);
                }
            });
        }
    });
    assert_eq!(mark.durable(), Ok(Ticket(threads * ROUNDS)));
}

#[test]
fn waiters_take_the_writers_role_in_turn_and_none_is_forgotten() {
    // One ticket a round, so that most waiters need somebody else's or a later round.
    wait_in_turns(4, |durable, _| durable + 1);
}

#[test]
fn waiters_who_rest_while_another_gathers_are_not_forgotten() {
    wait_in_turns(16, |_, last| last);
    wait_in_turns(16, |durable, last| durable + (last - durable).div_ceil(2));
}
