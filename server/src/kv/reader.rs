//! Reading the key space beside the machine that changes it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use raftwerk_raft::{StateError, StateStats, StateStore};

use super::error::{KvError, Refusal};
use super::range::{check_revision, range};
use super::record::Span;
use super::space::{Layer, Space, Stored};
use super::write::txn;
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse, TxnRequest, TxnResponse};

/// Reads what has been applied here. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    store: Arc<dyn StateStore>,
    revision: Arc<AtomicI64>,
}

/// The hash of the whole key space at one revision: equal on every member at that revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpaceHash {
    /// The hash.
    pub hash: u32,
    /// The revision it is of.
    pub revision: i64,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

impl Reader {
    pub(super) fn new(store: Arc<dyn StateStore>, revision: Arc<AtomicI64>) -> Self {
        Self { store, revision }
    }

    /// The revision of what has been applied here.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Reads keys.
    ///
    /// # Errors
    /// [`KvError::Refused`] for a revision other than the newest, [`KvError::Store`] when the store
    /// fails.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, KvError> {
        let view = self.store.view()?;
        let stored = Stored(&*view);
        let revision = stored.revision()?;
        check_revision(request.revision, revision)?;
        range(&stored, request, revision)
    }

    /// Carries out a transaction, whose form has been checked, without writing: one that is not
    /// [read only](super::is_read_only) leaves nothing and has to be proposed.
    ///
    /// # Errors
    /// As [`Reader::range`].
    pub fn txn(&self, request: &TxnRequest) -> Result<TxnResponse, KvError> {
        let view = self.store.view()?;
        let stored = Stored(&*view);
        let revision = stored.revision()?;
        txn(&mut Layer::new(&stored), request, revision)
    }

    /// Hashes every key with its record, as of `revision` or, for zero, the newest.
    ///
    /// # Errors
    /// As [`Reader::range`].
    pub fn hash(&self, revision: i64) -> Result<KeySpaceHash, KvError> {
        let view = self.store.view()?;
        let stored = Stored(&*view);
        let current = stored.revision()?;
        if revision < 0 {
            return Err(Refusal::Compacted.into());
        }
        check_revision(revision, current)?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&current.to_le_bytes());
        let all = Span::Range(Bytes::new(), None);
        stored.scan(&all, &mut |key, record| {
            let lengths = [key.len() as u64, record.value.len() as u64];
            let numbers = [
                record.create_revision,
                record.mod_revision,
                record.version,
                record.lease,
            ];
            lengths
                .iter()
                .for_each(|length| hasher.update(&length.to_le_bytes()));
            numbers
                .iter()
                .for_each(|number| hasher.update(&number.to_le_bytes()));
            hasher.update(key);
            hasher.update(record.value);
            ControlFlow::Continue(())
        })?;
        Ok(KeySpaceHash {
            hash: hasher.finalize(),
            revision: current,
        })
    }

    /// How large the store is.
    ///
    /// # Errors
    /// [`StateError`] when the engine refuses.
    pub fn stats(&self) -> Result<StateStats, StateError> {
        self.store.stats()
    }
}
