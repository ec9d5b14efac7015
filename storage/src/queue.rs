//! A log on an engine that has one writer at a time and makes each commit durable: redb, RocksDB.
//!
//! What is submitted enters an overlay in memory and is readable at once; nothing waits for the
//! engine. Whoever waits for a ticket takes the writer's role when nobody has it, else a
//! background thread does. One commit carries everything submitted until it begins, as its net
//! effect: entries that were overwritten meanwhile never reach the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use raftwerk_raft::{
    ByteBudget, Durability, DurableNotify, Entry, GroupId, LogError, LogId, LogIndex, LogReader,
    OpenGroup, Poisoned, Pressure, ScrubReport, Storage, StorageError, SubmitError, Subscription,
    Term, Ticket, WriteBatch,
};

use crate::image::{GroupImage, check_batch};
use crate::panics::panic_text;
use crate::size::{batch_bytes, entry_bytes_max};
use crate::tail::Tail;
use crate::watermark::Watermark;

/// How often a read from the engine is tried again because the log changed underneath it.
const READ_TRIES: usize = 16;
/// How long the background thread leaves a batch to those who wait, while nobody is subscribed:
/// they write by themselves, and must not meet it at every batch.
const GRACE: Duration = Duration::from_millis(1);

/// An engine with one writer at a time. The queue calls [`Engine::commit`] from one thread at a
/// time and reads from any, during commits too.
pub trait Engine: Send + Sync + 'static {
    /// Stores `commit` atomically; durable on return.
    ///
    /// # Errors
    /// In words, why it may not be. It ends the store: nothing is committed after it.
    fn commit(&self, commit: &Commit) -> Result<(), String>;

    /// Reads entries of `range` that were committed, in order from its start on, up to
    /// `max_bytes` of payload but at least one. A commit may change them at any time; what is
    /// gone is left out, and the queue notices.
    ///
    /// # Errors
    /// [`LogError::Faulty`] or [`LogError::Io`].
    fn read(
        &self,
        group: GroupId,
        range: Range<LogIndex>,
        max_bytes: u64,
    ) -> Result<Vec<Entry>, LogError>;

    /// Bytes that the disk still has, if the engine can tell.
    fn disk_free_bytes(&self) -> Option<u64>;

    /// See [`Storage::scrub`].
    ///
    /// # Errors
    /// See [`Storage::scrub`].
    fn scrub(&self, budget: ByteBudget) -> Result<ScrubReport, StorageError>;
}

/// The net effect of everything submitted since the last commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The groups it changes, in order of id, each once.
    pub groups: Vec<GroupCommit>,
}

/// What a commit does to one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupCommit {
    /// Which.
    pub group: GroupId,
    /// Entries that the engine holds and that go: compacted ones, and what was truncated and is
    /// not written anew.
    pub removed: Vec<Range<LogIndex>>,
    /// Entries to store, contiguous, some of them over others of the same index.
    pub put: Vec<Entry>,
    /// All else that is kept of the group; `None` when the group is gone.
    pub image: Option<GroupImage>,
}

/// The options of a [`TicketQueue`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// How many bytes may be taken and not yet durable; 64 MiB.
    pub queued_bytes_max: u64,
    /// How many bytes one batch may count for; 16 MiB. Not more than `queued_bytes_max`.
    pub batch_bytes_max: u64,
    /// How many bytes of durable entries are kept in memory for each group; 1 MiB.
    pub tail_bytes_max: u64,
    /// After how many milliseconds a commit counts as stalled; 10,000.
    pub stall_ms_max: u64,
    /// Whether a thread commits what nobody waits for; true. Without it only waiters do.
    pub background: bool,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            queued_bytes_max: 64 << 20,
            batch_bytes_max: 16 << 20,
            tail_bytes_max: 1 << 20,
            stall_ms_max: 10_000,
            background: true,
        }
    }
}

impl QueueOptions {
    fn check(&self) -> Result<(), StorageError> {
        let option = |name, reason: &str| StorageError::Option {
            name,
            reason: reason.to_owned(),
        };
        if self.batch_bytes_max == 0 {
            return Err(option("batch_bytes_max", "no batch would ever fit"));
        }
        if self.batch_bytes_max > self.queued_bytes_max {
            return Err(option(
                "batch_bytes_max",
                "a batch must fit into queued_bytes_max",
            ));
        }
        Ok(())
    }
}

/// A log on an [`Engine`].
pub struct TicketQueue<E: Engine> {
    shared: Arc<Shared<E>>,
    background: Option<JoinHandle<()>>,
}

struct Shared<E> {
    engine: E,
    options: QueueOptions,
    mark: Watermark,
    state: Mutex<State>,
    /// Tells the background thread of work, and of the end.
    work: Condvar,
}

#[derive(Debug, Default)]
struct State {
    groups: BTreeMap<GroupId, Group>,
    /// Groups changed since the last commit began.
    changed: BTreeSet<GroupId>,
    /// The last ticket given.
    last: Ticket,
    /// Up to where a commit was begun.
    begun: Ticket,
    /// Up to where somebody wants one.
    wanted: Ticket,
    queued_bytes: u64,
    /// Since when a thread has had the writer's role.
    writing_since: Option<Instant>,
    /// The newest of any group.
    generation: u64,
    closing: bool,
    /// The background thread sleeps until it is told of work.
    asleep: bool,
}

#[derive(Debug, Default)]
struct Group {
    image: GroupImage,
    tail: Tail,
    /// What the engine holds, as of the last commit.
    stored: Range<LogIndex>,
    /// Changes with every entry that is replaced, so that a read under no lock notices.
    generation: u64,
}

/// A commit under way: what is settled when it is done.
struct Round {
    commit: Commit,
    ticket: Ticket,
    bytes: u64,
}

impl Group {
    fn held(&self) -> Range<LogIndex> {
        self.image.first()..self.image.last().index.next()
    }

    /// What the engine must do so that it holds what is here.
    fn commit(&self, group: GroupId, begun: Ticket) -> GroupCommit {
        let (stored, held) = (&self.stored, self.held());
        let below = stored.start..stored.end.min(held.start);
        let above = stored.start.max(held.end)..stored.end;
        let mut removed = vec![below, above];
        removed.retain(|range| !range.is_empty());
        let put = self.tail.since(begun).cloned().collect();
        let image = (!self.image.is_blank()).then(|| self.image.clone());
        GroupCommit {
            group,
            removed,
            put,
            image,
        }
    }
}

impl<E: Engine> TicketQueue<E> {
    /// A log over what `engine` holds, which is `images`.
    ///
    /// # Errors
    /// [`StorageError::Option`] when the options make no sense, [`StorageError::Io`] when the
    /// background thread cannot be started.
    pub fn open(
        engine: E,
        images: BTreeMap<GroupId, GroupImage>,
        options: QueueOptions,
    ) -> Result<Self, StorageError> {
        options.check()?;
        let mut state = State::default();
        for (id, image) in images {
            let mut group = Group {
                image,
                ..Group::default()
            };
            group.stored = group.held();
            state.groups.insert(id, group);
        }
        let shared = Arc::new(Shared {
            engine,
            options,
            mark: Watermark::default(),
            state: Mutex::new(state),
            work: Condvar::new(),
        });
        let mut background = None;
        if shared.options.background {
            let shared = Arc::clone(&shared);
            let thread = thread::Builder::new().name("log-writer".to_owned());
            let started = thread.spawn(move || shared.run_background());
            background = Some(started.map_err(|source| StorageError::Io {
                operation: "start thread",
                path: "log-writer".to_owned(),
                source,
            })?);
        }
        Ok(Self { shared, background })
    }

    /// The engine underneath.
    #[must_use]
    pub fn engine(&self) -> &E {
        &self.shared.engine
    }
}

impl<E: Engine> Drop for TicketQueue<E> {
    /// Waits for a commit that is under way, and begins no other: what nobody waited for may be
    /// lost.
    fn drop(&mut self) {
        self.shared.state.lock().closing = true;
        self.shared.work.notify_all();
        if let Some(background) = self.background.take() {
            // A callback that runs on it may be what drops the log.
            if background.thread().id() != thread::current().id() {
                // Its panics were caught and have poisoned the log.
                let _ = background.join();
            }
        }
    }
}

impl<E: Engine> fmt::Debug for TicketQueue<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketQueue")
            .field("mark", &self.shared.mark)
            .finish_non_exhaustive()
    }
}

impl<E: Engine> Shared<E> {
    fn submit(&self, batch: WriteBatch) -> Result<Ticket, SubmitError> {
        let mut state = self.state.lock();
        self.mark.durable()?;
        let (bytes, durability) = (batch_bytes(&batch), batch.durability);
        let max = self.options.batch_bytes_max;
        if bytes > max {
            return Err(SubmitError::TooLarge { batch, bytes, max });
        }
        check_batch(&batch, |group| {
            state.groups.get(&group).map(|found| &found.image)
        })?;
        let queued_bytes = state.queued_bytes.saturating_add(bytes);
        if queued_bytes > self.options.queued_bytes_max {
            return Err(SubmitError::Full(batch));
        }
        let ticket = Ticket(state.last.0 + 1);
        state.last = ticket;
        state.queued_bytes = queued_bytes;
        state.apply(ticket, batch);
        // Lazy batches alone must not fill the queue for good.
        if durability == Durability::Sync || queued_bytes > self.options.queued_bytes_max / 2 {
            state.wanted = ticket;
            if state.writing_since.is_none() {
                self.tell_of_work(&state);
            }
        }
        Ok(ticket)
    }

    /// Takes the writer's role and commits everything submitted. False when somebody has the
    /// role, or when there is nothing to commit.
    fn write(&self) -> bool {
        let Some(round) = self.begin() else {
            return false;
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| self.engine.commit(&round.commit)));
        let outcome = outcome.unwrap_or_else(|payload| {
            Err(format!("the engine panicked: {}", panic_text(&*payload)))
        });
        // Poison first: nobody must begin another commit after one that failed.
        if let Err(cause) = &outcome {
            self.mark.poison(cause.as_str());
        }
        {
            let mut state = self.state.lock();
            state.writing_since = None;
            if outcome.is_ok() {
                state.settle(&round, self.options.tail_bytes_max);
            }
            if state.wanted > state.begun {
                self.tell_of_work(&state);
            }
        }
        if outcome.is_ok() {
            self.mark.advance(round.ticket);
        }
        true
    }

    fn begin(&self) -> Option<Round> {
        let mut state = self.state.lock();
        let idle = state.writing_since.is_none() && state.begun < state.last;
        if !idle || state.closing || self.mark.durable().is_err() {
            return None;
        }
        state.writing_since = Some(Instant::now());
        let (begun, ticket, bytes) = (state.begun, state.last, state.queued_bytes);
        state.begun = ticket;
        let changed = std::mem::take(&mut state.changed);
        let commit = |id| state.groups.get(&id).map(|group| group.commit(id, begun));
        let commit = Commit {
            groups: changed.into_iter().filter_map(commit).collect(),
        };
        Some(Round {
            commit,
            ticket,
            bytes,
        })
    }

    /// Wakes the background thread, unless it will look by itself soon enough.
    fn tell_of_work(&self, state: &State) {
        if state.asleep || self.mark.is_watched() {
            self.work.notify_one();
        }
    }

    fn run_background(&self) {
        loop {
            let mut state = self.state.lock();
            // What was wanted, and how far commits had begun, a grace ago.
            let mut seen: Option<(Ticket, Ticket)> = None;
            loop {
                if state.closing || self.mark.durable().is_err() {
                    return;
                }
                let work = state.writing_since.is_none() && state.wanted > state.begun;
                let left = seen.is_some_and(|(wanted, _)| wanted > state.begun);
                if work && (left || self.mark.is_watched()) {
                    break;
                }
                let busy = seen.is_some_and(|(_, begun)| begun < state.begun);
                if work || busy {
                    // While waiters write, nobody has to wake this thread for each of their
                    // batches: it looks by itself whether one was left.
                    seen = Some((state.wanted, state.begun));
                    let _ = self.work.wait_for(&mut state, GRACE);
                } else {
                    state.asleep = true;
                    self.work.wait(&mut state);
                    state.asleep = false;
                    seen = None;
                }
            }
            drop(state);
            self.write();
        }
    }

    fn with_group<T>(&self, group: GroupId, look: impl FnOnce(&Group) -> T) -> T {
        match self.state.lock().groups.get(&group) {
            Some(found) => look(found),
            None => look(&Group::default()),
        }
    }

    fn sync_age(&self) -> Duration {
        self.state
            .lock()
            .writing_since
            .map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl State {
    fn apply(&mut self, ticket: Ticket, batch: WriteBatch) {
        for write in batch.groups {
            self.changed.insert(write.group);
            let group = self.groups.entry(write.group).or_default();
            let truncates = |first: &Entry| first.index() <= group.image.last().index;
            if write.destroy
                || write.reset_to.is_some()
                || write.append.first().is_some_and(truncates)
            {
                self.generation += 1;
                group.generation = self.generation;
            }
            group.image.apply(&write);
            group.tail.apply(ticket, write);
        }
    }

    /// Notes that `round` is durable.
    fn settle(&mut self, round: &Round, tail_bytes_max: u64) {
        self.queued_bytes = self.queued_bytes.saturating_sub(round.bytes);
        for commit in &round.commit.groups {
            let Some(group) = self.groups.get_mut(&commit.group) else {
                continue;
            };
            group.stored = commit
                .image
                .as_ref()
                .map_or(LogIndex::ZERO..LogIndex::ZERO, |image| {
                    image.first()..image.last().index.next()
                });
            group.tail.evict(round.ticket, tail_bytes_max);
            if group.image.is_blank() && !self.changed.contains(&commit.group) {
                self.groups.remove(&commit.group);
            }
        }
    }
}

impl<E: Engine> Storage for TicketQueue<E> {
    fn groups(&self) -> Result<Vec<GroupId>, StorageError> {
        let state = self.shared.state.lock();
        let present = state
            .groups
            .iter()
            .filter(|(_, group)| !group.image.is_blank());
        Ok(present.map(|(id, _)| *id).collect())
    }

    fn open_group(&self, group: GroupId) -> Result<OpenGroup, StorageError> {
        let state = self.shared.with_group(group, |found| found.image.state());
        let log = Arc::new(QueueReader {
            shared: Arc::clone(&self.shared),
            group,
        });
        Ok(OpenGroup { state, log })
    }

    fn submit(&self, batch: WriteBatch) -> Result<Ticket, SubmitError> {
        self.shared.submit(batch)
    }

    fn durable(&self) -> Result<Ticket, Poisoned> {
        self.shared.mark.durable()
    }

    fn on_durable(&self, notify: DurableNotify) -> Subscription {
        self.shared.mark.subscribe(notify)
    }

    fn wait(&self, ticket: Ticket) -> Result<(), Poisoned> {
        self.shared.mark.wait_or(ticket, || self.shared.write())
    }

    fn pressure(&self) -> Pressure {
        let age = self.shared.sync_age().as_millis();
        let sync_age_ms = u64::try_from(age).unwrap_or(u64::MAX);
        Pressure {
            queued_bytes: self.shared.state.lock().queued_bytes,
            queued_bytes_max: self.shared.options.queued_bytes_max,
            disk_free_bytes: self.shared.engine.disk_free_bytes(),
            sync_age_ms,
            stalled: sync_age_ms > self.shared.options.stall_ms_max,
            pinning_groups: Vec::new(),
        }
    }

    fn entry_bytes_max(&self) -> Option<u64> {
        Some(entry_bytes_max(self.shared.options.batch_bytes_max))
    }

    fn scrub(&self, budget: ByteBudget) -> Result<ScrubReport, StorageError> {
        self.shared.engine.scrub(budget)
    }
}

struct QueueReader<E> {
    shared: Arc<Shared<E>>,
    group: GroupId,
}

/// A read that memory alone cannot answer.
struct ColdRead {
    /// What the engine has of it.
    stored: Range<LogIndex>,
    /// Where the whole ends; from `stored.end` on it is in memory.
    end: LogIndex,
    generation: u64,
}

impl Group {
    /// Reads what memory can answer, else says what the engine must.
    fn read(
        &self,
        range: Range<LogIndex>,
        max_bytes: u64,
        out: &mut Vec<Entry>,
    ) -> Result<Option<ColdRead>, LogError> {
        let range = self.image.readable(range)?;
        match self.tail.entries(range.clone(), max_bytes, out) {
            Err(LogError::Cold) => {
                // What is not in the tail is durable, so the engine has it.
                let stored_end = range.end.min(self.tail.first().unwrap_or(LogIndex::MAX));
                let stored = range.start..stored_end;
                Ok(Some(ColdRead {
                    stored,
                    end: range.end,
                    generation: self.generation,
                }))
            }
            other => other.map(|()| None),
        }
    }

    /// Adds to what the engine `found` what is in memory behind it. `None` when the log has
    /// changed underneath.
    fn join(&self, cold: &ColdRead, mut found: Vec<Entry>, max_bytes: u64) -> Option<Vec<Entry>> {
        let expected = (0..).map(|offset| cold.stored.start.plus(offset));
        let same = |(entry, index): (&Entry, LogIndex)| {
            entry.index() == index && self.image.term(index) == Ok(entry.term())
        };
        let valid = found.iter().zip(expected).all(same);
        if !valid || found.is_empty() || self.generation != cold.generation {
            return None;
        }
        let next = found.last().map_or(cold.end, |entry| entry.index().next());
        let payload = found.iter().map(|entry| entry.data.len() as u64).sum();
        if let (true, Some(rest)) = (next == cold.stored.end, max_bytes.checked_sub(payload)) {
            let mut more = Vec::new();
            self.tail.entries(next..cold.end, rest, &mut more).ok()?;
            if more
                .first()
                .is_some_and(|entry| entry.data.len() as u64 <= rest)
            {
                found.append(&mut more);
            }
        }
        Some(found)
    }
}

impl<E: Engine> LogReader for QueueReader<E> {
    fn first(&self) -> LogIndex {
        self.shared
            .with_group(self.group, |found| found.image.first())
    }

    fn last(&self) -> LogId {
        self.shared
            .with_group(self.group, |found| found.image.last())
    }

    fn term(&self, index: LogIndex) -> Result<Term, LogError> {
        self.shared
            .with_group(self.group, |found| found.image.term(index))
    }

    fn entries(
        &self,
        range: Range<LogIndex>,
        max_bytes: u64,
        out: &mut Vec<Entry>,
    ) -> Result<(), LogError> {
        self.shared.with_group(self.group, |found| {
            found
                .tail
                .entries(found.image.readable(range)?, max_bytes, out)
        })
    }

    fn read(&self, range: Range<LogIndex>, max_bytes: u64) -> Result<Vec<Entry>, LogError> {
        for _ in 0..READ_TRIES {
            let mut out = Vec::new();
            let cold = self.shared.with_group(self.group, |found| {
                found.read(range.clone(), max_bytes, &mut out)
            })?;
            let Some(cold) = cold else { return Ok(out) };
            let found = self
                .shared
                .engine
                .read(self.group, cold.stored.clone(), max_bytes)?;
            let joined = self
                .shared
                .with_group(self.group, |group| group.join(&cold, found, max_bytes));
            if let Some(entries) = joined {
                return Ok(entries);
            }
        }
        Err(LogError::Io {
            reason: "the engine does not find what it stored".into(),
        })
    }
}
