//! What a log is given: one batch for all groups of a turn, and smaller ones where it must be.

use std::collections::{BTreeMap, VecDeque};

use raftwerk_raft::{
    Durability, Entry, GroupId, GroupWrite, HardState, LogIndex, Message, PersistAck, SnapshotMeta,
    WriteBatch,
};

/// What follows once a write is durable, or taken, where nothing needs it to be durable.
pub(crate) struct Step {
    pub(crate) group: GroupId,
    pub(crate) needs_sync: bool,
    pub(crate) messages: Vec<Message>,
    pub(crate) ack: Option<PersistAck>,
    /// A peer's snapshot that replaces the state.
    pub(crate) install: Option<SnapshotMeta>,
    /// A snapshot made here that is now recorded.
    pub(crate) record: Option<SnapshotMeta>,
}

impl Step {
    pub(crate) const fn new(group: GroupId) -> Self {
        Self {
            group,
            needs_sync: false,
            messages: Vec::new(),
            ack: None,
            install: None,
            record: None,
        }
    }

    /// What follows from writes that make room in the log.
    pub(crate) fn cut(group: GroupId, record: Option<SnapshotMeta>) -> Self {
        Self {
            needs_sync: record.is_some(),
            record,
            ..Self::new(group)
        }
    }
}

/// Writes for the log, and what follows from them, one step per group.
#[derive(Default)]
pub(crate) struct Batch {
    /// In order; one piece but for what was too large.
    pieces: VecDeque<WriteBatch>,
    pub(crate) steps: Vec<Step>,
    bytes: usize,
    relieved: bool,
}

impl Batch {
    /// A write without content is for the log only if a sync is wanted of it.
    pub(crate) fn push(&mut self, write: GroupWrite, step: Step) {
        let group = write.group;
        let empty = GroupWrite {
            group,
            ..GroupWrite::default()
        };
        if step.needs_sync || write != empty {
            self.bytes += write_bytes(&write);
            let lazy = || WriteBatch {
                groups: Vec::new(),
                durability: Durability::Lazy,
            };
            let mut piece = self.pieces.pop_back().unwrap_or_else(lazy);
            piece.groups.push(write);
            if step.needs_sync {
                piece.durability = Durability::Sync;
            }
            self.pieces.push_back(piece);
        }
        self.steps.push(step);
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// What the log is to take next.
    pub(crate) fn next_writes(&mut self) -> Option<WriteBatch> {
        self.pieces.pop_front()
    }

    /// What the log did not take, to be taken first the next time.
    pub(crate) fn put_back(&mut self, writes: WriteBatch) {
        self.pieces.push_front(writes);
    }

    /// Takes out, once, what makes room in a log: snapshot records and compactions, and the steps
    /// that follow from them. Both speak of entries that the log has had for long, so they may
    /// overtake everything but a `reset_to`, which groups that are `installing` wait for.
    pub(crate) fn relief(&mut self, installing: impl Fn(GroupId) -> bool) -> Self {
        let mut cuts: BTreeMap<GroupId, GroupWrite> = BTreeMap::new();
        let searched = std::mem::replace(&mut self.relieved, true);
        let writes = self.pieces.iter_mut().flat_map(|piece| &mut piece.groups);
        for write in writes.filter(|write| !searched && !installing(write.group)) {
            if write.snapshot.is_none() && write.compact_to.is_none() {
                continue;
            }
            let group = write.group;
            let cut = cuts.entry(group).or_insert_with(|| GroupWrite {
                group,
                ..GroupWrite::default()
            });
            cut.snapshot = cut.snapshot.take().or(write.snapshot.take());
            cut.compact_to = cut.compact_to.max(write.compact_to.take());
        }
        let mut relief = Self::default();
        for (group, cut) in cuts {
            let recorded = cut.snapshot.is_some();
            let mut steps = self.steps.iter_mut().filter(|step| step.group == group);
            let record = steps.next().filter(|_| recorded);
            let record = record.and_then(|step| step.record.take());
            relief.push(cut, Step::cut(group, record));
        }
        relief
    }

    /// The group has halted: nothing more of it is written.
    pub(crate) fn forget(&mut self, group: GroupId) {
        for piece in &mut self.pieces {
            piece.groups.retain(|write| write.group != group);
        }
        self.pieces.retain(|piece| !piece.groups.is_empty());
    }
}

fn write_bytes(write: &GroupWrite) -> usize {
    const BASE: usize = 128;
    let entries: usize = write.append.iter().map(|entry| entry.data.len() + 48).sum();
    BASE + entries
}

/// Cuts a batch that is too large for the log in two that follow each other: by groups, or, for a
/// single group, its entries. None when nothing is left to cut.
pub(crate) fn split(mut batch: WriteBatch) -> Option<(WriteBatch, WriteBatch)> {
    let durability = batch.durability;
    if batch.groups.len() > 1 {
        let rest = batch.groups.split_off(batch.groups.len() / 2);
        return Some((
            batch,
            WriteBatch {
                groups: rest,
                durability,
            },
        ));
    }
    let first = batch.groups.pop()?;
    let (first, rest) = split_write(first)?;
    let first = WriteBatch {
        groups: vec![first],
        durability,
    };
    Some((
        first,
        WriteBatch {
            groups: vec![rest],
            durability,
        },
    ))
}

/// The hard state goes with the first half, for a term must be there before its entries; but its
/// commit index may not speak of entries that are not there yet.
fn split_write(mut write: GroupWrite) -> Option<(GroupWrite, GroupWrite)> {
    let middle = write.append.len() / 2;
    if middle == 0 {
        return None;
    }
    let later = write.append.split_off(middle);
    let before = later.first().map_or(LogIndex::ZERO, Entry::index).prev();
    let full = write.hard_state;
    if let Some(hard_state) = &mut write.hard_state {
        hard_state.commit = hard_state.commit.min(before);
    }
    let rest = GroupWrite {
        group: write.group,
        append: later,
        hard_state: full.filter(|full: &HardState| full.commit > before),
        compact_to: write.compact_to.take(),
        ..GroupWrite::default()
    };
    Some((write, rest))
}

#[cfg(test)]
mod tests {
    use raftwerk_raft::{LogId, Term};

    use super::*;

    #[test]
    fn split_write_keeps_the_term_before_its_entries_and_the_commit_behind_them() {
        let entry = |index| Entry::normal(LogId::new(Term(2), LogIndex(index)), "x".into());
        let hard_state = HardState {
            term: Term(2),
            vote: None,
            commit: LogIndex(8),
        };
        let write = GroupWrite {
            group: GroupId(1),
            append: (5..9).map(entry).collect(),
            hard_state: Some(hard_state),
            ..GroupWrite::default()
        };
        let (first, rest) = split_write(write).unwrap();
        assert_eq!(first.append.len() + rest.append.len(), 4);
        assert_eq!(
            first.hard_state,
            Some(HardState {
                commit: LogIndex(6),
                ..hard_state
            })
        );
        assert_eq!(rest.hard_state, Some(hard_state));
        assert!(
            split_write(GroupWrite {
                append: vec![entry(1)],
                ..first
            })
            .is_none()
        );
    }
}
