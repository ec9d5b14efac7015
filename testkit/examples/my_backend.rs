//! A log backend of one's own, over one plain file, and the proof that it keeps the contract:
//!
//! ```sh
//! cargo run  -p raftwerk-testkit --example my_backend   # an entry that outlives its process
//! cargo test -p raftwerk-testkit --example my_backend   # every case of the suite
//! ```
//!
//! `raftwerk_storage` brings what backends share: `Folder` (the lock, whose folder it is),
//! `GroupImage` (which batches are valid and what they do), `TicketQueue` (tickets, group commit,
//! reads of what is not durable yet, poison). What is left for a backend is an [`Engine`].
//!
//! This one writes the whole file anew at each commit and puts it in the old one's place: right,
//! and as slow as it sounds. An engine that is in earnest stores `put` and `removed` alone.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use raftwerk_raft::codec::{self, wire};
use raftwerk_raft::*;
use raftwerk_storage::folder::{Folder, FolderMode, Kind, io_error};
use raftwerk_storage::image::GroupImage;
use raftwerk_storage::queue::{Commit, Engine, QueueOptions, TicketQueue};
use raftwerk_storage::vfs::{OpenMode, RealVfs, SyncSite, Vfs};
use raftwerk_storage::{TermRuns, payload_fits};

const KIND: Kind = Kind {
    name: "my-backend",
    format_version: 1,
};

struct MyLog {
    folder: Folder,
    /// What the file holds. Never locked over input or output.
    groups: Mutex<Groups>,
}

type Groups = BTreeMap<GroupId, (GroupImage, BTreeMap<LogIndex, Entry>)>;

fn open(
    vfs: Arc<dyn Vfs>,
    path: &Path,
    options: QueueOptions,
) -> Result<TicketQueue<MyLog>, StorageError> {
    let folder = Folder::open(vfs, path, KIND, FolderMode::CreateIfMissing)?;
    let groups = load(&folder).map_err(io_error("load", path))?;
    // What was found may stand in the cache alone: nobody sees it before it is durable.
    store(&folder, encode(&groups)).map_err(io_error("store", path))?;
    let images = groups.iter().map(|(id, held)| (*id, held.0.clone()));
    let (images, groups) = (images.collect(), Mutex::new(groups));
    TicketQueue::open(MyLog { folder, groups }, images, options)
}

fn load(folder: &Folder) -> io::Result<Groups> {
    let path = folder.path().join("LOG");
    let file = match folder.vfs().open(&path, OpenMode::Read) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Groups::new()),
        file => file?,
    };
    let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
    file.read_at(0, &mut bytes)?;
    let crc = bytes.split_off(bytes.len().saturating_sub(4));
    if crc != crc32fast::hash(&bytes).to_le_bytes() {
        return Err(io::Error::other("LOG is damaged: its checksum differs"));
    }
    decode(bytes.into()).map_err(io::Error::other)
}

/// A crash leaves the old file or the new one, each whole.
fn store(folder: &Folder, mut bytes: Vec<u8>) -> io::Result<()> {
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    let (path, vfs) = (folder.path(), folder.vfs());
    let new = path.join("LOG.new");
    match vfs.remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = vfs.open(&new, OpenMode::CreateNew)?;
    file.write_at(0, &bytes)?;
    file.sync_data(SyncSite("my-backend: file"))?;
    vfs.rename(&new, &path.join("LOG"))?;
    vfs.sync_dir(path, SyncSite("my-backend: rename"))
}

fn encode(groups: &Groups) -> Vec<u8> {
    let mut out = Vec::new();
    for (group, (image, entries)) in groups {
        wire::put_u64(&mut out, group.0);
        codec::encode_hard_state(&image.hard_state(), &mut out);
        wire::put_flag(&mut out, image.snapshot().is_some());
        if let Some(meta) = image.snapshot() {
            codec::encode_snapshot_meta(meta, &mut out);
        }
        wire::put_varint(&mut out, image.meta().len() as u64);
        for (name, value) in image.meta() {
            wire::put_bytes(&mut out, name);
            wire::put_bytes(&mut out, value);
        }
        wire::put_log_id(&mut out, image.terms().base());
        wire::put_varint(&mut out, entries.len() as u64);
        for entry in entries.values() {
            codec::encode_entry(entry, &mut out);
        }
    }
    out
}

fn decode(bytes: bytes::Bytes) -> Result<Groups, Box<dyn Error + Send + Sync>> {
    let (mut groups, mut reader) = (Groups::new(), wire::Reader::new(bytes));
    while reader.remaining() > 0 {
        let (group, mut state) = (GroupId(reader.u64()?), GroupState::default());
        state.hard_state = codec::read_hard_state(&mut reader)?;
        if reader.flag()? {
            state.snapshot = Some(codec::read_snapshot_meta(&mut reader)?);
        }
        state.meta = reader.list(2, |reader| Ok((reader.bytes()?, reader.bytes()?)))?;
        let mut terms = TermRuns::new(reader.log_id()?);
        let entries = reader.list(4, codec::read_entry)?;
        entries.iter().for_each(|entry| terms.push(entry.id));
        (state.first, state.last) = (terms.first(), terms.last());
        let entries = entries.into_iter().map(|entry| (entry.index(), entry));
        let image = GroupImage::from_parts(state, terms)?;
        groups.insert(group, (image, entries.collect()));
    }
    Ok(groups)
}

impl Engine for MyLog {
    fn commit(&self, commit: &Commit) -> Result<(), String> {
        let mut groups = self.groups.lock().clone();
        for change in &commit.groups {
            let (_, mut entries) = groups.remove(&change.group).unwrap_or_default();
            for range in &change.removed {
                entries.retain(|index, _| !range.contains(index));
            }
            let put = change.put.iter().cloned();
            entries.extend(put.map(|entry| (entry.index(), entry)));
            if let Some(image) = &change.image {
                groups.insert(change.group, (image.clone(), entries));
            }
        }
        store(&self.folder, encode(&groups)).map_err(|error| error.to_string())?;
        *self.groups.lock() = groups;
        Ok(())
    }

    fn read(&self, id: GroupId, range: Range<LogIndex>, max: u64) -> Result<Vec<Entry>, LogError> {
        let groups = self.groups.lock();
        let entries = groups.get(&id).map(|(_, entries)| entries);
        let found = || entries.into_iter().flat_map(|all| all.range(range.clone()));
        let count = payload_fits(found().map(|(_, entry)| entry), max);
        let read = found().take(count).map(|(_, entry)| entry.clone());
        Ok(read.collect())
    }

    fn disk_free_bytes(&self) -> Option<u64> {
        None
    }

    fn scrub(&self, _budget: ByteBudget) -> Result<ScrubReport, StorageError> {
        let mut report = ScrubReport::default();
        let damage = load(&self.folder).err().map(|error| error.to_string());
        report.damage.extend(damage);
        report.completed = true;
        Ok(report)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("my-backend-{}", std::process::id()));
    let open = || open(Arc::new(RealVfs), &path, QueueOptions::default());
    let (log, mut batch) = (open()?, WriteBatch::default());
    let mut write = GroupWrite::default();
    let id = LogId::new(Term(1), LogIndex(1));
    write.append.push(Entry::normal(id, "hello".into()));
    batch.groups.push(write);
    log.wait(log.submit(batch)?)?;
    drop(log);
    let found = open()?.open_group(GroupId(0))?.log;
    let found = found.read(LogIndex(1)..LogIndex(2), u64::MAX)?;
    println!("found again: {found:?}");
    Ok(std::fs::remove_dir_all(&path)?)
}

#[cfg(test)]
raftwerk_testkit::storage_suite!(|| raftwerk_testkit::log_suite::VfsHome::new(|vfs| {
    let options = QueueOptions {
        queued_bytes_max: 4 << 20,
        batch_bytes_max: 2 << 20,
        tail_bytes_max: 512, // so that reads reach the engine
        ..QueueOptions::default()
    };
    let vfs = Arc::new(vfs.clone());
    Ok(Arc::new(open(vfs, "log".as_ref(), options)?))
}));
