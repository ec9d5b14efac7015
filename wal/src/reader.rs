//! Reads one group's log: from memory what is recent, from the segments what is not.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use raftwerk_raft::{Entry, GroupId, LogError, LogId, LogIndex, LogReader, Term};
use raftwerk_storage::image::GroupImage;
use raftwerk_storage::payload_fits;

use crate::engine::Engine;
use crate::index::Extent;
use crate::record::{Copies, read_entries};
use crate::segment::format::section_crc;
use crate::stats::count;
use crate::tables::Sealed;

/// How many segments one look at the index takes along.
const PIECES_AT_ONCE: usize = 4;
/// How many sections of each.
const SECTIONS_AT_ONCE: usize = 64;
/// How often a read begins anew because the log was cut underneath it.
const READ_TRIES: usize = 16;

/// A group's log.
#[derive(Debug)]
pub(crate) struct GroupLog {
    engine: Arc<Engine>,
    group: GroupId,
    /// Entries may be slices of mappings.
    zero_copy: bool,
}

/// What a look at the index gave.
enum Found {
    Memory(Vec<Entry>),
    /// What was read before is no longer there.
    Replaced,
    Disk(Vec<Piece>, Terms),
}

/// Entries that stand in one segment.
struct Piece {
    segment: Sealed,
    range: Range<LogIndex>,
    /// Where in it, if that is known in memory.
    extents: Option<Vec<Extent>>,
}

/// The terms of a range as the log had them at the moment of a look.
struct Terms {
    first: Term,
    changes: Vec<LogId>,
}

impl Terms {
    fn of(image: &GroupImage, range: &Range<LogIndex>) -> Self {
        let within = |change: &LogId| change.index > range.start && change.index < range.end;
        Self {
            first: image.term(range.start).unwrap_or(Term::ZERO),
            changes: image.terms().changes().filter(within).collect(),
        }
    }

    fn at(&self, index: LogIndex) -> Term {
        let behind = self.changes.partition_point(|change| change.index <= index);
        let change = behind.checked_sub(1).and_then(|at| self.changes.get(at));
        change.map_or(self.first, |change| change.term)
    }
}

impl GroupLog {
    pub(crate) const fn new(engine: Arc<Engine>, group: GroupId) -> Self {
        Self {
            engine,
            group,
            zero_copy: false,
        }
    }

    /// The same, whose entries stay in the mappings of their segments.
    pub(crate) const fn zero_copy(engine: Arc<Engine>, group: GroupId) -> Self {
        Self {
            engine,
            group,
            zero_copy: true,
        }
    }

    fn image<T>(&self, look: impl FnOnce(&GroupImage) -> T) -> T {
        match self.engine.state.lock().groups.get(&self.group) {
            Some(group) => look(&group.image),
            None => look(&GroupImage::default()),
        }
    }

    /// `behind` is what was read before, and must still stand there.
    fn find(
        &self,
        range: &Range<LogIndex>,
        max_bytes: u64,
        behind: Option<LogId>,
    ) -> Result<Found, LogError> {
        let state = self.engine.state.lock();
        let blank = GroupImage::default();
        let image = state
            .groups
            .get(&self.group)
            .map_or(&blank, |group| &group.image);
        if behind.is_some_and(|id| image.term(id.index) != Ok(id.term)) {
            return Ok(Found::Replaced);
        }
        let Some(group) = state.groups.get(&self.group) else {
            return blank
                .readable(range.clone())
                .map(|_| Found::Memory(Vec::new()));
        };
        let range = group.image.readable(range.clone())?;
        let mut out = Vec::new();
        match group.tail.entries(range.clone(), max_bytes, &mut out) {
            Err(LogError::Cold) => {}
            other => return other.map(|()| Found::Memory(out)),
        }
        // What is in memory may have replaced what the disk still has at the same indexes.
        let end = group
            .tail
            .first()
            .map_or(range.end, |first| first.min(range.end));
        let range = range.start..end;
        let mut pieces = Vec::new();
        for part in group.extents.parts.cover(&range).take(PIECES_AT_ONCE) {
            let Some(segment) = state.sealed(part.segment) else {
                break;
            };
            let frames = state.segments.get(&part.segment).map(|one| &one.frames);
            let details = frames.and_then(|frames| {
                let extents = group.extents.details(&part)?.take(SECTIONS_AT_ONCE);
                Some(extents.map(|extent| frames.seeded(extent)).collect())
            });
            let range = part.range();
            pieces.push(Piece {
                segment,
                range,
                extents: details,
            });
        }
        match pieces.is_empty() {
            true => Err(LogError::Faulty {
                range: range.start..range.start.next(),
            }),
            false => Ok(Found::Disk(pieces, Terms::of(&group.image, &range))),
        }
    }

    /// Reads from `range`'s start on what one look at the index finds.
    /// `None` when what was read before, up to `behind`, is no longer in the log.
    fn read_some(
        &self,
        range: &Range<LogIndex>,
        max: u64,
        behind: Option<LogId>,
    ) -> Result<Option<Vec<Entry>>, LogError> {
        let mut last_try = false;
        loop {
            let (pieces, terms) = match self.find(range, max, behind)? {
                Found::Replaced => return Ok(None),
                Found::Memory(entries) => {
                    count(&self.engine.counters.memory);
                    return Ok(Some(entries));
                }
                Found::Disk(pieces, terms) => (pieces, terms),
            };
            let mut out = Vec::new();
            match self.read_pieces(pieces, &terms, max, &mut out) {
                // What comes before the damage is the answer; the next read begins with it.
                Err(_) if !out.is_empty() => return Ok(Some(out)),
                // Between the look and the read the segment may have been compacted and reused.
                Err(error) if last_try => return Err(error),
                Err(_) => last_try = true,
                Ok(()) => return Ok(Some(out)),
            }
        }
    }

    /// Reads as many sections as it takes for more than `max` bytes of payload, or all.
    fn read_pieces(
        &self,
        pieces: Vec<Piece>,
        terms: &Terms,
        max: u64,
        out: &mut Vec<Entry>,
    ) -> Result<(), LogError> {
        let mut bytes = 0u64;
        for piece in pieces {
            let extents = match piece.extents {
                Some(extents) => extents,
                None => self
                    .engine
                    .tables
                    .find(&piece.segment, self.group, &piece.range),
            };
            let mut next = piece.range.start;
            for extent in extents.iter().filter_map(|one| one.clip(&piece.range)) {
                if extent.first != next || terms.at(next) != extent.term {
                    break;
                }
                let left = max.saturating_sub(bytes);
                let read = self.read_section(&piece.segment, &extent, left, out)?;
                bytes += read;
                next = extent.end();
                if bytes > max {
                    return Ok(());
                }
            }
            if next < piece.range.end {
                let range = next..piece.range.end;
                return if out.is_empty() {
                    Err(LogError::Faulty { range })
                } else {
                    Ok(())
                };
            }
        }
        Ok(())
    }

    /// Adds the entries of a section that count, verified, up to the first that makes more than
    /// `max` bytes. Returns their payload in bytes.
    fn read_section(
        &self,
        segment: &Sealed,
        extent: &Extent,
        max: u64,
        out: &mut Vec<Entry>,
    ) -> Result<u64, LogError> {
        let fetched = segment.fetch(extent.offset, extent.bytes as usize);
        let (section, mapped) = fetched.map_err(|error| LogError::Io {
            reason: error.to_string().into(),
        })?;
        let counters = &self.engine.counters;
        count(if mapped {
            &counters.mapped
        } else {
            &counters.file
        });
        verify(&section, extent)?;
        let copies = match (mapped, self.zero_copy) {
            (true, true) => Copies::None,
            (true, false) => Copies::All,
            (false, _) => Copies::Small,
        };
        let range = extent.range();
        let entries = read_entries(section, &extent.span(), &range, max, copies);
        let entries = entries.map_err(|_| LogError::Faulty { range })?;
        let bytes = entries.iter().map(|entry| entry.data.len() as u64).sum();
        out.extend(entries);
        Ok(bytes)
    }

    /// Look by look. `None` when the log was cut, in between, into what was read already.
    fn read_at_one_moment(
        &self,
        range: &Range<LogIndex>,
        max_bytes: u64,
    ) -> Result<Option<Vec<Entry>>, LogError> {
        let mut out: Vec<Entry> = Vec::new();
        let mut next = range.start;
        let mut bytes = 0u64;
        while next < range.end || out.is_empty() {
            let left = max_bytes.saturating_sub(bytes);
            let behind = out.last().map(|entry| entry.id);
            let entries = match self.read_some(&(next..range.end), left, behind) {
                Ok(Some(entries)) => entries,
                Ok(None) => return Ok(None),
                Err(_) if !out.is_empty() => break,
                Err(error) => return Err(error),
            };
            let Some(last) = entries.last() else { break };
            next = last.index().next();
            bytes += entries
                .iter()
                .map(|entry| entry.data.len() as u64)
                .sum::<u64>();
            out.extend(entries);
            // What is full to the byte still has room for an entry without payload.
            if bytes > max_bytes {
                break;
            }
        }
        Ok(Some(out))
    }
}

/// Whether a section is what its place in the index names.
fn verify(section: &[u8], extent: &Extent) -> Result<(), LogError> {
    let whole = section.len() == extent.bytes as usize;
    match whole && section_crc(extent.seed, section) == extent.crc {
        true => Ok(()),
        false => Err(LogError::Faulty {
            range: extent.range(),
        }),
    }
}

/// Of a section, the entries that count, verified.
pub(crate) fn read_verified(section: Bytes, extent: &Extent) -> Result<Vec<Entry>, LogError> {
    verify(&section, extent)?;
    let range = extent.range();
    read_entries(section, &extent.span(), &range, u64::MAX, Copies::Small)
        .map_err(|_| LogError::Faulty { range })
}

impl LogReader for GroupLog {
    fn first(&self) -> LogIndex {
        self.image(GroupImage::first)
    }

    fn last(&self) -> LogId {
        self.image(GroupImage::last)
    }

    fn term(&self, index: LogIndex) -> Result<Term, LogError> {
        self.image(|image| image.term(index))
    }

    fn entries(
        &self,
        range: Range<LogIndex>,
        max_bytes: u64,
        out: &mut Vec<Entry>,
    ) -> Result<(), LogError> {
        let state = self.engine.state.lock();
        match state.groups.get(&self.group) {
            Some(group) => {
                let range = group.image.readable(range)?;
                group.tail.entries(range, max_bytes, out)
            }
            None => GroupImage::default().readable(range).map(drop),
        }
    }

    fn read(&self, range: Range<LogIndex>, max_bytes: u64) -> Result<Vec<Entry>, LogError> {
        let mut found = None;
        for _ in 0..READ_TRIES {
            found = self.read_at_one_moment(&range, max_bytes)?;
            if found.is_some() {
                break;
            }
        }
        let mut out = match found {
            Some(out) => out,
            // It is cut again and again: what a single look finds is of one moment in any case.
            None => self.read_some(&range, max_bytes, None)?.unwrap_or_default(),
        };
        out.truncate(payload_fits(&out, max_bytes));
        Ok(out)
    }
}
