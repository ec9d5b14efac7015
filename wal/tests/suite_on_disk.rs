//! The conformance suite of all log backends, in real folders.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use raftwerk_raft::{Storage, StorageError};
use raftwerk_storage::vfs::{OpenMode, RealVfs, Vfs};
use raftwerk_testkit::FolderHome;
use raftwerk_wal::{Io, Options, Wal};

const ELSEWHERE: &str = "the suite runs on a file system that forgets and fails, too";

/// Where direct writes are asked for and cannot be had, the test is of buffered ones again.
fn possible(io: Io, folder: &Path) -> Io {
    let there = folder.join("there");
    fs::write(&there, b"").unwrap();
    if RealVfs.open(&there, OpenMode::WriteDirect).is_ok() {
        return io;
    }
    if io == Io::Direct {
        // Past what the harness captures of a test that passes.
        let _ = writeln!(
            std::io::stderr().lock(),
            "SKIPPED: the folder for temporary files takes no direct writes"
        );
    }
    Io::Buffered
}

fn open(path: &Path, io: Io) -> Result<Arc<dyn Storage>, StorageError> {
    let options = Options {
        segment_bytes: 2 * 1024 * 1024,
        batch_bytes_max: 1280 * 1024,
        io: possible(io, path.parent().unwrap()),
        ..Options::default()
    };
    let io = options.io;
    let wal = Wal::open(Arc::new(RealVfs), path, options)?;
    assert_eq!(wal.io(), io);
    Ok(Arc::new(wal))
}

mod direct {
    use super::{ELSEWHERE, FolderHome, Io};

    raftwerk_testkit::storage_suite!(|| FolderHome::new(ELSEWHERE, |path: &std::path::Path| {
        super::open(path, Io::Direct)
    })
    .in_full(cfg!(feature = "long-tests")));
}

mod buffered {
    use super::{ELSEWHERE, FolderHome, Io};

    raftwerk_testkit::storage_suite!(|| FolderHome::new(ELSEWHERE, |path: &std::path::Path| {
        super::open(path, Io::Buffered)
    })
    .in_full(cfg!(feature = "long-tests")));
}
