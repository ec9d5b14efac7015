//! Which files there are, which of them are the log, and in which order.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use raftwerk_raft::StorageError;
use raftwerk_storage::folder::{StoreUuid, io_error};
use raftwerk_storage::vfs::{OpenMode, Vfs, VfsFile};

use super::scan::{Frame, Look, Scan};
use crate::segment::checkpoint::{LogRecord, Predecessor};
use crate::segment::format::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, ItemKind};
use crate::segment::header::{HEADER_BYTES, SegmentHeader, parse_file_name};

/// How a segment says that it is active, and what it continues.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) chain: u32,
    pub(crate) predecessor: Option<Predecessor>,
    /// The checkpoint can be read.
    pub(crate) whole: bool,
}

/// A file that may be a segment of the log.
#[derive(Clone)]
pub(crate) struct SegmentFile {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn VfsFile>,
    /// The header cannot be read; this one was put together from the frames.
    pub(crate) adopted: bool,
    pub(crate) link: Option<Link>,
    blank: OnceCell<bool>,
}

impl SegmentFile {
    /// Nothing but zeros stands behind the header. The whole file is read to know, once.
    pub(crate) fn is_blank(&self) -> bool {
        *self.blank.get_or_init(|| {
            let header = self.header;
            let mut scan = Scan::without_bodies(self.file.as_ref(), header.uuid, header);
            scan.is_blank(u64::from(header.page_bytes), header.capacity)
        })
    }
}

/// All segment files by number.
pub(crate) type Files = BTreeMap<u64, SegmentFile>;

/// Opens every file that has a segment's name.
pub(crate) fn open_all(
    vfs: &dyn Vfs,
    dir: &Path,
    uuid: StoreUuid,
    mode: OpenMode,
    page_bytes: u32,
) -> Result<Files, StorageError> {
    let names = vfs.list(dir).map_err(io_error("list", dir))?;
    let mut files = Files::new();
    for name in names {
        let Some(number) = parse_file_name(&name) else {
            continue;
        };
        let path = dir.join(&name);
        let file: Arc<dyn VfsFile> =
            Arc::from(vfs.open(&path, mode).map_err(io_error("open", &path))?);
        if let Some(segment) = identify(file, uuid, number, page_bytes) {
            files.insert(number, segment);
        }
    }
    Ok(files)
}

/// Whether nothing but zeros stands in `file`, its first page included.
pub(crate) fn is_all_zeros(file: &dyn VfsFile) -> bool {
    let mut buffer = vec![0; 64 * 1024];
    let mut at = 0;
    loop {
        let Ok(count @ 1..) = file.read_at(at, &mut buffer) else {
            return file.len().is_ok_and(|len| at >= len);
        };
        if buffer.iter().take(count).any(|byte| *byte != 0) {
            return false;
        }
        at += count as u64;
    }
}

fn identify(
    file: Arc<dyn VfsFile>,
    uuid: StoreUuid,
    number: u64,
    page_bytes: u32,
) -> Option<SegmentFile> {
    let mut page = [0; HEADER_BYTES];
    let read = file.read_at(0, &mut page);
    let stated = read.ok().and_then(|_| SegmentHeader::decode(&page).ok());
    let fits = |header: &SegmentHeader| header.uuid == uuid && header.id.number == number;
    let (header, adopted) = match stated.filter(fits) {
        Some(header) => (header, false),
        None => (adopt(file.as_ref(), uuid, number, page_bytes)?, true),
    };
    let link = link(file.as_ref(), uuid, header);
    Some(SegmentFile {
        header,
        file,
        adopted,
        link,
        blank: OnceCell::new(),
    })
}

/// A header for a segment whose own is damaged: its frames say which life it is in.
fn adopt(
    file: &dyn VfsFile,
    uuid: StoreUuid,
    number: u64,
    page_bytes: u32,
) -> Option<SegmentHeader> {
    let capacity = file.len().ok()?;
    let mut offset = u64::from(page_bytes);
    while offset < capacity {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        let _ = file.read_at(offset, &mut bytes);
        match FrameHeader::decode(&bytes, uuid) {
            Ok((frame, _)) if frame.id.number == number && frame.offset == offset => {
                let id = frame.id;
                return Some(SegmentHeader {
                    uuid,
                    id,
                    page_bytes,
                    zeroed: true,
                    capacity,
                });
            }
            _ => offset += u64::from(page_bytes),
        }
    }
    None
}

fn link(file: &dyn VfsFile, uuid: StoreUuid, header: SegmentHeader) -> Option<Link> {
    let mut scan = Scan::new(file, uuid, header);
    let Look::Frame(frame) = scan.look(u64::from(header.page_bytes)) else {
        return None;
    };
    let record = log_record(&frame, uuid)?;
    Some(Link {
        chain: frame.header.chain,
        predecessor: record.predecessor,
        whole: frame.is_whole(),
    })
}

fn log_record(frame: &Frame, uuid: StoreUuid) -> Option<LogRecord> {
    if frame.header.kind != FrameKind::Open {
        return None;
    }
    let sections = frame.sections(uuid);
    let log = sections
        .into_iter()
        .find(|section| section.item.kind == ItemKind::Log)?;
    LogRecord::read(log.bytes?).ok()
}

/// A segment's place in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) number: u64,
    /// Where it ends, if its successor says so.
    pub(crate) end: Option<u64>,
}

/// The log, oldest segment first: what the newest whole first frame leads back to. One that is
/// not whole may be a write that was cut short: it cuts nothing off the segment before it.
pub(crate) fn chain(files: &Files) -> Vec<Part> {
    let newest = |whole: bool| {
        files.iter().rev().find(|(_, file)| {
            let mut link = file.link.iter();
            link.any(|link| link.whole || !whole)
        })
    };
    let Some((head, _)) = newest(true).or_else(|| newest(false)) else {
        return Vec::new();
    };
    let mut parts = vec![Part {
        number: *head,
        end: None,
    }];
    let mut number = *head;
    while let Some(file) = files.get(&number) {
        let named = match &file.link {
            Some(link) => match link.predecessor {
                Some(before) => Some(Part {
                    number: before.segment,
                    end: Some(before.end),
                }),
                None => break,
            },
            None => None,
        };
        let named = named.filter(|before| files.contains_key(&before.number));
        // Its first frame is damaged, or its predecessor is gone: what stands before it is the
        // best guess. Later segments may name entries there.
        let guess = || {
            let (before, _) = files.range(..number).next_back()?;
            Some(Part {
                number: *before,
                end: None,
            })
        };
        let Some(before) = named.or_else(guess) else {
            break;
        };
        if before.number >= number {
            break;
        }
        parts.push(before);
        number = before.number;
    }
    parts.reverse();
    parts
}
