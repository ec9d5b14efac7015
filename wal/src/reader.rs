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
use crate::segment::format::is_section;
use crate::state::Group;
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
    Disk(Vec<Piece>, Terms),
}

/// Where a read stands: behind this entry of this life of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Behind {
    id: LogId,
    generation: u64,
}

/// What a look found, and of which life of the group it is.
struct Look<T> {
    found: T,
    generation: u64,
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

    /// `behind` is what was read before, and must still stand there: `None` when it does not, or in
    /// another life of the group.
    fn find(
        &self,
        range: &Range<LogIndex>,
        max_bytes: u64,
        behind: Option<Behind>,
    ) -> Result<Option<Look<Found>>, LogError> {
        let state = self.engine.state.lock();
        let blank = Group::default();
        let group = state.groups.get(&self.group).unwrap_or(&blank);
        let is_there = |behind: Behind| {
            let term = group.image.term(behind.id.index);
            behind.generation == group.generation && term == Ok(behind.id.term)
        };
        if !behind.is_none_or(is_there) {
            return Ok(None);
        }
        let look = |found| {
            Some(Look {
                found,
                generation: group.generation,
            })
        };
        let range = group.image.readable(range.clone())?;
        let mut out = Vec::new();
        match group.tail.entries(range.clone(), max_bytes, &mut out) {
            Err(LogError::Cold) => {}
            other => return other.map(|()| look(Found::Memory(out))),
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
            false => Ok(look(Found::Disk(pieces, Terms::of(&group.image, &range)))),
        }
    }

    /// Reads from `range`'s start on what one look at the index finds.
    /// `None` when what was read before, up to `behind`, is no longer in the log.
    fn read_some(
        &self,
        range: &Range<LogIndex>,
        max: u64,
        behind: Option<Behind>,
    ) -> Result<Option<Look<Vec<Entry>>>, LogError> {
        let mut last_try = false;
        loop {
            let Some(Look { found, generation }) = self.find(range, max, behind)? else {
                return Ok(None);
            };
            let look = |found| Ok(Some(Look { found, generation }));
            let (pieces, terms) = match found {
                Found::Memory(entries) => {
                    count(&self.engine.counters.memory);
                    return look(entries);
                }
                Found::Disk(pieces, terms) => (pieces, terms),
            };
            let mut out = Vec::new();
            match self.read_pieces(pieces, &terms, max, &mut out) {
                // What comes before the damage is the answer; the next read begins with it.
                Err(_) if !out.is_empty() => return look(out),
                // Between the look and the read the segment may have been compacted and reused.
                Err(error) if last_try => return Err(error),
                Err(_) => last_try = true,
                Ok(()) => return look(out),
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

    /// Look by look. `None` when the log was cut, in between, into what was read already, or the
    /// group was destroyed and made again.
    fn read_at_one_moment(
        &self,
        range: &Range<LogIndex>,
        max_bytes: u64,
    ) -> Result<Option<Vec<Entry>>, LogError> {
        let mut out: Vec<Entry> = Vec::new();
        let mut next = range.start;
        let mut bytes = 0u64;
        let mut behind = None;
        while next < range.end || out.is_empty() {
            let left = max_bytes.saturating_sub(bytes);
            let look = match self.read_some(&(next..range.end), left, behind) {
                Ok(Some(look)) => look,
                Ok(None) => return Ok(None),
                Err(_) if !out.is_empty() => break,
                Err(error) => return Err(error),
            };
            let Look {
                found: entries,
                generation,
            } = look;
            let Some(last) = entries.last() else { break };
            let id = last.id;
            behind = Some(Behind { id, generation });
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
    match whole && is_section(extent.seed, section, extent.crc) {
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
            None => {
                let look = self.read_some(&range, max_bytes, None)?;
                look.map(|look| look.found).unwrap_or_default()
            }
        };
        out.truncate(payload_fits(&out, max_bytes));
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use raftwerk_raft::{GroupWrite, Ticket};
    use raftwerk_testkit::fault_vfs::FaultVfs;

    use super::*;
    use crate::Wal;
    use crate::tests::space::{entries, settle, write};
    use crate::tests::workload::{open, prepare};

    fn group_log(wal: &Arc<Wal>) -> GroupLog {
        GroupLog::new(Arc::clone(wal.engine()), GroupId(1))
    }

    /// Two looks of one read, and what happens to the group in between. True when the second goes
    /// on behind the first.
    fn goes_on(meanwhile: GroupWrite) -> bool {
        let wal = open(&FaultVfs::new()).unwrap();
        prepare(&wal);
        let mut last = Ticket(0);
        settle(&wal, vec![write(1, entries(1, 1..11, 100))], &mut last);
        let log = group_log(&wal);
        let look = |range, behind| log.read_some(&range, u64::MAX, behind).unwrap();
        let first = look(LogIndex(1)..LogIndex(6), None).unwrap();
        assert_eq!(first.found, entries(1, 1..6, 100));
        let behind = Behind {
            id: first.found[4].id,
            generation: first.generation,
        };
        settle(&wal, vec![meanwhile], &mut last);
        let second = look(LogIndex(6)..LogIndex(11), Some(behind));
        second.is_some()
    }

    #[test]
    fn read_goes_on_behind_what_still_stands() {
        assert!(goes_on(write(1, entries(1, 11..12, 100))));
        assert!(!goes_on(write(1, entries(2, 3..12, 100))));
    }

    #[test]
    fn read_does_not_go_on_in_another_life_of_the_group_at_the_same_indexes_and_terms() {
        let again = GroupWrite {
            destroy: true,
            ..write(1, entries(1, 1..11, 30))
        };
        assert!(!goes_on(again));
    }
}
