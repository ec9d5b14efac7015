//! The log's handle: [`Storage`] over an [`Engine`].

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use raftwerk_raft::{
    ByteBudget, DurableNotify, GroupId, GroupState, LogReader, OpenGroup, Poisoned, Pressure,
    ScrubReport, Storage, StorageError, SubmitError, Subscription, Ticket, WriteBatch,
};
use raftwerk_storage::folder::{Folder, FolderMode, Kind, io_error};
use raftwerk_storage::image::GroupImage;
use raftwerk_storage::vfs::Vfs;

use crate::engine::{Engine, Written};
use crate::options::{Background, Io, Options};
use crate::preparer::Prepared;
use crate::reader::GroupLog;
use crate::recovery::Progress;
use crate::recovery::rewrite::{Begun, begin};
use crate::recovery::verdict::Report;
use crate::scrub::Scrub;
use crate::segment::header::FORMAT_VERSION;
use crate::stats::Stats;
use crate::threads::Threads;

/// What the identity file of a log says.
pub const KIND: Kind = Kind {
    name: "wal",
    format_version: FORMAT_VERSION,
};

/// A log of many groups in one folder. With threads, dropping it writes what waits, as far as it
/// can; without, nothing is written that nobody waited for.
#[derive(Debug)]
pub struct Wal {
    // In this order: the threads end before the lock is let go.
    threads: Option<Threads>,
    engine: Arc<Engine>,
    scrub: Mutex<Scrub>,
    report: Report,
    io: Io,
    _folder: Folder,
}

impl Wal {
    /// Opens the log in `dir`, or makes a new one there.
    ///
    /// # Errors
    /// [`StorageError`]: the folder is another's or in use, an option makes no sense, the disk
    /// fails or has no room for a segment, or the log is damaged where it cannot be confined to
    /// groups ([`StorageError::Corrupt`]; an ambiguous end is one of these unless the options say
    /// otherwise).
    pub fn open(
        vfs: Arc<dyn Vfs>,
        dir: impl AsRef<Path>,
        options: Options,
    ) -> Result<Self, StorageError> {
        Self::open_watched(vfs, dir, options, &mut |_| {})
    }

    /// [`Wal::open`] that tells `watch` how far it is, at each segment.
    ///
    /// # Errors
    /// As [`Wal::open`].
    pub fn open_watched(
        vfs: Arc<dyn Vfs>,
        dir: impl AsRef<Path>,
        options: Options,
        watch: &mut dyn FnMut(Progress),
    ) -> Result<Self, StorageError> {
        options.check()?;
        let dir = dir.as_ref();
        let folder = Folder::open(Arc::clone(&vfs), dir, KIND, FolderMode::CreateIfMissing)?;
        let life_seed = RandomState::new().hash_one(dir);
        let Begun {
            state,
            writer,
            preparer,
            report,
            io,
        } = begin(vfs.as_ref(), dir, folder.uuid(), &options, life_seed, watch)?;
        let engine = Arc::new(Engine::new(vfs, dir.to_owned(), state, writer, preparer));
        let threads = match options.background {
            Background::Threads => {
                Some(Threads::start(&engine).map_err(io_error("start threads for", dir))?)
            }
            Background::Manual => None,
        };
        Ok(Self {
            threads,
            engine,
            scrub: Mutex::default(),
            report,
            io,
            _folder: folder,
        })
    }

    /// What opening found.
    #[must_use]
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// What the log has done since it was opened, and how it stands.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let pressure = self.pressure();
        let state = self.engine.state.lock();
        let segments = state.segments.values();
        Stats {
            queued_bytes: pressure.queued_bytes,
            stalled: pressure.stalled,
            segments: state.segments.len() as u64,
            log_bytes: segments.map(|segment| segment.header.capacity).sum(),
            ready_segments: state.ready.len() as u64,
            reads: self.engine.counters.reads(),
            ..state.stats.clone()
        }
    }

    /// How segments are written: [`Io::Direct`] or [`Io::Buffered`].
    #[must_use]
    pub const fn io(&self) -> Io {
        self.io
    }

    /// A reader of `group`'s log that copies nothing: what it reads from sealed segments stays in
    /// their mappings, verified when it is read.
    ///
    /// A payload keeps its whole segment's file: as long as one lives, the file is not used again
    /// but removed, and its space on the disk is not free. A sector that the disk cannot read
    /// **kills the process** (`SIGBUS`), with this reader not only while reading but whenever a
    /// payload is looked at: the kernel may drop the page after the checksum was verified, and
    /// load it again. For the same reason a payload may then hold other bytes than those verified.
    /// Where segments are not mapped ([`Options::mapped_reads`]), it reads as others do.
    #[must_use]
    pub fn zero_copy_log(&self, group: GroupId) -> Arc<dyn LogReader> {
        Arc::new(GroupLog::zero_copy(Arc::clone(&self.engine), group))
    }

    /// Writes what waits, or brings the watermark slot up to date when nothing does: what the
    /// writer's thread does when there is one.
    pub fn step_writer(&self) -> Written {
        self.engine.step_writer()
    }

    /// Does a bounded piece of preparing segments: what the preparer's thread does when there is
    /// one.
    pub fn step_preparer(&self) -> Prepared {
        self.engine.step_preparer()
    }
}

#[cfg(test)]
impl Wal {
    /// How many segments the log has.
    pub(crate) fn engine_segments(&self) -> usize {
        self.engine.state.lock().segments.len()
    }

    /// The slot's part of [`Wal::step_writer`], as for a thread that had seen nothing to write.
    pub(crate) fn engine_slot(&self) -> Written {
        self.engine.write_slot()
    }

    /// What runs the log.
    pub(crate) const fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// What the log keeps in memory.
    pub(crate) fn engine_state(&self) -> parking_lot::MutexGuard<'_, crate::state::State> {
        self.engine.state.lock()
    }

    /// What is held of footers, in bytes.
    pub(crate) fn engine_tables(&self) -> u64 {
        self.engine.tables.bytes()
    }

    /// Where the footers of the sealed segments begin.
    pub(crate) fn engine_footers(&self) -> Vec<(u64, u64)> {
        let state = self.engine.state.lock();
        let footer =
            |(number, segment): (&u64, &crate::state::Segment)| Some((*number, segment.footer?));
        state.segments.iter().filter_map(footer).collect()
    }

    /// What the index takes, in bytes.
    pub(crate) fn engine_index(&self) -> u64 {
        let state = self.engine.state.lock();
        let groups = state.groups.values().map(|group| group.extents.memory());
        let frames = state
            .segments
            .values()
            .map(|segment| segment.frames.memory());
        (groups.sum::<usize>() + frames.sum::<usize>()) as u64
    }

    /// The active segment, and where the next frame goes.
    pub(crate) fn engine_end(&self) -> (u64, u64) {
        let state = self.engine.state.lock();
        let (number, active) = state.segments.last_key_value().unwrap();
        (*number, active.end)
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        drop(self.threads.take());
    }
}

/// What an entry takes beside its payload, with its group's state before and behind it and what
/// those add to a checkpoint, is less.
const ENTRY_OVERHEAD_BYTES: u64 = 2048;

impl Storage for Wal {
    fn groups(&self) -> Result<Vec<GroupId>, StorageError> {
        let state = self.engine.state.lock();
        let known = state
            .groups
            .iter()
            .filter(|(_, group)| !group.image.is_blank());
        Ok(known.map(|(id, _)| *id).collect())
    }

    fn open_group(&self, group: GroupId) -> Result<OpenGroup, StorageError> {
        let state = self.engine.state.lock();
        let found = match state.groups.get(&group) {
            Some(group) if !group.image.is_blank() => group.image.state(),
            _ => {
                let mut blank: GroupState = GroupImage::default().state();
                blank.health.vote_unknown = state.record.strangers_unknown;
                blank
            }
        };
        drop(state);
        let log = Arc::new(GroupLog::new(Arc::clone(&self.engine), group));
        Ok(OpenGroup { state: found, log })
    }

    fn submit(&self, batch: WriteBatch) -> Result<Ticket, SubmitError> {
        self.engine.submit(batch)
    }

    fn durable(&self) -> Result<Ticket, Poisoned> {
        let durable = self.engine.watermark.durable()?;
        // Who asks does not wait: the thread sees to it that the answer changes.
        if self.threads.is_some() && self.engine.state.lock().fill.eager {
            self.engine.wish_write();
        }
        Ok(durable)
    }

    fn on_durable(&self, notify: DurableNotify) -> Subscription {
        let inner = self.engine.watermark.subscribe(notify);
        self.engine.subscribers.fetch_add(1, Ordering::Relaxed);
        let engine = Arc::downgrade(&self.engine);
        Subscription::new(move || {
            drop(inner);
            if let Some(engine) = engine.upgrade() {
                engine.subscribers.fetch_sub(1, Ordering::Relaxed);
            }
        })
    }

    fn wait(&self, ticket: Ticket) -> Result<(), Poisoned> {
        self.engine.wait(ticket)
    }

    fn pressure(&self) -> Pressure {
        let space = self.engine.vfs.space(&self.engine.dir).ok().flatten();
        let state = self.engine.state.lock();
        let flight = state.in_flight;
        let age = flight.map_or(std::time::Duration::ZERO, |flight| flight.since.elapsed());
        Pressure {
            queued_bytes: state.fill.body.len() as u64 + flight.map_or(0, |flight| flight.bytes),
            queued_bytes_max: 2 * state.options.batch_bytes_max,
            disk_free_bytes: space.map(|space| space.free_bytes),
            sync_age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            stalled: age > state.options.stall_after,
            pinning_groups: state.pinning(),
        }
    }

    fn entry_bytes_max(&self) -> Option<u64> {
        let max = self.engine.state.lock().options.batch_bytes_max;
        Some(max.saturating_sub(ENTRY_OVERHEAD_BYTES))
    }

    fn scrub(&self, budget: ByteBudget) -> Result<ScrubReport, StorageError> {
        Ok(self.scrub.lock().step(&self.engine.state, budget))
    }
}
