//! One process's part in many groups: the log they share, the network, the threads.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use raftwerk_raft::{GroupId, NodeId, Pressure, StateMachine, Storage};

use crate::apply::{Actor, Job};
use crate::config::{GroupConfig, HostConfig, Start};
use crate::envelope::Envelope;
use crate::error::{GroupError, HostError};
use crate::group::Group;
use crate::mailbox::Mailbox;
use crate::oneshot::pending;
use crate::peers::Peers;
use crate::pool::Pool;
use crate::run_loop::{self, Loop, Opening, Report, Reported, Workers};
use crate::snapshot::SnapshotStore;
use crate::status::Shared;
use crate::transport::{Busy, Inbox, SnapshotHeader, SnapshotRefused, SnapshotSink, Transport};

/// The part that this process has in its groups. Cheap to clone: all clones are the same host.
/// Stop it with [`Host::stop`]; when the last clone is dropped, that is done too.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

/// Whether everything of a host has ended, for any number of those who wait for that.
#[derive(Default)]
struct Ended {
    ended: Mutex<bool>,
    told: Condvar,
}

impl Ended {
    fn tell(&self) {
        *self.ended.lock() = true;
        self.told.notify_all();
    }

    /// Whether it has within `wait`.
    fn wait(&self, wait: Duration) -> bool {
        let mut ended = self.ended.lock();
        self.told.wait_while_for(&mut ended, |ended| !*ended, wait);
        *ended
    }
}

type Thread = JoinHandle<Vec<Arc<Actor>>>;

struct Inner {
    config: HostConfig,
    storage: Arc<dyn Storage>,
    workers: Workers,
    inbox: Arc<HostInbox>,
    threads: Mutex<Vec<Thread>>,
    late_micros: Arc<AtomicU64>,
    stopped: AtomicBool,
    ended: Arc<Ended>,
}

impl Host {
    /// Starts the threads, and `transport` with them. The host owns the log from now on: nobody
    /// else may write to `storage`.
    ///
    /// # Errors
    /// [`HostError`]; nothing runs then.
    pub fn start(
        config: HostConfig,
        storage: Arc<dyn Storage>,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, HostError> {
        config.check()?;
        storage
            .durable()
            .map_err(raftwerk_raft::StorageError::from)?;
        let workers = workers(&config, transport)?;
        let mailboxes: Vec<_> = (0..config.run_loops)
            .map(|_| Arc::new(Mailbox::new(&config)))
            .collect();
        let inbox = Arc::new(HostInbox {
            host: config.id,
            mailboxes,
            groups: Mutex::default(),
            store: Arc::clone(&workers.store),
        });
        let inner = Inner {
            storage,
            workers,
            inbox,
            threads: Mutex::default(),
            late_micros: Arc::default(),
            stopped: AtomicBool::new(false),
            ended: Arc::default(),
            config,
        };
        let host = Self {
            inner: Arc::new(inner),
        };
        if let Err(error) = host.inner.start() {
            host.stop();
            return Err(error);
        }
        Ok(host)
    }

    /// Opens a group that the log holds, or begins one as `config.start` says. Blocks on the disk:
    /// the log's records and the state machine are read and, where needed, the state machine is
    /// restored from a snapshot file.
    ///
    /// # Errors
    /// [`GroupError`]; the group is not open then.
    pub fn open_group(
        &self,
        group: GroupId,
        config: GroupConfig,
        machine: Box<dyn StateMachine>,
    ) -> Result<Group, GroupError> {
        let inner = &self.inner;
        config.check_lease(inner.config.tick)?;
        let mailbox = Arc::clone(inner.inbox.mailbox(group));
        let shared = Arc::new(Shared::default());
        let handle = Group::new(
            group,
            Arc::clone(&mailbox),
            Arc::clone(&shared),
            config.limits,
        );
        inner
            .inbox
            .reserve(group, handle.clone(), Arc::clone(&shared))?;
        if let Start::Join { contacts } = &config.start {
            let transport = inner.workers.transport.as_ref();
            inner.workers.peers.contacts(group, contacts, transport);
        }
        let opening = Opening {
            group,
            host: inner.config.id,
            incarnation: inner.config.incarnation,
            config,
            seed: inner.config.seed ^ group.0.rotate_left(32),
            storage: Arc::clone(&inner.storage),
            snapshots: Arc::clone(&inner.workers.store),
            transport: Arc::clone(&inner.workers.transport),
            mailbox: Arc::clone(&mailbox),
            shared,
        };
        match run_loop::open(opening, machine) {
            Ok(driver) if !inner.stopped.load(Ordering::SeqCst) => {
                let what = Reported::Open(Box::new(driver));
                mailbox.report(Report { group, what });
                Ok(handle)
            }
            opened => {
                inner.inbox.groups.lock().remove(&group);
                opened.and(Err(GroupError::Stopped))
            }
        }
    }

    /// The handle of an open group.
    #[must_use]
    pub fn group(&self, group: GroupId) -> Option<Group> {
        self.inner
            .inbox
            .groups
            .lock()
            .get(&group)
            .map(|open| open.handle.clone())
    }

    /// The open groups, in order of id.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        self.inner.inbox.groups.lock().keys().copied().collect()
    }

    /// This host's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.inner.config.id
    }

    /// The longest that a tick has come late so far: how long a run loop was held up.
    #[must_use]
    pub fn longest_tick_delay(&self) -> Duration {
        Duration::from_micros(self.inner.late_micros.load(Ordering::Relaxed))
    }

    /// Runs each run loop that rests though something waits for it, for one turn, on this thread:
    /// see [`HostConfig::on_request`]. Does not wait.
    pub fn turn(&self) {
        self.inner
            .inbox
            .mailboxes
            .iter()
            .for_each(|mailbox| mailbox.run());
    }

    /// How loaded the log is.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        self.inner.storage.pressure()
    }

    /// Ends everything in order: no more messages, requests or ticks; what was given to the log
    /// becomes durable, what was given to the state machines is applied and made durable; all
    /// threads are joined. Requests without an answer get one. Blocks, but not for longer than
    /// `HostConfig::stop_wait` where a disk hangs; a second call does nothing.
    pub fn stop(&self) {
        self.stop_within(self.inner.config.stop_wait);
    }

    /// Like [`Host::stop`], for `wait` at most. False: something was still under way then, and the
    /// log is in use until that ends or the process does.
    pub fn stop_within(&self, wait: Duration) -> bool {
        self.inner.stop(wait)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("id", &self.inner.config.id)
            .finish_non_exhaustive()
    }
}

fn workers(config: &HostConfig, transport: Arc<dyn Transport>) -> Result<Workers, HostError> {
    let apply = Pool::start("raft-apply", config.apply_workers).map_err(HostError::Thread)?;
    let stop = |error, pools: &[&Arc<Pool>]| {
        pools.iter().for_each(|pool| pool.stop());
        HostError::Thread(error)
    };
    let reads = Pool::start("raft-read", 1).map_err(|error| stop(error, &[&apply]))?;
    let snapshots = Pool::start("raft-snapshot", config.snapshot_workers)
        .map_err(|error| stop(error, &[&apply, &reads]))?;
    let store = Arc::new(SnapshotStore::new(
        Arc::clone(&config.vfs),
        config.snapshot_dir.clone(),
        config.snapshot_bytes_per_second,
        config.snapshots_received_max,
    ));
    let peers = Arc::new(Peers::new(config.id));
    Ok(Workers {
        apply,
        reads,
        snapshots,
        store,
        transport,
        peers,
    })
}

impl Inner {
    fn start(&self) -> Result<(), HostError> {
        for (number, mailbox) in self.inbox.mailboxes.iter().enumerate() {
            let run_loop = Loop {
                mailbox: Arc::clone(mailbox),
                workers: self.workers.clone(),
                storage: Arc::clone(&self.storage),
                tick: self.config.tick,
                batch_bytes_max: self.config.batch_bytes_max,
                late_micros: Arc::clone(&self.late_micros),
            };
            let thread = run_loop
                .start(format!("raft-{number}"))
                .map_err(HostError::Thread)?;
            self.threads.lock().push(thread);
        }
        self.workers
            .transport
            .start(Arc::clone(&self.inbox) as Arc<dyn Inbox>)?;
        Ok(())
    }

    fn stop(&self, wait: Duration) -> bool {
        if !self.stopped.swap(true, Ordering::SeqCst) && !self.begin_to_end() {
            return false;
        }
        self.ended.wait(wait)
    }

    /// Tells everything to stop and waits for it elsewhere; false if there is no thread to do so.
    fn begin_to_end(&self) -> bool {
        self.workers.transport.stop();
        self.workers.store.stop();
        self.inbox
            .mailboxes
            .iter()
            .for_each(|mailbox| mailbox.stop());
        let threads = std::mem::take(&mut *self.threads.lock());
        let workers = self.workers.clone();
        let ended = Arc::clone(&self.ended);
        let finish = move || {
            end(threads, &workers);
            // Whoever is told that all has ended may close the log: nothing here holds it then.
            drop(workers);
            ended.tell();
        };
        let finishing = thread::Builder::new().name("raft-stop".into());
        finishing.spawn(finish).is_ok()
    }
}

/// Waits for the run loops, makes the state machines durable, ends the workers.
fn end(threads: Vec<Thread>, workers: &Workers) {
    let mut persisted = Vec::new();
    for thread in threads {
        // A run loop that panicked has taken its groups with it; the others end in order.
        for actor in thread.join().unwrap_or_default() {
            let (done, persists) = pending();
            actor.push(Job::Persist { done }, &workers.apply);
            persisted.push(persists);
        }
    }
    for persists in persisted {
        // A group that had halted persists nothing.
        let _ = persists.wait();
    }
    workers.apply.stop();
    workers.reads.stop();
    workers.snapshots.stop();
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop(self.config.stop_wait);
    }
}

struct Open {
    handle: Group,
    shared: Arc<Shared>,
}

/// Where the transport hands in what arrives.
struct HostInbox {
    host: NodeId,
    /// One per run loop, at least one.
    mailboxes: Vec<Arc<Mailbox>>,
    groups: Mutex<BTreeMap<GroupId, Open>>,
    store: Arc<SnapshotStore>,
}

impl HostInbox {
    /// Which run loop has the group.
    fn at(&self, group: GroupId) -> usize {
        let loops = self.mailboxes.len() as u64;
        usize::try_from(group.0 % loops).unwrap_or_default()
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder of the length")]
    fn mailbox(&self, group: GroupId) -> &Arc<Mailbox> {
        &self.mailboxes[self.at(group)]
    }

    fn reserve(
        &self,
        group: GroupId,
        handle: Group,
        shared: Arc<Shared>,
    ) -> Result<(), GroupError> {
        let mut groups = self.groups.lock();
        if groups.contains_key(&group) {
            return Err(GroupError::AlreadyOpen { group });
        }
        groups.insert(group, Open { handle, shared });
        Ok(())
    }
}

impl Inbox for HostInbox {
    fn receive(&self, from: NodeId, envelope: Envelope) -> Result<(), Busy> {
        let mailbox = self.mailbox(envelope.group);
        mailbox.messages(from, &mut VecDeque::from([envelope]), |_| true)
    }

    fn receive_all(&self, from: NodeId, envelopes: &mut VecDeque<Envelope>) {
        while let Some(first) = envelopes.front() {
            let at = self.at(first.group);
            let here = |envelope: &Envelope| self.at(envelope.group) == at;
            let mailbox = self.mailbox(first.group);
            if mailbox.messages(from, envelopes, here).is_err() {
                return;
            }
        }
    }

    fn snapshot(
        &self,
        from: NodeId,
        header: SnapshotHeader,
    ) -> Result<Box<dyn SnapshotSink>, SnapshotRefused> {
        let group = header.group;
        if header.from != from || header.to != self.host {
            let reason = "it is not from its sender, or not for this host";
            return Err(SnapshotRefused::Invalid { reason });
        }
        let Some(shared) = self
            .groups
            .lock()
            .get(&group)
            .map(|open| Arc::clone(&open.shared))
        else {
            return Err(SnapshotRefused::UnknownGroup { group });
        };
        let mailbox = Arc::clone(self.mailbox(group));
        let last = header.meta.last.index;
        if shared.read(|status| status.commit >= last && !status.replacing) {
            // The core answers with what it has, which tells the leader where to go on.
            let what = Reported::NotNeeded(header.message());
            mailbox.report(Report { group, what });
            return Err(SnapshotRefused::NotNeeded);
        }
        self.store.receive(header, mailbox)
    }

    fn unreachable(&self, peer: NodeId) {
        self.mailboxes
            .iter()
            .for_each(|mailbox| mailbox.unreachable(peer));
    }
}
