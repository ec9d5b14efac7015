//! A log in memory that is the suite's own model with a disk beside it, right or with one fault.

mod broken;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use raftwerk_raft::{
    ByteBudget, DurableNotify, Entry, GroupId, HardState, LogError, LogId, LogIndex, LogReader,
    OpenGroup, Poisoned, Pressure, ScrubReport, Storage, StorageError, SubmitError, Subscription,
    Term, Ticket, WriteBatch,
};
use raftwerk_testkit::log_suite::model::{GroupModel, LogModel};
use raftwerk_testkit::log_suite::{Ability, Arrival, HeldSyncs, LogHome};

pub(crate) use broken::Broken;

const QUEUE_BYTES_MAX: u64 = 8 << 20;
/// Longer than any reader takes to look; only a hang reaches it.
const FOOLED_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Disk {
    synced: LogModel,
    /// In the page cache.
    unsynced: Vec<WriteBatch>,
    life: u64,
    locked: bool,
    fail_next_sync: bool,
}

#[derive(Default)]
struct Gate {
    /// Closed, with whom to tell that a sync stands before it.
    closed: Mutex<Option<Arc<Arrival>>>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut closed = self.closed.lock();
        while let Some(arrival) = closed.as_ref() {
            arrival.tell();
            self.opened.wait(&mut closed);
        }
    }
}

pub(crate) struct ReferenceHome {
    disk: Arc<Mutex<Disk>>,
    gate: Arc<Gate>,
    broken: Option<Broken>,
}

impl ReferenceHome {
    pub(crate) fn new(broken: Option<Broken>) -> Self {
        Self {
            disk: Arc::default(),
            gate: Arc::default(),
            broken,
        }
    }

    fn next_life(&self, keep: impl FnOnce(usize) -> usize) {
        let mut disk = self.disk.lock();
        disk.life += 1;
        disk.locked = false;
        disk.fail_next_sync = false;
        let count = keep(disk.unsynced.len());
        let mut unsynced = std::mem::take(&mut disk.unsynced);
        if self.broken == Some(Broken::SplitsBatchAtCrash)
            && let Some(torn) = unsynced.get_mut(count)
            && torn.groups.len() > 1
        {
            torn.groups.truncate(1);
            unsynced.truncate(count + 1);
        } else {
            unsynced.truncate(count);
        }
        disk.unsynced = unsynced;
    }
}

impl LogHome for ReferenceHome {
    fn open(&mut self) -> Result<Arc<dyn Storage>, StorageError> {
        let mut disk = self.disk.lock();
        if disk.locked && self.broken != Some(Broken::OpensTwice) {
            return Err(StorageError::Locked {
                path: String::from("memory"),
            });
        }
        disk.locked = true;
        let mut model = disk.synced.clone();
        for batch in &disk.unsynced {
            model = model.after(batch).expect("was valid before");
        }
        if self.broken != Some(Broken::ShowsWhatTheCacheKept) {
            disk.unsynced.clear();
            disk.synced = model.clone();
        }
        for group in model.groups.values_mut() {
            match self.broken {
                Some(Broken::LosesHardStateAtReopen) => group.hard_state = HardState::default(),
                Some(Broken::ForgetsSnapshotContext) => {
                    if let Some(meta) = &mut group.snapshot {
                        meta.context = Bytes::new();
                    }
                }
                Some(Broken::ForgetsTermBeforeFirstAtReopen) => group.base.term = Term(0),
                _ => {}
            }
        }
        let live = Live {
            model,
            ..Live::default()
        };
        Ok(Arc::new(Reference {
            shared: Arc::new(Shared {
                live: Mutex::new(live),
                sync: Mutex::default(),
                subscribers: Mutex::default(),
                disk: Arc::clone(&self.disk),
                gate: Arc::clone(&self.gate),
                life: disk.life,
                broken: self.broken,
                fooled: Arrival::default(),
            }),
        }))
    }

    fn kill(&mut self) {
        self.next_life(|count| count);
    }

    fn power_loss(&mut self, seed: u64) -> Ability {
        self.next_life(|count| seed as usize % (count + 1));
        Ability::Done
    }

    fn hold_syncs(&mut self) -> Result<HeldSyncs, &'static str> {
        let arrival = Arc::<Arrival>::default();
        *self.gate.closed.lock() = Some(Arc::clone(&arrival));
        let gate = Arc::clone(&self.gate);
        let held = HeldSyncs::new(move || {
            *gate.closed.lock() = None;
            gate.opened.notify_all();
        });
        Ok(held.telling(arrival))
    }

    fn fail_next_sync(&mut self) -> Ability {
        self.disk.lock().fail_next_sync = true;
        Ability::Done
    }
}

#[derive(Debug, Default)]
struct Live {
    model: LogModel,
    stale: LogModel,
    pending: Vec<(Ticket, WriteBatch)>,
    queued_bytes: u64,
    last: Ticket,
    durable: Ticket,
    poisoned: Option<Poisoned>,
    announced: LogId,
}

type Subscribers = Vec<(u64, Arc<dyn Fn(Result<Ticket, Poisoned>) + Send + Sync>)>;

struct Shared {
    live: Mutex<Live>,
    sync: Mutex<()>,
    subscribers: Mutex<(u64, Subscribers)>,
    disk: Arc<Mutex<Disk>>,
    gate: Arc<Gate>,
    life: u64,
    broken: Option<Broken>,
    /// A reader asked for what was announced and is not held yet.
    fooled: Arrival,
}

struct Reference {
    shared: Arc<Shared>,
}

impl Drop for Reference {
    fn drop(&mut self) {
        let mut disk = self.shared.disk.lock();
        if disk.life == self.shared.life {
            disk.locked = false;
        }
    }
}

fn bytes(batch: &WriteBatch) -> u64 {
    let payload = |entry: &Entry| entry.data.len() as u64 + 32;
    batch
        .groups
        .iter()
        .map(|g| 64 + g.append.iter().map(payload).sum::<u64>())
        .sum()
}

impl Shared {
    fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    /// One sync for everything pending.
    fn sync(&self) -> Result<(), Poisoned> {
        let _one_at_a_time = self.sync.lock();
        let pending = {
            let mut live = self.live.lock();
            if let Some(poison) = &live.poisoned {
                return Err(poison.clone());
            }
            std::mem::take(&mut live.pending)
        };
        let Some(last) = pending.last().map(|(ticket, _)| *ticket) else {
            return Ok(());
        };
        if self.is(Broken::NotifiesBackwards) {
            self.tell(Ok(Ticket(last.0 + 1)));
        }
        self.gate.pass();
        let result = self.write(&pending);
        {
            let mut live = self.live.lock();
            let counted = !self.is(Broken::ForgetsToUncount);
            live.queued_bytes -=
                u64::from(counted) * pending.iter().map(|(_, batch)| bytes(batch)).sum::<u64>();
            match &result {
                Ok(()) => live.durable = last,
                Err(poison) => live.poisoned = Some(poison.clone()),
            }
        }
        self.tell(result.clone().map(|()| last));
        if self.is(Broken::RecoversFromPoison) {
            self.live.lock().poisoned = None;
        }
        result
    }

    fn write(&self, pending: &[(Ticket, WriteBatch)]) -> Result<(), Poisoned> {
        let mut disk = self.disk.lock();
        if disk.life != self.life {
            return Err(Poisoned {
                cause: Arc::from("dead"),
            });
        }
        if std::mem::take(&mut disk.fail_next_sync) {
            return Err(Poisoned {
                cause: Arc::from("EIO"),
            });
        }
        for (_, batch) in pending {
            let lazy = batch.durability == raftwerk_raft::Durability::Lazy;
            if lazy && self.is(Broken::ForgetsLazyBatches) {
                continue;
            }
            if let Ok(mut next) = disk.synced.after(batch) {
                self.damage_synced(&disk.synced, &mut next, batch);
                disk.synced = next;
            }
        }
        disk.unsynced.clear();
        Ok(())
    }

    fn damage_synced(&self, before: &LogModel, next: &mut LogModel, batch: &WriteBatch) {
        for write in &batch.groups {
            let old = before.group(write.group);
            if self.is(Broken::DestroyIsForgottenAtReopen) && write.destroy {
                next.groups.insert(write.group, old.clone());
            }
            if self.is(Broken::ResurrectsTruncatedAfterCrash)
                && let Some(group) = next.groups.get_mut(&write.group)
            {
                let last = group.last().index;
                group
                    .entries
                    .extend(old.entries.into_iter().filter(|e| e.index() > last));
            }
        }
    }

    fn tell(&self, notice: Result<Ticket, Poisoned>) {
        let all = self.subscribers.lock().1.clone();
        for (_, notify) in all {
            notify(notice.clone());
        }
    }

    fn announce(&self, batch: &WriteBatch) {
        let last = batch.groups.iter().find_map(|write| write.append.last());
        if let Some(last) = last.filter(|_| self.is(Broken::AnnouncesBeforeItHolds)) {
            self.live.lock().announced = last.id;
            // Until a reader has asked for what was announced, once.
            let _ = self.fooled.wait(FOOLED_MAX);
        }
    }
}

impl Storage for Reference {
    fn groups(&self) -> Result<Vec<GroupId>, StorageError> {
        let mut groups: Vec<GroupId> = self
            .shared
            .live
            .lock()
            .model
            .groups
            .keys()
            .copied()
            .collect();
        if self.shared.is(Broken::ListsUnsorted) {
            groups.sort_by_key(|group| group.0.to_le_bytes());
        }
        Ok(groups)
    }

    fn open_group(&self, group: GroupId) -> Result<OpenGroup, StorageError> {
        if self.shared.is(Broken::AskingMakesAGroup) {
            let mut live = self.shared.live.lock();
            live.model.groups.entry(group).or_default();
        }
        let reader = Reader {
            shared: Arc::clone(&self.shared),
            group,
        };
        Ok(OpenGroup {
            state: reader.model().state(),
            log: Arc::new(reader),
        })
    }

    fn submit(&self, batch: WriteBatch) -> Result<Ticket, SubmitError> {
        let size = bytes(&batch);
        self.shared.announce(&batch);
        let mut live = self.shared.live.lock();
        if let Some(poison) = &live.poisoned {
            return Err(poison.clone().into());
        }
        if size > QUEUE_BYTES_MAX {
            let mut batch = batch;
            if self.shared.is(Broken::KeepsHalfOfATooLargeBatch) {
                batch.groups.clear();
            }
            return Err(SubmitError::TooLarge {
                batch,
                bytes: size,
                max: QUEUE_BYTES_MAX,
            });
        }
        if live.queued_bytes + size > QUEUE_BYTES_MAX {
            return Err(SubmitError::Full(batch));
        }
        let mut next = match live.model.after(&batch) {
            Ok(next) => next,
            Err((group, reason)) => match self
                .shared
                .broken
                .and_then(|broken| broken.lenient(&live.model, &batch))
            {
                Some(next) => next,
                None => {
                    if self.shared.is(Broken::AppliesHalfOfARefusedBatch) {
                        let first = batch.groups.first().cloned().into_iter().collect();
                        if let Ok(half) = live.model.after(&WriteBatch {
                            groups: first,
                            ..batch
                        }) {
                            live.model = half;
                        }
                    }
                    return Err(SubmitError::Invalid { group, reason });
                }
            },
        };
        if let Some(broken) = self.shared.broken {
            broken.damage(&live.model, &mut next, &batch);
        }
        live.stale = std::mem::replace(&mut live.model, next);
        if !(self.shared.is(Broken::RepeatsTickets) && live.last.0 % 7 == 5) {
            live.last.0 += 1;
        }
        let ticket = live.last;
        live.queued_bytes += size;
        live.pending.push((ticket, batch.clone()));
        drop(live);
        let mut disk = self.shared.disk.lock();
        if disk.life == self.shared.life {
            disk.unsynced.push(batch);
        }
        drop(disk);
        if self.shared.is(Broken::BlocksSubmitOnTheDisk) {
            self.shared.sync()?;
        }
        Ok(ticket)
    }

    fn durable(&self) -> Result<Ticket, Poisoned> {
        let live = self.shared.live.lock();
        let ahead = self.shared.is(Broken::AcksBeforeSync);
        let mut durable = if ahead { live.last } else { live.durable };
        if self.shared.is(Broken::WatermarkLagsBehindWait) {
            durable.0 = durable.0.saturating_sub(1);
        }
        live.poisoned.clone().map_or(Ok(durable), Err)
    }

    fn on_durable(&self, notify: DurableNotify) -> Subscription {
        let mut subscribers = self.shared.subscribers.lock();
        subscribers.0 += 1;
        let key = subscribers.0;
        subscribers.1.push((key, Arc::from(notify)));
        let shared = Arc::downgrade(&self.shared);
        Subscription::new(move || {
            if let Some(shared) = shared
                .upgrade()
                .filter(|s| !s.is(Broken::NotifiesAfterDrop))
            {
                shared
                    .subscribers
                    .lock()
                    .1
                    .retain(|(other, _)| *other != key);
            }
        })
    }

    fn wait(&self, ticket: Ticket) -> Result<(), Poisoned> {
        if self.shared.is(Broken::AcksBeforeSync) || self.shared.live.lock().durable >= ticket {
            return Ok(());
        }
        self.shared.sync()
    }

    fn pressure(&self) -> Pressure {
        let queued_bytes = self.shared.live.lock().queued_bytes;
        Pressure {
            queued_bytes,
            queued_bytes_max: QUEUE_BYTES_MAX,
            ..Pressure::default()
        }
    }

    fn scrub(&self, _budget: ByteBudget) -> Result<ScrubReport, StorageError> {
        let damage = self
            .shared
            .is(Broken::ScrubCriesWolf)
            .then(|| String::from("wolf"));
        Ok(ScrubReport {
            damage: damage.into_iter().collect(),
            completed: true,
            ..ScrubReport::default()
        })
    }
}

struct Reader {
    shared: Arc<Shared>,
    group: GroupId,
}

impl Reader {
    fn model(&self) -> GroupModel {
        if self.shared.is(Broken::ReadsOnlyDurable) {
            return self.shared.disk.lock().synced.group(self.group);
        }
        self.shared.live.lock().model.group(self.group)
    }
}

impl LogReader for Reader {
    fn first(&self) -> LogIndex {
        self.model().first()
    }

    fn last(&self) -> LogId {
        let announced = self.shared.live.lock().announced;
        self.model().last().max(announced)
    }

    fn term(&self, index: LogIndex) -> Result<Term, LogError> {
        let model = self.model();
        if self.shared.is(Broken::AnswersStaleTerm)
            && let Some(id) = self.shared.live.lock().stale.group(self.group).id_at(index)
        {
            return Ok(id.term);
        }
        match model.id_at(index) {
            Some(id) => Ok(id.term),
            None if index < model.first() => Err(LogError::Compacted {
                first: model.first(),
            }),
            None => {
                self.shared.fooled.tell();
                Err(LogError::Unavailable {
                    last: model.last().index,
                })
            }
        }
    }

    fn entries(
        &self,
        range: Range<LogIndex>,
        max_bytes: u64,
        out: &mut Vec<Entry>,
    ) -> Result<(), LogError> {
        out.extend(self.read(range, max_bytes)?);
        Ok(())
    }

    fn read(&self, range: Range<LogIndex>, max_bytes: u64) -> Result<Vec<Entry>, LogError> {
        let model = self.model();
        if self.shared.is(Broken::ReadsFailWhenPoisoned)
            && let Some(poison) = &self.shared.live.lock().poisoned
        {
            return Err(LogError::Io {
                reason: Arc::clone(&poison.cause),
            });
        }
        if range.is_empty() {
            return Ok(Vec::new());
        }
        if range.start < model.first() {
            return Err(LogError::Compacted {
                first: model.first(),
            });
        }
        if range.start > model.last().index && !self.shared.is(Broken::AnswersBeyondTheEnd) {
            return Err(LogError::Unavailable {
                last: model.last().index,
            });
        }
        let mut total = 0;
        let mut out = Vec::new();
        let stale = self.shared.live.lock().stale.group(self.group);
        for mut entry in model
            .entries
            .into_iter()
            .filter(|entry| range.contains(&entry.index()))
        {
            total += entry.data.len() as u64;
            let front = entry.index().0 < u64::midpoint(range.start.0, range.end.0);
            let mut before = stale
                .entries
                .iter()
                .filter(|old| old.index() == entry.index());
            if let Some(old) = before
                .next()
                .filter(|_| front && self.shared.is(Broken::ReadsTwoMoments))
            {
                entry = old.clone();
            }
            if self.shared.is(Broken::CutsLargeEntries) {
                entry.data.truncate(3 << 20);
            }
            let one = out.is_empty() && !self.shared.is(Broken::GivesNothingUnderASmallLimit);
            if total > max_bytes && !one && !self.shared.is(Broken::IgnoresByteLimit) {
                break;
            }
            out.push(entry);
        }
        Ok(out)
    }
}
