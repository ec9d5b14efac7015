//! Reads a segment frame by frame, and goes on behind what cannot be read.

use std::ops::{ControlFlow, Range};

use bytes::Bytes;
use raftwerk_storage::folder::StoreUuid;
use raftwerk_storage::vfs::VfsFile;

use crate::rules::{Rule, holds};
use crate::segment::format::{
    FRAME_HEADER_BYTES, FrameHeader, FrameKind, Item, begins_as_header, is_section, read_directory,
    section_seed,
};
use crate::segment::header::SegmentHeader;

/// How much is read at once, in bytes: several frames, so that few are read twice.
const WINDOW_BYTES: u64 = 256 * 1024;
/// What a disk writes whole, in bytes.
const SECTOR_BYTES: usize = 512;
/// What unreadable sectors are taken for: no zeros, and no frame.
const UNREADABLE: u8 = 0xa5;
/// So many zeros at the end of a sector are a trace of what stood there before.
const TEAR_ZEROS: usize = 4;

const ZEROS: [u8; 4096] = [0; 4096];

/// A file, read in windows. Sectors that the disk will not give are filled with garbage.
#[derive(Debug)]
struct Window<'a> {
    file: &'a dyn VfsFile,
    len: u64,
    start: u64,
    /// How much is read at once, in bytes.
    most: u64,
    buffer: Vec<u8>,
    /// How much of the buffer counts.
    filled: usize,
    /// Where in the file such sectors of the buffer are.
    bad: Vec<Range<u64>>,
    /// There were such sectors.
    unreadable: bool,
}

impl Window<'_> {
    fn get(&mut self, offset: u64, len: u64) -> &[u8] {
        let end = (offset + len).min(self.len).max(offset);
        if offset < self.start || end > self.start + self.filled as u64 {
            let until = (offset + len.max(self.most)).min(self.len);
            self.load(offset, until.max(offset));
        }
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let to = usize::try_from(end - self.start)
            .unwrap_or(usize::MAX)
            .min(self.filled);
        self.buffer.get(from..to).unwrap_or_default()
    }

    fn load(&mut self, offset: u64, until: u64) {
        let count = (until - offset) as usize;
        if self.buffer.len() < count {
            self.buffer = vec![0; count];
        }
        self.start = offset;
        self.filled = count;
        self.bad.clear();
        let Some(buffer) = self.buffer.get_mut(..count) else {
            return;
        };
        if let Ok(read) = self.file.read_at(offset, buffer) {
            self.filled = read;
            return;
        }
        let mut at = offset;
        for sector in buffer.chunks_mut(SECTOR_BYTES) {
            if self.file.read_at(at, sector).is_err() {
                sector.fill(UNREADABLE);
                self.bad.push(at..at + sector.len() as u64);
                self.unreadable = true;
            }
            at += sector.len() as u64;
        }
    }

    /// [`Window::get`], and whether all of it is what the disk gave.
    fn get_given(&mut self, offset: u64, len: u64) -> (&[u8], bool) {
        self.get(offset, len);
        let end = offset.saturating_add(len);
        let mut bad = self.bad.iter();
        let given = !bad.any(|bad| bad.start < end && offset < bad.end);
        (self.get(offset, len), given)
    }
}

/// A frame whose header and directory are sound.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) header: FrameHeader,
    /// Its header's checksum.
    pub(crate) chain: u32,
    pub(crate) items: Vec<Item>,
    body: Bytes,
    /// Which sections are damaged.
    bad: Vec<bool>,
    /// A write that was cut short looks like this.
    pub(crate) torn: bool,
    /// Where it ends, padding included.
    pub(crate) end: u64,
}

/// An item with its section.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    pub(crate) item: &'a Item,
    /// Its checksum is right.
    pub(crate) intact: bool,
    /// None when it is damaged, or the scan keeps no bodies.
    pub(crate) bytes: Option<Bytes>,
    /// Where it begins in the segment.
    pub(crate) offset: u64,
    /// What its checksum begins with.
    pub(crate) seed: u32,
}

impl Frame {
    pub(crate) fn is_whole(&self) -> bool {
        !self.bad.contains(&true)
    }

    pub(crate) fn sections(&self, uuid: StoreUuid) -> Vec<Section<'_>> {
        let seed = self.header.seed(uuid);
        let mut offset = 0u32;
        let mut out = Vec::with_capacity(self.items.len());
        for (item, bad) in self.items.iter().zip(&self.bad) {
            let range = offset as usize..(offset + item.bytes) as usize;
            let held = !bad && range.end <= self.body.len();
            out.push(Section {
                item,
                intact: !bad,
                bytes: held.then(|| self.body.slice(range)),
                offset: self.header.offset + FRAME_HEADER_BYTES as u64 + u64::from(offset),
                seed: section_seed(seed, offset),
            });
            offset += item.bytes;
        }
        out
    }
}

/// What stands at a place where a frame may begin.
#[derive(Debug)]
pub(crate) enum Look {
    /// A frame; sections of it may be damaged.
    Frame(Frame),
    /// None that can be read.
    Nothing {
        /// There are zeros instead.
        blank: bool,
        /// A write that was cut short looks like this.
        torn: bool,
    },
}

/// A place in the log that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// Where it begins in the segment, in bytes.
    pub(crate) offset: u64,
    /// Where the next sound frame begins, or the search ended.
    pub(crate) until: u64,
    /// The first frame in it, by its place in the log; none when not even that is known.
    pub(crate) lsn: Option<u64>,
    /// The frame found behind it.
    pub(crate) next_lsn: Option<u64>,
    /// A write that was cut short looks like this.
    pub(crate) torn: bool,
}

impl Gap {
    /// What must stand behind it, if the gap itself was to be `expect`.
    pub(crate) fn after(&self, expect: Expect) -> Expect {
        Expect {
            lsn: self.next_lsn.or(expect.lsn),
            chain: None,
        }
    }
}

/// What a walk meets.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    Frame(&'a Frame),
    Gap(Gap),
}

/// What the next frame must be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Expect {
    pub(crate) lsn: Option<u64>,
    pub(crate) chain: Option<u32>,
}

impl Expect {
    fn allows(&self, frame: &Frame) -> bool {
        let lsn = frame.header.lsn;
        let opens = frame.header.kind == FrameKind::Open;
        let in_order = self
            .lsn
            .is_none_or(|next| lsn == next || (opens && lsn > next));
        let chained = self.chain.is_none_or(|chain| chain == frame.header.chain);
        in_order && (chained || !holds(Rule::Chain))
    }

    pub(crate) fn after(frame: &Frame) -> Self {
        Self {
            lsn: Some(frame.header.lsn.saturating_add(1)),
            chain: Some(frame.chain),
        }
    }
}

/// One segment under examination.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    window: Window<'a>,
    uuid: StoreUuid,
    header: SegmentHeader,
    /// Frames keep what is in their sections.
    bodies: bool,
}

impl<'a> Scan<'a> {
    /// One that verifies all, and keeps only what directories say.
    pub(crate) fn without_bodies(
        file: &'a dyn VfsFile,
        uuid: StoreUuid,
        header: SegmentHeader,
    ) -> Self {
        Self {
            bodies: false,
            ..Self::new(file, uuid, header)
        }
    }

    pub(crate) fn new(file: &'a dyn VfsFile, uuid: StoreUuid, header: SegmentHeader) -> Self {
        let len = file.len().unwrap_or(0).min(header.capacity);
        Self {
            window: Window {
                file,
                len,
                start: 0,
                most: WINDOW_BYTES,
                buffer: Vec::new(),
                filled: 0,
                bad: Vec::new(),
                unreadable: false,
            },
            uuid,
            header,
            bodies: true,
        }
    }

    /// The disk did not give all of what was looked at.
    pub(crate) const fn met_unreadable(&self) -> bool {
        self.window.unreadable
    }

    const fn page(&self) -> u64 {
        self.header.page_bytes as u64
    }

    pub(crate) fn look(&mut self, offset: u64) -> Look {
        let (bytes, given) = self.window.get_given(offset, FRAME_HEADER_BYTES as u64);
        let blank = bytes.iter().all(|byte| *byte == 0);
        // A header ends with bytes that are not zero: without them, the sector is torn, if what was
        // written of it begins as a header does.
        let cut = bytes.last().is_none_or(|byte| *byte == 0);
        let torn = blank || (cut && begins_as_header(bytes));
        let nothing = Look::Nothing {
            blank,
            torn: torn || given && !self.header.zeroed,
        };
        let Ok((header, chain)) = FrameHeader::decode(bytes, self.uuid) else {
            return nothing;
        };
        let bytes = header.frame_bytes(self.header.page_bytes);
        let misplaced = header.id != self.header.id || header.offset != offset;
        if misplaced && holds(Rule::Place) || offset + bytes > self.header.capacity {
            return nothing;
        }
        self.read(header, chain, offset + bytes)
    }

    fn read(&mut self, header: FrameHeader, chain: u32, end: u64) -> Look {
        let zeroed = self.header.zeroed;
        let uuid = self.uuid;
        let bodies = self.bodies;
        // What the disk does not give tells of the disk, whatever stands beside it: then zeros may
        // as well be what was written.
        let content = self.window.get_given(header.offset, header.content_bytes());
        let (content, given) = content;
        let body_end = FRAME_HEADER_BYTES + header.body_bytes as usize;
        let directory = content.get(body_end..).unwrap_or_default();
        // A frame ends with bytes that are not zero: without them, its end was never written.
        let cut = !zeroed || content.last().is_none_or(|byte| *byte == 0);
        let Ok(items) = read_directory(&header, uuid, directory) else {
            let torn = given && (cut || is_torn(content, &(body_end..content.len())));
            return Look::Nothing { blank: false, torn };
        };
        let seed = header.seed(uuid);
        let mut bad = Vec::with_capacity(items.len());
        let mut torn = false;
        let mut start = FRAME_HEADER_BYTES;
        for item in &items {
            let range = start..start + item.bytes as usize;
            start = range.end;
            let offset = (range.start - FRAME_HEADER_BYTES) as u32;
            let section = content.get(range.clone());
            let seed = section_seed(seed, offset);
            let sound = section.is_some_and(|bytes| is_section(seed, bytes, item.crc));
            bad.push(!sound);
            torn |= !sound && given && (cut || is_torn(content, &range));
        }
        let body = content.get(FRAME_HEADER_BYTES..body_end);
        let body = Bytes::copy_from_slice(body.filter(|_| bodies).unwrap_or_default());
        Look::Frame(Frame {
            header,
            chain,
            items,
            body,
            bad,
            torn,
            end,
        })
    }

    /// Reads no more at once than `bytes`, but for a frame that is larger.
    pub(crate) fn reading_at_most(mut self, bytes: u64) -> Self {
        self.window.most = bytes.clamp(self.page(), WINDOW_BYTES);
        self
    }

    /// Tells `visit` of every frame and gap from the first frame to `limit`, which is the
    /// recorded end, or to the end of the file. Returns what the next segment must go on with.
    pub(crate) fn walk(
        &mut self,
        expect: Expect,
        limit: Option<u64>,
        visit: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Expect {
        self.walk_from(self.page(), expect, limit, visit)
    }

    /// [`Scan::walk`] from the frame on that stands at `offset`.
    pub(crate) fn walk_from(
        &mut self,
        offset: u64,
        expect: Expect,
        limit: Option<u64>,
        visit: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Expect {
        let (mut expect, mut offset) = (expect, offset);
        let end = limit
            .unwrap_or(self.header.capacity)
            .min(self.header.capacity);
        while offset < end {
            let (blank, torn) = match self.look(offset) {
                Look::Frame(frame) if expect.allows(&frame) => {
                    expect = Expect::after(&frame);
                    offset = frame.end;
                    let sealed = frame.header.kind == FrameKind::Seal;
                    if visit(Event::Frame(&frame)).is_break() || sealed {
                        return expect;
                    }
                    continue;
                }
                Look::Frame(frame) => (false, frame.torn),
                Look::Nothing { blank, torn } => (blank, torn),
            };
            if blank && limit.is_none() && self.is_blank(offset, end) {
                return expect;
            }
            let next = self.find(offset + self.page(), end, expect.lsn);
            let until = next.map_or(end, |(at, _)| at);
            let next_lsn = next.map(|(_, lsn)| lsn);
            let gap = Gap {
                offset,
                until,
                lsn: expect.lsn,
                next_lsn,
                torn,
            };
            if visit(Event::Gap(gap)).is_break() {
                return expect;
            }
            expect = gap.after(expect);
            offset = until;
        }
        expect
    }

    /// The next whole frame from `offset` on that is not older than `lsn`.
    pub(crate) fn find(&mut self, offset: u64, end: u64, lsn: Option<u64>) -> Option<(u64, u64)> {
        let mut offset = offset;
        // A header or a successor may name an end far behind the file's.
        let end = end.min(self.window.len);
        while offset < end && holds(Rule::FullScan) {
            if let Look::Frame(frame) = self.look(offset)
                && frame.is_whole()
                && lsn.is_none_or(|lsn| frame.header.lsn > lsn)
            {
                return Some((offset, frame.header.lsn));
            }
            offset += self.page();
        }
        None
    }

    /// Whether nothing but zeros stands from `offset` to `end`.
    pub(crate) fn is_blank(&mut self, offset: u64, end: u64) -> bool {
        self.written_until(offset, end) == offset
    }

    /// Behind the last byte from `offset` to `end` that is not zero.
    pub(crate) fn written_until(&mut self, offset: u64, end: u64) -> u64 {
        let (mut at, mut last) = (offset, offset);
        while at < end {
            let count = WINDOW_BYTES.min(end - at);
            for block in self.window.get(at, count).chunks(ZEROS.len()) {
                // Whole blocks are compared at once: most of a segment is zeros.
                if ZEROS.get(..block.len()) != Some(block) {
                    let position = block.iter().rposition(|byte| *byte != 0).unwrap_or(0);
                    last = at + position as u64 + 1;
                }
                at += block.len() as u64;
            }
            at = at.max(last);
            if self.window.get(at, 1).is_empty() {
                break;
            }
        }
        last
    }
}

/// Whether a write that was cut short explains the damage in `range`: the end of one of its
/// sectors still has the zeros of before.
fn is_torn(content: &[u8], range: &Range<usize>) -> bool {
    let mut start = range.start;
    while start < range.end {
        let end = ((start / SECTOR_BYTES + 1) * SECTOR_BYTES).min(range.end);
        let from = end.saturating_sub(TEAR_ZEROS).max(start);
        if content
            .get(from..end)
            .is_none_or(|tail| tail.iter().all(|byte| *byte == 0))
        {
            return true;
        }
        start = end;
    }
    false
}
