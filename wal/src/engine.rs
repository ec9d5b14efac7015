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
use crate::writer::Writer;

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
    pub(crate) prepare: bool,
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
    pub(crate) wished: Condvar,
    /// The writer's thread sleeps without a limit.
    pub(crate) asleep: AtomicBool,
    /// Who wants to be told, and so does not wait.
    pub(crate) subscribers: AtomicUsize,
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
            state: Mutex::new(state),
            watermark: Watermark::default(),
            writer: Mutex::new(Some(writer)),
            preparer: Mutex::new(Some(preparer)),
            wishes: Mutex::default(),
            wished: Condvar::new(),
            asleep: AtomicBool::new(false),
            subscribers: AtomicUsize::new(0),
        }
    }

    pub(crate) fn submit(&self, batch: WriteBatch) -> Result<Ticket, SubmitError> {
        self.watermark.durable()?;
        let (outcome, hurry) = {
            let mut state = self.state.lock();
            let outcome = state.submit(batch);
            let full = state.fill.body.len() as u64 > state.options.batch_bytes_max / 2;
            (outcome, full || state.fill.eager)
        };
        let full = matches!(outcome, Err(SubmitError::Full(_)));
        if full {
            self.wish(|wishes| {
                wishes.write = true;
                wishes.prepare = true;
            });
        } else if hurry && self.wants_thread() {
            self.wish(|wishes| wishes.write = true);
        }
        outcome
    }

    /// Somebody who waits writes by himself; the thread is woken for those who do not.
    fn wants_thread(&self) -> bool {
        self.subscribers.load(Ordering::Relaxed) > 0 || self.asleep.load(Ordering::Relaxed)
    }

    pub(crate) fn wish(&self, change: impl FnOnce(&mut Wishes)) {
        change(&mut self.wishes.lock());
        self.wished.notify_all();
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
        let outcome = self.write_with(&writer);
        self.give_back(writer, outcome);
        outcome
    }

    /// Ends the writer's role, and tells those who found it taken meanwhile.
    fn give_back(&self, writer: Writer, outcome: Written) {
        *self.writer.lock() = Some(writer);
        if outcome != Written::Idle || !self.state.lock().fill.is_empty() {
            self.watermark.wake();
        }
    }

    fn write_with(&self, writer: &Writer) -> Written {
        if self.watermark.durable().is_err() {
            return Written::Poisoned;
        }
        let job = {
            let mut state = self.state.lock();
            let taken = !state.fill.is_empty();
            let job = state.plan();
            if job.is_none() && taken {
                drop(state);
                self.watermark
                    .poison("no space was prepared for a batch that was taken");
                return Written::Poisoned;
            }
            state.in_flight = job.as_ref().map(|job| InFlight {
                bytes: job.bytes(),
                since: Instant::now(),
            });
            job
        };
        let Some(job) = job else { return Written::Idle };
        if let Err(error) = writer.step(&job) {
            self.watermark.poison(format!("writing the log: {error}"));
            return Written::Poisoned;
        }
        let prepare = {
            let mut state = self.state.lock();
            state.complete(&job);
            !state.retired.is_empty() || state.ready.len() < crate::state::READY_SEGMENTS
        };
        if prepare {
            self.wish(|wishes| wishes.prepare = true);
        }
        self.watermark.advance(job.ticket);
        Written::Batches
    }

    /// Writes what waits; if nothing does, brings the watermark slot up to date.
    pub(crate) fn step_writer(&self) -> Written {
        match self.write() {
            Written::Idle => self.write_slot(),
            other => other,
        }
    }

    fn write_slot(&self) -> Written {
        if self.watermark.durable().is_err() {
            return Written::Poisoned;
        }
        let Some(mut writer) = self.writer.lock().take() else {
            return Written::Idle;
        };
        let outcome = self.write_slot_with(&mut writer);
        self.give_back(writer, outcome);
        outcome
    }

    fn write_slot_with(&self, writer: &mut Writer) -> Written {
        let (lsn, segment, end) = {
            let state = self.state.lock();
            let active = state.segments.last_key_value();
            let (number, end) = active.map_or((0, 0), |(number, active)| (*number, active.end));
            (state.durable_lsn, number, end)
        };
        if lsn <= writer.slot_lsn() {
            return Written::Idle;
        }
        if let Err(error) = writer.write_slot(lsn, segment, end) {
            self.watermark
                .poison(format!("writing the watermark slot: {error}"));
            return Written::Poisoned;
        }
        Written::Slot
    }

    /// Whether the slot lags behind; false while somebody writes.
    pub(crate) fn slot_lags(&self) -> bool {
        let vouched = match &*self.writer.lock() {
            Some(writer) => writer.slot_lsn(),
            None => return false,
        };
        self.state.lock().durable_lsn > vouched
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
        *self.preparer.lock() = Some(preparer);
        outcome.unwrap_or_else(|error| {
            self.watermark
                .poison(format!("preparing a segment: {error}"));
            Prepared::Idle
        })
    }
}
