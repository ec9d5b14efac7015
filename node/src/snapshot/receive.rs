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
        if self.has(header.group, header.meta.last, header.snapshot) {
            // Its stream was through before, and then a crash or another leader came between.
            let group = header.group;
            let what = Reported::Received(header.message());
            mailbox.report(Report { group, what });
            return Err(SnapshotRefused::NotNeeded);
        }
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
        let name = SnapshotStore::name(&manifest, Kind::Part);
        store.remove_other_parts(group, &name)?;
        let part = store.dir.join(name);
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::path::Path;
    use std::time::Instant;

    use raftwerk_raft::{GroupId, LogId, LogIndex, NodeId, SnapshotMeta, SnapshotSource, Term};
    use raftwerk_storage::vfs::RealVfs;

    use super::*;
    use crate::config::HostConfig;
    use crate::snapshot::Outgoing;

    const GROUP: GroupId = GroupId(3);

    /// `left` bytes that a compressor would not like.
    struct Noise {
        left: usize,
        state: u64,
    }

    impl SnapshotSource for Noise {
        fn applied(&self) -> LogId {
            LogId::new(Term(2), LogIndex(40))
        }

        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let len = out.len().min(self.left).min(10_000);
            for byte in &mut out[..len] {
                self.state = self
                    .state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                *byte = (self.state >> 56) as u8;
            }
            self.left -= len;
            Ok(len)
        }
    }

    fn store(dir: &Path) -> Arc<SnapshotStore> {
        let store = SnapshotStore::new(Arc::new(RealVfs), dir.to_owned(), None, 1);
        store.open_group(GROUP).unwrap();
        Arc::new(store)
    }

    fn mailbox() -> Arc<Mailbox> {
        Arc::new(Mailbox::new(&HostConfig::new(NodeId(1), "unused")))
    }

    fn received(mailbox: &Mailbox) -> usize {
        let mut events = Vec::new();
        mailbox.take(None, &mut events);
        events.len()
    }

    fn meta() -> SnapshotMeta {
        SnapshotMeta {
            last: LogId::new(Term(2), LogIndex(40)),
            ..SnapshotMeta::default()
        }
    }

    fn state(store: &SnapshotStore) -> Vec<u8> {
        let mut reader = store.state(GROUP, &meta()).unwrap().unwrap();
        let (mut state, mut chunk) = (Vec::new(), vec![0; 7777]);
        loop {
            match reader.read(&mut chunk).unwrap() {
                0 => return state,
                read => state.extend_from_slice(&chunk[..read]),
            }
        }
    }

    /// A built snapshot of about a megabyte: its header and all of its bytes.
    fn built(sender: &Arc<SnapshotStore>) -> (SnapshotHeader, Vec<u8>) {
        let mut source = Noise {
            left: 1_000_000,
            state: 5,
        };
        sender.build(GROUP, &meta(), &mut source).unwrap();
        let Outgoing {
            snapshot,
            len_bytes,
            mut bytes,
        } = sender.bytes(GROUP, meta().last).unwrap().unwrap();
        let mut all = vec![0; usize::try_from(len_bytes).unwrap()];
        assert_eq!(bytes.read_at(0, &mut all).unwrap(), all.len());
        let (from, to, term) = (NodeId(1), NodeId(2), Term(2));
        (
            SnapshotHeader {
                group: GROUP,
                from,
                to,
                term,
                session: 0,
                meta: meta(),
                snapshot,
                len_bytes,
            },
            all,
        )
    }

    #[test]
    fn broken_stream_goes_on_where_whole_chunks_end_even_after_a_restart() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let sender = store(here.path());
        let (header, bytes) = built(&sender);
        let mailbox = mailbox();
        let receiver = store(there.path());
        let mut sink = receiver
            .receive(header.clone(), Arc::clone(&mailbox))
            .unwrap();
        assert_eq!(sink.resume_at(), 0);
        for piece in bytes[..700_000].chunks(33_333) {
            sink.write(piece).unwrap();
        }
        let kept = usize::try_from(sink.resume_at()).unwrap();
        assert!((500_000..=700_000).contains(&kept), "{kept}");
        let busy = receiver.receive(header.clone(), Arc::clone(&mailbox)).err();
        assert_eq!(busy, Some(SnapshotRefused::Busy));
        drop(sink);
        let receiver = store(there.path());
        let mut sink = receiver.receive(header, Arc::clone(&mailbox)).unwrap();
        assert_eq!(usize::try_from(sink.resume_at()).unwrap(), kept);
        assert!(receiver.find(GROUP, meta().last).is_none());
        sink.write(&bytes[kept..]).unwrap();
        sink.finish().unwrap();
        assert_eq!(received(&mailbox), 1);
        assert_eq!(state(&receiver), state(&sender));
        assert_eq!(state(&receiver).len(), 1_000_000);
    }

    #[test]
    fn damaged_bytes_are_refused_and_only_what_was_intact_is_kept() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (header, bytes) = built(&store(here.path()));
        for at in [0, 9, 30, 200_000, 999_000, bytes.len() - 1] {
            let receiver = store(there.path());
            let mut sink = receiver.receive(header.clone(), mailbox()).unwrap();
            let from = usize::try_from(sink.resume_at()).unwrap();
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let written = damaged[from..]
                .chunks(50_000)
                .try_for_each(|c| sink.write(c));
            assert!(
                written.and_then(|()| sink.finish()).is_err(),
                "damage at {at}"
            );
            assert!(receiver.find(GROUP, meta().last).is_none());
        }
    }

    fn receive_whole(receiver: &Arc<SnapshotStore>, header: SnapshotHeader, bytes: &[u8]) {
        let mut sink = receiver.receive(header, mailbox()).unwrap();
        let from = usize::try_from(sink.resume_at()).unwrap();
        sink.write(&bytes[from..]).unwrap();
        sink.finish().unwrap();
    }

    #[test]
    fn snapshot_that_is_offered_twice_is_kept_once_and_outlives_the_collection() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (header, bytes) = built(&store(here.path()));
        let receiver = store(there.path());
        receive_whole(&receiver, header.clone(), &bytes);
        // As after a crash: the file is durable and the log knows nothing of it.
        for receiver in [&receiver, &store(there.path())] {
            let mailbox = mailbox();
            let again = receiver.receive(header.clone(), Arc::clone(&mailbox)).err();
            assert_eq!(again, Some(SnapshotRefused::NotNeeded));
            assert_eq!(received(&mailbox), 1);
            receiver.collect(GROUP, meta().last).unwrap();
            assert_eq!(state(receiver).len(), 1_000_000);
        }
    }

    #[test]
    fn file_that_is_found_again_is_known_once() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (header, bytes) = built(&store(here.path()));
        let receiver = store(there.path());
        receive_whole(&receiver, header, &bytes);
        receiver.open_group(GROUP).unwrap();
        receiver.collect(GROUP, meta().last).unwrap();
        assert_eq!(state(&receiver).len(), 1_000_000);
    }

    #[test]
    fn new_stream_removes_what_arrived_of_others() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (header, bytes) = built(&store(here.path()));
        let receiver = store(there.path());
        for build in 0..5 {
            let header = SnapshotHeader {
                snapshot: build,
                ..header.clone()
            };
            drop(receiver.receive(header, mailbox()).unwrap());
        }
        receive_whole(&receiver, header, &bytes);
        assert_eq!(std::fs::read_dir(there.path()).unwrap().count(), 1);
    }

    #[test]
    fn stream_that_ends_early_is_no_snapshot() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (header, bytes) = built(&store(here.path()));
        let receiver = store(there.path());
        let mailbox = mailbox();
        let mut sink = receiver.receive(header, Arc::clone(&mailbox)).unwrap();
        sink.write(&bytes[..bytes.len() - 1]).unwrap();
        assert!(sink.finish().is_err());
        assert_eq!(received(&mailbox), 0);
    }

    #[test]
    fn sending_keeps_to_the_rate_that_was_set() {
        let dir = tempfile::tempdir().unwrap();
        let rate = NonZeroU64::new(10_000_000);
        let slow = SnapshotStore::new(Arc::new(RealVfs), dir.path().to_owned(), rate, 1);
        let slow = Arc::new(slow);
        slow.open_group(GROUP).unwrap();
        let begun = Instant::now();
        let (_, bytes) = built(&slow);
        let Outgoing {
            bytes: mut stream, ..
        } = slow.bytes(GROUP, meta().last).unwrap().unwrap();
        let mut half = vec![0; bytes.len() / 2];
        stream.read_at(0, &mut half).unwrap();
        stream.read_at(half.len() as u64, &mut half).unwrap();
        // Half a megabyte at ten a second: never sooner, however slow the machine.
        assert!(begun.elapsed().as_millis() >= 50);
    }

    #[test]
    fn stopping_host_does_not_wait_for_a_slow_stream() {
        let dir = tempfile::tempdir().unwrap();
        let rate = NonZeroU64::new(1);
        let slow = SnapshotStore::new(Arc::new(RealVfs), dir.path().to_owned(), rate, 1);
        let slow = Arc::new(slow);
        slow.open_group(GROUP).unwrap();
        let (_, bytes) = built(&slow);
        let Outgoing {
            bytes: mut stream, ..
        } = slow.bytes(GROUP, meta().last).unwrap().unwrap();
        let mut half = vec![0; bytes.len() / 2];
        // At a byte a second the next piece is due in days.
        stream.read_at(0, &mut half).unwrap();
        slow.stop();
        let ended = stream.read_at(half.len() as u64, &mut half).unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::Interrupted);
    }
}
