//! When a group's snapshot is taken, and the order in which it cuts the log: file durable, record
//! in the log durable, then compact.

use raftwerk_raft::{GroupWrite, LogId, LogIndex, SnapshotMeta};

use crate::config::SnapshotPolicy;
use crate::error::SnapshotError;
use crate::oneshot::Completer;

/// Ticks between a failed snapshot and the next try.
const RETRY_TICKS: u64 = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taking {
    Idle,
    /// The state machine was asked for a view.
    View,
    /// The view is being written to a file.
    File,
    /// The file is durable, its record in the log is not.
    Record,
}

/// The snapshots that one group takes of itself.
pub(crate) struct Snapshots {
    policy: SnapshotPolicy,
    /// The newest one recorded in the log.
    newest: LogId,
    taking: Taking,
    /// What the state machine had durably applied when its view was taken.
    persisted: LogIndex,
    record: Option<SnapshotMeta>,
    compact_to: Option<LogIndex>,
    wanted: bool,
    waiting: Vec<Completer<LogId, SnapshotError>>,
    entries: u64,
    bytes: u64,
    /// Entries since the state machine was last asked to persist.
    unpersisted: u64,
    /// Bytes of the last snapshot's file; zero before the first one of this life.
    len_bytes: u64,
    retry_at: u64,
}

impl Snapshots {
    pub(crate) const fn new(policy: SnapshotPolicy, newest: LogId) -> Self {
        Self {
            policy,
            newest,
            taking: Taking::Idle,
            persisted: LogIndex::ZERO,
            record: None,
            compact_to: None,
            wanted: false,
            waiting: Vec::new(),
            entries: 0,
            bytes: 0,
            unpersisted: 0,
            len_bytes: 0,
            retry_at: 0,
        }
    }

    pub(crate) const fn newest(&self) -> LogId {
        self.newest
    }

    /// A follower needs one; if one is on its way that may do, and else is asked for again.
    pub(crate) const fn want(&mut self) {
        self.wanted |= matches!(self.taking, Taking::Idle);
    }

    /// A handle asks for one.
    pub(crate) fn ask(&mut self, answer: Completer<LogId, SnapshotError>) {
        if self.taking != Taking::Idle || self.waiting.len() >= WAITING_MAX {
            return answer.complete(Err(SnapshotError::Busy));
        }
        self.wanted = true;
        self.retry_at = 0;
        self.waiting.push(answer);
    }

    /// Entries went to the state machine.
    pub(crate) const fn applying(&mut self, entries: u64, bytes: u64) {
        self.entries = self.entries.saturating_add(entries);
        self.bytes = self.bytes.saturating_add(bytes);
        self.unpersisted = self.unpersisted.saturating_add(entries);
    }

    /// True when one is to be begun now.
    pub(crate) const fn is_due(&self, now: u64) -> bool {
        let SnapshotPolicy {
            entries,
            growth,
            bytes,
            ..
        } = self.policy;
        let grown = self.bytes >= self.len_bytes.saturating_mul(growth);
        let due = self.wanted
            || (entries > 0 && self.entries >= entries && grown)
            || (bytes > 0 && self.bytes >= bytes);
        due && matches!(self.taking, Taking::Idle) && now >= self.retry_at
    }

    /// True when the state machine is to be asked for a view now; asked once.
    pub(crate) const fn begin(&mut self, now: u64) -> bool {
        if !self.is_due(now) {
            return false;
        }
        self.taking = Taking::View;
        self.wanted = false;
        self.entries = 0;
        self.bytes = 0;
        self.unpersisted = 0;
        true
    }

    /// True when the state machine is to persist now, without a snapshot; asked once.
    pub(crate) const fn persist(&mut self) -> bool {
        let due = self.policy.entries > 0 && self.unpersisted >= self.policy.entries;
        if due {
            self.unpersisted = 0;
        }
        due
    }

    /// A view was taken. False when it is not needed: a newer snapshot was installed meanwhile, or
    /// the newest covers it already.
    pub(crate) fn viewed(&mut self, view: LogId, persisted: LogId) -> bool {
        if view.index <= self.newest.index {
            self.finish(Ok(self.newest));
            return false;
        }
        self.taking = Taking::File;
        self.persisted = persisted.index;
        true
    }

    /// The file is durable.
    pub(crate) fn built(&mut self, meta: SnapshotMeta, len_bytes: u64) {
        self.len_bytes = len_bytes;
        if meta.last.index <= self.newest.index {
            return self.finish(Ok(self.newest));
        }
        self.taking = Taking::Record;
        self.record = Some(meta);
    }

    pub(crate) fn failed(&mut self, reason: &std::sync::Arc<str>, now: u64) {
        self.retry_at = now.saturating_add(RETRY_TICKS);
        self.wanted = true;
        self.finish(Err(SnapshotError::Failed {
            reason: std::sync::Arc::clone(reason),
        }));
    }

    /// A peer's snapshot goes into the log: what was being taken is older.
    pub(crate) fn installing(&mut self, last: LogId) {
        self.newest = last;
        self.record = None;
        self.compact_to = None;
        self.entries = 0;
        self.bytes = 0;
        if self.taking == Taking::Record {
            self.finish(Ok(last));
        }
    }

    /// Puts what is to be written into `write`; returns the snapshot that it records.
    pub(crate) fn write(&mut self, write: &mut GroupWrite) -> Option<SnapshotMeta> {
        if write.reset_to.is_some() {
            return None;
        }
        write.compact_to = self.compact_to.take();
        let record = self.record.take()?;
        write.snapshot = Some(record.clone());
        Some(record)
    }

    /// True when [`Snapshots::write`] has something to write.
    pub(crate) const fn has_write(&self) -> bool {
        self.record.is_some() || self.compact_to.is_some()
    }

    /// The record is durable: the log may be cut, but for the tail that is kept, and never above
    /// what the state machine has durably applied.
    pub(crate) fn recorded(&mut self, meta: &SnapshotMeta) {
        if meta.last.index < self.newest.index {
            return;
        }
        self.newest = meta.last;
        let kept = meta
            .last
            .index
            .0
            .saturating_sub(self.policy.trailing_entries);
        let to = LogIndex(kept).min(self.persisted);
        if to > LogIndex::ZERO {
            self.compact_to = Some(to);
        }
        self.finish(Ok(meta.last));
    }

    fn finish(&mut self, result: Result<LogId, SnapshotError>) {
        self.taking = Taking::Idle;
        for answer in self.waiting.drain(..) {
            answer.complete(result.clone());
        }
    }

    /// The group ends.
    pub(crate) fn end(&mut self, error: SnapshotError) {
        self.finish(Err(error));
    }
}

/// Handles that wait for the same snapshot.
const WAITING_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use raftwerk_raft::Term;

    use super::*;

    fn id(index: u64) -> LogId {
        LogId::new(Term(1), LogIndex(index))
    }

    /// Takes the one that is due, whose file has `len_bytes`.
    fn take(snapshots: &mut Snapshots, last: LogId, len_bytes: u64) {
        assert!(snapshots.begin(0));
        assert!(snapshots.viewed(last, last));
        let meta = SnapshotMeta {
            last,
            ..SnapshotMeta::default()
        };
        snapshots.built(meta.clone(), len_bytes);
        snapshots.recorded(&meta);
    }

    #[test]
    fn snapshot_of_a_large_state_waits_until_the_log_has_outgrown_it_but_persisting_does_not() {
        let mut snapshots = Snapshots::new(
            SnapshotPolicy {
                entries: 100,
                growth: 4,
                bytes: 1_000_000,
                trailing_entries: 0,
            },
            LogId::ZERO,
        );
        snapshots.applying(100, 1_000);
        take(&mut snapshots, id(100), 1_500);
        assert!(!snapshots.persist(), "the view has persisted");
        snapshots.applying(100, 5_999);
        assert!(!snapshots.is_due(0));
        assert!(snapshots.persist());
        assert!(!snapshots.persist(), "asked once");
        snapshots.applying(1, 1);
        take(&mut snapshots, id(201), 10_000_000);
        snapshots.applying(1, 1_000_000);
        assert!(
            snapshots.is_due(0),
            "however large the state, the log has its own bound"
        );
    }
}
