//! One state store under test, through its lives.

use std::sync::Arc;

use bytes::Bytes;
use raftwerk_raft::{LogId, LogIndex, StateOp, StateStore, Term};

use super::home::{StateFactory, StateHome};
use super::model::StateModel;
use crate::lives::kept;
use crate::log_suite::Ability;
use crate::skipped::skip;

pub(super) struct Session {
    home: Box<dyn StateHome>,
    store: Option<Arc<dyn StateStore>>,
    /// After each batch of this life; the first is what it began with.
    history: Vec<StateModel>,
    /// How many batches of this life are persisted.
    persisted: usize,
}

impl Session {
    pub(super) fn begin(factory: &dyn StateFactory) -> Self {
        let mut home = factory.create();
        let store = home.open().expect("a new store opens");
        let history = vec![StateModel::default()];
        Self {
            home,
            store: Some(store),
            history,
            persisted: 0,
        }
    }

    pub(super) fn store(&self) -> &Arc<dyn StateStore> {
        self.store.as_ref().expect("the store is open")
    }

    pub(super) fn model(&self) -> &StateModel {
        self.history.last().expect("a history is never empty")
    }

    /// Writes a batch as the next index of term 1.
    pub(super) fn write(&mut self, ops: &[StateOp]) {
        let applied = id(self.model().applied.index.0 + 1);
        let mut next = self.model().clone();
        next.write(ops, applied);
        self.store().write(ops, applied).expect("write");
        self.history.push(next);
    }

    pub(super) fn persist(&mut self) {
        let durable = self.store().persist().expect("persist");
        assert_eq!(
            durable,
            self.model().applied,
            "persist covers everything written"
        );
        assert_eq!(
            self.store().durable_applied().expect("durable_applied"),
            durable
        );
        self.persisted = self.history.len() - 1;
    }

    pub(super) fn verify(&self) {
        self.compare()
            .unwrap_or_else(|difference| panic!("{difference}"));
    }

    pub(super) fn compare(&self) -> Result<(), String> {
        self.model().compare(self.store().as_ref())
    }

    /// The store was replaced by what `model` says, durably.
    pub(super) fn restored(&mut self, model: StateModel) {
        self.history = vec![model];
        self.persisted = 0;
        self.verify();
    }

    /// Everything becomes durable, and the next life holds just that.
    pub(super) fn reopen(&mut self) {
        self.verify();
        self.persist();
        self.kill();
        self.verify();
    }

    pub(super) fn kill(&mut self) {
        self.home.kill();
        self.begin_next_life()
            .unwrap_or_else(|reason| panic!("after a kill: {reason}"));
    }

    /// False when the home cannot lose power; says so.
    #[must_use]
    pub(super) fn power_loss(&mut self, seed: u64) -> bool {
        match self.home.power_loss(seed) {
            Ability::Done => {
                self.begin_next_life()
                    .unwrap_or_else(|reason| panic!("after a power cut ({seed}): {reason}"));
                true
            }
            Ability::Unsupported(reason) => skip("power loss", reason),
        }
    }

    pub(super) fn power_loss_or_kill(&mut self, seed: u64) {
        if !self.power_loss(seed) {
            self.kill();
        }
    }

    #[must_use]
    pub(super) fn fail_next_sync(&mut self) -> bool {
        match self.home.fail_next_sync() {
            Ability::Done => true,
            Ability::Unsupported(reason) => skip("a failing sync", reason),
        }
    }

    /// Opens, and finds out after which batch the store stands: not before the last persisted.
    fn begin_next_life(&mut self) -> Result<(), String> {
        self.store = None;
        let store = self
            .home
            .open()
            .map_err(|error| format!("the store does not open: {error}"))?;
        let model = kept(&self.history, self.persisted, |model| {
            model.compare(&*store)
        })?;
        let durable = store.durable_applied().map_err(|error| error.to_string())?;
        if durable > model.applied {
            return Err(format!(
                "durable is {durable}, the contents are of {}",
                model.applied
            ));
        }
        self.history = vec![model];
        self.persisted = 0;
        self.store = Some(store);
        Ok(())
    }
}

pub(super) fn id(index: u64) -> LogId {
    LogId::new(Term(1), LogIndex(index))
}

fn bytes(from: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(from.as_ref())
}

pub(super) fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> StateOp {
    StateOp::Put {
        key: bytes(key),
        value: bytes(value),
    }
}

pub(super) fn delete(key: impl AsRef<[u8]>) -> StateOp {
    StateOp::Delete { key: bytes(key) }
}

pub(super) fn delete_range(start: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> StateOp {
    StateOp::DeleteRange {
        start: bytes(start),
        end: bytes(end),
    }
}

/// Puts of `keys` numbered keys, each saying `round`.
pub(super) fn numbered(keys: std::ops::Range<u64>, round: u64) -> Vec<StateOp> {
    keys.map(|key| {
        put(
            format!("key-{key:05}"),
            format!("value {key} of round {round}"),
        )
    })
    .collect()
}
