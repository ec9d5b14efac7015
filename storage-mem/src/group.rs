//! One group: its image and all of its entries.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use raftwerk_raft::{Entry, GroupId, GroupWrite, LogError, LogIndex, WriteBatch};
use raftwerk_storage::image::GroupImage;
use raftwerk_storage::payload_fits;

/// Everything a log holds.
pub(crate) type Groups = BTreeMap<GroupId, MemGroup>;

#[derive(Clone, Debug, Default)]
pub(crate) struct MemGroup {
    pub(crate) image: GroupImage,
    /// From `image.first()` to `image.last()`.
    entries: VecDeque<Entry>,
}

impl MemGroup {
    fn apply(&mut self, write: &GroupWrite) {
        if write.destroy || write.reset_to.is_some() {
            self.entries.clear();
        }
        if let Some(from) = write.append.first().map(Entry::index) {
            while self
                .entries
                .back()
                .is_some_and(|entry| entry.index() >= from)
            {
                self.entries.pop_back();
            }
            self.entries.extend(write.append.iter().cloned());
        }
        self.image.apply(write);
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.index() < self.image.first())
        {
            self.entries.pop_front();
        }
    }

    pub(crate) fn read(
        &self,
        range: Range<LogIndex>,
        max_bytes: u64,
        out: &mut Vec<Entry>,
    ) -> Result<(), LogError> {
        let range = self.image.readable(range)?;
        let skip = range.start.since(self.image.first());
        let skip = usize::try_from(skip)
            .unwrap_or(usize::MAX)
            .min(self.entries.len());
        let wanted = || {
            self.entries
                .range(skip..)
                .take_while(|entry| entry.index() < range.end)
        };
        out.extend(wanted().take(payload_fits(wanted(), max_bytes)).cloned());
        Ok(())
    }
}

/// Performs a checked batch.
pub(crate) fn apply_batch(groups: &mut Groups, batch: &WriteBatch) {
    for write in &batch.groups {
        let group = groups.entry(write.group).or_default();
        group.apply(write);
        if group.image.is_blank() {
            groups.remove(&write.group);
        }
    }
}
