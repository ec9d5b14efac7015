//! Reads one group's log: from memory what is recent, from the segments what is not.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use raftwerk_raft::{Entry, GroupId, LogError, LogId, LogIndex, LogReader, Term};
use raftwerk_storage::image::GroupImage;
use raftwerk_storage::payload_fits;
use raftwerk_storage::vfs::VfsFile;

use crate::engine::Engine;
use crate::index::Extent;
use crate::record::read_entries;
use crate::segment::format::section_crc;
use crate::stats::count;

/// How many sections one look at the index takes along.
const SECTIONS_AT_ONCE: usize = 64;
/// How often a read begins anew because the log was cut underneath it.
const READ_TRIES: usize = 16;

/// A group's log.
#[derive(Debug)]
pub(crate) struct GroupLog {
    engine: Arc<Engine>,
    group: GroupId,
}

/// What a look at the index gave.
enum Found {
    Memory(Vec<Entry>),
    /// What was read before is no longer there.
    Replaced,
    Sections(Vec<(Arc<dyn VfsFile>, Extent)>),
}

impl GroupLog {
    pub(crate) const fn new(engine: Arc<Engine>, group: GroupId) -> Self {
        Self { engine, group }
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
        let mut bytes = 0u64;
        let mut sections = Vec::new();
        for extent in group.extents.cover(&range, SECTIONS_AT_ONCE) {
            let Some(segment) = state.segments.get(&extent.segment) else {
                break;
            };
            sections.push((Arc::clone(&segment.file), extent));
            bytes += u64::from(extent.bytes);
            if bytes > max_bytes {
                break;
            }
        }
        match sections.is_empty() {
            true => Err(LogError::Faulty {
                range: range.start..range.start.next(),
            }),
            false => Ok(Found::Sections(sections)),
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
            let sections = match self.find(range, max, behind)? {
                Found::Replaced => return Ok(None),
                Found::Memory(entries) => {
                    count(&self.engine.counters.memory);
                    return Ok(Some(entries));
                }
                Found::Sections(sections) => sections,
            };
            count(&self.engine.counters.file);
            let mut out = Vec::new();
            let mut failed = None;
            for (file, extent) in &sections {
                match read_section(file.as_ref(), extent) {
                    Ok(entries) => out.extend(entries),
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            match failed {
                // What comes before the damage is the answer; the next read begins with it.
                Some(_) if !out.is_empty() => return Ok(Some(out)),
                // Between the look and the read the segment may have been compacted and reused.
                Some(error) if last_try => return Err(error),
                Some(_) => last_try = true,
                None => return Ok(Some(out)),
            }
        }
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

/// The entries of one section that count, verified.
pub(crate) fn read_section(file: &dyn VfsFile, extent: &Extent) -> Result<Vec<Entry>, LogError> {
    let section = read_raw(file, extent)?;
    let faulty = || LogError::Faulty {
        range: extent.first..extent.end(),
    };
    let mut entries = read_entries(section, &extent.span()).map_err(|_| faulty())?;
    let range = extent.first..extent.end();
    entries.retain(|entry| range.contains(&entry.index()));
    Ok(entries)
}

/// A section's bytes, verified.
pub(crate) fn read_raw(file: &dyn VfsFile, extent: &Extent) -> Result<Bytes, LogError> {
    let mut section = vec![0; extent.bytes as usize];
    let count = file
        .read_at(extent.offset, &mut section)
        .map_err(|error| LogError::Io {
            reason: error.to_string().into(),
        })?;
    if count < section.len() || section_crc(extent.seed, &section) != extent.crc {
        return Err(LogError::Faulty {
            range: extent.first..extent.end(),
        });
    }
    Ok(section.into())
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
