//! What runs a log: the state, and the writer and the preparer that whoever is there takes a step
//! with.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use raftwerk_raft::{Poisoned, SubmitError, Ticket, WriteBatch};
use raftwerk_storage::vfs::Vfs;
use raftwerk_storage::watermark::Watermark;

use crate::preparer::{Prepared, Preparer};
use crate::state::{InFlight, State};
use crate::stats::Counters;
use crate::tables::Tables;
use crate::writer::Writer;

/// From this part of what one write may take, one of so many, batches that nobody waits for are
/// written. A larger part gives larger writes, but who fills them finds them in no cache any more:
/// a half was a tenth slower, an eighth no faster.
const HURRY_PART: u64 = 4;

/// What a step of the writer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// There was nothing to do, or somebody else is at it.
    Idle,
    /// Batches were written and are durable.
    Batches,
    /// The watermark slot was brought up to date.
    Slot,
    /// It failed, now or before: the log is poisoned.
    Poisoned,
}

/// What the threads are to know.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) stop: bool,
    pub(crate) write: bool,
    /// The slot has begun to lag while the writer's thread slept.
    pub(crate) look: bool,
    pub(crate) prepare: bool,
}

/// What the writer's thread finds when it has nothing to do at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Until somebody wishes something.
    Unlimited,
    /// A moment: the slot lags behind this frame, or somebody else writes and will leave it so.
    Moment(u64),
    /// Not at all: a batch waits and nobody is at it.
    None,
}

/// Shared by the log's handle, its readers and its threads.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) dir: PathBuf,
    pub(crate) state: Mutex<State>,
    pub(crate) watermark: Watermark,
    /// The writer's role: taken out by whoever writes.
    writer: Mutex<Option<Writer>>,
    preparer: Mutex<Option<Preparer>>,
    pub(crate) wishes: Mutex<Wishes>,
    /// Wakes the writer's thread.
    pub(crate) write_wished: Condvar,
    /// Wakes the preparer's thread.
    pub(crate) prepare_wished: Condvar,
    /// The writer's thread sleeps without a limit.
    pub(crate) asleep: AtomicBool,
    /// Who wants to be told, and so does not wait.
    pub(crate) subscribers: AtomicUsize,
    pub(crate) counters: Counters,
    /// What is held of the footers.
    pub(crate) tables: Tables,
}

impl Engine {
    pub(crate) fn new(
        vfs: Arc<dyn Vfs>,
        dir: PathBuf,
        state: State,
        writer: Writer,
        preparer: Preparer,
    ) -> Self {
        Self {
            vfs,
            dir,
            tables: Tables::new(state.options.index_cache_bytes),
            state: Mutex::new(state),
            watermark: Watermark::default(),
            writer: Mutex::new(Some(writer)),
            preparer: Mutex::new(Some(preparer)),
            wishes: Mutex::default(),
            write_wished: Condvar::new(),
            prepare_wished: Condvar::new(),
            asleep: AtomicBool::new(false),
            subscribers: AtomicUsize::new(0),
            counters: Counters::default(),
        }
    }

    pub(crate) fn submit(&self, batch: WriteBatch) -> Result<Ticket, SubmitError> {
        self.watermark.durable()?;
        let (outcome, hurry) = {
            let mut state = self.state.lock();
            let outcome = state.submit(batch);
            let full = state.fill.body.len() as u64 > state.options.batch_bytes_max / HURRY_PART;
            (outcome, full || state.fill.eager)
        };
        let full = matches!(outcome, Err(SubmitError::Full(_)));
        if full {
            self.wish_write();
            self.wish_prepare();
        } else if hurry && self.wants_thread() {
            self.wish_write();
        }
        outcome
    }

    /// Somebody who waits writes by himself; the thread is woken for those who do not.
    fn wants_thread(&self) -> bool {
        self.subscribers.load(Ordering::Relaxed) > 0 || self.asleep.load(Ordering::SeqCst)
    }

    /// Asks the writer's thread to write.
    pub(crate) fn wish_write(&self) {
        let asked = std::mem::replace(&mut self.wishes.lock().write, true);
        if !asked {
            self.write_wished.notify_all();
        }
    }

    /// Asks the preparer's thread to look what there is to do.
    pub(crate) fn wish_prepare(&self) {
        let asked = std::mem::replace(&mut self.wishes.lock().prepare, true);
        if !asked {
            self.prepare_wished.notify_all();
        }
    }

    /// Asks both threads to end.
    pub(crate) fn stop(&self) {
        self.wishes.lock().stop = true;
        self.write_wished.notify_all();
        self.prepare_wished.notify_all();
    }

    /// Waits for `ticket`, writing if nobody else does.
    pub(crate) fn wait(&self, ticket: Ticket) -> Result<(), Poisoned> {
        self.watermark
            .wait_or(ticket, || self.write() == Written::Batches)
    }

    /// Writes all that waits, if nobody else is at it.
    pub(crate) fn write(&self) -> Written {
        let Some(writer) = self.writer.lock().take() else {
            return Written::Idle;
        };
        let (outcome, ticket) = self.write_with(&writer);
        self.give_back(writer);
        // Callbacks run without the role: they may wait for another batch, and may be slow.
        match ticket {
            Some(ticket) => self.watermark.advance(ticket),
            None => self.wake(outcome),
        }
        outcome
    }

    /// Ends the writer's role. What was submitted meanwhile for the thread, which found the role
    /// taken, is asked for again.
    fn give_back(&self, writer: Writer) {
        *self.writer.lock() = Some(writer);
        let eager = self.state.lock().fill.eager;
        if eager && self.wants_thread() {
            self.wish_write();
        } else if self.asleep.load(Ordering::SeqCst) {
            // The thread sleeps without a limit, but now the slot may lag.
            self.wishes.lock().look = true;
            self.write_wished.notify_all();
        }
    }

    /// Tells those who wait and found the role taken that it is free.
    fn wake(&self, outcome: Written) {
        if outcome != Written::Idle || !self.state.lock().fill.is_empty() {
            self.watermark.wake();
        }
    }

    /// What was done, and up to where it made everything durable.
    fn write_with(&self, writer: &Writer) -> (Written, Option<Ticket>) {
        if self.watermark.durable().is_err() {
            return (Written::Poisoned, None);
        }
        let job = {
            let mut state = self.state.lock();
            let taken = !state.fill.is_empty();
            let job = state.plan();
            if job.is_none() && taken {
                drop(state);
                return self.fail("no space was prepared for a batch that was taken");
            }
            state.in_flight = job.as_ref().map(|job| InFlight {
                bytes: job.bytes(),
                since: Instant::now(),
            });
            job
        };
        let Some(job) = job else {
            return (Written::Idle, None);
        };
        let ticket = job.ticket;
        let Some(job) = job.seal() else {
            return self.fail("a frame would not end inside of its segment");
        };
        if let Err(error) = writer.step(&job) {
            return self.fail(format!("writing the log: {error}"));
        }
        let prepare = {
            let mut state = self.state.lock();
            state.complete(job);
            let few = state.ready.len() < crate::state::READY_SEGMENTS;
            few || !state.retired.is_empty() || state.rewriting.due
        };
        if prepare {
            self.wish_prepare();
        }
        (Written::Batches, Some(ticket))
    }

    /// Poisons the log; no write is under way any more.
    fn fail(&self, reason: impl Into<Arc<str>>) -> (Written, Option<Ticket>) {
        self.state.lock().in_flight = None;
        self.watermark.poison(reason);
        (Written::Poisoned, None)
    }

    /// Writes what waits; if nothing does, brings the watermark slot up to date.
    pub(crate) fn step_writer(&self) -> Written {
        match self.write() {
            Written::Idle => self.write_slot(),
            other => other,
        }
    }

    pub(crate) fn write_slot(&self) -> Written {
        let Some(mut writer) = self.writer.lock().take() else {
            return Written::Idle;
        };
        let outcome = self.write_slot_with(&mut writer);
        self.give_back(writer);
        self.wake(outcome);
        outcome
    }

    fn write_slot_with(&self, writer: &mut Writer) -> Written {
        // Asked with the role: whoever had it may have failed.
        if self.watermark.durable().is_err() {
            return Written::Poisoned;
        }
        let (lsn, segment, end, needed) = {
            let mut state = self.state.lock();
            let lsn = state.durable_lsn;
            if lsn <= writer.slot_lsn() {
                return Written::Idle;
            }
            // No batch can be written meanwhile: who looks is to see why they wait.
            state.in_flight = Some(InFlight {
                bytes: 0,
                since: Instant::now(),
            });
            let active = state.segments.last_key_value();
            let (number, end) = active.map_or((0, 0), |(number, active)| (*number, active.end));
            (lsn, number, end, state.oldest_needed())
        };
        if let Err(error) = writer.write_slot(lsn, segment, end) {
            return self.fail(format!("writing the watermark slot: {error}")).0;
        }
        let mut state = self.state.lock();
        state.in_flight = None;
        state.stats.slots += 1;
        state.reclaim(needed);
        let look = state.rewriting.look || !state.retired.is_empty();
        drop(state);
        if look {
            self.wish_prepare();
        }
        Written::Slot
    }

    /// How long the writer's thread may rest.
    pub(crate) fn rest(&self) -> Rest {
        if self.watermark.durable().is_err() {
            return Rest::Unlimited;
        }
        let vouched = self.writer.lock().as_ref().map(Writer::slot_lsn);
        let state = self.state.lock();
        match vouched {
            // Whoever writes leaves a slot that lags.
            None => Rest::Moment(state.durable_lsn),
            Some(_) if state.fill.eager => Rest::None,
            Some(vouched) if state.durable_lsn > vouched => Rest::Moment(state.durable_lsn),
            Some(_) => Rest::Unlimited,
        }
    }

    /// All frames up to this one are durable.
    pub(crate) fn durable_lsn(&self) -> u64 {
        self.state.lock().durable_lsn
    }

    /// Takes a step of preparing segments.
    pub(crate) fn step_preparer(&self) -> Prepared {
        if self.watermark.durable().is_err() {
            return Prepared::Idle;
        }
        let Some(mut preparer) = self.preparer.lock().take() else {
            return Prepared::Idle;
        };
        let outcome = preparer.step(self.vfs.as_ref(), &self.dir, &self.state);
        let outcome = outcome.map(|step| match step {
            Prepared::Progress => step,
            idle => match self.step_straggler(idle == Prepared::NoSpace) {
                Prepared::Progress => Prepared::Progress,
                _ => idle,
            },
        });
        *self.preparer.lock() = Some(preparer);
        if self.state.lock().fill.eager && self.wants_thread() {
            self.wish_write();
        }
        outcome.unwrap_or_else(|error| {
            self.watermark
                .poison(format!("preparing a segment: {error}"));
            Prepared::Idle
        })
    }
}
