//! Looks at a log without opening it: for tools. Nothing is written but the lock's file if that
//! is missing.
//!
//! The lock is held while looking, so a log in use is refused and not misread; where the lock
//! cannot be taken for another reason (a read-only disk), looking goes on without it.

use std::io::ErrorKind;
use std::ops::{ControlFlow, Range};
use std::path::Path;

use raftwerk_raft::{GroupId, LogIndex, StorageError, Term};
use raftwerk_storage::folder::{Folder, LOCK_FILE, StoreUuid};
use raftwerk_storage::vfs::{OpenMode, Vfs, VfsLock};

use crate::options::Options;
use crate::recovery::Progress;
use crate::recovery::files::{chain, open_all};
use crate::recovery::scan::{Event, Expect, Frame, Scan, Section};
use crate::recovery::verdict::Report;
use crate::segment::footer::{read_extents, read_successor};
use crate::segment::format::{FrameKind, ItemKind};
use crate::wal::KIND;

/// One thing found in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record {
    /// A frame; its items follow.
    Frame {
        /// In which segment.
        segment: u64,
        /// Where in it, in bytes.
        offset: u64,
        /// What it is for: `open`, `batch` or `seal`.
        kind: &'static str,
        /// Its place in the log.
        lsn: u64,
        /// How far the log was known to be durable when it was written.
        durable: u64,
        /// Its length with padding, in bytes.
        bytes: u64,
    },
    /// An item of the last frame.
    Item {
        /// Whose; zero for what concerns the whole log.
        group: GroupId,
        /// What it holds.
        kind: &'static str,
        /// The entries it names; empty for other items.
        entries: Range<LogIndex>,
        /// Their term.
        term: Term,
        /// Its section's length, in bytes.
        bytes: u64,
        /// Its section can be read.
        intact: bool,
    },
    /// A place that cannot be read.
    Unreadable {
        /// In which segment.
        segment: u64,
        /// From where on, in bytes.
        offset: u64,
        /// To where.
        until: u64,
    },
}

/// Examines the log in `dir` as opening it would, and says what opening would find.
///
/// # Errors
/// [`StorageError`] when it is no log, in use, or cannot be read at all.
pub fn verify(vfs: &dyn Vfs, dir: &Path) -> Result<Report, StorageError> {
    verify_watched(vfs, dir, &mut |_| {})
}

/// [`verify`] that tells `watch` how far it is, at each segment.
///
/// # Errors
/// As [`verify`].
pub fn verify_watched(
    vfs: &dyn Vfs,
    dir: &Path,
    watch: &mut dyn FnMut(Progress),
) -> Result<Report, StorageError> {
    let (uuid, _lock) = look(vfs, dir)?;
    let page_bytes = Options::default().page_bytes;
    Ok(crate::recovery::examine(vfs, dir, uuid, OpenMode::Read, page_bytes, watch)?.report)
}

/// Shows `visit` everything in the log in `dir`, oldest first, until it breaks.
///
/// # Errors
/// As [`verify`].
pub fn dump(
    vfs: &dyn Vfs,
    dir: &Path,
    visit: &mut dyn FnMut(Record) -> ControlFlow<()>,
) -> Result<(), StorageError> {
    let (uuid, _lock) = look(vfs, dir)?;
    let files = open_all(
        vfs,
        dir,
        uuid,
        OpenMode::Read,
        Options::default().page_bytes,
    )?;
    for part in chain(&files) {
        let Some(file) = files.get(&part.number) else {
            continue;
        };
        let mut stopped = false;
        let mut scan = Scan::new(file.file.as_ref(), uuid, file.header);
        scan.walk(Expect::default(), part.end, &mut |event| {
            let flow = match event {
                Event::Frame(frame) => show(frame, uuid, visit),
                Event::Gap(gap) => visit(Record::Unreadable {
                    segment: part.number,
                    offset: gap.offset,
                    until: gap.until,
                }),
            };
            stopped = flow.is_break();
            flow
        });
        if stopped {
            break;
        }
    }
    Ok(())
}

fn look(vfs: &dyn Vfs, dir: &Path) -> Result<(StoreUuid, Option<Box<dyn VfsLock>>), StorageError> {
    let identity = Folder::peek(vfs, dir)?;
    if identity.backend != KIND.name || identity.format_version != KIND.format_version {
        return Err(StorageError::WrongStore {
            path: dir.display().to_string(),
            found: identity.to_string(),
            expected: KIND.to_string(),
        });
    }
    match vfs.lock(&dir.join(LOCK_FILE)) {
        Ok(lock) => Ok((identity.uuid, Some(lock))),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(StorageError::Locked {
            path: dir.display().to_string(),
        }),
        Err(_) => Ok((identity.uuid, None)),
    }
}

fn show(
    frame: &Frame,
    uuid: StoreUuid,
    visit: &mut dyn FnMut(Record) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let header = &frame.header;
    let kind = match header.kind {
        FrameKind::Open => "open",
        FrameKind::Batch => "batch",
        FrameKind::Seal => "seal",
    };
    visit(Record::Frame {
        segment: header.id.number,
        offset: header.offset,
        kind,
        lsn: header.lsn,
        durable: header.durable,
        bytes: frame.end - header.offset,
    })?;
    for section in frame.sections(uuid) {
        show_item(header.kind, header.id.number, &section, visit)?;
    }
    ControlFlow::Continue(())
}

fn show_item(
    frame: FrameKind,
    segment: u64,
    section: &Section<'_>,
    visit: &mut dyn FnMut(Record) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let none = LogIndex::ZERO..LogIndex::ZERO;
    let bytes = section.bytes.clone();
    let (kind, entries, term, intact) = match section.item.kind {
        ItemKind::Log if frame == FrameKind::Seal => {
            let intact = bytes.is_some_and(|bytes| read_successor(bytes).is_ok());
            ("successor", none, Term::ZERO, intact)
        }
        ItemKind::Log => ("log", none, Term::ZERO, bytes.is_some()),
        ItemKind::Entries(span) => (
            "entries",
            span.first..span.end(),
            span.term,
            bytes.is_some(),
        ),
        ItemKind::Relocated { span, .. } => (
            "relocated",
            span.first..span.end(),
            span.term,
            bytes.is_some(),
        ),
        ItemKind::State(_) => ("state", none, Term::ZERO, bytes.is_some()),
        ItemKind::Checkpoint => ("checkpoint", none, Term::ZERO, bytes.is_some()),
        ItemKind::Extents => {
            let intact = bytes.is_some_and(|bytes| read_extents(bytes, segment).is_ok());
            ("extents", none, Term::ZERO, intact)
        }
    };
    let bytes = u64::from(section.item.bytes);
    visit(Record::Item {
        group: section.item.group,
        kind,
        entries,
        term,
        bytes,
        intact,
    })
}
