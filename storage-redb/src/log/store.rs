//! The log's handle.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use raftwerk_raft::{
    ByteBudget, DurableNotify, GroupId, OpenGroup, Poisoned, Pressure, ScrubReport, Storage,
    StorageError, SubmitError, Subscription, Ticket, WriteBatch,
};
use raftwerk_storage::folder::{Folder, FolderMode, Kind, io_error};
use raftwerk_storage::queue::{QueueOptions, TicketQueue};
use raftwerk_storage::vfs::{Vfs, VfsFile};
use redb::{Builder, Database};

use super::FILE;
use super::engine::{Found, RedbEngine, begin};
use super::load::{Loaded, Unreadable, load};
use super::mark::{Mark, MarkFile};
use super::salvage::salvage;
use super::value::{ENTRIES, RECORDS};
use crate::backend::FileBackend;
use crate::file::{open as open_db, to_io};

/// What the identity of a log's folder says.
pub const LOG_KIND: Kind = Kind {
    name: "log-redb",
    format_version: 1,
};

/// What to do with a log that has lost entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDamage {
    /// Open, and say of each group what it lost: the others are not concerned. A damaged file is
    /// replaced by what is good of it.
    #[default]
    Confine,
    /// Do not open, and leave the log as it was found. Right where the only group is the whole
    /// store.
    Refuse,
}

/// How to open a [`RedbLog`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedbLogOptions {
    /// The folder.
    pub path: PathBuf,
    /// Whether a missing or empty folder becomes a new log.
    pub mode: FolderMode,
    /// What redb may keep in memory, in bytes, pages that are not yet written included.
    pub cache_bytes: usize,
    /// What to do when entries are lost.
    pub on_damage: OnDamage,
    /// Bounds of what is queued and of what is kept in memory of each group.
    pub queue: QueueOptions,
}

impl RedbLogOptions {
    /// A log in `path`, made if missing, with 32 MiB of cache.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            mode: FolderMode::CreateIfMissing,
            cache_bytes: 32 << 20,
            on_damage: OnDamage::default(),
            queue: QueueOptions::default(),
        }
    }
}

/// The logs of many groups in one redb file. Its background thread ends when this is dropped, and
/// the folder is let go when the last reader of a group is dropped too.
#[derive(Debug)]
pub struct RedbLog {
    queue: TicketQueue<RedbEngine>,
}

impl RedbLog {
    /// Opens or makes a log. Reads all of it and checks every page: entries that the disk lost
    /// are named in [`raftwerk_raft::GroupState::health`].
    ///
    /// # Errors
    /// [`StorageError`]: the folder is another's or in use, an option makes no sense, the disk
    /// fails, or what is stored is damaged where it cannot be confined to entries
    /// ([`StorageError::Corrupt`]).
    pub fn open(vfs: Arc<dyn Vfs>, options: &RedbLogOptions) -> Result<Self, StorageError> {
        let folder = Folder::open(vfs, &options.path, LOG_KIND, options.mode)?;
        let (found, loaded) = open(&folder, options.cache_bytes, options.on_damage)?;
        let engine = RedbEngine::new(folder, found);
        let queue = TicketQueue::open(engine, loaded, options.queue.clone())?;
        Ok(Self { queue })
    }

    /// The folder it is in.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        self.queue.engine().folder()
    }

    /// How long the file is, in bytes: what is live, what waits to be used again, and the trees.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn file_bytes(&self) -> Result<u64, StorageError> {
        self.queue.engine().file_bytes()
    }
}

type Images = std::collections::BTreeMap<GroupId, raftwerk_storage::image::GroupImage>;

/// Opens the file of the log in `folder`, or makes it, and reads it.
pub(super) fn open(
    folder: &Folder,
    cache_bytes: usize,
    on_damage: OnDamage,
) -> Result<(Found, Images), StorageError> {
    let (mark_file, mark) = MarkFile::open(folder)?;
    let path = folder.path().join(FILE.name);
    let mut file = match FILE.find(folder)? {
        Some(file) => file,
        None => {
            // Synced with its name before the log has one.
            mark_file.sync().map_err(io_error("sync", &path))?;
            FILE.create(folder, fill)?
        }
    };
    let closed = FILE.settle(&file).map_err(io_error("renew", &path))?;
    let opened = match open_checked(&file, cache_bytes, mark) {
        Err(Unreadable::Damaged(reason)) if closed && on_damage == OnDamage::Confine => {
            if !salvage(folder, &file, &mark_file, mark)? {
                return Err(corrupt(&path, &reason));
            }
            file = FILE
                .find(folder)?
                .ok_or_else(|| corrupt(&path, "gone while it was opened"))?;
            open_checked(&file, cache_bytes, mark)
        }
        other => other,
    };
    let (db, loaded) = opened.map_err(|error| match error {
        Unreadable::Damaged(reason) => corrupt(&path, &reason),
        Unreadable::Redb(error) => io_error("open", &path)(to_io(error)),
    })?;
    let lost = loaded
        .images
        .iter()
        .find(|(_, image)| !image.health().is_intact());
    if let (Some((group, image)), OnDamage::Refuse) = (lost, on_damage) {
        let reason = match image.health() {
            health if health.vote_unknown => format!("group {group} may have lost its vote"),
            health => format!("group {group} lost entries {:?}", health.faulty),
        };
        return Err(corrupt(&path, &reason));
    }
    let mark = Mark {
        commit: loaded.ledger.commit,
        closed: None,
    };
    // Durable before anything is committed: else what an earlier close has listed would be taken
    // for all that there is, if the mark of the next close is lost and the file damaged.
    mark_file.write(mark).map_err(io_error("write", &path))?;
    mark_file.sync().map_err(io_error("sync", &path))?;
    let found = Found {
        db,
        file,
        mark: mark_file,
        ledger: loaded.ledger,
    };
    Ok((found, loaded.images))
}

fn open_checked(
    file: &Arc<dyn VfsFile>,
    cache_bytes: usize,
    mark: Option<Mark>,
) -> Result<(Database, Loaded), Unreadable> {
    let backend = FileBackend {
        file: Arc::clone(file),
        site: FILE.commit,
    };
    let db = open_db(backend, cache_bytes, true)?;
    let loaded = load(&db)?;
    match mark {
        Some(mark) if loaded.ledger.commit < mark.commit => Err(Unreadable::Damaged(format!(
            "commit {} was acknowledged, and {} is the newest left",
            mark.commit, loaded.ledger.commit
        ))),
        _ => Ok((db, loaded)),
    }
}

/// Makes the tables of a new file.
fn fill(backend: FileBackend) -> Result<(), redb::Error> {
    let db = Builder::new().create_with_backend(backend)?;
    let transaction = begin(&db)?;
    transaction.open_table(ENTRIES)?;
    transaction.open_table(RECORDS)?;
    transaction.commit()?;
    Ok(db.close()?)
}

fn corrupt(path: &Path, reason: &str) -> StorageError {
    StorageError::Corrupt {
        path: path.display().to_string(),
        offset: 0,
        reason: reason.to_owned(),
    }
}

impl Storage for RedbLog {
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
        self.queue.pressure()
    }

    fn entry_bytes_max(&self) -> Option<u64> {
        self.queue.entry_bytes_max()
    }

    fn scrub(&self, budget: ByteBudget) -> Result<ScrubReport, StorageError> {
        self.queue.scrub(budget)
    }
}
