//! Raftwerk's own backends, all behind `dyn Storage`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;
use raftwerk_raft::{
    Durability, GroupId, GroupWrite, HardState, LogError, LogIndex, LogReader, SnapshotMeta,
    Storage, SubmitError, Term, Ticket, WriteBatch,
};
use raftwerk_storage::vfs::{CountingVfs, RealVfs};
use raftwerk_storage_mem::{MemLog, MemLogOptions};
use raftwerk_storage_redb::{RedbLog, RedbLogOptions};
#[cfg(feature = "rocksdb")]
use raftwerk_storage_rocksdb::{RocksLog, RocksLogOptions};
use raftwerk_wal::{Options, Wal};

use super::{Append, LogTarget, log_id, words};

/// The write-ahead log.
pub(super) fn open_wal(folder: &Path) -> Result<Box<dyn LogTarget>, String> {
    let vfs = CountingVfs::new(Arc::new(RealVfs));
    let wal = Wal::open(
        Arc::new(vfs.clone()),
        folder.join("log"),
        Options::default(),
    )
    .map_err(words)?;
    Ok(Box::new(StorageLog::new(Arc::new(wal), Some(vfs))))
}

/// How [`open_wal`] opens it, in words.
pub(super) fn wal_options() -> String {
    format!("wal: {:?}", Options::default())
}

/// The log on redb.
pub(super) fn open_redb(folder: &Path) -> Result<Box<dyn LogTarget>, String> {
    let vfs = CountingVfs::new(Arc::new(RealVfs));
    let options = RedbLogOptions::new(folder.join("log"));
    let log = RedbLog::open(Arc::new(vfs.clone()), &options).map_err(words)?;
    Ok(Box::new(StorageLog::new(Arc::new(log), Some(vfs))))
}

/// The log on RocksDB.
#[cfg(feature = "rocksdb")]
pub(super) fn open_rocksdb(folder: &Path) -> Result<Box<dyn LogTarget>, String> {
    let options = RocksLogOptions::new(folder.join("log"));
    let log = RocksLog::open(&options).map_err(words)?;
    Ok(Box::new(StorageLog::new(Arc::new(log), None)))
}

/// The log in memory.
pub(super) fn open_mem(_folder: &Path) -> Result<Box<dyn LogTarget>, String> {
    let log = MemLog::new(MemLogOptions::default()).map_err(words)?;
    Ok(Box::new(StorageLog::new(Arc::new(log), None)))
}

/// What a batch carries at most, in bytes: half of what a log takes by default.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// Any [`Storage`].
struct StorageLog {
    readers: RwLock<BTreeMap<u64, Arc<dyn LogReader>>>,
    last: AtomicU64,
    log: Arc<dyn Storage>,
    /// Counts syncs where the backend writes through it.
    vfs: Option<CountingVfs>,
    /// Counts moves of the watermark that a writer saw, at most one a sync, where it does not.
    moves: AtomicU64,
    durable: AtomicU64,
}

impl StorageLog {
    fn new(log: Arc<dyn Storage>, vfs: Option<CountingVfs>) -> Self {
        Self {
            readers: RwLock::default(),
            last: AtomicU64::new(0),
            log,
            vfs,
            moves: AtomicU64::new(0),
            durable: AtomicU64::new(0),
        }
    }

    fn wait_for(&self, ticket: Ticket) -> Result<(), String> {
        self.log.wait(ticket).map_err(words)?;
        if self.vfs.is_some() {
            return Ok(());
        }
        let durable = self.log.durable().map_err(words)?.0;
        if self.durable.fetch_max(durable, Ordering::Relaxed) < durable {
            self.moves.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Submits, and tries again when there is room while the log has none.
    fn submit(&self, mut batch: WriteBatch) -> Result<Ticket, String> {
        loop {
            match self.log.submit(batch) {
                Ok(ticket) => return Ok(ticket),
                Err(SubmitError::Full(back)) => {
                    batch = back;
                    let durable = self.log.durable().map_err(words)?;
                    let last = Ticket(self.last.load(Ordering::Acquire));
                    if durable < last {
                        self.wait_for(Ticket(durable.0 + 1))?;
                    } else {
                        std::thread::yield_now();
                    }
                }
                Err(error) => return Err(words(error)),
            }
        }
    }

    fn reader(&self, group: u64) -> Result<Arc<dyn LogReader>, String> {
        if let Some(reader) = self.readers.read().get(&group) {
            return Ok(Arc::clone(reader));
        }
        let opened = self.log.open_group(GroupId(group)).map_err(words)?;
        self.readers.write().insert(group, Arc::clone(&opened.log));
        Ok(opened.log)
    }
}

fn batch_of(steps: &[Append], durability: Durability) -> WriteBatch {
    WriteBatch {
        groups: steps.iter().map(write_of).collect(),
        durability,
    }
}

fn write_of(step: &Append) -> GroupWrite {
    GroupWrite {
        group: GroupId(step.group),
        append: step.entries().collect(),
        hard_state: Some(HardState {
            term: Term(1),
            vote: None,
            commit: LogIndex(step.last()),
        }),
        snapshot: step.compact_to().map(|index| SnapshotMeta {
            last: log_id(index),
            ..SnapshotMeta::default()
        }),
        compact_to: step.compact_to().map(LogIndex),
        ..GroupWrite::default()
    }
}

impl LogTarget for StorageLog {
    fn append(&self, steps: &[Append], durable: bool) -> Result<(), String> {
        let durability = match durable {
            true => Durability::Sync,
            false => Durability::Lazy,
        };
        let payloads = steps.iter().flat_map(|step| &step.payloads);
        let mut ticket = Ticket(0);
        if payloads.map(Bytes::len).sum::<usize>() <= BATCH_BYTES_MAX {
            ticket = self.submit(batch_of(steps, durability))?;
        } else {
            for piece in steps.iter().flat_map(|step| step.pieces(BATCH_BYTES_MAX)) {
                ticket = self.submit(batch_of(&[piece], durability))?;
            }
        }
        self.last.fetch_max(ticket.0, Ordering::AcqRel);
        if durable {
            self.wait_for(ticket)?;
        }
        Ok(())
    }

    fn append_each(&self, steps: &[Append]) -> Result<(), String> {
        let mut last = Ticket(0);
        for step in steps {
            last = self.submit(batch_of(std::slice::from_ref(step), Durability::Sync))?;
        }
        self.last.fetch_max(last.0, Ordering::AcqRel);
        self.wait_for(last)
    }

    fn submit(&self, steps: &[Append]) -> Result<u64, String> {
        let ticket = self.submit(batch_of(steps, Durability::Sync))?;
        self.last.fetch_max(ticket.0, Ordering::AcqRel);
        Ok(ticket.0)
    }

    fn wait(&self, ticket: u64) -> Result<u64, String> {
        self.wait_for(Ticket(ticket))?;
        Ok(self.log.durable().map_err(words)?.0)
    }

    fn settle(&self) -> Result<(), String> {
        let last = Ticket(self.last.load(Ordering::Acquire));
        self.wait_for(last)
    }

    fn read(&self, group: u64, first: u64, last: u64) -> Result<u64, String> {
        let reader = self.reader(group)?;
        let mut bytes = 0;
        let mut next = LogIndex(first);
        let end = LogIndex(last + 1);
        while next < end {
            let mut found = Vec::new();
            match reader.entries(next..end, u64::MAX, &mut found) {
                Err(LogError::Cold) => {
                    found = reader.read(next..end, u64::MAX).map_err(words)?;
                }
                other => other.map_err(words)?,
            }
            let stopped = found.last().ok_or("a read without an entry")?;
            next = stopped.index().next();
            bytes += found.iter().map(|e| e.data.len() as u64).sum::<u64>();
        }
        Ok(bytes)
    }

    fn syncs(&self) -> Option<u64> {
        Some(self.vfs.as_ref().map_or_else(
            || self.moves.load(Ordering::Relaxed),
            |vfs| vfs.counts().syncs_total(),
        ))
    }

    fn fed_by_one(&self) -> bool {
        false
    }
}
