//! The tail of the log that is not known to be durable.

use std::mem;

use crate::entry::{Entry, SnapshotMeta};
use crate::observer::{Event, Observer};
use crate::types::{LogId, LogIndex, Term};

/// Entries from `offset` on (and perhaps a snapshot before them) that are being persisted or
/// wait for it. What stands here shadows the stable log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unstable {
    pub(crate) snapshot: Option<SnapshotMeta>,
    pub(crate) entries: Vec<Entry>,
    /// The index of `entries[0]`.
    pub(crate) offset: LogIndex,
    pub(crate) snapshot_in_progress: bool,
    /// Entries before this index have been handed out to be persisted.
    pub(crate) offset_in_progress: LogIndex,
}

impl Unstable {
    pub(crate) const fn new(offset: LogIndex) -> Self {
        Self {
            snapshot: None,
            entries: Vec::new(),
            offset,
            snapshot_in_progress: false,
            offset_in_progress: offset,
        }
    }

    /// Where entry `index` stands in `entries`.
    fn position(&self, index: LogIndex) -> usize {
        usize::try_from(index.since(self.offset)).unwrap_or(usize::MAX)
    }

    /// One behind the last entry; `offset` when there is none.
    pub(crate) const fn end(&self) -> LogIndex {
        self.offset.plus(self.entries.len() as u64)
    }

    /// The entries of `[lo, hi)`, as far as they are here.
    pub(crate) fn slice(&self, lo: LogIndex, hi: LogIndex) -> &[Entry] {
        let end = self.position(hi).min(self.entries.len());
        self.entries
            .get(self.position(lo).min(end)..end)
            .unwrap_or_default()
    }

    pub(crate) fn last(&self) -> Option<LogId> {
        let entry = self.entries.last().map(|entry| entry.id);
        entry.or_else(|| self.snapshot.as_ref().map(|snapshot| snapshot.last))
    }

    pub(crate) fn term(&self, index: LogIndex) -> Option<Term> {
        if index < self.offset {
            let snapshot = self
                .snapshot
                .as_ref()
                .filter(|snapshot| snapshot.last.index == index);
            return snapshot.map(|snapshot| snapshot.last.term);
        }
        self.entries.get(self.position(index)).map(Entry::term)
    }

    /// The entries not yet handed out to be persisted.
    pub(crate) fn next_entries(&self) -> &[Entry] {
        self.slice(self.offset_in_progress, LogIndex::MAX)
    }

    /// The snapshot not yet handed out to be persisted.
    pub(crate) fn next_snapshot(&self) -> Option<&SnapshotMeta> {
        self.snapshot
            .as_ref()
            .filter(|_| !self.snapshot_in_progress)
    }

    /// Everything here has been handed out.
    pub(crate) const fn accept(&mut self) {
        self.offset_in_progress = self.end();
        self.snapshot_in_progress = self.snapshot.is_some();
    }

    /// Everything up to `id` is durable, if that is still what stands here: moved behind what
    /// `durable` holds. Says whether it is.
    pub(crate) fn stable_to<O: Observer>(
        &mut self,
        id: LogId,
        durable: &mut Vec<Entry>,
        observer: &mut O,
    ) -> bool {
        let Some(held) = self.term(id.index) else {
            observer.event(&Event::PersistAckMissing { index: id.index });
            return false;
        };
        if id.index < self.offset {
            observer.event(&Event::PersistAckInSnapshot { index: id.index });
            return false;
        }
        if held != id.term {
            observer.event(&Event::PersistAckMismatched { acked: id, held });
            return false;
        }
        let count = self.position(id.index.next()).min(self.entries.len());
        if durable.is_empty() && count == self.entries.len() {
            // Nobody has to move: the two change their places.
            mem::swap(durable, &mut self.entries);
        } else {
            durable.extend(self.entries.drain(..count));
        }
        // What a long tail took is given back once it is short again.
        if self.entries.capacity() > 1024 && self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len().saturating_mul(2));
        }
        self.offset = id.index.next();
        self.offset_in_progress = self.offset_in_progress.max(self.offset);
        true
    }

    /// The snapshot that ends at `index` is durable.
    pub(crate) fn stable_snapshot_to(&mut self, index: LogIndex) {
        if self
            .snapshot
            .as_ref()
            .is_some_and(|snapshot| snapshot.last.index == index)
        {
            self.snapshot = None;
            self.snapshot_in_progress = false;
        }
    }

    /// Forgets everything for a snapshot.
    pub(crate) fn restore(&mut self, snapshot: SnapshotMeta) {
        *self = Self::new(snapshot.last.index.next());
        self.snapshot = Some(snapshot);
    }

    /// Appends contiguous entries, cutting what conflicts with them. What was handed out and is
    /// cut will be handed out again.
    pub(crate) fn truncate_and_append<O: Observer>(
        &mut self,
        mut entries: Vec<Entry>,
        observer: &mut O,
    ) {
        let Some(from) = entries.first().map(Entry::index) else {
            return;
        };
        if from == self.end() && self.entries.is_empty() {
            self.entries = entries;
        } else if from == self.end() {
            self.entries.append(&mut entries);
        } else if from <= self.offset {
            observer.event(&Event::UnstableReplaced { from });
            self.entries = entries;
            self.offset = from;
            self.offset_in_progress = from;
        } else {
            observer.event(&Event::UnstableTruncated { from });
            self.entries.truncate(self.position(from));
            self.entries.append(&mut entries);
            self.offset_in_progress = self.offset_in_progress.min(from);
        }
    }
}
