//! The log: what is visible, what is queued, and the disk that only a sync reaches.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use raftwerk_raft::{
    ByteBudget, Durability, DurableNotify, Entry, GroupId, LogError, LogId, LogIndex, LogReader,
    OpenGroup, Poisoned, Pressure, ScrubReport, Storage, StorageError, SubmitError, Subscription,
    Term, Ticket, WriteBatch,
};
use raftwerk_storage::image::check_batch;
use raftwerk_storage::watermark::Watermark;
use raftwerk_storage::{batch_bytes, entry_bytes_max};

use crate::group::{Groups, MemGroup, apply_batch};
use crate::options::{MemLogOptions, SyncMode};

/// What a [`MemLog`] has synced. Outlives the log, not the process; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemDisk {
    groups: Arc<Mutex<Groups>>,
    in_use: Arc<AtomicBool>,
}

/// Held while a log is open on a disk.
#[derive(Debug)]
struct Hold(Arc<AtomicBool>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A log in memory.
#[derive(Debug)]
pub struct MemLog {
    shared: Arc<Shared>,
    syncer: Option<JoinHandle<()>>,
}

struct Shared {
    options: MemLogOptions,
    disk: MemDisk,
    mark: Watermark,
    state: Mutex<State>,
    /// Tells the syncing thread of work, and of the end.
    work: Condvar,
}

#[derive(Debug)]
struct State {
    /// What readers see.
    groups: Groups,
    /// Taken and not durable, in order.
    queue: VecDeque<(Ticket, WriteBatch)>,
    queued_bytes: u64,
    last: Ticket,
    /// Up to where somebody wants a sync.
    wanted: Ticket,
    syncing_since: Option<Instant>,
    /// How many [`HeldSyncs`] live.
    held: u32,
    /// Makes the next sync fail, with this cause.
    failing: Option<String>,
    /// `None` once crashed or closed: nothing reaches the disk any more.
    hold: Option<Hold>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("mark", &self.mark)
            .finish_non_exhaustive()
    }
}

impl MemLog {
    /// A new log on a disk of its own.
    ///
    /// # Errors
    /// [`StorageError::Option`] when the options make no sense.
    pub fn new(options: MemLogOptions) -> Result<Self, StorageError> {
        Self::open(&MemDisk::default(), options)
    }

    /// Opens what an earlier log left on `disk`.
    ///
    /// # Errors
    /// [`StorageError::Locked`] while another log is open there, [`StorageError::Option`] when
    /// the options make no sense.
    pub fn open(disk: &MemDisk, options: MemLogOptions) -> Result<Self, StorageError> {
        options.check()?;
        if disk.in_use.swap(true, Ordering::Acquire) {
            return Err(StorageError::Locked {
                path: "the log's disk in memory".to_owned(),
            });
        }
        let state = State {
            groups: disk.groups.lock().clone(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            last: Ticket(0),
            wanted: Ticket(0),
            syncing_since: None,
            held: 0,
            failing: None,
            hold: Some(Hold(Arc::clone(&disk.in_use))),
        };
        let shared = Arc::new(Shared {
            options,
            disk: disk.clone(),
            mark: Watermark::default(),
            state: Mutex::new(state),
            work: Condvar::new(),
        });
        let mut syncer = None;
        if let SyncMode::Delayed(delay) = shared.options.sync {
            let shared = Arc::clone(&shared);
            syncer = Some(thread::spawn(move || shared.run_syncer(delay)));
        }
        Ok(Self { shared, syncer })
    }

    /// The disk underneath.
    #[must_use]
    pub fn disk(&self) -> MemDisk {
        self.shared.disk.clone()
    }

    /// Makes everything submitted so far durable, whatever the mode.
    ///
    /// # Errors
    /// [`Poisoned`] when the log was poisoned before.
    pub fn sync_now(&self) -> Result<Ticket, Poisoned> {
        let last = self.shared.state.lock().last;
        self.wait(last)?;
        self.shared.mark.durable()
    }

    /// A power cut: what was not durable is lost, this handle is dead (poisoned), and the log is
    /// opened again on the same disk with the same options.
    ///
    /// # Errors
    /// [`StorageError::Locked`] when this handle had crashed before and the disk has another.
    pub fn crash(&self) -> Result<Self, StorageError> {
        self.crash_keeping(0)
    }

    /// A power cut that came after the disk had got the first `batches` of what was not durable
    /// yet, and before it could say so.
    ///
    /// # Errors
    /// As for [`MemLog::crash`].
    pub fn crash_keeping(&self, batches: usize) -> Result<Self, StorageError> {
        self.shared.close("crashed on request", batches);
        Self::open(&self.shared.disk, self.shared.options.clone())
    }

    /// Stops the disk: whatever the mode, nothing becomes durable until the returned value is
    /// dropped, and who waits goes on waiting.
    pub fn hold_syncs(&self) -> HeldSyncs {
        self.shared.state.lock().held += 1;
        HeldSyncs {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Lets the next sync that has something to do fail: the log is poisoned by it, nothing is
    /// acknowledged from there on, and reads go on.
    pub fn fail_next_sync(&self, cause: &str) {
        self.shared.state.lock().failing = Some(cause.to_owned());
    }
}

/// Syncs of a [`MemLog`] are held until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct HeldSyncs {
    shared: Arc<Shared>,
}

impl Drop for HeldSyncs {
    fn drop(&mut self) {
        let (wanted, delayed) = {
            let mut state = self.shared.state.lock();
            state.held -= 1;
            self.shared.work.notify_all();
            (
                state.wanted,
                matches!(self.shared.options.sync, SyncMode::Delayed(_)),
            )
        };
        if !delayed {
            self.shared.sync_and_tell(wanted);
        }
    }
}

impl Drop for MemLog {
    fn drop(&mut self) {
        self.shared.close("closed", 0);
        if let Some(syncer) = self.syncer.take() {
            // A panic there has shown itself as poison; and a callback may drop the log.
            if syncer.thread().id() != thread::current().id() {
                let _ = syncer.join();
            }
        }
    }
}

impl Shared {
    fn close(&self, cause: &str, keep: usize) {
        let hold = {
            let mut state = self.state.lock();
            if state.hold.is_some() {
                let mut disk = self.disk.groups.lock();
                state
                    .queue
                    .iter()
                    .take(keep)
                    .for_each(|(_, batch)| apply_batch(&mut disk, batch));
            }
            state.queue.clear();
            self.work.notify_all();
            state.hold.take()
        };
        if hold.is_some() {
            self.mark.poison(cause);
        }
    }

    /// Writes the queue up to `ticket` to the disk and says up to where it got.
    fn sync(&self, ticket: Ticket) -> Result<Option<Ticket>, String> {
        let mut state = self.state.lock();
        let due = state.queue.front().is_some_and(|(at, _)| *at <= ticket);
        if !due || state.held > 0 || self.mark.durable().is_err() {
            return Ok(None);
        }
        if let Some(cause) = state.failing.take() {
            return Err(cause);
        }
        let mut synced = None;
        let mut disk = self.disk.groups.lock();
        while state.queue.front().is_some_and(|(at, _)| *at <= ticket) {
            let Some((at, batch)) = state.queue.pop_front() else {
                break;
            };
            apply_batch(&mut disk, &batch);
            state.queued_bytes -= batch_bytes(&batch);
            synced = Some(at);
        }
        Ok(synced)
    }

    fn sync_and_tell(&self, ticket: Ticket) {
        match self.sync(ticket) {
            Ok(Some(synced)) => self.mark.advance(synced),
            Ok(None) => {}
            Err(cause) => self.mark.poison(cause),
        }
    }

    /// The slow disk: everything queued when a sync begins is durable when it ends.
    fn run_syncer(&self, delay: Duration) {
        loop {
            let ticket = {
                let mut state = self.state.lock();
                while state.hold.is_some() && !state.wants_sync() {
                    self.work.wait(&mut state);
                }
                if state.hold.is_none() || self.mark.durable().is_err() {
                    return;
                }
                state.syncing_since = Some(Instant::now());
                state.last
            };
            thread::sleep(delay);
            self.sync_and_tell(ticket);
            self.state.lock().syncing_since = None;
        }
    }

    fn submit(&self, batch: WriteBatch) -> Result<Ticket, SubmitError> {
        let mut state = self.state.lock();
        self.mark.durable()?;
        let bytes = batch_bytes(&batch);
        if bytes > self.options.batch_bytes_max {
            return Err(SubmitError::TooLarge {
                batch,
                bytes,
                max: self.options.batch_bytes_max,
            });
        }
        check_batch(&batch, |group| {
            state.groups.get(&group).map(|found| &found.image)
        })?;
        let queued_bytes = state.queued_bytes.saturating_add(bytes);
        if queued_bytes > self.options.queued_bytes_max {
            return Err(SubmitError::Full(batch));
        }
        let ticket = Ticket(state.last.0 + 1);
        apply_batch(&mut state.groups, &batch);
        state.last = ticket;
        state.queued_bytes = queued_bytes;
        // Lazy batches alone must not fill the queue for good.
        let eager = batch.durability == Durability::Sync
            || queued_bytes > self.options.queued_bytes_max / 2;
        state.queue.push_back((ticket, batch));
        if eager && self.options.sync != SyncMode::Manual {
            state.wanted = ticket;
            self.work.notify_all();
        }
        drop(state);
        if eager && self.options.sync == SyncMode::Immediate {
            self.sync_and_tell(ticket);
        }
        Ok(ticket)
    }

    fn want(&self, ticket: Ticket) {
        let mut state = self.state.lock();
        state.wanted = state.wanted.max(ticket.min(state.last));
        self.work.notify_all();
    }

    fn with_group<T>(&self, group: GroupId, look: impl FnOnce(&MemGroup) -> T) -> T {
        match self.state.lock().groups.get(&group) {
            Some(found) => look(found),
            None => look(&MemGroup::default()),
        }
    }
}

impl State {
    fn wants_sync(&self) -> bool {
        let due = self
            .queue
            .front()
            .is_some_and(|(ticket, _)| *ticket <= self.wanted);
        due && self.held == 0
    }
}

impl Storage for MemLog {
    fn groups(&self) -> Result<Vec<GroupId>, StorageError> {
        Ok(self.shared.state.lock().groups.keys().copied().collect())
    }

    fn open_group(&self, group: GroupId) -> Result<OpenGroup, StorageError> {
        let state = self.shared.with_group(group, |found| found.image.state());
        let log = Arc::new(MemReader {
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
        self.shared.want(ticket);
        if !matches!(self.shared.options.sync, SyncMode::Delayed(_)) {
            // Not a ticket further: whoever relies on more than it waited for finds out here.
            self.shared.sync_and_tell(ticket);
        }
        self.shared.mark.wait(ticket)
    }

    fn pressure(&self) -> Pressure {
        let state = self.shared.state.lock();
        let age = state
            .syncing_since
            .map_or(Duration::ZERO, |since| since.elapsed());
        Pressure {
            queued_bytes: state.queued_bytes,
            queued_bytes_max: self.shared.options.queued_bytes_max,
            sync_age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            ..Pressure::default()
        }
    }

    fn entry_bytes_max(&self) -> Option<u64> {
        Some(entry_bytes_max(self.shared.options.batch_bytes_max))
    }

    fn scrub(&self, _budget: ByteBudget) -> Result<ScrubReport, StorageError> {
        // Memory is taken to hold what was put there.
        Ok(ScrubReport {
            completed: true,
            ..ScrubReport::default()
        })
    }
}

struct MemReader {
    shared: Arc<Shared>,
    group: GroupId,
}

impl LogReader for MemReader {
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
        self.shared
            .with_group(self.group, |found| found.read(range, max_bytes, out))
    }

    fn read(&self, range: Range<LogIndex>, max_bytes: u64) -> Result<Vec<Entry>, LogError> {
        let mut out = Vec::new();
        self.entries(range, max_bytes, &mut out)?;
        Ok(out)
    }
}
