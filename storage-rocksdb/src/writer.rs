//! What a commit becomes in RocksDB.

use std::collections::BTreeMap;

use bytes::Bytes;
use raftwerk_raft::{Entry, GroupId, LogId, SnapshotMeta};
use raftwerk_storage::image::GroupImage;
use raftwerk_storage::queue::{Commit, GroupCommit};
use rocksdb::WriteBatch;

use crate::key::{self, Key, Kind, RECORDS};
use crate::purge::Purge;
use crate::record::{self, Head};

/// How many entries a commit removes: so many, and so many more for each that it writes. Faster
/// than they come, and never long enough for anybody to wait for.
const REMOVALS: u64 = 32;
const REMOVALS_PER_ENTRY: u64 = 4;

/// What changes seldom, as the engine has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) snapshot: Option<SnapshotMeta>,
    pub(crate) terms: Vec<LogId>,
    pub(crate) values: BTreeMap<Bytes, Bytes>,
    pub(crate) doubt: bool,
    /// It stands in the roster.
    pub(crate) rostered: bool,
    /// What else may stand there is damaged and counts no more.
    pub(crate) stale: bool,
}

/// Turns commits into batches, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) written: BTreeMap<GroupId, Written>,
    pub(crate) purge: Purge,
    /// Where values are encoded.
    value: Vec<u8>,
}

impl Writer {
    pub(crate) fn batch(&mut self, commit: &Commit) -> WriteBatch {
        let entries = commit.groups.iter().flat_map(|group| &group.put);
        let bytes: usize = entries.map(|entry| entry.data.len() + 64).sum();
        let mut batch = WriteBatch::with_capacity_bytes(bytes + 256 * commit.groups.len());
        let mut puts = 0;
        for group in &commit.groups {
            match &group.image {
                Some(image) => self.put_records(&mut batch, group.group, image),
                None => self.delete_records(&mut batch, group.group),
            }
            self.put_entries(&mut batch, group);
            puts += group.put.len() as u64;
        }
        for (group, range) in self.purge.take(REMOVALS + REMOVALS_PER_ENTRY * puts) {
            for index in range.start.0..range.end.0 {
                batch.delete(key::entry(group, index.into()));
            }
        }
        batch
    }

    fn put_entries(&mut self, batch: &mut WriteBatch, commit: &GroupCommit) {
        for range in &commit.removed {
            self.purge.add(commit.group, range.clone());
        }
        let (Some(first), Some(last)) = (commit.put.first(), commit.put.last()) else {
            return;
        };
        self.purge
            .keep(commit.group, &(first.index()..last.index().next()));
        for entry in &commit.put {
            let key = key::entry(commit.group, entry.index());
            self.put(batch, key, |out| record::put_entry(entry, out));
        }
    }

    fn put_records(&mut self, batch: &mut WriteBatch, group: GroupId, image: &GroupImage) {
        let head = Head {
            hard_state: image.hard_state(),
            base: image.terms().base(),
            last: image.last().index,
        };
        let key = |kind| key::record(group, kind);
        self.put(batch, key(Kind::Head), |out| record::put_head(&head, out));
        let mut written = self.written.remove(&group).unwrap_or_default();
        if std::mem::take(&mut written.stale) {
            for kind in [Kind::Snapshot, Kind::Terms, Kind::Values, Kind::Doubt] {
                batch.delete(key(kind));
            }
        }
        if !std::mem::replace(&mut written.rostered, true) {
            self.put(batch, key::roster(group), |_| {});
        }
        let doubt = image.health().vote_unknown;
        match (std::mem::replace(&mut written.doubt, doubt), doubt) {
            (false, true) => self.put(batch, key(Kind::Doubt), |_| {}),
            (true, false) => batch.delete(key(Kind::Doubt)),
            _ => {}
        }
        if written.snapshot.as_ref() != image.snapshot() {
            written.snapshot = image.snapshot().cloned();
            match &written.snapshot {
                Some(meta) => self.put(batch, key(Kind::Snapshot), |out| {
                    record::put_snapshot(meta, out);
                }),
                None => batch.delete(key(Kind::Snapshot)),
            }
        }
        if !image.terms().changes().eq(written.terms.iter().copied()) {
            written.terms = image.terms().changes().collect();
            self.put(batch, key(Kind::Terms), |out| {
                record::put_terms(&written.terms, out);
            });
        }
        if written.values != *image.meta() {
            written.values.clone_from(image.meta());
            self.put(batch, key(Kind::Values), |out| {
                record::put_values(&written.values, out);
            });
        }
        self.written.insert(group, written);
    }

    fn delete_records(&mut self, batch: &mut WriteBatch, group: GroupId) {
        if self.written.remove(&group).is_some() {
            for kind in RECORDS {
                batch.delete(key::record(group, kind));
            }
            batch.delete(key::roster(group));
        }
    }

    fn put(&mut self, batch: &mut WriteBatch, key: Key, encode: impl FnOnce(&mut Vec<u8>)) {
        self.value.clear();
        encode(&mut self.value);
        record::seal(&key, &mut self.value);
        batch.put(key, &self.value);
    }
}

/// An entry's payload as the limits of a read count it, in bytes.
pub(crate) fn payload(entry: &Entry) -> u64 {
    entry.data.len() as u64
}
