//! redb's storage over a file of ours.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use raftwerk_storage::vfs::{SyncSite, VfsFile};
use redb::StorageBackend;

/// Makes the B-tree's pages durable.
pub const SYNC_STATE: SyncSite = SyncSite("state-redb: commit");

/// One open file.
#[derive(Clone, Debug)]
pub(crate) struct FileBackend(pub(crate) Arc<dyn VfsFile>);

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        while !out.is_empty() {
            let count = self.0.read_at(offset, out)?;
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            offset = offset.saturating_add(count as u64);
            out = out.get_mut(count..).unwrap_or_default();
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data(SYNC_STATE)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }
}
