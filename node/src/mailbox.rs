//! The queue before a run loop. Bounded where others fill it; what the host's own workers report
//! is bounded by what they were given to do and is never refused.

use std::collections::VecDeque;
use std::thread;
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};
use raftwerk_raft::{NodeId, Poisoned, Ticket};

use crate::config::HostConfig;
use crate::envelope::Envelope;
use crate::run_loop::{Event, Report, Request};
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
}

impl Queues {
    fn is_empty(&self) -> bool {
        self.durable.is_none()
            && self.reports.is_empty()
            && self.messages.is_empty()
            && self.requests.is_empty()
            && self.unreachable.is_empty()
            && !self.stop
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

    /// The newest watermark replaces an older one; a poison stays.
    pub(crate) fn durable(&self, mark: Result<Ticket, Poisoned>) {
        self.put(|queues| match (&queues.durable, &mark) {
            (Some(Err(_)), _) => {}
            (Some(Ok(old)), Ok(new)) if old >= new => {}
            _ => queues.durable = Some(mark),
        });
    }

    pub(crate) fn report(&self, report: Report) {
        // Dropped under no lock: a group that is opened too late ends with it.
        let late = self.put(|queues| {
            if queues.gone {
                return Some(report);
            }
            queues.reports.push_back(report);
            None
        });
        drop(late);
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
        self.put(|queues| {
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
        self.put(|queues| {
            if queues.closed {
                return Err((Full::Stopped, request));
            }
            let bytes = queues.request_bytes.saturating_add(weight);
            let full = queues.requests.len() >= self.requests_max
                || (bytes > self.request_bytes_max && !queues.requests.is_empty());
            if full {
                return Err((Full::Busy, request));
            }
            queues.request_bytes = bytes;
            queues.requests.push_back(request);
            Ok(())
        })
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
        for request in left.requests {
            request.ask.refuse_stopped();
        }
    }

    /// Moves everything that waits into `events`; sleeps until `deadline` at most if there is
    /// nothing, or not at all without one.
    pub(crate) fn take(&self, deadline: Option<Instant>, events: &mut Vec<Event>) {
        let mut queues = self.queues.lock();
        if let Some(deadline) = deadline {
            let mut slept = false;
            while queues.is_empty() {
                slept = true;
                if self.filled.wait_until(&mut queues, deadline).timed_out() {
                    break;
                }
            }
            if slept {
                // Whoever is about to put more in, and waits for a processor, does it now: on a
                // busy machine fewer and larger turns, on an idle one no time lost.
                MutexGuard::unlocked(&mut queues, thread::yield_now);
            }
        }
        if let Some(mark) = queues.durable.take() {
            events.push(Event::Durable(mark));
        }
        events.extend(queues.reports.drain(..).map(Event::Report));
        let messages = queues.messages.drain(..);
        events.extend(messages.map(|(from, envelope)| Event::Message { from, envelope }));
        // Behind what has arrived: the answers of a peer that is gone are not lost.
        events.extend(queues.unreachable.drain(..).map(Event::Unreachable));
        events.extend(queues.requests.drain(..).map(Event::Request));
        queues.message_bytes = 0;
        queues.request_bytes = 0;
        if std::mem::take(&mut queues.stop) {
            events.push(Event::Stop);
        }
    }
}
