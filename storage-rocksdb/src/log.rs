//! The log.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use raftwerk_raft::{
    ByteBudget, DurableNotify, GroupId, OpenGroup, Poisoned, Pressure, ScrubReport, Storage,
    StorageError, SubmitError, Subscription, Ticket, WriteBatch,
};
use raftwerk_storage::folder::{Folder, Kind, io_error};
use raftwerk_storage::queue::TicketQueue;
use raftwerk_storage::vfs::{RealVfs, SyncSite};
use rocksdb::{DB, WriteOptions, properties};

use crate::engine::RocksEngine;
use crate::error;
use crate::manifest;
use crate::options::RocksLogOptions;
use crate::proof::Proof;
use crate::recover::{Found, recover};

/// What the folder's identity says.
pub const LOG_KIND: Kind = Kind {
    name: "log-rocksdb",
    format_version: 1,
};

/// Makes the names of RocksDB's folder and of the proof's file durable.
const SYNC_NEW_LOG: SyncSite = SyncSite("log-rocksdb: new files");
/// RocksDB's own folder.
const DB_DIR: &str = "db";

/// A log for many groups in one RocksDB.
pub struct RocksLog {
    queue: TicketQueue<RocksEngine>,
}

/// How far RocksDB holds writers back: its memory is full faster than the disk takes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stall {
    /// Writes wait until a table is on the disk.
    pub stopped: bool,
    /// Writes are slowed down to so many bytes a second; zero: they are not.
    pub bytes_per_second: u64,
    /// How often writing a table failed in the background. The next commit fails too.
    pub background_errors: u64,
}

impl RocksLog {
    /// Opens or makes a log.
    ///
    /// # Errors
    /// [`StorageError::WrongStore`] and [`StorageError::Locked`] when the folder is another's or
    /// in use; [`StorageError::Corrupt`] when something is missing that was durable, or damaged
    /// and nobody knows of which groups; [`StorageError::Option`]; [`StorageError::Io`] for the
    /// rest. Damage to known groups is no error: it stands in their health, entries as ranges,
    /// a group whose own records are damaged as one whose vote is not known.
    pub fn open(options: &RocksLogOptions) -> Result<Self, StorageError> {
        if options.memtables_max < 3 {
            return Err(StorageError::Option {
                name: "memtables_max",
                reason: "two are merged while a third takes writes".to_owned(),
            });
        }
        let folder = Folder::open(Arc::new(RealVfs), &options.path, LOG_KIND, options.mode)?;
        let path = folder.path().join(DB_DIR);
        let proof = Proof::open(&folder)?;
        manifest::check(&path)?;
        let db = DB::open(&options.engine(), &path).map_err(error::storage("open", &path))?;
        folder
            .vfs()
            .sync_dir(folder.path(), SYNC_NEW_LOG)
            .map_err(io_error("sync", folder.path()))?;
        let ends = db.latest_sequence_number();
        if ends < proof.found() {
            return Err(StorageError::Corrupt {
                path: path.display().to_string(),
                offset: 0,
                reason: format!(
                    "the log ends with change {ends} and was durable up to change {}: its \
                     write-ahead file is damaged or missing",
                    proof.found()
                ),
            });
        }
        let Found { images, writer } = recover(&db, &path)?;
        let mut sync = WriteOptions::default();
        sync.set_sync(true);
        let engine = RocksEngine {
            db,
            proof,
            writer: Mutex::new(writer),
            sync,
            scrubbed: Mutex::default(),
            folder,
        };
        let queue = TicketQueue::open(engine, images, options.queue.clone())?;
        Ok(Self { queue })
    }

    /// The folder it is in.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.queue.engine().folder
    }

    /// How far RocksDB holds writers back at the moment.
    #[must_use]
    pub fn stall(&self) -> Stall {
        let engine = self.queue.engine();
        Stall {
            stopped: engine.property(properties::IS_WRITE_STOPPED) > 0,
            bytes_per_second: engine.property(properties::ACTUAL_DELAYED_WRITE_RATE),
            background_errors: engine.property(properties::BACKGROUND_ERRORS),
        }
    }
}

impl fmt::Debug for RocksLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksLog")
            .field("folder", self.folder())
            .finish_non_exhaustive()
    }
}

impl Storage for RocksLog {
    fn groups(&self) -> Result<Vec<GroupId>, StorageError> {
        self.queue.groups()
    }

    fn open_group(&self, group: GroupId) -> Result<OpenGroup, StorageError> {
        self.queue.open_group(group)
    }

    fn submit(&self, batch: WriteBatch) -> Result<Ticket, SubmitError> {
        self.queue.submit(batch)
    }

    fn durable(&self) -> Result<Ticket, Poisoned> {
        self.queue.durable()
    }

    fn on_durable(&self, notify: DurableNotify) -> Subscription {
        self.queue.on_durable(notify)
    }

    fn wait(&self, ticket: Ticket) -> Result<(), Poisoned> {
        self.queue.wait(ticket)
    }

    fn pressure(&self) -> Pressure {
        let mut pressure = self.queue.pressure();
        pressure.stalled |= self.stall().stopped;
        pressure
    }

    fn entry_bytes_max(&self) -> Option<u64> {
        self.queue.entry_bytes_max()
    }

    fn scrub(&self, budget: ByteBudget) -> Result<ScrubReport, StorageError> {
        self.queue.scrub(budget)
    }
}
