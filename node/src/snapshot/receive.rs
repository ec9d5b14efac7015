//! Receiving a snapshot: every frame is checked before it is kept, a break is gone on from.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use raftwerk_storage::vfs::{OpenMode, VfsFile};

use super::format::{Damaged, FRAME_BYTES_MAX, FrameKind, Manifest, Unframer};
use super::read::{FrameWalk, invalid};
use super::store::{Kind, SYNC_DIR, SYNC_FILE, SnapshotFile, SnapshotStore};
use crate::mailbox::Mailbox;
use crate::run_loop::{Report, Reported};
use crate::transport::{SnapshotHeader, SnapshotRefused, SnapshotSink};

impl SnapshotStore {
    /// Begins, or goes on, to receive the snapshot of `header`; `mailbox` is told when it is whole.
    pub(crate) fn receive(
        self: &Arc<Self>,
        header: SnapshotHeader,
        mailbox: Arc<Mailbox>,
    ) -> Result<Box<dyn SnapshotSink>, SnapshotRefused> {
        {
            let mut receiving = self.receiving.lock();
            let full = receiving.len() >= self.receiving_max;
            if full || self.is_stopping() || receiving.contains_key(&header.group) {
                return Err(SnapshotRefused::Busy);
            }
            receiving.insert(header.group, header.len_bytes);
        }
        let place = Place {
            store: Arc::clone(self),
            header,
        };
        let sink = Sink::open(place, mailbox).map_err(|error| SnapshotRefused::Io {
            reason: error.to_string().into(),
        })?;
        Ok(Box::new(sink))
    }
}

/// One of the places for snapshots being received; dropping it makes room.
struct Place {
    store: Arc<SnapshotStore>,
    header: SnapshotHeader,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.store.receiving.lock().remove(&self.header.group);
    }
}

struct Sink {
    place: Place,
    mailbox: Arc<Mailbox>,
    manifest: Manifest,
    part: PathBuf,
    file: Box<dyn VfsFile>,
    unframer: Unframer,
    /// Bytes in the file, all of them whole and checked frames.
    kept: u64,
    /// The beginning of a frame that is not whole yet.
    buffer: Vec<u8>,
}

impl Sink {
    fn open(place: Place, mailbox: Arc<Mailbox>) -> io::Result<Self> {
        let Place { store, header } = &place;
        let SnapshotHeader {
            group,
            snapshot,
            meta,
            ..
        } = header.clone();
        let manifest = Manifest {
            group,
            snapshot,
            meta,
        };
        let part = store.dir.join(SnapshotStore::name(&manifest, Kind::Part));
        let file = match store.vfs.open(&part, OpenMode::Write) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                store.vfs.open(&part, OpenMode::CreateNew)?
            }
            Err(error) => return Err(error),
        };
        let mut walk = FrameWalk::new(file);
        // What a broken stream or a crash left: kept up to the first frame that does not pass.
        let intact = loop {
            match walk.next() {
                Ok(Some(frame)) if !is_other(&frame.kind, &manifest) => walk.pass(frame.len),
                Ok(None) => break true,
                Ok(Some(_)) => break false,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => break true,
                Err(error) => return Err(error),
            }
        };
        let kept = walk.offset();
        let (file, unframer) = walk.into_parts();
        let (kept, unframer) = if intact {
            (kept, unframer)
        } else {
            (0, Unframer::new())
        };
        file.set_len(kept)?;
        Ok(Self {
            place,
            mailbox,
            manifest,
            part,
            file,
            unframer,
            kept,
            buffer: Vec::new(),
        })
    }
}

fn is_other(kind: &FrameKind, expected: &Manifest) -> bool {
    matches!(kind, FrameKind::Head(found) if found != expected)
}

impl SnapshotSink for Sink {
    fn resume_at(&self) -> u64 {
        self.kept
    }

    fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(chunk);
        let mut whole = 0;
        loop {
            let rest = self.buffer.get(whole..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let Some(frame) = self.unframer.next(rest).map_err(invalid)? else {
                break;
            };
            if is_other(&frame.kind, &self.manifest) {
                return Err(invalid(Damaged {
                    reason: "it is not the one that was announced",
                }));
            }
            whole += frame.len;
        }
        self.file
            .write_at(self.kept, self.buffer.get(..whole).unwrap_or_default())?;
        self.kept += whole as u64;
        self.buffer.drain(..whole);
        if self.buffer.len() > FRAME_BYTES_MAX || self.kept > self.place.header.len_bytes {
            return Err(invalid(Damaged {
                reason: "it is longer than announced",
            }));
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        let Place { store, header } = &self.place;
        if !self.unframer.ended() || self.kept != header.len_bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.sync_data(SYNC_FILE)?;
        let name = SnapshotStore::name(&self.manifest, Kind::Whole);
        store.vfs.rename(&self.part, &store.dir.join(&name))?;
        store.vfs.sync_dir(&store.dir, SYNC_DIR)?;
        let file = SnapshotFile {
            last: header.meta.last,
            snapshot: header.snapshot,
            name,
        };
        store.add(header.group, file);
        let what = Reported::Received(header.message());
        self.mailbox.report(Report {
            group: header.group,
            what,
        });
        Ok(())
    }
}
