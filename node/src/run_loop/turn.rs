//! One run loop's groups: takes events, and in `poll` collects what follows from them into effects
//! and one write batch.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use raftwerk_raft::{GroupId, Poisoned, Ready, Storage, SubmitError, Ticket};

use super::driver::Driver;
use super::submit::{Batch, split};
use super::{Effect, Event, Report, Reported, Request};
use crate::apply::Actor;
use crate::envelope::Envelope;

/// How often one poll goes round while groups have more to do; what is left then is for the next.
const ROUNDS_MAX: usize = 4;

/// Batches that wait for a full log before no group is collected any more.
const BACKLOG_MAX: usize = 64;

/// The groups of one run loop. No clock and no threads: `handle` an event, `poll` for effects.
pub(crate) struct Turn {
    storage: Arc<dyn Storage>,
    batch_bytes_max: usize,
    groups: BTreeMap<GroupId, Driver>,
    dirty: BTreeSet<GroupId>,
    /// Which groups wait for which ticket, in order.
    in_flight: VecDeque<(Ticket, Vec<GroupId>)>,
    /// What the log has not taken, in order: empty unless it is full. Reads and heartbeats go on
    /// meanwhile, but nothing that makes the log grow is let in, and nothing overtakes what waits.
    backlog: VecDeque<Batch>,
    /// What makes room in the log, taken out of the backlog to be submitted before it.
    relief: VecDeque<Batch>,
    /// What the handles were told.
    full_told: bool,
    last_ticket: Ticket,
    durable: Ticket,
    poisoned: Option<Poisoned>,
    stopping: bool,
    /// A group has leases, and what the clock says.
    has_leases: bool,
    time: Option<Duration>,
    /// Filled by one group after the other.
    ready: Ready,
    out: Vec<Effect>,
}

impl Turn {
    pub(crate) fn new(storage: Arc<dyn Storage>, batch_bytes_max: usize) -> Self {
        Self {
            storage,
            batch_bytes_max,
            groups: BTreeMap::new(),
            dirty: BTreeSet::new(),
            in_flight: VecDeque::new(),
            backlog: VecDeque::new(),
            relief: VecDeque::new(),
            full_told: false,
            last_ticket: Ticket::default(),
            durable: Ticket::default(),
            poisoned: None,
            stopping: false,
            has_leases: false,
            time: None,
            ready: Ready::default(),
            out: Vec::new(),
        }
    }

    /// The newest ticket of all: a clean end waits for it.
    pub(crate) const fn last_ticket(&self) -> Ticket {
        self.last_ticket
    }

    /// True when [`Turn::tell_time`] is to be called before each batch of events.
    pub(crate) const fn wants_time(&self) -> bool {
        self.has_leases
    }

    /// What a clock says that goes on while the machine is suspended.
    pub(crate) const fn tell_time(&mut self, time: Option<Duration>) {
        self.time = time;
    }

    /// True when another poll has something to do without another event.
    pub(crate) fn is_ready(&self) -> bool {
        !self.dirty.is_empty() && self.backlog.len() < BACKLOG_MAX
    }

    /// The log has no room.
    fn is_full(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// The state machines, to be ended with the host.
    pub(crate) fn actors(&self) -> Vec<Arc<Actor>> {
        self.groups.values().map(Driver::actor).collect()
    }

    /// Takes one event.
    pub(crate) fn handle(&mut self, event: Event) {
        match event {
            Event::Tick => {
                for (group, driver) in &mut self.groups {
                    driver.tell_time(self.time);
                    if driver.tick(&mut self.out) {
                        self.dirty.insert(*group);
                    }
                }
            }
            Event::Durable(Ok(ticket)) => self.durable(ticket),
            Event::Durable(Err(poisoned)) => self.poison(&poisoned),
            // The log is full: entries would only pile up, and the leader sends them again.
            Event::Message { envelope, .. } if self.is_full() && envelope.has_entries() => {}
            Event::Message {
                from,
                envelope: Envelope { group, body },
            } => {
                let full = self.is_full();
                if let Some(driver) = self.groups.get_mut(&group) {
                    driver.message(from, body, full, &mut self.out);
                    self.dirty.insert(group);
                }
            }
            Event::Unreachable(peer) => {
                for (group, driver) in &mut self.groups {
                    driver.unreachable(peer, &mut self.out);
                    self.dirty.insert(*group);
                }
            }
            Event::Request(Request { group, ask }) => {
                let full = self.is_full();
                match self.groups.get_mut(&group) {
                    Some(_) if full && ask.is_write() => ask.refuse_busy(),
                    Some(driver) => {
                        driver.ask(ask);
                        self.dirty.insert(group);
                    }
                    None => ask.refuse_stopped(),
                }
            }
            Event::Report(Report { group, what }) => self.report(group, what),
            Event::Stop => {
                self.stopping = true;
                for (group, driver) in &mut self.groups {
                    driver.end(&mut self.out);
                    self.dirty.insert(*group);
                }
            }
        }
    }

    fn report(&mut self, group: GroupId, what: Reported) {
        if let Reported::Open(mut driver) = what {
            driver.begin(&mut self.out);
            if let Some(poisoned) = &self.poisoned {
                driver.storage_failed(&poisoned.to_string(), &mut self.out);
            }
            driver.log_full(self.full_told);
            if self.stopping {
                driver.end(&mut self.out);
            }
            self.has_leases |= driver.has_leases();
            self.groups.insert(driver.group(), *driver);
        } else if let Some(driver) = self.groups.get_mut(&group) {
            driver.report(what, &mut self.out);
        }
        self.dirty.insert(group);
    }

    fn durable(&mut self, ticket: Ticket) {
        self.durable = self.durable.max(ticket);
        while self.in_flight.front().is_some_and(|(at, _)| *at <= ticket) {
            let Some((_, groups)) = self.in_flight.pop_front() else {
                break;
            };
            for group in groups {
                if let Some(driver) = self.groups.get_mut(&group) {
                    driver.durable(ticket, &mut self.out);
                    self.dirty.insert(group);
                }
            }
        }
    }

    fn poison(&mut self, poisoned: &Poisoned) {
        self.poisoned = Some(poisoned.clone());
        self.backlog.clear();
        self.relief.clear();
        self.in_flight.clear();
        let cause = poisoned.to_string();
        for (group, driver) in &mut self.groups {
            driver.storage_failed(&cause, &mut self.out);
            self.dirty.insert(*group);
        }
    }

    /// Moves into `effects`, in order, everything that follows from the events so far, and submits
    /// one batch for all groups that have something to write.
    pub(crate) fn poll(&mut self, effects: &mut Vec<Effect>) {
        let mut touched = BTreeSet::new();
        self.retry();
        for _ in 0..ROUNDS_MAX {
            if !self.is_ready() {
                break;
            }
            self.round(&mut touched);
        }
        self.cut();
        self.tell_full();
        for group in touched {
            if let Some(driver) = self.groups.get_mut(&group) {
                driver.refresh();
            }
        }
        effects.append(&mut self.out);
    }

    fn round(&mut self, touched: &mut BTreeSet<GroupId>) {
        let mut batch = Batch::default();
        for group in std::mem::take(&mut self.dirty) {
            if self.backlog.len() >= BACKLOG_MAX {
                self.dirty.insert(group);
                continue;
            }
            touched.insert(group);
            let Some(driver) = self.groups.get_mut(&group) else {
                continue;
            };
            driver.tell_time(self.time);
            if let Some((write, step)) = driver.collect(&mut self.ready, &mut self.out) {
                batch.push(write, step);
            }
            if driver.is_ready() {
                self.dirty.insert(group);
            }
            if batch.bytes() >= self.batch_bytes_max {
                self.submit(std::mem::take(&mut batch));
            }
        }
        if !batch.is_empty() {
            self.submit(batch);
        }
    }

    fn submit(&mut self, batch: Batch) {
        self.backlog.push_back(batch);
        self.retry();
    }

    /// Hands the log what it has not taken yet.
    fn retry(&mut self) {
        if !self.retry_relief() {
            return;
        }
        while let Some(batch) = self.backlog.pop_front() {
            if let Err(batch) = self.offer(batch) {
                self.backlog.push_front(batch);
                self.relieve();
                self.retry_relief();
                return;
            }
        }
    }

    /// True when nothing is left that would make room.
    fn retry_relief(&mut self) -> bool {
        while let Some(batch) = self.relief.pop_front() {
            if let Err(batch) = self.offer(batch) {
                self.relief.push_front(batch);
                return false;
            }
        }
        true
    }

    fn relieve(&mut self) {
        let groups = &self.groups;
        let installing = |group| groups.get(&group).is_some_and(Driver::is_installing);
        for batch in &mut self.backlog {
            let relief = batch.relief(installing);
            if !relief.is_empty() {
                self.relief.push_back(relief);
            }
        }
    }

    /// With the backlog at its bound no group is collected, but for what makes room.
    fn cut(&mut self) {
        if self.backlog.len() < BACKLOG_MAX {
            return;
        }
        let mut batch = Batch::default();
        for group in &self.dirty {
            let Some(driver) = self.groups.get_mut(group) else {
                continue;
            };
            if let Some((write, step)) = driver.collect_cut(&mut self.out) {
                batch.push(write, step);
            }
        }
        if !batch.is_empty() {
            self.relief.push_back(batch);
            self.retry();
        }
    }

    fn tell_full(&mut self) {
        let full = self.is_full();
        if std::mem::replace(&mut self.full_told, full) != full {
            self.groups
                .values()
                .for_each(|driver| driver.log_full(full));
        }
    }

    /// Hands the log one batch, or gives back what it has no room for.
    fn offer(&mut self, mut batch: Batch) -> Result<(), Batch> {
        match self.hand_over(&mut batch) {
            Ok(()) => self.submitted(batch),
            Err(SubmitError::Full(writes)) => {
                batch.put_back(writes);
                return Err(batch);
            }
            Err(SubmitError::Poisoned(poisoned)) => self.poison(&poisoned),
            Err(error) => self.refused(&error, batch),
        }
        Ok(())
    }

    /// All writes of `batch`, in as many pieces as the log wants.
    fn hand_over(&mut self, batch: &mut Batch) -> Result<(), SubmitError> {
        while let Some(writes) = batch.next_writes() {
            match self.storage.submit(writes) {
                Ok(ticket) => self.last_ticket = ticket,
                Err(SubmitError::TooLarge {
                    batch: writes,
                    bytes,
                    max,
                }) => {
                    let group = writes.groups.first().map(|write| write.group);
                    if let Some((first, rest)) = split(writes) {
                        batch.put_back(rest);
                        batch.put_back(first);
                    } else if let Some(group) = group {
                        batch.forget(group);
                        self.too_large(group, bytes, max);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn submitted(&mut self, batch: Batch) {
        let ticket = self.last_ticket;
        let mut waiting = Vec::new();
        for step in batch.steps {
            let group = step.group;
            let Some(driver) = self.groups.get_mut(&group) else {
                continue;
            };
            if driver.submitted(ticket, step, &mut self.out) {
                waiting.push(group);
            }
            if driver.is_ready() {
                self.dirty.insert(group);
            }
        }
        if !waiting.is_empty() {
            self.in_flight.push_back((ticket, waiting));
            self.durable(self.durable);
        }
    }

    fn too_large(&mut self, group: GroupId, bytes: u64, max: u64) {
        let cause = format!(
            "an entry makes a write of {bytes} bytes and the log takes {max}: raise the log's \
             limit or lower the proposals', then restart"
        );
        self.fail(group, &cause);
    }

    /// The log says that a write contradicts it, and has not handed the batch back: no group whose
    /// step was in it can go on.
    fn refused(&mut self, error: &SubmitError, batch: Batch) {
        let cause = format!("{error}; this is a bug: keep the log's folder and report it");
        for step in batch.steps {
            self.fail(step.group, &cause);
        }
    }

    fn fail(&mut self, group: GroupId, cause: &str) {
        for batch in self.backlog.iter_mut().chain(&mut self.relief) {
            batch.forget(group);
        }
        if let Some(driver) = self.groups.get_mut(&group) {
            driver.storage_failed(cause, &mut self.out);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use raftwerk_raft::{
        ByteBudget, DurableNotify, NodeId, OpenGroup, Pressure, Role, ScrubReport, StorageError,
        Subscription, WriteBatch,
    };
    use raftwerk_storage_mem::{MemLog, MemLogOptions};

    use super::super::{Ask, Opening, open};
    use super::*;
    use crate::config::{GroupConfig, HostConfig};
    use crate::mailbox::Mailbox;
    use crate::member::Member;
    use crate::oneshot::pending;
    use crate::pool::Pool;
    use crate::snapshot::SnapshotStore;
    use crate::status::Shared;
    use crate::{InMemory, InProcessNetwork, MemoryState};

    struct Echo;

    impl MemoryState for Echo {
        fn apply(&mut self, data: &[u8]) -> bytes::Bytes {
            bytes::Bytes::copy_from_slice(data)
        }
        fn save(&self) -> bytes::Bytes {
            bytes::Bytes::new()
        }
        fn load(&mut self, _saved: &[u8]) -> Result<(), String> {
            Ok(())
        }
    }

    /// A turn with single-member groups, driven by hand.
    struct Bench {
        turn: Turn,
        mailbox: Arc<Mailbox>,
        workers: Arc<Pool>,
        shared: Vec<Arc<Shared>>,
        _subscription: Subscription,
        _dir: tempfile::TempDir,
    }

    impl Bench {
        fn new(groups: u64) -> Self {
            let storage = MemLog::new(MemLogOptions::default()).unwrap();
            Self::on(Arc::new(storage), groups, usize::MAX)
        }

        fn on(storage: Arc<dyn Storage>, groups: u64, batch_bytes_max: usize) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let config = HostConfig::new(NodeId(1), dir.path());
            let mailbox = Arc::new(Mailbox::new(&config));
            let notify = Arc::clone(&mailbox);
            let subscription = storage.on_durable(Box::new(move |mark| notify.durable(mark)));
            let mut turn = Turn::new(Arc::clone(&storage), batch_bytes_max);
            let vfs = Arc::clone(&config.vfs);
            let store = Arc::new(SnapshotStore::new(vfs, dir.path().into(), None, 1));
            let mut shared = Vec::new();
            for group in (1..=groups).map(GroupId) {
                shared.push(Arc::new(Shared::default()));
                let opening = Opening {
                    group,
                    host: NodeId(1),
                    incarnation: config.incarnation,
                    config: GroupConfig::bootstrap(vec![Member::new(NodeId(1))]),
                    seed: group.0,
                    storage: Arc::clone(&storage),
                    snapshots: Arc::clone(&store),
                    transport: InProcessNetwork::new().join(NodeId(1)),
                    mailbox: Arc::clone(&mailbox),
                    shared: shared.last().map(Arc::clone).unwrap(),
                };
                let driver = open(opening, Box::new(InMemory::new(Echo))).unwrap();
                let what = Reported::Open(Box::new(driver));
                turn.handle(Event::Report(Report { group, what }));
            }
            let workers = Pool::start("test-apply", 1).unwrap();
            Self {
                turn,
                mailbox,
                workers,
                shared,
                _subscription: subscription,
                _dir: dir,
            }
        }

        /// One poll; the work for the state machines is handed out.
        fn poll(&mut self) {
            let mut effects = Vec::new();
            self.turn.poll(&mut effects);
            for effect in effects {
                if let Effect::Apply { actor, job } = effect {
                    actor.push(job, &self.workers);
                }
            }
        }

        /// Goes on until every group's status passes.
        fn run_until(&mut self, passes: impl Fn(&crate::GroupStatus) -> bool) {
            while !self.shared.iter().all(|shared| passes(&shared.status())) {
                self.poll();
                let mut events = Vec::new();
                let deadline = Instant::now() + Duration::from_secs(10);
                self.mailbox.take(Some(deadline), &mut events);
                assert!(!events.is_empty(), "nothing happens any more");
                events.into_iter().for_each(|event| self.turn.handle(event));
                self.poll();
            }
        }

        fn ask_all(&mut self, ask: impl Fn() -> Ask) {
            for group in (1..=self.shared.len() as u64).map(GroupId) {
                let ask = ask();
                self.turn.handle(Event::Request(Request { group, ask }));
            }
        }
    }

    #[test]
    fn one_poll_makes_one_batch_of_what_all_groups_have_to_write() {
        let mut bench = Bench::new(20);
        bench.run_until(|status| status.applied.index.0 == 1);
        bench.ask_all(|| Ask::Campaign);
        bench.run_until(|status| status.role == Role::Leader && status.applied.index.0 == 2);
        let before = bench.turn.last_ticket();
        bench.ask_all(|| Ask::Propose {
            data: "x".into(),
            answer: pending().0,
        });
        bench.poll();
        assert_eq!(bench.turn.last_ticket().0, before.0 + 1);
        bench.run_until(|status| status.applied.index.0 == 3);
        // The commit index rides with the next write, or with the next tick's.
        assert_eq!(bench.turn.last_ticket().0, before.0 + 1);
        bench.turn.handle(Event::Tick);
        bench.poll();
        assert_eq!(bench.turn.last_ticket().0, before.0 + 2);
    }

    #[test]
    fn turn_without_events_has_nothing_to_do() {
        let mut bench = Bench::new(3);
        bench.run_until(|status| status.applied.index.0 == 1);
        assert!(!bench.turn.is_ready());
        let before = bench.turn.last_ticket();
        bench.poll();
        assert_eq!(bench.turn.last_ticket(), before);
        bench.turn.handle(Event::Tick);
        assert!(
            !bench.turn.is_ready(),
            "an idle follower's tick wakes nothing"
        );
    }

    /// A log that has no room while it is told so.
    struct Choked {
        log: MemLog,
        full: AtomicBool,
    }

    impl Storage for Choked {
        fn groups(&self) -> Result<Vec<GroupId>, StorageError> {
            self.log.groups()
        }
        fn open_group(&self, group: GroupId) -> Result<OpenGroup, StorageError> {
            self.log.open_group(group)
        }
        fn submit(&self, batch: WriteBatch) -> Result<Ticket, SubmitError> {
            if self.full.load(Ordering::Relaxed) {
                return Err(SubmitError::Full(batch));
            }
            self.log.submit(batch)
        }
        fn durable(&self) -> Result<Ticket, Poisoned> {
            self.log.durable()
        }
        fn on_durable(&self, notify: DurableNotify) -> Subscription {
            self.log.on_durable(notify)
        }
        fn wait(&self, ticket: Ticket) -> Result<(), Poisoned> {
            self.log.wait(ticket)
        }
        fn pressure(&self) -> Pressure {
            self.log.pressure()
        }
        fn scrub(&self, budget: ByteBudget) -> Result<ScrubReport, StorageError> {
            self.log.scrub(budget)
        }
    }

    #[test]
    fn groups_wait_for_a_full_log_at_the_bound_of_the_backlog_and_all_go_on_behind_it() {
        let log = Arc::new(Choked {
            log: MemLog::new(MemLogOptions::default()).unwrap(),
            full: AtomicBool::new(false),
        });
        let groups = 3 * BACKLOG_MAX as u64;
        let mut bench = Bench::on(Arc::clone(&log) as Arc<dyn Storage>, groups, 1);
        bench.run_until(|status| status.applied.index.0 == 1);
        log.full.store(true, Ordering::Relaxed);
        for _ in 0..200 {
            bench.turn.handle(Event::Tick);
            bench.poll();
            assert!(bench.turn.backlog.len() <= BACKLOG_MAX);
            assert!(bench.turn.relief.len() <= BACKLOG_MAX);
        }
        assert_eq!(bench.turn.backlog.len(), BACKLOG_MAX);
        assert!(!bench.turn.is_ready(), "nothing to do until there is room");
        log.full.store(false, Ordering::Relaxed);
        bench.poll();
        bench.run_until(|status| status.role == Role::Leader);
        assert!(bench.turn.backlog.is_empty());
    }
}
