//! One moment of the store.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use raftwerk_raft::{KeyRange, LogId, ScanOrder, ScanVisitor, StateError, View};
use redb::{Database, ReadOnlyTable, ReadableDatabase};

use crate::error::failed;
use crate::head::{DATA, Head, META};

pub(crate) struct RedbView {
    data: ReadOnlyTable<&'static [u8], &'static [u8]>,
    applied: LogId,
}

impl RedbView {
    pub(crate) fn new(db: &Database) -> Result<Self, StateError> {
        let transaction = db.begin_read().map_err(failed("begin to read"))?;
        let meta = transaction
            .open_table(META)
            .map_err(failed("open the records"))?;
        let Head { applied, .. } = Head::read(&meta)?;
        let data = transaction
            .open_table(DATA)
            .map_err(failed("open the data"))?;
        Ok(Self { data, applied })
    }
}

impl View for RedbView {
    fn applied(&self) -> LogId {
        self.applied
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        let found = self.data.get(key).map_err(failed("read a key"))?;
        Ok(found.map(|value| Bytes::copy_from_slice(value.value())))
    }

    fn scan(
        &self,
        range: KeyRange<'_>,
        order: ScanOrder,
        visit: ScanVisitor<'_>,
    ) -> Result<(), StateError> {
        if is_empty(range) {
            return Ok(());
        }
        let mut records = self
            .data
            .range::<&[u8]>(range)
            .map_err(failed("read a range"))?;
        loop {
            let next = match order {
                ScanOrder::Ascending => records.next(),
                ScanOrder::Descending => records.next_back(),
            };
            let Some(record) = next else { return Ok(()) };
            let (key, value) = record.map_err(failed("read a range"))?;
            if visit(key.value(), value.value()) == ControlFlow::Break(()) {
                return Ok(());
            }
        }
    }
}

/// No key can lie between the bounds; redb wants them in order.
fn is_empty((start, end): KeyRange<'_>) -> bool {
    match (start, end) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (
            Bound::Included(start) | Bound::Excluded(start),
            Bound::Included(end) | Bound::Excluded(end),
        ) => start >= end,
    }
}
