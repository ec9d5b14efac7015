//! State machines and the workers that run them. One worker at a time runs a group's state
//! machine; what it is given to do it does in order.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;
use raftwerk_raft::{
    ApplyAck, Entries, Entry, EntryKind, GroupId, LogId, Response, SnapshotMeta, StateMachine,
};

use crate::envelope::Applied;
use crate::error::ProposeError;
use crate::mailbox::Mailbox;
use crate::oneshot::{Abandoned, Completer};
use crate::pool::Pool;
use crate::run_loop::{Report, Reported, StateView, Waiter};
use crate::snapshot::SnapshotStore;
use crate::transport::Transport;

/// Jobs of one group that a worker does before it looks after the others.
const JOBS_PER_RUN: usize = 16;
/// How often a restore is tried.
const RESTORES_MAX: usize = 3;

/// Work for one state machine.
pub(crate) enum Job {
    /// Committed entries, and who waits for them.
    Apply {
        entries: Entries,
        waiters: Vec<Waiter>,
        ack: ApplyAck,
    },
    /// A consistent view, to be made a snapshot file of.
    View,
    /// The state of a received snapshot, whose file is durable and recorded in the log.
    Restore { meta: SnapshotMeta },
    /// The host stops: makes durable what can be.
    Persist { done: Completer<(), Gone> },
}

/// The worker is gone without an answer.
#[derive(Debug)]
pub(crate) struct Gone;

impl Abandoned for Gone {
    fn abandoned() -> Self {
        Self
    }
}

#[derive(Default)]
struct Queue {
    /// Absent while a worker has it, and for good once the group has halted.
    machine: Option<Box<dyn StateMachine>>,
    jobs: VecDeque<Job>,
    scheduled: bool,
    halted: bool,
}

/// One group's state machine and its jobs. How many wait is bounded by the core, which hands out
/// no more committed entries than its limit before some are acknowledged.
pub(crate) struct Actor {
    group: GroupId,
    queue: Mutex<Queue>,
    /// What the state machine has applied though the log had lost it: passed over when the leader
    /// sends it again. Zero when it is behind the log, as it should be.
    ahead: Mutex<LogId>,
    mailbox: Arc<Mailbox>,
    transport: Arc<dyn Transport>,
    snapshots: Arc<SnapshotStore>,
}

impl Actor {
    pub(crate) fn new(
        group: GroupId,
        machine: Box<dyn StateMachine>,
        ahead: LogId,
        mailbox: Arc<Mailbox>,
        transport: Arc<dyn Transport>,
        snapshots: Arc<SnapshotStore>,
    ) -> Self {
        let queue = Mutex::new(Queue {
            machine: Some(machine),
            ..Queue::default()
        });
        Self {
            group,
            queue,
            ahead: Mutex::new(ahead),
            mailbox,
            transport,
            snapshots,
        }
    }

    /// Queues a job, and the group with the workers if it is not there.
    pub(crate) fn push(self: &Arc<Self>, job: Job, workers: &Arc<Pool>) {
        let mut queue = self.queue.lock();
        if queue.halted {
            drop(queue);
            return drop(job);
        }
        queue.jobs.push_back(job);
        if !std::mem::replace(&mut queue.scheduled, true) {
            drop(queue);
            self.schedule(workers);
        }
    }

    fn schedule(self: &Arc<Self>, workers: &Arc<Pool>) {
        let actor = Arc::clone(self);
        let again = Arc::clone(workers);
        workers.spawn(move || actor.run(&again));
    }

    fn run(self: &Arc<Self>, workers: &Arc<Pool>) {
        let Some(mut machine) = self.queue.lock().machine.take() else {
            return;
        };
        for _ in 0..JOBS_PER_RUN {
            let mut queue = self.queue.lock();
            let Some(job) = queue.jobs.pop_front() else {
                queue.machine = Some(machine);
                queue.scheduled = false;
                return;
            };
            drop(queue);
            let done = catch_unwind(AssertUnwindSafe(|| self.perform(machine.as_mut(), job)));
            let cause = match done {
                Ok(Ok(())) => continue,
                Ok(Err(cause)) => cause,
                Err(_) => "state machine panicked; see the log of the process, then restart".into(),
            };
            return self.halt(machine, cause);
        }
        self.queue.lock().machine = Some(machine);
        self.schedule(workers);
    }

    fn halt(&self, machine: Box<dyn StateMachine>, cause: Arc<str>) {
        let mut queue = self.queue.lock();
        queue.halted = true;
        let jobs = std::mem::take(&mut queue.jobs);
        drop(queue);
        drop(machine);
        // Whoever waits in them learns that the outcome is unknown.
        drop(jobs);
        self.report(Reported::Halted { cause });
    }

    fn report(&self, what: Reported) {
        self.mailbox.report(Report {
            group: self.group,
            what,
        });
    }

    fn perform(&self, machine: &mut dyn StateMachine, job: Job) -> Result<(), Arc<str>> {
        match job {
            Job::Apply {
                entries,
                waiters,
                ack,
            } => self.apply(machine, &entries, waiters, ack)?,
            Job::View => {
                let view = view(machine).map_err(|error| error.to_string().into());
                self.report(Reported::View(view));
            }
            Job::Restore { meta } => {
                self.restore(machine, &meta)?;
                *self.ahead.lock() = LogId::ZERO;
                self.report(Reported::Restored(meta.last));
            }
            Job::Persist { done } => {
                // What is not durable now is replayed from the log.
                let _ = machine.persist();
                done.complete(Ok(()));
            }
        }
        Ok(())
    }

    fn apply(
        &self,
        machine: &mut dyn StateMachine,
        entries: &[Entry],
        waiters: Vec<Waiter>,
        ack: ApplyAck,
    ) -> Result<(), Arc<str>> {
        let mut responses = Vec::with_capacity(entries.len());
        let news = self.behind_state(entries)?;
        // Nobody waits for the response to what was applied in an earlier life.
        responses.resize(entries.len() - news.len(), Response::new());
        if !news.is_empty() {
            machine
                .apply(news, &mut responses)
                .map_err(|halt| Arc::from(halt.cause))?;
        }
        if responses.len() != entries.len() {
            let (got, wanted) = (responses.len(), entries.len());
            return Err(format!("state machine gave {got} responses to {wanted} entries").into());
        }
        self.answer(entries, &responses, waiters);
        if let Some(last) = entries.last() {
            self.mailbox.report_and_run(Report {
                group: self.group,
                what: Reported::Applied { last: last.id, ack },
            });
        }
        Ok(())
    }

    /// Those of `entries` that the state machine does not have yet.
    fn behind_state<'a>(&self, entries: &'a [Entry]) -> Result<&'a [Entry], Arc<str>> {
        let ahead = *self.ahead.lock();
        let has = |entry: &Entry| entry.index() <= ahead.index;
        let (old, news) = entries.split_at(entries.partition_point(has));
        match old.last() {
            Some(last) if last.index() == ahead.index && last.id != ahead => Err(format!(
                "the group has committed {} where the state machine had applied {ahead}; wipe this \
                 member's folder and add it again",
                last.id
            )
            .into()),
            _ => Ok(news),
        }
    }

    /// Answers from here: a waiting proposer pays no turn of the run loop.
    fn answer(&self, entries: &[Entry], responses: &[Response], waiters: Vec<Waiter>) {
        let Some(first) = entries.first() else { return };
        let mut sends = Vec::new();
        for Waiter { id, origin, kind } in waiters {
            let at = usize::try_from(id.index.since(first.index())).unwrap_or(usize::MAX);
            let result = match (entries.get(at), responses.get(at)) {
                // The core replaces a change that it cannot make now by an entry without effect.
                (Some(entry), _)
                    if kind != EntryKind::Normal && entry.kind == EntryKind::Normal =>
                {
                    let reason = "another change of members is under way".into();
                    Err(ProposeError::Refused { reason })
                }
                (Some(entry), Some(response)) if entry.id == id => Ok(Applied {
                    id,
                    response: response.clone(),
                }),
                _ => Err(ProposeError::Unknown),
            };
            origin.answer(self.group, result, |to, envelope| {
                sends.push((to, envelope))
            });
        }
        self.transport.send_all(&mut sends);
    }

    fn restore(&self, machine: &mut dyn StateMachine, meta: &SnapshotMeta) -> Result<(), Arc<str>> {
        let mut failed = String::new();
        for _ in 0..RESTORES_MAX {
            let opened = self.snapshots.state(self.group, meta);
            match opened {
                Ok(Some(mut source)) => match machine.restore(meta, source.as_mut()) {
                    Ok(()) => return Ok(()),
                    Err(error) => failed = error.to_string(),
                },
                Ok(None) => failed = format!("the file of snapshot {} is missing", meta.last),
                Err(error) => failed = error.to_string(),
            }
        }
        Err(format!(
            "cannot install snapshot {}: {failed}; restart to try again",
            meta.last
        )
        .into())
    }
}

fn view(machine: &mut dyn StateMachine) -> Result<StateView, raftwerk_raft::StateError> {
    let source = machine.snapshot()?;
    let persisted: LogId = machine.persist()?;
    Ok(StateView { source, persisted })
}
