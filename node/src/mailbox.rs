//! The queue before a run loop, and the loop itself while it rests. Bounded where others fill it;
//! what the host's workers report is bounded by what they were given to do and is never refused.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::thread;
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};
use raftwerk_raft::{NodeId, Poisoned, Ticket};

use crate::config::HostConfig;
use crate::envelope::Envelope;
use crate::run_loop::{Event, Report, Request, Stage};
use crate::transport::Busy;

#[derive(Default)]
struct Queues {
    durable: Option<Result<Ticket, Poisoned>>,
    reports: VecDeque<Report>,
    messages: VecDeque<(NodeId, Envelope)>,
    message_bytes: usize,
    requests: VecDeque<Request>,
    request_bytes: usize,
    unreachable: Vec<NodeId>,
    stop: bool,
    closed: bool,
    /// The loop has ended.
    gone: bool,
    /// The loop, while it rests: whoever puts something in may run it.
    resting: Option<Box<Stage>>,
    /// Somebody ran the loop and left it with more to do.
    unfinished: bool,
    /// The loop's thread waits for whoever runs it.
    wanted: bool,
}

impl Queues {
    fn is_empty(&self) -> bool {
        self.durable.is_none()
            && self.reports.is_empty()
            && self.messages.is_empty()
            && self.requests.is_empty()
            && self.unreachable.is_empty()
            && !self.stop
            && !self.unfinished
    }

    /// Gives the report back when nobody will take it.
    fn report(&mut self, report: Report) -> Option<Report> {
        if self.gone {
            return Some(report);
        }
        self.reports.push_back(report);
        None
    }

    /// Moves everything that waits into `events`.
    fn drain(&mut self, events: &mut Vec<Event>) {
        if let Some(mark) = self.durable.take() {
            events.push(Event::Durable(mark));
        }
        events.extend(self.reports.drain(..).map(Event::Report));
        let messages = self.messages.drain(..);
        events.extend(messages.map(|(from, envelope)| Event::Message { from, envelope }));
        // Behind what has arrived: the answers of a peer that is gone are not lost.
        events.extend(self.unreachable.drain(..).map(Event::Unreachable));
        events.extend(self.requests.drain(..).map(Event::Request));
        self.message_bytes = 0;
        self.request_bytes = 0;
        self.unfinished = false;
        if std::mem::take(&mut self.stop) {
            events.push(Event::Stop);
        }
    }
}

/// Why a request was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Busy,
    Stopped,
}

/// One run loop's queue.
pub(crate) struct Mailbox {
    queues: Mutex<Queues>,
    filled: Condvar,
    messages_max: usize,
    message_bytes_max: usize,
    requests_max: usize,
    request_bytes_max: usize,
    on_request: Option<Waker>,
}

impl Mailbox {
    pub(crate) fn new(config: &HostConfig) -> Self {
        Self {
            queues: Mutex::default(),
            filled: Condvar::new(),
            messages_max: config.queued_messages_max,
            message_bytes_max: config.queued_message_bytes_max,
            requests_max: config.queued_requests_max,
            request_bytes_max: config.queued_request_bytes_max,
            on_request: config.on_request.clone(),
        }
    }

    /// Wakes the loop only if it may sleep: a queue that was not empty has woken it before.
    fn put<T>(&self, change: impl FnOnce(&mut Queues) -> T) -> T {
        let mut queues = self.queues.lock();
        let was_empty = queues.is_empty();
        let result = change(&mut queues);
        let wake = was_empty && !queues.is_empty();
        drop(queues);
        if wake {
            self.filled.notify_one();
        }
        result
    }

    /// The same, and a loop that rests runs at once, on this thread: waking another one costs more
    /// than a turn.
    fn put_and_run<T>(&self, change: impl FnOnce(&mut Queues) -> T) -> T {
        let mut queues = self.queues.lock();
        let result = change(&mut queues);
        if queues.is_empty() {
            return result;
        }
        if queues.resting.is_some() {
            self.run_here(queues);
        } else {
            // Whoever runs it looks again before it rests.
            drop(queues);
            self.filled.notify_one();
        }
        result
    }

    /// The newest watermark replaces an older one; a poison stays.
    pub(crate) fn durable(&self, mark: Result<Ticket, Poisoned>) {
        self.put_and_run(|queues| match (&queues.durable, &mark) {
            (Some(Err(_)), _) => {}
            (Some(Ok(old)), Ok(new)) if old >= new => {}
            _ => queues.durable = Some(mark),
        });
    }

    pub(crate) fn report(&self, report: Report) {
        // Dropped under no lock: a group that is opened too late ends with it.
        drop(self.put(|queues| queues.report(report)));
    }

    /// The same of a thread that has the time for a turn.
    pub(crate) fn report_and_run(&self, report: Report) {
        drop(self.put_and_run(|queues| queues.report(report)));
    }

    /// Takes envelopes from the front as long as they are `here`'s and there is room.
    ///
    /// # Errors
    /// [`Busy`] when there is no room for the one that is in front now.
    pub(crate) fn messages(
        &self,
        from: NodeId,
        envelopes: &mut VecDeque<Envelope>,
        here: impl Fn(&Envelope) -> bool,
    ) -> Result<(), Busy> {
        self.put_and_run(|queues| {
            while let Some(envelope) = envelopes.front().filter(|envelope| here(envelope)) {
                let bytes = queues.message_bytes.saturating_add(envelope.weight());
                let full = queues.messages.len() >= self.messages_max
                    || (bytes > self.message_bytes_max && !queues.messages.is_empty());
                if full || queues.closed {
                    return Err(Busy);
                }
                queues.message_bytes = bytes;
                let taken = envelopes.pop_front();
                queues
                    .messages
                    .extend(taken.map(|envelope| (from, envelope)));
            }
            Ok(())
        })
    }

    pub(crate) fn request(&self, request: Request) -> Result<(), (Full, Request)> {
        let weight = request.weight();
        let mut queues = self.queues.lock();
        if queues.closed {
            return Err((Full::Stopped, request));
        }
        let bytes = queues.request_bytes.saturating_add(weight);
        let full = queues.requests.len() >= self.requests_max
            || (bytes > self.request_bytes_max && !queues.requests.is_empty());
        if full {
            return Err((Full::Busy, request));
        }
        let was_empty = queues.is_empty();
        queues.request_bytes = bytes;
        queues.requests.push_back(request);
        drop(queues);
        match &self.on_request {
            Some(task) if was_empty => task.wake_by_ref(),
            None if was_empty => {
                self.filled.notify_one();
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn unreachable(&self, peer: NodeId) {
        self.put(|queues| {
            if !queues.unreachable.contains(&peer) {
                queues.unreachable.push(peer);
            }
        });
    }

    /// Refuses requests and messages from now on, and has the loop end after a last turn.
    pub(crate) fn stop(&self) {
        self.put(|queues| {
            queues.closed = true;
            queues.stop = true;
        });
    }

    /// The loop is gone: refuses what waits, and everything from now on.
    pub(crate) fn close(&self) {
        let left = self.put(|queues| {
            let closed = Queues {
                closed: true,
                gone: true,
                ..Queues::default()
            };
            std::mem::replace(queues, closed)
        });
        // The thread may wait for whoever ran the loop.
        self.filled.notify_one();
        for request in left.requests {
            request.ask.refuse_stopped();
        }
    }

    /// Moves everything that waits into the loop's hands; if there is nothing, it rests until
    /// `deadline`, and others may run it meanwhile. Without one it does not rest. `None` when the
    /// loop panicked in another's hands.
    pub(crate) fn exchange(
        &self,
        mut stage: Box<Stage>,
        deadline: Option<Instant>,
    ) -> Option<Box<Stage>> {
        let mut queues = self.queues.lock();
        if let Some(deadline) = deadline.filter(|_| queues.is_empty()) {
            queues.resting = Some(stage);
            while queues.is_empty() && !queues.gone {
                if self.filled.wait_until(&mut queues, deadline).timed_out() {
                    break;
                }
            }
            stage = self.take_back(&mut queues)?;
            // Whoever is about to put more in, and waits for a processor, does it now: on a
            // busy machine fewer and larger turns, on an idle one no time lost.
            MutexGuard::unlocked(&mut queues, thread::yield_now);
        }
        queues.drain(stage.events());
        Some(stage)
    }

    /// The loop, as soon as whoever runs it has brought it back.
    fn take_back(&self, queues: &mut MutexGuard<'_, Queues>) -> Option<Box<Stage>> {
        queues.wanted = true;
        while queues.resting.is_none() && !queues.gone {
            self.filled.wait(queues);
        }
        queues.wanted = false;
        queues.resting.take()
    }

    /// Runs the loop on this thread for one turn, if it rests and something waits.
    pub(crate) fn run(&self) {
        let queues = self.queues.lock();
        if !queues.is_empty() {
            self.run_here(queues);
        }
    }

    /// One turn, no more: what comes meanwhile is for the loop's thread, since this one has its
    /// own work.
    fn run_here(&self, mut queues: MutexGuard<'_, Queues>) {
        let Some(mut stage) = queues.resting.take() else {
            return;
        };
        queues.drain(stage.events());
        drop(queues);
        let ran = catch_unwind(AssertUnwindSafe(move || {
            stage.run(false);
            stage
        }));
        let Ok(stage) = ran else {
            return self.close();
        };
        let mut queues = self.queues.lock();
        queues.unfinished |= stage.is_ready();
        queues.resting = Some(stage);
        let wake = queues.wanted || !queues.is_empty();
        drop(queues);
        if wake {
            self.filled.notify_one();
        }
    }

    /// Moves everything that waits into `events`; sleeps until `deadline` at most if there is
    /// nothing.
    #[cfg(test)]
    pub(crate) fn take(&self, deadline: Option<Instant>, events: &mut Vec<Event>) {
        let mut queues = self.queues.lock();
        while let (true, Some(deadline)) = (queues.is_empty(), deadline) {
            if self.filled.wait_until(&mut queues, deadline).timed_out() {
                break;
            }
        }
        queues.drain(events);
    }
}
