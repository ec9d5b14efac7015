//! The durable watermark: up to which ticket everything is durable, who waits for it, who is
//! told of it, and the failure that ends it for good.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Thread, ThreadId};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use raftwerk_raft::{DurableNotify, Poisoned, Subscription, Ticket};

use crate::panics::panic_text;

/// How often in a row a writer lets others run first though none of them comes, at least: those who
/// were just answered need as long to come out of their rest.
const IDLE_YIELDS_MIN: u32 = 4;
/// And for this part of what the last round took, one of so many. Where none comes that much is
/// lost; who comes too late waits for a whole round.
const PATIENCE_PART: u32 = 2;
/// How often at most, though they do come.
const YIELDS_MAX: u32 = 1024;

/// Up to where a store is durable. Clones share one watermark.
#[derive(Clone, Debug, Default)]
pub struct Watermark {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    subscribers: Mutex<Vec<Arc<Subscriber>>>,
    watched: AtomicUsize,
    /// How many threads are waking those who were answered.
    rousing: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    durable: Ticket,
    poisoned: Option<Poisoned>,
    /// Counts what may have freed the writer's role.
    wakes: u64,
    /// Who waits for which ticket, in the order in which they came.
    waiters: BTreeMap<(Ticket, u64), Thread>,
    /// The next waiter's number.
    number: u64,
    /// How many there were at the last answer, if there was more than the one that wrote: those who
    /// were answered are about to come again.
    company: usize,
    /// How long the last round of writing took.
    took: Duration,
    /// Somebody waits for them and will write for all who have come by then.
    gathering: bool,
    /// Somebody who waits tries to write: who comes now is too late for that round.
    working: bool,
}

impl State {
    fn now(&self) -> Result<Ticket, Poisoned> {
        self.poisoned.clone().map_or(Ok(self.durable), Err)
    }

    /// What a waiter for `ticket` gets, if it need not wait.
    fn answer(&self, ticket: Ticket) -> Option<Result<(), Poisoned>> {
        if self.durable >= ticket {
            return Some(Ok(()));
        }
        self.poisoned.clone().map(Err)
    }

    /// The same for who may stand in line, and then no longer does.
    fn answer_to(
        &mut self,
        ticket: Ticket,
        waits: Option<(Ticket, u64)>,
    ) -> Option<Result<(), Poisoned>> {
        let answer = self.answer(ticket)?;
        if let Some(key) = waits {
            self.waiters.remove(&key);
        }
        Some(answer)
    }

    /// Puts the calling thread in line, unless it is there.
    fn line_up(&mut self, ticket: Ticket, waits: &mut Option<(Ticket, u64)>) {
        if waits.is_none() {
            self.number = self.number.wrapping_add(1);
            let key = (ticket, self.number);
            self.waiters.insert(key, thread::current());
            *waits = Some(key);
        }
    }

    /// Takes out whoever `durable` answers, and the one that is to try for the writer's role.
    fn roused(&mut self) -> Vec<Thread> {
        self.wakes = self.wakes.wrapping_add(1);
        self.working = false;
        let waiting = self.waiters.split_off(&(self.durable, u64::MAX));
        let answered = std::mem::replace(&mut self.waiters, waiting);
        // The one that wrote stands in no line.
        let others = answered.len() + self.waiters.len();
        self.company = if others > 0 { others + 1 } else { 0 };
        let next = self.waiters.first_key_value().map(|(_, next)| next.clone());
        answered.into_values().chain(next).collect()
    }
}

/// A thread that is woken between its last look and its rest does not rest.
fn rouse(threads: &[Thread]) {
    threads.iter().for_each(Thread::unpark);
}

struct Subscriber {
    notify: DurableNotify,
    calls: Mutex<Calls>,
    idle: Condvar,
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber")
            .field("calls", &self.calls)
            .finish_non_exhaustive()
    }
}

/// Lock order: a subscriber's calls before the state; nothing is taken under the state.
#[derive(Debug, Default)]
struct Calls {
    told: Ticket,
    ended: bool,
    running: Option<ThreadId>,
}

impl Watermark {
    /// A watermark that stands at `durable`, which is zero for a new store.
    #[must_use]
    pub fn new(durable: Ticket) -> Self {
        let mark = Self::default();
        mark.shared.state.lock().durable = durable;
        mark
    }

    /// Everything up to `ticket` is durable. Never moves back, and not at all once poisoned.
    pub fn advance(&self, ticket: Ticket) {
        let roused = {
            let mut state = self.shared.state.lock();
            if state.poisoned.is_some() || ticket <= state.durable {
                return;
            }
            state.durable = ticket;
            self.shared.rousing.fetch_add(1, Ordering::Relaxed);
            state.roused()
        };
        rouse(&roused);
        self.shared.rousing.fetch_sub(1, Ordering::Relaxed);
        self.shared.tell_all();
    }

    /// Ends the store: nothing is acknowledged any more. The first cause stays.
    pub fn poison(&self, cause: impl Into<Arc<str>>) {
        if self.shared.poison(cause.into()) {
            self.shared.tell_all();
        }
    }

    /// Up to where everything is durable.
    ///
    /// # Errors
    /// [`Poisoned`] once [`Watermark::poison`] was called.
    pub fn durable(&self) -> Result<Ticket, Poisoned> {
        self.shared.state.lock().now()
    }

    /// Waits until `ticket` is durable.
    ///
    /// # Errors
    /// [`Poisoned`] when it was not before the store failed.
    pub fn wait(&self, ticket: Ticket) -> Result<(), Poisoned> {
        let mut waits = None;
        loop {
            {
                let mut state = self.shared.state.lock();
                if let Some(answer) = state.answer_to(ticket, waits) {
                    return answer;
                }
                state.line_up(ticket, &mut waits);
            }
            thread::park();
        }
    }

    /// Waits until `ticket` is durable and lends a hand: calls `work` under no lock as long as
    /// it is not. `work` does a round of writing and returns true, or returns false when another
    /// thread is at it; that thread lets go of the role first and calls [`Watermark::advance`]
    /// (or [`Watermark::wake`], when it got nowhere) then, and `work` is tried again.
    ///
    /// # Errors
    /// [`Poisoned`] when it was not durable before the store failed.
    pub fn wait_or(&self, ticket: Ticket, mut work: impl FnMut() -> bool) -> Result<(), Poisoned> {
        let mut waits = None;
        loop {
            let (wakes, gathers, leads) = {
                let mut state = self.shared.state.lock();
                if let Some(answer) = state.answer_to(ticket, waits) {
                    return answer;
                }
                if state.gathering {
                    // That one has not begun to write, and will.
                    state.line_up(ticket, &mut waits);
                    drop(state);
                    thread::park();
                    continue;
                }
                let leads = !std::mem::replace(&mut state.working, true);
                state.gathering = leads && state.company > 0;
                (state.wakes, state.gathering, leads)
            };
            if gathers {
                self.shared.gather(waits.is_some());
            }
            let began = Instant::now();
            let worked = work();
            let mut state = self.shared.state.lock();
            if worked {
                state.took = began.elapsed();
            }
            // After a wake it is somebody else's.
            if leads && state.wakes == wakes {
                state.working = false;
            }
            // What happened since the unlock shows in the answer or in the wakes: none is lost.
            if worked || state.wakes != wakes || state.answer(ticket).is_some() {
                continue;
            }
            state.line_up(ticket, &mut waits);
            drop(state);
            thread::park();
        }
    }

    /// Lets the waiter that is first in line look again: the writer's role became free without an
    /// advance.
    pub fn wake(&self) {
        let roused = {
            let mut state = self.shared.state.lock();
            state.roused()
        };
        rouse(&roused);
    }

    /// True while anybody is subscribed, and so need not wait.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.shared.watched.load(Ordering::Relaxed) > 0
    }

    /// Calls `notify` with each watermark newer than now's, in order and coalesced, under no
    /// lock, on whichever thread moves it; once with the error when poisoned, at once if that
    /// has happened already. A panic in it poisons.
    ///
    /// Dropping the subscription waits for a call that runs on another thread, so that none runs
    /// afterwards: do not drop it under a lock that `notify` takes.
    #[must_use]
    pub fn subscribe(&self, notify: DurableNotify) -> Subscription {
        let told = self.shared.state.lock().durable;
        let subscriber = Arc::new(Subscriber {
            notify,
            calls: Mutex::new(Calls {
                told,
                ..Calls::default()
            }),
            idle: Condvar::new(),
        });
        self.shared.watched.fetch_add(1, Ordering::Relaxed);
        self.shared.subscribers.lock().push(Arc::clone(&subscriber));
        // What moved meanwhile.
        self.shared.tell_all();
        let shared = Arc::downgrade(&self.shared);
        Subscription::new(move || {
            subscriber.end();
            if let Some(shared) = shared.upgrade() {
                shared.watched.fetch_sub(1, Ordering::Relaxed);
                shared
                    .subscribers
                    .lock()
                    .retain(|other| !Arc::ptr_eq(other, &subscriber));
            }
        })
    }
}

impl Shared {
    /// Lets those run who were just answered, while they come again: what they submit goes with the
    /// next round, and a round costs the same for many. Whoever is alone loses nothing.
    fn gather(&self, in_line: bool) {
        let (mut come, mut idle, mut since) = (0, 0, Instant::now());
        for _ in 0..YIELDS_MAX {
            thread::yield_now();
            let state = self.state.lock();
            let now = state.waiters.len() + usize::from(!in_line);
            if now >= state.company || state.poisoned.is_some() {
                break;
            }
            if now > come || self.rousing.load(Ordering::Relaxed) > 0 {
                (come, idle, since) = (now, 0, Instant::now());
                continue;
            }
            idle += 1;
            if idle >= IDLE_YIELDS_MIN && since.elapsed() >= state.took / PATIENCE_PART {
                break;
            }
        }
        self.state.lock().gathering = false;
    }

    fn poison(&self, cause: Arc<str>) -> bool {
        let roused = {
            let mut state = self.state.lock();
            if state.poisoned.is_some() {
                return false;
            }
            state.poisoned = Some(Poisoned { cause });
            std::mem::take(&mut state.waiters)
        };
        rouse(&roused.into_values().collect::<Vec<_>>());
        true
    }

    /// Tells everybody who has not heard yet. A panic poisons, which is news to the others; each
    /// further round has one subscriber less that can panic, and poison is told only once.
    fn tell_all(&self) {
        loop {
            let subscribers = self.subscribers.lock().clone();
            let mut poisoned = false;
            for subscriber in &subscribers {
                if let Err(cause) = self.tell(subscriber) {
                    poisoned |= self.poison(cause);
                }
            }
            if !poisoned {
                return;
            }
        }
    }

    fn tell(&self, subscriber: &Subscriber) -> Result<(), Arc<str>> {
        let mut calls = subscriber.calls.lock();
        loop {
            // Whoever runs the callback looks again afterwards, so calls stay in order.
            if calls.ended || calls.running.is_some() {
                return Ok(());
            }
            let news = self.state.lock().now();
            match &news {
                Ok(ticket) if *ticket <= calls.told => return Ok(()),
                Ok(ticket) => calls.told = *ticket,
                Err(_) => calls.ended = true,
            }
            calls.running = Some(thread::current().id());
            drop(calls);
            let outcome = catch_unwind(AssertUnwindSafe(|| (subscriber.notify)(news)));
            calls = subscriber.calls.lock();
            calls.running = None;
            subscriber.idle.notify_all();
            if let Err(payload) = outcome {
                calls.ended = true;
                let text = panic_text(&*payload);
                return Err(format!("a durability callback panicked: {text}").into());
            }
        }
    }
}

impl Subscriber {
    fn end(&self) {
        let mut calls = self.calls.lock();
        calls.ended = true;
        // A callback may drop its own subscription: it must not wait for itself.
        while calls
            .running
            .is_some_and(|runner| runner != thread::current().id())
        {
            self.idle.wait(&mut calls);
        }
    }
}
