//! The key space as requests see it: a stored view, or layers of changes over one.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use raftwerk_raft::{ScanOrder, StateError, StateOp, View};

use super::record::{
    REVISION_KEY, Record, RecordRef, Span, decode_revision, encode_revision, store_key, user_key,
};

/// Called with each key and its record, in order of keys; says whether to go on.
pub(super) type Visit<'a> = &'a mut dyn FnMut(&[u8], RecordRef<'_>) -> ControlFlow<()>;

/// Something that has keys.
pub(super) trait Space {
    fn get(&self, key: &[u8]) -> Result<Option<Record>, StateError>;
    fn scan(&self, span: &Span, visit: Visit<'_>) -> Result<(), StateError>;
}

/// One moment of the state store.
pub(super) struct Stored<'a>(pub(super) &'a dyn View);

impl Stored<'_> {
    pub(super) fn revision(&self) -> Result<i64, StateError> {
        decode_revision(self.0.get(REVISION_KEY)?.as_deref())
    }
}

impl Space for Stored<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Record>, StateError> {
        self.0
            .get(&store_key(key))?
            .map(|stored| Record::decode(&stored))
            .transpose()
    }

    fn scan(&self, span: &Span, visit: Visit<'_>) -> Result<(), StateError> {
        if span.is_empty() {
            return Ok(());
        }
        let (start, end) = span.store_bounds();
        let mut damage = None;
        self.0.scan(
            (as_slice(&start), as_slice(&end)),
            ScanOrder::Ascending,
            &mut |key, stored| match RecordRef::decode(stored) {
                Ok(record) => visit(user_key(key), record),
                Err(error) => {
                    damage = Some(error);
                    ControlFlow::Break(())
                }
            },
        )?;
        damage.map_or(Ok(()), Err)
    }
}

fn as_slice(bound: &Bound<Bytes>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key),
        Bound::Excluded(key) => Bound::Excluded(key),
        Bound::Unbounded => Bound::Unbounded,
    }
}

/// Changes of one request or batch over what was there before.
pub(super) struct Layer<'a> {
    base: &'a dyn Space,
    changes: BTreeMap<Bytes, Option<Record>>,
}

impl<'a> Layer<'a> {
    pub(super) fn new(base: &'a dyn Space) -> Self {
        Self {
            base,
            changes: BTreeMap::new(),
        }
    }

    /// What was there before.
    pub(super) fn base(&self) -> &'a dyn Space {
        self.base
    }

    pub(super) fn is_changed(&self) -> bool {
        !self.changes.is_empty()
    }

    pub(super) fn put(&mut self, key: Bytes, record: Record) {
        self.changes.insert(key, Some(record));
    }

    pub(super) fn delete(&mut self, key: Bytes) {
        self.changes.insert(key, None);
    }

    /// Takes over what a layer on top of this one changed.
    pub(super) fn absorb(&mut self, changes: BTreeMap<Bytes, Option<Record>>) {
        self.changes.extend(changes);
    }

    pub(super) fn into_changes(self) -> BTreeMap<Bytes, Option<Record>> {
        self.changes
    }
}

/// What to write to the state store for `changes` that lead to `revision`.
pub(super) fn store_ops(changes: BTreeMap<Bytes, Option<Record>>, revision: i64) -> Vec<StateOp> {
    if changes.is_empty() {
        return Vec::new();
    }
    let revision = StateOp::Put {
        key: Bytes::from_static(REVISION_KEY),
        value: encode_revision(revision),
    };
    let changes = changes.into_iter().map(|(key, record)| match record {
        Some(record) => StateOp::Put {
            key: store_key(&key),
            value: record.encode(),
        },
        None => StateOp::Delete {
            key: store_key(&key),
        },
    });
    std::iter::once(revision).chain(changes).collect()
}

impl Space for Layer<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Record>, StateError> {
        match self.changes.get(key) {
            Some(change) => Ok(change.clone()),
            None => self.base.get(key),
        }
    }

    fn scan(&self, span: &Span, visit: Visit<'_>) -> Result<(), StateError> {
        if span.is_empty() {
            return Ok(());
        }
        let mut changes = self.changes.range::<[u8], _>(span.bounds()).peekable();
        let mut ended = false;
        self.base.scan(span, &mut |key, record| {
            while let Some((changed, change)) = changes.next_if(|(changed, _)| **changed < key) {
                if emit(changed, change.as_ref(), visit).is_break() {
                    ended = true;
                    return ControlFlow::Break(());
                }
            }
            let flow = match changes.next_if(|(changed, _)| **changed == key) {
                Some((_, change)) => emit(key, change.as_ref(), visit),
                None => visit(key, record),
            };
            ended = flow.is_break();
            flow
        })?;
        for (changed, change) in changes {
            if ended || emit(changed, change.as_ref(), visit).is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn emit(key: &[u8], change: Option<&Record>, visit: Visit<'_>) -> ControlFlow<()> {
    change.map_or(ControlFlow::Continue(()), |record| {
        visit(key, record.borrowed())
    })
}
