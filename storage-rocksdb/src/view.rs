//! One moment of the store.

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;
use raftwerk_raft::{KeyRange, LogId, ScanOrder, ScanVisitor, StateError, View};
use rocksdb::{ReadOptions, Snapshot};
use self_cell::self_cell;

use crate::error::state;
use crate::generation::{BEHIND_USER, Generation, HEAD_KEY, USER, applied, user_key};

self_cell!(
    /// A snapshot and what it is of.
    struct Moment {
        owner: Arc<Generation>,

        #[covariant]
        dependent: Snapshot,
    }
);

pub(crate) struct RocksView {
    moment: Moment,
    applied: LogId,
}

impl RocksView {
    pub(crate) fn new(generation: Arc<Generation>) -> Result<Self, StateError> {
        let moment = Moment::new(generation, |generation| generation.db.snapshot());
        let head = moment
            .borrow_dependent()
            .get_pinned(HEAD_KEY)
            .map_err(state("read the applied id"))?;
        let applied = applied(head.as_deref())?;
        drop(head);
        Ok(Self { moment, applied })
    }
}

impl View for RocksView {
    fn applied(&self) -> LogId {
        self.applied
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        let mut stored = Vec::with_capacity(key.len() + 1);
        user_key(key, &mut stored);
        let found = self
            .moment
            .borrow_dependent()
            .get_pinned(&stored)
            .map_err(state("read a key"))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(
        &self,
        (start, end): KeyRange<'_>,
        order: ScanOrder,
        visit: ScanVisitor<'_>,
    ) -> Result<(), StateError> {
        let start = first_key(start, &[USER]);
        let end = match end {
            Bound::Included(key) => first_key(Bound::Excluded(key), &BEHIND_USER),
            Bound::Excluded(key) => first_key(Bound::Included(key), &BEHIND_USER),
            Bound::Unbounded => BEHIND_USER.to_vec(),
        };
        if start >= end {
            return Ok(());
        }
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(start);
        options.set_iterate_upper_bound(end);
        let mut records = self.moment.borrow_dependent().raw_iterator_opt(options);
        match order {
            ScanOrder::Ascending => records.seek_to_first(),
            ScanOrder::Descending => records.seek_to_last(),
        }
        while let Some((key, value)) = records.item() {
            let key = key.get(1..).unwrap_or_default();
            if visit(key, value) == ControlFlow::Break(()) {
                return Ok(());
            }
            match order {
                ScanOrder::Ascending => records.next(),
                ScanOrder::Descending => records.prev(),
            }
        }
        records.status().map_err(state("read a range"))
    }
}

/// The first stored key that a range from `bound` on holds.
fn first_key(bound: Bound<&[u8]>, unbounded: &[u8]) -> Vec<u8> {
    match bound {
        Bound::Included(key) => [&[USER], key].concat(),
        Bound::Excluded(key) => [&[USER], key, &[0]].concat(),
        Bound::Unbounded => unbounded.to_vec(),
    }
}
