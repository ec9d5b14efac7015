//! What a log holds, as plainly as it can be said: the judge of every backend.

use std::collections::BTreeMap;

use bytes::Bytes;
use raftwerk_raft::{
    Entry, GroupId, GroupState, GroupWrite, HardState, LogError, LogHealth, LogId, LogIndex,
    META_BYTES_MAX, SnapshotMeta, Storage, Term, WriteBatch,
};

/// One group, its entries in a vector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupModel {
    /// The last hard state.
    pub hard_state: HardState,
    /// The newest snapshot.
    pub snapshot: Option<SnapshotMeta>,
    /// What stands just before the first entry.
    pub base: LogId,
    /// The log.
    pub entries: Vec<Entry>,
    /// The named values.
    pub meta: BTreeMap<Bytes, Bytes>,
}

impl GroupModel {
    /// The first index in the log; one behind the last when it is empty.
    #[must_use]
    pub const fn first(&self) -> LogIndex {
        self.base.index.next()
    }

    /// The last entry, or what stands before the first.
    #[must_use]
    pub fn last(&self) -> LogId {
        self.entries.last().map_or(self.base, |entry| entry.id)
    }

    /// The id at `index`, from just before the first to the last.
    #[must_use]
    pub fn id_at(&self, index: LogIndex) -> Option<LogId> {
        if index == self.base.index {
            return Some(self.base);
        }
        self.entries
            .iter()
            .map(|entry| entry.id)
            .find(|id| id.index == index)
    }

    fn covered(&self) -> LogIndex {
        self.snapshot
            .as_ref()
            .map_or(LogIndex::ZERO, |meta| meta.last.index)
    }

    /// What `open_group` should answer.
    #[must_use]
    pub fn state(&self) -> GroupState {
        GroupState {
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            first: self.first(),
            last: self.last(),
            meta: self.meta.clone().into_iter().collect(),
            health: LogHealth::default(),
        }
    }

    /// The group after `write`.
    ///
    /// # Errors
    /// In words, which obligation forbids it.
    pub fn after(&self, write: &GroupWrite) -> Result<Self, String> {
        let mut next = if write.destroy {
            Self::default()
        } else {
            self.clone()
        };
        if let Some(meta) = &write.reset_to {
            next.not_behind(meta.last)?;
            next.base = meta.last;
            next.entries.clear();
            next.snapshot = Some(meta.clone());
        }
        if let Some(meta) = &write.snapshot {
            next.not_behind(meta.last)?;
            if next.id_at(meta.last.index) != Some(meta.last) {
                return Err(format!("no entry {} to snapshot", meta.last));
            }
            next.snapshot = Some(meta.clone());
        }
        next.append(&write.append)?;
        if let Some(hard_state) = write.hard_state {
            let old = next.hard_state;
            let revoked =
                old.vote.is_some() && hard_state.term == old.term && hard_state.vote != old.vote;
            if hard_state.term < old.term || revoked {
                return Err(String::from("hard state goes back"));
            }
            next.hard_state = hard_state;
        }
        if let Some(to) = write.compact_to {
            if to > next.covered() {
                return Err(String::from("compaction beyond the snapshot"));
            }
            if to > next.base.index {
                next.base = next.id_at(to).ok_or("nothing to compact to")?;
                next.entries.retain(|entry| entry.index() > to);
            }
        }
        for (name, value) in &write.meta {
            match value {
                Some(value) => next.meta.insert(name.clone(), value.clone()),
                None => next.meta.remove(name),
            };
        }
        let size: usize = next
            .meta
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if size > META_BYTES_MAX && !write.meta.is_empty() {
            return Err(String::from("named values too large"));
        }
        Ok(next)
    }

    fn not_behind(&self, last: LogId) -> Result<(), String> {
        if (last.term == Term(0)) != (last.index == LogIndex::ZERO) {
            return Err(format!("{last} can be no entry's"));
        }
        let old = self.snapshot.as_ref().map_or(LogId::ZERO, |meta| meta.last);
        let same = last.index == old.index && last.term != old.term;
        if self.snapshot.is_some() && (last.index < old.index || last.term < old.term || same) {
            return Err(format!("{last} is behind the snapshot at {old}"));
        }
        Ok(())
    }

    fn append(&mut self, append: &[Entry]) -> Result<(), String> {
        let Some(first) = append.first().map(Entry::index) else {
            return Ok(());
        };
        if first <= self.covered() || first < self.first() {
            return Err(format!("append at {first} changes what a snapshot covers"));
        }
        if first > self.last().index.next() {
            return Err(format!("append at {first} leaves a gap"));
        }
        self.entries.retain(|entry| entry.index() < first);
        for entry in append {
            let last = self.last();
            if entry.index() != last.index.next() || entry.term() < last.term {
                return Err(format!("{} does not follow {last}", entry.id));
            }
            self.entries.push(entry.clone());
        }
        Ok(())
    }
}

/// A whole store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogModel {
    /// Every group that has anything.
    pub groups: BTreeMap<GroupId, GroupModel>,
}

impl LogModel {
    /// A group, blank when it has nothing.
    #[must_use]
    pub fn group(&self, group: GroupId) -> GroupModel {
        self.groups.get(&group).cloned().unwrap_or_default()
    }

    /// The store after `batch`.
    ///
    /// # Errors
    /// The first group whose step is invalid, and why.
    pub fn after(&self, batch: &WriteBatch) -> Result<Self, (GroupId, String)> {
        let mut next = self.clone();
        let mut seen = Vec::new();
        for write in &batch.groups {
            if seen.contains(&write.group) {
                return Err((write.group, String::from("named twice")));
            }
            seen.push(write.group);
            let group = self.group(write.group).after(write);
            let group = group.map_err(|reason| (write.group, reason))?;
            if group == GroupModel::default() {
                next.groups.remove(&write.group);
            } else {
                next.groups.insert(write.group, group);
            }
        }
        Ok(next)
    }

    /// Compares a store with this.
    ///
    /// # Errors
    /// In words, the first difference.
    pub fn compare(&self, store: &dyn Storage) -> Result<(), String> {
        let groups = store.groups().map_err(|error| format!("groups: {error}"))?;
        let expected: Vec<GroupId> = self.groups.keys().copied().collect();
        if groups != expected {
            return Err(format!("groups are {groups:?}, not {expected:?}"));
        }
        for (id, group) in &self.groups {
            compare_group(store, *id, group).map_err(|reason| format!("group {id}: {reason}"))?;
        }
        Ok(())
    }
}

fn differ<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, wanted: &T) -> Result<(), String> {
    if found == wanted {
        return Ok(());
    }
    let short = |value: &T| {
        let mut text = format!("{value:?}");
        text.truncate(600);
        text
    };
    Err(format!("{what} is {}, not {}", short(found), short(wanted)))
}

/// Compares a group's state and log with the model's, reads at and beyond both ends included.
///
/// # Errors
/// In words, the first difference.
pub fn compare_group(store: &dyn Storage, id: GroupId, model: &GroupModel) -> Result<(), String> {
    let open = store
        .open_group(id)
        .map_err(|error| format!("open_group: {error}"))?;
    let (first, last) = (model.first(), model.last());
    differ("state", &open.state, &model.state())?;
    differ("first", &open.log.first(), &first)?;
    differ("last", &open.log.last(), &last)?;
    differ(
        "term of first - 1",
        &open.log.term(model.base.index),
        &Ok(model.base.term),
    )?;
    for entry in &model.entries {
        let what = format!("term at {}", entry.index());
        differ(&what, &open.log.term(entry.index()), &Ok(entry.term()))?;
    }
    let compacted = || LogError::Compacted { first };
    let unavailable = || LogError::Unavailable { last: last.index };
    let (before, behind) = (model.base.index, last.index.next());
    differ(
        "term beyond last",
        &open.log.term(behind),
        &Err(unavailable()),
    )?;
    if behind < LogIndex::MAX {
        let read = open.log.read(behind..behind.next(), 10);
        differ("read beyond last", &read, &Err(unavailable()))?;
    }
    if before > LogIndex::ZERO {
        differ(
            "term of compacted",
            &open.log.term(before.prev()),
            &Err(compacted()),
        )?;
        differ(
            "read of compacted",
            &open.log.read(before..behind, 10),
            &Err(compacted()),
        )?;
    }
    if model.entries.is_empty() {
        return Ok(());
    }
    differ(
        "log",
        &open.log.read(first..behind, u64::MAX),
        &Ok(model.entries.clone()),
    )?;
    let mut hot = Vec::new();
    match open.log.entries(first..behind, u64::MAX, &mut hot) {
        Err(LogError::Cold) if hot.is_empty() => Ok(()),
        Ok(()) if !hot.is_empty() && model.entries.starts_with(&hot) => Ok(()),
        other => Err(format!(
            "entries gave {other:?} and {} of the log",
            hot.len()
        )),
    }
}
