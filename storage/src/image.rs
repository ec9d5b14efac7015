//! What a backend keeps of a group in memory, which writes to it are valid, and what they do.
//!
//! # What makes a write valid
//! Checked part by part, in the order in which the parts take effect:
//! 1. `reset_to` is not behind the snapshot recorded before: neither its index nor its term is
//!    smaller, and at the same index the term is the same. No snapshot has a term and no index,
//!    or an index and no term.
//! 2. `snapshot` is not behind the one recorded before, stands at an index of the log (or just
//!    before its first) and names the term that the log has there.
//! 3. `append` is contiguous, leaves no gap behind the last entry, begins behind the newest
//!    snapshot (what a snapshot covers is committed and never overwritten), and no term in it is
//!    smaller than the one before it.
//! 4. `hard_state` does not go back to an earlier term, and does not take back or change a vote
//!    within a term. Its commit index is a hint and may be anything.
//! 5. `compact_to` is not beyond the newest snapshot. What is compacted already is no error.
//! 6. `meta` leaves at most [`META_BYTES_MAX`] bytes of names and values.
//!
//! So `first - 1 <= snapshot <= last` always holds. A batch names a group at most once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use raftwerk_raft::{
    Entry, GroupId, GroupState, GroupWrite, HardState, LogError, LogHealth, LogId, LogIndex,
    META_BYTES_MAX, SnapshotMeta, SubmitError, Term, WriteBatch,
};

use crate::terms::TermRuns;

/// A group as the writes so far left it, without its entries' payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupImage {
    hard_state: HardState,
    snapshot: Option<SnapshotMeta>,
    terms: TermRuns,
    meta: BTreeMap<Bytes, Bytes>,
    health: LogHealth,
}

impl GroupImage {
    /// The image that a backend found on its disk. `terms` must reach from just before
    /// `state.first` to `state.last`.
    ///
    /// # Errors
    /// In words, what contradicts itself: the disk lied.
    pub fn from_parts(state: GroupState, terms: TermRuns) -> Result<Self, String> {
        let GroupState {
            hard_state,
            snapshot,
            first,
            last,
            meta,
            health,
        } = state;
        if terms.first() != first || terms.last() != last {
            return Err(format!(
                "terms cover {} to {}, the log {first} to {last}",
                terms.first(),
                terms.last()
            ));
        }
        let covered = snapshot
            .as_ref()
            .map_or(LogIndex::ZERO, |meta| meta.last.index);
        if covered < first.prev() || covered > last.index {
            return Err(format!(
                "the snapshot at {covered} is outside of log {first} to {last}"
            ));
        }
        Ok(Self {
            hard_state,
            snapshot,
            terms,
            meta: meta.into_iter().collect(),
            health,
        })
    }

    /// The last hard state.
    #[must_use]
    pub const fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The newest snapshot recorded.
    #[must_use]
    pub const fn snapshot(&self) -> Option<&SnapshotMeta> {
        self.snapshot.as_ref()
    }

    /// The first index in the log; one behind the last when it is empty.
    #[must_use]
    pub const fn first(&self) -> LogIndex {
        self.terms.first()
    }

    /// The last entry, or what stands just before the first.
    #[must_use]
    pub fn last(&self) -> LogId {
        self.terms.last()
    }

    /// The log's terms.
    #[must_use]
    pub const fn terms(&self) -> &TermRuns {
        &self.terms
    }

    /// The named values.
    #[must_use]
    pub const fn meta(&self) -> &BTreeMap<Bytes, Bytes> {
        &self.meta
    }

    /// What the disk lost.
    #[must_use]
    pub const fn health(&self) -> &LogHealth {
        &self.health
    }

    /// Records what the disk lost, as recovery or a scrub found out.
    pub fn set_health(&mut self, health: LogHealth) {
        self.health = health;
    }

    /// Nothing is known of the group: it does not stand in [`raftwerk_raft::Storage::groups`].
    #[must_use]
    pub fn is_blank(&self) -> bool {
        // Most groups have entries: those need not be compared.
        self.last() == LogId::ZERO && *self == Self::default()
    }

    /// What [`raftwerk_raft::Storage::open_group`] answers.
    #[must_use]
    pub fn state(&self) -> GroupState {
        GroupState {
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            first: self.first(),
            last: self.last(),
            meta: self
                .meta
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            health: self.health.clone(),
        }
    }

    /// The term at `index`; answers for `first - 1` too.
    ///
    /// # Errors
    /// [`LogError::Compacted`] before that, [`LogError::Unavailable`] beyond the last.
    pub fn term(&self, index: LogIndex) -> Result<Term, LogError> {
        self.terms.term(index)
    }

    /// The part of `range` that can be read from its start on: ends at the log's last entry or
    /// before the first damaged one. An empty range is returned as it is.
    ///
    /// # Errors
    /// [`LogError::Compacted`], [`LogError::Unavailable`] or [`LogError::Faulty`] when the first
    /// of the range cannot be read.
    pub fn readable(&self, range: Range<LogIndex>) -> Result<Range<LogIndex>, LogError> {
        if range.is_empty() {
            return Ok(range);
        }
        if range.start < self.first() {
            return Err(LogError::Compacted {
                first: self.first(),
            });
        }
        if range.start > self.last().index {
            return Err(LogError::Unavailable {
                last: self.last().index,
            });
        }
        let mut end = range.end.min(self.last().index.next());
        for faulty in &self.health.faulty {
            if faulty.contains(&range.start) {
                return Err(LogError::Faulty {
                    range: faulty.clone(),
                });
            }
            if faulty.start > range.start {
                end = end.min(faulty.start);
            }
        }
        Ok(range.start..end)
    }

    /// Whether `write` may follow on what is here; see the module's rules. Changes nothing.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub fn check(&self, write: &GroupWrite) -> Result<(), String> {
        let blank = Self::default();
        let before = if write.destroy { &blank } else { self };
        let mut covered = before.snapshot.as_ref().map(|meta| meta.last);
        let reset;
        let mut terms = &before.terms;
        if let Some(meta) = &write.reset_to {
            check_reset(covered, meta.last)?;
            covered = Some(meta.last);
            reset = TermRuns::new(meta.last);
            terms = &reset;
        }
        if let Some(meta) = &write.snapshot {
            check_snapshot(covered, terms, meta.last)?;
            covered = Some(meta.last);
        }
        let covered = covered.map_or(LogIndex::ZERO, |last| last.index);
        check_append(covered, terms, &write.append)?;
        if let Some(hard_state) = write.hard_state {
            check_hard_state(before.hard_state, hard_state)?;
        }
        match write.compact_to {
            Some(to) if to > covered => {
                return Err(format!(
                    "compaction to {to} is beyond the snapshot at {covered}"
                ));
            }
            _ => {}
        }
        check_meta(&before.meta, &write.meta)
    }

    /// Performs an append of which only the ids are known: from `first` to the entry at `last`, all
    /// of `first`'s term. They must be an append that [`GroupImage::check`] would pass.
    pub fn append_ids(&mut self, first: LogId, last: LogIndex) {
        self.forget_faulty(first.index);
        self.terms.push_run(first, last);
    }

    /// What was damaged from `from` on is replaced.
    fn forget_faulty(&mut self, from: LogIndex) {
        self.health.faulty.retain_mut(|range| {
            range.end = range.end.min(from);
            range.start < range.end
        });
    }

    /// Performs `write`, which [`GroupImage::check`] has passed.
    pub fn apply(&mut self, write: &GroupWrite) {
        if write.destroy {
            *self = Self::default();
        }
        if let Some(meta) = &write.reset_to {
            self.terms = TermRuns::new(meta.last);
            self.snapshot = Some(meta.clone());
            self.health.faulty.clear();
        }
        if let Some(meta) = &write.snapshot {
            self.snapshot = Some(meta.clone());
        }
        if let Some(first) = write.append.first() {
            self.forget_faulty(first.index());
            let same_term = |a: &Entry, b: &Entry| a.term() == b.term();
            for run in write.append.chunk_by(same_term) {
                if let [first, .., last] | [first @ last] = run {
                    self.terms.push_run(first.id, last.index());
                }
            }
        }
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(to) = write.compact_to {
            self.terms.compact(to);
            let first = self.first();
            self.health.faulty.retain_mut(|range| {
                range.start = range.start.max(first);
                range.start < range.end
            });
        }
        for (name, value) in &write.meta {
            match value {
                Some(value) => self.meta.insert(name.clone(), value.clone()),
                None => self.meta.remove(name),
            };
        }
    }
}

/// Checks every group of `batch` against its image; a group without one is new.
///
/// # Errors
/// [`SubmitError::Invalid`] for the first group that is wrong, or that stands in it twice.
pub fn check_batch<'a>(
    batch: &WriteBatch,
    mut image: impl FnMut(GroupId) -> Option<&'a GroupImage>,
) -> Result<(), SubmitError> {
    let blank = GroupImage::default();
    let mut seen = BTreeSet::new();
    for write in &batch.groups {
        let group = write.group;
        if !seen.insert(group) {
            let reason = "the group stands in the batch twice".to_owned();
            return Err(SubmitError::Invalid { group, reason });
        }
        image(group)
            .unwrap_or(&blank)
            .check(write)
            .map_err(|reason| SubmitError::Invalid { group, reason })?;
    }
    Ok(())
}

fn check_reset(covered: Option<LogId>, to: LogId) -> Result<(), String> {
    if to.index == LogIndex::MAX {
        return Err("reset to the largest index".to_owned());
    }
    not_behind("reset to", covered, to)
}

fn check_snapshot(covered: Option<LogId>, terms: &TermRuns, last: LogId) -> Result<(), String> {
    not_behind("snapshot at", covered, last)?;
    match terms.term(last.index) {
        Ok(term) if term == last.term => Ok(()),
        Ok(term) => Err(format!(
            "snapshot at {last}, but the log has term {term} there"
        )),
        Err(error) => Err(format!("snapshot at {last}: {error}")),
    }
}

fn not_behind(what: &str, covered: Option<LogId>, to: LogId) -> Result<(), String> {
    // What is refused by whoever reads it back must not be taken either.
    if (to.term == Term(0)) != (to.index == LogIndex::ZERO) {
        return Err(format!("{what} {to}: only one of term and index is zero"));
    }
    let Some(covered) = covered else {
        return Ok(());
    };
    let behind = to.index < covered.index || to.term < covered.term;
    if behind || (to.index == covered.index && to.term != covered.term) {
        return Err(format!("{what} {to} contradicts the snapshot at {covered}"));
    }
    Ok(())
}

fn check_append(covered: LogIndex, terms: &TermRuns, append: &[Entry]) -> Result<(), String> {
    let Some(first) = append.first().map(Entry::index) else {
        return Ok(());
    };
    if first <= covered || first < terms.first() {
        let begin = covered.next().max(terms.first());
        return Err(format!(
            "append at {first}, but the log may change from {begin} on only"
        ));
    }
    let last = terms.last().index;
    if first > last.next() {
        return Err(format!(
            "append at {first} leaves a gap behind the last entry {last}"
        ));
    }
    let mut term = terms
        .term(first.prev())
        .map_err(|error| error.to_string())?;
    let mut expected = first;
    for entry in append {
        if entry.index() != expected || expected == LogIndex::MAX {
            return Err(format!(
                "entry {} stands where {expected} belongs",
                entry.index()
            ));
        }
        if entry.term() < term {
            return Err(format!("entry {} goes back from term {term}", entry.id));
        }
        term = entry.term();
        expected = expected.next();
    }
    Ok(())
}

fn check_hard_state(before: HardState, after: HardState) -> Result<(), String> {
    if after.term < before.term {
        return Err(format!(
            "hard state goes back from term {} to {}",
            before.term, after.term
        ));
    }
    match before.vote {
        Some(vote) if after.term == before.term && after.vote != before.vote => Err(format!(
            "hard state changes the vote for {vote} in term {}",
            after.term
        )),
        _ => Ok(()),
    }
}

fn check_meta(
    before: &BTreeMap<Bytes, Bytes>,
    changes: &[(Bytes, Option<Bytes>)],
) -> Result<(), String> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut sizes: BTreeMap<&Bytes, usize> = before
        .iter()
        .map(|(name, value)| (name, name.len() + value.len()))
        .collect();
    for (name, value) in changes {
        match value {
            Some(value) => sizes.insert(name, name.len() + value.len()),
            None => sizes.remove(name),
        };
    }
    let total: usize = sizes.values().sum();
    if total > META_BYTES_MAX {
        return Err(format!(
            "named values take {total} bytes, at most {META_BYTES_MAX} may be"
        ));
    }
    Ok(())
}
