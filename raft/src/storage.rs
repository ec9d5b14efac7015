//! The contract of a durable log for many groups. `docs/storage-contract.md` numbers every
//! obligation; `raftwerk-testkit` tests each.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::entry::{Entry, HardState, SnapshotMeta};
use crate::types::{GroupId, LogId, LogIndex, Term};

/// A point in the order of submitted batches. A larger ticket was taken later; a store's first
/// ticket is 1 and zero stands for "nothing yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Whether a batch wants a sync of its own accord.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Made durable as soon as the disk is free.
    #[default]
    Sync,
    /// Rides with the next sync, or with one that somebody waits for: commit indexes,
    /// compaction marks.
    Lazy,
}

/// Steps of any number of groups that become durable together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    /// One item per group; a group stands in it at most once.
    pub groups: Vec<GroupWrite>,
    /// How eagerly to sync.
    pub durability: Durability,
}

/// One group's step. Its parts take effect in the order of the fields: destroy, reset_to,
/// snapshot, append (a conflicting suffix goes first), hard_state, compact_to, meta.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupWrite {
    /// Whose step.
    pub group: GroupId,
    /// Forgets the group whole; what follows in this step begins it anew.
    pub destroy: bool,
    /// A snapshot installed from a peer: the log becomes empty just behind it.
    pub reset_to: Option<SnapshotMeta>,
    /// A snapshot made here: recorded, the log is not touched.
    pub snapshot: Option<SnapshotMeta>,
    /// Contiguous entries. They begin at most one behind the last; what the log holds from the
    /// first of them on is truncated.
    pub append: Vec<Entry>,
    /// Replaces the hard state.
    pub hard_state: Option<HardState>,
    /// Entries up to and including this index may be dropped. Never beyond the newest snapshot
    /// recorded (in this batch or before).
    pub compact_to: Option<LogIndex>,
    /// Small named values of the group; `None` removes one. At most [`META_BYTES_MAX`] in all.
    pub meta: Vec<(Bytes, Option<Bytes>)>,
}

/// What all named values of one group may take, names included, in bytes.
pub const META_BYTES_MAX: usize = 64 * 1024;

/// What survived of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupState {
    /// The last hard state submitted.
    pub hard_state: HardState,
    /// The newest snapshot recorded.
    pub snapshot: Option<SnapshotMeta>,
    /// The first index still in the log; one behind the last when the log is empty.
    pub first: LogIndex,
    /// The last entry, or what stands just before `first`.
    pub last: LogId,
    /// The named values, sorted by name.
    pub meta: Vec<(Bytes, Bytes)>,
    /// What the disk lost.
    pub health: LogHealth,
}

/// What the disk lost of one group. Empty and `false` when all is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogHealth {
    /// Entries that were acknowledged and cannot be read: present, contents unknown.
    /// Sorted, not overlapping. The term of the last one of a range is known, from what follows
    /// it. Those before it have terms from the one before the range up to that: where it changes
    /// in between, [`LogReader::term`] guesses, and the core matches nothing by it that is not
    /// applied.
    pub faulty: Vec<Range<LogIndex>>,
    /// A hard state may have been lost: this member must not vote under its old identity.
    pub vote_unknown: bool,
}

impl LogHealth {
    /// Nothing was lost.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.faulty.is_empty() && !self.vote_unknown
    }
}

/// A group as [`Storage::open_group`] gives it.
pub struct OpenGroup {
    /// What survived.
    pub state: GroupState,
    /// Reads the group's log, and sees every later submit at once.
    pub log: Arc<dyn LogReader>,
}

impl fmt::Debug for OpenGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenGroup")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Called with the new durable watermark, or once with the error that ended it.
pub type DurableNotify = Box<dyn Fn(Result<Ticket, Poisoned>) + Send + Sync>;

/// A durable home for the logs of many groups. Object-safe: an embedder holds `Arc<dyn Storage>`.
pub trait Storage: Send + Sync + 'static {
    /// Every group that has a hard state, a snapshot, entries or named values, in order of id.
    ///
    /// # Errors
    /// [`StorageError`] when the store cannot be read.
    fn groups(&self) -> Result<Vec<GroupId>, StorageError>;

    /// A group's state and its log. A group never written is empty: no error.
    ///
    /// # Errors
    /// [`StorageError`] when what is stored cannot be read.
    fn open_group(&self, group: GroupId) -> Result<OpenGroup, StorageError>;

    /// Takes an atomic batch and never blocks on the disk. On return it is readable, not durable.
    ///
    /// # Errors
    /// [`SubmitError`]; the batch then had no effect, and `Full` and `TooLarge` hand it back.
    fn submit(&self, batch: WriteBatch) -> Result<Ticket, SubmitError>;

    /// The watermark: every batch up to this ticket is durable.
    ///
    /// # Errors
    /// [`Poisoned`] for ever after the first failed write or sync.
    fn durable(&self) -> Result<Ticket, Poisoned>;

    /// Calls `notify` with each new watermark (coalesced: at most once a sync), under no lock,
    /// until the subscription is dropped. A poisoned store calls it once with the error.
    fn on_durable(&self, notify: DurableNotify) -> Subscription;

    /// Waits until `ticket` is durable, lazy batches included, and may take the writer's role.
    ///
    /// # Errors
    /// [`Poisoned`] when it never will be: nothing is known then of what was not yet durable.
    fn wait(&self, ticket: Ticket) -> Result<(), Poisoned>;

    /// How loaded the store is.
    fn pressure(&self) -> Pressure;

    /// The most bytes of payload that an entry may have for a batch of it and a hard state alone
    /// never to be [`SubmitError::TooLarge`]; `None` where the store knows no bound.
    fn entry_bytes_max(&self) -> Option<u64> {
        None
    }

    /// Re-reads up to `budget` bytes of what is stored and checks them, going on where the last
    /// call ended.
    ///
    /// # Errors
    /// [`StorageError`] when reading fails; what is read and wrong stands in the report.
    fn scrub(&self, budget: ByteBudget) -> Result<ScrubReport, StorageError>;
}

/// Reads one group's log. What was submitted is seen at once, before it is durable.
pub trait LogReader: Send + Sync {
    /// The first index in the log; one behind the last when it is empty.
    fn first(&self) -> LogIndex;

    /// The last entry, or what stands just before `first` when the log is empty.
    fn last(&self) -> LogId;

    /// The term at `index`, from memory. Answers for `first - 1` too.
    ///
    /// # Errors
    /// [`LogError::Compacted`] before that, [`LogError::Unavailable`] beyond the last.
    fn term(&self, index: LogIndex) -> Result<Term, LogError>;

    /// Appends to `out` the entries of `range` that are in memory, in order, up to `max_bytes`
    /// of payload but at least one. Never touches the disk.
    ///
    /// # Errors
    /// [`LogError`]; [`LogError::Cold`] when the first of them is not in memory.
    fn entries(
        &self,
        range: Range<LogIndex>,
        max_bytes: u64,
        out: &mut Vec<Entry>,
    ) -> Result<(), LogError>;

    /// Like [`LogReader::entries`], and goes to the disk where it must: not for the run loop.
    ///
    /// # Errors
    /// [`LogError`], but never [`LogError::Cold`].
    fn read(&self, range: Range<LogIndex>, max_bytes: u64) -> Result<Vec<Entry>, LogError>;
}

impl<L: LogReader + ?Sized> LogReader for Arc<L> {
    fn first(&self) -> LogIndex {
        (**self).first()
    }

    fn last(&self) -> LogId {
        (**self).last()
    }

    fn term(&self, index: LogIndex) -> Result<Term, LogError> {
        (**self).term(index)
    }

    fn entries(
        &self,
        range: Range<LogIndex>,
        max_bytes: u64,
        out: &mut Vec<Entry>,
    ) -> Result<(), LogError> {
        (**self).entries(range, max_bytes, out)
    }

    fn read(&self, range: Range<LogIndex>, max_bytes: u64) -> Result<Vec<Entry>, LogError> {
        (**self).read(range, max_bytes)
    }
}

/// Ends its [`Storage::on_durable`] when dropped: no call begins after that.
pub struct Subscription {
    end: Option<Box<dyn FnOnce() + Send>>,
}

impl Subscription {
    /// A subscription that runs `end` when dropped.
    #[must_use]
    pub fn new(end: impl FnOnce() + Send + 'static) -> Self {
        Self {
            end: Some(Box::new(end)),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end();
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription")
    }
}

/// How loaded a store is, for back-pressure and for the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Bytes taken and not yet durable.
    pub queued_bytes: u64,
    /// How many of those the store takes before it answers [`SubmitError::Full`].
    pub queued_bytes_max: u64,
    /// Bytes that the disk still has; `None` where the store does not know.
    pub disk_free_bytes: Option<u64>,
    /// How long the running sync has been going on, in milliseconds; zero when none runs.
    pub sync_age_ms: u64,
    /// The running sync has exceeded the limit set in the options.
    pub stalled: bool,
    /// Groups whose few live entries keep old segments from being reused.
    pub pinning_groups: Vec<GroupId>,
}

/// How many bytes a background step may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteBudget(pub u64);

/// What [`Storage::scrub`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Bytes read and checked.
    pub checked_bytes: u64,
    /// The whole store has been read since the scrub began.
    pub completed: bool,
    /// What was wrong, one line each.
    pub damage: Vec<String>,
}

/// The store failed to write or sync and acknowledges nothing any more. Restart the process and
/// let recovery find out what the disk holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("log store is poisoned by a failed write: {cause}; check the disk, then restart")]
pub struct Poisoned {
    /// The first failure, in words.
    pub cause: Arc<str>,
}

/// Why [`Storage::submit`] took nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The queue or the prepared disk space is used up: wait for the watermark, then retry.
    #[error("log store is full for now; retry once the durable watermark moves")]
    Full(WriteBatch),
    /// The batch exceeds what the store can ever take at once: split it.
    #[error("batch of {bytes} bytes exceeds the store's limit of {max}; split it")]
    TooLarge {
        /// The batch, untouched.
        batch: WriteBatch,
        /// Its size in bytes.
        bytes: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// The batch contradicts the group's log: a gap, a compaction beyond the snapshot.
    #[error("invalid write to group {group}: {reason}")]
    Invalid {
        /// The group.
        group: GroupId,
        /// What is wrong.
        reason: String,
    },
    /// The store failed before.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
}

/// Why a store cannot be opened or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system refused.
    #[error("{operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Another process holds the folder.
    #[error("{path} is in use by another process")]
    Locked {
        /// The folder.
        path: String,
    },
    /// The folder belongs to another backend, version or store: open it with that one.
    #[error("{path} holds {found}, not {expected}")]
    WrongStore {
        /// The folder.
        path: String,
        /// What the folder says it is.
        found: String,
        /// What was to be opened.
        expected: String,
    },
    /// What is stored is damaged where it cannot be confined to single groups.
    #[error("{path} is damaged at byte {offset}: {reason}")]
    Corrupt {
        /// The file.
        path: String,
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The options make no sense.
    #[error("invalid option {name}: {reason}")]
    Option {
        /// Which.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// The store failed before.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
}

/// Why entries or a term cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Dropped by compaction: send a snapshot.
    #[error("index is compacted; the log begins at {first}")]
    Compacted {
        /// The first index still there.
        first: LogIndex,
    },
    /// Beyond the last entry.
    #[error("index is beyond the last entry {last}")]
    Unavailable {
        /// The last index.
        last: LogIndex,
    },
    /// Not in memory: ask [`LogReader::read`] off the run loop.
    #[error("entries are not in memory")]
    Cold,
    /// Acknowledged once and lost by the disk: only a peer can give it back.
    #[error("entries {} to {} are damaged on disk", range.start, range.end.prev())]
    Faulty {
        /// The damaged range.
        range: Range<LogIndex>,
    },
    /// Reading failed.
    #[error("cannot read the log: {reason}")]
    Io {
        /// Why.
        reason: Arc<str>,
    },
}
