//! A turn and what performs its effects: run by the loop's thread, or, while that rests, by whoever
//! brings something.

use std::sync::Arc;

use raftwerk_raft::{GroupId, LogError, Message, SnapshotMeta, SnapshotStatus, Storage, Ticket};

use super::{Effect, Event, Report, Reported, Turn};
use crate::apply::Actor;
use crate::clock;
use crate::envelope::Envelope;
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

/// One run loop, but for its clock. It never waits, so any thread may run it for a turn.
pub(crate) struct Stage {
    turn: Turn,
    mailbox: Arc<Mailbox>,
    workers: Workers,
    events: Vec<Event>,
    effects: Vec<Effect>,
    sends: Vec<(raftwerk_raft::NodeId, Envelope)>,
    stopped: bool,
}

impl Stage {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        batch_bytes_max: usize,
        mailbox: Arc<Mailbox>,
        workers: Workers,
    ) -> Self {
        Self {
            turn: Turn::new(storage, batch_bytes_max),
            mailbox,
            workers,
            events: Vec::new(),
            effects: Vec::new(),
            sends: Vec::new(),
            stopped: false,
        }
    }

    /// What the next turn is about.
    pub(crate) const fn events(&mut self) -> &mut Vec<Event> {
        &mut self.events
    }

    /// True when another turn has something to do without another event.
    pub(crate) fn is_ready(&self) -> bool {
        self.stopped || self.turn.is_ready()
    }

    /// Its last turn was that.
    pub(crate) const fn has_stopped(&self) -> bool {
        self.stopped
    }

    /// The newest ticket of all, and the state machines.
    pub(crate) fn end(&self) -> (Ticket, Vec<Arc<Actor>>) {
        (self.turn.last_ticket(), self.turn.actors())
    }

    /// One turn.
    pub(crate) fn run(&mut self, ticks: bool) {
        // After the events were taken: what they ask is older than this.
        if self.turn.wants_time() {
            self.turn.tell_time(clock::now());
        }
        if ticks {
            self.turn.handle(Event::Tick);
        }
        for event in self.events.drain(..) {
            self.stopped |= matches!(event, Event::Stop);
            self.turn.handle(event);
        }
        self.turn.poll(&mut self.effects);
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { to, envelope } => self.sends.push((to, envelope)),
                other => {
                    self.workers.transport.send_all(&mut self.sends);
                    self.perform(other);
                }
            }
        }
        self.effects = effects;
        self.workers.transport.send_all(&mut self.sends);
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
