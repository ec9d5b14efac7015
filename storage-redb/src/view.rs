//! One moment of the store.

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;
use raftwerk_raft::{KeyRange, LogId, ScanOrder, ScanVisitor, StateError, View};
use redb::{Database, ReadOnlyTable, ReadableDatabase};

use crate::error::failed;
use crate::file::guard;
use crate::head::DATA;
use crate::layers::{Layers, comes_first};

/// The B-tree as of one of its commits.
pub(crate) struct Base(ReadOnlyTable<&'static [u8], &'static [u8]>);

impl Base {
    /// The newest commit.
    pub(crate) fn new(db: &Database) -> Result<Self, StateError> {
        let transaction = db.begin_read().map_err(failed("begin to read"))?;
        let data = transaction
            .open_table(DATA)
            .map_err(failed("open the data"))?;
        Ok(Self(data))
    }

    /// The length of the value of `key`.
    pub(crate) fn value_len(&self, key: &[u8]) -> Result<Option<usize>, StateError> {
        self.read(key, <[u8]>::len)
    }

    /// What `look` makes of the value of `key`.
    fn read<T>(&self, key: &[u8], look: impl FnOnce(&[u8]) -> T) -> Result<Option<T>, StateError> {
        guard(|| Ok(self.0.get(key)?.map(|value| look(value.value()))))
            .map_err(failed("read a key"))
    }
}

/// The B-tree under what is not yet in it.
pub(crate) struct RedbView {
    pub(crate) base: Arc<Base>,
    pub(crate) layers: Layers,
    pub(crate) applied: LogId,
}

impl View for RedbView {
    fn applied(&self) -> LogId {
        self.applied
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        if let Some(change) = self.layers.find(key) {
            return Ok(change.clone());
        }
        self.base.read(key, Bytes::copy_from_slice)
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
        let mut changes = self.layers.range(range, order).peekable();
        let mut records =
            guard(|| Ok(self.base.0.range::<&[u8]>(range)?)).map_err(failed("read a range"))?;
        loop {
            let mut next = || match order {
                ScanOrder::Ascending => records.next(),
                ScanOrder::Descending => records.next_back(),
            };
            let record = guard(|| Ok(next().transpose()?)).map_err(failed("read a range"))?;
            let at = record.as_ref().map(|(key, _)| key.value());
            let mut hidden = false;
            // What comes before the record, and what is of the same key and newer.
            while let Some((key, change)) =
                changes.next_if(|(key, _)| at.is_none_or(|record| !comes_first(order, record, key)))
            {
                hidden |= at == Some(key.as_ref());
                if let Some(value) = change
                    && visit(key, value) == ControlFlow::Break(())
                {
                    return Ok(());
                }
            }
            let Some((key, value)) = record else {
                return Ok(());
            };
            if !hidden && visit(key.value(), value.value()) == ControlFlow::Break(()) {
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
