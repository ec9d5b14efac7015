//! A file beside redb's that says which commit was acknowledged last.
//!
//! redb finds a commit by the checksums of its pages: when the newest does not hold, the one
//! before is what a torn write would leave. Whether it was torn or was acknowledged and has
//! rotted since, redb cannot tell. The mark can: it is written behind each sync, and never
//! synced itself but at the close, so it costs one small write to the cache.

use std::io;
use std::sync::Arc;

use raftwerk_raft::StorageError;
use raftwerk_storage::folder::{Folder, StoreUuid, io_error};
use raftwerk_storage::vfs::{OpenMode, VfsFile};

use super::SYNC_LOG_MARK;
use super::ledger::Roster;
use crate::backend::read_exact;

const FILE: &str = "MARK";
const MAGIC: &[u8; 8] = b"RWredbM2";
/// Where the roster stands: apart from the mark, in bytes.
const ROSTER_AT: u64 = 4096;
const MARK_BYTES: usize = 8 + 16 + 8 + 4 + 4 + 4;

/// What the mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The last commit acknowledged.
    pub(crate) commit: u64,
    /// The checksum of the roster; when the log was closed with this commit.
    pub(crate) closed: Option<u32>,
}

impl Mark {
    fn encode(self, uuid: StoreUuid) -> Vec<u8> {
        let mut out = Vec::with_capacity(MARK_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&uuid.0);
        out.extend_from_slice(&self.commit.to_le_bytes());
        out.extend_from_slice(&u32::from(self.closed.is_some()).to_le_bytes());
        out.extend_from_slice(&self.closed.unwrap_or(0).to_le_bytes());
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// What `bytes` say; nothing if they were never written whole.
    fn decode(bytes: &[u8], uuid: StoreUuid) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let intact = u32::from_le_bytes(*crc) == crc32fast::hash(body);
        let rest = body.strip_prefix(MAGIC)?.strip_prefix(&uuid.0)?;
        let (commit, rest) = rest.split_first_chunk::<8>()?;
        let (closed, records) = rest.split_first_chunk::<4>()?;
        let closed = match u32::from_le_bytes(*closed) {
            0 => None,
            _ => Some(u32::from_le_bytes(*records.first_chunk::<4>()?)),
        };
        intact.then_some(Self {
            commit: u64::from_le_bytes(*commit),
            closed,
        })
    }
}

/// The open file.
#[derive(Debug)]
pub(crate) struct MarkFile {
    file: Arc<dyn VfsFile>,
    uuid: StoreUuid,
}

impl MarkFile {
    /// Opens it, or makes it, and says what stood in it.
    pub(crate) fn open(folder: &Folder) -> Result<(Self, Option<Mark>), StorageError> {
        let path = folder.path().join(FILE);
        let vfs = folder.vfs();
        let (file, found) = match vfs.open(&path, OpenMode::Write) {
            Ok(file) => {
                let mut bytes = [0; MARK_BYTES];
                let read = read_exact(file.as_ref(), 0, &mut bytes);
                let found = read.ok().and_then(|()| Mark::decode(&bytes, folder.uuid()));
                (file, found)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = vfs
                    .open(&path, OpenMode::CreateNew)
                    .map_err(io_error("create", &path))?;
                (file, None)
            }
            Err(error) => return Err(io_error("open", &path)(error)),
        };
        let file = Self {
            file: file.into(),
            uuid: folder.uuid(),
        };
        Ok((file, found))
    }

    /// To be called when the commit is durable.
    pub(crate) fn write(&self, mark: Mark) -> io::Result<()> {
        self.file.write_at(0, &mark.encode(self.uuid))
    }

    /// Says that the log was closed with `commit` and those records, durably.
    pub(crate) fn close(&self, commit: u64, roster: &Roster) -> io::Result<()> {
        let roster = roster.encode();
        self.file.set_len(ROSTER_AT + roster.len() as u64)?;
        self.file.write_at(ROSTER_AT, &roster)?;
        let closed = Some(crc32fast::hash(&roster));
        self.write(Mark { commit, closed })?;
        self.sync()
    }

    /// What the log was closed with, if that can be read.
    pub(crate) fn roster(&self, mark: Mark) -> Option<Roster> {
        let len = self.file.len().ok()?.checked_sub(ROSTER_AT)?;
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        read_exact(self.file.as_ref(), ROSTER_AT, &mut bytes).ok()?;
        (Some(crc32fast::hash(&bytes)) == mark.closed).then_some(())?;
        Roster::decode(&bytes)
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data(SYNC_LOG_MARK)
    }
}
