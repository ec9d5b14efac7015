//! One store under test, through its lives.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raftwerk_raft::{
    Durability, Entry, GroupId, GroupWrite, LogId, LogIndex, LogReader, SnapshotMeta, Storage,
    SubmitError, Term, Ticket, WriteBatch,
};

use super::home::{Ability, HeldSyncs, LogFactory, LogHome};
use super::model::LogModel;
use crate::lives::kept;
pub(super) use crate::skipped::skip;

/// How long a full store may take until its watermark moves.
const ROOM_MAX: Duration = Duration::from_secs(10);

/// Submits as the contract asks of a caller (C7): a store that is full is asked again when its
/// watermark moves, and not in between.
fn submit_when_there_is_room(
    store: &dyn Storage,
    batch: WriteBatch,
) -> Result<Ticket, SubmitError> {
    let mut batch = match store.submit(batch) {
        Err(SubmitError::Full(batch)) => batch,
        taken => return taken,
    };
    let (moved, movement) = std::sync::mpsc::sync_channel(1);
    let _subscription = store.on_durable(Box::new(move |_| {
        let _ = moved.try_send(());
    }));
    loop {
        batch = match store.submit(batch) {
            Err(SubmitError::Full(batch)) => batch,
            taken => return taken,
        };
        if movement.recv_timeout(ROOM_MAX).is_err() {
            return Err(SubmitError::Full(batch));
        }
    }
}

/// The store, its home, and what it should hold.
pub(super) struct Session {
    home: Box<dyn LogHome>,
    store: Option<Arc<dyn Storage>>,
    /// After each batch submitted in this life; the first is what the life began with.
    history: Vec<LogModel>,
    tickets: Vec<Ticket>,
    /// How many batches of this life were seen to be durable.
    acked: usize,
}

impl Session {
    pub(super) fn begin(factory: &dyn LogFactory) -> Self {
        let mut home = factory.create();
        let store = home.open().expect("a new store opens");
        let history = vec![LogModel::default()];
        Self {
            home,
            store: Some(store),
            history,
            tickets: Vec::new(),
            acked: 0,
        }
    }

    pub(super) fn store(&self) -> &Arc<dyn Storage> {
        self.store.as_ref().expect("the store is open")
    }

    /// A second store on the same home.
    pub(super) fn open_again(&mut self) -> Result<Arc<dyn Storage>, raftwerk_raft::StorageError> {
        self.home.open()
    }

    pub(super) fn model(&self) -> &LogModel {
        self.history.last().expect("a history is never empty")
    }

    pub(super) fn log(&self, group: GroupId) -> Arc<dyn LogReader> {
        self.store().open_group(group).expect("open_group").log
    }

    /// Submits a batch that the model takes, and takes it there too.
    pub(super) fn submit(&mut self, batch: WriteBatch) -> Ticket {
        self.try_submit(batch)
            .unwrap_or_else(|reason| panic!("{reason}"))
    }

    pub(super) fn try_submit(&mut self, batch: WriteBatch) -> Result<Ticket, String> {
        let next = self
            .model()
            .after(&batch)
            .expect("the suite makes valid batches");
        let ticket = submit_when_there_is_room(self.store().as_ref(), batch)
            .map_err(|error| format!("a valid batch was refused: {error}"))?;
        let before = self.tickets.last().copied().unwrap_or_default();
        if ticket <= before {
            return Err(format!("{ticket:?} was given after {before:?}"));
        }
        self.history.push(next);
        self.tickets.push(ticket);
        Ok(ticket)
    }

    /// What others submitted meanwhile and saw durable.
    pub(super) fn adopt(&mut self, batch: &WriteBatch) {
        let model = self
            .model()
            .after(batch)
            .expect("the suite makes valid batches");
        self.history = vec![model];
        self.tickets.clear();
        self.acked = 0;
    }

    pub(super) fn write(&mut self, write: GroupWrite) -> Ticket {
        self.submit(batch([write]))
    }

    /// Submits a batch that the model refuses: so must the store, by name, without effect.
    pub(super) fn refused(&mut self, batch: WriteBatch) {
        let (culprit, reason) = self.model().after(&batch).expect_err("an invalid batch");
        match self.store().submit(batch.clone()) {
            Err(SubmitError::Invalid { group, .. }) => assert_eq!(group, culprit, "{reason}"),
            other => panic!("{reason}: submit({batch:?}) answered {other:?}"),
        }
        self.verify();
    }

    pub(super) fn wait(&mut self) {
        if let Some(ticket) = self.tickets.last() {
            self.store()
                .wait(*ticket)
                .expect("the batch becomes durable");
            let durable = self.store().durable().expect("not poisoned");
            assert!(
                durable >= *ticket,
                "waited for {ticket:?}, durable is {durable:?}"
            );
        }
        self.acked = self.tickets.len();
    }

    pub(super) fn verify(&self) {
        self.compare()
            .unwrap_or_else(|difference| panic!("{difference}"));
    }

    pub(super) fn compare(&self) -> Result<(), String> {
        self.model().compare(self.store().as_ref())
    }

    /// Everything submitted becomes durable, the store is closed and opened again, and must hold
    /// just that.
    pub(super) fn reopen(&mut self) {
        self.verify();
        self.wait();
        self.kill();
        self.verify();
    }

    pub(super) fn kill(&mut self) {
        self.try_kill().unwrap_or_else(|reason| panic!("{reason}"));
    }

    pub(super) fn try_kill(&mut self) -> Result<(), String> {
        self.home.kill();
        self.begin_next_life()
            .map_err(|reason| format!("after a kill: {reason}"))
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

    /// Power loss, or a kill where the home cannot lose power.
    pub(super) fn try_power_loss(&mut self, seed: u64) -> Result<(), String> {
        match self.home.power_loss(seed) {
            Ability::Done => self
                .begin_next_life()
                .map_err(|reason| format!("after a power cut ({seed}): {reason}")),
            Ability::Unsupported(reason) => {
                skip("power loss", reason);
                self.try_kill()
            }
        }
    }

    /// Opens, and finds out which of the batches submitted are there: all acknowledged ones, and
    /// of the later ones the first few, whole.
    fn begin_next_life(&mut self) -> Result<(), String> {
        self.store = None;
        let store = self
            .home
            .open()
            .map_err(|error| format!("the store does not open: {error}"))?;
        let model = kept(&self.history, self.acked, |model| model.compare(&*store))?;
        self.history = vec![model];
        self.tickets.clear();
        self.acked = 0;
        self.store = Some(store);
        Ok(())
    }

    pub(super) fn hold_syncs(&mut self) -> Option<HeldSyncs> {
        let held = self.home.hold_syncs();
        held.map_err(|reason| skip("held syncs", reason)).ok()
    }

    #[must_use]
    pub(super) fn fail_next_sync(&mut self) -> bool {
        match self.home.fail_next_sync() {
            Ability::Done => true,
            Ability::Unsupported(reason) => skip("a failing sync", reason),
        }
    }
}

pub(super) fn batch(groups: impl IntoIterator<Item = GroupWrite>) -> WriteBatch {
    WriteBatch {
        groups: groups.into_iter().collect(),
        durability: Durability::Sync,
    }
}

pub(super) fn step(group: u64) -> GroupWrite {
    GroupWrite {
        group: GroupId(group),
        ..GroupWrite::default()
    }
}

pub(super) fn id(term: u64, index: u64) -> LogId {
    LogId::new(Term(term), LogIndex(index))
}

/// An entry whose payload tells which one it is.
pub(super) fn entry(term: u64, index: u64) -> Entry {
    Entry::normal(
        id(term, index),
        Bytes::from(format!("entry {index} of term {term}")),
    )
}

/// Entries `from..=to` of one term.
pub(super) fn entries(term: u64, from: u64, to: u64) -> Vec<Entry> {
    (from..=to).map(|index| entry(term, index)).collect()
}

pub(super) fn append(group: u64, term: u64, from: u64, to: u64) -> GroupWrite {
    GroupWrite {
        append: entries(term, from, to),
        ..step(group)
    }
}

pub(super) fn snapshot(term: u64, index: u64) -> SnapshotMeta {
    SnapshotMeta {
        last: id(term, index),
        ..SnapshotMeta::default()
    }
}
