//! Building a snapshot file from a view of the state.

use std::io;

use raftwerk_raft::{GroupId, SnapshotMeta, SnapshotSource};
use raftwerk_storage::vfs::OpenMode;

use super::format::{CHUNK_BYTES, Framer, Manifest};
use super::random_u128;
use super::store::{Kind, SYNC_DIR, SYNC_FILE, SnapshotFile, SnapshotStore};

impl SnapshotStore {
    /// Writes `source` to a file, durable under its name on return. Holds one chunk in memory.
    pub(crate) fn build(
        &self,
        group: GroupId,
        meta: &SnapshotMeta,
        source: &mut dyn SnapshotSource,
    ) -> io::Result<u64> {
        let manifest = Manifest {
            group,
            snapshot: random_u128(),
            meta: meta.clone(),
        };
        let temporary = self.dir.join(Self::name(&manifest, Kind::Building));
        let written = self.write(&manifest, source, &temporary);
        let len_bytes = written.inspect_err(|_| {
            // The build failed; what cannot be removed now is removed when the group is opened.
            let _ = self.vfs.remove_file(&temporary);
        })?;
        let name = Self::name(&manifest, Kind::Whole);
        self.vfs.rename(&temporary, &self.dir.join(&name))?;
        self.vfs.sync_dir(&self.dir, SYNC_DIR)?;
        self.add(
            group,
            SnapshotFile {
                last: meta.last,
                snapshot: manifest.snapshot,
                name,
            },
        );
        Ok(len_bytes)
    }

    /// Writes and syncs the file; returns its length.
    fn write(
        &self,
        manifest: &Manifest,
        source: &mut dyn SnapshotSource,
        path: &std::path::Path,
    ) -> io::Result<u64> {
        let file = self.vfs.open(path, OpenMode::CreateNew)?;
        let mut out = Vec::new();
        let Some(mut framer) = Framer::head(manifest, &mut out) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "member table is too large",
            ));
        };
        let mut offset = 0;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            if self.is_stopping() {
                return Err(io::Error::new(
                    io::ErrorKind::Interrupted,
                    "the host is stopping",
                ));
            }
            let filled = fill(source, &mut chunk)?;
            if let Some(state) = chunk.get(..filled).filter(|state| !state.is_empty()) {
                framer.chunk(state, &mut out);
            }
            if filled < chunk.len() {
                framer.end(&mut out);
                file.write_at(offset, &out)?;
                offset += out.len() as u64;
                break;
            }
            file.write_at(offset, &out)?;
            offset += out.len() as u64;
            out.clear();
        }
        file.sync_data(SYNC_FILE)?;
        Ok(offset)
    }
}

/// Reads until `out` is full or the source at its end.
fn fill(source: &mut dyn SnapshotSource, out: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = out.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let room = rest.len();
        let read = source.read(rest)?;
        if read == 0 {
            break;
        }
        if read > room {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "source read too much",
            ));
        }
        filled += read;
    }
    Ok(filled)
}
