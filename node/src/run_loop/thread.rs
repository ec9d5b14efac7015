//! The thread around a turn, and what performs its effects.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use raftwerk_raft::{GroupId, LogError, Message, SnapshotMeta, SnapshotStatus, Storage};

use super::{Effect, Event, Report, Reported, Turn};
use crate::apply::Actor;
use crate::clock;
use crate::mailbox::Mailbox;
use crate::peers::Peers;
use crate::pool::Pool;
use crate::snapshot::{Outgoing, SnapshotStore};
use crate::transport::{OutgoingSnapshot, SnapshotDone, SnapshotHeader, Transport};

/// Who does what a run loop must not do itself.
#[derive(Clone)]
pub(crate) struct Workers {
    pub(crate) apply: Arc<Pool>,
    pub(crate) reads: Arc<Pool>,
    pub(crate) snapshots: Arc<Pool>,
    pub(crate) store: Arc<SnapshotStore>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) peers: Arc<Peers>,
}

/// One run loop.
pub(crate) struct Loop {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) workers: Workers,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) tick: Duration,
    pub(crate) batch_bytes_max: usize,
    /// The longest that a tick came late, in microseconds.
    pub(crate) late_micros: Arc<AtomicU64>,
}

impl Loop {
    /// Runs it in a thread, which ends with the state machines it had.
    pub(crate) fn start(self, name: String) -> io::Result<JoinHandle<Vec<Arc<Actor>>>> {
        thread::Builder::new().name(name).spawn(move || self.run())
    }

    fn run(self) -> Vec<Arc<Actor>> {
        let _closes = Closes(Arc::clone(&self.mailbox));
        let mut turn = Turn::new(Arc::clone(&self.storage), self.batch_bytes_max);
        let notify = Arc::clone(&self.mailbox);
        let subscription = self
            .storage
            .on_durable(Box::new(move |mark| notify.durable(mark)));
        let mut next_tick = Instant::now() + self.tick;
        let (mut events, mut effects, mut sends) = (Vec::new(), Vec::new(), Vec::new());
        let mut stopped = false;
        while !stopped {
            self.mailbox
                .take((!turn.is_ready()).then_some(next_tick), &mut events);
            // After the events were taken: what they ask is older than this.
            if turn.wants_time() {
                turn.tell_time(clock::now());
            }
            let now = Instant::now();
            if now >= next_tick {
                let late = now.duration_since(next_tick).as_micros();
                let late = u64::try_from(late).unwrap_or(u64::MAX);
                self.late_micros.fetch_max(late, Ordering::Relaxed);
                // Missed ticks are not made up for: after a pause nobody's lease has run out twice.
                next_tick = now + self.tick;
                turn.handle(Event::Tick);
            }
            for event in events.drain(..) {
                stopped |= matches!(event, Event::Stop);
                turn.handle(event);
            }
            turn.poll(&mut effects);
            for effect in effects.drain(..) {
                match effect {
                    Effect::Send { to, envelope } => sends.push((to, envelope)),
                    other => {
                        self.workers.transport.send_all(&mut sends);
                        self.perform(other);
                    }
                }
            }
            self.workers.transport.send_all(&mut sends);
        }
        drop(subscription);
        // A poisoned store has told every group before.
        let _ = self.storage.wait(turn.last_ticket());
        turn.actors()
    }

    fn owed(&self, group: GroupId, failure: Reported) -> Owed {
        Owed {
            mailbox: Arc::clone(&self.mailbox),
            group,
            failure: Some(failure),
        }
    }

    fn perform(&self, effect: Effect) {
        let workers = &self.workers;
        match effect {
            Effect::Send { to, envelope } => workers.transport.send(to, envelope),
            Effect::Apply { actor, job } => actor.push(job, &workers.apply),
            Effect::Read { group, log, read } => {
                let id = read.id;
                let reason = Arc::from(PANICKED);
                let result = Err(LogError::Io { reason });
                let owed = self.owed(group, Reported::LogRead { id, result });
                workers.reads.spawn(move || {
                    let result = log.read(read.range, read.max_bytes);
                    owed.report(Reported::LogRead { id, result });
                });
            }
            Effect::Build {
                group,
                meta,
                mut source,
            } => {
                let store = Arc::clone(&workers.store);
                let owed = self.owed(group, Reported::Built(Err(PANICKED.into())));
                workers.snapshots.spawn(move || {
                    let built = store.build(group, &meta, source.as_mut());
                    let result = built
                        .map(|len_bytes| (meta, len_bytes))
                        .map_err(|error| error.to_string().into());
                    owed.report(Reported::Built(result));
                });
            }
            Effect::SendSnapshot {
                group,
                message,
                meta,
            } => {
                let sender = Sender {
                    store: Arc::clone(&workers.store),
                    transport: Arc::clone(&workers.transport),
                    mailbox: Arc::clone(&self.mailbox),
                };
                workers
                    .snapshots
                    .spawn(move || sender.send(group, &message, meta));
            }
            Effect::Collect { group, newest } => {
                let store = Arc::clone(&workers.store);
                // A file that cannot be removed now is tried again after the next snapshot.
                workers
                    .snapshots
                    .spawn(move || drop(store.collect(group, newest)));
            }
            Effect::Members { group, members } => {
                workers
                    .peers
                    .update(group, members, workers.transport.as_ref());
            }
        }
    }
}

/// What a group is told when a task ends by a panic.
const PANICKED: &str = "a worker panicked; see the log of the process";

/// A report that a group waits for. Dropped without one, as by a panic, it reports the failure.
struct Owed {
    mailbox: Arc<Mailbox>,
    group: GroupId,
    failure: Option<Reported>,
}

impl Owed {
    fn report(mut self, what: Reported) {
        self.failure = None;
        let group = self.group;
        self.mailbox.report(Report { group, what });
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if let Some(what) = self.failure.take() {
            let group = self.group;
            self.mailbox.report(Report { group, what });
        }
    }
}

/// Closes a loop's mailbox when the loop ends, by a panic too: nobody waits for what is gone.
struct Closes(Arc<Mailbox>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct Sender {
    store: Arc<SnapshotStore>,
    transport: Arc<dyn Transport>,
    mailbox: Arc<Mailbox>,
}

impl Sender {
    fn send(self, group: GroupId, message: &Message, meta: SnapshotMeta) {
        let to = message.to;
        let mailbox = self.mailbox;
        let done = SnapshotDone::new(move |status| {
            mailbox.report(Report {
                group,
                what: Reported::Sent { to, status },
            });
        });
        let opened = self.store.bytes(group, meta.last);
        let Ok(Some(Outgoing {
            snapshot,
            len_bytes,
            bytes,
        })) = opened
        else {
            return done.report(SnapshotStatus::Failed);
        };
        let header = SnapshotHeader {
            group,
            from: message.from,
            to,
            term: message.term,
            session: message.session,
            meta,
            snapshot,
            len_bytes,
        };
        self.transport.send_snapshot(
            to,
            OutgoingSnapshot {
                header,
                bytes,
                done,
            },
        );
    }
}
