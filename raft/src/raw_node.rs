//! The public face of the core.

use bytes::Bytes;

use crate::config::Config;
use crate::entry::{ConfChange, ConfState, HardState, SnapshotMeta};
use crate::error::{
    ApplyConfChangeError, ConfigError, Halted, ProposeError, ReadIndexError, StepError,
};
use crate::message::Message;
use crate::observer::{Event, NoObserver, Observer};
use crate::ready::{
    ApplyAck, LogReadId, LogReadResult, PersistAck, Proposed, Ready, SnapshotStatus,
};
use crate::storage::{LogHealth, LogReader};
use crate::types::{LogId, LogIndex, NodeId, Role, Term};

/// What a member is started from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restart {
    /// The last hard state that was persisted; the default for a new member.
    pub hard_state: HardState,
    /// The configuration in force at `applied`; empty for a member that waits to be added.
    pub conf_state: ConfState,
    /// What the state machine has applied durably.
    pub applied: LogIndex,
    /// The newest snapshot that may be sent to others.
    pub snapshot: Option<SnapshotMeta>,
    /// What the disk lost.
    pub health: LogHealth,
}

/// A copy of what a member knows, for operators and tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub id: NodeId,
    /// What it does.
    pub role: Role,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// Its term, vote and commit index, persisted or not.
    pub hard_state: HardState,
    /// The last entry whose application was acknowledged.
    pub applied: LogIndex,
    /// The first index of the log.
    pub first: LogIndex,
    /// The last entry, persisted or not.
    pub last: LogId,
    /// The configuration in force.
    pub conf_state: ConfState,
}

/// One member of one Raft group, doing no I/O. See the crate's documentation for the loop around it.
#[derive(Debug)]
pub struct RawNode<L: LogReader, O: Observer = NoObserver> {
    log: L,
    observer: O,
    halted: Option<Halted>,
    status: Status,
}

impl<L: LogReader> RawNode<L> {
    /// A member as `restart` says, reading its log through `log`.
    ///
    /// # Errors
    /// [`ConfigError`] when the options or what is stored contradict themselves.
    pub fn new(config: Config, restart: Restart, log: L) -> Result<Self, ConfigError> {
        Self::with_observer(config, restart, log, NoObserver)
    }
}

impl<L: LogReader, O: Observer> RawNode<L, O> {
    /// Like [`RawNode::new`], and tells `observer` what happens.
    ///
    /// # Errors
    /// [`ConfigError`] when the options or what is stored contradict themselves.
    pub fn with_observer(
        config: Config,
        restart: Restart,
        log: L,
        observer: O,
    ) -> Result<Self, ConfigError> {
        let status = Status {
            id: config.id,
            hard_state: restart.hard_state,
            applied: restart.applied,
            first: log.first(),
            last: log.last(),
            conf_state: restart.conf_state,
            ..Status::default()
        };
        Ok(Self {
            log,
            observer,
            halted: None,
            status,
        })
    }

    /// One unit of time has passed.
    pub fn tick(&mut self) {}

    /// Takes a peer's message, or one of this member's own from [`crate::Persist::messages`].
    ///
    /// # Errors
    /// [`StepError`] when the message was not taken.
    pub fn step(&mut self, _message: Message) -> Result<(), StepError> {
        self.check()?;
        Ok(())
    }

    /// Proposes one normal entry.
    ///
    /// # Errors
    /// [`ProposeError`] when it was not taken.
    pub fn propose(&mut self, data: Bytes) -> Result<Proposed, ProposeError> {
        self.propose_batch(vec![data])
    }

    /// Proposes several normal entries that stand in the log one after the other.
    ///
    /// # Errors
    /// [`ProposeError`] when none of them was taken.
    pub fn propose_batch(&mut self, _batch: Vec<Bytes>) -> Result<Proposed, ProposeError> {
        self.check()?;
        Err(ProposeError::NoLeader)
    }

    /// Proposes a change of the configuration.
    ///
    /// # Errors
    /// [`ProposeError`] when it was not taken.
    pub fn propose_conf_change(&mut self, _change: ConfChange) -> Result<Proposed, ProposeError> {
        self.check()?;
        Err(ProposeError::NoLeader)
    }

    /// Switches to the configuration that a committed change makes; called once for each such
    /// entry of [`Ready::committed`], in order, before it is acknowledged as applied.
    ///
    /// # Errors
    /// [`ApplyConfChangeError`] when the change does not fit the configuration in force: nothing
    /// has changed then, on any member.
    pub fn apply_conf_change(
        &mut self,
        _change: &ConfChange,
    ) -> Result<ConfState, ApplyConfChangeError> {
        self.check()?;
        Ok(self.status.conf_state.clone())
    }

    /// Asks for an index at which a read of the state is linearizable; the answer is a
    /// [`crate::ReadState`] with the same `context`.
    ///
    /// # Errors
    /// [`ReadIndexError`] when there will be no answer.
    pub fn read_index(&mut self, _context: Bytes) -> Result<(), ReadIndexError> {
        self.check()?;
        Err(ReadIndexError::NoLeader)
    }

    /// Starts an election now.
    pub fn campaign(&mut self) {}

    /// Hands leadership to `to`; given up after one election timeout.
    pub fn transfer_leader(&mut self, _to: NodeId) {}

    /// Forgets who leads, so that this follower may vote before its timeout.
    pub fn forget_leader(&mut self) {}

    /// A [`crate::Persist`] is durable (asynchronous mode).
    pub fn persisted(&mut self, _ack: PersistAck) {}

    /// Entries of [`Ready::committed`] are applied (asynchronous mode).
    pub fn applied(&mut self, _ack: ApplyAck) {}

    /// The last `Ready` is persisted, sent and applied (synchronous mode).
    pub fn advance(&mut self) {}

    /// The answer to one of [`Ready::reads`].
    pub fn log_read(&mut self, _id: LogReadId, _result: LogReadResult) {}

    /// The newest snapshot that may be sent to others.
    pub fn snapshot_available(&mut self, _meta: SnapshotMeta) {}

    /// The last message to `peer` may be lost.
    pub fn report_unreachable(&mut self, _peer: NodeId) {}

    /// How sending a snapshot to `peer` ended.
    pub fn report_snapshot(&mut self, _peer: NodeId, _status: SnapshotStatus) {}

    /// The store failed: a leader steps down and the group halts on this member.
    pub fn storage_failed(&mut self, cause: String) {
        self.observer.event(&Event::Halted { cause: &cause });
        self.halted.get_or_insert(Halted { cause });
    }

    /// There is something to do.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        false
    }

    /// Everything there is to do since the last call; taking it accepts it.
    pub fn ready(&mut self) -> Ready {
        Ready::default()
    }

    /// A copy of what this member knows.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.clone()
    }

    /// Why the group has halted on this member, if it has.
    #[must_use]
    pub fn halted(&self) -> Option<&Halted> {
        self.halted.as_ref()
    }

    /// This member.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.status.id
    }

    /// Its term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.status.hard_state.term
    }

    /// What it does.
    #[must_use]
    pub fn role(&self) -> Role {
        self.status.role
    }

    /// Who leads, as far as it knows.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.status.leader
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> &L {
        &self.log
    }

    /// Its observer.
    pub fn observer_mut(&mut self) -> &mut O {
        &mut self.observer
    }

    fn check(&self) -> Result<(), Halted> {
        self.halted.clone().map_or(Ok(()), Err)
    }
}
