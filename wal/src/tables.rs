//! Where the entries of sealed segments stand: their footers, read when they are needed, of which a
//! bounded part stays in memory.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use raftwerk_raft::{GroupId, LogIndex};
use raftwerk_storage::folder::StoreUuid;
use raftwerk_storage::vfs::{FileMap, VfsFile};

use crate::index::Extent;
use crate::recovery::survey::Survey;
use crate::segment::footer::{put_extents, read_extents};
use crate::segment::format::{
    FRAME_HEADER_BYTES, FrameHeader, ItemKind, is_section, read_directory, section_seed,
};
use crate::segment::header::SegmentHeader;

/// Of the cache, one segment's footer stays whole if it takes at most this part (one of so many).
const WHOLE_PART: u64 = 4;

/// The mapping of a segment, made when it is first read that way. The segment's file is used again
/// only when nobody but the segment holds this.
#[derive(Debug, Default)]
pub(crate) struct Maps(OnceLock<Option<FileMap>>);

/// Bytes of a mapping, which keep it alive.
struct MapSlice {
    maps: Arc<Maps>,
    range: Range<usize>,
}

impl AsRef<[u8]> for MapSlice {
    fn as_ref(&self) -> &[u8] {
        let map = self.maps.0.get().and_then(Option::as_ref);
        let bytes = map.and_then(|map| map.bytes().get(self.range.clone()));
        bytes.unwrap_or_default()
    }
}

/// A sealed segment, to read from.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    pub(crate) uuid: StoreUuid,
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn VfsFile>,
    /// Where its part of the log ends, in bytes.
    pub(crate) end: u64,
    /// Where its footer begins, if it has a durable one.
    pub(crate) footer: Option<u64>,
    /// None when it is not to be mapped.
    pub(crate) maps: Option<Arc<Maps>>,
}

impl Sealed {
    /// Bytes of the file, fewer only at its end; true when they are in a mapping.
    pub(crate) fn fetch(&self, offset: u64, bytes: usize) -> io::Result<(Bytes, bool)> {
        if let Some(maps) = &self.maps {
            let map = maps.0.get_or_init(|| self.file.map().ok().flatten());
            if let Some(map) = map {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let end = start.saturating_add(bytes).min(map.bytes().len());
                let slice = MapSlice {
                    maps: Arc::clone(maps),
                    range: start.min(end)..end,
                };
                return Ok((Bytes::from_owner(slice), true));
            }
        }
        let mut buffer = vec![0; bytes];
        let count = self.file.read_at(offset, &mut buffer)?;
        buffer.truncate(count);
        Ok((buffer.into(), false))
    }
}

/// Where a group's extents stand in a table's body.
#[derive(Clone, Copy, Debug)]
struct Line {
    group: GroupId,
    start: u32,
    bytes: u32,
    crc: u32,
}

/// Where all groups' entries stand in a segment.
#[derive(Debug)]
struct Table {
    /// Ascending.
    lines: Vec<Line>,
    /// Where the body stands in the file, and what its sections' checksums begin with.
    body_offset: u64,
    seed: u32,
    /// The body, if it is held.
    body: Option<Bytes>,
    /// It is put together from the frames, not from the footer.
    surveyed: bool,
    /// The disk did not give all that it is made of, which may change.
    passing: bool,
}

impl Table {
    fn read(sealed: &Sealed, footer: u64, whole_max: u64) -> Option<Self> {
        let (bytes, _) = sealed.fetch(footer, FRAME_HEADER_BYTES).ok()?;
        let (header, _) = FrameHeader::decode(&bytes, sealed.uuid).ok()?;
        if header.id != sealed.header.id || header.offset != footer {
            return None;
        }
        let body_offset = footer + FRAME_HEADER_BYTES as u64;
        let directory = body_offset + u64::from(header.body_bytes);
        let room = sealed.header.capacity.checked_sub(directory)?;
        if room < u64::from(header.directory_bytes) {
            return None;
        }
        let (bytes, mapped) = sealed
            .fetch(directory, header.directory_bytes as usize)
            .ok()?;
        let mut lines = Vec::new();
        let mut start = 0;
        for item in read_directory(&header, sealed.uuid, &bytes).ok()? {
            if item.kind == ItemKind::Extents {
                lines.push(Line {
                    group: item.group,
                    start,
                    bytes: item.bytes,
                    crc: item.crc,
                });
            }
            start += item.bytes;
        }
        lines.sort_unstable_by_key(|line| line.group);
        lines.shrink_to_fit();
        let mut body = None;
        if !mapped && u64::from(header.body_bytes) <= whole_max {
            let fetched = sealed.fetch(body_offset, header.body_bytes as usize);
            body = Some(fetched.ok()?.0);
        }
        Some(Self {
            lines,
            body_offset,
            seed: header.seed(sealed.uuid),
            body,
            surveyed: false,
            passing: false,
        })
    }

    /// Of a segment without a footer, or with a damaged one.
    fn survey(sealed: &Sealed) -> Self {
        let survey = Survey::walk(
            sealed.file.as_ref(),
            sealed.uuid,
            sealed.header,
            Some(sealed.end),
        );
        let mut lines = Vec::new();
        let mut body = Vec::new();
        for (group, sections) in &survey.groups {
            let start = body.len();
            let all = LogIndex::ZERO..LogIndex::MAX;
            let extents = sections.within(survey.segment, all);
            let extents: Vec<_> = extents.map(|extent| survey.frames.seeded(extent)).collect();
            put_extents(&extents, &mut body);
            lines.push(Line {
                group: *group,
                start: u32::try_from(start).unwrap_or(u32::MAX),
                bytes: u32::try_from(body.len() - start).unwrap_or(u32::MAX),
                crc: 0,
            });
        }
        Self {
            lines,
            body_offset: 0,
            seed: 0,
            body: Some(body.into()),
            surveyed: true,
            passing: survey.unreadable,
        }
    }

    fn memory(&self) -> u64 {
        let body = self.body.as_ref().map_or(0, Bytes::len);
        (size_of::<Self>() + self.lines.len() * size_of::<Line>() + body) as u64
    }

    /// The sections of `group`; none when the place that names them cannot be read.
    fn find(&self, sealed: &Sealed, group: GroupId) -> Option<Vec<Extent>> {
        let Ok(at) = self.lines.binary_search_by_key(&group, |line| line.group) else {
            return Some(Vec::new());
        };
        let line = self.lines.get(at)?;
        let (start, bytes) = (line.start as usize, line.bytes as usize);
        let section = match &self.body {
            Some(body) if start + bytes <= body.len() => body.slice(start..start + bytes),
            Some(_) => return None,
            None => {
                let offset = self.body_offset + u64::from(line.start);
                sealed.fetch(offset, bytes).ok()?.0
            }
        };
        let sound = || is_section(section_seed(self.seed, line.start), &section, line.crc);
        if !self.surveyed && !sound() {
            return None;
        }
        read_extents(section, sealed.header.id.number).ok()
    }
}

#[derive(Debug, Default)]
struct Held {
    /// With the time of its last use.
    tables: BTreeMap<u64, (u64, Arc<Table>)>,
    bytes: u64,
    clock: u64,
}

impl Held {
    fn get(&mut self, segment: u64) -> Option<Arc<Table>> {
        self.clock += 1;
        let (used, table) = self.tables.get_mut(&segment)?;
        *used = self.clock;
        Some(Arc::clone(table))
    }

    fn put(&mut self, segment: u64, table: &Arc<Table>, bytes_max: u64) {
        self.remove(segment);
        while !self.tables.is_empty() && self.bytes + table.memory() > bytes_max {
            let oldest = self.tables.iter().min_by_key(|(_, (used, _))| *used);
            let Some(oldest) = oldest.map(|(number, _)| *number) else {
                break;
            };
            self.remove(oldest);
        }
        self.bytes += table.memory();
        self.tables.insert(segment, (self.clock, Arc::clone(table)));
    }

    fn remove(&mut self, segment: u64) {
        if let Some((_, table)) = self.tables.remove(&segment) {
            self.bytes -= table.memory();
        }
    }
}

/// Whether `found` serves `range` without a gap.
fn is_covered(range: &Range<LogIndex>, found: &[Extent]) -> bool {
    let mut next = range.start;
    for extent in found.iter().filter_map(|extent| extent.clip(range)) {
        if extent.first != next {
            break;
        }
        next = extent.end();
    }
    next >= range.end
}

/// The footers that are in memory.
#[derive(Debug)]
pub(crate) struct Tables {
    bytes_max: u64,
    held: Mutex<Held>,
}

impl Tables {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            held: Mutex::default(),
        }
    }

    /// The sections of `group` in `sealed` that serve `range`, each with all that reading it takes.
    pub(crate) fn find(
        &self,
        sealed: &Sealed,
        group: GroupId,
        range: &Range<LogIndex>,
    ) -> Vec<Extent> {
        let number = sealed.header.id.number;
        let known = self.held.lock().get(number);
        let table = known.unwrap_or_else(|| {
            let whole_max = self.bytes_max / WHOLE_PART;
            let footer = sealed.footer;
            let table = footer.and_then(|footer| Table::read(sealed, footer, whole_max));
            self.hold(number, table.unwrap_or_else(|| Table::survey(sealed)))
        });
        let found = table.find(sealed, group);
        if let Some(found) = found.filter(|found| table.surveyed || is_covered(range, found)) {
            return found;
        }
        // The footer has rotted since, or its writer knew of a write that is lost: the frames say
        // all.
        let table = self.hold(number, Table::survey(sealed));
        table.find(sealed, group).unwrap_or_default()
    }

    fn hold(&self, segment: u64, table: Table) -> Arc<Table> {
        let table = Arc::new(table);
        if table.passing {
            return table;
        }
        self.held.lock().put(segment, &table, self.bytes_max);
        table
    }

    /// What is held, in bytes.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.held.lock().bytes
    }
}
