//! What it costs to make entries durable: the write-ahead log beside the raw device, which
//! writes and syncs whole pages of a file that was written before.
//!
//! `cargo bench -p raftwerk-benches --bench durable_append [-- --quick]`
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use raftwerk_benches::{Bench, Plan, Slice, Subject, run, summary_path};
use raftwerk_raft::{
    Entry, GroupId, GroupWrite, LogId, LogIndex, SnapshotMeta, Storage, SubmitError, Term, Ticket,
    WriteBatch,
};
use raftwerk_storage::vfs::{CountingVfs, OpenMode, RealVfs, SyncSite, Vfs, VfsFile};
use raftwerk_wal::{Options, Wal};
use tempfile::TempDir;

const ENTRY_BYTES: usize = 128;
const PAGE_BYTES: usize = 4096;
/// What a record takes beside its payload is left out: the device is given the easier task.
const RAW_FILE_PAGES: u64 = 4096;
/// A writer lets go of its log after this many entries, as a group does after a snapshot.
const COMPACT_ENTRIES: u64 = 4096;
const SYNC: SyncSite = SyncSite("bench: raw device");

fn main() -> ExitCode {
    let plan = Plan::from_args(std::env::args());
    match benches().and_then(|benches| run("durable_append", plan, benches)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn benches() -> Result<Vec<Bench>, String> {
    let mut benches = Vec::new();
    for writers in [1, 8, 64] {
        for batch in [1, 16] {
            benches.push(Bench {
                load: format!("writers {writers}, batch {batch} x {ENTRY_BYTES} B"),
                subjects: vec![
                    Box::new(RawDevice::new(batch)?),
                    Box::new(Log::new(writers, batch)?),
                ],
            });
        }
    }
    Ok(benches)
}

/// A folder on the disk that the project is built on: `/tmp` may be memory.
fn folder() -> Result<TempDir, String> {
    let summary = summary_path();
    let parent = summary.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent)
        .and_then(|()| tempfile::tempdir_in(parent))
        .map_err(|error| format!("{}: {error}", parent.display()))
}

/// Writes and syncs the pages that a batch fills, one batch after the other.
struct RawDevice {
    file: Box<dyn VfsFile>,
    batch: u64,
    bytes: Vec<u8>,
    next_page: u64,
    _folder: TempDir,
}

impl RawDevice {
    fn new(batch: u64) -> Result<Self, String> {
        let folder = folder()?;
        let content = usize::try_from(batch).map_err(|e| e.to_string())? * ENTRY_BYTES;
        let bytes = vec![0xa5; content.next_multiple_of(PAGE_BYTES)];
        let path = folder.path().join("raw");
        let file = RealVfs
            .open(&path, OpenMode::CreateNew)
            .map_err(|error| error.to_string())?;
        let zeros = vec![0; PAGE_BYTES];
        for page in 0..RAW_FILE_PAGES {
            file.write_at(page * PAGE_BYTES as u64, &zeros)
                .map_err(|error| error.to_string())?;
        }
        file.sync_data(SYNC).map_err(|error| error.to_string())?;
        Ok(Self {
            file,
            batch,
            bytes,
            next_page: 0,
            _folder: folder,
        })
    }
}

impl Subject for RawDevice {
    fn name(&self) -> &'static str {
        "raw device"
    }

    fn slice(&mut self, end: Instant) -> Result<Slice, String> {
        let pages = (self.bytes.len() / PAGE_BYTES) as u64;
        let mut slice = Slice::default();
        while Instant::now() < end {
            if self.next_page + pages > RAW_FILE_PAGES {
                self.next_page = 0;
            }
            self.file
                .write_at(self.next_page * PAGE_BYTES as u64, &self.bytes)
                .and_then(|()| self.file.sync_data(SYNC))
                .map_err(|error| error.to_string())?;
            self.next_page += pages;
            slice.operations += self.batch;
            slice.syncs += 1;
        }
        Ok(slice)
    }
}

/// Some writers, each appending to a group of its own and waiting until that is durable.
struct Log {
    // Before the folder: a log is closed before its files go.
    log: Arc<dyn Storage>,
    vfs: CountingVfs,
    writers: Vec<Writer>,
    _folder: TempDir,
}

impl Log {
    fn new(writers: u64, batch: u64) -> Result<Self, String> {
        let folder = folder()?;
        let vfs = CountingVfs::new(Arc::new(RealVfs));
        let wal = Wal::open(
            Arc::new(vfs.clone()),
            folder.path().join("log"),
            Options::default(),
        )
        .map_err(|error| error.to_string())?;
        let data = Bytes::from(vec![0x5a; ENTRY_BYTES]);
        let writer = |group| Writer {
            group: GroupId(group),
            batch,
            data: data.clone(),
            last: LogId::default(),
        };
        Ok(Self {
            log: Arc::new(wal),
            vfs,
            writers: (1..=writers).map(writer).collect(),
            _folder: folder,
        })
    }
}

impl Subject for Log {
    fn name(&self) -> &'static str {
        "raftwerk-wal"
    }

    fn slice(&mut self, end: Instant) -> Result<Slice, String> {
        let before = self.vfs.counts();
        let operations = AtomicU64::new(0);
        let log = &self.log;
        std::thread::scope(|scope| {
            let running: Vec<_> = self
                .writers
                .iter_mut()
                .map(|writer| {
                    let operations = &operations;
                    scope.spawn(move || -> Result<(), String> {
                        while Instant::now() < end {
                            writer.append(log.as_ref())?;
                            operations.fetch_add(writer.batch, Ordering::Relaxed);
                        }
                        Ok(())
                    })
                })
                .collect();
            running.into_iter().try_for_each(|writer| {
                writer
                    .join()
                    .unwrap_or_else(|_| Err("a writer panicked".to_owned()))
            })
        })?;
        Ok(Slice {
            operations: operations.into_inner(),
            syncs: self.vfs.counts().since(&before).syncs_total(),
        })
    }
}

/// One group and how far its log is.
struct Writer {
    group: GroupId,
    batch: u64,
    data: Bytes,
    last: LogId,
}

impl Writer {
    fn append(&mut self, log: &dyn Storage) -> Result<(), String> {
        let last = self.last.index.0;
        let id = |index| LogId {
            term: Term(1),
            index: LogIndex(index),
        };
        let append = (last + 1..=last + self.batch)
            .map(|index| Entry::normal(id(index), self.data.clone()))
            .collect();
        let mut write = GroupWrite {
            group: self.group,
            append,
            ..GroupWrite::default()
        };
        if last / COMPACT_ENTRIES < (last + self.batch) / COMPACT_ENTRIES {
            write.snapshot = Some(SnapshotMeta {
                last: self.last,
                ..SnapshotMeta::default()
            });
            write.compact_to = Some(self.last.index);
        }
        let batch = WriteBatch {
            groups: vec![write],
            ..WriteBatch::default()
        };
        let ticket = submit(log, batch)?;
        log.wait(ticket).map_err(|error| error.to_string())?;
        self.last = id(last + self.batch);
        Ok(())
    }
}

/// Submits, and tries again while the log has no space prepared.
fn submit(log: &dyn Storage, mut batch: WriteBatch) -> Result<Ticket, String> {
    loop {
        match log.submit(batch) {
            Ok(ticket) => return Ok(ticket),
            Err(SubmitError::Full(back)) => {
                batch = back;
                std::thread::yield_now();
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}
