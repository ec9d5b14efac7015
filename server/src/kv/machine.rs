//! The replicated state machine: committed commands into the state store.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::{Bytes, BytesMut};
use raftwerk_raft::{
    Entry, EntryKind, Halt, LogId, Response, SnapshotMeta, SnapshotReader, SnapshotSource,
    StateError, StateMachine, StateStore,
};

use super::command::{Command, encode_outcome};
use super::error::{KvError, Refusal};
use super::reader::Reader;
use super::space::{Layer, Stored, store_ops};
use super::write::{after, delete, put, txn};

/// The key space of one group over a [`StateStore`]. One call of `apply` is one write to the store,
/// atomic with the applied index: an entry that is applied already is passed over.
pub struct Machine {
    store: Arc<dyn StateStore>,
    last: LogId,
    durable: LogId,
    revision: i64,
    shared_revision: Arc<AtomicI64>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine")
            .field("last", &self.last)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

impl Machine {
    /// The machine whose state `store` holds.
    ///
    /// # Errors
    /// [`StateError`] when the store cannot be read.
    pub fn new(store: Arc<dyn StateStore>) -> Result<Self, StateError> {
        let shared_revision = Arc::new(AtomicI64::new(0));
        let mut machine = Self {
            store,
            last: LogId::ZERO,
            durable: LogId::ZERO,
            revision: 0,
            shared_revision,
        };
        machine.reload()?;
        Ok(machine)
    }

    /// Reads the same state, from any thread.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.store), Arc::clone(&self.shared_revision))
    }

    fn reload(&mut self) -> Result<(), StateError> {
        let view = self.store.view()?;
        self.last = view.applied();
        self.revision = Stored(&*view).revision()?;
        self.durable = self.store.durable_applied()?;
        self.shared_revision.store(self.revision, Ordering::Release);
        Ok(())
    }

    fn try_apply(&mut self, entries: &[Entry], out: &mut Vec<Response>) -> Result<(), Failure> {
        let view = self.store.view()?;
        let stored = Stored(&*view);
        let mut batch = Layer::new(&stored);
        let (mut applied, mut revision) = (self.last, self.revision);
        let mut answers = BytesMut::new();
        for entry in entries {
            if entry.id.index <= applied.index {
                out.push(Bytes::new());
                continue;
            }
            if entry.id.index != applied.index.next() {
                return Err(Failure::Gap {
                    applied,
                    next: entry.id,
                });
            }
            if entry.kind == EntryKind::Normal && !entry.data.is_empty() {
                let command = Command::decode(&entry.data).map_err(|error| Failure::Unknown {
                    at: entry.id,
                    cause: error.to_string(),
                })?;
                revision = execute(&mut batch, &command, revision, &mut answers)?;
            }
            out.push(answers.split().freeze());
            applied = entry.id;
        }
        let ops = store_ops(batch.into_changes(), revision);
        // The view goes first: a store cannot reuse what a view still sees.
        drop(view);
        if applied != self.last {
            self.store.write(&ops, applied)?;
        }
        self.last = applied;
        self.revision = revision;
        self.shared_revision.store(revision, Ordering::Release);
        Ok(())
    }
}

/// Carries out one command, appends its outcome to `answers`, and returns the revision after it.
fn execute(
    batch: &mut Layer<'_>,
    command: &Command,
    begin: i64,
    answers: &mut BytesMut,
) -> Result<i64, StateError> {
    // A layer of its own: what is refused halfway leaves nothing.
    let mut layer = Layer::new(&*batch);
    let accepted = match command {
        Command::Put(request) => answer(put(&mut layer, request, begin), answers)?,
        Command::Delete(request) => answer(delete(&mut layer, request, begin), answers)?,
        Command::Txn(request) => answer(txn(&mut layer, request, begin), answers)?,
    };
    if !accepted {
        return Ok(begin);
    }
    let revision = after(&layer, begin);
    let changes = layer.into_changes();
    batch.absorb(changes);
    Ok(revision)
}

fn answer(
    result: Result<impl super::command::Answer, KvError>,
    answers: &mut BytesMut,
) -> Result<bool, StateError> {
    let outcome: Result<_, Refusal> = match result {
        Ok(response) => Ok(response),
        Err(KvError::Refused(refusal)) => Err(refusal),
        Err(KvError::Store(error)) => return Err(error),
    };
    encode_outcome(outcome.as_ref().map_err(|refusal| *refusal), answers);
    Ok(outcome.is_ok())
}

/// Why the machine cannot go on.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("entry {next} does not follow {applied}, which was applied last")]
    Gap { applied: LogId, next: LogId },
    #[error("entry {at}: {cause}; a newer version wrote it, start that one")]
    Unknown { at: LogId, cause: String },
    #[error("{0}; check the disk, then restart")]
    Store(#[from] StateError),
}

impl StateMachine for Machine {
    fn applied(&self) -> LogId {
        self.durable
    }

    fn apply(&mut self, entries: &[Entry], out: &mut Vec<Response>) -> Result<(), Halt> {
        self.try_apply(entries, out).map_err(|failure| Halt {
            cause: failure.to_string(),
        })
    }

    fn snapshot(&self) -> Result<Box<dyn SnapshotSource>, StateError> {
        self.store.checkpoint()
    }

    fn restore(
        &mut self,
        meta: &SnapshotMeta,
        source: &mut dyn SnapshotReader,
    ) -> Result<(), StateError> {
        let restored = self.store.restore(source)?;
        self.reload()?;
        if restored != meta.last {
            return Err(StateError::Corrupt {
                reason: format!("snapshot of {} holds the state of {restored}", meta.last),
            });
        }
        Ok(())
    }

    fn persist(&mut self) -> Result<LogId, StateError> {
        self.durable = self.store.persist()?;
        Ok(self.durable)
    }
}
