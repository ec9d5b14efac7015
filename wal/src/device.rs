//! How segments are written: past the page cache, or through it.

use std::path::Path;

use raftwerk_raft::StorageError;
use raftwerk_storage::vfs::{DirectIo, OpenMode, Vfs};

use crate::options::{Io, Options};
use raftwerk_storage::buffer::MEMORY_BYTES;

/// Decides for a log that has `path` in its folder: never [`Io::Probe`].
///
/// # Errors
/// [`StorageError::Option`] when the file system does not do what the options ask for.
pub(crate) fn choose(vfs: &dyn Vfs, path: &Path, options: &Options) -> Result<Io, StorageError> {
    // Where nobody can say, writes go through the cache: that is right everywhere.
    let stated = || vfs.direct_io(path).ok().flatten();
    let fits = |needs: DirectIo| {
        options.page_bytes.is_multiple_of(needs.offset_bytes.max(1))
            && needs.memory_bytes as usize <= MEMORY_BYTES
    };
    let refused = |reason: &str| StorageError::Option {
        name: "io",
        reason: reason.into(),
    };
    match options.io {
        Io::Buffered => Ok(Io::Buffered),
        Io::Probe if stated().is_some_and(fits) => Ok(Io::Direct),
        Io::Probe => Ok(Io::Buffered),
        Io::Direct if stated().is_some_and(|needs| !fits(needs)) => {
            Err(refused("the disk's blocks are larger than page_bytes"))
        }
        Io::Direct => match vfs.open(path, OpenMode::WriteDirect) {
            Ok(_) => Ok(Io::Direct),
            Err(_) => Err(refused("the file system takes no direct writes")),
        },
    }
}

impl Io {
    /// How to open a segment that is there.
    pub(crate) const fn write_mode(self) -> OpenMode {
        match self {
            Self::Direct => OpenMode::WriteDirect,
            Self::Buffered | Self::Probe => OpenMode::Write,
        }
    }

    /// How to make a segment.
    pub(crate) const fn create_mode(self) -> OpenMode {
        match self {
            Self::Direct => OpenMode::CreateNewDirect,
            Self::Buffered | Self::Probe => OpenMode::CreateNew,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use raftwerk_storage::vfs::RealVfs;

    use super::*;

    fn options(io: Io, page_bytes: u32) -> Options {
        Options {
            io,
            page_bytes,
            ..Options::default()
        }
    }

    #[test]
    fn probing_leaves_nothing_behind_and_does_not_mind_a_file_that_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        let probe = options(Io::Probe, 4096);
        assert_eq!(choose(&RealVfs, &gone, &probe).unwrap(), Io::Buffered);
        let there = folder.path().join("there");
        std::fs::write(&there, b"as it was").unwrap();
        choose(&RealVfs, &there, &probe).unwrap();
        assert_eq!(std::fs::read(&there).unwrap(), b"as it was");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn memory_file_system_is_written_through_the_cache_unless_forced() {
        let Ok(folder) = tempfile::tempdir_in("/dev/shm") else {
            // Past what the harness captures of a test that passes.
            let _ = writeln!(std::io::stderr().lock(), "SKIPPED: no /dev/shm here");
            return;
        };
        let path = folder.path().join("there");
        std::fs::write(&path, b"").unwrap();
        let chosen = choose(&RealVfs, &path, &options(Io::Probe, 4096)).unwrap();
        assert_eq!(chosen, Io::Buffered);
    }
}
