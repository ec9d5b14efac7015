//! What a log is given: one batch for all groups of a turn, and smaller ones where it must be.

use raftwerk_raft::{Durability, Entry, GroupWrite, HardState, LogIndex, WriteBatch};

use super::driver::Step;

/// A batch and what follows from it, one step per group.
#[derive(Default)]
pub(crate) struct Batch {
    writes: Vec<GroupWrite>,
    pub(crate) steps: Vec<Step>,
    bytes: usize,
}

impl Batch {
    /// A write without content is for the log only if a sync is wanted of it.
    pub(crate) fn push(&mut self, write: GroupWrite, step: Step) {
        let group = write.group;
        if step.needs_sync
            || write
                != (GroupWrite {
                    group,
                    ..GroupWrite::default()
                })
        {
            self.bytes += write_bytes(&write);
            self.writes.push(write);
        }
        self.steps.push(step);
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The batch for the log; the steps stay.
    pub(crate) fn take_writes(&mut self) -> WriteBatch {
        let sync = self.steps.iter().any(|step| step.needs_sync);
        let durability = if sync {
            Durability::Sync
        } else {
            Durability::Lazy
        };
        WriteBatch {
            groups: std::mem::take(&mut self.writes),
            durability,
        }
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
        meta: std::mem::take(&mut write.meta),
        ..GroupWrite::default()
    };
    Some((write, rest))
}

#[cfg(test)]
mod tests {
    use raftwerk_raft::{GroupId, LogId, Term};

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
