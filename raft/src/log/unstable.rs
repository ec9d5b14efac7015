//! The tail of the log that is not known to be durable.

use super::runs::Runs;
use crate::entries::Entries;
use crate::entry::{Entry, SnapshotMeta};
use crate::observer::{Event, Observer};
use crate::types::{LogId, LogIndex, Term};

/// Entries from `offset` on (and perhaps a snapshot before them) that are being persisted or
/// wait for it. What stands here shadows the stable log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unstable {
    /// Rarely there, and large.
    pub(crate) snapshot: Option<Box<SnapshotMeta>>,
    pub(crate) entries: Runs,
    /// The index of the first of `entries`.
    pub(crate) offset: LogIndex,
    pub(crate) snapshot_in_progress: bool,
    /// Entries before this index have been handed out to be persisted.
    pub(crate) offset_in_progress: LogIndex,
}

impl Unstable {
    pub(crate) fn new(offset: LogIndex) -> Self {
        Self {
            snapshot: None,
            entries: Runs::default(),
            offset,
            snapshot_in_progress: false,
            offset_in_progress: offset,
        }
    }

    /// One behind the last entry; `offset` when there is none.
    #[inline]
    pub(crate) fn end(&self) -> LogIndex {
        let last = self.entries.last();
        last.map_or(self.offset, |last| last.index.next())
    }

    #[inline]
    pub(crate) fn term(&self, index: LogIndex) -> Option<Term> {
        // What is asked for most.
        if let Some(last) = self.entries.last().filter(|last| last.index == index) {
            return Some(last.term);
        }
        if index < self.offset {
            let snapshot = self
                .snapshot
                .as_ref()
                .filter(|snapshot| snapshot.last.index == index);
            return snapshot.map(|snapshot| snapshot.last.term);
        }
        self.entries.get(index).map(Entry::term)
    }

    /// There are entries not yet handed out to be persisted.
    #[inline]
    pub(crate) fn has_next_entries(&self) -> bool {
        self.offset_in_progress < self.end()
    }

    /// The snapshot not yet handed out to be persisted.
    #[inline]
    pub(crate) fn next_snapshot(&self) -> Option<&SnapshotMeta> {
        self.snapshot
            .as_deref()
            .filter(|_| !self.snapshot_in_progress)
    }

    /// Hands out the entries not yet handed out to `out`, which is empty, and the snapshot. Says
    /// whether there were any.
    #[inline]
    pub(crate) fn accept(&mut self, out: &mut Entries) -> bool {
        self.snapshot_in_progress = self.snapshot.is_some();
        let end = self.end();
        let found = self.offset_in_progress < end;
        if found {
            // What is committed of them later goes out together as well.
            *out = self.entries.join(self.offset_in_progress);
            self.offset_in_progress = end;
        }
        found
    }

    /// Everything up to `id` is durable, if that is still what stands here: moved behind what
    /// `durable` holds. Says whether it is.
    #[inline]
    pub(crate) fn stable_to<O: Observer>(
        &mut self,
        id: LogId,
        durable: &mut Runs,
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
        self.entries.move_to(id.index.next(), durable);
        self.offset = id.index.next();
        self.offset_in_progress = self.offset_in_progress.max(self.offset);
        true
    }

    /// The snapshot that ends at `index` is durable.
    #[inline]
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
        self.snapshot = Some(Box::new(snapshot));
    }

    /// Appends contiguous entries, cutting what conflicts with them. What was handed out and is
    /// cut will be handed out again.
    #[inline]
    pub(crate) fn truncate_and_append<O: Observer>(&mut self, entries: Entries, observer: &mut O) {
        let Some(from) = entries.first().map(Entry::index) else {
            return;
        };
        if from == self.end() {
            // Nothing here is in its way.
        } else if from <= self.offset {
            observer.event(&Event::UnstableReplaced { from });
            self.entries.clear();
            self.offset = from;
            self.offset_in_progress = from;
        } else {
            observer.event(&Event::UnstableTruncated { from });
            self.entries.truncate(from);
            self.offset_in_progress = self.offset_in_progress.min(from);
        }
        self.entries.push(entries);
    }
}
