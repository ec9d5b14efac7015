//! A store's folder: whose it is, and that one process at a time has it.
//!
//! `IDENTITY` names the store (a random uuid, the backend, the format's version). It is written
//! once, under a temporary name, synced, renamed and the folder synced, so it is whole or absent.
//! `LOCK` is held for the life of the [`Folder`]. Nothing is touched in a folder that turns out
//! to be somebody else's.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use raftwerk_raft::StorageError;

use crate::vfs::{OpenMode, SyncSite, Vfs, VfsLock};

/// The lock file's name.
pub const LOCK_FILE: &str = "LOCK";
/// The identity file's name.
pub const IDENTITY_FILE: &str = "IDENTITY";
/// Whoever copies a store into a folder keeps a file of this name in it until the copy is whole:
/// as long as it is there, no store is opened.
pub const MIGRATION_FILE: &str = "MIGRATION";
/// What the identity file is called until it is whole.
const IDENTITY_TEMPORARY: &str = "IDENTITY.tmp";

/// Makes a new folder's name durable.
pub const SYNC_CREATE: SyncSite = SyncSite("folder: create");
/// Makes the identity's bytes durable, before the rename.
pub const SYNC_IDENTITY: SyncSite = SyncSite("folder: identity file");
/// Makes the identity's name durable, before the store is used.
pub const SYNC_RENAME: SyncSite = SyncSite("folder: identity rename");

/// First word and version of the identity file.
const HEADLINE: &str = "raftwerk-store 1";
/// An identity file is never longer, in bytes.
const IDENTITY_BYTES_MAX: usize = 512;

/// What sort of store a folder is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The backend's name: lower-case letters, digits and hyphens.
    pub name: &'static str,
    /// The version of its format on disk.
    pub format_version: u32,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {} store of format {}", self.name, self.format_version)
    }
}

/// Whether a folder may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderMode {
    /// A missing or empty folder becomes a new store.
    CreateIfMissing,
    /// Only an existing store is opened.
    MustExist,
}

/// 128 random bits that tell a store from every other, a wiped disk's successor included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoreUuid(pub [u8; 16]);

impl fmt::Display for StoreUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl StoreUuid {
    fn random() -> io::Result<Self> {
        let mut bits = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut bits)?;
        Ok(Self(bits))
    }

    fn parse(text: &str) -> Option<Self> {
        let well_formed = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bits = u128::from_str_radix(text, 16).ok()?;
        well_formed.then(|| Self(bits.to_be_bytes()))
    }
}

/// What a folder says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Which store.
    pub uuid: StoreUuid,
    /// The backend that wrote it.
    pub backend: String,
    /// The version of its format.
    pub format_version: u32,
}

impl Identity {
    fn is(&self, kind: Kind) -> bool {
        self.backend == kind.name && self.format_version == kind.format_version
    }

    fn encode(&self) -> String {
        let Self {
            uuid,
            backend,
            format_version,
        } = self;
        let body = format!("{HEADLINE}\nuuid {uuid}\nbackend {backend}\nformat {format_version}\n");
        let crc = crc32fast::hash(body.as_bytes());
        format!("{body}crc32 {crc:08x}\n")
    }

    fn decode(text: &str) -> Result<Self, &'static str> {
        let (body, crc) = text.rsplit_once("crc32 ").ok_or("no checksum")?;
        let crc = crc.strip_suffix('\n').ok_or("cut short")?;
        if crc != format!("{:08x}", crc32fast::hash(body.as_bytes())) {
            return Err("checksum mismatch");
        }
        let mut lines = body.lines();
        if lines.next() != Some(HEADLINE) {
            return Err("unknown version of the identity file");
        }
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let uuid = field("uuid").and_then(StoreUuid::parse).ok_or("bad uuid")?;
        let backend = field("backend").ok_or("no backend")?.to_owned();
        let format_version = field("format")
            .and_then(|text| text.parse().ok())
            .ok_or("bad format version")?;
        Ok(Self {
            uuid,
            backend,
            format_version,
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a {} store of format {}",
            self.backend, self.format_version
        )
    }
}

/// A store's folder, locked for as long as this lives.
#[derive(Debug)]
pub struct Folder {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    identity: Identity,
    _lock: Box<dyn VfsLock>,
}

impl Folder {
    /// Opens or makes the folder of a store of `kind`.
    ///
    /// # Errors
    /// [`StorageError::WrongStore`] when the folder is another's (nothing was touched),
    /// [`StorageError::Locked`] when a process has it, [`StorageError::Corrupt`] when its
    /// identity is damaged, [`StorageError::Io`] for the rest, a missing folder included.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        path: impl Into<PathBuf>,
        kind: Kind,
        mode: FolderMode,
    ) -> Result<Self, StorageError> {
        Self::claim(vfs, path.into(), kind, mode, None)
    }

    /// Makes the folder of a store of `kind` that is to take the place of the store `uuid`, with
    /// all that it holds: a copy in another format. The folder must be missing or empty.
    ///
    /// # Errors
    /// As [`Folder::open`]; [`StorageError::WrongStore`] too when the folder holds a store.
    pub fn create_copy(
        vfs: Arc<dyn Vfs>,
        path: impl Into<PathBuf>,
        kind: Kind,
        uuid: StoreUuid,
    ) -> Result<Self, StorageError> {
        let path = path.into();
        if let Some(found) = look(vfs.as_ref(), &path, kind)? {
            return Err(wrong(&path, kind, &format!("{found} already")));
        }
        let folder = Self::claim(vfs, path, kind, FolderMode::CreateIfMissing, Some(uuid))?;
        if folder.uuid() == uuid {
            return Ok(folder);
        }
        // Somebody was faster.
        Err(wrong(&folder.path, kind, &folder.identity.to_string()))
    }

    fn claim(
        vfs: Arc<dyn Vfs>,
        path: PathBuf,
        kind: Kind,
        mode: FolderMode,
        uuid: Option<StoreUuid>,
    ) -> Result<Self, StorageError> {
        let found = look(vfs.as_ref(), &path, kind)?;
        if found.is_none() {
            if mode == FolderMode::MustExist {
                return Err(wrong(&path, kind, "no store"));
            }
            create_folder(vfs.as_ref(), &path)?;
        }
        let lock = vfs
            .lock(&path.join(LOCK_FILE))
            .map_err(|error| match error.kind() {
                ErrorKind::WouldBlock => StorageError::Locked {
                    path: path.display().to_string(),
                },
                _ => io_error("lock", &path)(error),
            })?;
        // Again, now that nobody else can be at it.
        let found = look(vfs.as_ref(), &path, kind)?;
        let created = found.is_none();
        let identity = match found {
            Some(identity) => identity,
            None => create_identity(vfs.as_ref(), &path, kind, uuid)?,
        };
        // Also in an existing folder: a kill may have come between the rename and its sync.
        if let Err(error) = vfs.sync_dir(&path, SYNC_RENAME) {
            if created {
                // The name stands in the cache and perhaps never on the disk, whatever a later
                // sync says: the next open must not find it. Should this fail, so does the disk.
                let _ = vfs.remove_file(&path.join(IDENTITY_FILE));
            }
            return Err(io_error("sync", &path)(error));
        }
        Ok(Self {
            vfs,
            path,
            identity,
            _lock: lock,
        })
    }

    /// What the folder at `path` says it is. Takes no lock and writes nothing: for offline tools.
    ///
    /// # Errors
    /// [`StorageError::Io`] when there is no identity to read, [`StorageError::Corrupt`] when it
    /// is damaged.
    pub fn peek(vfs: &dyn Vfs, path: &Path) -> Result<Identity, StorageError> {
        let file_path = path.join(IDENTITY_FILE);
        let file = vfs
            .open(&file_path, OpenMode::Read)
            .map_err(io_error("open", &file_path))?;
        let mut buffer = [0; IDENTITY_BYTES_MAX];
        let count = file
            .read_at(0, &mut buffer)
            .map_err(io_error("read", &file_path))?;
        let text = buffer
            .get(..count)
            .and_then(|bytes| std::str::from_utf8(bytes).ok());
        text.ok_or("not text")
            .and_then(Identity::decode)
            .map_err(|reason| StorageError::Corrupt {
                path: file_path.display().to_string(),
                offset: 0,
                reason: reason.to_owned(),
            })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file system it is on.
    #[must_use]
    pub fn vfs(&self) -> &Arc<dyn Vfs> {
        &self.vfs
    }

    /// Bytes that the disk under it still has, if that can be told.
    #[must_use]
    pub fn disk_free_bytes(&self) -> Option<u64> {
        let space = self.vfs.space(&self.path).ok().flatten();
        space.map(|space| space.free_bytes)
    }

    /// Which store it is.
    #[must_use]
    pub fn uuid(&self) -> StoreUuid {
        self.identity.uuid
    }

    /// What its identity file says.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

/// Reads what is there: a store of `kind`, or a place where one may be made.
fn look(vfs: &dyn Vfs, path: &Path, kind: Kind) -> Result<Option<Identity>, StorageError> {
    let names = match vfs.list(path) {
        Ok(names) => names,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("list", path)(error)),
    };
    if names.iter().any(|name| name == MIGRATION_FILE) {
        return Err(wrong(path, kind, "a migration that is not finished"));
    }
    if names.iter().any(|name| name == IDENTITY_FILE) {
        let identity = Folder::peek(vfs, path)?;
        if !identity.is(kind) {
            return Err(wrong(path, kind, &identity.to_string()));
        }
        return Ok(Some(identity));
    }
    // Both may be left by a process that was killed while making the store.
    let ours = |name: &&String| *name == LOCK_FILE || *name == IDENTITY_TEMPORARY;
    match names.iter().find(|name| !ours(name)) {
        Some(name) => Err(wrong(path, kind, &format!("other files ({name})"))),
        None => Ok(None),
    }
}

/// Makes the folder, although it may exist: the process that made it may have been killed before
/// its name was durable. The same holds of the deepest of its parents that exists, but no higher,
/// since each is synced before the next is made.
fn create_folder(vfs: &dyn Vfs, path: &Path) -> Result<(), StorageError> {
    let found = path.ancestors().find(|folder| vfs.list(folder).is_ok());
    if let Some(found) = found.filter(|found| *found != path) {
        match vfs.create_dir_all(found, SYNC_CREATE) {
            // Somebody else's, then, who lets us make folders there and not look around.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            other => other.map_err(io_error("sync", found))?,
        }
    }
    vfs.create_dir_all(path, SYNC_CREATE)
        .map_err(io_error("create", path))
}

fn create_identity(
    vfs: &dyn Vfs,
    path: &Path,
    kind: Kind,
    uuid: Option<StoreUuid>,
) -> Result<Identity, StorageError> {
    let uuid = match uuid {
        Some(uuid) => uuid,
        None => StoreUuid::random().map_err(io_error("draw a uuid for", path))?,
    };
    let identity = Identity {
        uuid,
        backend: kind.name.to_owned(),
        format_version: kind.format_version,
    };
    let bytes = identity.encode();
    replace_file(
        vfs,
        path,
        (IDENTITY_FILE, IDENTITY_TEMPORARY),
        bytes.as_bytes(),
        SYNC_IDENTITY,
    )?;
    Ok(identity)
}

/// Writes a file whole or not at all, over what was there: under the second of `names` first,
/// synced as `site`, then renamed to the first. The caller syncs the folder.
///
/// # Errors
/// What the file system says; the old file is still there.
pub fn replace_file(
    vfs: &dyn Vfs,
    folder: &Path,
    (name, temporary): (&str, &str),
    bytes: &[u8],
    site: SyncSite,
) -> Result<(), StorageError> {
    let temporary = folder.join(temporary);
    match vfs.remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(io_error("remove", &temporary)(error));
        }
        _ => {}
    }
    let file = vfs
        .open(&temporary, OpenMode::CreateNew)
        .map_err(io_error("create", &temporary))?;
    file.write_at(0, bytes)
        .map_err(io_error("write", &temporary))?;
    file.sync_data(site).map_err(io_error("sync", &temporary))?;
    drop(file);
    vfs.rename(&temporary, &folder.join(name))
        .map_err(io_error("rename", &temporary))
}

fn wrong(path: &Path, kind: Kind, found: &str) -> StorageError {
    StorageError::WrongStore {
        path: path.display().to_string(),
        found: found.to_owned(),
        expected: kind.to_string(),
    }
}

/// Turns what the operating system said into a [`StorageError`] that names the call and the file.
pub fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
    let path = path.display().to_string();
    move |source| StorageError::Io {
        operation,
        path,
        source,
    }
}
