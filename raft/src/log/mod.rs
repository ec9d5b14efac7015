//! The log as the core sees it: what the store holds, the tail that is not yet durable, and how
//! far it is committed and applied.

mod durable;
mod runs;
mod unstable;

use std::ops::Range;

use durable::Durable;
pub(crate) use unstable::Unstable;

use crate::entries::Entries;
use crate::entry::{Entry, SnapshotMeta};
use crate::observer::{Event, Observer};
use crate::raft::Digest;
use crate::storage::{LogError, LogReader};
use crate::types::{LogId, LogIndex, Term};

/// What an entry counts beside its payload against limits of bytes, so that empty ones count too.
const ENTRY_OVERHEAD_BYTES: u64 = 16;

/// What an entry counts against limits of bytes.
#[inline]
pub(crate) fn entry_bytes(entry: &Entry) -> u64 {
    payload_bytes(entry).saturating_add(ENTRY_OVERHEAD_BYTES)
}

/// The payload alone.
pub(crate) const fn payload_bytes(entry: &Entry) -> u64 {
    entry.data.len() as u64
}

/// What all of them count.
#[inline]
pub(crate) fn entries_bytes(entries: &Entries) -> u64 {
    let overhead = ENTRY_OVERHEAD_BYTES.saturating_mul(entries.len() as u64);
    entries.payload_bytes().saturating_add(overhead)
}

/// How many of `entries` fit into `max` bytes, at least one of them, and what those count.
#[inline]
fn fitting(entries: &[Entry], max: u64) -> (usize, u64) {
    let mut size = 0;
    for (count, entry) in entries.iter().enumerate() {
        let with = entry_bytes(entry).saturating_add(size);
        if with > max && count > 0 {
            return (count, size);
        }
        size = with;
    }
    (entries.len(), size)
}

/// `applied <= applying <= committed <= last`, always.
#[derive(Clone, Debug)]
pub(crate) struct RaftLog<L> {
    pub(crate) stable: L,
    pub(crate) unstable: Unstable,
    durable: Durable,
    /// The last entry, wherever it is: asked for all the time.
    last: LogId,
    pub(crate) committed: LogIndex,
    /// Handed out to be applied.
    pub(crate) applying: LogIndex,
    /// Acknowledged as applied.
    pub(crate) applied: LogIndex,
    /// The first entry not yet applied that the disk lost. From there on nothing counts as known,
    /// nor as committed, until the leader has sent it again.
    pub(crate) gap: Option<LogIndex>,
    /// Up to where there are such entries, while there is a gap.
    gap_last: LogIndex,
    /// Below here the disk lost entries that are applied.
    damaged_below: LogIndex,
    applying_bytes_max: u64,
    /// Handed out and not yet acknowledged.
    applying_bytes: u64,
    applying_paused: bool,
}

impl<L: LogReader> RaftLog<L> {
    /// The log that `stable` holds, with nothing committed beyond its beginning.
    pub(crate) fn new(stable: L, applying_bytes_max: u64) -> Self {
        let before = stable.first().prev();
        let last = stable.last();
        let unstable = Unstable::new(last.index.next());
        Self {
            stable,
            unstable,
            durable: Durable::default(),
            last,
            committed: before,
            applying: before,
            applied: before,
            gap: None,
            gap_last: LogIndex::ZERO,
            damaged_below: LogIndex::ZERO,
            applying_bytes_max,
            applying_bytes: 0,
            applying_paused: false,
        }
    }

    /// Takes note of what the disk lost, where `applied` is what the state has of it.
    pub(crate) fn set_faulty(&mut self, faulty: &[Range<LogIndex>], applied: LogIndex) {
        let log = self.first_index()..self.last_index().next();
        for range in faulty {
            let (start, end) = (range.start.max(log.start), range.end.min(log.end));
            if start >= end {
                continue;
            }
            if start <= applied {
                self.damaged_below = self.damaged_below.max(end.min(applied.next()));
            }
            if end > applied.next() {
                let start = start.max(applied.next());
                self.gap = Some(self.gap.map_or(start, |gap| gap.min(start)));
                self.gap_last = self.gap_last.max(end.prev());
            }
        }
    }

    /// The first and the last entry that the disk lost of those not yet applied.
    pub(crate) fn lost(&self) -> Option<(LogIndex, LogIndex)> {
        self.gap.map(|first| (first, self.gap_last))
    }

    /// Up to where the entries are known.
    #[inline]
    pub(crate) fn known_end(&self) -> LogIndex {
        self.gap.map_or_else(|| self.last_index(), LogIndex::prev)
    }

    /// Entries that are applied cannot be read any more, and no snapshot covers them yet.
    pub(crate) fn is_damaged(&self) -> bool {
        self.first_index() < self.damaged_below
    }

    #[inline]
    pub(crate) fn first_index(&self) -> LogIndex {
        match &self.unstable.snapshot {
            Some(snapshot) => snapshot.last.index.next(),
            None => self.stable.first(),
        }
    }

    #[inline]
    pub(crate) const fn last(&self) -> LogId {
        self.last
    }

    /// The last index that is durable here: none while a snapshot that replaces the log is not.
    pub(crate) const fn durable(&self) -> LogIndex {
        match self.unstable.snapshot {
            Some(_) => LogIndex::ZERO,
            None => self.unstable.offset.prev(),
        }
    }

    #[inline]
    pub(crate) const fn last_index(&self) -> LogIndex {
        self.last.index
    }

    /// Whether `count` more entries fit: an index has others on both sides.
    pub(crate) fn has_room(&self, count: usize) -> bool {
        self.last_index().plus(count as u64).next() < LogIndex::MAX
    }

    /// The term at `index`, known from one before the first to the last.
    pub(crate) fn term(&self, index: LogIndex) -> Result<Term, LogError> {
        if let Some(term) = self.unstable.term(index) {
            return Ok(term);
        }
        if let Some(last) = self.durable.last.filter(|last| last.index == index) {
            return Ok(last.term);
        }
        let last = self.last_index();
        if index > last {
            return Err(LogError::Unavailable { last });
        }
        let first = self.first_index();
        if index.next() < first {
            return Err(LogError::Compacted { first });
        }
        self.stable.term(index)
    }

    #[inline]
    pub(crate) fn matches(&self, id: LogId) -> bool {
        self.gap.is_none_or(|gap| id.index < gap) && self.term(id.index) == Ok(id.term)
    }

    /// Whether the leader's log and this one agree up to `id`, one of the leader's. In what is
    /// committed they do, and of an applied entry that the disk lost the term may be a guess.
    #[inline]
    pub(crate) fn agrees(&self, id: LogId) -> bool {
        self.matches(id) || (id.index == self.committed && id.index < self.damaged_below)
    }

    /// Entries of `[lo, hi)` up to `max` bytes, but at least one. Fewer where the store has only
    /// a part of them in memory.
    #[inline]
    pub(crate) fn slice(&self, lo: LogIndex, hi: LogIndex, max: u64) -> Result<Entries, LogError> {
        if lo >= self.unstable.offset && lo < hi && hi == self.unstable.end() {
            // The end of what is not durable, as nearly always.
            return Ok(self.unstable.entries.share(lo, hi, max));
        }
        self.slice_anywhere(lo, hi, max)
    }

    fn slice_anywhere(&self, lo: LogIndex, hi: LogIndex, max: u64) -> Result<Entries, LogError> {
        if lo < self.unstable.offset && lo < self.first_index() {
            let first = self.first_index();
            return Err(LogError::Compacted { first });
        }
        let last = self.last_index();
        if hi > last.next() {
            return Err(LogError::Unavailable { last });
        }
        if lo >= hi {
            return Ok(Entries::new());
        }
        if lo >= self.unstable.offset {
            return Ok(self.unstable.entries.share(lo, hi, max));
        }
        let mut entries = Vec::new();
        let end = hi.min(self.unstable.offset);
        self.stable.entries(lo..end, max, &mut entries)?;
        check_run(&entries, lo..end)?;
        let (count, mut size) = fitting(&entries, max);
        entries.truncate(count);
        if entries.last().map(Entry::index) != Some(end.prev()) {
            return Ok(entries.into());
        }
        for entry in self.unstable.entries.range(end, hi) {
            size = size.saturating_add(entry_bytes(entry));
            if size > max {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries.into())
    }

    /// What a read outside of the core gave, if it still is what the log holds from `lo` on.
    pub(crate) fn verify_read(&self, mut entries: Vec<Entry>, lo: LogIndex, max: u64) -> Entries {
        let end = lo.plus(entries.len() as u64).min(self.last_index().next());
        let ends = [entries.first(), entries.last()];
        if check_run(&entries, lo..end).is_err()
            || !ends
                .into_iter()
                .flatten()
                .all(|entry| self.matches(entry.id))
        {
            entries.clear();
        }
        entries.truncate(fitting(&entries, max).0);
        entries.into()
    }

    /// Appends contiguous entries that begin behind what is committed.
    pub(crate) fn append<O: Observer>(&mut self, entries: Entries, observer: &mut O) {
        debug_assert!(
            entries
                .first()
                .is_none_or(|entry| entry.index() > self.committed)
        );
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return;
        };
        let (first, last) = (first.index(), last.id);
        // They begin no later than where the log stops being known.
        self.gap = None;
        if first < self.unstable.offset {
            let before = first.prev();
            let term = self.term(before).ok();
            let durable = term.map(|term| LogId::new(term, before));
            self.durable.truncate(first, durable);
        }
        self.last = last;
        self.unstable.truncate_and_append(entries, observer);
    }

    /// The first of `entries` that this log does not hold; an event when it holds another.
    pub(crate) fn find_conflict<O: Observer>(
        &self,
        entries: &[Entry],
        observer: &mut O,
    ) -> Option<usize> {
        let last = self.last_index();
        if entries.first()?.index() > last {
            // All of them are new, as nearly always.
            return Some(0);
        }
        let position = entries.iter().position(|entry| !self.matches(entry.id))?;
        let entry = entries.get(position)?;
        if entry.index() <= last {
            observer.event(&Event::LogConflict {
                index: entry.index(),
                existing: self.term(entry.index()).unwrap_or_default(),
                conflicting: entry.term(),
            });
        }
        Some(position)
    }

    /// The largest index up to `index` whose term is at most `term`, and its term: up to there
    /// two logs may agree. Term zero where the log ends.
    pub(crate) fn find_conflict_by_term(&self, index: LogIndex, term: Term) -> LogId {
        let mut at = index;
        while at > LogIndex::ZERO {
            match self.term(at) {
                Err(_) => return LogId::new(Term::ZERO, at),
                Ok(own) if own <= term => return LogId::new(own, at),
                Ok(_) => at = at.prev(),
            }
        }
        LogId::ZERO
    }

    /// Moves the commit index up to `index`, never beyond the last entry that is known.
    #[inline]
    pub(crate) fn commit_to(&mut self, index: LogIndex) {
        self.committed = self.committed.max(index.min(self.known_end()));
    }

    /// Commits up to `index` if the entry there is of `term` (Raft paper, section 5.4.2).
    pub(crate) fn maybe_commit(&mut self, index: LogIndex, term: Term) -> bool {
        if term == Term::ZERO || index <= self.committed || !self.matches(LogId::new(term, index)) {
            return false;
        }
        self.commit_to(index);
        true
    }

    /// The store holds everything up to `id` durably, if that is still what stands there. Says
    /// whether it is.
    pub(crate) fn stable_to<O: Observer>(&mut self, id: LogId, observer: &mut O) -> bool {
        let entries = &mut self.durable.entries;
        let held = self.unstable.stable_to(id, entries, observer);
        if held {
            self.durable.reached(id, self.applying);
        }
        held
    }

    /// The entries of `range` up to `max` bytes, as [`RaftLog::slice`] gives them, if they all are
    /// kept; none otherwise. They are kept no longer.
    pub(crate) fn take_durable(&mut self, range: &Range<LogIndex>, max: u64) -> Entries {
        self.durable.take(range, max)
    }

    /// Replaces everything by a snapshot.
    pub(crate) fn restore<O: Observer>(&mut self, snapshot: SnapshotMeta, observer: &mut O) {
        observer.event(&Event::SnapshotRestoreStarted {
            committed: self.committed,
            applied: self.applied,
            applying: self.applying,
            offset: self.unstable.offset,
            offset_in_progress: self.unstable.offset_in_progress,
            unstable: self.unstable.entries.len(),
            snapshot: snapshot.last,
        });
        self.committed = snapshot.last.index;
        self.gap = None;
        self.last = snapshot.last;
        self.durable.restore(snapshot.last);
        self.unstable.restore(snapshot);
    }

    /// The last index that may be handed out to be applied.
    #[inline]
    fn appliable(&self, unstable: bool) -> LogIndex {
        if unstable {
            self.committed
        } else {
            self.committed.min(self.unstable.offset.prev())
        }
    }

    /// What is next to be applied, if anything is.
    #[inline]
    pub(crate) fn next_committed_range(&self, unstable: bool) -> Option<Range<LogIndex>> {
        if self.applying_paused || self.unstable.snapshot.is_some() {
            return None;
        }
        let range = self.applying.next()..self.appliable(unstable).next();
        (range.start < range.end).then_some(range)
    }

    /// Nothing more is handed out to be applied before some of what was is.
    pub(crate) const fn applying_paused(&self) -> bool {
        self.applying_paused
    }

    /// How many bytes may still be handed out to be applied.
    pub(crate) const fn applying_budget(&self) -> u64 {
        self.applying_bytes_max.saturating_sub(self.applying_bytes)
    }

    /// `entries` are handed out to be applied.
    pub(crate) fn accept_applying(&mut self, index: LogIndex, bytes: u64, unstable: bool) {
        self.applying = index;
        self.applying_bytes = self.applying_bytes.saturating_add(bytes);
        // Also when the next entry did not fit: the budget would otherwise be exceeded by one
        // entry with each call.
        self.applying_paused =
            self.applying_bytes >= self.applying_bytes_max || index < self.appliable(unstable);
    }

    /// Everything in it but what the store holds.
    pub(crate) fn digest(&self, digest: &mut Digest) {
        let Self {
            stable: _,
            unstable,
            // The same as in the store.
            durable: _,
            // The same as in either.
            last: _,
            committed,
            applying,
            applied,
            gap,
            gap_last,
            damaged_below,
            applying_bytes_max: _,
            applying_bytes,
            applying_paused,
        } = self;
        digest.add(&(unstable, committed, applying, applied));
        digest.add(&(
            gap,
            gap_last,
            damaged_below,
            applying_bytes,
            applying_paused,
        ));
    }

    /// Everything up to `index` is applied; `bytes` of the budget are free again.
    pub(crate) fn applied_to(&mut self, index: LogIndex, bytes: u64) {
        self.applied = self.applied.max(index.min(self.committed));
        self.applying = self.applying.max(self.applied);
        self.applying_bytes = self.applying_bytes.saturating_sub(bytes);
        self.applying_paused = self.applying_bytes >= self.applying_bytes_max;
    }
}

/// Entries from outside must be what was asked for.
fn check_run(entries: &[Entry], range: Range<LogIndex>) -> Result<(), LogError> {
    let indexes = (range.start.value()..range.end.value()).map(LogIndex);
    let right = !entries.is_empty()
        && entries.len() as u64 <= range.end.since(range.start)
        && entries
            .iter()
            .map(Entry::index)
            .zip(indexes)
            .all(|(is, should)| is == should);
    if right {
        return Ok(());
    }
    Err(LogError::Io {
        reason: "the store returned other entries than asked for".into(),
    })
}
