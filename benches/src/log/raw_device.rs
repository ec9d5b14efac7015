//! The device: whole pages written and synced in a file that was written before.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use raftwerk_storage::buffer::PageBuf;
use raftwerk_storage::vfs::{OpenMode, RealVfs, SyncSite, Vfs, VfsFile};

use super::{Append, LogTarget, words};

const PAGE_BYTES: u64 = 4096;
/// Written over and over.
const FILE_PAGES: u64 = 16_384;
const SYNC: SyncSite = SyncSite("bench: raw device");

/// Writes the pages that a batch fills and syncs them, past the page cache where that can be. The
/// easiest task of all: no index, nothing that says where a record ends.
struct RawDevice {
    file: Box<dyn VfsFile>,
    place: Mutex<Place>,
    syncs: AtomicU64,
}

struct Place {
    next_page: u64,
    buffer: PageBuf,
}

pub(super) fn open(folder: &Path) -> Result<Box<dyn LogTarget>, String> {
    let path = folder.join("raw");
    std::fs::write(&path, "").map_err(words)?;
    let mode = match RealVfs.direct_io(&path).map_err(words)? {
        Some(_) => OpenMode::WriteDirect,
        None => OpenMode::Write,
    };
    let file = RealVfs.open(&path, mode).map_err(words)?;
    let zeros = PageBuf::zeros(256 * PAGE_BYTES as usize);
    for chunk in 0..FILE_PAGES / 256 {
        file.write_at(chunk * zeros.len() as u64, zeros.content())
            .map_err(words)?;
    }
    file.sync_data(SYNC).map_err(words)?;
    Ok(Box::new(RawDevice {
        file,
        place: Mutex::new(Place {
            next_page: 0,
            buffer: PageBuf::default(),
        }),
        syncs: AtomicU64::new(0),
    }))
}

impl LogTarget for RawDevice {
    fn append(&self, steps: &[Append], durable: bool) -> Result<(), String> {
        let mut place = self.place.lock();
        let Place { next_page, buffer } = &mut *place;
        buffer.begin(0);
        for payload in steps.iter().flat_map(|step| &step.payloads) {
            buffer.tail().extend_from_slice(payload);
        }
        let padding = buffer.len().next_multiple_of(PAGE_BYTES as usize) - buffer.len();
        let tail = buffer.tail();
        tail.resize(tail.len() + padding, 0);
        buffer.align();
        let pages = buffer.len() as u64 / PAGE_BYTES;
        if *next_page + pages > FILE_PAGES {
            *next_page = 0;
        }
        self.file
            .write_at(*next_page * PAGE_BYTES, buffer.content())
            .map_err(words)?;
        *next_page += pages;
        drop(place);
        if durable { self.settle() } else { Ok(()) }
    }

    fn settle(&self) -> Result<(), String> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data(SYNC).map_err(words)
    }

    fn read(&self, _group: u64, _first: u64, _last: u64) -> Result<u64, String> {
        Err("a device knows no entries".to_owned())
    }

    fn syncs(&self) -> Option<u64> {
        Some(self.syncs.load(Ordering::Relaxed))
    }

    fn fed_by_one(&self) -> bool {
        true
    }
}
