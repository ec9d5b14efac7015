//! A state store that is a map with a durable copy beside it, right or with one fault.

use std::collections::BTreeMap;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use raftwerk_raft::{
    KeyRange, LogId, LogIndex, ScanOrder, ScanVisitor, SnapshotReader, SnapshotSource, StateError,
    StateOp, StateStats, StateStore, Term, View,
};
use raftwerk_testkit::log_suite::{Ability, Arrival};
use raftwerk_testkit::state_suite::StateHome;

/// The one thing a broken store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    AppliedLagsBehindTheData,
    AppliedIsDurableBeforeTheData,
    ForgetsAppliedOfEmptyBatch,
    RunsDeletesFirst,
    ViewSeesLaterWrites,
    ScanIncludesExcludedBound,
    DescendingScanIgnoresUpperBound,
    IgnoresBreak,
    RemovesInclusiveEnd,
    DropsEmptyValues,
    LosesPersisted,
    PersistIgnoresFailedSync,
    CallsUnpersistedDurable,
    CheckpointFollowsLaterWrites,
    RestoreMerges,
    RestoreIsNotDurable,
    RestoreTrustsTheStream,
    RestoreKeepsPartOfABrokenStream,
    StatsNeverShrink,
    BeginsWithSomething,
    ShowsOnlyThePersisted,
    ShowsHalfABatch,
}

#[derive(Clone, Debug, Default)]
struct Moment {
    map: BTreeMap<Bytes, Bytes>,
    applied: LogId,
}

#[derive(Debug, Default)]
struct Disk {
    durable: Moment,
    unsynced: Vec<Moment>,
    fail_next_sync: bool,
    life: u64,
}

pub(crate) struct ReferenceStateHome {
    disk: Arc<Mutex<Disk>>,
    broken: Option<Broken>,
}

impl ReferenceStateHome {
    pub(crate) fn new(broken: Option<Broken>) -> Self {
        Self {
            disk: Arc::default(),
            broken,
        }
    }

    fn end_life(&self, kept: impl FnOnce(usize) -> usize) {
        let mut disk = self.disk.lock();
        disk.life += 1;
        disk.fail_next_sync = false;
        let count = kept(disk.unsynced.len());
        let unsynced = std::mem::take(&mut disk.unsynced);
        if self.broken == Some(Broken::AppliedIsDurableBeforeTheData)
            && let Some(torn) = unsynced.get(count)
        {
            disk.durable.applied = torn.applied;
        } else if let Some(last) = count.checked_sub(1) {
            disk.durable = unsynced[last].clone();
        }
    }
}

impl StateHome for ReferenceStateHome {
    fn open(&mut self) -> Result<Arc<dyn StateStore>, StateError> {
        let disk = self.disk.lock();
        let mut found = disk.durable.clone();
        if self.broken == Some(Broken::BeginsWithSomething) {
            found
                .map
                .insert(Bytes::from_static(b"made by"), Bytes::new());
        }
        Ok(Arc::new(ReferenceState {
            live: Arc::new(Mutex::new(found)),
            half: AtomicBool::new(false),
            fooled: Arrival::default(),
            disk: Arc::clone(&self.disk),
            life: disk.life,
            broken: self.broken,
            most: Mutex::new(0),
        }))
    }

    fn kill(&mut self) {
        self.end_life(|count| count);
    }

    fn power_loss(&mut self, seed: u64) -> Ability {
        self.end_life(|count| seed as usize % (count + 1));
        Ability::Done
    }

    fn fail_next_sync(&mut self) -> Ability {
        self.disk.lock().fail_next_sync = true;
        Ability::Done
    }
}

struct ReferenceState {
    live: Arc<Mutex<Moment>>,
    disk: Arc<Mutex<Disk>>,
    life: u64,
    broken: Option<Broken>,
    most: Mutex<u64>,
    /// A batch is there in part, and a view was made of that.
    half: AtomicBool,
    fooled: Arrival,
}

/// Longer than any reader takes to look; only a hang reaches it.
const FOOLED_MAX: Duration = Duration::from_secs(10);

fn corrupt(reason: &str) -> StateError {
    StateError::Corrupt {
        reason: reason.to_owned(),
    }
}

impl ReferenceState {
    fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    /// Until a view was made of half of `ops`, once.
    fn show_half(&self, ops: &[&StateOp], applied: LogId) {
        let (first, _) = ops.split_at(ops.len() / 2);
        let mut live = self.live.lock();
        first.iter().for_each(|op| self.apply(&mut live, op));
        live.applied = applied;
        drop(live);
        self.half.store(true, Ordering::Release);
        let _ = self.fooled.wait(FOOLED_MAX);
        self.half.store(false, Ordering::Release);
    }

    fn apply(&self, moment: &mut Moment, op: &StateOp) {
        match op {
            StateOp::Put { value, .. } if value.is_empty() && self.is(Broken::DropsEmptyValues) => {
            }
            StateOp::Put { key, value } => {
                moment.map.insert(key.clone(), value.clone());
            }
            StateOp::Delete { key } => {
                moment.map.remove(key);
            }
            StateOp::DeleteRange { start, end } => {
                let inclusive = self.is(Broken::RemovesInclusiveEnd);
                let inside = |key: &Bytes| key >= start && (key < end || (inclusive && key == end));
                moment.map.retain(|key, _| !inside(key));
            }
        }
    }
}

impl StateStore for ReferenceState {
    fn write(&self, ops: &[StateOp], applied: LogId) -> Result<(), StateError> {
        let mut ops: Vec<&StateOp> = ops.iter().collect();
        if self.is(Broken::ShowsHalfABatch) {
            self.show_half(&ops, applied);
        }
        let mut live = self.live.lock();
        let mut next = live.clone();
        if self.is(Broken::RunsDeletesFirst) {
            ops.sort_by_key(|op| matches!(op, StateOp::Put { .. }));
        }
        ops.iter().for_each(|op| self.apply(&mut next, op));
        if !(self.is(Broken::ForgetsAppliedOfEmptyBatch) && ops.is_empty()) {
            next.applied = applied;
        }
        let mut on_disk = next.clone();
        if self.is(Broken::AppliedLagsBehindTheData) {
            on_disk.applied = live.applied;
        }
        let mut disk = self.disk.lock();
        if disk.life == self.life {
            disk.unsynced.push(on_disk);
        }
        *live = next;
        Ok(())
    }

    fn view(&self) -> Result<Box<dyn View>, StateError> {
        let moment = if self.is(Broken::ViewSeesLaterWrites) {
            Arc::clone(&self.live)
        } else if self.is(Broken::ShowsOnlyThePersisted) {
            Arc::new(Mutex::new(self.disk.lock().durable.clone()))
        } else {
            Arc::new(Mutex::new(self.live.lock().clone()))
        };
        if self.half.load(Ordering::Acquire) {
            self.fooled.tell();
        }
        Ok(Box::new(MomentView {
            moment,
            broken: self.broken,
        }))
    }

    fn persist(&self) -> Result<LogId, StateError> {
        let live = self.live.lock().clone();
        let mut disk = self.disk.lock();
        if disk.life != self.life {
            return Err(corrupt("dead"));
        }
        if self.is(Broken::LosesPersisted) {
            return Ok(live.applied);
        }
        if std::mem::take(&mut disk.fail_next_sync) {
            if self.is(Broken::PersistIgnoresFailedSync) {
                return Ok(live.applied);
            }
            return Err(corrupt("EIO"));
        }
        disk.unsynced.clear();
        disk.durable = live.clone();
        Ok(live.applied)
    }

    fn durable_applied(&self) -> Result<LogId, StateError> {
        if self.is(Broken::CallsUnpersistedDurable) || self.is(Broken::LosesPersisted) {
            return Ok(self.live.lock().applied);
        }
        Ok(self.disk.lock().durable.applied)
    }

    fn checkpoint(&self) -> Result<Box<dyn SnapshotSource>, StateError> {
        let applied = self.live.lock().applied;
        let mut stream = Stream {
            live: Arc::clone(&self.live),
            applied,
            bytes: None,
            at: 0,
        };
        if !self.is(Broken::CheckpointFollowsLaterWrites) {
            stream.bytes = Some(encode(&self.live.lock()));
        }
        Ok(Box::new(stream))
    }

    fn restore(&self, source: &mut dyn SnapshotReader) -> Result<LogId, StateError> {
        let mut bytes = Vec::new();
        let mut piece = vec![0; 4096];
        let broke = loop {
            match source.read(&mut piece) {
                Ok(0) => break None,
                Ok(count) => bytes.extend(&piece[..count]),
                Err(source) => {
                    break Some(StateError::Io {
                        operation: "read",
                        source,
                    });
                }
            }
        };
        if self.is(Broken::RestoreKeepsPartOfABrokenStream) && bytes.len() > 100 {
            self.live.lock().map.clear();
        }
        if let Some(error) = broke {
            return Err(error);
        }
        let checked = !self.is(Broken::RestoreTrustsTheStream);
        let mut moment = decode(&bytes, checked).ok_or_else(|| corrupt("the stream"))?;
        let mut live = self.live.lock();
        if self.is(Broken::RestoreMerges) {
            let old = live.map.clone().into_iter();
            old.for_each(|(key, value)| {
                moment.map.entry(key).or_insert(value);
            });
        }
        *live = moment.clone();
        let applied = moment.applied;
        let mut disk = self.disk.lock();
        disk.unsynced.clear();
        if self.is(Broken::RestoreIsNotDurable) {
            disk.unsynced.push(moment);
        } else {
            disk.durable = moment;
        }
        Ok(applied)
    }

    fn stats(&self) -> Result<StateStats, StateError> {
        let live = self.live.lock();
        let mut bytes: u64 = live
            .map
            .iter()
            .map(|(key, value)| (key.len() + value.len()) as u64)
            .sum();
        let mut most = self.most.lock();
        *most = bytes.max(*most);
        if self.is(Broken::StatsNeverShrink) {
            bytes = *most;
        }
        Ok(StateStats {
            allocated_bytes: bytes,
            live_bytes: bytes,
        })
    }
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

fn encode(moment: &Moment) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(moment.applied.term.0.to_le_bytes());
    out.extend(moment.applied.index.0.to_le_bytes());
    for part in moment.map.iter().flat_map(|(key, value)| [key, value]) {
        out.extend((part.len() as u64).to_le_bytes());
        out.extend(part);
    }
    let sum = sum(&out);
    out.extend(sum.to_le_bytes());
    out
}

fn decode(bytes: &[u8], checked: bool) -> Option<Moment> {
    let (body, tail) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
    if checked && u64::from_le_bytes(tail.try_into().ok()?) != sum(body) {
        return None;
    }
    let mut rest = body;
    let mut number = || -> Option<u64> {
        let (front, behind) = rest.split_at_checked(8)?;
        rest = behind;
        Some(u64::from_le_bytes(front.try_into().ok()?))
    };
    let applied = LogId::new(Term(number()?), LogIndex(number()?));
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (front, behind) = rest.split_at_checked(8)?;
        let len = usize::try_from(u64::from_le_bytes(front.try_into().ok()?)).ok()?;
        let (part, behind) = behind.split_at_checked(len)?;
        parts.push(Bytes::copy_from_slice(part));
        rest = behind;
    }
    let pairs = parts
        .chunks_exact(2)
        .map(|pair| (pair[0].clone(), pair[1].clone()));
    Some(Moment {
        map: pairs.collect(),
        applied,
    })
}

struct Stream {
    live: Arc<Mutex<Moment>>,
    applied: LogId,
    bytes: Option<Vec<u8>>,
    at: usize,
}

impl SnapshotSource for Stream {
    fn applied(&self) -> LogId {
        self.applied
    }

    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let late;
        let bytes = match &self.bytes {
            Some(bytes) => bytes,
            None => {
                late = encode(&self.live.lock());
                &late
            }
        };
        let count = out.len().min(bytes.len().saturating_sub(self.at));
        out[..count].copy_from_slice(&bytes[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

struct MomentView {
    moment: Arc<Mutex<Moment>>,
    broken: Option<Broken>,
}

impl View for MomentView {
    fn applied(&self) -> LogId {
        self.moment.lock().applied
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        Ok(self.moment.lock().map.get(key).cloned())
    }

    fn scan(
        &self,
        range: KeyRange<'_>,
        order: ScanOrder,
        visit: ScanVisitor<'_>,
    ) -> Result<(), StateError> {
        let lenient = self.broken == Some(Broken::ScanIncludesExcludedBound);
        let deaf = self.broken == Some(Broken::DescendingScanIgnoresUpperBound)
            && order == ScanOrder::Descending;
        let above = |key: &[u8]| match range.0 {
            Bound::Excluded(bound) if !lenient => key > bound,
            Bound::Included(bound) | Bound::Excluded(bound) => key >= bound,
            Bound::Unbounded => true,
        };
        let below = |key: &[u8]| match range.1 {
            _ if deaf => true,
            Bound::Included(bound) => key <= bound,
            Bound::Excluded(bound) => key < bound,
            Bound::Unbounded => true,
        };
        let map = self.moment.lock().map.clone();
        let mut inside: Vec<_> = map
            .iter()
            .filter(|(key, _)| above(key) && below(key))
            .collect();
        if order == ScanOrder::Descending {
            inside.reverse();
        }
        for (key, value) in inside {
            let flow = visit(key, value);
            if flow == ControlFlow::Break(()) && self.broken != Some(Broken::IgnoresBreak) {
                break;
            }
        }
        Ok(())
    }
}
