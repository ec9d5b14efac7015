//! redb's storage over a file of ours.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use raftwerk_storage::vfs::{SyncSite, VfsFile};
use redb::StorageBackend;

/// One open file, and the name that its syncs go by.
#[derive(Clone, Debug)]
pub(crate) struct FileBackend {
    pub(crate) file: Arc<dyn VfsFile>,
    pub(crate) site: SyncSite,
}

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        read_exact(self.file.as_ref(), offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data(self.site)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, data)
    }
}

/// A file to get out of it what can be had: sectors that cannot be read are zeros, and nothing is
/// written.
#[derive(Clone, Debug)]
pub(crate) struct SalvageBackend(pub(crate) Arc<dyn VfsFile>);

/// What the disk gives or refuses at once, in bytes.
const SECTOR_BYTES: usize = 512;

impl StorageBackend for SalvageBackend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if read_exact(self.0.as_ref(), offset, out).is_ok() {
            return Ok(());
        }
        let mut at = offset;
        for sector in out.chunks_mut(SECTOR_BYTES) {
            if read_exact(self.0.as_ref(), at, sector).is_err() {
                sector.fill(0);
            }
            at = at.saturating_add(sector.len() as u64);
        }
        Ok(())
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, _offset: u64, _data: &[u8]) -> io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }
}

pub(crate) fn read_exact(
    file: &dyn VfsFile,
    mut offset: u64,
    mut out: &mut [u8],
) -> io::Result<()> {
    while !out.is_empty() {
        let count = file.read_at(offset, out)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        offset = offset.saturating_add(count as u64);
        out = out.get_mut(count..).unwrap_or_default();
    }
    Ok(())
}
